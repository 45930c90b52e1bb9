//! The shared cache: a hash for each group, which Redis removes when the group's time is over.
//!
//! Key: `{prefix}:{TENANT}:c:` and the group. The field `t` is what stands on the group: `T` and a
//! token of 16 bytes, or `W` and the mark of a write. Each other field is a value: `e` and the
//! entry, holding the value's bytes and after them the token of the wider group that it was kept
//! under. The key's time is set when the token or the mark is, and no value makes it longer.
//!
//! A read is one round trip, a second where a token is missing; a fill, a begin and an end are one
//! script each. Keys that hold anything else count as absent, and are replaced.

mod health;
mod stored;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{Cache, CacheFill, CacheKey, CacheRead, CacheToken, CacheWrite};
use memory_core::{CallContext, Clock, Error, ErrorKind, Health, IdSource, Result};
use redis::{Cmd, Value};

use crate::BACKEND;
use crate::error::corrupt;
use crate::keys::{Keys, TenantKeys};
use crate::settings::RedisSettings;
use crate::store::RedisParts;
use crate::wire::{Call, Effect, Script, Wire};
use stored::field;
pub(crate) use stored::{Standing, seen};

/// The field of what stands on a group.
const STANDING: &str = "t";

/// Most groups or values of one script: it keeps the server to itself, and so many take it a few
/// milliseconds.
const BATCH: usize = 1_000;

macro_rules! script {
    ($name:literal, $effect:expr) => {
        LazyLock::new(|| {
            let parts = [include_str!("../lua/cache_standing.lua"), include_str!($name)];
            Script::new(&parts.concat(), $effect)
        })
    };
}

static ISSUE: LazyLock<Script> = script!("../lua/cache_issue.lua", Effect::Writes);
static FILL: LazyLock<Script> = script!("../lua/cache_fill.lua", Effect::Writes);
static BEGIN: LazyLock<Script> = script!("../lua/cache_begin.lua", Effect::Writes);
static END: LazyLock<Script> = script!("../lua/cache_end.lua", Effect::Writes);

/// A cache on Redis, shared by processes.
///
/// It may lose anything at any time: flushed, evicted, restarted, failed over. What holds then is
/// said by [`memory_core::traits::Cache`]. Of the settings only those of the connection and the
/// prefix count. All of a tenant lies in one slot of a cluster.
#[derive(Debug)]
pub struct RedisCache {
    keys: Keys,
    wire: Wire,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    is_closed: AtomicBool,
}

impl RedisCache {
    /// A cache under the settings' prefix. Nothing is asked of the server yet: one that cannot be
    /// reached makes calls fail, and the caller goes on without them. Tokens come from the parts'
    /// `ids`, which have to be random.
    ///
    /// # Errors
    /// `Config`: a setting out of its range.
    #[expect(clippy::unused_async, reason = "connections live in the runtime that it is opened in")]
    pub async fn open(settings: RedisSettings, parts: RedisParts) -> Result<Arc<Self>> {
        let keys = Keys::new(&settings.prefix);
        let wire = Wire::new(&settings, parts.clock.clone(), parts.ledger)?;
        let is_closed = AtomicBool::new(false);
        Ok(Arc::new(Self { keys, wire, clock: parts.clock, ids: parts.ids, is_closed }))
    }

    async fn run<T>(
        &self,
        operation: &'static str,
        context: &CallContext,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let named = |error: Error| error.with_backend(BACKEND).with_operation(operation);
        context.check_deadline(self.clock.monotonic()).map_err(named)?;
        if self.is_closed.load(Ordering::Relaxed) {
            let closed = Error::new(ErrorKind::Unavailable, "the cache is closed: open another");
            return Err(named(closed.with_retryable(false)));
        }
        work.await.map_err(named)
    }

    fn fresh(&self) -> [u8; 16] {
        *self.ids.commit_id().as_bytes()
    }

    async fn read_all(
        &self,
        call: Call<'_>,
        keys: &TenantKeys,
        wanted: &[CacheKey],
        life: Duration,
    ) -> Result<Vec<CacheRead>> {
        // Each wider group is read once, after the groups: a value counts if the wider group has its
        // token then, and so had it when the value was read.
        let mut wide: Vec<&str> = Vec::new();
        let places: Vec<usize> = wanted
            .iter()
            .map(|key| {
                wide.iter().position(|name| *name == key.under).unwrap_or_else(|| {
                    wide.push(&key.under);
                    wide.len() - 1
                })
            })
            .collect();
        let mut commands: Vec<Cmd> = Vec::with_capacity(wanted.len() + wide.len());
        for key in wanted {
            let mut command = Cmd::new();
            command.arg("HMGET").arg(group_key(keys, &key.group));
            commands.push(command.arg(STANDING).arg(field(&key.entry)).take());
        }
        for name in &wide {
            commands.push(Cmd::new().arg("HGET").arg(group_key(keys, name)).arg(STANDING).take());
        }
        let answers = self.wire.many_at(call, keys.base(), &commands, Effect::Reads).await?;
        if answers.len() != commands.len() {
            return Err(corrupt("the server answered another number of commands than were sent"));
        }
        // A command that the server refused, for the key is no hash, is as a group that never was.
        // Where it refused for another reason, it refuses the script below as well.
        let mut answers = answers.into_iter().map(|answer| answer.unwrap_or(Value::Nil));
        let found: Vec<_> = answers.by_ref().take(wanted.len()).map(seen).collect();
        let mut wide_found: Vec<_> = answers.map(|answer| Standing::of(&answer)).collect();
        let mut group_found: Vec<_> = found.iter().map(|(standing, _)| *standing).collect();

        let mut missing: Vec<&str> = Vec::new();
        for (place, key) in wanted.iter().enumerate() {
            let pair = [(group_found[place], &key.group), (wide_found[places[place]], &key.under)];
            if !pair.iter().any(|(standing, _)| matches!(standing, Some(Standing::Mark(_)))) {
                missing.extend(pair.iter().filter(|it| it.0.is_none()).map(|it| it.1.as_str()));
            }
        }
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            let issued = self.issue(call, keys, &missing, life).await?;
            let find = |name: &str| {
                missing.binary_search(&name).ok().and_then(|place| issued.get(place).copied())
            };
            for (place, key) in wanted.iter().enumerate() {
                group_found[place] = group_found[place].or_else(|| find(&key.group));
            }
            for (place, name) in wide.iter().enumerate() {
                wide_found[place] = wide_found[place].or_else(|| find(name));
            }
        }
        let answers = found.into_iter().enumerate().map(|(place, (_, value))| {
            match (group_found[place], wide_found[places[place]]) {
                (Some(Standing::Token(group)), Some(Standing::Token(under))) => value
                    .and_then(|value| value.under(&under))
                    .map_or(CacheRead::Miss(CacheToken { group, under }), CacheRead::Hit),
                // A mark, or no token beside one: none is issued there.
                _ => CacheRead::InFlight,
            }
        });
        Ok(answers.collect())
    }

    /// Issues tokens where there is still neither token nor mark; answers what stands.
    async fn issue(
        &self,
        call: Call<'_>,
        keys: &TenantKeys,
        names: &[&str],
        life: Duration,
    ) -> Result<Vec<Standing>> {
        let mut found = Vec::with_capacity(names.len());
        for names in names.chunks(BATCH) {
            let group_keys: Vec<_> = names.iter().map(|name| group_key(keys, name)).collect();
            let mut args = Vec::with_capacity(1 + names.len());
            args.push(millis(life));
            args.extend(names.iter().map(|_| Standing::Token(self.fresh()).to_bytes()));
            let answer = self.wire.script(call, &ISSUE, &group_keys, &args).await?;
            let standing = match answer {
                Value::Array(items) if items.len() == names.len() => {
                    items.iter().map(Standing::of).collect::<Option<Vec<_>>>()
                }
                _ => None,
            };
            found.extend(standing.ok_or_else(odd)?);
        }
        Ok(found)
    }

    async fn fill_all(
        &self,
        call: Call<'_>,
        keys: &TenantKeys,
        fills: Vec<CacheFill>,
    ) -> Result<Vec<bool>> {
        let mut kept = Vec::with_capacity(fills.len());
        let mut fills = fills.into_iter();
        loop {
            let (mut groups, mut args) = (Vec::new(), Vec::new());
            for fill in fills.by_ref().take(BATCH) {
                groups.push(group_key(keys, &fill.key.group));
                groups.push(group_key(keys, &fill.key.under));
                args.push(Standing::Token(fill.token.group).to_bytes());
                args.push(Standing::Token(fill.token.under).to_bytes());
                args.push(field(&fill.key.entry));
                args.push(stored::value(fill.value, &fill.token.under));
            }
            if groups.is_empty() {
                return Ok(kept);
            }
            let Value::Array(items) = self.wire.script(call, &FILL, &groups, &args).await? else {
                return Err(odd());
            };
            if items.len() * 2 != groups.len() {
                return Err(odd());
            }
            kept.extend(items.iter().map(|item| *item == Value::Int(1)));
        }
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn read(
        &self,
        context: &CallContext,
        keys: &[CacheKey],
        life: Duration,
    ) -> Result<Vec<CacheRead>> {
        let call = Call { operation: "cache_read", context: Some(context) };
        let tenant = self.keys.tenant(&context.tenant);
        self.run(call.operation, context, self.read_all(call, &tenant, keys, life)).await
    }

    async fn fill(&self, context: &CallContext, fills: Vec<CacheFill>) -> Result<Vec<bool>> {
        let call = Call { operation: "cache_fill", context: Some(context) };
        let tenant = self.keys.tenant(&context.tenant);
        self.run(call.operation, context, self.fill_all(call, &tenant, fills)).await
    }

    async fn begin_write(
        &self,
        context: &CallContext,
        groups: Vec<String>,
        most: Duration,
    ) -> Result<CacheWrite> {
        let call = Call { operation: "cache_begin", context: Some(context) };
        let tenant = self.keys.tenant(&context.tenant);
        let work = async {
            let mark = self.fresh();
            let args = [millis(most), Standing::Mark(mark).to_bytes()];
            for some in groups.chunks(BATCH) {
                let keys: Vec<_> = some.iter().map(|name| group_key(&tenant, name)).collect();
                self.wire.script(call, &BEGIN, &keys, &args).await?;
            }
            Ok(CacheWrite { groups, mark })
        };
        self.run(call.operation, context, work).await
    }

    async fn end_write(
        &self,
        context: &CallContext,
        write: CacheWrite,
        life: Duration,
    ) -> Result<()> {
        let call = Call { operation: "cache_end", context: Some(context) };
        let tenant = self.keys.tenant(&context.tenant);
        let work = async {
            for some in write.groups.chunks(BATCH) {
                let keys: Vec<_> = some.iter().map(|name| group_key(&tenant, name)).collect();
                let mut args = Vec::with_capacity(2 + some.len());
                args.extend([millis(life), Standing::Mark(write.mark).to_bytes()]);
                args.extend(some.iter().map(|_| Standing::Token(self.fresh()).to_bytes()));
                self.wire.script(call, &END, &keys, &args).await?;
            }
            Ok(())
        };
        self.run(call.operation, context, work).await
    }

    async fn health(&self) -> Health {
        health::of(&self.wire).await
    }

    async fn close(&self) -> Result<()> {
        self.is_closed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// The key of a group: the tenant's part, `c:`, and the name as it is.
fn group_key(keys: &TenantKeys, group: &str) -> String {
    let mut key = String::with_capacity(keys.base().len() + 2 + group.len());
    key.push_str(keys.base());
    key.push_str("c:");
    key.push_str(group);
    key
}

/// Whole milliseconds, a hundred years at the most: what Redis takes.
fn millis(time: Duration) -> Vec<u8> {
    const MOST: u128 = 100 * 365 * 86_400 * 1_000;
    time.as_millis().min(MOST).to_string().into_bytes()
}

fn odd() -> Error {
    corrupt("a script of the cache answered in another shape: is something between it and Redis?")
}
