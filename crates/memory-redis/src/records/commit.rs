//! Commits: one script, which checks everything and then writes everything.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use memory_core::limits::IDEMPOTENCY_MICROS;
use memory_core::traits::{ChangePosition, TenantSpaces};
use memory_core::{
    CallContext, Commit, CommitId, CommitReceipt, Error, ErrorKind, MemoryId, Precondition, Put,
    Result, Revision, UserId, Vectors, Write, WriteResult,
};
use redis::Value;

use super::model;
use crate::error::corrupt;
use crate::fields::{self, sortable};
use crate::keys::TenantKeys;
use crate::state;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};
use crate::{admin, search};

static COMMIT: LazyLock<Script> = LazyLock::new(|| {
    let parts = [
        include_str!("../lua/memory.lua"),
        include_str!("../lua/guard.lua"),
        include_str!("../lua/log.lua"),
        include_str!("../lua/commit.lua"),
    ];
    Script::new(&parts.concat(), Effect::Writes)
});

static ADD: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/add.lua"), Effect::Writes));

/// Attempts at a commit while the tenant is listed, indexed, or given other spaces: each of the
/// three once, and once more where an erasure came between.
const ATTEMPTS: u32 = 6;

/// Room for the fields and values of most memories.
const PUT_ARGUMENTS: usize = 44;

/// The arguments that change from attempt to attempt.
const VERSION: usize = 5;
const MARK: usize = 6;
const REFUSED: usize = 7;

/// Commits all writes together: one round trip, one more each for what the process does not know of
/// the tenant yet, and one where a memory that must not be there is the only write and there is one.
///
/// # Errors
/// As [`memory_core::traits::RecordStore::commit`].
pub(crate) async fn commit(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    commit: &Commit,
) -> Result<CommitReceipt> {
    commit.validate()?;
    let keys = store.keys.tenant(&context.tenant);
    let base = [keys.base().to_owned()];
    let has_vectors = commit.writes.iter().any(|write| vectors(write).next().is_some());
    let mut fresh = false;
    let mut known = None;
    let mut args = None;
    let mut alone = alone(context, commit);
    for _ in 0..ATTEMPTS {
        let mut refused = None;
        if has_vectors {
            let state = match known.take() {
                Some(state) => state,
                None => state::known(store, call, context).await?,
            };
            refused = check_vectors(commit, &state.spaces).err();
            if refused.is_some() && !fresh {
                // What is remembered may be old.
                fresh = true;
                known = Some(state::load(store, call, context).await?);
                continue;
            }
            known = Some(state);
        }
        // A repetition is answered as at first, whatever has become of the spaces.
        if let Some(error) = refused.take_if(|_| commit.idempotency.is_none() && !commit.resend) {
            return Err(error);
        }
        let version = known
            .as_ref()
            .map_or_else(Vec::new, |known| known.spaces.version.to_string().into_bytes());
        let mark = store.engine.mark().unwrap_or_default();
        // Once, and before all else.
        if let Some(put) = alone.take()
            && refused.is_none()
        {
            let args = add_arguments(store, commit, put, version.clone(), mark)?;
            let answer = Answer::new(store.wire.script(call, &ADD, &base, &args).await?)?;
            if answer.status != "long" {
                return received(store, call, context, answer.receipt(commit)?).await;
            }
        }
        let args = match &mut args {
            Some(args) => args,
            None => args.insert(arguments(store, context, commit)?),
        };
        args[VERSION] = version.into();
        args[MARK] = text_of(mark);
        args[REFUSED] = text_of(if refused.is_some() { "1" } else { "" });
        let begun = store.tenants.begin();
        let answer = Answer::new(store.wire.script(call, &COMMIT, &base, args).await?)?;
        match answer.status.as_str() {
            "spaces" => {
                fresh = true;
                known = Some(state::refreshed(store, context, begun, &answer.rest)?);
            }
            "unlisted" => {
                state::refreshed(store, context, begun, &answer.rest)?;
                admin::enlist(store, call, context).await?;
            }
            "unindexed" => {
                known = Some(state::refreshed(store, context, begun, &answer.rest)?);
                search::prepare(store, call, context).await?;
            }
            "refused" => return Err(refused.unwrap_or_else(odd)),
            _ => return received(store, call, context, answer.receipt(commit)?).await,
        }
    }
    Err(state::unsettled())
}

/// What is done once a commit has happened.
async fn received(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    receipt: CommitReceipt,
) -> Result<CommitReceipt> {
    if let Some(position) = receipt.position {
        let changes = receipt.results.len();
        admin::trim_now_and_then(store, call, context, position.0, changes).await;
    }
    Ok(receipt)
}

/// The put that `lua/add.lua` is for.
fn alone<'a>(context: &CallContext, commit: &'a Commit) -> Option<&'a Put> {
    match commit.writes.as_slice() {
        [Write::Put(put)]
            if put.precondition == Precondition::Absent
                && !commit.resend
                && commit.idempotency.is_none()
                && context.fence.is_none() =>
        {
            Some(put)
        }
        _ => None,
    }
}

/// The vectors that a write brings.
fn vectors(write: &Write) -> impl Iterator<Item = (&memory_core::SpaceId, &Vec<f32>)> {
    match write {
        Write::Put(put) => match &put.vectors {
            Vectors::Replace(vectors) => Some(vectors),
            Vectors::Keep => None,
        },
        Write::Delete(_) => None,
    }
    .into_iter()
    .flatten()
}

fn check_vectors(commit: &Commit, spaces: &TenantSpaces) -> Result<()> {
    let known: Vec<_> =
        spaces.active.iter().chain(&spaces.next).map(|space| (space.id(), space)).collect();
    for (place, write) in commit.writes.iter().enumerate() {
        for (id, vector) in vectors(write) {
            known
                .iter()
                .find(|(known, _)| known == id)
                .ok_or_else(|| Error::invalid("a vector names a space that the tenant has not"))
                .and_then(|(_, space)| space.check(vector))
                .map_err(|error| error.with_context("write", place.to_string()))?;
        }
    }
    Ok(())
}

/// The arguments as `lua/add.lua` has them.
fn add_arguments<'a>(
    store: &RedisStore,
    commit: &'a Commit,
    put: &'a Put,
    version: Vec<u8>,
    mark: &'a str,
) -> Result<Vec<Argument<'a>>> {
    let mut args = Vec::with_capacity(4 + PUT_ARGUMENTS);
    args.extend([tail(&commit.id).into_bytes().into(), version.into(), text_of(mark)]);
    args.push(text_of(put.item.id.as_str()));
    put_arguments(store, &commit.id, put, &mut args)
        .map_err(|error| error.with_context("write", "0"))?;
    Ok(args)
}

/// The arguments as `lua/commit.lua` has them.
fn arguments<'a>(
    store: &RedisStore,
    context: &CallContext,
    commit: &'a Commit,
) -> Result<Vec<Argument<'a>>> {
    let now = store.clock.now().as_micros();
    let mut args: Vec<Argument<'a>> =
        Vec::with_capacity(12 + commit.writes.len() * (4 + PUT_ARGUMENTS));
    args.push(sortable(now).into_bytes().into());
    args.push(Cow::Borrowed(commit.id.as_bytes()));
    args.push(tail(&commit.id).into_bytes().into());
    args.push(text_of(if commit.resend { "1" } else { "" }));
    args.push(state::fence_text(context.fence).into_bytes().into());
    args.extend([text_of(""), text_of(""), text_of("")]);
    match &commit.idempotency {
        Some(key) => args.extend([
            text_of(key.key()),
            Cow::Borrowed(key.digest().as_slice()),
            sortable(now.saturating_add(IDEMPOTENCY_MICROS)).into_bytes().into(),
            users(commit).into_bytes().into(),
        ]),
        None => args.extend([text_of(""), text_of(""), text_of(""), text_of("")]),
    }
    for (place, write) in commit.writes.iter().enumerate() {
        args.push(text_of(match write {
            Write::Delete(_) => "d",
            Write::Put(put) if put.vectors == Vectors::Keep => "k",
            Write::Put(_) => "p",
        }));
        args.push(text_of(write.id().as_str()));
        args.push(match write.precondition() {
            Precondition::Any => text_of(""),
            Precondition::Absent => text_of("-"),
            Precondition::Revision(revision) => format!("={revision}").into_bytes().into(),
        });
        if let Write::Put(put) = write {
            let count = args.len();
            args.push(text_of(""));
            put_arguments(store, &commit.id, put, &mut args)
                .map_err(|error| error.with_context("write", place.to_string()))?;
            args[count] = (args.len() - count - 1).to_string().into_bytes().into();
        }
    }
    Ok(args)
}

/// The fields and values of a put.
fn put_arguments<'a>(
    store: &RedisStore,
    commit: &'a CommitId,
    put: &'a Put,
    args: &mut Vec<Argument<'a>>,
) -> Result<()> {
    for (name, value) in model::fields_of(put)? {
        args.extend([text_of(name), value]);
    }
    args.extend([text_of(fields::COMMIT), Cow::Borrowed(commit.as_bytes().as_slice())]);
    if let Vectors::Replace(vectors) = &put.vectors {
        for (space, vector) in vectors {
            let name = TenantKeys::vector_field(space).into_bytes();
            args.extend([name.into(), model::vector_bytes(vector).into()]);
        }
    }
    // The number of words is the last, which the scripts rely on.
    for (name, value) in search::fields(store, &put.item) {
        args.extend([
            match name {
                Cow::Borrowed(name) => text_of(name),
                Cow::Owned(name) => name.into_bytes().into(),
            },
            value.into(),
        ]);
    }
    Ok(())
}

/// An argument of a script.
type Argument<'a> = Cow<'a, [u8]>;

fn text_of(text: &str) -> Argument<'_> {
    Cow::Borrowed(text.as_bytes())
}

/// The users whose memories a commit puts, one a line: none of them has a control character.
fn users(commit: &Commit) -> String {
    let users: BTreeSet<_> = commit
        .writes
        .iter()
        .filter_map(|write| match write {
            Write::Put(put) => put.item.user_id.as_ref().map(UserId::as_str),
            Write::Delete(_) => None,
        })
        .collect();
    Vec::from_iter(users).join("\n")
}

/// What stands behind the position in the revisions that a commit gives: an erased tenant's
/// positions come again, its commits' ids do not.
fn tail(id: &CommitId) -> String {
    id.as_bytes()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the script answered.
struct Answer {
    status: String,
    rest: Vec<Value>,
}

impl Answer {
    fn new(answer: Value) -> Result<Self> {
        let Value::Array(values) = answer else { return Err(odd()) };
        let mut values = values.into_iter();
        let status = values.next().as_ref().and_then(text).ok_or_else(odd)?.to_owned();
        Ok(Self { status, rest: values.collect() })
    }

    fn receipt(self, commit: &Commit) -> Result<CommitReceipt> {
        let new = |kind, message: &str| Err(Error::new(kind, message));
        let failed: Result<CommitReceipt> = match self.status.as_str() {
            "done" => return self.results(commit, false),
            "own" => return self.results(commit, true),
            "replayed" => return replayed(self.rest.first().and_then(text).ok_or_else(odd)?),
            "other" => {
                return Err(Error::invalid("the idempotency key belongs to another request"));
            }
            "fenced" => {
                return new(ErrorKind::Conflict, "the tenant's write fence keeps this writer out");
            }
            "exists" => new(ErrorKind::AlreadyExists, "an item with the id exists"),
            "missing" => new(ErrorKind::NotFound, "no item with the id exists"),
            "revision" => new(ErrorKind::Conflict, "the item has another revision"),
            "covered" => new(
                ErrorKind::Conflict,
                "an earlier attempt may have happened and a later writer has covered it",
            ),
            "corrupt" => Err(corrupt("what is stored under the id is no memory")),
            _ => return Err(odd()),
        };
        let place = match self.rest.first() {
            Some(Value::Int(place)) => place.to_string(),
            _ => return Err(odd()),
        };
        failed.map_err(|error| error.with_context("write", place))
    }

    fn results(self, commit: &Commit, replayed: bool) -> Result<CommitReceipt> {
        let mut texts = self.rest.iter().map(|value| text(value).ok_or_else(odd));
        let mut next = || texts.next().unwrap_or_else(|| Err(odd()));
        let position = position(next()?)?;
        let results = commit
            .writes
            .iter()
            .map(|write| result(write.id().clone(), next()?, next()?))
            .collect::<Result<_>>()?;
        Ok(CommitReceipt { results, position: Some(position), replayed })
    }
}

/// What stands under an idempotency key.
fn replayed(lines: &str) -> Result<CommitReceipt> {
    let bad = || corrupt("what is kept under the idempotency key is not what was written");
    if lines.is_empty() {
        return Err(Error::new(
            ErrorKind::Conflict,
            "what the first request under the idempotency key wrote has been erased",
        ));
    }
    let mut lines = lines.split('\n');
    match lines.next().map(str::parse::<u64>) {
        Some(Ok(1)) => {}
        Some(Ok(2..)) => {
            return Err(Error::unsupported(
                "what is kept under the idempotency key is of a newer build: use that one",
            ));
        }
        _ => return Err(bad()),
    }
    let position = position(lines.next().ok_or_else(bad)?).map_err(|_| bad())?;
    let mut results = Vec::new();
    while let Some(id) = lines.next() {
        let (revision, existed) = (lines.next().ok_or_else(bad)?, lines.next().ok_or_else(bad)?);
        let id = MemoryId::new(id).map_err(|_| bad())?;
        results.push(result(id, revision, existed).map_err(|_| bad())?);
    }
    Ok(CommitReceipt { results, position: Some(position), replayed: true })
}

fn result(id: MemoryId, revision: &str, existed: &str) -> Result<WriteResult> {
    let revision = match revision {
        "" => None,
        text => Some(Revision::new(text).map_err(|_| odd())?),
    };
    Ok(WriteResult { id, revision, existed: existed == "1" })
}

fn position(digits: &str) -> Result<ChangePosition> {
    digits.parse().map(ChangePosition).map_err(|_| odd())
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// Whatever the answer was to be, the script may have written.
fn odd() -> Error {
    corrupt("the server's answer to a commit is not what its script gives").with_unknown_outcome()
}
