//! Hybrid search: one request, the arms that can serve it, one ranked answer.
//!
//! The crate stands between the traits of `memory-core` and whoever composes them. It knows no
//! back end: a [`Searcher`] is made of a store of record and of the indexes there are.
//!
//! A search goes through these steps, each in a file of its own:
//!
//! 1. The request is checked, and the arms are chosen: keywords, vectors, or both. What was asked
//!    for and cannot be had is an error; what was left open and is missing is a note in the answer.
//! 2. The arms run side by side, each for more candidates than the answer needs; an arm that is
//!    alone, for as many as it needs. An arm that fails fails the search: an answer never silently
//!    rests on half of what it should.
//! 3. The candidates are fused into one ranking ([`FusionSettings`] has the rule and its reason).
//! 4. What their conversations tell of the candidates is added ([`ContextSettings`]).
//! 5. The best are read again from the store of record. A hit whose item is gone, expired, does
//!    not pass the filter or has another revision than the index saw is taken out before the
//!    fusion, and the answer fills up from the candidates left, or from a wider search.
//! 6. The answer is cut at its limit: a number of hits or a budget of tokens.
//!
//! ```
//! use std::sync::Arc;
//! use memory_core::traits::{KeywordIndex, RecordStore};
//! use memory_core::{CallContext, Result};
//! use memory_search::{Limit, SearchRequest, Searcher};
//!
//! async fn ask(
//!     store: Arc<dyn RecordStore>,
//!     keywords: Arc<dyn KeywordIndex>,
//!     context: &CallContext,
//! ) -> Result<()> {
//!     let searcher = Searcher::new(store, None, Some(keywords));
//!     let request = SearchRequest::new()
//!         .with_text("what does Ada drink")
//!         .with_limit(Limit::Count(5))
//!         .with_explain(true);
//!     for hit in searcher.search(context, &request).await?.hits {
//!         assert!((0.0..=1.0).contains(&hit.score));
//!     }
//!     Ok(())
//! }
//! ```

mod answer;
mod arms;
mod context;
mod context_settings;
mod fusion;
mod plan;
mod relevance;
mod request;
mod rows;
mod scale;
mod searcher;
mod settings;

pub use answer::{Arm, ArmHit, ArmShare, Explanation, Hit, SearchAnswer, Signal, SignalShare};
pub use context_settings::{ContextSettings, KeywordSettings};
pub use request::{ArmSelection, Limit, SearchRequest};
pub use searcher::Searcher;
pub use settings::{FusionSettings, SearchSettings};
