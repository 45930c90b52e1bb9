//! A cache in the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{Cache, CacheFill, CacheKey, CacheRead, CacheToken, CacheWrite};
use memory_core::{CallContext, Clock, Error, ErrorKind, Health, IdSource, Result, TenantId};

use super::protocol::{Groups, Seen, Standing};

/// What a group weighs besides its values, in bytes: names, token, and the maps' own.
const GROUP_BYTES: usize = 160;

/// A cache in the process: for tests, and for a program that alone writes to its store.
///
/// It answers as [`Groups`] says, and holds so many groups and bytes at the most; beyond that the
/// groups that were used longest ago go. Two processes with a cache of their own each do not tell
/// each other of writes: they see old values for `max_stale`.
#[derive(Debug)]
pub struct LocalCache {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    most_groups: usize,
    most_bytes: usize,
    state: Mutex<State>,
}

type Token = [u8; 16];
type Of = Groups<String, Token, Arc<[u8]>>;

#[derive(Default)]
struct State {
    tenants: BTreeMap<TenantId, Of>,
    /// When each group was used last, and what it weighs.
    known: HashMap<(TenantId, String), (u64, usize)>,
    by_use: BTreeSet<(u64, TenantId, String)>,
    uses: u64,
    bytes: usize,
    is_closed: bool,
}

/// Values stay out of logs.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("groups", &self.known.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Notes that a group was used, and weighs it anew.
    fn used(&mut self, tenant: &TenantId, group: &str) {
        let weight = self.tenants.get(tenant).and_then(|groups| groups.get(&group.to_owned()));
        let Some(weight) = weight.map(|it| {
            let values = it.values.iter().map(|(entry, (_, value))| entry.len() + value.len());
            GROUP_BYTES + group.len() + values.sum::<usize>()
        }) else {
            return self.forget(tenant, group);
        };
        self.uses += 1;
        let key = (tenant.clone(), group.to_owned());
        if let Some((used, before)) = self.known.insert(key, (self.uses, weight)) {
            self.by_use.remove(&(used, tenant.clone(), group.to_owned()));
            self.bytes -= before;
        }
        self.by_use.insert((self.uses, tenant.clone(), group.to_owned()));
        self.bytes += weight;
    }

    fn forget(&mut self, tenant: &TenantId, group: &str) {
        let key = (tenant.clone(), group.to_owned());
        if let Some((used, weight)) = self.known.remove(&key) {
            self.by_use.remove(&(used, key.0, key.1));
            self.bytes -= weight;
        }
        if let Some(groups) = self.tenants.get_mut(tenant) {
            groups.evict(&group.to_owned());
            if groups.is_empty() {
                self.tenants.remove(tenant);
            }
        }
    }

    fn of(&mut self, tenant: &TenantId) -> &mut Of {
        self.tenants.entry(tenant.clone()).or_default()
    }

    fn hold_bounds(&mut self, groups: usize, bytes: usize) {
        while self.known.len() > groups || self.bytes > bytes {
            let Some((_, tenant, group)) = self.by_use.first().cloned() else { return };
            self.forget(&tenant, &group);
        }
    }
}

impl LocalCache {
    /// A cache of so many groups and bytes. Random tokens come from `ids`, which has to be random:
    /// [`memory_core::RandomIds`].
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        most_groups: usize,
        most_bytes: usize,
    ) -> Self {
        Self { clock, ids, most_groups, most_bytes, state: Mutex::default() }
    }

    /// Removes everything, as a flush of a server does.
    pub fn flush(&self) {
        let mut state = self.locked();
        *state = State { is_closed: state.is_closed, ..State::default() };
    }

    /// Removes a group of a tenant, as an eviction does.
    pub fn evict(&self, tenant: &TenantId, group: &str) {
        self.locked().forget(tenant, group);
    }

    /// How many groups it holds, and their bytes.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let state = self.locked();
        (state.known.len(), state.bytes)
    }

    /// Whether a write's mark stands on a group.
    #[must_use]
    pub fn is_marked(&self, tenant: &TenantId, group: &str) -> bool {
        let now = self.clock.monotonic();
        let state = self.locked();
        let found = state.tenants.get(tenant).and_then(|groups| groups.get(&group.to_owned()));
        found.is_some_and(|it| it.until > now && matches!(it.standing, Standing::Mark(_)))
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, context: &CallContext) -> Result<(MutexGuard<'_, State>, Duration)> {
        let now = self.clock.monotonic();
        context.check_deadline(now)?;
        let state = self.locked();
        if state.is_closed {
            return Err(Error::new(ErrorKind::Unavailable, "the cache is closed")
                .with_retryable(false)
                .with_backend("cache"));
        }
        Ok((state, now))
    }

    fn fresh(&self) -> Token {
        *self.ids.commit_id().as_bytes()
    }
}

#[async_trait]
impl Cache for LocalCache {
    async fn read(
        &self,
        context: &CallContext,
        keys: &[CacheKey],
        life: Duration,
    ) -> Result<Vec<CacheRead>> {
        let (mut state, now) = self.open(context)?;
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            let place = (&key.group, &key.under, &key.entry);
            let seen = state.of(&context.tenant).read(place, life, now, || self.fresh());
            answers.push(match seen {
                Seen::Hit(value) => CacheRead::Hit(value.to_vec()),
                Seen::Miss(group, under) => CacheRead::Miss(CacheToken { group, under }),
                Seen::InFlight => CacheRead::InFlight,
            });
            state.used(&context.tenant, &key.group);
            state.used(&context.tenant, &key.under);
        }
        state.hold_bounds(self.most_groups, self.most_bytes);
        Ok(answers)
    }

    async fn fill(&self, context: &CallContext, fills: Vec<CacheFill>) -> Result<Vec<bool>> {
        let (mut state, now) = self.open(context)?;
        let mut kept = Vec::with_capacity(fills.len());
        for CacheFill { key, token, value } in fills {
            let place = (&key.group, &key.under, key.entry);
            let tokens = (token.group, token.under);
            kept.push(state.of(&context.tenant).fill(place, tokens, value.into(), now));
            state.used(&context.tenant, &key.under);
            state.used(&context.tenant, &key.group);
        }
        state.hold_bounds(self.most_groups, self.most_bytes);
        Ok(kept)
    }

    async fn begin_write(
        &self,
        context: &CallContext,
        groups: Vec<String>,
        most: Duration,
    ) -> Result<CacheWrite> {
        let (mut state, now) = self.open(context)?;
        let mark = self.fresh();
        for group in &groups {
            state.of(&context.tenant).begin(group, mark, most, now);
            state.used(&context.tenant, group);
        }
        state.hold_bounds(self.most_groups, self.most_bytes);
        Ok(CacheWrite { groups, mark })
    }

    async fn end_write(
        &self,
        context: &CallContext,
        write: CacheWrite,
        life: Duration,
    ) -> Result<()> {
        let (mut state, now) = self.open(context)?;
        for group in &write.groups {
            let fresh = self.fresh();
            state.of(&context.tenant).end(group, write.mark, fresh, life, now);
            state.used(&context.tenant, group);
        }
        state.hold_bounds(self.most_groups, self.most_bytes);
        Ok(())
    }

    async fn health(&self) -> Health {
        let (groups, bytes) = self.size();
        let mut health = Health::healthy();
        health.detail("groups", groups.to_string());
        health.detail("bytes", bytes.to_string());
        health
    }

    async fn close(&self) -> Result<()> {
        *self.locked() = State { is_closed: true, ..State::default() };
        Ok(())
    }
}
