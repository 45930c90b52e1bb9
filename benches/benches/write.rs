//! Durable writes beside bare SQLite that writes the same rows.
//!
//! The rows are those that the store itself wrote in a first pass: every table, index and byte.
//! The baseline inserts them through prepared statements in one transaction with the same pragmas,
//! so that what is left is the work of the memory layer: checks, hashes, tokens, int8 copies,
//! threads and preconditions. Its physical limit is one sync of the disk, shown beside it.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use benches::{Numbers, Times, head, ms, row};
use orchestra_memory::{AddManyOptions, Memory};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

/// Single adds that are timed.
const SINGLES: usize = 400;
/// Memories of a batch.
const BATCH: usize = 1_000;
/// Batches that are timed.
const BATCHES: usize = 21;
/// The tables whose rows an add writes, with the column that names the item.
const TABLES: [(&str, &str); 4] =
    [("item", "item"), ("derived", "item"), ("vector", "key / 2"), ("change", "item")];

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        head(
            "Writes: durable, with a vector of 384 dimensions supplied",
            &["what", "Orchestra Memory, ms", "bare SQLite, ms", "ratio", "bound", "one sync, ms"],
        );
        singles().await?;
        batches().await
    })
}

/// The rows of one item: the table's place in [`TABLES`], and the values.
type ItemRows = Vec<(usize, Vec<Value>)>;

/// Rows of each item as the store wrote them, in the order of the items.
fn rows_of(path: &Path) -> Result<Vec<ItemRows>> {
    let connection = Connection::open(path)?;
    let mut items: Vec<i64> = Vec::new();
    let mut select = connection.prepare("SELECT item FROM item ORDER BY item")?;
    for item in select.query_map([], |row| row.get(0))? {
        items.push(item?);
    }
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let mut rows = Vec::new();
        for (place, (table, key)) in TABLES.iter().enumerate() {
            let mut select =
                connection.prepare_cached(&format!("SELECT * FROM {table} WHERE {key} = ?1"))?;
            let columns = select.column_count();
            let mut found = select.query([item])?;
            while let Some(row) = found.next()? {
                let values = (0..columns).map(|at| row.get(at)).collect::<Result<_, _>>()?;
                rows.push((place, values));
            }
        }
        all.push(rows);
    }
    Ok(all)
}

/// A bare file with the store's tables and pragmas.
fn bare(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(include_str!("../../crates/memory-sqlite/src/schema_v1.sql"))?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;")?;
    connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn insert(connection: &Connection, rows: &[(usize, Vec<Value>)]) -> Result<()> {
    for (table, values) in rows {
        let places = vec!["?"; values.len()].join(", ");
        let sql = format!("INSERT INTO {} VALUES ({places})", TABLES[*table].0);
        connection.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    }
    Ok(())
}

/// Adds memories one by one to a fresh file and gives the rows that came of it.
async fn written(path: &Path, count: usize, seed: u64) -> Result<Vec<ItemRows>> {
    let memory = open(path).await?;
    let mut numbers = Numbers::new(seed);
    let memories = (0..count).map(|_| numbers.memory()).collect::<Result<Vec<_>>>()?;
    let report = memory.tenant("bench")?.add_many(memories, AddManyOptions::new()).await;
    anyhow::ensure!(report.failed == 0, "a memory was refused");
    memory.close().await?;
    rows_of(path)
}

async fn open(path: &Path) -> Result<Memory> {
    Ok(Memory::open(&format!("sqlite:{}", path.display())).await?)
}

async fn singles() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rows = written(&folder.path().join("rows.db"), SINGLES, 1).await?;
    let memory = open(&folder.path().join("ours.db")).await?;
    let tenant = memory.tenant("bench")?;
    let baseline = bare(&folder.path().join("bare.db"))?;
    let mut raw = std::fs::File::create(folder.path().join("raw"))?;
    let mut numbers = Numbers::new(2);
    // The tenant's space is declared by its first vector: not part of what is timed.
    tenant.add(numbers.memory()?).await?;
    let (mut ours, mut theirs, mut sync) = (Times::default(), Times::default(), Times::default());
    for rows in &rows {
        let new = numbers.memory()?;
        let begun = ours.start();
        tenant.add(new).await?;
        ours.stop(begun);
        theirs.run(|| {
            baseline.execute_batch("BEGIN IMMEDIATE")?;
            insert(&baseline, rows)?;
            Ok(baseline.execute_batch("COMMIT")?)
        })?;
        sync.run(|| {
            raw.write_all(&[7; 4_096])?;
            Ok(raw.sync_data()?)
        })?;
    }
    let (a, b) = (ours.median()?, theirs.median()?);
    row(&[
        "one add (median)".into(),
        ms(a),
        ms(b),
        format!("{:.2} x the time", a.as_secs_f64() / b.as_secs_f64()),
        "<= 2".into(),
        ms(sync.median()?),
    ]);
    memory.close().await?;
    Ok(())
}

async fn batches() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rows = written(&folder.path().join("rows.db"), BATCH, 3).await?;
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for round in 0..BATCHES {
        let memory = open(&folder.path().join(format!("ours-{round}.db"))).await?;
        let tenant = memory.tenant("bench")?;
        let mut numbers = Numbers::new(4);
        tenant.add(numbers.memory()?).await?;
        let memories = (0..BATCH).map(|_| numbers.memory()).collect::<Result<Vec<_>>>()?;
        let begun = ours.start();
        let report = tenant.add_many(memories, AddManyOptions::new().with_batch_size(BATCH)).await;
        ours.stop(begun);
        anyhow::ensure!(report.added == BATCH as u64, "the batch is not whole");
        memory.close().await?;
        let baseline = bare(&folder.path().join(format!("bare-{round}.db")))?;
        theirs.run(|| {
            baseline.execute_batch("BEGIN IMMEDIATE")?;
            rows.iter().try_for_each(|rows| insert(&baseline, rows))?;
            Ok(baseline.execute_batch("COMMIT")?)
        })?;
    }
    let (a, b) = (ours.median()?, theirs.median()?);
    row(&[
        format!("a batch of {BATCH} (median)"),
        ms(a),
        ms(b),
        format!("{:.2} x the rate", b.as_secs_f64() / a.as_secs_f64()),
        ">= 0.6".into(),
        String::new(),
    ]);
    std::io::stdout().flush().context("the table is printed")
}
