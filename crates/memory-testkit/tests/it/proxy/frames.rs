//! Requests of HTTP/2 that are cut before the server has them, and after it has answered.

use memory_testkit::FaultProxy;
use memory_testkit::proxy::{Cut, Plan};

use super::servers::{Client, DATA, HEADERS, Http2, PING, WINDOW_UPDATE};
use super::{quiet, until};

async fn before(server: &Http2) -> FaultProxy {
    FaultProxy::start(server.address, 1).await.unwrap()
}

#[tokio::test]
async fn without_a_fault_requests_are_answered_and_counted() {
    let server = Http2::start(9).await;
    let proxy = before(&server).await;
    let mut client = Client::connect(proxy.address()).await;
    assert_eq!(client.ask(b"one").await.unwrap(), b"one");
    assert_eq!(client.ask(b"two").await.unwrap(), b"two");
    let mut other = Client::connect(proxy.address()).await;
    assert_eq!(other.ask(&[5; 100_000]).await.unwrap(), [5; 100_000]);
    let stats = proxy.stats();
    assert_eq!((stats.requests, stats.cuts, stats.accepted, stats.open), (3, 0, 2, 2));
    assert_eq!(server.worked(), 3);
    assert_eq!(proxy.struck(), []);
}

#[tokio::test]
async fn a_request_cut_before_it_is_forwarded_is_not_worked_on() {
    let server = Http2::start(9).await;
    let proxy = before(&server).await;
    let mut client = Client::connect(proxy.address()).await;
    assert!(client.ask(b"before the plan").await.is_some());
    proxy.set(Plan::pass().cut_next(Cut::BeforeForwarding, 1));
    assert_eq!(client.ask(b"lost").await, None);
    assert_eq!(server.worked(), 1, "{}", proxy.describe());
    // The plan is used up.
    let mut client = Client::connect(proxy.address()).await;
    assert!(client.ask(b"after it").await.is_some());
    let stats = proxy.stats();
    assert_eq!((server.worked(), stats.requests, stats.cuts), (2, 3, 1));
    let struck = proxy.struck()[0];
    assert_eq!((struck.connection, struck.request), (1, 2));
    assert_eq!(struck.cut, Cut::BeforeForwarding);
}

#[tokio::test]
async fn a_request_cut_before_its_answer_is_worked_on_and_its_client_learns_nothing() {
    let server = Http2::start(9).await;
    let proxy = before(&server).await;
    proxy.set(Plan::pass().cut_next(Cut::BeforeAnswering, 1));
    let mut client = Client::connect(proxy.address()).await;
    let number = client.send(b"done and lost").await;
    assert_eq!(client.answer(number).await, None);
    assert_eq!(server.worked(), 1, "{}", proxy.describe());
    let of_it = client.others.iter().filter(|frame| frame.stream == number).count();
    assert_eq!(of_it, 0, "{:?}", client.others);
    let mut client = Client::connect(proxy.address()).await;
    assert!(client.ask(b"the next one").await.is_some());
    let stats = proxy.stats();
    assert_eq!((server.worked(), stats.requests, stats.cuts), (2, 2, 1));
}

#[tokio::test]
async fn what_keeps_the_connection_going_is_no_answer() {
    let server = Http2::start(0).await;
    let proxy = before(&server).await;
    proxy.set(Plan::pass().cut_next(Cut::BeforeAnswering, 1));
    let mut client = Client::connect(proxy.address()).await;
    let number = client.send(b"slow").await;
    until("the work is done", || server.worked() == 1).await;
    assert!(quiet(client.answer(number)).await, "the answer is still awaited");
    let kinds: Vec<_> = client.others.iter().map(|frame| frame.kind).collect();
    assert!(kinds.contains(&PING) && kinds.contains(&WINDOW_UPDATE), "{kinds:?}");
    assert_eq!(proxy.stats().cuts, 0);
    server.answers.add_permits(1);
    assert_eq!(client.answer(number).await, None);
    assert_eq!(proxy.stats().cuts, 1);
    assert!(client.others.iter().all(|frame| frame.kind != HEADERS && frame.kind != DATA));
}

#[tokio::test]
async fn requests_are_skipped_before_those_that_are_cut() {
    let server = Http2::start(99).await;
    let proxy = before(&server).await;
    proxy.set(Plan::pass().cut_later(Cut::BeforeForwarding, 2, 2));
    let mut answered = Vec::new();
    for _ in 0..6 {
        let mut client = Client::connect(proxy.address()).await;
        answered.push(client.ask(b"x").await.is_some());
    }
    assert_eq!(answered, [true, true, false, false, true, true]);
    assert_eq!((server.worked(), proxy.stats().cuts), (4, 2));
}

#[tokio::test]
async fn a_seed_repeats_its_cuts_on_the_wire() {
    let run = async |seed| {
        let server = Http2::start(999).await;
        let proxy = FaultProxy::start(server.address, seed).await.unwrap();
        let plan = Plan::pass().cut_percent(Cut::BeforeForwarding, 15);
        proxy.set(plan.cut_percent(Cut::BeforeAnswering, 15));
        let mut lost = 0;
        for _ in 0..12 {
            let mut client = Client::connect(proxy.address()).await;
            for _ in 0..4 {
                if client.ask(b"x").await.is_none() {
                    lost += 1;
                    break;
                }
            }
        }
        let struck = proxy.struck();
        assert_eq!(struck.len(), lost, "{}", proxy.describe());
        let forwarded = struck.iter().filter(|one| one.cut == Cut::BeforeAnswering).count();
        let cut = u64::try_from(struck.len() - forwarded).unwrap();
        assert_eq!(server.worked(), proxy.stats().requests - cut, "{}", proxy.describe());
        struck
    };
    let (one, again, other) = (run(3).await, run(3).await, run(4).await);
    assert_eq!(one, again);
    assert_ne!(one, other);
    for cut in [Cut::BeforeForwarding, Cut::BeforeAnswering] {
        assert!(one.iter().any(|struck| struck.cut == cut), "{one:?}");
    }
}

#[tokio::test]
async fn the_frames_of_a_raw_proxy_are_bytes() {
    let server = Http2::start(9).await;
    let proxy = FaultProxy::start_raw(server.address, 1).await.unwrap();
    let mut client = Client::connect(proxy.address()).await;
    assert_eq!(client.ask(b"one").await.unwrap(), b"one");
    proxy.set(Plan::pass().cut_next(Cut::BeforeAnswering, 1));
    // Here the first bytes of the server are the answer, whatever they are.
    assert_eq!(client.ask(b"two").await, None);
    until("the work is done", || server.worked() == 2).await;
}
