//! `doctor`: what it checks, what it advises, and its exit code.

use std::fs;

use crate::model::hollow_model;
use crate::world::World;

#[test]
fn a_sound_store_passes_every_check() {
    let world = World::new();
    world.object(&["add", "tea", "--user", "u", "--embedding", "[1,2]"]);
    let lines = world.json(&["doctor"]);
    let (summary, checks) = lines.split_last().unwrap();
    assert_eq!(summary["doctor"]["failed"], 0);
    assert_eq!(summary["doctor"]["checks"], checks.len());
    let names: Vec<_> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    for name in [
        "settings",
        "model",
        "store",
        "embedding",
        "schema",
        "analyser",
        "health",
        "verify",
        "tenant",
        "vectors",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(checks.iter().all(|check| check["status"] == "ok"), "{checks:?}");
    let run = world.run(&["doctor"]);
    assert!(run.out.lines().all(|line| line.starts_with("ok ")), "{}", run.out);
}

#[test]
fn each_fault_has_advice_and_decides_the_exit_code() {
    let world = World::new();
    let failed = |args: &[&str], code: i32| {
        let run = world.run(&[&["doctor", "--json"], args].concat());
        assert_eq!(run.code, code, "{run:?}");
        let lines = run.lines();
        let failed: Vec<_> = lines.iter().filter(|line| line["status"] == "failed").collect();
        assert!(!failed.is_empty());
        assert!(failed.iter().all(|check| check["advice"].is_string()), "{failed:?}");
        assert_eq!(lines.last().unwrap()["doctor"]["failed"], failed.len());
        failed[0]["check"].as_str().unwrap().to_owned()
    };
    assert_eq!(failed(&[], 3), "store");
    assert!(!world.path("memory.db").exists(), "a look makes no store");
    world.file("bad.toml", "colour = 1\n");
    assert_eq!(failed(&["--config", "bad.toml"], 9), "settings");
    fs::write(world.path("letter.db"), "no database".repeat(20)).unwrap();
    assert_eq!(failed(&["--store", "letter.db"], 7), "store");
    world.object(&["add", "tea", "--user", "u", "--embedding", "[1,2]"]);
    world.file("space.toml", "[embedding]\nmodel = \"other\"\ndimensions = 3\n");
    assert_eq!(failed(&["--config", "space.toml"], 9), "vectors");
    let run = world.run(&["doctor", "--config", "space.toml"]);
    assert!(run.out.contains("FAIL  vectors") && run.err.contains("1 of "), "{run:?}");
}

#[test]
fn an_embedder_that_cannot_be_opened_keeps_nothing_else_from_its_check() {
    let world = World::new();
    world.add("a", "tea");
    let hollow = hollow_model(&world, "hollow");
    let half = hollow_model(&world, "half");
    fs::remove_file(half.join("vocab.txt")).unwrap();
    let short = hollow_model(&world, "short");
    fs::File::options().write(true).open(short.join("vocab.txt")).unwrap().set_len(7).unwrap();
    let doctor = |provider: &str, model: &str, code: i32| {
        let run = world.run_in(
            &["doctor", "--json"],
            &[
                ("ORCHESTRA_MEMORY_EMBEDDING_PROVIDER", provider),
                ("ORCHESTRA_MEMORY_MODEL_DIR", model),
            ],
        );
        assert_eq!(run.code, code, "{provider} {model}: {run:?}");
        let lines = run.lines();
        assert!(lines.iter().any(|line| line["check"] == "tenant"), "the store was looked at");
        let mut found: Vec<_> = lines.into_iter().filter(|line| line["status"] != "ok").collect();
        found.pop();
        found
    };
    for (provider, model, code, status) in [
        ("minilm", "none", 3, "failed"),
        ("minilm", "half", 3, "failed"),
        ("minilm", "short", 7, "failed"),
        ("auto", "half", 0, "warning"),
        ("auto", "short", 7, "failed"),
    ] {
        let found = doctor(provider, model, code);
        assert_eq!((&found[0]["check"], &found[0]["status"]), (&"model".into(), &status.into()));
        assert!(found[0]["detail"].as_str().unwrap().contains("model pull"), "{found:?}");
        assert!(found[0]["advice"].is_string(), "{found:?}");
        assert!(found[1..].iter().all(|check| check["check"] == "missing"), "{found:?}");
    }
    assert!(doctor("auto", "none", 0).is_empty(), "a model that nobody asked for is no fault");
    assert!(doctor("none", "short", 0).is_empty(), "nor is one that nobody uses");
    // By their sizes the files are fine, and the memory has no vector yet.
    for provider in ["auto", "minilm"] {
        let found = doctor(provider, hollow.to_str().unwrap(), 0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["check"], "missing");
        assert!(found[0]["advice"].as_str().unwrap().contains("embed --missing"), "{found:?}");
    }

    world.settings(
        "[embedding]\nprovider = \"http\"\nmodel = \"m\"\ndimensions = 3\n\
         [embedding.http]\nurl = \"nonsense\"\n",
    );
    let run = world.run(&["doctor", "--json"]);
    assert_eq!(run.code, 9, "{run:?}");
    let lines = run.lines();
    let check = lines.iter().find(|line| line["check"] == "embedding").unwrap();
    assert!(check["status"] == "failed" && check["advice"].is_string(), "{check}");
    assert!(lines.iter().any(|line| line["check"] == "tenant"), "the store was looked at");
}
