//! Keeping and removing, out of creates, updates and deletes.

use memory_core::traits::{UpsertOutcome, VectorEntry, VectorIndex as _};
use memory_core::{ErrorKind, MemoryItem, MetaKey, MetaValue, Outcome, Revision};
use memory_google_auth::QUOTA_PROJECT_HEADER;
use memory_vector::google::ItemVector;
use serde_json::json;

use super::server::Fault;
use super::{Rig, context, id, item, now, of_tenant, space};

async fn keep(rig: &Rig, items: &[MemoryItem]) -> Vec<UpsertOutcome> {
    let entries: Vec<ItemVector<'_>> =
        items.iter().map(|item| ItemVector { item, vector: &[1.0, 0.5] }).collect();
    rig.index.upsert_items(&context(), &space(), &entries).await.unwrap()
}

fn items(count: usize) -> Vec<MemoryItem> {
    (0..count).map(|n| item(&format!("{n:04}"))).collect()
}

#[tokio::test]
async fn new_objects_take_one_request_and_known_ones_two() {
    let rig = Rig::ready().await;
    let few = items(3);
    assert_eq!(keep(&rig, &few).await, [UpsertOutcome::Stored; 3]);
    assert_eq!(rig.server.lines(), ["POST :batchCreate"]);
    rig.server.forget_seen();
    keep(&rig, &few).await;
    assert_eq!(rig.server.lines(), ["POST :batchCreate", "POST :batchUpdate"]);
    assert_eq!(rig.server.objects(), 3);
    rig.server.forget_seen();
    // One of them is new: the batch is halved where it has both kinds.
    keep(&rig, &items(4)).await;
    assert_eq!(rig.server.objects(), 4);
    assert!(rig.server.lines().len() <= 2 + 2 * 4, "{:?}", rig.server.lines());
}

#[tokio::test]
async fn any_mixture_of_new_and_known_objects_is_kept_whether_batches_are_torn_or_whole() {
    for torn in [false, true] {
        for known in [0_u32, 1, 0b1010_1010, 0b1111_0000, 0b0111_1111, 0xff] {
            let rig = Rig::ready().await;
            rig.server.with(|state| state.torn = torn);
            let all = items(8);
            let there: Vec<MemoryItem> = all
                .iter()
                .enumerate()
                .filter(|(at, _)| known & (1 << at) != 0)
                .map(|(_, item)| item.clone())
                .collect();
            if !there.is_empty() {
                keep(&rig, &there).await;
            }
            let mut anew = all.clone();
            for item in &mut anew {
                item.revision = Some(Revision::from_number(2));
            }
            keep(&rig, &anew).await;
            let ids: Vec<_> = all.iter().map(|item| item.id.clone()).collect();
            let held = rig.index.held(&context(), &space(), &ids).await.unwrap();
            assert_eq!(held.len(), 8, "torn {torn}, known {known:b}");
            assert!(held.iter().all(|(_, revision)| revision.as_str() == "2"));
            assert_eq!(rig.server.objects(), 8);
        }
    }
}

#[tokio::test]
async fn batches_are_cut_by_number_and_by_bytes() {
    let rig = Rig::with(|settings| settings.batch_objects = 1_000).await;
    rig.prepared().await;
    keep(&rig, &items(1_000)).await;
    assert_eq!(rig.server.lines(), ["POST :batchCreate"]);
    let rig = Rig::with(|settings| settings.batch_objects = 400).await;
    rig.prepared().await;
    keep(&rig, &items(1_000)).await;
    assert_eq!(rig.server.lines().len(), 3);
    let rig = Rig::with(|settings| {
        settings.batch_objects = 1_000;
        settings.batch_bytes = 64 * 1024;
    })
    .await;
    rig.prepared().await;
    keep(&rig, &items(500)).await;
    let seen = rig.server.seen();
    assert!(seen.len() > 3, "{}", seen.len());
    assert!(seen.iter().all(|request| request.bytes <= 64 * 1024), "a batch is too large");
    assert_eq!(rig.server.objects(), 500);
}

#[tokio::test]
async fn the_last_of_several_entries_for_one_item_stays() {
    let rig = Rig::ready().await;
    let entry = |revision: u64, vector: [f32; 2]| VectorEntry {
        id: id("a"),
        revision: Revision::from_number(revision),
        vector: vector.to_vec(),
    };
    let entries = [entry(1, [1.0, 0.0]), entry(2, [0.0, 1.0])];
    let outcomes = rig.index.upsert(&context(), &space(), &entries).await.unwrap();
    assert_eq!(outcomes, [UpsertOutcome::Stored; 2]);
    let held = rig.index.held(&context(), &space(), &[id("a")]).await.unwrap();
    assert_eq!(held, [(id("a"), Revision::from_number(2))]);
}

#[tokio::test]
async fn what_is_sent_of_an_item_is_not_its_text() {
    let rig = Rig::with(|settings| settings.quota_project = Some("who-pays".to_owned())).await;
    rig.prepared().await;
    let mut one = item("a/b 😀");
    one.payload = Some(json!({"secret": true}));
    one.metadata.insert(MetaKey::new("topic").unwrap(), MetaValue::Text("tea".to_owned()));
    one.metadata.insert(MetaKey::new("other").unwrap(), MetaValue::Text("secret".to_owned()));
    keep(&rig, &[one]).await;
    let seen = &rig.server.seen()[0];
    assert_eq!(seen.header("authorization"), Some("Bearer owner"));
    assert_eq!(seen.header(QUOTA_PROJECT_HEADER), Some("who-pays"));
    let body = seen.body.to_string();
    assert!(!body.contains("secret"), "{body}");
    let data = &seen.body["requests"][0]["dataObject"]["data"];
    assert_eq!((&data["id"], &data["tenant"]), (&json!("a/b 😀"), &json!("t")));
    assert_eq!((&data["mt_topic"], &data["f_user_id"]), (&json!("tea"), &json!("ada")));
    assert_eq!(data["bare"], json!(false));
    // The mark of a well-made request body: the definitions' names.
    assert!(seen.body["requests"][0]["dataObjectId"].as_str().unwrap().starts_with('m'));
}

#[tokio::test]
async fn expired_items_are_stale_and_items_without_a_revision_refused() {
    let rig = Rig::ready().await;
    let mut expired = item("expired");
    expired.expires_at = Some(now());
    let mut later = item("later");
    later.expires_at = Some(now().saturating_add(std::time::Duration::from_secs(1)));
    let outcomes = keep(&rig, &[expired, later]).await;
    assert_eq!(outcomes, [UpsertOutcome::Stale, UpsertOutcome::Stored]);
    assert_eq!(rig.server.objects(), 1);
    let mut unstored = item("x");
    unstored.revision = None;
    let entry = [ItemVector { item: &unstored, vector: &[1.0, 0.0] }];
    let error = rig.index.upsert_items(&context(), &space(), &entry).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn bad_vectors_and_too_many_are_refused_before_anything_is_sent() {
    let rig = Rig::ready().await;
    let one = item("a");
    for vector in [&[1.0][..], &[1.0, f32::NAN], &[1.0, f32::INFINITY], &[0.0, 0.0], &[1.0; 3]] {
        let entry = [ItemVector { item: &one, vector }];
        let error = rig.index.upsert_items(&context(), &space(), &entry).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{vector:?}");
    }
    let entries = vec![ItemVector { item: &one, vector: &[1.0, 0.0] }; 1_001];
    let error = rig.index.upsert_items(&context(), &space(), &entries).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let ids = vec![id("a"); 1_001];
    let error = rig.index.remove(&context(), &space(), &ids).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, "remove"));
    assert!(rig.server.seen().is_empty());
    assert!(rig.index.upsert_items(&context(), &space(), &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn removing_is_idempotent_and_stays_in_its_tenant() {
    for torn in [false, true] {
        let rig = Rig::ready().await;
        rig.server.with(|state| state.torn = torn);
        let nine = items(9);
        keep(&rig, &nine).await;
        let of_other = VectorEntry {
            id: id("0003"),
            revision: Revision::from_number(1),
            vector: vec![1.0, 0.0],
        };
        rig.index.upsert(&of_tenant("other"), &space(), &[of_other]).await.unwrap();
        // The third is given twice, two are not there.
        let ids = ["0003", "0003", "none", "0005", "0007", "nothing"].map(id);
        for _ in 0..2 {
            rig.index.remove(&context(), &space(), &ids).await.unwrap();
            assert_eq!(rig.server.objects(), 7, "torn {torn}");
        }
        let held = rig.index.held(&of_tenant("other"), &space(), &[id("0003")]).await.unwrap();
        assert_eq!(held.len(), 1);
        rig.server.forget_seen();
        rig.index.remove(&context(), &space(), &["0000", "0001", "0002"].map(id)).await.unwrap();
        assert_eq!(rig.server.lines(), ["POST :batchDelete"]);
    }
}

#[tokio::test]
async fn a_batch_after_others_leaves_the_outcome_unknown() {
    let rig = Rig::with(|settings| settings.batch_objects = 2).await;
    rig.prepared().await;
    let all = items(4);
    let entries: Vec<ItemVector<'_>> =
        all.iter().map(|item| ItemVector { item, vector: &[1.0, 0.5] }).collect();
    rig.server.fail_next([Fault::status(429, "RESOURCE_EXHAUSTED")]);
    let error = rig.index.upsert_items(&context(), &space(), &entries).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::RateLimited, Outcome::NotApplied));
    let none: [Fault; 0] = [];
    rig.server.fail_next(none);
    // The first batch is there when the second fails.
    keep(&rig, &all[..2]).await;
    rig.server.fail_next([
        Fault::status(409, "ALREADY_EXISTS"),
        Fault::Refused(200, json!({})),
        Fault::status(429, "RESOURCE_EXHAUSTED"),
    ]);
    let error = rig.index.upsert_items(&context(), &space(), &entries).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::RateLimited, Outcome::Unknown));
    rig.index.upsert_items(&context(), &space(), &entries).await.unwrap();
    assert_eq!(rig.server.objects(), 4);
}

#[tokio::test]
async fn an_object_that_comes_and_goes_ends_the_call() {
    let rig = Rig::ready().await;
    let turns = (0..8).map(|turn| match turn % 2 {
        0 => Fault::status(409, "ALREADY_EXISTS"),
        _ => Fault::status(404, "NOT_FOUND"),
    });
    rig.server.fail_next(turns);
    let one = item("a");
    let entry = [ItemVector { item: &one, vector: &[1.0, 0.0] }];
    let error = rig.index.upsert_items(&context(), &space(), &entry).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    assert_eq!(rig.server.lines().len(), 8);
}
