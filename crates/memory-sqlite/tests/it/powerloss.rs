//! Losses of power at random moments under load, over a disk in memory that discards what was not
//! synced; and the same without syncs, which has to lose something.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of it is for tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::traits::{EraseScope, NoLedger, RecordStore, StoreUpkeep};
use memory_core::{ManualClock, UserId};
use memory_sqlite::fault_vfs::{Disk, Fates};
use memory_sqlite::{SqliteSettings, SqliteStore, Synchronous};
use rusqlite::{Connection, OpenFlags};

use crate::common::{erase, item, open_with, put, start, tenant};
use crate::crash::check::{Findings, check};
use crate::crash::load::{Load, Witness};
use crate::crash::plan::{Ack, Dice, Ledger, Planned};

/// How many points of either kind; 60 with syncs and 30 without where it is not set.
const POINTS: &str = "MEMORY_SQLITE_POWERLOSS_POINTS";
/// The seed; drawn and printed where it is not set.
const SEED: &str = "MEMORY_SQLITE_POWERLOSS_SEED";
/// The file on the disk in memory.
const PATH: &str = "/m.db";
/// Losses of power that one store lives through at the most.
const LIVES: u32 = 8;
/// After so many operations the power fails at the latest.
const OPERATIONS: u64 = 1_500;
/// A load that has not met its loss of power by then is stuck.
const STUCK: Duration = Duration::from_secs(120);

/// A witness that keeps nothing: the ledger itself is at hand.
struct Nobody;

impl Witness for Nobody {
    fn begin(&self, _: u32, _: &Planned) {}
    fn ack(&self, _: u32, _: &Ack) {}
    fn erase(&self, _: bool) {}
}

/// What came of all points.
#[derive(Debug, Default)]
struct Totals {
    points: u64,
    acknowledged: u64,
    lost: u64,
    half: u64,
    /// Files that could not be opened or read any more.
    unreadable: u64,
    fates: Fates,
    faults: Vec<String>,
}

fn settings(disk: &Disk, synchronous: Synchronous, log_pages: u32) -> SqliteSettings {
    let mut settings = SqliteSettings::new(PATH).with_vfs(disk.name()).with_log_pages(log_pages);
    settings.synchronous = synchronous;
    settings.readers = 2;
    settings.cache_kib = 256;
    settings.erase_batch = 3;
    settings.busy_timeout_ms = 1_000;
    settings
}

/// Checkpoints of every kind by a connection of its own, until it fails.
fn checkpoints(disk: &str, synchronous: Synchronous, mut dice: Dice, stop: &dyn Fn() -> bool) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(connection) = Connection::open_with_flags_and_vfs(PATH, flags, disk) else { return };
    let _ = connection.busy_timeout(Duration::from_millis(5));
    let sync = if synchronous == Synchronous::Off { "OFF" } else { "FULL" };
    let _ = connection.execute_batch(&format!("PRAGMA synchronous = {sync}"));
    while !stop() {
        let mode =
            ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][usize::try_from(dice.below(4)).unwrap()];
        let _ = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
        std::thread::sleep(Duration::from_micros(dice.below(4_000)));
    }
}

/// One load until the power fails.
async fn load_until_cut(
    disk: &Arc<Disk>,
    settings: SqliteSettings,
    ledger: &Arc<Mutex<Ledger>>,
    dice: &mut Dice,
) {
    let clock = Arc::new(ManualClock::new(start()));
    let synchronous = settings.synchronous;
    // The power may fail already while the store is opened.
    let Ok(store) = SqliteStore::open(settings, clock.clone(), Arc::new(NoLedger)) else {
        disk.cut();
        return;
    };
    let folding = dice.often(60).then(|| {
        let (disk, dice) = (Arc::clone(disk), Dice::new(dice.next()));
        std::thread::spawn(move || {
            checkpoints(disk.name(), synchronous, dice, &|| disk.is_off());
        })
    });
    let load = Load {
        store: Arc::clone(&store),
        clock,
        ledger: Arc::clone(ledger),
        witness: Arc::new(Nobody),
    };
    let ended = tokio::time::timeout(STUCK, load.run(dice.next())).await;
    assert!(ended.is_ok(), "the load is stuck");
    assert!(disk.is_off(), "every writer failed before the power did");
    if let Some(folding) = folding {
        folding.join().unwrap();
    }
    RecordStore::close(store.as_ref()).await.expect("the threads end");
}

async fn run(name: &str, synchronous: Synchronous, lying: bool, points: u64, seed: u64) -> Totals {
    println!("{name}: seed {seed}");
    let disk = Arc::new(Disk::register(&format!("powerloss-{name}"), seed).unwrap());
    disk.lie(lying);
    let mut dice = Dice::new(seed);
    let mut totals = Totals::default();
    let mut ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut lives = 0;
    while totals.points < points {
        if lives == 0 {
            disk.clear();
            ledger = Arc::new(Mutex::new(Ledger::default()));
            lives = 1 + dice.below(u64::from(LIVES));
        }
        lives -= 1;
        // One in four early: while the file is made, or recovered from the loss before.
        let most = if dice.often(25) { 60 } else { OPERATIONS };
        disk.cut_after(1 + dice.below(most));
        let log_pages = 4 + u32::try_from(dice.below(150)).unwrap();
        let settings = settings(&disk, synchronous, log_pages);
        load_until_cut(&disk, settings.clone(), &ledger, &mut dice).await;
        let fates = disk.restore();
        totals.fates.kept += fates.kept;
        totals.fates.dropped += fates.dropped;
        totals.fates.torn += fates.torn;

        totals.points += 1;
        let promised = ledger.lock().unwrap().acked.len() as u64;
        totals.acknowledged += promised;
        let clean = match reopened(settings, &ledger).await {
            Ok(findings) => {
                totals.lost += findings.lost;
                totals.half += findings.half;
                let faults = findings.faults.iter();
                totals
                    .faults
                    .extend(faults.map(|fault| format!("point {}: {fault}", totals.points)));
                findings.is_clean()
            }
            Err(error) => {
                totals.lost += promised;
                totals.unreadable += 1;
                totals.faults.push(format!("point {}: {error}", totals.points));
                false
            }
        };
        if !clean {
            lives = 0;
        }
    }
    println!(
        "powerloss {name}: {} points, {} commits acknowledged, {} lost, {} half, {} unreadable; \
         unsynced changes: {} kept, {} dropped, {} torn",
        totals.points,
        totals.acknowledged,
        totals.lost,
        totals.half,
        totals.unreadable,
        totals.fates.kept,
        totals.fates.dropped,
        totals.fates.torn
    );
    totals
}

async fn reopened(
    settings: SqliteSettings,
    ledger: &Arc<Mutex<Ledger>>,
) -> memory_core::Result<Findings> {
    let clock = Arc::new(ManualClock::new(start()));
    let store = SqliteStore::open(settings, clock.clone(), Arc::new(NoLedger))?;
    // No task has the ledger by now.
    let mut held = std::mem::take(&mut *ledger.lock().unwrap());
    let findings = check(&store, &clock, &mut held).await;
    *ledger.lock().unwrap() = held;
    RecordStore::close(store.as_ref()).await?;
    findings
}

fn points(default: u64) -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number(SEED).unwrap_or_else(|| u64::from(std::process::id()));
    (number(POINTS).unwrap_or(default), seed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_syncs_nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    let (points, seed) = points(60);
    let totals = run("full", Synchronous::Full, false, points, seed).await;
    assert_eq!((totals.lost, totals.half), (0, 0), "seed {seed}: {:#?}", totals.faults);
    assert_eq!(totals.faults, Vec::<String>::new(), "seed {seed}");
    assert!(totals.acknowledged > 0, "seed {seed}: nothing was promised");
    assert!(
        totals.fates.dropped > 0 && totals.fates.torn > 0,
        "seed {seed}: nothing was discarded"
    );
}

/// The positive twin: the same without syncs loses what it has acknowledged, and the check sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_syncs_the_same_check_finds_lost_commits() {
    let (points, seed) = points(30);
    let totals = run("off", Synchronous::Off, false, points, seed).await;
    assert!(totals.acknowledged > 0 && totals.lost > 0, "seed {seed}: {totals:?}");
}

/// Another twin: syncs that are asked for and not done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_lies_the_same_check_finds_lost_commits() {
    let (_, seed) = points(0);
    let totals = run("lying", Synchronous::Full, true, 15, seed).await;
    assert!(totals.lost > 0, "seed {seed}: {totals:?}");
}

/// The files as the loss of power left them, opened as any other file is: also where it came while
/// the file was made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_whose_making_was_cut_off_opens() {
    let (_, seed) = points(0);
    println!("seed {seed}");
    let disk = Arc::new(Disk::register("powerloss-making", seed).unwrap());
    let settings = settings(&disk, Synchronous::Full, 1_000);
    let mut begun = 0;
    for operation in 1..=80 {
        disk.clear();
        disk.cut_after(operation);
        let clock = Arc::new(ManualClock::new(start()));
        if let Ok(store) = SqliteStore::open(settings.clone(), clock, Arc::new(NoLedger)) {
            RecordStore::close(store.as_ref()).await.unwrap();
        }
        disk.restore();
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in disk.contents() {
            std::fs::write(folder.path().join(name.trim_start_matches('/')), bytes).unwrap();
            begun += 1;
        }
        let store = open_with(SqliteSettings::new(folder.path().join("m.db")));
        let store = store.unwrap_or_else(|error| panic!("operation {operation}: {error:?}"));
        assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new(), "{operation}");
        put(&store, &tenant("t"), item("a", "tea")).await.unwrap();
        RecordStore::close(store.as_ref()).await.unwrap();
    }
    assert!(begun > 0, "no file was begun");
}

/// A receipt that says that the bytes are gone holds when the power goes: they are in no file that is
/// left, synced or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_erased_does_not_come_back_with_the_power() {
    let (_, seed) = points(0);
    println!("seed {seed}");
    let disk = Arc::new(Disk::register("powerloss-erasure", seed).unwrap());
    let held = |text: &str| {
        let hold = |bytes: Vec<u8>| bytes.windows(text.len()).any(|at| at == text.as_bytes());
        disk.contents().into_values().any(hold)
    };
    for round in 0..40 {
        disk.clear();
        let settings = settings(&disk, Synchronous::Full, 1_000);
        let clock = Arc::new(ManualClock::new(start()));
        let store = SqliteStore::open(settings.clone(), clock.clone(), Arc::new(NoLedger)).unwrap();
        let context = tenant("t");
        for number in 0..4 {
            let mut other = item(&format!("bob-{number}"), "nothing hidden here");
            other.user_id = Some(UserId::new("bob").unwrap());
            put(&store, &context, other).await.unwrap();
            put(&store, &context, item(&format!("{number}"), "xyzzyplugh")).await.unwrap();
        }
        assert!(held("xyzzyplugh"));
        let scope = EraseScope::User(UserId::new("ada").unwrap());
        let (_, receipt) = erase(&store, &context, &scope).await;
        assert!(receipt.bytes_cleared && !held("xyzzyplugh"));
        disk.cut();
        RecordStore::close(store.as_ref()).await.unwrap();
        disk.restore();
        assert!(!held("xyzzyplugh"), "round {round}, seed {seed}: the text is in the files' bytes");
        assert!(held("nothing hidden here"));
        let store = SqliteStore::open(settings, clock, Arc::new(NoLedger)).unwrap();
        assert_eq!(store.count(&context, &memory_core::Filter::All).await.unwrap(), 4);
        assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new());
        RecordStore::close(store.as_ref()).await.unwrap();
    }
}

/// Rows that are taken out behind the store's back are found missing, view by view.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_sees_what_is_missing_in_each_view() {
    let disk = Arc::new(Disk::register("powerloss-tampered", 1).unwrap());
    let settings = settings(&disk, Synchronous::Full, 1_000);
    let mut found = BTreeMap::new();
    for (view, sql) in [
        ("nothing", "SELECT 1"),
        ("record", "UPDATE item SET metadata = NULL WHERE user_id = 'ada'"),
        ("vectors", "DELETE FROM vector; UPDATE derived SET codes0 = NULL"),
        ("keywords", "DELETE FROM derived; DELETE FROM vector"),
        ("change log", "DELETE FROM change WHERE op = 0"),
    ] {
        disk.clear();
        disk.cut_after(600);
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        load_until_cut(&disk, settings.clone(), &ledger, &mut Dice::new(7)).await;
        disk.restore();
        assert!(!ledger.lock().unwrap().acked.is_empty());
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let other = Connection::open_with_flags_and_vfs(PATH, flags, disk.name()).unwrap();
        other.execute_batch(sql).unwrap();
        drop(other);
        let findings = reopened(settings.clone(), &ledger).await.unwrap();
        let named = findings.faults.iter().any(|fault| fault.contains(view));
        found.insert(view, (findings.is_clean(), named));
    }
    for (view, (clean, named)) in found {
        assert_eq!((clean, named), (view == "nothing", view != "nothing"), "{view}");
    }
}
