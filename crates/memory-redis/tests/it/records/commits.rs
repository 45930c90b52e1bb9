//! What commits do and refuse, on each kind of server.

use std::time::Duration;

use memory_core::traits::{FencingToken, RecordStore as _, RecordStoreExt as _};
use memory_core::{
    AgentId, ErrorKind, IdempotencyKey, MetaKey, MetaValue, Precondition, Projection, Revision,
    SessionId, UserId, Vectors, Write, limits,
};

use super::rig::{Rig, SERVERS, commit, id, item, put, put_one, revision, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_names_are_bytes_and_stay_apart() {
    let long = "é".repeat(limits::ID_BYTES / 2);
    let names = [
        "a",
        "A",
        "a ",
        "{a}",
        "}{",
        "a:b",
        "*",
        "?",
        "[a]",
        "\\",
        "%41",
        "m:x",
        "0",
        "é",
        "e\u{301}",
        "\u{1f600}",
        "\"; return 1 --",
        "$(x)",
        "-",
        "=a",
        "+",
        "(a",
        "[a",
        &long,
    ];
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        for name in ["t", "{t}", "t}x", "*", "t:", &long] {
            let context = tenant(name);
            let writes = names.map(|name| {
                let mut item = item(name, &format!("the text of {name}"));
                item.user_id = Some(UserId::new(name).unwrap());
                item.agent_id = Some(AgentId::new(name).unwrap());
                item.session_id = Some(SessionId::new(name).unwrap());
                item.metadata
                    .insert(MetaKey::new("text").unwrap(), MetaValue::Text(name.to_owned()));
                put(item, Precondition::Absent)
            });
            rig.store.commit(&context, commit(writes.into())).await.unwrap();
            let ids = names.map(id);
            let found = rig.store.fetch(&context, &ids, &Projection::full()).await.unwrap();
            for (name, found) in names.iter().zip(found) {
                let found = found.unwrap();
                assert_eq!(found.content(), format!("the text of {name}"));
                assert_eq!(found.session_id.unwrap().as_str(), *name);
            }
            let gone = Write::delete(id("{a}"), Precondition::Any);
            assert!(
                rig.store.commit(&context, commit(vec![gone])).await.unwrap().results[0].existed
            );
            assert!(rig.store.fetch_one(&context, &id("{a}")).await.unwrap().is_none());
            assert!(rig.store.fetch_one(&context, &id("a")).await.unwrap().is_some());
        }
        let ids = rig.raw("t").check();
        assert_eq!(ids.len(), names.len() - 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_moves_a_memory_and_leaves_nothing_behind() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, mut raw) = (tenant("t"), rig.raw("t"));
        let mut first = item("a", "one");
        first.agent_id = Some(AgentId::new("x").unwrap());
        first.session_id = Some(SessionId::new("s").unwrap());
        first.payload = Some(serde_json::json!({"a": 1}));
        first.importance = Some(0.5);
        first.author = Some("Ada".to_owned());
        first.expires_at = Some(rig_now(&rig, 100));
        first.metadata.insert(MetaKey::new("number").unwrap(), MetaValue::Int(i64::MIN));
        let before = put_one(&rig.store, &context, first.clone()).await.unwrap();
        assert_eq!(
            rig.store.fetch_one(&context, &id("a")).await.unwrap().unwrap().metadata,
            first.metadata
        );
        raw.check();

        let mut second = item("a", "two");
        second.user_id = Some(UserId::new("v").unwrap());
        second.occurred_at = first.occurred_at.saturating_add(Duration::from_secs(1));
        let after = put(second.clone(), Precondition::Revision(before.clone()));
        let receipt = rig.store.commit(&context, commit(vec![after])).await.unwrap();
        assert!(receipt.results[0].existed);
        assert_ne!(revision(&receipt), before);
        let mut found = rig.store.fetch_one(&context, &id("a")).await.unwrap().unwrap();
        assert_eq!(found.revision.take(), Some(revision(&receipt)));
        assert_eq!(found, second, "a field of the first is left");
        raw.check();
        let names: Vec<_> = raw.hash("m:a").into_keys().collect();
        for gone in ["p", "im", "au", "a", "s"] {
            assert!(!names.iter().any(|name| name == gone), "{names:?}");
        }

        let delete = Write::delete(id("a"), Precondition::Revision(revision(&receipt)));
        rig.store.commit(&context, commit(vec![delete])).await.unwrap();
        assert!(raw.check().is_empty());
        assert!(raw.keys().iter().all(|key| !key.starts_with(b"x:") && !key.starts_with(b"m:")));
    }
}

fn rig_now(rig: &Rig, seconds: u64) -> memory_core::Timestamp {
    use memory_core::Clock as _;
    rig.clock.now().saturating_add(Duration::from_secs(seconds))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_absent_from_its_instant_on() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, mut raw) = (tenant("t"), rig.raw("t"));
        let mut short = item("a", "short");
        short.expires_at = Some(rig_now(&rig, 10));
        let held = put_one(&rig.store, &context, short.clone()).await.unwrap();
        rig.clock.advance(Duration::from_micros(9_999_999));
        assert!(rig.store.fetch_one(&context, &id("a")).await.unwrap().is_some());
        let taken = put(item("a", "x"), Precondition::Absent);
        let taken = rig.store.commit(&context, commit(vec![taken])).await.unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);

        rig.clock.advance(Duration::from_micros(1));
        assert!(rig.store.fetch_one(&context, &id("a")).await.unwrap().is_none());
        let many =
            rig.store.fetch(&context, &[id("a"), id("b")], &Projection::narrow()).await.unwrap();
        assert_eq!(many, [None, None]);
        let swap = put(item("a", "x"), Precondition::Revision(held.clone()));
        let swap = rig.store.commit(&context, commit(vec![swap])).await.unwrap_err();
        assert_eq!(swap.kind(), ErrorKind::NotFound);
        let delete = Write::delete(id("a"), Precondition::Revision(held));
        let delete = rig.store.commit(&context, commit(vec![delete])).await.unwrap_err();
        assert_eq!(delete.kind(), ErrorKind::NotFound);
        let create = put(item("a", "new"), Precondition::Absent);
        let receipt = rig.store.commit(&context, commit(vec![create])).await.unwrap();
        assert!(!receipt.results[0].existed);
        assert_eq!(
            rig.store.fetch_one(&context, &id("a")).await.unwrap().unwrap().content(),
            "new"
        );
        raw.check();
        // What is left of an expired one goes with a delete, to which it did not exist.
        short.expires_at = Some(rig_now(&rig, 1));
        put_one(&rig.store, &context, short).await.unwrap();
        rig.clock.advance(Duration::from_secs(1));
        let delete = Write::delete(id("a"), Precondition::Any);
        let receipt = rig.store.commit(&context, commit(vec![delete])).await.unwrap();
        assert!(!receipt.results[0].existed);
        assert!(raw.check().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_commit_changes_nothing() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, mut raw) = (tenant("t"), rig.raw("t"));
        let held = put_one(&rig.store, &context, item("a", "one")).await.unwrap();
        put_one(&rig.store, &context, item("b", "one")).await.unwrap();
        let before = raw.dump();
        let other = || Precondition::Revision(Revision::new("0-000000000000").unwrap());
        let good = || {
            vec![
                put(item("new", "x"), Precondition::Absent),
                put(item("a", "two"), Precondition::Revision(held.clone())),
                Write::delete(id("b"), Precondition::Any),
            ]
        };
        let key = || Some(IdempotencyKey::new("key", [1; 32]).unwrap());
        for (bad, kind) in [
            (put(item("b2", "x"), other()), ErrorKind::NotFound),
            (put(item("c", "x"), Precondition::Absent), ErrorKind::AlreadyExists),
            (put(item("c", "x"), other()), ErrorKind::Conflict),
            (Write::delete(id("c"), other()), ErrorKind::Conflict),
        ] {
            if kind != ErrorKind::NotFound && raw.hash("m:c").is_empty() {
                put_one(&rig.store, &context, item("c", "one")).await.unwrap();
            }
            let before = raw.dump();
            for at in 0..=3 {
                let mut writes = good();
                writes.insert(at, bad.clone());
                let error = rig
                    .store
                    .commit(&context, commit(writes).with_idempotency(key()))
                    .await
                    .unwrap_err();
                assert_eq!(error.kind(), kind);
                assert!(error.context().contains(&("write", at.to_string())), "{error}");
                raw.assert_unchanged(&before);
            }
        }
        assert!(raw.dump() != before, "a good commit changes something");
        raw.run("HSET", "s", &[b"fence", b"00000000000000000005"]);
        let before = raw.dump();
        for fence in [None, Some(FencingToken(4))] {
            let late = context.clone().with_fence(fence);
            let error = rig.store.commit(&late, commit(good())).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            raw.assert_unchanged(&before);
        }
        let holder = context.clone().with_fence(Some(FencingToken(5)));
        rig.store.commit(&holder, commit(good())).await.unwrap();
        assert_eq!(raw.check(), ["a", "c", "new"].map(str::to_owned).into());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_commits_happen_whole() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, mut raw) = (tenant("t"), rig.raw("t"));
        let names: Vec<_> = (0..limits::COMMIT_WRITES).map(|n| format!("id {n}")).collect();
        let many = |precondition: &Precondition| {
            let one = |name: &String| {
                let mut item = item(name, &format!("the text of {name}"));
                item.session_id = Some(SessionId::new(format!("s{}", name.len())).unwrap());
                put(item, precondition.clone())
            };
            commit(names.iter().map(one).collect())
        };
        let receipt = rig.store.commit(&context, many(&Precondition::Absent)).await.unwrap();
        assert_eq!(receipt.results.len(), limits::COMMIT_WRITES);
        let receipt = rig.store.commit(&context, many(&Precondition::Any)).await.unwrap();
        assert!(receipt.results.iter().all(|result| result.existed));
        assert_eq!(receipt.position.unwrap().0, 2 * limits::COMMIT_WRITES as u64);
        assert_eq!(raw.check().len(), limits::COMMIT_WRITES);
        let ids: Vec<_> = names[..limits::FETCH_IDS].iter().map(|name| id(name)).collect();
        let found = rig.store.fetch(&context, &ids, &Projection::full()).await.unwrap();
        for ((found, name), result) in found.iter().zip(&names).zip(&receipt.results) {
            let found = found.as_ref().unwrap();
            assert_eq!(found.content(), format!("the text of {name}"));
            assert_eq!(found.revision, result.revision);
        }
        let delete = |name: &String| Write::delete(id(name), Precondition::Any);
        rig.store.commit(&context, commit(names.iter().map(delete).collect())).await.unwrap();
        assert!(raw.check().is_empty());

        // Twelve of the largest contents, each with the most metadata keys: some nine MiB.
        let content = "x".repeat(limits::CONTENT_BYTES);
        let large: Vec<_> = (0..11)
            .map(|n| {
                let mut item = item(&format!("large {n}"), &content);
                for key in 0..limits::METADATA_KEYS {
                    let key = MetaKey::new(format!("key {key}")).unwrap();
                    item.metadata.insert(key, MetaValue::Text("y".repeat(400)));
                }
                put(item, Precondition::Any)
            })
            .collect();
        rig.store.commit(&context, commit(large)).await.unwrap();
        let ids: Vec<_> = (0..11).map(|n| id(&format!("large {n}"))).collect();
        let found = rig.store.fetch(&context, &ids, &Projection::full()).await.unwrap();
        assert!(found.iter().flatten().all(|item| item.content() == content));
        // More than one answer holds is read in several.
        let twice: Vec<_> = ids.iter().chain(&ids).chain(&ids).cloned().collect();
        let found = rig.store.fetch(&context, &twice, &Projection::full()).await.unwrap();
        assert_eq!(found.iter().flatten().count(), twice.len());
        assert!(found.iter().flatten().zip(&twice).all(|(item, id)| item.id == *id));
        let few = rig.store.fetch(&context, &[], &Projection::full()).await.unwrap();
        assert!(few.is_empty());
        let too_many = vec![id("x"); limits::FETCH_IDS + 1];
        let refused = rig.store.fetch(&context, &too_many, &Projection::full()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_and_revisions_grow_and_are_never_used_twice() {
    let Some(rig) = Rig::on(SERVERS[1]).await else { return };
    let context = tenant("t");
    let mut seen = std::collections::BTreeSet::new();
    let mut last = 0;
    for round in 0..20 {
        let write = put(item("a", &format!("{round}")), Precondition::Any);
        let receipt = rig.store.commit(&context, commit(vec![write])).await.unwrap();
        assert!(seen.insert(revision(&receipt).to_string()));
        let position = receipt.position.unwrap().0;
        assert!(position > last);
        last = position;
        if round % 5 == 4 {
            let delete = Write::delete(id("a"), Precondition::Any);
            let receipt = rig.store.commit(&context, commit(vec![delete])).await.unwrap();
            assert_eq!(receipt.position.unwrap().0, last + 1);
            last += 1;
            let nothing = Write::delete(id("a"), Precondition::Any);
            let receipt = rig.store.commit(&context, commit(vec![nothing])).await.unwrap();
            assert_eq!(receipt.position.unwrap().0, last, "a delete of nothing is no change");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_who_meet_lose_nothing() {
    const WRITERS: usize = 16;
    const TIMES: i64 = 10;
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let context = tenant("t");
        let number = MetaKey::new("number").unwrap();
        let mut zero = item("n", "a number");
        zero.metadata.insert(number.clone(), MetaValue::Int(0));
        put_one(&rig.store, &context, zero).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..WRITERS {
            let (store, context, number) = (rig.another().await, context.clone(), number.clone());
            tasks.spawn(async move {
                let mut done = 0;
                while done < TIMES {
                    let mut item = store.fetch_one(&context, &id("n")).await.unwrap().unwrap();
                    let seen = item.revision.clone().unwrap();
                    let Some(MetaValue::Int(value)) = item.metadata.get(&number).cloned() else {
                        panic!("no number")
                    };
                    item.metadata.insert(number.clone(), MetaValue::Int(value + 1));
                    let write = Write::put(item, Vectors::Keep, Precondition::Revision(seen));
                    match store.commit(&context, commit(vec![write])).await {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
                    }
                }
            });
        }
        tasks.join_all().await;
        let last = rig.store.fetch_one(&context, &id("n")).await.unwrap().unwrap();
        assert_eq!(last.metadata[&number], MetaValue::Int(WRITERS as i64 * TIMES));
        rig.raw("t").check();
    }
}
