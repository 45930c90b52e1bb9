//! Collections: made on demand, checked before use.

use memory_core::traits::{VectorIndex as _, VectorQuery};
use memory_core::{EmbeddingSpace, ErrorKind, ManualClock, MetaKey, Metric, Outcome};
use serde_json::json;

use std::sync::Arc;

use super::server::Fault;
use super::{Book, Rig, context, id, index, item, now, settings, space};

#[tokio::test]
async fn a_collection_is_made_once_and_used_without_further_looks() {
    let rig = Rig::new().await;
    rig.server.with(|state| state.slow = 2);
    rig.index.prepare(&space()).await.unwrap();
    assert_eq!(
        rig.server.lines(),
        [
            "GET /collections/",
            "POST /collections",
            "GET /operations/",
            "GET /operations/",
            "GET /collections/"
        ]
    );
    let made = &rig.server.seen()[1];
    assert_eq!(made.parameter("collectionId").map(str::len), Some("memories-".len() + 20));
    assert_eq!(made.body["vectorSchema"]["embedding"]["denseVector"]["dimensions"], json!(2));
    assert_eq!(made.body["dataSchema"]["properties"]["tenant"]["type"], json!("string"));
    rig.server.forget_seen();
    rig.index.prepare(&space()).await.unwrap();
    assert_eq!(rig.server.lines(), ["GET /collections/"]);
    rig.server.forget_seen();
    let one = item("a");
    let entry = [memory_vector::google::ItemVector { item: &one, vector: &[1.0, 0.0] }];
    rig.index.upsert_items(&context(), &space(), &entry).await.unwrap();
    assert_eq!(rig.server.lines(), ["POST :batchCreate"]);
    // Another process looks once.
    let other = index(rig.index.settings().clone(), &rig.clock, &Arc::<Book>::default()).await;
    rig.server.forget_seen();
    for _ in 0..2 {
        assert_eq!(other.held(&context(), &space(), &[id("a")]).await.unwrap().len(), 1);
    }
    assert_eq!(rig.server.lines(), ["GET /collections/", "GET /dataObjects/", "GET /dataObjects/"]);
}

#[tokio::test]
async fn two_that_make_it_at_once_both_succeed() {
    let rig = Rig::new().await;
    let other = index(rig.index.settings().clone(), &rig.clock, &rig.book).await;
    let (space, second) = (space(), space());
    let (first, second) = tokio::join!(rig.index.prepare(&space), other.prepare(&second));
    first.unwrap();
    second.unwrap();
    assert_eq!(rig.server.with(|state| state.collections.len()), 1);
}

#[tokio::test]
async fn without_its_collection_a_space_is_unknown() {
    let rig = Rig::new().await;
    let query = VectorQuery::new(space(), vec![1.0, 0.0], 1);
    for _ in 0..2 {
        let error = rig.index.search(&context(), &query).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let error = rig.index.remove(&context(), &space(), &[id("a")]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    rig.index.prepare(&space()).await.unwrap();
    rig.index.search(&context(), &query).await.unwrap();
    // Somebody removes it; what is known of it is forgotten.
    rig.server.with(|state| state.collections.clear());
    let one = item("a");
    let entry = [memory_vector::google::ItemVector { item: &one, vector: &[1.0, 0.0] }];
    let error = rig.index.upsert_items(&context(), &space(), &entry).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    rig.server.forget_seen();
    let error = rig.index.search(&context(), &query).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(rig.server.lines(), ["GET /collections/"]);
}

#[tokio::test]
async fn a_collection_that_is_made_otherwise_is_refused_and_named() {
    let rig = Rig::new().await;
    rig.index.prepare(&space()).await.unwrap();
    let change = |at: &str, value: serde_json::Value| {
        rig.server.with(|state| {
            let body = &mut state.collections.values_mut().next().unwrap().body;
            *body.pointer_mut(at).unwrap() = value;
        });
    };
    let fresh = || async {
        let clock = Arc::new(ManualClock::new(now()));
        index(settings(&rig.server), &clock, &Arc::<Book>::default()).await
    };
    change("/vectorSchema/embedding/denseVector/dimensions", json!(3));
    let error = fresh().await.prepare(&space()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("3 dimensions"), "{error}");
    change("/vectorSchema/embedding/denseVector/dimensions", json!(2));
    change("/dataSchema/properties/mn_n", json!({"type": "string"}));
    let error = fresh().await.prepare(&space()).await.unwrap_err();
    assert!(error.message().contains("lacks mn_n:"), "{error}");
    change("/dataSchema/properties/mn_n", json!({"type": "number"}));
    fresh().await.prepare(&space()).await.unwrap();
    // A key that is declared later.
    let mut more = settings(&rig.server);
    more.filter_keys.insert(MetaKey::new("later").unwrap());
    let later = index(more, &rig.clock, &rig.book).await;
    let error = later.prepare(&space()).await.unwrap_err();
    assert!(error.message().contains("mb_later, ml_later, mn_later, mt_later"), "{error}");
    change("/vectorSchema", json!({"other": {"sparseVector": {}}}));
    let error = fresh().await.prepare(&space()).await.unwrap_err();
    assert!(error.message().contains("`embedding`"), "{error}");
}

#[tokio::test]
async fn an_operation_that_fails_or_takes_too_long_is_told() {
    let rig = Rig::new().await;
    let failed = json!({"name": "projects/p/locations/l/operations/o", "done": true,
        "error": {"code": 8, "message": "secret words"}});
    let none = Fault::status(404, "NOT_FOUND");
    rig.server.fail_next([none.clone(), Fault::Refused(200, failed)]);
    let error = rig.index.prepare(&space()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    // The clock moves on while the operation is waited for.
    rig.server.with(|state| state.slow = u32::MAX);
    let clock = Arc::clone(&rig.clock);
    let mover = async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            clock.advance(std::time::Duration::from_secs(100));
        }
    };
    let wanted = space();
    let error = tokio::select! {
        answer = rig.index.prepare(&wanted) => answer.unwrap_err(),
        () = mover => unreachable!(),
    };
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown));
}

#[tokio::test]
async fn spaces_of_other_metrics_are_unsupported() {
    let rig = Rig::new().await;
    let space = EmbeddingSpace::new("model", "1", 2, Metric::Euclidean).unwrap();
    let error = rig.index.prepare(&space).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = rig.index.remove(&context(), &space, &[id("a")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(rig.server.seen().is_empty());
}
