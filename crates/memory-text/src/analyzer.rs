//! The analyser itself: a language's rules over the segmenter, with the word cache between
//! them.

use crate::cache::WordCache;
use crate::language::Language;
use crate::normalize::Normalizer;
use crate::segment::{Segmenter, Sink};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// The version of the rules. It grows with every change after which any text of any language
/// would give other terms, a newer stemmer included, so that an index built before can be
/// told and rebuilt. See [`Analyzer::fingerprint`].
pub const ANALYZER_VERSION: u32 = 1;

/// Working memories kept for reuse: as many threads as this analyse at once without making
/// new ones. Each holds about 270 KiB, nearly all of it the word cache.
const KEPT_SCRATCHES: usize = 16;

/// Turns text into terms by the rules of one language. The crate's documentation lists the
/// rules.
///
/// An analyser may be shared between threads: a call borrows one of a bounded number of
/// working memories, and takes a lock only to pick it and to put it back. The same text gives
/// the same terms whatever was analysed before.
pub struct Analyzer {
    language: Language,
    normalizer: Normalizer,
    scratches: Mutex<Vec<Scratch>>,
}

/// The distinct terms of one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// Each distinct term with the number of times it occurs (at least 1), in ascending byte
    /// order of the terms.
    pub terms: Vec<(String, u32)>,
    /// The sum of all the numbers: the text's length for BM25. Saturates at [`u32::MAX`].
    pub tokens: u32,
}

impl Terms {
    /// How often `term` occurs; 0 if it does not.
    #[must_use]
    pub fn get(&self, term: &str) -> u32 {
        let found = self.terms.binary_search_by(|(known, _)| known.as_str().cmp(term));
        found.map_or(0, |at| self.terms[at].1)
    }

    /// Whether the text has no terms: it is empty or nothing but punctuation and symbols.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }
}

impl Analyzer {
    /// An analyser for texts in `language`. Words of other languages are kept, unstemmed
    /// where their script differs.
    #[must_use]
    pub fn new(language: Language) -> Self {
        let normalizer = Normalizer::new(language);
        Self { language, normalizer, scratches: Mutex::default() }
    }

    /// The language given to [`Analyzer::new`].
    #[must_use]
    pub fn language(&self) -> Language {
        self.language
    }

    /// What an index stores to know that it was built by this analyser, `v1-en` for English:
    /// the version and the code of the language. Two analysers with the same fingerprint give
    /// the same terms for every text.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("v{ANALYZER_VERSION}-{}", self.language)
    }

    /// The distinct terms of a document and how often each occurs.
    #[must_use]
    pub fn terms(&self, text: &str) -> Terms {
        let mut arena = String::with_capacity(text.len().min(1 << 16));
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        self.for_each_term(text, |term| {
            let start = arena.len();
            arena.push_str(term);
            ranges.push((start, arena.len()));
        });
        let bytes = arena.as_bytes();
        ranges.sort_unstable_by(|a, b| bytes[a.0..a.1].cmp(&bytes[b.0..b.1]));
        let groups = ranges.chunk_by(|a, b| bytes[a.0..a.1] == bytes[b.0..b.1]);
        let terms = groups
            .map(|group| {
                let (start, end) = group[0];
                (arena[start..end].to_owned(), u32::try_from(group.len()).unwrap_or(u32::MAX))
            })
            .collect();
        Terms { terms, tokens: u32::try_from(ranges.len()).unwrap_or(u32::MAX) }
    }

    /// The distinct terms of a question, in the order of their first occurrence. The rules are
    /// those of documents, so that whatever a question names is found under the same term.
    #[must_use]
    pub fn query_terms(&self, text: &str) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        let mut terms = Vec::new();
        self.for_each_term(text, |term| {
            if !seen.contains(term) {
                seen.insert(term.to_owned());
                terms.push(term.to_owned());
            }
        });
        terms
    }

    /// Calls `visit` for every term of `text`, repeated ones too, in the order of the text.
    /// For an index that maps terms to numbers, this saves the strings of
    /// [`Analyzer::terms`].
    pub fn for_each_term(&self, text: &str, visit: impl FnMut(&str)) {
        let mut scratch = self.take();
        let Scratch { segmenter, cache, term } = &mut scratch;
        let mut stage = Stage {
            normalizer: &self.normalizer,
            cache,
            term,
            visit,
            keep_stop_words: false,
            visited: false,
            dropped: false,
        };
        segmenter.run(text, &mut stage);
        if stage.dropped && !stage.visited {
            stage.keep_stop_words = true;
            segmenter.run(text, &mut stage);
        }
        self.put_back(scratch);
    }

    fn take(&self) -> Scratch {
        let kept = self.scratches.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| Scratch {
            segmenter: Segmenter::new(self.language == Language::Turkish),
            cache: WordCache::new(),
            term: String::new(),
        })
    }

    fn put_back(&self, scratch: Scratch) {
        let mut kept = self.scratches.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_SCRATCHES {
            kept.push(scratch);
        }
    }
}

impl Clone for Analyzer {
    /// An analyser of the same language, with a working memory of its own.
    fn clone(&self) -> Self {
        Self::new(self.language)
    }
}

impl Default for Analyzer {
    fn default() -> Self {
        Self::new(Language::default())
    }
}

impl fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Analyzer").field("language", &self.language).finish_non_exhaustive()
    }
}

/// The working memory of one call.
struct Scratch {
    segmenter: Segmenter,
    cache: WordCache,
    term: String,
}

/// Between the segmenter and the caller: looks words up, and drops stop words.
struct Stage<'a, F> {
    normalizer: &'a Normalizer,
    cache: &'a mut WordCache,
    term: &'a mut String,
    visit: F,
    keep_stop_words: bool,
    visited: bool,
    dropped: bool,
}

impl<F: FnMut(&str)> Stage<'_, F> {
    fn emit(visit: &mut F, term: &str) -> bool {
        if !term.is_empty() {
            visit(term);
        }
        !term.is_empty()
    }
}

impl<F: FnMut(&str)> Sink for Stage<'_, F> {
    fn word(&mut self, lower: &str) {
        if let Some(known) = self.cache.get(lower) {
            if known.stop && !self.keep_stop_words {
                self.dropped = true;
            } else {
                self.visited |= Self::emit(&mut self.visit, known.term);
            }
            return;
        }
        let stop = self.normalizer.term(lower, self.term);
        self.cache.put(lower, self.term, stop);
        if stop && !self.keep_stop_words {
            self.dropped = true;
        } else {
            self.visited |= Self::emit(&mut self.visit, self.term);
        }
    }

    fn term(&mut self, term: &str) {
        self.visited |= Self::emit(&mut self.visit, term);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_and_length() {
        let analyzer = Analyzer::default();
        let found = analyzer.terms("Dogs and a dog; the DOG's cat.");
        assert_eq!(found.terms, [("cat".to_owned(), 1), ("dog".to_owned(), 3)]);
        assert_eq!(found.tokens, 4);
        assert_eq!(found.get("dog"), 3);
        assert_eq!(found.get("the"), 0);
        assert!(!found.is_empty());
        assert!(analyzer.terms(" ... ").is_empty());
        assert_eq!(analyzer.terms(""), Terms::default());
    }

    #[test]
    fn stop_words_are_kept_only_alone() {
        let analyzer = Analyzer::new(Language::English);
        assert_eq!(analyzer.query_terms("What did they do?"), ["what", "did", "they", "do"]);
        assert_eq!(analyzer.query_terms("To be, or not to be"), ["to", "be", "or", "not"]);
        assert_eq!(analyzer.query_terms("What did Caroline do?"), ["carolin"]);
        assert_eq!(analyzer.query_terms("the 👍"), ["👍"]);
        assert_eq!(analyzer.query_terms("in May"), ["may"]);
        assert_eq!(Analyzer::new(Language::None).query_terms("the dogs"), ["the", "dogs"]);
    }

    #[test]
    fn fingerprints_tell_languages_apart() {
        assert_eq!(Analyzer::default().fingerprint(), "v1-en");
        assert_eq!(Analyzer::new(Language::None).fingerprint(), "v1-none");
        let all: std::collections::HashSet<String> =
            Language::all().iter().map(|l| Analyzer::new(*l).fingerprint()).collect();
        assert_eq!(all.len(), Language::all().len());
    }

    #[test]
    fn a_visit_that_panics_leaves_the_analyser_whole() {
        let analyzer = Analyzer::default();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            analyzer.for_each_term("one two", |_| panic!("stop"));
        }));
        assert!(result.is_err());
        assert_eq!(analyzer.query_terms("one two"), ["one", "two"]);
    }

    #[test]
    fn working_memories_are_bounded_and_shared() {
        let analyzer = Analyzer::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * KEPT_SCRATCHES {
                scope.spawn(|| assert_eq!(analyzer.query_terms("running dogs"), ["run", "dog"]));
            }
        });
        let kept = analyzer.scratches.lock().unwrap().len();
        assert!((1..=KEPT_SCRATCHES).contains(&kept), "{kept}");
    }
}
