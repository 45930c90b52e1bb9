//! Settings from a file's text and from variables: every fault is found before one is told.
//!
//! Each value is held against its field alone, in settings that are otherwise the defaults. So one
//! of a wrong type hides no other, and a variable's text is taken as whatever its field takes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use memory_core::{Error, Result};
use serde::de::Error as _;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::sections::{Section, absent};
use super::{Settings, config, refused};
use crate::nearest::{describe_unknown, nearest};
use crate::registry::not_compiled;

/// What the names of variables begin with.
pub const ENV_PREFIX: &str = "ORCHESTRA_MEMORY__";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingSource {
    /// The text of the settings file.
    File,
    /// This variable of the environment.
    Variable(String),
}

/// Settings that were read, and where each value that is not a default comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadedSettings {
    /// The settings, checked.
    pub settings: Settings,
    /// By the setting's path, such as `write.batch_size`. What is not here has its default.
    pub sources: BTreeMap<String, SettingSource>,
}

impl LoadedSettings {
    /// The names of the variables that were taken, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let names: BTreeSet<&str> = self
            .sources
            .values()
            .filter_map(|source| match source {
                SettingSource::Variable(name) => Some(name.as_str()),
                SettingSource::File => None,
            })
            .collect();
        names.into_iter()
    }
}

type Path = Vec<String>;

/// What was read so far.
struct Reading {
    sections: Section,
    values: BTreeMap<Path, (Value, SettingSource)>,
    faults: Vec<String>,
    /// First parts of the paths of values that were left out as faulty.
    spoiled: BTreeSet<String>,
}

/// Reads a file's text and variables over it.
pub(super) fn read<K, V>(
    text: &str,
    variables: impl IntoIterator<Item = (K, V)>,
) -> Result<LoadedSettings>
where
    K: Into<OsString>,
    V: Into<OsString>,
{
    let mut reading = Reading {
        sections: Section::all(),
        values: BTreeMap::new(),
        faults: Vec::new(),
        spoiled: BTreeSet::new(),
    };
    reading.file(text)?;
    let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
    let is_ours = |name: &OsStr| name.as_encoded_bytes().starts_with(ENV_PREFIX.as_bytes());
    let mut ours: Vec<(OsString, OsString)> =
        variables.filter(|(name, value)| is_ours(name) && !value.is_empty()).collect();
    ours.sort();
    for (name, value) in ours {
        reading.variable(&name, &value)?;
    }
    reading.end()
}

impl Reading {
    fn file(&mut self, text: &str) -> Result<()> {
        let spanned = DeTable::parse(text).map_err(|error| malformed(&error, text))?;
        let table: Table = text.parse().map_err(|error| malformed(&error, text))?;
        if let Some((key, feature)) = table.keys().find_map(|key| Some((key, absent(key)?))) {
            return Err(not_compiled(&format!("the section [{key}]"), feature));
        }
        let (mut leaves, mut unknown) = (Vec::new(), Vec::new());
        walk(&self.sections, table, &mut Vec::new(), &mut leaves, &mut unknown);
        self.faults.append(&mut unknown);
        for (path, value) in leaves {
            match check(&path, &value) {
                Ok(()) => drop(self.values.insert(path, (value, SettingSource::File))),
                Err(message) => {
                    let line = line_of(spanned.get_ref(), &path, text);
                    // A file holds passwords as well: what is wanted is said, not what is there.
                    let message = format!("{}: {}", path.join("."), wanted(&message));
                    let fault = format!("the settings are malformed at line {line}: {message}");
                    self.faults.push(fault);
                    self.spoiled.extend(path.into_iter().next());
                }
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: &OsStr, value: &OsStr) -> Result<()> {
        let shown = shown(name);
        let Some(path) = name.to_str().and_then(path_of) else {
            self.faults.push(format!("unknown variable `{shown}`: it is not UTF-8"));
            return Ok(());
        };
        if let Some(feature) = path.first().and_then(|key| absent(key)) {
            return Err(not_compiled(&format!("the variable `{shown}`"), feature));
        }
        let mut section = &self.sections;
        for (place, key) in path.iter().enumerate() {
            if !section.keys.contains(&key.as_str()) {
                let before = &path[..place];
                self.faults.push(unknown_variable(&shown, before, key, section.keys));
                return Ok(());
            }
            match (section.section(key), place + 1 == path.len()) {
                (Some(inner), false) => section = inner,
                (None, true) => {}
                (Some(inner), true) => {
                    let example = inner.keys.first().copied().unwrap_or_default();
                    self.faults.push(format!(
                        "the variable `{shown}` names a section: name one of its settings, as in \
                         `{shown}__{}`",
                        example.to_uppercase()
                    ));
                    return Ok(());
                }
                (None, false) => {
                    let whole = path[..=place].join(".");
                    self.faults.push(format!(
                        "unknown variable `{shown}`; `{whole}` is one value, written as in TOML"
                    ));
                    return Ok(());
                }
            }
        }
        let Some(value) = value.to_str() else {
            self.faults.push(format!("the variable `{shown}` is not UTF-8"));
            self.spoiled.extend(path.into_iter().next());
            return Ok(());
        };
        if let Some((_, SettingSource::Variable(other))) = self.values.get(&path) {
            let fault = format!("the variables `{other}` and `{shown}` name one setting");
            self.faults.push(fault);
            return Ok(());
        }
        match taken(&path, value) {
            Ok(value) => {
                self.values.insert(path, (value, SettingSource::Variable(shown)));
            }
            Err(why) => {
                let setting = path.join(".");
                self.faults.push(format!("the variable `{shown}` is no {setting}: {why}"));
                self.spoiled.extend(path.into_iter().next());
            }
        }
        Ok(())
    }

    /// The settings, if nothing is wrong with any value.
    fn end(mut self) -> Result<LoadedSettings> {
        let mut table = Table::new();
        let mut sources = BTreeMap::new();
        for (path, (value, source)) in self.values {
            sources.insert(path.join("."), source);
            put(&mut table, &path, value);
        }
        let settings = settings_of(&table).map_err(|error| {
            config(format!("the settings are malformed: {}", wanted(error.message())))
        })?;
        for (section, faults) in settings.faults_by_section() {
            // What goes wrong without a value that was left out need not be wrong with it.
            if !self.spoiled.contains(section) {
                self.faults.extend(faults.into_iter().map(|fault| named(fault, &sources)));
            }
        }
        refused(self.faults)?;
        Ok(LoadedSettings { settings, sources })
    }
}

/// A fault, with the variable that the value came from.
fn named(fault: String, sources: &BTreeMap<String, SettingSource>) -> String {
    let begins = |path: &str| {
        let rest = fault.strip_prefix(path);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let mut of = sources.iter().filter(|(path, _)| begins(path));
    match of.next_back() {
        Some((_, SettingSource::Variable(name))) => format!("{fault} (from the variable `{name}`)"),
        _ => fault,
    }
}

/// Takes a table apart into values, and names the keys that nothing reads.
fn walk(
    section: &Section,
    table: Table,
    path: &mut Path,
    leaves: &mut Vec<(Path, Value)>,
    unknown: &mut Vec<String>,
) {
    for (key, value) in table {
        if !section.keys.contains(&key.as_str()) {
            let mut fault = describe_unknown("setting", &key, section.keys);
            if !path.is_empty() {
                fault.push_str(&format!(" (section={})", path.join(".")));
            }
            unknown.push(fault);
            continue;
        }
        let inner = section.section(&key);
        path.push(key);
        match (inner, value) {
            (Some(inner), Value::Table(table)) => walk(inner, table, path, leaves, unknown),
            (_, value) => leaves.push((path.clone(), value)),
        }
        path.pop();
    }
}

/// Whether a field takes a value; if not, why.
fn check(path: &[String], value: &Value) -> Result<(), String> {
    let mut table = Table::new();
    put(&mut table, path, value.clone());
    settings_of(&table).map(drop).map_err(|error| error.message().to_owned())
}

/// A table as settings. By way of its text, whose reader takes no date for a text.
fn settings_of(table: &Table) -> Result<Settings, toml::de::Error> {
    let text = toml::to_string(table).map_err(toml::de::Error::custom)?;
    toml::from_str(&text)
}

/// A variable's text as its field takes it: as it stands, or else as a value of TOML.
///
/// # Errors
/// What the field takes; never the text, which may be a secret.
fn taken(path: &[String], text: &str) -> Result<Value, String> {
    let text_value = Value::String(text.to_owned());
    let Err(as_text) = check(path, &text_value) else { return Ok(text_value) };
    let parsed = format!("value = {text}").parse::<Table>().ok();
    // A line break could bring in other keys.
    let parsed =
        parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    match parsed.map(|value| (check(path, &value), value)) {
        Some((Ok(()), value)) => Ok(value),
        _ => Err(wanted(&as_text)),
    }
}

/// What a message of the reader says that it wanted, without what it found.
fn wanted(message: &str) -> String {
    let of_the_reader =
        ["invalid type:", "invalid value:", "invalid length", "unknown variant", "unknown field"];
    if !of_the_reader.iter().any(|start| message.starts_with(start)) {
        // The project's own, which repeat no value.
        return message.to_owned();
    }
    match message.rfind(", expected ") {
        Some(place) => format!("expected {}", &message[place + ", expected ".len()..]),
        None => "it is of another type".to_owned(),
    }
}

fn put(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => drop(table.insert(key.clone(), value)),
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// The path of a variable's name: `ORCHESTRA_MEMORY__WRITE__BATCH_SIZE` is `write.batch_size`.
fn path_of(name: &str) -> Option<Path> {
    let rest = name.strip_prefix(ENV_PREFIX)?;
    Some(rest.split("__").map(str::to_lowercase).collect())
}

/// The variable of a setting's path.
pub(super) fn variable_of(path: &[&str]) -> String {
    format!("{ENV_PREFIX}{}", path.join("__").to_uppercase())
}

fn unknown_variable(shown: &str, before: &[String], key: &str, keys: &[&str]) -> String {
    let full = |key: &str| {
        let mut path: Vec<&str> = before.iter().map(String::as_str).collect();
        path.push(key);
        variable_of(&path)
    };
    match nearest(key, keys) {
        Some(near) => format!("unknown variable `{shown}`; did you mean `{}`?", full(near)),
        None => {
            let known = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
            format!("unknown variable `{shown}`; known there: {known}")
        }
    }
}

/// A variable's name as it may be shown: cut, and without control characters.
fn shown(name: &OsStr) -> String {
    name.to_string_lossy().chars().filter(|c| !c.is_control()).take(120).collect()
}

/// The line of a value.
fn line_of(table: &DeTable<'_>, path: &[String], text: &str) -> usize {
    let mut table = table;
    for (place, key) in path.iter().enumerate() {
        let Some(value) = table.get(key.as_str()) else { break };
        match value.get_ref() {
            DeValue::Table(inner) if place + 1 < path.len() => table = inner,
            _ => return line(text, value.span().start),
        }
    }
    0
}

fn line(text: &str, place: usize) -> usize {
    text.get(..place).map_or(0, |before| before.matches('\n').count() + 1)
}

/// An error of the TOML reader, with its line and without the text of the file, which may hold a
/// password.
fn malformed(error: &toml::de::Error, text: &str) -> Error {
    let line = error.span().map_or(0, |span| line(text, span.start));
    config(format!("the settings are malformed at line {line}: {}", error.message()))
}

#[cfg(test)]
mod tests {
    use memory_core::ErrorKind;

    use super::*;
    use crate::settings::{OnEmbedFailure, Provider};

    const NONE: [(&str, &str); 0] = [];

    fn refused_with(text: &str, variables: &[(&str, &str)]) -> String {
        let error = Settings::load(text, variables.iter().copied()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        error.message().to_owned()
    }

    #[test]
    fn all_faults_are_told_at_once_one_a_line() {
        let text = "stor = 'memory:'\ntenant = 7\n[write]\nbatchsize = 1\nbatch_size = 'x'\n\
                    [read]\npage_size = 0\n[search]\nmin_candidates = 0\ncandidates_per_hit = 0\n\
                    [search.keyword]\nk1 = -1.0\n[cost]\ncurrency = ''\nread_price = -1.0\n\
                    [embedding]\nbatch_size = 0\ndimensions = 3\n[colours]\n";
        let variables = [
            ("ORCHESTRA_MEMORY__EXPORT__PAGE_SIZE", "many"),
            ("ORCHESTRA_MEMORY__IMPORT__LINE_BYTES", "1"),
            ("ORCHESTRA_MEMORY__IMPORT__LINE_BYTE", "4096"),
        ];
        let message = refused_with(text, &variables);
        let lines: Vec<&str> = message.lines().collect();
        for part in [
            "unknown setting `stor`; did you mean `store`?",
            "unknown setting `batchsize`; did you mean `batch_size`?",
            "unknown setting `colours`",
            "line 2",
            "line 5",
            "read.page_size lies in 1 to 1000; this is 0",
            "search.min_candidates",
            "search.candidates_per_hit",
            "search.keyword.k1",
            "cost.currency",
            "cost.read_price",
            "embedding.batch_size",
            "`auto` has its own model",
            "the variable `ORCHESTRA_MEMORY__EXPORT__PAGE_SIZE` is no export.page_size: expected u32",
            "import.line_bytes lies in 1024 to 67108864; this is 1 (from the variable \
             `ORCHESTRA_MEMORY__IMPORT__LINE_BYTES`)",
            "`ORCHESTRA_MEMORY__IMPORT__LINE_BYTE`; did you mean \
             `ORCHESTRA_MEMORY__IMPORT__LINE_BYTES`?",
        ] {
            let of = lines.iter().filter(|line| line.contains(part)).count();
            assert_eq!(of, 1, "{part}: {message}");
        }
        assert_eq!((lines.len(), lines[0]), (17, "16 settings are wrong:"), "{message}");
        // One alone stands as it is.
        assert_eq!(refused_with("[read]\npage_size = 0", &[]).lines().count(), 1);
    }

    #[test]
    fn more_faults_than_anybody_reads_are_counted() {
        let text: String = (0..80).map(|n| format!("unknown_{n} = 1\n")).collect();
        let message = refused_with(&text, &[]);
        assert!(message.starts_with("80 settings") && message.ends_with("and 30 more"));
        assert_eq!(message.lines().count(), 52);
    }

    #[test]
    fn variables_beat_the_file_and_are_taken_as_their_settings_are() {
        let text = "tenant = 'file'\n[write]\nbatch_size = 1\nsweep_step = 2\n";
        let variables = [
            ("ORCHESTRA_MEMORY__STORE", "memory:"),
            ("ORCHESTRA_MEMORY__TENANT", "7"),
            ("ORCHESTRA_MEMORY__WRITE__BATCH_SIZE", "9"),
            ("ORCHESTRA_MEMORY__COST__READ_PRICE", "2"),
            ("ORCHESTRA_MEMORY__COST__DAILY_READS", "5"),
            ("ORCHESTRA_MEMORY__EMBEDDING__PROVIDER", "none"),
            ("ORCHESTRA_MEMORY__EMBEDDING__ON_FAILURE", "refuse"),
            ("ORCHESTRA_MEMORY__EMBEDDING__HTTP__SEND_DIMENSIONS", "true"),
            ("ORCHESTRA_MEMORY__EMBEDDING__HTTP__API_KEY", "12345"),
            ("ORCHESTRA_MEMORY__EMBEDDING__HTTP__QUERY_PREFIX", "say \"x\" = "),
            ("ORCHESTRA_MEMORY__READ__PAGE_SIZE", ""),
            ("ORCHESTRA_MEMORY_TENANT", "not ours"),
            ("PATH", "/bin"),
        ];
        let loaded = Settings::load(text, variables).unwrap();
        let settings = &loaded.settings;
        assert_eq!(settings.store.as_deref(), Some("memory:"));
        assert_eq!(settings.tenant.as_str(), "7", "a text stays one");
        assert_eq!((settings.write.batch_size, settings.write.sweep_step), (9, 2));
        assert_eq!((settings.cost.read_price, settings.cost.daily_reads), (2.0, Some(5)));
        assert_eq!(settings.embedding.provider, Some(Provider::None));
        assert_eq!(settings.embedding.on_failure, OnEmbedFailure::Refuse);
        assert!(settings.embedding.http.send_dimensions);
        assert_eq!(settings.embedding.http.api_key.as_ref().unwrap().expose(), "12345");
        assert_eq!(settings.embedding.http.query_prefix, "say \"x\" = ");
        assert_eq!(settings.read.page_size, 50, "an empty one is not set");
        let source = |path: &str| loaded.sources.get(path).cloned();
        assert_eq!(source("write.sweep_step"), Some(SettingSource::File));
        let name = "ORCHESTRA_MEMORY__WRITE__BATCH_SIZE".to_owned();
        assert_eq!(source("write.batch_size"), Some(SettingSource::Variable(name)));
        assert_eq!(source("read.page_size"), None);
        assert_eq!(loaded.variables().count(), 10);
        let plain = Settings::from_toml_str(text).unwrap();
        assert_eq!(plain.tenant.as_str(), "file", "nothing is read that was not asked for");
        let same = Settings::from_toml_str_and_env(text, NONE).unwrap();
        assert_eq!(plain, same);
    }

    #[test]
    fn a_variable_that_is_wrong_is_named_and_never_its_value() {
        for (name, value, part) in [
            ("EMBEDDING__PROVIDER", "sk-secret", "expected one of `auto`, `none`"),
            ("EMBEDDING__HTTP__TIMEOUT_MS", "sk-secret", "expected u64"),
            ("EMBEDDING__HTTP__TIMEOUT_MS", "1\nmax_batch = 5", "expected u64"),
            ("EMBEDDING__HTTP__SEND_DIMENSIONS", "sk-secret, expected u8", "expected a boolean"),
            ("EMBEDDING__HTTP__API_KY", "sk-secret", "__HTTP__API_KEY`?"),
            ("EMBEDDING__HTTP", "sk-secret", "names a section"),
            ("TENANT__NAME", "sk-secret", "`tenant` is one value"),
            ("STOR", "sk-secret", "did you mean `ORCHESTRA_MEMORY__STORE`?"),
            ("NOTHING__LIKE_IT", "sk-secret", "known there: store"),
            ("", "sk-secret", "known there: store"),
            ("TENANT", "sk-secret\u{0}", "tenant"),
            ("WRITE__BATCH_SIZE", "0", "write.batch_size lies in"),
        ] {
            let name = format!("{ENV_PREFIX}{name}");
            let message = refused_with("", &[(&name, value)]);
            assert!(message.contains(part) && message.contains(&name), "{name}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStringExt as _;
        let bad = || OsString::from_vec(b"\xffsecret".to_vec());
        let mut name = OsString::from(ENV_PREFIX);
        name.push(bad());
        for pair in [("ORCHESTRA_MEMORY__STORE".into(), bad()), (name, OsString::from("x"))] {
            let error = Settings::load("", [pair]).unwrap_err();
            assert!(error.message().contains("not UTF-8"), "{error}");
        }
    }

    #[cfg(feature = "firestore")]
    #[test]
    fn a_table_is_written_as_in_toml() {
        let name = "ORCHESTRA_MEMORY__FIRESTORE__FILTER_KEYS";
        let settings = Settings::from_toml_str_and_env("", [(name, "{ topic = 'text' }")]).unwrap();
        assert_eq!(settings.firestore.filter_keys.len(), 1);
    }

    #[test]
    fn what_a_file_holds_is_not_repeated_and_one_setting_has_one_variable() {
        let none = Vec::<(String, String)>::new;
        for text in [
            "[embedding]\nprovider = 'sk-secret'",
            "[embedding.http]\ntimeout_ms = 'sk-secret'",
            "[embedding.http]\nsend_dimensions = 'sk-secret, expected u8'",
        ] {
            let error = read(text, none()).unwrap_err().to_string();
            assert!(error.contains("line 2: embedding.") && error.contains("expected"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let name = |tail: &str| (format!("{ENV_PREFIX}{tail}"), "7".to_owned());
        let twice = vec![name("WRITE__BATCH_SIZE"), name("write__batch_size")];
        let error = read("", twice).unwrap_err().to_string();
        assert!(error.contains("name one setting"), "{error}");
        assert!(read("", vec![name("WRITE__BATCH_SIZE")]).is_ok());
    }

    #[test]
    fn a_fault_hides_no_other_section_and_brings_no_other_fault() {
        // Without the dimensions, which are of a wrong type, the model seems to lack them.
        let message = refused_with("[embedding]\nmodel = 'm'\ndimensions = 'x'\n", &[]);
        assert!(message.contains("line 3") && message.lines().count() == 1, "{message}");
    }
}
