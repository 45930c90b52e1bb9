//! A small world for the tests: records, two indexes that may lag behind them, and a book of
//! the calls that were made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::executor::block_on;
use memory_core::traits::{
    IndexHit, IndexHits, KeywordIndex, MockKeywordIndex, MockRecordStore, MockVectorIndex,
    RecordStore, TermShare, VectorIndex,
};
use memory_core::{
    CallContext, Capabilities, Capability, Durability, EmbeddingSpace, Error, MemoryId, MemoryItem,
    Metric, Result, Revision, TenantId, Timestamp, UserId,
};
use memory_search::{
    ContextSettings, FusionSettings, SearchAnswer, SearchRequest, SearchSettings, Searcher,
};

/// What the mocks answer with and what they were asked.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) rows: BTreeMap<String, MemoryItem>,
    pub(crate) keyword: Vec<IndexHit>,
    pub(crate) vector: Vec<IndexHit>,
    pub(crate) inexact: bool,
    /// The limits of the keyword searches, in order.
    pub(crate) keyword_calls: Vec<u32>,
    /// The limits of the vector searches, in order.
    pub(crate) vector_calls: Vec<u32>,
    /// How many ids each fetch asked for, in order.
    pub(crate) fetches: Vec<usize>,
    /// Revisions that the indexes catch up with before their second search, by id.
    pub(crate) catch_up: Vec<(String, u64)>,
}

/// A handle on the state, and the searcher's makers.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) co_located: bool,
}

pub(crate) fn id(text: &str) -> MemoryId {
    MemoryId::new(text).unwrap()
}

pub(crate) fn space() -> EmbeddingSpace {
    EmbeddingSpace::new("model", "1", 2, Metric::Cosine).unwrap()
}

pub(crate) fn context() -> CallContext {
    CallContext::new(TenantId::new("acme").unwrap())
}

pub(crate) fn by_text() -> SearchRequest {
    SearchRequest::new().with_text("what does ada drink")
}

pub(crate) fn by_both() -> SearchRequest {
    by_text().with_vector(space(), vec![1.0, 0.0])
}

pub(crate) fn item(name: &str, revision: u64) -> MemoryItem {
    let mut item = MemoryItem::new(id(name), format!("content of {name}"), Timestamp::MIN)
        .unwrap()
        .with_user(UserId::new("ada").unwrap());
    item.revision = Some(Revision::from_number(revision));
    item
}

pub(crate) fn hit(name: &str, revision: u64, score: f64) -> IndexHit {
    IndexHit {
        id: id(name),
        revision: Revision::from_number(revision),
        score,
        terms: Vec::new(),
        item: None,
        context: None,
    }
}

impl World {
    /// A world whose records are all at revision 1.
    pub(crate) fn with_rows(names: &[&str]) -> Self {
        let world = Self::default();
        world.change(|state| {
            state.rows.extend(names.iter().map(|name| ((*name).to_owned(), item(name, 1))));
        });
        world
    }

    /// What the keyword index answers with, at revision 1.
    pub(crate) fn keyword(self, hits: &[(&str, f64)]) -> Self {
        let hits = hits.iter().map(|(name, score)| hit(name, 1, *score)).collect();
        self.change(|state| state.keyword = hits);
        self
    }

    /// What the vector index answers with, at revision 1.
    pub(crate) fn vector(self, hits: &[(&str, f64)]) -> Self {
        let hits = hits.iter().map(|(name, score)| hit(name, 1, *score)).collect();
        self.change(|state| state.vector = hits);
        self
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    pub(crate) fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.lock().unwrap())
    }

    /// A store that answers each id with its record, as the projection has it.
    pub(crate) fn store(&self) -> Arc<dyn RecordStore> {
        let state = Arc::clone(&self.state);
        let mut store = MockRecordStore::new();
        store.expect_fetch().returning(move |context, ids, projection| {
            assert_eq!(context.tenant.as_str(), "acme");
            assert!(!ids.is_empty() && ids.len() <= 1_000, "{} ids", ids.len());
            let mut state = state.lock().unwrap();
            state.fetches.push(ids.len());
            let found = ids.iter().map(|id| {
                let mut item = state.rows.get(id.as_str()).cloned();
                if let Some(item) = &mut item
                    && !projection.metadata
                {
                    item.metadata.clear();
                }
                item
            });
            Ok(found.collect())
        });
        Arc::new(store)
    }

    pub(crate) fn keywords(&self) -> Arc<dyn KeywordIndex> {
        let state = Arc::clone(&self.state);
        let mut index = MockKeywordIndex::new();
        index.expect_search().returning(move |_, query| {
            query.validate()?;
            let mut state = state.lock().unwrap();
            state.keyword_calls.push(query.limit);
            catch_up(&mut state);
            let mut hits = first(&state.keyword, query.limit);
            if query.explain {
                for hit in &mut hits {
                    hit.terms = vec![TermShare { term: "tea".to_owned(), score: hit.score }];
                }
            }
            Ok(IndexHits { hits, exact: true })
        });
        let capabilities = self.capabilities(Capability::KeywordSearch);
        index.expect_capabilities().returning(move || capabilities.clone());
        Arc::new(index)
    }

    pub(crate) fn vectors(&self) -> Arc<dyn VectorIndex> {
        let state = Arc::clone(&self.state);
        let mut index = MockVectorIndex::new();
        index.expect_search().returning(move |_, query| {
            query.validate()?;
            let mut state = state.lock().unwrap();
            state.vector_calls.push(query.limit);
            catch_up(&mut state);
            Ok(IndexHits { hits: first(&state.vector, query.limit), exact: !state.inexact })
        });
        let capabilities = self.capabilities(Capability::VectorSearch);
        index.expect_capabilities().returning(move || capabilities.clone());
        Arc::new(index)
    }

    fn capabilities(&self, search: Capability) -> Capabilities {
        let mut capabilities = Capabilities::new("mock", [search], Durability::Volatile);
        if self.co_located {
            capabilities.set.insert(Capability::CoLocated);
        }
        capabilities
    }

    pub(crate) fn searcher(&self) -> Searcher {
        Searcher::new(self.store(), Some(self.vectors()), Some(self.keywords()))
            .with_settings(settings())
            .unwrap()
    }

    pub(crate) fn search(&self, request: &SearchRequest) -> Result<SearchAnswer> {
        block_on(self.searcher().search(&context(), request))
    }

    pub(crate) fn search_with(
        &self,
        settings: SearchSettings,
        request: &SearchRequest,
    ) -> Result<SearchAnswer> {
        block_on(self.searcher().with_settings(settings)?.search(&context(), request))
    }
}

/// A searcher over these parts, asked once.
pub(crate) fn search_over(
    store: Arc<dyn RecordStore>,
    vectors: Option<Arc<dyn VectorIndex>>,
    keywords: Option<Arc<dyn KeywordIndex>>,
    request: &SearchRequest,
) -> Result<SearchAnswer, Error> {
    let searcher = Searcher::new(store, vectors, keywords).with_settings(settings())?;
    block_on(searcher.search(&context(), request))
}

pub(crate) fn ids(answer: &SearchAnswer) -> Vec<&str> {
    answer.hits.iter().map(|hit| hit.item.id.as_str()).collect()
}

/// Ids and scores, the scores in thousandths.
pub(crate) fn scores(answer: &SearchAnswer) -> Vec<(&str, u32)> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a score lies in [0, 1]"
    )]
    let thousandths = |score: f64| (score * 1_000.0).round() as u32;
    answer.hits.iter().map(|hit| (hit.item.id.as_str(), thousandths(hit.score))).collect()
}

fn first(hits: &[IndexHit], limit: u32) -> Vec<IndexHit> {
    hits.iter().take(usize::try_from(limit).unwrap()).cloned().collect()
}

fn catch_up(state: &mut State) {
    if state.keyword_calls.len() < 2 && state.vector_calls.len() < 2 {
        return;
    }
    for (name, revision) in &state.catch_up {
        for hit in state.keyword.iter_mut().chain(&mut state.vector) {
            if hit.id.as_str() == name {
                hit.revision = Revision::from_number(*revision);
            }
        }
    }
}

/// Weights by which the tests' sums are easy to follow.
pub(crate) fn settings() -> SearchSettings {
    let fusion = FusionSettings::default().with_keyword(0.45).with_vector(0.55);
    SearchSettings::default().with_fusion(fusion).with_context(ContextSettings::none())
}
