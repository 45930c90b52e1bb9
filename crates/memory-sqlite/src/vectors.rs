//! A tenant's embedding spaces as the file keeps them, and vectors on their way in.

use std::collections::BTreeMap;

use memory_core::traits::TenantSpaces;
use memory_core::{EmbeddingSpace, Error, Result, SpaceId, TenantId};
use rusqlite::{Connection, OptionalExtension as _};

use crate::error::{corrupt, map};
use crate::model;

/// Most entries of one upsert or removal of vectors or texts, as the traits say.
const ENTRIES: usize = 1_000;

/// Checks how many entries a call brings.
///
/// # Errors
/// `InvalidInput`: too many.
pub(crate) fn check_entries(count: usize) -> Result<()> {
    if count > ENTRIES {
        return Err(Error::invalid(format!("one call takes {ENTRIES} entries, not {count}")));
    }
    Ok(())
}

/// The spaces of a tenant with their slots: 0 and 1 take turns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpaceSlots {
    pub(crate) spaces: TenantSpaces,
    pub(crate) active_slot: u8,
}

impl SpaceSlots {
    /// Every space with its slot.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u8, &EmbeddingSpace)> {
        let active = self.spaces.active.iter().map(|space| (self.active_slot, space));
        let next = self.spaces.next.iter().map(|space| (1 - self.active_slot, space));
        active.chain(next)
    }

    /// The slot of a space.
    ///
    /// # Errors
    /// `InvalidInput`: not one of the tenant's.
    pub(crate) fn slot(&self, space: &SpaceId) -> Result<(u8, &EmbeddingSpace)> {
        self.each().find(|(_, known)| known.id() == *space).ok_or_else(|| {
            let known: Vec<_> = self.each().map(|(_, known)| known.id().to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Error::invalid(format!("{space} is not a space of the tenant; it has {known}"))
        })
    }
}

/// Where a tenant stands in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Its number in this file.
    pub(crate) tenant: i64,
    /// The newest position of its log.
    pub(crate) head: i64,
    /// The version of its spaces, which no other spaces of the file have; 0 for none.
    pub(crate) spaces: i64,
}

/// Reads where a tenant stands, in one statement, for every search begins with it.
///
/// The log is looked up by a column and not by a parameter: a statement that orders by an index
/// and compares it with a parameter is prepared anew by SQLite for each value.
pub(crate) fn standing(connection: &Connection, tenant: &TenantId) -> Result<Option<Standing>> {
    connection
        .prepare_cached(STANDING)
        .and_then(|mut select| {
            select
                .query_row([tenant.as_str()], |row| {
                    Ok(Standing { tenant: row.get(0)?, head: row.get(1)?, spaces: row.get(2)? })
                })
                .optional()
        })
        .map_err(map)
}

const STANDING: &str = "SELECT t.tenant, coalesce((SELECT c.seq FROM change c \
     WHERE c.tenant = t.tenant ORDER BY c.seq DESC LIMIT 1), t.log_floor), t.space_version \
     FROM tenant t WHERE t.name = ?1";

/// Reads a tenant's spaces.
pub(crate) fn read_spaces(connection: &Connection, tenant: i64) -> Result<SpaceSlots> {
    let row = connection
        .prepare_cached(
            "SELECT active_space, next_space, active_slot, space_version FROM tenant \
             WHERE tenant = ?1",
        )
        .and_then(|mut select| {
            select.query_row([tenant], |row| SpaceColumns::read(row, 0)).optional()
        })
        .map_err(map)?;
    row.map_or_else(|| Ok(SpaceSlots::default()), SpaceColumns::slots)
}

/// The columns `active_space, next_space, active_slot, space_version` of a tenant's row.
pub(crate) struct SpaceColumns {
    active: Option<String>,
    next: Option<String>,
    active_slot: u8,
    version: i64,
}

impl SpaceColumns {
    /// Reads them from a row in which they begin at a place.
    pub(crate) fn read(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            active: row.get(first)?,
            next: row.get(first + 1)?,
            active_slot: row.get(first + 2)?,
            version: row.get(first + 3)?,
        })
    }

    /// What they say.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn slots(self) -> Result<SpaceSlots> {
        let read = |text: Option<String>| {
            text.map(|text| serde_json::from_str(&text).map_err(|_| corrupt("space"))).transpose()
        };
        if self.active_slot > 1 {
            return Err(corrupt("slot"));
        }
        Ok(SpaceSlots {
            spaces: TenantSpaces {
                active: read(self.active)?,
                next: read(self.next)?,
                version: self.version.unsigned_abs(),
            },
            active_slot: self.active_slot,
        })
    }
}

/// A vector as its two columns.
#[derive(Clone, Debug)]
pub(crate) struct EncodedVector {
    pub(crate) components: usize,
    /// Whether it has a direction, which a cosine needs.
    directed: bool,
    pub(crate) data: Vec<u8>,
    pub(crate) codes: Vec<u8>,
}

/// Checks what can be checked of a vector without the tenant's spaces. Under the dot product a zero
/// vector is fine; the stricter rule of a space is checked with it.
///
/// # Errors
/// `InvalidInput`: no components or too many, or one that is not finite.
pub(crate) fn examine(vector: &[f32]) -> Result<()> {
    let dimensions = dimensions(vector);
    if dimensions == 0 || dimensions > memory_core::limits::DIMENSIONS {
        return Err(Error::invalid(format!(
            "a vector has 1 to {} components, not {dimensions}",
            memory_core::limits::DIMENSIONS
        )));
    }
    memory_core::check_vector(vector, dimensions, memory_core::Metric::Dot)
}

fn dimensions(vector: &[f32]) -> u32 {
    u32::try_from(vector.len()).unwrap_or(u32::MAX)
}

/// Encodes vectors that were [examined](examine).
pub(crate) fn encode(vectors: &BTreeMap<SpaceId, Vec<f32>>) -> BTreeMap<SpaceId, EncodedVector> {
    vectors.iter().map(|(space, vector)| (space.clone(), encoded(vector))).collect()
}

/// Checks and encodes one vector.
///
/// # Errors
/// As [`examine`].
pub(crate) fn encode_one(vector: &[f32]) -> Result<EncodedVector> {
    examine(vector)?;
    Ok(encoded(vector))
}

fn encoded(vector: &[f32]) -> EncodedVector {
    let cosine = memory_core::Metric::Cosine;
    EncodedVector {
        components: vector.len(),
        directed: memory_core::check_vector(vector, dimensions(vector), cosine).is_ok(),
        data: model::vector_bytes(vector),
        codes: model::codes_bytes(vector),
    }
}

/// Checks an encoded vector against its space.
///
/// # Errors
/// `InvalidInput`: another length, or no direction under cosine.
pub(crate) fn check(space: &EmbeddingSpace, vector: &EncodedVector) -> Result<()> {
    // The length first, without reading the components again.
    if usize::try_from(space.dimensions()).ok() != Some(vector.components) {
        return Err(Error::invalid(format!(
            "the vector has {} components; its space has {}",
            vector.components,
            space.dimensions()
        )));
    }
    if space.metric() == memory_core::Metric::Cosine && !vector.directed {
        return Err(Error::invalid("the vector's norm is zero, which has no cosine"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn where_a_tenant_stands_is_read_without_preparing_anew() {
        let connection = Connection::open_in_memory().unwrap();
        crate::schema::migrate(&connection).unwrap();
        connection
            .execute_batch(
                "INSERT INTO tenant (tenant, name, listed, born, log_floor, space_version)
                 VALUES (1, 'a', 1, 4, 4, 0), (2, 'b', 1, 5, 5, 9);
                 INSERT INTO change VALUES (2, 7, 0, 1, 'x'), (2, 11, 0, 1, 'x');",
            )
            .unwrap();
        let mut select = connection.prepare(STANDING).unwrap();
        for _ in 0..20 {
            for name in ["a", "b"] {
                select.query_row([name], |row| row.get::<_, i64>(0)).unwrap();
            }
        }
        assert_eq!(select.get_status(StatementStatus::RePrepare), 0);
        let stands = |name: &str| standing(&connection, &TenantId::new(name).unwrap()).unwrap();
        assert_eq!(stands("a"), Some(Standing { tenant: 1, head: 4, spaces: 0 }));
        assert_eq!(stands("b"), Some(Standing { tenant: 2, head: 11, spaces: 9 }));
        assert_eq!(stands("c"), None);
    }
}
