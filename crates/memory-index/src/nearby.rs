//! What surrounds the hits of a search, from the index in memory: what neighbours lend each other,
//! and the context that goes out with a hit.

use std::collections::HashMap;

use memory_core::Timestamp;
use memory_core::traits::{HitContext, Lending};

use crate::{Bm25, DocKey, ScoredDoc, TenantIndex};

/// What one search knows of the surroundings of its hits.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// What each document gets from its neighbours.
    lent: HashMap<DocKey, f64>,
    /// The score of a short item with all the words; `None` for a search without words.
    mass: Option<f64>,
    /// Whether a loan alone makes a candidate.
    join: bool,
}

impl Around {
    /// What `best`, which have passed `accept`, lend to their neighbours that pass it too.
    #[must_use]
    pub fn of(
        index: &TenantIndex,
        terms: &[(String, f32)],
        params: Bm25,
        best: &[ScoredDoc],
        lending: Option<&Lending>,
        accept: impl Fn(DocKey) -> bool,
    ) -> Self {
        let documents = count(index.len());
        let rarity = |term: &str| {
            let holders = f64::from(index.keywords().document_frequency(term));
            ((documents - holders + 0.5) / (holders + 0.5)).ln_1p()
        };
        let sum: f64 = terms.iter().map(|(term, _)| rarity(term)).sum();
        let mut around = Self {
            lent: HashMap::new(),
            mass: Some(sum * (f64::from(params.k1()) + 1.0)),
            join: lending.is_some_and(|lending| lending.join),
        };
        let Some(lending) = lending.filter(|lending| !lending.is_nothing()) else { return around };
        let mut give = |key: Option<DocKey>, amount: f64| {
            if let Some(key) = key
                && amount > 0.0
                && accept(key)
            {
                *around.lent.entry(key).or_insert(0.0) += amount;
            }
        };
        for doc in best {
            let mut after = index.contexts().after(doc.key);
            give(after.next(), lending.next * doc.score);
            give(after.next(), lending.second * doc.score);
            give(index.contexts().before(doc.key).next(), lending.previous * doc.score);
        }
        around
    }

    /// The documents with what they were lent, in no order.
    #[must_use]
    pub fn lend(&self, best: Vec<ScoredDoc>) -> Vec<ScoredDoc> {
        if self.lent.is_empty() {
            return best;
        }
        let mut lent = self.lent.clone();
        let mut all: Vec<ScoredDoc> = best
            .into_iter()
            .map(|doc| {
                let more = lent.remove(&doc.key).unwrap_or(0.0);
                ScoredDoc { key: doc.key, score: doc.score + more }
            })
            .collect();
        if self.join {
            all.extend(lent.into_iter().map(|(key, score)| ScoredDoc { key, score }));
        }
        all
    }

    /// The context of a hit; `None` where the index does not know it, or knows a time that is none.
    #[must_use]
    pub fn context(&self, index: &TenantIndex, doc: ScoredDoc) -> Option<HitContext> {
        let known = index.contexts().get(doc.key)?;
        let lent = self.lent.get(&doc.key).copied().unwrap_or(0.0);
        let share = |mass: f64| ((doc.score - lent) / mass).clamp(0.0, 1.0);
        Some(HitContext {
            session: known.session,
            author: index.contexts().author(doc.key),
            occurred_at: Timestamp::from_micros(known.time).ok()?,
            importance: known.importance,
            lent,
            coverage: self.mass.filter(|mass| *mass > 0.0).map(share),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^32 documents")]
fn count(documents: usize) -> f64 {
    documents as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DocEntry, Surroundings};

    const WORDS: [(&str, u32); 1] = [("tea", 1)];
    const OTHER: [(&str, u32); 1] = [("rain", 1)];

    fn add(index: &mut TenantIndex, key: DocKey, session: Option<u64>, tea: bool) {
        let terms = if tea { &WORDS } else { &OTHER };
        let time = i64::try_from(key).unwrap();
        let around = Surroundings { session, time, ..Surroundings::default() };
        index.upsert(&DocEntry::new(key, 1, terms).around(around)).unwrap();
    }

    /// 1 and 2 to 5 are one conversation, of which 2 has the word; 6 is another; 7 is in none.
    fn index() -> TenantIndex {
        let mut index = TenantIndex::new();
        for key in 1..=5 {
            add(&mut index, key, Some(1), key == 2);
        }
        add(&mut index, 6, Some(2), false);
        add(&mut index, 7, None, true);
        index
    }

    fn lent(lending: Lending, accept: impl Fn(DocKey) -> bool) -> Vec<(DocKey, f64)> {
        let index = index();
        let best = vec![ScoredDoc { key: 2, score: 4.0 }, ScoredDoc { key: 7, score: 4.0 }];
        let best = best.into_iter().filter(|doc| accept(doc.key)).collect::<Vec<_>>();
        let terms = [("tea".to_owned(), 1.0)];
        let around = Around::of(&index, &terms, Bm25::default(), &best, Some(&lending), &accept);
        let mut all: Vec<_> =
            around.lend(best).into_iter().map(|doc| (doc.key, doc.score)).collect();
        all.sort_by_key(|(key, _)| *key);
        all
    }

    #[test]
    fn a_score_is_lent_within_its_conversation() {
        let lending = Lending::new(0.5, 0.25, 0.125);
        assert_eq!(lent(lending, |_| true), [(1, 0.5), (2, 4.0), (3, 2.0), (4, 1.0), (7, 4.0)]);
        // Without joining, who has none of the words stays out.
        assert_eq!(lent(lending.with_join(false), |_| true), [(2, 4.0), (7, 4.0)]);
    }

    #[test]
    fn nothing_is_lent_to_what_the_filter_holds_back_or_by_it() {
        let lending = Lending::new(0.5, 0.25, 0.125);
        assert_eq!(lent(lending, |key| key != 3), [(1, 0.5), (2, 4.0), (4, 1.0), (7, 4.0)]);
        assert_eq!(lent(lending, |key| key != 2), [(7, 4.0)]);
    }

    #[test]
    fn coverage_is_the_share_of_the_words_by_rarity() {
        let index = index();
        let terms = [("tea".to_owned(), 1.0), ("nowhere".to_owned(), 1.0)];
        let params = Bm25::new(0.9, 0.4);
        let best = index.keywords().search(&terms, 10, params, |_| true);
        let around = Around::of(&index, &terms, params, &best, None, |_| true);
        let context = around.context(&index, best[0]).unwrap();
        // All lengths are the average one, so tea scores its rarity: ln(1 + 5.5 / 2.5); the word
        // that nobody has weighs ln(1 + 7.5 / 0.5).
        let (tea, nowhere) = (3.2_f64.ln(), 16.0_f64.ln());
        let want = tea / (tea + nowhere) / 1.9;
        assert!((context.coverage.unwrap() - want).abs() < 1e-6, "{context:?}");
        assert_eq!(context.lent, 0.0);
        assert!(Around::default().context(&index, best[0]).unwrap().coverage.is_none());
    }
}
