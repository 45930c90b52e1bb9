//! `search --queries`: many questions in one process, an answer a line.

use std::path::Path;

use orchestra_memory::{
    AgentId, Arm, Error, Field, Filter, Kind, Limit, Result as CoreResult, SearchAnswer,
    SearchRequest, SessionId, TenantMemory, UserId,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::search::{HitJson, ask, base, hits_json};
use crate::app::App;
use crate::args::Search;
use crate::failure::{ErrorJson, Failure, Result, describe};
use crate::lines;

/// Longest line, in bytes: the largest text and the largest vector take less than half of it.
const LINE_BYTES: u64 = 1024 * 1024;
/// What a line may hold. `relevant` is the ground truth of an evaluation, which is not ours.
const KEYS: [&str; 10] = [
    "query_id",
    "text",
    "vector",
    "limit",
    "user_id",
    "session_id",
    "agent_id",
    "kind",
    "filter",
    "relevant",
];

/// The answer to a line.
#[derive(Serialize)]
struct AnswerLine<'a> {
    query_id: &'a Value,
    hits: Vec<HitJson<'a>>,
    arms_used: &'a [Arm],
    notes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    relevance: Option<f64>,
}

/// What stands in the place of an answer.
#[derive(Serialize)]
struct BadLine<'a> {
    query_id: &'a Value,
    line: u64,
    error: ErrorJson<'a>,
}

/// Answers every line. A bad one gets an error in its place and does not stop the others.
pub(crate) async fn run(
    app: &mut App,
    tenant: &TenantMemory,
    search: &Search,
    file: &Path,
) -> Result<()> {
    let base = base(app, search)?;
    let (mut reader, _) = lines::open(file)?;
    // Whoever writes questions one by one waits for each answer.
    let by_hand = file.as_os_str() == "-";
    let (mut number, mut failed) = (0_u64, 0_u64);
    loop {
        let line = lines::next(&mut *reader, LINE_BYTES)
            .map_err(|error| Failure::file(&file.display().to_string(), error))?;
        let Some(line) = line else { break };
        number += 1;
        let mut query_id = Value::Null;
        let line = line.map_err(|_| {
            Error::invalid(format!("the line has more than {LINE_BYTES} bytes")).into()
        });
        let answer = match line {
            Ok(line) if line.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(line) => answer(tenant, &base, &line, &mut query_id).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => {
                app.output.json(&AnswerLine {
                    query_id: &query_id,
                    hits: hits_json(&answer.hits),
                    arms_used: &answer.arms_used,
                    notes: &answer.notes,
                    relevance: answer.relevance,
                })?;
            }
            Err(Failure::Error(error)) => {
                failed += 1;
                let error = describe(&error);
                app.output.json(&BadLine { query_id: &query_id, line: number, error })?;
            }
            Err(other) => return Err(other),
        }
        if by_hand {
            app.output.flush()?;
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Partial(format!("{failed} of {number} lines could not be answered"))),
    }
}

/// Answers one line; `query_id` is filled as soon as it is known.
async fn answer(
    tenant: &TenantMemory,
    base: &SearchRequest,
    line: &[u8],
    query_id: &mut Value,
) -> Result<SearchAnswer> {
    let query = read(base.clone(), line, query_id)?;
    ask(tenant, query.request, query.vector).await
}

struct Query {
    request: SearchRequest,
    vector: Option<Vec<f32>>,
}

fn read(mut request: SearchRequest, line: &[u8], query_id: &mut Value) -> CoreResult<Query> {
    let map: Map<String, Value> = serde_json::from_slice(line)
        .map_err(|error| Error::invalid(format!("no JSON object: column {}", error.column())))?;
    match map.get("query_id") {
        Some(Value::String(id)) => *query_id = id.as_str().into(),
        _ => return Err(Error::invalid("a query needs the text `query_id`")),
    }
    if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let shown: String = key.chars().take(40).collect();
        return Err(Error::invalid(format!(
            "unknown key {shown:?} in a query; known: {}",
            KEYS.join(", ")
        )));
    }
    let text = |key: &str| match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Error::invalid(format!("`{key}` is a text"))),
    };
    if let Some(text) = text("text")? {
        request = request.with_text(text);
    }
    match map.get("limit") {
        None | Some(Value::Null) => {}
        Some(limit) => {
            let count = limit.as_u64().and_then(|limit| u32::try_from(limit).ok());
            let count = count.ok_or_else(|| Error::invalid("`limit` is a whole number"))?;
            request = request.with_limit(Limit::Count(count));
        }
    }
    let mut filter = request.filter.clone();
    let mut require = |field, value: &str| {
        let narrower = std::mem::take(&mut filter).and(Filter::eq(field, value));
        filter = narrower;
    };
    if let Some(user) = text("user_id")? {
        require(Field::UserId, UserId::new(user)?.as_str());
    }
    if let Some(session) = text("session_id")? {
        require(Field::SessionId, SessionId::new(session)?.as_str());
    }
    if let Some(agent) = text("agent_id")? {
        require(Field::AgentId, AgentId::new(agent)?.as_str());
    }
    if let Some(kind) = text("kind")? {
        require(Field::Kind, kind.parse::<Kind>()?.name());
    }
    if let Some(value) = map.get("filter").filter(|value| !value.is_null()) {
        filter = filter.and(Filter::from_json(value)?);
    }
    let vector = match map.get("vector") {
        None | Some(Value::Null) => None,
        Some(vector) => Some(numbers(vector)?),
    };
    Ok(Query { request: request.with_filter(filter), vector })
}

fn numbers(value: &Value) -> CoreResult<Vec<f32>> {
    serde_json::from_value(value.clone())
        .map_err(|_| Error::invalid("`vector` is a list of finite numbers"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(line: &str) -> (CoreResult<Query>, Value) {
        let mut id = Value::Null;
        (read(SearchRequest::new(), line.as_bytes(), &mut id), id)
    }

    #[test]
    fn a_line_becomes_a_request() {
        let (query, id) = parsed(
            r#"{"query_id": "q", "text": "tea", "limit": 3, "vector": [1, 0.5], "user_id": "u",
                "session_id": "s", "agent_id": "a", "kind": "fact", "relevant": [1, {"x": 2}],
                "filter": {"field": "metadata.n", "op": "eq", "value": 1}}"#,
        );
        let query = query.unwrap();
        assert_eq!((id, query.vector), (json!("q"), Some(vec![1.0, 0.5])));
        assert_eq!(query.request.text.as_deref(), Some("tea"));
        assert_eq!(query.request.limit, Limit::Count(3));
        assert_eq!(query.request.filter.to_json()["and"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn a_bad_line_keeps_its_id_where_it_has_one() {
        for (line, id) in [
            ("", json!(null)),
            ("[]", json!(null)),
            ("{\"text\": \"tea\"}", json!(null)),
            ("{\"query_id\": 1, \"text\": \"tea\"}", json!(null)),
            ("{\"query_id\": \"q\", \"colour\": 1}", json!("q")),
            ("{\"query_id\": \"q\", \"text\": 1}", json!("q")),
            ("{\"query_id\": \"q\", \"limit\": -1}", json!("q")),
            ("{\"query_id\": \"q\", \"limit\": 1.5}", json!("q")),
            ("{\"query_id\": \"q\", \"user_id\": \"\"}", json!("q")),
            ("{\"query_id\": \"q\", \"vector\": [\"x\"]}", json!("q")),
            ("{\"query_id\": \"q\", \"filter\": []}", json!("q")),
        ] {
            let (query, found) = parsed(line);
            assert!(query.is_err(), "{line}");
            assert_eq!(found, id, "{line}");
        }
    }
}
