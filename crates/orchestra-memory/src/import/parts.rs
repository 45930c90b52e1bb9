//! A long memory to several.

use std::ops::Range;

use memory_core::{Error, MemoryId, MetaKey, MetaValue, Result};
use memory_text::{SplitOptions, estimate_tokens, split};

use crate::new_memory::NewMemory;

/// The metadata of a part: which one it is, of how many, of what.
const KEYS: [&str; 3] = ["part", "parts", "document"];

/// The parts of one memory that are left, made one by one.
#[derive(Debug)]
pub(super) struct Parts {
    /// Every field but the text and the id.
    fields: NewMemory,
    text: String,
    document: MemoryId,
    keys: [MetaKey; 3],
    ranges: std::iter::Enumerate<std::vec::IntoIter<Range<usize>>>,
    total: i64,
}

impl Parts {
    /// The parts of a memory whose text is longer than the target; otherwise the memory itself.
    ///
    /// # Errors
    /// `InvalidInput`: it cannot be split; see [`ImportOptions::split`](super::ImportOptions).
    pub(super) fn of(
        mut memory: NewMemory,
        options: &SplitOptions,
    ) -> Result<Result<NewMemory, Self>> {
        // A short text stays whole, whatever headings it has.
        if estimate_tokens(&memory.content) <= options.target_tokens {
            return Ok(Ok(memory));
        }
        let ranges = split(&memory.content, options);
        if ranges.len() < 2 {
            return Ok(Ok(memory));
        }
        if memory.embedding.is_some() {
            return Err(Error::invalid(
                "the text would be split and has an `embedding`, which is that of the whole; \
                 leave it out",
            ));
        }
        let document = memory
            .id
            .take()
            .ok_or_else(|| Error::invalid("a memory without id cannot be split"))?;
        let [part, parts, whole] = KEYS.map(MetaKey::new);
        let keys = [part?, parts?, whole?];
        if let Some(taken) = keys.iter().find(|key| memory.metadata.contains_key(*key)) {
            return Err(Error::invalid(format!(
                "the text would be split and has the metadata `{}` of a part already",
                taken.as_str()
            )));
        }
        let total = i64::try_from(ranges.len()).unwrap_or(i64::MAX);
        // The last one is the longest.
        if part_id(&document, total).is_err() {
            return Err(Error::invalid(
                "the text would be split and its id is too long to be numbered",
            ));
        }
        let text = std::mem::take(&mut memory.content);
        let ranges = ranges.into_iter().enumerate();
        Ok(Err(Self { fields: memory, text, document, keys, ranges, total }))
    }

    /// How many are left.
    pub(super) fn left(&self) -> u64 {
        self.ranges.len() as u64
    }

    /// The next part.
    pub(super) fn next(&mut self) -> Option<NewMemory> {
        let (place, range) = self.ranges.next()?;
        let number = i64::try_from(place).unwrap_or(i64::MAX).saturating_add(1);
        let mut memory = self.fields.clone();
        memory.content = self.text.get(range)?.to_owned();
        memory.id = Some(part_id(&self.document, number).ok()?);
        let [part, parts, document] = self.keys.clone();
        memory.metadata.insert(part, MetaValue::Int(number));
        memory.metadata.insert(parts, MetaValue::Int(self.total));
        memory.metadata.insert(document, MetaValue::Text(self.document.to_string()));
        Some(memory)
    }
}

fn part_id(document: &MemoryId, number: i64) -> Result<MemoryId> {
    MemoryId::new(format!("{document}#{number}"))
}
