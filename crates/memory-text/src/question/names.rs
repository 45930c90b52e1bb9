//! Names: the capitalised words of a question that are not merely at the head of a sentence.

use super::dates::dates;
use super::tokens::tokens;
use crate::language::Language;

/// Words that open a request or an answer and, at the head of a sentence, name nobody; in
/// lower case.
const OPENERS: &str = "
    tell remind show give find list describe explain name compare summarize summarise recall ask
    please yes yeah ok okay hi hello hey thanks thank wow oh well now today yesterday tomorrow
    let lets say think remember anything something everything anyone someone everyone any some
    all both each every according after before since between also maybe perhaps currently
    recently last next will may dear";

/// Words that are capitalised wherever they stand and name nobody; in lower case.
const TITLES_AND_DAYS: &str = "
    mr mrs ms dr prof monday tuesday wednesday thursday friday saturday sunday mondays tuesdays
    wednesdays thursdays fridays saturdays sundays";

/// Words that may stand between the parts of one name.
const PARTICLES: [&str; 12] =
    ["de", "da", "di", "del", "della", "van", "von", "der", "den", "du", "bin", "al"];

/// The names that an English `text` mentions, each once, in the order of their first mention,
/// as slices of it.
///
/// A name is a run of capitalised words with only spaces between them (`New York`, `Mary Ann
/// Lee`, `Ludwig van Beethoven`), without a possessive `'s`. Not taken for names are stop
/// words and question words, words that merely open a sentence (`Tell`, `Will`), weekdays,
/// titles (`Dr`), single letters at the head of a run, and whatever [`dates`] reads as a date;
/// so `June` is a name in "When did June call?" and none in "in June". Any other capitalised
/// word at the head of a sentence counts, for questions do begin with names. A text without
/// any lower-case letter, or of a script without capitals, has none.
#[must_use]
pub fn names(text: &str) -> Vec<&str> {
    names_in(text, Language::English)
}

/// As [`names`], with the stop words of `language` beside the English openers. In German,
/// where all nouns are capitalised, all of them come back.
#[must_use]
pub fn names_in(text: &str, language: Language) -> Vec<&str> {
    if !text.chars().any(char::is_lowercase) {
        return Vec::new();
    }
    let dates = dates(text);
    let words = tokens(text);
    let mut found: Vec<&str> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut at = 0;
    while at < words.len() {
        let is_name = |n: usize| -> Option<&str> {
            let word = words.get(n)?;
            // The mentions are in order and apart, so the first that ends later decides.
            let mention = dates.partition_point(|date| date.span.end <= word.start);
            let dated = dates.get(mention).is_some_and(|date| date.span.start < word.end());
            let bare = without_clitic(word.text);
            (!dated && is_capitalised(bare) && !is_common(bare, word.begins_sentence(), language))
                .then_some(bare)
        };
        let Some(first) = is_name(at).filter(|word| word.chars().nth(1).is_some()) else {
            at += 1;
            continue;
        };
        let start = words[at].start;
        let mut end = start + first.len();
        at += 1;
        // A possessive ends a name: in "Anna's Volvo" there are two.
        while end == words[at - 1].end() {
            let joined =
                |n: usize| words.get(n).is_some_and(|word| matches!(word.gap, " " | "-" | ". "));
            let particles = (at..words.len().min(at + 2))
                .take_while(|n| joined(*n) && PARTICLES.contains(&words[*n].text))
                .count();
            let next = at + particles;
            // A stop parts two names unless it follows an initial, as in "J. Smith".
            let initial = words[at - 1].text.chars().nth(1).is_none();
            let Some(word) = is_name(next).filter(|_| joined(next)) else { break };
            if words[next].gap == ". " && !initial {
                break;
            }
            end = words[next].start + word.len();
            at = next + 1;
        }
        let name = &text[start..end];
        if seen.insert(name) {
            found.push(name);
        }
    }
    found
}

/// The word before a possessive or a contracted verb.
fn without_clitic(word: &str) -> &str {
    let Some(at) = word.rfind(['\'', '’']) else { return word };
    let clitic = word[at..].trim_start_matches(['\'', '’']);
    if ["s", "S", "ll", "d", "re", "ve", "m"].contains(&clitic) { &word[..at] } else { word }
}

fn is_capitalised(word: &str) -> bool {
    word.chars().next().is_some_and(char::is_uppercase)
}

fn is_common(word: &str, begins_sentence: bool, language: Language) -> bool {
    let lower = word.replace('’', "'").to_lowercase();
    let among = |list: &str| list.split_ascii_whitespace().any(|known| known == lower);
    lower.ends_with("n't")
        || Language::English.stop_words().any(|stop| stop == lower)
        || language.stop_words().any(|stop| stop == lower)
        || among(TITLES_AND_DAYS)
        || (begins_sentence && among(OPENERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_questions() {
        let table: [(&str, &[&str]); 20] = [
            ("What did Caroline tell Melanie?", &["Caroline", "Melanie"]),
            ("Caroline's sister and Melanie’s dog", &["Caroline", "Melanie"]),
            ("Did Dr. Smith call J. Doe?", &["Smith", "Doe"]),
            ("Who is Mary Ann Lee?", &["Mary Ann Lee"]),
            (
                "Does Ludwig van Beethoven like Anna's Volvo?",
                &["Ludwig van Beethoven", "Anna", "Volvo"],
            ),
            ("Tell me about NASA. Has Bob been there?", &["NASA", "Bob"]),
            ("When did June call in June?", &["June"]),
            ("What happened on Monday in May 2023?", &[]),
            ("What did I say? I'm sure I've said it.", &[]),
            ("Caroline, Caroline and Bob", &["Caroline", "Bob"]),
            ("did caroline go", &[]),
            ("WHAT DID CAROLINE SAY?", &[]),
            ("Was Zoë Łukasz's friend?", &["Zoë Łukasz"]),
            ("Where is Jean-Luc?", &["Jean-Luc"]),
            ("Which book by O'Brien?", &["O'Brien"]),
            ("Isn't Paris nice?", &["Paris"]),
            ("Где живёт Анна?", &["Где", "Анна"]),
            ("她去了北京", &[]),
            ("", &[]),
            ("Ask Will about John F. Kennedy. Will May come?", &["Will", "John F. Kennedy", "May"]),
        ];
        for (text, expected) in table {
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn stop_words_of_the_language() {
        assert_eq!(names_in("Где живёт Анна?", Language::Russian), ["Анна"]);
        assert_eq!(names_in("Où habite Chloé ?", Language::French), ["Chloé"]);
        assert_eq!(names_in("Wer ist Jürgen?", Language::German), ["Jürgen"]);
    }
}
