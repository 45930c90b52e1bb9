//! The keyword postings against BM25 written down plainly over a map of documents.

use std::collections::BTreeMap;

use memory_index::{Bm25, KeySet, KeywordPostings, ScoredDoc};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof, proptest};

#[derive(Clone, Debug)]
enum Change {
    Insert(u64, Vec<(u8, u32)>),
    Remove(u64),
    Compact,
}

/// Few keys, so that many documents are replaced and removed; words of a Zipf-like spread.
fn change() -> impl Strategy<Value = Change> {
    let word = (0_u8..6).prop_flat_map(|band| 0..(1_u8 << band));
    let frequency = prop_oneof![4 => Just(1_u32), 1 => 2_u32..300, 1 => Just(0)];
    let words = vec((word, frequency), 0..12);
    prop_oneof![
        6 => (0_u64..150, words).prop_map(|(key, words)| Change::Insert(key, words)),
        4 => (0_u64..150).prop_map(Change::Remove),
        1 => Just(Change::Compact),
    ]
}

#[derive(Default)]
struct Reference {
    documents: BTreeMap<u64, (u32, BTreeMap<String, u32>)>,
}

impl Reference {
    fn frequency(&self, term: &str) -> usize {
        self.documents.values().filter(|(_, terms)| terms.contains_key(term)).count()
    }

    fn average_length(&self) -> f64 {
        let total: f64 = self.documents.values().map(|(length, _)| f64::from(*length)).sum();
        if self.documents.is_empty() { 0.0 } else { total / count(self.documents.len()) }
    }

    fn score(&self, key: u64, query: &[(String, f32)], params: Bm25) -> f64 {
        let (k1, b) = (f64::from(params.k1()), f64::from(params.b()));
        let (length, terms) = &self.documents[&key];
        let average = self.average_length();
        let relative = if average > 0.0 { f64::from(*length) / average } else { 0.0 };
        query
            .iter()
            .filter_map(|(term, weight)| {
                let tf = f64::from(*terms.get(term)?);
                let df = count(self.frequency(term));
                let idf = (1.0 + (count(self.documents.len()) - df + 0.5) / (df + 0.5)).ln();
                let saturation = tf * (k1 + 1.0) / (tf + k1 * (1.0 - b + b * relative));
                Some(f64::from(*weight) * idf * saturation)
            })
            .sum()
    }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("a small count"))
}

fn word(number: u8) -> String {
    format!("w{number}")
}

fn apply(index: &mut KeywordPostings, reference: &mut Reference, change: Change) {
    match change {
        Change::Insert(key, words) => {
            let terms: Vec<_> = words.iter().map(|(id, tf)| (word(*id), *tf)).collect();
            let length: u32 = words.iter().map(|(_, tf)| tf).sum();
            index.insert(key, length, &terms);
            let mut merged = BTreeMap::new();
            for (term, tf) in terms.into_iter().filter(|(_, tf)| *tf > 0) {
                *merged.entry(term).or_insert(0) += tf;
            }
            reference.documents.insert(key, (length, merged));
        }
        Change::Remove(key) => {
            assert_eq!(index.remove(key), reference.documents.remove(&key).is_some());
        }
        Change::Compact => index.compact(),
    }
}

/// Every hit has the reference's score, the order is right, and nothing better was left out.
fn check_search(
    index: &KeywordPostings,
    reference: &Reference,
    query: &[(String, f32)],
    k: usize,
    allowed: Option<&KeySet>,
) {
    let params = Bm25::new(1.4, 0.6);
    let accept = |key: u64| allowed.is_none_or(|set| set.contains(key));
    let found = index.search(query, k, params, accept);
    // With and without early termination, to the last bit.
    assert_eq!(found, index.search_exhaustively(query, k, params, accept));
    assert_eq!(found, index.search_with_bounds(query, k, params, accept));
    let mut expected: Vec<(u64, f64)> = reference
        .documents
        .keys()
        .filter(|key| accept(**key))
        .map(|key| (*key, reference.score(*key, query, params)))
        .filter(|(_, score)| *score > 0.0)
        .collect();
    expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));

    assert_eq!(found.len(), expected.len().min(k));
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs().max(1e-3);
    for (place, hit) in found.iter().enumerate() {
        assert!(close(hit.score, reference.score(hit.key, query, params)), "{hit:?}");
        // Near ties may swap, for the index adds in f32; the score at each place may not differ.
        assert!(close(hit.score, expected[place].1), "{hit:?} for {:?}", expected[place]);
        let parts = index.explain(hit.key, query, params);
        let sum = parts.iter().fold(0.0_f32, |sum, part| sum + part.contribution);
        assert!((f64::from(sum) - hit.score).abs() <= 0.0, "the explanation does not add up");
        for part in parts {
            let term = &query[part.index].0;
            assert_eq!(part.term_frequency, reference.documents[&hit.key].1[term]);
            assert_eq!(part.document_frequency as usize, reference.frequency(term));
        }
    }
    let ordered = |pair: &[ScoredDoc]| {
        pair[0].score > pair[1].score
            || (pair[0].score >= pair[1].score && pair[0].key < pair[1].key)
    };
    assert!(found.windows(2).all(ordered), "{found:?}");
}

proptest! {
    #[test]
    fn postings_agree_with_plain_bm25(
        rounds in vec((vec(change(), 1..80), vec((0_u8..40, 0.1_f32..3.0), 0..6), 0_usize..40), 1..8),
        allowed in vec(0_u64..150, 0..150),
    ) {
        let mut index = KeywordPostings::new();
        let mut reference = Reference::default();
        let allowed = KeySet::new(allowed);
        for (changes, query, k) in rounds {
            for change in changes {
                apply(&mut index, &mut reference, change);
            }
            assert_eq!(index.len(), reference.documents.len());
            assert!((index.average_length() - reference.average_length()).abs() < 1e-9);
            for number in 0..40 {
                let found = index.document_frequency(&word(number)) as usize;
                assert_eq!(found, reference.frequency(&word(number)));
            }
            let query: Vec<_> = query.into_iter().map(|(id, weight)| (word(id), weight)).collect();
            check_search(&index, &reference, &query, k, None);
            check_search(&index, &reference, &query, 1_000, None);
            check_search(&index, &reference, &query, k, Some(&allowed));
        }
    }
}

/// Enough removals that the index clears itself away several times.
#[test]
fn a_long_life_of_replacements_stays_exact_and_bounded() {
    let mut index = KeywordPostings::new();
    let mut reference = Reference::default();
    let mut largest = 0;
    for step in 0..5_000_u32 {
        let key = u64::from(step * 7 % 211);
        let words = (0..4_u32)
            .map(|place| {
                (u8::try_from((step * 13 + place * step) % 200).expect("below 200"), 1 + place)
            })
            .collect();
        apply(&mut index, &mut reference, Change::Insert(key, words));
        if step % 3 == 0 {
            apply(&mut index, &mut reference, Change::Remove(u64::from(step % 211)));
        }
        largest = largest.max(index.memory_bytes());
    }
    let query: Vec<_> = (0..20_u8).map(|number| (word(number * 9), 1.0)).collect();
    check_search(&index, &reference, &query, 50, None);
    assert!(largest < 200_000, "{largest} bytes for 211 documents");
}

/// Questions of some rare and some very common words, over many documents of which many are alike.
#[test]
fn early_termination_gives_the_exhaustive_answer_ties_included() {
    let mut index = KeywordPostings::new();
    for key in 0..8_192_u64 {
        // Keys do not ascend with slots, and every tenth document is like its neighbour.
        let key = key ^ 0x155;
        let like = key / 10 * 10;
        let mut words = vec![("the".to_owned(), 1), (format!("rare{}", like % 401), 1)];
        for common in ["of", "and", "in"] {
            if (like * 2_654_435_761) >> 7 & 3 != 0 {
                words.push((common.to_owned(), 1 + u32::try_from(like % 3).expect("below 3")));
            }
        }
        let length = 4 + u32::try_from(like * like % 37).expect("below 37");
        index.insert(key, length, &words);
    }
    (0..8_192).step_by(17).for_each(|key| assert!(index.remove(key)));
    let set: KeySet = (0..8_192).filter(|key| key % 5 != 2).collect();
    for rare in 0..12 {
        let query = [
            ("the".to_owned(), 1.0),
            (format!("rare{rare}"), 1.0),
            ("of".to_owned(), 0.7),
            (format!("rare{}", rare * 3 + 1), 1.0),
            ("and".to_owned(), 1.0),
            ("in".to_owned(), 0.2),
        ];
        for k in [1, 3, 10, 60, 200] {
            for params in [Bm25::default(), Bm25::new(0.6, 0.4), Bm25::new(0.0, 0.0)] {
                let accept = |key| rare % 2 == 0 || set.contains(key);
                let expected = index.search_exhaustively(&query, k, params, accept);
                assert_eq!(expected.len(), k);
                assert_eq!(index.search(&query, k, params, accept), expected);
                assert_eq!(index.search_with_bounds(&query, k, params, accept), expected);
            }
        }
    }
}
