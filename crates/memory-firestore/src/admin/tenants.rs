//! The list of tenants: those whose document says so, by document name, which is the order of their
//! names' bytes.

use async_trait::async_trait;
use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::traits::{TenantDirectory, TenantPage};
use memory_core::{Error, Result, TenantId};
use proto::value::ValueType;

use super::scan::{Op, Scan};
use crate::error::corrupt;
use crate::guard;
use crate::model;
use crate::names::{decode, last};
use crate::store::FirestoreStore;

/// Most tenants of one page, as the trait says.
const MOST: u32 = 1_000;

/// Those tenants that are listed.
pub(super) fn listed(collection: &str) -> Scan {
    let yes = model::value(ValueType::BooleanValue(true));
    Scan::of(collection).filter(guard::LISTED, Op::Equal, yes)
}

/// The tenant of a document.
///
/// # Errors
/// `Corrupt`.
pub(super) fn tenant_of(name: &str) -> Result<TenantId> {
    TenantId::new(decode(last(name))?).map_err(|_| corrupt("tenant's name"))
}

#[async_trait]
impl TenantDirectory for FirestoreStore {
    /// Billed: one read for each tenant, and one more where more follow.
    async fn list_tenants(&self, after: Option<TenantId>, limit: u32) -> Result<TenantPage> {
        self.run("list_tenants", None, async |call| {
            if limit == 0 || limit > MOST {
                return Err(Error::invalid(format!("a list of tenants takes 1 to {MOST}")));
            }
            let after = after.as_ref().map(|tenant| self.names.tenant(tenant));
            let most = usize::try_from(limit).unwrap_or(usize::MAX);
            let scan =
                listed(&self.names.tenants).after(after.as_deref()).limit(most + 1).select(&[]);
            let mut found = self.scan(call, &self.names.root, scan).await?;
            let more = found.len() > most;
            found.truncate(most);
            let tenants =
                found.iter().map(|found| tenant_of(&found.name)).collect::<Result<_>>()?;
            Ok(TenantPage { tenants, more })
        })
        .await
    }
}
