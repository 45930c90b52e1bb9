//! The reference store: every trait in memory, written to be obviously right and never fast.
//!
//! It is the model that back ends are compared with. Everything lies in maps behind one lock;
//! every read looks at every record; nothing is derived that could differ from what it is
//! derived from.

mod admin;
mod commit;
mod erase;
mod harness;
mod indexes;
mod leases;
mod meta;
mod records;
mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memory_core::traits::{StoreKey, Tombstone};
use memory_core::{
    CallContext, Capabilities, Capability, Clock, Durability, Error, ErrorKind, MemoryId, Result,
    TenantId,
};

pub use harness::ReferenceHarness;
pub(crate) use indexes::likeness;
use state::State;

/// The back end's name in errors and capabilities.
pub const BACKEND: &str = "reference";

/// Items that one step of an erasure removes; small, so that tests see several steps.
const ERASE_STEP: usize = 16;

/// A store in memory that implements every trait of a store.
///
/// It keeps its indexes with its records. It cannot be copied to a file: `backup` is
/// `Unsupported`, and [`Capability::OnlineBackup`] is not declared.
pub struct ReferenceStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl fmt::Debug for ReferenceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferenceStore").finish_non_exhaustive()
    }
}

impl ReferenceStore {
    /// An empty store on a clock, with a fixed store key.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_key(clock, StoreKey::from_bytes([7; 32]))
    }

    /// An empty store with a store key.
    #[must_use]
    pub fn with_key(clock: Arc<dyn Clock>, key: StoreKey) -> Self {
        Self { clock, state: Mutex::new(State::new(key)) }
    }

    /// The ids of all records of a tenant, expired ones included.
    pub(crate) fn stored_ids(&self, tenant: &TenantId) -> std::collections::BTreeSet<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let records = state.tenant(tenant).map(|tenant| tenant.records.keys());
        records.into_iter().flatten().map(ToString::to_string).collect()
    }

    /// Locks the state for a call that names no tenant.
    fn open(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Error::new(ErrorKind::Unavailable, "the store is closed")
                .with_retryable(false)
                .with_backend(BACKEND));
        }
        Ok(state)
    }

    /// Locks the state for a call under a context.
    fn enter(&self, context: &CallContext) -> Result<MutexGuard<'_, State>> {
        let state = self.open()?;
        context.check_deadline(self.clock.monotonic())?;
        Ok(state)
    }

    fn own_capabilities() -> Capabilities {
        let set = Capability::ALL.into_iter().filter(|one| *one != Capability::OnlineBackup);
        Capabilities::new(BACKEND, set, Durability::Volatile)
    }

    fn close_now(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    fn health_now(&self) -> memory_core::Health {
        let mut health = memory_core::Health::healthy();
        if self.open().is_err() {
            health.lower(memory_core::HealthStatus::Unhealthy, "the store is closed");
        }
        health
    }
}

/// What an erased item leaves: HMAC-SHA256 under the store key of the tenant's length in bytes
/// as a big-endian `u64`, the tenant, the id's length in the same way, and the id.
#[must_use]
#[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "HMAC takes a key of any size")]
pub fn tombstone(key: &StoreKey, tenant: &TenantId, id: &MemoryId) -> Tombstone {
    use hmac::{KeyInit as _, Mac as _};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key.expose()).expect("any key size");
    for part in [tenant.as_str(), id.as_str()] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    Tombstone(mac.finalize().into_bytes().into())
}

/// Refuses a limit outside `1..=most`.
fn check_limit(limit: u32, most: u32) -> Result<()> {
    if limit == 0 || limit > most {
        return Err(Error::invalid(format!("a limit lies between 1 and {most}; this is {limit}")));
    }
    Ok(())
}

/// Refuses more than 1,000 of anything.
fn check_many(count: usize) -> Result<()> {
    if count > memory_core::limits::FETCH_IDS {
        return Err(Error::invalid(format!("{count} are more than 1,000")));
    }
    Ok(())
}
