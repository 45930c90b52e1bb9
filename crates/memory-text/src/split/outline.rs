//! The structure that a document shows line by line: headings and fenced code, as Markdown
//! (CommonMark) writes them.
//!
//! Whether a line is a heading is said by the line itself, unless it stands in fenced code that is
//! kept whole. So a passage by itself shows the structure that it has in its document, and its
//! splitting gives nothing but itself.

use std::ops::Range;

use super::MAX_GAP;
use crate::estimate_tokens;

/// Most spaces before the mark of a heading or a fence; with four it is indented code.
const MAX_INDENT: usize = 3;
/// Fewest characters of a fence.
const MIN_FENCE: usize = 3;
/// Most `#` of a heading.
const MAX_LEVEL: usize = 6;

/// Headings and fences of a text.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// Places that no passage reaches across, ascending.
    pub(super) cuts: Vec<usize>,
    /// Runs of headings that stay with what follows, in order; each begins at a cut.
    pub(super) headings: Vec<Range<usize>>,
    /// Fenced code that is kept whole, from the first character of the opening fence to the last of
    /// the closing one, in order, with its tokens.
    pub(super) fences: Vec<(Range<usize>, usize)>,
}

/// A line that bears a mark, without its indentation and the spaces at its end.
struct Line {
    range: Range<usize>,
    mark: Mark,
}

enum Mark {
    Heading,
    Fence(Fence),
}

struct Fence {
    tilde: bool,
    len: usize,
    /// Nothing follows it: it may close.
    bare: bool,
    /// It may open.
    opens: bool,
}

impl Outline {
    /// Reads the structure of a text. Linear in its length, up to searches for closing fences that
    /// are not there, of which there is one for each length of fence at the most.
    pub(super) fn of(text: &str, target: usize, max: usize) -> Self {
        let lines = marked(text);
        let mut outline = Self::default();
        // The closing line of fenced code that is too large to be kept whole: what stands in it is
        // taken as any text.
        let mut opened: Option<usize> = None;
        // Lengths from which on no closing fence follows, of backticks and of tildes.
        let mut hopeless = [usize::MAX; 2];
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            let fence = match &line.mark {
                Mark::Heading => {
                    at = outline.run(text, &lines, at, target);
                    continue;
                }
                Mark::Fence(fence) => fence,
            };
            at += 1;
            if let Some(closing) = opened {
                if at > closing {
                    outline.cuts.push(line.range.end);
                    opened = None;
                }
                continue;
            }
            let hopeless = &mut hopeless[usize::from(fence.tilde)];
            if !fence.opens || fence.len >= *hopeless {
                continue;
            }
            let closing = lines[at..].iter().position(|line| match &line.mark {
                Mark::Fence(end) => end.bare && end.tilde == fence.tilde && end.len >= fence.len,
                Mark::Heading => false,
            });
            let Some(closing) = closing.map(|after| at + after) else {
                *hopeless = fence.len;
                continue;
            };
            let range = line.range.start..lines[closing].range.end;
            let code = &text[range.clone()];
            let tokens = estimate_tokens(code);
            if tokens <= max && !has_wide_gap(code) {
                outline.fences.push((range, tokens));
                at = closing + 1;
            } else {
                opened = Some(closing);
            }
        }
        outline
    }

    /// Takes in the run of headings that begins at a line; where the next line to look at is.
    fn run(&mut self, text: &str, lines: &[Line], first: usize, target: usize) -> usize {
        let mut end = first + 1;
        while let Some(line) = lines.get(end) {
            let between = &text[lines[end - 1].range.end..line.range.start];
            let follows = matches!(line.mark, Mark::Heading)
                && between.len() <= MAX_GAP
                && between.chars().all(char::is_whitespace);
            if !follows {
                break;
            }
            end += 1;
        }
        let run = lines[first].range.start..lines[end - 1].range.end;
        let titles = &text[run.clone()];
        if estimate_tokens(titles) <= target / 2 && !has_wide_gap(titles) {
            self.cuts.push(run.start);
            self.headings.push(run);
        } else {
            // Too much to be a title of anything: each heading is on its own.
            self.cuts.extend(lines[first..end].iter().map(|line| line.range.start));
        }
        end
    }

    /// The run of headings that begins at a place and stays with what follows.
    pub(super) fn heading_at(&self, place: usize) -> Option<&Range<usize>> {
        let found = self.headings.binary_search_by_key(&place, |run| run.start);
        found.ok().map(|index| &self.headings[index])
    }

    /// The fenced code that begins at a place and is kept whole, with its tokens.
    pub(super) fn fence_at(&self, place: usize) -> Option<&(Range<usize>, usize)> {
        let found = self.fences.binary_search_by_key(&place, |(range, _)| range.start);
        found.ok().map(|index| &self.fences[index])
    }
}

/// Whether a place within a line looks like the beginning of fenced code once the line is cut there.
///
/// A passage that began so would pair it with the next fence, whatever that is in the document.
pub(super) fn looks_fenced(text: &str, at: usize) -> bool {
    let rest = &text[at..];
    (rest.starts_with("```") || rest.starts_with("~~~")) && !begins_line(&text[..at])
}

/// Whether the last line of a text holds nothing but the mark of a heading: `#` to `######`.
///
/// A passage that ended so would end with a heading, whatever the line says in the document.
pub(super) fn ends_with_heading_mark(text: &str) -> bool {
    let level = text.bytes().rev().take(MAX_LEVEL + 1).take_while(|byte| *byte == b'#').count();
    (1..=MAX_LEVEL).contains(&level) && begins_line(&text[..text.len() - level])
}

/// Whether a mark that follows a text would stand at the beginning of a line.
fn begins_line(before: &str) -> bool {
    let bytes = before.as_bytes();
    let indent = bytes.iter().rev().take(MAX_INDENT).take_while(|byte| **byte == b' ').count();
    let last = bytes[..bytes.len() - indent].last();
    last.is_none_or(|byte| matches!(byte, b'\n' | b'\r'))
}

/// The lines of a text that bear a mark.
fn marked(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive(['\n', '\r']) {
        let indent = line.bytes().take(MAX_INDENT).take_while(|byte| *byte == b' ').count();
        let body = line[indent..].trim_end();
        if let Some(mark) = mark(body) {
            let at = start + indent;
            lines.push(Line { range: at..at + body.len(), mark });
        }
        start += line.len();
    }
    lines
}

fn mark(body: &str) -> Option<Mark> {
    let first = body.chars().next()?;
    let rest = body.trim_start_matches(first);
    // So many characters, of the marks, which have one byte.
    let len = body.len() - rest.len();
    match first {
        '#' if len <= MAX_LEVEL && (rest.is_empty() || rest.starts_with(char::is_whitespace)) => {
            Some(Mark::Heading)
        }
        '`' | '~' if len >= MIN_FENCE => Some(Mark::Fence(Fence {
            tilde: first == '~',
            len,
            bare: rest.is_empty(),
            // Otherwise it is code within a line.
            opens: first == '~' || !rest.contains('`'),
        })),
        _ => None,
    }
}

/// Whether white space in a text is wider than a passage may hold.
fn has_wide_gap(text: &str) -> bool {
    text.split(|c: char| !c.is_whitespace()).any(|gap| gap.len() > MAX_GAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(text: &str) -> Outline {
        Outline::of(text, 20, 30)
    }

    #[test]
    fn headings_are_told_from_other_lines() {
        for text in [
            "# a", "###### a", "   # a", "#", "# ", "#\ta", "#\u{A0}a", "# a #", "x\n# a", "x\r# a",
        ] {
            assert_eq!(outline(text).headings.len(), 1, "{text:?}");
        }
        for text in ["", "a", "#a", "####### a", "    # a", "\t# a", "a # b", "\\# a", "// # a"] {
            assert!(outline(text).cuts.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn the_mark_of_a_heading_is_told_from_its_text() {
        for text in ["#", "######", "   #", "a\n##", "a\r   ##"] {
            assert!(ends_with_heading_mark(text), "{text:?}");
        }
        for text in ["", "a", "# a", "a #", "#######", "    #", "a\n\t#", "#\n"] {
            assert!(!ends_with_heading_mark(text), "{text:?}");
        }
    }

    #[test]
    fn what_looks_fenced_stands_within_a_line() {
        for (text, at) in [("a ```", 2), ("a```", 1), ("    ~~~", 4), ("\t```", 1), ("````", 1)] {
            assert!(looks_fenced(text, at), "{text:?}");
        }
        for (text, at) in [("```", 0), ("   ~~~", 3), ("a\n```", 2), ("a ``", 2), ("```", 3)] {
            assert!(!looks_fenced(text, at), "{text:?}");
        }
    }

    #[test]
    fn headings_that_follow_each_other_are_one_run() {
        let text = "# a\n\n## b\nc\n# d";
        assert_eq!(outline(text).headings, [0..9, 12..15]);
        assert_eq!(outline(text).cuts, [0, 12]);
        let many = "# a\n".repeat(10);
        assert_eq!(outline(&many).cuts.len(), 10);
        assert!(outline(&many).headings.is_empty());
        let wide = format!("# a\n{}# b", " \n".repeat(MAX_GAP));
        assert_eq!(outline(&wide).headings.len(), 2);
        let wide = format!("# a{}b\n# c", " ".repeat(MAX_GAP + 1));
        assert_eq!((outline(&wide).headings.len(), outline(&wide).cuts.len()), (0, 2));
    }

    #[test]
    fn fenced_code_hides_what_looks_like_a_heading() {
        let text = "a\n```sh\n# b\n```\n# c";
        let found = outline(text);
        assert_eq!(found.fences, [(2..15, estimate_tokens("```sh\n# b\n```"))]);
        assert_eq!(found.cuts, [16]);
        for closed in ["~~~\n# b\n```\n~~~", "````\n# b\n```\n````", "```\n# b\n  `````  "] {
            assert_eq!((outline(closed).fences.len(), outline(closed).cuts.len()), (1, 0));
        }
        for open in
            ["```\n# b", "```\n# b\n~~~", "````\n# b\n```", "```\n# b\n```sh", "```a`\n# b\n"]
        {
            assert_eq!((outline(open).fences.len(), outline(open).cuts.len()), (0, 1), "{open:?}");
        }
    }

    #[test]
    fn large_fenced_code_is_text_and_ends_at_its_end() {
        let code = format!("```\n# b\n{}~~~\n# c\n~~~\n```", "word ".repeat(30));
        let text = format!("{code}\nd\n```\n# e\n```");
        let found = outline(&text);
        assert_eq!(found.cuts.len(), 3, "two headings and the end of the code");
        assert_eq!(found.cuts[2], code.len());
        assert_eq!(found.fences.len(), 1, "the pairs are not confused by the large one");
        assert!(text[found.fences[0].0.clone()].contains("# e"));
        let wide = format!("```\na{}\n```", "\n".repeat(MAX_GAP + 1));
        assert!(outline(&wide).fences.is_empty());
    }
}
