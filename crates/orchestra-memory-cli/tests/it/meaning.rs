//! Search by meaning with the real model.

use std::path::Path;

use serde_json::{Value, json};

use crate::stub::Stub;
use crate::world::World;

/// Memories, each with a question that shares no word with it.
const PAIRS: [(&str, &str, &str); 4] = [
    ("nuts", "Nora is allergic to hazelnuts.", "Which food is dangerous for her?"),
    ("bike", "She cycles to work along the river.", "How do they travel to the office?"),
    ("puppy", "They adopted a puppy from the shelter.", "What pet lives with the couple?"),
    (
        "loan",
        "The bakery is financed by a credit from the bank.",
        "Where does money for shop come?",
    ),
];

fn fill(world: &World, args: &[&str]) -> Value {
    let line = |(id, text, _): (&str, &str, &str)| {
        format!("{}\n", json!({"id": id, "user_id": "u", "content": text}))
    };
    let file = world.file("in.jsonl", PAIRS.map(line).concat());
    world.object(&[&["import", &file], args].concat())["import"].take()
}

fn first(answer: &Value) -> Option<&str> {
    answer["hits"][0]["id"].as_str()
}

#[test]
fn a_question_finds_what_no_word_of_it_does() {
    let Some(world) = World::with_model() else { return };
    let report = fill(&world, &[]);
    assert_eq!((&report["added"], &report["without_vector"]), (&json!(4), &json!(0)));
    for (id, _, question) in PAIRS {
        let by_words = world.object(&["search", question, "--arm", "keyword"]);
        assert_ne!(first(&by_words), Some(id), "{question}");
        for arm in ["auto", "both", "vector"] {
            let found = world.object(&["search", question, "--arm", arm]);
            assert_eq!(first(&found), Some(id), "{question} by {arm}: {found}");
            assert_eq!(found["notes"], json!([]));
        }
    }
    let run = world.run(&["search", PAIRS[0].2, "--explain", "--limit", "1"]);
    assert!(run.out.contains("vector: rank 1, likeness"), "{run:?}");
    assert!(!run.out.contains("note:"), "{run:?}");
    // Many questions in one process, by text alone.
    let questions: String = PAIRS
        .iter()
        .map(|(id, _, text)| format!("{}\n", json!({"query_id": id, "text": text})))
        .collect();
    let run =
        world.run_with(&["search", "--queries", "-", "--arm", "both", "--limit", "1"], questions);
    assert_eq!(run.code, 0, "{run:?}");
    for answer in run.lines() {
        assert_eq!(first(&answer), answer["query_id"].as_str(), "{answer}");
    }
    let run = world.run(&["doctor"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.lines().all(|line| line.starts_with("ok ")), "{run:?}");
    assert!(run.out.contains("auto: vectors of 384/cosine/all-MiniLM-L6-v2"), "{run:?}");
    let line = run.out.lines().find(|line| line.starts_with("ok    embedding")).unwrap();
    let instructions = ["avx512", "avx2", "neon", "scalar"];
    assert!(instructions.iter().any(|name| line.ends_with(&format!(", with {name}"))), "{line}");
}

#[test]
fn what_was_stored_without_a_model_is_found_once_it_is_embedded() {
    let Some(world) = World::with_model() else { return };
    world.file("none.toml", "[embedding]\nprovider = \"none\"\n");
    fill(&world, &["--config", "none.toml"]);
    let (id, _, question) = PAIRS[2];
    let found = world.object(&["search", question]);
    assert_ne!(first(&found), Some(id));
    assert!(found["notes"][0].as_str().unwrap().contains("embed --missing"), "{found}");
    assert_eq!(world.error(&["search", question, "--arm", "both"], 2)["kind"], "invalid_input");
    let run = world.run(&["doctor"]);
    assert!(run.code == 0 && run.out.contains("warn  missing"), "{run:?}");
    assert_eq!(world.object(&["embed", "--missing"])["embed"]["embedded"], 4);
    assert_eq!(first(&world.object(&["search", question])), Some(id));
    let run = world.run(&["stats"]);
    assert!(run.out.contains("384 dimensions") && !run.out.contains("without a vector"), "{run:?}");
    // What changes changes its meaning.
    world.object(&["update", id, "--content", "The harbour froze over."]);
    let found = world.object(&["search", "icy port", "--arm", "vector", "--limit", "1"]);
    assert_eq!(first(&found), Some(id));
}

#[test]
fn without_a_model_the_words_are_searched_and_the_answer_says_so() {
    let world = World::new();
    world.add("a", "green tea");
    let found = world.object(&["search", "tea"]);
    assert_eq!((first(&found), &found["arms_used"]), (Some("a"), &json!(["keyword"])));
    assert!(
        found["notes"][0].as_str().unwrap().contains("`orchestra-memory model pull`"),
        "{found}"
    );
    let run = world.run(&["search", "tea"]);
    assert!(run.out.contains("note: ") && run.out.contains("model pull"), "{run:?}");
    for arm in ["vector", "both"] {
        let error = world.error(&["search", "tea", "--arm", arm], 2);
        assert!(error["message"].as_str().unwrap().contains("model pull"), "{error}");
    }
    let run =
        world.run_with(&["search", "--queries", "-"], "{\"query_id\": \"1\", \"text\": \"tea\"}\n");
    let answer = &run.lines()[0];
    assert!(answer["notes"][0].as_str().unwrap().contains("model pull"), "{answer}");
    let file = world.file("b.jsonl", "{\"id\": \"b\", \"user_id\": \"u\", \"content\": \"x\"}\n");
    let run = world.run(&["import", &file]);
    assert_eq!(run.out, "1 line: 1 added\n", "a search says it, and an import does not");
}

#[test]
fn a_store_of_the_model_refuses_another_server() {
    let Some(world) = World::with_model() else { return };
    fill(&world, &[]);
    let stub = Stub::embedding();
    world.file("http.toml", stub.settings("other"));
    let config = ["--config", "http.toml"];
    for args in [&["search", "puppy"][..], &["add", "x", "--user", "u"], &["embed", "--missing"]] {
        let run = world.run(&[args, &config].concat());
        assert_eq!(run.code, 9, "{args:?}: {run:?}");
        for part in ["all-MiniLM-L6-v2", "other", "--arm keyword", "`reembed`"] {
            assert!(run.err.contains(part), "{args:?}: {part}: {run:?}");
        }
    }
    assert_eq!(stub.seen().len(), 0, "nothing left this machine");
    let found = world.object(&["search", "puppy", "--arm", "keyword", "--config", "http.toml"]);
    assert_eq!(first(&found), Some("puppy"));
    assert_eq!(world.count(), 4);
    let run = world.run(&["doctor", "--config", "http.toml"]);
    assert!(run.code == 9 && run.out.contains("FAIL  vectors"), "{run:?}");
}

#[test]
fn one_altered_byte_of_the_model_is_noticed() {
    let Some(mut world) = World::with_model() else { return };
    fill(&world, &[]);
    let real = world.take_model();
    std::fs::create_dir(world.path("m")).unwrap();
    let copy = |name: &str| std::fs::read(Path::new(&real).join(name)).unwrap();
    let mut weights = copy("model.safetensors");
    let middle = weights.len() / 2;
    weights[middle] ^= 1;
    std::fs::write(world.path("m/model.safetensors"), weights).unwrap();
    std::fs::write(world.path("m/vocab.txt"), copy("vocab.txt")).unwrap();
    let variables = [("ORCHESTRA_MEMORY_MODEL_DIR", "m")];
    let run = world.run_in(&["search", PAIRS[0].2], &variables);
    assert_eq!(run.code, 7, "{run:?}");
    assert!(run.err.contains("SHA-256") && run.err.contains("model pull"), "{run:?}");
    assert_eq!(world.run_in(&["model", "status"], &variables).code, 0);
    assert_eq!(world.run_in(&["model", "status", "--check"], &variables).code, 7);
    let run = world.run_in(&["search", "puppy", "--arm", "keyword", "--json"], &variables);
    assert_eq!(first(&run.lines()[0]), Some("puppy"));
}

#[test]
fn a_tenant_with_vectors_of_its_own_is_left_alone() {
    let Some(world) = World::with_model() else { return };
    // An embedder that was found rather than asked for declares no space for a caller's vector.
    world.object(&["add", "a puppy", "--user", "u", "--id", "a", "--embedding", "[1,0]"]);
    let space = world.object(&["stats"])["spaces"]["active"].take();
    assert_eq!(space["dimensions"], 2, "{space}");
    let receipt = world.object(&["add", "a dog", "--user", "u", "--id", "b"]);
    assert_eq!(receipt["vector"], "aside");
    let found = world.object(&["search", "puppy"]);
    assert_eq!((first(&found), &found["arms_used"]), (Some("a"), &json!(["keyword"])));
    assert!(found["notes"][0].as_str().unwrap().contains("the caller's own"), "{found}");
    let found = world.object(&["search", "puppy", "--vector", "[1,0]", "--arm", "both"]);
    assert_eq!(found["arms_used"], json!(["keyword", "vector"]));
    assert_eq!(world.error(&["embed", "--missing"], 9)["kind"], "config");
    let file = world.file("c.jsonl", "{\"id\": \"c\", \"user_id\": \"u\", \"content\": \"x\"}\n");
    let run = world.run(&["import", &file]);
    assert!(run.out.contains("1 memory has no vector: the tenant's vectors are"), "{run:?}");
    assert!(!run.out.contains("embed --missing"), "that would make none: {run:?}");
    let run = world.run(&["doctor"]);
    assert!(run.code == 0 && run.out.contains("the callers' own"), "{run:?}");
}

#[test]
fn what_is_exported_without_vectors_gets_them_again_and_with_them_is_the_callers() {
    let Some(world) = World::with_model() else { return };
    fill(&world, &[]);
    let (_, _, question) = PAIRS[2];
    world.json(&["export", "-o", "plain.jsonl"]);
    world.json(&["export", "--with-vectors", "-o", "vectors.jsonl"]);
    let search = |store: &str| world.object(&["search", question, "--store", store]);
    world.object(&["import", "plain.jsonl", "--store", "plain.db"]);
    assert_eq!(first(&search("plain.db")), Some("puppy"));
    world.object(&["import", "vectors.jsonl", "--store", "vectors.db"]);
    let found = search("vectors.db");
    assert!(found["notes"][0].as_str().unwrap().contains("the caller's own"), "{found}");
    // A model that is asked for by name takes them for its own.
    world.file("minilm.toml", "[embedding]\nprovider = \"minilm\"\n");
    let args = ["import", "vectors.jsonl", "--store", "named.db", "--config", "minilm.toml"];
    assert_eq!(world.object(&args)["import"]["added"], 4);
    assert_eq!(first(&search("named.db")), Some("puppy"));
}
