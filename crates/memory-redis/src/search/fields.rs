//! The fields that only the query engine reads, and the codes in them.
//!
//! Words are terms of the workspace's own analyser, written so that the engine's tokenizer leaves
//! them whole: `t` and the term where it is letters and digits of ASCII, `x` and its bytes in
//! hexadecimal otherwise. Each stands as often as the text has it, for the engine counts.
//!
//! Declared metadata keys of numbers are decimal numbers; of all other kinds they are codes, one for
//! the value or one for each text of a list, and [`PRESENT`] for any value.

use std::borrow::Cow;

use memory_core::{MemoryItem, MetaKey, MetaValue};
use memory_text::Analyzer;
use sha2::{Digest, Sha256};

use super::brief::Brief;
use super::engine::On;
use crate::fields as f;
use crate::settings::FilterKeyType;
use crate::store::RedisStore;

/// What separates the codes of one value.
pub(super) const SEPARATOR: char = ',';
/// The code of a key that has a value.
pub(super) const PRESENT: &str = "p";
/// Repeats of a term beyond it are not counted: BM25 has long been flat there, and no text becomes
/// one term a million times.
const MOST_REPEATS: u32 = 255;
/// The longest code of a text that is spelled out, in bytes; longer ones are hashes.
const SPELLED: usize = 40;

/// The fields of a memory that only the query engine reads. None where no engine is used.
pub(crate) fn fields(store: &RedisStore, item: &MemoryItem) -> Vec<(Cow<'static, str>, Vec<u8>)> {
    let Ok(on) = store.engine.used() else { return Vec::new() };
    made(on, store.settings.filter_keys.iter().map(|(key, kind)| (key, *kind)), item)
}

fn made<'a>(
    on: &On,
    declared: impl Iterator<Item = (&'a MetaKey, FilterKeyType)>,
    item: &MemoryItem,
) -> Vec<(Cow<'static, str>, Vec<u8>)> {
    let (words, count) = words(&on.analyzer, item.content());
    let mut fields = vec![
        (f::WORDS.into(), words.into_bytes()),
        (f::BRIEF.into(), Brief::of(item, count).to_bytes()),
    ];
    if let Some(author) = &item.author {
        fields.push((f::NAMES.into(), names(author).into_bytes()));
    }
    for (key, kind) in declared {
        let Some(value) = item.metadata.get(key) else { continue };
        let code = if kind == FilterKeyType::Number { digits(value) } else { Some(codes(value)) };
        if let Some(code) = code {
            fields.push(((f::METADATA.to_owned() + key.as_str()).into(), code.into_bytes()));
        }
    }
    fields.push((f::LENGTH.into(), count.to_string().into_bytes()));
    fields
}

/// The words of a text and their number.
pub(super) fn words(analyzer: &Analyzer, text: &str) -> (String, u32) {
    let terms = analyzer.terms(text);
    let (mut words, mut count) = (String::new(), 0);
    for (term, times) in &terms.terms {
        let word = word(term);
        let times = (*times).min(MOST_REPEATS);
        for _ in 0..times {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(&word);
        }
        count += times;
    }
    (words, count)
}

/// A term as the engine sees it: letters and digits only, and no two terms alike.
pub(super) fn word(term: &str) -> String {
    let plain = term.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'));
    if plain { format!("t{term}") } else { format!("x{}", hex(term.as_bytes())) }
}

/// How often each of some words stands among a memory's words.
pub(super) fn times(words: &[u8], of: &[String]) -> Vec<u32> {
    let mut times = vec![0; of.len()];
    let places: std::collections::HashMap<&[u8], usize> =
        of.iter().enumerate().map(|(at, word)| (word.as_bytes(), at)).collect();
    // Repeats stand side by side.
    let mut last: (&[u8], Option<usize>) = (b"", None);
    for word in words.split(|byte| *byte == b' ') {
        if word != last.0 {
            last = (word, places.get(word).copied());
        }
        if let Some(at) = last.1 {
            times[at] += 1;
        }
    }
    times
}

/// The codes under which an author's name is looked for: the whole name and its first word, in
/// lower case.
fn names(author: &str) -> String {
    let whole = name_code('w', author);
    match author.split_whitespace().next() {
        Some(first) => format!("{whole}{SEPARATOR}{}", name_code('f', first)),
        None => whole,
    }
}

/// The codes of authors that go by a name: see [`memory_core::traits::goes_by`].
pub(super) fn name_codes(name: &str) -> Vec<String> {
    if name.trim().is_empty() {
        return Vec::new();
    }
    let mut codes = vec![name_code('w', name), name_code('f', name)];
    codes.extend(name.split_whitespace().next().map(|first| name_code('w', first)));
    codes.dedup();
    codes
}

fn name_code(kind: char, name: &str) -> String {
    let lower: String = name.chars().flat_map(char::to_lowercase).collect();
    text_code(kind, &lower)
}

/// The codes of a value: what it is, and that it is.
fn codes(value: &MetaValue) -> String {
    let mut codes = PRESENT.to_owned();
    let mut add = |code: &str| {
        codes.push(SEPARATOR);
        codes.push_str(code);
    };
    match value {
        MetaValue::Bool(value) => add(bool_code(*value)),
        MetaValue::Text(text) => add(&text_code('t', text)),
        MetaValue::List(texts) => texts.iter().for_each(|text| add(&text_code('l', text))),
        MetaValue::Int(_) | MetaValue::Float(_) => {}
    }
    codes
}

/// The code of a boolean.
pub(super) fn bool_code(value: bool) -> &'static str {
    if value { "b1" } else { "b0" }
}

/// The code of a text of a kind: spelled out where it is short, letters, digits, `-` and `_` as
/// they are and other bytes as `%XX`; `#` and half a SHA-256 where it is long. No two texts that
/// anybody can find have the same.
pub(super) fn text_code(kind: char, text: &str) -> String {
    let mut code = String::from(kind);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            code.push(char::from(byte));
        } else {
            code.push('%');
            code.push_str(&hex(&[byte]));
        }
        if code.len() > SPELLED {
            return format!("{kind}#{}", hex(&Sha256::digest(text.as_bytes())[..16]));
        }
    }
    code
}

/// A number as the engine reads it: the double that is nearest, as decimal.
fn digits(value: &MetaValue) -> Option<String> {
    match value {
        MetaValue::Int(value) => Some(value.to_string()),
        MetaValue::Float(value) => Some(format!("{value:?}")),
        MetaValue::Bool(_) | MetaValue::Text(_) | MetaValue::List(_) => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use memory_core::traits::goes_by;
    use memory_text::Language;

    use super::*;

    #[test]
    fn words_are_counted_and_found_again() {
        let analyzer = Analyzer::new(Language::English);
        let (text, count) = words(&analyzer, "The zebra, 3.14 zebras: 北京 naïve 🦓");
        assert_eq!(count, 6);
        assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b' '));
        let of: Vec<_> = ["zebra", "3.14", "walnut"].map(word).into();
        assert_eq!(times(text.as_bytes(), &of), [2, 1, 0]);
        assert_eq!(words(&analyzer, "..."), (String::new(), 0));
        assert_eq!(words(&analyzer, &"zebra ".repeat(1_000)).1, MOST_REPEATS);
        assert_eq!(times(b"", &of), [0, 0, 0]);
    }

    #[test]
    fn no_two_terms_are_written_alike() {
        let terms = ["a", "ta", "61", "x61", "é", "c3a9", "a.b", "", "3.14", "314"];
        let written: std::collections::BTreeSet<_> = terms.iter().map(|term| word(term)).collect();
        assert_eq!(written.len(), terms.len());
    }

    #[test]
    fn codes_are_plain_and_distinct() {
        let long = "x".repeat(1_500);
        let texts = [
            "",
            " ",
            "a",
            "A",
            "%41",
            "a,b",
            "{a}",
            "#",
            "é",
            "\n",
            "a|b",
            "*",
            "\\",
            &long[..1_499],
            &long,
        ];
        let mut seen = std::collections::BTreeSet::new();
        for kind in ['t', 'l'] {
            for text in texts {
                let code = text_code(kind, text);
                assert!(code.bytes().all(|b| b.is_ascii_graphic() && b != b','), "{code}");
                assert!(code.len() <= SPELLED + 3, "{code}");
                assert!(seen.insert(code), "{text:?}");
            }
        }
    }

    #[test]
    fn authors_are_looked_for_by_the_codes_that_they_have() {
        let names_of =
            ["Ada", "ada", "Ada Lovelace", "Lovelace", "Élise", "éLISE M", " ", "", "Bob"];
        for author in names_of {
            for name in names_of {
                if author.is_empty() {
                    continue;
                }
                let kept = names(author);
                let kept: Vec<_> = kept.split(SEPARATOR).collect();
                let found = name_codes(name).iter().any(|code| kept.contains(&code.as_str()));
                assert_eq!(found, goes_by(author, name), "{author:?} {name:?}");
            }
        }
    }
}
