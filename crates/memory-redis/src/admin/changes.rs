//! The change log: a stream of each tenant.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use async_trait::async_trait;
use memory_core::limits::CHANGES;
use memory_core::traits::{Change, ChangeBatch, ChangeLog, ChangeOp, ChangePosition};
use memory_core::{CallContext, ConsumerName, Error, MemoryId, Result, Revision};
use redis::Value;

use super::{count, int, list, text};
use crate::error::corrupt;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};

static CHANGES_LUA: LazyLock<Script> = LazyLock::new(|| script(Effect::Writes));
static READ_LUA: LazyLock<Script> = LazyLock::new(|| script(Effect::Reads));

fn script(effect: Effect) -> Script {
    let parts = [
        include_str!("../lua/guard.lua"),
        include_str!("../lua/log.lua"),
        include_str!("../lua/changes.lua"),
    ];
    Script::new(&parts.join("\n"), effect)
}

/// How often a log that nobody reads is cut: after so many changes of a tenant.
const NOW_AND_THEN: u64 = 1_000;

/// The position of the tenant's last change: one round trip.
///
/// # Errors
/// What the server met.
pub(crate) async fn head(store: &RedisStore, call: Call<'_>, context: &CallContext) -> Result<u64> {
    let key = store.keys.tenant(&context.tenant).state();
    let mut command = redis::cmd("HGET");
    command.arg(&key).arg("pos");
    count(&store.wire.at(call, &key, &command, Effect::Reads).await?)
}

/// Drops what every consumer has read and is too much, where a commit of so many changes went past
/// a multiple of a thousand. A failure is left to the next time.
pub(crate) async fn trim_now_and_then(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    position: u64,
    changes: usize,
) {
    let before = position.saturating_sub(u64::try_from(changes).unwrap_or(u64::MAX));
    if before / NOW_AND_THEN == position / NOW_AND_THEN {
        return;
    }
    let keep = store.settings.change_log_keep.to_string().into_bytes();
    if let Err(error) = ask(store, call, context, &[b"trim".to_vec(), keep]).await {
        tracing::debug!(%error, "the change log was not trimmed");
    }
}

async fn ask(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    args: &[Vec<u8>],
) -> Result<()> {
    let base = [store.keys.tenant(&context.tenant).base().to_owned()];
    store.wire.script(call, &CHANGES_LUA, &base, args).await.map(drop)
}

fn change(entry: Value) -> Result<Change> {
    let odd = || corrupt("an entry of the change log is not what was written");
    let entry = list(entry)?;
    let [id, fields] = &entry[..] else { return Err(odd()) };
    let id = text(id)?;
    let position = id.split_once('-').and_then(|(position, _)| position.parse().ok());
    let position = ChangePosition(position.ok_or_else(odd)?);
    let fields = match fields {
        Value::Array(fields) => fields.iter().map(text).collect::<Result<Vec<_>>>()?,
        Value::Map(pairs) => {
            let pairs = pairs.iter().flat_map(|(name, value)| [text(name), text(value)]);
            pairs.collect::<Result<Vec<_>>>()?
        }
        _ => return Err(odd()),
    };
    let field = |name: &str| {
        let pair = fields.chunks(2).find(|pair| pair[0] == name);
        pair.and_then(|pair| pair.get(1)).cloned().unwrap_or_default()
    };
    let id = || MemoryId::new(field("i")).map_err(|_| odd());
    let revision = || Revision::new(field("r")).map_err(|_| odd());
    let op = match field("o").as_str() {
        "p" => ChangeOp::Put(id()?, revision()?),
        "v" => ChangeOp::Vectors(id()?, revision()?),
        "d" => ChangeOp::Delete(id()?),
        "x" => ChangeOp::Reset,
        _ => return Err(odd()),
    };
    Ok(Change { position, op })
}

#[async_trait]
impl ChangeLog for RedisStore {
    /// One round trip.
    async fn read_changes(
        &self,
        context: &CallContext,
        after: ChangePosition,
        limit: u32,
    ) -> Result<ChangeBatch> {
        self.run("read_changes", Some(context), async |call| {
            if limit == 0 || limit > CHANGES {
                return Err(Error::invalid(format!("a read of changes takes 1 to {CHANGES}")));
            }
            let base = [self.keys.tenant(&context.tenant).base().to_owned()];
            // Beyond every position that a stream can have, there is nothing.
            let from = after.0.min(i64::MAX.unsigned_abs()).to_string().into_bytes();
            let args = [b"read".to_vec(), from, limit.to_string().into_bytes()];
            let answer = list(self.wire.script(call, &READ_LUA, &base, &args).await?)?;
            let [_, head, dropped, entries] = &answer[..] else {
                return Err(corrupt("the server's answer to a read of changes is odd"));
            };
            let changes = list(entries.clone())?.into_iter().map(change).collect::<Result<_>>()?;
            let head = ChangePosition(count(head)?);
            let gap = after.0 < u64::try_from(int(dropped)?).unwrap_or(0);
            Ok(ChangeBatch { changes, head, gap })
        })
        .await
    }

    /// One round trip.
    async fn acknowledge(
        &self,
        context: &CallContext,
        consumer: &ConsumerName,
        position: ChangePosition,
    ) -> Result<()> {
        self.run("acknowledge", Some(context), async |call| {
            let args = [
                b"ack".to_vec(),
                consumer.as_str().into(),
                position.0.to_string().into_bytes(),
                self.settings.change_log_keep.to_string().into_bytes(),
            ];
            ask(self, call, context, &args).await
        })
        .await
    }

    /// One round trip.
    async fn consumers(
        &self,
        context: &CallContext,
    ) -> Result<BTreeMap<ConsumerName, ChangePosition>> {
        self.run("consumers", Some(context), async |call| {
            let key = self.keys.tenant(&context.tenant).named("lc");
            let mut command = redis::cmd("HGETALL");
            command.arg(&key);
            let odd = || corrupt("a consumer of the change log is not what was written");
            let pairs: Vec<(Value, Value)> =
                match self.wire.at(call, &key, &command, Effect::Reads).await? {
                    Value::Map(pairs) => pairs,
                    Value::Array(values) => values
                        .chunks_exact(2)
                        .map(|pair| (pair[0].clone(), pair[1].clone()))
                        .collect(),
                    _ => return Err(odd()),
                };
            let read = |(name, position): &(Value, Value)| {
                let name = ConsumerName::new(text(name)?).map_err(|_| odd())?;
                let position = text(position)?.parse().map_err(|_| odd())?;
                Ok((name, ChangePosition(position)))
            };
            pairs.iter().map(read).collect()
        })
        .await
    }

    /// One round trip.
    async fn forget_consumer(&self, context: &CallContext, consumer: &ConsumerName) -> Result<()> {
        self.run("forget_consumer", Some(context), async |call| {
            ask(self, call, context, &[b"forget".to_vec(), consumer.as_str().into()]).await
        })
        .await
    }
}
