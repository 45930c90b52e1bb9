//! The JSON of every command: its keys are a promise.

use serde_json::{Value, json};

use crate::world::World;

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn world() -> World {
    let world = World::new();
    world.object(&["add", "green tea", "--user", "u", "--id", "a", "--embedding", "[1,2]"]);
    world
}

#[test]
fn writes() {
    let world = world();
    let added = world.object(&["add", "x", "--user", "u", "--id", "b"]);
    assert_eq!(keys(&added), ["id", "outcome", "replayed", "revision", "vector"]);
    assert_eq!(added["vector"], "no_embedder");
    let item = [
        "content",
        "content_hash",
        "created_at",
        "id",
        "kind",
        "occurred_at",
        "revision",
        "updated_at",
        "user_id",
    ];
    let updated = world.object(&["update", "b", "--content", "y"]);
    assert_eq!(keys(&updated), [&item[..], &["vector"]].concat());
    assert_eq!(updated["vector"], "no_embedder");
    assert_eq!(keys(&world.object(&["get", "b"])), item);
    assert_eq!(keys(&world.object(&["delete", "b"])), ["deleted", "id"]);
    let many = world.json(&["get", "a", "a"]);
    assert_eq!(many.len(), 2);
}

#[test]
fn pages() {
    let world = world();
    for args in [&["list"][..], &["history", "--kind", "fact"]] {
        let lines = world.json(args);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["id"], "a");
        assert_eq!(lines[1], json!({"page": {"count": 1, "next": null}}));
    }
}

#[test]
fn searches() {
    let world = world();
    let answer = world.object(&["search", "tea", "--vector", "[1,2]", "--explain"]);
    assert_eq!(keys(&answer), ["arms_used", "exact", "hits", "notes", "relevance"]);
    let hit = &answer["hits"][0];
    assert_eq!(keys(hit), ["arms", "explanation", "id", "item", "score"]);
    assert_eq!(keys(&hit["arms"][0]), ["arm", "rank", "raw_score"]);
    let shares = &hit["explanation"]["arms"];
    let share = ["arm", "contribution", "normalised", "rank", "raw_score", "weight"];
    assert_eq!(keys(&shares[1]), share);
    assert_eq!(keys(&shares[0]["terms"][0]), ["score", "term"]);
    let file = world.file("q.jsonl", "{\"query_id\": \"q\", \"text\": \"tea\"}\n{\n");
    let run = world.run(&["search", "--queries", &file, "--json"]);
    assert_eq!(run.code, 10);
    let lines = run.lines();
    assert_eq!(keys(&lines[0]), ["arms_used", "hits", "notes", "query_id", "relevance"]);
    assert_eq!(keys(&lines[0]["hits"][0]), ["arms", "id", "item", "score"]);
    assert_eq!(keys(&lines[1]), ["error", "line", "query_id"]);
}

#[test]
fn transfers() {
    let world = world();
    let file = world.file("in.jsonl", "{\"content\": \"x\", \"user_id\": \"u\"}\nx\n");
    let run = world.run(&["import", &file, "--json"]);
    assert_eq!(run.code, 10);
    let lines = run.lines();
    assert_eq!(keys(&lines[0]), ["error", "line"]);
    assert_eq!(keys(&lines[1]), ["import"]);
    assert_eq!(
        keys(&lines[1]["import"]),
        [
            "added",
            "bad",
            "blank",
            "bytes",
            "cancelled",
            "erased",
            "lines",
            "pending",
            "removed",
            "replaced",
            "skipped",
            "unchanged",
            "without_vector",
        ]
    );
    let line = &world.json(&[
        "export",
        "--with-vectors",
        "--filter",
        r#"{"field": "id", "op": "eq", "value": "a"}"#,
    ])[0];
    let line_keys = [
        "content",
        "created_at",
        "embedding",
        "id",
        "kind",
        "occurred_at",
        "updated_at",
        "user_id",
    ];
    assert_eq!(keys(line), line_keys);
    let report = world.object(&["export", "-o", "out.jsonl"]);
    assert_eq!(keys(&report["export"]), ["bytes", "items", "output", "vectors"]);
}

#[test]
fn upkeep() {
    let world = world();
    let stats = world.object(&["stats"]);
    let stats_keys = [
        "cache",
        "embedding",
        "layers",
        "schema",
        "spaces",
        "store",
        "tenant",
        "tenant_stats",
        "usage",
    ];
    assert_eq!(keys(&stats), stats_keys);
    assert_eq!(keys(&stats["usage"]), ["operations", "total"], "what bills has an estimate too");
    let usage_keys = ["bytes", "calls", "deletes", "index_entries", "reads", "writes"];
    assert_eq!(keys(&stats["usage"]["total"]), usage_keys);
    assert_eq!(
        stats["usage"]["operations"],
        json!({}),
        "this store writes down no reads of numbers"
    );
    assert_eq!(stats["embedding"], json!({"provider": "auto", "when": "write", "missing": 0}));
    assert_eq!(
        keys(&stats["tenant_stats"]),
        ["by_kind", "embedded", "expired", "head", "items", "newest", "oldest"]
    );
    assert_eq!(keys(&stats["schema"]), ["current", "stored"]);
    assert_eq!(keys(&stats["spaces"]), ["active", "next", "version"]);
    let space = ["dimensions", "metric", "model", "revision"];
    assert_eq!(keys(&stats["spaces"]["active"]), space);
    assert!(stats["store"].as_object().unwrap().values().all(Value::is_u64));
    assert_eq!(keys(&world.object(&["backup", "copy.db"])), ["bytes", "target"]);
    assert_eq!(keys(&world.object(&["purge"])), ["purged"]);
    let checks = world.json(&["doctor"]);
    assert_eq!(keys(&checks[0]), ["check", "detail", "status"]);
    assert_eq!(keys(&checks.last().unwrap()["doctor"]), ["checks", "failed", "warnings"]);
    let erased = world.object(&["erase", "--user", "u", "--yes"]);
    assert_eq!(keys(&erased), ["erased", "receipt", "tenant", "user"]);
    assert_eq!(keys(&erased["receipt"]), ["began_at", "bytes_cleared", "ended_at"]);
}

#[test]
fn models() {
    let world = World::new();
    let run = world.run(&["model", "status", "--json"]);
    assert_eq!((run.code, run.error()["kind"].as_str()), (3, Some("not_found")));
    let status = &run.lines()[0]["model"];
    let status_keys = ["bytes", "checked", "files", "folder", "name", "ready", "revision"];
    assert_eq!(keys(status), status_keys);
    assert_eq!(keys(&status["files"][0]), ["bytes", "name", "sha256", "state"]);
}

#[test]
fn errors() {
    let world = world();
    let error = world.error(&["get", "none"], 3);
    assert_eq!(keys(&error), ["kind", "message", "outcome", "retryable"]);
    assert_eq!((&error["outcome"], &error["retryable"]), (&json!("not_applied"), &json!(false)));
    world.file("letter.db", "no database".repeat(20));
    let error = world.error(&["list", "--store", "letter.db"], 7);
    assert_eq!(error["backend"], "sqlite");
}
