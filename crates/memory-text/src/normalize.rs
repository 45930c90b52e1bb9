//! From a lower-cased word to its term: apostrophes, stop words, stem, folding. Runs once for
//! each word that the cache does not hold.

use crate::language::Language;
use crate::script::{Alphabet, alphabet};
use crate::segment::MAX_TERM_CHARS;
use frostem::Stemmer;
use std::collections::HashSet;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

/// The rules of one language.
pub(crate) struct Normalizer {
    language: Language,
    stemmer: Option<Stemmer>,
    stop_words: HashSet<String>,
}

impl Normalizer {
    pub(crate) fn new(language: Language) -> Self {
        // Words are looked up as the segmenter writes them, which knows one sigma only.
        let stop_words = language.stop_words().map(|word| word.replace('ς', "σ")).collect();
        Self { language, stemmer: language.algorithm().map(Stemmer::new), stop_words }
    }

    /// Writes the term of `word` (lower case, apostrophes as `'`) into `term`, and answers
    /// whether the word is a stop word. The term is empty only when `word` holds no letter
    /// and no digit.
    pub(crate) fn term(&self, word: &str, term: &mut String) -> bool {
        term.clear();
        let mut folded = String::new();
        let english = self.language == Language::English;
        let word = if english && !word.is_ascii() {
            fold(word, &mut folded);
            &folded
        } else {
            word
        };
        let negation = english && word.ends_with("n't");
        let word = if word.contains('\'') { self.without_clitics(word) } else { word };
        let bare;
        let word = if word.contains('\'') {
            bare = word.replace('\'', "");
            &bare
        } else {
            word
        };
        let stop = negation || self.stop_words.contains(word);
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            term.push_str(self.number(word));
        } else if let Some(stemmer) = self.stemmer.filter(|_| self.reads(word)) {
            let stem = stemmer.stem(word);
            // No algorithm should leave nothing; a word must not be lost if one does.
            fold(if stem.is_empty() { word } else { &stem }, term);
        } else {
            fold(word, term);
        }
        if let Some((end, _)) = term.char_indices().nth(MAX_TERM_CHARS) {
            term.truncate(end);
        }
        stop
    }

    /// Takes off what an apostrophe joins to a word: clitics behind it, elided words before it.
    fn without_clitics<'a>(&self, word: &'a str) -> &'a str {
        const ENGLISH: [&str; 6] = ["'s", "'re", "'ve", "'ll", "'d", "'m"];
        const FRENCH: [&str; 13] =
            ["l", "d", "j", "m", "t", "s", "n", "c", "qu", "jusqu", "lorsqu", "puisqu", "quoiqu"];
        const ITALIAN: [&str; 17] = [
            "l", "un", "d", "c", "m", "t", "s", "v", "dell", "all", "dall", "nell", "sull", "coll",
            "quell", "quest", "gl",
        ];
        let clitics = match self.language {
            Language::English => &ENGLISH[..],
            Language::Turkish => {
                return word.split_once('\'').map_or(word, |(root, _)| root);
            }
            _ => &ENGLISH[..1],
        };
        let mut rest = word;
        while let Some(shorter) = clitics.iter().find_map(|clitic| rest.strip_suffix(clitic)) {
            rest = shorter;
        }
        let elisions = match self.language {
            Language::French => &FRENCH[..],
            Language::Italian => &ITALIAN[..],
            _ => return rest,
        };
        while let Some((before, after)) = rest.split_once('\'')
            && elisions.contains(&before)
        {
            rest = after;
        }
        rest
    }

    /// A word that begins with a digit: ordinals and leading zeros are unified.
    fn number<'a>(&self, word: &'a str) -> &'a str {
        let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let rest = &word[digits.len()..];
        let ordinal =
            self.language == Language::English && matches!(rest, "st" | "nd" | "rd" | "th");
        let word = if ordinal { digits } else { word };
        match word.as_bytes() {
            [b'0', second] if second.is_ascii_digit() => &word[1..],
            _ => word,
        }
    }

    /// Whether the stemmer's rules are about words like this one.
    fn reads(&self, word: &str) -> bool {
        let script = self.language.alphabet();
        word.chars().all(|c| c.is_alphabetic() && alphabet(c) == script)
    }
}

/// Writes `word` without accents to the end of `out`. See the crate's documentation for what
/// is folded and what is kept.
fn fold(word: &str, out: &mut String) {
    if word.is_ascii() {
        out.push_str(word);
        return;
    }
    let mut base = Alphabet::Other;
    for c in word.chars() {
        if is_combining_mark(c) {
            let accent = matches!(base, Alphabet::Latin | Alphabet::Greek | Alphabet::Cyrillic);
            if !accent && !is_point(c) {
                out.push(c);
            }
            continue;
        }
        base = alphabet(c);
        match c {
            'ß' => out.push_str("ss"),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            'þ' => out.push_str("th"),
            'ø' => out.push('o'),
            'đ' | 'ð' => out.push('d'),
            'ł' => out.push('l'),
            'ı' => out.push('i'),
            'ħ' => out.push('h'),
            'ς' => out.push('σ'),
            'й' | 'ї' | 'ў' => out.push(c),
            c => match base {
                Alphabet::Latin | Alphabet::Greek | Alphabet::Cyrillic => {
                    decompose_canonical(c, |part| {
                        if !is_combining_mark(part) {
                            out.push(part);
                        }
                    });
                }
                Alphabet::Arabic | Alphabet::Other => out.push(c),
            },
        }
    }
}

/// Vowel signs and points of Arabic and Hebrew, which writers put or leave out at will.
fn is_point(c: char) -> bool {
    matches!(c, '\u{0591}'..='\u{05C7}' | '\u{064B}'..='\u{0652}' | '\u{0670}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(language: Language, word: &str) -> (String, bool) {
        let mut term = String::new();
        let stop = Normalizer::new(language).term(word, &mut term);
        (term, stop)
    }

    #[test]
    fn apostrophes_by_language() {
        for (language, word, expected, stop) in [
            (Language::English, "caroline's", "carolin", false),
            (Language::English, "melanie'll", "melani", false),
            (Language::English, "she'd've", "she", true),
            (Language::English, "it's", "it", true),
            (Language::English, "don't", "dont", true),
            (Language::English, "o'brien", "obrien", false),
            (Language::None, "caroline's", "caroline", false),
            (Language::French, "l'école", "ecol", false),
            (Language::French, "qu'il", "il", true),
            (Language::French, "aujourd'hui", "aujourdhui", false),
            (Language::Italian, "dell'arte", "arte", false),
            (Language::Turkish, "istanbul'da", "istanbul", false),
            (Language::German, "anna's", "anna", false),
        ] {
            assert_eq!(term(language, word), (expected.to_owned(), stop), "{language}: {word}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(term(Language::English, "7th").0, "7");
        assert_eq!(term(Language::English, "07").0, "7");
        assert_eq!(term(Language::English, "007").0, "007");
        assert_eq!(term(Language::English, "2023").0, "2023");
        assert_eq!(term(Language::English, "3.14").0, "3.14");
        assert_eq!(term(Language::English, "5km").0, "5km");
        assert_eq!(term(Language::None, "7th").0, "7th");
    }

    #[test]
    fn folding_keeps_letters_that_are_not_accents() {
        let folded = |word: &str| term(Language::None, word).0;
        assert_eq!(folded("crème"), "creme");
        assert_eq!(folded("cre\u{0300}me"), "creme");
        assert_eq!(folded("straße"), "strasse");
        assert_eq!(folded("smørrebrød"), "smorrebrod");
        assert_eq!(folded("việt"), "viet");
        assert_eq!(folded("ёж"), "еж");
        assert_eq!(folded("йод"), "йод");
        assert_eq!(folded("ψυχή"), "ψυχη");
        assert_eq!(folded("שָׁלוֹם"), "שלום");
        assert_eq!(folded("كَتَبَ"), "كتب");
        assert_eq!(folded("हिन्दी"), "हिन्दी");
    }

    #[test]
    fn other_scripts_are_not_stemmed() {
        assert_eq!(term(Language::English, "книгами").0, "книгами");
        assert_eq!(term(Language::Russian, "книгами").0, "книг");
        assert_eq!(term(Language::Russian, "running").0, "running");
    }
}
