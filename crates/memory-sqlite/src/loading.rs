//! Loads a tenant's index from its narrow rows: one thread reads, another builds.
//!
//! Rows and f32 vectors are two runs of keys in the same order, so each is read once from front to
//! end, and no row is looked up by its key. The thread that reads puts the vectors where they belong
//! by itself, out of the file's pages and without a copy between; terms, names and what surrounds an
//! item go to the builder in batches, which come back empty and are filled again. So the two threads
//! have about as much to do, and a row costs neither of them an allocation.

use std::thread;

use crossbeam_channel::{Receiver, Sender};
use memory_core::{Result, Timestamp};
use memory_index::{DocEntry, Surroundings, TenantIndex, VectorError, VectorInput, VectorScan};
use rusqlite::{Connection, Row, Rows};

use crate::error::{bad_type, corrupt, map, thread_gone};
use crate::model;
use crate::rows::{item_range, vector_key};
use crate::vectors::SpaceSlots;

/// The columns of a narrow row, in the order of [`Narrow::read`].
const SELECT: &str = "SELECT item, id, revision, visible_until, session, author, importance, \
     occurred_at, terms, codes0, codes1 FROM derived";

/// The column of the int8 copy in slot 0; that of slot 1 follows.
const CODES: usize = 9;

/// Most rows of a batch. An index of fewer is built by the thread that reads it.
const BATCH: usize = 256;

/// Bytes of terms from which on a batch is full: rows of a conversation's turns are some 50 KB a
/// batch, and one row of a long text may have a megabyte by itself.
const BATCH_BYTES: usize = 1 << 20;

/// Batches that may wait for the builder: enough that neither thread waits for the other's
/// hiccups.
const WAITING: usize = 8;

/// A narrow row without its vectors, as it lies in a page of the file or in a batch.
#[derive(Clone, Copy)]
struct Narrow<'a> {
    item: i64,
    id: &'a str,
    revision: i64,
    until: i64,
    session: Option<u64>,
    author: Option<&'a str>,
    importance: Option<f64>,
    occurred_at: i64,
    terms: &'a [u8],
}

impl<'a> Narrow<'a> {
    /// Reads a row of [`SELECT`]; `None` where it has expired.
    fn read(row: &'a Row<'_>, now: Timestamp) -> Result<Option<Self>> {
        let until: i64 = row.get(3).map_err(map)?;
        if until <= now.as_micros() {
            return Ok(None);
        }
        let text =
            |column: usize| row.get_ref(column).map_err(map)?.as_str_or_null().map_err(bad_type);
        Ok(Some(Self {
            item: row.get(0).map_err(map)?,
            id: text(1)?.ok_or_else(|| corrupt("id"))?,
            revision: row.get(2).map_err(map)?,
            until,
            session: row.get::<_, Option<i64>>(4).map_err(map)?.map(i64::cast_unsigned),
            author: text(5)?,
            importance: row.get(6).map_err(map)?,
            occurred_at: row.get(7).map_err(map)?,
            terms: blob(row, 8)?.ok_or_else(|| corrupt("term list"))?,
        }))
    }

    /// Puts the row into an index. `terms` is emptied first, and only spares an allocation.
    fn put_into(
        &self,
        index: &mut TenantIndex,
        vectors: &[(u8, VectorInput<'_>)],
        terms: &mut Vec<(&'a str, u32)>,
    ) -> Result<()> {
        let tokens = model::read_terms_into(self.terms, terms)?;
        // The far future costs an index nothing as the greatest number.
        let forever = self.until == Timestamp::FAR_FUTURE.as_micros();
        let entry = DocEntry::new(self.item.unsigned_abs(), tokens, terms)
            .named(self.id, self.revision)
            .visible_until(if forever { i64::MAX } else { self.until })
            .around(Surroundings {
                session: self.session,
                author: self.author,
                time: self.occurred_at,
                importance: self.importance,
            })
            .vectors(vectors);
        index.upsert(&entry).map_err(|error| corrupt("int8 vector").with_source(error))
    }
}

fn blob<'a>(row: &'a Row<'_>, column: usize) -> Result<Option<&'a [u8]>> {
    row.get_ref(column).map_err(map)?.as_blob_or_null().map_err(bad_type)
}

/// Reads one item's narrow row and puts it into the index, or takes it out where it is gone or has
/// expired. `with_rows`: the index keeps the f32 vectors.
///
/// # Errors
/// Whatever SQLite says; `Corrupt`: a term list that is none, or a vector that does not fit its
/// space.
pub(crate) fn follow(
    connection: &Connection,
    slots: &SpaceSlots,
    item: i64,
    now: Timestamp,
    with_rows: bool,
    index: &mut TenantIndex,
) -> Result<()> {
    let sql = format!("{SELECT} WHERE item = ?1");
    let mut select = connection.prepare_cached(&sql).map_err(map)?;
    let mut found = select.query([item]).map_err(map)?;
    let found = found.next().map_err(map)?;
    let narrow = found.map(|row| Narrow::read(row, now)).transpose()?.flatten();
    let (Some(row), Some(narrow)) = (found, narrow) else {
        index.remove(item.unsigned_abs());
        return Ok(());
    };
    let mut vectors = Vec::new();
    for slot in in_order(slots) {
        let Some(bytes) = blob(row, CODES + usize::from(slot))? else { continue };
        let mut codes = Vec::new();
        let quantized = model::read_codes(bytes, &mut codes)?;
        let row = if with_rows { crate::read::vector(connection, item, slot)? } else { None };
        vectors.push((slot, codes, quantized, row));
    }
    let vectors: Vec<_> = vectors
        .iter()
        .map(|(slot, codes, quantized, row)| {
            let row = row.as_deref();
            (*slot, VectorInput::Quantized { codes, quantized: *quantized, row })
        })
        .collect();
    narrow.put_into(index, &vectors, &mut Vec::new())
}

/// The slots of a tenant's spaces, ascending, as their vectors lie in the file.
fn in_order(slots: &SpaceSlots) -> impl Iterator<Item = u8> {
    [0, 1].into_iter().filter(|slot| slots.each().any(|(known, _)| known == *slot))
}

/// Loads all rows of a tenant that have not expired into a new index that has its spaces.
/// `with_rows`: the index keeps the f32 vectors. After an error the index holds some of the rows and
/// is of no use.
///
/// # Errors
/// As [`follow`].
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
    let wide = match with_rows {
        true => Some(wide.query([vector_key(first, 0), vector_key(end, 0)]).map_err(map)?),
        false => None,
    };
    // The reading thread has the vectors to itself, as long as it goes on.
    let scans = in_order(slots).filter_map(|slot| Some((slot, index.remove_space(slot)?)));
    let mut reading = Reading {
        narrow: narrow.query([first, end]).map_err(map)?,
        wide: Wide { rows: wide, held: None, vector: Vec::new() },
        scans: scans.collect(),
        codes: Vec::new(),
        now,
    };
    let done = read_and_build(&mut reading, index);
    for (slot, scan) in reading.scans {
        index.set_space(slot, scan);
    }
    done
}

fn read_and_build(reading: &mut Reading<'_>, index: &mut TenantIndex) -> Result<()> {
    let mut batch = Batch::default();
    if !reading.fill(&mut batch)? {
        return batch.build(index);
    }
    thread::scope(|scope| {
        let (sender, waiting) = crossbeam_channel::bounded(WAITING);
        let (give_back, emptied) = crossbeam_channel::bounded(WAITING);
        let builder = thread::Builder::new()
            .name("memory-sqlite-loader".to_owned())
            .spawn_scoped(scope, move || build_all(index, &waiting, &give_back))
            .map_err(|error| thread_gone().with_source(error))?;
        let read = send_all(reading, batch, &sender, &emptied);
        // The builder ends with the last batch.
        drop(sender);
        let built = builder.join().map_err(|_| thread_gone())?;
        read.and(built)
    })
}

/// Sends until the rows or the builder end; what ended the builder is told by it.
fn send_all(
    reading: &mut Reading<'_>,
    first: Batch,
    sender: &Sender<Batch>,
    emptied: &Receiver<Batch>,
) -> Result<()> {
    let (mut batch, mut more) = (first, true);
    while sender.send(batch).is_ok() && more {
        batch = emptied.try_recv().unwrap_or_default();
        more = reading.fill(&mut batch)?;
    }
    Ok(())
}

fn build_all(
    index: &mut TenantIndex,
    waiting: &Receiver<Batch>,
    give_back: &Sender<Batch>,
) -> Result<()> {
    for mut batch in waiting {
        batch.build(index)?;
        batch.clear();
        // Where there is no room for it, or nobody reads any more, it is freed.
        let _ = give_back.try_send(batch);
    }
    Ok(())
}

/// Narrow rows on their way from one thread to the other, in three pieces of memory.
#[derive(Default)]
struct Batch {
    rows: Vec<Packed>,
    /// Id and author of each row, one behind another.
    texts: String,
    /// The term list of each row, one behind another.
    terms: Vec<u8>,
}

/// A row of a batch: lengths in the place of texts and terms.
struct Packed {
    item: i64,
    revision: i64,
    until: i64,
    session: Option<u64>,
    importance: Option<f64>,
    occurred_at: i64,
    id: usize,
    author: Option<usize>,
    terms: usize,
}

impl Batch {
    fn push(&mut self, row: &Narrow<'_>) {
        self.texts.push_str(row.id);
        self.texts.push_str(row.author.unwrap_or_default());
        self.terms.extend_from_slice(row.terms);
        self.rows.push(Packed {
            item: row.item,
            revision: row.revision,
            until: row.until,
            session: row.session,
            importance: row.importance,
            occurred_at: row.occurred_at,
            id: row.id.len(),
            author: row.author.map(str::len),
            terms: row.terms.len(),
        });
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH || self.terms.len() >= BATCH_BYTES
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.texts.clear();
        self.terms.clear();
    }

    /// Puts the rows into an index.
    fn build(&self, index: &mut TenantIndex) -> Result<()> {
        let (mut texts, mut terms) = (self.texts.as_str(), self.terms.as_slice());
        let mut buffer = Vec::new();
        for row in &self.rows {
            let (id, author, own);
            (id, texts) = texts.split_at(row.id);
            (author, texts) = texts.split_at(row.author.unwrap_or(0));
            (own, terms) = terms.split_at(row.terms);
            let row = Narrow {
                item: row.item,
                id,
                revision: row.revision,
                until: row.until,
                session: row.session,
                author: row.author.map(|_| author),
                importance: row.importance,
                occurred_at: row.occurred_at,
                terms: own,
            };
            row.put_into(index, &[], &mut buffer)?;
        }
        Ok(())
    }
}

/// The rows of a tenant with their vectors.
struct Reading<'a> {
    narrow: Rows<'a>,
    wide: Wide<'a>,
    /// Where the vectors go, by slot, ascending.
    scans: Vec<(u8, VectorScan)>,
    codes: Vec<i8>,
    now: Timestamp,
}

impl Reading<'_> {
    /// Fills an empty batch, and puts the vectors of its rows into their scans. Whether there may be
    /// more rows.
    fn fill(&mut self, batch: &mut Batch) -> Result<bool> {
        while !batch.is_full() {
            let Some(row) = self.narrow.next().map_err(map)? else { return Ok(false) };
            let Some(narrow) = Narrow::read(row, self.now)? else { continue };
            for (slot, scan) in &mut self.scans {
                let Some(bytes) = blob(row, CODES + usize::from(*slot))? else { continue };
                let quantized = model::read_codes(bytes, &mut self.codes)?;
                let wide = self.wide.vector(vector_key(narrow.item, *slot))?;
                scan.insert_quantized(narrow.item.unsigned_abs(), &self.codes, quantized, wide)
                    .map_err(|error: VectorError| corrupt("int8 vector").with_source(error))?;
            }
            batch.push(&narrow);
        }
        Ok(true)
    }
}

/// The f32 vectors of a tenant, where the index keeps them.
struct Wide<'a> {
    rows: Option<Rows<'a>>,
    /// The key of the vector that was read last.
    held: Option<i64>,
    vector: Vec<f32>,
}

impl Wide<'_> {
    /// The f32 vector of a key; keys are asked for in ascending order.
    fn vector(&mut self, key: i64) -> Result<Option<&[f32]>> {
        let Some(rows) = &mut self.rows else { return Ok(None) };
        while self.held.is_none_or(|held| held < key) {
            let Some(row) = rows.next().map_err(map)? else { return Ok(None) };
            let found: i64 = row.get(0).map_err(map)?;
            // One that nobody asks for is not decoded.
            if found >= key {
                let bytes = row.get_ref(1).map_err(map)?.as_blob().map_err(bad_type)?;
                model::read_vector_into(bytes, &mut self.vector)?;
            }
            self.held = Some(found);
        }
        Ok((self.held == Some(key)).then_some(self.vector.as_slice()))
    }
}
