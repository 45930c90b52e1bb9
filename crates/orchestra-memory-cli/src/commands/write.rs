//! `add`, `update`, `delete`.

use std::collections::BTreeSet;
use std::str::FromStr;

use orchestra_memory::{
    AddOptions, AddOutcome, Change, Error, MemoryId, MetaKey, Metadata, MetadataChange, NewMemory,
    OnConflict, Patch, Result as CoreResult, Revision, TenantMemory, Timestamp, UpdateOptions,
    VectorState,
};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::{Add, Clearable, Delete, IfExists, Update};
use crate::failure::{Failure, Result};
use crate::{human, parse};

/// `add`.
pub(crate) async fn add(app: &mut App, tenant: &TenantMemory, add: &Add) -> Result<()> {
    let new = new_memory(app, add)?;
    let mut options = AddOptions::new().with_on_conflict(on_conflict(add.if_exists));
    if let Some(key) = &add.idempotency_key {
        options = options.with_idempotency_key(key);
    }
    let receipt = tenant.add_with(new, options).await?;
    if app.output.is_json() {
        return app.output.json(&receipt);
    }
    let verb = match receipt.outcome {
        AddOutcome::Added => "added",
        AddOutcome::Replaced => "replaced",
        AddOutcome::Skipped => "already there:",
    };
    let replayed = if receipt.replayed { " (by an earlier request)" } else { "" };
    app.output.note(format!("{verb} {}{replayed}", human::safe(receipt.id.as_str())))?;
    note_missing(app, receipt.vector, receipt.vector_reason.as_deref())
}

/// Says that a text was stored and its vector was not, where that is so.
fn note_missing(app: &mut App, vector: VectorState, why: Option<&str>) -> Result<()> {
    if vector != VectorState::Missing {
        return Ok(());
    }
    let why = human::one_line(why.unwrap_or("it could not be made"));
    let text = format!("note: stored without a vector: {why}; {MAKES_UP}");
    app.output.note(app.output.style().dim(&text))
}

/// What to do about vectors that could not be made.
pub(super) const MAKES_UP: &str = "`orchestra-memory embed --missing` makes up for it";

/// What the library calls an `--if-exists`.
pub(super) fn on_conflict(if_exists: IfExists) -> OnConflict {
    match if_exists {
        IfExists::Fail => OnConflict::Fail,
        IfExists::Skip => OnConflict::Skip,
        IfExists::Replace => OnConflict::Replace,
    }
}

fn new_memory(app: &App, add: &Add) -> Result<NewMemory> {
    if add.user.is_none() && add.agent.is_none() {
        return Err(Failure::usage(
            "a memory belongs to a user or an agent: give --user or --agent, \
             or set ORCHESTRA_MEMORY_USER",
        ));
    }
    let now = app.now();
    let mut new = NewMemory::new(parse::text(&add.text)?);
    new.id = optional(add.id.as_deref())?;
    new.user_id = optional(add.user.as_deref())?;
    new.agent_id = optional(add.agent.as_deref())?;
    new.session_id = optional(add.session.as_deref())?;
    new.kind = optional(add.kind.as_deref())?;
    new.role = optional(add.role.as_deref())?;
    new.author.clone_from(&add.author);
    new.metadata = metadata(&add.meta)?;
    new.payload = payload(add.payload.as_deref())?;
    new.importance = add.importance;
    new.occurred_at = time(add.occurred_at.as_deref(), now)?;
    new.expires_at = time(add.expires_at.as_deref(), now)?;
    new.embedding = add.embedding.as_deref().map(parse::vector).transpose()?;
    Ok(new)
}

/// `update`.
pub(crate) async fn update(app: &mut App, tenant: &TenantMemory, update: &Update) -> Result<()> {
    let id = MemoryId::new(&update.id)?;
    let patch = patch(app, update)?;
    let mut options = UpdateOptions::new();
    if let Some(revision) = &update.if_revision {
        options = options.with_if_revision(Revision::new(revision)?);
    }
    let receipt = tenant.update_with(&id, &patch, options).await?;
    if app.output.is_json() {
        return app.output.json(&receipt);
    }
    app.output.note(format!("updated {}", human::safe(id.as_str())))?;
    note_missing(app, receipt.vector, receipt.vector_reason.as_deref())
}

fn patch(app: &App, update: &Update) -> Result<Patch> {
    let now = app.now();
    let cleared = |field| update.clear.contains(&field);
    let mut patch = Patch::new();
    patch.content = update.content.as_deref().map(parse::text).transpose()?;
    patch.kind = optional(update.kind.as_deref())?;
    patch.occurred_at = time(update.occurred_at.as_deref(), now)?;

    let user = optional(update.user.as_deref())?;
    patch.user_id = change("user", user, cleared(Clearable::User))?;
    let agent = optional(update.agent.as_deref())?;
    patch.agent_id = change("agent", agent, cleared(Clearable::Agent))?;
    let session = optional(update.session.as_deref())?;
    patch.session_id = change("session", session, cleared(Clearable::Session))?;
    let role = optional(update.role.as_deref())?;
    patch.role = change("role", role, cleared(Clearable::Role))?;
    patch.author = change("author", update.author.clone(), cleared(Clearable::Author))?;
    let payload = payload(update.payload.as_deref())?;
    patch.payload = change("payload", payload, cleared(Clearable::Payload))?;
    patch.importance = change("importance", update.importance, cleared(Clearable::Importance))?;
    let expires_at = time(update.expires_at.as_deref(), now)?;
    patch.expires_at = change("expires-at", expires_at, cleared(Clearable::ExpiresAt))?;
    let embedding = update.embedding.as_deref().map(parse::vector).transpose()?;
    patch.embedding = change("embedding", embedding, cleared(Clearable::Embedding))?;

    let set = metadata(&update.meta)?;
    let remove =
        update.remove_meta.iter().map(MetaKey::new).collect::<CoreResult<BTreeSet<_>>>()?;
    patch.metadata = match (cleared(Clearable::Metadata), set.is_empty() && remove.is_empty()) {
        (true, _) => MetadataChange::Replace(set),
        (false, true) => MetadataChange::Keep,
        (false, false) => MetadataChange::Merge { set, remove },
    };
    Ok(patch)
}

/// `delete`.
pub(crate) async fn delete(app: &mut App, tenant: &TenantMemory, delete: &Delete) -> Result<()> {
    let ids = delete.ids.iter().map(MemoryId::new).collect::<CoreResult<Vec<_>>>()?;
    let revision = delete.if_revision.as_deref().map(Revision::new).transpose()?;
    if revision.is_some() && ids.len() > 1 {
        return Err(Failure::usage("--if-revision takes one id, for each memory has its own"));
    }
    let mut missing = 0_usize;
    for id in &ids {
        let deleted = tenant.delete(id, revision.clone()).await?;
        if app.output.is_json() {
            app.output.json(&json!({ "id": id, "deleted": deleted }))?;
        } else if deleted {
            app.output.note(format!("deleted {}", human::safe(id.as_str())))?;
        }
        missing += usize::from(!deleted);
    }
    match missing {
        0 => Ok(()),
        _ => Err(missing_ids(missing, ids.len())),
    }
}

/// The error for ids that nothing was found under.
pub(super) fn missing_ids(missing: usize, asked: usize) -> Failure {
    Failure::not_found(match asked {
        1 => "there is no such memory".to_owned(),
        _ => format!("{missing} of {asked} memories are not there"),
    })
}

fn metadata(pairs: &[String]) -> Result<Metadata> {
    let mut metadata = Metadata::new();
    for pair in pairs {
        let (key, value) = parse::metadata(pair)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(Failure::usage(format!("--meta names the key {key} twice")));
        }
    }
    Ok(metadata)
}

fn payload(text: Option<&str>) -> Result<Option<Value>> {
    text.map(|text| parse::json("the payload", text)).transpose()
}

fn optional<T: FromStr<Err = Error>>(text: Option<&str>) -> Result<Option<T>> {
    Ok(text.map(str::parse).transpose()?)
}

fn time(text: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>> {
    text.map(|text| parse::time(text, now)).transpose()
}

fn change<T>(name: &str, set: Option<T>, clear: bool) -> Result<Change<T>> {
    match (set, clear) {
        (None, false) => Ok(Change::Keep),
        (Some(value), false) => Ok(Change::Set(value)),
        (None, true) => Ok(Change::Clear),
        (Some(_), true) => {
            Err(Failure::usage(format!("--{name} and --clear {name} contradict each other")))
        }
    }
}
