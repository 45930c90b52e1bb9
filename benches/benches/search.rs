//! Searches beside the legacy way: all the tenant's f32 rows loaded from the file and compared one
//! by one, for each search.
//!
//! The baseline is compiled Rust over SQLite with prepared statements and no parsing: kinder than
//! what it stands for. Both answer with the ten best memories, read whole.
//! The limits: an int8 scan reads every code once (dimensions x rows bytes); the rest of an answer
//! is three hops between threads and some point reads.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use anyhow::{Context as _, Result, ensure};
use benches::{Numbers, QUESTION, Times, head, ms, row};
use orchestra_memory::{AddManyOptions, Memory, SearchRequest};
use rusqlite::{Connection, params};

/// Sizes of the tenant.
const SIZES: [usize; 2] = [1_000, 10_000];
/// Turns that each contestant takes, after one that is not timed.
const ROUNDS: usize = 4;
/// Searches of one turn.
const TURN: usize = 150;
/// Hits asked for.
const LIMIT: u32 = 10;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        head(
            "Searches: ten hits, vectors of 384 dimensions, beside the legacy way",
            &["memories", "what", "median, ms", "least, ms", "legacy, ms", "times faster", "bound"],
        );
        for size in SIZES {
            compare(size).await?;
        }
        Ok(())
    })
}

/// The legacy's file: one row a memory, with its embedding.
fn legacy(path: &std::path::Path, size: usize) -> Result<Connection> {
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

async fn compare(size: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ours.db");
    let memory = Memory::open(&format!("sqlite:{}", path.display())).await?;
    let tenant = memory.tenant("bench")?;
    let mut numbers = Numbers::new(5);
    let memories = (0..size).map(|_| numbers.memory()).collect::<Result<Vec<_>>>()?;
    let report = tenant.add_many(memories, AddManyOptions::new()).await;
    ensure!(report.failed == 0, "a memory was refused");
    let legacy = legacy(&folder.path().join("legacy.db"), size)?;

    let mut numbers = Numbers::new(99);
    let request = || SearchRequest::new().with_limit(orchestra_memory::Limit::Count(LIMIT));
    // The first search loads the index and is shown by itself.
    let mut first = Times::default();
    let begun = first.start();
    tenant.search_with_vector(request(), numbers.vector()).await?;
    first.stop(begun);
    legacy_search(&legacy, &numbers.vector())?;

    let mut ours = [Times::default(), Times::default(), Times::default()];
    let mut theirs = Times::default();
    for round in 0..=ROUNDS {
        if round == 1 {
            // The turn before has prepared statements and filled caches, on both sides.
            ours = [Times::default(), Times::default(), Times::default()];
            theirs = Times::default();
        }
        // In turns of some searches each: a memory is asked more than once between other work, and
        // so was the legacy.
        let questions: Vec<_> =
            (0..TURN).map(|_| (numbers.vector(), numbers.words(QUESTION))).collect();
        let mut nearest = Vec::new();
        for (vector, _) in &questions {
            let begun = ours[0].start();
            let answer = tenant.search_with_vector(request(), vector.clone()).await?;
            ours[0].stop(begun);
            ensure!(answer.hits.len() == 10, "a short answer");
            nearest.push(answer.hits.into_iter().next().context("a hit")?);
        }
        for (_, text) in &questions {
            let begun = ours[1].start();
            let answer = tenant.search(&request().with_text(text.clone())).await?;
            ours[1].stop(begun);
            ensure!(!answer.hits.is_empty(), "no hit by words");
        }
        for (vector, text) in &questions {
            let both = request().with_text(text.clone());
            let begun = ours[2].start();
            let answer = tenant.search_with_vector(both, vector.clone()).await?;
            ours[2].stop(begun);
            ensure!(answer.hits.len() == 10, "a short answer");
        }
        for ((vector, _), nearest) in questions.iter().zip(nearest) {
            let baseline = theirs.run(|| legacy_search(&legacy, vector))?;
            // The two must have done the same work, or the comparison is worth nothing.
            ensure!(nearest.item.content() == baseline[0].2, "the two disagree on the nearest");
        }
    }
    let bound = if size == 10_000 { ">= 50" } else { "" };
    let base = theirs.median()?;
    for (what, times) in ["by vector", "by text", "by both"].into_iter().zip(&ours) {
        let median = times.median()?;
        row(&[
            size.to_string(),
            what.to_owned(),
            ms(median),
            ms(times.least()?),
            ms(base),
            format!("{:.0}", base.as_secs_f64() / median.as_secs_f64()),
            bound.to_owned(),
        ]);
    }
    row(&[
        size.to_string(),
        "the first search, which loads the index".to_owned(),
        ms(first.median()?),
        String::new(),
        ms(base),
        String::new(),
        String::new(),
    ]);
    memory.close().await?;
    Ok(())
}
