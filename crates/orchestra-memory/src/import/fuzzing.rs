//! What the fuzz target of imports checks: files of JSON lines of any origin.

use std::io::{BufRead, BufReader};

use memory_core::Timestamp;

use super::ImportOptions;
use super::line::read_line;
use super::reader::{Line, LineReader};
use crate::{NewMemory, export_line};

/// The first byte bounds the lines, the others are the file. However its reads are cut, it has the
/// same lines; a line is refused or gives a memory, the same each time; a memory that can be stored
/// comes back from the line that an export of it writes.
///
/// # Panics
/// Where an invariant is broken.
pub fn import_lines(data: &[u8]) {
    let Some((first, file)) = data.split_first() else { return };
    let most = if *first < 16 { usize::from(*first) } else { 65_536 };
    let whole = lines(file, most);
    let cut = lines(BufReader::with_capacity(1 + usize::from(*first) % 7, file), most);
    assert!(whole == cut, "the same lines, however the reads are cut");

    let options = ImportOptions::new("file");
    let now = Timestamp::from_micros(1_740_000_000_000_000).expect("a valid time");
    for (line, number) in whole.iter().zip(1..) {
        assert!(line.len() <= most);
        let memory = match (read_line(line, number, &options), read_line(line, number, &options)) {
            (Ok(memory), Ok(again)) => {
                let vector = |memory: &NewMemory| {
                    memory.embedding.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>()
                };
                assert!(vector(&memory) == vector(&again) && memory.id == again.id);
                memory
            }
            (Err(error), Err(_)) => {
                assert!(!error.message().is_empty());
                continue;
            }
            _ => panic!("a line was taken once and refused once"),
        };
        let Some(id) = memory.id.clone() else { panic!("an imported memory has an id") };
        let Ok((item, embedding)) = memory.into_item(id, now) else { continue };
        if embedding.iter().flatten().any(|x| !x.is_finite()) {
            continue;
        }
        let text = export_line(&item, embedding.as_deref()).expect("a stored memory is exported");
        assert!(!text.contains('\n'), "one line");
        let back = read_line(text.as_bytes(), 1, &options).expect("an exported line is read");
        let id = back.id.clone().expect("an exported line has an id");
        let (again, vector) = back.into_item(id, now).expect("and can be stored");
        assert!(again == item, "a memory comes back from its line");
        assert!(vector == embedding, "its vector too");
    }
}

/// The lines of a file that are neither blank nor too long.
fn lines(file: impl BufRead, most: usize) -> Vec<Vec<u8>> {
    let mut reader = LineReader::new(file, most);
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line().expect("memory can be read") {
        match line {
            Line::Text(text) => lines.push(text.to_vec()),
            Line::TooLong { bytes } => assert!(bytes > most as u64),
            Line::Blank => {}
        }
    }
    lines
}
