//! What a check finds of what was planted, and texts of the largest size.

use memory_core::limits::CONTENT_BYTES;
use memory_core::traits::RecordStore as _;
use memory_core::traits::{KeywordIndex as _, KeywordQuery, RecordStoreExt as _, StoreUpkeep as _};
use memory_core::{ErrorKind, Query};

use super::rig::{Raw, Rig, SERVERS, id, item, put_one, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_what_was_planted() {
    type Plant = fn(&mut Raw);
    let faults: [(&str, Plant); 7] = [
        ("not in x:o", |raw| {
            let member = raw.set("x:o").into_iter().next().unwrap();
            raw.run("ZREM", "x:o", &[&member]);
        }),
        ("not in x:U", |raw| {
            let member = raw.set("x:U:u").into_iter().next().unwrap();
            raw.run("ZREM", "x:U:u", &[&member]);
        }),
        ("not in m:", |raw| {
            raw.run("DEL", "m:a", &[]);
        }),
        ("not in m:", |raw| {
            raw.run("HDEL", "m:a", &[b"e"]);
        }),
        ("not in m:", |raw| {
            raw.run("HDEL", "m:a", &[b"tc"]);
        }),
        ("not in m:", |raw| {
            raw.run("HDEL", "m:a", &[b"kd"]);
        }),
        ("places by time", |raw| {
            raw.run("ZADD", "x:c", &[b"0", b"09223372036854775808ghost"]);
        }),
    ];
    for server in SERVERS {
        for (wanted, plant) in faults {
            let Some(rig) = Rig::on(server).await else { continue };
            let context = tenant("t");
            for name in ["a", "b", "c"] {
                put_one(&rig.store, &context, item(name, "x")).await.unwrap();
            }
            let whole = rig.store.verify().await.unwrap();
            assert!(whole.faults.is_empty(), "{:?}", whole.faults);
            assert!(whole.checks.iter().any(|check| check.starts_with("3 memories")));
            plant(&mut rig.raw("t"));
            let report = rig.store.verify().await.unwrap();
            let found = report.faults.iter().any(|fault| fault.contains(wanted));
            assert!(found, "{wanted}: {:?}", report.faults);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_garbage_is_corrupt_and_the_others_are_read() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let context = tenant("t");
        for name in ["a", "b"] {
            put_one(&rig.store, &context, item(name, "x")).await.unwrap();
        }
        rig.raw("t").run("HSET", "m:a", &[b"h", b"\x01\xff\xff"]);
        let error = rig.store.fetch_one(&context, &id("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(rig.store.fetch_one(&context, &id("b")).await.unwrap().is_some());
        // Of another build, which this one does not read.
        rig.raw("t").run("HSET", "m:a", &[b"h", b"\x09\x00"]);
        let error = rig.store.fetch_one(&context, &id("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_texts_are_kept_paged_and_found() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let context = tenant("t");
        let large = format!("needle {}", "straw ".repeat(CONTENT_BYTES / 6 - 2));
        assert!(large.len() > CONTENT_BYTES - 20 && large.len() <= CONTENT_BYTES);
        let names: Vec<_> = (0..20).map(|n| format!("large-{n:02}")).collect();
        for name in &names {
            put_one(&rig.store, &context, item(name, &large)).await.unwrap();
        }
        let mut query = Query::new(15);
        let mut found = Vec::new();
        loop {
            let page = rig.store.query(&context, &query).await.unwrap();
            assert!(page.items.iter().all(|item| item.content() == large));
            found.extend(page.items.iter().map(|item| item.id.to_string()));
            match page.next {
                Some(next) => query = query.with_cursor(Some(next)),
                None => break,
            }
        }
        found.sort();
        assert_eq!(found, names);
        if !server.contains("PLAIN") && !server.contains("OLD") {
            let query = KeywordQuery::new("needle", 30);
            assert_eq!(rig.store.search(&context, &query).await.unwrap().hits.len(), 20);
        }
    }
}
