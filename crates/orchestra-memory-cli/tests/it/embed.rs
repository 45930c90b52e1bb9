//! `embed --missing`: what it makes up for, and how it goes on after an end of any kind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::stub::{Reply, Stub, three};
use crate::world::{World, until, wait};

/// Memories of about 60 words.
fn lines(count: usize) -> String {
    let line = |n: usize| {
        let content = format!("memory {n}: {}", "tea and a dog by the harbour ".repeat(8));
        format!("{}\n", json!({"id": format!("m{n:04}"), "user_id": "u", "content": content}))
    };
    (0..count).map(line).collect()
}

/// Settings under which nothing is embedded on its own.
const NONE: &str = "[embedding]\nprovider = \"none\"\n";

/// A store of memories without vectors.
fn fill(world: &World, count: usize) {
    let file = world.file("many.jsonl", lines(count));
    world.file("none.toml", NONE);
    let report = world.object(&["import", &file, "--config", "none.toml"]);
    assert_eq!(
        (&report["import"]["added"], &report["import"]["without_vector"]),
        (&json!(count), &json!(0)),
        "nothing was to be made"
    );
}

fn embed<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["embed", "--missing", "--config", "http.toml"], args].concat()
}

#[test]
fn what_lacks_a_vector_gets_one_and_nothing_else() {
    let world = World::new();
    fill(&world, 30);
    assert_eq!(world.vectors(), (0, 30));
    let stub = Stub::embedding();
    world.file("http.toml", stub.settings("stub"));
    let report = world.object(&embed(&["--batch-size", "7"]));
    assert_eq!(
        report,
        json!({"embed": {"tenant": "default", "missing_before": 30, "embedded": 30, "stale": 0,
            "failed": 0, "cancelled": false}})
    );
    assert_eq!(world.vectors(), (30, 0));
    assert_eq!(stub.texts().len(), 30);
    let report = world.object(&embed(&[]));
    assert_eq!((&report["embed"]["missing_before"], stub.texts().len()), (&json!(0), 30));
    let run = world.run(&embed(&[]));
    assert_eq!((run.code, run.out.as_str()), (0, "default: nothing was missing\n"));
    // A new text loses its vector where nothing makes one, and gets another.
    world.object(&["update", "m0003", "--content", "a puppy", "--config", "none.toml"]);
    assert_eq!(world.vectors(), (29, 1));
    let run = world.run(&embed(&[]));
    assert_eq!((run.code, run.out.as_str()), (0, "default: 1 embedded\n"));
    assert_eq!(stub.texts().last().unwrap(), "a puppy");
}

#[test]
fn usage_and_absence_are_named() {
    let world = World::new();
    let error = world.error(&["embed"], 2);
    assert!(error["message"].as_str().unwrap().contains("--missing"), "{error}");
    assert_eq!(world.error(&["embed", "--missing"], 3)["kind"], "not_found");
    assert!(!world.path("memory.db").exists(), "no store is made");
    world.add("a", "tea");
    let run = world.run(&["embed", "--missing"]);
    assert_eq!(run.code, 8, "{run:?}");
    assert_eq!(run.err.matches("`orchestra-memory model pull`").count(), 1, "{run:?}");
    world.file("none.toml", NONE);
    let error = world.error(&["embed", "--missing", "--config", "none.toml"], 8);
    assert!(error["message"].as_str().unwrap().contains("`none`"), "{error}");
    let stub = Stub::embedding();
    world.file("http.toml", stub.settings("stub"));
    for size in ["0", "1001", "x"] {
        assert_eq!(world.error(&embed(&["--batch-size", size]), 2)["kind"], "invalid_input");
    }
    assert_eq!(stub.seen().len(), 0);
}

#[test]
fn texts_that_are_refused_do_not_keep_the_others() {
    let world = World::new();
    fill(&world, 6);
    world.object(&["add", "unspeakable", "--user", "u", "--id", "bad", "--config", "none.toml"]);
    let stub =
        Stub::start(|request| match request.texts().iter().any(|text| text == "unspeakable") {
            true => Reply::new(400, "application/json", "{}"),
            false => Reply::vectors(request, three),
        });
    world.file("http.toml", stub.settings("stub"));
    let run = world.run(&embed(&["--json"]));
    assert_eq!((run.code, run.error()["kind"].as_str()), (10, Some("partial")));
    let lines = run.lines();
    assert_eq!(
        (&lines[0]["id"], &lines[0]["error"]["kind"]),
        (&json!("bad"), &json!("invalid_input"))
    );
    assert_eq!(
        (&lines[1]["embed"]["embedded"], &lines[1]["embed"]["failed"]),
        (&json!(6), &json!(1))
    );
    let run = world.run(&embed(&[]));
    assert_eq!(run.code, 10);
    assert!(run.err.contains("bad: ") && run.err.contains("1 memory could not"), "{run:?}");
    assert!(!run.err.contains("unspeakable"), "no memory text in errors: {run:?}");
    assert_eq!(world.vectors(), (6, 1));
}

#[test]
fn a_server_that_fails_stops_it_and_what_is_done_stays() {
    let world = World::new();
    fill(&world, 20);
    let calls = AtomicUsize::new(0);
    let stub = Stub::start(move |request| match calls.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Reply::vectors(request, three),
        _ => Reply::new(503, "text/plain", "later"),
    });
    world.file("http.toml", stub.settings("stub"));
    let run = world.run(&embed(&["--batch-size", "5", "--json"]));
    assert_eq!((run.code, &run.error()["retryable"]), (6, &json!(true)), "{run:?}");
    assert_eq!(run.lines()[0]["embed"]["embedded"], 10);
    assert_eq!(world.vectors(), (10, 10));
    let stub = Stub::embedding();
    world.file("http.toml", stub.settings("stub"));
    assert_eq!(world.object(&embed(&[]))["embed"]["embedded"], 10);
    assert_eq!((world.vectors(), stub.texts().len()), ((20, 0), 10));
}

#[test]
fn every_tenant_gets_its_turn() {
    let world = World::new();
    world.file("none.toml", NONE);
    for (tenant, count) in [("a", 3), ("b", 1), ("own", 2)] {
        for n in 0..count {
            let id = n.to_string();
            let args = ["add", "tea", "--user", "u", "--id", &id, "--tenant", tenant];
            let own: &[&str] = if tenant == "own" { &["--embedding", "[1,2]"] } else { &[] };
            world.object(&[&args, own, &["--config", "none.toml"]].concat());
        }
    }
    let stub = Stub::embedding();
    world.file("http.toml", stub.settings("stub"));
    let run = world.run(&embed(&["--all-tenants", "--json"]));
    assert_eq!((run.code, run.error()["kind"].as_str()), (10, Some("partial")), "{run:?}");
    let lines = run.lines();
    assert_eq!(lines.len(), 4);
    for (line, tenant, embedded) in [(&lines[0], "a", 3), (&lines[1], "b", 1)] {
        assert_eq!(
            (&line["embed"]["tenant"], &line["embed"]["embedded"]),
            (&json!(tenant), &json!(embedded))
        );
    }
    assert_eq!(
        (&lines[2]["tenant"], &lines[2]["error"]["kind"]),
        (&json!("own"), &json!("config"))
    );
    assert_eq!(
        lines[3],
        json!({"embed_all": {"tenants": 3, "refused": 1, "missing_before": 4, "embedded": 4,
            "stale": 0, "failed": 0, "cancelled": false}})
    );
    let stats = world.object(&["stats", "--tenant", "own"]);
    assert_eq!(stats["spaces"]["active"]["dimensions"], 2, "what is the caller's stays so");
    let run = world.run(&embed(&["--all-tenants"]));
    assert!(run.out.contains("a: nothing was missing\n") && run.err.contains("own: "), "{run:?}");
}

#[test]
fn a_fault_of_the_server_is_none_of_the_tenants() {
    let world = World::new();
    world.file("none.toml", NONE);
    for tenant in ["a", "b", "own"] {
        let own: &[&str] = if tenant == "own" { &["--embedding", "[1,2]"] } else { &[] };
        let args = ["add", "tea", "--user", "u", "--tenant", tenant, "--config", "none.toml"];
        world.object(&[&args, own].concat());
    }
    let nowhere = Stub::start(|_| Reply::new(404, "application/json", "{}"));
    world.file("http.toml", nowhere.settings("stub"));
    let run = world.run(&embed(&["--all-tenants", "--json"]));
    assert_eq!((run.code, &run.error()["kind"]), (9, &json!("config")), "{run:?}");
    assert_eq!(run.error()["context"]["tenant"], "a");
    assert_eq!(
        run.lines(),
        [json!({"embed_all": {"tenants": 1, "refused": 0, "missing_before": 1, "embedded": 0,
            "stale": 0, "failed": 0, "cancelled": false}})]
    );
    assert_eq!(nowhere.seen().len(), 1, "nothing else is sent to it");
    let run = world.run(&embed(&["--all-tenants"]));
    assert_eq!((run.code, run.out.as_str()), (9, ""), "nothing was done: {run:?}");
    // With a server that is there, the tenant of another space is passed over.
    let stub = Stub::embedding();
    world.file("http.toml", stub.settings("stub"));
    let run = world.run(&embed(&["--all-tenants"]));
    assert_eq!(
        (run.code, run.out.as_str()),
        (10, "a: 1 embedded\nb: 1 embedded\n3 tenants: 2 embedded\n"),
        "{run:?}"
    );
    let run = world.run(&embed(&["--all-tenants"]));
    assert!(run.out.ends_with("b: nothing was missing\n3 tenants: nothing was embedded\n"));
}

/// A server that stops at its third request until it is let go.
pub(crate) fn stopping() -> (Stub, Arc<AtomicUsize>) {
    stopping_at(3)
}

/// A server that stops at a request until it is let go.
pub(crate) fn stopping_at(request: usize) -> (Stub, Arc<AtomicUsize>) {
    let state = Arc::new(AtomicUsize::new(0));
    let seen = state.clone();
    let stub = Stub::start(move |asked| {
        if seen.fetch_add(1, Ordering::SeqCst) + 1 == request {
            until("the test", || seen.load(Ordering::SeqCst) >= 1_000);
        }
        Reply::vectors(asked, three)
    });
    (stub, state)
}

#[test]
#[cfg(unix)]
fn ctrl_c_finishes_the_step_and_the_next_run_goes_on() {
    let world = World::new();
    fill(&world, 200);
    let (stub, state) = stopping();
    world.file("http.toml", stub.settings("stub"));
    let child = world.start(&embed(&["--batch-size", "10", "--json"]), &[]);
    until("the third request", || state.load(Ordering::SeqCst) == 3);
    crate::world::interrupt(&child);
    state.store(1_000, Ordering::SeqCst);
    let run = wait(child);
    assert_eq!((run.code, run.error()["kind"].as_str()), (130, Some("interrupted")), "{run:?}");
    assert!(run.err.contains("run it again to go on"), "{run:?}");
    let report = &run.lines()[0]["embed"];
    assert_eq!((&report["cancelled"], &report["missing_before"]), (&json!(true), &json!(200)));
    let done = report["embedded"].as_u64().unwrap();
    assert!((10..200).contains(&done), "{done}");
    assert_eq!(world.vectors(), (done, 200 - done));
    assert_eq!(world.object(&embed(&[]))["embed"]["embedded"], 200 - done);
    assert_eq!(world.vectors(), (200, 0));
}

#[test]
#[cfg(unix)]
fn an_interruption_says_one_thing_and_it_is_true() {
    let world = World::new();
    fill(&world, 200);
    let (stub, state) = stopping_at(1);
    world.file("http.toml", stub.settings("stub"));
    let child = world.start(&embed(&["--batch-size", "10"]), &[]);
    until("the first request", || state.load(Ordering::SeqCst) == 1);
    crate::world::interrupt(&child);
    state.store(1_000, Ordering::SeqCst);
    let run = wait(child);
    assert_eq!(run.code, 130, "{run:?}");
    // The signal may take longer than the answer.
    let (done, _) = world.vectors();
    let out = if done == 0 { String::new() } else { format!("default: {done} embedded\n") };
    assert_eq!(run.out, out, "{run:?}");
    let end = format!("interrupted after {done} of 200 memories: run it again to go on");
    assert_eq!(run.err, format!("orchestra-memory: {end}\n"));
    let run = world.run(&embed(&[]));
    assert_eq!((run.code, run.out), (0, format!("default: {} embedded\n", 200 - done)));
}

#[test]
fn a_run_that_is_killed_is_resumed_and_nothing_is_done_twice() {
    let world = World::new();
    fill(&world, 200);
    let (stub, state) = stopping();
    world.file("http.toml", stub.settings("stub"));
    let mut child = world.start(&embed(&["--batch-size", "10"]), &[]);
    // What the first request brought is stored while the third one is waited for.
    until("the third request", || state.load(Ordering::SeqCst) == 3);
    until("the first vectors", || world.vectors().0 >= 10);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "it was killed");
    let (done, missing) = world.vectors();
    assert!((10..200).contains(&done) && done + missing == 200, "{done}");

    let other = Stub::embedding();
    world.file("http.toml", other.settings("stub"));
    let report = world.object(&embed(&["--batch-size", "10"]))["embed"].take();
    assert_eq!(
        (&report["missing_before"], &report["embedded"]),
        (&json!(missing), &json!(missing))
    );
    assert_eq!(world.vectors(), (200, 0));
    let again = other.texts();
    assert_eq!(again.len() as u64, missing, "nothing that had a vector was embedded again");
    assert_eq!(again.iter().collect::<BTreeSet<_>>().len() as u64, missing);
    assert_eq!(world.run(&["doctor"]).code, 0);
    state.store(1_000, Ordering::SeqCst);
}

#[test]
fn a_killed_run_of_the_real_model_is_resumed() {
    let Some(world) = World::with_model() else { return };
    const ALL: u64 = 400;
    fill(&world, usize::try_from(ALL).unwrap());
    // One thread, so that it takes a while.
    world.file("slow.toml", "[embedding]\nprovider = \"minilm\"\nminilm.threads = 1\n");
    let args = ["embed", "--missing", "--batch-size", "4", "--config", "slow.toml"];
    let mut child = world.start(&args, &[]);
    until("the first vectors", || world.vectors().0 > 0);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "it was killed");
    let (done, missing) = world.vectors();
    assert!(done > 0 && done < ALL && done + missing == ALL, "{done}");
    let report = world.object(&["embed", "--missing"])["embed"].take();
    assert_eq!(
        (&report["missing_before"], &report["embedded"]),
        (&json!(missing), &json!(missing))
    );
    assert_eq!(world.vectors(), (ALL, 0));
    assert_eq!(world.ids().len() as u64, ALL, "nothing is lost");
    let checks: Vec<Value> = world.json(&["doctor"]);
    assert_eq!(checks.last().unwrap()["doctor"]["failed"], 0);
}
