//! What a document that is split takes the place of, under
//! [`OnConflict::Replace`](crate::OnConflict::Replace).
//!
//! The same document may have been stored before: whole, or in other and more parts. What is left
//! of that would be found beside the new parts. And an id that looks like that of a part may be
//! another memory's, which must not be lost.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::future::try_join_all;
use memory_core::limits::{FETCH_IDS, PAGE};
use memory_core::{
    CompareOp, Error, ErrorKind, Field, Filter, MemoryId, MetaKey, Order, Projection, Query,
    Result, Revision, Scalar,
};

use super::parts::{DOCUMENT, PART, Place, document_of, part_id};
use crate::new_memory::NewMemory;
use crate::tenant::TenantMemory;

/// Memories deleted at once. 64: a store that writes in groups syncs once for all of them.
const DELETES: usize = 64;

/// A memory of a batch that was read and is not written yet.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) line: u64,
    id: MemoryId,
    /// Where it stands, if it was split off in this import.
    place: Option<Place>,
    /// The document it is a part of, split in this import or before.
    part_of: Option<String>,
    /// Whether it is whole and was stored in parts before.
    pub(super) had_parts: bool,
}

impl Entry {
    /// `None`: it has no id, and no line gives such a memory.
    pub(super) fn new(line: u64, memory: &NewMemory, place: Option<Place>) -> Option<Self> {
        let id = memory.id.clone()?;
        let part_of = document_of(&id, &memory.metadata).map(str::to_owned);
        Some(Self { line, id, place, part_of, had_parts: false })
    }

    /// The memory that the line is about.
    pub(super) fn document(&self) -> &MemoryId {
        self.place.as_ref().map_or(&self.id, |place| &place.document)
    }

    /// Why it was refused; of a part, which one.
    pub(super) fn refused(&self, error: Error) -> Error {
        if self.place.is_none() {
            return error;
        }
        let error = match error.kind() {
            ErrorKind::AlreadyExists => Error::new(
                ErrorKind::AlreadyExists,
                "another memory has the id of this part; if it is a part of the same document, \
                 split otherwise before, replacing takes its place",
            )
            .with_operation("import"),
            _ => error,
        };
        match error.context().iter().any(|(key, _)| *key == "id") {
            true => error,
            false => error.with_context("id", self.id.to_string()),
        }
    }
}

/// For each memory of a batch whether it was stored in parts before, or why it must not take its
/// place. `before` is what is read and not written yet.
///
/// # Errors
/// Those of a read.
pub(super) async fn taken<'a>(
    tenant: &TenantMemory,
    before: impl Iterator<Item = &'a Entry>,
    batch: &'a [Entry],
) -> Result<Vec<Result<bool>>> {
    let stored = stored(tenant, batch).await?;
    let mut claimed: HashMap<&MemoryId, Option<&str>> = HashMap::new();
    for entry in before {
        claimed.insert(&entry.id, entry.part_of.as_deref());
    }
    let mut verdicts = Vec::with_capacity(batch.len());
    for entry in batch {
        let there = |id: &MemoryId| {
            let claimed = claimed.get(id).copied();
            claimed.or_else(|| stored.get(id).map(Option::as_deref))
        };
        let new = entry.part_of.as_deref();
        let verdict = match (there(&entry.id), &entry.place) {
            (Some(old), Some(_)) if old != new => {
                Err("the id of this part is that of a memory that is no part of the document; it \
                 stays: delete it, or give the document another id")
            }
            (Some(Some(old)), None) if new != Some(old) => Err(
                "the id is that of a part of a document that was split; that stays: give the line \
                 another id",
            ),
            (_, Some(_)) => Ok(false),
            (_, None) => Ok(part_id(&entry.id, 1)
                .is_ok_and(|first| there(&first).flatten() == Some(entry.id.as_str()))),
        };
        if verdict.is_ok() {
            claimed.insert(&entry.id, new);
        }
        verdicts.push(verdict.map_err(|message| {
            Error::new(ErrorKind::AlreadyExists, message)
                .with_operation("import")
                .with_context("id", entry.id.to_string())
        }));
    }
    Ok(verdicts)
}

/// The memories that the store has under the ids of a batch, and under those of first parts; each
/// with the document it is a part of.
async fn stored(
    tenant: &TenantMemory,
    batch: &[Entry],
) -> Result<BTreeMap<MemoryId, Option<String>>> {
    let mut ids = HashSet::new();
    for entry in batch {
        ids.insert(entry.id.clone());
        if entry.place.is_none() {
            // An id that is too long to be numbered was never split.
            ids.extend(part_id(&entry.id, 1).ok());
        }
    }
    let ids: Vec<MemoryId> = ids.into_iter().collect();
    let projection = with_metadata();
    let mut stored = BTreeMap::new();
    for ids in ids.chunks(FETCH_IDS) {
        let records = &tenant.inner().backend.records;
        let found = records.fetch(&tenant.context(None), ids, &projection).await?;
        for item in found.into_iter().flatten() {
            let part_of = document_of(&item.id, &item.metadata).map(str::to_owned);
            stored.insert(item.id, part_of);
        }
    }
    Ok(stored)
}

/// Documents that were written, and of whose earlier state something may be left.
#[derive(Debug, Default)]
pub(super) struct Obsolete {
    /// With each, how many parts it has now; 0: it is whole.
    documents: BTreeMap<MemoryId, i64>,
    removed: u64,
}

impl Obsolete {
    /// Takes in a memory that was written.
    pub(super) fn written(&mut self, entry: &Entry) {
        match &entry.place {
            Some(place) if place.number == place.total => {
                self.documents.insert(place.document.clone(), place.total);
            }
            None if entry.had_parts => drop(self.documents.insert(entry.id.clone(), 0)),
            _ => {}
        }
    }

    /// How many memories were removed since this was asked last.
    pub(super) fn take_removed(&mut self) -> u64 {
        std::mem::take(&mut self.removed)
    }

    /// Removes what is left of earlier states, but for documents that are being written again:
    /// what those leave is known when they are written.
    ///
    /// # Errors
    /// Those of a read or a delete.
    pub(super) async fn remove(
        &mut self,
        tenant: &TenantMemory,
        under_way: &[&MemoryId],
    ) -> Result<()> {
        if self.documents.is_empty() {
            return Ok(());
        }
        let under_way: HashSet<&MemoryId> = under_way.iter().copied().collect();
        while let Some((document, parts)) = self.documents.pop_first() {
            if !under_way.contains(&document) {
                self.remove_of(tenant, &document, parts).await?;
            }
        }
        Ok(())
    }

    async fn remove_of(
        &mut self,
        tenant: &TenantMemory,
        document: &MemoryId,
        parts: i64,
    ) -> Result<()> {
        let part = Field::Metadata(MetaKey::new(PART)?);
        let beyond = Filter::eq(Field::Metadata(MetaKey::new(DOCUMENT)?), document.as_str())
            .and(Filter::Compare(part, CompareOp::Gt, Scalar::Int(parts)));
        let filter = match parts {
            0 => beyond,
            // In parts now, and maybe whole before.
            _ => Filter::Or(vec![beyond, Filter::eq(Field::Id, document.as_str())]),
        };
        let query = Query::new(PAGE)
            .with_filter(filter)
            .with_order(Order::BY_ID)
            .with_projection(with_metadata());
        let mut cursor = None;
        loop {
            let records = &tenant.inner().backend.records;
            let query = query.clone().with_cursor(cursor);
            let page = records.query(&tenant.context(None), &query).await?;
            let obsolete = page.items.into_iter().filter(|item| {
                // Others may have such metadata as well.
                item.id == *document
                    || document_of(&item.id, &item.metadata) == Some(document.as_str())
            });
            let obsolete: Vec<_> = obsolete.map(|item| (item.id, item.revision)).collect();
            for some in obsolete.chunks(DELETES) {
                let deletes =
                    some.iter().map(|(id, revision)| delete(tenant, id, revision.clone()));
                let deleted = try_join_all(deletes).await?;
                self.removed += deleted.into_iter().map(u64::from).sum::<u64>();
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

/// Deletes what was read; says whether. What somebody has changed since stays.
async fn delete(tenant: &TenantMemory, id: &MemoryId, revision: Option<Revision>) -> Result<bool> {
    match tenant.delete(id, revision).await {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => {
            Ok(false)
        }
        deleted => deleted,
    }
}

fn with_metadata() -> Projection {
    let mut projection = Projection::narrow();
    projection.metadata = true;
    projection
}
