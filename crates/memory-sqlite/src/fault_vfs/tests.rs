//! Tests of the disk: names, locks, shared memory, and SQLite itself upon it.

use rusqlite::{Connection, OpenFlags, ffi};

use super::disk::How;
use super::{Disk, SlowSync};

const PLAIN: How = How { create: true, delete_on_close: false, sync_folder: false };
const LOG: How = How { create: true, delete_on_close: false, sync_folder: true };

fn disk(name: &str) -> Disk {
    Disk::register(&format!("unit-{name}"), 5).unwrap()
}

/// How often a file is there after each of many losses of power at the same place.
fn outlives(disk: &Disk, file: &str, work: impl Fn(&Disk)) -> usize {
    let times = 60;
    (0..times)
        .filter(|_| {
            disk.clear();
            work(disk);
            disk.cut();
            disk.restore();
            disk.contents().contains_key(file)
        })
        .count()
}

#[test]
fn a_name_is_sure_only_once_the_folder_was_synced() {
    let disk = disk("names");
    let made = |disk: &Disk, how| {
        let mut file = disk.state().open(Some("/a"), how).unwrap();
        file.write(b"text", 0).unwrap();
        file.sync().unwrap();
    };
    assert!((1..60).contains(&outlives(&disk, "/a", |disk| made(disk, PLAIN))));
    assert_eq!(outlives(&disk, "/a", |disk| made(disk, LOG)), 60);
    assert_eq!(disk.contents()["/a"], b"text");
    let deleted = |disk: &Disk, sync| {
        made(disk, LOG);
        disk.state().delete("/a", sync).unwrap();
    };
    assert!((1..60).contains(&outlives(&disk, "/a", |disk| deleted(disk, false))));
    assert_eq!(outlives(&disk, "/a", |disk| deleted(disk, true)), 0);
    assert_eq!(disk.state().delete("/a", true), Err(ffi::SQLITE_IOERR_DELETE_NOENT));
}

#[test]
fn after_a_loss_of_power_nothing_answers_and_what_was_open_stays_dead() {
    let disk = disk("dead");
    let mut old = disk.state().open(Some("/a"), LOG).unwrap();
    old.write(b"kept", 0).unwrap();
    old.sync().unwrap();
    // The third from now: the write, the sync, and the write at which it fails.
    disk.cut_after(3);
    old.write(b"also", 4).unwrap();
    old.sync().unwrap();
    assert_eq!(old.write(b"lost", 8), Err(ffi::SQLITE_IOERR));
    assert!(disk.is_off());
    assert_eq!(old.read(&mut [0; 4], 0), Err(ffi::SQLITE_IOERR));
    assert_eq!(old.size(), Err(ffi::SQLITE_IOERR));
    assert_eq!(disk.state().open(Some("/a"), PLAIN).unwrap_err(), ffi::SQLITE_IOERR);
    assert_eq!(disk.state().size("/a"), Err(ffi::SQLITE_IOERR));
    disk.restore();
    assert!(!disk.is_off());
    assert_eq!(old.read(&mut [0; 4], 0), Err(ffi::SQLITE_IOERR));
    let new = disk.state().open(Some("/a"), PLAIN).unwrap();
    let mut bytes = [0; 8];
    new.read(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"keptalso");
    assert_eq!(new.read(&mut [0; 16], 4), Err(ffi::SQLITE_IOERR_SHORT_READ));
}

#[test]
fn the_five_levels_of_a_lock_are_sqlites() {
    let disk = disk("locks");
    let open = || disk.state().open(Some("/a"), PLAIN).unwrap();
    let (one, two, three) = (open(), open(), open());
    one.lock(ffi::SQLITE_LOCK_SHARED).unwrap();
    two.lock(ffi::SQLITE_LOCK_SHARED).unwrap();
    one.lock(ffi::SQLITE_LOCK_RESERVED).unwrap();
    assert!(three.is_reserved().unwrap());
    assert_eq!(two.lock(ffi::SQLITE_LOCK_RESERVED), Err(ffi::SQLITE_BUSY));
    // Readers go on beside a reserved lock, and none begins beside a pending one.
    three.lock(ffi::SQLITE_LOCK_SHARED).unwrap();
    three.unlock(ffi::SQLITE_LOCK_NONE);
    assert_eq!(one.lock(ffi::SQLITE_LOCK_EXCLUSIVE), Err(ffi::SQLITE_BUSY));
    assert_eq!(three.lock(ffi::SQLITE_LOCK_SHARED), Err(ffi::SQLITE_BUSY));
    two.unlock(ffi::SQLITE_LOCK_NONE);
    one.lock(ffi::SQLITE_LOCK_EXCLUSIVE).unwrap();
    one.unlock(ffi::SQLITE_LOCK_SHARED);
    three.lock(ffi::SQLITE_LOCK_SHARED).unwrap();
    // What is closed holds nothing.
    drop((one, two));
    three.lock(ffi::SQLITE_LOCK_EXCLUSIVE).unwrap();
}

#[test]
fn memory_is_shared_by_the_openings_of_a_file_and_ends_with_the_last() {
    let disk = disk("shared");
    let open = |name| disk.state().open(Some(name), PLAIN).unwrap();
    let (mut one, mut two, mut other) = (open("/a"), open("/a"), open("/b"));
    assert_eq!(one.region(0, 32_768, false).unwrap(), None);
    let place = one.region(1, 32_768, true).unwrap().unwrap();
    assert_eq!(two.region(1, 32_768, false).unwrap(), Some(place));
    assert_eq!(other.region(1, 32_768, false).unwrap(), None);

    one.take(0b011, true).unwrap();
    assert_eq!(two.take(0b010, false), Err(ffi::SQLITE_BUSY));
    assert_eq!(two.take(0b110, true), Err(ffi::SQLITE_BUSY));
    two.take(0b100, true).unwrap();
    two.give(0b100);
    one.give(0b011);
    one.take(0b001, false).unwrap();
    two.take(0b001, false).unwrap();
    assert_eq!(one.take(0b001, true), Err(ffi::SQLITE_BUSY));
    drop(one);
    two.give(0b001);
    two.take(0b001, true).unwrap();
    two.unmap();
    assert_eq!(two.region(0, 32_768, false).unwrap(), None);
}

/// SQLite's own promise, with its other journal: a transaction is there whole or not at all, and an
/// acknowledged one is there. That takes `EXTRA`: with `FULL` the deletion of the journal, which is
/// the commit, is not synced.
#[test]
fn a_transaction_under_a_rollback_journal_is_whole_or_not_there() {
    let disk = disk("journal");
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = Connection::open_with_flags_and_vfs("/j.db", flags, disk.name()).unwrap();
        connection.execute_batch("PRAGMA synchronous = EXTRA").unwrap();
        connection
    };
    let sums = |connection: &Connection| -> rusqlite::Result<(i64, i64)> {
        connection.query_row("SELECT count(*), count(DISTINCT round) FROM t", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    };
    let mut cut = 0;
    for point in 1..120 {
        disk.clear();
        let connection = open();
        connection.execute_batch("CREATE TABLE t (round INTEGER, text TEXT)").unwrap();
        disk.cut_after(point);
        let mut acknowledged = 0;
        for round in 0..12 {
            let sql = format!(
                "BEGIN; INSERT INTO t SELECT {round}, hex(randomblob(900)) FROM \
                 (VALUES (1), (2), (3), (4), (5)); COMMIT"
            );
            if connection.execute_batch(&sql).is_err() {
                cut += 1;
                break;
            }
            acknowledged = round + 1;
        }
        drop(connection);
        disk.restore();
        let connection = open();
        let (rows, rounds) = sums(&connection).unwrap();
        assert_eq!(rows, rounds * 5, "point {point}: a transaction is half there");
        assert!(rounds >= acknowledged, "point {point}: {rounds} of {acknowledged}");
        let whole: String =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(whole, "ok", "point {point}");
    }
    assert!(cut > 50, "the power failed {cut} times only");
}

#[test]
fn a_name_is_taken_once_and_free_again_after_its_handle() {
    let first = disk("taken");
    assert!(Disk::register("unit-taken", 1).is_err());
    assert!(SlowSync::register("unit-taken", std::time::Duration::ZERO).is_err());
    assert!(Disk::register("unit\0nul", 1).is_err());
    drop(first);
    disk("taken");
}
