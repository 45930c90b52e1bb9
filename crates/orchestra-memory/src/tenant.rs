//! The handle of one tenant: the only object that reads or writes.
//!
//! | file | what it holds |
//! |---|---|
//! | `add` | one memory |
//! | `add_many` | many memories, in batches |
//! | `batch` | one batch: what a bad item does not take with it |
//! | `commit` | sending a commit, and when it is sent once more |
//! | `embed_missing` | vectors for memories that have none |
//! | `reembed` | moving to another embedding space |
//! | `read` | get, list, history, counts |
//! | `remove` | delete, erase, purge |
//! | `search` | by words, by meaning, by a caller's vector |
//! | `spaces` | which embedding space a caller's vector belongs to |
//! | `update` | a patch onto what is there |
//! | `vectors` | what the embedder is to the tenant; the vector of a text |

mod add;
mod add_many;
mod batch;
mod commit;
mod embed_missing;
mod read;
mod reembed;
mod remove;
mod search;
mod spaces;
mod update;
mod vectors;

use std::fmt;
use std::time::Duration;

use memory_core::{CallContext, Deadline, MemoryId, TenantId};

pub(crate) use add_many::BatchSize;
pub(crate) use batch::{BatchFeed, BatchPolicy, BatchResult};
pub(crate) use embed_missing::EmbedRun;
pub(crate) use spaces::TENANT_SPACE;

use crate::memory::{Held, Inner};

/// The memories of one tenant. Cloning is cheap. Nothing in its interface can name another
/// tenant, and a filter cannot either.
///
/// Expired memories are invisible to every method. What a call was promised as acknowledged is
/// as durable as the store's settings say. A read that is dropped leaves nothing; a write that is
/// dropped may still happen, whole.
#[derive(Clone)]
pub struct TenantMemory {
    inner: Held,
    tenant: TenantId,
    timeout: Option<Duration>,
}

impl TenantMemory {
    pub(crate) fn new(inner: Held, tenant: TenantId) -> Self {
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
        self.context_after(timeout, Duration::ZERO)
    }

    /// As [`TenantMemory::context`], for the rest of a call that has taken so long already.
    pub(crate) fn context_after(&self, timeout: Option<Duration>, spent: Duration) -> CallContext {
        let timeout = match (timeout, self.timeout) {
            (Some(call), Some(handle)) => Some(call.min(handle)),
            (call, handle) => call.or(handle),
        };
        let timeout = timeout.map(|timeout| timeout.saturating_sub(spent));
        let deadline = timeout
            .map(|timeout| Deadline::at(self.inner.clock.monotonic().saturating_add(timeout)));
        CallContext::new(self.tenant.clone()).with_deadline(deadline)
    }

    /// Tells the background, if vectors are made there, that the tenant is in use: an earlier
    /// process may have left something to do.
    pub(crate) fn note_use(&self) {
        if self.inner.embedding.in_background().is_some() {
            self.inner.background.first_use(&self.inner, &self.tenant);
        }
    }

    /// Leaves the vectors of these memories to the background, if they are made there.
    pub(crate) fn queue_later(&self, ids: impl IntoIterator<Item = MemoryId>) {
        if self.inner.embedding.in_background().is_some() {
            self.inner.background.written(&self.inner, &self.tenant, ids.into_iter().collect());
        }
    }

    /// Queues the tenant for the background, for a write whose end nobody has seen.
    pub(crate) fn queue_unsure(&self) {
        if self.inner.embedding.in_background().is_some() {
            self.inner.background.unsure(&self.inner, &self.tenant);
        }
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
