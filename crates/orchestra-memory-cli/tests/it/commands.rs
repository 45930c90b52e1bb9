//! Every command once, from the first memory to the last.

use std::fs;

use serde_json::{Value, json};

use crate::world::World;

fn hit_ids(answer: &Value) -> Vec<&str> {
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

#[test]
fn a_memory_lives_from_add_to_delete() {
    let world = World::new();
    let added = world.object(&[
        "add",
        "Ada prefers tea.",
        "--user",
        "ada",
        "--agent",
        "pip",
        "--session",
        "s1",
        "--kind",
        "message",
        "--role",
        "user",
        "--author",
        "Ada",
        "--meta",
        "topic=drinks",
        "--meta",
        "n:=3",
        "--meta",
        r#"tags:=["a","b"]"#,
        "--payload",
        r#"{"x":[1,null]}"#,
        "--importance",
        "0.5",
        "--occurred-at",
        "2025-03-01T09:30:00Z",
        "--expires-at",
        "+7d",
        "--embedding",
        "[1,0,0.5]",
        "--id",
        "m/1",
    ]);
    assert_eq!((&added["id"], &added["outcome"]), (&json!("m/1"), &json!("added")));
    let item = world.object(&["get", "m/1", "--with-vectors"]);
    for (key, value) in [
        ("user_id", json!("ada")),
        ("agent_id", json!("pip")),
        ("session_id", json!("s1")),
        ("kind", json!("message")),
        ("role", json!("user")),
        ("author", json!("Ada")),
        ("content", json!("Ada prefers tea.")),
        ("metadata", json!({"topic": "drinks", "n": 3, "tags": ["a", "b"]})),
        ("payload", json!({"x": [1, null]})),
        ("importance", json!(0.5)),
        ("occurred_at", json!("2025-03-01T09:30:00Z")),
        ("revision", added["revision"].clone()),
    ] {
        assert_eq!(item[key], value, "{key}");
    }
    assert!(item["expires_at"].is_string());
    let vectors: Vec<_> = item["vectors"].as_object().unwrap().values().collect();
    assert_eq!(vectors, [&json!([1.0, 0.0, 0.5])]);

    let updated = world.object(&[
        "update",
        "m/1",
        "--content",
        "Ada prefers coffee.",
        "--clear",
        "payload",
        "--clear",
        "expires-at",
        "--clear",
        "importance",
        "--meta",
        "n:=4",
        "--remove-meta",
        "topic",
        "--role",
        "assistant",
        "--occurred-at",
        "2025-04-01",
        "--if-revision",
        added["revision"].as_str().unwrap(),
    ]);
    assert_eq!(updated["content"], "Ada prefers coffee.");
    assert_eq!(updated["metadata"], json!({"n": 4, "tags": ["a", "b"]}));
    assert_eq!(updated["occurred_at"], "2025-04-01T00:00:00Z");
    assert_eq!(updated["role"], "assistant");
    for gone in ["payload", "expires_at", "importance"] {
        assert!(updated.get(gone).is_none(), "{gone}");
    }
    assert_ne!(updated["revision"], added["revision"]);
    let cleared = world.object(&["update", "m/1", "--clear", "metadata", "--meta", "k=v"]);
    assert_eq!(cleared["metadata"], json!({"k": "v"}));

    let stale = added["revision"].as_str().unwrap();
    assert_eq!(world.error(&["delete", "m/1", "--if-revision", stale], 4)["kind"], "conflict");
    assert_eq!(world.object(&["delete", "m/1"]), json!({"id": "m/1", "deleted": true}));
    assert_eq!(world.error(&["get", "m/1"], 3)["kind"], "not_found");
    let run = world.run(&["delete", "m/1", "--json"]);
    assert_eq!(run.code, 3);
    assert_eq!(run.lines(), [json!({"id": "m/1", "deleted": false})]);
}

#[test]
fn the_text_comes_from_standard_input_too() {
    let world = World::new();
    let run = world.run_with(&["add", "-", "--user", "u", "--id", "a"], "two\nlines\n");
    assert_eq!((run.code, run.out.as_str()), (0, "added a\n"));
    assert_eq!(world.object(&["get", "a"])["content"], "two\nlines");
    let run = world.run_with(&["update", "a", "--content", "-", "--quiet"], "other\r\n");
    assert_eq!((run.code, run.out.as_str()), (0, ""));
    assert_eq!(world.object(&["get", "a"])["content"], "other");
    let run = world.run_with(&["search", "-", "--json"], "other");
    assert_eq!(hit_ids(&run.lines()[0]), ["a"]);
}

#[test]
fn the_owner_and_the_tenant_come_from_the_environment_too() {
    let world = World::new();
    let run = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = world.command(args);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(world.error(&["add", "x"], 2)["kind"], "invalid_input");
    assert_eq!(run(&["add", "x", "--id", "a"], &[("ORCHESTRA_MEMORY_USER", "u")]).0, 0);
    assert_eq!(world.object(&["get", "a"])["user_id"], "u");
    let other = [("ORCHESTRA_MEMORY_USER", "u"), ("ORCHESTRA_MEMORY_TENANT", "acme")];
    assert_eq!(run(&["add", "y", "--id", "b"], &other).0, 0);
    assert_eq!(world.ids(), ["a"], "nothing crosses tenants");
    assert_eq!(world.error(&["get", "b"], 3)["kind"], "not_found");
    assert_eq!(world.object(&["get", "b", "--tenant", "acme"])["content"], "y");
    // The option beats the variable.
    let (_, out) = run(&["list", "--tenant", "default"], &other);
    assert!(out.starts_with("a "), "{out}");
}

#[test]
fn an_idempotency_key_stands_for_one_request() {
    let world = World::new();
    let args = ["add", "x", "--user", "u", "--idempotency-key", "k"];
    let (first, second) = (world.object(&args), world.object(&args));
    assert_eq!(first["id"], second["id"]);
    assert_eq!((&first["replayed"], &second["replayed"]), (&json!(false), &json!(true)));
    let other = ["add", "y", "--user", "u", "--idempotency-key", "k"];
    assert_eq!(world.error(&other, 2)["kind"], "invalid_input");
    assert_eq!(world.count(), 1);
}

#[test]
fn a_taken_id_fails_or_is_skipped_or_replaced() {
    let world = World::new();
    world.add("a", "one");
    let add = |text: &'static str, how: &'static str| {
        ["add", text, "--user", "u", "--id", "a", "--if-exists", how]
    };
    assert_eq!(world.error(&add("two", "fail"), 4)["kind"], "already_exists");
    assert_eq!(world.object(&add("two", "skip"))["outcome"], "skipped");
    assert_eq!(world.object(&["get", "a"])["content"], "one");
    assert_eq!(world.object(&add("two", "replace"))["outcome"], "replaced");
    assert_eq!(world.object(&["get", "a"])["content"], "two");
}

#[test]
fn lists_and_histories_are_narrowed_ordered_and_paged() {
    let world = World::new();
    let lines: String = (0..10)
        .map(|n| {
            let user = if n % 2 == 0 { "even" } else { "odd" };
            let kind = if n < 8 { "message" } else { "fact" };
            let time = format!("2025-01-{:02}T00:00:00Z", n + 1);
            let line = json!({"id": format!("m{n}"), "user_id": user, "session_id": "s",
                "kind": kind, "content": format!("turn {n}"), "occurred_at": time,
                "metadata": {"n": n}});
            format!("{line}\n")
        })
        .collect();
    let file = world.file("turns.jsonl", lines);
    assert_eq!(world.object(&["import", &file])["import"]["added"], 10);

    let ids = |args: &[&str]| -> Vec<String> {
        let lines = world.json(args);
        let (page, items) = lines.split_last().unwrap();
        assert_eq!(page["page"]["count"], items.len());
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&["list", "--limit", "3"]), ["m9", "m8", "m7"]);
    assert_eq!(ids(&["list", "--order", "oldest", "--limit", "2"]), ["m0", "m1"]);
    assert_eq!(ids(&["history", "--limit", "2"]), ["m7", "m6"], "messages only");
    assert_eq!(ids(&["history", "--kind", "fact"]), ["m9", "m8"]);
    assert_eq!(ids(&["list", "--user", "odd", "--kind", "fact"]), ["m9"]);
    assert_eq!(ids(&["history", "--session", "none"]), Vec::<String>::new());
    assert_eq!(
        ids(&["list", "--since", "2025-01-03", "--until", "2025-01-05T00:00:00Z"]),
        ["m3", "m2"]
    );
    let filter = r#"{"field": "metadata.n", "op": "gte", "value": 7}"#;
    assert_eq!(ids(&["list", "--filter", filter, "--user", "odd"]), ["m9", "m7"]);
    assert_eq!(ids(&["history", "--filter", filter]), ["m7"]);

    for command in ["list", "history"] {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut args = vec![command, "--limit", "3", "--order", "oldest", "--session", "s"];
            if let Some(cursor) = &cursor {
                args.extend(["--cursor", cursor]);
            }
            let lines = world.json(&args);
            let (page, items) = lines.split_last().unwrap();
            seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            match page["page"]["next"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        let expected: Vec<_> = ids(&[command, "--order", "oldest", "--session", "s"]);
        assert_eq!(seen, expected, "{command}");
    }
}

#[test]
fn search_finds_by_words_by_vector_and_by_both() {
    let world = World::new();
    for (id, text, vector) in [
        ("tea", "Ada prefers green tea in the morning.", "[1,0,0]"),
        ("dog", "The dog is called Otter.", "[0,1,0]"),
        ("boat", "The boat leaves at nine.", "[0,0,1]"),
    ] {
        world.object(&["add", text, "--user", "u", "--id", id, "--embedding", vector]);
    }
    let search = |args: &[&str]| world.object(&[&["search"], args].concat());
    let found = search(&["what tea does Ada like"]);
    assert_eq!(hit_ids(&found)[0], "tea");
    assert_eq!(found["arms_used"], json!(["keyword"]));
    assert!(found["hits"][0].get("explanation").is_none());
    let found = search(&["--vector", "[0,0.9,0.1]", "--limit", "1"]);
    assert_eq!((hit_ids(&found), &found["arms_used"]), (vec!["dog"], &json!(["vector"])));
    let file = world.file("vector.json", "[0, 0, 1]");
    let found = search(&["tea", "--vector", &format!("@{file}"), "--arm", "both", "--explain"]);
    assert_eq!(found["arms_used"], json!(["keyword", "vector"]));
    let mut top: Vec<_> = hit_ids(&found)[..2].to_vec();
    top.sort_unstable();
    assert_eq!(top, ["boat", "tea"]);
    let shares = found["hits"][0]["explanation"]["arms"].as_array().unwrap();
    let sum: f64 = shares.iter().map(|share| share["contribution"].as_f64().unwrap()).sum();
    assert!((sum - found["hits"][0]["score"].as_f64().unwrap()).abs() < 1e-9);
    assert_eq!(
        hit_ids(&search(&["tea dog boat", "--arm", "keyword", "--vector", "[1,0,0]"])).len(),
        3
    );
    let nothing: Vec<&str> = Vec::new();
    assert_eq!(hit_ids(&search(&["tea", "--user", "nobody"])), nothing);
    assert_eq!(hit_ids(&search(&["zebra"])), nothing);
    // A budget of tokens ends the answer before it is spent.
    assert!(hit_ids(&search(&["tea dog boat", "--max-tokens", "12"])).len() < 3);
    assert_eq!(hit_ids(&search(&["tea dog boat", "--max-tokens", "1000"])).len(), 3);
}

#[test]
fn an_export_imports_into_an_equal_store() {
    let world = World::new();
    world.object(&[
        "add",
        "one \u{1f600}\nline",
        "--user",
        "u",
        "--id",
        "a/..",
        "--embedding",
        "[0.1,-2e-7]",
        "--meta",
        "big:=9223372036854775807",
        "--meta",
        "f:=0.1",
        "--payload",
        "[1.5]",
        "--importance",
        "1",
    ]);
    world.object(&["add", "two", "--agent", "g", "--kind", "mine", "--id", "b"]);
    let run = world.run(&["export", "--with-vectors"]);
    assert_eq!(run.code, 0);
    assert_eq!(run.lines().len(), 2);
    let report = world.object(&["export", "--with-vectors", "-o", "out.jsonl"]);
    assert_eq!((&report["export"]["items"], &report["export"]["vectors"]), (&json!(2), &json!(1)));
    assert_eq!(fs::read_to_string(world.path("out.jsonl")).unwrap(), run.out);
    let other = |args: &[&str]| world.run(&[args, &["--store", "other.db", "--json"]].concat());
    assert_eq!(other(&["import", "out.jsonl"]).lines()[0]["import"]["added"], 2);
    assert_eq!(other(&["export", "--with-vectors"]).out, run.out);
    // Narrowed, without vectors, over the old file.
    world.object(&["export", "--user", "u", "-o", "out.jsonl"]);
    let line: Value =
        serde_json::from_str(&fs::read_to_string(world.path("out.jsonl")).unwrap()).unwrap();
    assert_eq!(line["id"], "a/..");
    assert!(line.get("embedding").is_none());
    let names: Vec<_> =
        fs::read_dir(world.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(".tmp")), "{names:?}");
}

#[test]
fn an_erasure_needs_a_yes_and_holds_against_imports() {
    let world = World::new();
    world.add("a", "one");
    world.object(&["add", "two", "--user", "v", "--id", "b"]);
    world.object(&["export", "-o", "all.jsonl"]);
    assert_eq!(world.error(&["erase", "--user", "u"], 2)["kind"], "invalid_input");
    assert_eq!(world.count(), 2);
    let erased = world.object(&["erase", "--user", "u", "--yes"]);
    assert_eq!((&erased["erased"], &erased["user"]), (&json!(1), &json!("u")));
    assert_eq!(erased["receipt"]["bytes_cleared"], true);
    assert_eq!(world.ids(), ["b"]);
    let report = world.object(&["import", "all.jsonl"]);
    assert_eq!(
        (&report["import"]["erased"], &report["import"]["unchanged"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(world.ids(), ["b"]);
    let report = world.object(&["import", "all.jsonl", "--include-erased"]);
    assert_eq!(report["import"]["added"], 1);
    let erased = world.object(&["erase", "--all-of-tenant", "--yes"]);
    assert_eq!((&erased["erased"], &erased["user"]), (&json!(2), &Value::Null));
    assert_eq!(world.count(), 0);
}

#[test]
fn expired_memories_are_gone_and_then_purged() {
    let world = World::new();
    world.object(&["add", "old", "--user", "u", "--id", "a", "--expires-at", "-1h"]);
    world.object(&["add", "new", "--user", "u", "--id", "b", "--expires-at", "+1h"]);
    assert_eq!(world.ids(), ["b"]);
    assert_eq!(world.error(&["get", "a"], 3)["kind"], "not_found");
    assert_eq!(world.object(&["stats"])["tenant_stats"]["expired"], 1);
    assert_eq!(world.object(&["purge"]), json!({"purged": 1}));
    assert_eq!(world.object(&["purge"]), json!({"purged": 0}));
    assert_eq!(world.ids(), ["b"]);
}

#[test]
fn a_backup_is_a_store_of_its_own() {
    let world = World::new();
    world.add("a", "one");
    let report = world.object(&["backup", "copy.db"]);
    let bytes = fs::metadata(world.path("copy.db")).unwrap().len();
    assert_eq!((&report["target"], &report["bytes"]), (&json!("copy.db"), &json!(bytes)));
    world.add("b", "two");
    let item = world.object(&["get", "a", "--store", "copy.db"]);
    assert_eq!(item["content"], "one");
    assert_eq!(world.error(&["get", "b", "--store", "copy.db"], 3)["kind"], "not_found");
    assert_eq!(world.error(&["backup", "copy.db"], 4)["kind"], "already_exists");
}

#[test]
#[cfg(target_os = "linux")]
fn without_a_store_the_data_folder_has_it() {
    let world = World::new();
    let run = |args: &[&str]| {
        let mut command = world.command(args);
        command.env_remove("ORCHESTRA_MEMORY_STORE").output().unwrap().status.code().unwrap()
    };
    assert_eq!(run(&["list"]), 3);
    assert!(!world.path("data").exists(), "a look makes no store");
    assert_eq!(run(&["add", "x", "--user", "u"]), 0);
    assert!(world.path("data/orchestra-memory/memory.db").exists());
    // The settings file of the configuration folder is read.
    fs::create_dir_all(world.path("config/orchestra-memory")).unwrap();
    world.file("config/orchestra-memory/config.toml", "store = \"sqlite:elsewhere.db\"\n");
    assert_eq!(run(&["add", "x", "--user", "u"]), 0);
    assert!(world.path("elsewhere.db").exists());
}

#[test]
fn the_settings_name_store_and_tenant_and_the_options_beat_them() {
    let world = World::new();
    world.file("my.toml", "store = \"sqlite:mine.db\"\ntenant = \"acme\"\n");
    let mut command =
        world.command(&["add", "x", "--user", "u", "--id", "a", "--config", "my.toml"]);
    assert!(command.env_remove("ORCHESTRA_MEMORY_STORE").output().unwrap().status.success());
    let get = |extra: &[&str]| {
        let args = [&["get", "a", "--store", "mine.db"], extra].concat();
        world.run(&args).code
    };
    assert_eq!(get(&[]), 3);
    assert_eq!(get(&["--tenant", "acme"]), 0);
    assert_eq!(get(&["--config", "my.toml"]), 0);
    assert_eq!(get(&["--config", "my.toml", "--tenant", "default"]), 3);
}

#[test]
fn completions_and_help_need_no_store() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = world.run(&["completions", shell]);
        assert_eq!(run.code, 0);
        assert!(run.out.contains("orchestra-memory") && run.out.contains("search"), "{shell}");
    }
    let help = world.run(&["--help"]);
    assert_eq!(help.code, 0);
    for text in ["add", "doctor", "Exit codes", "--store", "ORCHESTRA_MEMORY_TENANT"] {
        assert!(help.out.contains(text), "{text}");
    }
    assert!(world.run(&["--version"]).out.starts_with("orchestra-memory 0."));
    assert!(!world.path("memory.db").exists());
}
