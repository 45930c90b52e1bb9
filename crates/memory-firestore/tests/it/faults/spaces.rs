//! Two processes that name the same space at once.

use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{
    RecordStore as _, StoreMeta as _, TenantSpaces, UpsertOutcome, VectorEntry, VectorIndex as _,
    VectorQuery,
};
use memory_core::{EmbeddingSpace, ErrorKind, Metric};
use memory_firestore::GuardMode;
use memory_testkit::proxy::{Direction, Plan};

use super::rig::{Rig, until};
use crate::common::{commit, id, item, tenant, with_vector};

fn space(revision: &str) -> EmbeddingSpace {
    EmbeddingSpace::new("test", revision, 3, Metric::Cosine).expect("a valid space")
}

/// Of two that name a space again which has left vectors behind, the slow one takes none away that
/// were kept since the quick one named it.
async fn name_at_once(guard: GuardMode) {
    let Some(rig) = Rig::new(71, |settings| {
        settings.guard = guard;
        settings.sweep_batch = 2;
    })
    .await
    else {
        return;
    };
    let (context, old, new) = (tenant("t"), space("1"), space("2"));
    let spaces = |active: &EmbeddingSpace, version| TenantSpaces {
        active: Some(active.clone()),
        version,
        ..TenantSpaces::default()
    };
    let made = rig.direct.set_spaces(&context, &spaces(&old, 0)).await.unwrap();
    let writes = (0..5).map(|n| with_vector(item(&format!("{n}"), "x"), &old, [1.0, 0.0, 0.0]));
    let receipt = rig.direct.commit(&context, commit(writes.collect())).await.unwrap();
    let before = rig.direct.set_spaces(&context, &spaces(&new, made.version)).await.unwrap();
    let wanted = spaces(&old, before.version);
    // The slow one knows the store, and whether the server verifies.
    let known = with_vector(item("known", "x"), &new, [1.0, 0.0, 0.0]);
    rig.store.commit(&context, commit(vec![known])).await.unwrap();

    rig.proxy.set(Plan::pass().delay(Direction::ToClient, Duration::from_millis(500)));
    let sent = rig.proxy.stats().requests;
    let slow = {
        let (store, context, wanted) = (Arc::clone(&rig.store), context.clone(), wanted.clone());
        tokio::spawn(async move { store.set_spaces(&context, &wanted).await })
    };
    until("it has read the tenant and looks for vectors", || {
        rig.proxy.stats().requests >= sent + 2
    })
    .await;
    rig.direct.set_spaces(&context, &wanted).await.unwrap();
    let entries = receipt.results.into_iter().map(|result| VectorEntry {
        id: result.id,
        revision: result.revision.expect("a put has a revision"),
        vector: vec![0.0, 1.0, 0.0],
    });
    let kept = rig.direct.upsert(&context, &old, &entries.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(kept, [UpsertOutcome::Stored; 5]);
    let late = slow.await.unwrap().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "{late:?}");
    rig.proxy.heal();
    let query = VectorQuery::new(old.clone(), vec![0.0, 1.0, 0.0], 10);
    let hits = rig.direct.search(&context, &query).await.unwrap().hits;
    let mut found: Vec<_> = hits.into_iter().map(|hit| hit.id).collect();
    found.sort();
    assert_eq!(found, ["0", "1", "2", "3", "4"].map(id), "what was kept is there");

    // And the twin: what a space has left behind does go, before it is named again.
    let now = rig.direct.spaces(&context).await.unwrap().version;
    let dropped = rig.store.set_spaces(&context, &spaces(&new, now)).await.unwrap();
    rig.store.set_spaces(&context, &spaces(&old, dropped.version)).await.unwrap();
    assert!(rig.direct.search(&context, &query).await.unwrap().hits.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_space_named_twice_at_once_keeps_its_new_vectors() {
    name_at_once(GuardMode::Auto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_space_named_twice_at_once_keeps_its_new_vectors_in_transactions() {
    name_at_once(GuardMode::Transaction).await;
}
