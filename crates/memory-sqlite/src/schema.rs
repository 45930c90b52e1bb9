//! The tables, their version, and the way from one version to the next.

use memory_core::{Error, ErrorKind, Result};
use rusqlite::Connection;
use rusqlite::types::ToSqlOutput;

use crate::BACKEND;
use crate::error::map;
use crate::model;

/// The version of the stored shape that this build writes.
pub const SCHEMA_VERSION: u32 = 2;

/// "OMem" in the file's header: tells an Orchestra Memory file from any other database.
pub(crate) const APPLICATION_ID: i32 = 0x4F4D_656D;

/// How far a tenant's items reach: an item's key is `tenant * 2^36 + n`, with `n` of the store's
/// counter, so that the rows of one tenant lie together in every table, a range of keys is a
/// tenant, and no key is used twice. 2^36 changes and 2^26 tenants in the life of a file; twice
/// such a key, for the vectors, still fits 63 bits.
pub(crate) const ITEMS_PER_TENANT: i64 = 1 << 36;
/// The most tenants in the life of a file.
pub(crate) const MOST_TENANTS: i64 = 1 << 26;

/// One step from a version to the next.
type Migration = fn(&Connection) -> rusqlite::Result<()>;

/// `MIGRATIONS[n]` makes version `n + 1` out of version `n`; version 0 is an empty file.
const MIGRATIONS: &[Migration] = &[create_v1, surround_v2];

fn create_v1(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(include_str!("schema_v1.sql"))
}

/// Writes the narrow rows anew, each with what surrounds its item. Row by row and in the order of the
/// keys: what does not fit the page cache goes to the log, and the new rows lie in one run. A row of
/// `derived` that has no item, which no file that is whole has, is left out.
fn surround_v2(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("ALTER TABLE derived RENAME TO derived_v1")?;
    connection.execute_batch(include_str!("schema_v2.sql"))?;
    let mut select = connection.prepare(
        "SELECT d.item, d.id, d.revision, d.visible_until, i.session_id, i.author, i.importance, \
         i.occurred_at, d.terms, d.codes0, d.codes1, i.user_id, i.agent_id \
         FROM derived_v1 d CROSS JOIN item i ON i.item = d.item ORDER BY d.item",
    )?;
    let mut insert = connection
        .prepare("INSERT INTO derived VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        let name =
            |column: usize| row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from);
        for column in 0..11 {
            let value = match column {
                4 => {
                    let number = model::session_column(name(11)?, name(12)?, name(4)?);
                    ToSqlOutput::Owned(number.into())
                }
                _ => ToSqlOutput::Borrowed(row.get_ref(column)?),
            };
            insert.raw_bind_parameter(column + 1, value)?;
        }
        insert.raw_execute()?;
    }
    drop(found);
    drop(select);
    // Emptied first: a drop keeps a copy in memory of each page that it frees, until it ends.
    connection.execute_batch("DELETE FROM derived_v1; DROP TABLE derived_v1")
}

/// Brings a file up to this build's version, each step in one transaction with its number.
///
/// # Errors
/// `Unsupported`: the file is newer. Whatever SQLite says.
pub(crate) fn migrate(connection: &Connection) -> Result<()> {
    migrate_with(connection, MIGRATIONS)
}

fn migrate_with(connection: &Connection, migrations: &[Migration]) -> Result<()> {
    loop {
        let version = user_version(connection)?;
        let newest = migrations.len();
        let Ok(at) = usize::try_from(version) else {
            return Err(newer(version, newest));
        };
        if at > newest {
            return Err(newer(version, newest));
        }
        if at == newest {
            return Ok(());
        }
        connection.execute_batch("BEGIN IMMEDIATE").map_err(map)?;
        // Another process may have taken the step while this one waited for the lock.
        let step = (|| {
            if user_version(connection)? == version {
                migrations[at](connection).map_err(map)?;
                connection.pragma_update(None, "user_version", version + 1).map_err(map)?;
                connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(map)?;
            }
            connection.execute_batch("COMMIT").map_err(map)
        })();
        if let Err(error) = step {
            // The rollback can fail only where SQLite has rolled back already.
            let _ = connection.execute_batch("ROLLBACK");
            return Err(error);
        }
    }
}

fn newer(version: i64, newest: usize) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("the file has schema version {version}; this program knows up to {newest}: use a newer program"),
    )
    .with_backend(BACKEND)
    .with_operation("open")
}

/// The version in the file's header.
///
/// # Errors
/// Whatever SQLite says.
pub(crate) fn user_version(connection: &Connection) -> Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(map)
}

/// Refuses a database that is not one of ours.
///
/// # Errors
/// `Config`: another program's database. `Unsupported`: a newer version.
pub(crate) fn check_owner(connection: &Connection) -> Result<()> {
    // The tables first: whoever makes the file meanwhile commits them together with the id.
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(map)?;
    let id: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(map)?;
    if tables > 0 && id != APPLICATION_ID {
        return Err(Error::new(ErrorKind::Config, "the file is another program's database")
            .with_backend(BACKEND)
            .with_operation("open"));
    }
    let version = user_version(connection)?;
    if version > i64::from(SCHEMA_VERSION) || version < 0 {
        return Err(newer(version, MIGRATIONS.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(connection: &Connection) -> i64 {
        connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| {
                row.get(0)
            })
            .unwrap()
    }

    #[test]
    fn the_versions_agree_with_the_steps() {
        assert_eq!(u32::try_from(MIGRATIONS.len()).unwrap(), SCHEMA_VERSION);
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection).unwrap();
        migrate(&connection).unwrap();
        assert_eq!(user_version(&connection).unwrap(), i64::from(SCHEMA_VERSION));
        assert!(tables(&connection) >= 8);
        check_owner(&connection).unwrap();
    }

    #[test]
    fn a_later_step_runs_once_and_a_failing_one_leaves_the_old_version() {
        fn add(connection: &Connection) -> rusqlite::Result<()> {
            connection.execute_batch("CREATE TABLE later (x INTEGER)")
        }
        fn fail(connection: &Connection) -> rusqlite::Result<()> {
            connection.execute_batch("CREATE TABLE half (x INTEGER); SELECT nonsense")
        }
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection).unwrap();
        let before = tables(&connection);
        assert!(migrate_with(&connection, &[create_v1, surround_v2, fail]).is_err());
        assert_eq!(tables(&connection), before, "a failed step leaves nothing");
        assert_eq!(user_version(&connection).unwrap(), 2);
        migrate_with(&connection, &[create_v1, surround_v2, add]).unwrap();
        assert_eq!(tables(&connection), before + 1);
        assert_eq!(user_version(&connection).unwrap(), 3);
        let error = migrate(&connection).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(check_owner(&connection).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn another_programs_database_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        check_owner(&connection).unwrap();
        connection.execute_batch("CREATE TABLE theirs (x INTEGER)").unwrap();
        assert_eq!(check_owner(&connection).unwrap_err().kind(), ErrorKind::Config);
    }
}
