//! Texts: documents that are imported and split, broken characters in lines, control characters.

use serde_json::{Value, json};

use crate::world::World;

/// A document of three sections with a few paragraphs each.
fn document() -> String {
    let section = |name: &str| {
        let paragraph =
            |n: usize| format!("{name} {n}. {}\n\n", "The kettle sings on the stove. ".repeat(12));
        format!("# {name}\n\n{}", (0..3).map(paragraph).collect::<String>())
    };
    ["Tea", "Harbour", "Kites"].map(section).concat()
}

fn memories(world: &World) -> Vec<Value> {
    world.run(&["export"]).lines()
}

#[test]
fn a_document_becomes_one_memory_or_its_passages() {
    let world = World::new();
    let file = world.file("notes.md", document());
    let report = world.object(&["import", &file, "--user", "u"]);
    assert_eq!((&report["import"]["lines"], &report["import"]["added"]), (&json!(1), &json!(1)));
    assert_eq!(memories(&world)[0]["content"], document());

    let world = World::new();
    let file = world.file("notes.md", document());
    let import = ["import", &file, "--user", "u", "--split"];
    let added = world.object(&import)["import"]["added"].as_u64().unwrap();
    assert!(added >= 3, "{added}");
    let parts = memories(&world);
    assert_eq!(parts.len() as u64, added);
    let whole = parts[0]["metadata"]["document"].as_str().unwrap();
    for part in &parts {
        let (number, meta) = (&part["metadata"]["part"], &part["metadata"]);
        assert_eq!(part["id"], format!("{whole}#{number}"));
        assert_eq!((&meta["document"], &meta["parts"]), (&json!(whole), &json!(added)));
        assert!(document().contains(part["content"].as_str().unwrap()), "cut and not altered");
    }
    let texts: Vec<_> = parts.iter().map(|part| part["content"].as_str().unwrap()).collect();
    let headed = |name: &str| texts.iter().any(|text| text.starts_with(&format!("# {name}\n")));
    assert!(["Tea", "Harbour", "Kites"].into_iter().all(headed), "cut at the headings: {texts:?}");
    // Again, and nothing is there twice.
    let report = world.object(&import);
    assert_eq!(
        (&report["import"]["unchanged"], &report["import"]["added"]),
        (&json!(added), &json!(0))
    );

    let world = World::new();
    let file = world.file("notes.md", document());
    let report = world.object(&["import", &file, "--user", "u", "--split-tokens", "40"]);
    assert!(report["import"]["added"].as_u64().unwrap() > added, "smaller passages are more");
}

#[test]
fn the_extension_says_what_a_file_holds_unless_it_is_said() {
    let world = World::new();
    let line = "{\"content\": \"x\", \"user_id\": \"u\"}\n";
    for (name, args, content) in [
        ("a.txt", &[][..], line),
        ("b.MARKDOWN", &[], line),
        ("c.json", &[], "x"),
        ("d.txt", &["--format", "jsonl"], "x"),
        ("e.jsonl", &["--format", "text"], line),
    ] {
        let file = world.file(name, line);
        let store = format!("{name}.db");
        let args = [&["import", &file, "--user", "v", "--store", &store], args].concat();
        assert_eq!(world.object(&args)["import"]["added"], 1, "{name}");
        let items = world.run(&["export", "--store", &store]).lines();
        assert_eq!(items[0]["content"], content, "{name}");
    }
    let run = world.run_with(&["import", "-", "--format", "text", "--user", "u"], "two\nlines");
    assert_eq!((run.code, run.out.as_str()), (0, "1 line: 1 added\n"));
    assert_eq!(memories(&world)[0]["content"], "two\nlines");
}

#[test]
fn documents_that_cannot_be_taken_are_bad_lines() {
    let world = World::new();
    let bad = |name: &str, bytes: &[u8], args: &[&str]| {
        let file = world.file(name, bytes);
        let run = world.run(&[&["import", &file, "--json"], args].concat());
        assert_eq!(run.code, 10, "{name}: {run:?}");
        assert_eq!(run.lines()[0]["line"], 1, "{name}");
        assert_eq!(run.lines()[0]["error"]["kind"], "invalid_input", "{name}");
    };
    let user = ["--user", "u", "--split"];
    bad("owner.txt", b"text", &[]);
    bad("latin.txt", b"caf\xe9", &user);
    bad("zero.txt", b"a\0b", &user);
    bad("large.txt", "x ".repeat(400_000).as_bytes(), &["--user", "u"]);
    assert_eq!(world.count(), 0);
    // What is too large for one memory is none too large for several.
    let text = "Kites are flown at the harbour. ".repeat(30_000);
    let file = world.file("large.txt", text);
    let report = world.object(&["import", &file, "--user", "u", "--split"]);
    assert!(report["import"]["added"].as_u64().unwrap() > 100, "{report}");
    assert_eq!(
        world.object(&["import", &world.file("blank.txt", " \n"), "--user", "u"])["import"]["added"],
        0
    );
}

#[test]
fn long_lines_are_split_and_short_ones_are_not() {
    let world = World::new();
    let lines = [
        json!({"id": "long", "user_id": "u", "content": document(), "metadata": {"k": "v"}}),
        json!({"id": "short", "user_id": "u", "content": "tea"}),
        json!({"id": "own", "user_id": "u", "content": document(), "embedding": [1, 2]}),
    ];
    let file = world.file("in.jsonl", lines.map(|line| line.to_string()).join("\n"));
    let run = world.run(&["import", &file, "--split", "--json"]);
    assert_eq!(run.code, 10, "a vector of the whole is none of a part: {run:?}");
    assert_eq!(run.lines()[0]["line"], 3);
    let ids = world.ids();
    assert!(ids.contains(&"short".to_owned()) && ids.contains(&"long#1".to_owned()), "{ids:?}");
    assert!(!ids.contains(&"long".to_owned()), "{ids:?}");
    assert_eq!(world.object(&["get", "long#2"])["metadata"]["k"], "v");
}

#[test]
fn parts_that_are_not_taken_are_counted_as_parts() {
    let world = World::new();
    let file = world.file("notes.md", document());
    let import = ["import", &file, "--user", "u", "--split"];
    let run = world.run(&import);
    let parts = world.count();
    assert!(parts >= 3, "{parts}");
    assert_eq!(run.out, format!("1 line as {parts} memories: {parts} added\n"));
    // Their ids are taken by other texts, but for the first.
    let ids = world.ids();
    let (kept, others) = ids.split_first().unwrap();
    for id in others {
        world.object(&["update", id, "--content", "something else"]);
    }
    let run = world.run(&import);
    let bad = parts - 1;
    assert_eq!(run.code, 10, "{run:?}");
    let out = format!("1 line as {parts} memories: 1 there already, {bad} bad\n");
    assert_eq!(run.out, out, "{run:?}");
    let end = format!("{bad} of {parts} memories could not be taken\n");
    assert!(run.err.ends_with(&end), "{run:?}");
    for id in others {
        assert_eq!(run.err.matches(&format!("line 1, {id}: ")).count(), 1, "{id}: {run:?}");
    }
    assert!(!run.err.contains(&format!("line 1, {kept}: ")), "{run:?}");
}

#[test]
fn a_document_that_is_replaced_leaves_no_part_behind() {
    let world = World::new();
    let line = |content: &str| json!({"id": "doc", "user_id": "u", "content": content}).to_string();
    let file = world.file("in.jsonl", line(&document()));
    let args = ["import", &file, "--split", "--if-exists", "replace"];
    let report = world.object(&args)["import"].take();
    let parts = world.count();
    assert!(parts >= 3 && report["removed"] == 0, "{report}");
    assert_eq!(world.object(&args)["import"]["removed"], 0, "the same text has the same parts");
    world.file("in.jsonl", line("a cup of tea"));
    let run = world.run(&args);
    assert_eq!(run.out, format!("1 line: 1 added, {parts} left over and removed\n"), "{run:?}");
    assert_eq!(world.ids(), ["doc"]);
}

#[test]
fn broken_characters_are_bad_lines_by_number() {
    let world = World::new();
    let lines: [&[u8]; 8] = [
        br#"{"content": "good one", "user_id": "u"}"#,
        br#"{"content": "\ud800", "user_id": "u"}"#,
        br#"{"content": "cut \ud83d", "user_id": "u"}"#,
        br#"{"content": "x", "user_id": "\udfff"}"#,
        b"{\"content\": \"raw \xed\xa0\x80\", \"user_id\": \"u\"}",
        b"{\"content\": \"raw \x01\", \"user_id\": \"u\"}",
        br#"{"content": "zero \u0000", "user_id": "u"}"#,
        br#"{"content": "pair \ud83d\ude00", "user_id": "u"}"#,
    ];
    let file = world.file("in.jsonl", lines.join(&b'\n'));
    let run = world.run(&["import", &file, "--json"]);
    assert_eq!(run.code, 10, "{run:?}");
    let output = run.lines();
    let (summary, bad) = output.split_last().unwrap();
    let numbers: Vec<_> = bad.iter().map(|bad| bad["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 3, 4, 5, 6, 7]);
    assert!(bad.iter().all(|bad| bad["error"]["kind"] == "invalid_input"), "{bad:?}");
    assert_eq!(summary["import"]["added"], 2);
    let mut texts: Vec<_> =
        memories(&world).iter().map(|item| item["content"].as_str().unwrap().to_owned()).collect();
    texts.sort();
    assert_eq!(texts, ["good one", "pair \u{1f600}"]);
    // So are questions.
    let questions = "{\"query_id\": \"bad\", \"text\": \"\\ud800\"}\n\
                     {\"query_id\": \"good\", \"text\": \"pair\"}\n";
    let run = world.run_with(&["search", "--queries", "-", "--json"], questions);
    assert_eq!(run.code, 10, "{run:?}");
    let answers = run.lines();
    assert_eq!((&answers[0]["line"], &answers[1]["query_id"]), (&json!(1), &json!("good")));
    assert_eq!(answers[1]["hits"].as_array().unwrap().len(), 1);
}

#[test]
fn control_characters_are_kept_and_command_no_terminal() {
    let world = World::new();
    let text = "tea \u{1b}[31mred\u{7} \u{202e}back\t\u{85}";
    let file = world.file("odd.txt", text);
    assert_eq!(world.object(&["import", &file, "--user", "u"])["import"]["added"], 1);
    assert_eq!(memories(&world)[0]["content"], text);
    for args in [&["list"][..], &["search", "tea"], &["history", "--kind", "fact"]] {
        let run = world.run(args);
        assert!(
            run.out.contains("tea") && !run.out.contains(['\u{1b}', '\u{7}', '\u{202e}']),
            "{run:?}"
        );
    }
    // A question may hold them as well.
    assert_eq!(world.object(&["search", "tea \u{1b}[0m"])["hits"].as_array().unwrap().len(), 1);
}
