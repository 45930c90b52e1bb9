//! The provider `http`, against a server on loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::stub::{Reply, Request, Stub, three};
use crate::world::World;

const KEY: &str = "sk-very-secret";
const KEY_VARIABLE: &str = "ORCHESTRA_MEMORY_EMBEDDING_API_KEY";

/// What a server makes of a request.
type Answer = fn(&Request) -> Reply;

/// A world whose settings name a server.
fn world(stub: &Stub) -> World {
    let world = World::new();
    world.settings(stub.settings("stub"));
    world
}

fn hit_ids(answer: &Value) -> Vec<&str> {
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

#[test]
fn texts_are_embedded_and_searched_both_ways() {
    let stub = Stub::embedding();
    let world = world(&stub);
    let receipt = world.object(&["add", "A puppy at the door.", "--user", "u", "--id", "dog"]);
    assert_eq!((&receipt["vector"], receipt.get("vector_reason")), (&json!("made"), None));
    let file = world.file(
        "in.jsonl",
        "{\"id\": \"cup\", \"user_id\": \"u\", \"content\": \"A cup of Assam.\"}\n\
         {\"id\": \"sky\", \"user_id\": \"u\", \"content\": \"Clouds all day.\"}\n",
    );
    assert_eq!(world.object(&["import", &file])["import"]["added"], 2);
    assert_eq!((world.vectors(), stub.texts().len()), ((3, 0), 3));
    let run = world.run(&["add", "Rain.", "--user", "u", "--id", "rain"]);
    assert_eq!(run.out, "added rain\n", "no word about what went well");

    // No word of the question is in the memory.
    let found = world.object(&["search", "pet"]);
    assert_eq!((hit_ids(&found)[0], &found["arms_used"]), ("dog", &json!(["keyword", "vector"])));
    assert_eq!(found["notes"], json!([]));
    for arm in ["vector", "both"] {
        assert_eq!(hit_ids(&world.object(&["search", "what to drink", "--arm", arm]))[0], "cup");
    }
    let seen = stub.seen().len();
    let by_words = world.object(&["search", "pet", "--arm", "keyword"]);
    assert_eq!(hit_ids(&by_words), Vec::<&str>::new(), "words alone do not find it");
    assert_eq!(stub.seen().len(), seen, "nothing is embedded for words alone");
    // A vector in place of the text's own.
    let found = world.object(&["search", "pet", "--vector", "[1,0,0.1]", "--arm", "vector"]);
    assert_eq!(hit_ids(&found)[0], "cup");

    let questions = "{\"query_id\": \"1\", \"text\": \"pet\"}\n\
                     {\"query_id\": \"2\", \"text\": \"what to drink\", \"limit\": 1}\n";
    let run = world.run_with(&["search", "--queries", "-", "--arm", "both"], questions);
    assert_eq!(run.code, 0, "{run:?}");
    let answers = run.lines();
    assert_eq!((hit_ids(&answers[0])[0], hit_ids(&answers[1])), ("dog", vec!["cup"]));
    assert_eq!(answers[0]["arms_used"], json!(["keyword", "vector"]));
    let run = world.run(&["doctor"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.out
            .contains("http: vectors of 3/cosine/stub@1, made with each write; the server was not"),
        "{run:?}"
    );
}

#[test]
fn what_is_embedded_of_an_update_is_the_new_text() {
    let stub = Stub::embedding();
    let world = world(&stub);
    world.add("a", "green tea");
    for (args, text) in [
        (["--author", "Ada"], "Ada: green tea"),
        (["--content", "a dog"], "Ada: a dog"),
        (["--clear", "author"], "a dog"),
    ] {
        let seen = stub.texts().len();
        let item = world.object(&[&["update", "a"], &args[..]].concat());
        assert_eq!((&item["id"], &item["vector"]), (&json!("a"), &json!("made")), "{args:?}");
        assert_eq!(stub.texts()[seen..], [text], "{args:?}");
        assert_eq!(world.vectors(), (1, 0));
    }
    // What is no part of the text needs no embedder.
    let (seen, before) = (stub.seen().len(), world.object(&["get", "a", "--with-vectors"]));
    for args in [&["--meta", "k=v"][..], &["--role", "user", "--kind", "message"]] {
        let item = world.object(&[&["update", "a"], args].concat());
        assert_eq!((&item["id"], &item["vector"]), (&json!("a"), &json!("kept")), "{args:?}");
    }
    let after = world.object(&["get", "a", "--with-vectors"]);
    assert_eq!((stub.seen().len(), &after["vectors"]), (seen, &before["vectors"]));
}

#[test]
fn an_arm_that_was_asked_for_needs_a_memory_with_a_vector() {
    let away = Stub::start(|_| Reply::new(503, "text/plain", "later"));
    let world = world(&away);
    // The first attempt declares the tenant's space, and brings no vector.
    world.object(&["add", "green tea", "--user", "u", "--id", "a"]);
    assert_eq!(world.run(&["embed", "--missing"]).code, 6);
    let good = Stub::embedding();
    world.settings(good.settings("stub"));
    assert!(!world.object(&["stats"])["spaces"]["active"].is_null());
    assert_eq!(world.vectors(), (0, 1));
    let found = world.object(&["search", "tea"]);
    assert_eq!((hit_ids(&found), &found["arms_used"]), (vec!["a"], &json!(["keyword"])));
    let none = "none of the tenant's memories has a vector yet";
    assert!(found["notes"][0].as_str().unwrap().contains(none), "{found}");
    for arm in ["vector", "both"] {
        let error = world.error(&["search", "tea", "--arm", arm], 2);
        assert!(error["message"].as_str().unwrap().contains(none), "{arm}: {error}");
    }
    // With a vector of one memory and none of another, both ways are searched, with a note.
    world.object(&["add", "a dog", "--user", "u", "--id", "b"]);
    for arm in ["auto", "vector", "both"] {
        let found = world.object(&["search", "pet", "--arm", arm]);
        assert_eq!(hit_ids(&found), ["b"], "{arm}");
        let note = found["notes"][0].as_str().unwrap();
        assert!(note.contains("have no vector yet") && note.contains("embed --missing"), "{note}");
    }
    world.object(&["embed", "--missing"]);
    for arm in ["auto", "vector", "both"] {
        let found = world.object(&["search", "pet", "--arm", arm]);
        assert_eq!((hit_ids(&found)[0], &found["notes"]), ("b", &json!([])), "{arm}");
    }
}

#[test]
fn the_key_goes_to_the_server_and_nowhere_else() {
    let stub = Stub::start(|request| {
        match request.header("authorization") == Some(&format!("Bearer {KEY}")) {
            true => Reply::vectors(request, three),
            false => Reply::new(401, "application/json", format!("{{\"error\": \"{KEY}\"}}")),
        }
    });
    let world = world(&stub);
    for args in [
        &["add", "tea", "--user", "u", "--id", "a", "--json"][..],
        &["search", "tea", "--explain"],
        &["stats", "--json"],
        &["doctor", "--json"],
        &["embed", "--missing"],
    ] {
        let run = world.run_in(args, &[(KEY_VARIABLE, KEY)]);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(!format!("{run:?}").contains(KEY), "{run:?}");
    }
    assert_eq!(world.vectors(), (1, 0));
    // A wrong one, and one that no header can carry.
    let run = world.run_in(&["search", "tea"], &[(KEY_VARIABLE, "sk-other-secret")]);
    assert_eq!(run.code, 5, "{run:?}");
    assert!(!run.err.contains("secret"), "{run:?}");
    let run = world.run_in(&["search", "tea"], &[(KEY_VARIABLE, "sk-secret\n")]);
    assert_eq!(run.code, 9, "{run:?}");
    assert!(!run.err.contains("sk-secret"), "{run:?}");
    let seen = stub.seen();
    let tea = seen.iter().filter(|request| request.header("authorization").is_some()).count();
    assert_eq!(tea, seen.len(), "every request had one");
}

#[test]
fn answers_that_make_no_sense_are_refused_and_nothing_is_lost() {
    let answers: [(&str, Answer, i32); 6] = [
        ("html", |_| Reply::new(200, "text/html", "<html>secret</html>"), 7),
        ("length", |request| Reply::vectors(request, |_| vec![1.0; 5]), 7),
        ("none", |_| Reply::new(200, "application/json", "{\"data\": []}"), 7),
        ("zeros", |request| Reply::vectors(request, |_| vec![0.0; 3]), 7),
        ("away", |_| Reply::new(503, "text/html", "<html>secret</html>"), 6),
        ("nowhere", |_| Reply::new(404, "text/html", "<html>secret</html>"), 9),
    ];
    for (name, answer, code) in answers {
        let good = Stub::embedding();
        let world = world(&good);
        world.add("a", "green tea");
        let bad = Stub::start(answer);
        world.settings(bad.settings("stub"));
        let run = world.run(&["search", "tea"]);
        assert_eq!(run.code, code, "{name}: {run:?}");
        assert!(run.err.contains("--arm keyword") && !run.err.contains("secret"), "{run:?}");
        assert!(!run.err.contains("Keep a copy"), "the store is sound: {run:?}");
        assert_eq!(hit_ids(&world.object(&["search", "tea", "--arm", "keyword"])), ["a"]);
        // To remember comes first.
        let receipt = world.object(&["add", "black tea", "--user", "u", "--id", "b"]);
        assert_eq!(receipt["vector"], "missing", "{name}");
        let file = world.file("c.jsonl", "{\"id\": \"c\", \"user_id\": \"u\", \"content\": \"x\"}");
        let run = world.run(&["import", &file]);
        assert_eq!(run.code, 0, "{name}: {run:?}");
        let note = "note: 1 memory has no vector: ";
        assert!(run.out.contains(note) && !run.out.contains("secret"), "{name}: {run:?}");
        assert!(run.out.contains("`orchestra-memory embed --missing`"), "{name}: {run:?}");
        let run = world.run(&["update", "a", "--content", "white tea"]);
        assert_eq!(run.code, 0, "{name}: {run:?}");
        assert!(run.out.contains("note: stored without a vector: "), "{name}: {run:?}");
        let item = world.object(&["update", "a", "--author", "Ada"]);
        assert_eq!((&item["author"], &item["vector"]), (&json!("Ada"), &json!("missing")));
        assert!(!item["vector_reason"].as_str().unwrap().contains("secret"), "{item}");
        let run = world.run(&["update", "a", "--meta", "k=v"]);
        assert_eq!(run.out, "updated a\n", "{name}: its text is as it was");
        let run = world.run(&["embed", "--missing"]);
        assert_eq!(run.code, code, "{name}: {run:?}");
        assert_eq!(world.vectors(), (0, 3), "{name}");
        let run = world.run(&["doctor"]);
        assert!(run.out.contains("warn  missing"), "{name}: {run:?}");
        world.settings(good.settings("stub"));
        assert_eq!(world.object(&["embed", "--missing"])["embed"]["embedded"], 3, "{name}");
        assert_eq!(world.vectors(), (3, 0), "{name}");
    }
}

#[test]
fn what_an_update_says_of_the_vector() {
    let stub = Stub::embedding();
    let world = world(&stub);
    let update = |id: &str, args: &[&str], vector: &str| {
        let item = world.object(&[&["update", id], args].concat());
        assert_eq!((&item["id"], &item["vector"]), (&json!(id), &json!(vector)), "{args:?}");
        assert_eq!(item.get("vector_reason"), None, "{item}");
    };
    world.add("a", "green tea");
    update("a", &["--content", "a dog"], "made");
    update("a", &["--meta", "k=v"], "kept");
    update("a", &["--embedding", "[1,0,0]"], "supplied");
    update("a", &["--clear", "embedding"], "cleared");
    assert_eq!(world.vectors(), (0, 1));
    world.object(&["embed", "--missing"]);
    world.settings("[embedding]\nprovider = \"none\"\n");
    update("a", &["--importance", "0.5"], "kept");
    assert_eq!(world.vectors(), (1, 0));
    update("a", &["--author", "Ada"], "no_embedder");
    assert_eq!(world.vectors(), (0, 1), "it was that of another text");
}

#[test]
fn a_write_can_be_refused_for_want_of_its_vector() {
    let away = Stub::start(|_| Reply::new(503, "text/plain", "later"));
    let world = World::new();
    let text =
        away.settings("stub").replacen("[embedding]", "[embedding]\non_failure = \"refuse\"", 1);
    world.settings(text);
    assert_eq!(world.error(&["add", "tea", "--user", "u"], 6)["kind"], "unavailable");
    let file = world.file("c.jsonl", "{\"id\": \"c\", \"user_id\": \"u\", \"content\": \"x\"}");
    assert_eq!(world.error(&["import", &file], 6)["kind"], "unavailable");
    assert_eq!(world.count(), 0);
}

#[test]
fn another_model_is_refused_and_words_still_work() {
    let stub = Stub::embedding();
    let world = world(&stub);
    world.add("a", "green tea");
    world.settings(stub.settings("another"));
    for args in [&["search", "tea"][..], &["add", "x", "--user", "u"], &["embed", "--missing"]] {
        let run = world.run(args);
        assert_eq!(run.code, 9, "{args:?}: {run:?}");
        for part in ["stub", "another", "--arm keyword", "`reembed`"] {
            assert!(run.err.contains(part), "{args:?}: {part}: {run:?}");
        }
    }
    assert_eq!(hit_ids(&world.object(&["search", "tea", "--arm", "keyword"])), ["a"]);
    assert_eq!(world.count(), 1);
    let run = world.run(&["doctor", "--json"]);
    assert_eq!(run.code, 9, "{run:?}");
    let lines = run.lines();
    let check = lines.iter().find(|line| line["check"] == "vectors").unwrap();
    assert_eq!(check["status"], "failed");
    assert!(check["advice"].as_str().unwrap().contains("--arm keyword"), "{check}");
}

#[test]
fn vectors_can_come_later_or_in_the_background() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let stub = Stub::start(move |request| {
        counted.fetch_add(1, Ordering::SeqCst);
        Reply::vectors(request, three)
    });
    let world = World::new();
    let when = |when: &str| {
        let text = format!("[embedding]\nwhen = \"{when}\"");
        world.settings(stub.settings("stub").replacen("[embedding]", &text, 1));
    };
    when("later");
    let receipt = world.object(&["add", "tea", "--user", "u", "--id", "a"]);
    assert_eq!((&receipt["vector"], asked.load(Ordering::SeqCst)), (&json!("later"), 0));
    let run = world.run(&["add", "a pet", "--user", "u", "--id", "b"]);
    assert_eq!(run.out, "added b\n", "nothing went wrong");
    assert_eq!(world.vectors(), (0, 2));
    let found = world.object(&["search", "tea"]);
    assert_eq!(found["arms_used"], json!(["keyword"]));
    assert!(found["notes"][0].as_str().unwrap().contains("embed --missing"), "{found}");
    assert_eq!(world.object(&["embed", "--missing"])["embed"]["embedded"], 2);

    // A process that stays makes them beside its work; one that ends does not wait for them.
    when("background");
    let receipt = world.object(&["add", "a puppy", "--user", "u", "--id", "c"]);
    assert_eq!(receipt["vector"], "later");
    let mut child = world
        .command(&["search", "--queries", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut questions = child.stdin.take().unwrap();
    use std::io::Write as _;
    writeln!(questions, "{{\"query_id\": \"1\", \"text\": \"tea\"}}").unwrap();
    crate::world::until("the vector", || world.vectors() == (3, 0));
    drop(questions);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_command_that_ends_waits_for_no_background() {
    // It never answers, and nobody gives up within this test.
    let silent = Stub::start(|_| Reply::new(200, "application/json", "x").hanging(0));
    let world = World::new();
    let text = silent.settings("stub") + "timeout_ms = 3600000\n";
    world.settings(text.replacen("[embedding]", "[embedding]\nwhen = \"background\"", 1));
    let file = world.file("b.jsonl", "{\"id\": \"b\", \"user_id\": \"u\", \"content\": \"x\"}");
    assert_eq!(world.object(&["add", "tea", "--user", "u", "--id", "a"])["vector"], "later");
    assert_eq!(world.object(&["import", &file])["import"]["added"], 1);
    assert_eq!(world.run(&["update", "a", "--content", "black tea"]).code, 0);
    assert_eq!(world.vectors(), (0, 2));
    // With a server that answers, the next run makes them.
    let stub = Stub::embedding();
    world.settings(stub.settings("stub"));
    assert_eq!(world.object(&["embed", "--missing"])["embed"]["embedded"], 2);
}

#[test]
fn the_environment_chooses_the_provider() {
    let stub = Stub::embedding();
    let world = world(&stub);
    let variable = "ORCHESTRA_MEMORY_EMBEDDING_PROVIDER";
    let args = ["add", "tea", "--user", "u", "--id", "a", "--json"];
    let run = world.run_in(&args, &[(variable, "none")]);
    assert_eq!((run.code, &run.lines()[0]["vector"]), (0, &json!("no_embedder")));
    assert_eq!(stub.seen().len(), 0);
    let run = world.run_in(&["stats", "--json"], &[(variable, "none")]);
    assert_eq!(run.lines()[0]["embedding"]["provider"], "none");
    // The settings name a model of their own.
    for wrong in ["minilm", "magic"] {
        let run = world.run_in(&["list", "--json"], &[(variable, wrong)]);
        assert_eq!((run.code, run.error()["kind"].as_str()), (9, Some("config")), "{wrong}");
    }
    let run = world.run_in(&["doctor"], &[(variable, "none")]);
    assert!(run.out.contains(&format!("{variable} in the environment")), "{run:?}");
}
