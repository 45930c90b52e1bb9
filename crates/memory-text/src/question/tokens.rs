//! The words of a question with their places, for the two readers beside this file.

/// A run of letters, digits and inner apostrophes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// Byte offset in the question.
    pub(super) start: usize,
    /// What stands between the word before (or the beginning) and this one.
    pub(super) gap: &'a str,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether the word begins the text, a sentence, a line or a quotation.
    pub(super) fn begins_sentence(&self) -> bool {
        self.start == self.gap.len()
            || self.gap.contains(['.', '!', '?', '\n', ':', '"', '“', '¿', '¡', '…', '。', '？'])
    }
}

/// Splits a text into its words.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut gap_start = 0;
    let mut start = None;
    let mut chars = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = chars.next() {
        let after = chars.peek().map_or(' ', |(_, c)| *c);
        let inner = matches!(c, '\'' | '’') && before.is_alphabetic() && after.is_alphabetic();
        let part = c.is_alphanumeric()
            || inner
            || (start.is_some() && unicode_normalization::char::is_combining_mark(c));
        match (part, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push(Token {
                    text: &text[from..at],
                    start: from,
                    gap: &text[gap_start..from],
                });
                gap_start = at;
                start = None;
            }
            _ => {}
        }
        before = c;
    }
    if let Some(from) = start {
        found.push(Token { text: &text[from..], start: from, gap: &text[gap_start..from] });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_know_their_places() {
        let text = "Who? It's Zoë's… 7th, x";
        let found = tokens(text);
        let words: Vec<&str> = found.iter().map(|token| token.text).collect();
        assert_eq!(words, ["Who", "It's", "Zoë's", "7th", "x"]);
        for token in &found {
            assert_eq!(&text[token.start..token.end()], token.text);
        }
        let begins: Vec<bool> = found.iter().map(Token::begins_sentence).collect();
        assert_eq!(begins, [true, true, false, true, false]);
        assert!(tokens(" .,;'' ").is_empty());
    }
}
