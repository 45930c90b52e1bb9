//! The steps of readers and writers, one by one. That they are those of the protocol in every order
//! is shown beside the protocol itself.

use std::collections::BTreeSet;
use std::time::Duration;

use memory_core::traits::{Cache as _, CacheKey, CacheRead, CacheWrite};
use memory_core::{Deadline, ErrorKind, HealthStatus};

use super::rig::{LIFE, Rig, SERVERS, fill, hit, key, miss, names, one, tenant, until};

#[tokio::test]
async fn a_value_is_kept_under_the_tokens_that_its_reader_saw() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let t = tenant("t");
        let token = miss(rig.read(&t, "i:a").await);
        assert_eq!(miss(rig.read(&t, "i:a").await), token, "one token for all");
        assert!(rig.fill(&t, "i:a", token, b"one").await);
        assert_eq!(rig.read(&t, "i:a").await, hit(b"one"));
        let other = rig.another().await;
        assert_eq!(one(other.read(&t, &[key("i:a")], LIFE).await.unwrap()), hit(b"one"));
        // Another entry of the group, another group, another tenant.
        let entry = CacheKey { entry: "1c".to_owned(), ..key("i:a") };
        let seen = one(rig.cache.read(&t, &[entry], LIFE).await.unwrap());
        assert_eq!(miss(seen), token);
        assert_ne!(miss(rig.read(&t, "i:b").await).group, token.group);
        assert_ne!(miss(rig.read(&tenant("u"), "i:a").await), token);
        // An empty value, and any bytes.
        rig.put(&t, "i:c", b"").await;
        assert_eq!(rig.read(&t, "i:c").await, hit(b""));
        let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        rig.put(&t, "i:d", &bytes).await;
        assert_eq!(rig.read(&t, "i:d").await, hit(&bytes));
    }
}

#[tokio::test]
async fn a_write_removes_values_and_refuses_older_tokens() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let t = tenant("t");
        rig.put(&t, "i:a", b"old").await;
        rig.put(&t, "i:b", b"other").await;
        let before = miss(rig.read(&t, "i:c").await);
        let write = rig.begin(&t, &["i:a", "i:c"]).await;
        assert_eq!(write.groups, names(&["i:a", "i:c"]));
        assert_eq!(rig.read(&t, "i:a").await, CacheRead::InFlight);
        assert!(!rig.fill(&t, "i:c", before, b"old").await);
        rig.end(&t, &write).await;
        assert!(!rig.fill(&t, "i:c", before, b"old").await);
        assert_ne!(miss(rig.read(&t, "i:c").await).group, before.group);
        rig.put(&t, "i:a", b"new").await;
        assert_eq!(rig.read(&t, "i:a").await, hit(b"new"));
        assert_eq!(rig.read(&t, "i:b").await, hit(b"other"), "it was not written");
    }
}

#[tokio::test]
async fn a_write_of_the_wider_group_makes_values_worthless() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let t = tenant("t");
        rig.put(&t, "i:a", b"old").await;
        let before = miss(rig.read(&t, "i:b").await);
        let write = rig.begin(&t, &["all"]).await;
        assert_eq!(rig.read(&t, "i:a").await, CacheRead::InFlight);
        assert_eq!(rig.read(&t, "i:fresh").await, CacheRead::InFlight);
        assert_eq!(rig.raw::<u64>("EXISTS", &rig.key("t", "i:fresh"), &[]), 0, "none is issued");
        assert!(!rig.fill(&t, "i:b", before, b"old").await);
        rig.end(&t, &write).await;
        assert!(!rig.fill(&t, "i:b", before, b"old").await);
        let after = miss(rig.read(&t, "i:a").await);
        assert!(rig.fill(&t, "i:a", after, b"new").await);
        assert_eq!(rig.read(&t, "i:a").await, hit(b"new"));
    }
}

#[tokio::test]
async fn of_two_writes_the_last_to_mark_is_the_one_to_end() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let t = tenant("t");
        let first = rig.begin(&t, &["i:a"]).await;
        let second = rig.begin(&t, &["i:a"]).await;
        rig.end(&t, &first).await;
        assert_eq!(rig.read(&t, "i:a").await, CacheRead::InFlight);
        rig.end(&t, &second).await;
        rig.put(&t, "i:a", b"new").await;
        // A write that could not put its mark: it ends all but another's.
        let unmarked = CacheWrite { groups: names(&["i:a"]), mark: [0; 16] };
        rig.end(&t, &unmarked).await;
        miss(rig.read(&t, "i:a").await);
        let third = rig.begin(&t, &["i:a"]).await;
        rig.end(&t, &unmarked).await;
        assert_eq!(rig.read(&t, "i:a").await, CacheRead::InFlight);
        rig.end(&t, &third).await;
        miss(rig.read(&t, "i:a").await);
    }
}

#[tokio::test]
async fn keys_are_answered_in_their_order_and_wide_groups_apart() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let t = tenant("t");
        rig.put(&t, "i:a", b"a").await;
        rig.put(&t, "i:b", b"b").await;
        let write = rig.begin(&t, &["i:c"]).await;
        let history =
            CacheKey { group: "h:u".to_owned(), under: "hist".to_owned(), entry: "1".to_owned() };
        let keys =
            [key("i:b"), key("i:d"), history, key("i:c"), key("i:a"), key("i:b"), key("i:d")];
        let answers = rig.cache.read(&t, &keys, LIFE).await.unwrap();
        assert_eq!(answers.len(), keys.len());
        assert_eq!((&answers[0], &answers[4], &answers[5]), (&hit(b"b"), &hit(b"a"), &hit(b"b")));
        assert_eq!(answers[3], CacheRead::InFlight);
        let (absent, again) = (miss(answers[1].clone()), miss(answers[6].clone()));
        assert_eq!(absent, again);
        assert_ne!(miss(answers[2].clone()).under, absent.under);
        rig.end(&t, &write).await;
        // Each fill is judged by itself.
        let token = miss(rig.read(&t, "i:c").await);
        let wrong = miss(rig.read(&t, "i:e").await);
        let fills =
            vec![fill("i:c", token, b"c"), fill("i:d", wrong, b"x"), fill("i:d", absent, b"d")];
        assert_eq!(rig.cache.fill(&t, fills).await.unwrap(), [true, false, true]);
        assert_eq!(rig.read(&t, "i:d").await, hit(b"d"));
        assert_eq!(rig.cache.read(&t, &[], LIFE).await.unwrap(), []);
        assert_eq!(rig.cache.fill(&t, vec![]).await.unwrap(), Vec::<bool>::new());
        let none = rig.begin(&t, &[]).await;
        rig.end(&t, &none).await;
    }
}

#[tokio::test]
async fn no_fill_makes_a_token_last_longer() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let t = tenant("t");
        let life = Duration::from_secs(9);
        let token = miss(one(rig.cache.read(&t, &[key("i:a")], life).await.unwrap()));
        let left = |group: &str| rig.raw::<i64>("PTTL", &rig.key("t", group), &[]);
        assert!((1..=9_000).contains(&left("i:a")) && (1..=9_000).contains(&left("all")));
        rig.raw::<i64>("PEXPIRE", &rig.key("t", "i:a"), &[b"5000"]);
        assert!(rig.fill(&t, "i:a", token, b"a").await);
        assert_eq!(rig.read(&t, "i:a").await, hit(b"a"));
        assert!((1..=5_000).contains(&left("i:a")));
        let write =
            rig.cache.begin_write(&t, names(&["i:a"]), Duration::from_secs(3)).await.unwrap();
        assert!((1..=3_000).contains(&left("i:a")));
        rig.cache.end_write(&t, write, Duration::from_secs(7)).await.unwrap();
        assert!((3_001..=7_000).contains(&left("i:a")));
        // When its time is over, a value and a mark are as if they had never been.
        rig.put(&t, "i:b", b"b").await;
        rig.raw::<i64>("PEXPIRE", &rig.key("t", "i:b"), &[b"30"]);
        until("the end of a token", async || {
            (rig.read(&t, "i:b").await != hit(b"b")).then_some(())
        })
        .await;
        let token = miss(rig.read(&t, "i:c").await);
        let most = Duration::from_millis(30);
        let crashed = rig.cache.begin_write(&t, names(&["i:c"]), most).await.unwrap();
        let after = until("the end of a mark", async || match rig.read(&t, "i:c").await {
            CacheRead::Miss(token) => Some(token),
            _ => None,
        })
        .await;
        assert_ne!(after.group, token.group);
        assert!(rig.fill(&t, "i:c", after, b"c").await);
        // The writer lives after all.
        rig.end(&t, &crashed).await;
        miss(rig.read(&t, "i:c").await);
    }
}

#[tokio::test]
async fn a_write_of_thousands_of_groups_marks_all_of_them() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let t = tenant("t");
        let groups: Vec<String> = (0..2_500).map(|number| format!("i:{number}")).collect();
        let keys: Vec<_> = groups.iter().map(|group| key(group)).collect();
        let tokens = rig.cache.read(&t, &keys, LIFE).await.unwrap();
        let fills =
            tokens.into_iter().zip(&groups).map(|(read, group)| fill(group, miss(read), b"x"));
        let kept = rig.cache.fill(&t, fills.collect()).await.unwrap();
        assert!(kept.len() == 2_500 && kept.iter().all(|kept| *kept));
        let write = rig.cache.begin_write(&t, groups, LIFE).await.unwrap();
        let answers = rig.cache.read(&t, &keys, LIFE).await.unwrap();
        assert!(answers.iter().all(|answer| *answer == CacheRead::InFlight));
        rig.end(&t, &write).await;
        let answers = rig.cache.read(&t, &keys, LIFE).await.unwrap();
        let tokens: BTreeSet<_> = answers.into_iter().map(|answer| miss(answer).group).collect();
        assert_eq!(tokens.len(), 2_500, "each has its own");
    }
}

#[tokio::test]
async fn late_and_closed_calls_are_refused() {
    let Some(rig) = Rig::on(SERVERS[0]).await else { return };
    let t = tenant("t");
    miss(rig.read(&t, "i:a").await);
    let late = t.clone().with_deadline(Some(Deadline::at(Duration::ZERO)));
    let error = rig.cache.read(&late, &[key("i:a")], LIFE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!((error.backend(), error.operation()), ("redis", "cache_read"));
    let health = rig.cache.health().await;
    assert_eq!(health.status, HealthStatus::Healthy, "{health:?}");
    for detail in ["hits", "memory_bytes", "evicted_keys", "maxmemory_policy", "version"] {
        assert!(health.details.contains_key(detail), "{health:?}");
    }
    rig.cache.close().await.unwrap();
    rig.cache.close().await.unwrap();
    let error = rig.cache.read(&t, &[key("i:a")], LIFE).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, false));
}
