//! A long memory to several.

use std::ops::Range;

use memory_core::{Error, MemoryId, MetaKey, MetaValue, Metadata, Result};
use memory_text::{SplitOptions, estimate_tokens, split};

use crate::new_memory::NewMemory;

/// The metadata of a part: which one it is, of how many, of what.
const KEYS: [&str; 3] = [PART, "parts", DOCUMENT];
/// Which part it is, from 1.
pub(super) const PART: &str = "part";
/// The id of the memory that was split.
pub(super) const DOCUMENT: &str = "document";
/// What a memory takes beside its text, payload and metadata, in bytes; as in
/// [`MemoryItem::size_bytes`](memory_core::MemoryItem::size_bytes).
const OTHER_BYTES: usize = 512;

/// Where a part stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The memory that was split.
    pub(super) document: MemoryId,
    /// From 1.
    pub(super) number: i64,
    /// How many there are.
    pub(super) total: i64,
}

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

    /// The memory that is split.
    pub(super) fn document(&self) -> &MemoryId {
        &self.document
    }

    /// The next part. The payload goes with the first one.
    pub(super) fn next(&mut self) -> Option<(NewMemory, Place)> {
        let (place, range) = self.ranges.next()?;
        let number = i64::try_from(place).unwrap_or(i64::MAX).saturating_add(1);
        let payload = self.fields.payload.take();
        let mut memory = self.fields.clone();
        memory.payload = payload;
        memory.content = self.text.get(range)?.to_owned();
        memory.id = Some(part_id(&self.document, number).ok()?);
        let [part, parts, document] = self.keys.clone();
        memory.metadata.insert(part, MetaValue::Int(number));
        memory.metadata.insert(parts, MetaValue::Int(self.total));
        memory.metadata.insert(document, MetaValue::Text(self.document.to_string()));
        let place = Place { document: self.document.clone(), number, total: self.total };
        Some((memory, place))
    }
}

/// The id of a part.
pub(super) fn part_id(document: &MemoryId, number: i64) -> Result<MemoryId> {
    MemoryId::new(format!("{document}#{number}"))
}

/// The memory that another one is a part of, by what it says itself.
pub(super) fn document_of<'a>(id: &MemoryId, metadata: &'a Metadata) -> Option<&'a str> {
    let document = metadata.iter().find(|(key, _)| key.as_str() == DOCUMENT);
    let Some((_, MetaValue::Text(document))) = document else { return None };
    let number = id.as_str().strip_prefix(document.as_str())?.strip_prefix('#')?;
    number.parse::<i64>().is_ok().then_some(document)
}

/// What a part takes in a commit, in bytes.
pub(super) fn part_bytes(memory: &NewMemory) -> usize {
    let value = |value: &MetaValue| match value {
        MetaValue::Text(text) => text.len(),
        MetaValue::List(texts) => texts.iter().map(String::len).sum(),
        _ => size_of::<i64>(),
    };
    let metadata = memory.metadata.iter().map(|(key, held)| key.as_str().len() + value(held));
    let payload = memory.payload.as_ref().map_or(0, |payload| payload.to_string().len());
    memory.content.len() + payload + metadata.sum::<usize>() + OTHER_BYTES
}

#[cfg(test)]
mod tests {
    use memory_core::{Timestamp, UserId};
    use serde_json::json;

    use super::*;

    fn id(text: &str) -> MemoryId {
        MemoryId::new(text).unwrap()
    }

    #[test]
    fn a_part_is_counted_with_all_that_is_copied_into_it() {
        let key = |name: &str| MetaKey::new(name).unwrap();
        let memory = NewMemory::new("One sentence. ".repeat(100))
            .with_id(id("doc"))
            .with_user(UserId::new("u").unwrap())
            .with_payload(json!({"text": "x".repeat(10_000)}))
            .with_meta(key("text"), "y".repeat(1_000).as_str())
            .with_meta(key("list"), MetaValue::List(vec!["z".repeat(1_000), "z".to_owned()]))
            .with_meta(key("number"), MetaValue::Float(1.5));
        let options = SplitOptions { target_tokens: 20, max_tokens: 30 };
        let mut parts = Parts::of(memory, &options).unwrap().unwrap_err();
        let now = Timestamp::parse("2025-03-01T09:30:00Z").unwrap();
        let mut number = 0;
        while let Some((part, place)) = parts.next() {
            number += 1;
            assert_eq!((place.number, place.total), (number, number + parts.left().cast_signed()));
            let bytes = part_bytes(&part);
            assert!(bytes > 2_000 && (bytes > 10_000) == (number == 1), "{bytes}");
            let (item, _) = part.into_item(id("x"), now).unwrap();
            assert!(item.size_bytes().abs_diff(bytes) < 100, "{} {bytes}", item.size_bytes());
        }
        assert!(number > 2);
    }

    #[test]
    fn a_part_is_known_by_its_id_and_its_metadata() {
        let metadata = |document: &str| {
            let key = MetaKey::new(DOCUMENT).unwrap();
            Metadata::from([(key, MetaValue::Text(document.to_owned()))])
        };
        assert_eq!(document_of(&id("doc#12"), &metadata("doc")), Some("doc"));
        assert_eq!(document_of(&id("a#1#2"), &metadata("a#1")), Some("a#1"));
        for (name, document) in [("doc#2", "do"), ("doc", "doc"), ("doc#x", "doc"), ("x", "doc")] {
            assert_eq!(document_of(&id(name), &metadata(document)), None, "{name}");
        }
        assert_eq!(document_of(&id("doc#1"), &Metadata::new()), None);
    }
}
