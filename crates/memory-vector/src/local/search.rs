//! Searches of an index that is up to date.

use memory_core::traits::{
    ChangePosition, IndexHit, IndexHits, KeywordQuery, TenantSpaces, TermShare, VectorQuery,
    goes_by,
};
use memory_core::{EmbeddingSpace, Error, ErrorKind, Filter, Result};
use memory_index::{Around, Bm25, DocKey, ScoredDoc, with_ties};

use super::tenant::{Tenant, odd};

/// Most names that are looked at.
const NAMES: usize = 100;

/// Checks that the log has given out a position: the index has read all of it.
pub(super) fn reached(head: ChangePosition, at_least: Option<ChangePosition>) -> Result<()> {
    match at_least {
        Some(position) if position > head => Err(Error::new(
            ErrorKind::Timeout,
            "the position lies beyond all that has been committed",
        )),
        _ => Ok(()),
    }
}

/// The error of a space that the tenant does not have.
pub(super) fn no_space(spaces: &TenantSpaces, space: &EmbeddingSpace) -> Error {
    let known: Vec<_> =
        spaces.active.iter().chain(&spaces.next).map(|space| space.id().to_string()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Error::invalid(format!("{} is not a space of the tenant; it has {known}", space.id()))
}

/// Whether a memory passes a filter.
fn passes(tenant: &Tenant, filter: &Filter, key: DocKey) -> bool {
    filter.is_all() || tenant.head(key).is_some_and(|head| filter.matches(&head.item))
}

/// The nearest memories, exactly.
pub(super) fn nearest(tenant: &Tenant, query: &VectorQuery) -> Result<IndexHits> {
    let Some(scan) = tenant.space(&query.space.id()) else {
        return Ok(IndexHits { hits: Vec::new(), exact: true });
    };
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let best = with_ties(limit, |most| {
        let accept = |key| passes(tenant, &query.filter, key);
        scan.search(&query.vector, most, accept)
            .map_err(|error| odd("a search by vector failed").with_source(error))
    })?;
    hits(tenant, best, limit, &Around::default(), |_| Vec::new())
}

/// The memories that match words best.
pub(super) fn keywords(
    tenant: &Tenant,
    query: &KeywordQuery,
    terms: Vec<String>,
) -> Result<IndexHits> {
    let terms: Vec<(String, f32)> = terms.into_iter().map(|term| (term, 1.0)).collect();
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let accept = |key| passes(tenant, &query.filter, key);
    #[expect(clippy::cast_possible_truncation, reason = "the index keeps its scores in f32")]
    let params = Bm25::new(query.k1 as f32, query.b as f32);
    let words = tenant.index.keywords();
    let best: Vec<ScoredDoc> =
        with_ties(limit, |most| Result::<_>::Ok(words.search(&terms, most, params, accept)))?;
    let around = Around::of(&tenant.index, &terms, params, &best, query.lending.as_ref(), accept);
    let best = around.lend(best);
    let shares = |key: DocKey| {
        if !query.explain {
            return Vec::new();
        }
        let shares = words.explain(key, &terms, params);
        let share = |share: &memory_index::TermContribution| TermShare {
            term: terms[share.index].0.clone(),
            score: f64::from(share.contribution),
        };
        shares.iter().map(share).collect()
    };
    hits(tenant, best, limit, &around, shares)
}

/// Those of some names by which an author goes.
pub(super) fn authors(tenant: &Tenant, names: &[String]) -> Vec<String> {
    let goes =
        |name: &&String| tenant.index.contexts().authors().any(|author| goes_by(author, name));
    names.iter().take(NAMES).filter(goes).cloned().collect()
}

/// Best first, equal scores by id, cut to the limit. Records are read by who asked.
fn hits(
    tenant: &Tenant,
    best: Vec<ScoredDoc>,
    limit: usize,
    around: &Around,
    terms: impl Fn(DocKey) -> Vec<TermShare>,
) -> Result<IndexHits> {
    let mut found = Vec::with_capacity(best.len());
    for doc in best {
        let head = tenant.head(doc.key).ok_or_else(|| odd("the index names what it has not"))?;
        found.push((doc, head));
    }
    found.sort_by(|(a, one), (b, other)| {
        b.score.total_cmp(&a.score).then_with(|| one.item.id.cmp(&other.item.id))
    });
    found.truncate(limit);
    let hit = |(doc, head): (ScoredDoc, &super::tenant::Head)| IndexHit {
        id: head.item.id.clone(),
        revision: head.revision.clone(),
        score: doc.score,
        terms: terms(doc.key),
        item: None,
        context: around.context(&tenant.index, doc).map(Box::new),
    };
    Ok(IndexHits { hits: found.into_iter().map(hit).collect(), exact: true })
}
