//! The weights' file, in the safetensors format: eight bytes with the length of a JSON header, the
//! header, and then the tensors that it names, little endian.

use std::collections::HashMap;
use std::io::Read;

use memory_core::{Error, ErrorKind, Result};
use serde_json::Value;

/// Longest header that is read, in bytes. The model's has 11 KB.
const MOST_HEADER: u64 = 1 << 20;

/// Where a tensor of f32 lies, from the end of the header on.
struct Place {
    name: String,
    begin: u64,
    end: u64,
}

/// Numbers handed over at a time, and read: whole rows of every matrix of the model, and little
/// enough to stay in the processor's cache between reading, hashing and packing.
const PIECE: usize = 16 * 1_536;

/// A part of a tensor.
pub(super) struct Piece<'a> {
    /// The tensor.
    pub(super) name: &'a str,
    /// The numbers before this part.
    pub(super) from: usize,
    /// The numbers of the whole tensor.
    pub(super) total: usize,
    /// The numbers.
    pub(super) values: &'a [f32],
}

/// Reads every tensor of f32 in the order of the file and hands it over in pieces, each but a
/// tensor's last of [`PIECE`] numbers; tensors of other types are passed over. Nothing but the
/// piece at hand is held. A tensor without numbers is handed over as one empty piece.
///
/// # Errors
/// `Corrupt`: no such file, cut short, or a header that contradicts itself. `Unavailable`: it
/// cannot be read. Those of `take`.
pub(super) fn read_tensors<R: Read>(
    mut file: R,
    mut take: impl FnMut(Piece<'_>) -> Result<()>,
) -> Result<()> {
    let mut length = [0; 8];
    fill(&mut file, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER {
        return Err(corrupt("begins with a length that no header has"));
    }
    let mut header = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    fill(&mut file, &mut header)?;
    let mut at = 0;
    let (mut bytes, mut values) = (vec![0; PIECE * 4], Vec::with_capacity(PIECE));
    for place in places(&header)? {
        if place.begin < at
            || place.end < place.begin
            || !(place.end - place.begin).is_multiple_of(4)
        {
            return Err(corrupt("names tensors that overlap or end within a number"));
        }
        skip(&mut file, place.begin - at)?;
        let total = usize::try_from((place.end - place.begin) / 4).unwrap_or(usize::MAX);
        let mut from = 0;
        loop {
            let bytes = &mut bytes[..(total - from).min(PIECE) * 4];
            fill(&mut file, bytes)?;
            values.clear();
            values.extend(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)));
            take(Piece { name: &place.name, from, total, values: &values })?;
            from += values.len();
            if from == total {
                break;
            }
        }
        at = place.end;
    }
    // The rest counts for the checksum.
    std::io::copy(&mut file, &mut std::io::sink()).map_err(unreadable)?;
    Ok(())
}

/// The tensors of f32 that a header names, in the order of the file.
fn places(header: &[u8]) -> Result<Vec<Place>> {
    let header: HashMap<String, Value> =
        serde_json::from_slice(header).map_err(|_| corrupt("has a header that is no JSON"))?;
    let mut places = Vec::with_capacity(header.len());
    for (name, tensor) in header {
        if tensor["dtype"] != "F32" {
            continue;
        }
        let offset = |at: usize| tensor["data_offsets"][at].as_u64();
        let (Some(begin), Some(end)) = (offset(0), offset(1)) else {
            return Err(corrupt("names a tensor without saying where it lies"));
        };
        places.push(Place { name, begin, end });
    }
    places.sort_by_key(|place| (place.begin, place.end));
    Ok(places)
}

fn fill<R: Read>(file: &mut R, bytes: &mut [u8]) -> Result<()> {
    file.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => corrupt("is cut short"),
        _ => unreadable(error),
    })
}

fn skip<R: Read>(file: &mut R, bytes: u64) -> Result<()> {
    let passed = std::io::copy(&mut file.take(bytes), &mut std::io::sink()).map_err(unreadable)?;
    if passed == bytes { Ok(()) } else { Err(corrupt("is cut short")) }
}

pub(super) fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the file of the model's weights {what}"))
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the file of the model's weights cannot be read")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[f32]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data.iter().flat_map(|x| x.to_le_bytes()));
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<f32>)>> {
        let mut found = Vec::new();
        read_tensors(bytes, |piece| {
            if piece.from == 0 {
                found.push((piece.name.to_owned(), Vec::new()));
            }
            let (_, values) = found.last_mut().unwrap();
            assert_eq!(values.len(), piece.from);
            values.extend_from_slice(piece.values);
            assert!(values.len() == piece.total || piece.values.len() == PIECE);
            Ok(())
        })?;
        Ok(found)
    }

    const HEADER: &str = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},
        "ids":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},
        "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

    #[test]
    fn tensors_come_in_the_order_of_the_file() {
        let whole = file(HEADER, &[1.0, 2.0, 0.0, 0.0, 3.0, 9.0]);
        let found = read(&whole).unwrap();
        assert_eq!(found, [("a".to_owned(), vec![1.0, 2.0]), ("b".to_owned(), vec![3.0])]);
    }

    #[test]
    fn long_tensors_come_in_pieces_and_empty_ones_come_too() {
        let count = 2 * PIECE + 7;
        let end = count * 4;
        let header = format!(
            r#"{{"a":{{"dtype":"F32","data_offsets":[0,0]}},
                "b":{{"dtype":"F32","data_offsets":[0,{end}]}}}}"#
        );
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let data: Vec<f32> = (0..count).map(|n| n as f32).collect();
        let mut found = read(&file(&header, &data)).unwrap();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(found, [("a".to_owned(), vec![]), ("b".to_owned(), data)]);
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let whole = file(HEADER, &[1.0, 2.0, 0.0, 0.0, 3.0]);
        for end in [0, 7, 8, 40, whole.len() - 1] {
            assert_eq!(read(&whole[..end]).unwrap_err().kind(), ErrorKind::Corrupt, "{end}");
        }
        for header in [
            "no json",
            "[]",
            r#"{"a":{"dtype":"F32"}}"#,
            r#"{"a":{"dtype":"F32","data_offsets":[0,-4]}}"#,
            r#"{"a":{"dtype":"F32","data_offsets":[4,0]}}"#,
            r#"{"a":{"dtype":"F32","data_offsets":[0,3]}}"#,
            r#"{"a":{"dtype":"F32","data_offsets":[0,8]},"b":{"dtype":"F32","data_offsets":[4,12]}}"#,
            r#"{"a":{"dtype":"F32","data_offsets":[0,18446744073709551612]}}"#,
        ] {
            let error = read(&file(header, &[1.0, 2.0, 3.0])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{header}");
        }
        assert!(read(&u64::MAX.to_le_bytes()).is_err());
        let error = read_tensors(whole.as_slice(), |_| Err(corrupt("is another one")));
        assert!(error.is_err());
    }
}
