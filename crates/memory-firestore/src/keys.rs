//! Ordered bytes: values that the service compares as bytes exactly as filters compare them.
//!
//! Each declared metadata key is stored once more as bytes whose order is the order of its values
//! within each type, and whose first byte tells the type: text is its UTF-8, which never begins with
//! a byte above `0xF4`; `0xF8` and ten bytes are a number, `0xF9` and one a boolean, `0xFA` a list
//! and `0xFB` stands for none. So a range of bytes is a range of values of one type, its complement
//! is a few other ranges, and integers and floats compare as the exact numbers they are, which the
//! service does not promise.
//!
//! Sort keys are text: sixteen hexadecimal digits of the time, and the encoded id.

use memory_core::{MetaValue, Scalar, Timestamp};

use crate::names::encode;

/// Stands before a number.
pub(crate) const NUMBER: u8 = 0xF8;
/// Stands before a boolean.
pub(crate) const BOOL: u8 = 0xF9;
/// A list, whatever it holds.
pub(crate) const LIST: u8 = 0xFA;
/// The item does not have the key.
pub(crate) const MISSING: u8 = 0xFB;

/// A metadata value as ordered bytes; `None` is the item that lacks the key.
pub(crate) fn bytes_of(value: Option<&MetaValue>) -> Vec<u8> {
    match value {
        None => vec![MISSING],
        Some(MetaValue::Bool(value)) => vec![BOOL, u8::from(*value)],
        Some(MetaValue::Int(value)) => int(*value),
        Some(MetaValue::Float(value)) => float(*value),
        Some(MetaValue::Text(text)) => text.as_bytes().to_vec(),
        Some(MetaValue::List(_)) => vec![LIST],
    }
}

/// A filter's value as ordered bytes; `None` for a time, which metadata never holds.
pub(crate) fn bytes_of_scalar(value: &Scalar) -> Option<Vec<u8>> {
    match value {
        Scalar::Bool(value) => Some(vec![BOOL, u8::from(*value)]),
        Scalar::Int(value) => Some(int(*value)),
        Scalar::Float(value) => Some(float(*value)),
        Scalar::Text(text) => Some(text.as_bytes().to_vec()),
        Scalar::Time(_) => None,
    }
}

/// The greatest float that is not above the integer, and how much is left: at most 2^10.
fn int(value: i64) -> Vec<u8> {
    #[expect(clippy::cast_precision_loss, reason = "what is lost comes in the second part")]
    let mut below = value as f64;
    // Floats of this size are integers well within 128 bits.
    #[expect(clippy::cast_possible_truncation, reason = "as above")]
    let exact = |float: f64| float as i128;
    if exact(below) > i128::from(value) {
        below = below.next_down();
    }
    let rest = i128::from(value) - exact(below);
    number(below, u16::try_from(rest).unwrap_or(u16::MAX))
}

fn float(value: f64) -> Vec<u8> {
    number(value, 0)
}

fn number(float: f64, rest: u16) -> Vec<u8> {
    // Minus zero is zero.
    let bits = (float + 0.0).to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
    let mut bytes = Vec::with_capacity(11);
    bytes.push(NUMBER);
    bytes.extend(ordered.to_be_bytes());
    bytes.extend(rest.to_be_bytes());
    bytes
}

/// A time as sixteen digits, in the order of times.
pub(crate) fn time_digits(time: Timestamp) -> String {
    format!("{:016x}", time.as_micros().wrapping_sub(Timestamp::MIN.as_micros()))
}

/// A sort key: time and id.
pub(crate) fn sort_key(time: Timestamp, id: &str) -> String {
    let mut key = time_digits(time);
    key.push_str(&encode(id));
    key
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use memory_core::{CompareOp, Field, Filter, MemoryId, MemoryItem, MetaKey, UserId};
    use proptest::prelude::*;

    use super::*;

    fn less(a: &MetaValue, b: &Scalar) -> Option<Ordering> {
        let key = MetaKey::new("k").unwrap();
        let mut item = MemoryItem::new(MemoryId::new("m").unwrap(), "x", Timestamp::MIN)
            .unwrap()
            .with_user(UserId::new("u").unwrap());
        item.metadata.insert(key.clone(), a.clone());
        let is = |op| Filter::Compare(Field::Metadata(key.clone()), op, b.clone()).matches(&item);
        [
            (CompareOp::Lt, Ordering::Less),
            (CompareOp::Eq, Ordering::Equal),
            (CompareOp::Gt, Ordering::Greater),
        ]
        .into_iter()
        .find_map(|(op, order)| is(op).then_some(order))
    }

    fn value() -> impl Strategy<Value = MetaValue> {
        prop_oneof![
            any::<i64>().prop_map(MetaValue::Int),
            (-3_i64..3).prop_map(MetaValue::Int),
            (-3_i64..3).prop_map(|n| MetaValue::Int((1 << 53) + n)),
            (-3_i64..3).prop_map(|n| MetaValue::Int(i64::MAX.wrapping_add(n))),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(MetaValue::Float),
            (-3_i32..3).prop_map(|n| MetaValue::Float(f64::from(n) / 2.0)),
            (-3_i32..3).prop_map(|n| MetaValue::Float(9_007_199_254_740_992.0 + f64::from(n))),
            prop_oneof![Just(-0.0), Just(9_223_372_036_854_775_808.0), Just(5e-324)]
                .prop_map(MetaValue::Float),
            "\\PC{0,4}".prop_map(MetaValue::Text),
        ]
    }

    proptest! {
        #[test]
        fn bytes_compare_as_filters_do(a in value(), b in value()) {
            let scalar = match b {
                MetaValue::Int(value) => Scalar::Int(value),
                MetaValue::Float(value) => Scalar::Float(value),
                MetaValue::Text(text) => Scalar::Text(text),
                _ => unreachable!("numbers and texts"),
            };
            let bytes = bytes_of(Some(&a));
            let other = bytes_of_scalar(&scalar).unwrap();
            if let Some(order) = less(&a, &scalar) {
                prop_assert_eq!(bytes.cmp(&other), order);
            } else {
                prop_assert_ne!(bytes[..].first() == Some(&NUMBER), other.first() == Some(&NUMBER));
            }
        }
    }

    #[test]
    fn types_are_told_apart_by_the_first_byte() {
        let list = MetaValue::List(vec!["a".into()]);
        let firsts = [
            bytes_of(Some(&MetaValue::Int(0))),
            bytes_of(Some(&MetaValue::Bool(true))),
            bytes_of(Some(&list)),
            bytes_of(None),
        ];
        assert_eq!(firsts.map(|bytes| bytes[0]), [NUMBER, BOOL, LIST, MISSING]);
        assert_eq!("\u{10FFFF}".as_bytes()[0], 0xF4);
        assert!(sort_key(Timestamp::MIN, "z") < sort_key(Timestamp::MAX, "a"));
    }
}
