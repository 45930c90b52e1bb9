//! `reembed`: another model, stopped half way and gone on with, given up, and what it says before.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::embed::{stopping, stopping_at};
use crate::stub::{Reply, Stub, three};
use crate::world::{World, until, wait};

const MEMORIES: usize = 20;

/// A store of memories with vectors of the model `old`.
fn fill(world: &World) {
    let old = Stub::embedding();
    world.file("old.toml", old.settings("old"));
    let line = |n: usize| {
        let content = format!("memory {n} of tea");
        format!("{}\n", json!({"id": format!("m{n:02}"), "user_id": "u", "content": content}))
    };
    let file = world.file("many.jsonl", (0..MEMORIES).map(line).collect::<String>());
    world.object(&["import", &file, "--config", "old.toml"]);
    assert_eq!(world.vectors(), (MEMORIES as u64, 0));
}

fn reembed<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["reembed", "--config", "new.toml"], args].concat()
}

fn active(world: &World) -> Value {
    world.object(&["stats"])["spaces"]["active"]["model"].clone()
}

#[test]
fn a_move_is_stopped_and_gone_on_with() {
    let world = World::new();
    fill(&world);
    // The server goes away after two requests.
    let calls = AtomicUsize::new(0);
    let stub = Stub::start(move |request| match calls.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Reply::vectors(request, three),
        _ => Reply::new(503, "text/plain", "later"),
    });
    world.file("new.toml", stub.settings("new"));
    let error = world.error(&["search", "tea", "--arm", "vector", "--config", "new.toml"], 9);
    assert!(error["message"].as_str().unwrap().contains("`reembed`"), "{error}");
    let preview = world.object(&reembed(&["--dry-run"]));
    let told = &preview["reembed"]["preview"];
    assert_eq!((&told["memories"], &told["begun"]), (&json!(MEMORIES), &json!(false)), "{preview}");
    assert_eq!(active(&world), "old");

    let run = world.run(&reembed(&["--batch-size", "5", "--json"]));
    assert_eq!((run.code, &run.error()["retryable"]), (6, &json!(true)), "{run:?}");
    let done = &run.lines()[0]["reembed"];
    assert_eq!((&done["embedded"], &done["switched"]), (&json!(10), &json!(false)));
    // The old vectors serve as before.
    assert_eq!((active(&world), world.vectors()), (json!("old"), (MEMORIES as u64, 0)));
    assert_eq!(world.object(&reembed(&["--dry-run"]))["reembed"]["preview"]["begun"], true);

    let stub = Stub::embedding();
    world.file("new.toml", stub.settings("new"));
    let report = world.object(&reembed(&[]));
    let done = &report["reembed"];
    assert_eq!((&done["embedded"], &done["switched"]), (&json!(10), &json!(true)), "{report}");
    assert_eq!((active(&world), world.vectors()), (json!("new"), (MEMORIES as u64, 0)));
    assert_eq!(stub.texts().len(), 10, "none was made twice");
    let answer = world.object(&["search", "tea", "--arm", "vector", "--config", "new.toml"]);
    assert_eq!(answer["hits"].as_array().unwrap().len(), 10);
    let run = world.run(&reembed(&[]));
    assert!(run.code == 0 && run.out.contains("nothing to move"), "{run:?}");
}

#[test]
#[cfg(unix)]
fn ctrl_c_finishes_the_step_at_hand_and_a_kill_loses_nothing() {
    let world = World::new();
    fill(&world);
    let (stub, state) = stopping();
    world.file("new.toml", stub.settings("new"));
    let child = world.start(&reembed(&["--batch-size", "3", "--json"]), &[]);
    until("the third request", || state.load(Ordering::SeqCst) == 3);
    crate::world::interrupt(&child);
    state.store(1_000, Ordering::SeqCst);
    let run = wait(child);
    assert_eq!((run.code, run.error()["kind"].as_str()), (130, Some("interrupted")), "{run:?}");
    assert!(run.err.contains("run it again to go on"), "{run:?}");
    let first = run.lines()[0]["reembed"]["embedded"].as_u64().unwrap();
    assert!((3..20).contains(&first), "{run:?}");
    assert_eq!((active(&world), world.vectors()), (json!("old"), (MEMORIES as u64, 0)));

    let (stub, state) = stopping_at(1);
    world.file("new.toml", stub.settings("new"));
    let mut child = world.start(&reembed(&["--batch-size", "3"]), &[]);
    until("the first request", || state.load(Ordering::SeqCst) == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    state.store(1_000, Ordering::SeqCst);
    let other = Stub::embedding();
    world.file("new.toml", other.settings("new"));
    let report = world.object(&reembed(&[]));
    assert_eq!(report["reembed"]["switched"], true);
    assert_eq!(other.texts().len() as u64, MEMORIES as u64 - first, "none was made twice");
    assert_eq!((active(&world), world.vectors()), (json!("new"), (MEMORIES as u64, 0)));
}

#[test]
fn a_move_is_given_up() {
    let world = World::new();
    fill(&world);
    let stub = Stub::start(|_| Reply::new(503, "text/plain", "later"));
    world.file("new.toml", stub.settings("new"));
    assert_eq!(world.object(&reembed(&["--abandon"]))["reembed"]["abandoned"], false);
    assert_eq!(world.run(&reembed(&[])).code, 6);
    let third = Stub::embedding();
    world.file("third.toml", third.settings("third"));
    let error = world.error(&["reembed", "--config", "third.toml"], 4);
    assert_eq!(error["kind"], "conflict");
    assert_eq!(world.object(&reembed(&["--abandon"]))["reembed"]["abandoned"], true);
    assert_eq!((active(&world), world.vectors()), (json!("old"), (MEMORIES as u64, 0)));
    let run = world.run(&["reembed", "--config", "third.toml"]);
    assert!(run.code == 0 && run.out.contains("20 memories embedded; moved from"), "{run:?}");
    assert_eq!(active(&world), "third");
}

#[test]
fn usage_and_absence_are_named() {
    let world = World::new();
    assert_eq!(world.error(&["reembed"], 3)["kind"], "not_found");
    assert_eq!(world.error(&["reembed", "--dry-run", "--abandon"], 2)["kind"], "invalid_input");
    world.add("a", "tea");
    world.file("none.toml", "[embedding]\nprovider = \"none\"\n");
    let error = world.error(&["reembed", "--config", "none.toml"], 8);
    assert_eq!(error["kind"], "unsupported");
}
