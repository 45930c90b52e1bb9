//! What the store knows of itself and its tenants: shape, key, spaces, tombstones.

use std::collections::HashMap;

use async_trait::async_trait;
use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::traits::{SchemaInfo, StoreKey, StoreMeta, TenantSpaces, Tombstone};
use memory_core::{CallContext, Error, ErrorKind, MemoryId, Result};

use super::book::digits;
use super::log::LogOp;
use crate::DIMENSIONS;
use crate::commit::{pause, too_contended};
use crate::fields;
use crate::guard::TenantState;
use crate::model;
use crate::names::Names;
use crate::store::FirestoreStore;
use crate::wire::{Call, Refused, Write};

/// Most ids or tombstones of one call, as the trait says.
const MOST: usize = 1_000;
/// Tombstones of one commit: the former limit of a commit's writes.
const BATCH: usize = 500;

#[async_trait]
impl StoreMeta for FirestoreStore {
    /// Billed: nothing where the store's document is known.
    async fn schema(&self) -> Result<SchemaInfo> {
        self.run("schema", None, async |call| {
            let record = match self.book.known() {
                Some(record) => Some(record),
                None => self.read_record(call).await?,
            };
            // A store that nobody has written to is of the shape that it will be made with.
            let stored = record.map_or(model::SHAPE, |record| record.shape);
            let number = |shape| u32::try_from(shape).unwrap_or(u32::MAX);
            Ok(SchemaInfo { stored: number(stored), current: number(model::SHAPE) })
        })
        .await
    }

    /// Billed: one read.
    async fn spaces(&self, context: &CallContext) -> Result<TenantSpaces> {
        self.run("spaces", Some(context), async |call| {
            Ok(self.tenant_now(call, &context.tenant).await?.spaces.clone())
        })
        .await
    }

    /// Vectors of a space that is dropped stay in the documents until the items are put anew or the
    /// space is named again.
    ///
    /// Billed: one read and one write; one read more for each space that is new to the tenant, and
    /// one for its first; a read and a write for each vector that such a space had left behind when
    /// it was dropped; with the change log one write more.
    async fn set_spaces(
        &self,
        context: &CallContext,
        spaces: &TenantSpaces,
    ) -> Result<TenantSpaces> {
        self.run("set_spaces", Some(context), async |call| {
            check_spaces(spaces)?;
            self.change_spaces(call, context, spaces).await
        })
        .await
    }

    /// None: the store keeps no words.
    async fn analyser(&self) -> Result<Option<String>> {
        self.run("analyser", None, async |_| Ok(None)).await
    }

    /// Billed: nothing where the store's document is known; one write where it has to be made.
    async fn store_key(&self) -> Result<StoreKey> {
        self.run("store_key", None, async |call| self.key(call).await).await
    }

    /// Billed: one read for each id.
    async fn erased(&self, context: &CallContext, ids: &[MemoryId]) -> Result<Vec<bool>> {
        self.run("erased", Some(context), async |call| {
            if ids.len() > MOST {
                return Err(Error::invalid(format!(
                    "a look for tombstones takes {MOST} ids at the most"
                )));
            }
            let key = match self.known_key(call).await? {
                Some(key) if !ids.is_empty() => key,
                // Where there is no key there is no tombstone.
                _ => return Ok(vec![false; ids.len()]),
            };
            let name = |id: &MemoryId| self.tombstone_name(&key, &context.tenant, id);
            let mask = Some(vec![fields::V.to_owned()]);
            let found = self.wire.get(call, ids.iter().map(name).collect(), mask).await?;
            Ok(found.iter().map(Option::is_some).collect())
        })
        .await
    }

    /// Billed: one write for each.
    async fn add_tombstones(&self, tombstones: &[Tombstone]) -> Result<()> {
        self.run("add_tombstones", None, async |call| {
            if tombstones.len() > MOST {
                return Err(Error::invalid(format!(
                    "{MOST} tombstones at the most are taken in at once"
                )));
            }
            self.store_written(call).await?;
            let mut all: Vec<_> = tombstones.iter().map(digits).collect();
            all.sort();
            all.dedup();
            let writes = all.iter().map(|digits| tombstone_write(&self.names, digits));
            self.commit_apart(call, &writes.collect::<Vec<_>>(), BATCH).await
        })
        .await
    }
}

/// The write of a tombstone: nothing but its name and the shape.
fn tombstone_write(names: &Names, digits: &str) -> Write {
    Write::update(proto::Document {
        name: names.tombstone(digits),
        fields: HashMap::from([model::shape_field()]),
        create_time: None,
        update_time: None,
    })
}

fn check_spaces(spaces: &TenantSpaces) -> Result<()> {
    match (&spaces.active, &spaces.next) {
        (None, Some(_)) => return Err(Error::invalid("a next space without an active one")),
        (Some(active), Some(next)) if active == next => {
            return Err(Error::invalid("the next space is the active one"));
        }
        _ => {}
    }
    for space in spaces.active.iter().chain(&spaces.next) {
        if space.dimensions() > DIMENSIONS {
            return Err(Error::invalid(format!(
                "the space has {} dimensions; Firestore takes {DIMENSIONS} at the most",
                space.dimensions()
            )));
        }
    }
    Ok(())
}

impl FirestoreStore {
    /// The write of an erased id's tombstone.
    pub(crate) fn tombstone_write(
        &self,
        key: &StoreKey,
        context: &CallContext,
        id: &MemoryId,
    ) -> Write {
        let mac = super::book::tombstone(key, &context.tenant, id.as_str());
        tombstone_write(&self.names, &digits(&mac))
    }

    async fn change_spaces(
        &self,
        call: Call<'_>,
        context: &CallContext,
        wanted: &TenantSpaces,
    ) -> Result<TenantSpaces> {
        let tenant = &context.tenant;
        'attempts: for attempt in 0..self.settings.contention_attempts {
            let state = self.tenant_now(call, tenant).await?;
            if state.spaces.version != wanted.version {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "the tenant's spaces were changed meanwhile",
                ));
            }
            // What a space left behind when it was dropped does not come back with it.
            for space in wanted.active.iter().chain(&wanted.next) {
                if state.spaces.find(&space.id()).is_none() {
                    match crate::vectors::forget(self, call, tenant, &state, space).await {
                        Ok(()) => {}
                        Err(Refused::Error(error)) => return Err(error),
                        Err(Refused::Contended) => {
                            pause(self, call, attempt).await;
                            continue 'attempts;
                        }
                    }
                }
            }
            // No version of a tenant that was erased and came back fits an old one.
            let last = match state.spaces.version {
                0 => self.remains(call, tenant).await?.version,
                version => version,
            };
            let spaces = TenantSpaces { version: last + 1, ..wanted.clone() };
            let new = TenantState { spaces: spaces.clone(), ..(*state).clone() };
            // What others keep of the tenant was made with the spaces it had.
            let turn = self.log_turn(call, tenant).await?;
            let reset = [LogOp::Reset];
            let entries = match &turn {
                Some(turn) => turn.writes(&self.names, tenant, &reset)?,
                None => Vec::new(),
            };
            match self.replace_tenant(call, tenant, &state, new, entries).await {
                Ok(_) => {
                    self.log_done(call, tenant, turn, reset.len()).await;
                    return Ok(spaces);
                }
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Contended) => {
                    drop(turn);
                    pause(self, call, attempt).await;
                }
            }
        }
        Err(too_contended())
    }
}
