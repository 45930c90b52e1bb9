//! Keys that hold what no build wrote: told as such, and nothing panics.

use memory_core::traits::{RecordStore as _, RecordStoreExt as _};
use memory_core::{ErrorKind, IdempotencyKey, Precondition, Projection, Write};

use super::rig::{Rig, SERVERS, commit, id, item, put, put_one, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_memories_are_corrupt_and_say_where() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, mut raw) = (tenant("t"), rig.raw("t"));
        for (field, value) in [
            ("h", &b""[..]),
            ("h", b"\x00\x00"),
            ("h", b"\x01\x01"),
            ("r", b""),
            ("kd", b"a\nb"),
            ("ro", b"robot"),
            ("u", b"\xff"),
            ("c", b"\xff"),
            ("ch", b"xyz"),
            ("im", b"2"),
            ("p", b"{"),
            ("to", b"1"),
            ("tu", b"99999999999999999999"),
            ("e", b"0"),
        ] {
            put_one(&rig.store, &context, item("a", "text")).await.unwrap();
            raw.run("HSET", "m:a", &[field.as_bytes(), value]);
            let error = rig.store.fetch_one(&context, &id("a")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{field}: {error}");
            assert!(error.context().contains(&("memory", "a".to_owned())), "{error}");
            assert!(error.context().contains(&("field", field.to_owned())), "{error}");
            let both = [id("b"), id("a")];
            let error = rig.store.fetch(&context, &both, &Projection::full()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            raw.run("DEL", "m:a", &[]);
        }
        raw.run("HSET", "m:a", &[b"h", b"\x02\x00"]);
        let error = rig.store.fetch_one(&context, &id("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_over_what_is_no_memory_write_nothing() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, mut raw) = (tenant("t"), rig.raw("t"));
        put_one(&rig.store, &context, item("a", "text")).await.unwrap();
        raw.run("HDEL", "m:a", &[b"e"]);
        raw.run("SET", "m:b", &[b"no hash"]);
        for name in ["a", "b"] {
            let before = raw.dump();
            let writes = vec![
                put(item("c", "x"), Precondition::Any),
                put(item(name, "x"), Precondition::Any),
            ];
            let error = rig.store.commit(&context, commit(writes)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            let delete = vec![Write::delete(id(name), Precondition::Any)];
            let error = rig.store.commit(&context, commit(delete)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            raw.assert_unchanged(&before);
        }
        assert_eq!(
            rig.store.fetch_one(&context, &id("b")).await.unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        let whole = put(item("c", "x"), Precondition::Any);
        rig.store.commit(&context, commit(vec![whole])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_answers_under_a_key_are_corrupt_and_newer_ones_unsupported() {
    let Some(rig) = Rig::on(SERVERS[1]).await else { return };
    let (context, mut raw) = (tenant("t"), rig.raw("t"));
    let keyed = || {
        let key = IdempotencyKey::new("key", [1; 32]).unwrap();
        commit(vec![put(item("a", "x"), Precondition::Any)]).with_idempotency(Some(key))
    };
    rig.store.commit(&context, keyed()).await.unwrap();
    for (lines, kind) in [
        ("x", ErrorKind::Corrupt),
        ("1", ErrorKind::Corrupt),
        ("1\nx", ErrorKind::Corrupt),
        ("1\n1\na", ErrorKind::Corrupt),
        ("1\n1\na\n1-0", ErrorKind::Corrupt),
        ("1\n1\n\n1-0\n0", ErrorKind::Corrupt),
        ("2\nwhatever", ErrorKind::Unsupported),
    ] {
        raw.run("HSET", "k:key", &[b"a", lines.as_bytes()]);
        let error = rig.store.commit(&context, keyed()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{lines:?}: {error}");
    }
}
