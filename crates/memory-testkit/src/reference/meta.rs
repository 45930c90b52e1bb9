//! What the reference store knows about itself.

use async_trait::async_trait;
use memory_core::traits::{SchemaInfo, StoreKey, StoreMeta, TenantSpaces, Tombstone};
use memory_core::{CallContext, Error, ErrorKind, MemoryId, Result};

use super::{ReferenceStore, check_many, tombstone};

#[async_trait]
impl StoreMeta for ReferenceStore {
    async fn schema(&self) -> Result<SchemaInfo> {
        let _state = self.open()?;
        Ok(SchemaInfo { stored: 1, current: 1 })
    }

    async fn spaces(&self, context: &CallContext) -> Result<TenantSpaces> {
        let state = self.enter(context)?;
        Ok(state.tenant(&context.tenant).map(|tenant| tenant.spaces.clone()).unwrap_or_default())
    }

    async fn set_spaces(
        &self,
        context: &CallContext,
        spaces: &TenantSpaces,
    ) -> Result<TenantSpaces> {
        let mut state = self.enter(context)?;
        match (&spaces.active, &spaces.next) {
            (None, Some(_)) => {
                return Err(Error::invalid("there is a next space without an active one"));
            }
            (Some(active), Some(next)) if active == next => {
                return Err(Error::invalid("the next space is the active one"));
            }
            _ => {}
        }
        let tenant = state.tenant_mut(&context.tenant);
        if tenant.spaces.version != spaces.version {
            return Err(Error::new(ErrorKind::Conflict, "the spaces have been changed"));
        }
        tenant.spaces = spaces.clone();
        tenant.spaces.version += 1;
        let named = tenant.spaces.clone();
        for record in tenant.records.values_mut() {
            record.vectors.retain(|space, _| named.find(space).is_some());
        }
        Ok(named)
    }

    async fn analyser(&self) -> Result<Option<String>> {
        let _state = self.open()?;
        Ok(Some("words-1".to_owned()))
    }

    async fn store_key(&self) -> Result<StoreKey> {
        Ok(self.open()?.key.clone())
    }

    async fn erased(&self, context: &CallContext, ids: &[MemoryId]) -> Result<Vec<bool>> {
        let state = self.enter(context)?;
        check_many(ids.len())?;
        let is_erased = |id| state.tombstones.contains(&tombstone(&state.key, &context.tenant, id));
        Ok(ids.iter().map(is_erased).collect())
    }

    async fn add_tombstones(&self, tombstones: &[Tombstone]) -> Result<()> {
        let mut state = self.open()?;
        check_many(tombstones.len())?;
        state.tombstones.extend(tombstones);
        Ok(())
    }
}
