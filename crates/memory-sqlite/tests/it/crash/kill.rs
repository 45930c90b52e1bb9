//! A child process under load on a real file is killed; what it had said to be committed is there.
//!
//! The child writes a line before each commit and a line after each acknowledgement; the parent keeps
//! the ledger from those lines.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::ManualClock;
use memory_core::traits::{NoLedger, RecordStore};
use memory_sqlite::{SqliteSettings, SqliteStore};
use serde::{Deserialize, Serialize};

use super::check::check;
use super::load::{Load, Witness};
use super::plan::{Ack, Dice, Fate, Ledger, Planned};
use crate::common::start;

/// Set for the child: the file, the number of the round, and the seed.
const CHILD: &str = "MEMORY_SQLITE_CRASH_CHILD";
/// How often a child is killed; 15 where it is not set.
const TIMES: &str = "MEMORY_SQLITE_CRASH_TIMES";
/// The seed; drawn and printed where it is not set.
const SEED: &str = "MEMORY_SQLITE_CRASH_SEED";
/// Rounds on one file, so that a child also opens what a killed one has left.
const ROUNDS: u64 = 8;
/// What a line of the child begins with, for the test runner writes lines too.
const MARK: &str = "@crash ";

/// A line of the child.
#[derive(Serialize, Deserialize)]
enum Line {
    Begin(u32, Planned),
    Ack(u32, Ack),
    Space,
    Erase(bool),
}

struct Pipe;

impl Pipe {
    fn say(line: &Line) {
        let text = format!("{MARK}{}\n", serde_json::to_string(line).unwrap());
        // One write each, shorter than what a pipe takes whole.
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).expect("the parent reads");
    }
}

impl Witness for Pipe {
    fn begin(&self, writer: u32, planned: &Planned) {
        Self::say(&Line::Begin(writer, planned.clone()));
    }
    fn ack(&self, writer: u32, ack: &Ack) {
        Self::say(&Line::Ack(writer, ack.clone()));
    }
    fn erase(&self, done: bool) {
        Self::say(&Line::Erase(done));
    }
}

fn settings(path: &Path) -> SqliteSettings {
    let settings = SqliteSettings::new(path);
    // Checkpoints happen within a round.
    #[cfg(feature = "fault-vfs")]
    let settings = settings.with_log_pages(50);
    settings
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

/// The child of the test below; does nothing in an ordinary run.
#[test]
fn child_commits_until_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let mut parts = told.splitn(3, ' ');
    let mut part = || parts.next().unwrap();
    let (round, seed): (u64, u64) = (part().parse().unwrap(), part().parse().unwrap());
    let path = Path::new(part());
    runtime().block_on(async {
        let clock = Arc::new(ManualClock::new(start()));
        let store = SqliteStore::open(settings(path), clock.clone(), Arc::new(NoLedger)).unwrap();
        let ledger = Arc::new(Mutex::new(Ledger::of_round(round)));
        let load = Load { store, clock, ledger, witness: Arc::new(Pipe) };
        load.prepare().await.unwrap();
        Pipe::say(&Line::Space);
        load.run(seed).await;
    });
    panic!("the load ended by itself");
}

/// Starts a child, kills it at some moment, and brings the ledger to what it has said.
fn round(path: &Path, round: u64, ledger: &mut Ledger, dice: &mut Dice) {
    ledger.resets.extend(["t0".to_owned(), "t1".to_owned()]);
    let told = format!("{round} {} {}", dice.next(), path.display());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::kill::child_commits_until_killed", "--nocapture"])
        .env(CHILD, told)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (enough, pause) = (dice.below(80), Duration::from_micros(dice.below(3_000)));
    let (mut acks, mut killed) = (0, false);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while out.read_line(&mut line).unwrap() > 0 {
        // The last line may be cut off.
        let whole = line.ends_with('\n').then_some(line.as_str());
        if let Some((_, json)) = whole.and_then(|line| line.split_once(MARK)) {
            match serde_json::from_str(json).unwrap() {
                Line::Begin(writer, planned) => ledger.begin(writer, planned),
                Line::Ack(writer, ack) => {
                    ledger.ack(writer, ack);
                    acks += 1;
                }
                Line::Space => ledger.spaces.extend(["t0".to_owned(), "t1".to_owned()]),
                Line::Erase(false) => ledger.begin_erasure(),
                Line::Erase(true) => ledger.end_erasure(),
            }
        }
        line.clear();
        if acks >= enough && !killed {
            std::thread::sleep(pause);
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "round {round}: the child ended by itself after {acks} commits");
    let open: Vec<u32> = ledger.flying.keys().copied().collect();
    open.into_iter().for_each(|writer| ledger.fail(writer, Fate::Open));
}

#[test]
fn a_killed_process_leaves_every_acknowledged_commit_whole() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let times = number(TIMES).unwrap_or(15);
    let seed = number(SEED).unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}");
    let mut dice = Dice::new(seed);
    let runtime = runtime();
    let mut acknowledged = 0;
    let mut state = None;
    for time in 0..times {
        if time % ROUNDS == 0 {
            state = Some((tempfile::tempdir().unwrap(), Ledger::default()));
        }
        let (folder, ledger) = state.as_mut().unwrap();
        let path = folder.path().join("m.db");
        round(&path, time % ROUNDS, ledger, &mut dice);
        acknowledged += ledger.acked.len();
        runtime.block_on(async {
            let clock = Arc::new(ManualClock::new(start()));
            let store = SqliteStore::open(settings(&path), clock.clone(), Arc::new(NoLedger));
            let store = store.unwrap_or_else(|error| panic!("round {time}, seed {seed}: {error}"));
            let findings = check(&store, &clock, ledger).await.unwrap();
            assert!(findings.is_clean(), "round {time}, seed {seed}: {findings:#?}");
            RecordStore::close(store.as_ref()).await.unwrap();
        });
    }
    println!("crash: {times} times killed, {acknowledged} commits acknowledged, 0 lost, 0 half");
    assert!(acknowledged > 0);
}
