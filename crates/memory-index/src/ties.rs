//! Documents of one score at the end of an answer.

use crate::ScoredDoc;

/// Most documents of one score that are told apart by their ids. Beyond it the oldest come first.
const MOST_TIES: usize = 4_096;

/// Documents that are looked for first: one more than asked for, which tells whether the last of
/// them ties with another.
#[must_use]
pub fn first_ask(limit: usize) -> usize {
    limit + 1
}

/// The best `limit` documents and all that tie with the last of them, for the ids that break a tie
/// are not the index's to compare.
///
/// # Errors
/// Those of `search`.
pub fn with_ties<E>(
    limit: usize,
    mut search: impl FnMut(usize) -> Result<Vec<ScoredDoc>, E>,
) -> Result<Vec<ScoredDoc>, E> {
    let mut most = first_ask(limit);
    loop {
        let mut best = search(most)?;
        let cut = best.get(limit - 1).map(|last| last.score);
        let open = best.len() == most && best.last().map(|last| last.score) == cut;
        if open && most < MOST_TIES {
            most = (most * 4).min(MOST_TIES);
            continue;
        }
        if let Some(cut) = cut {
            best.retain(|doc| doc.score >= cut);
        }
        return Ok(best);
    }
}
