//! Stores that cannot serve: missing, foreign, newer, damaged, read-only, locked, full.

use std::fs;

use rusqlite::Connection;
use serde_json::json;

use crate::world::World;

/// Settings that do not wait long for a lock.
const HASTY: &str = "[sqlite]\nbusy_timeout_ms = 20\n";

#[test]
fn a_missing_store_is_not_made_by_looking() {
    let world = World::new();
    for args in [
        &["list"][..],
        &["get", "a"],
        &["history"],
        &["search", "x"],
        &["export"],
        &["stats"],
        &["purge"],
        &["backup", "copy.db"],
        &["delete", "a"],
        &["update", "a", "--content", "x"],
        &["erase", "--all-of-tenant", "--yes"],
    ] {
        assert_eq!(world.error(args, 3)["kind"], "not_found", "{args:?}");
    }
    assert!(!world.path("memory.db").exists());
    assert_eq!(
        world.error(&["add", "x", "--user", "u", "--store", "no/folder/m.db"], 3)["kind"],
        "not_found"
    );
    world.add("a", "one");
    assert!(world.path("memory.db").exists());
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let world = World::new();
    let text = "this is a letter to my aunt and no database at all\n".repeat(50);
    world.file("memory.db", &text);
    for args in [&["list"][..], &["add", "x", "--user", "u"], &["stats"]] {
        assert_eq!(world.error(args, 7)["kind"], "corrupt", "{args:?}");
    }
    assert_eq!(fs::read_to_string(world.path("memory.db")).unwrap(), text);
    let theirs = Connection::open(world.path("theirs.db")).unwrap();
    theirs.execute_batch("CREATE TABLE x (y); INSERT INTO x VALUES (1)").unwrap();
    drop(theirs);
    let error = world.error(&["add", "x", "--user", "u", "--store", "theirs.db"], 9);
    assert_eq!(error["kind"], "config");
    fs::create_dir(world.path("folder")).unwrap();
    assert_eq!(world.error(&["list", "--store", "folder"], 9)["kind"], "config");
}

#[test]
fn a_newer_schema_is_refused() {
    let world = World::new();
    world.add("a", "one");
    let file = Connection::open(world.path("memory.db")).unwrap();
    let version: i64 = file.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    file.pragma_update(None, "user_version", version + 1).unwrap();
    for args in [&["list"][..], &["add", "x", "--user", "u"], &["doctor"]] {
        assert_eq!(world.error(args, 8)["kind"], "unsupported", "{args:?}");
    }
    file.pragma_update(None, "user_version", version).unwrap();
    drop(file);
    assert_eq!(world.ids(), ["a"]);
}

#[test]
fn a_damaged_file_is_corrupt_and_the_doctor_finds_it() {
    let world = World::new();
    let lines: String = (0..400)
        .map(|n| {
            let text = format!("memory {n} {}", "with some words ".repeat(10));
            format!("{}\n", json!({"user_id": "u", "id": format!("m{n}"), "content": text}))
        })
        .collect();
    let file = world.file("many.jsonl", lines);
    assert_eq!(world.object(&["import", &file])["import"]["added"], 400);
    assert_eq!(world.run(&["doctor"]).code, 0);
    let path = world.path("memory.db");
    let mut bytes = fs::read(&path).unwrap();
    // Everything behind the first pages: the tables are still known, their rows are not.
    let from = bytes.len() / 3;
    bytes[from..].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    for rest in ["-wal", "-shm"] {
        let _ = fs::remove_file(world.path(&format!("memory.db{rest}")));
    }
    assert_eq!(world.error(&["doctor"], 7)["kind"], "corrupt");
    assert_eq!(world.error(&["export"], 7)["kind"], "corrupt");
    bytes.truncate(bytes.len() / 2);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(world.error(&["doctor"], 7)["kind"], "corrupt");
}

#[test]
fn a_store_opened_for_reading_is_not_written() {
    let world = World::new();
    world.add("a", "one");
    let store = "sqlite:memory.db?mode=ro";
    let error = world.error(&["add", "x", "--user", "u", "--store", store], 5);
    assert_eq!(error["kind"], "permission_denied");
    assert_eq!(world.error(&["delete", "a", "--store", store], 5)["kind"], "permission_denied");
    assert_eq!(world.object(&["get", "a", "--store", store])["content"], "one");
    assert_eq!(world.ids(), ["a"]);
    assert_eq!(world.error(&["list", "--store", "sqlite:none.db?mode=ro"], 3)["kind"], "not_found");
}

#[test]
#[cfg(unix)]
fn a_file_that_may_not_be_written_is_denied() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    world.add("a", "one");
    let path = world.path("memory.db");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // The superuser may write whatever the mode says; then there is nothing to deny.
    let may_write = fs::OpenOptions::new().write(true).open(&path).is_ok();
    let code = world.run(&["add", "x", "--user", "u"]).code;
    assert_eq!(code, if may_write { 0 } else { 5 });
}

#[test]
fn a_locked_store_is_unavailable_and_serves_again() {
    let world = World::new();
    world.add("a", "one");
    world.file("hasty.toml", HASTY);
    let other = Connection::open(world.path("memory.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; UPDATE meta SET value = value").unwrap();
    let error = world.error(&["add", "x", "--user", "u", "--config", "hasty.toml"], 6);
    assert_eq!((&error["kind"], &error["retryable"]), (&json!("unavailable"), &json!(true)));
    let file = world.file("b.jsonl", "{\"id\": \"b\", \"user_id\": \"u\", \"content\": \"two\"}\n");
    assert_eq!(world.error(&["import", &file, "--config", "hasty.toml"], 6)["kind"], "unavailable");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(world.object(&["import", &file])["import"]["added"], 1);
    assert_eq!(world.ids().len(), 2);
}

#[test]
fn a_full_store_loses_nothing_that_was_acknowledged() {
    let world = World::new();
    world.file("small.toml", "[sqlite]\nmax_bytes = 400000\n");
    let text = "words that take some room ".repeat(400);
    let mut acknowledged = Vec::new();
    let run = loop {
        let id = format!("m{:03}", acknowledged.len());
        let args = ["add", &text, "--user", "u", "--id", &id, "--config", "small.toml", "--json"];
        let run = world.run(&args);
        if run.code != 0 {
            break run;
        }
        acknowledged.push(id);
        assert!(acknowledged.len() < 200, "the bound does not bind");
    };
    assert_eq!((run.code, run.error()["kind"].as_str()), (6, Some("unavailable")));
    assert!(acknowledged.len() > 3);
    let mut ids = world.ids();
    ids.sort();
    assert_eq!(ids, acknowledged);
    assert_eq!(world.run(&["doctor"]).code, 0);
}

#[test]
fn settings_and_urls_are_checked() {
    let world = World::new();
    world.add("a", "one");
    for (name, text) in [
        ("syntax.toml", "store = "),
        ("key.toml", "colour = 1\n"),
        ("section.toml", "[sqlite]\nreeders = 1\n"),
        ("type.toml", "[read]\npage_size = \"x\"\n"),
        ("range.toml", "[read]\npage_size = 0\n"),
    ] {
        world.file(name, text);
        assert_eq!(world.error(&["list", "--config", name], 9)["kind"], "config", "{name}");
    }
    assert_eq!(world.error(&["list", "--config", "none.toml"], 9)["kind"], "config");
    for url in ["mysql://u:secret@host", "sqlite:", "sqlite:memory.db?mode=rw", "a?b", ""] {
        let run = world.run(&["list", "--store", url, "--json"]);
        assert_eq!((run.code, run.error()["kind"].as_str()), (9, Some("config")), "{url}");
        assert!(!run.err.contains("secret"));
    }
    if cfg!(feature = "redis") {
        assert_eq!(world.error(&["list", "--store", "redis://p/d"], 9)["kind"], "config");
    } else {
        let error = world.error(&["list", "--store", "redis://p/d"], 8);
        assert_eq!(error["kind"], "unsupported");
        assert!(error["message"].as_str().unwrap().contains("feature"));
    }
}
