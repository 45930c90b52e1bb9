//! The reference store as an index: every vector and every text is looked at for each search.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use memory_core::traits::{
    ChangeOp, ChangePosition, HitContext, IndexHit, IndexHits, KeywordEntry, KeywordIndex,
    KeywordQuery, TermShare, UpsertOutcome, VectorEntry, VectorIndex, VectorQuery, goes_by,
};
use memory_core::{
    CallContext, Capabilities, EmbeddingSpace, Error, ErrorKind, Filter, Health, MemoryId, Metric,
    Result,
};

use super::commit::check_fence;
use super::state::{State, Tenant};
use super::{ReferenceStore, check_limit, check_many};

/// Whether the tenant's fence lets a write of vectors pass.
fn not_fenced(state: &State, context: &CallContext) -> Result<()> {
    state.tenant(&context.tenant).map_or(Ok(()), |tenant| check_fence(tenant, context))
}

fn own_space(state: &State, context: &CallContext, space: &EmbeddingSpace) -> Result<()> {
    let spaces = state.tenant(&context.tenant).map(|tenant| &tenant.spaces);
    match spaces.and_then(|spaces| spaces.find(&space.id())) {
        Some(_) => Ok(()),
        None => Err(Error::invalid("the tenant has no such space")),
    }
}

/// There is nothing to wait for here: what has happened is there, what has not may never be.
fn reached(state: &State, context: &CallContext, at_least: Option<ChangePosition>) -> Result<()> {
    let head = state.tenant(&context.tenant).map(|tenant| tenant.head).unwrap_or_default();
    if at_least.is_some_and(|position| position > head) {
        return Err(Error::new(ErrorKind::Timeout, "the position has not been reached"));
    }
    Ok(())
}

/// Best first, ties by id, cut to the limit.
fn ranked(mut hits: Vec<IndexHit>, limit: u32) -> IndexHits {
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    hits.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    IndexHits { hits, exact: true }
}

/// The likeness of two vectors in double precision; higher is closer.
#[must_use]
pub(crate) fn likeness(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let dot = pairs().map(|(a, b)| a * b).sum::<f64>();
    match metric {
        Metric::Dot => dot,
        Metric::Euclidean => -pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>(),
        Metric::Cosine => {
            let norms = pairs().fold((0.0, 0.0), |(x, y), (a, b)| (x + a * a, y + b * b));
            dot / (norms.0.sqrt() * norms.1.sqrt())
        }
    }
}

/// Lower-cased runs of letters and digits.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[async_trait]
impl VectorIndex for ReferenceStore {
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        let mut state = self.enter(context)?;
        check_many(entries.len())?;
        own_space(&state, context, space)?;
        not_fenced(&state, context)?;
        entries.iter().try_for_each(|entry| space.check(&entry.vector))?;
        let now = self.clock.now();
        let mut outcomes = Vec::new();
        for entry in entries {
            let record = state.tenant_mut(&context.tenant).records.get_mut(&entry.id);
            match record {
                Some(record)
                    if record.item.is_visible(now)
                        && record.item.revision.as_ref() == Some(&entry.revision) =>
                {
                    record.vectors.insert(space.id(), entry.vector.clone());
                    let op = ChangeOp::Vectors(entry.id.clone(), entry.revision.clone());
                    state.log(&context.tenant, op);
                    outcomes.push(UpsertOutcome::Stored);
                }
                _ => outcomes.push(UpsertOutcome::Stale),
            }
        }
        Ok(outcomes)
    }

    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        let mut state = self.enter(context)?;
        check_many(ids.len())?;
        own_space(&state, context, space)?;
        not_fenced(&state, context)?;
        for id in ids {
            let Some(record) = state.tenant_mut(&context.tenant).records.get_mut(id) else {
                continue;
            };
            if let (Some(_), Some(revision)) =
                (record.vectors.remove(&space.id()), record.item.revision.clone())
            {
                state.log(&context.tenant, ChangeOp::Vectors(id.clone(), revision));
            }
        }
        Ok(())
    }

    async fn missing(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<MemoryId>,
        limit: u32,
    ) -> Result<Vec<MemoryId>> {
        let state = self.enter(context)?;
        check_limit(limit, memory_core::limits::PAGE)?;
        own_space(&state, context, space)?;
        let (space, now) = (space.id(), self.clock.now());
        let tenant = state.tenant(&context.tenant);
        Ok(tenant
            .into_iter()
            .flat_map(|tenant| tenant.passing(&Filter::All, now))
            .filter(|record| !record.vectors.contains_key(&space))
            .map(|record| record.item.id.clone())
            .filter(|id| after.as_ref().is_none_or(|after| id > after))
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .collect())
    }

    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits> {
        let state = self.enter(context)?;
        query.validate()?;
        own_space(&state, context, &query.space)?;
        reached(&state, context, query.at_least)?;
        let space = query.space.id();
        let tenant = state.tenant(&context.tenant);
        let hits = tenant.into_iter().flat_map(|tenant| {
            tenant.passing(&query.filter, self.clock.now()).filter_map(|record| {
                Some(IndexHit {
                    id: record.item.id.clone(),
                    revision: record.item.revision.clone()?,
                    score: likeness(
                        query.space.metric(),
                        &query.vector,
                        record.vectors.get(&space)?,
                    ),
                    terms: Vec::new(),
                    item: None,
                    context: Some(Box::new(HitContext::of(&record.item))),
                })
            })
        });
        Ok(ranked(hits.collect(), query.limit))
    }

    async fn health(&self) -> Health {
        self.health_now()
    }

    async fn close(&self) -> Result<()> {
        self.close_now();
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Self::own_capabilities()
    }
}

#[async_trait]
impl KeywordIndex for ReferenceStore {
    async fn upsert(
        &self,
        context: &CallContext,
        entries: &[KeywordEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        let state = self.enter(context)?;
        check_many(entries.len())?;
        let now = self.clock.now();
        let tenant = state.tenant(&context.tenant);
        // The words are read from the record itself, so that there is nothing to store.
        let outcome = |entry: &KeywordEntry| {
            let record = tenant.and_then(|tenant| tenant.visible(&entry.id, now));
            match record {
                Some(record) if record.item.revision.as_ref() == Some(&entry.revision) => {
                    UpsertOutcome::Stored
                }
                _ => UpsertOutcome::Stale,
            }
        };
        Ok(entries.iter().map(outcome).collect())
    }

    async fn remove(&self, context: &CallContext, ids: &[MemoryId]) -> Result<()> {
        let _state = self.enter(context)?;
        check_many(ids.len())?;
        Err(Error::unsupported("the keyword index is kept with the records: delete the item"))
    }

    async fn search(&self, context: &CallContext, query: &KeywordQuery) -> Result<IndexHits> {
        let state = self.enter(context)?;
        query.validate()?;
        reached(&state, context, query.at_least)?;
        let now = self.clock.now();
        let hits = state
            .tenant(&context.tenant)
            .map(|tenant| bm25(tenant, query, now))
            .unwrap_or_default();
        Ok(ranked(hits, query.limit))
    }

    async fn authors(&self, context: &CallContext, names: &[String]) -> Result<Vec<String>> {
        let state = self.enter(context)?;
        let now = self.clock.now();
        let authors: BTreeSet<&str> = state
            .tenant(&context.tenant)
            .into_iter()
            .flat_map(|tenant| tenant.passing(&Filter::All, now))
            .filter_map(|record| record.item.author.as_deref())
            .collect();
        let known = |name: &&String| authors.iter().any(|author| goes_by(author, name));
        Ok(names.iter().take(100).filter(known).cloned().collect())
    }

    async fn health(&self) -> Health {
        self.health_now()
    }

    async fn close(&self) -> Result<()> {
        self.close_now();
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Self::own_capabilities()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of words are far below 2^53")]
fn bm25(tenant: &Tenant, query: &KeywordQuery, now: memory_core::Timestamp) -> Vec<IndexHit> {
    let terms: BTreeSet<String> = words(&query.text).into_iter().collect();
    let documents: Vec<_> = tenant
        .passing(&Filter::All, now)
        .map(|record| (record, words(record.item.content())))
        .collect();
    let count = documents.len() as f64;
    let average = documents.iter().map(|(_, words)| words.len() as f64).sum::<f64>() / count;
    let holders: BTreeMap<&String, f64> = terms
        .iter()
        .map(|term| (term, documents.iter().filter(|(_, words)| words.contains(term)).count()))
        .map(|(term, holders)| (term, holders as f64))
        .collect();
    let mut hits = Vec::new();
    for (record, words) in &documents {
        if !query.filter.matches(&record.item) {
            continue;
        }
        let mut shares = Vec::new();
        for (term, holders) in &holders {
            let times = words.iter().filter(|word| word == term).count() as f64;
            if times > 0.0 {
                let rarity = (1.0 + (count - holders + 0.5) / (holders + 0.5)).ln();
                let length = 1.0 - query.b + query.b * words.len() as f64 / average;
                let score = rarity * times * (query.k1 + 1.0) / (times + query.k1 * length);
                shares.push(TermShare { term: (*term).clone(), score });
            }
        }
        if let (false, Some(revision)) = (shares.is_empty(), record.item.revision.clone()) {
            let score: f64 = shares.iter().map(|share| share.score).sum();
            let terms = if query.explain { shares } else { Vec::new() };
            let mass: f64 = holders
                .values()
                .map(|holders| (1.0 + (count - holders + 0.5) / (holders + 0.5)).ln())
                .sum();
            let mut context = HitContext::of(&record.item);
            context.coverage = Some((score / (mass * (query.k1 + 1.0))).clamp(0.0, 1.0));
            hits.push(IndexHit {
                id: record.item.id.clone(),
                revision,
                score,
                terms,
                item: None,
                context: Some(Box::new(context)),
            });
        }
    }
    hits
}
