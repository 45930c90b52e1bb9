//! Searches over the derived indexes, in one snapshot of the file.

use memory_core::traits::{
    ChangePosition, HitRecords, IndexHit, IndexHits, KeywordQuery, TermShare, VectorQuery, goes_by,
};
use memory_core::{CallContext, Error, ErrorKind, Filter, MemoryId, Result, Timestamp};
use memory_index::{
    Around, Bm25, DocKey, KeySet, KeyedRow, ScoredDoc, TenantIndex, VectorError, with_ties,
};
use memory_text::Analyzer;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::ahead::Ahead;
use crate::error::{corrupt, map};
use crate::indexes::Indexes;
use crate::sql_filter::condition;
use crate::{model, read};

/// A failure of an exact search: the index's or the file's.
enum Failure {
    Vector(VectorError),
    Store(Error),
}

impl From<VectorError> for Failure {
    fn from(error: VectorError) -> Self {
        Self::Vector(error)
    }
}

/// The nearest items, exactly: int8 bounds first, then f32 for every row that may be among them.
pub(crate) fn nearest(
    connection: &Connection,
    indexes: &Indexes,
    context: &CallContext,
    query: &VectorQuery,
    ahead: &Ahead,
    now: Timestamp,
) -> Result<IndexHits> {
    query.validate()?;
    let unknown = || {
        Error::invalid(format!("{} is not a space of the tenant; it has none", query.space.id()))
    };
    let answer = indexes.with(connection, &context.tenant, now, |index, standing| {
        let tenant = standing.tenant;
        reached(index, query.at_least)?;
        let (slot, _) = indexes.spaces(connection, standing)?.slot(&query.space.id())?;
        let Some(scan) = index.space(slot) else {
            return Ok(IndexHits { hits: Vec::new(), exact: true });
        };
        let allowed = allowed(connection, tenant, &query.filter, now)?;
        let fetch = |keys: &[DocKey]| -> Result<Vec<KeyedRow>, Failure> {
            let mut rows = Vec::with_capacity(keys.len());
            for key in keys {
                let row = row_key(*key)
                    .and_then(|item| read::vector(connection, item, slot))
                    .map_err(Failure::Store)?;
                rows.extend(row.map(|row| (*key, row)));
            }
            Ok(rows)
        };
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let best = with_ties(limit, |most| {
            if allowed.is_none()
                && let Some(best) = ahead.finish(scan, most)
            {
                return Ok(best);
            }
            let found = match &allowed {
                None => scan.search_exact(&query.vector, most, |_| true, fetch),
                Some(allowed) => {
                    scan.search_exact(&query.vector, most, |key| allowed.contains(key), fetch)
                }
            };
            found.map_err(|failure| match failure {
                Failure::Store(error) => error,
                Failure::Vector(error) => corrupt("vector").with_source(error),
            })
        })?;
        Ok(IndexHits {
            hits: hits(
                connection,
                tenant,
                query.records.as_ref(),
                index,
                Found { best, limit, around: Around::default() },
                |_| Vec::new(),
            )?,
            exact: true,
        })
    })?;
    answer.ok_or_else(unknown)
}

/// The items that match words best.
pub(crate) fn keywords(
    connection: &Connection,
    indexes: &Indexes,
    analyzer: &Analyzer,
    context: &CallContext,
    query: &KeywordQuery,
    now: Timestamp,
) -> Result<IndexHits> {
    query.validate()?;
    let nothing = IndexHits { hits: Vec::new(), exact: true };
    let terms: Vec<(String, f32)> =
        analyzer.query_terms(&query.text).into_iter().map(|term| (term, 1.0)).collect();
    if terms.is_empty() {
        return Ok(nothing);
    }
    let answer = indexes.with(connection, &context.tenant, now, |index, standing| {
        let tenant = standing.tenant;
        reached(index, query.at_least)?;
        let allowed = allowed(connection, tenant, &query.filter, now)?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let accept = |key| passes(allowed.as_ref(), key);
        let params = bm25(query);
        let best =
            with_ties(limit, |most| Ok(index.keywords().search(&terms, most, params, accept)))?;
        let around = Around::of(index, &terms, params, &best, query.lending.as_ref(), accept);
        let best = around.lend(best);
        let shares = |key: DocKey| {
            if !query.explain {
                return Vec::new();
            }
            let shares = index.keywords().explain(key, &terms, params);
            shares
                .into_iter()
                .map(|share| TermShare {
                    term: terms[share.index].0.clone(),
                    score: f64::from(share.contribution),
                })
                .collect()
        };
        Ok(IndexHits {
            hits: hits(
                connection,
                tenant,
                query.records.as_ref(),
                index,
                Found { best, limit, around },
                shares,
            )?,
            exact: true,
        })
    })?;
    Ok(answer.unwrap_or(nothing))
}

/// Checks that the index reflects a position. It reflects all that is committed, so there is nothing
/// to wait for: what is not there yet, nobody has acknowledged.
fn reached(index: &TenantIndex, at_least: Option<ChangePosition>) -> Result<()> {
    match at_least {
        Some(position) if position.0 > index.position().unsigned_abs() => Err(Error::new(
            ErrorKind::Timeout,
            "the position lies beyond all that has been committed",
        )),
        _ => Ok(()),
    }
}

fn bm25(query: &KeywordQuery) -> Bm25 {
    #[expect(clippy::cast_possible_truncation, reason = "the index keeps its scores in f32")]
    Bm25::new(query.k1 as f32, query.b as f32)
}

/// Those of some names by which an author of the tenant goes.
pub(crate) fn authors(
    connection: &Connection,
    indexes: &Indexes,
    context: &CallContext,
    names: &[String],
    now: Timestamp,
) -> Result<Vec<String>> {
    let known = indexes.with(connection, &context.tenant, now, |index, _| {
        let goes = |name: &&String| index.contexts().authors().any(|author| goes_by(author, name));
        Ok(names.iter().take(100).filter(goes).cloned().collect())
    })?;
    Ok(known.unwrap_or_default())
}

/// The keys that a filter lets through; `None` for all. Expired items are not in the index.
fn allowed(
    connection: &Connection,
    tenant: i64,
    filter: &Filter,
    now: Timestamp,
) -> Result<Option<KeySet>> {
    if filter.is_all() {
        return Ok(None);
    }
    let filter = condition(filter, tenant)?;
    let sql = format!(
        "SELECT i.item FROM item i WHERE i.tenant = ? AND i.visible_until > ? AND {}",
        filter.sql
    );
    let mut values = vec![Value::Integer(tenant), Value::Integer(now.as_micros())];
    values.extend(filter.values);
    let mut select = connection.prepare_cached(&sql).map_err(map)?;
    let keys = select
        .query_map(params_from_iter(values), |row| row.get::<_, i64>(0))
        .and_then(|rows| {
            rows.map(|item| item.map(i64::unsigned_abs)).collect::<rusqlite::Result<Vec<_>>>()
        })
        .map_err(map)?;
    Ok(Some(KeySet::new(keys)))
}

fn passes(allowed: Option<&KeySet>, key: DocKey) -> bool {
    allowed.is_none_or(|allowed| allowed.contains(key))
}

fn row_key(key: DocKey) -> Result<i64> {
    i64::try_from(key).map_err(|_| corrupt("row key"))
}

/// What a search has found: documents in no order, of which the best `limit` are hits.
struct Found {
    best: Vec<ScoredDoc>,
    limit: usize,
    around: Around,
}

/// Documents as hits: best first, equal scores by id, the first ones with their records.
fn hits(
    connection: &Connection,
    tenant: i64,
    records: Option<&HitRecords>,
    index: &TenantIndex,
    found: Found,
    mut terms: impl FnMut(DocKey) -> Vec<TermShare>,
) -> Result<Vec<IndexHit>> {
    let Found { best, limit, around } = found;
    let mut found = Vec::with_capacity(best.len());
    for doc in best {
        let (id, revision) = index.name(doc.key).ok_or_else(|| corrupt("index"))?;
        found.push((doc, id, revision));
    }
    found.sort_by(|a, b| b.0.score.total_cmp(&a.0.score).then_with(|| a.1.cmp(b.1)));
    found.truncate(limit);
    let most = records.map_or(0, |records| usize::try_from(records.first).unwrap_or(usize::MAX));
    let wanted: Vec<i64> =
        found.iter().take(most).map(|(doc, ..)| row_key(doc.key)).collect::<Result<_>>()?;
    let mut items = match records {
        Some(records) => read::by_keys(connection, tenant, &wanted, &records.projection)?,
        None => Vec::new(),
    }
    .into_iter();
    found
        .into_iter()
        .map(|(doc, id, revision)| {
            Ok(IndexHit {
                id: MemoryId::new(id).map_err(|_| corrupt("id"))?,
                revision: model::revision(revision),
                score: doc.score,
                terms: terms(doc.key),
                item: items.next().map(Box::new),
                context: around.context(index, doc).map(Box::new),
            })
        })
        .collect()
}
