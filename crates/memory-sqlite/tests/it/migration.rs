//! Files of older versions: the frozen samples are read whole, a loss of power on the way leaves one
//! version or the other, and what a migrated file holds is what a new one would.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of it is for tests")]

use std::path::Path;

use memory_core::traits::{
    KeywordIndex, KeywordQuery, RecordStore, RecordStoreExt, StoreMeta, StoreUpkeep, VectorIndex,
    VectorQuery,
};
use memory_core::{ErrorKind, Field, Filter, MemoryItem, Precondition, Vectors, Write};
use memory_sqlite::{SCHEMA_VERSION, SqliteSettings};
use rusqlite::Connection;

use crate::common::{commit, id, item, open, open_with, space, tenant, with_vector};

/// The samples by version. They are frozen, whatever the code becomes.
const SAMPLES: [(u32, &str); 2] =
    [(1, include_str!("samples/v1.sql")), (2, include_str!("samples/v2.sql"))];

fn lay(connection: &Connection, version: u32, sql: &str) {
    connection.execute_batch(sql).unwrap();
    connection.pragma_update(None, "user_version", version).unwrap();
    connection.pragma_update(None, "application_id", 0x4F4D_656D).unwrap();
}

fn version_of(connection: &Connection) -> u32 {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// Key, session, author, importance and time of every narrow row, but for what differs between the
/// samples: the other tenant's.
type Context = (i64, Option<i64>, Option<String>, Option<f64>, i64);

fn contexts(path: &Path) -> Vec<Context> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT item, session, author, importance, occurred_at FROM derived \
               WHERE item >> 36 = 1 ORDER BY item";
    let mut select = connection.prepare(sql).unwrap();
    let read = |row: &rusqlite::Row<'_>| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
    };
    select.query_map([], read).unwrap().map(Result::unwrap).collect()
}

/// The statements that make the tables and indexes.
fn shape(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let mut select = connection.prepare(sql).unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// What each version wrote, read by this one.
#[tokio::test]
async fn a_file_of_each_version_is_read_whole() {
    assert_eq!(SAMPLES.last().unwrap().0, SCHEMA_VERSION, "each version has its sample");
    for (version, sql) in SAMPLES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.db");
        lay(&Connection::open(&path).unwrap(), version, sql);

        let store = open(&path);
        assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new(), "version {version}");
        let context = tenant("acme");
        let tea = store.fetch_one(&context, &id("tea")).await.unwrap().unwrap();
        assert_eq!(tea.content(), "Ada prefers green tea.");
        assert_eq!(tea.user_id.as_ref().unwrap().as_str(), "ada");
        assert_eq!(tea.importance, Some(0.5));
        assert_eq!(tea.occurred_at.to_string(), "2025-03-01T09:30:00.123456Z");
        assert_eq!(tea.payload.as_ref().unwrap()["deep"][0], 1);
        let metadata = serde_json::to_string(&tea.metadata).unwrap();
        assert_eq!(
            metadata,
            r#"{"n":9007199254740993,"ok":true,"tags":["hot","leaf"],"topic":"drinks","x":0.1}"#
        );
        let walk = store.fetch_one(&context, &id("walk")).await.unwrap().unwrap();
        assert_eq!(walk.expires_at.unwrap().to_string(), "2999-01-01T00:00:00Z");
        assert_eq!(walk.session_id.unwrap().as_str(), "s/1");
        let exact = Filter::eq(Field::parse("metadata.n").unwrap(), 9_007_199_254_740_993);
        assert_eq!(store.count(&context, &exact).await.unwrap(), 1);

        let tea = KeywordQuery::new("tea", 5);
        let found = KeywordIndex::search(store.as_ref(), &context, &tea).await.unwrap();
        assert_eq!(found.hits.len(), 1, "the other tenant's tea stays its own");
        let space = store.spaces(&context).await.unwrap().active.unwrap();
        assert_eq!(space.dimensions(), 3);
        let near = VectorQuery::new(space, vec![1.0, 2.0, -0.5], 5);
        let hits = VectorIndex::search(store.as_ref(), &context, &near).await.unwrap().hits;
        assert_eq!((hits.len(), &hits[0].id), (1, &id("tea")));
        assert!((hits[0].score - 1.0).abs() < 1e-9);
        let erased = store.erased(&context, &[id("gone"), id("tea")]).await.unwrap();
        assert_eq!(erased, [true, false]);

        RecordStore::close(store.as_ref()).await.unwrap();
        assert_eq!(version_of(&Connection::open(&path).unwrap()), SCHEMA_VERSION);
        let (tea, walk) = (68_719_476_740, 68_719_476_741);
        let expected = [
            (tea, None, Some("Ada".to_owned()), Some(0.5), 1_740_821_400_123_456),
            // The number of the conversation `s/1` of the agent `pip` and of no user.
            (
                walk,
                Some(1_959_439_516_918_807_353),
                Some("Bob".to_owned()),
                None,
                1_740_907_800_000_000,
            ),
        ];
        assert_eq!(contexts(&path), expected, "version {version}");
        let new = folder.path().join("new.db");
        RecordStore::close(open(&new).as_ref()).await.unwrap();
        assert_eq!(shape(&path), shape(&new), "version {version}");
    }
}

#[tokio::test]
async fn an_older_file_is_not_opened_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let (version, sql) = SAMPLES[0];
    lay(&Connection::open(&path).unwrap(), version, sql);
    let mut settings = SqliteSettings::new(&path);
    settings.read_only = true;
    let error = open_with(settings.clone()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(version_of(&Connection::open(&path).unwrap()), version, "it is left alone");
    RecordStore::close(open(&path).as_ref()).await.unwrap();
    open_with(settings).map(|_| ()).unwrap();
}

/// The narrow row follows its item through every kind of put, and an index that follows the log
/// sees it.
#[tokio::test]
async fn what_surrounds_an_item_follows_its_puts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let store = open(&path);
    let context = tenant("t");
    let space = space(&store, &context).await;
    let put = |item: MemoryItem, vectors| Write::put(item, vectors, Precondition::Any);
    let told = |author: Option<&str>, session: Option<&str>, importance| {
        let mut item = item("a", "green tea");
        item.author = author.map(str::to_owned);
        item.session_id = session.map(|session| session.parse().unwrap());
        item.importance = importance;
        item
    };
    let first = told(Some("Ada"), Some("s"), None);
    let mut later = told(Some("Bob"), Some("s"), Some(0.25));
    later.occurred_at = memory_core::Timestamp::parse("2025-02-02T00:00:00Z").unwrap();
    for (what, write) in [
        ("a new item", with_vector(first.clone(), &space, [1.0, 0.0, 0.0])),
        ("one that keeps its vectors", put(later.clone(), Vectors::Keep)),
        ("one without a session", put(told(None, None, Some(1.0)), Vectors::Keep)),
        ("one that loses its vectors", put(first, Vectors::default())),
        ("one of another text", put(item("a", "black tea"), Vectors::Keep)),
        ("one with vectors again", with_vector(later, &space, [0.0, 1.0, 0.0])),
    ] {
        let Write::Put(put) = write else { unreachable!() };
        // Vectors are kept only under a revision.
        let found = store.fetch_one(&context, &id("a")).await.unwrap();
        let precondition = found
            .map_or(Precondition::Absent, |found| Precondition::Revision(found.revision.unwrap()));
        let wanted = put.item.clone();
        let write = Write::put(wanted.clone(), put.vectors.clone(), precondition);
        store.commit(&context, commit(vec![write])).await.unwrap();
        assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new(), "{what}");
        let (_, session, author, importance, time) = contexts(&path).remove(0);
        assert_eq!((author, importance), (wanted.author.clone(), wanted.importance), "{what}");
        assert_eq!(time, wanted.occurred_at.as_micros(), "{what}");
        assert_eq!(session.is_some(), wanted.session_id.is_some(), "{what}");
        let query = KeywordQuery::new("tea", 5);
        let hits = KeywordIndex::search(store.as_ref(), &context, &query).await.unwrap().hits;
        let found = hits[0].context.as_ref().unwrap();
        let expected = memory_core::traits::HitContext::of(&wanted);
        assert_eq!((found.session, &found.author), (expected.session, &expected.author), "{what}");
        assert_eq!(found.importance, expected.importance, "{what}");
        assert_eq!(found.occurred_at, expected.occurred_at, "{what}");
    }
}

/// A file of version 1 whose narrow rows are more than the page cache holds.
#[cfg(feature = "fault-vfs")]
fn lay_many(connection: &Connection) {
    // As a store has it: what was committed is there after a loss of power.
    connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)).unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    lay(connection, SAMPLES[0].0, SAMPLES[0].1);
    let hash = memory_core::ContentHash::of("green tea");
    for (sql, value) in [
        (
            "WITH RECURSIVE n(x) AS (SELECT 1000 UNION ALL SELECT x + 1 FROM n WHERE x < 2999) \
             INSERT INTO item SELECT (1 << 36) + x, 1, 'n-' || x, 'ada', NULL, 's-' || (x % 7), \
             'fact', NULL, 'Ada', 'green tea', NULL, NULL, NULL, x, x, x, NULL, \
             253402207200000000, ?1, x, zeroblob(16) FROM n",
            hash.as_bytes().to_vec(),
        ),
        (
            "INSERT INTO derived SELECT item, id, revision, visible_until, ?1, NULL, NULL \
             FROM item WHERE item >= (1 << 36) + 1000 AND item < (1 << 36) + 3000",
            b"\x03\x01\x03ada\x01\x05green\x01\x03tea".to_vec(),
        ),
    ] {
        connection.execute(sql, [value]).unwrap();
    }
}

/// Whatever a loss of power leaves of a migration, the next opening makes it whole.
#[cfg(feature = "fault-vfs")]
#[tokio::test]
async fn a_migration_that_is_cut_off_is_begun_again() {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use memory_sqlite::fault_vfs::Disk;
    use rusqlite::OpenFlags;

    const PATH: &str = "/m.db";
    /// Losses of power, spread over the opening.
    const POINTS: u64 = 24;

    let disk = Arc::new(Disk::register("migration", u64::from(std::process::id())).unwrap());
    println!("seed {}", std::process::id());
    let mut settings = SqliteSettings::new(PATH).with_vfs(disk.name());
    settings.cache_kib = 64;
    let plain = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags_and_vfs(PATH, flags, disk.name()).unwrap()
    };
    disk.clear();
    lay_many(&plain());
    let before = disk.operations();
    drop(open_with(settings.clone()).unwrap());
    let operations = disk.operations() - before;
    assert!(operations > POINTS, "{operations} operations");

    let mut seen = BTreeMap::new();
    for point in 0..POINTS {
        disk.clear();
        lay_many(&plain());
        // The last one comes after the opening.
        disk.cut_after(1 + point * operations / (POINTS - 1));
        let cut = open_with(settings.clone()).map(drop).is_err();
        disk.restore();
        *seen.entry((cut, version_of(&plain()))).or_insert(0) += 1;
        let store = open_with(settings.clone()).unwrap();
        let faults = store.verify().await.unwrap().faults;
        assert_eq!(faults, Vec::<String>::new(), "point {point} of {operations}");
        let context = tenant("acme");
        assert_eq!(store.count(&context, &Filter::All).await.unwrap(), 2_002, "point {point}");
        let query = KeywordQuery::new("ada", 1_000);
        let hits = KeywordIndex::search(store.as_ref(), &context, &query).await.unwrap().hits;
        assert_eq!(hits.len(), 1_000, "point {point}");
        RecordStore::close(store.as_ref()).await.unwrap();
    }
    println!("(cut off, version found): {seen:?}");
    assert!(seen.get(&(true, 1)).is_some_and(|points| *points >= POINTS / 4), "{seen:?}");
    assert!(seen.contains_key(&(false, SCHEMA_VERSION)), "{seen:?}");
}
