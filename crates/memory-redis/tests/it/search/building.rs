//! Indexes made, made anew, switched and lost.

use std::time::Duration;

use memory_core::traits::RecordStore as _;
use memory_core::{ErrorKind, Filter, MetaKey, MetaValue, Precondition, Vectors, Write};
use redis::Value;
use serde_json::json;

use super::rig::{
    Rig, WITH_ENGINE, by_words, commit, ids, item, nearest, put, set_spaces, space, tenant,
};

/// The indexes of a rig, in order.
fn indexes(rig: &Rig) -> Vec<String> {
    let mut raw = rig.raw("t");
    let all: Vec<String> = redis::cmd("FT._LIST").query(&mut raw.connection).unwrap();
    let mut own: Vec<_> =
        all.into_iter().filter_map(|name| Some(name.strip_prefix(&raw.base)?.to_owned())).collect();
    own.sort();
    own
}

/// Sends a search again while it says that it is being made ready.
macro_rules! until_ready {
    ($search:expr) => {{
        let mut tries = 0;
        loop {
            match $search.await {
                Ok(found) => break found,
                Err(error) if error.kind() == ErrorKind::Unavailable && tries < 100 => tries += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_index_is_made_again_and_nothing_is_missing() {
    for server in WITH_ENGINE {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, store, space) = (tenant("t"), &rig.store, space("m", 2));
        set_spaces(&rig, &context, space.clone(), None).await;
        let write = |n: usize| put(item(&format!("{n:03}"), "zebra"), &space, &[1.0, 0.0]);
        store.commit(&context, commit((0..500).map(write).collect())).await.unwrap();
        assert_eq!(indexes(&rig).len(), 2, "{:?}", indexes(&rig));
        let mut raw = rig.raw("t");
        for index in indexes(&rig) {
            raw.run("FT.DROPINDEX", &index, &[]);
        }
        let found = until_ready!(nearest(store, &context, &space, &[1.0, 0.0], Filter::All, 1_000));
        assert_eq!(found.hits.len(), 500);
        let found = until_ready!(by_words(store, &context, "zebra", Filter::All, 1_000));
        assert_eq!(found.hits.len(), 500);
        // Another process, which knows nothing yet, and this one find what is written from now on.
        let other = rig.another().await;
        other.commit(&context, commit(vec![write(500)])).await.unwrap();
        for store in [store, &other] {
            let found = by_words(store, &context, "zebra", Filter::All, 1_000).await.unwrap();
            assert_eq!(found.hits.len(), 501);
        }
        assert_eq!(indexes(&rig).len(), 2, "{:?}", indexes(&rig));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_without_an_engine_is_indexed_by_the_first_search() {
    for server in WITH_ENGINE {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, space) = (tenant("t"), space("m", 2));
        set_spaces(&rig, &context, space.clone(), None).await;
        let off = rig.with(json!({"search": "off"})).await;
        let write = |n: usize| {
            let mut one = item(&format!("{n:03}"), &format!("zebra lantern {n}"));
            one.metadata.insert(MetaKey::new("later").unwrap(), MetaValue::Text("x y".to_owned()));
            put(one, &space, &[1.0, 0.0])
        };
        off.commit(&context, commit((0..350).map(write).collect())).await.unwrap();
        assert!(indexes(&rig).is_empty());
        let store = &rig.store;
        let found = until_ready!(by_words(store, &context, "lantern", Filter::All, 1_000));
        assert_eq!(found.hits.len(), 350);
        assert!(found.exact, "the words have been counted");
        let found = until_ready!(nearest(store, &context, &space, &[1.0, 0.0], Filter::All, 1_000));
        assert_eq!(found.hits.len(), 350);
        // Another key is declared and another language spoken: fields and indexes are made anew.
        let later = rig.with(json!({"filter_keys": {"later": "text"}, "language": "none"})).await;
        let passing =
            Filter::eq(memory_core::Field::Metadata(MetaKey::new("later").unwrap()), "x y");
        let found = until_ready!(by_words(&later, &context, "lantern", passing.clone(), 1_000));
        assert_eq!(found.hits.len(), 350);
        let found =
            until_ready!(nearest(&later, &context, &space, &[1.0, 0.0], passing.clone(), 1_000));
        assert_eq!(found.hits.len(), 350);
        let mut raw = rig.raw("t");
        let (state, one) = (raw.hash("s"), raw.hash("m:000"));
        assert!(state["ix"].starts_with(b"1.v1-none"), "{state:?}");
        assert!(!state.contains_key("ib"));
        assert_eq!(one["m:later"], b"p,tx%20y");
        let counted: u64 = String::from_utf8(state["wl"].clone()).unwrap().parse().unwrap();
        assert_eq!(counted, 3 * 350);
        assert_eq!(indexes(&rig).len(), 2, "{:?}", indexes(&rig));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_grows_gets_a_graph_and_stays_found_meanwhile() {
    for server in WITH_ENGINE {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, space) = (tenant("t"), space("m", 2));
        set_spaces(&rig, &context, space.clone(), None).await;
        let store = rig.with(json!({"vectors": {"flat_up_to": 100}})).await;
        let write = |n: usize| {
            let angle = f32::from(u16::try_from(n).unwrap()) / 1_000.0;
            put(item(&format!("{n:03}"), "zebra"), &space, &[angle.cos(), angle.sin()])
        };
        store.commit(&context, commit((0..100).map(write).collect())).await.unwrap();
        let found = nearest(&store, &context, &space, &[1.0, 0.0], Filter::All, 5).await.unwrap();
        assert!(found.exact);
        assert!(indexes(&rig).iter().any(|name| name.starts_with("ft:f")));
        store.commit(&context, commit((100..300).map(write).collect())).await.unwrap();
        let mut looks = 0;
        loop {
            let found =
                nearest(&store, &context, &space, &[1.0, 0.0], Filter::All, 5).await.unwrap();
            assert_eq!(ids(&found), ["000", "001", "002", "003", "004"]);
            if !found.exact {
                break;
            }
            looks += 1;
            assert!(looks < 200, "no graph comes");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let names = indexes(&rig);
        assert!(names.iter().any(|name| name.starts_with("ft:h")), "{names:?}");
        store.commit(&context, commit((300..301).map(write).collect())).await.unwrap();
        let found =
            nearest(&store, &context, &space, &[0.3_f32.cos(), 0.3_f32.sin()], Filter::All, 1)
                .await
                .unwrap();
        assert_eq!(ids(&found), ["300"]);
        let gone =
            (50..301).map(|n| Write::delete(super::rig::id(&format!("{n:03}")), Precondition::Any));
        store.commit(&context, commit(gone.collect())).await.unwrap();
        let mut looks = 0;
        while !nearest(&store, &context, &space, &[1.0, 0.0], Filter::All, 5).await.unwrap().exact {
            looks += 1;
            assert!(looks < 200, "the graph stays");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _ = nearest(&store, &context, &space, &[1.0, 0.0], Filter::All, 5).await.unwrap();
        assert_eq!(indexes(&rig).len(), 2, "{:?}", indexes(&rig));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_make_one_set_of_indexes() {
    for server in WITH_ENGINE {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, space) = (tenant("t"), space("m", 2));
        set_spaces(&rig, &context, space.clone(), None).await;
        let off = rig.with(json!({"search": "off"})).await;
        let write = |n: usize| put(item(&format!("{n:04}"), "zebra"), &space, &[1.0, 0.0]);
        off.commit(&context, commit((0..900).map(write).collect())).await.unwrap();
        let stores = [rig.another().await, rig.another().await, rig.another().await];
        let searches = stores.iter().map(|store| async {
            until_ready!(by_words(store, &context, "zebra", Filter::All, 1_000)).hits.len()
        });
        assert_eq!(futures::future::join_all(searches).await, [900; 3]);
        let own = Write::put(item("own", "zebra"), Vectors::default(), Precondition::Any);
        stores[1].commit(&context, commit(vec![own])).await.unwrap();
        let found = by_words(&stores[2], &context, "zebra", Filter::All, 1_000).await.unwrap();
        assert_eq!(found.hits.len(), 901);
        assert_eq!(indexes(&rig).len(), 2, "{:?}", indexes(&rig));
        let mut raw = rig.raw("t");
        assert_eq!(raw.run("HGET", "s", &[b"wl"]), Value::BulkString(b"901".to_vec()));
    }
}
