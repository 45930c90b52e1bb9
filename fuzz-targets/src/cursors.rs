//! Cursors, which come back from clients.

use memory_core::{Cursor, CursorKey, Field, Filter, MemoryId, Order, Query, TenantId};

/// Any text is refused or opens to a place whose cursor is that very text; a cursor that was issued
/// opens to its place, for its own tenant, filter and order alone; with one character changed it
/// opens no more.
///
/// # Panics
/// Where an invariant is broken.
pub fn cursors(data: &[u8]) {
    let tenant = TenantId::new("acme").expect("a valid tenant");
    let query = Query::new(10);
    if let Ok(text) = std::str::from_utf8(data) {
        let cursor: Cursor = text.parse().expect("any text is taken");
        if let Ok(key) = cursor.open(&tenant, &query) {
            assert_eq!(Cursor::issue(&tenant, &query, &key).as_str(), text);
        }
    }

    let Some((head, rest)) = data.split_first_chunk::<10>() else { return };
    let Ok(id) = std::str::from_utf8(rest) else { return };
    let Ok(id) = MemoryId::new(id) else { return };
    let mut sort = [0; 8];
    sort.copy_from_slice(&head[..8]);
    let key = CursorKey { sort: i64::from_le_bytes(sort), id };
    let cursor = Cursor::issue(&tenant, &query, &key);
    assert_eq!(cursor.open(&tenant, &query).ok().as_ref(), Some(&key));
    assert!(cursor.as_str().is_ascii());

    let other = TenantId::new("acme2").expect("a valid tenant");
    assert!(cursor.open(&other, &query).is_err(), "another tenant's");
    let filtered = query.clone().with_filter(Filter::eq(Field::Author, "x"));
    assert!(cursor.open(&tenant, &filtered).is_err(), "another filter's");
    let ordered = query.clone().with_order(Order::OLDEST);
    assert!(cursor.open(&tenant, &ordered).is_err(), "another order's");

    let mut bytes = cursor.as_str().as_bytes().to_vec();
    let at = (usize::from(head[8]) + usize::from(head[9]) * 256) % bytes.len();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    let changed: Cursor =
        String::from_utf8(bytes).expect("ASCII").parse().expect("any text is taken");
    assert!(changed.open(&tenant, &query).is_err(), "a changed character");
}
