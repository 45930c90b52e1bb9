//! Vectors: kept in the documents of their items, found by the service's own index.
//!
//! A vector stands in its item's document, in a field that is named after its space, and the
//! space's short name stands in `spaces`. Writing one is a write of those two fields and of `rev`,
//! which keeps the item's revision although the document's update time moves.

mod fill;
mod forget;
mod missing;
mod search;
mod sizes;
mod write;

use std::sync::Arc;

use memory_core::{EmbeddingSpace, Error, Result, TenantId};

use crate::DIMENSIONS;
use crate::guard::TenantState;
use crate::store::FirestoreStore;
use crate::wire::Call;

pub(crate) use forget::forget;
pub(crate) use missing::missing;
pub(crate) use search::search;
pub(crate) use sizes::Sizes;
pub(crate) use write::{remove, upsert};

/// Refuses a space whose vectors the service does not take.
///
/// # Errors
/// `InvalidInput`.
fn check_dimensions(space: &EmbeddingSpace) -> Result<()> {
    if space.dimensions() > DIMENSIONS {
        return Err(Error::invalid(format!(
            "the space has {} dimensions; Firestore keeps vectors of up to {DIMENSIONS}",
            space.dimensions()
        )));
    }
    Ok(())
}

/// The tenant's state, which has the space; looked at anew where the remembered one has not.
///
/// # Errors
/// `InvalidInput`: the space is none of the tenant's.
async fn with_space(
    store: &FirestoreStore,
    call: Call<'_>,
    tenant: &TenantId,
    space: &EmbeddingSpace,
) -> Result<Arc<TenantState>> {
    let state = store.tenant(call, tenant).await?;
    if state.spaces.find(&space.id()).is_some() {
        return Ok(state);
    }
    let state = store.tenant_now(call, tenant).await?;
    check_space(&state, space)?;
    Ok(state)
}

/// # Errors
/// `InvalidInput`: the space is none of the tenant's.
fn check_space(state: &TenantState, space: &EmbeddingSpace) -> Result<()> {
    if state.spaces.find(&space.id()).is_some() {
        return Ok(());
    }
    let known: Vec<_> = [&state.spaces.active, &state.spaces.next]
        .into_iter()
        .flatten()
        .map(|space| space.id().to_string())
        .collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(Error::invalid(format!("{space} is not a space of the tenant; it has {known}")))
}

/// Counts a document that cannot be read and is left out, and says so.
fn note_unreadable(store: &FirestoreStore, error: &Error) {
    store.unreadable.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    tracing::warn!(%error, "a stored document cannot be read and is left out");
}
