//! Loads a tenant's index from its narrow rows: one thread reads, another builds.
//!
//! Rows and f32 vectors are two runs of keys in the same order, so each is read once from front to
//! end, and no row is looked up by its key; what surrounds an item is taken from its own row. What was read goes to the builder in batches.

use std::iter::Peekable;
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use memory_core::traits::session_number;
use memory_core::{Error, Result, Timestamp};
use memory_distance::Quantized;
use memory_index::{DocEntry, Surroundings, TenantIndex, VectorInput};
use rusqlite::{Connection, Row, Rows};

use crate::error::{corrupt, map, thread_gone};
use crate::model;
use crate::rows::{item_range, vector_key};
use crate::vectors::SpaceSlots;

/// The columns of a narrow row, in the order of [`DerivedRow::read`].
pub(crate) const SELECT: &str = "SELECT item, id, revision, visible_until, terms, codes0, codes1, \
     user_id, agent_id, session_id, author, importance, occurred_at FROM derived \
     CROSS JOIN (SELECT item AS at, user_id, agent_id, session_id, author, importance, occurred_at \
     FROM item) ON at = item";

/// Rows of a batch: about half a megabyte with their vectors. An index of fewer is built by the
/// thread that reads it.
const BATCH: usize = 256;

/// Batches that may wait for the builder: enough that neither thread waits for the other's
/// hiccups, and some megabytes at the most.
const WAITING: usize = 8;

/// A narrow row, ready for the index.
pub(crate) struct DerivedRow {
    item: i64,
    id: String,
    revision: i64,
    until: i64,
    terms: Vec<u8>,
    session: Option<u64>,
    author: Option<String>,
    importance: Option<f64>,
    occurred_at: i64,
    pub(crate) vectors: Vec<DerivedVector>,
}

/// A vector of a narrow row.
pub(crate) struct DerivedVector {
    pub(crate) slot: u8,
    codes: Vec<i8>,
    quantized: Quantized,
    /// The vector itself, where the index keeps it.
    pub(crate) row: Option<Vec<f32>>,
}

impl DerivedRow {
    /// Reads a row of [`SELECT`] without its f32 vectors; `None` where it has expired.
    pub(crate) fn read(row: &Row<'_>, slots: &SpaceSlots, now: Timestamp) -> Result<Option<Self>> {
        let until: i64 = row.get(3).map_err(map)?;
        if until <= now.as_micros() {
            return Ok(None);
        }
        let blob = |column: usize| {
            row.get_ref(column).map_err(map)?.as_blob_or_null().map_err(crate::error::bad_type)
        };
        let terms = blob(4)?.ok_or_else(|| corrupt("term list"))?.to_vec();
        let mut vectors = Vec::new();
        for slot in in_order(slots) {
            let Some(bytes) = blob(5 + usize::from(slot))? else { continue };
            let mut codes = Vec::new();
            let quantized = model::read_codes(bytes, &mut codes)?;
            vectors.push(DerivedVector { slot, codes, quantized, row: None });
        }
        let name = |column: usize| {
            row.get_ref(column).map_err(map)?.as_str_or_null().map_err(crate::error::bad_type)
        };
        let session =
            name(9)?.map(|session| Ok::<_, Error>(session_number(name(7)?, name(8)?, session)));
        let session = session.transpose()?;
        Ok(Some(Self {
            item: row.get(0).map_err(map)?,
            id: row.get(1).map_err(map)?,
            revision: row.get(2).map_err(map)?,
            until,
            terms,
            session,
            author: row.get(10).map_err(map)?,
            importance: row.get(11).map_err(map)?,
            occurred_at: row.get(12).map_err(map)?,
            vectors,
        }))
    }

    /// Puts the row into an index that has its spaces.
    ///
    /// # Errors
    /// `Corrupt`: a term list that is none, or a vector that does not fit its space.
    pub(crate) fn put_into(&self, index: &mut TenantIndex) -> Result<()> {
        let (tokens, terms) = model::read_terms(&self.terms)?;
        let vectors: Vec<_> = self
            .vectors
            .iter()
            .map(|vector| {
                let input = VectorInput::Quantized {
                    codes: &vector.codes,
                    quantized: vector.quantized,
                    row: vector.row.as_deref(),
                };
                (vector.slot, input)
            })
            .collect();
        // The far future costs an index nothing as the greatest number.
        let forever = self.until == Timestamp::FAR_FUTURE.as_micros();
        let entry = DocEntry::new(self.item.unsigned_abs(), tokens, &terms)
            .named(&self.id, self.revision)
            .visible_until(if forever { i64::MAX } else { self.until })
            .around(Surroundings {
                session: self.session,
                author: self.author.as_deref(),
                time: self.occurred_at,
                importance: self.importance,
            })
            .vectors(&vectors);
        index.upsert(&entry).map_err(|error| corrupt("int8 vector").with_source(error))
    }
}

/// The slots of a tenant's spaces, ascending, as their vectors lie in the file.
fn in_order(slots: &SpaceSlots) -> impl Iterator<Item = u8> {
    [0, 1].into_iter().filter(|slot| slots.each().any(|(known, _)| known == *slot))
}

/// Loads all rows of a tenant that have not expired into an index that has its spaces.
/// `with_rows`: the index keeps the f32 vectors.
///
/// # Errors
/// Whatever SQLite says; `Corrupt` as [`DerivedRow::put_into`] has it.
pub(crate) fn load(
    connection: &Connection,
    tenant: i64,
    slots: &SpaceSlots,
    now: Timestamp,
    with_rows: bool,
    index: &mut TenantIndex,
) -> Result<()> {
    let (first, end) = item_range(tenant);
    let sql = format!("{SELECT} WHERE item >= ?1 AND item < ?2 ORDER BY item");
    let mut narrow = connection.prepare_cached(&sql).map_err(map)?;
    let mut wide = connection
        .prepare_cached("SELECT key, data FROM vector WHERE key >= ?1 AND key < ?2 ORDER BY key")
        .map_err(map)?;
    let narrow = narrow.query([first, end]).map_err(map)?;
    let wide = match with_rows {
        true => Some(wide.query([vector_key(first, 0), vector_key(end, 0)]).map_err(map)?),
        false => None,
    };
    let batches = Batches { narrow, wide, next: None, slots, now, failed: false };
    let mut batches = batches.peekable();
    if let Some(batch) = batches.next() {
        build(index, &batch?)?;
    }
    if batches.peek().is_none() {
        return Ok(());
    }
    thread::scope(|scope| {
        let (sender, waiting) = crossbeam_channel::bounded(WAITING);
        let builder = thread::Builder::new()
            .name("memory-sqlite-loader".to_owned())
            .spawn_scoped(scope, move || build_all(index, &waiting))
            .map_err(|error| thread_gone().with_source(error))?;
        let read = send_all(&mut batches, &sender);
        // The builder ends with the last batch.
        drop(sender);
        let built = builder.join().map_err(|_| thread_gone())?;
        read.and(built)
    })
}

/// Sends until the rows or the builder end; what ended the builder is told by it.
fn send_all(batches: &mut Peekable<Batches<'_>>, sender: &Sender<Vec<DerivedRow>>) -> Result<()> {
    for batch in batches {
        if sender.send(batch?).is_err() {
            break;
        }
    }
    Ok(())
}

fn build_all(index: &mut TenantIndex, waiting: &Receiver<Vec<DerivedRow>>) -> Result<()> {
    waiting.iter().try_for_each(|batch| build(index, &batch))
}

fn build(index: &mut TenantIndex, batch: &[DerivedRow]) -> Result<()> {
    batch.iter().try_for_each(|row| row.put_into(index))
}

/// The rows of a tenant with their vectors, a batch at a time.
struct Batches<'a> {
    narrow: Rows<'a>,
    wide: Option<Rows<'a>>,
    /// The vector that was read and not yet asked for.
    next: Option<(i64, Vec<f32>)>,
    slots: &'a SpaceSlots,
    now: Timestamp,
    failed: bool,
}

impl Batches<'_> {
    fn read(&mut self) -> Result<Vec<DerivedRow>> {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH
            && let Some(row) = self.narrow.next().map_err(map)?
        {
            let Some(mut row) = DerivedRow::read(row, self.slots, self.now)? else { continue };
            for vector in &mut row.vectors {
                let key = vector_key(row.item, vector.slot);
                vector.row = self.vector(key)?;
            }
            batch.push(row);
        }
        Ok(batch)
    }

    /// The f32 vector of a key; keys are asked for in ascending order.
    fn vector(&mut self, key: i64) -> Result<Option<Vec<f32>>> {
        let Some(wide) = &mut self.wide else { return Ok(None) };
        loop {
            match self.next.take() {
                Some((found, row)) if found == key => return Ok(Some(row)),
                Some(later) if later.0 > key => {
                    self.next = Some(later);
                    return Ok(None);
                }
                _ => {}
            }
            let Some(row) = wide.next().map_err(map)? else { return Ok(None) };
            let found: i64 = row.get(0).map_err(map)?;
            // One that nobody asks for is not decoded.
            if found >= key {
                let bytes =
                    row.get_ref(1).map_err(map)?.as_blob().map_err(crate::error::bad_type)?;
                self.next = Some((found, model::read_vector(bytes)?));
            }
        }
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Vec<DerivedRow>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.read();
        self.failed = batch.is_err();
        match batch {
            Ok(batch) if batch.is_empty() => None,
            batch => Some(batch),
        }
    }
}
