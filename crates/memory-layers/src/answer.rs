//! What the answers of calls tell a policy: how many rows they hold, and nothing of what is in them.

use std::collections::BTreeMap;

use memory_core::traits::{
    BackupReport, ChangeBatch, ChangePosition, DocumentPage, EraseStep, IndexHits, Lease,
    SchemaInfo, StoreKey, StoreStats, SweepStep, TenantPage, TenantSpaces, TenantStats,
    UpsertOutcome, VerifyReport,
};
use memory_core::{CommitReceipt, ConsumerName, MemoryId, MemoryItem, Page, Result, WriteResult};

/// An answer of a call.
pub trait Answer: Send {
    /// How many rows it holds: items found, results of writes, hits, entries.
    fn rows(&self) -> usize;
}

macro_rules! answers {
    ($($kind:ty, $answer:ident => $rows:expr;)*) => {
        $(impl Answer for $kind {
            fn rows(&self) -> usize {
                let $answer = self;
                $rows
            }
        })*
    };
}

answers! {
    CommitReceipt, receipt => receipt.results.len();
    Vec<Option<MemoryItem>>, items => items.iter().flatten().count();
    Page, page => page.items.len();
    SweepStep, step => usize::try_from(step.removed).unwrap_or(usize::MAX);
    EraseStep, step => usize::try_from(step.erased).unwrap_or(usize::MAX);
    Vec<Result<WriteResult>>, results => results.iter().filter(|result| result.is_ok()).count();
    Vec<UpsertOutcome>, outcomes => outcomes.len();
    Vec<MemoryId>, ids => ids.len();
    IndexHits, hits => hits.hits.len();
    Vec<String>, names => names.len();
    ChangeBatch, batch => batch.changes.len();
    BTreeMap<ConsumerName, ChangePosition>, consumers => consumers.len();
    Option<Lease>, lease => usize::from(lease.is_some());
    TenantPage, page => page.tenants.len();
    Option<String>, text => usize::from(text.is_some());
    Vec<bool>, flags => flags.len();
    Vec<Vec<f32>>, vectors => vectors.len();
    DocumentPage, page => page.documents.len();
    u64, _count => 1;
    (), _nothing => 0;
    SchemaInfo, _info => 1;
    TenantSpaces, _spaces => 1;
    StoreKey, _key => 1;
    TenantStats, _stats => 1;
    StoreStats, _stats => 1;
    VerifyReport, _report => 1;
    BackupReport, _report => 1;
}
