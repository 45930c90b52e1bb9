//! Create, read, replace, delete: one item at a time.

use std::collections::BTreeSet;

use memory_core::limits::{CONTENT_BYTES, FETCH_IDS, METADATA_STRING_BYTES};
use memory_core::{
    AgentId, ErrorKind, Filter, Kind, KindName, MemoryId, MetaKey, MetaValue, Precondition,
    Projection, Role, SessionId, Timestamp,
};
use serde_json::json;

use crate::conformance::bench::{Bench, item};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

/// A put item comes back as it was put, with its revision; an id that was not put is `None`.
pub(crate) async fn put_then_fetch(b: &Bench) -> CheckResult {
    let put = item("a", "Ada prefers tea.", b.now())?;
    let revision = b.put(&b.ctx, put.clone()).await?;
    let found = b.fetch(&b.ctx, &["a", "b"]).await?;
    ensure_eq!(found.len(), 2, "one answer for each id");
    let got = b.there(found[0].clone())?;
    ensure_eq!(got.content(), put.content(), "the content");
    ensure_eq!(got.revision, Some(revision), "the revision is that of the receipt");
    ensure!(found[1].is_none(), "an id that was never put is found");
    Ok(())
}

/// Every field of an item comes back as it was put, types of metadata included.
pub(crate) async fn every_field_round_trips(b: &Bench) -> CheckResult {
    let mut full = item("full", "All of it.", b.now())?
        .with_agent(AgentId::new("butler")?)
        .with_session(SessionId::new("s-1")?)
        .with_kind(Kind::Custom(KindName::new("dream")?));
    full.role = Some(Role::Tool);
    full.author = Some("Ada Lovelace".to_owned());
    full.payload = Some(json!({
        "null": null, "n": -1.5, "big": i64::MAX, "deep": [[{"x": [true]}]], "t": "a\"b\\c\nd",
        "huge": 1e300, "tiny": 5e-324, "third": 0.1,
    }));
    for (key, value) in [
        ("bool", MetaValue::Bool(false)),
        ("int", MetaValue::Int(i64::MIN)),
        ("odd", MetaValue::Int((1 << 53) + 1)),
        ("float", MetaValue::Float(1.0)),
        ("third", MetaValue::Float(1.0 / 3.0)),
        ("text", MetaValue::Text("10".to_owned())),
        ("empty", MetaValue::Text(String::new())),
        ("list", MetaValue::List(vec!["b".to_owned(), "a".to_owned(), "b".to_owned()])),
        ("none", MetaValue::List(Vec::new())),
    ] {
        full.metadata.insert(MetaKey::new(key)?, value);
    }
    full.importance = Some(0.1);
    full.occurred_at = Timestamp::from_micros(b.now().as_micros() - 1)?;
    full.created_at = Timestamp::from_micros(1)?;
    full.updated_at = Timestamp::from_micros(-1)?;
    full.expires_at = Some(Timestamp::from_micros(b.now().as_micros() + 86_400_000_001)?);
    for kind in [Kind::Message, Kind::Fact, Kind::Episode, Kind::Procedure, Kind::Summary] {
        let mut one = full.clone();
        one.id = MemoryId::new(kind.name())?;
        one.kind = kind;
        same_after_put(b, one).await?;
    }
    for role in [None, Some(Role::User), Some(Role::Assistant), Some(Role::System)] {
        let mut one = full.clone();
        one.id = MemoryId::new(role.map_or("no role", Role::name))?;
        one.role = role;
        same_after_put(b, one).await?;
    }
    same_after_put(b, full).await
}

async fn same_after_put(b: &Bench, mut put: memory_core::MemoryItem) -> CheckResult {
    put.revision = Some(b.put(&b.ctx, put.clone()).await?);
    let got = b.there(b.get(&b.ctx, put.id.as_str()).await?)?;
    ensure_eq!(
        serde_json::to_value(&got).unwrap_or_default(),
        serde_json::to_value(&put).unwrap_or_default(),
        "the item {}",
        put.id
    );
    ensure!(got == put, "the item {} differs in a type", put.id);
    let page = b.records().query(&b.ctx, &memory_core::Query::new(100)).await?;
    ensure!(page.items.contains(&put), "a query gives {} otherwise than a fetch", put.id);
    Ok(())
}

/// An item without any optional field comes back without them.
pub(crate) async fn bare_item_round_trips(b: &Bench) -> CheckResult {
    let bare = item("bare", "x", b.now())?;
    same_after_put(b, bare.clone()).await?;
    let mut agents = bare;
    agents.id = MemoryId::new("agent's")?;
    agents.user_id = None;
    same_after_put(b, agents.with_agent(AgentId::new("butler")?)).await
}

/// A fetch answers for each id in order, repeats included, and for none with nothing.
pub(crate) async fn fetch_keeps_order_and_repeats(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a", "b", "c"]).await?;
    let found = b.fetch(&b.ctx, &["c", "x", "a", "c", "b"]).await?;
    let ids: Vec<_> = found.iter().flatten().map(|item| item.id.as_str()).collect();
    ensure_eq!(ids, ["c", "a", "c", "b"], "the order of the answers");
    ensure!(found[1].is_none(), "a missing id has no place of its own");
    ensure!(b.fetch(&b.ctx, &[]).await?.is_empty(), "a fetch of nothing answers something");
    Ok(())
}

/// 1,000 ids are taken and 1,001 are refused.
pub(crate) async fn fetch_is_bounded(b: &Bench) -> CheckResult {
    let mut ids: Vec<_> =
        (0..FETCH_IDS).map(|n| MemoryId::new(n.to_string())).collect::<Result<_, _>>()?;
    b.put_all(&b.ctx, &["999"]).await?;
    let found = b.records().fetch(&b.ctx, &ids, &Projection::full()).await?;
    ensure_eq!(found.iter().flatten().count(), 1, "the one that is there");
    ensure!(found[999].is_some(), "the answer is not in the id's place");
    ids.push(MemoryId::new("more")?);
    let answer = b.records().fetch(&b.ctx, &ids, &Projection::full()).await;
    refused("1,001 ids", answer, ErrorKind::InvalidInput)?;
    Ok(())
}

/// A replacement is whole: nothing of the old item is merged into the new one.
pub(crate) async fn replace_merges_nothing(b: &Bench) -> CheckResult {
    let mut old = item("a", "old", b.now())?.with_session(SessionId::new("s")?);
    old.metadata.insert(MetaKey::new("gone")?, "x".into());
    old.payload = Some(json!({"nested": {"gone": 1}}));
    old.importance = Some(0.5);
    old.expires_at = Some(b.now().saturating_add(std::time::Duration::from_secs(60)));
    b.put(&b.ctx, old).await?;
    let mut new = item("a", "new", b.now())?;
    new.metadata.insert(MetaKey::new("kept")?, "y".into());
    new.payload = Some(json!({"nested": {"kept": 2}}));
    same_after_put(b, new).await?;
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 1, "items after a replacement");
    Ok(())
}

/// A deleted item is gone from fetch, query and count; its neighbour is not.
pub(crate) async fn delete_removes(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a", "b"]).await?;
    ensure!(b.get(&b.ctx, "a").await?.is_some(), "the item is not there before its deletion");
    let receipt = b.delete(&b.ctx, "a", Precondition::Any).await?;
    ensure!(receipt.results[0].existed, "the receipt says that nothing was there");
    ensure_eq!(receipt.results[0].revision, None, "the revision after a delete");
    ensure!(b.get(&b.ctx, "a").await?.is_none(), "a deleted item is fetched");
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["b"], "a query after the deletion");
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 1, "a count after the deletion");
    Ok(())
}

/// Deleting what is not there succeeds and says so.
pub(crate) async fn delete_of_missing_succeeds(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a"]).await?;
    let receipt = b.delete(&b.ctx, "b", Precondition::Any).await?;
    ensure!(!receipt.results[0].existed, "the receipt says that something was there");
    ensure!(b.get(&b.ctx, "a").await?.is_some(), "another item went with it");
    Ok(())
}

/// A receipt says for each put whether a visible item was there.
pub(crate) async fn receipts_tell_what_existed(b: &Bench) -> CheckResult {
    for existed in [false, true, true] {
        let write = memory_core::Write::put(
            item("a", "x", b.now())?,
            memory_core::Vectors::default(),
            Precondition::Any,
        );
        let receipt = b.commit(&b.ctx, vec![write]).await?;
        ensure_eq!(receipt.results[0].existed, existed, "existed");
        ensure_eq!(receipt.results[0].id.as_str(), "a", "the id in the receipt");
        ensure!(!receipt.replayed, "a first attempt counts as replayed");
    }
    Ok(())
}

/// Each write of an id gives a revision of its own, even where nothing changes.
pub(crate) async fn each_write_has_its_own_revision(b: &Bench) -> CheckResult {
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        let revision = b.put(&b.ctx, item("a", "the same", b.now())?).await?;
        ensure!(seen.insert(revision.to_string()), "the revision {revision} came twice");
        let got = b.there(b.get(&b.ctx, "a").await?)?;
        ensure_eq!(got.revision, Some(revision), "the revision of a read");
    }
    Ok(())
}

/// The longest content comes back whole; one byte more is refused.
pub(crate) async fn huge_content_round_trips(b: &Bench) -> CheckResult {
    let text = "ä😀z".repeat(CONTENT_BYTES / 7) + &"x".repeat(CONTENT_BYTES % 7);
    ensure_eq!(text.len(), CONTENT_BYTES, "the text's own length");
    same_after_put(b, item("huge", &text, b.now())?).await?;
    let beyond = item("beyond", &(text + "x"), b.now());
    refused("content beyond the limit", beyond.map(|_| ()), ErrorKind::InvalidInput)?;
    Ok(())
}

/// Metadata at its limits comes back whole.
pub(crate) async fn large_metadata_round_trips(b: &Bench) -> CheckResult {
    let mut large = item("large", "x", b.now())?;
    for n in 0..18 {
        let text = "ü".repeat(METADATA_STRING_BYTES / 2);
        large.metadata.insert(MetaKey::new(format!("key {n} {}", "k".repeat(100)))?, {
            MetaValue::Text(text)
        });
    }
    let list = (0..100).map(|n| format!("entry {n}")).collect();
    large.metadata.insert(MetaKey::new("list")?, MetaValue::List(list));
    large.payload = Some(json!({"text": "p".repeat(120 * 1024)}));
    same_after_put(b, large).await
}

/// Times at the ends of the range come back exactly, and sort.
pub(crate) async fn extreme_times_round_trip(b: &Bench) -> CheckResult {
    for (id, time) in [("first", Timestamp::MIN), ("last", Timestamp::MAX)] {
        let mut one = item(id, "x", b.now())?;
        (one.occurred_at, one.created_at, one.updated_at) = (time, time, time);
        same_after_put(b, one).await?;
    }
    let page = b.records().query(&b.ctx, &memory_core::Query::new(2)).await?;
    ensure_eq!(page.items[0].id.as_str(), "last", "the newest");
    Ok(())
}

/// Texts are bytes: quotes, line ends, patterns, combining marks and the like stay as they are.
pub(crate) async fn texts_are_kept_exactly(b: &Bench) -> CheckResult {
    for (n, text) in [
        " leading and trailing ",
        "line\r\nline\nline\ttab",
        "'; DROP TABLE items; -- \"quoted\" `x`",
        "%s %d {} {{}} ${x} $(x) \\x00 \\",
        "é and e\u{301} are two",
        "\u{feff}mark \u{200b}\u{202e}\u{0001}\u{7f}",
        "👩‍👩‍👧‍👧 中文 العربية עברית",
        "null",
        "0",
    ]
    .into_iter()
    .enumerate()
    {
        let mut one = item(&n.to_string(), text, b.now())?;
        one.metadata.insert(MetaKey::new("text")?, text.into());
        one.payload = Some(json!({ "text": text }));
        same_after_put(b, one).await?;
    }
    Ok(())
}

/// An item that breaks a rule of the model is refused before anything is written.
pub(crate) async fn invalid_items_are_refused(b: &Bench) -> CheckResult {
    let good = item("a", "x", b.now())?;
    let mut nobodys = good.clone();
    nobodys.user_id = None;
    let mut unlikely = good.clone();
    unlikely.importance = Some(f64::NAN);
    let mut beyond = good.clone();
    beyond.importance = Some(1.5);
    let mut infinite = good.clone();
    infinite.metadata.insert(MetaKey::new("x")?, MetaValue::Float(f64::INFINITY));
    let mut author = good.clone();
    author.author = Some("x".repeat(10_240));
    for bad in [nobodys, unlikely, beyond, infinite, author] {
        refused("an invalid item", b.put(&b.ctx, bad).await, ErrorKind::InvalidInput)?;
    }
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 0, "items after refusals");
    b.put(&b.ctx, good).await?;
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 1, "items after a good put");
    Ok(())
}
