//! The program over Redis, as a store and as a cache.
//!
//! `MEMORY_TEST_REDIS` names a server with the query engine. Where there is none the tests that
//! need it are skipped, aloud; in CI that is a failure.

use std::fs;

use serde_json::Value;

use crate::world::{Run, World};

const SERVER: &str = "MEMORY_TEST_REDIS";
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/conversation.jsonl");

/// The URL of the server with a prefix of its own, or a loud word that the test is skipped.
fn server(world: &World) -> Option<String> {
    let Some(url) = std::env::var(SERVER).ok().filter(|url| !url.is_empty()) else {
        assert!(std::env::var_os("CI").is_none(), "{SERVER} must be set in CI");
        eprintln!("SKIPPED: {SERVER} is not set; a test that needs this server was not run");
        return None;
    };
    let folder = world.path("x").parent()?.file_name()?.to_str()?.to_lowercase();
    let unique: String = folder.chars().filter(char::is_ascii_alphanumeric).collect();
    Some(format!("{url}?prefix=cli-{unique}-{}", std::process::id()))
}

fn run(world: &World, url: &str, args: &[&str]) -> Run {
    world.run(&[&["--store", url], args].concat())
}

fn lines(world: &World, url: &str, args: &[&str]) -> Vec<Value> {
    let run = run(world, url, &[&["--json"], args].concat());
    assert_eq!(run.code, 0, "{args:?}: {run:?}");
    run.lines()
}

fn object(world: &World, url: &str, args: &[&str]) -> Value {
    lines(world, url, args).remove(0)
}

#[test]
fn the_sample_goes_in_is_found_and_comes_out_again() {
    let world = World::new();
    world.settings("[embedding]\nprovider = \"none\"\n");
    let Some(url) = server(&world) else { return };
    let count = fs::read_to_string(SAMPLE).unwrap().lines().count();
    let report = object(&world, &url, &["import", SAMPLE]);
    assert_eq!((&report["import"]["added"], &report["import"]["bad"]), (&count.into(), &0.into()));
    assert_eq!(object(&world, &url, &["import", SAMPLE])["import"]["unchanged"], count);
    let answer = object(&world, &url, &["search", "sperm whales", "--limit", "5"]);
    assert_eq!(answer["arms_used"], serde_json::json!(["keyword"]));
    assert!(!answer["hits"].as_array().unwrap().is_empty(), "{answer}");
    let turns = lines(&world, &url, &["history", "--session", "s7", "--limit", "5"]);
    assert_eq!(turns.iter().filter(|line| line["session_id"] == "s7").count(), 5, "{turns:?}");
    let tea = ["add", "tea", "--user", "ada", "--id", "tea", "--embedding", "[1,0]"];
    assert_eq!(object(&world, &url, &tea)["outcome"], "added");
    let found = object(&world, &url, &["search", "--vector", "[1,0.1]"]);
    assert_eq!(found["hits"][0]["id"], "tea");
    let error = run(&world, &url, &["--json", "add", "x", "--user", "u", "--id", "tea"]);
    assert_eq!((error.code, &error.error()["kind"]), (4, &"already_exists".into()));
    let exported = run(&world, &url, &["export"]);
    assert_eq!((exported.code, exported.out.lines().count()), (0, count + 1), "{exported:?}");
    let stats = object(&world, &url, &["stats"]);
    assert_eq!(stats["tenant_stats"]["items"], count + 1);
    assert!(
        stats["usage"]["operations"].as_object().unwrap().keys().all(|it| it.starts_with("redis."))
    );
    assert_eq!((&stats["usage"]["estimate"], &stats["cache"]), (&Value::Null, &Value::Null));
    let checks = lines(&world, &url, &["doctor"]);
    assert!(checks.iter().all(|check| check["status"] != "failed"), "{checks:?}");
    assert_eq!(object(&world, &url, &["delete", "tea"])["deleted"], true);
    let erased = run(&world, &url, &["erase", "--all-of-tenant", "--yes"]);
    assert!(erased.code == 0 && erased.out.contains("the service's to say"), "{erased:?}");
    assert_eq!(object(&world, &url, &["stats"])["tenant_stats"]["items"], 0);
}

#[test]
fn a_file_behind_the_cache_is_read_from_it_and_stats_say_so() {
    let world = World::new();
    world.settings("[embedding]\nprovider = \"none\"\n");
    let Some(cache) = server(&world) else { return };
    world.add("tea", "Ada prefers tea");
    let usage = |args: &[&str]| -> Value {
        let args = [&["--json", "--usage", "--cache", cache.as_str()], args].concat();
        let run = world.run(&args);
        assert_eq!(run.code, 0, "{run:?}");
        serde_json::from_str(run.err.trim()).unwrap()
    };
    assert_eq!(usage(&["get", "tea"])["cache"]["items"]["misses"], 1);
    let hot = usage(&["get", "tea"]);
    assert_eq!(
        (&hot["cache"]["items"]["hits"], &hot["cache"]["items"]["hit_rate"]),
        (&1.into(), &1.0.into())
    );
    let operations = hot["usage"]["operations"].as_object().unwrap();
    assert!(!operations.contains_key("sqlite.fetch"), "{hot}");
    // A write by a process that knows the cache is seen by the next at once.
    usage(&["update", "tea", "--importance", "0.5"]);
    let run = world.run(&["--json", "--cache", &cache, "get", "tea"]);
    assert_eq!(run.lines()[0]["importance"], 0.5, "{run:?}");
    let stats = world.object(&["--cache", &cache, "stats"]);
    assert_eq!(stats["cache"]["max_stale_ms"], 60_000);
    assert!(stats["cache"]["health"]["memory_bytes"].as_str().is_some(), "{stats}");
    let run = world.run(&["--cache", &cache, "--usage", "get", "tea"]);
    assert!(run.err.contains("from the cache, 100 %"), "{run:?}");
}

#[test]
fn a_cache_that_is_away_costs_no_answer() {
    let world = World::new();
    world.settings("[embedding]\nprovider = \"none\"\n");
    world.add("tea", "Ada prefers tea");
    let cache = "redis://user:secret@127.0.0.1:1";
    for args in [&["get", "tea"][..], &["update", "tea", "--importance", "0.5"], &["stats"]] {
        let run = world.run(&[&["--cache", cache, "--usage"], args].concat());
        assert_eq!(run.code, 0, "{args:?}: {run:?}");
        assert!(!format!("{run:?}").contains("secret"), "{run:?}");
    }
    let strict = [("ORCHESTRA_MEMORY__LAYERS__CACHE__STRICT", "true")];
    let run = world.run_in(&["--json", "--cache", cache, "delete", "tea"], &strict);
    assert_eq!((run.code, &run.error()["kind"]), (6, &"unavailable".into()), "{run:?}");
    assert_eq!(world.count(), 1);
}

#[test]
fn settings_show_where_cache_and_store_come_from_and_no_password() {
    let world = World::new();
    world.settings(
        "cache = \"redis://u:secret@h\"\n[redis]\nurl = \"redis://u:secret@h\"\n[redis.vectors]\n\
         ef_runtime = 20\n[layers.cache]\nstrict = true\n",
    );
    let shown = world.json(&["settings", "--changed"]);
    let of = |name: &str| shown.iter().find(|line| line["setting"] == name).unwrap().clone();
    assert_eq!(of("cache")["source"], "file");
    assert_eq!(of("redis.vectors.ef_runtime")["value"], "20");
    assert_eq!(of("layers.cache.strict")["value"], "true");
    assert!(!format!("{shown:?}").contains("secret"), "{shown:?}");
    let lines = world.json(&["settings", "--cache", "none"]);
    assert!(lines.iter().all(|line| line["setting"] != "cache"), "{lines:?}");
    let error = world.error(&["stats", "--cache", "rediss://u:secret@h?prefx=x"], 9);
    let text = error.to_string();
    assert!(text.contains("did you mean `prefix`?") && text.contains("--cache"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let variable = [("ORCHESTRA_MEMORY__LAYERS__CACHE__MAX_STALE_M", "5")];
    let run = world.run_in(&["settings"], &variable);
    assert!(run.code == 9 && run.err.contains("__LAYERS__CACHE__MAX_STALE_MS`?"), "{run:?}");
}
