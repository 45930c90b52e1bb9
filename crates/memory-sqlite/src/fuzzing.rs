//! What the fuzz target of the stored columns checks: bytes that a damaged or foreign file may hold.

use std::cell::RefCell;

use memory_text::{Analyzer, Language};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::model;

/// The columns of an item's row.
const COLUMNS: usize = 18;

thread_local! {
    static CONNECTION: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// The first byte chooses what the others are: a term list, a vector, its int8 copy, a text that
/// becomes a term list, or the columns of an item's row. Whatever they are is refused as corrupt or
/// read, the same each time, within the bounds of its bytes; what is written reads back.
///
/// # Panics
/// Where an invariant is broken.
pub fn columns(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 5 {
        0 => terms(rest),
        1 => {
            if let Ok(vector) = model::read_vector(rest) {
                assert_eq!(model::vector_bytes(&vector), rest);
                let finite = vector.iter().all(|x| x.abs() < 1e18) && !vector.is_empty();
                if finite {
                    codes(&model::codes_bytes(&vector), Some(vector.len()));
                }
            }
        }
        2 => codes(rest, None),
        3 => {
            let text = String::from_utf8_lossy(rest);
            let analyzer = Analyzer::new(Language::English);
            let bytes = model::terms_of(&analyzer, None, &text);
            let (tokens, read) = model::read_terms(&bytes).expect("a written term list is read");
            let expected = analyzer.terms(&text);
            assert_eq!(tokens, expected.tokens);
            let expected = expected.terms.iter().map(|(term, count)| (term.as_str(), *count));
            assert!(read.into_iter().eq(expected), "the terms of the text");
            terms(&bytes);
        }
        _ => row(rest),
    }
}

fn terms(bytes: &[u8]) {
    if let Ok((tokens, terms)) = model::read_terms(bytes) {
        let size: usize = terms.iter().map(|(term, _)| term.len() + 2).sum();
        assert!(size < bytes.len() || bytes.len() <= 1, "no more than the bytes hold");
        assert_eq!(model::read_terms(bytes).ok(), Some((tokens, terms)));
    }
}

fn codes(bytes: &[u8], dimensions: Option<usize>) {
    let mut codes = vec![7; 3];
    match model::read_codes(bytes, &mut codes) {
        Ok(quantized) => {
            assert!(quantized.is_valid());
            assert_eq!(codes.len() + 16, bytes.len());
            assert!(dimensions.is_none_or(|dimensions| dimensions == codes.len()));
        }
        Err(_) => assert!(dimensions.is_none(), "a written int8 copy is read"),
    }
}

fn row(bytes: &[u8]) {
    let values = values(bytes);
    let read = || {
        CONNECTION.with_borrow_mut(|connection| {
            if connection.is_none() {
                *connection = Connection::open_in_memory().ok();
            }
            let connection = connection.as_ref().expect("a database in memory");
            let marks = vec!["?"; COLUMNS].join(", ");
            let mut select =
                connection.prepare_cached(&format!("SELECT {marks}")).expect("a statement");
            let mut rows = select.query(params_from_iter(&values)).expect("a query");
            let row = rows.next().expect("a step").expect("one row");
            model::read_item(row)
        })
    };
    match (read(), read()) {
        (Ok(item), Ok(again)) => {
            assert!(item == again, "the same row gives the same item");
            let text = model::metadata_text(&item.1.metadata).expect("metadata is written");
            if let Some(text) = text {
                let back = serde_json::from_str(&text).expect("written metadata is read");
                assert!(item.1.metadata == back, "metadata comes back");
            }
        }
        (Err(error), Err(_)) => assert!(!error.message().is_empty()),
        _ => panic!("a row was read once and refused once"),
    }
}

/// The columns of a row out of bytes, each a byte for its kind and what that needs. Bytes that are
/// used up leave a row that can be read.
fn values(bytes: &[u8]) -> Vec<Value> {
    let mut rest = bytes;
    let mut take = |count: usize| -> Vec<u8> {
        let (taken, after) = rest.split_at(count.min(rest.len()));
        rest = after;
        taken.to_vec()
    };
    (0..COLUMNS)
        .map(|column| {
            let kind = take(1).first().copied().unwrap_or(u8::MAX);
            let number = |bytes: Vec<u8>| {
                let mut number = [0; 8];
                number[..bytes.len()].copy_from_slice(&bytes);
                number
            };
            match kind % 8 {
                0 => Value::Null,
                1 => Value::Integer(i64::from_le_bytes(number(take(8)))),
                2 => Value::Real(f64::from_le_bytes(number(take(8)))),
                3 | 4 => {
                    let length = usize::from(take(1).first().copied().unwrap_or(0));
                    Value::Text(String::from_utf8_lossy(&take(length)).into_owned())
                }
                5 => {
                    let length = usize::from(take(1).first().copied().unwrap_or(0));
                    Value::Blob(take(length))
                }
                _ => usual(column),
            }
        })
        .collect()
}

/// What a column holds in an ordinary row.
fn usual(column: usize) -> Value {
    let text = |text: &str| Value::Text(text.to_owned());
    match column {
        0 | 17 => Value::Integer(7),
        1 => text("m-1"),
        2 => text("ada"),
        5 => text("fact"),
        6 => text("user"),
        8 => text("Ada prefers tea."),
        9 => text("{\"a\":[1,null]}"),
        10 => text("{\"n\":1,\"f\":0.5,\"l\":[\"x\"]}"),
        11 => Value::Real(0.5),
        12..=14 => Value::Integer(1_740_000_000_000_000),
        16 => Value::Blob(vec![1; 32]),
        _ => Value::Null,
    }
}
