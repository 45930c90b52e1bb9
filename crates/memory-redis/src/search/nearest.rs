//! Nearest neighbours.
//!
//! The engine is asked for one neighbour more than is wanted, so that it shows whether the last of
//! them has equals, which go by id. Where hits fall away, expired or not passing, it is asked again
//! for four times as many, and then for visible ones only: that condition costs the engine more than
//! the search itself, and hardly ever changes an answer.

use memory_core::traits::{HitContext, HitRecords, IndexHit, IndexHits, VectorQuery};
use memory_core::{CallContext, ErrorKind, Metric, Result, Timestamp};
use redis::{Cmd, cmd};

use super::ask::{self, In, Parts, ask, time_limit};
use super::filter::{self, Condition, Parameters};
use super::reply::{self, Row, Rows};
use super::schema::{Kind, VECTOR};
use super::table::kind_of;
use crate::error::corrupt;
use crate::records::model::{self, Shape};
use crate::store::RedisStore;
use crate::wire::Call;

/// The name under which the engine gives the distance.
const DISTANCE: &str = "qz";
/// Most neighbours of one request: the engine's own limit.
const MOST: u64 = 1_000_000;
/// Most neighbours of a request that brings records along.
const WIDE: u64 = 2_048;

/// Finds the nearest items. One round trip, unless hits fall away.
///
/// # Errors
/// `InvalidInput`: the query, an unknown space. `Unsupported`: no query engine; an undeclared
/// metadata key. `Timeout`: the engine did not finish; a position that was never given out.
/// `Unavailable`: the index is not whole yet. What the server met.
pub(super) async fn search(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    query: &VectorQuery,
) -> Result<IndexHits> {
    query.validate()?;
    store.engine.used()?;
    let space = query.space.id();
    let now = store.clock.now();
    let mut wide = u64::from(query.limit) + 1;
    let mut first = true;
    loop {
        let request = Request::new(store, context, query, wide, now, first)?;
        let asked =
            ask(store, call, context, In::Space(&space), |full, name| request.commands(full, name));
        let asked = asked.await?;
        asked.seen.reached(query.at_least)?;
        let Some(answer) = asked.answers.into_iter().next() else {
            return Ok(IndexHits { hits: Vec::new(), exact: true });
        };
        let rows = if request.nothing() { Rows::default() } else { reply::rows(answer)? };
        let all = u64::try_from(rows.rows.len()).unwrap_or(u64::MAX) < wide || wide >= MOST;
        let exact = kind_of(&asked.index) == Kind::Flat;
        let found = request.judge(rows.rows)?;
        if all || found.is_settled(query.limit) {
            if let Err(error) = ask::follow_size(store, call, context, &asked.seen, &space).await {
                // Whoever searches next goes on with it.
                tracing::debug!(%error, "the index of the vectors could not follow the tenant's size");
            }
            return Ok(IndexHits {
                hits: found.ranked(query.limit, query.records.as_ref()),
                exact,
            });
        }
        wide = wide.saturating_mul(4).min(MOST);
        first = false;
    }
}

struct Request<'a> {
    store: &'a RedisStore,
    query: &'a VectorQuery,
    keys: crate::keys::TenantKeys,
    now: Timestamp,
    wide: u64,
    limit_ms: u64,
    condition: Condition,
    only: Option<Vec<String>>,
    parameters: Parameters,
    parts: Parts,
    shape: Option<Shape>,
}

impl<'a> Request<'a> {
    fn new(
        store: &'a RedisStore,
        context: &CallContext,
        query: &'a VectorQuery,
        wide: u64,
        now: Timestamp,
        first: bool,
    ) -> Result<Self> {
        let mut parameters = Parameters::default();
        let mut condition = filter::necessary(&store.settings, &query.filter, &mut parameters)?;
        if !first {
            condition = filter::all(vec![condition, filter::visible(now.as_micros())]);
        }
        let keys = store.keys.tenant(&context.tenant);
        let only = filter::only_ids(&query.filter);
        let only = only.map(|ids| ids.iter().map(|id| keys.memory(id)).collect());
        let spaces = store.engine.seen(&context.tenant).map(|seen| seen.spaces.clone());
        let shape = query.records.as_ref().filter(|records| records.first > 0 && wide <= WIDE).map(
            |records| {
                let mut projection = records.projection.clone();
                projection.metadata |= !Parts::of(&query.filter).is_brief();
                Shape::of(&projection, &spaces.unwrap_or_default())
            },
        );
        Ok(Self {
            store,
            query,
            now,
            wide,
            limit_ms: time_limit(store, context),
            condition,
            only,
            parameters,
            parts: Parts::of(&query.filter),
            shape,
            keys,
        })
    }

    /// Whether nothing can pass.
    fn nothing(&self) -> bool {
        self.condition == Condition::Never || self.only.as_ref().is_some_and(Vec::is_empty)
    }

    fn commands(&self, index: &str, name: &str) -> Vec<Cmd> {
        if self.nothing() {
            return vec![cmd("PING")];
        }
        let filter = match &self.condition {
            Condition::Query(query) => query,
            _ => "*",
        };
        let graph = kind_of(name) == Kind::Graph;
        let effort = if graph { " EF_RUNTIME $ef" } else { "" };
        let mut search = cmd("FT.SEARCH");
        search.arg(index);
        search.arg(format!("{filter}=>[KNN $k @{VECTOR} $q{effort} AS {DISTANCE}]"));
        if let Some(only) = &self.only {
            search.arg("INKEYS").arg(only.len()).arg(only);
        }
        let fields: Vec<&str> = match &self.shape {
            Some(shape) => shape.fields().collect(),
            None => self.parts.fields().collect(),
        };
        search.arg("RETURN").arg(fields.len() + 1).arg(DISTANCE).arg(&fields);
        search.arg("LIMIT").arg(0).arg(self.wide);
        search.arg("TIMEOUT").arg(self.limit_ms);
        let more = if graph { 6 } else { 4 };
        search.arg("PARAMS").arg(self.parameters.0.len() * 2 + more);
        search.arg("k").arg(self.wide).arg("q").arg(model::vector_bytes(&self.query.vector));
        if graph {
            search.arg("ef").arg(self.store.settings.vectors.ef_runtime);
        }
        for (name, value) in &self.parameters.0 {
            search.arg(name).arg(value.as_slice());
        }
        search.arg("DIALECT").arg(2);
        vec![search]
    }

    fn judge(&self, rows: Vec<Row>) -> Result<Found> {
        let mut found = Found { hits: Vec::with_capacity(rows.len()), last: None };
        for row in rows {
            let score = self.score(&row)?;
            found.last = Some(found.last.map_or(score, |last: f64| last.min(score)));
            match self.hit(&row, score) {
                Ok(hit) => found.hits.extend(hit),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(%error, "a stored memory cannot be read and is left out");
                }
                Err(error) => return Err(error),
            }
        }
        found.hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        Ok(found)
    }

    fn score(&self, row: &Row) -> Result<f64> {
        row.field(DISTANCE)
            .and_then(|text| std::str::from_utf8(text).ok()?.parse::<f64>().ok())
            .filter(|distance| distance.is_finite())
            .map(|distance| score(self.query.space.metric(), distance))
            .ok_or_else(|| corrupt("the query engine gave a neighbour without a distance"))
    }

    fn hit(&self, row: &Row, score: f64) -> Result<Option<IndexHit>> {
        let id = ask::id(&self.keys, row)?;
        let hit = |id, revision, context: HitContext, item| IndexHit {
            id,
            revision,
            score,
            terms: Vec::new(),
            item,
            context: Some(Box::new(context)),
        };
        let filter = &self.query.filter;
        if let Some(shape) = &self.shape {
            let Some(mut item) = shape.read(id.clone(), values(shape, row))? else {
                return Ok(None);
            };
            if !item.is_visible(self.now) || !filter.matches(&item) {
                return Ok(None);
            }
            if self.query.records.as_ref().is_some_and(|records| !records.projection.metadata) {
                item.metadata.clear();
            }
            let revision =
                item.revision.clone().ok_or_else(|| corrupt("a memory without revision"))?;
            return Ok(Some(hit(id, revision, HitContext::of(&item), Some(Box::new(item)))));
        }
        if filter.is_all() {
            let brief = ask::brief(row)?;
            let seen = brief.is_visible(self.now);
            let revision = ask::revision(row)?;
            return Ok(seen.then(|| hit(id, revision, brief.context, None)));
        }
        let (item, brief) = self.parts.item(id, row)?;
        let passes = item.is_visible(self.now) && filter.matches(&item);
        let Some(revision) = item.revision.filter(|_| passes) else { return Ok(None) };
        Ok(Some(hit(item.id, revision, brief.context, None)))
    }
}

/// The values of a shape's fields out of a row, in its order.
pub(super) fn values(shape: &Shape, row: &Row) -> Vec<redis::Value> {
    let value = |field: &str| match row.field(field) {
        Some(bytes) => redis::Value::BulkString(bytes.to_vec()),
        None => redis::Value::Nil,
    };
    shape.fields().map(value).collect()
}

struct Found {
    hits: Vec<IndexHit>,
    /// The lowest score of all that came, hits or not.
    last: Option<f64>,
}

impl Found {
    /// Whether there are enough hits, and none that did not come can be as good as the last of them.
    fn is_settled(&self, limit: u32) -> bool {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        match (limit.checked_sub(1).and_then(|at| self.hits.get(at)), self.last) {
            (Some(hit), Some(last)) => last < hit.score,
            _ => false,
        }
    }

    fn ranked(mut self, limit: u32, records: Option<&HitRecords>) -> Vec<IndexHit> {
        self.hits.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let first = records.map_or(0, |records| records.first);
        for hit in self.hits.iter_mut().skip(usize::try_from(first).unwrap_or(usize::MAX)) {
            hit.item = None;
        }
        self.hits
    }
}

/// A distance of the engine as a score: higher is closer. It gives 1 minus the cosine or the dot
/// product, and the square of the Euclidean distance.
fn score(metric: Metric, distance: f64) -> f64 {
    match metric {
        // Rounding may carry it a little beyond.
        Metric::Cosine => (1.0 - distance).clamp(-1.0, 1.0),
        Metric::Dot => 1.0 - distance,
        Metric::Euclidean => -distance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_rise_with_nearness() {
        assert_eq!(score(Metric::Cosine, 0.0), 1.0);
        assert_eq!(score(Metric::Cosine, 2.000_000_1), -1.0);
        assert_eq!(score(Metric::Cosine, -1e-9), 1.0);
        assert_eq!(score(Metric::Dot, -2.5), 3.5);
        assert_eq!(score(Metric::Euclidean, 9.0), -9.0);
    }
}
