//! Documents into passages: pieces of a text that are small enough to be embedded and found one
//! by one, cut where a reader would cut.

mod outline;

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::estimate_tokens;
use crate::script::{Kind, kind};
use outline::{Outline, ends_with_heading_mark, looks_fenced};

/// Most tokens that one character can have by [`estimate_tokens`], and so the least that a
/// passage must be allowed to have.
const CHAR_TOKENS: usize = 2;
/// A token by [`estimate_tokens`], in sixths, which is what a plain letter has at the least.
const TOKEN_SIXTHS: usize = 6;
/// Widest white space within a passage, in bytes. White space costs no tokens, so that nothing else
/// would bound the bytes of a passage.
const MAX_GAP: usize = 1_000;

/// How large passages are, in tokens as [`estimate_tokens`] counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitOptions {
    /// Passages are filled up to this. At least 1 and at most `max_tokens`; what lies outside
    /// counts as the nearer end.
    ///
    /// 180 by default: embedding models of the MiniLM family read 256 word pieces, two of which
    /// are marks of their own, and ignore what follows. Estimates of prose lean upwards; those of
    /// numbers, code and scripts that a model's vocabulary covers badly may not, so that room is
    /// left.
    pub target_tokens: usize,
    /// No passage has more. At least 2, the most that one character has; less counts as 2.
    ///
    /// 240 by default, below the 254 word pieces of the same models. What is above the target and
    /// not above this is kept whole where it ends with a text, a section, or a piece that is better
    /// not cut.
    pub max_tokens: usize,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { target_tokens: 180, max_tokens: 240 }
    }
}

/// Splits a document into passages, and gives their byte ranges in order.
///
/// Each range begins and ends with a character that is not white space, none overlap, and every
/// character that is not white space lies in one of them. Nothing is a passage of a blank text.
///
/// The rules:
///
/// - A Markdown heading (`# ...`, up to three spaces before it) begins a passage and stays with what
///   follows, as far as there is room for it; headings with nothing but white space between them
///   stay together. Headings of more than half of `target_tokens` are cut as any text.
/// - Fenced code (between lines of three or more backticks or tildes) has no headings and is not
///   cut, unless it has more than `max_tokens`; then it is cut as any text, and a passage ends where
///   it ends.
/// - White space of more than 1,000 bytes ends a passage, wherever it stands.
/// - What is left of a section (up to the next heading) is one passage if it has `max_tokens` or
///   less. Else the passage ends at the best of these places that is there: a blank line, the end of
///   a line, of a sentence (by the rules of Unicode, UAX #29), a space, the end of a word in a text
///   without spaces, any place between two characters (grapheme clusters, unless one alone is too
///   much).
/// - Of places of one kind it is the last that keeps the passage within `target_tokens`, if the
///   passage then has a quarter of that or more; else the first beyond it, if that keeps it within
///   `max_tokens`; else the next kind is tried.
///
/// A passage that is split by itself under the same options is one passage again. The time is
/// linear in the length of the text, for a given `max_tokens`; the memory, beside the ranges and a
/// few words for each heading and fence, goes with `max_tokens`.
///
/// ```
/// use memory_text::{SplitOptions, split};
///
/// let text = "# Tea\n\nGreen tea is not fermented.\n\n# Coffee\n\nIt is roasted.\n";
/// let passages = split(text, &SplitOptions::default());
/// assert_eq!(&text[passages[0].clone()], "# Tea\n\nGreen tea is not fermented.");
/// assert_eq!(&text[passages[1].clone()], "# Coffee\n\nIt is roasted.");
/// ```
#[must_use]
pub fn split(text: &str, options: &SplitOptions) -> Vec<Range<usize>> {
    let max = options.max_tokens.max(CHAR_TOKENS);
    let target = options.target_tokens.clamp(1, max);
    let outline = Outline::of(text, target, max);
    let mut window = Window { text, target, max, outline: &outline, atoms: Vec::new(), sealed: 0 };
    let mut passages = Vec::new();
    let mut start = gap(text, 0).next;
    for limit in outline.cuts.iter().copied().chain([text.len()]) {
        while start < limit {
            let end = window.passage(start, limit);
            passages.push(start..end);
            start = gap(text, end).next;
        }
    }
    passages
}

/// How good a place is to cut at; later is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    /// Not here.
    Never,
    /// Between two characters, or where a heading would lose what follows it.
    Any,
    /// The end of a word where no space follows.
    Word,
    Space,
    Sentence,
    Line,
    Paragraph,
}

/// White space between two atoms; none where they touch.
struct Gap {
    /// Where the next atom begins.
    next: usize,
    cut: Cut,
    /// Its tokens: 1 if it holds a line break.
    tokens: usize,
}

/// The white space at a place.
fn gap(text: &str, at: usize) -> Gap {
    let (mut next, mut lines, mut tokens, mut before) = (at, 0, 0, ' ');
    for c in text[at..].chars() {
        if !c.is_whitespace() {
            break;
        }
        next += c.len_utf8();
        lines += match c {
            '\n' if before == '\r' => 0,
            '\n' | '\r' | '\u{B}' | '\u{85}' | '\u{2028}' => 1,
            '\u{C}' | '\u{2029}' => 2,
            _ => 0,
        };
        if matches!(c, '\n' | '\r') {
            tokens = 1;
        }
        before = c;
    }
    let cut = match lines {
        0 if next == at => Cut::Any,
        0 => Cut::Space,
        1 => Cut::Line,
        _ => Cut::Paragraph,
    };
    Gap { next, cut, tokens }
}

/// A part of a text whose tokens add up with those of its neighbours: a run of letters and digits,
/// any other character by itself, or fenced code that is kept whole.
struct Atom {
    start: usize,
    end: usize,
    /// Where the next one begins: at `end`, or after white space.
    next: usize,
    /// Tokens of the passage before it.
    before: usize,
    /// Tokens of the passage with it.
    tokens: usize,
    /// How good it is to cut after it.
    cut: Cut,
    fence: bool,
}

/// The text from the beginning of a passage on, as far as the passage could reach.
struct Window<'a> {
    text: &'a str,
    target: usize,
    max: usize,
    outline: &'a Outline,
    /// At most one for each token, and last of all the one that is too much.
    atoms: Vec<Atom>,
    /// So many of them belong to the headings that the passage begins with.
    sealed: usize,
}

impl Window<'_> {
    /// Where the passage ends that begins at `start` and may not reach beyond `limit`.
    fn passage(&mut self, start: usize, limit: usize) -> usize {
        if let Some(end) = self.read(start, limit) {
            return end;
        }
        if let Some(end) = self.best(Cut::Paragraph).or_else(|| self.best(Cut::Line)) {
            return end;
        }
        self.mark_sentences(start);
        if let Some(end) = self.best(Cut::Sentence).or_else(|| self.best(Cut::Space)) {
            return end;
        }
        self.mark_words(start);
        self.best(Cut::Word).unwrap_or_else(|| self.between_characters(start))
    }

    /// Reads atoms until there are too many tokens. If all of what is left has room, where it ends.
    fn read(&mut self, start: usize, limit: usize) -> Option<usize> {
        self.atoms.clear();
        self.sealed = 0;
        let headings = self.outline.heading_at(start);
        // It would hide headings that it holds, and show those that fenced code hides.
        let looks_fenced = looks_fenced(self.text, start);
        let (mut at, mut before) = (start, 0);
        loop {
            let (end, tokens, fence) = match self.outline.fence_at(at) {
                Some(_) if looks_fenced => break,
                Some((range, tokens)) => (range.end, *tokens, true),
                None => {
                    let end = self.atom_end(at);
                    (end, estimate_tokens(&self.text[at..end]), false)
                }
            };
            let tokens = before + tokens;
            if tokens > self.max {
                let cut = Cut::Never;
                self.atoms.push(Atom { start: at, end, next: end, before, tokens, cut, fence });
                return None;
            }
            let Gap { next, mut cut, tokens: breaks } = gap(self.text, end);
            // The rest of such a line would be missed by what then looks like a heading.
            if next == end && ends_with_heading_mark(&self.text[start..end]) {
                cut = Cut::Never;
            }
            if let Some(headings) = headings.filter(|headings| end <= headings.end) {
                cut = if end < headings.end { Cut::Never } else { Cut::Any };
                self.sealed = self.atoms.len() + 1;
            }
            self.atoms.push(Atom { start: at, end, next, before, tokens, cut, fence });
            if next >= limit || next - end > MAX_GAP {
                break;
            }
            (at, before) = (next, tokens + breaks);
        }
        self.atoms.last().map(|last| last.end)
    }

    /// Where the atom ends that begins at a place and is no fenced code. One that cannot have room
    /// in any passage is not read to its end.
    fn atom_end(&self, at: usize) -> usize {
        let most = self.max.saturating_add(1).saturating_mul(TOKEN_SIXTHS);
        let (mut end, mut sixths) = (at, 0);
        for c in self.text[at..].chars() {
            let in_word = matches!(kind(c), Kind::Word | Kind::Extend);
            if !in_word && end > at {
                break;
            }
            end += c.len_utf8();
            sixths += match c {
                '0'..='9' => 2,
                _ if c.is_ascii() => 1,
                _ => 3,
            };
            if !in_word || sixths > most {
                break;
            }
        }
        end
    }

    /// The best place of a kind, or of a better one, if there is one that leaves enough.
    fn best(&self, kind: Cut) -> Option<usize> {
        let (mut within, mut beyond) = (None, None);
        for atom in self.atoms.iter().filter(|atom| atom.cut >= kind) {
            if atom.tokens > self.target {
                beyond = Some(atom.end);
                break;
            }
            within = Some(atom);
        }
        match within {
            Some(atom) if atom.tokens >= self.target / 4 => Some(atom.end),
            _ => beyond,
        }
    }

    /// What was read, to the end of the atom that is too much.
    fn slice(&self, start: usize) -> &str {
        &self.text[start..self.atoms.last().map_or(start, |last| last.end)]
    }

    /// Raises the places at which a sentence ends.
    fn mark_sentences(&mut self, start: usize) {
        let ends: Vec<usize> =
            self.slice(start).split_sentence_bound_indices().map(|(at, _)| start + at).collect();
        let mut ends = ends.into_iter().peekable();
        for atom in &mut self.atoms[self.sealed..] {
            while ends.next_if(|end| *end < atom.end).is_some() {}
            if ends.peek().is_some_and(|end| *end <= atom.next) && atom.cut != Cut::Never {
                atom.cut = atom.cut.max(Cut::Sentence);
            }
        }
    }

    /// Raises the places at which a word ends and no space follows. Punctuation stays with what is
    /// before it.
    fn mark_words(&mut self, start: usize) {
        let ends: Vec<usize> =
            self.slice(start).split_word_bound_indices().map(|(at, _)| start + at).collect();
        let mut ends = ends.into_iter().peekable();
        for atom in &mut self.atoms[self.sealed..] {
            while ends.next_if(|end| *end < atom.end).is_some() {}
            let next = self.text[atom.end..].chars().next();
            if atom.cut == Cut::Any
                && ends.peek() == Some(&atom.end)
                && next.is_some_and(|next| kind(next) != Kind::Other)
            {
                atom.cut = Cut::Word;
            }
        }
    }

    /// The last place between two characters that keeps the passage within the target.
    fn between_characters(&self, start: usize) -> usize {
        let text = self.text;
        let clusters: Vec<usize> =
            self.slice(start).grapheme_indices(true).map(|(at, _)| start + at).collect();
        let whole = self.atoms.partition_point(|atom| atom.tokens <= self.target);
        // The one that is too much for the maximum is too much for the target.
        let Some(first) = self.atoms.get(whole) else { return start + self.slice(start).len() };
        let has_room =
            |end: usize| first.before + estimate_tokens(&text[first.start..end]) <= self.target;
        if !first.fence {
            let inside = &clusters[clusters.partition_point(|at| *at <= first.start)..];
            let inside = &inside[..inside.partition_point(|at| *at < first.end)];
            if let Some(last) = inside.partition_point(|at| has_room(*at)).checked_sub(1) {
                return inside[last];
            }
        }
        let before = &self.atoms[..whole];
        let parts = |atom: &&Atom| {
            atom.cut != Cut::Never
                && (atom.next > atom.end || clusters.binary_search(&atom.end).is_ok())
        };
        if let Some(atom) = before.iter().rfind(parts).or(before.last()) {
            return atom.end;
        }
        if first.fence {
            return first.end;
        }
        // A cluster that is too much by itself: as many of its characters as have room, or one.
        let ends: Vec<usize> = text[first.start..first.end]
            .char_indices()
            .map(|(at, c)| first.start + at + c.len_utf8())
            .collect();
        let last = ends.partition_point(|end| has_room(*end)).saturating_sub(1);
        ends.get(last).copied().unwrap_or(first.end)
    }
}
