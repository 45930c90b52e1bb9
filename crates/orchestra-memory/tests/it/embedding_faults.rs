//! What becomes of memories whose vector cannot be made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memory_core::traits::{MockRecordStore, MockStoreMeta, TenantSpaces};
use memory_core::{Error, Write};
use orchestra_memory::{
    AddManyOptions, AddOptions, ArmSelection, ErrorKind, ImportOptions, Memory, NewMemory,
    OnEmbedFailure, Patch, SearchRequest, Settings, TenantMemory, UpdateOptions, VectorState,
};

use crate::support::{block_on, each_store_embedding, embedding, id, mock_backend, note, written};
use crate::words::{Failure, REFUSED, Words};

fn refusing() -> Settings {
    let mut settings = embedding();
    settings.embedding.on_failure = OnEmbedFailure::Refuse;
    settings
}

fn many(texts: &[&str]) -> Vec<NewMemory> {
    let named = |(n, text): (usize, &&str)| note(text).with_id(id(&format!("m{n}")));
    texts.iter().enumerate().map(named).collect()
}

fn lines(texts: &[&str]) -> String {
    let line = |text: &&str| format!("{{\"user_id\":\"u\",\"content\":\"{text}\"}}\n");
    texts.iter().map(line).collect()
}

const AWAY: Failure = Failure::Kind(ErrorKind::Unavailable);

async fn embedded(tenant: &TenantMemory) -> (u64, u64) {
    let stats = tenant.stats().await.unwrap();
    (stats.items, stats.embedded)
}

#[test]
fn a_memory_is_stored_without_its_vector_and_the_receipt_says_so() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        for (n, failure) in
            [AWAY, Failure::Short, Failure::Long, Failure::Nan].into_iter().enumerate()
        {
            words.fail(1, failure);
            let receipt = tenant.add_with(note("kept"), AddOptions::new()).await.unwrap();
            assert_eq!(receipt.vector, VectorState::Missing, "{failure:?}");
            let reason = receipt.vector_reason.unwrap();
            let corrupt = failure != AWAY;
            assert_eq!(reason.starts_with("corrupt"), corrupt, "{reason}");
            assert!(!reason.contains("kept"), "no memory text: {reason}");
            assert_eq!(embedded(&tenant).await, (n as u64 + 1, 0));
        }
        assert!(tenant.spaces().await.unwrap().active.is_none(), "nothing was embedded yet");
        let receipt = tenant.add_with(note(REFUSED), AddOptions::new()).await.unwrap();
        assert_eq!(receipt.vector, VectorState::Missing);
        let receipt = tenant.add_with(note("fine"), AddOptions::new()).await.unwrap();
        assert_eq!((receipt.vector, receipt.vector_reason), (VectorState::Made, None));
        assert_eq!(embedded(&tenant).await, (6, 1));
        // An update goes through as well; what it had of a vector was of another text.
        words.fail(1, AWAY);
        let patch = Patch::new().with_content("finer");
        let item = tenant.update(&receipt.id, &patch, UpdateOptions::new()).await.unwrap();
        assert_eq!(item.content(), "finer");
        assert_eq!(embedded(&tenant).await, (6, 0));
        assert_eq!(stack.memory.embedding_state().await.failures, 6);
    });
}

#[test]
fn a_refused_write_leaves_nothing() {
    each_store_embedding(&refusing(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        for (failure, kind) in [
            (AWAY, ErrorKind::Unavailable),
            (Failure::Short, ErrorKind::Corrupt),
            (Failure::Long, ErrorKind::Corrupt),
            (Failure::Nan, ErrorKind::Corrupt),
        ] {
            words.fail(1, failure);
            let error = tenant.add(note("x")).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{failure:?}");
        }
        let error = tenant.add(note(REFUSED)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(embedded(&tenant).await, (0, 0));
        tenant.add(note("old").with_id(id("m"))).await.unwrap();
        words.fail(1, AWAY);
        let patch = Patch::new().with_content("new");
        let error = tenant.update(&id("m"), &patch, UpdateOptions::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(tenant.get(&id("m")).await.unwrap().unwrap().content(), "old");
        assert_eq!(embedded(&tenant).await, (1, 1));
    });
}

#[test]
fn a_batch_goes_in_without_vectors_and_is_counted() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        // Three calls of eight texts: the first one fails, and so do texts of it by themselves.
        let texts: Vec<String> = (0..20).map(|n| format!("text {n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        words.fail(0, AWAY);
        tenant.add(note("declares the space")).await.unwrap();
        words.take();
        let report = {
            let first = many(&texts[..8]);
            let report = tenant.add_many(first, AddManyOptions::new()).await;
            assert_eq!((report.added, report.without_vector), (8, 0));
            words.fail(4, AWAY);
            tenant.add_many(texts.iter().map(|text| note(text)), AddManyOptions::new()).await
        };
        assert_eq!((report.added, report.failed, report.without_vector), (20, 0, 20));
        let reason = report.without_vector_reason.as_ref().unwrap();
        assert_eq!(reason.kind(), ErrorKind::Unavailable);
        assert!(report.into_result().is_ok(), "they are stored");
        assert_eq!(words.calls(), 1 + 4, "a fault ends the calls of its batch");
        // The next batch is tried again.
        words.fail(4, AWAY);
        let options = ImportOptions::new("f").with_batch_size(4);
        let report = tenant.import(lines(&texts).as_bytes(), options).await;
        assert_eq!((report.added, report.bad, report.without_vector), (20, 0, 4));
        assert!(report.without_vector_reason.is_some() && report.stopped.is_none());
        assert_eq!(embedded(&tenant).await, (49, 25));
    });
}

#[test]
fn a_fault_that_is_not_stored_stops_before_anything_of_its_batch_is_written() {
    each_store_embedding(&refusing(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        let texts = ["a1", "b2", "c3", "d4", "e5", "f6", "g7"];
        words.fail(0, AWAY);
        tenant.add(note("declares the space")).await.unwrap();
        let options = ImportOptions::new("f").with_batch_size(2);
        // The second batch is embedded while the first one is written.
        let away = words.clone();
        let stopping = options.clone().with_progress(orchestra_memory::Callback::new(
            move |report: &orchestra_memory::ImportReport| {
                if report.added == 2 {
                    away.fail(3, AWAY);
                }
            },
        ));
        let report = tenant.import(lines(&texts).as_bytes(), stopping).await;
        assert_eq!(report.stopped.as_ref().unwrap().kind(), ErrorKind::Unavailable);
        assert_eq!((report.lines, report.added, report.pending, report.bad), (6, 4, 2, 0));
        assert_eq!(embedded(&tenant).await, (5, 5));
        let report = tenant.import(lines(&texts).as_bytes(), options).await;
        assert_eq!((report.added, report.unchanged), (3, 4));

        words.fail(4, AWAY);
        let report = tenant.add_many(many(&texts), AddManyOptions::new()).await;
        assert_eq!((report.seen, report.added, report.failed), (7, 0, 0));
        assert_eq!(report.stopped.unwrap().kind(), ErrorKind::Unavailable);
    });
}

#[test]
fn a_text_that_is_refused_stands_alone() {
    let texts = ["a1", "b2", REFUSED, "d4", "e5", "f6", "g7", "h8", "i9", REFUSED];
    each_store_embedding(&embedding(), Words::new, async |stack, _| {
        let tenant = stack.memory.default_tenant();
        let report = tenant.add_many(many(&texts), AddManyOptions::new()).await;
        assert_eq!((report.added, report.failed, report.without_vector), (10, 0, 2));
        let reason = report.without_vector_reason.unwrap();
        assert_eq!(reason.kind(), ErrorKind::InvalidInput);
        assert_eq!(embedded(&tenant).await, (10, 8));
    });
    each_store_embedding(&refusing(), Words::new, async |stack, _| {
        let tenant = stack.memory.default_tenant();
        let report = tenant.add_many(many(&texts), AddManyOptions::new()).await;
        assert!(report.stopped.is_none());
        assert_eq!((report.added, report.failed, report.without_vector), (8, 2, 0));
        let places: Vec<u64> = report.failures.iter().map(|failed| failed.index).collect();
        assert_eq!(places, [2, 9]);
        let report = tenant.import(lines(&texts).as_bytes(), ImportOptions::new("f")).await;
        assert_eq!((report.added, report.bad), (8, 2));
        assert_eq!(report.bad_lines[0].line, 3);
        assert_eq!(embedded(&tenant).await, (16, 16));
    });
}

#[test]
fn a_search_whose_text_cannot_be_embedded_fails_and_says_what_works() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("Ada drinks tea")).await.unwrap();
        let request = SearchRequest::new().with_text("tea");
        for failure in [AWAY, Failure::Nan, Failure::Short] {
            for arms in [ArmSelection::Auto, ArmSelection::Both, ArmSelection::VectorOnly] {
                words.fail(1, failure);
                let error = tenant.search(&request.clone().with_arms(arms)).await.unwrap_err();
                let retryable = failure == AWAY;
                let kind = if retryable { ErrorKind::Unavailable } else { ErrorKind::Corrupt };
                assert_eq!((error.kind(), error.is_retryable()), (kind, retryable));
                assert!(error.message().contains("--arm keyword"), "{error}");
                assert!(std::error::Error::source(&error).is_some());
            }
        }
        words.fail(1, AWAY);
        let by_words = request.clone().with_arms(ArmSelection::KeywordOnly);
        assert_eq!(tenant.search(&by_words).await.unwrap().hits.len(), 1);
        words.fail(0, AWAY);
        assert_eq!(tenant.search(&request).await.unwrap().hits.len(), 1);
    });
}

#[test]
fn a_fault_of_the_store_leaves_the_batch_ahead_unwritten() {
    let words = Words::new();
    let mut meta = MockStoreMeta::new();
    let space = memory_core::traits::Embedder::space(&words);
    meta.expect_spaces().returning(move |_| {
        Ok(TenantSpaces { active: Some(space.clone()), ..TenantSpaces::default() })
    });
    meta.expect_erased().returning(|_, ids| Ok(vec![false; ids.len()]));
    let mut records = MockRecordStore::new();
    records.expect_fetch().returning(|_, ids, _| Ok(vec![None; ids.len()]));
    let commits = AtomicUsize::new(0);
    records.expect_commit().times(2).returning(move |_, commit| {
        match commits.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(written(&commit)),
            _ => Err(Error::new(ErrorKind::Unavailable, "the disk is full")),
        }
    });
    let builder = Memory::builder()
        .settings(embedding())
        .backend(mock_backend(records, meta))
        .embedder(words.embedder());
    let memory = block_on(builder.open()).unwrap();
    let texts = ["a1", "b2", "c3", "d4", "e5", "f6", "g7", "h8"];
    let options = ImportOptions::new("f").with_batch_size(2);
    let report = block_on(memory.default_tenant().import(lines(&texts).as_bytes(), options));
    assert_eq!(report.stopped.unwrap().message(), "the disk is full");
    assert_eq!((report.lines, report.added, report.pending), (6, 2, 4));
    assert_eq!(words.documents().len(), 6, "the third batch was embedded and not written");
}

#[test]
fn deadlines_reach_the_embedder_and_waiting_for_another_batch_does_not_count() {
    use std::time::Duration;

    use memory_core::traits::{EmbedPurpose, Embedder};
    use memory_core::{CallContext, Clock as _, EmbeddingSpace, Health, ManualClock};

    /// Takes one second for each call.
    #[derive(Debug)]
    struct Slow(Words, Arc<ManualClock>);
    #[async_trait::async_trait]
    impl Embedder for Slow {
        fn space(&self) -> EmbeddingSpace {
            self.0.space()
        }
        fn max_batch(&self) -> usize {
            self.0.max_batch()
        }
        async fn embed(
            &self,
            context: &CallContext,
            texts: &[String],
            purpose: EmbedPurpose,
        ) -> orchestra_memory::Result<Vec<Vec<f32>>> {
            let left = context.deadline.unwrap().remaining(self.1.monotonic());
            let half = Duration::from_millis(2_500);
            assert_eq!(left, half, "of each batch's time, from its own beginning");
            self.1.advance(Duration::from_secs(1));
            self.0.embed(context, texts, purpose).await
        }
        async fn health(&self) -> Health {
            Health::healthy()
        }
    }

    let clock = Arc::new(ManualClock::new(crate::support::start()));
    let words = Words::new();
    let mut meta = MockStoreMeta::new();
    let space = words.space();
    meta.expect_spaces().returning(move |_| {
        Ok(TenantSpaces { active: Some(space.clone()), ..TenantSpaces::default() })
    });
    let mut records = MockRecordStore::new();
    let time = clock.clone();
    records.expect_commit().times(3).returning(move |context, commit| {
        let left = context.deadline.unwrap().remaining(time.monotonic());
        assert_eq!(left, Duration::from_secs(4), "what embedding has left");
        assert!(commit.writes.iter().all(|write| matches!(write, Write::Put(_))));
        time.advance(Duration::from_secs(3));
        Ok(written(&commit))
    });
    let builder = Memory::builder()
        .settings(embedding())
        .backend(mock_backend(records, meta))
        .clock(clock.clone())
        .embedder(Arc::new(Slow(words, clock)));
    let memory = block_on(builder.open()).unwrap();
    let options = AddManyOptions::new().with_batch_size(2).with_timeout(Duration::from_secs(5));
    let many = ["a1", "b2", "c3", "d4", "e5", "f6"].map(note);
    let report = block_on(memory.default_tenant().add_many(many, options));
    assert_eq!((report.added, report.without_vector), (6, 0));
    assert!(report.stopped.is_none(), "{:?}", report.stopped);
}
