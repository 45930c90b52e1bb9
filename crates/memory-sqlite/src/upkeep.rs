//! Numbers, checks and backups.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memory_core::traits::{BackupReport, ChangePosition, StoreStats, TenantStats, VerifyReport};
use memory_core::{CallContext, ContentHash, Error, ErrorKind, Result, Timestamp};
use memory_text::Analyzer;
use rusqlite::{Connection, OpenFlags};

use crate::BACKEND;
use crate::error::{corrupt, map};
use crate::model;
use crate::read::snapshot;
use crate::rows::{self, value};
use crate::vectors::read_spaces;

/// Most faults of one kind that a report names.
const FAULTS: usize = 20;

/// One tenant in numbers.
pub(crate) fn tenant_stats(
    connection: &Connection,
    context: &CallContext,
    now: Timestamp,
) -> Result<TenantStats> {
    snapshot(connection, || {
        let Some(tenant) = rows::tenant_number(connection, &context.tenant)? else {
            return Ok(TenantStats::default());
        };
        let now = now.as_micros();
        let by_kind: BTreeMap<String, i64> = connection
            .prepare_cached(
                "SELECT kind, count(*) FROM item WHERE tenant = ?1 AND visible_until > ?2 \
                 GROUP BY kind",
            )
            .and_then(|mut select| {
                select.query_map([tenant, now], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .map_err(map)?;
        let by_kind: BTreeMap<_, _> =
            by_kind.into_iter().map(|(kind, count)| (kind, count.unsigned_abs())).collect();
        let edge = |sql: &str| -> Result<Option<Timestamp>> {
            value::<i64>(connection, sql, [tenant, now])?
                .map(|micros| Timestamp::from_micros(micros).map_err(|_| corrupt("time")))
                .transpose()
        };
        let count = |sql: &str, values: &[i64]| -> Result<u64> {
            let count: Option<i64> = value(connection, sql, rusqlite::params_from_iter(values))?;
            Ok(count.unwrap_or(0).unsigned_abs())
        };
        let slots = read_spaces(connection, tenant)?;
        let (first, end) = rows::item_range(tenant);
        let embedded = match (&slots.spaces.active, slots.active_slot) {
            (None, _) => 0,
            (Some(_), 0) => count(
                "SELECT count(*) FROM derived WHERE item >= ?1 AND item < ?2 \
                 AND visible_until > ?3 AND codes0 IS NOT NULL",
                &[first, end, now],
            )?,
            (Some(_), _) => count(
                "SELECT count(*) FROM derived WHERE item >= ?1 AND item < ?2 \
                 AND visible_until > ?3 AND codes1 IS NOT NULL",
                &[first, end, now],
            )?,
        };
        Ok(TenantStats {
            items: by_kind.values().sum(),
            by_kind,
            embedded,
            expired: count(
                "SELECT count(*) FROM item WHERE tenant = ?1 AND expires_at IS NOT NULL \
                 AND visible_until <= ?2",
                &[tenant, now],
            )?,
            oldest: edge(
                "SELECT occurred_at FROM item WHERE tenant = ?1 AND visible_until > ?2 \
                 ORDER BY occurred_at LIMIT 1",
            )?,
            newest: edge(
                "SELECT occurred_at FROM item WHERE tenant = ?1 AND visible_until > ?2 \
                 ORDER BY occurred_at DESC LIMIT 1",
            )?,
            head: ChangePosition(rows::head(connection, tenant)?.unsigned_abs()),
        })
    })
}

/// The file in numbers.
pub(crate) fn file_stats(connection: &Connection, path: &Path) -> Result<StoreStats> {
    let mut stats = StoreStats::default();
    let mut put = |name: &str, number: u64| {
        stats.numbers.insert(name.to_owned(), number);
    };
    for name in ["page_count", "page_size", "freelist_count"] {
        let number: i64 =
            connection.pragma_query_value(None, name, |row| row.get(0)).map_err(map)?;
        put(name, number.unsigned_abs());
    }
    for (name, sql) in [
        ("tenants", "SELECT count(*) FROM tenant WHERE listed = 1"),
        ("items", "SELECT count(*) FROM item"),
        ("vectors", "SELECT count(*) FROM vector"),
        ("changes", "SELECT count(*) FROM change"),
        ("tombstones", "SELECT count(*) FROM tombstone"),
    ] {
        let number: i64 = value(connection, sql, [])?.unwrap_or(0);
        put(name, number.unsigned_abs());
    }
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    put("file_bytes", size(path));
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    put("log_bytes", size(Path::new(&log)));
    Ok(stats)
}

/// Checks that the file is whole and agrees with itself.
pub(crate) fn verify(connection: &Connection, analyzer: &Analyzer) -> Result<VerifyReport> {
    snapshot(connection, || {
        let mut report = VerifyReport::default();
        integrity(connection, &mut report)?;
        if report.faults.is_empty() {
            agreement(connection, &mut report)?;
            contents(connection, analyzer, &mut report)?;
        }
        Ok(report)
    })
}

fn integrity(connection: &Connection, report: &mut VerifyReport) -> Result<()> {
    report.checks.push("pages, rows and indexes are whole (integrity_check)".to_owned());
    let lines: rusqlite::Result<Vec<String>> = connection
        .prepare("PRAGMA integrity_check")
        .and_then(|mut check| check.query_map([], |row| row.get(0))?.collect());
    match lines {
        Ok(lines) => {
            report.faults.extend(lines.into_iter().filter(|line| line != "ok").take(FAULTS));
        }
        Err(error) => report.faults.push(map(error).to_string()),
    }
    Ok(())
}

/// Counts that must be zero: rows that one table has and another lacks.
fn agreement(connection: &Connection, report: &mut VerifyReport) -> Result<()> {
    for (what, sql) in [
        (
            "items without their derived row",
            "SELECT count(*) FROM item WHERE item NOT IN (SELECT item FROM derived)",
        ),
        (
            "derived rows without their item",
            "SELECT count(*) FROM derived WHERE item NOT IN (SELECT item FROM item)",
        ),
        (
            "derived rows that expire at another time than their item",
            "SELECT count(*) FROM item i JOIN derived d USING (item) \
             WHERE i.visible_until <> d.visible_until",
        ),
        (
            "derived rows with another id or revision than their item",
            "SELECT count(*) FROM item i JOIN derived d USING (item) \
             WHERE i.id <> d.id OR i.revision <> d.revision",
        ),
        (
            "derived rows with another author, importance or time than their item",
            "SELECT count(*) FROM item i JOIN derived d USING (item) \
             WHERE i.author IS NOT d.author OR i.importance IS NOT d.importance \
             OR i.occurred_at <> d.occurred_at",
        ),
        (
            "vectors without their item",
            "SELECT count(*) FROM vector WHERE key >> 1 NOT IN (SELECT item FROM item)",
        ),
        (
            "int8 vectors without their f32 vector, or the other way round",
            "SELECT count(*) FROM derived d WHERE \
             (d.codes0 IS NULL) = EXISTS (SELECT 1 FROM vector WHERE key = d.item * 2) \
             OR (d.codes1 IS NULL) = EXISTS (SELECT 1 FROM vector WHERE key = d.item * 2 + 1)",
        ),
        (
            "metadata rows without their item",
            "SELECT count(*) FROM metadata WHERE item NOT IN (SELECT item FROM item)",
        ),
        (
            "items of another tenant than their key",
            "SELECT count(*) FROM item WHERE item >> 36 <> tenant \
             OR tenant NOT IN (SELECT tenant FROM tenant)",
        ),
    ] {
        report.checks.push(format!("no {what}"));
        let count: i64 = value(connection, sql, [])?.unwrap_or(0);
        if count > 0 {
            report.faults.push(format!("{count} {what}"));
        }
    }
    Ok(())
}

/// Each item's hash, terms, vectors and conversation against its row.
fn contents(connection: &Connection, analyzer: &Analyzer, report: &mut VerifyReport) -> Result<()> {
    let what = "every item has its hash, its terms, its int8 vectors and its conversation's number";
    report.checks.push(what.to_owned());
    let mut select = connection
        .prepare(
            "SELECT i.item, i.author, i.content, i.content_hash, d.terms, d.codes0, d.codes1, \
             i.user_id, i.agent_id, i.session_id, d.session FROM item i JOIN derived d USING (item)",
        )
        .map_err(map)?;
    let mut found = select.query([]).map_err(map)?;
    let mut faults = Vec::new();
    while let Some(row) = found.next().map_err(map)? {
        let item: i64 = row.get(0).map_err(map)?;
        let author: Option<String> = row.get(1).map_err(map)?;
        let content: String = row.get(2).map_err(map)?;
        let hash: Vec<u8> = row.get(3).map_err(map)?;
        let terms: Vec<u8> = row.get(4).map_err(map)?;
        if ContentHash::of(&content).as_bytes()[..] != hash[..] {
            faults.push(format!("row {item}: the content is not what its hash says"));
        }
        if model::terms_of(analyzer, author.as_deref(), &content) != terms {
            faults.push(format!("row {item}: the terms are not those of the content"));
        }
        let name = |column: usize| row.get::<_, Option<String>>(column).map_err(map);
        let (user, agent, session) = (name(7)?, name(8)?, name(9)?);
        let number = model::session_column(user.as_deref(), agent.as_deref(), session.as_deref());
        if row.get::<_, Option<i64>>(10).map_err(map)? != number {
            faults.push(format!("row {item}: the number is not that of the conversation"));
        }
        for slot in [0_u8, 1] {
            let codes: Option<Vec<u8>> = row.get(5 + usize::from(slot)).map_err(map)?;
            let vector = crate::read::vector(connection, item, slot)?;
            if vector.map(|vector| model::codes_bytes(&vector)) != codes {
                faults.push(format!("row {item}: an int8 vector is not that of its f32 vector"));
            }
        }
        if faults.len() >= FAULTS {
            faults.push("and perhaps more".to_owned());
            break;
        }
    }
    report.faults.extend(faults);
    Ok(())
}

/// Copies the file to a new one, in one snapshot, while others read and write.
///
/// The copy is made under another name, synced, and linked to its place, so that it is whole or
/// not there.
pub(crate) fn backup(connection: &Connection, target: &str) -> Result<BackupReport> {
    let target = crate::open::plain_path(Path::new(target));
    let refuse = |kind, words: &str| Error::new(kind, words).with_backend(BACKEND);
    if target.as_os_str().is_empty() {
        return Err(refuse(ErrorKind::InvalidInput, "a backup needs a path"));
    }
    if std::fs::symlink_metadata(&target).is_ok() {
        return Err(refuse(ErrorKind::AlreadyExists, "something is at the backup's path already"));
    }
    let mut partial = target.as_os_str().to_owned();
    // A name that no other backup has, whatever process or machine it runs on.
    let name: String = connection
        .query_row("SELECT lower(hex(randomblob(8)))", [], |row| row.get(0))
        .map_err(map)?;
    partial.push(format!(".{name}.partial"));
    let partial = PathBuf::from(partial);
    // Created first, so that a folder that is missing or closed is told by the file system.
    std::fs::OpenOptions::new().write(true).create_new(true).open(&partial).map_err(io)?;
    let done = copy_to(connection, &partial).and_then(|bytes| {
        // A link refuses a place that was taken meanwhile, where a rename would not.
        match std::fs::hard_link(&partial, &target) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(refuse(ErrorKind::AlreadyExists, "something is at the backup's path already"))
            }
            // Some file systems have no links.
            Err(_) => std::fs::rename(&partial, &target).map(|()| bytes).map_err(io),
        }
    });
    let _ = std::fs::remove_file(&partial);
    let bytes = done?;
    sync_folder(&target);
    Ok(BackupReport { bytes })
}

fn copy_to(connection: &Connection, partial: &Path) -> Result<u64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(partial, flags).map_err(map)?;
    {
        let backup = rusqlite::backup::Backup::new(connection, &mut copy).map_err(map)?;
        loop {
            // All pages in one step: in one snapshot, without holding up the writer.
            use rusqlite::backup::StepResult;
            match backup.step(-1).map_err(map)? {
                StepResult::Done => break,
                StepResult::More => {}
                _ => {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        "the file is locked by another process",
                    )
                    .with_backend(BACKEND));
                }
            }
        }
    }
    copy.close().map_err(|(_, error)| map(error))?;
    let file = std::fs::File::open(partial).map_err(io)?;
    file.sync_all().map_err(io)?;
    file.metadata().map(|found| found.len()).map_err(io)
}

/// Makes the name survive a loss of power too. Not every system can open a folder; there the file
/// is as safe as it can be made.
fn sync_folder(target: &Path) {
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if let Ok(folder) = std::fs::File::open(folder) {
        let _ = folder.sync_all();
    }
}

fn io(error: std::io::Error) -> Error {
    let (kind, words) = match error.kind() {
        std::io::ErrorKind::NotFound => (ErrorKind::InvalidInput, "the backup's folder is missing"),
        std::io::ErrorKind::PermissionDenied => {
            (ErrorKind::PermissionDenied, "the backup's folder may not be written")
        }
        std::io::ErrorKind::AlreadyExists => {
            (ErrorKind::AlreadyExists, "another backup to the same path is under way")
        }
        std::io::ErrorKind::StorageFull => (ErrorKind::Unavailable, "the disk is full"),
        _ => (ErrorKind::Unavailable, "the backup could not be written"),
    };
    Error::new(kind, words).with_retryable(false).with_backend(BACKEND).with_source(error)
}

/// Whether the file can be read at all: one row of its own.
pub(crate) fn ping(connection: &Connection) -> Result<()> {
    rows::read_counter(connection).map(|_| ())
}

/// The fingerprint of the analyser that the terms were made with; `None` while they are made anew.
pub(crate) fn analyser(connection: &Connection) -> Result<Option<String>> {
    value(connection, "SELECT value FROM meta WHERE key = 'analyser'", [])
}
