//! Queries as the checker reads them: out of the bytes that were sent, brought into the form that
//! indexes are looked up by.

use std::collections::BTreeSet;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use prost::Message as _;
use proto::structured_query as parts;
use proto::value::ValueType;

use super::definitions::{Path, Scope};

/// Most alternatives of a query, once it is an `or` of `and`s.
const ALTERNATIVES: usize = 30;
/// Most fields with an inequality.
const INEQUALITIES: usize = 10;
/// Most filters and orders together.
const PARTS: usize = 100;
/// Most neighbours.
const NEIGHBOURS: i32 = 1_000;

/// One alternative: what must hold together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alternative {
    pub(crate) equal: BTreeSet<Path>,
    pub(crate) contains: Vec<Path>,
    pub(crate) unequal: BTreeSet<Path>,
    /// How many alternatives it stands for, that differ in a value.
    weight: usize,
}

/// A neighbour search.
#[derive(Clone, Debug)]
pub(crate) struct Nearest {
    pub(crate) path: Path,
    pub(crate) dimensions: u64,
}

/// A query.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) group: String,
    pub(crate) scope: Scope,
    pub(crate) alternatives: Vec<Alternative>,
    /// The whole order, the document's name last; whether each descends.
    pub(crate) orders: Vec<(Path, bool)>,
    pub(crate) nearest: Option<Nearest>,
}

impl Asked {
    /// Reads a request.
    pub(crate) fn decode(method: &str, bytes: &[u8]) -> Result<Self, String> {
        let no_query = || format!("{method} without a query");
        let query = match method {
            "RunQuery" => {
                let request = proto::RunQueryRequest::decode(bytes).map_err(|e| e.to_string())?;
                let Some(proto::run_query_request::QueryType::StructuredQuery(query)) =
                    request.query_type
                else {
                    return Err(no_query());
                };
                query
            }
            "RunAggregationQuery" => {
                use proto::run_aggregation_query_request::QueryType as Outer;
                use proto::structured_aggregation_query::{QueryType, aggregation::Operator};

                let request =
                    proto::RunAggregationQueryRequest::decode(bytes).map_err(|e| e.to_string())?;
                let Some(Outer::StructuredAggregationQuery(outer)) = request.query_type else {
                    return Err(no_query());
                };
                let counts = |one: &proto::structured_aggregation_query::Aggregation| {
                    matches!(one.operator, Some(Operator::Count(_)))
                };
                if outer.aggregations.is_empty() || !outer.aggregations.iter().all(counts) {
                    return Err("only counts are checked".to_owned());
                }
                let Some(QueryType::StructuredQuery(query)) = outer.query_type else {
                    return Err(no_query());
                };
                query
            }
            other => return Err(format!("{other} is not known here")),
        };
        Self::read(&query)
    }

    /// Reads a query.
    pub(crate) fn read(query: &proto::StructuredQuery) -> Result<Self, String> {
        let [from] = &query.from[..] else { return Err("a query is of one collection".to_owned()) };
        if from.collection_id.is_empty() {
            return Err("a query of every collection".to_owned());
        }
        if query.offset != 0 {
            return Err("an offset is billed for what it skips".to_owned());
        }
        let (mut leaves, mut depth) = (0, 0);
        let alternatives = match &query.r#where {
            None => vec![Alternative { weight: 1, ..Alternative::default() }],
            Some(filter) => alternatives(filter, &mut leaves, &mut depth)?,
        };
        let weight: usize = alternatives.iter().map(|one| one.weight).sum();
        if weight == 0 || weight > ALTERNATIVES {
            return Err(format!("{weight} alternatives"));
        }
        if let Some(lists) = alternatives.iter().map(|one| one.contains.len()).find(|n| *n > 1) {
            return Err(format!("{lists} lists in one alternative"));
        }
        let unequal: BTreeSet<_> =
            alternatives.iter().flat_map(|one| one.unequal.iter().cloned()).collect();
        if unequal.len() > INEQUALITIES {
            return Err(format!("inequalities of {} fields", unequal.len()));
        }
        if leaves + query.order_by.len() > PARTS {
            return Err(format!("{leaves} filters and {} orders", query.order_by.len()));
        }
        let nearest = query.find_nearest.as_ref().map(nearest).transpose()?;
        if nearest.is_some() && !query.order_by.is_empty() {
            return Err("neighbours come in their own order".to_owned());
        }
        let explicit = explicit(&query.order_by)?;
        for cursor in [&query.start_at, &query.end_at].into_iter().flatten() {
            // What is ordered by is implied where it is not said, but a cursor speaks of what is said.
            if cursor.values.is_empty() || cursor.values.len() > explicit.len() {
                return Err(format!("a cursor of {} values", cursor.values.len()));
            }
        }
        Ok(Self {
            group: from.collection_id.clone(),
            scope: if from.all_descendants { Scope::Group } else { Scope::Collection },
            alternatives,
            orders: whole_order(explicit, unequal),
            nearest,
        })
    }
}

fn explicit(orders: &[parts::Order]) -> Result<Vec<(Path, bool)>, String> {
    let mut read: Vec<(Path, bool)> = Vec::new();
    for order in orders {
        let path = path(order.field.as_ref())?;
        if read.iter().any(|(other, _)| *other == path) {
            return Err(format!("{path:?} is ordered by twice"));
        }
        let descending = match order.direction() {
            parts::Direction::Ascending => false,
            parts::Direction::Descending => true,
            parts::Direction::Unspecified => return Err("an order without direction".to_owned()),
        };
        read.push((path, descending));
    }
    Ok(read)
}

/// What the service appends: the fields of inequalities that are not ordered by, in the order of
/// their names, then the document's name; all in the last direction that was given.
fn whole_order(mut orders: Vec<(Path, bool)>, unequal: BTreeSet<Path>) -> Vec<(Path, bool)> {
    let descending = orders.last().is_some_and(|(_, descending)| *descending);
    for path in unequal.into_iter().chain([Path::name()]) {
        if !orders.iter().any(|(other, _)| *other == path) {
            orders.push((path, descending));
        }
    }
    // Nothing is left to be ordered after the name.
    let end = orders.iter().position(|(path, _)| *path == Path::name());
    orders.truncate(end.map_or(orders.len(), |at| at + 1));
    orders
}

fn path(field: Option<&parts::FieldReference>) -> Result<Path, String> {
    Path::parse(field.map_or("", |field| &field.field_path))
}

fn nearest(asked: &parts::FindNearest) -> Result<Nearest, String> {
    let path = path(asked.vector_field.as_ref())?;
    match asked.limit {
        Some(1..=NEIGHBOURS) => {}
        other => return Err(format!("{other:?} neighbours")),
    }
    if asked.distance_measure() == parts::find_nearest::DistanceMeasure::Unspecified {
        return Err("no distance measure".to_owned());
    }
    let Some(ValueType::MapValue(map)) =
        asked.query_vector.as_ref().and_then(|value| value.value_type.as_ref())
    else {
        return Err("the vector is none".to_owned());
    };
    let Some(ValueType::ArrayValue(array)) =
        map.fields.get("value").and_then(|value| value.value_type.as_ref())
    else {
        return Err("the vector is none".to_owned());
    };
    let dimensions = array.values.len() as u64;
    if !(1..=2_048).contains(&dimensions) {
        return Err(format!("a vector of {dimensions} dimensions"));
    }
    Ok(Nearest { path, dimensions })
}

/// A filter as an `or` of `and`s.
fn alternatives(
    filter: &parts::Filter,
    leaves: &mut usize,
    depth: &mut usize,
) -> Result<Vec<Alternative>, String> {
    use parts::filter::FilterType;

    match &filter.filter_type {
        None => Err("an empty filter".to_owned()),
        Some(FilterType::CompositeFilter(several)) => {
            *depth += 1;
            if several.filters.is_empty() || *depth > 100 {
                return Err("a filter of no filters, or of too many".to_owned());
            }
            let each = several
                .filters
                .iter()
                .map(|filter| alternatives(filter, leaves, depth))
                .collect::<Result<Vec<_>, _>>()?;
            match several.op() {
                parts::composite_filter::Operator::Or => Ok(each.into_iter().flatten().collect()),
                parts::composite_filter::Operator::And => each.iter().try_fold(
                    vec![Alternative { weight: 1, ..Alternative::default() }],
                    |all, one| both(&all, one),
                ),
                parts::composite_filter::Operator::Unspecified => Err("neither and nor or".into()),
            }
        }
        Some(FilterType::FieldFilter(leaf)) => {
            *leaves += 1;
            field_filter(leaf).map(|one| vec![one])
        }
        Some(FilterType::UnaryFilter(leaf)) => {
            use parts::unary_filter::{OperandType, Operator};

            *leaves += 1;
            let Some(OperandType::Field(field)) = &leaf.operand_type else {
                return Err("a filter of no field".to_owned());
            };
            let path = path(Some(field))?;
            let mut one = Alternative { weight: 1, ..Alternative::default() };
            match leaf.op() {
                Operator::IsNull | Operator::IsNan => one.equal.insert(path),
                Operator::IsNotNull | Operator::IsNotNan => one.unequal.insert(path),
                Operator::Unspecified => return Err("a filter without operator".to_owned()),
            };
            Ok(vec![one])
        }
    }
}

fn field_filter(leaf: &parts::FieldFilter) -> Result<Alternative, String> {
    use parts::field_filter::Operator;

    let path = path(leaf.field.as_ref())?;
    let values = match leaf.value.as_ref().and_then(|value| value.value_type.as_ref()) {
        Some(ValueType::ArrayValue(array)) => Some(array.values.len()),
        Some(_) => None,
        None => return Err("a filter without value".to_owned()),
    };
    let mut one = Alternative { weight: 1, ..Alternative::default() };
    match leaf.op() {
        Operator::Equal => {
            one.equal.insert(path);
        }
        Operator::In | Operator::ArrayContainsAny => {
            one.weight = values.filter(|n| (1..=ALTERNATIVES).contains(n)).ok_or("bad values")?;
            if leaf.op() == Operator::In {
                one.equal.insert(path);
            } else {
                one.contains.push(path);
            }
        }
        Operator::ArrayContains => one.contains.push(path),
        Operator::NotIn => {
            values.filter(|n| (1..=10).contains(n)).ok_or("not-in takes 1 to 10 values")?;
            one.unequal.insert(path);
        }
        Operator::NotEqual
        | Operator::LessThan
        | Operator::LessThanOrEqual
        | Operator::GreaterThan
        | Operator::GreaterThanOrEqual => {
            one.unequal.insert(path);
        }
        Operator::Unspecified => return Err("a filter without operator".to_owned()),
    }
    Ok(one)
}

/// What holds when one of `left` and one of `right` hold.
fn both(left: &[Alternative], right: &[Alternative]) -> Result<Vec<Alternative>, String> {
    if left.len() * right.len() > 1_000 {
        return Err("too many alternatives".to_owned());
    }
    let mut all = Vec::new();
    for a in left {
        for b in right {
            let mut one = a.clone();
            one.equal.extend(b.equal.iter().cloned());
            one.contains.extend(b.contains.iter().cloned());
            one.unequal.extend(b.unequal.iter().cloned());
            one.weight *= b.weight;
            all.push(one);
        }
    }
    Ok(all)
}
