//! Passages: what holds for every text, and where particular texts are cut.

use std::ops::Range;

use memory_text::{SplitOptions, estimate_tokens, split};
use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation;

/// Texts of pieces that the rules are about, in any order.
fn any_text() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        2 => any::<String>(),
        4 => "[a-z]{1,9}",
        2 => "[0-9]{1,12}",
        1 => "[A-Z][a-z]{1,6}[.!?]",
        1 => "[а-яé]{1,9}",
        1 => "[一-龥ぁ-ん。、가-힣ก-๛]{1,8}",
        8 => prop::sample::select(vec![
            " ", "  ", "\n", "\n\n", "\r\n", "\r", "\t", "\u{A0}", "\u{2029}", "\u{3000}",
        ])
        .prop_map(str::to_owned),
        4 => prop::sample::select(vec![
            "\n# ", "\n## b\n", "\n   ### ", "\n    # ", "#", "######", "\n#######", "#a",
            "\n```\n", "\n```sh\n", "\n~~~\n", "\n  ````\n", "```", "~~~", "\n```\n# c\n```\n", "`",
        ])
        .prop_map(str::to_owned),
        2 => prop::sample::select(vec![
            "\0", "\u{0301}", "\u{200D}", "\u{FE0F}", "👍🏽", "👨\u{200D}👩\u{200D}👧", "🇩🇪", "’", "-",
        ])
        .prop_map(str::to_owned),
        1 => (0..3_usize, 990..1_010_usize)
            .prop_map(|(unit, times)| [" ", "\n", "ab"][unit].repeat(times)),
    ];
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

fn any_options() -> impl Strategy<Value = SplitOptions> {
    prop_oneof![
        3 => (0..40_usize, 0..60_usize),
        1 => Just((180, 240)),
        1 => Just((usize::MAX, usize::MAX)),
    ]
    .prop_map(|(target_tokens, max_tokens)| SplitOptions { target_tokens, max_tokens })
}

fn options(target_tokens: usize, max_tokens: usize) -> SplitOptions {
    SplitOptions { target_tokens, max_tokens }
}

fn texts<'a>(text: &'a str, options: &SplitOptions) -> Vec<&'a str> {
    split(text, options).into_iter().map(|range| &text[range]).collect()
}

/// What has to hold for every text, but for the splitting of each passage by itself.
fn check(text: &str, options: &SplitOptions) -> Vec<Range<usize>> {
    let passages = split(text, options);
    let mut at = 0;
    for passage in &passages {
        let between = text.get(at..passage.start).expect("a passage begins between characters");
        assert!(between.chars().all(char::is_whitespace), "left out: {between:?}");
        let said = text.get(passage.clone()).expect("a passage ends between characters");
        assert!(!said.is_empty() && said.trim() == said, "not trimmed: {said:?}");
        let tokens = estimate_tokens(said);
        assert!(tokens <= options.max_tokens.max(2), "{tokens} tokens: {said:?}");
        at = passage.end;
    }
    assert!(text[at..].trim().is_empty(), "left out: {:?}", &text[at..]);
    passages
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn passages_cover_the_text_in_order(text in any_text(), options in any_options()) {
        let passages = check(&text, &options);
        prop_assert_eq!(passages, split(&text, &options), "another time, other passages");
    }

    #[test]
    fn a_passage_by_itself_is_one_passage(text in any_text(), options in any_options()) {
        for passage in texts(&text, &options) {
            prop_assert_eq!(texts(passage, &options), [passage], "in {:?}", text);
        }
    }

    /// The same of texts of marks and little else, in which every line could be read in two ways.
    #[test]
    fn marks_mean_the_same_in_a_passage_by_itself(
        text in "(#{1,7}|[`~]{1,4}|`{3}\n|\n`{3}a?|\n#|[ \n]{1,5}|[a.]{1,4}|\r\n){0,40}",
        target in 0..20_usize,
        more in 0..20_usize,
    ) {
        let options = options(target, target + more);
        check(&text, &options);
        for passage in texts(&text, &options) {
            prop_assert_eq!(texts(passage, &options), [passage], "in {:?}", text);
        }
    }

    /// White space around a text moves its passages and changes nothing else.
    #[test]
    fn white_space_around_a_text_does_not_matter(
        text in any_text(), before in "[ \n]{0,3}\n", after in "[ \n\r\t]{0,5}", options in any_options(),
    ) {
        // Spaces before the first line are part of it, for a heading or a fence.
        let text = text.trim();
        let around = format!("{before}{text}{after}");
        prop_assert_eq!(texts(&around, &options), texts(text, &options));
    }

    /// Words are cut only where they are too much for a passage.
    #[test]
    fn prose_is_cut_at_spaces(
        words in prop::collection::vec("[a-z]{1,20}", 1..200),
        target in 16..60_usize,
        more in 0..30_usize,
    ) {
        let text = words.join(" ");
        let passages = texts(&text, &options(target, target + more));
        let found: Vec<&str> = passages.iter().flat_map(|passage| passage.split(' ')).collect();
        prop_assert_eq!(found, words);
    }

    /// Only the last passage may be small, and it is so only if it was not to be had otherwise.
    #[test]
    fn passages_are_filled(words in prop::collection::vec("[a-z]{1,6}", 1..400)) {
        let text = words.join(" ");
        let passages = texts(&text, &options(20, 30));
        for passage in &passages[..passages.len() - 1] {
            prop_assert_eq!(estimate_tokens(passage), 20);
        }
        let last = estimate_tokens(passages[passages.len() - 1]);
        prop_assert!(last <= 30 && (last > 10 || passages.len() == 1), "{}", last);
    }
}

#[test]
fn blank_texts_have_no_passage() {
    for text in ["", " ", "\n", " \r\n\t\u{A0}\u{3000}\u{2029}\n"] {
        assert!(split(text, &SplitOptions::default()).is_empty(), "{text:?}");
    }
    assert_eq!(texts(" a ", &SplitOptions::default()), ["a"]);
}

#[test]
fn a_short_text_is_one_passage() {
    let text = "First line.\nSecond line.\n\nAnother paragraph.";
    assert_eq!(texts(text, &SplitOptions::default()), [text]);
    // Above the target, and not above the maximum.
    let text = format!("{}end", "word ".repeat(229));
    assert_eq!(texts(&text, &SplitOptions::default()), [&text]);
    assert_eq!(texts(&text, &options(180, 229)).len(), 2);
}

#[test]
fn paragraphs_that_have_room_stay_together() {
    let paragraph = |letter: &str, words| vec![letter; words].join(" ");
    let (a, b, c, d) =
        (paragraph("a", 8), paragraph("b", 8), paragraph("c", 8), paragraph("d", 14));
    let text = format!("{a}\n\n{b}\n\n{c}\n\n{d}");
    let expected = [format!("{a}\n\n{b}"), c.clone(), d.clone()];
    assert_eq!(texts(&text, &options(20, 22)), expected);
    // A little more than the target, where the paragraph before is too little.
    let text = format!("a a a\n\n{}\n\n{c}\n\n{d}", paragraph("b", 17));
    let expected = [format!("a a a\n\n{}", paragraph("b", 17)), c, d];
    assert_eq!(texts(&text, &options(20, 22)), expected);
}

#[test]
fn lines_come_before_sentences_and_sentences_before_words() {
    let sentence = "One two three four. ";
    let paragraph = sentence.repeat(3).trim_end().to_owned();
    let text = format!("{paragraph}\n{paragraph}\n{paragraph}");
    assert_eq!(texts(&text, &options(20, 24)), [&paragraph; 3]);
    let text = sentence.repeat(9);
    let expected = sentence.repeat(4);
    assert_eq!(texts(&text, &options(20, 24))[..2], [expected.trim(); 2]);
    let text = "one two three four ".repeat(9);
    assert_eq!(texts(&text, &options(10, 12))[0], "one two three four one two three four one two");
    // A sentence end that would leave too little is passed over.
    let text = format!("Yes. {}", "one two three four ".repeat(9));
    assert_eq!(texts(&text, &options(10, 12))[0], "Yes. one two three four one two three four");
}

#[test]
fn line_ends_of_every_kind_are_line_ends() {
    let line = "one two three four five";
    for (end, kept) in [("\n", 2), ("\r\n", 2), ("\r", 2)] {
        let text = [line; 6].join(end);
        let expected = [line; 2].join(end);
        assert_eq!(texts(&text, &options(12, 13)), vec![expected; 3], "{end:?} {kept}");
        let two = [[line; 2].join(end), [line; 1].join(end)].join(&end.repeat(2));
        let text = format!("{two}{end}{line}");
        let parts = texts(&text, &options(17, 18));
        assert_eq!(parts, [[line; 2].join(end), [line; 2].join(end)], "{end:?}: a blank line");
    }
}

#[test]
fn headings_begin_passages_and_stay_with_what_follows() {
    let text = "Preface.\n# One\n## Part\n\ntext a\n\ntext b\n# Two\ntext c\n\n# Three";
    let expected = ["Preface.", "# One\n## Part\n\ntext a\n\ntext b", "# Two\ntext c", "# Three"];
    assert_eq!(texts(text, &SplitOptions::default()), expected);
    // Not even a word too long for any passage parts them.
    let text = format!("# A title of some words\n\n{}", "x".repeat(2_000));
    let passages = texts(&text, &SplitOptions::default());
    assert!(passages[0].starts_with("# A title of some words\n\nxxx"));
    assert_eq!(estimate_tokens(passages[0]), 180);
    let text = format!("# Title\n\n{}", "One two three four. ".repeat(9));
    assert!(texts(&text, &options(20, 24))[0].starts_with("# Title\n\nOne two three four."));
    // Headings alone are a list of their own, and a title can be a whole paragraph.
    let text = "# one two three\n".repeat(20);
    assert_eq!(texts(&text, &options(20, 24)), vec!["# one two three"; 20]);
    let text = format!("# {}\n\nafter", "word ".repeat(50));
    let passages = texts(&text, &options(20, 24));
    assert_eq!(passages.len(), 3);
    assert!(passages[2].ends_with("after"), "{passages:?}");
}

#[test]
fn fenced_code_is_kept_whole() {
    let code = "```sh\n# install\n\nget tea\n\n# run\n\nmake tea\n```";
    let text = format!("{}\n\n{code}\n\n{}", "one two three. ".repeat(5), "and so on. ".repeat(8));
    let passages = texts(&text, &options(20, 40));
    assert!(passages.iter().any(|passage| passage.contains(code)), "{passages:?}");
    // Too large: it is cut as any text is, and what follows is not taken for code.
    let text = format!("```\n{}\n```\n\nafter\n\n```\n# b\n```", "one two\n".repeat(30));
    let passages = texts(&text, &options(20, 40));
    assert_eq!(passages.last(), Some(&"after\n\n```\n# b\n```"));
    assert!(passages[passages.len() - 2].ends_with("\n```"), "{passages:?}");
    // A heading whose code leaves no room for it is all that can be parted.
    let code = format!("```\n{}```", "one two\n".repeat(10));
    let text = format!("# Title\n{code}");
    assert_eq!(estimate_tokens(&code), 37);
    assert_eq!(texts(&text, &options(20, 37)), ["# Title", &code]);
    assert_eq!(texts(&text, &options(20, 40)), [&text]);
}

#[test]
fn texts_without_spaces_are_cut_at_sentences_then_between_characters() {
    let sentence = "我们在北京喝绿茶。";
    let text = sentence.repeat(40);
    let passages = texts(&text, &options(35, 50));
    assert_eq!(passages[0], sentence.repeat(3), "10 tokens each");
    let text = "北京".repeat(100);
    for passage in &texts(&text, &options(30, 40))[..5] {
        assert_eq!(passage.chars().count(), 30);
    }
    let text = "a".repeat(1_000);
    let passages = texts(&text, &options(30, 40));
    assert_eq!(passages[0].len(), 180, "six letters a token");
    let text = "12345,".repeat(100);
    assert!(texts(&text, &options(30, 40))[0].ends_with(','), "punctuation stays with the word");
}

#[test]
fn clusters_of_characters_stay_whole_where_they_can() {
    let family = "👨\u{200D}👩\u{200D}👧\u{200D}👦";
    for unit in [family, "👍🏽", "🇩🇪", "e\u{0301}", "ที่", "각"] {
        let text = unit.repeat(400);
        for passage in texts(&text, &SplitOptions::default()) {
            let whole = passage.graphemes(true).all(|cluster| cluster == unit);
            assert!(whole, "{unit:?}: {passage:?}");
        }
    }
    // A cluster that is too much by itself is cut between its characters.
    let text = format!("a{} b", "\u{0301}".repeat(2_000));
    assert!(check(&text, &SplitOptions::default()).len() > 3);
    check(&family.repeat(3), &options(1, 2));
    check(&format!("👨{}", "\u{200D}👩".repeat(3_000)), &SplitOptions::default());
}

#[test]
fn wide_white_space_ends_a_passage() {
    assert_eq!(texts(&format!("a{}b", "\n".repeat(1_000)), &SplitOptions::default()).len(), 1);
    assert_eq!(texts(&format!("a{}b", "\n".repeat(1_001)), &SplitOptions::default()), ["a", "b"]);
    let text = format!("# a{}b", " ".repeat(1_001));
    assert_eq!(texts(&text, &SplitOptions::default()), ["# a", "b"]);
}

#[test]
fn huge_texts_of_every_kind_are_split() {
    let large = options(2_000, 3_000);
    for unit in [
        "a",
        "1",
        "a ",
        "é",
        "\u{0301}",
        "中",
        "中。",
        "ที่",
        "👍",
        "\u{200D}",
        "👨\u{200D}",
        "🇩",
        "\0",
        "#",
        "# ",
        "# a\n",
        "#\n\n",
        "```\n",
        "```a\n",
        "~~~\n```\n",
        "````\n```a\n",
        "a\n",
        "a\r\n",
        "\n",
        " ",
        "a\n\n",
        ". ",
        "a. ",
        "A.",
        "1.",
        "?)",
        "a\n \n",
        "'",
        "a-",
        "\u{A0}",
        "a\u{3000}",
        "a                                                                ",
    ] {
        let text = unit.repeat((1 << 15) / unit.len());
        for options in [SplitOptions::default(), large] {
            let passages = check(&text, &options);
            let few = text.len() / 100 + 2;
            let heading = unit.starts_with("# a") || unit.starts_with("#\n");
            assert!(heading || passages.len() <= few, "{unit:?}: {} passages", passages.len());
        }
    }
    // Fences of all lengths, each of which looks for its end.
    let fences: String = (3..700).map(|len| format!("{}\n# a\n", "`".repeat(700 - len))).collect();
    check(&fences, &SplitOptions::default());
}
