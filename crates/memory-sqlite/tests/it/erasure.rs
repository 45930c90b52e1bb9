//! After an erasure the files' bytes no longer hold the text.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of it is for tests")]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use memory_core::traits::{
    EraseScope, KeywordIndex, KeywordQuery, RecordStore, StoreMeta, StoreUpkeep, TenantDirectory,
    TenantSpaces,
};
use memory_core::{
    CallContext, EmbeddingSpace, Filter, IdempotencyKey, MemoryItem, MetaKey, Metric, Precondition,
    UserId, Vectors, Write,
};
use memory_sqlite::{SqliteSettings, SqliteStore};

use crate::common::{commit, erase, files_hold, id, item, open, open_with, put, tenant};
use crate::crash::plan::Dice;

#[tokio::test]
async fn a_users_bytes_are_gone_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = SqliteSettings::new(folder.path().join("m.db"));
    settings.erase_batch = 7;
    let store = open_with(settings).unwrap();
    let context = tenant("t");
    for number in 0..40 {
        let secret = format!("xyzzyplugh{number} is the secret word");
        put(&store, &context, item(&format!("ada-secret-{number}"), &secret)).await.unwrap();
        let mut other = item(&format!("bob-{number}"), "nothing hidden here");
        other.user_id = Some(UserId::new("bob").unwrap());
        put(&store, &context, other).await.unwrap();
    }
    let find = async |words: &str| {
        let query = KeywordQuery::new(words, 100);
        KeywordIndex::search(store.as_ref(), &context, &query).await.unwrap().hits.len()
    };
    assert_eq!((find("secret").await, find("hidden").await), (40, 40));
    assert!(files_hold(folder.path(), "xyzzyplugh") && files_hold(folder.path(), "ada-secret-"));

    let (erased, receipt) =
        erase(&store, &context, &EraseScope::User(UserId::new("ada").unwrap())).await;
    assert_eq!(erased, 40);
    assert!(receipt.bytes_cleared, "no other process reads");
    assert!(!files_hold(folder.path(), "xyzzyplugh"), "the text is in the files' bytes");
    assert!(!files_hold(folder.path(), "ada-secret-"), "the ids are in the files' bytes");
    assert!(files_hold(folder.path(), "nothing hidden here"));
    assert_eq!((find("secret").await, find("hidden").await), (0, 40));
    assert_eq!(store.count(&context, &Filter::All).await.unwrap(), 40);
    let erased = store.erased(&context, &[id("ada-secret-1"), id("bob-1")]).await.unwrap();
    assert_eq!(erased, [true, false]);
}

#[tokio::test]
async fn a_tenants_bytes_are_gone_and_its_name_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("m.db"));
    let (gone, stays) = (tenant("acme-quuxfrob"), tenant("other"));
    put(&store, &gone, item("a", "xyzzyplugh")).await.unwrap();
    put(&store, &stays, item("a", "stays here")).await.unwrap();
    assert_eq!(store.list_tenants(None, 10).await.unwrap().tenants.len(), 2);
    let (erased, receipt) = erase(&store, &gone, &EraseScope::Tenant).await;
    assert_eq!(erased, 1);
    assert!(receipt.bytes_cleared);
    assert!(!files_hold(folder.path(), "xyzzyplugh") && !files_hold(folder.path(), "quuxfrob"));
    assert!(files_hold(folder.path(), "stays here"));
    assert_eq!(
        store.list_tenants(None, 10).await.unwrap().tenants,
        std::slice::from_ref(&stays.tenant)
    );
    // The name can be used again, and nothing comes back with it.
    put(&store, &gone, item("b", "new")).await.unwrap();
    assert_eq!(store.count(&gone, &Filter::All).await.unwrap(), 1);
    assert_eq!(store.erased(&gone, &[id("a"), id("b")]).await.unwrap(), [true, false]);
}

#[tokio::test]
async fn another_processs_reader_leaves_the_bytes_pending_and_the_receipt_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let mut settings = SqliteSettings::new(&path);
    settings.busy_timeout_ms = 20;
    let store = open_with(settings).unwrap();
    let context = tenant("t");
    put(&store, &context, item("a", "xyzzyplugh")).await.unwrap();
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM item").unwrap();
    let scope = EraseScope::User(UserId::new("ada").unwrap());
    let (_, receipt) = erase(&store, &context, &scope).await;
    assert!(!receipt.bytes_cleared);
    assert_eq!(store.count(&context, &Filter::All).await.unwrap(), 0);
    reader.execute_batch("ROLLBACK").unwrap();
    let (_, receipt) = erase(&store, &context, &scope).await;
    assert!(receipt.bytes_cleared);
    assert!(!files_hold(folder.path(), "xyzzyplugh"));
}

#[tokio::test]
async fn an_idempotency_key_does_not_bring_an_erased_answer_back() {
    let store = open_with(SqliteSettings::in_memory()).unwrap();
    let context = tenant("t");
    let request = |name: &str| {
        let write = Write::put(item(name, "x"), Vectors::default(), Precondition::Any);
        let key = IdempotencyKey::new(format!("key-{name}"), [1; 32]).unwrap();
        commit(vec![write]).with_idempotency(Some(key))
    };
    let first = store.commit(&context, request("a")).await.unwrap();
    let again = store.commit(&context, request("a")).await.unwrap();
    assert_eq!((first.replayed, again.replayed), (false, true));
    assert_eq!(first.results, again.results);
    erase(&store, &context, &EraseScope::User(UserId::new("ada").unwrap())).await;
    let error = store.commit(&context, request("a")).await.unwrap_err();
    assert_eq!(error.kind(), memory_core::ErrorKind::Conflict);
    assert_eq!(store.count(&context, &Filter::All).await.unwrap(), 0);
}

/// Bytes of a pattern.
const WINDOW: usize = 16;
/// Numbers of a vector.
const DIMENSIONS: u32 = 96;
/// Items of those who are erased, and of each of two who stay.
const ITEMS: u64 = 120;
/// What must be found before an erasure and not after it.
const KINDS: [&str; 7] = ["id", "text", "hash", "metadata", "terms", "int8 vector", "f32 vector"];

/// Stored values cut into windows, each with the kind of value that it is from.
type Patterns = HashMap<[u8; WINDOW], &'static str>;

/// Adds a value's windows, but for those that say too little to be anybody's.
fn add(patterns: &mut Patterns, kind: &'static str, value: &[u8]) {
    for window in value.as_chunks::<WINDOW>().0 {
        let mut distinct = *window;
        distinct.sort_unstable();
        if distinct.chunk_by(|a, b| a == b).count() >= 7 {
            patterns.insert(*window, kind);
        }
    }
}

/// How many different patterns of each kind the files of a folder hold, all of them byte by byte.
fn found(folder: &Path, patterns: &Patterns) -> BTreeMap<&'static str, usize> {
    let mut seen = HashMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for at in 0..bytes.len().saturating_sub(WINDOW - 1) {
            let window: &[u8; WINDOW] = bytes[at..at + WINDOW].try_into().unwrap();
            if let Some(kind) = patterns.get(window) {
                seen.insert(*window, *kind);
            }
        }
    }
    let mut counts = BTreeMap::new();
    for kind in seen.into_values() {
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

/// Words that no other text has.
fn words(dice: &mut Dice, count: u64) -> String {
    let mut letter = || char::from(b'a' + u8::try_from(dice.below(26)).unwrap());
    let mut text = String::new();
    for _ in 0..count {
        text.extend((0..9).map(|_| letter()));
        text.push(' ');
    }
    text
}

fn written(name: &str, user: &str, dice: &mut Dice) -> (MemoryItem, Vec<f32>) {
    let length = 4 + dice.below(90);
    let mut item = item(name, &words(dice, length));
    item.user_id = Some(UserId::new(user).unwrap());
    item.metadata.insert(MetaKey::new("mark").unwrap(), words(dice, 3).as_str().into());
    let part = |number: u64| f32::from(u16::try_from(number).unwrap()) / 1_000.0 - 1.0;
    (item, (0..DIMENSIONS).map(|_| part(dice.below(2_000))).collect())
}

/// Commits new versions of some items of three users, mixed, so that pages are filled, split and
/// balanced; remembers what of `gone` was ever written.
async fn mix(
    store: &SqliteStore,
    contexts: &[(&CallContext, &str); 3],
    space: &EmbeddingSpace,
    gone: &mut Patterns,
    dice: &mut Dice,
) {
    for round in 0..3 {
        for number in 0..ITEMS {
            for (place, (context, user)) in contexts.iter().enumerate() {
                // All at first, then a third, so that old and new versions lie side by side.
                if round > 0 && dice.below(3) > 0 {
                    continue;
                }
                let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let name = format!("{place}-{mixed:016x}-{number}");
                let (item, vector) = written(&name, user, dice);
                if place == 0 {
                    add(gone, "text", item.content().as_bytes());
                    add(gone, "f32 vector", &bytes_of(&vector));
                }
                let vectors = BTreeMap::from([(space.id(), vector)]);
                let write = Write::put(item, Vectors::Replace(vectors), Precondition::Any);
                let digest = [u8::try_from(number).unwrap(); 32];
                let key = IdempotencyKey::new(format!("{round}-{place}-{number}"), digest).unwrap();
                let commit = commit(vec![write]).with_idempotency(Some(key));
                store.commit(context, commit).await.unwrap();
            }
        }
    }
}

fn bytes_of(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// What the file holds of the items of a user, as it is stored, by kind.
fn stored(connection: &rusqlite::Connection, user: &str) -> Patterns {
    let mut patterns = Patterns::new();
    let of = "(SELECT item FROM item WHERE user_id = ?1)";
    for (kind, sql) in [
        ("id", "SELECT CAST(id AS BLOB) FROM item WHERE user_id = ?1".to_owned()),
        ("text", "SELECT CAST(content AS BLOB) FROM item WHERE user_id = ?1".to_owned()),
        ("hash", "SELECT content_hash FROM item WHERE user_id = ?1".to_owned()),
        ("metadata", format!("SELECT CAST(value AS BLOB) FROM metadata WHERE item IN {of}")),
        ("terms", format!("SELECT terms FROM derived WHERE item IN {of}")),
        ("int8 vector", format!("SELECT codes0 FROM derived WHERE item IN {of}")),
        ("f32 vector", format!("SELECT data FROM vector WHERE key >> 1 IN {of}")),
    ] {
        let mut select = connection.prepare(&sql).unwrap();
        let values = select.query_map([user], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        let values: Vec<_> = values.map(Result::unwrap).collect();
        assert_eq!(values.len() as u64, ITEMS, "{kind}");
        values.iter().for_each(|value| add(&mut patterns, kind, value));
    }
    patterns
}

/// Nothing of what is erased is in any byte, in whatever form it was stored, while another store and
/// another connection have the file open; everything of the others is.
async fn nothing_is_left(scope: &EraseScope) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let (store, beside) = (open(&path), open(&path));
    let (one, two) = (tenant("one"), tenant("two"));
    // Where the tenant goes, its neighbour is another one; where a user goes, another user.
    let neighbour = if *scope == EraseScope::Tenant { &two } else { &one };
    let space = EmbeddingSpace::new("erase", "1", DIMENSIONS, Metric::Cosine).unwrap();
    for context in [&one, &two] {
        let before = store.spaces(context).await.unwrap();
        let spaces = TenantSpaces { active: Some(space.clone()), next: None, ..before };
        store.set_spaces(context, &spaces).await.unwrap();
    }
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut ever = Patterns::new();
    let contexts = [(&one, "zoe"), (neighbour, "ada"), (&two, "bob")];
    mix(&store, &contexts, &space, &mut ever, &mut Dice::new(seed)).await;

    let connection = rusqlite::Connection::open(&path).unwrap();
    let (gone, stays) = (stored(&connection, "zoe"), stored(&connection, "ada"));
    let all = |patterns: &Patterns| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        patterns.values().for_each(|kind| *counts.entry(kind).or_default() += 1);
        counts
    };
    // The twin: every pattern is found, of each kind some for each item.
    assert_eq!(found(folder.path(), &gone), all(&gone));
    for kind in KINDS {
        assert!(all(&gone)[kind] as u64 >= ITEMS / 2, "{kind}: {:?}", all(&gone));
    }
    // The other store has it all in its index and in its page caches.
    let query = KeywordQuery::new(words(&mut Dice::new(seed), 9), 100);
    KeywordIndex::search(beside.as_ref(), &one, &query).await.unwrap();
    assert_eq!(beside.count(&one, &Filter::All).await.unwrap() % ITEMS, 0);

    let (erased, receipt) = erase(&store, &one, scope).await;
    assert_eq!(erased, ITEMS);
    assert!(receipt.bytes_cleared, "nobody else is reading");
    let nothing = BTreeMap::new();
    let scan = |when: &str| {
        assert_eq!(found(folder.path(), &gone), nothing, "{when}, seed {seed}");
        assert_eq!(found(folder.path(), &ever), nothing, "{when}, seed {seed}: former versions");
        assert_eq!(found(folder.path(), &stays), all(&stays), "{when}, seed {seed}");
    };
    scan("after the erasure");

    // Nor does it come back with what the other store writes, nor when all is closed.
    put(&beside, &two, item("later", "tea")).await.unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    scan("after a write of the other store");
    drop(connection);
    assert_eq!(beside.verify().await.unwrap().faults, Vec::<String>::new());
    RecordStore::close(beside.as_ref()).await.unwrap();
    RecordStore::close(store.as_ref()).await.unwrap();
    scan("after the close");
}

#[tokio::test]
async fn a_users_text_words_and_vectors_are_in_no_byte() {
    nothing_is_left(&EraseScope::User(UserId::new("zoe").unwrap())).await;
}

#[tokio::test]
async fn a_tenants_text_words_and_vectors_are_in_no_byte() {
    nothing_is_left(&EraseScope::Tenant).await;
}
