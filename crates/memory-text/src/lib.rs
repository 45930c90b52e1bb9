//! Text analysis for a memory: which terms a text is found by, about how many tokens it
//! costs a language model, into which passages a document is split, and which names and dates a
//! question mentions.
//!
//! Everything here is a pure function of its arguments: no file, no clock, no network, no
//! other crate of the workspace. Input of every kind is accepted (control characters, broken
//! emoji, a megabyte without a space), takes time linear in its length up to the sorting of
//! the terms, and never panics.
//!
//! ```
//! use memory_text::{Analyzer, Language};
//!
//! let analyzer = Analyzer::new(Language::English);
//! let terms = analyzer.terms("Caroline's horses were running; the horses won.");
//! assert_eq!(terms.get("hors"), 2);
//! assert_eq!(terms.get("carolin"), 1);
//! assert_eq!(analyzer.query_terms("Who was running?"), ["run"]);
//! ```
//!
//! # What becomes a term
//!
//! 1. **Segmentation.** Text is split at ASCII white space; a part that is not ASCII is put
//!    into NFKC and split by the word rules of Unicode (UAX #29). Words are then split
//!    further where a reader would: `great.Then`, `snake_case`, `2023-05-07` and `a@b.org`
//!    give their parts, while `U.S.A.` is `usa`, `3.14` stays whole and `3,500` is `3500`.
//! 2. **Scripts without spaces.** Runs of Chinese, Japanese and Korean, and runs of Thai, Lao,
//!    Khmer and Burmese, become overlapping pairs of characters (`北京市` is `北京` and `京市`); a
//!    character that stands alone is a term by itself. A one-character question therefore
//!    finds only texts in which that character stands alone.
//! 3. **Emoji** are kept, one term for each, without skin tone and presentation marks. Other
//!    symbols and punctuation are dropped.
//! 4. **Lower case.** Letters are lower-cased one by one (Turkish by its own rules for `I`),
//!    digits of the common Indic and Arabic sets become ASCII, two-digit numbers lose a leading
//!    zero (`07` is `7`), and in English `7th` is `7`.
//! 5. **Apostrophes.** A possessive `'s` goes. English contractions lose their verb
//!    (`Melanie'll` is `melanie`) and negations (`don't`) are stop words; French and Italian
//!    elisions (`l'`, `dell'`) go; Turkish words end at the apostrophe; any other apostrophe
//!    is dropped inside the word (`O'Brien` is `obrien`).
//! 6. **Stop words** of the language are dropped, from documents and questions alike. A text
//!    that holds nothing else keeps them, so that no text is without terms for this reason. It
//!    keeps postings small, and the cost is that a question made of stop words alone finds
//!    only such texts. `may` and `will` are not stop words: a month
//!    and a name would be lost.
//! 7. **Stems**, by the Snowball algorithm of the language, and only for words written wholly
//!    in its script: a Russian word under an English analyser stays as it is.
//! 8. **Folding.** Accents of Latin, Greek and Cyrillic letters, Arabic vowel signs and Hebrew
//!    points are dropped, and `ß æ œ ø đ ð þ ł ı ħ` spelled in plain letters. `й`, `ї` and `ў`
//!    stay, for they are letters of their own. English folds before it stems, so that `résumé`
//!    and `resume` meet; the others stem first, for their rules read the accents.
//! 9. **Length.** A term has at most [`MAX_TERM_CHARS`] characters; the rest of a longer word
//!    is ignored.

mod analyzer;
mod cache;
mod estimate;
mod language;
mod normalize;
pub mod question;
mod script;
mod segment;
mod split;

pub use analyzer::{ANALYZER_VERSION, Analyzer, Terms};
pub use estimate::estimate_tokens;
pub use language::{Language, UnknownLanguage};
pub use segment::MAX_TERM_CHARS;
pub use split::{SplitOptions, split};
