//! The keyword index alone, on one thread: BM25 over postings in memory, beside itself without early
//! termination and beside the full-text index of SQLite (FTS5) over the same words.
//!
//! FTS5 answers the same question with all words joined by OR, best first by its own BM25; it reads
//! from a table in memory, so that neither waits for a disk. The limit of an exhaustive search is one
//! posting after the other: a byte or two to read, a float to add.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use benches::{Numbers, QUESTION, Times, WORDS, head, ms, row};
use memory_index::{Bm25, KeywordPostings};
use rusqlite::Connection;

/// Sizes of the tenant.
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
/// Turns that each contestant takes.
const ROUNDS: usize = 4;
/// Questions of a turn.
const QUESTIONS: usize = 100;
/// Questions that FTS5 answers; it takes too long for more.
const FTS_QUESTIONS: usize = 15;
/// Hits asked for.
const LIMIT: usize = 20;

type Question = Vec<(String, f32)>;

fn main() -> Result<()> {
    head(
        "Keyword index: twenty hits, one thread, beside FTS5 and beside reading every posting",
        &[
            "memories",
            "questions",
            "median, ms",
            "least, ms",
            "every posting, ms",
            "FTS5, ms",
            "times FTS5",
        ],
    );
    let mut sizes = Vec::new();
    for size in SIZES {
        sizes.push((size, compare(size)?));
    }
    head(
        "Keyword index: memory, terms and term lists for removals included",
        &["memories", "distinct terms of one", "terms", "bytes a memory"],
    );
    for (size, [terms, vocabulary, bytes]) in sizes {
        let each = |number: usize| format!("{:.1}", share(number, size));
        row(&[size.to_string(), each(terms), vocabulary.to_string(), each(bytes)]);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for the eye")]
fn share(number: usize, of: usize) -> f64 {
    number as f64 / of as f64
}

/// Made-up words, and in every memory some of four that are as common as articles.
fn document(numbers: &mut Numbers) -> String {
    let mut text = numbers.words(WORDS);
    for (place, common) in ["alpha", "beta", "gamma", "delta"].into_iter().enumerate() {
        if numbers.next_u64() % 8 >= place as u64 * 2 {
            text.push(' ');
            text.push_str(common);
        }
    }
    text
}

fn question(text: &str) -> Question {
    let words: BTreeMap<&str, ()> = text.split(' ').map(|word| (word, ())).collect();
    words.into_keys().map(|word| (word.to_owned(), 1.0)).collect()
}

/// Measures one size; returns the postings, the terms and the bytes of the index.
fn compare(size: usize) -> Result<[usize; 3]> {
    let mut numbers = Numbers::new(23);
    let mut index = KeywordPostings::new();
    let table = Connection::open_in_memory()?;
    table.execute_batch("CREATE VIRTUAL TABLE words USING fts5 (text, content=''); BEGIN")?;
    let mut postings = 0;
    for key in 0..size as u64 {
        let text = document(&mut numbers);
        let mut terms = BTreeMap::new();
        for word in text.split(' ') {
            *terms.entry(word).or_insert(0_u32) += 1;
        }
        postings += terms.len();
        let length = terms.values().sum();
        index.insert(key, length, &terms.into_iter().collect::<Vec<_>>());
        table
            .prepare_cached("INSERT INTO words (rowid, text) VALUES (?1, ?2)")?
            .execute((i64::try_from(key)?, &text))?;
    }
    table.execute_batch("COMMIT")?;
    let ordinary: Vec<_> = (0..QUESTIONS).map(|_| question(&numbers.words(QUESTION))).collect();
    let telling: Vec<_> = (0..QUESTIONS)
        .map(|_| {
            let word = 5_000 + numbers.next_u64() % 10_000;
            question(&format!("word{word}x word{}x alpha beta gamma delta", word + 1))
        })
        .collect();
    measure(size, "nine words", &index, &table, &ordinary)?;
    measure(size, "two rare words, four very common", &index, &table, &telling)?;
    Ok([postings, index.vocabulary_len(), index.memory_bytes()])
}

fn measure(
    size: usize,
    what: &str,
    index: &KeywordPostings,
    table: &Connection,
    questions: &[Question],
) -> Result<()> {
    let params = Bm25::default();
    let (mut times, mut every, mut fts) = (Times::default(), Times::default(), Times::default());
    let search = |question: &Question| index.search(question, LIMIT, params, |_| true);
    let exhaustive =
        |question: &Question| index.search_exhaustively(question, LIMIT, params, |_| true);
    for round in 0..ROUNDS {
        for (place, question) in questions.iter().enumerate() {
            // Whoever comes second finds the postings in the processor's cache.
            let (found, same) = if (round + place).is_multiple_of(2) {
                let found = times.run(|| Ok(search(question)))?;
                (found, every.run(|| Ok(exhaustive(question)))?)
            } else {
                let same = every.run(|| Ok(exhaustive(question)))?;
                (times.run(|| Ok(search(question)))?, same)
            };
            ensure!(found == same, "early termination changed an answer");
            if place < FTS_QUESTIONS {
                let count = fts.run(|| fts_search(table, question))?;
                ensure!(count == found.len(), "FTS5 found {count}, the index {}", found.len());
            }
        }
    }
    let (median, base) = (times.median()?, fts.median()?);
    row(&[
        size.to_string(),
        what.to_owned(),
        ms(median),
        ms(times.least()?),
        ms(every.median()?),
        ms(base),
        format!("{:.0}", base.as_secs_f64() / median.as_secs_f64()),
    ]);
    Ok(())
}

fn fts_search(table: &Connection, question: &Question) -> Result<usize> {
    let words: Vec<_> = question.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let mut select = table
        .prepare_cached("SELECT rowid FROM words WHERE words MATCH ?1 ORDER BY rank LIMIT ?2")?;
    let rows = select
        .query_map((words.join(" OR "), i64::try_from(LIMIT)?), |row| row.get::<_, i64>(0))?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.len())
}
