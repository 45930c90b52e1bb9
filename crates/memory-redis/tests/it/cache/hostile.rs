//! Tenants and groups that want to be read as something else.

use memory_core::traits::{Cache as _, CacheFill, CacheKey};
use memory_core::{CallContext, TenantId};

use super::rig::{LIFE, Rig, SERVERS, hit, miss, one, tenant};

#[tokio::test]
async fn tenants_do_not_meet_whatever_they_are_called() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let names = [
            "t",
            "T",
            "t}",
            "{t}",
            "{",
            "}",
            "t:c:",
            "t:c:i:a",
            ":",
            "*",
            "t*",
            "[a-z]",
            "?",
            "t\\",
            "%7D",
            "t%",
            "~store",
            "é",
            "😀",
            "a b",
            "$(x)",
            "'; FLUSHALL",
            "\"",
            "T\u{200b}",
        ];
        let tenants: Vec<CallContext> = names
            .iter()
            .filter_map(|name| TenantId::new(*name).ok())
            .map(CallContext::new)
            .collect();
        assert!(tenants.len() > 10, "{}", tenants.len());
        for t in &tenants {
            miss(rig.read(t, "i:a").await);
            rig.put(t, "i:a", t.tenant.as_str().as_bytes()).await;
        }
        for t in &tenants {
            assert_eq!(rig.read(t, "i:a").await, hit(t.tenant.as_str().as_bytes()));
        }
        let write = rig.begin(&tenants[0], &["i:a", "all"]).await;
        rig.end(&tenants[0], &write).await;
        for t in &tenants[1..] {
            assert_eq!(rig.read(t, "i:a").await, hit(t.tenant.as_str().as_bytes()));
        }
        miss(rig.read(&tenants[0], "i:a").await);
    }
    assert!(TenantId::new("t".repeat(10_240)).is_err(), "no tenant of 10 kB gets here");
}

#[tokio::test]
async fn groups_and_entries_are_bytes_and_nothing_else() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let t = tenant("t");
        let long = "x".repeat(10_240);
        let names = [
            "",
            "t",
            "e",
            "i:}",
            "i:{u}",
            "{",
            "}",
            "*",
            "i:*",
            "[a]",
            "a b",
            "a\nb",
            "a\r\nHSET x",
            "\0",
            "é",
            "😀",
            "%",
            "i:t\u{7f}",
            &long,
        ];
        let keys: Vec<CacheKey> = names
            .iter()
            .flat_map(|group| {
                ["", "t", "e", "a\r\nb", "{*}"].map(|entry| CacheKey {
                    group: (*group).to_owned(),
                    under: "all".to_owned(),
                    entry: entry.to_owned(),
                })
            })
            .collect();
        let value = |key: &CacheKey| format!("{:?}", (&key.group, &key.entry)).into_bytes();
        let reads = rig.cache.read(&t, &keys, LIFE).await.unwrap();
        let fills = keys.iter().zip(reads).map(|(key, read)| CacheFill {
            key: key.clone(),
            token: miss(read),
            value: value(key),
        });
        let kept = rig.cache.fill(&t, fills.collect()).await.unwrap();
        assert!(kept.iter().all(|kept| *kept));
        let reads = rig.cache.read(&t, &keys, LIFE).await.unwrap();
        for (key, read) in keys.iter().zip(reads) {
            assert_eq!(read, hit(&value(key)), "{key:?}");
        }
        // A write of one group leaves the others.
        let write = rig.begin(&t, &["i:*"]).await;
        rig.end(&t, &write).await;
        for key in &keys {
            let read = one(rig.cache.read(&t, std::slice::from_ref(key), LIFE).await.unwrap());
            assert_eq!(read == hit(&value(key)), key.group != "i:*", "{key:?}");
        }
    }
}
