//! Filters as they arrive: JSON text, and names of fields.

use memory_core::{Field, Filter, MemoryId, MemoryItem, MetaKey, MetaValue, Timestamp, UserId};
use serde_json::Value;

/// Text that is a filter's JSON gives a filter whose own JSON gives the same one; reading through
/// `serde` agrees; matching and listing fields are functions of the filter alone; a field's name
/// reads back as the field.
///
/// # Panics
/// Where an invariant is broken.
pub fn filters(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(field) = Field::parse(text) {
        assert_eq!(field.to_string(), text, "a field's name");
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        assert!(serde_json::from_str::<Filter>(text).is_err(), "no JSON, and yet a filter");
        return;
    };
    let read = Filter::from_json(&value);
    let through_serde = serde_json::from_value::<Filter>(value);
    assert_eq!(read.is_ok(), through_serde.is_ok(), "two ways to read a filter");
    let Ok(filter) = read else { return };
    assert_eq!(through_serde.ok().as_ref(), Some(&filter));
    assert!(filter.validate().is_ok(), "a filter that was read is valid");

    let written = filter.to_json();
    let again = Filter::from_json(&written).expect("a filter reads its own JSON");
    assert_eq!(again, filter);
    assert_eq!(again.to_json().to_string(), written.to_string());
    let text = written.to_string();
    assert_eq!(serde_json::from_str::<Filter>(&text).ok(), Some(filter.clone()), "its own text");

    assert_eq!(again.fields(), filter.fields());
    for item in items() {
        let matches = filter.matches(&item);
        assert_eq!(matches, again.matches(&item));
        let not = Filter::Not(Box::new(filter.clone()));
        assert_eq!(not.matches(&item), !matches, "a negation is the opposite");
    }
}

/// One item with little and one with much in it.
fn items() -> [MemoryItem; 2] {
    let item = || {
        let id = MemoryId::new("m-1").expect("a valid id");
        let now = Timestamp::from_micros(1_740_000_000_000_000).expect("a valid time");
        MemoryItem::new(id, "Ada prefers tea.", now).expect("valid content")
    };
    let bare = item();
    let mut full = item().with_user(UserId::new("ada").expect("a valid id"));
    full.importance = Some(0.5);
    full.author = Some("Ada".to_owned());
    for (key, value) in [
        ("topic", MetaValue::Text("work".to_owned())),
        ("tags", MetaValue::List(vec!["tea".to_owned(), String::new()])),
        ("number", MetaValue::Int(i64::MAX)),
        ("share", MetaValue::Float(-0.0)),
        ("done", MetaValue::Bool(true)),
    ] {
        full.metadata.insert(MetaKey::new(key).expect("a valid key"), value);
    }
    [bare, full]
}
