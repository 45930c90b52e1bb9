//! The tenant's document, and how every write makes sure that it is as this process knows it.
//!
//! The document holds the tenant's spaces and write fence, and whether the tenant is listed, which
//! its first commit sees to. Its state is remembered together with its update time. A write carries a `verify` of that time in
//! the same request, so a fence or a space that was changed by another process is noticed by the
//! server, at the cost of no read and no round trip. Many writers at once verify shares of it
//! instead ([`crate::shares`]). Where a server does not know `verify`, a transaction that reads the
//! document does the same for one more of each.

use std::collections::HashMap;
use std::hash::{Hash as _, Hasher as _};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use lru::LruCache;
use memory_core::traits::TenantSpaces;
use memory_core::{CallContext, EmbeddingSpace, Error, ErrorKind, Result, SpaceId, TenantId};
use proto::value::ValueType;

use crate::error::corrupt;
use crate::model;
use crate::shares::{self, Duty, Held, Shares};
use crate::store::FirestoreStore;
use crate::wire::{Call, Found, Refused, Write};

/// Whether the tenant is listed.
pub(crate) const LISTED: &str = "listed";
const SPACES: &str = "spaces";
const SPACES_VERSION: &str = "spaces_version";
const FENCE: &str = "fence";

/// What is known of a tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct TenantState {
    /// The update time of its document in microseconds; `None` where there is no document.
    pub(crate) updated_at: Option<i64>,
    /// Whether it is listed: from its first commit until its erasure.
    pub(crate) listed: bool,
    /// Its spaces.
    pub(crate) spaces: TenantSpaces,
    /// Its write fence.
    pub(crate) fence: Option<u64>,
}

/// What is remembered of tenants.
#[derive(Debug)]
pub(crate) struct Tenants {
    states: Mutex<LruCache<TenantId, Arc<TenantState>>>,
    shares: Mutex<LruCache<TenantId, Arc<Shares>>>,
    /// Held by a commit that makes or lists a tenant's document, so that others of this process wait
    /// for it instead of losing to it. Tenants share them.
    first: [tokio::sync::Mutex<()>; FIRST],
}

/// Tenants whose first commits can be under way at once in one process, at the most.
const FIRST: usize = 64;

impl Tenants {
    pub(crate) fn new(most: u32) -> Self {
        let most = usize::try_from(most).ok().and_then(NonZeroUsize::new);
        let most = most.unwrap_or(NonZeroUsize::MIN);
        let (states, shares) = (Mutex::new(LruCache::new(most)), Mutex::new(LruCache::new(most)));
        Self { states, shares, first: std::array::from_fn(|_| tokio::sync::Mutex::new(())) }
    }

    fn states(&self) -> MutexGuard<'_, LruCache<TenantId, Arc<TenantState>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, tenant: &TenantId) -> Option<Arc<TenantState>> {
        self.states().get(tenant).cloned()
    }

    /// Waits for a first commit of this tenant that is under way.
    async fn first(&self, tenant: &TenantId) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = std::hash::DefaultHasher::new();
        tenant.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % FIRST as u64).unwrap_or_default();
        self.first[at].lock().await
    }

    /// The shares of the tenant's document as it was at `of`.
    fn shares(&self, tenant: &TenantId, of: i64) -> Arc<Shares> {
        let mut known = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(tenant) {
            Some(shares) if shares.of == of => Arc::clone(shares),
            // A state that is outdated: the server will say so.
            Some(shares) if shares.of > of => Arc::new(Shares::new(of)),
            _ => {
                let shares = Arc::new(Shares::new(of));
                known.put(tenant.clone(), Arc::clone(&shares));
                shares
            }
        }
    }

    /// Remembers a state, unless a newer one is known.
    pub(crate) fn learn(&self, tenant: &TenantId, state: Arc<TenantState>) {
        let mut known = self.states();
        if known.peek(tenant).is_none_or(|old| old.updated_at <= state.updated_at) {
            known.put(tenant.clone(), state);
        }
    }

    /// Forgets a tenant's state: the next use reads it.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.states().pop(tenant);
    }
}

impl TenantState {
    fn read(found: &Found) -> Result<Self> {
        model::check_shape(&found.fields)?;
        let spaces = match found.fields.get(SPACES).and_then(|v| v.value_type.as_ref()) {
            None => TenantSpaces::default(),
            Some(ValueType::StringValue(text)) => {
                serde_json::from_str(text).map_err(|_| corrupt("spaces"))?
            }
            Some(_) => return Err(corrupt("spaces")),
        };
        let number = |name| match found.fields.get(name).and_then(|v| v.value_type.as_ref()) {
            Some(ValueType::IntegerValue(number)) => Some(number.unsigned_abs()),
            _ => None,
        };
        let version = number(SPACES_VERSION).unwrap_or_default();
        let spaces = TenantSpaces { version, ..spaces };
        let listed = match found.fields.get(LISTED).and_then(|v| v.value_type.as_ref()) {
            Some(ValueType::BooleanValue(listed)) => *listed,
            _ => return Err(corrupt("listing")),
        };
        Ok(Self { updated_at: Some(found.updated_at), listed, spaces, fence: number(FENCE) })
    }

    /// The document of this state.
    pub(crate) fn document(&self, name: String) -> Result<proto::Document> {
        let mut fields = HashMap::from([model::shape_field()]);
        let mut put = |name: &str, value| fields.insert(name.to_owned(), model::value(value));
        put(LISTED, ValueType::BooleanValue(self.listed));
        if self.spaces.version > 0 {
            let text = serde_json::to_string(&self.spaces).map_err(|error| {
                Error::new(ErrorKind::Unexpected, "spaces have no JSON").with_source(error)
            })?;
            put(SPACES, ValueType::StringValue(text));
            put(SPACES_VERSION, ValueType::IntegerValue(self.spaces.version.cast_signed()));
        }
        if let Some(fence) = self.fence {
            put(FENCE, ValueType::IntegerValue(fence.cast_signed()));
        }
        Ok(proto::Document { name, fields, create_time: None, update_time: None })
    }

    /// The ids of the tenant's spaces, the active one first.
    pub(crate) fn space_ids(&self) -> Vec<SpaceId> {
        let spaces = self.spaces.active.iter().chain(&self.spaces.next);
        spaces.map(EmbeddingSpace::id).collect()
    }

    /// Refuses a write that the tenant's fence keeps out.
    ///
    /// # Errors
    /// `Conflict`.
    pub(crate) fn check_fence(&self, context: &CallContext) -> Result<()> {
        match self.fence {
            Some(fence) if context.fence.is_none_or(|token| token.0 < fence) => {
                Err(Error::new(ErrorKind::Conflict, "a write fence stands before the tenant"))
            }
            _ => Ok(()),
        }
    }
}

impl FirestoreStore {
    /// The tenant's state, remembered or read.
    ///
    /// Billed: one read where it is not remembered.
    pub(crate) async fn tenant(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
    ) -> Result<Arc<TenantState>> {
        match self.tenants.known(tenant) {
            Some(state) => Ok(state),
            None => self.tenant_now(call, tenant).await,
        }
    }

    /// The tenant's state as it is now.
    ///
    /// Billed: one read.
    pub(crate) async fn tenant_now(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
    ) -> Result<Arc<TenantState>> {
        let found = self.wire.get(call, vec![self.names.tenant(tenant)], None).await?;
        let state = match found.into_iter().next().flatten() {
            Some(found) => TenantState::read(&found)?,
            None => TenantState::default(),
        };
        let state = Arc::new(state);
        if state.updated_at.is_none() {
            // A document that is gone is older news than one that was seen before.
            self.tenants.forget(tenant);
        }
        self.tenants.learn(tenant, Arc::clone(&state));
        Ok(state)
    }

    /// Sends writes that hold only while the tenant's document is as `state` has it, and makes or
    /// changes the document where the tenant is not listed. The answer is the update time of each of
    /// `writes`, in order.
    ///
    /// After [`Refused::Contended`] the remembered state is forgotten: read it, and whatever the
    /// preconditions are about, and decide anew.
    pub(crate) async fn commit_guarded(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        state: &TenantState,
        mut writes: Vec<Write>,
    ) -> Result<Vec<i64>, Refused> {
        self.store_written(call).await?;
        let count = writes.len();
        let name = self.names.tenant(tenant);
        let mut transaction = Vec::new();
        let mut held = None;
        let mut first = None;
        if !state.listed {
            first = Some(self.in_time(call, self.tenants.first(tenant)).await?);
        }
        let newer = |known: &Arc<TenantState>| known.listed && known.updated_at > state.updated_at;
        let known = first.as_ref().and_then(|_| self.tenants.known(tenant)).filter(newer);
        // Another commit was first meanwhile: what it changed is only that the tenant is listed,
        // or else the caller has to decide anew.
        let state = match &known {
            Some(known) if known.spaces == state.spaces && known.fence == state.fence => {
                first = None;
                known
            }
            Some(_) => return Err(Refused::Contended),
            None => state,
        };
        let listed = TenantState { listed: true, ..state.clone() };
        match state.updated_at.filter(|_| state.listed) {
            None => writes.push(Write::update(listed.document(name)?).if_still(state.updated_at)),
            Some(time) if self.verifies(call).await? => {
                let part = self.hold(call, tenant, time).await?;
                match part.duty() {
                    Duty::Verify(at, time) => {
                        let name = shares::name(&self.names, tenant, at);
                        writes.push(Write::verify(name).if_updated_at(time));
                    }
                    duty => {
                        if let Duty::Make(at) = duty {
                            let name = shares::name(&self.names, tenant, at);
                            // First, so that its answer is found whatever the others are.
                            writes.insert(0, shares::make(name, time));
                        }
                        writes.push(Write::verify(name).if_updated_at(time));
                    }
                }
                held = Some(part);
            }
            Some(_) => transaction = self.hold_in_transaction(call, tenant, state).await?,
        }
        let answer = match self.commit_in(call, writes, transaction).await {
            Ok(mut times) => {
                if let Some(held) =
                    held.as_mut().filter(|held| matches!(held.duty(), Duty::Make(_)))
                    && !times.is_empty()
                {
                    held.made(times.remove(0));
                }
                // The tenant's document is the last of the writes.
                if !state.listed
                    && let Some(time) = times.last().copied()
                {
                    let made = TenantState { updated_at: Some(time), ..listed };
                    self.tenants.learn(tenant, Arc::new(made));
                }
                times.truncate(count);
                Ok(times)
            }
            Err(refused) => {
                // Any other failure says nothing of the tenant, and whatever is remembered wrongly
                // is refused the next time.
                if matches!(refused, Refused::Contended) {
                    self.tenants.forget(tenant);
                    if let Some(held) = &mut held {
                        held.refused();
                    }
                }
                Err(refused)
            }
        };
        // What was learnt is known by now to those who wait for it.
        drop(first);
        answer
    }

    /// Sends writes that hold only while the tenant's document is as `state` has it, there or not,
    /// and does not change it.
    ///
    /// Billed: where the server does not know `verify`, one read more.
    pub(crate) async fn commit_beside(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        state: &TenantState,
        mut writes: Vec<Write>,
    ) -> Result<(), Refused> {
        let mut transaction = Vec::new();
        if self.verifies(call).await? {
            let verify = Write::verify(self.names.tenant(tenant));
            writes.push(verify.if_still(state.updated_at));
        } else {
            transaction = self.hold_in_transaction(call, tenant, state).await?;
        }
        self.commit_in(call, writes, transaction).await.map(|_| ())
    }

    /// Commits in a transaction, which is ended if that fails, or in none where its id is empty.
    async fn commit_in(
        &self,
        call: Call<'_>,
        writes: Vec<Write>,
        transaction: Vec<u8>,
    ) -> Result<Vec<i64>, Refused> {
        let sent = self.wire.commit(call, writes, transaction.clone()).await;
        if matches!(&sent, Err(Refused::Error(_))) && !transaction.is_empty() {
            self.give_up(call, transaction).await;
        }
        sent
    }

    /// A transaction in which the tenant's document was read as `state` has it.
    ///
    /// Billed: one read.
    async fn hold_in_transaction(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        state: &TenantState,
    ) -> Result<Vec<u8>, Refused> {
        let (name, mask) = (self.names.tenant(tenant), vec![crate::fields::V.to_owned()]);
        let (found, id) = self.wire.get_in_transaction(call, vec![name], Some(mask)).await?;
        let now = found.into_iter().next().flatten().map(|found| found.updated_at);
        if now != state.updated_at {
            self.tenants.forget(tenant);
            self.give_up(call, id).await;
            return Err(Refused::Contended);
        }
        Ok(id)
    }

    /// Takes a part in the guard of the tenant's document as it was at `of`.
    ///
    /// Billed: one read where a share is looked for that another process may have made.
    async fn hold(&self, call: Call<'_>, tenant: &TenantId, of: i64) -> Result<Held, Refused> {
        let mut held = self.tenants.shares(tenant, of).hold();
        if let Duty::Look(at) = held.duty() {
            let name = shares::name(&self.names, tenant, at);
            match self.wire.get(call, vec![name], None).await?.into_iter().next().flatten() {
                None => held.absent(at),
                Some(found) if shares::stands_for(&found)? == of => {
                    held.found(at, found.updated_at);
                }
                Some(_) => held.unfit(),
            }
        }
        Ok(held)
    }

    /// Ends a transaction that did not come to its end, so that it holds nobody up. That this may
    /// fail too is no matter: the server ends it by itself after a minute.
    async fn give_up(&self, call: Call<'_>, transaction: Vec<u8>) {
        let own = Call { operation: call.operation, context: None };
        if let Err(error) = self.wire.rollback(own, transaction).await {
            tracing::debug!(kind = error.kind().name(), "a transaction could not be rolled back");
        }
    }

    /// Replaces the tenant's document, if it is still as `old` has it, together with other writes.
    ///
    /// Billed: a write, and a delete for each share there may be, where the tenant was listed.
    pub(crate) async fn replace_tenant(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        old: &TenantState,
        new: TenantState,
        mut others: Vec<Write>,
    ) -> Result<Arc<TenantState>, Refused> {
        self.store_written(call).await?;
        let write = Write::update(new.document(self.names.tenant(tenant))?);
        others.insert(0, write.if_still(old.updated_at));
        if old.listed {
            others.extend(shares::delete_all(&self.names, tenant));
        }
        self.tenants.forget(tenant);
        let times = self.wire.commit(call, others, Vec::new()).await?;
        let updated_at = times.first().copied();
        let state = Arc::new(TenantState { updated_at, ..new });
        self.tenants.learn(tenant, Arc::clone(&state));
        Ok(state)
    }
}
