//! Texts that are longer than a model's window: cut into windows, their vectors pooled.

use std::ops::Range;

use memory_core::Metric;

/// Most windows of one text. 32: of the default size they hold 256,000 bytes, a third of the
/// largest memory there may be, and a mean of still more windows hardly tells texts apart.
pub const MOST_WINDOWS: usize = 32;

/// The windows of a text, as ranges of its bytes at char boundaries, in order, each of 1 to
/// `window` bytes; one of the whole text where it fits, or where `window` is 0.
///
/// They are about equally long and together the whole text, unless it needs more than
/// [`MOST_WINDOWS`] of them: then so many are spread evenly over it. A window ends at a whitespace
/// character where its last quarter has one. Windows of nothing but whitespace are left out
/// unless all are such.
pub(crate) fn cut(text: &str, window: usize) -> Vec<Range<usize>> {
    if window == 0 || text.len() <= window {
        return vec![Range { start: 0, end: text.len() }];
    }
    let mut ranges = side_by_side(text, window).unwrap_or_else(|| spread(text, window));
    let blank = |range: &Range<usize>| text[range.clone()].trim().is_empty();
    if !ranges.iter().all(blank) {
        ranges.retain(|range| !blank(range));
    }
    ranges
}

/// Windows that cover the text, or `None` where that takes more than may be.
fn side_by_side(text: &str, window: usize) -> Option<Vec<Range<usize>>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < text.len() {
        if ranges.len() == MOST_WINDOWS {
            return None;
        }
        let rest = text.len() - start;
        // What is left, in equal parts; anew each time, for the last cut took less than its part.
        let end = end_of(text, start, rest.div_ceil(rest.div_ceil(window)));
        ranges.push(start..end);
        start = end;
    }
    Some(ranges)
}

/// As many windows as may be, from the first byte of the text to its last, at equal distances.
fn spread(text: &str, window: usize) -> Vec<Range<usize>> {
    // Where the cuts at whitespace alone made too many windows, shorter ones lie side by side.
    let window = window.min(text.len() / MOST_WINDOWS);
    let room = text.len() - window;
    let last = MOST_WINDOWS - 1;
    (0..MOST_WINDOWS)
        .map(|at| {
            let from = room * at / last;
            let start = if at == 0 { 0 } else { start_of(text, from, window) };
            let end =
                if at == last { text.len() } else { end_of(text, start, from + window - start) };
            start..end
        })
        .collect()
}

/// The end of a window of at most `length` bytes: after the last whitespace of its last quarter,
/// or at the last char boundary.
fn end_of(text: &str, start: usize, length: usize) -> usize {
    let most = start + length;
    if most >= text.len() {
        return text.len();
    }
    let most = text.floor_char_boundary(most);
    let least = text.ceil_char_boundary(start + length - length / 4);
    let tail = text.get(least..most).unwrap_or_default();
    match tail.char_indices().rfind(|(_, char)| char.is_whitespace()) {
        Some((at, char)) => least + at + char.len_utf8(),
        None => most,
    }
}

/// The start of a window at `from`: after the first whitespace of its first quarter, or at the
/// next char boundary.
fn start_of(text: &str, from: usize, window: usize) -> usize {
    let least = text.ceil_char_boundary(from);
    let head = text.get(least..text.floor_char_boundary(from + window / 4)).unwrap_or_default();
    match head.char_indices().find(|(_, char)| char.is_whitespace()) {
        Some((at, char)) => least + at + char.len_utf8(),
        None => least,
    }
}

/// The vector of a text from those of its windows, each with its bytes: their mean weighted by
/// bytes, under cosine brought to length 1. Of a single window it is the vector as it came.
///
/// The vectors have equal lengths, checked before. `None`: they cancel out, and a mean of zero has
/// no direction; or there is none.
pub(crate) fn pool(mut windows: Vec<(usize, Vec<f32>)>, metric: Metric) -> Option<Vec<f32>> {
    if windows.len() <= 1 {
        return windows.pop().map(|(_, vector)| vector);
    }
    let mut sums = vec![0.0_f64; windows[0].1.len()];
    let mut weights = 0.0_f64;
    for (bytes, vector) in &windows {
        let weight = f64::from(u32::try_from(*bytes).unwrap_or(u32::MAX));
        weights += weight;
        for (sum, component) in sums.iter_mut().zip(vector) {
            *sum += weight * f64::from(*component);
        }
    }
    let scale = match metric {
        Metric::Cosine => sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt(),
        Metric::Dot | Metric::Euclidean => weights,
    };
    (scale > 0.0).then(|| sums.into_iter().map(|sum| narrow(sum / scale)).collect())
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is the purpose")]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(text: &str, window: usize) -> Vec<&str> {
        cut(text, window).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn short_texts_stay_whole_and_longer_ones_are_cut_at_whitespace() {
        assert_eq!(pieces("0123456789abcdef", 16), ["0123456789abcdef"]);
        assert_eq!(pieces("one text of more than 16 bytes", 0), ["one text of more than 16 bytes"]);
        // 20 bytes are two windows of 10; the last quarter of the first are its bytes 8 and 9.
        assert_eq!(pieces("0123456 8 abcdefghij", 16), ["0123456 8 ", "abcdefghij"]);
        // Whitespace before the last quarter is not looked at.
        assert_eq!(pieces("01234 6789abcdefghij", 16), ["01234 6789", "abcdefghij"]);
        assert_eq!(pieces("0123456789abcdefghij", 16), ["0123456789", "abcdefghij"]);
        // Chars of three bytes: 18 bytes in two windows, 9 bytes each.
        assert_eq!(pieces("水水水水水水", 16), ["水水水", "水水水"]);
        // 24 bytes in two windows of 12; a char of four bytes stands across byte 12.
        assert_eq!(pieces("0123456789🦀abcdefghij", 16), ["0123456789", "🦀abcdefghij"]);
    }

    #[test]
    fn blank_windows_are_left_out_unless_there_is_nothing_else() {
        let text = format!("{}{}", "x".repeat(16), " ".repeat(16));
        assert_eq!(pieces(&text, 16), ["x".repeat(16)]);
        assert_eq!(pieces(&" ".repeat(32), 16).concat(), " ".repeat(32));
    }

    #[test]
    fn a_text_of_too_many_windows_is_sampled_evenly_from_start_to_end() {
        let text = "0123456789".repeat(1_000);
        let ranges = cut(&text, 16);
        assert_eq!(ranges.len(), MOST_WINDOWS);
        assert_eq!(ranges[0], 0..16);
        assert_eq!(ranges[MOST_WINDOWS - 1], 9_984..10_000);
        // The room of 9,984 bytes in 31 steps.
        assert_eq!(ranges[1], 322..338);
        assert_eq!(ranges[30], 9_661..9_677);
        // Exactly so many windows still are the whole text.
        assert_eq!(pieces(&text[..512], 16).concat(), text[..512]);
        assert_eq!(pieces(&text[..512], 16).len(), MOST_WINDOWS);
    }

    #[test]
    fn means_are_weighted_by_bytes_and_normalised_under_cosine_only() {
        let windows = || vec![(3, vec![1.0, 0.0]), (1, vec![0.0, 1.0])];
        assert_eq!(pool(windows(), Metric::Dot).unwrap(), [0.75, 0.25]);
        assert_eq!(pool(windows(), Metric::Euclidean).unwrap(), [0.75, 0.25]);
        // (3, 1) over its length, the root of 10.
        assert_eq!(pool(windows(), Metric::Cosine).unwrap(), [0.948_683_3, 0.316_227_76]);
        assert_eq!(pool(vec![(7, vec![3.0, 4.0])], Metric::Cosine).unwrap(), [3.0, 4.0]);
        let opposite = || vec![(2, vec![1.0, -2.0]), (2, vec![-1.0, 2.0])];
        assert_eq!(pool(opposite(), Metric::Cosine), None);
        assert_eq!(pool(opposite(), Metric::Dot).unwrap(), [0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn windows_hold_the_whole_text_and_keep_to_their_size(
            text in "[a-z水🦀 \\n]{1,2500}",
            window in 64_usize..200,
        ) {
            let ranges = cut(&text, window);
            prop_assert!((1..=MOST_WINDOWS).contains(&ranges.len()));
            let mut at = 0;
            for range in &ranges {
                prop_assert!(range.start >= at && range.end > range.start);
                prop_assert!(range.len() <= window);
                // Cuts at whitespace take well over half a window: so long a text is not sampled,
                // and nothing but blanks is left out.
                if text.len() <= 16 * window {
                    prop_assert!(text[at..range.start].trim().is_empty());
                }
                at = range.end;
            }
            prop_assert!(text.len() > 16 * window || text[at..].trim().is_empty());
        }
    }
}
