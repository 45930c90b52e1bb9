//! How answers reach people and programs: plain text, no colour in a pipe, quiet ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::json;

use crate::world::World;

/// A store whose listings are far larger than a pipe holds.
fn large() -> World {
    let world = World::new();
    let lines: String = (0..300)
        .map(|n| {
            let text = format!("tea {n} {}", "word ".repeat(300));
            format!("{}\n", json!({"id": format!("m{n}"), "user_id": "u", "content": text}))
        })
        .collect();
    let file = world.file("many.jsonl", lines);
    assert_eq!(world.object(&["import", &file])["import"]["added"], 300);
    world
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let world = large();
    for args in [
        &["list", "--limit", "1000", "--json"][..],
        &["history", "--kind", "fact", "--limit", "1000"],
        &["search", "tea", "--limit", "300", "--json"],
        &["export"],
    ] {
        let mut child =
            world.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut first = vec![0; 16];
        reader.read_exact(&mut first).unwrap();
        drop(reader);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{args:?}");
    }
}

#[test]
fn there_is_no_colour_in_a_pipe_nor_in_errors() {
    let world = World::new();
    world.object(&["add", "tea \u{1b}[31mred\u{7}", "--user", "u", "--id", "a"]);
    for args in [
        &["list"][..],
        &["get", "a"],
        &["history", "--kind", "fact"],
        &["search", "tea", "--explain"],
        &["stats"],
        &["doctor"],
        &["get", "none"],
        &["list", "--nonsense"],
    ] {
        for no_color in [None, Some("1")] {
            let mut command = world.command(args);
            if let Some(value) = no_color {
                command.env("NO_COLOR", value);
            }
            let output = command.output().unwrap();
            let all = [output.stdout, output.stderr].concat();
            assert!(!all.is_empty());
            // Not even what the memory itself holds reaches the terminal as a command.
            assert!(!all.contains(&0x1b) && !all.contains(&7), "{args:?}");
        }
    }
}

#[test]
fn people_read_short_aligned_lines() {
    let world = World::new();
    world.object(&[
        "add",
        "The boat leaves at nine in the evening from the old harbour.",
        "--user",
        "ada",
        "--author",
        "Ada",
        "--role",
        "user",
        "--session",
        "s1",
        "--id",
        "m1",
        "--occurred-at",
        "2025-03-01T09:30:00Z",
    ]);
    world.object(&[
        "add",
        "Short.",
        "--user",
        "bob",
        "--id",
        "longer",
        "--occurred-at",
        "2025-02-01",
    ]);
    let list = |columns: &str| {
        let output = world.command(&["list"]).env("COLUMNS", columns).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        list("60"),
        "m1      2025-03-01 09:30  Ada  The boat leaves at nine in t…\n\
         longer  2025-02-01 00:00  bob  Short.\n"
    );
    assert!(list("100").contains("old harbour."));
    let run = world.run(&["history", "--user", "ada"]);
    assert_eq!(
        run.out,
        "2025-03-01 09:30  Ada  (message m1, session s1)\n\
         \u{20} The boat leaves at nine in the evening from the old harbour.\n"
    );
    let run = world.run(&["search", "boat", "--explain"]);
    assert!(run.out.starts_with("  1  1.000  2025-03-01 09:30  Ada  (message m1, session s1)\n"));
    assert!(run.out.contains("keyword: rank 1, BM25"), "{}", run.out);
    assert!(world.run(&["list", "--limit", "1"]).out.contains("more: --cursor "));
    assert_eq!(world.run(&["list", "--user", "none"]).out, "no memories\n");
    assert_eq!(world.run(&["list", "--user", "none", "--quiet"]).out, "");
    let run = world.run(&["get", "none"]);
    assert_eq!(run.err, "orchestra-memory: there is no such memory\n");
}

#[test]
fn json_errors_are_one_object_for_wrong_usage_too() {
    let world = World::new();
    let run = world.run(&["list", "--nonsense", "--json"]);
    assert_eq!(run.code, 2);
    assert_eq!(run.error()["kind"], "invalid_input");
    assert!(run.error()["message"].as_str().unwrap().contains("--nonsense"));
    assert!(run.out.is_empty());
    let run = world.run(&["list", "--nonsense"]);
    assert_eq!(run.code, 2);
    assert!(run.err.starts_with("error: "), "{}", run.err);
}

#[test]
fn an_answer_follows_its_question_at_once() {
    let world = World::new();
    world.add("a", "tea");
    let mut child = world
        .command(&["search", "--queries", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut questions = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    for n in 0..3 {
        use std::io::Write as _;
        writeln!(questions, "{{\"query_id\": \"{n}\", \"text\": \"tea\"}}").unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert!(
            line.starts_with(&format!("{{\"query_id\":\"{n}\",\"hits\":[{{\"id\":\"a\"")),
            "{line}"
        );
    }
    drop(questions);
    assert!(child.wait().unwrap().success());
}
