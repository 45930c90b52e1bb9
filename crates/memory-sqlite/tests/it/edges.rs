//! Cases that are easy to get wrong: hostile tokens, resends that are covered, races at the opening,
//! traces in unused parts of pages, spaces that change places.

use std::sync::Arc;

use memory_core::traits::{
    EraseScope, EraseToken, KeywordIndex, KeywordQuery, RecordStore, RecordStoreExt, StoreMeta,
    StoreUpkeep, TenantSpaces, VectorIndex, VectorQuery,
};
use memory_core::{
    EmbeddingSpace, ErrorKind, Filter, MetaKey, Metric, Precondition, UserId, Vectors, Write,
};
use memory_sqlite::SqliteSettings;

use crate::common::{
    commit, erase, files_hold, id, item, open, open_with, put, space, tenant, with_vector,
};

#[tokio::test]
async fn a_forged_token_reaches_no_other_tenant() {
    let store = open_with(SqliteSettings::in_memory()).unwrap();
    let (one, two) = (tenant("one"), tenant("two"));
    put(&store, &one, item("a", "tea")).await.unwrap();
    put(&store, &two, item("a", "tea")).await.unwrap();
    let hash = memory_core::ContentHash::of("3|one|tenant|");
    let forged = EraseToken(format!("1|0|{}|{hash}", i64::MAX));
    let step = store.erase(&one, &EraseScope::Tenant, Some(forged)).await.unwrap();
    assert_eq!(step.erased, 1, "its own item goes");
    assert_eq!(store.count(&two, &Filter::All).await.unwrap(), 1, "the other tenant's stays");
}

#[tokio::test]
async fn a_resend_never_covers_a_later_writer() {
    let store = open_with(SqliteSettings::in_memory()).unwrap();
    let context = tenant("t");
    let any = |name: &str, text: &str| {
        Write::put(item(name, text), Vectors::default(), Precondition::Any)
    };
    let first = commit(vec![any("a", "first"), any("b", "first")]);
    store.commit(&context, first.clone()).await.unwrap();
    let again = store.commit(&context, first.clone().resent()).await.unwrap();
    assert!(again.replayed, "its own work is recognised");
    put(&store, &context, item("b", "later")).await.unwrap();
    let error = store.commit(&context, first.clone().resent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let found = store.fetch_one(&context, &id("b")).await.unwrap().unwrap();
    assert_eq!(found.content(), "later");
    let delete = Write::delete(id("b"), Precondition::Any);
    store.commit(&context, commit(vec![delete])).await.unwrap();
    let error = store.commit(&context, first.resent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(store.fetch_one(&context, &id("b")).await.unwrap().is_none(), "it stays deleted");
}

#[tokio::test]
async fn an_erasure_reaches_what_balanced_pages_keep() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = SqliteSettings::new(folder.path().join("m.db"));
    settings.synchronous = memory_sqlite::Synchronous::Off;
    let store = open_with(settings).unwrap();
    let context = tenant("t");
    // Ids in no order, contents that grow and shrink, metadata: cells move between pages.
    let mut mixed = 7_u64;
    let mut next = move || {
        mixed = mixed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        mixed >> 33
    };
    for round in 0..2 {
        for batch in 0..12_u64 {
            let writes = (0..100_u64)
                .map(|number| {
                    let number = batch * 100 + number;
                    let user = if number % 3 == 0 { "zoe" } else { "ada" };
                    let name = format!("{:x}-{number}", number.wrapping_mul(0x9E37_79B9) % 65_521);
                    let text = "xyzzyplugh ".repeat(1 + usize::try_from(next() % 60).unwrap());
                    let text = if user == "zoe" { text } else { text.replace("plugh", "other") };
                    let mut item = item(&name, &text);
                    item.user_id = Some(UserId::new(user).unwrap());
                    let mark = format!("{user}-mark-{round}");
                    item.metadata.insert(MetaKey::new("mark").unwrap(), mark.as_str().into());
                    Write::put(item, Vectors::default(), Precondition::Any)
                })
                .collect();
            store.commit(&context, commit(writes)).await.unwrap();
        }
    }
    assert!(files_hold(folder.path(), "xyzzyplugh") && files_hold(folder.path(), "zoe-mark"));
    let scope = EraseScope::User(UserId::new("zoe").unwrap());
    let (_, receipt) = erase(&store, &context, &scope).await;
    assert!(receipt.bytes_cleared);
    assert!(!files_hold(folder.path(), "xyzzyplugh"), "the text is in the files' bytes");
    assert!(!files_hold(folder.path(), "zoe-mark"), "the metadata is in the files' bytes");
    assert!(files_hold(folder.path(), "xyzzyother"), "the other user's text stays");
    assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test]
async fn without_the_rewriting_no_receipt_says_that_the_bytes_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = SqliteSettings::new(folder.path().join("m.db"));
    settings.erase_rewrites = false;
    let store = open_with(settings).unwrap();
    let context = tenant("t");
    put(&store, &context, item("a", "tea")).await.unwrap();
    let scope = EraseScope::User(UserId::new("ada").unwrap());
    let step = store.erase(&context, &scope, None).await.unwrap();
    assert!(!step.receipt.unwrap().bytes_cleared);
    assert_eq!(store.count(&context, &Filter::All).await.unwrap(), 0);
}

#[test]
fn many_may_make_one_file_at_once() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.db");
        let start = Arc::new(std::sync::Barrier::new(4));
        let openers: Vec<_> = (0..4)
            .map(|_| {
                let (path, start) = (path.clone(), Arc::clone(&start));
                std::thread::spawn(move || {
                    start.wait();
                    open_with(SqliteSettings::new(path)).map(|_| ())
                })
            })
            .collect();
        for opener in openers {
            opener.join().unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_space_that_is_still_named_keeps_its_vectors() {
    let store = open_with(SqliteSettings::in_memory()).unwrap();
    let context = tenant("t");
    let old = space(&store, &context).await;
    let new = EmbeddingSpace::new("newer", "1", 3, Metric::Dot).unwrap();
    let write = with_vector(item("a", "tea"), &old, [1.0, 0.0, 0.0]);
    store.commit(&context, commit(vec![write])).await.unwrap();
    let near = async |space: &EmbeddingSpace| {
        let query = VectorQuery::new(space.clone(), vec![1.0, 0.0, 0.0], 10);
        VectorIndex::search(store.as_ref(), &context, &query).await.unwrap().hits.len()
    };
    // The active space becomes the next one, and active again.
    for (active, next) in [(&new, Some(&old)), (&old, Some(&new)), (&old, None)] {
        let before = store.spaces(&context).await.unwrap();
        let spaces = TenantSpaces { active: Some(active.clone()), next: next.cloned(), ..before };
        store.set_spaces(&context, &spaces).await.unwrap();
        assert_eq!(near(&old).await, 1, "{active} and {next:?}");
    }
    assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test]
async fn ties_of_words_are_broken_by_id_at_the_cut() {
    let store = open_with(SqliteSettings::in_memory()).unwrap();
    let context = tenant("t");
    for name in ["z", "y", "x", "a", "m"] {
        put(&store, &context, item(name, "tea")).await.unwrap();
    }
    let query = KeywordQuery::new("tea", 2);
    let hits = KeywordIndex::search(store.as_ref(), &context, &query).await.unwrap().hits;
    let names: Vec<_> = hits.iter().map(|hit| hit.id.as_str()).collect();
    assert_eq!(names, ["a", "m"]);
}

#[tokio::test]
async fn a_backup_is_what_it_says_under_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("m.db"));
    let context = tenant("t");
    put(&store, &context, item("a", "tea")).await.unwrap();
    let target = folder.path().join("file:copy.db?mode=memory");
    let report = store.backup(target.to_str().unwrap()).await.unwrap();
    assert!(report.bytes > 0);
    let copy = open(&target);
    assert!(copy.fetch_one(&context, &id("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn terms_that_were_cut_off_half_way_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let context = tenant("t");
    let store = open(&path);
    put(&store, &context, item("a", "walking")).await.unwrap();
    RecordStore::close(store.as_ref()).await.unwrap();
    // What a rebuilding that was cut off leaves: no analyser named, and other terms.
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("DELETE FROM meta WHERE key = 'analyser'; UPDATE derived SET terms = x'00'")
        .unwrap();
    drop(other);
    let store = open(&path);
    let query = KeywordQuery::new("walks", 5);
    let hits = KeywordIndex::search(store.as_ref(), &context, &query).await.unwrap().hits;
    assert_eq!(hits.len(), 1);
    assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new());
}
