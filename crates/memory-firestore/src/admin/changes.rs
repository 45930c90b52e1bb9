//! The change log for its readers: entries, consumers, trimming, and what an erasure does to it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::limits::CHANGES;
use memory_core::traits::{ChangeBatch, ChangeLog, ChangePosition};
use memory_core::{CallContext, ConsumerName, Error, Result, TenantId};
use proto::value::ValueType;

use super::log::{self, LogOp, NUMBER, end_of, entry_name, read_to};
use super::remains::Remains;
use super::scan::{Op, Scan};
use crate::batch::fewer;
use crate::commit::{pause, too_contended};
use crate::error::corrupt;
use crate::model;
use crate::names::{decode, last};
use crate::store::FirestoreStore;
use crate::wire::{Call, Found, Refused, Write};

/// Entries of one request.
const PAGE: usize = 300;
/// Entries that one commit drops: with the commit's other writes below the former limit of 500.
const DROP: u64 = 400;
/// Most entries between two trims of a tenant's log, on the average: fewer than one trim drops.
const BETWEEN: u64 = 250;
/// Longest time of a trim, which the commit's caller waits for.
const TRIM: Duration = Duration::from_secs(5);

const POSITION: &str = "position";

fn on(store: &FirestoreStore) -> Result<()> {
    if store.settings.change_log {
        return Ok(());
    }
    Err(Error::unsupported("the change log is off: the setting change_log turns it on"))
}

#[async_trait]
impl ChangeLog for FirestoreStore {
    /// Billed: one read for each entry, which is one commit or 200 changes of a larger one, and up to
    /// three more. Entries that do not fit into the limit are read too: fewer than fit, for it begins
    /// with as many as hold `limit` changes if all are full, and asks for twice as many each time.
    async fn read_changes(
        &self,
        context: &CallContext,
        after: ChangePosition,
        limit: u32,
    ) -> Result<ChangeBatch> {
        self.run("read_changes", Some(context), async |call| {
            on(self)?;
            self.changes_after(call, &context.tenant, after, limit).await
        })
        .await
    }

    async fn acknowledge(
        &self,
        context: &CallContext,
        consumer: &ConsumerName,
        position: ChangePosition,
    ) -> Result<()> {
        self.run("acknowledge", Some(context), async |call| {
            on(self)?;
            self.move_consumer(call, &context.tenant, consumer, position).await
        })
        .await
    }

    async fn consumers(
        &self,
        context: &CallContext,
    ) -> Result<BTreeMap<ConsumerName, ChangePosition>> {
        self.run("consumers", Some(context), async |call| {
            on(self)?;
            self.all_consumers(call, &context.tenant).await
        })
        .await
    }

    async fn forget_consumer(&self, context: &CallContext, consumer: &ConsumerName) -> Result<()> {
        self.run("forget_consumer", Some(context), async |call| {
            on(self)?;
            let name = self.names.below(&context.tenant, &self.names.consumers, consumer.as_str());
            self.commit_plain(call, vec![Write::delete(name)]).await
        })
        .await
    }
}

impl FirestoreStore {
    async fn changes_after(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        after: ChangePosition,
        limit: u32,
    ) -> Result<ChangeBatch> {
        if limit == 0 || limit > CHANGES {
            return Err(Error::invalid(format!("a read of changes takes 1 to {CHANGES} entries")));
        }
        let parent = self.names.tenant(tenant);
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut changes, mut from, mut newest, mut more) =
            (Vec::new(), read_to(after), None, true);
        let mut asked = most.div_ceil(log::MOST_OPS);
        while more && changes.len() < most {
            let page = asked.min(PAGE).min(most - changes.len());
            asked *= 2;
            let from_value = ValueType::IntegerValue(from.cast_signed());
            let scan = Scan::of(&self.names.changes)
                .filter(NUMBER, Op::GreaterThan, model::value(from_value))
                .earliest(NUMBER)
                .limit(page);
            let found = self.scan(call, &parent, scan).await?;
            more = found.len() == page;
            for entry in &found {
                from = log::number(entry)?;
                newest = Some(from);
                changes.extend(log::changes(entry)?);
            }
            changes.retain(|change| change.position > after);
        }
        // The floor after the entries: what is dropped in between is told, and not missed.
        let remains = self.remains(call, tenant).await?;
        changes.retain(|change| change.position > end_of(remains.floor));
        let head = match newest {
            // All there is has been read.
            Some(newest) if !more => newest.max(remains.floor),
            _ => self.log_head(call, tenant).await?.max(remains.floor),
        };
        let begins = after == ChangePosition(0) && remains.born == remains.floor;
        let gap = after < end_of(remains.floor) && !begins;
        changes.truncate(most);
        Ok(ChangeBatch { changes, head: end_of(head), gap })
    }

    async fn move_consumer(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        consumer: &ConsumerName,
        position: ChangePosition,
    ) -> Result<()> {
        let name = self.names.below(tenant, &self.names.consumers, consumer.as_str());
        let stored = i64::try_from(position.0).unwrap_or(i64::MAX);
        for attempt in 0..self.settings.contention_attempts {
            let found = self.wire.get(call, vec![name.clone()], None).await?;
            let found = found.into_iter().next().flatten();
            if let Some(found) = &found
                && consumer_position(found)? >= position
            {
                return Ok(());
            }
            let fields = HashMap::from([
                model::shape_field(),
                (POSITION.to_owned(), model::value(ValueType::IntegerValue(stored))),
            ]);
            let document = proto::Document {
                name: name.clone(),
                fields,
                create_time: None,
                update_time: None,
            };
            let write = Write::update(document);
            let write = write.if_still(found.map(|found| found.updated_at));
            match self.wire.commit(call, vec![write], Vec::new()).await {
                Ok(_) => return Ok(()),
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Contended) => pause(self, call, attempt).await,
            }
        }
        Err(too_contended())
    }

    async fn all_consumers(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
    ) -> Result<BTreeMap<ConsumerName, ChangePosition>> {
        let (parent, mut after) = (self.names.tenant(tenant), None::<String>);
        let mut consumers = BTreeMap::new();
        loop {
            let scan = Scan::of(&self.names.consumers).after(after.as_deref()).limit(PAGE);
            let found = self.scan(call, &parent, scan).await?;
            for found in &found {
                let name = ConsumerName::new(decode(last(&found.name))?)
                    .map_err(|_| corrupt("consumer's name"))?;
                consumers.insert(name, consumer_position(found)?);
            }
            if found.len() < PAGE {
                return Ok(consumers);
            }
            after = found.last().map(|found| found.name.clone());
        }
    }

    /// Sends writes that no precondition can refuse.
    pub(crate) async fn commit_plain(&self, call: Call<'_>, writes: Vec<Write>) -> Result<()> {
        match self.wire.commit(call, writes, Vec::new()).await {
            Ok(_) => Ok(()),
            Err(Refused::Error(error)) => Err(error),
            Err(Refused::Contended) => Err(too_contended()),
        }
    }

    /// Drops entries that nobody needs, every so often: the newest `change_log_keep` stay, and all
    /// that the slowest consumer has not read. It follows a commit that made the entries after
    /// `before` up to `head`, which it cannot fail: what fails, or takes more than five seconds or
    /// the time that the caller has left, is left to the next time.
    ///
    /// Billed: for one entry in `change_log_keep / 4`, or in 250, one read for each consumer and
    /// one or two more, and where something is dropped one write and one delete for each entry, of
    /// up to 400.
    pub(super) async fn trim(&self, call: Call<'_>, tenant: &TenantId, before: u64, head: u64) {
        let keep = u64::from(self.settings.change_log_keep);
        let between = (keep / 4).clamp(1, BETWEEN);
        // Neighbouring numbers come far apart, so that entries of one commit do not count as one.
        let mixed = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        if head <= keep || !(before + 1..=head).any(|n| mixed(n).is_multiple_of(between)) {
            return;
        }
        let deadline = call.context.and_then(|context| context.deadline);
        let most = deadline.map_or(TRIM, |by| by.remaining(self.clock.monotonic()).min(TRIM));
        let own = Call { operation: call.operation, context: None };
        match tokio::time::timeout(most, Box::pin(self.trim_to(own, tenant, head - keep))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a change log was not trimmed"),
            Err(_) => tracing::warn!("a change log was not trimmed in time"),
        }
    }

    async fn trim_to(&self, call: Call<'_>, tenant: &TenantId, cut: u64) -> Result<()> {
        let remains = self.remains(call, tenant).await?;
        if remains.floor >= cut {
            return Ok(());
        }
        let consumers = self.all_consumers(call, tenant).await?;
        let cut = consumers.into_values().map(read_to).fold(cut, u64::min);
        match self.drop_entries(call, tenant, remains, cut).await {
            // Whoever was quicker does it.
            Ok(_) | Err(Refused::Contended) => Ok(()),
            Err(Refused::Error(error)) => Err(error),
        }
    }

    /// Drops some of the entries up to a number; the answer has the new floor.
    pub(super) async fn drop_entries(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        remains: Remains,
        cut: u64,
    ) -> Result<Remains, Refused> {
        if cut <= remains.floor {
            return Ok(remains);
        }
        let floor = cut.min(remains.floor + DROP);
        let name = self.remains_name(call, tenant).await?;
        let mut deletes: Vec<_> = (remains.floor + 1..=floor)
            .map(|number| Write::delete(entry_name(&self.names, tenant, number)))
            .collect();
        let mut fits = self.fitting(&deletes);
        loop {
            deletes.truncate(fits);
            let after = Remains { floor: remains.floor + deletes.len() as u64, ..remains };
            let mut writes = deletes.clone();
            writes.push(after.write(name.clone()));
            match self.wire.commit(call, writes, Vec::new()).await {
                Ok(times) => return Ok(Remains { updated_at: times.last().copied(), ..after }),
                Err(refused) => fits = fewer(&refused, deletes.len()).ok_or(refused)?,
            }
        }
    }

    /// Tells readers to rebuild: a last entry that says so. The answer is its number, up to which
    /// the log is to be dropped; `None` where there has never been a log.
    ///
    /// Billed: one write; a read or three where the newest number is not remembered.
    pub(crate) async fn reset_log(&self, call: Call<'_>, tenant: &TenantId) -> Result<Option<u64>> {
        for attempt in 0..self.settings.contention_attempts {
            let turn = self.turn(call, tenant).await?;
            if turn.number() == 0 {
                turn.done(0);
                return Ok(None);
            }
            let writes = turn.writes(&self.names, tenant, &[LogOp::Reset])?;
            match self.wire.commit(call, writes, Vec::new()).await {
                Ok(_) => {
                    let number = turn.number() + 1;
                    turn.done(1);
                    return Ok(Some(number));
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

    /// Drops some of the entries before a reset; says whether all are gone.
    ///
    /// Billed: one delete for each entry, a read and a write.
    pub(crate) async fn drop_before(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        reset: u64,
    ) -> Result<bool> {
        for attempt in 0..self.settings.contention_attempts {
            let remains = self.remains(call, tenant).await?;
            match self.drop_entries(call, tenant, remains, reset.saturating_sub(1)).await {
                Ok(after) => return Ok(after.floor + 1 >= reset),
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Contended) => pause(self, call, attempt).await,
            }
        }
        Err(too_contended())
    }
}

fn consumer_position(found: &Found) -> Result<ChangePosition> {
    model::check_shape(&found.fields)?;
    match found.fields.get(POSITION).and_then(|value| value.value_type.as_ref()) {
        Some(ValueType::IntegerValue(position)) => Ok(ChangePosition(position.unsigned_abs())),
        _ => Err(corrupt("consumer's position")),
    }
}

impl FirestoreStore {
    /// Forgets some of a tenant's consumers; says whether all are gone.
    pub(crate) async fn drop_consumers(&self, call: Call<'_>, tenant: &TenantId) -> Result<bool> {
        let scan = Scan::of(&self.names.consumers).after(None).limit(PAGE).select(&[]);
        let found = self.scan(call, &self.names.tenant(tenant), scan).await?;
        let all = found.len() < PAGE;
        if !found.is_empty() {
            let writes = found.into_iter().map(|found| Write::delete(found.name));
            self.commit_apart(call, &writes.collect::<Vec<_>>(), PAGE).await?;
        }
        Ok(all)
    }
}
