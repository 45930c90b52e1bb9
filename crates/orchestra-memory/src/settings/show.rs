//! Settings as lines for an operator, without what may be a secret.

use memory_core::{Error, ErrorKind, Result};
use serde::Serialize;
use toml::{Table, Value};

use super::Settings;
use super::read::variable_of;

/// What stands in the place of a secret.
const HIDDEN: &str = "(set, not shown)";

/// Settings that may hold a secret and do not hide it themselves, and whether the part before the first `:` may be shown.
const SECRETS: [(&str, bool); 4] = [
    ("store", true),
    ("cache", true),
    ("embedding.http.url", true),
    ("embedding.http.api_key", false),
];

/// One setting, as it is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SettingEntry {
    /// Its path, such as `write.batch_size`.
    pub path: String,
    /// Its value as in TOML; what may be a secret is not shown.
    pub value: String,
    /// The variable that sets it.
    pub variable: String,
}

impl Settings {
    /// Every setting that has a value, by path. What is left out and has no default is not here.
    ///
    /// # Errors
    /// `Unexpected`: a value that TOML cannot hold.
    pub fn entries(&self) -> Result<Vec<SettingEntry>> {
        let table = Table::try_from(self).map_err(|error| {
            Error::new(ErrorKind::Unexpected, "the settings cannot be written as TOML")
                .with_source(error)
        })?;
        let mut entries = Vec::new();
        flatten(&super::sections::Section::all(), &table, &mut Vec::new(), &mut entries);
        if self.embedding.http.api_key.is_some() {
            // It is never written, and is shown as set all the same.
            entries.push(entry(&["embedding", "http", "api_key"], HIDDEN.to_owned()));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }
}

fn flatten<'t>(
    section: &super::sections::Section,
    table: &'t Table,
    path: &mut Vec<&'t str>,
    entries: &mut Vec<SettingEntry>,
) {
    for (key, value) in table {
        path.push(key);
        match (section.section(key), value) {
            (Some(inner), Value::Table(table)) => flatten(inner, table, path, entries),
            (_, value) => {
                let whole = path.join(".");
                let secret = SECRETS.iter().find(|(secret, _)| *secret == whole);
                entries.push(entry(path, shown(value, secret.map(|(_, scheme)| *scheme))));
            }
        }
        path.pop();
    }
}

fn entry(path: &[&str], value: String) -> SettingEntry {
    SettingEntry { path: path.join("."), value, variable: variable_of(path) }
}

/// A value; of a secret its scheme at the most, where it has one.
fn shown(value: &Value, secret: Option<bool>) -> String {
    let scheme = value.as_str().and_then(|text| text.split_once(':')).map(|(scheme, _)| scheme);
    match (secret, scheme) {
        (None, _) => value.to_string(),
        (Some(true), Some(scheme)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            format!("{scheme}:... {HIDDEN}")
        }
        _ => HIDDEN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_shown_but_secrets() {
        let settings = Settings::from_toml_str(
            "store = 'redis://u:sk-1@h'\ncache = 'rediss://u:sk-0@h'\n[write]\nbatch_size = 7\n[embedding.http]\n\
             url = 'https://h/v1?key=sk-2'\napi_key = 'sk-3'\n",
        )
        .unwrap();
        let entries = settings.entries().unwrap();
        let value = |path: &str| {
            entries.iter().find(|entry| entry.path == path).map(|entry| entry.value.as_str())
        };
        assert_eq!(value("write.batch_size"), Some("7"));
        assert_eq!(value("tenant"), Some("\"default\""));
        assert_eq!(value("store"), Some("redis:... (set, not shown)"));
        assert_eq!(value("cache"), Some("rediss:... (set, not shown)"));
        assert_eq!(value("embedding.http.api_key"), Some("(set, not shown)"));
        assert_eq!(value("embedding.model"), None, "it has no value");
        assert!(!format!("{entries:?}").contains("sk-"), "{entries:?}");
        let entry = entries.iter().find(|entry| entry.path == "read.page_size").unwrap();
        assert_eq!(entry.variable, "ORCHESTRA_MEMORY__READ__PAGE_SIZE");
        assert!(entries.iter().any(|entry| entry.path.starts_with("layers.")));
    }
}
