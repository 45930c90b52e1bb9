//! What the service answers.

use serde_json::{Map, Value, json};

use super::filter::passes;
use super::http::Request;
use super::{Collection, Object, State, TOKEN};

/// A refusal.
#[derive(Debug)]
pub(super) struct No {
    pub(super) http: u16,
    pub(super) name: &'static str,
    pub(super) message: String,
}

type Answer<T = Value> = Result<T, No>;

fn no(http: u16, name: &'static str, message: &str) -> No {
    No { http, name, message: message.to_owned() }
}

pub(super) fn invalid(message: &str) -> No {
    no(400, "INVALID_ARGUMENT", message)
}

fn missing(message: &str) -> No {
    no(404, "NOT_FOUND", message)
}

/// Most objects of a batch and of a page.
const MOST: usize = 1_000;

pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return Err(no(401, "UNAUTHENTICATED", "no valid token"));
    }
    let path = request.path.strip_prefix("/v1/").ok_or_else(|| missing("no such path"))?;
    let (name, verb) = path.split_once(':').unwrap_or((path, ""));
    let parts: Vec<&str> = name.split('/').collect();
    match (request.method.as_str(), parts.as_slice(), verb) {
        ("GET", ["projects", _, "locations", _, "collections"], "") => list(state, request, name),
        ("POST", ["projects", _, "locations", _, "collections"], "") => make(state, request, name),
        ("GET", ["projects", _, "locations", _, "operations", _], "") => operation(state, name),
        ("GET", ["projects", _, "locations", _, "collections", _], "") => {
            Ok(collection(state, name)?.body.clone())
        }
        ("GET", ["projects", _, "locations", _, "collections", _, "dataObjects", id], "") => {
            let parent = name.rsplit_once("/dataObjects/").unwrap().0;
            let found = collection(state, parent)?;
            let object = found.objects.get(*id).ok_or_else(|| missing("no such object"))?;
            Ok(shown(name, object, None, None))
        }
        ("POST", ["projects", _, "locations", _, "collections", _, "dataObjects"], verb) => {
            let parent = name.strip_suffix("/dataObjects").unwrap();
            match verb {
                "batchCreate" | "batchUpdate" | "batchDelete" => {
                    batch(state, parent, verb, &request.body)
                }
                "search" => search(state, parent, &request.body),
                "query" => query(state, parent, &request.body),
                _ => Err(no(501, "UNIMPLEMENTED", "no such verb")),
            }
        }
        _ => Err(no(501, "UNIMPLEMENTED", "no such method")),
    }
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && !text.ends_with('-')
}

fn collection<'a>(state: &'a mut State, name: &str) -> Answer<&'a mut Collection> {
    state.collections.get_mut(name).ok_or_else(|| missing("no such collection"))
}

fn list(state: &State, request: &Request, name: &str) -> Answer {
    let size: usize = request.parameter("pageSize").unwrap_or("0").parse().unwrap();
    if size > MOST {
        return Err(invalid("page_size"));
    }
    let within = format!("{name}/");
    let found = state.collections.iter().filter(|(name, _)| name.starts_with(&within));
    let bodies: Vec<&Value> = found.map(|(_, one)| &one.body).take(size.max(1)).collect();
    Ok(json!({ "collections": bodies }))
}

fn make(state: &mut State, request: &Request, parent: &str) -> Answer {
    let id = request.parameter("collectionId").unwrap_or_default();
    if !is_label(id) {
        return Err(invalid("collection_id"));
    }
    let location = parent.strip_suffix("/collections").unwrap();
    let name = format!("{parent}/{id}");
    if state.collections.contains_key(&name) {
        return Err(no(409, "ALREADY_EXISTS", "the collection exists"));
    }
    let mut body = request.body.clone();
    let fields = body["vectorSchema"].as_object().ok_or_else(|| invalid("vector_schema"))?;
    let named =
        |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    for (name, field) in fields {
        let dimensions = field["denseVector"]["dimensions"].as_i64().unwrap_or_default();
        if !named(name) || dimensions < 1 {
            return Err(invalid("vector_schema"));
        }
    }
    let data = body["dataSchema"]["properties"].as_object().ok_or_else(|| invalid("schema"))?;
    if !data.keys().all(named) {
        return Err(invalid("data_schema"));
    }
    body["name"] = json!(name);
    let operation = format!("{location}/operations/{id}");
    state.operations.insert(operation.clone(), state.slow);
    state.collections.insert(name, Collection { body, objects: Default::default() });
    self::operation(state, &operation)
}

fn operation(state: &mut State, name: &str) -> Answer {
    let left = state.operations.get_mut(name).ok_or_else(|| missing("no such operation"))?;
    let done = *left == 0;
    *left = left.saturating_sub(1);
    Ok(json!({"name": name, "done": done}))
}

/// Reads an object as it is sent, against the schemas of its collection.
fn object(sent: &Value, body: &Value) -> Answer<Object> {
    let vectors = sent["vectors"].as_object().ok_or_else(|| invalid("no vectors"))?;
    let mut vector = Vec::new();
    for (name, one) in vectors {
        let wanted = body["vectorSchema"][name]["denseVector"]["dimensions"].as_u64();
        vector = numbers(&one["dense"]["values"])?;
        if wanted != Some(vector.len() as u64) {
            return Err(invalid("a vector of other dimensions than the schema's"));
        }
    }
    let data = sent["data"].as_object().cloned().unwrap_or_default();
    for (name, value) in &data {
        let kind = match value {
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            _ => "other",
        };
        if body["dataSchema"]["properties"][name]["type"] != kind {
            return Err(invalid("data that the schema does not allow"));
        }
    }
    Ok(Object { data, vector })
}

/// Finite numbers: JSON has no others, and the words that stand for them are refused.
#[expect(clippy::cast_possible_truncation, reason = "vectors are f32")]
fn numbers(values: &Value) -> Answer<Vec<f32>> {
    let values = values.as_array().ok_or_else(|| invalid("no values"))?;
    let one = |value: &Value| {
        let number = value.as_f64().map(|number| number as f32);
        number.filter(|number| number.is_finite()).ok_or_else(|| invalid("not a finite number"))
    };
    values.iter().map(one).collect()
}

fn batch(state: &mut State, parent: &str, verb: &str, body: &Value) -> Answer {
    let torn = state.torn;
    let found = collection(state, parent)?;
    let requests = body["requests"].as_array().filter(|list| !list.is_empty());
    let requests = requests.ok_or_else(|| invalid("no requests"))?;
    if requests.len() > MOST {
        return Err(invalid("more than 1000 objects in a batch"));
    }
    let mut objects = found.objects.clone();
    let mut seen = std::collections::BTreeSet::new();
    let mut made = Vec::new();
    let mut failed = None;
    for request in requests {
        let step = step(parent, verb, request, &found.body, &mut objects);
        match step {
            Ok(id) if seen.insert(id.clone()) => made.push(json!({"name": id})),
            Ok(_) => failed = Some(invalid("an object twice in a batch")),
            Err(no) => failed = Some(no),
        }
        if failed.is_some() {
            break;
        }
    }
    match failed {
        None => {
            found.objects = objects;
            Ok(if verb == "batchCreate" { json!({ "dataObjects": made }) } else { json!({}) })
        }
        Some(no) => {
            if torn {
                found.objects = objects;
            }
            Err(no)
        }
    }
}

/// One request of a batch; the id of its object.
fn step(
    parent: &str,
    verb: &str,
    request: &Value,
    body: &Value,
    objects: &mut std::collections::BTreeMap<String, Object>,
) -> Answer<String> {
    let named = |value: &Value| {
        let id = value["name"].as_str().and_then(|name| {
            name.strip_prefix(parent)?.strip_prefix("/dataObjects/").map(str::to_owned)
        });
        id.ok_or_else(|| invalid("a name of another collection"))
    };
    let (id, there) = match verb {
        "batchCreate" => {
            if request["parent"] != parent {
                return Err(invalid("a parent of another collection"));
            }
            (request["dataObjectId"].as_str().unwrap_or_default().to_owned(), false)
        }
        "batchUpdate" => (named(&request["dataObject"])?, true),
        _ => (named(request)?, true),
    };
    if !is_label(&id) {
        return Err(invalid("an id that is no label"));
    }
    if objects.contains_key(&id) != there {
        return Err(match there {
            true => missing("no such object"),
            false => no(409, "ALREADY_EXISTS", "the object exists"),
        });
    }
    if verb == "batchDelete" {
        objects.remove(&id);
    } else {
        objects.insert(id.clone(), object(&request["dataObject"], body)?);
    }
    Ok(id)
}

/// An object as it is answered, with the fields that were asked for.
fn shown(name: &str, object: &Object, data: Option<&Value>, vectors: Option<&Value>) -> Value {
    let asked = |fields: Option<&Value>, name: &str| {
        fields.is_none_or(|fields| {
            fields.as_array().is_some_and(|fields| fields.iter().any(|field| field == name))
        })
    };
    let data: Map<String, Value> =
        object.data.clone().into_iter().filter(|(name, _)| asked(data, name)).collect();
    let mut body = json!({"name": name, "data": data});
    if asked(vectors, "embedding") {
        body["vectors"] = json!({"embedding": {"dense": {"values": object.vector}}});
    }
    body
}

/// How many come next, and from where.
fn pages(body: &Value, most: Option<usize>, all: usize) -> Answer<(usize, usize)> {
    let size = match &body["pageSize"] {
        Value::Null => 0,
        // The definitions say that more is taken for 1000; whoever asks for more is wrong.
        size => match size.as_u64().map(|size| size as usize) {
            Some(size) if size <= MOST => size,
            _ => return Err(invalid("page_size lies in 0 to 1000")),
        },
    };
    let start = match body["pageToken"].as_str().unwrap_or_default() {
        "" => 0,
        token => token.parse().map_err(|_| invalid("page_token"))?,
    };
    let size = if size == 0 { all } else { size };
    Ok((start, size.min(most.unwrap_or(usize::MAX))))
}

fn query(state: &mut State, parent: &str, body: &Value) -> Answer {
    let most = state.page;
    let found = collection(state, parent)?;
    let mut shown_objects = Vec::new();
    for (id, object) in &found.objects {
        if passes(&body["filter"], &object.data, &found.body["dataSchema"])? {
            let name = format!("{parent}/dataObjects/{id}");
            let fields = body.get("outputFields");
            let data = fields.map(|fields| &fields["dataFields"]);
            shown_objects.push(shown(&name, object, data, fields.map(|f| &f["vectorFields"])));
        }
    }
    let (start, size) = pages(body, most, shown_objects.len().max(1))?;
    let end = (start + size).min(shown_objects.len());
    let mut answer = json!({"dataObjects": shown_objects[start.min(end)..end]});
    if end < shown_objects.len() {
        answer["nextPageToken"] = json!(end.to_string());
    }
    Ok(answer)
}

fn search(state: &mut State, parent: &str, body: &Value) -> Answer {
    let (most, similarity) = (state.page, state.similarity);
    let found = collection(state, parent)?;
    let search = body.get("vectorSearch").ok_or_else(|| invalid("another kind of search"))?;
    let field = search["searchField"].as_str().unwrap_or_default();
    let wanted = found.body["vectorSchema"][field]["denseVector"]["dimensions"].as_u64();
    let asked = numbers(&search["vector"]["values"])?;
    if wanted != Some(asked.len() as u64) {
        return Err(invalid("a query of other dimensions than the schema's"));
    }
    let cosine = match &search["distanceMetric"] {
        Value::Number(number) if number.as_i64() == Some(2) => true,
        Value::String(name) if name == "COSINE_DISTANCE" => true,
        _ => false,
    };
    let top = search["topK"].as_u64().unwrap_or(10) as usize;
    if top == 0 {
        return Err(invalid("top_k"));
    }
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let mut near = Vec::new();
    for (id, object) in &found.objects {
        if passes(&search["filter"], &object.data, &found.body["dataSchema"])? {
            let mut likeness = dot(&asked, &object.vector);
            if cosine {
                let norms = dot(&asked, &asked) * dot(&object.vector, &object.vector);
                likeness /= norms.sqrt();
            }
            near.push((likeness, id, object));
        }
    }
    // The order of equals is none that could be relied on.
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| b.1.cmp(a.1)));
    near.truncate(top);
    let (start, size) = pages(body, most, near.len().max(1))?;
    let end = (start + size).min(near.len());
    let fields = &search["outputFields"];
    let results: Vec<Value> = near[start.min(end)..end]
        .iter()
        .map(|(likeness, id, object)| {
            let name = format!("{parent}/dataObjects/{id}");
            let data = Some(&fields["dataFields"]);
            let distance = if cosine && !similarity { 1.0 - likeness } else { *likeness };
            json!({
                "dataObject": shown(&name, object, data, Some(&fields["vectorFields"])),
                "distance": distance,
            })
        })
        .collect();
    let mut answer = json!({ "results": results });
    if end < near.len() {
        answer["nextPageToken"] = json!(end.to_string());
    }
    Ok(answer)
}
