//! What is asked of the service: by text, so that the shape of each query can be read.

use std::collections::BTreeMap;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{CompareOp, ErrorKind, Filter, MetaKey, Order, Scalar};
use proto::structured_query::composite_filter::Operator as Joined;
use proto::structured_query::filter::FilterType;

use super::parts::Op;
use super::plan::{plan, plan_count};
use super::*;
use crate::filter::boxes;
use crate::names::Names;
use crate::settings::{FieldName, FilterKeyType, FirestoreSettings};

fn now() -> Timestamp {
    Timestamp::from_micros(0).unwrap()
}

fn settings() -> FirestoreSettings {
    let mut settings = FirestoreSettings::new("p");
    settings.filter_keys = BTreeMap::from([
        (MetaKey::new("topic").unwrap(), FilterKeyType::Text),
        (MetaKey::new("tags").unwrap(), FilterKeyType::List),
    ]);
    settings
}

fn field(name: &str) -> Field {
    Field::parse(name).unwrap()
}

fn eq(name: &str, value: impl Into<Scalar>) -> Filter {
    Filter::eq(field(name), value)
}

fn is(name: &str, op: CompareOp, value: impl Into<Scalar>) -> Filter {
    Filter::Compare(field(name), op, value.into())
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

fn planned(settings: &FirestoreSettings, filter: &Filter, order: Order) -> Result<Plan> {
    let names = Names::new("p", "(default)", "");
    plan(settings, &names, &boxes(settings, filter, now())?, order, now())
}

fn shown(value: &Value) -> String {
    match value.value_type.as_ref().unwrap() {
        ValueType::StringValue(text) => text.clone(),
        ValueType::BytesValue(bytes) => format!("{bytes:x?}"),
        ValueType::TimestampValue(time) => format!("{}s", time.seconds),
        other => format!("{other:?}"),
    }
}

fn condition(filter: &proto::structured_query::Filter) -> String {
    match filter.filter_type.as_ref().unwrap() {
        FilterType::CompositeFilter(composite) => {
            let parts: Vec<_> = composite.filters.iter().map(condition).collect();
            let word = if composite.op() == Joined::Or { " or " } else { " and " };
            format!("({})", parts.join(word))
        }
        FilterType::FieldFilter(filter) => {
            let op = match filter.op() {
                Op::Equal => "=",
                Op::LessThan => "<",
                Op::LessThanOrEqual => "<=",
                Op::GreaterThan => ">",
                Op::GreaterThanOrEqual => ">=",
                Op::ArrayContains => "has",
                other => panic!("{other:?} is never sent"),
            };
            let path = &filter.field.as_ref().unwrap().field_path;
            format!("{path} {op} {}", shown(filter.value.as_ref().unwrap()))
        }
        FilterType::UnaryFilter(_) => panic!("no unary filter is ever sent"),
    }
}

/// Each query's condition.
fn conditions(plan: &Plan) -> Vec<String> {
    plan.queries.iter().map(|query| condition(query.r#where.as_ref().unwrap())).collect()
}

fn orders(query: &proto::StructuredQuery) -> String {
    let one = |order: &proto::structured_query::Order| {
        let down = order.direction() == proto::structured_query::Direction::Descending;
        let path = &order.field.as_ref().unwrap().field_path;
        if down { format!("-{path}") } else { path.clone() }
    };
    query.order_by.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Condition and order of the only query.
fn asked(filter: &Filter, order: Order) -> (String, String) {
    let plan = planned(&settings(), filter, order).unwrap();
    let [query] = plan.queries.as_slice() else { panic!("{} queries", plan.queries.len()) };
    (condition(query.r#where.as_ref().unwrap()), orders(query))
}

#[test]
fn plain_filters_are_equalities_in_the_order_of_the_sort_key() {
    let plain = "-by_occurred -visible_until";
    let cases = [
        (Filter::All, "visible_until > 0s"),
        (eq("user_id", "ada"), "(visible_until > 0s and user_id = ada)"),
        (
            eq("user_id", "ada").and(eq("kind", "fact")),
            "(visible_until > 0s and user_id = ada and kind = fact)",
        ),
        (
            Filter::In(field("session_id"), vec!["a".into(), "b".into()]),
            "(visible_until > 0s and (session_id = a or session_id = b))",
        ),
        (not(Filter::Exists(field("agent_id"))), "(visible_until > 0s and agent_id = )"),
        (
            Filter::Or(vec![eq("user_id", "a"), eq("agent_id", "b").and(eq("kind", "fact"))]),
            "(visible_until > 0s and (user_id = a or (agent_id = b and kind = fact)))",
        ),
        (eq("metadata.topic", "x"), "(visible_until > 0s and keys.topic = [78])"),
        (
            Filter::Contains(field("metadata.tags"), "x".into()).and(eq("user_id", "a")),
            "(visible_until > 0s and lists.tags has x and user_id = a)",
        ),
        (
            is("occurred_at", CompareOp::Gte, now()),
            "(visible_until > 0s and by_occurred >= 00dcbffeff2bc000)",
        ),
        (
            is("occurred_at", CompareOp::Lte, now()),
            "(visible_until > 0s and by_occurred < 00dcbffeff2bc001)",
        ),
        (
            eq("occurred_at", now()),
            "(visible_until > 0s and by_occurred >= 00dcbffeff2bc000 and \
             by_occurred < 00dcbffeff2bc001)",
        ),
        (
            Filter::Exists(field("expires_at")),
            "(visible_until > 0s and visible_until < 253402214400s)",
        ),
        (
            not(Filter::Exists(field("expires_at"))),
            "(visible_until > 0s and visible_until >= 253402214400s)",
        ),
    ];
    for (filter, wanted) in cases {
        let (condition, orders) = asked(&filter, Order::NEWEST);
        assert_eq!((condition.as_str(), orders.as_str()), (wanted, plain), "{filter:?}");
    }
    let (condition, orders) = asked(&eq("id", "a/b"), Order::BY_ID);
    assert_eq!(condition, "(visible_until > 0s and by_id >= a.1b and by_id <= a.1b)");
    assert_eq!(orders, "by_id visible_until");
}

#[test]
fn other_filters_are_ranges_in_the_order_of_every_field() {
    let fixed = "agent_id author by_id content_hash created_at importance keys.tags keys.topic kind \
                 role session_id updated_at user_id";
    let (condition, orders) =
        asked(&eq("user_id", "a").and(is("importance", CompareOp::Gte, 0.5)), Order::OLDEST);
    assert_eq!(
        condition,
        "(visible_until > 0s and user_id >= a and user_id <= a and importance >= \
         DoubleValue(0.5))"
    );
    assert_eq!(orders, format!("by_occurred {fixed} visible_until"));
    let (condition, _) = asked(&is("author", CompareOp::Ne, "x"), Order::OLDEST);
    assert_eq!(condition, "(visible_until > 0s and ((author >  and author < x) or author > x))");
    let key = is("metadata.topic", CompareOp::Gt, "m");
    let (condition, orders) = asked(&key, Order::BY_ID);
    assert_eq!(condition, "(visible_until > 0s and keys.topic > [6d] and keys.topic < [f8])");
    assert_eq!(
        orders,
        "by_id agent_id author content_hash created_at importance keys.tags keys.topic kind \
         occurred_at role session_id updated_at user_id visible_until"
    );
    let tagged = Filter::Contains(field("metadata.tags"), "x".into()).and(is(
        "importance",
        CompareOp::Lt,
        1,
    ));
    let (condition, orders) = asked(&tagged, Order::NEWEST);
    assert_eq!(
        condition,
        "(visible_until > 0s and lists.tags has x and importance > DoubleValue(-1.0) and \
         importance < DoubleValue(1.0))"
    );
    assert!(orders.contains("-keys.tags -keys.topic -kind"), "{orders}");
    assert!(planned(&settings(), &tagged, Order::NEWEST).unwrap().entries);
    assert!(!planned(&settings(), &eq("user_id", "a"), Order::NEWEST).unwrap().entries);
}

#[test]
fn what_has_no_index_names_the_setting() {
    let mut settings = settings();
    settings.ranges = false;
    let created = Order { field: OrderField::CreatedAt, direction: Direction::Ascending };
    let cases = [
        (Filter::All, created, ["created_at", "orders"]),
        (eq("role", "user"), Order::NEWEST, ["role", "equals"]),
        (is("importance", CompareOp::Gt, 0.5), Order::NEWEST, ["importance", "ranges"]),
        (Filter::Exists(field("metadata.topic")), Order::NEWEST, ["metadata.topic", "ranges"]),
        (is("occurred_at", CompareOp::Gt, now()), Order::BY_ID, ["occurred_at", "ranges"]),
    ];
    for (filter, order, parts) in cases {
        let error = planned(&settings, &filter, order).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{filter:?}");
        assert!(parts.iter().all(|part| error.message().contains(part)), "{error}");
    }
    settings.equals.insert(FieldName(Field::Role));
    settings.orders.insert(OrderField::CreatedAt);
    assert!(planned(&settings, &eq("role", "user"), created).is_ok());
    settings.ranges = true;
    assert!(planned(&settings, &is("importance", CompareOp::Gt, 0.5), Order::NEWEST).is_ok());
    settings.orders.clear();
    let names = Names::new("p", "(default)", "");
    let error = plan_count(&settings, &names, &[filter::Conditions::default()], now()).unwrap_err();
    assert!(error.message().contains("orders"), "{error}");
}

#[test]
fn ranges_of_too_many_fields_are_refused() {
    let fields = [
        "id",
        "user_id",
        "agent_id",
        "session_id",
        "kind",
        "role",
        "author",
        "content_hash",
        "metadata.topic",
        "metadata.tags",
    ];
    let all = |count: usize| {
        Filter::And(fields[..count].iter().map(|name| is(name, CompareOp::Gt, "m")).collect())
    };
    assert!(planned(&settings(), &all(9), Order::NEWEST).is_ok(), "nine, and the expiry");
    let error = planned(&settings(), &all(10), Order::NEWEST).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("11 fields"), "{error}");
}

fn texts(count: usize) -> Vec<Scalar> {
    (0..count).map(|n| Scalar::Text(format!("{n:02}"))).collect()
}

#[test]
fn what_is_too_much_for_one_query_is_asked_in_parts() {
    let thirty = Filter::In(field("user_id"), texts(30));
    assert_eq!(planned(&settings(), &thirty, Order::NEWEST).unwrap().queries.len(), 1);
    let plan = planned(&settings(), &not(thirty.clone()), Order::NEWEST).unwrap();
    let conditions = conditions(&plan);
    assert!(conditions.len() > 1, "31 intervals");
    let alternatives: usize = conditions.iter().map(|text| text.matches(" or ").count() + 1).sum();
    assert_eq!(alternatives, 31);
    for text in &conditions {
        let comparisons = text.matches("user_id ").count();
        let alternatives = text.matches(" or ").count() + 1;
        let orders = plan.queries[0].order_by.len();
        assert!(alternatives <= 30, "{alternatives}");
        assert!(comparisons + alternatives + orders < 100, "{comparisons}");
    }
    let both = thirty.clone().and(Filter::In(field("session_id"), texts(2)));
    assert_eq!(planned(&settings(), &both, Order::NEWEST).unwrap().queries.len(), 2);
    let many = thirty.clone().and(Filter::In(field("session_id"), texts(11)));
    let error = planned(&settings(), &many, Order::NEWEST).unwrap_err();
    assert!(error.message().contains("300"), "{error}");
    let overlapping = Filter::Or(vec![thirty, Filter::In(field("session_id"), texts(2))]);
    let error = planned(&settings(), &overlapping, Order::NEWEST).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("overlap"), "{error}");
}

#[test]
fn counts_choose_the_order_that_serves_them() {
    let names = Names::new("p", "(default)", "");
    let count = |filter: &Filter| {
        let boxes = boxes(&settings(), filter, now()).unwrap();
        let plan = plan_count(&settings(), &names, &boxes, now()).unwrap();
        orders(&plan.queries[0])
    };
    assert_eq!(count(&Filter::All), "by_occurred visible_until");
    assert_eq!(count(&eq("id", "a")), "by_id visible_until");
    assert_eq!(count(&is("occurred_at", CompareOp::Gt, now())), "by_occurred visible_until");
    let both = eq("id", "a").and(is("importance", CompareOp::Gt, 0.5));
    assert!(count(&both).starts_with("by_id agent_id"), "the walk is one of one id");
    let none = boxes(&settings(), &Filter::Or(Vec::new()), now()).unwrap();
    assert!(plan_count(&settings(), &names, &none, now()).unwrap().queries.is_empty());
}

#[test]
fn neighbours_are_prefiltered_by_the_widest_scope() {
    let of = |filter: &Filter| match prefilter(&settings(), filter).unwrap() {
        Prefilter::Nothing => None,
        Prefilter::Some { r#where, residual } => {
            Some((r#where.as_ref().map_or(String::new(), condition), residual))
        }
    };
    let some = |text: &str, residual| Some((text.to_owned(), residual));
    assert_eq!(of(&Filter::All), some("", false));
    assert_eq!(of(&eq("user_id", "a")), some("user_id = a", false));
    let two = eq("user_id", "a").and(eq("session_id", "s"));
    assert_eq!(of(&two), some("(user_id = a and session_id = s)", false));
    assert_eq!(
        of(&two.clone().and(eq("kind", "fact"))),
        some("(user_id = a and session_id = s)", true),
        "the first of two as wide"
    );
    let either = Filter::Or(vec![eq("kind", "fact"), eq("kind", "message")]);
    assert_eq!(of(&either), some("", true));
    assert_eq!(of(&eq("user_id", "a").and(either)), some("user_id = a", true));
    let apart = Filter::Or(vec![two, eq("user_id", "a").and(eq("agent_id", "b"))]);
    assert_eq!(of(&apart), some("user_id = a", true), "what all alternatives share");
    assert_eq!(of(&Filter::Exists(field("expires_at"))), some("", true));
    let tagged = Filter::Contains(field("metadata.tags"), "x".into());
    assert_eq!(of(&tagged), some("", true));
    assert_eq!(of(&Filter::Or(Vec::new())), None);
    let error = prefilter(&settings(), &eq("metadata.other", 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("filter_keys"), "{error}");
}

#[test]
fn a_read_brings_what_its_filter_needs() {
    let narrow = Projection::narrow();
    let mask = mask_with(&narrow, &[], &eq("metadata.topic", "x").and(eq("kind", "fact")));
    assert!(mask.contains(&"metadata.topic".to_owned()) && !mask.contains(&"metadata".to_owned()));
    let full = mask_with(&Projection::full(), &[], &eq("metadata.topic", "x"));
    assert!(full.contains(&"metadata".to_owned()) && !full.contains(&"metadata.topic".to_owned()));
}
