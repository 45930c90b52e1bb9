//! Filters: the store agrees with `Filter::matches`, for queries and counts alike.

use std::time::Duration;

use memory_core::limits::{FILTER_DEPTH, FILTER_IN};
use memory_core::{
    AgentId, CompareOp, ContainsFilters, ErrorKind, Field, Filter, FilterKeys, Kind, KindName,
    MemoryItem, MetaKey, MetaValue, Query, Role, Scalar, SessionId, Timestamp, UserId,
};

use crate::conformance::bench::{Bench, item};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

/// The metadata keys that checks filter on, each with values of one type: a store that takes
/// declared keys only must declare these.
pub const FILTER_KEYS: [(&str, &str); 4] =
    [("number", "number"), ("text", "text"), ("flag", "bool"), ("list", "list")];

const OPS: [CompareOp; 6] =
    [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Lte, CompareOp::Gt, CompareOp::Gte];

fn numbers() -> Vec<MetaValue> {
    let mut values: Vec<_> = [
        0,
        1,
        -1,
        9,
        10,
        (1 << 53) - 1,
        1 << 53,
        (1 << 53) + 1,
        i64::MAX - 1,
        i64::MAX,
        i64::MIN,
        i64::MIN + 1,
    ]
    .map(MetaValue::Int)
    .to_vec();
    let floats = [
        0.0,
        -0.0,
        0.1,
        0.1 + 0.2,
        1.0,
        9.5,
        10.0,
        -1.5,
        9_007_199_254_740_992.0,
        9_223_372_036_854_775_808.0,
        -9_223_372_036_854_775_808.0,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
    ];
    values.extend(floats.map(MetaValue::Float));
    values
}

fn texts() -> Vec<MetaValue> {
    let texts = [
        "", "a", "A", "ab", "b", "10", "9", "true", "0", "z", "é", "e\u{301}", "%", "a%", "_",
        "a_", "a*", "'", "\"", "null", " a", "\u{fffd}", "😀", "long",
    ];
    let mut values: Vec<_> = texts.map(MetaValue::from).to_vec();
    values.push(MetaValue::Text("x".repeat(1_500)));
    values
}

fn lists() -> Vec<MetaValue> {
    [&[][..], &["a"], &["a", "b"], &["ab"], &["a,b"], &["[\"a\"]"], &["%"], &["", "A"], &["10"]]
        .map(|texts| MetaValue::List(texts.iter().map(|text| (*text).to_owned()).collect()))
        .to_vec()
}

fn scalar(value: &MetaValue) -> Option<Scalar> {
    match value {
        MetaValue::Bool(value) => Some(Scalar::Bool(*value)),
        MetaValue::Int(value) => Some(Scalar::Int(*value)),
        MetaValue::Float(value) => Some(Scalar::Float(*value)),
        MetaValue::Text(value) => Some(Scalar::Text(value.clone())),
        MetaValue::List(_) => None,
    }
}

fn meta(key: &str) -> memory_core::Result<Field> {
    Ok(Field::Metadata(MetaKey::new(key)?))
}

/// Puts one item for each value of a key, and one without the key.
async fn put_values(b: &Bench, key: &str, values: &[MetaValue]) -> CheckResult<Vec<MemoryItem>> {
    let mut items = vec![item("without", "x", b.now())?];
    for (n, value) in values.iter().enumerate() {
        let mut one = item(&format!("{n:03}"), "x", b.now())?;
        one.metadata.insert(MetaKey::new(key)?, value.clone());
        items.push(one);
    }
    put_items(b, &items).await?;
    Ok(items)
}

async fn put_items(b: &Bench, items: &[MemoryItem]) -> CheckResult {
    let write = |item: &MemoryItem| {
        memory_core::Write::put(
            item.clone(),
            memory_core::Vectors::default(),
            memory_core::Precondition::Absent,
        )
    };
    b.commit(&b.ctx, items.iter().map(write).collect()).await?;
    Ok(())
}

/// Holds query and count against the definition for each filter and its negation.
async fn agree(b: &Bench, items: &[MemoryItem], filters: &[Filter]) -> CheckResult {
    for filter in filters {
        for filter in [filter.clone(), Filter::Not(Box::new(filter.clone()))] {
            let mut expected: Vec<_> = items
                .iter()
                .filter(|item| filter.matches(item))
                .map(|item| item.id.to_string())
                .collect();
            expected.sort();
            if asks_much_of_lists(&filter)
                && b.records().capabilities().contains == ContainsFilters::OneUnnegated
            {
                let answer = b.count(&b.ctx, &filter).await;
                refused("a list without a member", answer, ErrorKind::Unsupported)?;
                continue;
            }
            let found = b.query_ids(&b.ctx, &filter).await?;
            ensure_eq!(found, expected, "a query by {filter:?}");
            let count = b.count(&b.ctx, &filter).await?;
            ensure_eq!(count, expected.len() as u64, "a count by {filter:?}");
        }
    }
    Ok(())
}

/// Whether a filter of [`agree`] asks for lists that do not hold a string.
fn asks_much_of_lists(filter: &Filter) -> bool {
    matches!(filter, Filter::Not(inner) if matches!(**inner, Filter::Contains(..)))
}

/// Every operator on a field, with each of some values that validation lets through.
fn comparisons(field: &Field, values: &[Scalar]) -> Vec<Filter> {
    let compare = |value: &Scalar| {
        let value = value.clone();
        OPS.map(|op| Filter::Compare(field.clone(), op, value.clone()))
    };
    let mut filters: Vec<_> = values.iter().flat_map(compare).collect();
    filters.push(Filter::Exists(field.clone()));
    filters.push(Filter::In(field.clone(), values.iter().take(3).cloned().collect()));
    filters.retain(|filter| filter.validate().is_ok());
    filters
}

/// Numbers compare as the exact numbers they are, at the edges of both types.
pub(crate) async fn filters_on_numbers(b: &Bench) -> CheckResult {
    let items = put_values(b, "number", &numbers()).await?;
    let values: Vec<_> = numbers().iter().filter_map(scalar).collect();
    agree(b, &items, &comparisons(&meta("number")?, &values)).await
}

/// Texts compare as bytes: no patterns, no case, no numbers, no normalisation.
pub(crate) async fn filters_on_texts(b: &Bench) -> CheckResult {
    let items = put_values(b, "text", &texts()).await?;
    let values: Vec<_> = texts().iter().filter_map(scalar).collect();
    agree(b, &items, &comparisons(&meta("text")?, &values)).await
}

/// Booleans are equal or not, and no numbers.
pub(crate) async fn filters_on_booleans(b: &Bench) -> CheckResult {
    let items = put_values(b, "flag", &[true.into(), false.into()]).await?;
    agree(b, &items, &comparisons(&meta("flag")?, &[true.into(), false.into()])).await
}

/// `contains` finds whole members of lists; no other operator finds a list by a scalar.
pub(crate) async fn filters_on_lists(b: &Bench) -> CheckResult {
    let items = put_values(b, "list", &lists()).await?;
    let field = meta("list")?;
    let members = ["a", "b", "ab", "a,b", "%", "", "A", "10", "c", "[\"a\"]"];
    let mut filters: Vec<_> = members
        .iter()
        .map(|member| Filter::Contains(field.clone(), (*member).to_owned()))
        .collect();
    filters.extend(comparisons(&field, &["a".into(), "[\"a\"]".into(), "".into()]));
    agree(b, &items, &filters).await
}

/// Where values of every type stand under one key, each operator sees only its own type. A store
/// that takes declared keys only names one that is not.
pub(crate) async fn filters_on_mixed_types(b: &Bench) -> CheckResult {
    let field = meta("mixed")?;
    if b.records().capabilities().filter_keys != FilterKeys::Any {
        let answer = b.count(&b.ctx, &Filter::Exists(field)).await;
        let error = refused("an undeclared key", answer, ErrorKind::Unsupported)?;
        ensure!(error.to_string().contains("mixed"), "the error does not name the key");
        return Ok(());
    }
    let mut values = vec![true.into(), false.into()];
    for (n, value) in numbers().into_iter().chain(texts()).enumerate() {
        if n % 3 == 0 {
            values.push(value);
        }
    }
    values.extend(lists());
    let items = put_values(b, "mixed", &values).await?;
    let scalars: Vec<_> = ["1", "true", "a", "10", "0", ""]
        .map(Scalar::from)
        .into_iter()
        .chain([0, 1, 10, i64::MAX].map(Scalar::from))
        .chain([0.0, 1.0, 0.1].map(Scalar::from))
        .chain([true.into(), false.into()])
        .collect();
    let mut filters = comparisons(&field, &scalars);
    filters.push(Filter::In(field.clone(), scalars));
    filters.push(Filter::Contains(field, "a".to_owned()));
    agree(b, &items, &filters).await
}

/// Metadata keys are names, not paths or patterns.
pub(crate) async fn filter_keys_are_names(b: &Bench) -> CheckResult {
    let field = meta("number")?;
    if b.records().capabilities().filter_keys != FilterKeys::Any {
        ensure_eq!(b.count(&b.ctx, &Filter::Exists(field)).await?, 0, "a declared key");
        return Ok(());
    }
    let keys = [
        "a", "A", "a.b", "$.a", "$", "\"", "a\"b", "'", "a[0]", "0", "é", "e\u{301}", "a b", "%",
        "_", "\\", "user_id", "metadata", "#", "*",
    ];
    let mut items = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let mut one = item(&format!("{n:03}"), "x", b.now())?;
        one.metadata.insert(MetaKey::new(key)?, MetaValue::from("here"));
        items.push(one);
    }
    put_items(b, &items).await?;
    for key in keys {
        let field = meta(key)?;
        agree(b, &items, &[Filter::Exists(field.clone()), Filter::eq(field, "here")]).await?;
    }
    Ok(())
}

fn people(b: &Bench) -> CheckResult<Vec<MemoryItem>> {
    let mut items = Vec::new();
    for (n, at) in (0..24_u64).enumerate() {
        let mut one = item(&format!("{n:03}"), &format!("text {n}"), b.now())?;
        one.user_id =
            [None, Some("ada"), Some("Ada"), Some("bob")][n % 4].map(UserId::new).transpose()?;
        if one.user_id.is_none() || n % 3 == 0 {
            one.agent_id = Some(AgentId::new(if n % 2 == 0 { "ada" } else { "butler" })?);
        }
        one.session_id = (n % 5 > 0).then(|| SessionId::new(format!("s{}", n % 5))).transpose()?;
        one.kind = match n % 4 {
            0 => Kind::Message,
            1 => Kind::AgentData,
            2 => Kind::Custom(KindName::new("dream")?),
            _ => Kind::Fact,
        };
        one.role = [None, Some(Role::User), Some(Role::Assistant)][n % 3];
        one.author = (n % 2 == 0).then(|| format!("author {}", n % 6));
        one.importance = [None, Some(0.0), Some(0.5), Some(1.0)][n / 6];
        let span = Duration::from_micros(at / 2);
        one.occurred_at = b.now().saturating_add(span);
        one.created_at = Timestamp::from_micros(at.cast_signed() - 12)?;
        one.updated_at = b.now().saturating_sub(span);
        one.expires_at = (n % 3 == 0).then(|| b.now().saturating_add(Duration::from_secs(60 + at)));
        items.push(one);
    }
    Ok(items)
}

/// Every operator on every field that is not metadata.
pub(crate) async fn filters_on_fixed_fields(b: &Bench) -> CheckResult {
    let items = people(b)?;
    put_items(b, &items).await?;
    let hash = items[5].content_hash().to_string();
    for field in Field::FIXED {
        let values: Vec<Scalar> = if field.is_time() {
            let mut times: Vec<_> = items[..8]
                .iter()
                .flat_map(|item| {
                    [item.occurred_at, item.created_at, item.updated_at]
                        .into_iter()
                        .chain(item.expires_at)
                })
                .collect();
            times.extend([Timestamp::MIN, Timestamp::MAX]);
            times.sort();
            times.dedup();
            times.into_iter().map(Scalar::Time).collect()
        } else if field == Field::Importance {
            [0.0, -0.0, 0.5, 0.25, 1.0].map(Scalar::Float).into_iter().chain([1.into()]).collect()
        } else {
            ["ada", "Ada", "a", "s1", "dream", "agent_data", "user", "author 2", "005", "", &hash]
                .map(Scalar::from)
                .to_vec()
        };
        agree(b, &items, &comparisons(&field, &values)).await?;
    }
    Ok(())
}

/// `and`, `or` and `not` are two-valued, nested and empty.
pub(crate) async fn filters_combine(b: &Bench) -> CheckResult {
    let items = people(b)?;
    put_items(b, &items).await?;
    let ada = Filter::eq(Field::UserId, "ada");
    let butler = Filter::eq(Field::AgentId, "butler");
    let high = Filter::Compare(Field::Importance, CompareOp::Gte, Scalar::Float(0.5));
    let not = |filter: &Filter| Filter::Not(Box::new(filter.clone()));
    let mut deep = ada.clone();
    for _ in 0..6 {
        deep = Filter::Or(vec![Filter::And(vec![deep, high.clone()]), butler.clone()]);
    }
    let filters = [
        Filter::All,
        Filter::And(Vec::new()),
        Filter::Or(Vec::new()),
        Filter::And(vec![ada.clone()]),
        Filter::And(vec![ada.clone(), high.clone()]),
        Filter::Or(vec![ada.clone(), butler.clone()]),
        Filter::And(vec![Filter::Or(vec![ada.clone(), butler.clone()]), high.clone()]),
        Filter::Or(vec![Filter::And(vec![ada.clone(), high.clone()]), butler.clone()]),
        Filter::And(vec![not(&ada), not(&high)]),
        not(&Filter::Or(vec![ada.clone(), Filter::And(vec![butler.clone(), not(&high)])])),
        Filter::Or(vec![Filter::Or(Vec::new()), ada.clone()]),
        Filter::And(vec![Filter::And(Vec::new()), ada]),
        not(&not(&high)),
        deep,
    ];
    agree(b, &items, &filters).await
}

/// `in` takes up to 30 values of several types.
pub(crate) async fn filters_by_lists_of_values(b: &Bench) -> CheckResult {
    let items = people(b)?;
    put_items(b, &items).await?;
    let ids: Vec<_> = (0..FILTER_IN).map(|n| Scalar::Text(format!("{:03}", n * 2))).collect();
    let filters = [
        Filter::In(Field::Id, ids),
        Filter::In(Field::UserId, vec!["bob".into(), "nobody".into()]),
        Filter::In(Field::Kind, vec!["fact".into(), "dream".into(), "fact".into()]),
        Filter::In(Field::Importance, vec![Scalar::Int(1), Scalar::Float(0.5)]),
        Filter::In(Field::OccurredAt, vec![items[4].occurred_at.into(), Timestamp::MIN.into()]),
    ];
    agree(b, &items, &filters).await
}

/// Long texts are told apart by their hash, to the last byte: the way to find a duplicate.
pub(crate) async fn long_texts_are_told_apart(b: &Bench) -> CheckResult {
    let stem = "the same long beginning ".repeat(200);
    let mut items = Vec::new();
    for end in ["a", "b", ""] {
        items.push(item(&format!("ends in {end:?}"), &format!("{stem}{end}"), b.now())?);
    }
    put_items(b, &items).await?;
    for one in &items {
        let same = Filter::eq(Field::ContentHash, one.content_hash().to_string().as_str());
        ensure_eq!(b.query_ids(&b.ctx, &same).await?, [one.id.as_str()], "by hash");
    }
    Ok(())
}

/// A filter that breaks a rule is refused by query and count; one at the limit is not.
pub(crate) async fn malformed_filters_are_refused(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a"]).await?;
    let nested = |depth: usize| {
        (1..depth).fold(Filter::eq(Field::UserId, "ada"), |inner, _| Filter::And(vec![inner]))
    };
    let ids = |count| vec![Scalar::from("a"); count];
    for bad in [
        nested(FILTER_DEPTH + 1),
        Filter::Or(vec![Filter::All; 300]),
        Filter::In(Field::Id, Vec::new()),
        Filter::In(Field::Id, ids(FILTER_IN + 1)),
        Filter::eq(meta("number")?, f64::NAN),
        Filter::eq(meta("number")?, f64::INFINITY),
        Filter::Compare(meta("flag")?, CompareOp::Lt, true.into()),
        Filter::eq(Field::UserId, 1),
        Filter::eq(Field::OccurredAt, "yesterday"),
        Filter::eq(meta("text")?, "x".repeat(2_000).as_str()),
        Filter::eq(meta("text")?, "a\0b"),
        Filter::Contains(Field::UserId, "a".to_owned()),
    ] {
        let page = b.records().query(&b.ctx, &Query::new(10).with_filter(bad.clone())).await;
        refused("a query by a malformed filter", page, ErrorKind::InvalidInput)?;
        let count = b.count(&b.ctx, &bad).await;
        refused("a count by a malformed filter", count, ErrorKind::InvalidInput)?;
    }
    let good = [
        nested(FILTER_DEPTH),
        Filter::Or(vec![Filter::All; 200]),
        Filter::In(Field::Id, ids(FILTER_IN)),
    ];
    for good in good {
        ensure_eq!(b.count(&b.ctx, &good).await?, 1, "a filter at the limit");
    }
    Ok(())
}
