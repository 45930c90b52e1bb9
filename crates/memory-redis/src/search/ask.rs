//! One search: its commands and a look at the tenant's state in one round trip, and what to do where
//! the state is another than was thought.

use std::sync::Arc;

use memory_core::traits::TenantSpaces;
use memory_core::{CallContext, Error, ErrorKind, Filter, MemoryId, MemoryItem, Result, SpaceId};
use redis::{Cmd, Value};

use super::brief::Brief;
use super::build::{self, Until};
use super::reply::{self, Meaning, Row};
use super::seen::{self, Seen, look, swap};
use super::table::{Index, Table, kind_of, wanted};
use crate::error::corrupt;
use crate::fields as f;
use crate::keys::TenantKeys;
use crate::records::model;
use crate::state::unsettled;
use crate::store::RedisStore;
use crate::wire::{Call, Effect};

/// Attempts at a search while the tenant's state changes.
const ATTEMPTS: u32 = 8;

/// Where a search looks.
#[derive(Clone, Copy, Debug)]
pub(super) enum In<'a> {
    /// In the words.
    Words,
    /// In the vectors of a space.
    Space(&'a SpaceId),
}

impl In<'_> {
    fn index<'t>(&self, table: &'t Table) -> Option<&'t Index> {
        match self {
            Self::Words => Some(&table.words),
            Self::Space(id) => table.spaces.get(*id).map(|space| &space.now),
        }
    }
}

/// The answers to the commands, and the state that they are of.
#[derive(Debug)]
pub(super) struct Asked {
    /// The tenant's state.
    pub(super) seen: Arc<Seen>,
    /// The name of the index that was asked.
    pub(super) index: String,
    /// One for each command, in order. None at all where the tenant has no memories to find.
    pub(super) answers: Vec<Value>,
}

/// Sends the commands that `make` makes for an index, given its full name and its short one. The
/// first of them is a search in it.
///
/// # Errors
/// `InvalidInput`: the tenant has no such space. `Unavailable`: an index is not whole yet.
/// `Timeout`: the engine's own limit. What the server met.
pub(super) async fn ask(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    place: In<'_>,
    make: impl Fn(&str, &str) -> Vec<Cmd>,
) -> Result<Asked> {
    let on = store.engine.used()?;
    let keys = store.keys.tenant(&context.tenant);
    let mut known = store.engine.seen(&context.tenant);
    let mut fresh = false;
    for _ in 0..ATTEMPTS {
        let seen = match known.take() {
            Some(seen) => seen,
            None => {
                fresh = true;
                Arc::new(look(store, call, context).await?)
            }
        };
        if let In::Space(id) = place
            && seen.spaces.find(id).is_none()
        {
            if fresh {
                return Err(no_space(&seen.spaces, id));
            }
            continue;
        }
        let table = seen.table();
        let usable = table.as_ref().filter(|table| {
            seen.mark.as_deref() == Some(on.mark.as_str())
                && seen.progress.is_none()
                && place.index(table).is_some_and(|index| !index.building)
        });
        let Some((table, index)) = usable.and_then(|table| Some((table, place.index(table)?)))
        else {
            if !fresh {
                continue;
            }
            if seen.memories == 0 {
                return Ok(Asked { seen, index: String::new(), answers: Vec::new() });
            }
            build::advance(store, call, context, Until::Whole).await?;
            fresh = false;
            continue;
        };
        let mut commands = make(&keys.engine_index(&index.name), &index.name);
        let count = commands.len();
        commands.extend(seen::questions(&keys));
        let answers = store.wire.many_at(call, keys.base(), &commands, Effect::Reads).await?;
        let (answers, now) = split(answers, count)?;
        let now = Arc::new(now);
        store.engine.remember(&context.tenant, now.clone());
        fresh = true;
        let lost = answers
            .first()
            .and_then(|first| first.as_ref().err())
            .is_some_and(|error| reply::meaning(error) == Meaning::NoIndex);
        if !now.same_indexes(&seen) {
            known = Some(now);
            continue;
        }
        if lost {
            make_again(store, call, context, &now, table, &index.name).await?;
            fresh = false;
            continue;
        }
        let answers = answers.into_iter().collect::<Result<Vec<_>>>().map_err(engine_error)?;
        return Ok(Asked { seen: now, index: index.name.clone(), answers });
    }
    Err(unsettled())
}

/// The answers to the first so many commands, and the state that the rest tell.
fn split(answers: Vec<Result<Value>>, count: usize) -> Result<(Vec<Result<Value>>, Seen)> {
    let mut answers = answers.into_iter();
    let first: Vec<_> = answers.by_ref().take(count).collect();
    let (Some(state), Some(memories)) = (answers.next(), answers.next()) else {
        return Err(corrupt("the server answered fewer commands than it was sent"));
    };
    Ok((first, seen::read(state, memories)?))
}

/// An index that should be there is not: the server was emptied of it. It is made again by a scan.
async fn make_again(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    seen: &Seen,
    table: &Table,
    name: &str,
) -> Result<()> {
    tracing::warn!(index = name, "an index of the query engine is gone and is made again");
    let mut table = table.clone();
    table.lost(name);
    let text = build::table_text(&table)?;
    swap(store, call, context, false, &[("iv", seen.table_text(), text.as_str())]).await?;
    build::advance(store, call, context, Until::Whole).await
}

fn engine_error(error: Error) -> Error {
    match reply::meaning(&error) {
        Meaning::TimedOut => reply::timed_out().with_source(error),
        Meaning::Denied => Error::new(
            ErrorKind::PermissionDenied,
            "the Redis user may not search: grant it the commands of the query engine",
        )
        .with_source(error),
        _ => error,
    }
}

/// The error of a space that the tenant does not have.
pub(super) fn no_space(spaces: &TenantSpaces, space: &SpaceId) -> Error {
    let known: Vec<_> =
        spaces.active.iter().chain(&spaces.next).map(|space| space.id().to_string()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Error::invalid(format!("{space} is not a space of the tenant; it has {known}"))
}

/// Begins to index a space the other way where the tenant has grown or shrunk over the border, and
/// goes on with it. The search that calls it has its answer already.
pub(super) async fn follow_size(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    seen: &Seen,
    space: &SpaceId,
) -> Result<()> {
    let Some(mut table) = seen.table() else { return Ok(()) };
    let Some(vectors) = table.spaces.get(space) else { return Ok(()) };
    if vectors.next.is_none() {
        let now = kind_of(&vectors.now.name);
        let kind = wanted(Some(now), seen.memories, store.settings.vectors.flat_up_to);
        if !table.switch(space, kind) {
            return Ok(());
        }
        let text = build::table_text(&table)?;
        swap(store, call, context, false, &[("iv", seen.table_text(), text.as_str())]).await?;
    }
    build::advance(store, call, context, Until::Whole).await
}

/// What a hit is read from, beside its key.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    fields: Vec<&'static str>,
    head: bool,
}

impl Parts {
    /// What a filter looks at, and what every hit needs.
    pub(super) fn of(filter: &Filter) -> Self {
        use memory_core::Field;
        let mut fields = vec![f::REVISION, f::BRIEF];
        let mut head = false;
        for field in filter.fields() {
            match field {
                Field::UserId => fields.push(f::USER),
                Field::AgentId => fields.push(f::AGENT),
                Field::SessionId => fields.push(f::SESSION),
                Field::Kind => fields.push(f::KIND),
                Field::Role => fields.push(f::ROLE),
                Field::ContentHash => fields.push(f::HASH),
                Field::CreatedAt => fields.push(f::CREATED),
                Field::UpdatedAt => fields.push(f::UPDATED),
                Field::Metadata(_) => head = true,
                // The brief has these, and the key the id.
                Field::Id
                | Field::Author
                | Field::Importance
                | Field::OccurredAt
                | Field::ExpiresAt => {}
            }
        }
        if head {
            fields.push(f::HEAD);
        }
        Self { fields, head }
    }

    /// Whether no metadata is needed.
    pub(super) fn is_brief(&self) -> bool {
        !self.head
    }

    /// The fields to be asked for.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().copied()
    }

    /// An item that has what the filter looks at, and the brief.
    ///
    /// # Errors
    /// `Corrupt`, `Unsupported`: what is stored.
    pub(super) fn item(&self, id: MemoryId, row: &Row) -> Result<(MemoryItem, Brief)> {
        let brief = brief(row)?;
        let hash = match text(row, f::HASH)? {
            Some(hash) => memory_core::ContentHash::parse(hash).map_err(|_| bad(f::HASH))?,
            None => memory_core::ContentHash::of(""),
        };
        let mut item = MemoryItem::from_stored(id, String::new(), hash);
        item.user_id = parsed(row, f::USER)?;
        item.agent_id = parsed(row, f::AGENT)?;
        item.session_id = parsed(row, f::SESSION)?;
        if let Some(kind) = parsed(row, f::KIND)? {
            item.kind = kind;
        }
        item.role = parsed(row, f::ROLE)?;
        item.author = brief.context.author.as_deref().map(str::to_owned);
        item.importance = brief.context.importance;
        item.occurred_at = brief.context.occurred_at;
        item.created_at = time(row, f::CREATED)?.unwrap_or(item.created_at);
        item.updated_at = time(row, f::UPDATED)?.unwrap_or(item.updated_at);
        if brief.until != f::ALWAYS {
            let until = memory_core::Timestamp::from_micros(brief.until);
            item.expires_at = Some(until.map_err(|_| bad(f::BRIEF))?);
        }
        item.revision = Some(revision(row)?);
        if self.head {
            let head = row.field(f::HEAD).ok_or_else(|| bad(f::HEAD))?;
            item.metadata = model::read_metadata(head)?;
        }
        Ok((item, brief))
    }
}

/// The id in a memory's key.
///
/// # Errors
/// `Corrupt`: the key is of no memory of the tenant.
pub(super) fn id(keys: &TenantKeys, row: &Row) -> Result<MemoryId> {
    row.key
        .strip_prefix(keys.memories().as_bytes())
        .and_then(|id| std::str::from_utf8(id).ok())
        .and_then(|id| MemoryId::new(id).ok())
        .ok_or_else(|| {
            corrupt("the query engine found a key that is none of the tenant's memories")
        })
}

/// What a search needs of a hit.
///
/// # Errors
/// `Corrupt`.
pub(super) fn brief(row: &Row) -> Result<Brief> {
    Brief::read(row.field(f::BRIEF).ok_or_else(|| bad(f::BRIEF))?)
}

/// # Errors
/// `Corrupt`.
pub(super) fn revision(row: &Row) -> Result<memory_core::Revision> {
    let text = text(row, f::REVISION)?.ok_or_else(|| bad(f::REVISION))?;
    memory_core::Revision::new(text).map_err(|_| bad(f::REVISION))
}

fn text<'a>(row: &'a Row, field: &'static str) -> Result<Option<&'a str>> {
    row.field(field).map(|bytes| std::str::from_utf8(bytes).map_err(|_| bad(field))).transpose()
}

fn parsed<T: std::str::FromStr>(row: &Row, field: &'static str) -> Result<Option<T>> {
    text(row, field)?.map(|text| text.parse().map_err(|_| bad(field))).transpose()
}

fn time(row: &Row, field: &'static str) -> Result<Option<memory_core::Timestamp>> {
    let Some(bytes) = row.field(field) else { return Ok(None) };
    let micros = f::from_sortable(bytes).ok_or_else(|| bad(field))?;
    memory_core::Timestamp::from_micros(micros).map(Some).map_err(|_| bad(field))
}

fn bad(field: &'static str) -> Error {
    corrupt("a stored memory has a field that is not what was written").with_context("field", field)
}

/// How long the engine may take, in milliseconds: what is left of the call, and no longer than an
/// answer is waited for.
pub(super) fn time_limit(store: &RedisStore, context: &CallContext) -> u64 {
    let most = store.settings.response_timeout_ms;
    let left = context.deadline.map(|deadline| deadline.remaining(store.clock.monotonic()));
    let left = left.map_or(most, |left| u64::try_from(left.as_millis()).unwrap_or(most));
    left.clamp(1, most.max(1))
}
