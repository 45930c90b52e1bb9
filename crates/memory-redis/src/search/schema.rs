//! What indexes are made of: attributes, their types, and the command that makes an index.
//!
//! Attributes have names of their own, so that a search can ask for the stored bytes of a field by
//! the field's name: what it asks for by an attribute's name comes as the engine understood it, a
//! time as a rounded double.

use memory_core::{EmbeddingSpace, Field, Metric};
use redis::{Cmd, cmd};

use crate::fields as f;
use crate::keys::TenantKeys;
use crate::settings::{FilterKeyType, RedisSettings, VectorSettings};

/// The attribute of the importance.
pub(super) const IMPORTANCE: &str = "qi";
/// The attribute of the time until which a memory is visible.
pub(super) const VISIBLE: &str = "qe";
/// The attribute of the words.
pub(super) const WORDS: &str = "qw";
/// The attribute of the codes of authors.
pub(super) const NAMES: &str = "qn";
/// The attribute of the vectors.
pub(super) const VECTOR: &str = "qv";
/// What separates tags that must stay whole: ids have no control character.
const WHOLE: &str = "\u{1}";

const TAGS: [(Field, &str, &str); 6] = [
    (Field::UserId, f::USER, "qu"),
    (Field::AgentId, f::AGENT, "qa"),
    (Field::SessionId, f::SESSION, "qs"),
    (Field::Kind, f::KIND, "qk"),
    (Field::Role, f::ROLE, "qr"),
    (Field::Author, f::AUTHOR, "qb"),
];
const TIMES: [(Field, &str, &str); 4] = [
    (Field::OccurredAt, f::OCCURRED, "qo"),
    (Field::CreatedAt, f::CREATED, "qc"),
    (Field::UpdatedAt, f::UPDATED, "qd"),
    (Field::ExpiresAt, f::VISIBLE, VISIBLE),
];

/// The attribute of a text that every memory has one of at the most.
pub(super) fn tag_attribute(field: &Field) -> Option<&'static str> {
    TAGS.iter().find(|(known, ..)| known == field).map(|(.., attribute)| *attribute)
}

/// The attribute of a time.
pub(super) fn time_attribute(field: &Field) -> Option<&'static str> {
    TIMES.iter().find(|(known, ..)| known == field).map(|(.., attribute)| *attribute)
}

/// The attribute of a declared metadata key, by its place among them.
pub(super) fn metadata_attribute(at: usize) -> String {
    format!("qm{at}")
}

/// What an index holds beside filters.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holds<'a> {
    /// The words.
    Words,
    /// The vectors of a space.
    Vectors(&'a EmbeddingSpace, Kind),
}

/// How vectors are indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Each is compared.
    Flat,
    /// By a graph of neighbours.
    Graph,
}

/// The command that makes an index. Without `scan` it holds only what is written from then on.
pub(super) fn create(
    settings: &RedisSettings,
    keys: &TenantKeys,
    name: &str,
    holds: Holds<'_>,
    scan: bool,
) -> Cmd {
    let mut create = cmd("FT.CREATE");
    create.arg(keys.engine_index(name)).arg("ON").arg("HASH");
    create.arg("PREFIX").arg(1).arg(keys.memories());
    create.arg("STOPWORDS").arg(0).arg("NOHL").arg("NOOFFSETS").arg("NOFIELDS");
    if !scan {
        create.arg("SKIPINITIALSCAN");
    }
    create.arg("SCHEMA");
    match holds {
        Holds::Words => {
            create.arg(f::WORDS).arg("AS").arg(WORDS).arg("TEXT").arg("NOSTEM");
            tag(&mut create, f::NAMES, NAMES, &super::fields::SEPARATOR.to_string());
        }
        Holds::Vectors(space, kind) => vectors(&mut create, &settings.vectors, space, kind),
    }
    for (_, field, attribute) in &TAGS {
        tag(&mut create, field, attribute, WHOLE);
    }
    for (_, field, attribute) in &TIMES {
        create.arg(*field).arg("AS").arg(*attribute).arg("NUMERIC");
    }
    create.arg(f::IMPORTANCE).arg("AS").arg(IMPORTANCE).arg("NUMERIC");
    for (at, (key, kind)) in settings.filter_keys.iter().enumerate() {
        let (field, attribute) = (f::METADATA.to_owned() + key.as_str(), metadata_attribute(at));
        match kind {
            FilterKeyType::Number => {
                create.arg(field).arg("AS").arg(attribute).arg("NUMERIC");
            }
            FilterKeyType::Text | FilterKeyType::Bool | FilterKeyType::List => {
                tag(&mut create, &field, &attribute, &super::fields::SEPARATOR.to_string());
            }
        }
    }
    create
}

fn tag(create: &mut Cmd, field: &str, attribute: &str, separator: &str) {
    create.arg(field).arg("AS").arg(attribute).arg("TAG");
    create.arg("SEPARATOR").arg(separator).arg("CASESENSITIVE");
}

fn vectors(create: &mut Cmd, settings: &VectorSettings, space: &EmbeddingSpace, kind: Kind) {
    create.arg(TenantKeys::vector_field(&space.id())).arg("AS").arg(VECTOR).arg("VECTOR");
    let metric = match space.metric() {
        Metric::Cosine => "COSINE",
        Metric::Dot => "IP",
        Metric::Euclidean => "L2",
    };
    match kind {
        Kind::Flat => create.arg("FLAT").arg(6),
        Kind::Graph => create.arg("HNSW").arg(12),
    };
    create.arg("TYPE").arg("FLOAT32").arg("DIM").arg(space.dimensions());
    create.arg("DISTANCE_METRIC").arg(metric);
    if kind == Kind::Graph {
        create.arg("M").arg(settings.m);
        create.arg("EF_CONSTRUCTION").arg(settings.ef_construction);
        create.arg("EF_RUNTIME").arg(settings.ef_runtime);
    }
}

#[cfg(test)]
mod tests {
    use memory_core::{MetaKey, TenantId};

    use super::*;
    use crate::keys::Keys;

    #[test]
    fn an_index_is_of_one_tenant_and_names_every_field() {
        let mut settings = RedisSettings::default();
        settings.filter_keys.insert(MetaKey::new("a b").unwrap(), FilterKeyType::Number);
        let keys = Keys::new("om").tenant(&TenantId::new("t{x}").unwrap());
        let text = |holds, scan| {
            let create = create(&settings, &keys, "w1", holds, scan);
            String::from_utf8(create.get_packed_command()).unwrap().replace("\r\n", " ")
        };
        let words = text(Holds::Words, true);
        for part in ["om:{t%7Bx%7D}:ft:w1", "om:{t%7Bx%7D}:m:", "m:a b", "qm0", "NOSTEM"] {
            assert!(words.contains(part), "{part} in {words}");
        }
        assert!(!words.contains("SKIPINITIALSCAN") && !words.contains("VECTOR"));
        let space = EmbeddingSpace::new("m", "1", 8, Metric::Dot).unwrap();
        let flat = text(Holds::Vectors(&space, Kind::Flat), false);
        assert!(flat.contains("v:8/dot/m@1") && flat.contains("FLAT") && flat.contains("IP"));
        assert!(flat.contains("SKIPINITIALSCAN") && !flat.contains("TEXT"));
        assert!(text(Holds::Vectors(&space, Kind::Graph), true).contains("EF_CONSTRUCTION"));
    }
}
