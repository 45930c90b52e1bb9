//! The tenant's state as a search sees it, and how it is swapped.

use std::sync::{Arc, LazyLock};

use memory_core::traits::{ChangePosition, TenantSpaces};
use memory_core::{CallContext, Error, ErrorKind, Result};
use redis::{Cmd, Value, cmd};

use super::table::Table;
use crate::error::corrupt;
use crate::keys::TenantKeys;
use crate::state::TenantState;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};

static SWAP: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/swap.lua"), Effect::Writes));

/// What is asked of a tenant's state: two commands, and what they answer.
const FIELDS: [&str; 8] = ["dir", "sv", "sp", "ix", "iv", "ib", "pos", "wl"];

/// The tenant's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// Whether it is listed: it has been written.
    pub(super) listed: bool,
    /// Its spaces.
    pub(super) spaces: TenantSpaces,
    version: String,
    /// What its memories' fields are made as.
    pub(super) mark: Option<String>,
    /// How far they have been made anew; `None` when they are.
    pub(super) progress: Option<String>,
    table: Option<String>,
    /// The position of its last change.
    pub(super) position: ChangePosition,
    /// The words of all its memories; `None` where nobody counted.
    pub(super) words: Option<u64>,
    /// Its memories, expired ones too.
    pub(super) memories: u64,
}

impl Seen {
    /// Its indexes; `None` where there are none, or none that this build can read.
    pub(super) fn table(&self) -> Option<Table> {
        serde_json::from_str(self.table.as_ref()?).ok()
    }
    pub(super) fn table_text(&self) -> &str {
        self.table.as_deref().unwrap_or_default()
    }
    pub(super) fn mark_text(&self) -> &str {
        self.mark.as_deref().unwrap_or_default()
    }
    pub(super) fn progress_text(&self) -> &str {
        self.progress.as_deref().unwrap_or_default()
    }
    pub(super) fn version_text(&self) -> &str {
        &self.version
    }

    /// Whether spaces and indexes are what they are there.
    pub(super) fn same_indexes(&self, other: &Self) -> bool {
        self.version == other.version
            && self.mark == other.mark
            && self.progress == other.progress
            && self.table == other.table
    }

    /// Whether a position has been reached. Every commit that was acknowledged is found, so there is
    /// nothing to wait for.
    ///
    /// # Errors
    /// `Timeout`: it lies beyond all that has been committed.
    pub(super) fn reached(&self, at_least: Option<ChangePosition>) -> Result<()> {
        match at_least {
            Some(position) if position > self.position => Err(Error::new(
                ErrorKind::Timeout,
                "the position lies beyond all that has been committed",
            )),
            _ => Ok(()),
        }
    }
}

/// The commands that ask for the state; [`read`] takes their answers.
pub(super) fn questions(keys: &TenantKeys) -> [Cmd; 2] {
    let mut state = cmd("HMGET");
    state.arg(keys.state()).arg(&FIELDS);
    let mut count = cmd("ZCARD");
    count.arg(keys.named("x:i"));
    [state, count]
}

/// Reads the answers to [`questions`].
///
/// # Errors
/// What the server met; `Corrupt`.
pub(super) fn read(state: Result<Value>, count: Result<Value>) -> Result<Seen> {
    let bad = || corrupt("what is stored of the tenant is not what was written");
    let Value::Array(values) = state? else { return Err(bad()) };
    let [dir, sv, sp, ix, iv, ib, pos, wl] = &values[..] else { return Err(bad()) };
    let known = TenantState::from_answer(&[dir.clone(), sv.clone(), sp.clone(), ix.clone()])?;
    let text = |value: &Value| match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).map(Some).map_err(|_| bad()),
        _ => Err(bad()),
    };
    let number = |value: &Value| match text(value)? {
        None => Ok(None),
        Some(digits) => digits.parse::<u64>().map(Some).map_err(|_| bad()),
    };
    let Value::Int(memories) = count? else { return Err(bad()) };
    Ok(Seen {
        listed: known.listed.is_some(),
        spaces: known.spaces,
        version: text(sv)?.unwrap_or_default(),
        mark: known.indexed,
        progress: text(ib)?,
        table: text(iv)?,
        position: ChangePosition(number(pos)?.unwrap_or(0)),
        words: number(wl)?,
        memories: u64::try_from(memories).unwrap_or(0),
    })
}

/// Asks for the state: one round trip.
///
/// # Errors
/// What the server met; `Corrupt`.
pub(super) async fn look(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
) -> Result<Seen> {
    let keys = store.keys.tenant(&context.tenant);
    let answers = store.wire.many_at(call, keys.base(), &questions(&keys), Effect::Reads).await?;
    let mut answers = answers.into_iter();
    let (Some(state), Some(count)) = (answers.next(), answers.next()) else {
        return Err(corrupt("the server answered fewer commands than it was sent"));
    };
    let seen = read(state, count)?;
    store.engine.remember(&context.tenant, Arc::new(seen.clone()));
    Ok(seen)
}

/// What became of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swapped {
    Done,
    Other,
    Filled,
}

impl Swapped {
    pub(super) fn is_filled(self) -> bool {
        self == Self::Filled
    }
}

/// Swaps fields of the state, each by its name, what it must be and what it becomes, empty for none.
/// With `empty` only where the tenant has no memories.
///
/// # Errors
/// What the server met.
pub(super) async fn swap(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    empty: bool,
    fields: &[(&str, &str, &str)],
) -> Result<Swapped> {
    let keys = store.keys.tenant(&context.tenant);
    let mut args: Vec<Vec<u8>> = vec![if empty { b"1".to_vec() } else { Vec::new() }];
    for (name, from, to) in fields {
        args.extend([name, from, to].map(|text| text.as_bytes().to_vec()));
    }
    let answer = store.wire.script(call, &SWAP, &[keys.base().to_owned()], &args).await?;
    let Value::Array(values) = answer else {
        return Err(corrupt("the answer of a script is no list"));
    };
    Ok(match values.first().and_then(super::reply::text) {
        Some(b"done") => Swapped::Done,
        Some(b"filled") => Swapped::Filled,
        _ => Swapped::Other,
    })
}
