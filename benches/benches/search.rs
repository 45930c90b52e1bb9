//! Searches beside two baselines in the same run.
//!
//! - **Bare**: what no search of this kind can do without, each by itself on one thread: an int8
//!   scan of every code by the kernel in use with the ten best kept (not exact, nothing reranked),
//!   and the ten rows of the answer read by their keys with a prepared statement. The sum of the two
//!   is the yardstick for a search by vector, which besides is exact, filters what has expired,
//!   holds one snapshot and hops between threads.
//! - **Legacy**: all the user's f32 rows loaded from the file and compared one by one, for each
//!   search. It is compiled Rust over SQLite with prepared statements and no parsing: kinder than
//!   what it stands for.
//!
//! All answer with the ten best memories, read whole. The limit of a scan is the memory: it reads
//! every code once (dimensions x rows bytes).
//! Texts are of words of which few are common and most are rare, and three of the nine words of
//! each question are the commonest ones.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use benches::{DIMENSIONS, Numbers, QUESTION, Times, head, ms, row};
use memory_distance::{CodeMatrix, Quantized, dot_f64, norm_f64, quantize};
use orchestra_memory::{AddManyOptions, Limit, Memory, SearchAnswer, SearchRequest, TenantMemory};
use rusqlite::{Connection, params};

/// Sizes of the tenant.
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
/// The legacy way is timed up to this size: beyond it, it takes seconds and shows nothing new.
const LEGACY_UP_TO: usize = 10_000;
/// Turns that each contestant takes, after one that is not timed.
const ROUNDS: usize = 6;
/// Hits asked for.
const LIMIT: u32 = 10;
/// Memories and queries of the comparison with brute force.
const EXACT: usize = 10_000;
/// Memories of one call of the import.
const BATCH: usize = 5_000;

/// Searches of one turn.
fn turn(size: usize) -> usize {
    if size > LEGACY_UP_TO { 40 } else { 150 }
}

/// Searches of one turn that the legacy way takes part in.
const LEGACY_TURN: usize = 25;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut tables = Tables::default();
        for size in SIZES {
            compare(size, &mut tables).await?;
        }
        tables.print();
        every_query_is_exact().await
    })
}

/// The rows of the tables, which are printed one after the other.
#[derive(Default)]
struct Tables {
    searches: Vec<Vec<String>>,
    legacy: Vec<Vec<String>>,
    openings: Vec<Vec<String>>,
}

impl Tables {
    fn print(&self) {
        let print = |title: &str, columns: &[&str], rows: &[Vec<String>]| {
            head(title, columns);
            rows.iter().for_each(|cells| row(cells));
        };
        print(
            "Searches: ten hits with their records, vectors of 384 dimensions",
            &["memories", "what", "median, ms", "least, ms", "times bare (median)", "bound"],
            &self.searches,
        );
        print(
            "Searches beside the legacy way",
            &["memories", "what", "median, ms", "legacy, ms", "times faster", "bound"],
            &self.legacy,
        );
        print(
            "Opening a file and answering the first search, by vector and words",
            &["memories", "ms", "bound", "indexes, MB", "their bound, MB", "resident more, MB"],
            &self.openings,
        );
    }
}

/// The legacy's file: one row a memory, with its embedding.
fn legacy(path: &Path, size: usize) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE memory_items (id TEXT PRIMARY KEY, user_id TEXT NOT NULL,
                                    text_content TEXT NOT NULL, embedding BLOB NOT NULL);
         CREATE INDEX by_user ON memory_items (user_id);
         BEGIN",
    )?;
    let mut numbers = Numbers::new(5);
    for number in 0..size {
        let text = numbers.words(benches::WORDS);
        let bytes: Vec<u8> = numbers.vector().iter().flat_map(|x| x.to_le_bytes()).collect();
        connection
            .prepare_cached("INSERT INTO memory_items VALUES (?1, 'ada', ?2, ?3)")?
            .execute(params![format!("m-{number}"), text, bytes])?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(connection)
}

/// Loads every row of the user, compares one by one, and keeps the ten best.
fn legacy_search(connection: &Connection, query: &[f32]) -> Result<Vec<(f32, String, String)>> {
    let mut select = connection.prepare_cached(
        "SELECT id, text_content, embedding FROM memory_items WHERE user_id = 'ada'",
    )?;
    let mut found = select.query([])?;
    let mut all = Vec::new();
    let norm = |vector: &[f32]| vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    let query_norm = norm(query);
    while let Some(row) = found.next()? {
        let (id, text): (String, String) = (row.get(0)?, row.get(1)?);
        let bytes: Vec<u8> = row.get(2)?;
        let vector: Vec<f32> =
            bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let dot: f32 = vector.iter().zip(query).map(|(a, b)| a * b).sum();
        all.push((dot / (norm(&vector) * query_norm), id, text));
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.truncate(10);
    Ok(all)
}

/// The bare parts of a search.
struct Bare {
    codes: CodeMatrix,
    quantized: Vec<Quantized>,
    file: Connection,
}

/// Rows of one call of the kernel.
const SPAN: usize = 256;

impl Bare {
    fn new(path: &Path, size: usize) -> Result<Self> {
        let mut codes = CodeMatrix::new(DIMENSIONS);
        codes.reserve(size);
        let mut quantized = Vec::with_capacity(size);
        let mut numbers = Numbers::new(5);
        let mut row = [0; DIMENSIONS];
        for _ in 0..size {
            numbers.words(benches::WORDS);
            quantized.push(quantize(&numbers.vector(), &mut row));
            codes.push(&row);
        }
        Ok(Self { codes, quantized, file: Connection::open(path)? })
    }

    /// The ten rows whose estimates are the highest.
    fn scan(&self, query: &[f32]) -> Vec<(f64, usize)> {
        let mut codes = [0; DIMENSIONS];
        quantize(query, &mut codes);
        let padded = self.codes.padded(&codes);
        let mut best: Vec<(f64, usize)> = Vec::with_capacity(11);
        let (mut dots, mut first) = ([0; SPAN], 0);
        while first < self.codes.len() {
            let dots = &mut dots[..SPAN.min(self.codes.len() - first)];
            self.codes.dots_span(&padded, first, dots);
            for (row, dot) in (first..).zip(dots.iter()) {
                let quantized = &self.quantized[row];
                let score = f64::from(quantized.scale) * f64::from(*dot) / quantized.norm;
                if best.len() < 10 || score > best[9].0 {
                    let place = best.partition_point(|(other, _)| *other >= score);
                    best.insert(place, (score, row));
                    best.truncate(10);
                }
            }
            first += dots.len();
        }
        best
    }

    /// The keys of the rows of an answer; not timed.
    fn keys(&self, answer: &SearchAnswer) -> Result<Vec<i64>> {
        let mut key = self.file.prepare_cached("SELECT item FROM item WHERE id = ?1")?;
        let ids = answer.hits.iter().map(|hit| hit.item.id.as_str());
        ids.map(|id| Ok(key.query_row([id], |row| row.get(0))?)).collect()
    }

    /// Reads rows by their keys, every column of a memory that has a value.
    fn fetch(&self, keys: &[i64]) -> Result<()> {
        let mut select = self.file.prepare_cached(
            "SELECT id, user_id, kind, content, metadata, occurred_at, created_at, updated_at, \
             content_hash, revision FROM item WHERE item = ?1",
        )?;
        for key in keys {
            let texts = select.query_row([key], |row| {
                let numbers: [i64; 4] = [row.get(5)?, row.get(6)?, row.get(7)?, row.get(9)?];
                let texts: [Option<String>; 5] =
                    [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?];
                Ok((texts, numbers, row.get::<_, [u8; 32]>(8)?))
            })?;
            black_box(texts);
        }
        Ok(())
    }
}

/// A memory of the store's process, in megabytes; `None` where the system does not tell.
#[expect(clippy::cast_precision_loss, reason = "a number of megabytes")]
fn resident_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib as f64 / 1024.0)
}

fn request() -> SearchRequest {
    SearchRequest::new().with_limit(Limit::Count(LIMIT))
}

/// A question of words like those of the memories, and the three commonest ones.
fn question(numbers: &mut Numbers) -> String {
    format!("{} word30x word31x word32x", numbers.words(QUESTION - 3))
}

async fn fill(tenant: &TenantMemory, size: usize) -> Result<()> {
    let mut numbers = Numbers::new(5);
    let mut left = size;
    while left > 0 {
        let some = left.min(BATCH);
        let memories = (0..some).map(|_| numbers.memory()).collect::<Result<Vec<_>>>()?;
        let report = tenant.add_many(memories, AddManyOptions::new()).await;
        ensure!(report.failed == 0, "a memory was refused");
        left -= some;
    }
    Ok(())
}

/// Times of the contestants at one size.
#[derive(Default)]
struct Contest {
    scan: Times,
    fetch: Times,
    vector: Times,
    text: Times,
    both: Times,
    legacy: Times,
}

async fn compare(size: usize, tables: &mut Tables) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ours.db");
    let url = format!("sqlite:{}", path.display());
    {
        let memory = Memory::open(&url).await?;
        fill(&memory.tenant("bench")?, size).await?;
        memory.close().await?;
    }
    let mut numbers = Numbers::new(99);

    // The first search loads the index and is shown by itself.
    let before = resident_mb();
    let mut first = Times::default();
    let begun = first.start();
    let memory = Memory::open(&url).await?;
    let tenant = memory.tenant("bench")?;
    let both = request().with_text(question(&mut numbers));
    let answer = tenant.search_with_vector(both, numbers.vector()).await?;
    first.stop(begun);
    ensure!(answer.hits.len() == 10, "a short answer");
    opening(size, &memory, &first, before, tables).await?;

    let bare = Bare::new(&path, size)?;
    let legacy = match size {
        ..=LEGACY_UP_TO => Some(legacy(&folder.path().join("legacy.db"), size)?),
        _ => None,
    };
    let mut times = Contest::default();
    for round in 0..=ROUNDS {
        if round == 1 {
            // The turn before has prepared statements and filled caches, on all sides.
            times = Contest::default();
        }
        contest(size, &tenant, &bare, legacy.as_ref(), &mut numbers, &mut times).await?;
    }
    report(size, &times, tables)?;
    memory.close().await?;
    Ok(())
}

/// One turn of each contestant, of some searches each: a memory is asked more than once between
/// other work, and so was the legacy.
async fn contest(
    size: usize,
    tenant: &TenantMemory,
    bare: &Bare,
    legacy: Option<&Connection>,
    numbers: &mut Numbers,
    times: &mut Contest,
) -> Result<()> {
    let questions: Vec<_> =
        (0..turn(size)).map(|_| (numbers.vector(), question(numbers))).collect();
    for (vector, _) in &questions {
        let best = times.scan.run(|| Ok(bare.scan(vector)))?;
        ensure!(best.len() == 10, "a short scan");
    }
    let mut answers = Vec::new();
    for (vector, _) in &questions {
        let begun = times.vector.start();
        let answer = tenant.search_with_vector(request(), vector.clone()).await?;
        times.vector.stop(begun);
        ensure!(answer.hits.len() == 10, "a short answer");
        answers.push(answer);
    }
    for answer in &answers {
        let keys = bare.keys(answer)?;
        times.fetch.run(|| bare.fetch(&keys))?;
    }
    for (_, text) in &questions {
        let begun = times.text.start();
        let answer = tenant.search(&request().with_text(text.clone())).await?;
        times.text.stop(begun);
        ensure!(!answer.hits.is_empty(), "no hit by words");
    }
    for (vector, text) in &questions {
        let both = request().with_text(text.clone());
        let begun = times.both.start();
        let answer = tenant.search_with_vector(both, vector.clone()).await?;
        times.both.stop(begun);
        ensure!(answer.hits.len() == 10, "a short answer");
    }
    let Some(legacy) = legacy else { return Ok(()) };
    for ((vector, _), answer) in questions.iter().zip(&answers).take(LEGACY_TURN) {
        let baseline = times.legacy.run(|| legacy_search(legacy, vector))?;
        // The two must have done the same work, or the comparison is worth nothing.
        let nearest = answer.hits.first().context("a hit")?;
        ensure!(nearest.item.content() == baseline[0].2, "the two disagree on the nearest");
    }
    Ok(())
}

fn report(size: usize, times: &Contest, tables: &mut Tables) -> Result<()> {
    let share = |part: Duration, whole: Duration| part.as_secs_f64() / whole.as_secs_f64();
    let bare = times.scan.median()? + times.fetch.median()?;
    let rows = [
        ("bare int8 scan, one thread", &times.scan, ""),
        ("bare reading of ten rows", &times.fetch, ""),
        ("by vector", &times.vector, if size == 10_000 { "" } else { "<= 1.5" }),
        ("by text", &times.text, ""),
        ("by both", &times.both, ""),
    ];
    for (what, times, bound) in rows {
        let median = times.median()?;
        tables.searches.push(vec![
            size.to_string(),
            what.to_owned(),
            ms(median),
            ms(times.least()?),
            format!("{:.2}", share(median, bare)),
            bound.to_owned(),
        ]);
    }
    let Ok(legacy) = times.legacy.median() else { return Ok(()) };
    let rows = [
        ("by vector", &times.vector, if size == 10_000 { ">= 200" } else { "" }),
        ("by text", &times.text, ""),
        ("by both", &times.both, ""),
    ];
    for (what, times, bound) in rows {
        let median = times.median()?;
        tables.legacy.push(vec![
            size.to_string(),
            what.to_owned(),
            ms(median),
            ms(legacy),
            format!("{:.0}", share(legacy, median)),
            bound.to_owned(),
        ]);
    }
    Ok(())
}

/// What was opened and loaded, and what it takes in memory.
async fn opening(
    size: usize,
    memory: &Memory,
    first: &Times,
    before: Option<f64>,
    tables: &mut Tables,
) -> Result<()> {
    let details = memory.health().await.details;
    let of = |name: &str| details.iter().find(|(key, _)| key.ends_with(name)).map(|(_, text)| text);
    let indexes: f64 = of("index_bytes").context("the size of the indexes")?.parse()?;
    let more = before.zip(resident_mb()).map(|(before, after)| format!("{:.0}", after - before));
    // The default of the setting `index_bytes`.
    let bound = 512.0 * 1024.0 * 1024.0;
    ensure!(indexes <= bound, "the indexes exceed their bound");
    tables.openings.push(vec![
        size.to_string(),
        ms(first.median()?),
        if size == 100_000 { "<= 1000".to_owned() } else { String::new() },
        format!("{:.1}", indexes / 1e6),
        format!("{:.1}", bound / 1e6),
        more.unwrap_or_default(),
    ]);
    Ok(())
}

/// Compares every answer of [`EXACT`] queries with the ten best by brute force in f64.
async fn every_query_is_exact() -> Result<()> {
    let memory = Memory::open("memory:").await?;
    let tenant = memory.tenant("bench")?;
    fill(&tenant, EXACT).await?;
    let mut numbers = Numbers::new(5);
    let rows: Vec<(String, Vec<f32>, f64)> = (0..EXACT)
        .map(|_| {
            let (text, vector) = (numbers.words(benches::WORDS), numbers.vector());
            let norm = norm_f64(&vector);
            (text, vector, norm)
        })
        .collect();
    let mut numbers = Numbers::new(77);
    let (mut right, mut asked) = (0_usize, 0_usize);
    for _ in 0..EXACT {
        let query = numbers.vector();
        let norm = norm_f64(&query);
        let mut all: Vec<(f64, &str)> = rows
            .iter()
            .map(|(text, row, of_row)| (dot_f64(&query, row) / (norm * of_row), text.as_str()))
            .collect();
        all.select_nth_unstable_by(9, |a, b| b.0.total_cmp(&a.0));
        let answer = tenant.search_with_vector(request(), query).await?;
        asked += 10;
        right += answer
            .hits
            .iter()
            .filter(|hit| all[..10].iter().any(|(_, text)| *text == hit.item.content()))
            .count();
    }
    memory.close().await?;
    head(
        "Exactness: the ten nearest of 10000 memories, against brute force in f64",
        &["queries", "hits right", "of", "bound"],
    );
    row(&[EXACT.to_string(), right.to_string(), asked.to_string(), "all".to_owned()]);
    ensure!(right == asked, "an answer is not exact");
    Ok(())
}
