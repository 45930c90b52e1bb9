//! A question without some of the names in it.

use super::tokens::tokens;

/// The text without every mention of these names, with their possessives; what is left is parted
/// by single spaces. If nothing but small words would be left, that is for the caller to judge; the
/// text as it was where none of the names is in it.
///
/// Who spoke is known from the record; to a model of meaning the name of a person who is named in
/// every other memory says little, and draws it to whoever else is named alike.
///
/// ```
/// use memory_text::question::without_names;
/// assert_eq!(without_names("What did Ada's cat eat, Ada?", &["Ada"]), "What did cat eat, ?");
/// ```
#[must_use]
pub fn without_names<S: AsRef<str>>(text: &str, names: &[S]) -> String {
    let words = tokens(text);
    let mut left = String::with_capacity(text.len());
    let (mut at, mut kept, mut found) = (0, 0, false);
    while at < words.len() {
        let taken = names.iter().filter_map(|name| length(text, &words[at..], name.as_ref())).max();
        let Some((count, end)) = taken else {
            at += 1;
            continue;
        };
        left.push_str(&text[kept..words[at].start]);
        kept = end;
        at += count;
        found = true;
    }
    if !found {
        return text.to_owned();
    }
    left.push_str(&text[kept..]);
    left.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How many words a name takes at the head of some words, and where it ends in the text.
fn length(text: &str, words: &[super::tokens::Token<'_>], name: &str) -> Option<(usize, usize)> {
    let start = words.first()?.start;
    let end = start + name.len();
    if name.is_empty() || text.get(start..end)? != name {
        return None;
    }
    let count = words.iter().take_while(|word| word.start < end).count();
    let last = words[count - 1].end();
    // The name ends with its last word, or that word has nothing more than a possessive.
    let rest = text.get(end..last)?;
    let clitic = matches!(rest.to_lowercase().as_str(), "" | "'s" | "’s");
    clitic.then_some((count, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_with_their_possessives_and_nothing_else_does() {
        let table: [(&str, &[&str], &str); 9] = [
            ("What did Ada buy?", &["Ada"], "What did buy?"),
            ("Ada’s dog and Bob's cat", &["Ada", "Bob"], "dog and cat"),
            ("Where is Mary Ann Lee now?", &["Mary Ann Lee"], "Where is now?"),
            ("Where is Mary Ann?", &["Mary", "Mary Ann"], "Where is ?"),
            ("Adam met Ada", &["Ada"], "Adam met"),
            ("no  names  here", &["Ada"], "no  names  here"),
            ("ada is small", &["Ada"], "ada is small"),
            ("Ada'll go", &["Ada"], "Ada'll go"),
            ("", &["Ada"], ""),
        ];
        for (text, names, expected) in table {
            assert_eq!(without_names(text, names), expected, "{text}");
        }
        assert_eq!(without_names("Zoë ünd Ada", &["Zoë"]), "ünd Ada");
        assert_eq!(without_names("Ada", &[""]), "Ada");
    }
}
