//! Passwords, users and servers that are not what the settings say.

use std::time::Duration;

use memory_core::traits::{RecordStore as _, RecordStoreExt as _};
use memory_core::{Clock as _, Durability, ErrorKind, Outcome, SystemClock};
use serde_json::json;

use super::server::{Server, ask_at, open};
use crate::records::rig::{id, item, put_one, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_opens_and_a_wrong_one_is_named_without_itself() {
    let Some(server) = Server::start(&["--save", "", "--requirepass", "pa/ss@word"]) else {
        return;
    };
    let at = |credentials: &str| format!("redis://{credentials}127.0.0.1:{}", server.port);
    for wrong in [at(":not-the-secret@"), at("nobody:not-the-secret@"), at("")] {
        let error = open(&wrong, json!({})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(!error.is_retryable());
        assert!(!format!("{error} {error:?}").contains("not-the-secret"));
    }
    let store = open(&at(":pa%2Fss%40word@"), json!({})).await.unwrap();
    put_one(&store, &tenant("t"), item("a", "x")).await.unwrap();
    assert!(!format!("{store:?}").contains("word"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_few_rights_serves_and_one_with_fewer_is_told() {
    let Some(server) = Server::start(&["--save", ""]) else { return };
    let set = |rules: &[&str]| {
        server.ask::<()>(&[&["ACL", "SETUSER"], rules].concat()).unwrap();
    };
    // The store's keys alone, nothing dangerous but INFO, and no CONFIG.
    set(&["app", "on", ">one", "resetkeys", "~om:*", "+@all", "-@dangerous", "+info"]);
    set(&["reader", "on", ">two", "~om:*", "+@all", "-@dangerous", "+info", "-@write"]);
    set(&["other", "on", ">three", "~elsewhere:*", "+@all"]);
    let at = |credentials: &str| format!("redis://{credentials}@127.0.0.1:{}", server.port);
    let store = open(&at("app:one"), json!({})).await.unwrap();
    put_one(&store, &tenant("t"), item("a", "x")).await.unwrap();
    assert!(store.fetch_one(&tenant("t"), &id("a")).await.unwrap().is_some());
    let health = store.health().await;
    assert_eq!(health.details["appendfsync"], "not known", "{health:?}");
    assert!(matches!(store.capabilities().durability, Durability::Service(_)));
    for credentials in ["reader:two", "other:three"] {
        let error = match open(&at(credentials), json!({})).await {
            Err(error) => error,
            Ok(store) => put_one(&store, &tenant("t"), item("b", "x")).await.unwrap_err(),
        };
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(!error.is_retryable());
    }
    assert!(store.fetch_one(&tenant("t"), &id("b")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_evict_is_refused_unless_that_is_wanted() {
    let options = ["--save", "", "--maxmemory", "200mb", "--maxmemory-policy", "allkeys-lru"];
    let Some(server) = Server::start(&options) else { return };
    let error = open(&server.url(), json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("noeviction"), "{error}");
    let store = open(&server.url(), json!({"allow_eviction": true})).await.unwrap();
    put_one(&store, &tenant("t"), item("a", "x")).await.unwrap();
    assert_eq!(store.capabilities().durability, Durability::Volatile);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_another_kind_than_is_set_are_named() {
    let Some(server) = Server::start(&["--save", ""]) else { return };
    let error = open(&server.url(), json!({"cluster": true})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.message().contains("no cluster"), "{error}");
    let Some(node) = Server::start(&["--save", "", "--cluster-enabled", "yes"]) else { return };
    let error = open(&node.url(), json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.message().contains("set `cluster`"), "{error}");
    // A cluster without slots serves nothing, and says so.
    let error = open(&node.url(), json!({"cluster": true})).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Unavailable, Outcome::NotApplied),
        "{error}"
    );
    let options = ["--save", "", "--replicaof", "127.0.0.1", &server.port.to_string()];
    let Some(replica) = Server::start(&options) else { return };
    let error = open(&replica.url(), json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("primary"), "{error}");
    assert!(ask_at::<String>(&server.url(), &["PING"]).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_does_not_hold_up_one_who_wants_it() {
    let Some(server) = Server::start(&["--save", ""]) else { return };
    let clock = SystemClock::new();
    let error = open(&format!("rediss://:secret@127.0.0.1:{}", server.port), json!({})).await;
    let error = error.unwrap_err();
    assert!(clock.monotonic() < Duration::from_secs(5));
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"));
    assert!(open(&server.url(), json!({})).await.is_ok());
}
