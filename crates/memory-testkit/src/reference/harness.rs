//! The reference store under the suite.

use std::sync::Arc;

use memory_core::traits::KeywordIndex;
use memory_core::{Clock, ManualClock};

use super::ReferenceStore;
use crate::conformance::{Harness, start};

/// A reference store and its clock.
#[derive(Debug)]
pub struct ReferenceHarness {
    store: Arc<ReferenceStore>,
    clock: Arc<ManualClock>,
}

impl ReferenceHarness {
    /// An empty store on a clock that shows [`start`].
    #[must_use]
    pub fn new() -> Self {
        Self::on(Arc::new(ManualClock::new(start())))
    }

    /// An empty store on a clock.
    #[must_use]
    pub fn on(clock: Arc<ManualClock>) -> Self {
        let store = Arc::new(ReferenceStore::new(Arc::clone(&clock) as Arc<dyn Clock>));
        Self { store, clock }
    }

    /// A store that was made on this clock.
    #[must_use]
    pub fn of(store: Arc<ReferenceStore>, clock: Arc<ManualClock>) -> Self {
        Self { store, clock }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> Arc<ReferenceStore> {
        Arc::clone(&self.store)
    }
}

impl Default for ReferenceHarness {
    fn default() -> Self {
        Self::new()
    }
}

impl Harness for ReferenceHarness {
    crate::one_store!();
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>> {
        Some(self.store())
    }
    fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }
}
