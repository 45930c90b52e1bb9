//! How an item is stored: the one place where rows and items convert.

use memory_core::traits::session_number;
use memory_core::{
    ContentHash, Error, MemoryId, MemoryItem, MetaValue, Metadata, Projection, Result, Revision,
    Timestamp,
};
use memory_distance::Quantized;
use memory_text::Analyzer;
use rusqlite::Row;
use rusqlite::types::Value;

use crate::error::{corrupt, map};

/// The columns that [`read_item`] reads, for a projection. What is left out is read as NULL.
pub(crate) fn columns(projection: &Projection) -> String {
    let part = |wanted: bool, name: &'static str| if wanted { name } else { "NULL" };
    format!(
        "i.item, i.id, i.user_id, i.agent_id, i.session_id, i.kind, i.role, i.author, {}, {}, {}, \
         i.importance, i.occurred_at, i.created_at, i.updated_at, i.expires_at, i.content_hash, \
         i.revision",
        part(projection.content, "i.content"),
        part(projection.payload, "i.payload"),
        part(projection.metadata, "i.metadata"),
    )
}

/// Reads an item and its row key from the columns of [`columns`].
pub(crate) fn read_item(row: &Row<'_>) -> Result<(i64, MemoryItem)> {
    fn parsed<T: std::str::FromStr<Err = Error>>(text: Option<String>) -> Result<Option<T>> {
        text.map(|text| text.parse().map_err(|_| corrupt("name"))).transpose()
    }
    let time = |micros: i64| Timestamp::from_micros(micros).map_err(|_| corrupt("time"));
    let hash: [u8; 32] = row.get(16).map_err(map)?;
    let id: String = row.get(1).map_err(map)?;
    let content: Option<String> = row.get(8).map_err(map)?;
    let mut item = MemoryItem::from_stored(
        MemoryId::new(id).map_err(|_| corrupt("id"))?,
        content.unwrap_or_default(),
        ContentHash::from_bytes(hash),
    );
    item.user_id = parsed(row.get(2).map_err(map)?)?;
    item.agent_id = parsed(row.get(3).map_err(map)?)?;
    item.session_id = parsed(row.get(4).map_err(map)?)?;
    item.kind = row.get::<_, String>(5).map_err(map)?.parse().map_err(|_| corrupt("kind"))?;
    item.role = parsed(row.get(6).map_err(map)?)?;
    item.author = row.get(7).map_err(map)?;
    let payload: Option<String> = row.get(9).map_err(map)?;
    item.payload = payload
        .map(|text| serde_json::from_str(&text).map_err(|_| corrupt("payload")))
        .transpose()?;
    let metadata: Option<String> = row.get(10).map_err(map)?;
    if let Some(text) = metadata {
        item.metadata = serde_json::from_str(&text).map_err(|_| corrupt("metadata"))?;
    }
    item.importance = row.get(11).map_err(map)?;
    item.occurred_at = time(row.get(12).map_err(map)?)?;
    item.created_at = time(row.get(13).map_err(map)?)?;
    item.updated_at = time(row.get(14).map_err(map)?)?;
    item.expires_at = row.get::<_, Option<i64>>(15).map_err(map)?.map(time).transpose()?;
    item.revision = Some(revision(row.get(17).map_err(map)?));
    Ok((row.get(0).map_err(map)?, item))
}

/// A revision out of its number. Numbers of the store are never negative.
pub(crate) fn revision(number: i64) -> Revision {
    Revision::from_number(number.unsigned_abs())
}

/// The number of an item's conversation as its column holds it, [`session_number`] with the same bits
/// as a signed number; `None` without a session.
pub(crate) fn session_column(
    user: Option<&str>,
    agent: Option<&str>,
    session: Option<&str>,
) -> Option<i64> {
    session.map(|session| session_number(user, agent, session).cast_signed())
}

/// [`session_column`] of an item.
pub(crate) fn session_of(item: &MemoryItem) -> Option<i64> {
    session_column(
        item.user_id.as_ref().map(AsRef::as_ref),
        item.agent_id.as_ref().map(AsRef::as_ref),
        item.session_id.as_ref().map(AsRef::as_ref),
    )
}

/// The number of a revision of this store; `None` for a text that this store never issued.
pub(crate) fn revision_number(revision: &Revision) -> Option<i64> {
    let text = revision.as_str();
    let number: i64 = text.parse().ok()?;
    (number >= 0 && number.to_string() == text).then_some(number)
}

/// Metadata as the JSON text of its column; `None` for none.
pub(crate) fn metadata_text(metadata: &Metadata) -> Result<Option<String>> {
    if metadata.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(metadata)
        .map(Some)
        .map_err(|_| Error::invalid("the metadata cannot be written as JSON"))
}

/// A metadata value as typed rows: type and value, one for each string of a list.
pub(crate) fn typed_rows(value: &MetaValue) -> Vec<(&'static str, Value)> {
    match value {
        MetaValue::Bool(value) => vec![("b", Value::Integer(i64::from(*value)))],
        MetaValue::Int(value) => vec![("i", Value::Integer(*value))],
        MetaValue::Float(value) => vec![("f", Value::Real(*value))],
        MetaValue::Text(text) => vec![("s", Value::Text(text.clone()))],
        MetaValue::List(texts) if texts.is_empty() => vec![("l", Value::Null)],
        MetaValue::List(texts) => {
            texts.iter().map(|text| ("l", Value::Text(text.clone()))).collect()
        }
    }
}

/// A vector as its column: f32, little endian.
pub(crate) fn vector_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|component| component.to_le_bytes()).collect()
}

/// A vector out of its column.
pub(crate) fn read_vector(bytes: &[u8]) -> Result<Vec<f32>> {
    let mut vector = Vec::new();
    read_vector_into(bytes, &mut vector)?;
    Ok(vector)
}

/// A vector out of its column, into `vector` in the place of what was there.
pub(crate) fn read_vector_into(bytes: &[u8], vector: &mut Vec<f32>) -> Result<()> {
    let (parts, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(corrupt("vector"));
    }
    vector.clear();
    vector.extend(parts.iter().map(|part| f32::from_le_bytes(*part)));
    Ok(())
}

/// Bytes before the codes: scale, residual, norm.
const CODES_HEAD: usize = 4 + 4 + 8;

/// A vector's int8 copy as its column: scale, residual (f32), norm (f64), one code a dimension.
pub(crate) fn codes_bytes(vector: &[f32]) -> Vec<u8> {
    let mut codes = vec![0_i8; vector.len()];
    let quantized = memory_distance::quantize(vector, &mut codes);
    let mut bytes = Vec::with_capacity(CODES_HEAD + codes.len());
    bytes.extend(quantized.scale.to_le_bytes());
    bytes.extend(quantized.residual.to_le_bytes());
    bytes.extend(quantized.norm.to_le_bytes());
    bytes.extend(codes.iter().map(|code| code.cast_unsigned()));
    bytes
}

/// The int8 copy out of its column, into `codes`.
pub(crate) fn read_codes(bytes: &[u8], codes: &mut Vec<i8>) -> Result<Quantized> {
    let (head, rest) =
        bytes.split_first_chunk::<CODES_HEAD>().ok_or_else(|| corrupt("int8 vector"))?;
    let (mut scale, mut residual, mut norm) = ([0; 4], [0; 4], [0; 8]);
    scale.copy_from_slice(&head[..4]);
    residual.copy_from_slice(&head[4..8]);
    norm.copy_from_slice(&head[8..]);
    codes.clear();
    codes.extend(rest.iter().map(|byte| byte.cast_signed()));
    let quantized = Quantized {
        scale: f32::from_le_bytes(scale),
        residual: f32::from_le_bytes(residual),
        norm: f64::from_le_bytes(norm),
    };
    if quantized.is_valid() { Ok(quantized) } else { Err(corrupt("int8 vector")) }
}

/// The terms of an item as their column: the length of the text in tokens, then for each distinct
/// term its frequency, its length in bytes and its bytes; numbers as LEB128.
pub(crate) fn terms_of(analyzer: &Analyzer, author: Option<&str>, content: &str) -> Vec<u8> {
    // The speaker's name is a word of the turn: people ask for what somebody said.
    let joined = author.map(|author| format!("{author}\n{content}"));
    let text = joined.as_deref().unwrap_or(content);
    // All terms in one run of bytes, and the places where each begins and ends: a text of a megabyte
    // costs two allocations, and a turn does too.
    let mut run: Vec<u8> = Vec::with_capacity(text.len().min(1 << 16));
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(64);
    analyzer.for_each_term(text, |term| {
        let begin = run.len();
        run.extend_from_slice(term.as_bytes());
        places.push((begin, run.len()));
    });
    let term = |place: &(usize, usize)| &run[place.0..place.1];
    places.sort_unstable_by(|a, b| term(a).cmp(term(b)));
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(8 + run.len() + places.len() * 2);
    push_number(&mut bytes, number(places.len()));
    for group in places.chunk_by(|a, b| term(a) == term(b)) {
        let term = term(&group[0]);
        push_number(&mut bytes, number(group.len()));
        push_number(&mut bytes, number(term.len()));
        bytes.extend_from_slice(term);
    }
    bytes
}

/// Terms out of their column: length in tokens, and each term with its frequency.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_terms(bytes: &[u8]) -> Result<(u32, Vec<(&str, u32)>)> {
    let mut terms = Vec::new();
    let tokens = read_terms_into(bytes, &mut terms)?;
    Ok((tokens, terms))
}

/// Terms out of their column, into `terms` in the place of what was there; the length in tokens.
pub(crate) fn read_terms_into<'a>(bytes: &'a [u8], terms: &mut Vec<(&'a str, u32)>) -> Result<u32> {
    let bad = || corrupt("term list");
    let mut rest = bytes;
    let tokens = take_number(&mut rest).ok_or_else(bad)?;
    terms.clear();
    while !rest.is_empty() {
        let frequency = take_number(&mut rest).ok_or_else(bad)?;
        let length = take_number(&mut rest).ok_or_else(bad)? as usize;
        let (term, after) = rest.split_at_checked(length).ok_or_else(bad)?;
        terms.push((std::str::from_utf8(term).map_err(|_| bad())?, frequency));
        rest = after;
    }
    Ok(tokens)
}

fn push_number(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7F) as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u64;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn terms_round_trip_and_name_the_speaker() {
        let analyzer = Analyzer::new(memory_text::Language::English);
        let bytes = terms_of(&analyzer, Some("Ada"), "Tea, tea and more teas.");
        let (tokens, terms) = read_terms(&bytes).unwrap();
        assert!(terms.contains(&("tea", 3)), "{terms:?}");
        assert!(terms.contains(&("ada", 1)));
        assert!(tokens >= 4);
        let expected = analyzer.terms("Ada\nTea, tea and more teas.");
        let expected: Vec<_> =
            expected.terms.iter().map(|(term, count)| (term.as_str(), *count)).collect();
        assert_eq!(terms, expected);
    }

    #[test]
    fn damaged_columns_are_refused() {
        let analyzer = Analyzer::new(memory_text::Language::English);
        let bytes = terms_of(&analyzer, None, "green tea");
        for cut in 1..bytes.len() {
            let text = read_terms(&bytes[..cut]);
            assert!(text.is_err() || text.unwrap().1.len() < 2, "cut at {cut}");
        }
        assert!(read_terms(&[]).is_err());
        assert!(read_terms(&[0xFF; 9]).is_err());
        assert!(read_vector(&[0; 5]).is_err());
        let mut codes = Vec::new();
        assert!(read_codes(&[0; 3], &mut codes).is_err());
        assert!(read_codes(&[0xFF; 20], &mut codes).is_err(), "a scale that is NaN");
    }

    #[test]
    fn revisions_are_this_stores_own_or_nothing() {
        assert_eq!(revision_number(&revision(17)), Some(17));
        for other in ["017", "-1", "+1", "x", "1 ", "99999999999999999999"] {
            assert_eq!(revision_number(&Revision::new(other).unwrap()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn vectors_round_trip(vector in proptest::collection::vec(-1e6_f32..1e6, 1..50)) {
            prop_assert_eq!(&read_vector(&vector_bytes(&vector)).unwrap(), &vector);
            let mut codes = Vec::new();
            let quantized = read_codes(&codes_bytes(&vector), &mut codes).unwrap();
            let mut again = vec![0_i8; vector.len()];
            prop_assert_eq!(memory_distance::quantize(&vector, &mut again), quantized);
            prop_assert_eq!(again, codes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read_terms(&bytes);
            let _ = read_codes(&bytes, &mut Vec::new());
        }
    }
}
