//! Texts that mean something to the query engine's language, and filters of every kind, held against
//! the one truth table.

use memory_core::traits::RecordStore as _;
use memory_core::{
    AgentId, CompareOp, Field, Filter, MemoryItem, MetaKey, MetaValue, Role, Scalar, SessionId,
    Timestamp, UserId,
};
use memory_testkit::generators::Generator;

use super::rig::{
    Rig, WITH_ENGINE, by_words, commit, ids, item, nearest, put, set_spaces, space, tenant,
};

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "a",
        "A",
        " a",
        "a ",
        " ",
        "{a}",
        "a}",
        "{",
        "}",
        "a:b",
        "@qu:{*}",
        "*",
        "a*",
        "?",
        "'",
        "\"",
        "\\",
        "a\\",
        "\\\\",
        "\\,",
        "a\\,b",
        ",",
        "a,b",
        "|",
        "a|b",
        "-",
        "-a",
        "~a",
        "(",
        ")",
        "[1 2]",
        "$p0",
        "$",
        "%",
        "%61",
        "=>",
        ";",
        "<",
        "w'a'",
        "é",
        "e\u{301}",
        "ß",
        "🦓",
        "\u{a0}",
        "\u{3000}a",
        "inf",
        "nan",
        "1e5",
        "0",
        "t",
        "p",
        "#",
        "l#",
        "--",
        "a  b",
        "_",
        "/",
        "DOMAIN\\user",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(480));
    texts.push("\\".repeat(480));
    texts.push("é{".repeat(160));
    texts
}

fn key(name: &str) -> MetaKey {
    MetaKey::new(name).unwrap()
}

fn memories(texts: &[String]) -> Vec<MemoryItem> {
    let numbers = [i64::MIN, -1, 0, 1, (1 << 53) + 1, i64::MAX - 1, i64::MAX];
    texts
        .iter()
        .enumerate()
        .map(|(n, text)| {
            let mut one = item(text, &format!("zebra {text}"));
            one.user_id = Some(UserId::new(text).unwrap());
            if n % 2 == 0 {
                one.agent_id = Some(AgentId::new(&texts[(n + 1) % texts.len()]).unwrap());
                one.session_id = Some(SessionId::new(text).unwrap());
                one.author = Some(text.clone());
            }
            one.role = [None, Some(Role::User), Some(Role::Tool)][n % 3];
            one.importance = [None, Some(0.1), Some(1e-9), Some(1.0)][n % 4];
            one.occurred_at =
                Timestamp::from_micros(i64::try_from(n).unwrap() * 1_000 - 20_000).unwrap();
            let number = numbers[n % numbers.len()];
            match n % 4 {
                0 => one.metadata.insert(key("number"), MetaValue::Int(number)),
                1 => one.metadata.insert(
                    key("number"),
                    MetaValue::Float(f64::from(i32::try_from(number % 1_000_003).unwrap()) / 3.0),
                ),
                2 => one.metadata.insert(key("number"), MetaValue::Text(text.clone())),
                _ => None,
            };
            one.metadata.insert(key("text"), MetaValue::Text(text.clone()));
            if n % 3 == 0 {
                one.metadata.insert(key("text"), MetaValue::Int(number));
                one.metadata.insert(key("flag"), MetaValue::Bool(n % 2 == 0));
                let list = vec![text.clone(), texts[(n + 7) % texts.len()].clone()];
                one.metadata.insert(key("list"), MetaValue::List(list));
            }
            one
        })
        .collect()
}

fn leaf(random: &mut Generator, texts: &[String]) -> Filter {
    let mut below = |most: usize| random.below(most);
    let text = Scalar::Text(texts[below(texts.len())].clone());
    let number = match below(6) {
        0 => Scalar::Int(i64::MAX),
        1 => Scalar::Int(i64::MIN),
        2 => Scalar::Float(9_223_372_036_854_775_807.0),
        3 => Scalar::Float(1.0 / 3.0),
        4 => Scalar::Float(-0.0),
        _ => Scalar::Int(1 << 53),
    };
    let ops = [
        CompareOp::Eq,
        CompareOp::Ne,
        CompareOp::Lt,
        CompareOp::Lte,
        CompareOp::Gt,
        CompareOp::Gte,
    ];
    let op = ops[below(6)];
    let strings =
        [Field::Id, Field::UserId, Field::AgentId, Field::SessionId, Field::Author, Field::Kind];
    let keys = ["number", "text", "flag", "list"].map(|name| Field::Metadata(key(name)));
    match below(10) {
        0 | 1 => Filter::Compare(strings[below(6)].clone(), op, text),
        2 => Filter::Compare(
            Field::Role,
            op,
            Scalar::Text(["user", "tool", "x"][below(3)].to_owned()),
        ),
        3 => Filter::Compare(keys[below(4)].clone(), op, text),
        4 => Filter::Compare(keys[below(4)].clone(), op, number),
        5 => {
            let value = [0.1, 1e-9, 0.5][below(3)];
            Filter::Compare(Field::Importance, op, Scalar::Float(value))
        }
        6 => {
            let at =
                Timestamp::from_micros(i64::try_from(below(40)).unwrap() * 1_000 - 20_000).unwrap();
            let fields = [Field::OccurredAt, Field::CreatedAt, Field::ExpiresAt];
            Filter::Compare(fields[below(3)].clone(), op, Scalar::Time(at))
        }
        7 => Filter::In(
            strings[below(6)].clone(),
            vec![text, texts[below(texts.len())].as_str().into()],
        ),
        8 => Filter::Contains(keys[below(4)].clone(), texts[below(texts.len())].clone()),
        _ => Filter::Exists(
            [Field::AgentId, Field::Importance, Field::ExpiresAt, keys[below(4)].clone()][below(4)]
                .clone(),
        ),
    }
}

fn filter(random: &mut Generator, texts: &[String], depth: u32) -> Filter {
    match (depth, random.below(6)) {
        (1.., 0) => Filter::Not(Box::new(filter(random, texts, depth - 1))),
        (1.., 1) => Filter::And((0..2).map(|_| filter(random, texts, depth - 1)).collect()),
        (1.., 2) => Filter::Or((0..3).map(|_| filter(random, texts, depth - 1)).collect()),
        _ => leaf(random, texts),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_find_what_the_truth_table_says() {
    for server in WITH_ENGINE {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, store, space) = (tenant("t"), &rig.store, space("m", 2));
        set_spaces(&rig, &context, space.clone(), None).await;
        let texts = texts();
        let items = memories(&texts);
        let writes = items.iter().map(|item| put(item.clone(), &space, &[1.0, 0.25])).collect();
        store.commit(&context, commit(writes)).await.unwrap();
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
        let mut random = Generator::new(seed);
        let equalities = texts.iter().flat_map(|text| {
            [
                Field::Id,
                Field::UserId,
                Field::AgentId,
                Field::SessionId,
                Field::Author,
                Field::Metadata(key("text")),
            ]
            .map(|field| Filter::eq(field, text.as_str()))
        });
        let rest = (0..300).map(|_| filter(&mut random, &texts, 3));
        for filter in equalities.chain(rest.collect::<Vec<_>>()) {
            if filter.validate().is_err() {
                continue;
            }
            let mut wanted: Vec<_> = items
                .iter()
                .filter(|item| filter.matches(item))
                .map(|item| item.id.as_str())
                .collect();
            wanted.sort_unstable();
            let found = nearest(store, &context, &space, &[1.0, 0.25], filter.clone(), 1_000)
                .await
                .unwrap();
            assert_eq!(ids(&found), wanted, "seed {seed}: {filter:?}");
            let found = by_words(store, &context, "zebra", filter.clone(), 1_000).await.unwrap();
            let mut found = ids(&found);
            found.sort_unstable();
            assert_eq!(found, wanted, "seed {seed}, by words: {filter:?}");
            if let [one, ..] = wanted[..] {
                let first = nearest(store, &context, &space, &[1.0, 0.25], filter.clone(), 1)
                    .await
                    .unwrap();
                assert_eq!(ids(&first), [one], "seed {seed}, the first: {filter:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_words_and_nothing_else() {
    let Some(rig) = Rig::on(WITH_ENGINE[0]).await else { return };
    let (context, store) = (tenant("t{}*"), &rig.store);
    let texts = texts();
    let writes = texts.iter().enumerate().map(|(n, text)| {
        let one = item(&format!("{n:03}"), &format!("quartz {text} zebra"));
        memory_core::Write::put(
            one,
            memory_core::Vectors::default(),
            memory_core::Precondition::Any,
        )
    });
    store.commit(&context, commit(writes.collect())).await.unwrap();
    let all = texts.len();
    for text in &texts {
        let words = format!("zebra {text}");
        let found = by_words(store, &context, &words, Filter::All, 1_000).await.unwrap();
        assert_eq!(found.hits.len(), all, "{text:?}");
        let found = by_words(store, &context, text, Filter::All, 1_000).await;
        assert!(found.unwrap().hits.len() < all, "{text:?} alone");
    }
    let many: String = (0..5_000).map(|n| format!("w{n} ")).collect();
    let found = by_words(store, &context, &format!("zebra {many}"), Filter::All, 5).await.unwrap();
    assert_eq!(found.hits.len(), 5);
    assert!(!found.exact, "terms were left out");
}
