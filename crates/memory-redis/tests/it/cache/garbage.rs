//! Keys that hold anything else: they count as absent, and are replaced.

use memory_core::traits::CacheRead;

use super::rig::{Rig, SERVERS, hit, miss, tenant};

/// Puts something under a key: a command's name and arguments.
type Made = (&'static str, &'static [&'static [u8]]);

const GARBAGE: &[Made] = &[
    ("SET", &[b"x"]),
    ("RPUSH", &[b"x", b"y"]),
    ("SADD", &[b"x"]),
    ("ZADD", &[b"1", b"x"]),
    ("XADD", &[b"*", b"t", b"x"]),
    ("PFADD", &[b"x"]),
    // Hashes without a token, or with what is none.
    ("HSET", &[b"x", b"y"]),
    ("HSET", &[b"t", b""]),
    ("HSET", &[b"t", b"T"]),
    ("HSET", &[b"t", b"T\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e"]),
    ("HSET", &[b"t", b"T\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"]),
    // Another version's.
    ("HSET", &[b"t", b"U\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"]),
    ("HSET", &[b"t", b"12345", b"e1cpm", b"a value that is long enough for a token"]),
];

#[tokio::test]
async fn what_is_no_group_counts_as_absent_and_is_replaced() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let t = tenant("t");
        for (number, (command, args)) in GARBAGE.iter().enumerate() {
            for foreign in ["group", "all"] {
                let group = format!("i:{number}");
                let name = if foreign == "all" { "all" } else { &group };
                let place = rig.key("t", name);
                let spoil = || {
                    rig.raw::<u64>("DEL", &place, &[]);
                    rig.raw::<redis::Value>(command, &place, args);
                };
                let case = format!("{command} {args:?} as {foreign}");
                // Of a reader.
                spoil();
                let token = miss(rig.read(&t, &group).await);
                assert!(rig.fill(&t, &group, token, b"v").await, "{case}");
                assert_eq!(rig.read(&t, &group).await, hit(b"v"), "{case}");
                assert!(rig.raw::<i64>("PTTL", &place, &[]) > 0, "{case}");
                // Of a fill.
                let token = miss(rig.read(&t, "i:other").await);
                spoil();
                let spoilt = if foreign == "all" { "i:other" } else { &group };
                assert!(!rig.fill(&t, spoilt, token, b"v").await, "{case}");
                // Of a writer.
                spoil();
                let write = rig.begin(&t, &[name]).await;
                assert_eq!(rig.read(&t, &group).await, CacheRead::InFlight, "{case}");
                spoil();
                rig.end(&t, &write).await;
                miss(rig.read(&t, &group).await);
                rig.put(&t, &group, b"w").await;
                assert_eq!(rig.read(&t, &group).await, hit(b"w"), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_value_without_its_token_is_a_miss() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let t = tenant("t");
        rig.put(&t, "i:a", b"the value").await;
        let place = rig.key("t", "i:a");
        let whole: Vec<u8> = rig.raw("HGET", &place, &[b"e1cpm"]);
        assert_eq!(whole.len(), 9 + 16);
        for end in 0..whole.len() {
            rig.raw::<i64>("HSET", &place, &[b"e1cpm", &whole[..end]]);
            miss(rig.read(&t, "i:a").await);
        }
        rig.raw::<i64>("HSET", &place, &[b"e1cpm", &whole[1..]]);
        assert_eq!(
            rig.read(&t, "i:a").await,
            hit(b"he value"),
            "what it says is the reader's to judge"
        );
        rig.raw::<i64>("HSET", &place, &[b"e1cpm", &whole]);
        assert_eq!(rig.read(&t, "i:a").await, hit(b"the value"));
    }
}
