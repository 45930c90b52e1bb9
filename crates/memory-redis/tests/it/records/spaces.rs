//! Vectors of commits, and spaces that another process changes.

use memory_core::traits::{RecordStore as _, RecordStoreExt as _};
use memory_core::{
    CallContext, ErrorKind, MemoryItem, Precondition, Projection, VectorProjection, Vectors, Write,
};
use memory_redis::RedisStore;

use super::rig::{Rig, SERVERS, commit, id, item, put_one, revision, set_spaces, space, tenant};

fn with_vector(item: MemoryItem, model: &str, vector: &[f32], precondition: Precondition) -> Write {
    let dimensions = u32::try_from(vector.len()).unwrap();
    let vectors = [(space(model, dimensions).id(), vector.to_vec())].into();
    Write::put(item, Vectors::Replace(vectors), precondition)
}

async fn vectors(store: &RedisStore, context: &CallContext, name: &str) -> Vec<Vec<f32>> {
    let all = Projection::narrow().with_vectors(VectorProjection::All);
    let found = store.fetch(context, &[id(name)], &all).await.unwrap();
    found.into_iter().flatten().flat_map(|item| item.vectors.into_values()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_are_kept_with_their_content_and_go_with_it() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let context = tenant("t");
        let store = &rig.store;
        set_spaces(&rig, &context, space("m", 2), Some(space("n", 3))).await;
        let both = [
            (space("m", 2).id(), vec![0.25, -0.5]),
            (space("n", 3).id(), vec![1.0, f32::MIN_POSITIVE, 0.0]),
        ];
        let first = Write::put(item("a", "x"), Vectors::Replace(both.into()), Precondition::Absent);
        let held = revision(&store.commit(&context, commit(vec![first])).await.unwrap());
        assert_eq!(vectors(store, &context, "a").await.len(), 2);
        assert!(store.fetch_one(&context, &id("a")).await.unwrap().unwrap().vectors.is_empty());

        let mut same = item("a", "x");
        same.importance = Some(1.0);
        let keep = Write::put(same, Vectors::Keep, Precondition::Revision(held));
        let held = revision(&store.commit(&context, commit(vec![keep])).await.unwrap());
        let kept = vectors(store, &context, "a").await;
        assert_eq!(kept, [vec![0.25, -0.5], vec![1.0, f32::MIN_POSITIVE, 0.0]]);

        let keep = Write::put(item("a", "x"), Vectors::Keep, Precondition::Revision(held));
        let held = revision(&store.commit(&context, commit(vec![keep])).await.unwrap());
        let found = store.fetch_one(&context, &id("a")).await.unwrap().unwrap();
        assert_eq!(found.importance, None, "what is not a vector goes");
        assert_eq!(vectors(store, &context, "a").await.len(), 2);

        let other = Write::put(item("a", "y"), Vectors::Keep, Precondition::Revision(held));
        let held = revision(&store.commit(&context, commit(vec![other])).await.unwrap());
        assert!(vectors(store, &context, "a").await.is_empty());
        let again = with_vector(item("a", "y"), "m", &[1.0, 0.0], Precondition::Revision(held));
        store.commit(&context, commit(vec![again])).await.unwrap();
        assert_eq!(vectors(store, &context, "a").await, [[1.0, 0.0]]);
        put_one(store, &context, item("a", "y")).await.unwrap();
        assert!(vectors(store, &context, "a").await.is_empty(), "a put has the vectors it brings");
        rig.raw("t").check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_vectors_are_refused_and_nothing_is_written() {
    let Some(rig) = Rig::on(SERVERS[1]).await else { return };
    let context = tenant("t");
    set_spaces(&rig, &context, space("m", 2), None).await;
    let before = rig.raw("t").dump();
    for (model, vector) in [
        ("m", vec![1.0, 0.0, 0.0]),
        ("m", vec![0.0, 0.0]),
        ("m", vec![f32::NAN, 1.0]),
        ("other", vec![1.0, 0.0]),
    ] {
        let fine = with_vector(item("a", "x"), "m", &[1.0, 0.0], Precondition::Any);
        let mut bad = with_vector(item("b", "x"), model, &vector, Precondition::Any);
        if model == "m" {
            let vectors = [(space("m", 2).id(), vector)].into();
            bad = Write::put(item("b", "x"), Vectors::Replace(vectors), Precondition::Any);
        }
        let error = rig.store.commit(&context, commit(vec![fine, bad])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.context().contains(&("write", "1".to_owned())));
        rig.raw("t").assert_unchanged(&before);
    }
    let fine = with_vector(item("a", "x"), "m", &[1.0, 0.0], Precondition::Any);
    rig.store.commit(&context, commit(vec![fine])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spaces_that_another_process_changes_are_noticed() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let context = tenant("t");
        let other = rig.another().await;
        set_spaces(&rig, &context, space("m", 2), None).await;
        let one = with_vector(item("a", "x"), "m", &[1.0, 0.0], Precondition::Any);
        rig.store.commit(&context, commit(vec![one.clone()])).await.unwrap();
        assert_eq!(vectors(&rig.store, &context, "a").await, [[1.0, 0.0]]);

        set_spaces(&rig, &context, space("n", 3), None).await;
        assert!(vectors(&rig.store, &context, "a").await.is_empty(), "of a space that has gone");
        let gone = rig.store.commit(&context, commit(vec![one.clone()])).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::InvalidInput);
        // What the first knows is old again, and the vector is of the new space.
        set_spaces(&rig, &context, space("p", 2), None).await;
        let new = with_vector(item("b", "x"), "p", &[0.0, 1.0], Precondition::Any);
        rig.store.commit(&context, commit(vec![new])).await.unwrap();
        assert_eq!(vectors(&other, &context, "b").await, [[0.0, 1.0]]);
        // Without vectors the version is of no account.
        put_one(&rig.store, &context, item("c", "x")).await.unwrap();
    }
}
