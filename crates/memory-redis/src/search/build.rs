//! Indexes made, made anew, followed and dropped: bounded steps that any process goes on with.
//!
//! What is to be done is told by the tenant's state alone: `ix` is what its memories' fields and
//! indexes are made as, [`Table`] in `iv` which indexes there are, `ib` how far the fields have been
//! made anew. Every change swaps what was read for what comes after it, so that two processes at the
//! same work do it once.
//!
//! A tenant without memories gets empty indexes, which lack nothing. One with memories first has
//! their fields made anew, in steps, while no index hears of it; then each index is made by the
//! engine's own scan of the server's keys.

use std::time::Duration;

use memory_core::traits::TenantSpaces;
use memory_core::{CallContext, Error, ErrorKind, MemoryId, Projection, Result, SpaceId};
use redis::{Cmd, Value, cmd};

use super::engine::{DEFINITION, On, definition};
use super::reply::{self, Meaning};
use super::schema::{self, Holds};
use super::seen::{Seen, look, swap};
use super::table::{Table, kind_of, wanted};
use crate::error::corrupt;
use crate::records::model::Shape;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};

/// Memories whose fields one step makes anew: some milliseconds of the server's time.
const STEP: usize = 100;
/// Turns of one call: a bound that only a fault of this code would reach.
const TURNS: u32 = 100_000;
/// Longest that a search waits for an index, in milliseconds; then it says so.
const WAIT_MS: u64 = 2_000;
/// Pauses between two looks at an index under way, in milliseconds.
const PAUSE_MS: [u64; 6] = [1, 2, 5, 10, 20, 40];

static REINDEX: std::sync::LazyLock<Script> =
    std::sync::LazyLock::new(|| Script::new(include_str!("../lua/reindex.lua"), Effect::Writes));

/// How far indexes have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Made as they must be, so that what is written from now on is found.
    Made,
    /// Whole.
    Whole,
}

/// Does what is left to do for the tenant's indexes.
///
/// # Errors
/// `Unavailable`: it takes longer; what was done stays done. `Unsupported`: made by a newer build.
/// What the server met.
pub(super) async fn advance(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    until: Until,
) -> Result<()> {
    let Ok(on) = store.engine.used() else { return Ok(()) };
    let work = Work { store, call, context, on };
    let begun = store.clock.monotonic();
    for turn in 0..TURNS {
        let seen = look(store, call, context).await?;
        if work.step(&seen, until).await? {
            return Ok(());
        }
        context.check_deadline(store.clock.monotonic())?;
        let spent = store.clock.monotonic().saturating_sub(begun);
        if turn > 0 && spent > Duration::from_millis(WAIT_MS) {
            return Err(unfinished(&seen));
        }
    }
    Err(unfinished(&Seen::default()))
}

fn unfinished(seen: &Seen) -> Error {
    let what = if seen.progress.is_some() {
        "the tenant's memories are being prepared for search"
    } else {
        "an index of the tenant is being made"
    };
    Error::new(ErrorKind::Unavailable, format!("{what}: each search goes on with it; try again"))
        .with_retry_after(Duration::from_millis(100))
}

/// Drops every index of the tenant.
pub(super) async fn drop_all(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
) -> Result<()> {
    if store.engine.used().is_err() {
        return Ok(());
    }
    let seen = look(store, call, context).await?;
    let Some(table) = seen.table() else { return Ok(()) };
    let names: Vec<_> = table.names().into_iter().chain(table.dropped.clone()).collect();
    drop_indexes(store, call, context, &names).await
}

async fn drop_indexes(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    names: &[String],
) -> Result<()> {
    let keys = store.keys.tenant(&context.tenant);
    for name in names {
        let mut drop = cmd("FT.DROPINDEX");
        drop.arg(keys.engine_index(name));
        match store.wire.at(call, keys.base(), &drop, Effect::Writes).await {
            Ok(_) => {}
            Err(error) if reply::meaning(&error) == Meaning::NoIndex => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

struct Work<'a> {
    store: &'a RedisStore,
    call: Call<'a>,
    context: &'a CallContext,
    on: &'a On,
}

impl Work<'_> {
    /// Does one step. Returns whether nothing is left to do.
    async fn step(&self, seen: &Seen, until: Until) -> Result<bool> {
        // Nobody has written anything yet: the first commit calls again.
        if !seen.listed {
            return Ok(true);
        }
        let old = seen.table();
        let kind = self.kind(seen, None);
        if seen.mark.as_deref() != Some(self.on.mark.as_str()) {
            self.check_newer(seen)?;
            let made = old.as_ref().filter(|table| table.mark == self.on.mark);
            match made {
                Some(table) if seen.memories == 0 => self.make_empty(seen, table).await?,
                _ => self.claim(seen, old.as_ref()).await?,
            }
            return Ok(false);
        }
        let Some(mut table) = old.filter(|table| table.mark == self.on.mark) else {
            let table = Table::new(seen.table().as_ref(), &self.on.mark, &seen.spaces, kind);
            self.swap_table(seen, &table, None).await?;
            return Ok(false);
        };
        if table.follow(&seen.spaces, kind) {
            self.swap_table(seen, &table, None).await?;
            return Ok(false);
        }
        if !table.dropped.is_empty() {
            drop_indexes(self.store, self.call, self.context, &table.dropped).await?;
            table.dropped.clear();
            self.swap_table(seen, &table, None).await?;
            return Ok(false);
        }
        if until == Until::Made {
            return Ok(true);
        }
        if let Some(progress) = &seen.progress {
            self.refill(progress).await?;
            return Ok(false);
        }
        let building = table.building();
        let mut changed = false;
        for (name, space) in &building {
            if self.build(name, space.as_ref(), &seen.spaces).await? {
                table.whole(name);
                changed = true;
            }
        }
        if changed {
            self.swap_table(seen, &table, None).await?;
        }
        let needed = |(name, space): &(String, Option<SpaceId>)| match space {
            // One that is to take another's place is not waited for.
            Some(space) => table.spaces.get(space).is_some_and(|space| space.now.name == *name),
            None => true,
        };
        Ok(!changed && !building.iter().any(needed))
    }

    fn kind(&self, seen: &Seen, now: Option<schema::Kind>) -> schema::Kind {
        wanted(now, seen.memories, self.store.settings.vectors.flat_up_to)
    }

    fn check_newer(&self, seen: &Seen) -> Result<()> {
        match seen.mark.as_deref().and_then(definition) {
            Some(stored) if stored > DEFINITION => Err(Error::unsupported(format!(
                "the tenant's indexes are of version {stored}; this build makes version \
                 {DEFINITION}: use a newer one"
            ))),
            _ => Ok(()),
        }
    }

    /// Says what is to be made. Of a tenant with memories all that it writes from now on is made so.
    async fn claim(&self, seen: &Seen, old: Option<&Table>) -> Result<()> {
        let table = Table::new(old, &self.on.mark, &seen.spaces, self.kind(seen, None));
        let made = (seen.memories > 0).then_some(self.on.mark.as_str());
        self.swap_table(seen, &table, made).await
    }

    /// Makes the indexes of a tenant that has no memories, and lets it be written.
    async fn make_empty(&self, seen: &Seen, table: &Table) -> Result<()> {
        let mut table = table.clone();
        if table.follow(&seen.spaces, self.kind(seen, None)) {
            return self.swap_table(seen, &table, None).await;
        }
        for (name, space) in table.building() {
            self.create(&name, space.as_ref(), &seen.spaces, false).await?;
        }
        table.all_whole();
        let text = table_text(&table)?;
        let swaps = [
            ("iv", seen.table_text(), text.as_str()),
            ("ix", seen.mark_text(), self.on.mark.as_str()),
            ("ib", seen.progress_text(), ""),
            ("sv", seen.version_text(), seen.version_text()),
        ];
        let filled = swap(self.store, self.call, self.context, true, &swaps).await?.is_filled();
        if filled {
            // Somebody who uses no engine wrote meanwhile.
            let table =
                Table::new(Some(&table), &self.on.mark, &seen.spaces, self.kind(seen, None));
            self.swap_table(seen, &table, Some(&self.on.mark)).await?;
        }
        Ok(())
    }

    /// Swaps the table; with `made` the memories' fields are to be made anew as that. Whether it was
    /// done or somebody else was faster shows when the state is next looked at.
    async fn swap_table(&self, seen: &Seen, table: &Table, made: Option<&str>) -> Result<()> {
        let text = table_text(table)?;
        let mut swaps = vec![("iv", seen.table_text(), text.as_str())];
        if let Some(made) = made {
            swaps.push(("ix", seen.mark_text(), made));
            swaps.push(("ib", seen.progress_text(), "-"));
        }
        swap(self.store, self.call, self.context, false, &swaps).await?;
        Ok(())
    }

    /// Whether an index is whole; made where it is missing.
    async fn build(
        &self,
        name: &str,
        space: Option<&SpaceId>,
        spaces: &TenantSpaces,
    ) -> Result<bool> {
        for pause in PAUSE_MS {
            match self.state(name).await? {
                None => self.create(name, space, spaces, true).await?,
                Some(true) => return Ok(true),
                Some(false) => tokio::time::sleep(Duration::from_millis(pause)).await,
            }
        }
        Ok(false)
    }

    /// Whether an index is whole; `None` where there is none.
    async fn state(&self, name: &str) -> Result<Option<bool>> {
        let keys = self.store.keys.tenant(&self.context.tenant);
        let info = info(keys.engine_index(name));
        match self.store.wire.at(self.call, keys.base(), &info, Effect::Reads).await {
            Ok(answer) => whole(&answer).map(Some),
            Err(error) if reply::meaning(&error) == Meaning::NoIndex => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(
        &self,
        name: &str,
        space: Option<&SpaceId>,
        spaces: &TenantSpaces,
        scan: bool,
    ) -> Result<()> {
        let keys = self.store.keys.tenant(&self.context.tenant);
        let holds = match space {
            None => Holds::Words,
            Some(id) => {
                let Some(space) = spaces.find(id) else { return Ok(()) };
                Holds::Vectors(space, kind_of(name))
            }
        };
        let create = schema::create(&self.store.settings, &keys, name, holds, scan);
        match self.store.wire.at(self.call, keys.base(), &create, Effect::Writes).await {
            Ok(_) => Ok(()),
            Err(error) if reply::meaning(&error) == Meaning::Exists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the fields of the next memories anew. `progress` is where ids go on, as a range of
    /// members begins.
    async fn refill(&self, progress: &str) -> Result<()> {
        let (store, call) = (self.store, self.call);
        let keys = store.keys.tenant(&self.context.tenant);
        let mut range = cmd("ZRANGEBYLEX");
        range.arg(keys.named("x:i")).arg(progress).arg("+").arg("LIMIT").arg(0).arg(STEP);
        let Value::Array(ids) = store.wire.at(call, keys.base(), &range, Effect::Reads).await?
        else {
            return Err(corrupt("the server's answer to ZRANGEBYLEX is no list"));
        };
        let mut projection = Projection::full();
        projection.payload = false;
        let shape = Shape::of(&projection, &TenantSpaces::default());
        let mut read = Vec::with_capacity(ids.len());
        let mut names = Vec::with_capacity(ids.len());
        for id in &ids {
            let text = reply::text(id).and_then(|bytes| std::str::from_utf8(bytes).ok());
            let id = text.and_then(|text| MemoryId::new(text).ok());
            let id = id.ok_or_else(|| corrupt("the list of the tenant's memories has no id"))?;
            read.push(shape.get(&keys.memory(&id)));
            names.push(id);
        }
        let next = match names.last() {
            Some(last) if names.len() == STEP => format!("({last}"),
            _ => String::new(),
        };
        let mut args: Vec<Vec<u8>> = vec![progress.into(), next.into_bytes()];
        let rows = if read.is_empty() {
            Vec::new()
        } else {
            store.wire.many_at(call, keys.base(), &read, Effect::Reads).await?
        };
        for (id, row) in names.into_iter().zip(rows) {
            let Value::Array(row) = row? else {
                return Err(corrupt("an answer to HMGET is no list"));
            };
            let item = match shape.read(id, row) {
                Ok(Some(item)) => item,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%error, "a stored memory cannot be read and is not indexed");
                    continue;
                }
            };
            let Some(revision) = &item.revision else { continue };
            args.push(item.id.as_str().into());
            args.push(revision.as_str().into());
            let fields = super::fields(store, &item);
            args.push((fields.len() * 2).to_string().into_bytes());
            for (name, value) in fields {
                args.extend([name.into_owned().into_bytes(), value]);
            }
        }
        store.wire.script(call, &REINDEX, &[keys.base().to_owned()], &args).await?;
        Ok(())
    }
}

/// The command that asks for the state of an index.
fn info(name: String) -> Cmd {
    let mut info = cmd("FT.INFO");
    info.arg(name);
    info
}

/// Whether an index has all that was there when it was made.
fn whole(info: &Value) -> Result<bool> {
    let indexing = reply::get(info, "indexing").and_then(reply::integer);
    let percent = reply::get(info, "percent_indexed").and_then(reply::number);
    match (indexing, percent) {
        (Some(indexing), Some(percent)) => Ok(indexing == 0 && percent >= 1.0),
        (Some(indexing), None) => Ok(indexing == 0),
        _ => Err(corrupt("the query engine's answer to FT.INFO has a shape that is not known")),
    }
}

pub(super) fn table_text(table: &Table) -> Result<String> {
    serde_json::to_string(table).map_err(|error| {
        Error::new(ErrorKind::Unexpected, "the table of indexes").with_source(error)
    })
}
