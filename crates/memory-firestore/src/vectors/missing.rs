//! Items without a vector in a space: what is left to embed.

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{
    CallContext, EmbeddingSpace, Error, ErrorKind, MemoryId, Result, Timestamp, limits,
};
use proto::structured_query as query;
use proto::value::ValueType;

use super::{check_dimensions, note_unreadable, with_space};
use crate::error::corrupt;
use crate::fields as f;
use crate::model;
use crate::names::{Names, encode, last};
use crate::store::FirestoreStore;
use crate::wire::{Call, Found};

/// A page of ids of visible items without a vector in the space, in the order of their bytes.
///
/// The service has no index of what a document lacks, so this walks the items by id and brings of
/// each the version of its shape and the names of its spaces. All requests of one call read the
/// state that the first of them saw.
///
/// Billed: one read for each item that is walked past. The first request asks for as many items as
/// ids are wanted, each that follows for twice as many as the one before, up to 1,000.
///
/// # Errors
/// `InvalidInput`: the limit, or a space that the tenant does not have.
pub(crate) async fn missing(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    space: &EmbeddingSpace,
    after: Option<&MemoryId>,
    limit: u32,
) -> Result<Vec<MemoryId>> {
    if limit == 0 || limit > limits::PAGE {
        return Err(Error::invalid(format!(
            "a limit lies between 1 and {}; this is {limit}",
            limits::PAGE
        )));
    }
    check_dimensions(space)?;
    with_space(store, call, &context.tenant, space).await?;
    let short = model::short_name(&space.id());
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let parent = store.names.tenant(&context.tenant);
    let now = store.clock.now();
    let (mut ids, mut at) = (Vec::new(), None);
    let mut after = after.map(|id| model::text(encode(id.as_str())));
    let mut ask = limit;
    loop {
        let page = page(&store.names, now, after, ask);
        let found = store.wire.query_at(call, &parent, page, &mut at).await?;
        let more = found.len() >= usize::try_from(ask).unwrap_or(usize::MAX);
        // What the server sorted by, so that each page begins after the one before, whatever a
        // document that was written by hand is called.
        after = found.last().and_then(|found| found.fields.get(f::BY_ID).cloned());
        for found in &found {
            match lacks(found, &short) {
                Ok(Some(id)) => ids.push(id),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => note_unreadable(store, &error),
                Err(error) => return Err(error),
            }
        }
        if ids.len() >= wanted || !more {
            ids.truncate(wanted);
            return Ok(ids);
        }
        ask = ask.saturating_mul(2).min(limits::PAGE);
    }
}

/// The items that are visible at `now`, by id, after a value of `by_id`.
fn page(
    names: &Names,
    now: Timestamp,
    after: Option<proto::Value>,
    limit: u32,
) -> proto::StructuredQuery {
    let field = |path: &str| query::FieldReference { field_path: path.to_owned() };
    let visible = query::FieldFilter {
        field: Some(field(f::VISIBLE_UNTIL)),
        op: query::field_filter::Operator::GreaterThan.into(),
        value: Some(model::time(now.as_micros())),
    };
    let ordered = |path| query::Order {
        field: Some(field(path)),
        direction: query::Direction::Ascending.into(),
    };
    proto::StructuredQuery {
        select: Some(query::Projection { fields: [f::V, f::SPACES, f::BY_ID].map(field).to_vec() }),
        from: vec![query::CollectionSelector {
            collection_id: names.memories.clone(),
            all_descendants: false,
        }],
        r#where: Some(query::Filter {
            filter_type: Some(query::filter::FilterType::FieldFilter(visible)),
        }),
        order_by: vec![ordered(f::BY_ID), ordered(f::VISIBLE_UNTIL)],
        start_at: after.map(|id| proto::Cursor { values: vec![id], before: false }),
        limit: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        ..proto::StructuredQuery::default()
    }
}

/// The id of an item that has no vector in the space.
///
/// # Errors
/// `Corrupt`, `Unsupported`: naming the document.
fn lacks(found: &Found, short: &str) -> Result<Option<MemoryId>> {
    let lacks = || {
        model::check_shape(&found.fields)?;
        let has = match found.fields.get(f::SPACES).and_then(|value| value.value_type.as_ref()) {
            None => false,
            Some(ValueType::ArrayValue(spaces)) => spaces.values.iter().any(|space| {
                matches!(&space.value_type, Some(ValueType::StringValue(name)) if name == short)
            }),
            Some(_) => return Err(corrupt("list of spaces")),
        };
        if has { Ok(None) } else { Names::memory_id(&found.name).map(Some) }
    };
    lacks().map_err(|error| error.with_context("document", last(&found.name).to_owned()))
}
