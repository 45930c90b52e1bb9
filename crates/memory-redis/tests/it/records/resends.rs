//! Commits that are sent again, and what is kept under callers' keys.

use std::time::Duration;

use memory_core::traits::{RecordStore as _, RecordStoreExt as _};
use memory_core::{
    Clock as _, Commit, ErrorKind, IdempotencyKey, Precondition, UserId, Vectors, Write,
};

use super::rig::{Rig, SERVERS, commit, id, item, put, put_one, revision, space, tenant};

fn keyed(key: &str, digest: u8, writes: Vec<Write>) -> Commit {
    commit(writes).with_idempotency(Some(IdempotencyKey::new(key, [digest; 32]).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resend_of_mixed_writes_is_recognised_whole_or_told_that_it_is_covered() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, mut raw) = (tenant("t"), rig.raw("t"));
        let old = put_one(&rig.store, &context, item("old", "x")).await.unwrap();
        let gone = put_one(&rig.store, &context, item("gone", "x")).await.unwrap();
        let mixed = commit(vec![
            put(item("new", "x"), Precondition::Absent),
            put(item("old", "y"), Precondition::Revision(old)),
            Write::delete(id("gone"), Precondition::Revision(gone)),
            Write::delete(id("never"), Precondition::Any),
        ]);
        let first = rig.store.commit(&context, mixed.clone()).await.unwrap();
        let before = raw.dump();
        let again = rig.store.commit(&context, mixed.clone().resent()).await.unwrap();
        assert!(again.replayed && !first.replayed);
        for (again, first) in again.results.iter().zip(&first.results) {
            assert_eq!((&again.revision, again.existed), (&first.revision, first.existed));
        }
        raw.assert_unchanged(&before);

        // A delete whose id has come back, then a put that was overwritten.
        put_one(&rig.store, &context, item("gone", "back")).await.unwrap();
        let error = rig.store.commit(&context, mixed.clone().resent()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("covered"), "{error}");
        assert!(error.context().contains(&("write", "2".to_owned())));
        rig.store
            .commit(&context, commit(vec![Write::delete(id("gone"), Precondition::Any)]))
            .await
            .unwrap();
        put_one(&rig.store, &context, item("old", "z")).await.unwrap();
        let error = rig.store.commit(&context, mixed.resent()).await.unwrap_err();
        assert!(error.message().contains("covered"), "{error}");
        assert_eq!(
            rig.store.fetch_one(&context, &id("old")).await.unwrap().unwrap().content(),
            "z"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_work_is_recognised_after_it_has_expired() {
    let Some(rig) = Rig::on(SERVERS[1]).await else { return };
    let context = tenant("t");
    let mut short = item("a", "x");
    short.expires_at = Some(rig.clock.now().saturating_add(Duration::from_secs(1)));
    let create = commit(vec![put(short, Precondition::Absent)]);
    let first = rig.store.commit(&context, create.clone()).await.unwrap();
    rig.clock.advance(Duration::from_secs(2));
    let again = rig.store.commit(&context, create.resent()).await.unwrap();
    assert!(again.replayed);
    assert_eq!(revision(&again), revision(&first));
    assert!(rig.store.fetch_one(&context, &id("a")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_gives_the_first_answer_whoever_asks_and_whatever_was_asked_since() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, mut raw) = (tenant("t"), rig.raw("t"));
        let first = keyed(
            "{k}*\u{1f600}",
            1,
            vec![
                put(item("a", "x"), Precondition::Absent),
                Write::delete(id("b"), Precondition::Any),
            ],
        );
        let first = rig.store.commit(&context, first).await.unwrap();
        let before = raw.dump();
        // The repetition has other ids, for a caller may draw them anew.
        let again = keyed("{k}*\u{1f600}", 1, vec![put(item("other", "x"), Precondition::Absent)]);
        let again = rig.another().await.commit(&context, again).await.unwrap();
        assert!(again.replayed);
        assert_eq!((again.results, again.position), (first.results, first.position));
        let other = keyed("{k}*\u{1f600}", 2, vec![put(item("a", "x"), Precondition::Any)]);
        let error = rig.store.commit(&context, other.resent()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        raw.assert_unchanged(&before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_stands_for_a_day_by_the_callers_clock_and_then_goes() {
    let Some(rig) = Rig::on(SERVERS[1]).await else { return };
    let (context, mut raw) = (tenant("t"), rig.raw("t"));
    let one = |key: &str, digest| keyed(key, digest, vec![put(item("a", "x"), Precondition::Any)]);
    for key in ["one", "two", "three"] {
        rig.store.commit(&context, one(key, 1)).await.unwrap();
    }
    rig.clock.advance(Duration::from_micros(24 * 3_600 * 1_000_000 - 1));
    assert!(rig.store.commit(&context, one("one", 1)).await.unwrap().replayed);
    rig.clock.advance(Duration::from_micros(1));
    assert!(!rig.store.commit(&context, one("one", 2)).await.unwrap().replayed);
    rig.clock.advance(Duration::from_secs(1));
    assert!(!rig.store.commit(&context, one("four", 1)).await.unwrap().replayed);
    let keys = |raw: &mut super::rig::Raw| -> Vec<_> {
        raw.keys()
            .into_iter()
            .filter(|key| key.starts_with(b"k:"))
            .map(|key| String::from_utf8(key).unwrap())
            .collect()
    };
    // Two that were over went with the new ones; what stands is the new answer.
    assert_eq!(keys(&mut raw), ["k:four", "k:one"]);
    assert_eq!(raw.set("x:k").len(), 2);
    assert!(rig.store.commit(&context, one("one", 2)).await.unwrap().replayed);
    let redis::Value::Int(life) = raw.run("TTL", "k:one", &[]) else { panic!("no life") };
    assert!((24 * 3_600..=48 * 3_600).contains(&life), "{life}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_names_what_was_erased_is_a_conflict() {
    let Some(rig) = Rig::on(SERVERS[1]).await else { return };
    let context = tenant("t");
    let one = |name: &str, user: &str| {
        let mut item = item(name, "x");
        item.user_id = Some(UserId::new(user).unwrap());
        keyed(name, 1, vec![put(item, Precondition::Any)])
    };
    rig.store.commit(&context, one("a", "ann")).await.unwrap();
    rig.store.commit(&context, one("b", "bob")).await.unwrap();
    let mut raw = rig.raw("t");
    let users = |raw: &mut super::rig::Raw, key: &str| raw.hash(key)["us"].clone();
    assert_eq!((users(&mut raw, "k:a"), users(&mut raw, "k:b")), (b"ann".into(), b"bob".into()));
    // What an erasure leaves of an answer that names memories of the user.
    raw.run("HSET", "k:a", &[b"a", b""]);
    let error = rig.store.commit(&context, one("a", "ann")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("erased"), "{error}");
    assert!(rig.store.commit(&context, one("b", "bob")).await.unwrap().replayed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repetition_is_answered_though_its_vectors_have_gone_out_of_use() {
    let Some(rig) = Rig::on(SERVERS[1]).await else { return };
    let context = tenant("t");
    super::rig::set_spaces(&rig, &context, space("old", 2), None).await;
    let vectors = || Vectors::Replace([(space("old", 2).id(), vec![1.0, 0.0])].into());
    let write = || Write::put(item("a", "x"), vectors(), Precondition::Absent);
    let with_key = keyed("key", 1, vec![write()]);
    let first = rig.store.commit(&context, with_key.clone()).await.unwrap();
    super::rig::set_spaces(&rig, &context, space("new", 3), None).await;
    assert!(rig.store.commit(&context, with_key).await.unwrap().replayed);
    let mut own = commit(vec![write()]);
    let refused = rig.store.commit(&context, own.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let refused = rig.store.commit(&context, own.clone().resent()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    // The first commit's own id: it has happened.
    own.id = first_id(&rig, &context).await;
    let again = rig.store.commit(&context, own.resent()).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.results[0].revision, first.results[0].revision);
}

/// The id of the commit that wrote `a`.
async fn first_id(rig: &Rig, context: &memory_core::CallContext) -> memory_core::CommitId {
    assert!(rig.store.fetch_one(context, &id("a")).await.unwrap().is_some());
    let bytes = rig.raw("t").hash("m:a")["k"].clone();
    memory_core::CommitId::from_bytes(bytes.try_into().unwrap())
}
