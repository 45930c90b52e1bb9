//! Vectors that are kept for items, and forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::traits::{UpsertOutcome, VectorEntry};
use memory_core::{
    CallContext, EmbeddingSpace, Error, ErrorKind, MemoryId, Result, Revision, Timestamp,
};

use super::{check_dimensions, check_space, note_unreadable, with_space};
use crate::admin::LogOp;
use crate::batch;
use crate::commit::{pause, too_contended};
use crate::fields as f;
use crate::guard::TenantState;
use crate::model::{self, Row};
use crate::store::FirestoreStore;
use crate::wire::{Call, Refused, Write};

/// Most entries or ids of one call: the trait's limit.
const ENTRIES: usize = 1_000;
/// Bytes of one component of a vector as it is sent: a number of eight bytes in its own message.
const COMPONENT: usize = 11;
/// Bytes of a write besides its vector, its document's name and its id.
const AROUND: usize = 512;

/// Keeps vectors for items.
///
/// Billed: one read for each item and one write for each vector that is kept. A request that met
/// other writers reads its items again.
pub(crate) async fn upsert(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    space: &EmbeddingSpace,
    entries: &[VectorEntry],
) -> Result<Vec<UpsertOutcome>> {
    check_count(entries.len())?;
    check_dimensions(space)?;
    for (place, entry) in entries.iter().enumerate() {
        space
            .check(&entry.vector)
            .map_err(|error| error.with_context("entry", place.to_string()))?;
    }
    let mut by_id: BTreeMap<&MemoryId, Vec<&VectorEntry>> = BTreeMap::new();
    for entry in entries {
        by_id.entry(&entry.id).or_default().push(entry);
    }
    let targets = by_id.into_iter().map(|(id, entries)| Target { id, wants: Wants::One(entries) });
    let mut work = Work::begin(store, call, context, space).await?;
    work.run(targets.collect()).await?;
    Ok(entries
        .iter()
        .map(|entry| match work.done.get(&entry.id) {
            Some(revision) if *revision == entry.revision => UpsertOutcome::Stored,
            _ => UpsertOutcome::Stale,
        })
        .collect())
}

/// Forgets vectors.
///
/// Billed: one read for each id and one write for each vector that was there.
pub(crate) async fn remove(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    space: &EmbeddingSpace,
    ids: &[MemoryId],
) -> Result<()> {
    check_count(ids.len())?;
    check_dimensions(space)?;
    let mut ids: Vec<_> = ids.iter().collect();
    ids.sort_unstable();
    ids.dedup();
    let targets = ids.into_iter().map(|id| Target { id, wants: Wants::None });
    let mut work = Work::begin(store, call, context, space).await?;
    work.run(targets.collect()).await
}

fn check_count(count: usize) -> Result<()> {
    if count > ENTRIES {
        return Err(Error::invalid(format!(
            "one call takes up to {ENTRIES} vectors; this has {count}"
        )));
    }
    Ok(())
}

/// What an item's vector is to become.
struct Target<'a> {
    id: &'a MemoryId,
    wants: Wants<'a>,
}

enum Wants<'a> {
    /// The last one that was made from the item as it is.
    One(Vec<&'a VectorEntry>),
    /// None.
    None,
}

/// A write, and what it is about.
struct Edit {
    id: MemoryId,
    revision: Revision,
    write: Write,
    /// 1 for a vector where there was none, -1 for one that goes.
    change: i64,
}

/// One call under way.
struct Work<'a> {
    store: &'a FirestoreStore,
    call: Call<'a>,
    context: &'a CallContext,
    space: &'a EmbeddingSpace,
    /// The space as documents name it, and the field of its vectors.
    short: String,
    field: String,
    state: Arc<TenantState>,
    /// The revisions of the items that were written.
    done: HashMap<MemoryId, Revision>,
}

impl<'a> Work<'a> {
    async fn begin(
        store: &'a FirestoreStore,
        call: Call<'a>,
        context: &'a CallContext,
        space: &'a EmbeddingSpace,
    ) -> Result<Self> {
        let state = with_space(store, call, &context.tenant, space).await?;
        let state = if state.check_fence(context).is_err() {
            // It may have been lifted by another process since.
            store.tenant_now(call, &context.tenant).await?
        } else {
            state
        };
        state.check_fence(context)?;
        let (short, field) = (model::short_name(&space.id()), model::vector_field(&space.id()));
        Ok(Self { store, call, context, space, short, field, state, done: HashMap::new() })
    }

    async fn run(&mut self, targets: Vec<Target<'_>>) -> Result<()> {
        if targets.is_empty() {
            return Ok(());
        }
        let rows = self.rows(&targets).await?;
        let now = self.store.clock.now();
        let due = targets
            .into_iter()
            .zip(rows)
            .filter_map(|(target, row)| Some((target, row?)))
            .filter(|(target, row)| self.edit(target, row, now).is_some())
            .collect();
        for part in self.parts(due) {
            let part = self.write(part).await;
            // What was written before a failure stays written.
            part.map_err(
                |error| {
                    if self.done.is_empty() { error } else { error.with_unknown_outcome() }
                },
            )?;
        }
        Ok(())
    }

    /// The rows of the items as they are now; `None` where there is none.
    async fn rows(&self, targets: &[Target<'_>]) -> Result<Vec<Option<Row>>> {
        let tenant = &self.context.tenant;
        let names = targets.iter().map(|target| self.store.names.memory(tenant, target.id));
        let found =
            self.store.wire.get(self.call, names.collect(), Some(model::row_mask())).await?;
        let row = |(target, found): (&Target<'_>, Option<_>)| match found.as_ref().map(Row::read) {
            // An item that cannot be read has no revision that a vector could be made from. A
            // vector that is to go must not be left behind in silence.
            Some(Err(error))
                if error.kind() == ErrorKind::Corrupt && matches!(target.wants, Wants::One(_)) =>
            {
                note_unreadable(self.store, &error);
                Ok(None)
            }
            row => row.transpose(),
        };
        targets.iter().zip(found).map(row).collect()
    }

    /// What to write for an item; `None` for nothing.
    fn edit(&self, target: &Target<'_>, row: &Row, now: Timestamp) -> Option<Edit> {
        let has = row.spaces.contains(&self.short);
        let vector = match &target.wants {
            Wants::One(entries) => {
                let last = entries.iter().rev().find(|entry| entry.revision == row.revision);
                Some(&last.filter(|_| row.is_visible(now))?.vector)
            }
            Wants::None if has => None,
            Wants::None => return None,
        };
        let others = row.spaces.iter().map(String::as_str).filter(|space| *space != self.short);
        let own = vector.is_some().then_some(self.short.as_str());
        let mut fields = HashMap::from([
            (f::SPACES.to_owned(), model::texts(others.chain(own))),
            (f::REV.to_owned(), model::text(row.revision.as_str())),
        ]);
        if let Some(vector) = vector {
            fields.insert(self.field.clone(), model::vector(vector));
        }
        let document = proto::Document { name: row.name.clone(), fields, ..Default::default() };
        // A field of the mask that the document lacks is removed.
        let mask = vec![self.field.clone(), f::SPACES.to_owned(), f::REV.to_owned()];
        Some(Edit {
            id: target.id.clone(),
            revision: row.revision.clone(),
            write: Write::update(document).masked(mask).if_updated_at(row.updated_at),
            change: match (vector.is_some(), has) {
                (true, false) => 1,
                (false, true) => -1,
                _ => 0,
            },
        })
    }

    /// Splits what is due into requests, by documents and by bytes.
    fn parts<'t>(&self, due: Vec<(Target<'t>, Row)>) -> Vec<Vec<(Target<'t>, Row)>> {
        let bulk = &self.store.settings.bulk;
        let most = usize::try_from(bulk.batch_documents).unwrap_or(usize::MAX);
        let most_bytes = bulk.batch_bytes.min(self.store.wire.request_bytes() / 4 * 3);
        let vector = usize::try_from(self.space.dimensions()).unwrap_or(usize::MAX) * COMPONENT;
        let mut parts = Vec::new();
        let (mut part, mut bytes) = (Vec::new(), 0);
        for (target, row) in due {
            let own = vector + row.name.len() + target.id.as_str().len() + AROUND;
            if part.len() == most || (!part.is_empty() && bytes + own > most_bytes) {
                parts.push(std::mem::take(&mut part));
                bytes = 0;
            }
            bytes += own;
            part.push((target, row));
        }
        parts.push(part);
        parts
    }

    /// Writes one request's worth, and looks again where it meets other writers: each item is
    /// decided about anew then.
    ///
    /// A request that is more than the service takes is sent in smaller ones, down to single items.
    async fn write(&mut self, part: Vec<(Target<'_>, Row)>) -> Result<()> {
        let (targets, rows): (Vec<_>, Vec<_>) = part.into_iter().unzip();
        let mut rows: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
        let (mut done, mut most) = (0, targets.len());
        while done < targets.len() {
            let end = targets.len().min(done + most);
            let sent = self.write_some(&targets[done..end], &mut rows[done..end]).await;
            match sent {
                Ok(()) => done = end,
                Err(error) => {
                    let refused = Refused::Error(error);
                    match (batch::fewer(&refused, end - done), refused) {
                        (Some(fewer), _) => most = fewer,
                        (None, Refused::Error(error)) => return Err(error),
                        (None, Refused::Contended) => return Err(too_contended()),
                    }
                }
            }
        }
        Ok(())
    }

    async fn write_some(&mut self, targets: &[Target<'_>], rows: &mut [Option<Row>]) -> Result<()> {
        let (store, call, tenant) = (self.store, self.call, &self.context.tenant);
        for attempt in 0..store.settings.contention_attempts {
            let now = store.clock.now();
            let edits: Vec<_> = targets
                .iter()
                .zip(&*rows)
                .filter_map(|(target, row)| self.edit(target, row.as_ref()?, now))
                .collect();
            match self.send(edits).await {
                Ok(()) => return Ok(()),
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Contended) => {}
            }
            pause(store, call, attempt).await;
            self.state = store.tenant_now(call, tenant).await?;
            self.state.check_fence(self.context)?;
            check_space(&self.state, self.space)?;
            rows.clone_from_slice(&self.rows(targets).await?);
        }
        Err(too_contended())
    }

    async fn send(&mut self, edits: Vec<Edit>) -> Result<(), Refused> {
        if edits.is_empty() {
            return Ok(());
        }
        let (store, call, tenant) = (self.store, self.call, &self.context.tenant);
        let (mut writes, mut ops, mut done) = (Vec::new(), Vec::new(), Vec::new());
        let mut change = 0;
        for edit in edits {
            writes.push(edit.write);
            let (id, revision) = (edit.id.clone(), edit.revision.clone());
            ops.push(LogOp::Vectors { id, revision });
            done.push((edit.id, edit.revision));
            change += edit.change;
        }
        let turn = store.log_turn(call, tenant).await?;
        if let Some(turn) = &turn {
            writes.extend(turn.writes(&store.names, tenant, &ops)?);
        }
        store.commit_guarded(call, tenant, &self.state, writes).await?;
        store.log_done(call, tenant, turn, ops.len()).await;
        store.sizes.changed(tenant, &self.short, change);
        self.done.extend(done);
        Ok(())
    }
}
