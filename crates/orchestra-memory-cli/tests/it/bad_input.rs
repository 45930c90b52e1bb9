//! Hostile and malformed input: each gets its typed error and exit code, and changes nothing.

use std::ffi::OsString;

use serde_json::json;

use crate::world::World;

fn refused(world: &World, args: &[&str]) {
    assert_eq!(world.error(args, 2)["kind"], "invalid_input", "{args:?}");
}

#[test]
fn contents_have_bounds() {
    let world = World::new();
    refused(&world, &["add", "", "--user", "u"]);
    let run = world.run_with(&["add", "-", "--user", "u", "--json"], "x".repeat(768 * 1024 + 1));
    assert_eq!((run.code, run.error()["kind"].as_str()), (2, Some("invalid_input")));
    let run = world.run_with(&["add", "-", "--user", "u", "--json"], "x".repeat(17 << 20));
    assert_eq!(run.code, 2);
    let run = world.run_with(&["add", "-", "--user", "u", "--json"], b"\xff".to_vec());
    assert_eq!(run.code, 2);
    let run = world.run_with(&["add", "-", "--user", "u", "--json"], "a\0b");
    assert_eq!(run.code, 2);
    // The largest that is allowed goes in and comes out whole.
    let most = "x".repeat(768 * 1024);
    let run = world.run_with(&["add", "-", "--user", "u", "--id", "big"], most.clone());
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(world.object(&["get", "big"])["content"], most);
    assert_eq!(world.count(), 1);
}

#[test]
fn hostile_ids_are_kept_apart_or_refused() {
    let world = World::new();
    let longest = "x".repeat(480);
    let good = [
        "a/b",
        "../../etc/passwd",
        "..",
        ".",
        "__x__",
        "100%",
        "%2F",
        "\u{1f600}",
        " ",
        "'; DROP",
        "\u{e9}",
        "e\u{301}",
        "%s%n",
        "\"",
        "\\",
        &longest,
    ];
    for id in good {
        world.add(id, "text");
        let item = world.object(&["get", "--", id]);
        assert_eq!(item["id"], id);
    }
    assert_eq!(world.count(), good.len() as u64);
    for id in ["", "a\nb", "\u{7}", "\u{7f}", &"x".repeat(481), &"x".repeat(10_240)] {
        for option in ["--id", "--session", "--agent", "--kind", "--idempotency-key", "--author"] {
            refused(&world, &["add", "text", "--user", "u", option, id]);
        }
        refused(&world, &["add", "text", "--user", id]);
        refused(&world, &["list", "--tenant", id]);
        refused(&world, &["get", "--", id]);
        refused(&world, &["delete", "--", id]);
        refused(&world, &["update", "--content", "x", "--", id]);
        refused(&world, &["list", "--user", id]);
        refused(&world, &["history", "--session", id]);
        refused(&world, &["erase", "--yes", "--user", id]);
    }
    for id in good {
        assert_eq!(world.object(&["delete", "--", id])["deleted"], true);
    }
    assert_eq!(world.count(), 0);
}

#[test]
#[cfg(unix)]
fn arguments_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let world = World::new();
    let bad = OsString::from_vec(vec![b'a', 0xff]);
    let args = [OsString::from("add"), bad, OsString::from("--user"), OsString::from("u")];
    assert_eq!(world.error(&args, 2)["kind"], "invalid_input");
}

#[test]
fn vectors_are_checked_before_anything_is_written() {
    let world = World::new();
    let add = |vector: &str| world.run(&["add", "x", "--user", "u", "--embedding", vector]).code;
    for bad in ["[0,0,0]", "[]", "[NaN,1,1]", "[1e39,1,1]", "[1e999]", "[null]", "1", "{}", "["] {
        assert_eq!(add(bad), 2, "{bad}");
    }
    assert_eq!(world.run(&["add", "x", "--user", "u", "--embedding", "@none.json"]).code, 3);
    assert_eq!(add(&format!("[{}1]", "1,".repeat(8_192))), 2);
    assert_eq!(add("[1,2,3]"), 0);
    for bad in ["[0,0,0]", "[1,2]", "[1,2,3,4]", "[1e30,1,1]"] {
        assert_eq!(add(bad), 2, "{bad}");
        let run = world.run(&["search", "--vector", bad, "--json"]);
        assert_eq!((run.code, run.error()["kind"].as_str()), (2, Some("invalid_input")), "{bad}");
    }
    assert_eq!(world.count(), 1);
}

#[test]
fn a_vector_search_without_vectors_says_so() {
    let world = World::new();
    world.add("a", "tea");
    refused(&world, &["search", "--vector", "[1,2,3]"]);
    let found = world.object(&["search", "tea", "--vector", "[1,2,3]"]);
    assert_eq!(found["arms_used"], json!(["keyword"]));
    assert!(!found["notes"].as_array().unwrap().is_empty());
}

#[test]
fn limits_of_nothing_and_of_a_billion_are_refused() {
    let world = World::new();
    world.add("a", "tea");
    for limit in ["0", "1001", "1000000000", "99999999999999999999", "-1", "x"] {
        refused(&world, &["list", "--limit", limit]);
        refused(&world, &["history", "--limit", limit]);
        refused(&world, &["search", "tea", "--limit", limit]);
    }
    refused(&world, &["search", "tea", "--max-tokens", "0"]);
    let file = world.file("a.jsonl", "{\"content\": \"x\", \"user_id\": \"u\"}\n");
    for size in ["0", "1001", "1000000000"] {
        refused(&world, &["import", &file, "--batch-size", size]);
    }
    assert_eq!(world.json(&["list", "--limit", "1000"]).len(), 2);
    assert_eq!(world.count(), 1);
}

#[test]
fn malformed_filters_are_refused() {
    let world = World::new();
    world.add("a", "tea");
    let deep = format!("{}{{}}{}", "{\"not\":".repeat(40), "}".repeat(40));
    let deeper = format!("{}{{}}{}", "{\"not\":".repeat(4_000), "}".repeat(4_000));
    for filter in [
        "",
        "{",
        "[]",
        "null",
        "{\"nand\": []}",
        "{\"field\": \"colour\", \"op\": \"eq\", \"value\": 1}",
        "{\"field\": \"user_id\", \"op\": \"like\", \"value\": \"x\"}",
        "{\"field\": \"user_id\", \"op\": \"eq\", \"value\": 1}",
        "{\"field\": \"importance\", \"op\": \"eq\", \"value\": 1e999}",
        "{\"field\": \"metadata.__x__\", \"op\": \"exists\"}",
        "{\"field\": \"user_id\", \"op\": \"in\", \"value\": []}",
        &deep,
        &deeper,
    ] {
        for command in ["list", "history", "export"] {
            refused(&world, &[command, "--filter", filter]);
        }
        refused(&world, &["search", "tea", "--filter", filter]);
    }
    assert_eq!(world.json(&["list", "--filter", "{}"]).len(), 2);
}

#[test]
fn malformed_and_foreign_cursors_are_refused() {
    let world = World::new();
    world.add("a", "one");
    world.add("b", "two");
    let cursor =
        world.json(&["list", "--limit", "1"])[1]["page"]["next"].as_str().unwrap().to_owned();
    let list = |args: &[&str]| world.run(&[&["list", "--limit", "1"], args].concat()).code;
    assert_eq!(list(&["--cursor", &cursor]), 0);
    assert_eq!(list(&["--cursor", &cursor, "--order", "oldest"]), 2);
    assert_eq!(list(&["--cursor", &cursor, "--user", "u"]), 2);
    assert_eq!(list(&["--cursor", &cursor, "--tenant", "other"]), 2);
    let long = "A".repeat(100_000);
    for bad in ["", "!", "AAAA", "-7d", &cursor[1..], &long] {
        refused(&world, &["list", "--cursor", bad]);
        refused(&world, &["history", "--cursor", bad]);
    }
}

#[test]
fn other_values_are_checked_too() {
    let world = World::new();
    world.add("a", "one");
    for args in [
        &["add", "x", "--user", "u", "--importance", "2"][..],
        &["add", "x", "--user", "u", "--importance", "-0.1"],
        &["add", "x", "--user", "u", "--importance", "NaN"],
        &["add", "x", "--user", "u", "--importance", "much"],
        &["add", "x", "--user", "u", "--role", "robot"],
        &["add", "x", "--user", "u", "--meta", "novalue"],
        &["add", "x", "--user", "u", "--meta", "a=1", "--meta", "a=2"],
        &["add", "x", "--user", "u", "--meta", "a:=null"],
        &["add", "x", "--user", "u", "--payload", "{"],
        &["add", "x", "--user", "u", "--occurred-at", "yesterday"],
        &["add", "x", "--user", "u", "--expires-at", "7d"],
        &["add", "x"],
        &["update", "a"],
        &["update", "a", "--content", ""],
        &["update", "a", "--clear", "content"],
        &["update", "a", "--clear", "user"],
        &["update", "a", "--author", "x", "--clear", "author"],
        &["delete", "a", "b", "--if-revision", "1"],
        &["search"],
        &["search", ""],
        &["search", " "],
        &["search", "x", "--queries", "f"],
        &["search", "x", "--arm", "both"],
        &["erase", "--yes"],
        &["erase", "--user", "u", "--all-of-tenant", "--yes"],
        &["list", "--since", "soon"],
        &["frobnicate"],
        &["list", "--frobnicate"],
        &["completions", "ash"],
    ] {
        refused(&world, args);
    }
    let missing = world.error(&["update", "nope", "--content", "x"], 3);
    assert_eq!(missing["kind"], "not_found");
    let stale = world.error(&["update", "a", "--content", "x", "--if-revision", "999"], 4);
    assert_eq!(stale["kind"], "conflict");
    assert_eq!(world.object(&["get", "a"])["content"], "one");
    assert_eq!(world.count(), 1);
}

#[test]
fn errors_do_not_repeat_the_memory() {
    let world = World::new();
    let secret = "confidential ".repeat(70_000);
    let run = world.run_with(&["add", "-", "--user", "u", "--json"], secret);
    assert_eq!(run.code, 2);
    assert!(!run.err.contains("confidential") && run.err.len() < 1_000);
    let line = "{\"content\": \"confidential\", \"user_id\": 1}\n";
    let run = world.run_with(&["import", "-", "--json"], line);
    assert_eq!(run.code, 10);
    assert!(!run.err.contains("confidential") && !run.out.contains("confidential"));
}
