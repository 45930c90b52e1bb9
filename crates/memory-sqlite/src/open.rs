//! Opening a file: what is refused, the pragmas of each connection, and the first rows.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memory_core::{Error, ErrorKind, Result};
use memory_text::Analyzer;
use rusqlite::{Connection, OpenFlags, params};

use crate::BACKEND;
use crate::error::map;
use crate::schema;
use crate::settings::{SqliteSettings, Synchronous};
use crate::{model, rows, upkeep};

/// The first bytes of every SQLite file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Prepared statements kept for each connection: more than this crate has, for filters vary.
const STATEMENTS: usize = 128;
/// Items whose terms are made anew in one transaction when the analyser changed.
const REBUILD_BATCH: i64 = 2_000;

/// Opens the connection that writes, bringing the file up to date.
///
/// # Errors
/// `NotFound`: read-only and no file, or no folder. `Config`: another program's database.
/// `Corrupt`: no database. `Unsupported`: a newer schema. `PermissionDenied`, `Unavailable`: as
/// the file system says.
pub(crate) fn writer(settings: &SqliteSettings, analyzer: &Analyzer) -> Result<Connection> {
    if settings.is_in_memory() {
        let connection = Connection::open_in_memory().map_err(map)?;
        pragmas(&connection, settings, true)?;
        schema::migrate(&connection)?;
        first_rows(&connection, analyzer)?;
        return Ok(connection);
    }
    check_file(settings)?;
    let connection = connect(settings, settings.read_only)?;
    // Before the pragmas, the first of which writes into the file's header.
    schema::check_owner(&connection)?;
    pragmas(&connection, settings, settings.read_only)?;
    if settings.read_only {
        if schema::user_version(&connection)? != i64::from(schema::SCHEMA_VERSION) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the file has an older schema and is opened read-only: open it for writing once",
            )
            .with_backend(BACKEND));
        }
        if upkeep::analyser(&connection)?.as_ref() != Some(&analyzer.fingerprint()) {
            return Err(Error::new(
                ErrorKind::Config,
                "the file's keyword terms are of another language, and it is opened read-only",
            )
            .with_backend(BACKEND));
        }
        return Ok(connection);
    }
    schema::migrate(&connection)?;
    first_rows(&connection, analyzer)?;
    Ok(connection)
}

/// Opens a connection that reads an existing, checked file.
///
/// # Errors
/// As the file system says.
pub(crate) fn reader(settings: &SqliteSettings) -> Result<Connection> {
    let connection = connect(settings, settings.read_only)?;
    pragmas(&connection, settings, settings.read_only)?;
    connection.pragma_update(None, "query_only", true).map_err(map)?;
    Ok(connection)
}

fn connect(settings: &SqliteSettings, read_only: bool) -> Result<Connection> {
    let access = if read_only {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
    };
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = open_path(settings, flags).map_err(map)?;
    connection
        .busy_timeout(Duration::from_millis(u64::from(settings.busy_timeout_ms)))
        .map_err(map)?;
    Ok(connection)
}

#[cfg(not(feature = "fault-vfs"))]
fn open_path(settings: &SqliteSettings, flags: OpenFlags) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(plain_path(&settings.path), flags)
}

#[cfg(feature = "fault-vfs")]
fn open_path(settings: &SqliteSettings, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let path = plain_path(&settings.path);
    match &settings.vfs {
        Some(name) => Connection::open_with_flags_and_vfs(path, flags, name.as_str()),
        None => Connection::open_with_flags(path, flags),
    }
}

/// A path that is never read as a URI, which SQLite as it is built here does with one that begins so.
pub(crate) fn plain_path(path: &Path) -> PathBuf {
    if path.as_os_str().as_encoded_bytes().starts_with(b"file:") {
        Path::new(".").join(path)
    } else {
        path.to_owned()
    }
}

fn pragmas(connection: &Connection, settings: &SqliteSettings, plain: bool) -> Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let set = |name: &str, value: &dyn rusqlite::ToSql| {
        connection.pragma_update(None, name, value).map_err(map)
    };
    if !plain {
        let mode = write_ahead(connection, settings.busy_timeout_ms)?;
        if mode != "wal" {
            return Err(Error::unsupported("the file system does not allow write-ahead logging")
                .with_backend(BACKEND));
        }
        set(
            "synchronous",
            &match settings.synchronous {
                Synchronous::Full => "FULL",
                Synchronous::Normal => "NORMAL",
                Synchronous::Off => "OFF",
            },
        )?;
    }
    #[cfg(feature = "fault-vfs")]
    if let Some(pages) = settings.log_pages {
        // It answers with a row, which an update of a pragma does not take.
        let sql = format!("PRAGMA wal_autocheckpoint = {pages}");
        connection.query_row(&sql, [], |_| Ok(())).map_err(map)?;
    }
    set("cache_size", &-i64::from(settings.cache_kib))?;
    // What is deleted is overwritten with zeroes, so that an erasure reaches the file's bytes.
    connection
        .query_row("PRAGMA secure_delete = ON", [], |row| row.get::<_, i64>(0))
        .map_err(map)?;
    set("temp_store", &"MEMORY")?;
    // A schema from a stranger's file must not call functions, nor defeat the checks of pages.
    set("trusted_schema", &false)?;
    set("cell_size_check", &true)?;
    if settings.max_bytes > 0 {
        let page: u64 = connection
            .pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))
            .map_err(map)?
            .unsigned_abs();
        let pages = i64::try_from((settings.max_bytes / page.max(1)).max(1)).unwrap_or(i64::MAX);
        connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))
            .map_err(map)?;
    }
    Ok(())
}

/// How long to wait between two attempts at a lock that SQLite itself does not wait for.
const LOCK_PAUSE_MS: u32 = 10;

/// Turns the write-ahead log on, and gives the mode in force: a file system without shared memory
/// refuses it. SQLite does not wait for the lock that the change of a new file's mode needs, so this
/// does.
fn write_ahead(connection: &Connection, busy_timeout_ms: u32) -> Result<String> {
    let mut left = busy_timeout_ms / LOCK_PAUSE_MS;
    loop {
        let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
        match mode {
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if failure.code == rusqlite::ErrorCode::DatabaseBusy && left > 0 =>
            {
                left -= 1;
                std::thread::sleep(Duration::from_millis(u64::from(LOCK_PAUSE_MS)));
            }
            other => return other.map_err(map),
        }
    }
}

/// Looks at the file before SQLite does, for messages that say what is wrong.
fn check_file(settings: &SqliteSettings) -> Result<()> {
    // The files of another file system are not the system's to look at.
    #[cfg(feature = "fault-vfs")]
    if settings.vfs.is_some() {
        return Ok(());
    }
    let path: &Path = &settings.path;
    let refuse = |kind, words: &str| {
        Err(Error::new(kind, words).with_backend(BACKEND).with_operation("open"))
    };
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => refuse(ErrorKind::Config, "the path is a folder"),
        Ok(found) if found.len() == 0 => Ok(()),
        Ok(_) => {
            let mut head = [0_u8; 16];
            let file = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
            match file {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    refuse(ErrorKind::PermissionDenied, "the file may not be read")
                }
                Ok(()) if head == *MAGIC => Ok(()),
                // The power may have failed while the file was made: its journal was left, and SQLite
                // rolls it back, or says that it is no database.
                Ok(()) if journal_of(path).exists() => Ok(()),
                _ => refuse(ErrorKind::Corrupt, "the file is not a database"),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if settings.read_only {
                refuse(ErrorKind::NotFound, "there is no such file")
            } else if folder.is_some_and(|folder| !folder.is_dir()) {
                refuse(ErrorKind::NotFound, "the folder of the file does not exist")
            } else {
                Ok(())
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            refuse(ErrorKind::PermissionDenied, "the file's folder may not be read")
        }
        Err(error) => Err(Error::new(ErrorKind::Config, "the path names no file")
            .with_backend(BACKEND)
            .with_operation("open")
            .with_source(error)),
    }
}

/// The rollback journal of a file, which it has only until it is switched to a write-ahead log.
fn journal_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-journal");
    PathBuf::from(name)
}

/// Writes the store's own rows once, and makes the terms anew where the analyser changed.
fn first_rows(connection: &Connection, analyzer: &Analyzer) -> Result<()> {
    // Looked for first: an insert, even of nothing, waits for the write lock of another process,
    // and whoever only reads need not.
    let there: i64 = connection
        .query_row("SELECT count(*) FROM meta WHERE key IN ('store_key', 'counter')", [], |row| {
            row.get(0)
        })
        .map_err(map)?;
    if there < 2 {
        connection
            .execute_batch(
                "INSERT OR IGNORE INTO meta VALUES ('store_key', randomblob(32));
                 INSERT OR IGNORE INTO meta VALUES ('counter', 0);",
            )
            .map_err(map)?;
    }
    if upkeep::analyser(connection)?.as_ref() != Some(&analyzer.fingerprint()) {
        rebuild_terms(connection, analyzer)?;
    }
    Ok(())
}

/// Makes every row's terms anew, some thousand to a transaction. While it goes on the file names no
/// analyser, so that it is begun again, by whichever language, where it was cut off.
fn rebuild_terms(connection: &Connection, analyzer: &Analyzer) -> Result<()> {
    let mut after = -1_i64;
    loop {
        connection.execute_batch("BEGIN IMMEDIATE").map_err(map)?;
        let batch = (|| {
            let mut last = None;
            connection.execute("DELETE FROM meta WHERE key = 'analyser'", []).map_err(map)?;
            let mut select = connection
                .prepare_cached(
                    "SELECT item, author, content FROM item WHERE item > ?1 ORDER BY item LIMIT ?2",
                )
                .map_err(map)?;
            let mut found = select.query(params![after, REBUILD_BATCH]).map_err(map)?;
            while let Some(row) = found.next().map_err(map)? {
                let item: i64 = row.get(0).map_err(map)?;
                let author: Option<String> = row.get(1).map_err(map)?;
                let content: String = row.get(2).map_err(map)?;
                let terms = model::terms_of(analyzer, author.as_deref(), &content);
                connection
                    .prepare_cached("UPDATE derived SET terms = ?2 WHERE item = ?1")
                    .and_then(|mut update| update.execute(params![item, terms]))
                    .map_err(map)?;
                last = Some(item);
            }
            drop(found);
            drop(select);
            if last.is_none() {
                rows::reset_every_log(connection)?;
                let named = params![analyzer.fingerprint()];
                connection
                    .execute("INSERT INTO meta VALUES ('analyser', ?1)", named)
                    .map_err(map)?;
            }
            connection.execute_batch("COMMIT").map_err(map)?;
            Ok(last)
        })();
        match batch {
            Ok(Some(last)) => after = last,
            Ok(None) => return Ok(()),
            Err(error) => {
                let _ = connection.execute_batch("ROLLBACK");
                return Err(error);
            }
        }
    }
}
