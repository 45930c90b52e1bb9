//! `doctor`: what it checks, what it advises, and its exit code.

use std::fs;

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
    for name in ["settings", "store", "schema", "analyser", "health", "verify", "tenant", "vectors"]
    {
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
