//! The indexes, TTL policies and exemptions that the store's queries rest on.
//!
//! The service refuses a query without its index, and the emulator does not, so they are made before
//! a store is used, and again where a setting or a space was added: from `firestore.indexes.json`,
//! or by the `gcloud` commands.

mod gcloud;

use memory_core::{Direction, EmbeddingSpace, Error, ErrorKind, Field, OrderField, Result};
use serde_json::{Value, json};

use crate::names::Names;
use crate::query::{path, ranged_fields, sort_key};
use crate::settings::{FieldName, FilterKeyType, FirestoreSettings};
use crate::{DIMENSIONS, fields as f, model};

/// Most composite indexes of a database with billing enabled; 200 without.
const MOST_INDEXES: usize = 1_000;

/// The field that the idempotency keys' TTL goes by.
const DELETE_AT: &str = "delete_at";

/// Fields of memories without indexes of their own: no query asks for one of them alone. Large or
/// many-valued ones would cost storage and the limits of index entries; times and sort keys grow,
/// and each index of their own would be one more that writers meet in. Vectors are exempt too.
const EXEMPT: [&str; 15] = [
    f::BY_CREATED,
    f::BY_ID,
    f::BY_OCCURRED,
    f::BY_UPDATED,
    f::COMMIT,
    f::CONTENT,
    f::CONTENT_HASH,
    f::CREATED_AT,
    f::KEYS,
    f::LISTS,
    f::METADATA,
    f::OCCURRED_AT,
    f::PAYLOAD,
    f::REV,
    f::UPDATED_AT,
];

/// What the service must be told before a store is used: composite and vector indexes, TTL policies
/// and exemptions from automatic indexes.
///
/// ```
/// use memory_firestore::{FirestoreSettings, IndexDefinitions};
///
/// let definitions = IndexDefinitions::new(&FirestoreSettings::new("my-project"), &[])?;
/// assert!(definitions.to_json().contains("\"collectionGroup\": \"memories\""));
/// for command in definitions.gcloud_commands() {
///     assert!(command.starts_with("gcloud firestore "));
/// }
/// # Ok::<(), memory_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexDefinitions {
    project: String,
    database: String,
    composites: Vec<Composite>,
    overrides: Vec<Override>,
}

/// How a field stands in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Ascending,
    Descending,
    Contains,
    /// Of so many dimensions, searched exhaustively.
    Vector(u32),
}

impl From<Direction> for How {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Ascending => Self::Ascending,
            Direction::Descending => Self::Descending,
        }
    }
}

/// A composite or vector index of one collection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Composite {
    collection: String,
    fields: Vec<(String, How)>,
}

/// What is said of one field: whether it rules the collection's TTL, and its own indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Override {
    collection: String,
    field: String,
    ttl: bool,
    /// Whether the service's automatic indexes stay.
    indexed: bool,
}

impl IndexDefinitions {
    /// The definitions for these settings and spaces: those of every tenant, once each.
    ///
    /// # Errors
    /// `Config`: settings out of their bounds, a space of more than 2,048 dimensions, more indexes
    /// than a database takes.
    pub fn new(settings: &FirestoreSettings, spaces: &[EmbeddingSpace]) -> Result<Self> {
        settings.validate()?;
        let names = Names::new(&settings.project, &settings.database, &settings.prefix);
        let mut definitions = Self {
            project: settings.project.clone(),
            database: settings.database.clone(),
            composites: Vec::new(),
            overrides: Vec::new(),
        };
        definitions.add_orders(settings, &names.memories);
        definitions.add_upkeep(&names.memories);
        definitions.add_spaces(settings, &names.memories, spaces)?;
        let count = definitions.composites.len();
        if count > MOST_INDEXES {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "these settings come to {count} composite indexes and a database takes \
                     {MOST_INDEXES}: declare less in orders, equals, filter_keys or vector_scopes"
                ),
            ));
        }
        definitions.add_overrides(&names, spaces);
        Ok(definitions)
    }

    /// How many composite and vector indexes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.composites.len()
    }

    /// The text of `firestore.indexes.json`, as the Firebase tools deploy it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let indexes: Vec<_> = self.composites.iter().map(Composite::json).collect();
        let overrides: Vec<_> = self.overrides.iter().map(Override::json).collect();
        let all = json!({ "indexes": indexes, "fieldOverrides": overrides });
        format!("{all:#}\n")
    }

    /// The same as commands, one each, quoted for a POSIX shell. Without a project in the settings
    /// they go to the one that `gcloud` is set to.
    #[must_use]
    pub fn gcloud_commands(&self) -> Vec<String> {
        gcloud::commands(self)
    }

    /// What pages and counts need: for each order, both ways, the sort key and `visible_until`;
    /// before them each field of `equals`, each declared key, each declared list; and between them
    /// the fields of ranges.
    fn add_orders(&mut self, settings: &FirestoreSettings, memories: &str) {
        let keys = settings.filter_keys.keys().cloned().map(Field::Metadata);
        let equals = settings.equals.iter().map(|FieldName(field)| field.clone());
        let mut equals: Vec<_> = equals.chain(keys).collect();
        equals.sort();
        equals.dedup();
        let lists: Vec<_> = settings
            .filter_keys
            .iter()
            .filter(|(_, of)| **of == FilterKeyType::List)
            .map(|(key, _)| f::path(f::LISTS, key.as_str()))
            .collect();
        for order in &settings.orders {
            for direction in [Direction::Ascending, Direction::Descending] {
                let how = How::from(direction);
                let mut add = |first: Option<(String, How)>, between: Vec<String>| {
                    let sorted = std::iter::once(sort_key(*order).to_owned())
                        .chain(between)
                        .chain([f::VISIBLE_UNTIL.to_owned()])
                        .map(|path| (path, how));
                    self.add(memories, first.into_iter().chain(sorted).collect());
                };
                add(None, Vec::new());
                for field in &equals {
                    add(Some((path(field), How::Ascending)), Vec::new());
                }
                for list in &lists {
                    add(Some((list.clone(), How::Contains)), Vec::new());
                }
                if settings.ranges {
                    let between = ranged_fields(settings, *order);
                    for list in &lists {
                        add(Some((list.clone(), How::Contains)), between.clone());
                    }
                    add(None, between);
                }
            }
        }
    }

    /// What walks by id, statistics by kind and counts of embedded memories need.
    fn add_upkeep(&mut self, memories: &str) {
        let ascending = |path: &str| (path.to_owned(), How::Ascending);
        let (id, until) = (ascending(sort_key(OrderField::Id)), ascending(f::VISIBLE_UNTIL));
        self.add(memories, vec![id.clone(), until.clone()]);
        self.add(memories, vec![ascending(f::KIND), until.clone()]);
        self.add(memories, vec![(f::SPACES.to_owned(), How::Contains), id, until]);
    }

    fn add_spaces(
        &mut self,
        settings: &FirestoreSettings,
        memories: &str,
        spaces: &[EmbeddingSpace],
    ) -> Result<()> {
        for space in spaces {
            let dimensions = space.dimensions();
            if dimensions > DIMENSIONS {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "the space {} has {dimensions} dimensions and Firestore takes {DIMENSIONS}: \
                         use a model with fewer, or another index",
                        space.id()
                    ),
                ));
            }
            for scope in &settings.vector_scopes {
                let mut fields: Vec<_> =
                    scope.0.iter().map(|FieldName(field)| (path(field), How::Ascending)).collect();
                fields.push((model::vector_path(space), How::Vector(dimensions)));
                self.add(memories, fields);
            }
        }
        Ok(())
    }

    fn add_overrides(&mut self, names: &Names, spaces: &[EmbeddingSpace]) {
        let of = |collection: &str, field: &str, ttl, indexed| Override {
            collection: collection.to_owned(),
            field: field.to_owned(),
            ttl,
            indexed,
        };
        self.overrides.push(of(&names.memories, f::VISIBLE_UNTIL, true, true));
        self.overrides.push(of(&names.keys, DELETE_AT, true, false));
        let exempt = EXEMPT.iter().map(|field| of(&names.memories, field, false, false));
        self.overrides.extend(exempt);
        for space in spaces {
            let exempt = of(&names.memories, &model::vector_path(space), false, false);
            if !self.overrides.contains(&exempt) {
                self.overrides.push(exempt);
            }
        }
    }

    fn add(&mut self, collection: &str, fields: Vec<(String, How)>) {
        let new = Composite { collection: collection.to_owned(), fields };
        if !self.composites.contains(&new) {
            self.composites.push(new);
        }
    }
}

impl Composite {
    fn json(&self) -> Value {
        let field = |(path, how): &(String, How)| match how {
            How::Ascending => json!({ "fieldPath": path, "order": "ASCENDING" }),
            How::Descending => json!({ "fieldPath": path, "order": "DESCENDING" }),
            How::Contains => json!({ "fieldPath": path, "arrayConfig": "CONTAINS" }),
            How::Vector(dimensions) => json!({
                "fieldPath": path,
                "vectorConfig": { "dimension": dimensions, "flat": {} },
            }),
        };
        json!({
            "collectionGroup": self.collection,
            "queryScope": "COLLECTION",
            "fields": self.fields.iter().map(field).collect::<Vec<_>>(),
        })
    }
}

impl Override {
    fn json(&self) -> Value {
        // Those that the service makes of every field, said again: what is left out is removed.
        let automatic = json!([
            { "order": "ASCENDING", "queryScope": "COLLECTION" },
            { "order": "DESCENDING", "queryScope": "COLLECTION" },
            { "arrayConfig": "CONTAINS", "queryScope": "COLLECTION" },
        ]);
        let mut said = json!({
            "collectionGroup": self.collection,
            "fieldPath": self.field,
            "indexes": if self.indexed { automatic } else { json!([]) },
        });
        if self.ttl {
            said["ttl"] = json!(true);
        }
        said
    }
}

#[cfg(test)]
mod tests;
