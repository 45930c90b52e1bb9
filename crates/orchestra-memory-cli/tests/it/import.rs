//! `import`: bad lines, repetition, and interruption of every kind.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use serde_json::json;

use crate::world::World;

/// A line of about 400 bytes; every other one has an id.
fn line(n: usize) -> String {
    let text = format!("memory {n} {}", "of some length ".repeat(20));
    let mut line = json!({"user_id": "u", "content": text});
    if n.is_multiple_of(2) {
        line["id"] = json!(format!("id{n}"));
    }
    format!("{line}\n")
}

fn contents(world: &World) -> Vec<String> {
    let run = world.run(&["export"]);
    assert_eq!(run.code, 0);
    run.lines().iter().map(|line| line["content"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn bad_lines_are_named_and_the_good_ones_go_in() {
    let world = World::new();
    let lines: [&[u8]; 12] = [
        br#"{"content": "good one", "user_id": "u"}"#,
        br#"{"content": "cut off", "user_"#,
        br#"{"content": "", "user_id": "u"}"#,
        br#"{"content": "no owner"}"#,
        b"",
        br#"{"content": "key", "user_id": "u", "colour": "red"}"#,
        br#"{"content": "id", "user_id": "u", "id": "a\u0000b"}"#,
        br#"{"content": "importance", "user_id": "u", "importance": 7}"#,
        br#"{"content": "vector", "user_id": "u", "embedding": [NaN]}"#,
        br#"{"content": "zero", "user_id": "u", "embedding": [0, 0]}"#,
        b"\xff\xfe",
        br#"{"content": "good two", "user_id": "u", "embedding": [1, 2], "metadata": {"a": 1}}"#,
    ];
    let file = world.file("mixed.jsonl", lines.join(&b'\n'));
    let run = world.run(&["import", &file, "--json"]);
    assert_eq!(run.code, 10, "{run:?}");
    assert_eq!(run.error()["kind"], "partial");
    let output = run.lines();
    let (summary, bad) = output.split_last().unwrap();
    let numbers: BTreeSet<_> = bad.iter().map(|bad| bad["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, BTreeSet::from([2, 3, 4, 6, 7, 8, 9, 10, 11]));
    assert!(bad.iter().all(|bad| bad["error"]["kind"] == "invalid_input"), "{bad:?}");
    let summary = &summary["import"];
    for (key, number) in [("lines", 12), ("added", 2), ("bad", 9), ("blank", 1), ("pending", 0)] {
        assert_eq!(summary[key], number, "{key}");
    }
    assert_eq!(world.count(), 2);
    let run = world.run(&["import", &file]);
    assert_eq!((run.code, run.out.as_str()), (10, "12 lines: 2 there already, 9 bad, 1 blank\n"));
    assert!(run.err.contains("line 4: ") && run.err.contains("9 of 12 lines"), "{}", run.err);
}

#[test]
fn an_owner_can_be_given_for_lines_without_one() {
    let world = World::new();
    let run = world.run_with(&["import", "-", "--user", "ada"], "{\"content\": \"x\"}\n");
    assert_eq!((run.code, run.out.as_str()), (0, "1 line: 1 added\n"));
    assert_eq!(world.json(&["list"])[0]["user_id"], "ada");
}

#[test]
fn a_taken_id_with_another_text_is_the_callers_to_decide() {
    let world = World::new();
    world.add("a", "one");
    let file = world.file("a.jsonl", "{\"id\": \"a\", \"user_id\": \"u\", \"content\": \"two\"}\n");
    let run = world.run(&["import", &file, "--json"]);
    assert_eq!((run.code, &run.lines()[0]["error"]["kind"]), (10, &json!("already_exists")));
    assert_eq!(world.object(&["import", &file, "--if-exists", "skip"])["import"]["skipped"], 1);
    assert_eq!(contents(&world), ["one"]);
    assert_eq!(world.object(&["import", &file, "--if-exists", "replace"])["import"]["replaced"], 1);
    assert_eq!(contents(&world), ["two"]);
}

#[test]
fn a_killed_import_is_resumed_without_duplicates() {
    const LINES: usize = 2_500;
    let all: String = (0..LINES).map(line).collect();
    // Killed early, later and near the end, each time in the middle of what it does.
    for fed in [700, 1_500, 2_300] {
        let world = World::new();
        let import = ["import", "-", "--source", "log", "--batch-size", "16", "--quiet"];
        let mut child =
            world.command(&import).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // A pipe holds 64 KiB, 160 lines: once all these are written, most of them have been read.
        let mut stdin = child.stdin.take().unwrap();
        for n in 0..fed {
            stdin.write_all(line(n).as_bytes()).unwrap();
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "it was killed");
        drop(stdin);

        let before = usize::try_from(world.count()).unwrap();
        assert!(before > 0 && before < LINES, "{before} of {fed}");
        assert_eq!(before % 16, 0, "a batch is whole or not there");
        let file = world.file("log.jsonl", &all);
        let report = world.object(&["import", &file, "--source", "log"]);
        assert_eq!(report["import"]["unchanged"], before);
        assert_eq!(report["import"]["added"], LINES - before);
        let contents = contents(&world);
        assert_eq!(contents.len(), LINES);
        assert_eq!(contents.iter().collect::<BTreeSet<_>>().len(), LINES);
        assert_eq!(world.run(&["doctor"]).code, 0);
    }
}

#[test]
#[cfg(unix)]
fn ctrl_c_finishes_the_batch_and_reports() {
    let world = World::new();
    let mut child = world
        .command(&["import", "-", "--source", "log", "--batch-size", "16", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for n in 0..700 {
        stdin.write_all(line(n).as_bytes()).unwrap();
    }
    let pid = child.id().to_string();
    let sent = std::process::Command::new("kill").args(["-s", "INT", &pid]).status().unwrap();
    assert!(sent.success());
    // It stops before its next batch, and then nobody reads any more.
    let fed = (700..200_000).find(|n| stdin.write_all(line(*n).as_bytes()).is_err());
    assert!(fed.is_some(), "it does not stop");
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{err}");
    let error: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!(error["error"]["kind"], "interrupted");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["import"]["cancelled"], true);
    assert_eq!(report["import"]["added"], world.count());
    assert!(world.count() > 0);
}

#[test]
fn two_imports_at_once_add_each_memory_once() {
    let world = World::new();
    world.add("first", "so that the store is there");
    let file = world.file("log.jsonl", (0..600).map(line).collect::<String>());
    let import = || {
        world
            .command(&["import", &file, "--batch-size", "10", "--quiet"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    for child in [import(), import(), import()] {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(world.count(), 601);
}

#[test]
fn a_missing_file_is_an_error_of_its_own() {
    let world = World::new();
    assert_eq!(world.error(&["import", "none.jsonl"], 3)["kind"], "not_found");
    assert_eq!(world.error(&["import", "."], 2)["kind"], "invalid_input");
    assert_eq!(world.object(&["import", &world.file("empty.jsonl", "")])["import"]["lines"], 0);
}
