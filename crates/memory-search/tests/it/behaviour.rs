//! Arms, fusion, explanation, limits and errors.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use memory_core::traits::{
    ChangePosition, IndexHits, KeywordEntry, KeywordIndex, KeywordQuery, MockKeywordIndex,
    MockRecordStore, MockVectorIndex, UpsertOutcome, VectorEntry, VectorIndex, VectorQuery,
};
use memory_core::{
    CallContext, Capabilities, Capability, Durability, EmbeddingSpace, Error, ErrorKind, Field,
    Filter, Health, MemoryId, Result,
};
use memory_search::{Arm, ArmSelection, FusionSettings, Limit, SearchRequest, SearchSettings};

use crate::world::{World, by_both, by_text, hit, ids, scores, search_over, space};

/// The candidates that `fusion.rs` works out by hand.
fn hybrid() -> World {
    World::with_rows(&["a", "b", "c", "d"])
        .keyword(&[("a", 10.0), ("b", 6.0), ("c", 2.0)])
        .vector(&[("c", 0.9), ("b", 0.5), ("d", 0.1)])
}

#[test]
fn both_arms_are_fused_by_the_rule() {
    let world = hybrid();
    let answer = world.search(&by_both()).unwrap();
    assert_eq!(scores(&answer), [("c", 550), ("b", 500), ("a", 450), ("d", 0)]);
    assert_eq!(answer.arms_used, [Arm::Keyword, Arm::Vector]);
    assert!(answer.exact && answer.notes.is_empty(), "{answer:?}");
    let arms: Vec<_> = answer.hits[0].arms.iter().map(|h| (h.arm, h.rank, h.raw_score)).collect();
    assert_eq!(arms, [(Arm::Keyword, 3, 2.0), (Arm::Vector, 1, 0.9)]);
    assert_eq!(answer.hits[2].arms.len(), 1);
    assert!(answer.hits[0].explanation.is_none());
    world.look(|state| {
        assert_eq!((&state.keyword_calls[..], &state.vector_calls[..]), (&[50][..], &[50][..]));
        assert_eq!(state.fetches, [4], "one reading for all hits");
    });
}

#[test]
fn the_weights_are_settings() {
    let fusion = FusionSettings::default().with_keyword(3.0).with_vector(1.0);
    let settings = SearchSettings::default().with_fusion(fusion);
    let answer = hybrid().search_with(settings, &by_both()).unwrap();
    assert_eq!(scores(&answer), [("a", 750), ("b", 500), ("c", 250), ("d", 0)]);
    let bad = SearchSettings::default().with_fusion(fusion.with_vector(-1.0));
    assert_eq!(hybrid().searcher().with_settings(bad).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn one_arm_alone_runs_alone_and_the_answer_says_so() {
    let world = hybrid();
    let answer = world.search(&by_text()).unwrap();
    assert_eq!(scores(&answer), [("a", 1_000), ("b", 600), ("c", 200)], "shares of the best");
    assert_eq!(answer.arms_used, [Arm::Keyword]);
    assert_eq!(answer.notes, ["keyword search only: no query vector was given"]);
    assert_eq!(world.look(|state| state.vector_calls.len()), 0);

    let answer = world.search(&by_both().with_arms(ArmSelection::VectorOnly)).unwrap();
    assert_eq!(scores(&answer), [("c", 950), ("b", 750), ("d", 550)], "halves of 1 + cosine");
    assert_eq!(answer.arms_used, [Arm::Vector]);
    assert!(answer.notes.is_empty(), "it was asked for");
    assert_eq!(world.look(|state| (state.keyword_calls.len(), state.vector_calls.len())), (1, 1));

    let keywords = Some(world.keywords());
    let answer = search_over(world.store(), None, keywords, &by_both()).unwrap();
    assert_eq!(answer.notes, ["keyword search only: this store has no vector index"]);
    let none = search_over(world.store(), None, None, &by_both()).unwrap_err();
    assert_eq!((none.kind(), none.operation()), (ErrorKind::Unsupported, "search"));
}

#[test]
fn an_arm_that_is_alone_is_asked_for_no_more_than_the_answer_takes() {
    let world = hybrid();
    let two = by_both().with_limit(Limit::Count(2)).with_explain(true);
    let answer = world.search(&two.clone().with_arms(ArmSelection::KeywordOnly)).unwrap();
    assert_eq!(scores(&answer), [("a", 1_000), ("b", 600)], "the last hit has a score, too");
    assert!(answer.exact);
    let share = &answer.hits[1].explanation.as_ref().unwrap().arms[0];
    assert_eq!((share.raw_score, share.weight), (Some(6.0), 1.0));
    assert!((share.contribution - answer.hits[1].score).abs() < 1e-12);
    let answer = world.search(&two.clone().with_arms(ArmSelection::VectorOnly)).unwrap();
    assert_eq!(scores(&answer), [("c", 950), ("b", 750)]);
    // The twin: two arms need candidates beyond the answer to be fused.
    assert_eq!(world.search(&two).unwrap().hits.len(), 2);
    world.look(|state| {
        assert_eq!(
            (&state.keyword_calls[..], &state.vector_calls[..]),
            (&[2, 50][..], &[2, 50][..])
        );
    });
}

#[test]
fn where_nothing_was_found_nothing_is_read() {
    let world = World::with_rows(&["a"]);
    for arms in [ArmSelection::KeywordOnly, ArmSelection::VectorOnly, ArmSelection::Both] {
        let answer = world.search(&by_both().with_arms(arms)).unwrap();
        assert!(answer.hits.is_empty() && answer.exact && answer.notes.is_empty(), "{answer:?}");
    }
    assert!(world.look(|state| state.fetches.is_empty()));
}

#[test]
fn explanations_add_up_and_their_names_are_stable() {
    let answer = hybrid().search(&by_both().with_explain(true)).unwrap();
    for hit in &answer.hits {
        let arms = &hit.explanation.as_ref().unwrap().arms;
        assert_eq!(arms.len(), 2, "an arm that did not find the item says so");
        let sum: f64 = arms.iter().map(|share| share.contribution).sum();
        assert!((sum - hit.score).abs() < 1e-12);
        assert!((arms.iter().map(|share| share.weight).sum::<f64>() - 1.0).abs() < 1e-12);
    }
    let json = serde_json::to_value(answer.hits[2].explanation.as_ref().unwrap()).unwrap();
    let want = serde_json::json!({"arms": [
        {"arm": "keyword", "rank": 1, "raw_score": 10.0, "normalised": 1.0, "weight": 0.45,
         "contribution": 0.45, "terms": [{"term": "tea", "score": 10.0}]},
        {"arm": "vector", "rank": null, "raw_score": null, "normalised": 0.0, "weight": 0.55,
         "contribution": 0.0},
    ]});
    assert_eq!(json, want);
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["arms_used"], serde_json::json!(["keyword", "vector"]));
    assert_eq!(json["hits"][1]["arms"][0]["raw_score"], 6.0);
    assert_eq!(json["exact"], true);
}

#[test]
fn what_is_asked_for_reaches_the_indexes() {
    let filter = Filter::eq(Field::UserId, "ada");
    let request = by_both()
        .with_filter(filter.clone())
        .with_limit(Limit::Count(100))
        .with_explain(true)
        .with_at_least(Some(ChangePosition(7)));
    let mut keywords = MockKeywordIndex::new();
    let want = filter.clone();
    keywords.expect_search().times(1).returning(move |_, query| {
        assert_eq!(query.text, "what does ada drink");
        assert_eq!((&query.filter, query.limit), (&want, 400));
        assert_eq!((query.explain, query.at_least), (true, Some(ChangePosition(7))));
        assert!(query.records.is_none(), "an index elsewhere brings no records along");
        Ok(IndexHits::default())
    });
    keywords
        .expect_capabilities()
        .returning(|| Capabilities::new("elsewhere", [], Durability::Volatile));
    let mut vectors = MockVectorIndex::new();
    vectors
        .expect_capabilities()
        .returning(|| Capabilities::new("beside", [Capability::CoLocated], Durability::Volatile));
    vectors.expect_search().times(1).returning(move |_, query| {
        assert_eq!((&query.space, &query.vector[..]), (&space(), &[1.0, 0.0][..]));
        assert_eq!((&query.filter, query.limit), (&filter, 400));
        assert_eq!(query.at_least, Some(ChangePosition(7)));
        assert_eq!(query.records.as_ref().map(|records| records.first), Some(100));
        Ok(IndexHits { hits: Vec::new(), exact: true })
    });
    let answer = search_over(
        Arc::new(MockRecordStore::new()),
        Some(Arc::new(vectors)),
        Some(Arc::new(keywords)),
        &request,
    )
    .unwrap();
    assert!(answer.hits.is_empty(), "and nothing was read for nothing");
    assert!(!answer.exact, "one arm did not say that it was exact");
}

#[test]
fn an_arm_that_fails_fails_the_search() {
    let world = hybrid();
    for kind in [ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::Unsupported] {
        let mut vectors = MockVectorIndex::new();
        vectors.expect_search().returning(move |_, _| Err(Error::new(kind, "away")));
        vectors
            .expect_capabilities()
            .returning(|| Capabilities::new("mock", [], Durability::Volatile));
        let error =
            search_over(world.store(), Some(Arc::new(vectors)), Some(world.keywords()), &by_both())
                .unwrap_err();
        assert_eq!((error.kind(), error.operation()), (kind, "search"));
        assert_eq!(error.context(), [("arm", "vector".to_owned())]);

        let mut keywords = MockKeywordIndex::new();
        keywords
            .expect_capabilities()
            .returning(|| Capabilities::new("mock", [], Durability::Volatile));
        keywords.expect_search().returning(move |_, _| Err(Error::new(kind, "away")));
        let keywords: Option<Arc<dyn KeywordIndex>> = Some(Arc::new(keywords));
        let error = search_over(world.store(), Some(world.vectors()), keywords, &by_both());
        assert_eq!(error.unwrap_err().context(), [("arm", "keyword".to_owned())]);
    }
    assert_eq!(world.look(|state| state.fetches.len()), 0);
}

#[test]
fn a_broken_contract_is_corrupt_and_not_an_answer() {
    let world = hybrid();
    world.change(|state| state.vector.push(hit("d", 1, f64::NAN)));
    assert_eq!(world.search(&by_both()).unwrap_err().kind(), ErrorKind::Corrupt);

    let world = hybrid();
    for fault in 0..3 {
        let mut store = MockRecordStore::new();
        store.expect_fetch().returning(move |_, ids, _| {
            let mut items: Vec<_> =
                ids.iter().map(|id| Some(crate::world::item(id.as_str(), 1))).collect();
            match fault {
                0 => items.truncate(1),
                1 => items.swap(0, 1),
                _ => items.iter_mut().flatten().for_each(|item| item.revision = None),
            }
            Ok(items)
        });
        let keywords = Some(world.keywords());
        let error = search_over(Arc::new(store), None, keywords, &by_text()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{fault}");
    }
}

#[test]
fn a_malformed_request_reaches_nobody() {
    let world = hybrid();
    for request in [SearchRequest::new(), by_text().with_limit(Limit::Count(0))] {
        let error = world.search(&request).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, "search"));
    }
    world.look(|state| assert!(state.keyword_calls.is_empty() && state.fetches.is_empty()));
}

#[test]
fn a_count_ends_the_answer_and_only_that_many_are_read() {
    let world = hybrid();
    let answer = world.search(&by_both().with_limit(Limit::Count(2))).unwrap();
    assert_eq!(scores(&answer), [("c", 550), ("b", 500)], "fused over all candidates");
    assert_eq!(world.look(|state| state.fetches.clone()), [2]);
    assert!(answer.exact);
}

#[test]
fn a_budget_of_tokens_ends_the_answer_at_the_first_hit_that_does_not_fit() {
    let world = hybrid();
    world.change(|state| {
        for (name, words) in [("a", 3), ("b", 20), ("c", 5), ("d", 1)] {
            let item = state.rows.get_mut(name).unwrap();
            item.set_content("tea ".repeat(words)).unwrap();
        }
    });
    let tokens = |budget, most| by_both().with_limit(Limit::Tokens { budget, most });
    let table: [(u32, u32, &[&str]); 8] = [
        (4, 10, &[]),
        (5, 10, &["c"]),
        (24, 10, &["c"]),
        (25, 10, &["c", "b"]),
        (28, 10, &["c", "b", "a"]),
        (29, 10, &["c", "b", "a", "d"]),
        (1_000, 2, &["c", "b"]),
        (u32::MAX, 1_000, &["c", "b", "a", "d"]),
    ];
    for (budget, most, want) in table {
        let answer = world.search(&tokens(budget, most)).unwrap();
        assert_eq!(ids(&answer), want, "{budget}");
        let cut = budget < 29;
        assert_eq!(answer.notes.len(), usize::from(cut), "{budget}: {:?}", answer.notes);
        if cut {
            assert!(answer.notes[0].contains("budget of tokens"), "{:?}", answer.notes);
        }
    }
    let note = world.search(&tokens(24, 10)).unwrap().notes.concat();
    assert!(note.contains("about 20 tokens, and 19 of 24 were left"), "{note}");
}

#[test]
fn a_budget_reads_few_records_at_first_and_doubles() {
    let names: Vec<String> = (0..400).map(|n| format!("m{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hits: Vec<_> = names.iter().zip((0..400).rev()).map(|(n, s)| (*n, f64::from(s))).collect();
    let world = World::with_rows(&names).keyword(&hits);
    let limit = |budget| by_text().with_limit(Limit::Tokens { budget, most: 250 });
    let few = world.search(&limit(60)).unwrap();
    assert!(!few.hits.is_empty() && few.hits.len() < 60);
    assert_eq!(world.look(|state| state.fetches.clone()), [64]);
    world.change(|state| state.fetches.clear());
    assert_eq!(world.search(&limit(100_000)).unwrap().hits.len(), 250);
    assert_eq!(world.look(|state| state.fetches.clone()), [64, 128, 58]);
}

#[test]
fn the_same_question_has_the_same_answer() {
    let names: Vec<String> = (0..40).map(|n| format!("m{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tied: Vec<_> = names.iter().map(|name| (*name, 1.0)).collect();
    let mut shuffled = tied.clone();
    shuffled.reverse();
    let forwards = World::with_rows(&names).keyword(&tied).vector(&tied);
    let backwards = World::with_rows(&names).keyword(&shuffled).vector(&shuffled);
    let request = by_both().with_limit(Limit::Count(7)).with_explain(true);
    let first = forwards.search(&request).unwrap();
    assert_eq!(ids(&first), names[..7]);
    for world in [&forwards, &backwards, &forwards] {
        assert_eq!(world.search(&request).unwrap(), first);
    }
}

/// An index whose searches end only when two of them are under way.
#[derive(Debug, Default)]
struct Meeting {
    arrived: AtomicUsize,
}

impl Meeting {
    async fn meet(&self) -> Result<IndexHits> {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if self.arrived.load(Ordering::SeqCst) == 2 {
                Poll::Ready(Ok(IndexHits { hits: Vec::new(), exact: true }))
            } else if polls > 1_000 {
                Poll::Ready(Err(Error::new(ErrorKind::Timeout, "the other arm never came")))
            } else {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await
    }
}

fn not_here<T>() -> Result<T> {
    Err(Error::unsupported("this index only meets"))
}

#[async_trait]
impl KeywordIndex for Meeting {
    async fn upsert(&self, _: &CallContext, _: &[KeywordEntry]) -> Result<Vec<UpsertOutcome>> {
        not_here()
    }
    async fn remove(&self, _: &CallContext, _: &[MemoryId]) -> Result<()> {
        not_here()
    }
    async fn search(&self, _: &CallContext, _: &KeywordQuery) -> Result<IndexHits> {
        self.meet().await
    }
    async fn authors(&self, _: &CallContext, _: &[String]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn health(&self) -> Health {
        Health::healthy()
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::new("meeting", [], Durability::Volatile)
    }
}

#[async_trait]
impl VectorIndex for Meeting {
    async fn upsert(
        &self,
        _: &CallContext,
        _: &EmbeddingSpace,
        _: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        not_here()
    }
    async fn remove(&self, _: &CallContext, _: &EmbeddingSpace, _: &[MemoryId]) -> Result<()> {
        not_here()
    }
    async fn missing(
        &self,
        _: &CallContext,
        _: &EmbeddingSpace,
        _: Option<MemoryId>,
        _: u32,
    ) -> Result<Vec<MemoryId>> {
        not_here()
    }
    async fn search(&self, _: &CallContext, _: &VectorQuery) -> Result<IndexHits> {
        self.meet().await
    }
    async fn health(&self) -> Health {
        Health::healthy()
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::new("meeting", [], Durability::Volatile)
    }
}

#[test]
fn the_arms_run_side_by_side() {
    let meeting = Arc::new(Meeting::default());
    let store = World::default().store();
    let answer = search_over(store, Some(meeting.clone()), Some(meeting), &by_both());
    assert!(answer.unwrap().hits.is_empty());
    // The twin: an arm that is alone waits in vain.
    let alone: Arc<Meeting> = Arc::default();
    let error = search_over(World::default().store(), None, Some(alone), &by_text()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[test]
fn a_search_can_be_sent_to_another_thread() {
    fn movable<T: Send>(value: T) -> T {
        value
    }
    let (searcher, context, request) = (hybrid().searcher(), crate::world::context(), by_both());
    let future = movable(searcher.search(&context, &request));
    assert_eq!(futures::executor::block_on(future).unwrap().hits.len(), 4);
}
