//! The languages that have stemmers and stop words here.

mod stop_words;

use crate::script::Alphabet;
use frostem::Algorithm;
use std::fmt;
use std::str::FromStr;

/// The language of a tenant's texts. It chooses the stemmer, the stop words and a few rules
/// for apostrophes and capitals; texts in other languages are still found word by word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Language {
    /// Arabic, `ar`.
    Arabic,
    /// Danish, `da`.
    Danish,
    /// Dutch, `nl`.
    Dutch,
    /// English, `en`: the default.
    #[default]
    English,
    /// Finnish, `fi`.
    Finnish,
    /// French, `fr`.
    French,
    /// German, `de`.
    German,
    /// Greek, `el`.
    Greek,
    /// Italian, `it`.
    Italian,
    /// Norwegian, `no`; Bokmål (`nb`) and Nynorsk (`nn`) are read as this.
    Norwegian,
    /// Polish, `pl`.
    Polish,
    /// Portuguese, `pt`.
    Portuguese,
    /// Russian, `ru`.
    Russian,
    /// Spanish, `es`.
    Spanish,
    /// Swedish, `sv`.
    Swedish,
    /// Turkish, `tr`.
    Turkish,
    /// No language, `none`: no stemming, no stop words. For mixed or other languages, and
    /// for the East Asian ones, whose pairs of characters need neither.
    None,
}

impl Language {
    const ALL: [Self; 17] = [
        Self::Arabic,
        Self::Danish,
        Self::Dutch,
        Self::English,
        Self::Finnish,
        Self::French,
        Self::German,
        Self::Greek,
        Self::Italian,
        Self::Norwegian,
        Self::Polish,
        Self::Portuguese,
        Self::Russian,
        Self::Spanish,
        Self::Swedish,
        Self::Turkish,
        Self::None,
    ];

    /// Every language, in alphabetical order, `None` last.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &Self::ALL
    }

    /// The ISO 639-1 code, or `none`. This is also what `Display` writes, and is stored in
    /// fingerprints, so that it never changes.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Arabic => "ar",
            Self::Danish => "da",
            Self::Dutch => "nl",
            Self::English => "en",
            Self::Finnish => "fi",
            Self::French => "fr",
            Self::German => "de",
            Self::Greek => "el",
            Self::Italian => "it",
            Self::Norwegian => "no",
            Self::Polish => "pl",
            Self::Portuguese => "pt",
            Self::Russian => "ru",
            Self::Spanish => "es",
            Self::Swedish => "sv",
            Self::Turkish => "tr",
            Self::None => "none",
        }
    }

    /// The words that say nothing about a text, in lower case with their accents.
    pub fn stop_words(self) -> impl Iterator<Item = &'static str> {
        stop_words::of(self).split_ascii_whitespace()
    }

    pub(crate) fn algorithm(self) -> Option<Algorithm> {
        Some(match self {
            Self::Arabic => Algorithm::Arabic,
            Self::Danish => Algorithm::Danish,
            Self::Dutch => Algorithm::Dutch,
            Self::English => Algorithm::English,
            Self::Finnish => Algorithm::Finnish,
            Self::French => Algorithm::French,
            Self::German => Algorithm::German,
            Self::Greek => Algorithm::Greek,
            Self::Italian => Algorithm::Italian,
            Self::Norwegian => Algorithm::Norwegian,
            Self::Polish => Algorithm::Polish,
            Self::Portuguese => Algorithm::Portuguese,
            Self::Russian => Algorithm::Russian,
            Self::Spanish => Algorithm::Spanish,
            Self::Swedish => Algorithm::Swedish,
            Self::Turkish => Algorithm::Turkish,
            Self::None => return None,
        })
    }

    /// The alphabet that the stemmer reads.
    pub(crate) fn alphabet(self) -> Alphabet {
        match self {
            Self::Arabic => Alphabet::Arabic,
            Self::Greek => Alphabet::Greek,
            Self::Russian => Alphabet::Cyrillic,
            _ => Alphabet::Latin,
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    /// Reads an ISO 639-1 code, with or without a region (`pt-BR`, `en_GB.UTF-8`), the
    /// three-letter codes, the English name, or `none`; case and surrounding space do not
    /// matter.
    ///
    /// # Errors
    ///
    /// [`UnknownLanguage`] for anything else.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.trim().to_ascii_lowercase();
        let primary = lower.split(['-', '_', '.']).next().unwrap_or_default();
        Ok(match primary {
            "ar" | "ara" | "arabic" => Self::Arabic,
            "da" | "dan" | "danish" => Self::Danish,
            "nl" | "nld" | "dut" | "dutch" => Self::Dutch,
            "en" | "eng" | "english" => Self::English,
            "fi" | "fin" | "finnish" => Self::Finnish,
            "fr" | "fra" | "fre" | "french" => Self::French,
            "de" | "deu" | "ger" | "german" => Self::German,
            "el" | "ell" | "gre" | "greek" => Self::Greek,
            "it" | "ita" | "italian" => Self::Italian,
            "no" | "nb" | "nn" | "nor" | "nob" | "nno" | "norwegian" => Self::Norwegian,
            "pl" | "pol" | "polish" => Self::Polish,
            "pt" | "por" | "portuguese" => Self::Portuguese,
            "ru" | "rus" | "russian" => Self::Russian,
            "es" | "spa" | "spanish" => Self::Spanish,
            "sv" | "swe" | "swedish" => Self::Swedish,
            "tr" | "tur" | "turkish" => Self::Turkish,
            "none" => Self::None,
            _ => return Err(UnknownLanguage { given: text.chars().take(40).collect() }),
        })
    }
}

/// The name given is no language of [`Language`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLanguage {
    given: String,
}

impl UnknownLanguage {
    /// The first 40 characters of what was given.
    #[must_use]
    pub fn given(&self) -> &str {
        &self.given
    }
}

impl fmt::Display for UnknownLanguage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown language {:?}; known are", self.given)?;
        for (n, language) in Language::ALL.iter().enumerate() {
            write!(f, "{} {language}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownLanguage {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back() {
        for language in Language::all() {
            assert_eq!(language.to_string().parse(), Ok(*language));
        }
        assert_eq!(Language::default(), Language::English);
    }

    #[test]
    fn names_and_regions_are_read() {
        for (text, language) in [
            ("EN", Language::English),
            (" en_GB.UTF-8 ", Language::English),
            ("pt-BR", Language::Portuguese),
            ("deu", Language::German),
            ("Swedish", Language::Swedish),
            ("nb", Language::Norwegian),
            ("None", Language::None),
        ] {
            assert_eq!(text.parse(), Ok(language), "{text}");
        }
    }

    #[test]
    fn others_are_refused_by_name() {
        for text in ["", "xx", "klingon", "-", "e n"] {
            let error = text.parse::<Language>().expect_err(text);
            assert_eq!(error.given(), text);
            assert!(error.to_string().contains("ar, da, nl, en"), "{error}");
        }
        let long = "x".repeat(10_000).parse::<Language>().expect_err("too long");
        assert_eq!(long.given().len(), 40);
    }

    #[test]
    fn stop_words_are_lower_case_and_distinct() {
        for language in Language::all() {
            let words: Vec<&str> = language.stop_words().collect();
            let distinct: std::collections::HashSet<&&str> = words.iter().collect();
            let twice: Vec<_> =
                words.iter().filter(|w| words.iter().filter(|o| o == w).count() > 1).collect();
            assert_eq!(distinct.len(), words.len(), "{language}: {twice:?}");
            assert_eq!(*language == Language::None, words.is_empty(), "{language}");
            for word in words {
                assert_eq!(word, word.to_lowercase(), "{language}");
                assert!(word.chars().all(char::is_alphabetic), "{language}: {word}");
            }
        }
    }
}
