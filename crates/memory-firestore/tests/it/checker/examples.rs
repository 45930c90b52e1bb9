//! The checker's own test: the documentation's examples, served and not served.

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use prost::Message as _;
use proto::structured_query as parts;
use proto::value::ValueType;
use serde_json::json;

use super::definitions::{Definitions, Mode, Path, Scope};
use super::{Asked, check, serve};

fn reference(path: &str) -> Option<parts::FieldReference> {
    Some(parts::FieldReference { field_path: path.to_owned() })
}

fn number(number: i64) -> proto::Value {
    proto::Value { value_type: Some(ValueType::IntegerValue(number)) }
}

fn numbers(count: usize) -> proto::Value {
    let values = vec![number(1); count];
    proto::Value { value_type: Some(ValueType::ArrayValue(proto::ArrayValue { values })) }
}

fn leaf(path: &str, op: &str, value: proto::Value) -> parts::Filter {
    use parts::field_filter::Operator;
    let op = match op {
        "==" => Operator::Equal,
        "!=" => Operator::NotEqual,
        "<" => Operator::LessThan,
        ">" => Operator::GreaterThan,
        "in" => Operator::In,
        "not in" => Operator::NotIn,
        "contains" => Operator::ArrayContains,
        other => panic!("no operator is {other}"),
    };
    let leaf = parts::FieldFilter { field: reference(path), op: op.into(), value: Some(value) };
    parts::Filter { filter_type: Some(parts::filter::FilterType::FieldFilter(leaf)) }
}

fn is(path: &str) -> parts::Filter {
    leaf(path, "==", number(1))
}

fn several(op: parts::composite_filter::Operator, filters: Vec<parts::Filter>) -> parts::Filter {
    let several = parts::CompositeFilter { op: op.into(), filters };
    parts::Filter { filter_type: Some(parts::filter::FilterType::CompositeFilter(several)) }
}

fn and(filters: impl Into<Vec<parts::Filter>>) -> parts::Filter {
    several(parts::composite_filter::Operator::And, filters.into())
}

fn or(filters: impl Into<Vec<parts::Filter>>) -> parts::Filter {
    several(parts::composite_filter::Operator::Or, filters.into())
}

/// Orders as `a` and `-b`.
fn query(filter: impl Into<Option<parts::Filter>>, orders: &[&str]) -> proto::StructuredQuery {
    let order_by = orders.iter().map(|text| {
        let (path, direction) = match text.strip_prefix('-') {
            Some(path) => (path, parts::Direction::Descending),
            None => (*text, parts::Direction::Ascending),
        };
        parts::Order { field: reference(path), direction: direction.into() }
    });
    proto::StructuredQuery {
        from: vec![parts::CollectionSelector {
            collection_id: "cities".to_owned(),
            all_descendants: false,
        }],
        r#where: filter.into(),
        order_by: order_by.collect(),
        ..Default::default()
    }
}

/// Definitions of composites, each a line of fields as `a`, `-b`, `c[]` and `d<3>`.
fn defined(indexes: &[&str]) -> Definitions {
    let fields = |line: &&str| {
        let fields = line.split(' ').map(|field| {
            if let Some(path) = field.strip_prefix('-') {
                json!({"fieldPath": path, "order": "DESCENDING"})
            } else if let Some(path) = field.strip_suffix("[]") {
                json!({"fieldPath": path, "arrayConfig": "CONTAINS"})
            } else if let Some((path, size)) = field.split_once('<') {
                let size: u64 = size.trim_end_matches('>').parse().expect("a size");
                json!({"fieldPath": path, "vectorConfig": {"dimension": size, "flat": {}}})
            } else {
                json!({"fieldPath": field, "order": "ASCENDING"})
            }
        });
        let fields: Vec<_> = fields.collect();
        json!({"collectionGroup": "cities", "queryScope": "COLLECTION", "fields": fields})
    };
    let indexes: Vec<_> = indexes.iter().map(fields).collect();
    parsed(&json!({"indexes": indexes, "fieldOverrides": []})).expect("valid definitions")
}

fn parsed(json: &serde_json::Value) -> Result<Definitions, String> {
    Definitions::parse(json)
}

#[track_caller]
fn served(indexes: &[&str], query: &proto::StructuredQuery) {
    let asked = Asked::read(query).expect("the query is valid");
    serve(&defined(indexes), &asked).expect("the query is served");
}

#[track_caller]
fn refused(indexes: &[&str], query: &proto::StructuredQuery) {
    let answer = Asked::read(query).and_then(|asked| serve(&defined(indexes), &asked));
    assert!(answer.is_err(), "served: {query:?}");
}

#[test]
fn automatic_indexes_serve_one_field_and_equalities() {
    served(&[], &query(None, &[]));
    served(&[], &query(is("state"), &[]));
    served(&[], &query(leaf("state", "in", numbers(3)), &[]));
    served(&[], &query(leaf("population", "<", number(1)), &[]));
    served(&[], &query(leaf("population", "!=", number(1)), &["-population"]));
    served(&[], &query(leaf("regions", "contains", number(1)), &[]));
    served(&[], &query(None, &["name"]));
    served(&[], &query(None, &["-name"]));
    served(&[], &query(and([is("state"), is("name")]), &[]));
    served(&[], &query(and([is("state"), leaf("regions", "contains", number(1))]), &[]));
    served(&[], &query(is("state"), &["state"]));
    refused(&[], &query(is("state"), &["name"]));
    refused(&[], &query(and([is("state"), leaf("population", ">", number(1))]), &[]));
    refused(&[], &query(None, &["name", "population"]));
    refused(&[], &query(leaf("population", ">", number(1)), &["name"]));
    // The names of documents run upwards without an index, and downwards with one.
    served(&[], &query(None, &["__name__"]));
    refused(&[], &query(None, &["-__name__"]));
    served(&[], &query(is("state"), &["-__name__"]));
}

#[test]
fn composites_serve_equalities_and_then_the_exact_order() {
    let filter = || and([is("state"), leaf("population", ">", number(1))]);
    served(&["state population"], &query(filter(), &[]));
    served(&["-state population"], &query(filter(), &["population"]));
    refused(&["state population"], &query(filter(), &["-population"]));
    served(&["state -population"], &query(filter(), &["-population"]));
    refused(&["population state"], &query(filter(), &[]));
    refused(&["state population name"], &query(filter(), &[]));
    refused(&["state country population"], &query(filter(), &[]));
    let two = || and([is("state"), is("country")]);
    served(&["state country population"], &query(two(), &["population"]));
    served(&["country state population"], &query(two(), &["population"]));
    refused(&["country population"], &query(two(), &["population"]));
    served(&["name -population"], &query(None, &["name", "-population"]));
    refused(&["name population"], &query(None, &["name", "-population"]));
    let list = || leaf("regions", "contains", number(1));
    served(&["regions[] population"], &query(list(), &["population"]));
    refused(&["regions population"], &query(list(), &["population"]));
    refused(&["regions[] population"], &query(is("regions"), &["population"]));
    let pair = || and([leaf("a", ">", number(1)), leaf("b", ">", number(1))]);
    served(&["a b"], &query(pair(), &[]));
    served(&["b -a"], &query(pair(), &["b", "-a"]));
    refused(&["b a"], &query(pair(), &[]));
    served(&["c a b"], &query(pair(), &["c"]));
}

#[test]
fn indexes_of_one_order_serve_together() {
    let ranked = |filters: &[&str], order| {
        query(and(filters.iter().map(|path| is(path)).collect::<Vec<_>>()), &[order])
    };
    let three = ["category star", "city star", "pick star"];
    served(&three, &ranked(&["category"], "star"));
    served(&three, &ranked(&["category", "city"], "star"));
    served(&three, &ranked(&["category", "city", "pick"], "star"));
    refused(&three, &ranked(&["category", "city"], "-star"));
    refused(&["category star", "city -star"], &ranked(&["category", "city"], "star"));
    refused(&["category star"], &ranked(&["category", "city"], "star"));
    refused(&three, &ranked(&["category", "district"], "star"));
    served(&["a b star", "b c star"], &ranked(&["a", "b", "c"], "star"));
    let listed = and([leaf("tags", "contains", number(1)), is("city")]);
    served(&["tags[] star", "city star"], &query(listed, &["star"]));
}

#[test]
fn every_alternative_is_served_by_itself_in_the_order_of_all() {
    served(&[], &query(or([is("a"), is("b")]), &[]));
    let mixed = || or([is("a"), leaf("b", ">", number(1))]);
    refused(&[], &query(mixed(), &[]));
    served(&["a b"], &query(mixed(), &[]));
    let ordered = || or([is("a"), is("b")]);
    refused(&["a x"], &query(ordered(), &["x"]));
    served(&["a x", "b x"], &query(ordered(), &["x"]));
    let nested = || and([is("c"), or([is("a"), and([is("b"), is("d")])])]);
    served(&["a x", "b x", "c x", "d x"], &query(nested(), &["x"]));
    refused(&["a x", "b x", "c x"], &query(nested(), &["x"]));
    // Six times five is thirty, and six times six is not.
    let sixes = |second| and([leaf("a", "in", numbers(6)), leaf("b", "in", numbers(second))]);
    served(&[], &query(sixes(5), &[]));
    refused(&[], &query(sixes(6), &[]));
    refused(&[], &query(or(vec![is("a"); 31]), &[]));
}

#[test]
fn queries_beyond_the_limits_are_refused() {
    let ranges = |count: usize| {
        let filters = (0..count).map(|n| leaf(&format!("f{n}"), ">", number(1)));
        query(and(filters.collect::<Vec<_>>()), &[])
    };
    served(&["f0 f1 f2 f3 f4 f5 f6 f7 f8 f9"], &ranges(10));
    refused(&["f0 f1 f10 f2 f3 f4 f5 f6 f7 f8 f9"], &ranges(11));
    served(&[], &query(and(vec![is("a"); 100]), &[]));
    refused(&[], &query(and(vec![is("a"); 101]), &[]));
    refused(&[], &query(leaf("a", "not in", numbers(11)), &[]));
    let two_lists = ["a", "b"].map(|path| leaf(path, "contains", number(1)));
    refused(&[], &query(and(two_lists), &[]));
    let mut skipping = query(None, &[]);
    skipping.offset = 1;
    refused(&[], &skipping);
    let mut cursor = query(None, &["name"]);
    cursor.start_at = Some(proto::Cursor { values: vec![number(1)], before: false });
    served(&[], &cursor);
    cursor.start_at = Some(proto::Cursor { values: vec![number(1); 2], before: false });
    refused(&[], &cursor);
    let mut group = query(is("a"), &[]);
    group.from[0].all_descendants = true;
    refused(&[], &group);
}

#[test]
fn neighbours_need_the_index_of_exactly_their_filter() {
    let near = |filter: Option<parts::Filter>, size: usize, limit: i32| {
        let vector = [("value".to_owned(), numbers(size))].into();
        let vector = ValueType::MapValue(proto::MapValue { fields: vector });
        let mut query = query(filter, &[]);
        query.find_nearest = Some(parts::FindNearest {
            vector_field: reference("embedding"),
            query_vector: Some(proto::Value { value_type: Some(vector) }),
            distance_measure: parts::find_nearest::DistanceMeasure::Cosine.into(),
            limit: Some(limit),
            ..Default::default()
        });
        query
    };
    served(&["embedding<3>"], &near(None, 3, 10));
    refused(&["embedding<4>"], &near(None, 3, 10));
    refused(&["embedding<3>"], &near(Some(is("color")), 3, 10));
    served(&["color embedding<3>"], &near(Some(is("color")), 3, 10));
    refused(&["color embedding<3>"], &near(None, 3, 10));
    refused(&["color size embedding<3>"], &near(Some(is("color")), 3, 10));
    let both = || Some(and([is("size"), is("color")]));
    served(&["color size embedding<3>"], &near(both(), 3, 10));
    refused(&["color embedding<3>", "size embedding<3>"], &near(both(), 3, 10));
    let range = leaf("color", ">", number(1));
    refused(&["color embedding<3>"], &near(Some(range), 3, 10));
    served(&["embedding<3>"], &near(None, 3, 1_000));
    refused(&["embedding<3>"], &near(None, 3, 1_001));
    let mut ordered = near(None, 3, 10);
    ordered.order_by = query(None, &["a"]).order_by;
    refused(&["embedding<3>"], &ordered);
}

#[test]
fn overrides_stand_in_place_of_the_automatic_indexes() {
    let of = |path: &str, indexes: serde_json::Value| json!({"collectionGroup": "cities", "fieldPath": path, "indexes": indexes});
    let ascending = json!([{"order": "ASCENDING", "queryScope": "COLLECTION"}]);
    let overrides = [of("text", json!([])), of("at", ascending), of("map", json!([]))];
    let definitions = parsed(&json!({"indexes": [], "fieldOverrides": overrides})).expect("valid");
    let answer =
        |query: &proto::StructuredQuery| serve(&definitions, &Asked::read(query).expect("valid"));
    assert!(answer(&query(is("text"), &[])).is_err());
    assert!(answer(&query(is("map.key"), &[])).is_err());
    assert!(answer(&query(is("mapped"), &[])).is_ok());
    assert!(answer(&query(None, &["at"])).is_ok());
    assert!(answer(&query(None, &["-at"])).is_err());
    assert_eq!(definitions.exempt("cities"), ["map", "text"].map(str::to_owned).into());
    assert_eq!(definitions.exempt("towns"), [].into());
    assert_eq!(
        definitions.of_field("towns", &Path::parse("text").expect("a path")).first(),
        Some(&(Scope::Collection, Mode::Ascending))
    );
}

#[test]
fn definitions_that_the_service_refuses_are_refused() {
    let index = |fields: serde_json::Value| json!({"collectionGroup": "c", "queryScope": "COLLECTION", "fields": fields});
    let (a, b) = (
        json!({"fieldPath": "a", "order": "ASCENDING"}),
        json!({"fieldPath": "b", "order": "DESCENDING"}),
    );
    let vector = json!({"fieldPath": "v", "vectorConfig": {"dimension": 3, "flat": {}}});
    let of = |indexes: Vec<serde_json::Value>| json!({"indexes": indexes, "fieldOverrides": []});
    assert!(parsed(&of(vec![index(json!([a, b])), index(json!([b, a]))])).is_ok());
    assert!(parsed(&of(vec![index(json!([vector]))])).is_ok());
    for bad in [
        of(vec![index(json!([a]))]),
        of(vec![index(json!([]))]),
        of(vec![index(json!([a, a]))]),
        of(vec![index(json!([a, b])), index(json!([a, b]))]),
        of(vec![index(json!([vector, a]))]),
        of(vec![index(json!([a, {"fieldPath": "b"}]))]),
        of(vec![index(json!([a, {"fieldPath": "b c", "order": "ASCENDING"}]))]),
        of(vec![index(json!([a, {"fieldPath": "b", "order": "UP"}]))]),
        of(vec![json!({"collectionGroup": "c", "fields": [a, b]})]),
        json!({"indexes": []}),
        json!({"indexes": [], "fieldOverrides": [], "more": 1}),
    ] {
        assert!(parsed(&bad).is_err(), "{bad}");
    }
    let expiring =
        |path: &str| json!({"collectionGroup": "c", "fieldPath": path, "ttl": true, "indexes": []});
    let one = parsed(&json!({"indexes": [], "fieldOverrides": [expiring("at")]})).expect("valid");
    assert_eq!(one.expiring("c").as_deref(), Some("at"));
    assert_eq!((one.expiring("d"), one.exempt("c")), (None, [].into()));
    let two = json!({"indexes": [], "fieldOverrides": [expiring("at"), expiring("on")]});
    assert!(parsed(&two).is_err());
}

#[test]
fn paths_are_read_with_their_quotes() {
    let parts = |text: &str| Path::parse(text).map(|path| path.0);
    assert_eq!(parts("keys.topic_1"), Ok(vec!["keys".to_owned(), "topic_1".to_owned()]));
    assert_eq!(parts("keys.`a.b`"), Ok(vec!["keys".to_owned(), "a.b".to_owned()]));
    assert_eq!(parts("keys.`a\\`\\\\`"), Ok(vec!["keys".to_owned(), "a`\\".to_owned()]));
    for bad in ["", "a.", ".a", "a b", "`a", "a`b`", "a..b", "`a\\"] {
        assert!(parts(bad).is_err(), "{bad}");
    }
}

#[test]
fn requests_are_read_from_their_bytes() {
    use proto::run_query_request::QueryType;
    let request = proto::RunQueryRequest {
        parent: "projects/p/databases/d/documents".to_owned(),
        query_type: Some(QueryType::StructuredQuery(query(is("a"), &["b"]))),
        ..Default::default()
    };
    let bytes = request.encode_to_vec();
    assert!(check(&defined(&["a b"]), "RunQuery", &bytes).is_ok());
    assert!(check(&defined(&["b a"]), "RunQuery", &bytes).is_err());
    assert!(check(&defined(&["a b"]), "RunQuery", &bytes[..bytes.len() - 1]).is_err());
    assert!(check(&defined(&["a b"]), "ListDocuments", &bytes).is_err());
    assert!(check(&defined(&["a b"]), "RunQuery", b"").is_err());
}
