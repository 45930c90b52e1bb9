//! Nearest neighbours.

use std::collections::BTreeSet;
use std::sync::Arc;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::traits::{ChangePosition, HitRecords, IndexHit, IndexHits, VectorQuery};
use memory_core::{
    CallContext, CompareOp, Error, ErrorKind, Field, Filter, Metric, Projection, Result, SpaceId,
    Timestamp,
};
use proto::structured_query as query;

use super::fill::{Answer, Fill, MOST, Next, REMOVALS};
use super::sizes::Size;
use super::{check_dimensions, note_unreadable, with_space};
use crate::admin::LogOp;
use crate::batch::{self, WRITE_BYTES};
use crate::error::corrupt;
use crate::fields as f;
use crate::model::{self, Row};
use crate::names::Names;
use crate::query::{Prefilter, embedded, prefilter};
use crate::settings::FieldName;
use crate::store::FirestoreStore;
use crate::wire::{Call, Entries, Found, Refused, Write};

/// Under this name the ledger has the counts that the estimate of scanned index entries rests on.
const COUNT: &str = "vector_count";

/// Documents that are brought whole although fewer records were asked for: a read of each of those
/// few by itself would be dearer.
const WIDE: u32 = 100;

/// Finds the nearest items.
///
/// Billed: one read for each document that comes, one at the least, and one for each 100 vectors of
/// the space. A document comes for each hit, and for what has expired or what the filter drops.
///
/// # Errors
/// `InvalidInput`: the query, an unknown space; nothing was sent then. `Unsupported`: an undeclared
/// metadata key; a filter that drops too much of what the server finds by the declared
/// `vector_scopes`. `Timeout`: a position that was never given out.
pub(crate) async fn search(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    query: &VectorQuery,
) -> Result<IndexHits> {
    query.validate()?;
    check_dimensions(&query.space)?;
    let prefilter = prefilter(&store.settings, &query.filter)?;
    let state = with_space(store, call, &context.tenant, &query.space).await?;
    reached(store, call, context, query.at_least).await?;
    let Prefilter::Some { r#where, .. } = prefilter else {
        return Ok(IndexHits { hits: Vec::new(), exact: true });
    };
    let search = Search {
        store,
        call,
        context,
        query,
        r#where,
        parent: store.names.tenant(&context.tenant),
        spaces: state.space_ids(),
    };
    search.run(Fill::new(query.limit, MOST, REMOVALS)).await
}

/// Checks that there is such a position. Every commit that was acknowledged is found, so there is
/// nothing to wait for: what is not there yet, nobody has acknowledged. Without a change log no
/// position is ever given out, and one of an earlier time is behind what is found.
///
/// # Errors
/// `Timeout`: the position lies beyond all that has been committed.
async fn reached(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    at_least: Option<ChangePosition>,
) -> Result<()> {
    match at_least {
        Some(position)
            if store.settings.change_log
                && !store.log_has(call, &context.tenant, position).await? =>
        {
            Err(Error::new(
                ErrorKind::Timeout,
                "the position lies beyond all that has been committed",
            ))
        }
        _ => Ok(()),
    }
}

struct Search<'a> {
    store: &'a FirestoreStore,
    call: Call<'a>,
    context: &'a CallContext,
    query: &'a VectorQuery,
    r#where: Option<query::Filter>,
    parent: String,
    spaces: Vec<SpaceId>,
}

/// What one request brought.
#[derive(Default)]
struct Judged {
    hits: Vec<IndexHit>,
    expired: Vec<Found>,
    dropped: usize,
}

impl Search<'_> {
    async fn run(&self, mut fill: Fill) -> Result<IndexHits> {
        loop {
            let records = self.records(fill.ask());
            let found = self.ask(fill.ask(), records).await?;
            let count = found.len();
            let judged = self.judge(found, records)?;
            let answer = Answer {
                found: count,
                hits: judged.hits.len(),
                expired: judged.expired.len(),
                dropped: judged.dropped,
            };
            match fill.after(answer) {
                Next::Done { exact } => {
                    return Ok(IndexHits { hits: self.ranked(judged.hits, records), exact });
                }
                Next::Ask => {}
                Next::Remove => self.remove(judged.expired).await?,
                Next::Narrow => return Err(self.too_narrow()),
                Next::Sweep => {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        "what has expired stands before what has not: sweep the tenant and search \
                         again",
                    ));
                }
            }
        }
    }

    /// The records that come along with a request for so many documents.
    fn records(&self, ask: u32) -> Option<&HitRecords> {
        let records = self.query.records.as_ref()?;
        let most = records.first.saturating_mul(2).max(WIDE);
        (records.first > 0 && ask <= most).then_some(records)
    }

    async fn ask(&self, limit: u32, records: Option<&HitRecords>) -> Result<Vec<Found>> {
        let (store, call, tenant) = (self.store, self.call, &self.context.tenant);
        let space = self.query.space.id();
        let now = store.clock.monotonic();
        let size: Arc<Size> = store.sizes.of(tenant, &model::short_name(&space), now);
        let nearest = self.nearest(limit, records);
        let found = match size.known() {
            Some(entries) => store.wire.query(call, &self.parent, nearest, entries).await,
            None => {
                let count = Call { operation: COUNT, ..call };
                let counted = embedded(&store.names, store.clock.now(), &space);
                // On the heap: moved from hand to hand, the requests' states would fill the stack.
                let counting = Box::pin(store.wire.count(count, &self.parent, counted));
                // An estimate holds no search up: another call may be at it.
                let entries = Box::pin(async {
                    store.in_time(call, size.entries(counting)).await.unwrap_or(Entries::FREE)
                });
                store.wire.query_while(call, &self.parent, nearest, entries).await
            }
        };
        found.map_err(|error| about(error, &space))
    }

    fn nearest(&self, limit: u32, records: Option<&HitRecords>) -> proto::StructuredQuery {
        let field = |path: String| query::FieldReference { field_path: path };
        let measure = match self.query.space.metric() {
            Metric::Cosine => query::find_nearest::DistanceMeasure::Cosine,
            Metric::Dot => query::find_nearest::DistanceMeasure::DotProduct,
            Metric::Euclidean => query::find_nearest::DistanceMeasure::Euclidean,
        };
        let nearest = query::FindNearest {
            vector_field: Some(field(model::vector_field(&self.query.space.id()))),
            query_vector: Some(model::vector(&self.query.vector)),
            distance_measure: measure.into(),
            limit: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            distance_result_field: f::DISTANCE.to_owned(),
            distance_threshold: None,
        };
        let fields = self.mask(records).into_iter().map(field).collect();
        proto::StructuredQuery {
            select: Some(query::Projection { fields }),
            from: vec![query::CollectionSelector {
                collection_id: self.store.names.memories.clone(),
                all_descendants: false,
            }],
            r#where: self.r#where.clone(),
            find_nearest: Some(nearest),
            ..proto::StructuredQuery::default()
        }
    }

    /// The fields that come: of the record where it is asked for, and what the filter looks at.
    fn mask(&self, records: Option<&HitRecords>) -> Vec<String> {
        let mut paths = match records {
            Some(records) => model::mask(&records.projection, &self.spaces),
            None if self.query.filter.is_all() => row_mask(),
            None => model::mask(&Projection::narrow(), &[]),
        };
        if !records.is_some_and(|records| records.projection.metadata) {
            paths.extend(self.query.filter.fields().into_iter().filter_map(|field| match field {
                Field::Metadata(key) => Some(f::path(f::METADATA, key.as_str())),
                _ => None,
            }));
        }
        paths.push(f::DISTANCE.to_owned());
        paths
    }

    /// Tells hits from what has expired and what does not pass the filter. What cannot be read is
    /// neither.
    fn judge(&self, found: Vec<Found>, records: Option<&HitRecords>) -> Result<Judged> {
        let now = self.store.clock.now();
        let mut judged = Judged::default();
        for found in found {
            match self.hit(&found, records, now) {
                Ok(Seen::Hit(hit)) => judged.hits.push(hit),
                Ok(Seen::Expired) => judged.expired.push(found),
                Ok(Seen::Dropped) => judged.dropped += 1,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    note_unreadable(self.store, &error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(judged)
    }

    fn hit(&self, found: &Found, records: Option<&HitRecords>, now: Timestamp) -> Result<Seen> {
        let filter = &self.query.filter;
        let (id, revision, item) = if records.is_none() && filter.is_all() {
            let row = Row::read(found)?;
            if !row.is_visible(now) {
                return Ok(Seen::Expired);
            }
            (Names::memory_id(&found.name)?, row.revision, None)
        } else {
            let mut item = model::item(found, &self.spaces)?;
            if !item.is_visible(now) {
                return Ok(Seen::Expired);
            }
            if !filter.matches(&item) {
                return Ok(Seen::Dropped);
            }
            if records.is_none_or(|records| !records.projection.metadata) {
                item.metadata.clear();
            }
            let revision = item.revision.clone().ok_or_else(|| corrupt("revision"))?;
            (item.id.clone(), revision, records.map(|_| Box::new(item)))
        };
        let distance = model::number(found, f::DISTANCE)
            .filter(|distance| distance.is_finite())
            .ok_or_else(|| {
                corrupt("vector")
                    .with_context("document", crate::names::last(&found.name).to_owned())
            })?;
        let score = score(self.query.space.metric(), distance);
        Ok(Seen::Hit(IndexHit { id, revision, score, terms: Vec::new(), item, context: None }))
    }

    /// Best first, equal scores by id, cut to the limit; records with the first of them.
    fn ranked(&self, mut hits: Vec<IndexHit>, records: Option<&HitRecords>) -> Vec<IndexHit> {
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(usize::try_from(self.query.limit).unwrap_or(usize::MAX));
        let first = records.map_or(0, |records| records.first);
        for hit in hits.iter_mut().skip(usize::try_from(first).unwrap_or(usize::MAX)) {
            hit.item = None;
        }
        hits
    }

    /// Removes documents that have expired, as a sweep would. One that was written meanwhile keeps
    /// those of its request: the next answer shows what is left.
    async fn remove(&self, expired: Vec<Found>) -> Result<()> {
        let (store, call, tenant) = (self.store, self.call, &self.context.tenant);
        let mut most = usize::try_from(store.settings.sweep_batch).unwrap_or(usize::MAX);
        let mut left = &expired[..];
        while !left.is_empty() {
            let part = &left[..most.min(left.len())];
            // A delete, and an entry of the change log.
            let size = |found: &Found| (found.name.len() + WRITE_BYTES) * 2;
            let fits = batch::fitting(store.batch_bytes(), part.iter().map(size));
            let part = &part[..fits];
            let mut writes: Vec<_> = part
                .iter()
                .map(|found| Write::delete(found.name.clone()).if_updated_at(found.updated_at))
                .collect();
            let ops = part
                .iter()
                .map(|found| Ok(LogOp::Delete { id: Names::memory_id(&found.name)? }))
                .collect::<Result<Vec<_>>>()?;
            let turn = store.log_turn(call, tenant).await?;
            if let Some(turn) = &turn {
                writes.extend(turn.writes(&store.names, tenant, &ops)?);
            }
            match store.wire.commit(call, writes, Vec::new()).await {
                Ok(_) => {
                    store.log_done(call, tenant, turn, ops.len()).await;
                }
                Err(refused) => match (batch::fewer(&refused, part.len()), refused) {
                    (Some(fewer), _) => {
                        most = fewer;
                        continue;
                    }
                    (None, Refused::Contended) => {}
                    (None, Refused::Error(error)) => return Err(error),
                },
            }
            left = &left[part.len()..];
        }
        Ok(())
    }

    fn too_narrow(&self) -> Error {
        let mut fields = BTreeSet::new();
        equalities(&self.query.filter, &mut fields);
        let scopes = &self.store.settings.vector_scopes;
        let declared = scopes.iter().any(|scope| scope.0 == fields);
        let advice = if fields.is_empty() || declared {
            "let it compare one more field for equality, and declare that in a scope".to_owned()
        } else {
            let names: Vec<_> = fields.iter().map(|field| field.0.to_string()).collect();
            format!("declare a scope of {}", names.join(", "))
        };
        Error::unsupported(format!(
            "too few of the {MOST} nearest pass the filter, of which the server applies no more \
             than the setting vector_scopes declares: {advice}"
        ))
    }
}

/// Names the space and its field: an index that is missing is of these.
fn about(error: Error, space: &SpaceId) -> Error {
    error.with_context("space", space.to_string()).with_context("field", model::vector_field(space))
}

/// What a document is to a search.
enum Seen {
    Hit(IndexHit),
    Expired,
    Dropped,
}

/// The fields that preconditions need, without the names of spaces.
fn row_mask() -> Vec<String> {
    let mut paths = model::row_mask();
    paths.retain(|path| path != f::SPACES);
    paths
}

/// The fields that every item must equal something in to pass, and that a scope can name.
fn equalities(filter: &Filter, fields: &mut BTreeSet<FieldName>) {
    match filter {
        Filter::And(filters) => filters.iter().for_each(|filter| equalities(filter, fields)),
        Filter::Compare(field, CompareOp::Eq, _)
            if !field.is_time() && !matches!(field, Field::Id | Field::Importance) =>
        {
            fields.insert(FieldName(field.clone()));
        }
        _ => {}
    }
}

/// A distance of the service as a score: higher is closer.
fn score(metric: Metric, distance: f64) -> f64 {
    match metric {
        // Rounding may carry it a little beyond.
        Metric::Cosine => (1.0 - distance).clamp(-1.0, 1.0),
        Metric::Dot => distance,
        Metric::Euclidean => -(distance * distance),
    }
}

#[cfg(test)]
mod tests {
    use memory_core::EmbeddingSpace;

    use super::*;
    use crate::error::{Effect, map};

    #[test]
    fn an_index_that_is_missing_or_being_built_is_named() {
        let space = EmbeddingSpace::new("model", "1", 3, Metric::Cosine).unwrap().id();
        for (text, kind) in [
            ("Missing vector index configuration.", ErrorKind::Config),
            ("The index is currently building.", ErrorKind::Unavailable),
        ] {
            let status = tonic::Status::failed_precondition(text);
            let error = about(map(&status, Effect::Reads), &space);
            assert_eq!(error.kind(), kind);
            let text = error.to_string();
            assert!(text.contains("3/cosine/model@1"), "{text}");
            assert!(text.contains(&model::vector_field(&space)), "{text}");
        }
    }

    #[test]
    fn scores_rise_with_nearness() {
        assert_eq!(score(Metric::Cosine, 0.0), 1.0);
        assert_eq!(score(Metric::Cosine, 2.000_000_1), -1.0);
        assert_eq!(score(Metric::Cosine, -1e-9), 1.0);
        assert_eq!(score(Metric::Dot, -3.5), -3.5);
        assert_eq!(score(Metric::Euclidean, 3.0), -9.0);
    }
}
