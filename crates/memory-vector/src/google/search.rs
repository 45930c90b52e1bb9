//! Neighbours of a vector, and a walk through what is kept.

use google_cloud_gax::error::rpc::Code;
use google_cloud_vectorsearch_v1::model::search_data_objects_request::SearchType;
use google_cloud_vectorsearch_v1::model::search_hint::{IndexType, KnnHint};
use google_cloud_vectorsearch_v1::model::vector::VectorType;
use google_cloud_vectorsearch_v1::model::vector_search::VectorType as QueryVector;
use google_cloud_vectorsearch_v1::model::{
    DataObject, DenseVector, DistanceMetric, OutputFields, SearchHint, SearchResult, VectorSearch,
};
use memory_core::traits::{IndexHit, IndexHits, Usage, VectorQuery};
use memory_core::{
    CallContext, EmbeddingSpace, Error, ErrorKind, MemoryId, Metric, Result, Revision,
};
use serde_json::{Map, Value};

use super::collection::unknown_space;
use super::index::GoogleVectorIndex;
use super::settings::ScoreFrom;
use super::wire::Call;
use super::{MOST_OBJECTS, VECTOR_FIELD, attributes, filter, names};

/// Most pages of one search: the service may answer with less than a page.
const MOST_PAGES: u32 = 64;
/// The fields of an object that a hit is made from.
const HIT_FIELDS: [&str; 3] = [names::TENANT, names::ID, names::REVISION];
/// How far distances that are in order can seem not to be.
const ROUNDING: f64 = 0.01;
/// Bytes of a hit without its vector, as they are counted.
const HIT_BYTES: u64 = 512;

/// A part of what is kept for a tenant in a space.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Listed {
    /// Items and the revisions that their vectors were made from, in no order.
    pub entries: Vec<(MemoryId, Revision)>,
    /// Where the next part begins; `None` after the last.
    pub next: Option<String>,
}

impl GoogleVectorIndex {
    /// As [`memory_core::traits::VectorIndex::search`].
    pub(crate) async fn nearest(
        &self,
        context: &CallContext,
        query: &VectorQuery,
    ) -> Result<IndexHits> {
        query.validate()?;
        if query.at_least.is_some() {
            return Err(Error::unsupported(
                "the index knows no positions of a change log: wait for the outbox instead",
            ));
        }
        let now = self.wire.clock().now();
        let keys = &self.settings.filter_keys;
        let condition = filter::condition(&context.tenant, now, &query.filter, keys)?;
        let collection = self.collection(context, &query.space).await?;
        let Some(condition) = condition else {
            return Ok(IndexHits { hits: Vec::new(), exact: true });
        };
        let search = self.search_of(query, condition);
        let limit = query.limit as usize;
        let mut hits = Vec::with_capacity(limit.min(64));
        let mut told = Vec::new();
        let mut token = String::new();
        for _ in 0..MOST_PAGES {
            let (results, next) = self.page(context, query, &collection, &search, &token).await?;
            for result in results {
                if let Some((hit, distance)) = self.hit(context, query, &result)? {
                    hits.push(hit);
                    told.extend(distance);
                }
            }
            if next.is_empty() || hits.len() >= limit {
                break;
            }
            token = next;
        }
        from_distances(&mut hits, &told);
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(limit);
        Ok(IndexHits { hits, exact: self.settings.exact })
    }

    /// What is asked of the service.
    fn search_of(&self, query: &VectorQuery, condition: Map<String, Value>) -> VectorSearch {
        let metric = match query.space.metric() {
            Metric::Cosine => DistanceMetric::CosineDistance,
            _ => DistanceMetric::DotProduct,
        };
        let mut output = OutputFields::new().set_data_fields(HIT_FIELDS);
        if self.compares(&query.space) {
            output = output.set_vector_fields([VECTOR_FIELD]);
        }
        let dense = DenseVector::new().set_values(query.vector.iter().copied());
        let search = VectorSearch::new()
            .set_search_field(VECTOR_FIELD)
            .set_vector_type(Some(QueryVector::Vector(Box::new(dense))))
            .set_filter(condition)
            .set_top_k(i32::try_from(query.limit).unwrap_or(i32::MAX))
            .set_output_fields(output)
            .set_distance_metric(metric);
        if !self.settings.exact {
            return search;
        }
        let hint = IndexType::KnnHint(Box::new(KnnHint::new()));
        search.set_search_hint(SearchHint::new().set_index_type(Some(hint)))
    }

    /// Whether scores are computed here, of vectors that come along.
    fn compares(&self, space: &EmbeddingSpace) -> bool {
        self.settings.scores == ScoreFrom::Vectors || space.metric() != Metric::Cosine
    }

    async fn page(
        &self,
        context: &CallContext,
        query: &VectorQuery,
        collection: &str,
        search: &VectorSearch,
        token: &str,
    ) -> Result<(Vec<SearchResult>, String)> {
        let mut request = self
            .wire
            .searches
            .search_data_objects()
            .set_parent(collection)
            .set_page_token(token)
            .set_search_type(Some(SearchType::VectorSearch(Box::new(search.clone()))));
        // Pages are for searches without an index; with one they end at the limit.
        if self.settings.exact {
            request = request.set_page_size(i32::try_from(query.limit).unwrap_or(i32::MAX));
        }
        let each = match self.compares(&query.space) {
            true => HIT_BYTES + query.vector.len() as u64 * 4,
            false => HIT_BYTES,
        };
        let call = Call::reads("search", context);
        let answer = self
            .wire
            .send(
                call,
                |options| request.with_options(options).send(),
                |answer| {
                    let results = answer.results.len() as u64;
                    Usage::reads(results).with_bytes(results * each)
                },
            )
            .await;
        match answer {
            Ok(answer) => Ok((answer.results, answer.next_page_token)),
            Err(failed) if failed.is(Code::NotFound) => {
                self.collections.forget(&query.space);
                Err(unknown_space())
            }
            Err(failed) => Err(failed.error),
        }
    }

    /// A hit and the distance that its score is to be made from; `None` for an object of another
    /// tenant, which no condition lets pass.
    fn hit(
        &self,
        context: &CallContext,
        query: &VectorQuery,
        result: &SearchResult,
    ) -> Result<Option<(IndexHit, Option<f64>)>> {
        let object = result.data_object.as_ref().ok_or_else(|| corrupt("object"))?;
        let Some((id, revision)) = identity(context, object)? else { return Ok(None) };
        let (score, distance) = if self.compares(&query.space) {
            let vector = dense(object).ok_or_else(|| corrupt("vector"))?;
            if query.space.check(vector).is_err() {
                return Err(corrupt("vector"));
            }
            (attributes::nearness(&query.space, &query.vector, vector), None)
        } else {
            let distance = result.distance.filter(|distance| distance.is_finite());
            let distance = distance.ok_or_else(|| {
                Error::new(
                    ErrorKind::Corrupt,
                    "an answer of Vector Search tells no distance: set scores to `vectors`",
                )
            })?;
            (1.0 - distance, Some(distance))
        };
        let hit = IndexHit { id, revision, score, terms: Vec::new(), item: None, context: None };
        Ok(Some((hit, distance)))
    }

    /// What is kept for the tenant in a space, visible or not: for reconciling and for verifying an
    /// erasure. At most `limit` entries, 1 to 1,000; `after` is what the part before answered with.
    ///
    /// The walk is the service's own: what is written meanwhile may be in it or not, and how soon a
    /// write is seen is not published.
    ///
    /// # Errors
    /// `InvalidInput`: the limit, an unknown space.
    pub async fn list(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Listed> {
        self.named("list", async {
            if limit == 0 || limit > MOST_OBJECTS {
                return Err(Error::invalid(format!("a limit lies in 1 to {MOST_OBJECTS}")));
            }
            let collection = self.collection(context, space).await?;
            let request = self
                .wire
                .searches
                .query_data_objects()
                .set_parent(collection)
                .set_filter(filter::of_tenant(&context.tenant))
                .set_output_fields(OutputFields::new().set_data_fields(HIT_FIELDS))
                .set_page_size(i32::try_from(limit).unwrap_or(i32::MAX))
                .set_page_token(after.unwrap_or_default());
            let call = Call::reads("list", context);
            let answer = self
                .wire
                .send(
                    call,
                    |options| request.with_options(options).send(),
                    |answer| Usage::reads(answer.data_objects.len() as u64),
                )
                .await
                .map_err(|failed| match failed.is(Code::NotFound) {
                    true => unknown_space(),
                    false => failed.error,
                })?;
            let mut listed = Listed::default();
            for object in &answer.data_objects {
                listed.entries.extend(identity(context, object)?);
            }
            let next = answer.next_page_token;
            listed.next = (!next.is_empty()).then_some(next);
            Ok(listed)
        })
        .await
    }

    /// Which of some items have a vector in a space, and of which revision, by reading each: what a
    /// receipt of an erasure stands on. At most 1,000 ids; an item that has none is left out.
    ///
    /// # Errors
    /// `InvalidInput`: too many ids, an unknown space.
    pub async fn held(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<Vec<(MemoryId, Revision)>> {
        self.named("held", async {
            if ids.len() > MOST_OBJECTS as usize {
                return Err(Error::invalid(format!("at most {MOST_OBJECTS} ids in one call")));
            }
            let collection = self.collection(context, space).await?;
            let mut held = Vec::new();
            for id in ids {
                let name =
                    format!("{collection}/dataObjects/{}", names::object(&context.tenant, id));
                let request = self.wire.objects.get_data_object().set_name(name);
                let call = Call::reads("held", context);
                let answer = self
                    .wire
                    .send(call, |options| request.with_options(options).send(), |_| Usage::reads(1))
                    .await;
                match answer {
                    Ok(object) => held.extend(identity(context, &object)?),
                    Err(failed) if failed.is(Code::NotFound) => {}
                    Err(failed) => return Err(failed.error),
                }
            }
            Ok(held)
        })
        .await
    }
}

/// Scores of cosine spaces, from distances in the order of the answer. A distance grows from the
/// best hit on; an answer in which it falls, by more than an index's rounding, tells the similarity
/// instead.
fn from_distances(hits: &mut [IndexHit], told: &[f64]) {
    if told.len() != hits.len() {
        return;
    }
    let (Some(first), Some(last)) = (told.first(), told.last()) else { return };
    let falls = first - last > ROUNDING;
    for (hit, told) in hits.iter_mut().zip(told) {
        hit.score = if falls { *told } else { 1.0 - *told };
    }
}

/// Whose object it is; `None` if another tenant's.
fn identity(context: &CallContext, object: &DataObject) -> Result<Option<(MemoryId, Revision)>> {
    let text = |name: &'static str| {
        let value = object.data.as_ref().and_then(|data| data.get(name)).and_then(Value::as_str);
        value.ok_or_else(|| corrupt(name))
    };
    if text(names::TENANT)? != context.tenant.as_str() {
        return Ok(None);
    }
    let id = MemoryId::new(text(names::ID)?).map_err(|_| corrupt(names::ID))?;
    let revision = Revision::new(text(names::REVISION)?).map_err(|_| corrupt(names::REVISION))?;
    Ok(Some((id, revision)))
}

fn dense(object: &DataObject) -> Option<&[f32]> {
    match object.vectors.get(VECTOR_FIELD)?.vector_type.as_ref()? {
        VectorType::Dense(dense) => Some(&dense.values),
        _ => None,
    }
}

/// The error of an object that was not written by this crate.
fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("an object of the collection has no valid {what}"))
}
