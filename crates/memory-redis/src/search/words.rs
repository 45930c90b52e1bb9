//! Words: BM25 with the tenant's own statistics.
//!
//! The engine's own BM25 has fixed parameters. So it is asked for candidates, by its score and more
//! than are wanted, and each is scored again here from what its words are, by the query's parameters:
//! how many memories have each term is counted by the engine in the same round trip, their number and
//! the words of all of them stand in the tenant's state. Where more memories match than candidates
//! came, one below them by the engine's parameters could be above by the query's: then the answer
//! does not call itself exact. Memories that have expired count in the statistics until they are
//! swept. Neighbours are not known here, so that nothing is lent.

use memory_core::traits::{HitContext, IndexHit, IndexHits, KeywordQuery, TermShare};
use memory_core::{CallContext, ErrorKind, Result, Timestamp};
use redis::{Cmd, Value, cmd};

use super::ask::{self, In, Parts, ask, time_limit};
use super::engine::Version;
use super::fields;
use super::filter::{self, Condition, Parameters};
use super::nearest::values;
use super::reply::{self, Row, Rows};
use super::seen::Seen;
use crate::error::corrupt;
use crate::fields as f;
use crate::records::model::Shape;
use crate::store::RedisStore;
use crate::wire::Call;

/// Most terms of a query that are looked for: each costs a count. The first ones of a longer text.
const MOST_TERMS: usize = 256;
/// Candidates for each hit that is wanted.
const EACH: u64 = 4;
/// Fewest candidates.
const FEWEST: u64 = 64;
/// Most candidates beyond what is wanted, in the first request.
const BEYOND: u64 = 500;
/// Most candidates of all: the engine's own limit.
const MOST: u64 = 1_000_000;
/// Most candidates of a request that brings records along.
const WIDE: u64 = 256;

/// Finds items by their words. One round trip, unless hits fall away.
///
/// # Errors
/// `InvalidInput`: the query. `Unsupported`: no query engine; an undeclared metadata key. `Timeout`:
/// the engine did not finish; a position that was never given out. `Unavailable`: the index is not
/// whole yet. What the server met.
pub(super) async fn search(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    query: &KeywordQuery,
) -> Result<IndexHits> {
    query.validate()?;
    let on = store.engine.used()?;
    filter::check_declared(&store.settings, &query.filter)?;
    let mut terms = on.analyzer.query_terms(&query.text);
    let cut = terms.len() > MOST_TERMS;
    terms.truncate(MOST_TERMS);
    let words: Vec<String> = terms.iter().map(|term| fields::word(term)).collect();
    let limit = u64::from(query.limit);
    let mut wide = (limit * EACH).min(limit + BEYOND).max(FEWEST);
    let mut first = true;
    let now = store.clock.now();
    loop {
        let request =
            Request::new(store, context, query, &terms, &words, on.version, wide, now, first)?;
        let asked = ask(store, call, context, In::Words, |full, _| request.commands(full)).await?;
        asked.seen.reached(query.at_least)?;
        let mut answers = asked.answers.into_iter();
        let Some(answer) = answers.next() else {
            return Ok(IndexHits { hits: Vec::new(), exact: true });
        };
        if request.nothing() {
            return Ok(IndexHits { hits: Vec::new(), exact: true });
        }
        let found = reply::rows(answer)?;
        let statistics = Statistics::read(&asked.seen, &found, request.counts(answers)?);
        let came = u64::try_from(found.rows.len()).unwrap_or(u64::MAX);
        let all = came < wide || found.total <= came || wide >= MOST;
        let hits = request.judge(found.rows, &statistics)?;
        if all || u64::try_from(hits.len()).unwrap_or(u64::MAX) >= limit {
            let exact = all && !cut && statistics.known;
            return Ok(IndexHits { hits: request.ranked(hits), exact });
        }
        wide = wide.saturating_mul(4).min(MOST);
        first = false;
    }
}

struct Request<'a> {
    query: &'a KeywordQuery,
    terms: &'a [String],
    words: &'a [String],
    version: Version,
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
    #[expect(clippy::too_many_arguments, reason = "it is made in one place")]
    fn new(
        store: &RedisStore,
        context: &CallContext,
        query: &'a KeywordQuery,
        terms: &'a [String],
        words: &'a [String],
        version: Version,
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
            query,
            terms,
            words,
            version,
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

    /// Whether nothing can be found.
    fn nothing(&self) -> bool {
        self.words.is_empty()
            || self.condition == Condition::Never
            || self.only.as_ref().is_some_and(Vec::is_empty)
    }

    /// The search, and a count for each term.
    fn commands(&self, index: &str) -> Vec<Cmd> {
        if self.nothing() {
            return vec![cmd("PING")];
        }
        // Letters and digits alone, none of which the language of queries knows.
        let any = format!("({})", self.words.join("|"));
        let text = match &self.condition {
            Condition::Query(filter) => format!("({filter})=>{{$weight: 0}} {any}"),
            _ => any,
        };
        // Before 2.10 there was but one BM25, and it had another name.
        let old = self.version.0 != 0 && self.version.0 < 21_000;
        let scorer = if old { "BM25" } else { "BM25STD" };
        let mut search = cmd("FT.SEARCH");
        search.arg(index).arg(text).arg("VERBATIM").arg("SCORER").arg(scorer);
        if let Some(only) = &self.only {
            search.arg("INKEYS").arg(only.len()).arg(only);
        }
        let mut fields: Vec<&str> = match &self.shape {
            Some(shape) => shape.fields().chain([f::BRIEF]).collect(),
            None => self.parts.fields().collect(),
        };
        fields.push(f::WORDS);
        search.arg("RETURN").arg(fields.len()).arg(&fields);
        self.finish(&mut search, self.wide);
        let counts = self.words.iter().map(|word| {
            let mut count = cmd("FT.SEARCH");
            count.arg(index).arg(word).arg("VERBATIM").arg("NOCONTENT");
            count.arg("LIMIT").arg(0).arg(0).arg("TIMEOUT").arg(self.limit_ms);
            count.arg("DIALECT").arg(2);
            count
        });
        std::iter::once(search).chain(counts).collect()
    }

    fn finish(&self, search: &mut Cmd, limit: u64) {
        search.arg("LIMIT").arg(0).arg(limit).arg("TIMEOUT").arg(self.limit_ms);
        if !self.parameters.0.is_empty() {
            search.arg("PARAMS").arg(self.parameters.0.len() * 2);
            for (name, value) in &self.parameters.0 {
                search.arg(name).arg(value.as_slice());
            }
        }
        search.arg("DIALECT").arg(2);
    }

    /// How many memories have each term.
    fn counts(&self, answers: impl Iterator<Item = Value>) -> Result<Vec<u64>> {
        let counts: Vec<u64> = answers
            .map(|answer| reply::rows(answer).map(|rows| rows.total))
            .collect::<Result<_>>()?;
        if counts.len() != self.words.len() {
            return Err(corrupt("the server answered fewer commands than it was sent"));
        }
        Ok(counts)
    }

    fn judge(&self, rows: Vec<Row>, statistics: &Statistics) -> Result<Vec<IndexHit>> {
        let scoring = Scoring::new(self.query, statistics);
        let mut hits = Vec::with_capacity(rows.len());
        for row in rows {
            match self.hit(&row, &scoring) {
                Ok(hit) => hits.extend(hit),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(%error, "a stored memory cannot be read and is left out");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(hits)
    }

    fn hit(&self, row: &Row, scoring: &Scoring<'_>) -> Result<Option<IndexHit>> {
        let id = ask::id(&self.keys, row)?;
        let filter = &self.query.filter;
        let brief = ask::brief(row)?;
        if !brief.is_visible(self.now) {
            return Ok(None);
        }
        let (revision, item) = if let Some(shape) = &self.shape {
            let Some(mut item) = shape.read(id.clone(), values(shape, row))? else {
                return Ok(None);
            };
            if !filter.matches(&item) {
                return Ok(None);
            }
            if self.query.records.as_ref().is_some_and(|records| !records.projection.metadata) {
                item.metadata.clear();
            }
            (ask::revision(row)?, Some(Box::new(item)))
        } else {
            if !filter.is_all() && !filter.matches(&self.parts.item(id.clone(), row)?.0) {
                return Ok(None);
            }
            (ask::revision(row)?, None)
        };
        let times = fields::times(row.field(f::WORDS).unwrap_or_default(), self.words);
        let shares = scoring.shares(&times, brief.words);
        let score: f64 = shares.iter().map(|(_, share)| share).sum();
        if shares.is_empty() {
            return Ok(None);
        }
        let terms = if self.query.explain {
            let share = |(at, score): &(usize, f64)| TermShare {
                term: self.terms[*at].clone(),
                score: *score,
            };
            shares.iter().map(share).collect()
        } else {
            Vec::new()
        };
        let context = HitContext { coverage: Some(scoring.coverage(score)), ..brief.context };
        Ok(Some(IndexHit { id, revision, score, terms, item, context: Some(Box::new(context)) }))
    }

    /// Best first, equal scores by id, cut to the limit; records with the first of them.
    fn ranked(&self, mut hits: Vec<IndexHit>) -> Vec<IndexHit> {
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(usize::try_from(self.query.limit).unwrap_or(usize::MAX));
        let first = self.query.records.as_ref().map_or(0, |records| records.first);
        for hit in hits.iter_mut().skip(usize::try_from(first).unwrap_or(usize::MAX)) {
            hit.item = None;
        }
        hits
    }
}

/// What BM25 knows of the tenant.
#[derive(Clone, Debug, PartialEq)]
struct Statistics {
    memories: f64,
    /// Words of a memory, on average.
    average: f64,
    /// How many memories have each term.
    holders: Vec<f64>,
    /// Whether all of it was counted, and nothing guessed.
    known: bool,
}

impl Statistics {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn read(seen: &Seen, found: &Rows, counts: Vec<u64>) -> Self {
        let memories = seen.memories as f64;
        let counted = seen.words.filter(|_| seen.memories > 0);
        let average = match counted {
            Some(words) => words as f64 / memories,
            // Written before anybody counted: the candidates' average stands for that of all.
            None => {
                let lengths = found.rows.iter().filter_map(|row| ask::brief(row).ok());
                let (sum, count) = lengths.fold((0.0, 0.0), |(sum, count), brief| {
                    (sum + f64::from(brief.words), count + 1.0_f64)
                });
                sum / count.max(1.0)
            }
        };
        // A memory may have come between the two counts.
        let holders = counts.into_iter().map(|count| (count as f64).min(memories)).collect();
        Self { memories, average: average.max(1.0), holders, known: counted.is_some() }
    }

    /// How rare a term is, at least 0.
    fn rarity(&self, holders: f64) -> f64 {
        (1.0 + (self.memories - holders + 0.5) / (holders + 0.5)).ln()
    }
}

struct Scoring<'a> {
    query: &'a KeywordQuery,
    average: f64,
    rarities: Vec<f64>,
    /// The sum of the rarities.
    mass: f64,
}

impl<'a> Scoring<'a> {
    fn new(query: &'a KeywordQuery, statistics: &Statistics) -> Self {
        let rarities: Vec<f64> =
            statistics.holders.iter().map(|holders| statistics.rarity(*holders)).collect();
        let mass = rarities.iter().sum();
        Self { query, average: statistics.average, rarities, mass }
    }

    /// The score that each term gives, by its place; terms that the memory has.
    fn shares(&self, times: &[u32], words: u32) -> Vec<(usize, f64)> {
        let (k1, b) = (self.query.k1, self.query.b);
        let length = 1.0 - b + b * f64::from(words) / self.average;
        let share = |(at, (times, rarity)): (usize, (&u32, &f64))| {
            let times = f64::from(*times);
            (times > 0.0).then(|| (at, rarity * times * (k1 + 1.0) / (times + k1 * length)))
        };
        times.iter().zip(&self.rarities).enumerate().filter_map(share).collect()
    }

    fn coverage(&self, score: f64) -> f64 {
        let most = self.mass * (self.query.k1 + 1.0);
        if most > 0.0 { (score / most).clamp(0.0, 1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_bm25_by_the_querys_parameters() {
        let query = KeywordQuery::new("a b", 10).with_bm25(1.2, 0.75);
        let statistics =
            Statistics { memories: 10.0, average: 4.0, holders: vec![2.0, 0.0], known: true };
        let scoring = Scoring::new(&query, &statistics);
        let rarity = (1.0_f64 + 8.5 / 2.5).ln();
        let expected = rarity * 2.0 * 2.2 / (2.0 + 1.2 * (0.25 + 0.75 * 8.0 / 4.0));
        let shares = scoring.shares(&[2, 0], 8);
        assert_eq!(shares.len(), 1);
        assert!((shares[0].1 - expected).abs() < 1e-12);
        let none = (1.0_f64 + 10.5 / 0.5).ln();
        let coverage = expected / ((rarity + none) * 2.2);
        assert!((scoring.coverage(expected) - coverage).abs() < 1e-12);
        assert!(scoring.shares(&[0, 0], 8).is_empty());
    }

    #[test]
    fn a_term_that_all_have_is_worth_little_and_never_less_than_nothing() {
        let statistics =
            Statistics { memories: 3.0, average: 1.0, holders: vec![3.0], known: true };
        let rarity = statistics.rarity(3.0);
        assert!(rarity > 0.0 && rarity < 0.2, "{rarity}");
    }
}
