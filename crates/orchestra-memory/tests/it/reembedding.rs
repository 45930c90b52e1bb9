//! Moving a tenant to another model: stopped at every step, beside writers of the old model, given
//! up, and on every back end.

use std::sync::Arc;

use orchestra_memory::{
    AddManyOptions, AddOptions, ArmSelection, Callback, CancelFlag, EmbedOptions, EmbedReport,
    ErrorKind, Memory, NewMemory, ReembedReport, SearchRequest, TenantMemory, VectorProjection,
};

use crate::support::{block_on, embedding, id, note};
use crate::words::{Failure, REFUSED, Words};

const MEMORIES: usize = 30;

async fn open(url: &str, words: &Words) -> Memory {
    Memory::builder()
        .url(url)
        .settings(embedding())
        .embedder(words.embedder())
        .open()
        .await
        .unwrap()
}

async fn fill(tenant: &TenantMemory) {
    let notes: Vec<NewMemory> = (0..MEMORIES)
        .map(|n| note(&format!("memory {n} of tea")).with_id(id(&format!("m{n:02}"))))
        .collect();
    let report = tenant.add_many(notes, AddManyOptions::new()).await;
    assert_eq!(report.added, MEMORIES as u64);
}

/// How many memories have a vector in the active space, by a search that finds all.
async fn near(tenant: &TenantMemory) -> usize {
    let request = SearchRequest::new().with_text("tea").with_arms(ArmSelection::VectorOnly);
    let request = request.with_limit(orchestra_memory::Limit::Count(100));
    tenant.search(&request).await.unwrap().hits.len()
}

fn moved(report: &ReembedReport) -> (u64, u64, bool) {
    assert!(report.embed.stopped.is_none(), "{:?}", report.embed.stopped);
    (report.embed.embedded, report.embed.failed, report.switched)
}

/// Each store of this build that is there, at a place of its own.
#[expect(clippy::needless_pass_by_value, reason = "callers write the check as a closure in place")]
fn each_url(check: impl AsyncFn(&str)) {
    let folder = tempfile::tempdir().unwrap();
    crate::redis::run(check(&format!("sqlite:{}", folder.path().join("it.db").display())));
    for server in [crate::redis::SEARCH, "MEMORY_TEST_REDIS_PLAIN"] {
        if let Some(own) = crate::redis::Own::new(server) {
            crate::redis::run(check(&own.url()));
        }
    }
    if let Some(url) = crate::firestore::url() {
        crate::redis::run(check(&url));
    }
}

#[test]
fn a_tenant_is_moved_and_the_old_vectors_go() {
    each_url(async |url| {
        let (old, new) = (Words::of("old", 8), Words::of("new", 8));
        let before = open(url, &old).await;
        fill(&before.default_tenant()).await;
        let after = open(url, &new).await;
        let (mine, yours) = (before.default_tenant(), after.default_tenant());
        let ask = SearchRequest::new().with_text("tea").with_arms(ArmSelection::VectorOnly);
        let error = yours.search(&ask).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("`reembed`"), "{error}");
        let preview = yours.reembed_preview().await.unwrap();
        assert_eq!((preview.memories, preview.begun), (MEMORIES as u64, false));
        assert_eq!(preview.from.unwrap().model(), "old");
        assert_eq!(preview.estimate.is_some(), url.starts_with("firestore"));
        assert_eq!(near(&mine).await, MEMORIES, "nothing has happened");

        let report = yours.reembed(EmbedOptions::new()).await;
        assert_eq!(moved(&report), (MEMORIES as u64, 0, true));
        let spaces = yours.spaces().await.unwrap();
        assert_eq!((spaces.active.unwrap().model(), spaces.next), ("new", None));
        assert_eq!(near(&yours).await, MEMORIES);
        let all = orchestra_memory::Projection::full().with_vectors(VectorProjection::All);
        let found = yours.get_many(&[id("m00")], &all).await.unwrap();
        assert_eq!(found[0].as_ref().unwrap().vectors.len(), 1);
        // Once more: there is nothing to move, and nothing is made.
        let (calls, report) = (new.calls(), yours.reembed(EmbedOptions::new()).await);
        assert_eq!((moved(&report), new.calls()), ((0, 0, false), calls));
        before.close().await.unwrap();
        after.close().await.unwrap();
    });
}

#[test]
fn a_move_that_is_stopped_after_each_step_goes_on() {
    each_url(async |url| {
        let (old, new) = (Words::of("old", 8), Words::of("new", 8));
        let before = open(url, &old).await;
        fill(&before.default_tenant()).await;
        let (mut embedded, mut stops) = (0, 0);
        loop {
            // Another process each time.
            let after = open(url, &new).await;
            let tenant = after.default_tenant();
            let cancel = CancelFlag::new();
            let stop = cancel.clone();
            let options = EmbedOptions::new()
                .with_batch_size(4)
                .with_cancel(cancel)
                .with_progress(Callback::new(move |_: &EmbedReport| stop.cancel()));
            let report = tenant.reembed(options).await;
            assert!(report.embed.stopped.is_none(), "{:?}", report.embed.stopped);
            embedded += report.embed.embedded;
            if !report.embed.cancelled {
                assert!(report.switched);
                assert_eq!(near(&tenant).await, MEMORIES);
                after.close().await.unwrap();
                break;
            }
            stops += 1;
            assert!(!report.switched && stops < 50);
            // Until the end the old vectors serve.
            assert_eq!(near(&before.default_tenant()).await, MEMORIES);
            assert!(tenant.reembed_preview().await.unwrap().begun);
            after.close().await.unwrap();
        }
        assert!(stops > 3, "it was stopped {stops} times");
        assert_eq!(embedded, MEMORIES as u64, "nothing was made twice");
        before.close().await.unwrap();
    });
}

#[test]
fn what_is_written_by_the_old_model_meanwhile_comes_along() {
    each_url(async |url| {
        let (old, new) = (Words::of("old", 8), Words::of("new", 8));
        let before = open(url, &old).await;
        fill(&before.default_tenant()).await;
        let after = open(url, &new).await;
        let tenant = after.default_tenant();
        let writer = Arc::new(before.default_tenant());
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (inside, seen) = (writer.clone(), count.clone());
        let options = EmbedOptions::new().with_batch_size(8).with_progress(Callback::new(
            move |_: &EmbedReport| {
                let n = seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                if n < 3 {
                    let name = id(&format!("late{n}"));
                    let tenant = inside.clone();
                    // A thread of its own: the call is in the middle of a step.
                    std::thread::spawn(move || {
                        crate::redis::run(async {
                            let late = note(&format!("late {n} tea")).with_id(name);
                            tenant.add_with(late, AddOptions::new()).await.map(drop)
                        })
                    })
                    .join()
                    .unwrap()
                    .unwrap();
                }
            },
        ));
        let report = tenant.reembed(options).await;
        let (embedded, failed, switched) = moved(&report);
        assert_eq!((embedded, failed, switched), (MEMORIES as u64 + 3, 0, true));
        assert_eq!(near(&tenant).await, MEMORIES + 3);
        before.close().await.unwrap();
        after.close().await.unwrap();
    });
}

#[cfg(feature = "sqlite")]
#[test]
fn a_move_can_be_given_up_and_no_third_model_breaks_in() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("it.db").display());
    block_on(async {
        let (old, new, third) = (Words::of("old", 8), Words::of("new", 8), Words::of("third", 8));
        let before = open(&url, &old).await;
        fill(&before.default_tenant()).await;
        let after = open(&url, &new).await;
        let tenant = after.default_tenant();
        assert!(!tenant.abandon_reembed().await.unwrap());
        // The model fails half way.
        new.fail(100, Failure::Kind(ErrorKind::Unavailable));
        let report = tenant.reembed(EmbedOptions::new()).await;
        assert_eq!(report.embed.stopped.unwrap().kind(), ErrorKind::Unavailable);
        assert!(!report.switched);
        let other = open(&url, &third).await;
        let report = other.default_tenant().reembed(EmbedOptions::new()).await;
        let error = report.embed.stopped.unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("--abandon"), "{error}");
        assert!(tenant.abandon_reembed().await.unwrap());
        assert_eq!(near(&before.default_tenant()).await, MEMORIES);
        let report = other.default_tenant().reembed(EmbedOptions::new()).await;
        assert_eq!(moved(&report), (MEMORIES as u64, 0, true));
        for memory in [before, after, other] {
            memory.close().await.unwrap();
        }
    });
}

#[cfg(feature = "sqlite")]
#[test]
fn a_text_that_the_new_model_refuses_is_told_and_keeps_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("it.db").display());
    block_on(async {
        let plain = Memory::builder().url(&url).settings(crate::support::plain());
        let plain = plain.open().await.unwrap();
        let vector = vec![1.0; 3];
        for (name, text) in [("a", "tea"), ("b", REFUSED), ("c", "more tea")] {
            let memory = note(text).with_id(id(name)).with_embedding(vector.clone());
            plain.default_tenant().add_with(memory, AddOptions::new()).await.unwrap();
        }
        let new = Words::of("new", 8);
        let after = open(&url, &new).await;
        let tenant = after.default_tenant();
        let report = tenant.reembed(EmbedOptions::new()).await;
        assert_eq!(moved(&report), (2, 1, true));
        assert_eq!(report.embed.failures[0].id, id("b"));
        assert_eq!(near(&tenant).await, 2);
        plain.close().await.unwrap();
        after.close().await.unwrap();
    });
}
