//! The arms of one search: their indexes and queries, and the candidates they have answered with.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join;
use memory_core::traits::{
    IndexHit, IndexHits, KeywordIndex, KeywordQuery, VectorIndex, VectorQuery,
};
use memory_core::{CallContext, Capability, Error, ErrorKind, Result};

use crate::answer::Arm;
use crate::fusion::{ARMS, arm_order};
use crate::rows::{Rows, Verdict};

/// The candidates of one arm.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    /// Best first, ties by id; each id once; finite scores.
    pub(crate) hits: Vec<IndexHit>,
    /// Whether the index may have more than it was asked for.
    more: bool,
    /// Whether the index says that it cannot have missed a better one.
    exact: bool,
}

/// The arms of one search.
pub(crate) struct Arms {
    keyword: Option<(Arc<dyn KeywordIndex>, KeywordQuery)>,
    vector: Option<(Arc<dyn VectorIndex>, VectorQuery)>,
    found: [Option<Candidates>; 2],
}

impl Arms {
    /// Arms that have not run yet; the limits of the queries are set for each run.
    pub(crate) fn new(
        keyword: Option<(Arc<dyn KeywordIndex>, KeywordQuery)>,
        vector: Option<(Arc<dyn VectorIndex>, VectorQuery)>,
    ) -> Self {
        Self { keyword, vector, found: [None, None] }
    }

    /// Runs, side by side, the arms that have no candidates yet or may have more, for `width`
    /// candidates each.
    ///
    /// # Errors
    /// Those of the indexes, the keyword arm's first. `Corrupt`: a score that is no finite number.
    pub(crate) async fn run(&mut self, context: &CallContext, width: u32) -> Result<()> {
        let due = |found: &Option<Candidates>| found.as_ref().is_none_or(|found| found.more);
        let [keyword_due, vector_due] = [due(&self.found[0]), due(&self.found[1])];
        let keyword = async {
            match &mut self.keyword {
                Some((index, query)) if keyword_due => {
                    query.limit = width;
                    Some(index.search(context, query).await)
                }
                _ => None,
            }
        };
        let vector = async {
            match &mut self.vector {
                Some((index, query)) if vector_due => {
                    query.limit = width;
                    Some(index.search(context, query).await)
                }
                _ => None,
            }
        };
        // The vector arm is the longer one mostly, so it is sent off first.
        let (vector, keyword) = join(vector, keyword).await;
        for (at, answer) in [keyword, vector].into_iter().enumerate() {
            if let Some(answer) = answer {
                let read = answer.and_then(|hits| read_answer(hits, width));
                self.found[at] =
                    Some(read.map_err(|error| error.with_context("arm", ARMS[at].name()))?);
            }
        }
        Ok(())
    }

    /// The candidates by arm, in the order of [`ARMS`]; `None` for an arm that does not run.
    pub(crate) fn lists(&self) -> [Option<&[IndexHit]>; 2] {
        [0, 1].map(|at| self.found[at].as_ref().map(|found| found.hits.as_slice()))
    }

    /// The candidates, to take their terms.
    pub(crate) fn hits_mut(&mut self, at: usize) -> &mut [IndexHit] {
        self.found[at].as_mut().map_or(&mut [], |found| found.hits.as_mut_slice())
    }

    /// Takes out the candidates that are known to be stale or gone.
    pub(crate) fn keep_live(&mut self, rows: &Rows<'_>) -> Drops {
        let mut drops = Drops::default();
        for at in [0, 1] {
            let Some(found) = &mut self.found[at] else { continue };
            found.hits.retain(|hit| match rows.verdict(&hit.id, &hit.revision) {
                Verdict::Live | Verdict::Unread => true,
                Verdict::Stale => {
                    drops.stale[at] += 1;
                    false
                }
                Verdict::Gone => {
                    drops.gone += 1;
                    false
                }
            });
        }
        drops
    }

    /// Whether a stale candidate came from an index that is kept with its records. One commit
    /// covers both there, so the item was written between the search and the reading, and asking
    /// again finds it as it is now.
    pub(crate) fn raced(&self, drops: &Drops) -> bool {
        let co_located = |at: usize| {
            let capabilities = match at {
                0 => self.keyword.as_ref().map(|(index, _)| index.capabilities()),
                _ => self.vector.as_ref().map(|(index, _)| index.capabilities()),
            };
            capabilities.is_some_and(|has| has.has(Capability::CoLocated))
        };
        [0, 1].into_iter().any(|at| drops.stale[at] > 0 && co_located(at))
    }

    /// Forgets all candidates, so that the next run asks every arm.
    pub(crate) fn forget(&mut self) {
        self.found = [None, None];
    }

    /// The arms that may have more candidates.
    pub(crate) fn with_more(&self) -> Vec<Arm> {
        let more = |at: &usize| self.found[*at].as_ref().is_some_and(|found| found.more);
        [0, 1].into_iter().filter(more).map(|at| ARMS[at]).collect()
    }

    /// Whether every arm that ran says that its answer is exact.
    pub(crate) fn exact(&self) -> bool {
        self.found.iter().flatten().all(|found| found.exact)
    }
}

/// How many candidates were taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drops {
    /// By arm: the item has another revision than the index saw.
    pub(crate) stale: [usize; 2],
    /// The item is not there, has expired, or does not pass the filter.
    pub(crate) gone: usize,
}

impl Drops {
    pub(crate) fn add(&mut self, other: Self) {
        self.stale[0] += other.stale[0];
        self.stale[1] += other.stale[1];
        self.gone += other.gone;
    }

    pub(crate) fn total(&self) -> usize {
        self.stale[0] + self.stale[1] + self.gone
    }
}

/// Holds an index to its contract, so that the ranking depends on its scores alone.
fn read_answer(answer: IndexHits, asked: u32) -> Result<Candidates> {
    let IndexHits { mut hits, exact } = answer;
    if hits.iter().any(|hit| !hit.score.is_finite()) {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "the index answered with a score that is not a finite number",
        ));
    }
    let asked = usize::try_from(asked).unwrap_or(usize::MAX);
    let more = hits.len() >= asked;
    hits.sort_by(arm_order);
    let mut seen = HashSet::with_capacity(hits.len());
    let repeats: Vec<bool> = hits.iter().map(|hit| !seen.insert(&hit.id)).collect();
    if repeats.contains(&true) {
        let mut repeats = repeats.into_iter();
        hits.retain(|_| repeats.next() != Some(true));
    }
    hits.truncate(asked);
    Ok(Candidates { hits, more, exact })
}

#[cfg(test)]
mod tests {
    use memory_core::{MemoryId, Revision};

    use super::*;

    fn hit(id: &str, score: f64) -> IndexHit {
        IndexHit {
            id: MemoryId::new(id).unwrap(),
            revision: Revision::from_number(1),
            score,
            terms: Vec::new(),
            item: None,
            context: None,
        }
    }

    #[test]
    fn answers_are_put_in_order_and_each_item_stands_once() {
        let hits = vec![hit("b", 1.0), hit("a", 1.0), hit("c", 3.0), hit("b", 2.0)];
        let read = read_answer(IndexHits { hits: hits.clone(), exact: true }, 10).unwrap();
        let ids: Vec<_> = read.hits.iter().map(|hit| (hit.id.as_str(), hit.score)).collect();
        assert_eq!(ids, [("c", 3.0), ("b", 2.0), ("a", 1.0)]);
        assert!(read.exact && !read.more);
        let read = read_answer(IndexHits { hits, exact: false }, 2).unwrap();
        assert_eq!(read.hits.len(), 2);
        assert!(!read.exact && read.more);
    }

    #[test]
    fn scores_that_are_no_numbers_are_refused() {
        for score in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let hits = IndexHits { hits: vec![hit("a", 1.0), hit("b", score)], exact: true };
            assert_eq!(read_answer(hits, 10).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
