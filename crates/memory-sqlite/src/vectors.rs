//! A tenant's embedding spaces as the file keeps them, and vectors on their way in.

use std::collections::BTreeMap;

use memory_core::traits::TenantSpaces;
use memory_core::{EmbeddingSpace, Error, Result, SpaceId};
use rusqlite::{Connection, OptionalExtension as _};

use crate::error::{corrupt, map};
use crate::model;

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

/// Reads a tenant's spaces.
pub(crate) fn read_spaces(connection: &Connection, tenant: i64) -> Result<SpaceSlots> {
    let row = connection
        .prepare_cached(
            "SELECT active_space, next_space, active_slot, space_version FROM tenant \
             WHERE tenant = ?1",
        )
        .and_then(|mut select| {
            select
                .query_row([tenant], |row| {
                    let active: Option<String> = row.get(0)?;
                    let next: Option<String> = row.get(1)?;
                    Ok((active, next, row.get::<_, u8>(2)?, row.get::<_, i64>(3)?))
                })
                .optional()
        })
        .map_err(map)?;
    let Some((active, next, active_slot, version)) = row else {
        return Ok(SpaceSlots::default());
    };
    let read = |text: Option<String>| {
        text.map(|text| serde_json::from_str(&text).map_err(|_| corrupt("space"))).transpose()
    };
    if active_slot > 1 {
        return Err(corrupt("slot"));
    }
    Ok(SpaceSlots {
        spaces: TenantSpaces {
            active: read(active)?,
            next: read(next)?,
            version: version.unsigned_abs(),
        },
        active_slot,
    })
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

/// Encodes vectors on the caller's thread. What can be checked without the tenant's spaces is.
///
/// # Errors
/// `InvalidInput`: no components, or one that is not finite.
pub(crate) fn encode(
    vectors: &BTreeMap<SpaceId, Vec<f32>>,
) -> Result<BTreeMap<SpaceId, EncodedVector>> {
    vectors.iter().map(|(space, vector)| Ok((space.clone(), encode_one(vector)?))).collect()
}

/// Encodes one vector.
///
/// # Errors
/// As [`encode`].
pub(crate) fn encode_one(vector: &[f32]) -> Result<EncodedVector> {
    // Under the dot product a zero vector is fine; the stricter rule of a space is checked with it.
    let dimensions = u32::try_from(vector.len()).unwrap_or(u32::MAX);
    if dimensions == 0 || dimensions > memory_core::limits::DIMENSIONS {
        return Err(Error::invalid(format!(
            "a vector has 1 to {} components, not {dimensions}",
            memory_core::limits::DIMENSIONS
        )));
    }
    let directed =
        memory_core::check_vector(vector, dimensions, memory_core::Metric::Cosine).is_ok();
    if !directed {
        memory_core::check_vector(vector, dimensions, memory_core::Metric::Dot)?;
    }
    Ok(EncodedVector {
        components: vector.len(),
        directed,
        data: model::vector_bytes(vector),
        codes: model::codes_bytes(vector),
    })
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
