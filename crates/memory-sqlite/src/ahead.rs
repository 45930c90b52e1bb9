//! The part of a vector search that the caller's thread takes over: while the reader wakes, takes its
//! snapshot and reads where the tenant stands, the scan is under way already.
//!
//! What the caller scans is the index as it lies in memory, without a look at the file. The reader
//! makes use of it only where its own index, which its snapshot agrees with, has the very same rows;
//! otherwise it searches as if nobody had helped. Neither waits for the other.

use std::sync::OnceLock;

use memory_core::TenantId;
use memory_core::traits::VectorQuery;
use memory_index::{ScoredDoc, SharedSearch, VectorScan};

use crate::indexes::Indexes;
use memory_index::first_ask;

/// Codes that a caller's thread reads at the most for one search, for other tasks wait for it: 40
/// microseconds with AVX-512, three times as long with AVX2. It reads nothing else, and no file.
const MOST_BYTES: usize = 2 << 20;

/// Codes of a space beyond which a caller does not help: its part would be less than a tenth.
const MOST_SHARED_BYTES: usize = 10 * MOST_BYTES;

/// The scan of one search, which its caller and a reader share.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// `Some(None)`: the reader was the first, and nobody is to help any more.
    begun: OnceLock<Option<SharedSearch>>,
}

impl Ahead {
    /// Scans on the caller's thread, where the index is at hand, nobody writes to it, and the query
    /// has no filter, which takes a look at the file.
    pub(crate) fn scan(&self, indexes: &Indexes, tenant: &TenantId, query: &VectorQuery) {
        if !query.filter.is_all() || query.validate().is_err() {
            return;
        }
        let Some((index, slot)) = indexes.guess(tenant, &query.space.id()) else { return };
        let Ok(index) = index.try_read() else { return };
        let Some(scan) = index.space(slot) else { return };
        if scan.len().saturating_mul(scan.dims()) > MOST_SHARED_BYTES {
            return;
        }
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let Ok(shared) = scan.share(&query.vector, first_ask(limit)) else { return };
        if let Some(shared) = self.begun.get_or_init(|| Some(shared)) {
            scan.help(shared, MOST_BYTES);
        }
    }

    /// Ends the scan on the reader's thread; `None` where there is none of these rows, or for
    /// another number of documents.
    pub(crate) fn finish(&self, scan: &VectorScan, most: usize) -> Option<Vec<ScoredDoc>> {
        let shared = self.begun.get_or_init(|| None).as_ref()?;
        (shared.k() == most).then(|| scan.finish(shared)).flatten()
    }
}
