//! The analyser of texts and questions, and what stands beside it.

use memory_text::{
    Analyzer, Language, MAX_TERM_CHARS, SplitOptions, estimate_tokens, question, split,
};

/// The first byte chooses the language, the others are the text, broken UTF-8 replaced. Terms are
/// sorted, distinct, within bounds, and the same whatever was analysed before; a question has the
/// terms of its text; passages lie in order, at the edges of characters, and leave out nothing but
/// white space; names and dates lie where they say.
///
/// # Panics
/// Where an invariant is broken.
pub fn analyser(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let languages = Language::all();
    let language = languages[usize::from(*first) % languages.len()];
    let text = String::from_utf8_lossy(rest);

    let analyser = Analyzer::new(language);
    let terms = analyser.terms(&text);
    let mut total = 0_u64;
    for (term, count) in &terms.terms {
        assert!(!term.is_empty() && *count > 0);
        assert!(term.chars().count() <= MAX_TERM_CHARS, "{} characters", term.chars().count());
        total += u64::from(*count);
    }
    assert_eq!(total, u64::from(terms.tokens));
    assert!(terms.terms.windows(2).all(|pair| pair[0].0 < pair[1].0), "sorted and distinct");
    assert_eq!(analyser.terms(&text), terms, "with a warm cache");
    assert_eq!(Analyzer::new(language).terms(&text), terms, "with a cold one");

    let mut asked = analyser.query_terms(&text);
    asked.sort_unstable();
    let known: Vec<_> = terms.terms.iter().map(|(term, _)| term.clone()).collect();
    assert_eq!(asked, known, "a question has the terms of its text");

    let tokens = estimate_tokens(&text);
    assert!(tokens <= 2 * text.chars().count());
    assert!(tokens > 0 || text.trim().is_empty(), "only white space is free");

    let most = 16 + usize::from(*first);
    let options = SplitOptions { target_tokens: most / 2, max_tokens: most };
    let mut end = 0;
    for passage in split(&text, &options) {
        assert!(end <= passage.start && passage.start < passage.end, "in order, none empty");
        assert!(text[end..passage.start].trim().is_empty(), "only white space is left out");
        end = passage.end;
    }
    assert!(text[end..].trim().is_empty(), "only white space is left out at the end");

    for name in question::names_in(&text, language) {
        assert!(!name.is_empty() && text.contains(name));
    }
    for mention in question::dates(&text) {
        assert!(!text[mention.span.clone()].is_empty());
    }
    let without = question::without_names(&text, &question::names(&text));
    assert!(without.len() <= text.len() + 1);
}
