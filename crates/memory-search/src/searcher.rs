//! The searcher: one call from a request to an answer.

use std::borrow::Cow;
use std::sync::Arc;

use memory_core::limits::TOP_K;
use memory_core::traits::{
    HitContext, HitRecords, IndexHit, KeywordIndex, KeywordQuery, RecordStore, VectorIndex,
    VectorQuery,
};
use memory_core::{CallContext, Capabilities, Capability, Error, ErrorKind, Metric, Result};

use crate::answer::{ArmHit, ArmShare, Explanation, Hit, SearchAnswer};
use crate::arms::{Arms, Drops};
use crate::context::{Active, Question};
use crate::fusion::{ARMS, Fused, fuse, weights};
use crate::plan::plan;
use crate::relevance::relevance;
use crate::request::{Limit, SearchRequest};
use crate::rows::{Rows, Walk};
use crate::settings::SearchSettings;

/// How often a search starts anew because an item was written while it ran. An item that is
/// written more often than that during one search is left out of its answer.
const REPEATS: u32 = 2;

/// Hybrid search over a store of record and the indexes there are.
///
/// Cheap to clone; holds no state between calls.
#[derive(Clone, Debug)]
pub struct Searcher {
    store: Arc<dyn RecordStore>,
    vectors: Option<Arc<dyn VectorIndex>>,
    keywords: Option<Arc<dyn KeywordIndex>>,
    settings: SearchSettings,
}

impl Searcher {
    /// A searcher with the default settings. Without an index, its arm is missing; with none,
    /// every search is `Unsupported`.
    #[must_use]
    pub fn new(
        store: Arc<dyn RecordStore>,
        vectors: Option<Arc<dyn VectorIndex>>,
        keywords: Option<Arc<dyn KeywordIndex>>,
    ) -> Self {
        Self { store, vectors, keywords, settings: SearchSettings::default() }
    }

    /// Replaces the settings.
    ///
    /// # Errors
    /// `InvalidInput`, as [`SearchSettings::validate`] has it.
    pub fn with_settings(mut self, settings: SearchSettings) -> Result<Self> {
        settings.validate()?;
        self.settings = settings;
        Ok(self)
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &SearchSettings {
        &self.settings
    }

    /// Finds items.
    ///
    /// Each hit's item was in the store, visible, passing the filter, and at the revision that the
    /// index had seen, at an instant after the call began. The same indexes and records give the
    /// same answer. Bounded: each arm is asked for at most 1,000 candidates, widening by doubling,
    /// and all records are read in batches.
    ///
    /// # Errors
    /// `InvalidInput`: a malformed request, an arm asked for by name without its input, an unknown
    /// space. `Unsupported`: an arm that has no index, a filter on an undeclared key. `Corrupt`: an
    /// index or the store broke its contract. Otherwise those of the arms and the store: an arm
    /// that fails fails the search, with the arm's name in the error's context.
    ///
    /// # Cancellation
    /// A search only reads; dropping it leaves nothing.
    pub async fn search(
        &self,
        context: &CallContext,
        request: &SearchRequest,
    ) -> Result<SearchAnswer> {
        self.find(context, request).await.map_err(|error| error.with_operation("search"))
    }

    async fn find(&self, context: &CallContext, request: &SearchRequest) -> Result<SearchAnswer> {
        request.validate()?;
        let plan = plan(request, [self.keywords.is_some(), self.vectors.is_some()])?;
        let mut notes = plan.notes;
        let most = usize::try_from(request.limit.most()).unwrap_or(usize::MAX);
        let metric = request.vector.as_ref().map(|(space, _)| space.metric());
        let question = request.text.as_deref().map(Question::of);
        // Without words there is nothing to tell by what surrounds a memory: the nearest are the
        // answer, and no more are looked at.
        let surrounded = question.is_some() && self.in_memory();
        let mut width = self.settings.width(request.limit.most(), plan.runs, surrounded);
        let mut rows = Rows::new(&*self.store, context, &request.filter, &request.projection);
        let records = records(request, &rows);
        let mut arms = self.arms(request, plan.runs, width, records.as_ref());
        let (mut repeats, mut rounds, mut dropped) = (REPEATS, 0_u32, Drops::default());

        let (mut ranking, taken, cut) = loop {
            rounds += 1;
            arms.run(context, width).await?;
            [0, 1].into_iter().try_for_each(|at| rows.take_in(arms.hits_mut(at)))?;
            // A wider answer names again what an earlier round has found to be stale.
            let mut drops = arms.keep_live(&rows);
            let mut ranking =
                self.rank(arms.lists(), metric, &rows, question.as_ref(), request.explain);
            let mut walk = rows.walk(&ranking, request.limit).await?;
            if walk == Walk::Dropped {
                // Where one candidate is stale others may be, and a stale one must not stretch
                // the range that the scores are normalised by: all are read before fusing again.
                rows.read_all(&ranking).await?;
                drops.add(arms.keep_live(&rows));
            }
            dropped.add(drops);
            if repeats > 0 && arms.raced(&drops) {
                repeats -= 1;
                arms.forget();
                rows.forget();
                continue;
            }
            if walk == Walk::Dropped {
                ranking =
                    self.rank(arms.lists(), metric, &rows, question.as_ref(), request.explain);
                walk = rows.walk(&ranking, request.limit).await?;
            }
            let Walk::Taken(taken, cut) = walk else {
                // Every candidate left has been read and found live, so this cannot be.
                return Err(Error::new(ErrorKind::Unexpected, "a live candidate was dropped"));
            };
            let short = taken < most && cut.is_none();
            if !short || width >= TOP_K || arms.with_more().is_empty() {
                break (ranking, taken, cut);
            }
            width = width.saturating_mul(2).min(TOP_K);
        };

        let unfilled = taken < most && cut.is_none() && !arms.with_more().is_empty();
        if unfilled {
            notes.push(format!(
                "the answer is shorter than asked for: of the first {TOP_K} candidates of an arm, \
                 too many were stale or gone"
            ));
        }
        notes.extend(cut);
        let exact = arms.exact() && !unfilled;
        tracing::debug!(
            rounds,
            width,
            candidates = ranking.len(),
            dropped = dropped.total(),
            hits = taken,
            exact,
            "searched"
        );
        let relevance = relevance(arms.lists(), metric);
        let least = request.min_relevance.or(self.settings.min_relevance);
        if let (Some(least), None) = (least, relevance) {
            notes.push(format!(
                "the relevance of this answer cannot be told, so it was not held against {least}"
            ));
        }
        if let (Some(least), Some(known)) = (least, relevance)
            && known < least
        {
            notes.push(format!(
                "nothing relevant: the relevance of the answer is {known:.2}, below {least}"
            ));
            ranking.clear();
        }
        let shares = weights(plan.runs, &self.settings.fusion);
        let hits = ranking
            .into_iter()
            .take(taken)
            .filter_map(|fused| {
                let item = rows.take(&fused.id)?;
                let arm_hits = arm_hits(&fused);
                let explanation =
                    request.explain.then(|| explain(&fused, &mut arms, plan.runs, shares));
                Some(Hit { item, score: fused.score, arms: arm_hits, explanation })
            })
            .collect();
        let arms_used =
            ARMS.into_iter().zip(plan.runs).filter(|(_, runs)| *runs).map(|(arm, _)| arm).collect();
        Ok(SearchAnswer { hits, arms_used, notes, exact, relevance })
    }

    /// Whether the indexes lie in memory beside the records, where a few hundred candidates more
    /// cost next to nothing: no store that bills or sends its reads keeps words so.
    fn in_memory(&self) -> bool {
        self.keywords.as_ref().is_some_and(|index| brings(&index.capabilities()))
    }

    /// One ranking of the arms' candidates, with what their contexts tell.
    fn rank(
        &self,
        lists: [Option<&[IndexHit]>; 2],
        metric: Option<Metric>,
        rows: &Rows<'_>,
        question: Option<&Question>,
        explain: bool,
    ) -> Vec<Fused> {
        let fused = fuse(lists, metric, &self.settings.fusion);
        let Some(question) = question else { return fused };
        let around = contexts(&fused, lists, rows);
        let known = around.iter().flatten().map(|context| &**context);
        let Some(active) = Active::of(question, &self.settings.context, &known) else {
            return fused;
        };
        if metric.is_none() || lists.iter().all(Option::is_some) {
            return active.rank(fused, &around, explain);
        }
        // Beside the signals a likeness counts by the range of the candidates, as in a fusion.
        let fused = fuse(lists, None, &self.settings.fusion);
        let around = contexts(&fused, lists, rows);
        active.rank(fused, &around, explain)
    }

    /// The arms of a plan, with their queries.
    fn arms(
        &self,
        request: &SearchRequest,
        runs: [bool; 2],
        width: u32,
        records: Option<&HitRecords>,
    ) -> Arms {
        let keyword = self.keywords.clone().zip(request.text.as_ref()).filter(|_| runs[0]);
        let vector = self.vectors.clone().zip(request.vector.as_ref()).filter(|_| runs[1]);
        Arms::new(
            keyword.map(|(index, text)| {
                let query = KeywordQuery::new(text, width)
                    .with_filter(request.filter.clone())
                    .with_explain(request.explain)
                    .with_bm25(self.settings.keyword.k1, self.settings.keyword.b)
                    .with_lending(self.settings.context.lending(runs[1]))
                    .with_at_least(request.at_least)
                    .with_records(records.filter(|_| brings(&index.capabilities())).cloned());
                (index, query)
            }),
            vector.map(|(index, (space, vector))| {
                let query = VectorQuery::new(space.clone(), vector.clone(), width)
                    .with_filter(request.filter.clone())
                    .with_at_least(request.at_least)
                    .with_records(records.filter(|_| brings(&index.capabilities())).cloned());
                (index, query)
            }),
        )
    }
}

/// Whether an index may bring records along. Only one that is kept with its records knows them as
/// they are; of any other they are read from the store.
fn brings(capabilities: &Capabilities) -> bool {
    capabilities.has(Capability::CoLocated)
}

/// The records that the arms may bring along: the first ones, which will be the answer or most of
/// it. What the ranking of two arms takes from further down is read afterwards, in one call. Under
/// a budget of tokens few are needed of many, so none are asked for.
fn records(request: &SearchRequest, rows: &Rows<'_>) -> Option<HitRecords> {
    let Limit::Count(first) = request.limit else { return None };
    Some(HitRecords { first, projection: rows.projection().clone() })
}

/// What is known of the surroundings of each item, from its hits or else from its record.
fn contexts<'a>(
    fused: &[Fused],
    lists: [Option<&'a [IndexHit]>; 2],
    rows: &Rows<'_>,
) -> Vec<Option<Cow<'a, HitContext>>> {
    let of = |item: &Fused| {
        let mut hits = item.parts.iter().zip(lists).filter_map(|(part, list)| {
            list?.get(part.as_ref()?.place)?.context.as_deref().map(Cow::Borrowed)
        });
        hits.next().or_else(|| rows.item(&item.id).map(|item| Cow::Owned(HitContext::of(item))))
    };
    fused.iter().map(of).collect()
}

/// A place from 0 as a rank from 1; places end at 1,000.
fn rank(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX).saturating_add(1)
}

fn arm_hits(fused: &Fused) -> Vec<ArmHit> {
    let parts = ARMS.into_iter().zip(&fused.parts);
    parts
        .filter_map(|(arm, part)| {
            let part = part.as_ref()?;
            Some(ArmHit { arm, rank: rank(part.place), raw_score: part.raw })
        })
        .collect()
}

fn explain(fused: &Fused, arms: &mut Arms, runs: [bool; 2], weights: [f64; 2]) -> Explanation {
    let scale = fused.signals.as_ref().map_or(1.0, |signals| signals.scale);
    let mut share = |at: usize| {
        let lists = arms.lists();
        let lent = |at: usize| {
            let hit = lists[at]?.get(fused.parts[at].as_ref()?.place)?;
            hit.context.as_ref().map(|context| context.lent)
        };
        let lent = lent(at).unwrap_or(0.0);
        let part = fused.parts[at].as_ref();
        let normalised = part.map_or(0.0, |part| part.normalised);
        let terms = part.and_then(|part| arms.hits_mut(at).get_mut(part.place));
        ArmShare {
            arm: ARMS[at],
            rank: part.map(|part| rank(part.place)),
            raw_score: part.map(|part| part.raw),
            normalised,
            weight: weights[at] * scale,
            contribution: weights[at] * scale * normalised,
            lent,
            terms: terms.map(|hit| std::mem::take(&mut hit.terms)).unwrap_or_default(),
        }
    };
    Explanation {
        arms: [0, 1].into_iter().filter(|at| runs[*at]).map(&mut share).collect(),
        context: fused.signals.as_ref().map(|signals| signals.shares.clone()).unwrap_or_default(),
    }
}
