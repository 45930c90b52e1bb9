//! The keyword index under any sequence of changes.

use memory_index::{Bm25, DocEntry, TenantIndex};

/// Bytes are read as changes of an index and searches. Early termination gives the answer of reading
/// every posting, to the last bit; hits are in order and match; explanations add up to scores.
///
/// # Panics
/// Where an invariant is broken.
pub fn keywords(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let mut index = TenantIndex::new();
    let mut words = Vec::new();
    while let Some(action) = bytes.next() {
        let key = u64::from(bytes.next().unwrap_or(0));
        match action % 8 {
            0..5 => {
                words.clear();
                for _ in 0..action / 8 {
                    let Some(word) = bytes.next() else { break };
                    words.push((format!("w{}", word % 64), u32::from(word / 64)));
                }
                let length = words.iter().map(|word| word.1).sum();
                let entry = DocEntry::new(key, length, &words).named("n", i64::from(action));
                index.upsert(&entry).expect("no vector to refuse");
                assert_eq!(index.name(key), Some(("n", i64::from(action))));
            }
            5 | 6 => {
                let known = index.contains(key);
                assert_eq!(index.remove(key), known);
                assert_eq!(index.name(key), None);
            }
            _ => {
                let terms: Vec<_> = (0..action / 16)
                    .filter_map(|_| bytes.next())
                    .map(|word| (format!("w{}", word % 64), f32::from(word / 64) + 0.5))
                    .collect();
                search(&index, &terms, usize::from(action % 40), key);
            }
        }
    }
}

fn search(index: &TenantIndex, terms: &[(String, f32)], k: usize, key: u64) {
    let postings = index.keywords();
    let params = if key < 128 { Bm25::default() } else { Bm25::new(0.6, 0.4) };
    let accept = |document: u64| key.is_multiple_of(3) || document % 3 != 1;
    let found = postings.search_exhaustively(terms, k, params, accept);
    assert_eq!(postings.search_with_bounds(terms, k, params, accept), found);
    assert_eq!(postings.search(terms, k, params, accept), found);
    assert!(found.len() <= k.min(index.len()));
    for pair in found.windows(2) {
        let tie = pair[0].score.to_bits() == pair[1].score.to_bits();
        assert!(pair[0].score > pair[1].score || (tie && pair[0].key < pair[1].key));
    }
    for hit in found {
        assert!(accept(hit.key) && index.contains(hit.key));
        let parts = postings.explain(hit.key, terms, params);
        let sum = parts.iter().fold(0.0_f32, |sum, part| sum + part.contribution);
        assert_eq!(f64::from(sum).to_bits(), hit.score.to_bits(), "the explanation adds up");
    }
}
