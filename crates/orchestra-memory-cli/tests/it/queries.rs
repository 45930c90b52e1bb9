//! `search --queries`: many questions, an answer a line.

use serde_json::{Value, json};

use crate::world::World;

fn world() -> World {
    let world = World::new();
    for (id, text, vector) in
        [("tea", "Ada prefers green tea.", "[1,0]"), ("dog", "The dog is called Otter.", "[0,1]")]
    {
        world.object(&[
            "add",
            text,
            "--user",
            "u",
            "--session",
            id,
            "--id",
            id,
            "--embedding",
            vector,
        ]);
    }
    world
}

fn ids(line: &Value) -> Vec<&str> {
    line["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

#[test]
fn every_line_is_answered_in_order() {
    let world = world();
    let file = world.file(
        "q.jsonl",
        [
            json!({"query_id": "1", "text": "tea", "limit": 1, "relevant": ["tea"]}),
            json!({"query_id": "2", "text": "what is the dog called", "user_id": "u"}),
            json!({"query_id": "3", "vector": [0.1, 1.0], "limit": 1}),
            json!({"query_id": "4", "text": "tea dog", "session_id": "dog"}),
            json!({"query_id": "5", "text": "tea dog", "filter":
                {"field": "id", "op": "eq", "value": "tea"}}),
            json!({"query_id": "6", "text": "zebra"}),
        ]
        .map(|line| line.to_string())
        .join("\n\n"),
    );
    let lines = world.json(&["search", "--queries", &file]);
    let answers: Vec<_> =
        lines.iter().map(|line| (line["query_id"].as_str().unwrap(), ids(line))).collect();
    assert_eq!(
        answers,
        [
            ("1", vec!["tea"]),
            ("2", vec!["dog"]),
            ("3", vec!["dog"]),
            ("4", vec!["dog"]),
            ("5", vec!["tea"]),
            ("6", vec![]),
        ]
    );
    // What the options narrow holds for every line, and the answer is JSON with or without --json.
    let run = world.run(&["search", "--queries", &file, "--session", "tea"]);
    assert_eq!(ids(&run.lines()[1]), Vec::<&str>::new());
    assert_eq!(ids(&run.lines()[0]), ["tea"]);
}

#[test]
fn a_bad_line_is_an_error_in_its_place() {
    let world = world();
    let nul = "{\"query_id\": \"nul\", \"text\": \"x\", \"user_id\": \"a\\u0000b\"}";
    let long = format!("{{\"query_id\": \"long\", \"text\": \"{}\"}}", "x".repeat(2_000_000));
    let lines = [
        "{\"query_id\": \"good\", \"text\": \"tea\"}",
        "{\"query_id\": \"cut\", \"text\": \"te",
        "{\"query_id\": \"key\", \"text\": \"tea\", \"colour\": 1}",
        "{\"query_id\": \"zero\", \"text\": \"tea\", \"limit\": 0}",
        "{\"query_id\": \"billion\", \"text\": \"tea\", \"limit\": 1000000000}",
        "{\"query_id\": \"nothing\"}",
        "{\"query_id\": \"length\", \"vector\": [1, 2, 3]}",
        "{\"query_id\": \"null vector\", \"vector\": [0, 0]}",
        "{\"query_id\": \"filter\", \"text\": \"tea\", \"filter\": {\"or\": 1}}",
        nul,
        &long,
        "{\"query_id\": \"last\", \"text\": \"dog\"}",
    ];
    let run = world.run_with(&["search", "--queries", "-", "--json"], lines.join("\n"));
    assert_eq!(run.code, 10, "{}", run.err);
    assert_eq!(run.error()["kind"], "partial");
    let answers = run.lines();
    assert_eq!(answers.len(), lines.len());
    assert_eq!(ids(&answers[0]), ["tea"]);
    assert_eq!(ids(&answers[11]), ["dog"]);
    assert_eq!(answers[1]["query_id"], Value::Null);
    assert_eq!(answers[10]["query_id"], Value::Null);
    for (place, answer) in answers.iter().enumerate().take(11).skip(1) {
        assert_eq!(answer["line"], place + 1);
        assert_eq!(answer["error"]["kind"], "invalid_input", "{answer}");
        assert!(answer.get("hits").is_none());
    }
    let ids: Vec<_> = answers[2..10].iter().map(|answer| answer["query_id"].as_str()).collect();
    assert_eq!(ids[..3], [Some("key"), Some("zero"), Some("billion")]);
}

#[test]
fn a_missing_file_is_one_error() {
    let world = world();
    assert_eq!(world.error(&["search", "--queries", "none.jsonl"], 3)["kind"], "not_found");
    assert_eq!(world.error(&["search", "--queries", "."], 2)["kind"], "invalid_input");
}
