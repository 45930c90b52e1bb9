//! Index definitions as the checker reads them: the text of `firestore.indexes.json`, and nothing
//! else.

use std::collections::BTreeSet;

use serde_json::Value;

/// A field path, by its parts: `` a.`b.c` `` is `a` and `b.c`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(pub(crate) Vec<String>);

impl Path {
    /// The document's name, which ends every order.
    pub(crate) fn name() -> Self {
        Self(vec!["__name__".to_owned()])
    }

    /// Reads a path with its quotes.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut part, mut letters) = (Vec::new(), String::new(), text.chars());
        let (mut quoted, mut was_quoted) = (false, false);
        while let Some(letter) = letters.next() {
            match letter {
                '`' if quoted => quoted = false,
                '`' if part.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
                '\\' if quoted => {
                    part.push(letters.next().ok_or_else(|| format!("`{text}` ends in an escape"))?);
                }
                '.' if !quoted => {
                    parts.push(std::mem::take(&mut part));
                    was_quoted = false;
                }
                letter if quoted || letter.is_ascii_alphanumeric() || letter == '_' => {
                    part.push(letter);
                }
                letter => {
                    return Err(format!("the path {text} has a {letter:?} outside of quotes"));
                }
            }
        }
        if quoted {
            return Err(format!("a quote of the path {text} does not end"));
        }
        parts.push(part);
        if parts.iter().any(String::is_empty) {
            return Err(format!("the path {text} has an empty part"));
        }
        Ok(Self(parts))
    }
}

/// What a query's collection is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One collection.
    Collection,
    /// All collections of the name.
    Group,
}

/// How a field stands in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Ascending,
    Descending,
    Contains,
    /// A vector of so many dimensions.
    Vector(u64),
}

/// An index over several fields, or over a vector.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Composite {
    pub(crate) group: String,
    pub(crate) scope: Scope,
    pub(crate) fields: Vec<(Path, Mode)>,
}

/// What one field has in place of the automatic indexes.
#[derive(Clone, Debug)]
pub(crate) struct Override {
    pub(crate) group: String,
    pub(crate) path: Path,
    pub(crate) ttl: bool,
    pub(crate) indexes: Vec<(Scope, Mode)>,
}

/// All definitions of a database.
#[derive(Clone, Debug)]
pub(crate) struct Definitions {
    pub(crate) composites: Vec<Composite>,
    pub(crate) overrides: Vec<Override>,
}

fn only(value: &Value, known: &[&str]) -> Result<(), String> {
    let object = value.as_object().ok_or_else(|| format!("{value} is no object"))?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("{key} is not a part of {value}")),
        None => Ok(()),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value[key].as_str().ok_or_else(|| format!("{value} has no {key}"))
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a [Value], String> {
    value[key].as_array().map(Vec::as_slice).ok_or_else(|| format!("{value} has no list of {key}"))
}

fn scope(value: &Value) -> Result<Scope, String> {
    match text(value, "queryScope")? {
        "COLLECTION" => Ok(Scope::Collection),
        "COLLECTION_GROUP" => Ok(Scope::Group),
        other => Err(format!("{other} is no scope")),
    }
}

fn mode(value: &Value) -> Result<Mode, String> {
    let order = value.get("order").map(|order| match order.as_str() {
        Some("ASCENDING") => Ok(Mode::Ascending),
        Some("DESCENDING") => Ok(Mode::Descending),
        _ => Err(format!("{order} is no order")),
    });
    let contains = value.get("arrayConfig").map(|config| match config.as_str() {
        Some("CONTAINS") => Ok(Mode::Contains),
        _ => Err(format!("{config} is nothing for lists")),
    });
    let vector = value.get("vectorConfig").map(|config| {
        only(config, &["dimension", "flat"])?;
        let flat = config["flat"].as_object().is_some_and(serde_json::Map::is_empty);
        match config["dimension"].as_u64() {
            Some(dimension @ 1..=2_048) if flat => Ok(Mode::Vector(dimension)),
            _ => Err(format!("{config} is nothing for vectors")),
        }
    });
    let mut all = [order, contains, vector].into_iter().flatten();
    match (all.next(), all.next()) {
        (Some(mode), None) => mode,
        _ => Err(format!("{value} is one of order, arrayConfig and vectorConfig")),
    }
}

impl Definitions {
    /// Reads the definitions and holds each against the service's rules.
    pub(crate) fn parse(json: &Value) -> Result<Self, String> {
        only(json, &["indexes", "fieldOverrides"])?;
        let composites = list(json, "indexes")?.iter().map(composite).collect::<Result<_, _>>()?;
        let overrides = list(json, "fieldOverrides")?.iter().map(one).collect::<Result<_, _>>()?;
        let read = Self { composites, overrides };
        read.no_doubles()?;
        Ok(read)
    }

    fn no_doubles(&self) -> Result<(), String> {
        for (at, index) in self.composites.iter().enumerate() {
            if self.composites[..at].contains(index) {
                return Err(format!("{index:?} is defined twice"));
            }
        }
        if self.composites.len() > 1_000 {
            return Err("a database has at most 1,000 composite indexes".to_owned());
        }
        let mut fields = BTreeSet::new();
        let mut expiring = BTreeSet::new();
        for one in &self.overrides {
            if !fields.insert((&one.group, &one.path)) {
                return Err(format!("{one:?} is overridden twice"));
            }
            if one.ttl && !expiring.insert(&one.group) {
                return Err(format!("{} has two fields of expiry", one.group));
            }
        }
        Ok(())
    }

    /// The single-field indexes of a field: those of its override, or of the nearest map around it
    /// that has one, or the automatic ones.
    pub(crate) fn of_field(&self, group: &str, path: &Path) -> Vec<(Scope, Mode)> {
        let overridden = (1..=path.0.len()).rev().find_map(|length| {
            let mut all = self.overrides.iter();
            all.find(|one| one.group == group && one.path.0[..] == path.0[..length])
        });
        match overridden {
            Some(one) => one.indexes.clone(),
            None if *path == Path::name() => Vec::new(),
            None => [Mode::Ascending, Mode::Descending, Mode::Contains]
                .map(|mode| (Scope::Collection, mode))
                .to_vec(),
        }
    }

    /// The fields of a group that have no index of their own.
    pub(crate) fn exempt(&self, group: &str) -> BTreeSet<String> {
        let all = self.overrides.iter();
        all.filter(|one| one.group == group && one.indexes.is_empty() && !one.ttl)
            .map(|one| one.path.0.join("."))
            .collect()
    }

    /// The field of a group that the service deletes documents by.
    pub(crate) fn expiring(&self, group: &str) -> Option<String> {
        let mut all = self.overrides.iter();
        all.find(|one| one.group == group && one.ttl).map(|one| one.path.0.join("."))
    }
}

fn composite(value: &Value) -> Result<Composite, String> {
    only(value, &["collectionGroup", "queryScope", "fields"])?;
    let fields = list(value, "fields")?
        .iter()
        .map(|field| {
            only(field, &["fieldPath", "order", "arrayConfig", "vectorConfig"])?;
            Ok((Path::parse(text(field, "fieldPath")?)?, mode(field)?))
        })
        .collect::<Result<Vec<_>, String>>()?;
    let is_vector = |(_, mode): &(Path, Mode)| matches!(mode, Mode::Vector(_));
    let vectors = fields.iter().filter(|field| is_vector(field)).count();
    if vectors > 1 || (vectors == 1 && !fields.last().is_some_and(is_vector)) {
        return Err(format!("{value}: one vector, at the end"));
    }
    if fields.iter().filter(|(_, mode)| *mode == Mode::Contains).count() > 1 {
        return Err(format!("{value}: one list at the most"));
    }
    let paths: BTreeSet<_> = fields.iter().map(|(path, _)| path).collect();
    if paths.len() != fields.len() {
        return Err(format!("{value}: a field stands in it twice"));
    }
    if fields.len() > 100 || fields.is_empty() || (vectors == 0 && fields.len() == 1) {
        return Err(format!("{value}: 2 to 100 fields, or a vector alone"));
    }
    Ok(Composite {
        group: text(value, "collectionGroup")?.to_owned(),
        scope: scope(value)?,
        fields,
    })
}

fn one(value: &Value) -> Result<Override, String> {
    only(value, &["collectionGroup", "fieldPath", "ttl", "indexes"])?;
    let indexes = list(value, "indexes")?
        .iter()
        .map(|index| {
            only(index, &["order", "arrayConfig", "queryScope"])?;
            Ok((scope(index)?, mode(index)?))
        })
        .collect::<Result<_, String>>()?;
    let ttl = match value.get("ttl") {
        None => false,
        Some(ttl) => ttl.as_bool().ok_or_else(|| format!("{value}: ttl is true or false"))?,
    };
    let path = Path::parse(text(value, "fieldPath")?)?;
    Ok(Override { group: text(value, "collectionGroup")?.to_owned(), path, ttl, indexes })
}
