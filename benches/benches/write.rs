//! Durable writes beside bare SQLite that writes the same rows.
//!
//! The rows are those that the store itself wrote in a first pass: every table, index and byte of
//! `item`, `derived` (terms and int8 copy), `vector` and `change`, and the store's counter. The
//! baseline writes them through prepared statements in one transaction with the same pragmas, from
//! memory, on the thread that asks: what is left is the work of the memory layer, which is checks,
//! hashes, tokens, int8 copies, threads and preconditions. Its physical limit is one sync of the
//! disk, shown beside it.
//!
//! Folding the log into the file is in no time of either side, for a caller does not wait for it:
//! the baseline does it between two runs, and the store after its answers, which is waited for
//! before the next run. Both write batches into one file that grows, so that neither pays for memory
//! that the other has touched already.
//!
//! The callers side by side write through a layer below SQLite that waits two milliseconds at each
//! sync, as a common disk does, and counts syncs; their baseline is one caller.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use benches::{Numbers, Times, head, ms, row};
use memory_sqlite::fault_vfs::SlowSync;
use orchestra_memory::{AddManyOptions, Memory, NewMemory, TenantMemory};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

/// Single adds that are timed.
const SINGLES: usize = 400;
/// Memories of a batch.
const BATCH: usize = 1_000;
/// Batches that are timed.
const BATCHES: usize = 21;
/// The tables whose rows an add writes, with what names the rows of an item. A memory that was added
/// and not changed since has its change at the number in its key.
const TABLES: [(&str, &str); 4] = [
    ("item", "item = ?1"),
    ("derived", "item = ?1"),
    ("vector", "key BETWEEN ?1 * 2 AND ?1 * 2 + 1"),
    ("change", "tenant = ?1 >> 36 AND seq = ?1 & 0xFFFFFFFFF"),
];

/// Callers side by side.
const CALLERS: usize = 64;
/// Adds of each of them, and of the one beside them.
const ADDS: usize = 20;
/// What is added to each sync there.
const SYNC: Duration = Duration::from_millis(2);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        head(
            "Writes: durable, with a vector of 384 dimensions supplied",
            &["what", "Orchestra Memory, ms", "bare SQLite, ms", "ratio", "bound", "one sync, ms"],
        );
        singles().await?;
        batches().await?;
        head(
            "Callers side by side, each sync two milliseconds longer",
            &["callers", "adds a second", "times one caller", "bound", "syncs an add"],
        );
        callers().await
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
        for (place, (table, names)) in TABLES.iter().enumerate() {
            let mut select =
                connection.prepare_cached(&format!("SELECT * FROM {table} WHERE {names}"))?;
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
struct Bare {
    connection: Connection,
    /// Pages of the log after the last commit.
    log: Arc<AtomicI32>,
}

impl Bare {
    fn open(path: &Path) -> Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.execute_batch(include_str!("../../crates/memory-sqlite/src/schema_v1.sql"))?;
        connection.execute_batch("DROP TABLE derived")?;
        connection.execute_batch(include_str!("../../crates/memory-sqlite/src/schema_v2.sql"))?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;")?;
        connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
        connection.execute("INSERT INTO meta VALUES ('counter', 0)", [])?;
        connection.set_prepared_statement_cache_capacity(32);
        let log = Arc::new(AtomicI32::new(0));
        let tell = Arc::clone(&log);
        // In the place of SQLite's own folding.
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            tell.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { connection, log })
    }

    /// Writes the rows of items in one transaction.
    fn write(&self, items: &[ItemRows]) -> Result<()> {
        let run = |sql: &str| {
            self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]))
        };
        run("BEGIN IMMEDIATE")?;
        items.iter().try_for_each(|rows| insert(&self.connection, rows))?;
        run("UPDATE meta SET value = value + 1 WHERE key = 'counter'")?;
        run("COMMIT")?;
        Ok(())
    }

    /// Folds the log into the file where SQLite would.
    fn fold(&self) -> Result<()> {
        if self.log.load(Ordering::Relaxed) >= 1_000 {
            self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        Ok(())
    }
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
    let baseline = Bare::open(&folder.path().join("bare.db"))?;
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
        theirs.run(|| baseline.write(std::slice::from_ref(rows)))?;
        baseline.fold()?;
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
        "<= 1.3".into(),
        ms(sync.median()?),
    ]);
    memory.close().await?;
    Ok(())
}

async fn batches() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rows = written(&folder.path().join("rows.db"), BATCH * BATCHES, 3).await?;
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    let memory = open(&folder.path().join("ours.db")).await?;
    let tenant = memory.tenant("bench")?;
    let baseline = Bare::open(&folder.path().join("bare.db"))?;
    let mut numbers = Numbers::new(4);
    tenant.add(numbers.memory()?).await?;
    for rows in rows.chunks(BATCH) {
        let memories = (0..BATCH).map(|_| numbers.memory()).collect::<Result<Vec<_>>>()?;
        let begun = ours.start();
        let report = tenant.add_many(memories, AddManyOptions::new().with_batch_size(BATCH)).await;
        ours.stop(begun);
        anyhow::ensure!(report.added == BATCH as u64, "the batch is not whole");
        // Comes after the folding of the log.
        tenant.add(numbers.memory()?).await?;
        theirs.run(|| baseline.write(rows))?;
        baseline.fold()?;
    }
    let (a, b) = (ours.median()?, theirs.median()?);
    row(&[
        format!("a batch of {BATCH} (median)"),
        ms(a),
        ms(b),
        format!("{:.2} x the rate", b.as_secs_f64() / a.as_secs_f64()),
        ">= 0.8".into(),
        String::new(),
    ]);
    memory.close().await?;
    std::io::stdout().flush().context("the table is printed")
}

/// One caller, and many at once, on a disk that is slow to sync.
async fn callers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let disk = SlowSync::register("slow", SYNC)?;
    disk.make_default();
    let memory = open(&folder.path().join("callers.db")).await?;
    let tenant = memory.tenant("bench")?;
    let mut numbers = Numbers::new(5);
    tenant.add(numbers.memory()?).await?;
    let mut one = None;
    for callers in [1, CALLERS] {
        let mut shares = Vec::with_capacity(callers);
        for _ in 0..callers {
            shares.push((0..ADDS).map(|_| numbers.memory()).collect::<Result<Vec<_>>>()?);
        }
        let syncs = disk.syncs();
        let mut times = Times::default();
        let begun = times.start();
        futures::future::try_join_all(shares.into_iter().map(|share| add_each(&tenant, share)))
            .await?;
        times.stop(begun);
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let (adds, syncs) = ((callers * ADDS) as f64, (disk.syncs() - syncs) as f64);
        let rate = adds / times.median()?.as_secs_f64();
        let alone = *one.get_or_insert(rate);
        row(&[
            callers.to_string(),
            format!("{rate:.0}"),
            format!("{:.1}", rate / alone),
            if callers == 1 { String::new() } else { ">= 20".into() },
            format!("{:.3}", syncs / adds),
        ]);
    }
    Ok(memory.close().await?)
}

async fn add_each(tenant: &TenantMemory, memories: Vec<NewMemory>) -> Result<()> {
    for memory in memories {
        tenant.add(memory).await?;
    }
    Ok(())
}
