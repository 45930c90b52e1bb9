//! What surrounds the hits: loans between neighbours, and who they reach; contexts; known authors.

use memory_core::traits::{IndexHit, KeywordIndex, KeywordQuery, Lending, RecordStore};
use memory_core::{
    CallContext, Field, Filter, MemoryItem, Precondition, SessionId, Timestamp, UserId, Write,
};
use memory_sqlite::SqliteStore;

use crate::common::{commit, id, item, open, put, tenant};

fn turn(
    name: &str,
    user: &str,
    session: &str,
    second: i64,
    author: &str,
    text: &str,
) -> MemoryItem {
    let mut item = item(name, text).with_user(UserId::new(user).expect("a valid user"));
    item.session_id = Some(SessionId::new(session).expect("a valid session"));
    item.occurred_at = Timestamp::from_micros(second * 1_000_000).expect("a time");
    item.author = Some(author.to_owned());
    item
}

async fn search(store: &SqliteStore, context: &CallContext, filter: Filter) -> Vec<IndexHit> {
    let query = KeywordQuery::new("kettle", 100)
        .with_filter(filter)
        .with_lending(Some(Lending::new(0.5, 0.25, 0.125)));
    KeywordIndex::search(store, context, &query).await.expect("the search answers").hits
}

async fn delete(store: &SqliteStore, context: &CallContext, name: &str) {
    let write = Write::delete(id(name), Precondition::Any);
    store.commit(context, commit(vec![write])).await.expect("deleted");
}

fn ids(hits: &[IndexHit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.id.as_str()).collect()
}

#[tokio::test]
async fn loans_stay_within_a_conversation_a_tenant_and_a_filter() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("m.db"));
    let (context, other) = (tenant("t"), tenant("other"));
    // Added against their order in time.
    for (name, user, session, second, text) in [
        ("d", "ada", "s", 40, "far away"),
        ("c", "ada", "s", 30, "nothing much"),
        ("b", "ada", "s", 20, "the kettle sings"),
        ("a", "ada", "s", 10, "good morning"),
        ("x", "bob", "s", 21, "another user, the same name of a session"),
        ("y", "ada", "z", 22, "another session"),
    ] {
        put(&store, &context, turn(name, user, session, second, "Ada", text)).await.unwrap();
    }
    put(&store, &other, turn("o", "ada", "s", 21, "Ada", "another tenant")).await.unwrap();

    let hits = search(&store, &context, Filter::All).await;
    assert_eq!(ids(&hits), ["b", "c", "d", "a"]);
    let own = hits[0].score;
    for (hit, share) in hits.iter().zip([0.0, 0.5, 0.25, 0.125]) {
        let around = hit.context.as_ref().unwrap();
        assert!((around.lent - own * share).abs() < 1e-9, "{hit:?}");
        assert_eq!(around.author.as_deref(), Some("Ada"));
        assert_eq!(around.coverage.unwrap() > 0.0, share == 0.0);
    }
    assert!(search(&store, &other, Filter::All).await.is_empty());

    // Nobody who is filtered out borrows or lends, nor who has gone.
    let not = |name: &str| Filter::Not(Box::new(Filter::eq(Field::Id, name)));
    assert_eq!(ids(&search(&store, &context, not("c")).await), ["b", "d", "a"]);
    assert!(search(&store, &context, not("b")).await.is_empty());
    delete(&store, &context, "c").await;
    assert_eq!(ids(&search(&store, &context, Filter::All).await), ["b", "d", "a"]);
    delete(&store, &context, "b").await;
    assert!(search(&store, &context, Filter::All).await.is_empty());
}

#[tokio::test]
async fn authors_are_known_by_tenant_for_as_long_as_they_have_a_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("m.db"));
    let (context, other) = (tenant("t"), tenant("other"));
    put(&store, &context, turn("a", "u", "s", 1, "Ada Lovelace", "tea")).await.unwrap();
    put(&store, &other, turn("b", "u", "s", 1, "Bob", "tea")).await.unwrap();
    let names = ["Bob".to_owned(), "Ada".to_owned(), "Tea".to_owned()];
    assert_eq!(store.authors(&context, &names).await.unwrap(), ["Ada"]);
    assert_eq!(store.authors(&other, &names).await.unwrap(), ["Bob"]);
    assert!(store.authors(&tenant("nobody"), &names).await.unwrap().is_empty());
    delete(&store, &context, "a").await;
    assert!(store.authors(&context, &names).await.unwrap().is_empty());
    RecordStore::close(store.as_ref()).await.unwrap();
}
