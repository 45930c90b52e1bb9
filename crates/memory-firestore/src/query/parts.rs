//! The pieces of structured queries.

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::Direction;
use proto::structured_query::{
    CollectionSelector, CompositeFilter, FieldFilter, FieldReference, Filter, Order, Projection,
    composite_filter, field_filter, filter::FilterType,
};
use proto::{StructuredQuery, Value};

pub(crate) use field_filter::Operator as Op;

/// One comparison of a field.
pub(crate) fn compare(path: &str, op: Op, value: Value) -> Filter {
    let filter = FieldFilter { field: Some(field(path)), op: op.into(), value: Some(value) };
    Filter { filter_type: Some(FilterType::FieldFilter(filter)) }
}

/// All of these; `None` for none.
pub(crate) fn all_of(filters: Vec<Filter>) -> Option<Filter> {
    composite(composite_filter::Operator::And, filters)
}

/// One of these at least; `None` for none.
pub(crate) fn one_of(filters: Vec<Filter>) -> Option<Filter> {
    composite(composite_filter::Operator::Or, filters)
}

fn composite(op: composite_filter::Operator, mut filters: Vec<Filter>) -> Option<Filter> {
    if filters.len() < 2 {
        return filters.pop();
    }
    let composite = CompositeFilter { op: op.into(), filters };
    Some(Filter { filter_type: Some(FilterType::CompositeFilter(composite)) })
}

pub(crate) fn field(path: &str) -> FieldReference {
    FieldReference { field_path: path.to_owned() }
}

pub(crate) fn ordered(path: &str, direction: Direction) -> Order {
    use proto::structured_query::Direction as Wire;

    let direction = match direction {
        Direction::Ascending => Wire::Ascending,
        Direction::Descending => Wire::Descending,
    };
    Order { field: Some(field(path)), direction: direction.into() }
}

/// A query of one collection, whole and without an order.
pub(crate) fn from(collection: &str) -> StructuredQuery {
    let selector =
        CollectionSelector { collection_id: collection.to_owned(), all_descendants: false };
    StructuredQuery { from: vec![selector], ..StructuredQuery::default() }
}

/// The fields that a query brings; the document's name alone where there are none.
pub(crate) fn select(mask: &[String]) -> Projection {
    let mut fields: Vec<_> = mask.iter().map(|path| field(path)).collect();
    if fields.is_empty() {
        fields.push(field(NAME));
    }
    Projection { fields }
}

/// The pseudo field of a document's name.
pub(crate) const NAME: &str = "__name__";
