//! From text to raw words: segmentation, the finer splitting of words, pairs of characters
//! for scripts without spaces, emoji. What a word then becomes is decided elsewhere, in the
//! [`Sink`].

use crate::script::{Kind, PairScript, is_apostrophe, is_dropped, is_emoji, is_emoji_style, kind};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};
use unicode_segmentation::UnicodeSegmentation;

/// The longest term, in characters; the rest of a longer word is ignored. Longer words are
/// encoded data, not language, and one of them would outweigh a whole text in an index.
pub const MAX_TERM_CHARS: usize = 64;

/// Combining marks kept on one character of a script without spaces. Thai and Burmese use up
/// to four; more is decoration.
const MAX_MARKS: usize = 4;

/// Where raw words go.
pub(crate) trait Sink {
    /// A word in lower case whose apostrophes are `'`, at most [`MAX_TERM_CHARS`] characters.
    fn word(&mut self, lower: &str);

    /// A finished term: a pair of characters or an emoji.
    fn term(&mut self, term: &str);
}

/// Buffers of one segmentation, kept between texts.
#[derive(Default)]
pub(crate) struct Segmenter {
    /// Lower case by Turkish rules: `I` is `ı`.
    turkish: bool,
    word: String,
    joined: String,
    nfkc: String,
    pairs: Pairs,
}

impl Segmenter {
    pub(crate) fn new(turkish: bool) -> Self {
        Self { turkish, ..Self::default() }
    }

    /// Sends every raw word of `text` to `sink`, in the order of the text.
    pub(crate) fn run(&mut self, text: &str, sink: &mut impl Sink) {
        for part in text.split_ascii_whitespace() {
            if part.is_ascii() {
                self.ascii_part(part, sink);
            } else {
                self.unicode_part(part, sink);
            }
        }
        // One huge text must not keep its memory for ever.
        const KEPT_BYTES: usize = 1 << 16;
        self.nfkc.clear();
        self.nfkc.shrink_to(KEPT_BYTES);
        self.joined.clear();
        self.joined.shrink_to(KEPT_BYTES);
    }

    /// The fast path; it yields exactly what [`Self::unicode_part`] would.
    fn ascii_part(&mut self, part: &str, sink: &mut impl Sink) {
        let bytes = part.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if !bytes[at].is_ascii_alphanumeric() {
                at += 1;
                continue;
            }
            let start = at;
            let mut split = false;
            loop {
                while at < bytes.len() && bytes[at].is_ascii_alphanumeric() {
                    at += 1;
                }
                let Some(&next) = bytes.get(at + 1) else { break };
                if !joins(bytes[at - 1].into(), bytes[at].into(), next.into()) {
                    break;
                }
                split |= bytes[at] != b'\'';
                at += 2;
            }
            self.run_of_words(&part[start..at], split, sink);
        }
    }

    fn unicode_part(&mut self, part: &str, sink: &mut impl Sink) {
        if is_nfkc_quick(part.chars()) == IsNormalized::Yes {
            self.segments(part, sink);
        } else {
            let mut nfkc = std::mem::take(&mut self.nfkc);
            nfkc.clear();
            nfkc.extend(part.nfkc());
            self.segments(&nfkc, sink);
            self.nfkc = nfkc;
        }
    }

    fn segments(&mut self, part: &str, sink: &mut impl Sink) {
        for segment in part.split_word_bounds() {
            let mut chars = segment.chars();
            match chars.next() {
                Some(first) if is_emoji(first) && !chars.any(char::is_alphanumeric) => {
                    self.pairs.flush(sink);
                    self.word.clear();
                    let kept = segment.chars().filter(|c| !is_emoji_style(*c));
                    self.word.extend(kept.take(MAX_TERM_CHARS));
                    sink.term(&self.word);
                }
                _ => self.segment(segment, sink),
            }
        }
        self.pairs.flush(sink);
    }

    /// Splits one segment into runs of word characters and pairs. A run of pairs may go on
    /// into the next segment, for the segmentation cuts such scripts character by character.
    fn segment(&mut self, segment: &str, sink: &mut impl Sink) {
        let mut run: Option<(usize, bool)> = None;
        // The last letter or digit of the run, marks passed over.
        let mut before = ' ';
        for (at, c) in segment.char_indices() {
            let class = kind(c);
            match class {
                Kind::Word => {
                    self.pairs.flush(sink);
                    run.get_or_insert((at, false));
                    before = c;
                }
                Kind::Extend if run.is_some() => {}
                Kind::Extend => self.pairs.mark(c),
                Kind::Pair(_) | Kind::Other => {
                    if let Some((start, split)) = run {
                        let after = segment[at + c.len_utf8()..].chars().next().unwrap_or(' ');
                        if class == Kind::Other && joins(before, c, after) {
                            run = Some((start, split || !is_apostrophe(c)));
                            before = ' ';
                            continue;
                        }
                        run = None;
                        self.run_of_words(&segment[start..at], split, sink);
                    }
                    match class {
                        Kind::Pair(script) => self.pairs.push(c, script, sink),
                        _ => self.pairs.flush(sink),
                    }
                }
            }
        }
        if let Some((start, split)) = run {
            self.run_of_words(&segment[start..], split, sink);
        }
    }

    /// Takes a run of letters and digits apart at the full stops and commas in it; `split`
    /// says whether there are any.
    fn run_of_words(&mut self, run: &str, split: bool, sink: &mut impl Sink) {
        if !split {
            self.word(run, sink);
            return;
        }
        let stops = run.bytes().filter(|byte| *byte == b'.').count();
        let commas = run.contains(',');
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        let acronym = !commas
            && run.split('.').all(|part| {
                let mut chars = part.chars();
                chars.next().is_some_and(char::is_alphabetic) && chars.next().is_none()
            });
        if acronym {
            joined.extend(run.chars().filter(|c| *c != '.').take(MAX_TERM_CHARS));
            self.word(&joined, sink);
            self.joined = joined;
            return;
        }
        // What stands before the next part: nothing, a comma or a stop.
        let mut separator = None;
        for part in run.split_inclusive(['.', ',']) {
            let body = part.trim_end_matches(['.', ',']);
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let glue = match separator {
                Some(',') if body.len() == 3 && digits(body) && digits(&joined) => Some(""),
                Some('.') if stops == 1 && digits(body) && digits(&joined) => Some("."),
                _ => None,
            };
            if glue.is_none() && !joined.is_empty() {
                self.word(&joined, sink);
                joined.clear();
            }
            if joined.len() <= 4 * MAX_TERM_CHARS {
                joined.push_str(glue.unwrap_or(""));
                joined.push_str(body);
            }
            separator = part[body.len()..].chars().next();
        }
        self.word(&joined, sink);
        self.joined = joined;
    }

    /// Puts one word into lower case and hands it on.
    fn word(&mut self, raw: &str, sink: &mut impl Sink) {
        self.word.clear();
        if raw.is_ascii() && !self.turkish {
            self.word.push_str(&raw[..raw.len().min(MAX_TERM_CHARS)]);
            self.word.make_ascii_lowercase();
        } else {
            let lower = raw.chars().filter(|c| !is_dropped(*c)).flat_map(|c| {
                let c = match c {
                    'I' if self.turkish => 'ı',
                    'İ' if self.turkish => 'i',
                    'ς' => 'σ',
                    c if is_apostrophe(c) => '\'',
                    c => ascii_digit(c),
                };
                c.to_lowercase()
            });
            self.word.extend(lower.take(MAX_TERM_CHARS));
        }
        // A cut may leave an apostrophe at the end, where none can stand.
        sink.word(self.word.trim_end_matches('\''));
    }
}

/// Whether a character between two others belongs to the word that they form: an apostrophe
/// or a full stop between letters, a full stop or a comma between digits.
fn joins(before: char, c: char, after: char) -> bool {
    if kind(after) != Kind::Word {
        return false;
    }
    match c {
        '.' => {
            (before.is_alphabetic() && after.is_alphabetic())
                || (before.is_ascii_digit() && after.is_ascii_digit())
        }
        ',' => before.is_ascii_digit() && after.is_ascii_digit(),
        c if is_apostrophe(c) => before.is_alphabetic() && after.is_alphabetic(),
        _ => false,
    }
}

/// The ASCII digit of the same value, for the decimal digits in common use; any other
/// character is itself.
fn ascii_digit(c: char) -> char {
    /// The zero of each set: Arabic, Persian, Devanagari, Bengali, Thai.
    const ZEROS: [char; 5] = ['\u{0660}', '\u{06F0}', '\u{0966}', '\u{09E6}', '\u{0E50}'];
    if c.is_ascii() {
        return c;
    }
    let value = ZEROS.iter().filter_map(|zero| u32::from(c).checked_sub(u32::from(*zero)));
    value.filter_map(|value| char::from_digit(value, 10)).next().unwrap_or(c)
}

/// A run of a script without spaces, on its way to overlapping pairs.
#[derive(Default)]
struct Pairs {
    /// The pair in the making, each character with its marks.
    text: String,
    /// Bytes of `text` before its last character: of the first one, when there are two.
    first_len: usize,
    /// How many characters are held: none, one, or the two of a pair not sent yet.
    units: u8,
    marks: usize,
    script: Option<PairScript>,
}

impl Pairs {
    fn push(&mut self, c: char, script: PairScript, sink: &mut impl Sink) {
        if self.script != Some(script) {
            self.flush(sink);
            self.script = Some(script);
        }
        if self.units == 2 {
            sink.term(&self.text);
            self.text.drain(..self.first_len);
            self.units = 1;
        }
        self.first_len = self.text.len();
        self.units += 1;
        self.text.push(c);
        self.marks = 0;
    }

    /// Adds a combining mark to the last character, if a run is under way.
    fn mark(&mut self, c: char) {
        if self.units != 0 && !is_dropped(c) && self.marks < MAX_MARKS {
            self.text.push(c);
            self.marks += 1;
        }
    }

    /// Ends the run.
    fn flush(&mut self, sink: &mut impl Sink) {
        if self.units != 0 {
            sink.term(&self.text);
        }
        self.text.clear();
        self.units = 0;
        self.script = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Collect(Vec<String>);

    impl Sink for Collect {
        fn word(&mut self, lower: &str) {
            self.0.push(lower.to_owned());
        }
        fn term(&mut self, term: &str) {
            self.0.push(format!("<{term}>"));
        }
    }

    fn words(text: &str) -> Vec<String> {
        let mut sink = Collect::default();
        Segmenter::new(false).run(text, &mut sink);
        sink.0
    }

    #[test]
    fn splits_words_where_a_reader_would() {
        let table: [(&str, &[&str]); 14] = [
            ("Hello, World!", &["hello", "world"]),
            ("great.Then", &["great", "then"]),
            ("U.S.A. and e.g.", &["usa", "and", "eg"]),
            ("3.14 3,500 1,234.56", &["3.14", "3500", "1234.56"]),
            ("1,2,3 10,5", &["1", "2", "3", "10", "5"]),
            ("192.168.1.1", &["192", "168", "1", "1"]),
            ("2023-05-07 12:30", &["2023", "05", "07", "12", "30"]),
            ("snake_case a@b.org", &["snake", "case", "a", "b", "org"]),
            ("Caroline's don’t 'quoted'", &["caroline's", "don't", "quoted"]),
            ("3.a a.3", &["3", "a", "a", "3"]),
            ("\0a\0b", &["a", "b"]),
            ("state\u{00AD}ment", &["statement"]),
            ("ﬁne Ｆｕｌｌ", &["fine", "full"]),
            ("٢٠٢٣", &["2023"]),
        ];
        for (text, expected) in table {
            assert_eq!(words(text), expected, "{text:?}");
        }
    }

    #[test]
    fn pairs_of_characters() {
        assert_eq!(words("北京市"), ["<北京>", "<京市>"]);
        assert_eq!(words("猫"), ["<猫>"]);
        assert_eq!(words("猫 犬"), ["<猫>", "<犬>"]);
        assert_eq!(words("東京へ"), ["<東京>", "<京へ>"]);
        assert_eq!(words("ABC北京2023"), ["abc", "<北京>", "2023"]);
        assert_eq!(words("한국어abc"), ["<한국>", "<국어>", "abc"]);
        assert_eq!(words("中ก"), ["<中>", "<ก>"]);
        assert_eq!(words("ที่นี่"), ["<ที่นี่>"]);
        assert_eq!(words("中。国"), ["<中>", "<国>"]);
    }

    #[test]
    fn emoji_are_words_of_their_own() {
        assert_eq!(words("ok👍🏽👍 ❤️"), ["ok", "<👍>", "<👍>", "<❤>"]);
        assert_eq!(words("👨‍👩‍👧🇩🇪🇫🇷"), ["<👨‍👩‍👧>", "<🇩🇪>", "<🇫🇷>"]);
        assert_eq!(words("© € → ½"), ["1", "2"]);
    }

    #[test]
    fn long_words_are_cut() {
        let found = words(&"ab".repeat(500_000));
        assert_eq!(found, ["ab".repeat(MAX_TERM_CHARS / 2)]);
        let found = words(&"é".repeat(100_000));
        assert_eq!(found, ["é".repeat(MAX_TERM_CHARS)]);
        let zalgo = format!("a{}", "\u{0301}".repeat(100_000));
        let found = words(&zalgo);
        assert_eq!(found.len(), 1);
        assert!(found[0].chars().count() <= MAX_TERM_CHARS);
    }

    proptest! {
        #[test]
        fn the_ascii_path_is_only_faster(text in "[ -~]{0,60}|[aB3.,'’_:-]{0,30}") {
            let mut fast = Collect::default();
            let mut slow = Collect::default();
            for part in text.split_ascii_whitespace().filter(|part| part.is_ascii()) {
                Segmenter::new(false).ascii_part(part, &mut fast);
                Segmenter::new(false).unicode_part(part, &mut slow);
            }
            prop_assert_eq!(fast.0, slow.0);
        }
    }
}
