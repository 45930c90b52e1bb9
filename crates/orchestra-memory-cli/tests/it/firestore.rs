//! The program over Cloud Firestore: on an emulator, and what needs none.
//!
//! `FIRESTORE_EMULATOR_HOST` names the emulator. Where there is none, `ORCHESTRA_FIRESTORE=absent`
//! says so, and the tests that need one are skipped, aloud; in CI that is a failure.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::world::{Run, World};

const HOST: &str = "FIRESTORE_EMULATOR_HOST";
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/conversation.jsonl");
const ALONE: &str = "searched by meaning alone: this store has no keyword index";

/// The address of the emulator, or a loud word that the test is skipped.
fn emulator() -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(host) = set(HOST) {
        return Some(host);
    }
    assert!(
        set("ORCHESTRA_FIRESTORE").as_deref() == Some("absent"),
        "no emulator: start one with `cargo xtask servers up` and set {HOST}, or say \
         ORCHESTRA_FIRESTORE=absent"
    );
    assert!(set("CI").is_none(), "{HOST} must be set in CI");
    eprintln!("SKIPPED: ORCHESTRA_FIRESTORE=absent; a test that needs the emulator was not run");
    None
}

/// A world with a project of its own on the emulator.
struct Cloud {
    world: World,
    store: String,
    host: String,
}

impl Cloud {
    fn new() -> Option<Self> {
        Self::over(World::new())
    }

    fn over(world: World) -> Option<Self> {
        let host = emulator()?;
        // The folder's name is random, and a project's has lower-case letters and digits.
        let folder = world.path("x").parent()?.file_name()?.to_str()?.to_lowercase();
        let unique: String = folder.chars().filter(char::is_ascii_alphanumeric).collect();
        let store = format!("firestore://cli-{unique}-{}?prefix=it_", std::process::id());
        Some(Self { world, store, host })
    }

    fn run(&self, args: &[&str]) -> Run {
        let args = [&["--store", &self.store], args].concat();
        self.world.run_in(&args, &[(HOST, &self.host)])
    }

    /// With `--json`, every line of a run that succeeds.
    fn json(&self, args: &[&str]) -> Vec<Value> {
        let run = self.run(&[&["--json"], args].concat());
        assert_eq!(run.code, 0, "{args:?}: {run:?}");
        run.lines()
    }

    fn object(&self, args: &[&str]) -> Value {
        let mut lines = self.json(args);
        assert_eq!(lines.len(), 1, "{args:?}: {lines:?}");
        lines.remove(0)
    }

    fn error(&self, args: &[&str], code: i32) -> Value {
        let run = self.run(&[&["--json"], args].concat());
        assert_eq!(run.code, code, "{args:?}: {run:?}");
        run.error()
    }
}

/// What is not the prefix of any operation of another back end.
fn is_billed(usage: &Value) -> bool {
    let operations = usage["operations"].as_object().unwrap();
    !operations.is_empty() && operations.keys().all(|name| name.starts_with("firestore."))
}

#[test]
fn the_sample_goes_in_is_found_by_meaning_and_is_erased() {
    let Some(world) = World::with_model() else { return };
    let Some(cloud) = Cloud::over(world) else { return };
    let lines = fs::read_to_string(SAMPLE).unwrap().lines().count();
    let run = cloud.run(&["--json", "--usage", "import", SAMPLE]);
    assert_eq!(run.code, 0, "{run:?}");
    let report = &run.lines()[0]["import"];
    assert_eq!((&report["added"], &report["bad"]), (&lines.into(), &0.into()));
    assert_eq!(report["without_vector"], 0);
    let usage: Value = serde_json::from_str(run.err.trim()).unwrap();
    assert!(is_billed(&usage["usage"]), "{usage}");
    let writes = usage["usage"]["total"]["writes"].as_u64().unwrap();
    assert!((lines as u64..lines as u64 + 10).contains(&writes), "{usage}");
    assert_eq!(usage["usage"]["estimate"]["currency"], "USD");
    let again = cloud.object(&["import", SAMPLE]);
    assert_eq!(again["import"]["unchanged"], lines);

    let answer = cloud.object(&["search", "Where do they live now?", "--limit", "5", "--explain"]);
    assert_eq!(answer["arms_used"], serde_json::json!(["vector"]));
    assert!(answer["notes"].as_array().unwrap().contains(&ALONE.into()), "{answer}");
    let hits = answer["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 5);
    assert!(hits.iter().all(|hit| hit["explanation"]["arms"][0]["arm"] == "vector"));
    let run = cloud.run(&["search", "Where do they live now?", "--limit", "1", "--usage"]);
    assert!(run.out.contains(&format!("note: {ALONE}")), "{run:?}");
    assert!(run.err.contains("firestore.") && run.err.contains("estimate"), "{run:?}");

    let stats = cloud.object(&["stats"]);
    assert_eq!(stats["tenant_stats"]["items"], lines);
    assert_eq!(stats["tenant_stats"]["embedded"], lines);
    assert!(is_billed(&stats["usage"]) && stats["usage"]["total"]["writes"] == 0, "{stats}");
    assert!(stats["usage"]["estimate"]["amount"].as_f64().unwrap() > 0.0);
    let run = cloud.run(&["stats"]);
    assert!(
        run.out.contains("what these numbers cost") && run.out.contains("prices of"),
        "{run:?}"
    );

    let erased = cloud.object(&["erase", "--all-of-tenant", "--yes"]);
    assert_eq!(erased["erased"], lines);
    assert_eq!(cloud.object(&["stats"])["tenant_stats"]["items"], 0);
    let back = cloud.object(&["import", SAMPLE]);
    assert_eq!(back["import"]["erased"], lines, "what was erased stays erased");
}

#[test]
fn every_command_works_without_a_model() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.world.settings("[embedding]\nprovider = \"none\"\n");
    let add = |id: &str, vector: &str| {
        cloud.object(&["add", id, "--user", "ada", "--id", id, "--embedding", vector])
    };
    assert_eq!(add("tea", "[1,0]")["outcome"], "added");
    assert_eq!(add("rain", "[0,1]")["vector"], "supplied");
    assert_eq!(
        cloud.error(&["add", "x", "--user", "u", "--id", "tea"], 4)["kind"],
        "already_exists"
    );
    let found = cloud.object(&["search", "--vector", "[1,0.1]"]);
    assert_eq!(found["hits"][0]["id"], "tea");
    let error = cloud.error(&["search", "warm drinks"], 8);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("configure an embedder") && message.contains("keyword"), "{message}");
    assert_eq!(cloud.error(&["search", "warm", "--arm", "keyword"], 8)["kind"], "unsupported");
    assert_eq!(cloud.json(&["get", "tea", "rain"]).len(), 2);
    assert_eq!(cloud.object(&["update", "tea", "--importance", "0.5"])["vector"], "kept");
    let listed: BTreeSet<String> = cloud
        .json(&["list", "--user", "ada"])
        .iter()
        .filter_map(|line| line["id"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(listed, BTreeSet::from(["tea".to_owned(), "rain".to_owned()]));
    let run = cloud.run(&["export", "--with-vectors"]);
    assert_eq!((run.code, run.out.lines().count()), (0, 2), "{run:?}");
    assert!(run.out.contains("embedding"), "{run:?}");
    let gone = ["add", "gone", "--user", "ada", "--id", "gone", "--expires-at", "-1h"];
    assert_eq!(cloud.object(&gone)["outcome"], "added");
    assert_eq!(cloud.object(&["purge"])["purged"], 1);
    assert_eq!(cloud.object(&["delete", "rain"])["deleted"], true);
    assert_eq!(cloud.error(&["backup", "copy"], 8)["kind"], "unsupported");
    let erased = cloud.run(&["erase", "--user", "ada", "--yes"]);
    assert!(erased.code == 0 && erased.out.contains("the service's to say"), "{erased:?}");
    assert_eq!(cloud.object(&["stats"])["tenant_stats"]["items"], 0);
}

#[test]
fn a_budget_that_is_spent_stops_an_import_and_is_named() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.world.settings("[embedding]\nprovider = \"none\"\n[cost]\ndaily_writes = 40\n");
    let error = cloud.error(&["import", SAMPLE, "--batch-size", "10"], 6);
    assert_eq!((&error["kind"], &error["retryable"]), (&"rate_limited".into(), &false.into()));
    assert!(error["message"].as_str().unwrap().contains("cost.daily_writes"), "{error}");
    assert!(error["retry_after_ms"].as_u64().unwrap() <= 24 * 3_600 * 1_000);
    // Each process has a budget of its own, and what went in is there.
    let stored = cloud.object(&["stats"])["tenant_stats"]["items"].as_u64().unwrap();
    assert!((30..60).contains(&stored), "{stored}");
}

#[test]
fn doctor_passes_on_an_emulator_and_says_what_it_asked() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.world.settings("[embedding]\nprovider = \"none\"\n");
    cloud.object(&["add", "tea", "--user", "u", "--embedding", "[1,2]"]);
    let checks = cloud.json(&["doctor"]);
    let detail = |name: &str| {
        let check = checks.iter().find(|check| check["check"] == name);
        let check = check.unwrap_or_else(|| panic!("no check {name}: {checks:?}"));
        assert_eq!(check["status"], "ok", "{check}");
        check["detail"].as_str().unwrap().to_owned()
    };
    assert!(detail("firestore").contains(&cloud.host) && detail("firestore").contains("it_"));
    assert!(detail("credentials").contains("emulator"));
    assert!(detail("store").contains("firestore://"));
    assert!(detail("analyser").contains("no keyword index"));
    assert!(detail("verify").contains("--verify"), "it would read everything");
    let all = cloud.json(&["doctor", "--verify"]);
    let mut verified = all.iter().filter(|check| check["check"] == "verify").peekable();
    assert!(verified.peek().is_some(), "{all:?}");
    assert!(verified.all(|check| !check["detail"].as_str().unwrap().contains("left out")));
    for name in ["settings", "embedding", "schema", "health", "tenant", "vectors"] {
        detail(name);
    }
    assert_eq!(checks.last().unwrap()["doctor"]["failed"], 0);
}

#[test]
fn an_emulator_that_is_not_there_is_unavailable() {
    let world = World::new();
    world.settings("[embedding]\nprovider = \"none\"\n");
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = format!("firestore://p?emulator={free}");
    let error = world.error(&["--store", &store, "list"], 6);
    assert_eq!((&error["kind"], &error["backend"]), (&"unavailable".into(), &"firestore".into()));
    let run = world.run(&["--store", &store, "doctor", "--json"]);
    assert_eq!(run.code, 6, "{run:?}");
    let lines = run.lines();
    let failed: Vec<_> = lines.iter().filter(|line| line["status"] == "failed").collect();
    assert!(!failed.is_empty());
    assert!(failed.iter().all(|check| check["advice"].as_str().unwrap().contains("emulator")));
}

#[test]
fn credentials_that_are_not_there_are_an_error_and_nothing_is_asked_in_their_place() {
    let world = World::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // No metadata server there either.
    let variables = [("GCE_METADATA_HOST", free.to_string())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let run = world.run_in(&["--json", "--store", "firestore://p", "list"], &variables);
    assert_eq!(run.code, 9, "{run:?}");
    let error = run.error();
    assert_eq!(error["kind"], "config");
    assert!(
        error["message"].as_str().unwrap().contains("GOOGLE_APPLICATION_CREDENTIALS"),
        "{error}"
    );
    let run = world.run_in(&["--json", "--store", "firestore://p", "doctor"], &variables);
    assert_eq!(run.code, 9, "{run:?}");
    let lines = run.lines();
    let check = lines.iter().find(|line| line["check"] == "credentials").unwrap();
    assert_eq!(check["status"], "failed");
}

#[test]
fn a_url_that_contradicts_the_settings_is_refused() {
    let world = World::new();
    world.settings("[firestore]\nproject = \"one\"\n");
    let error = world.error(&["--store", "firestore://two", "list"], 9);
    assert!(error["message"].as_str().unwrap().contains("the project stands"), "{error}");
    let error = world.error(&["--store", "firestore://one?colour=red", "list"], 9);
    assert!(error["message"].as_str().unwrap().contains("emulator"), "known ones: {error}");
}

#[test]
fn the_emulators_variable_is_nothing_to_another_store() {
    let world = World::new();
    world.object(&["add", "kept", "--user", "ada"]);
    let run = world.run_in(&["doctor"], &[(HOST, "http://no address")]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!run.out.contains(HOST), "{run:?}");
    let cloud = ["--store", "firestore://p", "stats", "--json"];
    let run = world.run_in(&cloud, &[(HOST, "http://no address")]);
    assert_eq!(run.code, 9, "{run:?}");
    assert!(run.error()["message"].as_str().unwrap().contains("HOST:PORT"), "{run:?}");
}

#[test]
fn a_key_that_is_declared_later_is_given_to_the_memories() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.world.file("new.toml", "[firestore]\nfilter_keys = { topic = \"text\" }\n");
    for text in ["one", "two"] {
        cloud.json(&["add", text, "--user", "ada"]);
    }
    let error = cloud.error(&["list", "--config", "new.toml"], 9);
    assert!(error["message"].as_str().unwrap().contains("topic"), "{error}");
    let declare = ["setup", "firestore", "--declare-keys", "--config", "new.toml"];
    for rewritten in [2, 0] {
        assert_eq!(cloud.object(&declare)["setup"]["rewritten"], rewritten);
    }
    let listed = cloud.json(&["list", "--config", "new.toml"]);
    assert_eq!(listed.iter().filter(|line| line["content"].is_string()).count(), 2, "{listed:?}");
}

#[test]
fn doctor_says_that_nothing_is_found_without_vectors() {
    let Some(cloud) = Cloud::new() else { return };
    let vectors = || {
        let checks = cloud.json(&["doctor"]);
        checks.into_iter().find(|check| check["check"] == "vectors").unwrap()
    };
    assert_eq!(vectors()["status"], "ok");
    cloud.json(&["add", "one", "--user", "ada"]);
    let check = vectors();
    assert_eq!(check["status"], "warning", "{check}");
    assert!(check["advice"].as_str().unwrap().contains("[embedding]"), "{check}");
}

#[test]
fn setup_prints_the_indexes_without_a_network() {
    let world = World::new();
    let setup = |args: &[&str]| {
        let all = ["setup", "firestore", "--store", "firestore://p/d?prefix=x_"];
        let run = world.run(&[&all, args].concat());
        assert_eq!(run.code, 0, "{run:?}");
        run
    };
    let run = setup(&["--format", "json"]);
    let file: Value = serde_json::from_str(&run.out).unwrap();
    let text = file.to_string();
    assert!(text.contains("x_memories") && text.contains("\"dimension\":384"), "{text}");
    assert!(!file["indexes"].as_array().unwrap().is_empty());
    assert!(!file["fieldOverrides"].as_array().unwrap().is_empty());
    assert!(run.err.contains("384/cosine/all-MiniLM-L6-v2"), "{run:?}");
    let run = setup(&["--format", "gcloud", "--quiet"]);
    assert!(run.err.is_empty() && run.out.lines().count() > 1, "{run:?}");
    assert!(run.out.lines().all(|line| line.starts_with("gcloud ")), "{run:?}");
    assert!(run.out.contains("p") && run.out.contains("database=d"), "{run:?}");
    let both = ["--json", "--space", "768/dot/some-model@1"];
    let report = &setup(&both).lines()[0]["setup"];
    assert_eq!(report["spaces"].as_array().unwrap().len(), 2);
    assert_eq!((&report["project"], &report["database"]), (&"p".into(), &"d".into()));
    assert!(report["indexes"].to_string().contains("\"dimension\":768"), "{report}");
    let commands = report["gcloud"].as_array().unwrap();
    assert!(commands.iter().all(|line| line.as_str().unwrap().starts_with("gcloud ")));
    let error =
        world.error(&["setup", "firestore", "--store", "firestore://p", "--space", "768"], 2);
    assert!(error["message"].as_str().unwrap().contains("DIMENSIONS/METRIC"), "{error}");
    for args in [&[][..], &["--format", "gcloud"], &["--declare-keys"]] {
        let error = world.error(&[&["setup", "firestore"], args].concat(), 9);
        assert!(error["message"].as_str().unwrap().contains("name the project"), "{error}");
    }
    assert_eq!(world.run(&["setup", "firestore", "--format", "json"]).code, 0);
    let wide = ["setup", "firestore", "--store", "firestore://p", "--space", "4096/cosine/m@1"];
    assert!(world.error(&wide, 9)["message"].as_str().unwrap().contains("2048"));
}
