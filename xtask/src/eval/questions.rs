//! Questions with the ids that answer them, and the plain format that they are read from: JSON
//! lines beside memories in the format of `orchestra-memory import`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// What it is called; unique within its tenant.
    pub(crate) id: String,
    /// Its words.
    pub(crate) text: String,
    /// The kind of question, where there are kinds.
    pub(crate) category: Option<String>,
    /// The ids that answer it: at least one, none twice.
    pub(crate) relevant: Vec<String>,
    /// What narrows the memories for it, under the keys of `orchestra-memory search --queries`.
    pub(crate) narrowed: Map<String, Value>,
}

/// The questions of a file or a conversation.
pub(crate) struct Questions {
    /// Those that can be judged.
    pub(crate) kept: Vec<Question>,
    /// How many were left out because nothing answers them.
    pub(crate) left_out: usize,
}

/// The ids of memories in the format of `import`; a line without an id has none to offer.
pub(crate) fn item_ids(text: &str) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for (number, line) in lines(text) {
        let item: Value = serde_json::from_str(line)
            .with_context(|| format!("line {number} of the memories is no JSON"))?;
        if let Some(id) = item["id"].as_str() {
            ids.insert(id.to_owned());
        }
    }
    Ok(ids)
}

/// Reads questions in the plain format. A question whose `relevant` is empty is left out.
///
/// # Errors
///
/// A line that is no question, an id of a question that occurs twice, an id in `relevant` that
/// `items` does not hold.
pub(crate) fn read(text: &str, items: &BTreeSet<String>) -> Result<Questions> {
    let (mut kept, mut left_out, mut seen) = (Vec::new(), 0, BTreeSet::new());
    for (number, line) in lines(text) {
        let question = one(line).with_context(|| format!("line {number} of the questions"))?;
        if !seen.insert(question.id.clone()) {
            bail!("line {number} of the questions: `{}` occurs twice", question.id);
        }
        if let Some(missing) = question.relevant.iter().find(|id| !items.contains(*id)) {
            bail!("line {number} of the questions: `{missing}` is the id of no memory");
        }
        if question.relevant.is_empty() { left_out += 1 } else { kept.push(question) }
    }
    Ok(Questions { kept, left_out })
}

fn one(line: &str) -> Result<Question> {
    let Value::Object(mut map) = serde_json::from_str(line).context("no JSON")? else {
        bail!("no JSON object");
    };
    // How deep to look is the evaluation's own matter.
    map.remove("limit");
    let mut taken = |key: &str| -> Result<Option<String>> {
        match map.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => bail!("`{key}` is no text"),
        }
    };
    let id = taken("query_id")?.context("no `query_id`")?;
    let text = taken("text")?.context("no `text`")?;
    let category = taken("category")?;
    let Some(Value::Array(list)) = map.remove("relevant") else {
        bail!("no list `relevant`");
    };
    let mut relevant: Vec<String> = Vec::new();
    for entry in list {
        let id = entry.as_str().context("`relevant` holds what is no text")?;
        if !relevant.iter().any(|known| known == id) {
            relevant.push(id.to_owned());
        }
    }
    Ok(Question { id, text, category, relevant, narrowed: map })
}

/// The lines that hold something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered.filter(|(_, line)| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> BTreeSet<String> {
        item_ids("{\"id\": \"a\", \"content\": \"x\"}\n\n{\"content\": \"y\"}\n{\"id\": \"b\"}")
            .unwrap()
    }

    #[test]
    fn items_offer_their_ids() {
        assert_eq!(items().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        let error = item_ids("{}\n\nnot json").unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
    }

    #[test]
    fn a_question_is_read_with_all_that_it_may_hold() {
        let text = r#"{"query_id": "q1", "text": "who", "relevant": ["a", "b", "a"], "limit": 3,
            "category": "people", "user_id": "ada"}"#
            .replace('\n', " ");
        let read = read(&format!("\n{text}\n"), &items()).unwrap();
        assert_eq!((read.kept.len(), read.left_out), (1, 0));
        let question = &read.kept[0];
        assert_eq!((question.id.as_str(), question.text.as_str()), ("q1", "who"));
        assert_eq!(question.relevant, ["a", "b"]);
        assert_eq!(question.category.as_deref(), Some("people"));
        assert_eq!(Value::from(question.narrowed.clone()), serde_json::json!({"user_id": "ada"}));
    }

    #[test]
    fn a_question_that_nothing_answers_is_left_out_and_counted() {
        let text = "{\"query_id\": \"q1\", \"text\": \"who\", \"relevant\": []}\n\
                    {\"query_id\": \"q2\", \"text\": \"who\", \"relevant\": [\"b\"]}";
        let read = read(text, &items()).unwrap();
        assert_eq!((read.kept.len(), read.left_out), (1, 1));
    }

    #[test]
    fn faults_are_named_with_their_line() {
        for (line, fault) in [
            (r#"{"text": "who", "relevant": ["a"]}"#, "query_id"),
            (r#"{"query_id": "q", "relevant": ["a"]}"#, "text"),
            (r#"{"query_id": "q", "text": "who"}"#, "relevant"),
            (r#"{"query_id": "q", "text": "who", "relevant": [1]}"#, "relevant"),
            (r#"{"query_id": "q", "text": "who", "relevant": ["c"]}"#, "`c`"),
            (r#"{"query_id": 1, "text": "who", "relevant": ["a"]}"#, "query_id"),
            (r#"{"query_id": "p", "text": "who", "relevant": ["a"]}"#, "twice"),
            ("[]", "object"),
            ("who", "JSON"),
        ] {
            let first = r#"{"query_id": "p", "text": "who", "relevant": ["a"]}"#;
            let Err(error) = read(&format!("{first}\n{line}"), &items()) else {
                panic!("accepted: {line}");
            };
            let error = format!("{error:#}");
            assert!(error.contains("line 2") && error.contains(fault), "{line}: {error}");
        }
    }
}
