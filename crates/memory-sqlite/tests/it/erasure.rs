//! After an erasure the files' bytes no longer hold the text.

use memory_core::traits::{
    EraseScope, KeywordIndex, KeywordQuery, RecordStore, StoreMeta, TenantDirectory,
};
use memory_core::{Filter, IdempotencyKey, UserId};
use memory_sqlite::SqliteSettings;

use crate::common::{commit, erase, files_hold, id, item, open, open_with, put, tenant};

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
        let write = memory_core::Write::put(
            item(name, "x"),
            memory_core::Vectors::default(),
            memory_core::Precondition::Any,
        );
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
