//! Unknown keys: which known one was meant, and which keys a settings struct knows.

use memory_core::{Error, ErrorKind};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// An error for a key that is not known; names the nearest known one, and all of them.
pub(crate) fn unknown_key(what: &str, key: &str, known: &[&str]) -> Error {
    Error::new(ErrorKind::Config, describe_unknown(what, key, known))
}

/// The text of [`unknown_key`], for errors of another kind.
pub(crate) fn describe_unknown(what: &str, key: &str, known: &[&str]) -> String {
    // A key can be as long as its line; the message is not.
    let shown: String = key.chars().take(60).filter(|c| !c.is_control()).collect();
    let hint = nearest(&shown, known).map(|near| format!(" did you mean `{near}`?"));
    format!(
        "unknown {what} `{shown}`;{} known: {}",
        hint.unwrap_or_default(),
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    )
}

/// The known key that needs the fewest edits, if that is at most a third of its length, one at
/// least.
pub(crate) fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (edits(key, candidate), *candidate))
        .filter(|(edits, candidate)| *edits <= (candidate.len() / 3).max(1))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, case ignored.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The keys that a struct with a derived `Deserialize` reads; none for anything else.
///
/// A derived struct hands its list of fields to the deserializer before it reads anything; this
/// deserializer takes the list and stops. So a section's known keys never drift from its struct.
pub(crate) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // The probe always ends in an error once it has what it came for.
    let _ = T::deserialize(Probe(&mut fields));
    fields
}

struct Probe<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("a probe holds no value"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("a probe holds no value"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named_and_a_far_one_is_not() {
        let known = ["user_id", "session_id", "content"];
        let text = unknown_key("key", "sesion_id", &known).to_string();
        assert!(text.contains("did you mean `session_id`?"), "{text}");
        let text = unknown_key("key", "colour", &known).to_string();
        assert!(!text.contains("did you mean") && text.contains("known: user_id"), "{text}");
        assert!(unknown_key("key", &"x".repeat(10_000), &known).to_string().len() < 300);
    }

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, want) in [("", "abc", 3), ("kitten", "sitting", 3), ("A", "a", 0)] {
            assert_eq!((edits(a, b), edits(b, a)), (want, want), "{a} {b}");
        }
    }

    #[test]
    fn a_struct_tells_its_fields() {
        #[derive(serde::Deserialize)]
        #[expect(dead_code, reason = "only its field names are read")]
        struct Section {
            one: u8,
            two: String,
        }
        assert_eq!(fields_of::<Section>(), ["one", "two"]);
        assert!(fields_of::<String>().is_empty());
    }
}
