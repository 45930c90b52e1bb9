//! Boxes agree with the definition of filters, and say what they cannot.

use memory_core::{
    AgentId, ErrorKind, Kind, KindName, MemoryId, MemoryItem, MetaValue, Role, Scalar, SessionId,
    UserId,
};
use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_micros(1_000).unwrap()
}

fn key(name: &str) -> MetaKey {
    MetaKey::new(name).unwrap()
}

fn meta(name: &str) -> Field {
    Field::Metadata(key(name))
}

fn settings() -> FirestoreSettings {
    let mut settings = FirestoreSettings::new("p");
    for (name, of) in [
        ("number", FilterKeyType::Number),
        ("text", FilterKeyType::Text),
        ("list", FilterKeyType::List),
    ] {
        settings.filter_keys.insert(key(name), of);
    }
    settings
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "A", "b", "é", "e\u{301}", ".", "/", "_", "~", "a/b", "_a", "z"])
        .prop_map(str::to_owned)
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        (998_i64..1_004).prop_map(|micros| Timestamp::from_micros(micros).unwrap()),
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
    ]
}

fn value() -> impl Strategy<Value = MetaValue> {
    prop_oneof![
        prop::sample::select(vec![0, 1, -1, (1 << 53) + 1, i64::MAX, i64::MIN])
            .prop_map(MetaValue::Int),
        prop::sample::select(vec![0.0, -0.0, 1.0, 1.5, 9_007_199_254_740_992.0, f64::MAX])
            .prop_map(MetaValue::Float),
        prop::sample::select(vec!["", "a", "b", "1", "\u{10ffff}"]).prop_map(MetaValue::from),
        any::<bool>().prop_map(MetaValue::Bool),
        prop::collection::vec("[ab]", 0..3).prop_map(MetaValue::List),
    ]
}

fn scalar() -> impl Strategy<Value = Scalar> {
    value().prop_filter_map("no list", |value| match value {
        MetaValue::Bool(value) => Some(Scalar::Bool(value)),
        MetaValue::Int(value) => Some(Scalar::Int(value)),
        MetaValue::Float(value) => Some(Scalar::Float(value)),
        MetaValue::Text(value) => Some(Scalar::Text(value)),
        MetaValue::List(_) => None,
    })
}

prop_compose! {
    fn item()(
        id in name(),
        user in prop::option::of(name()),
        agent in prop::option::of(name()),
        session in prop::option::of(name()),
        kind in 0..3_u8,
        role in prop::option::of(any::<bool>()),
        author in prop::option::of(name()),
        content in name(),
        importance in prop::option::of(prop::sample::select(vec![0.0, -0.0, 0.25, 0.5, 1.0])),
        times in [time(), time(), time()],
        expires in prop::option::of(1_i64..5),
        metadata in prop::collection::btree_map(
            prop::sample::select(vec!["number", "text", "list"]),
            value(),
            0..4,
        ),
    ) -> MemoryItem {
        let mut item = MemoryItem::new(MemoryId::new(id).unwrap(), content, times[0]).unwrap();
        item.user_id = user.map(|id| UserId::new(id).unwrap());
        item.agent_id = agent.map(|id| AgentId::new(id).unwrap());
        item.session_id = session.map(|id| SessionId::new(id).unwrap());
        item.kind = match kind {
            0 => Kind::Fact,
            1 => Kind::Message,
            _ => Kind::Custom(KindName::new("a").unwrap()),
        };
        item.role = role.map(|user| if user { Role::User } else { Role::Assistant });
        item.author = author;
        item.importance = importance;
        item.created_at = times[1];
        item.updated_at = times[2];
        item.expires_at =
            expires.map(|more| Timestamp::from_micros(now().as_micros() + more).unwrap());
        item.metadata = metadata.into_iter().map(|(name, value)| (key(name), value)).collect();
        item
    }
}

fn atom() -> impl Strategy<Value = Filter> {
    let text = prop_oneof![
        4 => name(),
        1 => prop::sample::select(vec!["", "fact", "user", "\u{7f}", "~80"]).prop_map(str::to_owned),
        1 => Just("é".repeat(300)),
        1 => Just(memory_core::ContentHash::of("a").to_string()),
    ];
    let fields = prop::sample::select(vec![
        Field::Id,
        Field::UserId,
        Field::AgentId,
        Field::SessionId,
        Field::Kind,
        Field::Role,
        Field::Author,
        Field::ContentHash,
    ]);
    let times = prop::sample::select(vec![
        Field::OccurredAt,
        Field::CreatedAt,
        Field::UpdatedAt,
        Field::ExpiresAt,
    ]);
    let keys = prop::sample::select(vec![meta("number"), meta("text"), meta("list")]);
    let numbers = prop_oneof![
        prop::sample::select(vec![0.0, 0.25, 0.5, 1.0, -1.0, 2.0]).prop_map(Scalar::Float),
        prop::sample::select(vec![0, 1, -1, i64::MAX]).prop_map(Scalar::Int),
    ];
    let pairs = prop_oneof![
        (fields, text.prop_map(Scalar::Text).boxed()),
        (times, time().prop_map(Scalar::Time).boxed()),
        (Just(Field::Importance), numbers.boxed()),
        (keys, scalar().boxed()),
    ];
    let ops = prop::sample::select(vec![
        CompareOp::Eq,
        CompareOp::Ne,
        CompareOp::Lt,
        CompareOp::Lte,
        CompareOp::Gt,
        CompareOp::Gte,
    ]);
    prop_oneof![
        8 => (pairs.clone(), ops).prop_map(|((field, value), op)| Filter::Compare(field, op, value)),
        2 => pairs.clone().prop_map(|(field, _)| Filter::Exists(field)),
        2 => (pairs, prop::collection::vec(scalar(), 0..2)).prop_map(|((field, value), more)| {
            let mut values = vec![value];
            if matches!(field, Field::Metadata(_)) {
                values.extend(more);
            }
            Filter::In(field, values)
        }),
        1 => Just(Filter::All),
    ]
    .prop_filter("a filter of the rules", |filter| filter.validate().is_ok())
}

fn filter() -> impl Strategy<Value = Filter> {
    atom().prop_recursive(3, 12, 3, |inner| {
        let several = || prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            several().prop_map(Filter::And),
            several().prop_map(Filter::Or),
            inner.clone().prop_map(not),
        ]
    })
}

/// A filter with a list's member where no `not` is around it.
fn with_contains() -> impl Strategy<Value = Filter> {
    (filter(), filter(), "[ab]").prop_map(|(a, b, text)| {
        let contains = Filter::Contains(meta("list"), text);
        Filter::Or(vec![Filter::And(vec![a, contains]), b])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn boxes_agree_with_the_definition(
        filter in prop_oneof![3 => filter(), 1 => with_contains()],
        items in prop::collection::vec(item(), 1..8),
    ) {
        let boxes = boxes(&settings(), &filter, now()).unwrap();
        for item in &items {
            let admitted = boxes.iter().any(|conditions| conditions.admits(item));
            prop_assert_eq!(admitted, filter.matches(item), "{:?} of {:?}", item, boxes);
        }
    }

    #[test]
    fn boxes_neither_cover_each_other_nor_hold_what_is_empty(filter in filter()) {
        let boxes = boxes(&settings(), &filter, now()).unwrap();
        for (at, one) in boxes.iter().enumerate() {
            let says = |(field, set): (&Field, &Set)| !set.is_none() && *set != domain(field, now());
            prop_assert!(one.sets.iter().all(says));
            for other in &boxes[at + 1..] {
                prop_assert!(!one.covers(other) && !other.covers(one));
                prop_assert!(one.differs_in(other).is_none());
            }
        }
    }
}

fn of(filter: &Filter) -> Result<Vec<Conditions>> {
    boxes(&settings(), filter, now())
}

#[test]
fn what_says_nothing_is_one_box_and_what_contradicts_itself_none() {
    let ada = Filter::eq(Field::UserId, "ada");
    for all in [
        Filter::All,
        Filter::And(Vec::new()),
        Filter::Or(vec![ada.clone(), not(ada.clone())]),
        Filter::Or(vec![ada.clone(), Filter::All]),
        Filter::Exists(Field::Id),
        Filter::Compare(Field::OccurredAt, CompareOp::Lte, Timestamp::MAX.into()),
    ] {
        assert_eq!(of(&all).unwrap(), [Conditions::default()], "{all:?}");
    }
    for none in [
        Filter::Or(Vec::new()),
        not(Filter::All),
        ada.clone().and(not(ada)),
        Filter::eq(Field::UserId, ""),
        Filter::eq(Field::UserId, "ada").and(Filter::eq(Field::UserId, "bob")),
        Filter::Compare(Field::ExpiresAt, CompareOp::Lte, now().into()),
        Filter::eq(Field::Importance, -1),
    ] {
        assert_eq!(of(&none).unwrap(), [], "{none:?}");
    }
}

#[test]
fn alternatives_of_one_field_are_one_box() {
    let eq = |user| Filter::eq(Field::UserId, user);
    let either = Filter::Or(vec![eq("a"), eq("b"), Filter::And(vec![eq("c"), eq("c")])]);
    let boxes = of(&either).unwrap();
    assert_eq!(boxes.len(), 1);
    assert!(boxes[0].sets[&Field::UserId].is_points());
    assert_eq!(boxes[0].sets[&Field::UserId].intervals().len(), 3);
    // Two negations of a field that may be missing leave single values.
    let twice = not(Filter::Compare(Field::UserId, CompareOp::Ne, "a".into()));
    assert!(of(&twice).unwrap()[0].sets[&Field::UserId].is_points());
    let within = Filter::Or(vec![eq("a"), eq("a").and(Filter::eq(Field::AgentId, "x"))]);
    assert_eq!(of(&within).unwrap(), of(&eq("a")).unwrap());
}

#[test]
fn what_cannot_be_asked_is_named() {
    let has = |key: &str, text: &str| Filter::Contains(meta(key), text.to_owned());
    let cases = [
        (Filter::Exists(meta("other")), ["\"other\"", "filter_keys"]),
        (Filter::Or(Vec::new()).and(Filter::eq(meta("other"), 1)), ["\"other\"", "filter_keys"]),
        (has("other", "a"), ["\"other\"", "filter_keys"]),
        (has("text", "a"), ["\"text\"", "list"]),
        (not(has("list", "a")), ["metadata.list", "not"]),
        (has("list", "a").and(has("list", "b")), ["one `contains`", "alternative"]),
    ];
    for (filter, parts) in cases {
        let error = of(&filter).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{filter:?}");
        assert!(parts.iter().all(|part| error.message().contains(part)), "{error}");
    }
    let good = [
        has("list", "a").and(has("list", "a")),
        Filter::Or(vec![has("list", "a"), has("list", "b")]),
    ];
    for filter in good {
        assert!(of(&filter).is_ok(), "{filter:?}");
    }
}

#[test]
fn filters_of_too_many_alternatives_end_soon() {
    let fields = [Field::UserId, Field::AgentId, Field::SessionId, Field::Author, Field::Role];
    let one = |n: usize| {
        let eq = |field: &Field| Filter::eq(field.clone(), format!("{n}").as_str());
        Filter::Or(fields.iter().map(eq).collect())
    };
    let error = of(&Filter::And((0..16).map(one).collect())).map(|boxes| boxes.len());
    // Sixteen conditions on five fields with one value each: none is left, or it is refused.
    assert!(matches!(error, Ok(0)) || error.is_err_and(|e| e.kind() == ErrorKind::Unsupported));
    // Five times three fields and twice two: nothing of it can be joined.
    let there = |fields: &[Field]| Filter::Or(fields.iter().cloned().map(above).collect());
    let fields = [
        vec![Field::UserId, Field::AgentId, Field::SessionId],
        vec![Field::Kind, Field::Role, Field::Author],
        vec![Field::Id, Field::ContentHash, Field::Importance],
        vec![Field::OccurredAt, Field::CreatedAt, Field::UpdatedAt],
        vec![meta("number"), meta("text"), meta("list")],
    ];
    let most = Filter::And(fields.iter().map(|fields| there(fields)).collect());
    assert_eq!(of(&most).unwrap().len(), 243);
    let below = Filter::Compare(Field::UserId, CompareOp::Lt, "z".into());
    let more = most.and(Filter::Or(vec![Filter::Exists(Field::ExpiresAt), below]));
    let error = of(&more).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("alternatives"), "{error}");
}

/// That a field lies above the middle.
fn above(field: Field) -> Filter {
    let middle: Scalar = match &field {
        field if field.is_time() => now().into(),
        Field::Importance => Scalar::Float(0.5),
        _ => "m".into(),
    };
    Filter::Compare(field, CompareOp::Gt, middle)
}
