//! What the fuzz target of cached values checks: what a shared cache may answer.

use memory_core::{ContentHash, MemoryId, MemoryItem, Page, Timestamp};

use super::value::{HEAD, Value, check_sum, decode, encode};

/// A value's key as text.
const ADDRESS: &str = "1:t3:i:m1cpm";

/// The first byte chooses what the others are: the bytes of an item or of a page, or the body of
/// one, for which head and check sum are made. What they are is no value, or one, the same each
/// time, which comes back from the bytes that it is encoded to.
///
/// # Panics
/// Where an invariant is broken.
pub fn values(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 4 {
        0 => judged::<MemoryItem>(rest),
        1 => judged::<Page>(rest),
        2 => {
            let id = MemoryId::new("m").expect("a valid id");
            let item = MemoryItem::from_stored(id, String::new(), ContentHash::of(""));
            judged::<MemoryItem>(&framed(&item, rest));
        }
        _ => judged::<Page>(&framed(&Page::default(), rest)),
    }
}

/// A body in the frame of another value.
fn framed<V: Value>(other: &V, body: &[u8]) -> Vec<u8> {
    let mut bytes = encode(other, ADDRESS, Timestamp::MIN);
    bytes.truncate(HEAD - 4);
    bytes.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(body);
    let sum = check_sum(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

fn judged<V: Value + PartialEq>(bytes: &[u8]) {
    let found = decode::<V>(bytes, ADDRESS);
    assert!(found == decode::<V>(bytes, ADDRESS), "the same bytes give the same value");
    assert!(decode::<V>(bytes, "another key").is_none(), "a value is of one key");
    if let Some((value, read_at)) = found {
        let again = encode(&value, ADDRESS, read_at);
        assert!(decode(&again, ADDRESS) == Some((value, read_at)), "a value comes back");
    }
}
