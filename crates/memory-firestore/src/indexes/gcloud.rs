//! Definitions as `gcloud` commands.

use serde_json::json;

use super::{Composite, How, IndexDefinitions, Override};

/// One command for each definition, in their order.
pub(super) fn commands(definitions: &IndexDefinitions) -> Vec<String> {
    let IndexDefinitions { project, database, composites, overrides } = definitions;
    let mut place = vec![format!("--database={database}")];
    if !project.is_empty() {
        place.insert(0, format!("--project={project}"));
    }
    let line = |words: Vec<String>| {
        let words = ["gcloud".to_owned(), "firestore".to_owned()]
            .into_iter()
            .chain(words)
            .map(|word| quoted(&word));
        words.collect::<Vec<_>>().join(" ")
    };
    let composites = composites.iter().map(|composite| create(composite, &place));
    let overrides = overrides.iter().flat_map(|said| update(said, &place));
    composites.chain(overrides).map(line).collect()
}

fn create(composite: &Composite, place: &[String]) -> Vec<String> {
    let mut words: Vec<_> = ["indexes", "composite", "create"].map(str::to_owned).into();
    words.extend_from_slice(place);
    words.push(format!("--collection-group={}", composite.collection));
    words.push("--query-scope=COLLECTION".to_owned());
    let config = |(path, how): &(String, How)| format!("--field-config={}", config(path, *how));
    words.extend(composite.fields.iter().map(config));
    // Each takes minutes, and one need not wait for another.
    words.push("--async".to_owned());
    words
}

fn config(path: &str, how: How) -> String {
    // The short form parts its words at commas; the other one is JSON.
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    let (key, value) = match how {
        How::Ascending => ("order", "ascending"),
        How::Descending => ("order", "descending"),
        How::Contains => ("array-config", "contains"),
        How::Vector(dimensions) => {
            let vector = json!({ "dimension": dimensions, "flat": {} });
            return json!({ "field-path": path, "vector-config": vector }).to_string();
        }
    };
    if plain {
        format!("field-path={path},{key}={value}")
    } else {
        json!({ "field-path": path, key: value }).to_string()
    }
}

fn update(said: &Override, place: &[String]) -> Vec<Vec<String>> {
    let words = |verb: [&str; 3], flag: &str| {
        let mut words: Vec<_> = verb.map(str::to_owned).into();
        words.push(said.field.clone());
        words.extend_from_slice(place);
        words.push(format!("--collection-group={}", said.collection));
        words.push(flag.to_owned());
        words.push("--async".to_owned());
        words
    };
    let mut commands = Vec::new();
    if !said.indexed {
        commands.push(words(["indexes", "fields", "update"], "--disable-indexes"));
    }
    if said.ttl {
        commands.push(words(["fields", "ttls", "update"], "--enable-ttl"));
    }
    commands
}

/// A word of a POSIX shell's command.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=.,/:".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
