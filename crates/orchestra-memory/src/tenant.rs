//! The handle of one tenant: the only object that reads or writes.
//!
//! | file | what it holds |
//! |---|---|
//! | `add` | one memory |
//! | `add_many` | many memories, in batches |
//! | `batch` | one batch: what a bad item does not take with it |
//! | `commit` | sending a commit, and when it is sent once more |
//! | `read` | get, list, history, search, counts |
//! | `remove` | delete, erase, purge |
//! | `spaces` | which embedding space a caller's vector belongs to |
//! | `update` | a patch onto what is there |

mod add;
mod add_many;
mod batch;
mod commit;
mod read;
mod remove;
mod spaces;
mod update;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memory_core::{CallContext, Deadline, TenantId};

pub(crate) use add_many::check_batch_size;
pub(crate) use batch::BatchPolicy;

use crate::memory::Inner;

/// The memories of one tenant. Cloning is cheap. Nothing in its interface can name another
/// tenant, and a filter cannot either.
///
/// Expired memories are invisible to every method. What a call was promised as acknowledged is
/// as durable as the store's settings say. A read that is dropped leaves nothing; a write that is
/// dropped may still happen, whole.
#[derive(Clone)]
pub struct TenantMemory {
    inner: Arc<Inner>,
    tenant: TenantId,
    timeout: Option<Duration>,
}

impl TenantMemory {
    pub(crate) fn new(inner: Arc<Inner>, tenant: TenantId) -> Self {
        Self { inner, tenant, timeout: None }
    }

    /// The tenant's name.
    #[must_use]
    pub fn id(&self) -> &TenantId {
        &self.tenant
    }

    /// The same tenant, with a bound on the time of each call to the store: a call that is not
    /// done by then gives `Timeout`. A batch, a page and a step of an erasure are calls.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// A context for one call, whose time is bounded by the shorter of the two.
    pub(crate) fn context(&self, timeout: Option<Duration>) -> CallContext {
        let timeout = match (timeout, self.timeout) {
            (Some(call), Some(handle)) => Some(call.min(handle)),
            (call, handle) => call.or(handle),
        };
        let deadline = timeout
            .map(|timeout| Deadline::at(self.inner.clock.monotonic().saturating_add(timeout)));
        CallContext::new(self.tenant.clone()).with_deadline(deadline)
    }
}

impl fmt::Debug for TenantMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantMemory")
            .field("tenant", &self.tenant)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
