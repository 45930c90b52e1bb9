//! What a call costs the server.

use std::collections::BTreeMap;

use memory_core::traits::Cache as _;

use super::rig::{LIFE, Rig, Server, connect, hit, key, miss, tenant};

/// How often each command was run, but for those of the test itself.
fn calls(url: &str) -> BTreeMap<String, u64> {
    let text: String = redis::cmd("INFO").arg("commandstats").query(&mut connect(url)).unwrap();
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(":calls=") else { continue };
        let name = name.trim_start_matches("cmdstat_").to_owned();
        let count: u64 = rest.split(',').next().unwrap().parse().unwrap();
        if !["info", "client|setinfo", "hello", "config|resetstat"].contains(&&*name) {
            calls.insert(name, count);
        }
    }
    calls
}

#[tokio::test]
async fn a_hit_costs_two_plain_commands_and_a_miss_one_script_more() {
    let Some(server) = Server::new(&[]) else { return };
    let url = server.url();
    let rig = Rig::at(&url, false).await;
    let t = tenant("t");
    // Connections and scripts are there.
    let write = rig.begin(&t, &["i:warm"]).await;
    rig.end(&t, &write).await;
    rig.put(&t, "i:warm", b"x").await;
    let reset = || redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut connect(&url)).unwrap();
    let of = |pairs: &[(&str, u64)]| {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<BTreeMap<_, _>>()
    };
    reset();
    assert_eq!(rig.read(&t, "i:warm").await, hit(b"x"));
    assert_eq!(calls(&url), of(&[("hmget", 1), ("hget", 1)]));
    // Three keys under one wider group.
    reset();
    let keys = [key("i:warm"), key("i:warm"), key("i:warm")];
    rig.cache.read(&t, &keys, LIFE).await.unwrap();
    assert_eq!(calls(&url), of(&[("hmget", 3), ("hget", 1)]));
    // A token that is there is not issued again.
    let token = miss(rig.read(&t, "i:a").await);
    reset();
    assert_eq!(miss(rig.read(&t, "i:a").await), token);
    assert_eq!(calls(&url), of(&[("hmget", 1), ("hget", 1)]));
    reset();
    miss(rig.read(&t, "i:b").await);
    let found = calls(&url);
    assert_eq!((found["evalsha"], found["pexpire"]), (1, 1), "{found:?}");
    reset();
    let write = rig.begin(&t, &["i:a", "i:b"]).await;
    rig.end(&t, &write).await;
    assert_eq!(calls(&url)["evalsha"], 2);
}
