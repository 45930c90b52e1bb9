//! WordPiece as the uncased BERT models use it: a text to token ids.
//!
//! The steps, in the order that the models were trained with: the five special tokens are cut out
//! as they stand; control characters are dropped and white space becomes a space; Chinese
//! characters stand alone; accents are taken off; letters are lowered; words are split at spaces
//! and around punctuation; each word becomes its longest known beginning, then the longest known
//! continuation, and so on, or `[UNK]` where that does not come out even.

use std::collections::HashMap;

use memory_core::{Error, ErrorKind, Result};
use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// Longest word that is looked at, in characters; a longer one is `[UNK]`. The model's own bound.
const WORD_CHARS: usize = 100;

/// What marks the continuation of a word in the vocabulary.
const CONTINUES: &str = "##";

/// A token id, as the vocabulary numbers them from 0.
pub type TokenId = u32;

/// The vocabulary, and how to cut texts by it.
pub struct WordPiece {
    beginnings: HashMap<Box<str>, TokenId>,
    continuations: HashMap<Box<str>, TokenId>,
    /// The special tokens by their text.
    specials: [(&'static str, TokenId); 5],
    unknown: TokenId,
    first: TokenId,
    last: TokenId,
    /// Bytes of the longest piece, which bounds the search for the longest that fits.
    longest: usize,
}

impl WordPiece {
    /// Reads a vocabulary: one token a line, numbered from 0.
    ///
    /// # Errors
    /// `Corrupt`: no UTF-8, a token twice, or a special token that is not there.
    pub fn from_vocabulary(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| corrupt("is no UTF-8 text"))?;
        let (mut beginnings, mut continuations) = (HashMap::new(), HashMap::new());
        let mut longest = 0;
        for (id, token) in (0..).zip(text.lines()) {
            let (pieces, piece) = match token.strip_prefix(CONTINUES) {
                Some(piece) if !piece.is_empty() => (&mut continuations, piece),
                _ => (&mut beginnings, token),
            };
            longest = longest.max(piece.len());
            if pieces.insert(Box::from(piece), id).is_some() {
                return Err(corrupt("has a token twice"));
            }
        }
        let special = |name: &'static str| {
            let id = beginnings.get(name).copied();
            id.map(|id| (name, id)).ok_or_else(|| corrupt("lacks a special token"))
        };
        let specials = [
            special("[CLS]")?,
            special("[SEP]")?,
            special("[UNK]")?,
            special("[PAD]")?,
            special("[MASK]")?,
        ];
        let [(_, first), (_, last), (_, unknown), ..] = specials;
        Ok(Self { beginnings, continuations, specials, unknown, first, last, longest })
    }

    /// The id that stands before the tokens of a text, and the one that stands behind them.
    #[must_use]
    pub fn brackets(&self) -> (TokenId, TokenId) {
        (self.first, self.last)
    }

    /// How many tokens the vocabulary has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.beginnings.len() + self.continuations.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of a text, without the brackets and without any cut. Any text has some tokens or
    /// none; time and room are linear in its length.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        // A token has four bytes of English on average.
        let mut tokens = Vec::with_capacity(text.len() / 4 + 4);
        let mut words = Words { pieces: self, tokens: &mut tokens, word: String::new(), chars: 0 };
        let mut rest = text;
        while let Some((before, id, behind)) = self.next_special(rest) {
            words.plain(before);
            words.tokens.push(id);
            rest = behind;
        }
        words.plain(rest);
        tokens
    }

    /// The first special token of a text: what stands before it, its id, and what stands behind.
    fn next_special<'a>(&self, text: &'a str) -> Option<(&'a str, TokenId, &'a str)> {
        let mut from = 0;
        while let Some(found) = text[from..].find('[') {
            let at = from + found;
            for (name, id) in self.specials {
                if let Some(behind) = text[at..].strip_prefix(name) {
                    return Some((&text[..at], id, behind));
                }
            }
            from = at + 1;
        }
        None
    }

    /// Appends the pieces of a word.
    fn word(&self, word: &str, chars: usize, tokens: &mut Vec<TokenId>) {
        if let Some(id) = self.beginnings.get(word).filter(|_| chars <= WORD_CHARS) {
            tokens.push(*id);
            return;
        }
        let before = tokens.len();
        let mut rest = word;
        while !rest.is_empty() {
            let known =
                if rest.len() == word.len() { &self.beginnings } else { &self.continuations };
            let found = (chars <= WORD_CHARS)
                .then(|| longest(rest, self.longest, |piece| known.get(piece).copied()))
                .flatten();
            let Some((id, bytes)) = found else {
                tokens.truncate(before);
                tokens.push(self.unknown);
                return;
            };
            tokens.push(id);
            rest = &rest[bytes..];
        }
    }
}

impl std::fmt::Debug for WordPiece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WordPiece").field("tokens", &self.len()).finish_non_exhaustive()
    }
}

/// The longest beginning of a text that is known, and its bytes.
fn longest<T>(text: &str, most: usize, known: impl Fn(&str) -> Option<T>) -> Option<(T, usize)> {
    let mut end = text.floor_char_boundary(most.min(text.len()));
    while end > 0 {
        if let Some(found) = known(&text[..end]) {
            return Some((found, end));
        }
        end = text.floor_char_boundary(end - 1);
    }
    None
}

/// Cuts plain text into words, and each at once into its pieces.
struct Words<'a> {
    pieces: &'a WordPiece,
    tokens: &'a mut Vec<TokenId>,
    word: String,
    chars: usize,
}

impl Words<'_> {
    fn plain(&mut self, text: &str) {
        if text.is_ascii() {
            for c in text.chars().filter_map(clean) {
                self.push(c.to_ascii_lowercase());
            }
        } else {
            // Chinese characters are told apart before they are decomposed, for some of the
            // compatibility ideographs become other ones by it.
            let spaced = text.chars().filter_map(clean).flat_map(|c| {
                let space = is_chinese(c).then_some(' ');
                [space, Some(c), space].into_iter().flatten()
            });
            let bare =
                spaced.nfd().filter(|c| c.general_category() != GeneralCategory::NonspacingMark);
            for c in bare.flat_map(char::to_lowercase) {
                self.push(c);
            }
        }
        self.end();
    }

    fn push(&mut self, c: char) {
        if c.is_whitespace() {
            self.end();
        } else if is_punctuation(c) {
            self.end();
            self.word.push(c);
            self.chars = 1;
            self.end();
        } else {
            // What is beyond the longest word is not kept: it changes nothing any more.
            if self.chars <= WORD_CHARS {
                self.word.push(c);
            }
            self.chars += 1;
        }
    }

    fn end(&mut self) {
        if !self.word.is_empty() {
            self.pieces.word(&self.word, self.chars, self.tokens);
            self.word.clear();
        }
        self.chars = 0;
    }
}

/// A space for white space, nothing for a character that is dropped.
fn clean(c: char) -> Option<char> {
    match c {
        '\t' | '\n' | '\r' => Some(' '),
        '\0' | '\u{fffd}' => None,
        ' '..='~' => Some(c),
        _ if is_control(c) => None,
        _ if c.is_whitespace() => Some(' '),
        _ => Some(c),
    }
}

fn is_control(c: char) -> bool {
    matches!(
        c.general_category(),
        GeneralCategory::Control | GeneralCategory::Format | GeneralCategory::PrivateUse
    )
}

fn is_punctuation(c: char) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_punctuation(),
        false => c.general_category_group() == GeneralCategoryGroup::Punctuation,
    }
}

/// The blocks of Chinese characters, as the model's own code lists them.
fn is_chinese(c: char) -> bool {
    matches!(
        c,
        '\u{4e00}'..='\u{9fff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}'
            | '\u{2b740}'..='\u{2b81f}'
            | '\u{2b920}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the model's vocabulary {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: &str =
        "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ntea\ngreen\n##s\n##pot\n,\n北\n日\n#\n##";

    fn pieces() -> WordPiece {
        WordPiece::from_vocabulary(TOKENS.as_bytes()).unwrap()
    }

    fn shown(text: &str) -> String {
        let names: Vec<_> = TOKENS.lines().collect();
        let tokens = pieces().encode(text);
        tokens.iter().map(|id| names[*id as usize]).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_are_their_longest_pieces_or_unknown() {
        for (text, tokens) in [
            ("green tea", "green tea"),
            ("Teapots, TEAS!", "tea ##pot ##s , tea ##s [UNK]"),
            ("teapotx tea", "[UNK] tea"),
            ("", ""),
            (" \t\n\u{3000}", ""),
            ("t\u{301}e\u{301}a", "tea"),
            ("\u{200b}te\u{ad}a\0", "tea"),
            ("北日tea", "北 日 tea"),
            ("[CLS]tea[cls] x[SEP]", "[CLS] tea [UNK] [UNK] [UNK] [UNK] [SEP]"),
            ("[[MASK]", "[UNK] [MASK]"),
            ("##s", "# # [UNK]"),
        ] {
            assert_eq!(shown(text), tokens, "{text:?}");
        }
    }

    #[test]
    fn a_word_of_a_megabyte_is_one_unknown_token() {
        assert_eq!(shown(&"x".repeat(1 << 20)), "[UNK]");
        let tea = "tea".to_owned() + &"pot".repeat(32);
        assert_eq!(pieces().encode(&tea).len(), 33, "99 characters are a word");
        assert_eq!(shown(&(tea + "pot")), "[UNK]", "102 are not");
    }

    #[test]
    fn malformed_vocabularies_are_refused() {
        for text in ["", "tea", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ntea\ntea"] {
            let error = WordPiece::from_vocabulary(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{text:?}");
        }
        assert!(WordPiece::from_vocabulary(&[0xff]).is_err());
        assert_eq!(pieces().len(), 14);
    }
}
