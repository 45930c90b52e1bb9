//! Properties that hold for every text whatever.

use memory_text::{Analyzer, Language, MAX_TERM_CHARS, estimate_tokens, question};
use proptest::prelude::*;

/// Texts of every kind: any characters at all, and mixtures that the rules are about.
fn any_text() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        "\\PC{0,12}",
        any::<String>(),
        "[a-zA-Z']{1,9}",
        "[0-9.,:/-]{1,12}",
        "[à-ÿŀ-žα-ωа-яёא-תء-ي]{1,9}",
        "[一-龥ぁ-んァ-ヶ가-힣ก-๛]{1,6}",
        prop::sample::select(vec![
            " ",
            "\n",
            "\0",
            "\u{0301}",
            "\u{200D}",
            "\u{FE0F}",
            "👍🏽",
            "👨‍👩‍👧",
            "🇩🇪",
            "’",
            "don't",
            "l'homme",
            "U.S.A.",
            "İ",
            "ﷺ",
            "ß",
            "May",
            "the",
            "7th",
            "2023-05-07",
            "\u{202E}",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

fn any_language() -> impl Strategy<Value = Language> {
    prop::sample::select(Language::all().to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn terms_are_well_formed(text in any_text(), language in any_language()) {
        let analyzer = Analyzer::new(language);
        let found = analyzer.terms(&text);
        prop_assert!(found.terms.is_sorted_by(|a, b| a.0 < b.0));
        prop_assert_eq!(found.terms.iter().map(|(_, count)| count).sum::<u32>(), found.tokens);
        for (term, count) in &found.terms {
            prop_assert!(!term.is_empty() && *count > 0);
            prop_assert!(term.chars().count() <= MAX_TERM_CHARS);
            prop_assert!(!term.contains(|c: char| c.is_ascii_uppercase() || c.is_ascii_whitespace()));
            prop_assert_eq!(found.get(term), *count);
        }
    }

    #[test]
    fn the_three_ways_agree(text in any_text(), language in any_language()) {
        let analyzer = Analyzer::new(language);
        let found = analyzer.terms(&text);
        let mut visited = Vec::new();
        analyzer.for_each_term(&text, |term| visited.push(term.to_owned()));
        prop_assert_eq!(visited.len(), found.tokens as usize);
        let mut query = analyzer.query_terms(&text);
        prop_assert_eq!(query.first(), visited.first());
        query.sort();
        let terms: Vec<String> = found.terms.into_iter().map(|(term, _)| term).collect();
        prop_assert_eq!(query, terms);
    }

    #[test]
    fn nothing_analysed_before_matters(before in any_text(), text in any_text(), language in any_language()) {
        let used = Analyzer::new(language);
        let _ = used.terms(&before);
        prop_assert_eq!(used.terms(&text), Analyzer::new(language).terms(&text));
        prop_assert_eq!(used.terms(&text), used.terms(&text));
    }

    #[test]
    fn case_does_not_matter_in_ascii(text in "[ -~]{0,80}") {
        let analyzer = Analyzer::new(Language::English);
        prop_assert_eq!(analyzer.terms(&text), analyzer.terms(&text.to_ascii_uppercase()));
    }

    #[test]
    fn a_text_with_a_letter_has_a_term(
        before in any_text(),
        letter in "[a-zA-Z0-9]",
        after in any_text(),
        language in any_language(),
    ) {
        let text = format!("{before}{letter}{after}");
        prop_assert!(!Analyzer::new(language).terms(&text).is_empty());
    }

    #[test]
    fn estimates_are_bounded(text in any_text()) {
        let tokens = estimate_tokens(&text);
        prop_assert!(tokens <= 2 * text.chars().count());
        prop_assert_eq!(tokens == 0, text.trim_matches(|c: char| c.is_whitespace() && c != '\n' && c != '\r').is_empty());
    }

    #[test]
    fn questions_are_read_in_order(text in any_text()) {
        let dates = question::dates(&text);
        prop_assert!(dates.is_sorted_by(|a, b| a.span.end <= b.span.start));
        for mention in &dates {
            prop_assert!(text.get(mention.span.clone()).is_some_and(|said| !said.is_empty()));
            prop_assert!(mention.date.day.is_none() || mention.date.month.is_some());
        }
        for name in question::names(&text) {
            prop_assert!(text.contains(name) && name.starts_with(char::is_uppercase));
        }
    }
}

#[test]
fn huge_texts_without_a_space_are_taken() {
    let analyzer = Analyzer::default();
    for unit in
        ["a", "1.", "a.", "a'", "é", "\u{0301}", "中", "ที่", "👍", "\u{200D}", "ﷺ", "1,000,", "\0"]
    {
        let text = unit.repeat((1 << 17) / unit.len());
        let found = analyzer.terms(&text);
        assert!(found.tokens as usize <= 4 * text.len(), "{unit:?}");
        assert!(found.terms.iter().all(|(term, _)| term.chars().count() <= MAX_TERM_CHARS));
        let _ = question::dates(&text);
        let _ = question::names(&text);
        assert!(estimate_tokens(&text) > 0);
    }
    assert_eq!(analyzer.query_terms("still fine"), ["still", "fine"]);
}
