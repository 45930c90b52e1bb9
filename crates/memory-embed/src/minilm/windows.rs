//! Where a long text is cut, and how its windows become one vector.

use std::ops::Range;

use super::network::{POSITIONS, WIDTH, normalise};
use super::wordpiece::{TokenId, WordPiece};

/// Most tokens of a text that go through the network together, without the two brackets.
pub const WINDOW: usize = POSITIONS - 2;

/// Most windows of one text. 32: what is longer than 8,000 tokens, about 30 KB of English, has no
/// single meaning that one vector could hold, and each window costs a tenth of a second of one
/// core. Documents are better split into memories of their own.
pub const MOST_WINDOWS: usize = 32;

/// How the vectors of windows become those of texts: the tokens of each window, by text.
pub(super) struct Plan {
    tokens: Vec<Vec<usize>>,
}

/// The sequences of all texts, one after another, and the plan to put them together again.
pub(super) fn cut(pieces: &WordPiece, texts: &[String]) -> (Vec<Vec<TokenId>>, Plan) {
    let (first, last) = pieces.brackets();
    let mut sequences = Vec::with_capacity(texts.len());
    let mut plan = Plan { tokens: Vec::with_capacity(texts.len()) };
    for text in texts {
        let ids = pieces.encode(text);
        let windows = windows(ids.len());
        plan.tokens.push(windows.iter().map(ExactSizeIterator::len).collect());
        for window in windows {
            let mut sequence = Vec::with_capacity(window.len() + 2);
            sequence.push(first);
            sequence.extend_from_slice(&ids[window]);
            sequence.push(last);
            sequences.push(sequence);
        }
    }
    (sequences, plan)
}

/// Where the windows of so many tokens lie: as few as can be, and of equal length, so that no
/// short rest counts for more than its tokens; or, if these are too many, whole ones at equal
/// distances.
fn windows(tokens: usize) -> Vec<Range<usize>> {
    let count = tokens.div_ceil(WINDOW).max(1);
    if count <= MOST_WINDOWS {
        return (0..count).map(|at| at * tokens / count..(at + 1) * tokens / count).collect();
    }
    let start = |at: usize| at * (tokens - WINDOW) / (MOST_WINDOWS - 1);
    (0..MOST_WINDOWS).map(|at| start(at)..start(at) + WINDOW).collect()
}

/// Sequences in groups of about `most` tokens, in order.
pub(super) fn chunks(sequences: Vec<Vec<TokenId>>, most: usize) -> Vec<Vec<Vec<TokenId>>> {
    let mut chunks = Vec::new();
    let (mut chunk, mut tokens) = (Vec::new(), 0);
    for sequence in sequences {
        if !chunk.is_empty() && tokens + sequence.len() > most {
            chunks.push(std::mem::take(&mut chunk));
            tokens = 0;
        }
        tokens += sequence.len();
        chunk.push(sequence);
    }
    chunks.push(chunk);
    chunks
}

impl Plan {
    /// A vector for each text from those of its windows, taken from the front.
    pub(super) fn pool(&self, vectors: impl IntoIterator<Item = Vec<f32>>) -> Vec<Vec<f32>> {
        let mut vectors = vectors.into_iter();
        let pool = |tokens: &Vec<usize>| {
            let mut windows = vectors.by_ref().take(tokens.len());
            if let [_] = tokens.as_slice() {
                return windows.next().unwrap_or_default();
            }
            let mut sum = vec![0.0; WIDTH];
            for (window, tokens) in windows.zip(tokens) {
                #[expect(clippy::cast_precision_loss, reason = "at most 254")]
                let weight = *tokens as f32;
                sum.iter_mut().zip(&window).for_each(|(sum, x)| *sum += weight * x);
            }
            normalise(&mut sum);
            sum
        };
        self.tokens.iter().map(pool).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_few_and_equal_and_cover_what_they_can() {
        for tokens in [0, 1, 254] {
            assert_eq!(windows(tokens), vec![0..tokens]);
        }
        assert_eq!(windows(255), [0..127, 127..255]);
        assert_eq!(windows(600), [0..200, 200..400, 400..600]);
        for tokens in [509, 1_000, WINDOW * MOST_WINDOWS] {
            let windows = windows(tokens);
            assert_eq!(windows.len(), tokens.div_ceil(WINDOW));
            assert_eq!(windows.iter().map(ExactSizeIterator::len).sum::<usize>(), tokens);
            assert!(windows.iter().all(|window| window.len() <= WINDOW));
        }
        let many = windows(1_000_000);
        assert_eq!(many.len(), MOST_WINDOWS);
        assert_eq!((many[0].clone(), many[MOST_WINDOWS - 1].clone()), (0..254, 999_746..1_000_000));
        assert!(many.iter().all(|window| window.len() == WINDOW));
    }

    #[test]
    fn chunks_keep_the_order_and_hold_no_more_than_they_must() {
        let sequence = |tokens: usize| vec![7; tokens];
        let sizes = |chunks: Vec<Vec<Vec<TokenId>>>| -> Vec<Vec<usize>> {
            chunks.iter().map(|chunk| chunk.iter().map(Vec::len).collect()).collect()
        };
        let sequences = [5, 5, 5, 20, 1].map(sequence).to_vec();
        assert_eq!(sizes(chunks(sequences, 10)), [vec![5, 5], vec![5], vec![20], vec![1]]);
    }

    #[test]
    fn vectors_of_windows_are_weighted_by_their_tokens() {
        let plan = Plan { tokens: vec![vec![3], vec![3, 4]] };
        let unit = |at: usize| {
            let mut vector = vec![0.0_f32; WIDTH];
            vector[at] = 1.0;
            vector
        };
        let pooled = plan.pool(vec![unit(0), unit(0), unit(1)]);
        assert_eq!(pooled[0], unit(0));
        assert!((pooled[1][0] - 0.6).abs() < 1e-6 && (pooled[1][1] - 0.8).abs() < 1e-6);
    }
}
