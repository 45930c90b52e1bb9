//! What is read from a group's hash. It may hold anything: what is not as written is absent.

use redis::Value;

/// What stands on a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Values may be kept under this token.
    Token([u8; 16]),
    /// A write is under way.
    Mark([u8; 16]),
}

impl Standing {
    /// As it is stored: a letter, and 16 bytes.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let (letter, bytes) = match self {
            Self::Token(token) => (b'T', token),
            Self::Mark(mark) => (b'W', mark),
        };
        let mut stored = Vec::with_capacity(17);
        stored.push(letter);
        stored.extend(bytes);
        stored
    }

    /// What a field holds.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let Value::BulkString(bytes) = value else { return None };
        let (letter, rest) = bytes.split_first()?;
        let rest = rest.try_into().ok()?;
        match letter {
            b'T' => Some(Self::Token(rest)),
            b'W' => Some(Self::Mark(rest)),
            _ => None,
        }
    }
}

/// A value's bytes and, after them, the wider group's token that it was kept under.
pub(crate) struct Stored(Vec<u8>);

/// Values stay out of logs.
impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({} bytes)", self.0.len())
    }
}

impl Stored {
    /// The value, if it was kept under this token. It is not copied.
    pub(crate) fn under(mut self, token: &[u8; 16]) -> Option<Vec<u8>> {
        let length = self.0.len().checked_sub(token.len())?;
        if self.0[length..] != *token {
            return None;
        }
        self.0.truncate(length);
        Some(self.0)
    }
}

/// The bytes of a value to be kept under a token.
pub(super) fn value(mut value: Vec<u8>, under: &[u8; 16]) -> Vec<u8> {
    value.extend(under);
    value
}

/// The field of an entry.
pub(super) fn field(entry: &str) -> Vec<u8> {
    let mut field = Vec::with_capacity(1 + entry.len());
    field.push(b'e');
    field.extend(entry.as_bytes());
    field
}

/// What a group's hash has: what stands on it, and the entry that was asked for.
pub(crate) fn seen(answer: Value) -> (Option<Standing>, Option<Stored>) {
    let Value::Array(fields) = answer else { return (None, None) };
    let Ok([standing, value]) = <[Value; 2]>::try_from(fields) else { return (None, None) };
    let value = match value {
        Value::BulkString(bytes) => Some(Stored(bytes)),
        _ => None,
    };
    (Standing::of(&standing), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(bytes: impl Into<Vec<u8>>) -> Value {
        Value::BulkString(bytes.into())
    }

    #[test]
    fn what_stands_comes_back() {
        for standing in [Standing::Token([7; 16]), Standing::Mark([0; 16])] {
            assert_eq!(Standing::of(&bulk(standing.to_bytes())), Some(standing));
        }
        for other in ["", "T", "T123456789012345", "T12345678901234567", "X1234567890123456"] {
            assert_eq!(Standing::of(&bulk(other)), None, "{other}");
        }
        assert_eq!(Standing::of(&Value::Int(3)), None);
        assert_eq!(Standing::of(&Value::Nil), None);
    }

    #[test]
    fn a_value_counts_under_its_own_token_only() {
        let stored = || Stored(value(b"abc".to_vec(), &[7; 16]));
        assert_eq!(stored().under(&[7; 16]), Some(b"abc".to_vec()));
        assert_eq!(stored().under(&[8; 16]), None);
        assert_eq!(Stored(vec![7; 15]).under(&[7; 16]), None);
        assert_eq!(Stored(vec![7; 16]).under(&[7; 16]), Some(Vec::new()));
        assert_eq!(format!("{:?}", stored()), "Stored(19 bytes)");
    }

    #[test]
    fn answers_of_another_shape_are_nothing() {
        let token = bulk(Standing::Token([7; 16]).to_bytes());
        let (standing, value) = seen(Value::Array(vec![token.clone(), bulk("abc")]));
        assert!(standing.is_some() && value.is_some());
        for other in [
            Value::Nil,
            Value::Int(1),
            Value::Array(vec![]),
            Value::Array(vec![token.clone()]),
            Value::Array(vec![token, bulk("a"), bulk("b")]),
            bulk("x"),
        ] {
            let (standing, value) = seen(other);
            assert!(standing.is_none() && value.is_none());
        }
    }
}
