//! Full, flushed, killed, stopped and absent servers.

use std::time::Duration;

use memory_core::traits::{Cache as _, CacheRead};
use memory_core::{ErrorKind, HealthStatus};

use super::rig::{
    LIFE, Rig, Server, connect, fill, hit, key, miss, names, now, open, tenant, until,
};

/// Far longer than the response timeout of the rig, and than a loaded machine needs.
const IN_TIME: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_full_server_keeps_nothing_more_and_still_takes_writes_notice() {
    let Some(server) = Server::new(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"])
    else {
        return;
    };
    let rig = Rig::at(&server.url(), false).await;
    let t = tenant("t");
    rig.put(&t, "i:a", b"old").await;
    let before = miss(rig.read(&t, "i:b").await);
    let mut refused = None;
    for number in 0..10_000 {
        let group = format!("i:{number}");
        let Ok(mut read) = rig.cache.read(&t, &[key(&group)], LIFE).await else { break };
        let token = miss(read.remove(0));
        if let Err(error) = rig.cache.fill(&t, vec![fill(&group, token, &[7; 10_000])]).await {
            refused = Some(error);
            break;
        }
    }
    let error = refused.expect("the server is full at some time");
    assert!(error.backend() == "redis", "{error:?}");
    // What is kept is served, and tokens are refused in the end.
    assert_eq!(rig.read(&t, "i:a").await, hit(b"old"));
    let mut refused = false;
    for number in 0..20_000 {
        if rig.cache.read(&t, &[key(&format!("i:new{number}"))], LIFE).await.is_err() {
            refused = true;
            break;
        }
    }
    assert!(refused, "tokens find room without end");
    // Writes tell it all the same, those of new groups too.
    let write = rig.begin(&t, &["i:a", "i:b", "i:never"]).await;
    for group in ["i:a", "i:b", "i:never"] {
        assert_eq!(rig.read(&t, group).await, CacheRead::InFlight);
    }
    rig.end(&t, &write).await;
    miss(rig.read(&t, "i:a").await);
    let refused = rig.cache.fill(&t, vec![fill("i:b", before, b"old")]).await;
    assert!(refused.is_err() || refused.unwrap() == [false]);
    let health = rig.cache.health().await;
    assert_eq!(health.details["maxmemory_policy"], "noeviction");
    assert!(health.details["advice"].contains("allkeys-lru"), "{health:?}");
    // With room it keeps again.
    redis::cmd("FLUSHALL").exec(&mut connect(&server.url())).unwrap();
    rig.put(&t, "i:a", b"new").await;
    assert_eq!(rig.read(&t, "i:a").await, hit(b"new"));
}

#[tokio::test]
async fn an_evicting_server_forgets_and_nothing_old_comes_back() {
    let Some(server) = Server::new(&["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"])
    else {
        return;
    };
    let rig = Rig::at(&server.url(), false).await;
    let t = tenant("t");
    for number in 0..2_000 {
        let group = format!("i:{number}");
        let read = rig.cache.read(&t, &[key(&group)], LIFE).await.unwrap().remove(0);
        rig.cache.fill(&t, vec![fill(&group, miss(read), &[7; 5_000])]).await.unwrap();
    }
    let health = rig.cache.health().await;
    assert_eq!(health.status, HealthStatus::Healthy);
    assert!(health.details["evicted_keys"].parse::<u64>().unwrap() > 100, "{health:?}");
    assert!(!health.details.contains_key("advice"), "{health:?}");
    let keys: Vec<_> = (0..2_000).map(|number| key(&format!("i:{number}"))).collect();
    let (mut hits, mut misses) = (0, 0);
    for keys in keys.chunks(100) {
        for read in rig.cache.read(&t, keys, LIFE).await.unwrap() {
            match read {
                CacheRead::Hit(value) => {
                    assert_eq!(value, [7; 5_000]);
                    hits += 1;
                }
                _ => misses += 1,
            }
        }
    }
    // Where the wider group went, every value went with it.
    assert!(misses > 100, "{hits} {misses}");
}

#[tokio::test]
async fn a_flush_removes_tokens_and_marks_and_lets_no_older_value_in() {
    let Some(server) = Server::new(&[]) else { return };
    let rig = Rig::at(&server.url(), false).await;
    let t = tenant("t");
    let flush = || redis::cmd("FLUSHALL").exec(&mut connect(&server.url())).unwrap();
    let before = miss(rig.read(&t, "i:a").await);
    flush();
    assert!(!rig.fill(&t, "i:a", before, b"old").await);
    assert_ne!(miss(rig.read(&t, "i:a").await), before);
    assert!(!rig.fill(&t, "i:a", before, b"old").await);
    let write = rig.begin(&t, &["i:a"]).await;
    flush();
    let between = miss(rig.read(&t, "i:a").await);
    rig.end(&t, &write).await;
    assert!(!rig.fill(&t, "i:a", between, b"old").await);
    // The scripts are forgotten too.
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connect(&server.url())).unwrap();
    rig.put(&t, "i:a", b"new").await;
    assert_eq!(rig.read(&t, "i:a").await, hit(b"new"));
}

#[tokio::test]
async fn a_killed_server_fails_calls_in_time_and_serves_when_it_is_back() {
    let Some(mut server) = Server::new(&[]) else { return };
    let rig = Rig::at(&server.url(), false).await;
    let t = tenant("t");
    for round in 0..3 {
        rig.put(&t, "i:a", b"old").await;
        let before = miss(rig.read(&t, "i:b").await);
        server.kill();
        for _ in 0..3 {
            let began = now();
            let error = rig.cache.read(&t, &[key("i:a")], LIFE).await.unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
                "{error:?}"
            );
            assert!(rig.cache.begin_write(&t, names(&["i:a"]), LIFE).await.is_err());
            assert!(began.elapsed() < IN_TIME, "round {round}: {:?}", began.elapsed());
        }
        let health = rig.cache.health().await;
        assert_eq!(health.status, HealthStatus::Degraded, "{health:?}");
        server.restart();
        let token = until("the connection", async || {
            rig.cache.read(&t, &[key("i:a")], LIFE).await.ok().map(|mut read| miss(read.remove(0)))
        })
        .await;
        assert!(!rig.fill(&t, "i:b", before, b"old").await);
        assert!(rig.fill(&t, "i:a", token, b"new").await);
        assert_eq!(rig.read(&t, "i:a").await, hit(b"new"));
        let write = rig.begin(&t, &["i:a"]).await;
        rig.end(&t, &write).await;
    }
}

#[tokio::test]
async fn a_server_that_stands_still_fails_calls_in_time() {
    let Some(server) = Server::new(&[]) else { return };
    let rig = Rig::at(&server.url(), false).await;
    let t = tenant("t");
    rig.put(&t, "i:a", b"old").await;
    server.signal("STOP");
    let began = now();
    let read = rig.cache.read(&t, &[key("i:a")], LIFE).await;
    let begun = rig.cache.begin_write(&t, names(&["i:a"]), LIFE).await;
    let health = rig.cache.health().await;
    let took = began.elapsed();
    server.signal("CONT");
    assert!(read.is_err() && begun.is_err());
    assert!(took < IN_TIME, "{took:?}");
    assert_eq!(health.status, HealthStatus::Degraded, "{health:?}");
    // The mark may have arrived and may not have; another one and its end make the group usable.
    let write = until("the connection", async || {
        rig.cache.begin_write(&t, names(&["i:a"]), LIFE).await.ok()
    })
    .await;
    rig.end(&t, &write).await;
    until("a token", async || match rig.cache.read(&t, &[key("i:a")], LIFE).await {
        Ok(mut read) => (read.remove(0) != hit(b"old")).then_some(()),
        Err(_) => None,
    })
    .await;
}

#[tokio::test]
async fn an_absent_server_opens_and_is_degraded() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cache = open(&format!("redis://user:hidden-word@127.0.0.1:{port}"), false, "t").await;
    let began = now();
    let error = cache.read(&tenant("t"), &[key("i:a")], LIFE).await.unwrap_err();
    let health = cache.health().await;
    assert!(began.elapsed() < IN_TIME);
    assert_eq!(health.status, HealthStatus::Degraded);
    assert_eq!(health.reasons.len(), 1, "{health:?}");
    for shown in [format!("{error:?} {error}"), format!("{health:?}"), format!("{cache:?}")] {
        assert!(!shown.contains("hidden-word"), "{shown}");
    }
    cache.close().await.unwrap();
}
