//! Deadlines, timeouts, the bound on requests at once, and calls that nobody waits for any more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::{FutureExt as _, join_all};
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{Deadline, ErrorKind};
use memory_embed::http::HttpEmbedder;

use super::stub::{Answer, Stub};
use super::{clock, context, embed, embedder, lengths, settings, texts};

/// A server whose answers to the text `hold` wait until they are released.
struct Held {
    stub: Stub,
    /// Tells that such a request has come.
    came: Receiver<()>,
    release: Sender<()>,
}

fn held() -> Held {
    let (come, came) = channel();
    let (release, released) = channel();
    let hold = Mutex::new((come, released));
    let stub = Stub::start(move |request| {
        if request.input()[0] == "hold" {
            let hold = hold.lock().unwrap();
            hold.0.send(()).unwrap();
            hold.1.recv().unwrap();
        }
        lengths(request)
    });
    Held { stub, came, release }
}

#[test]
fn so_many_requests_at_once_as_allowed_and_never_more() {
    const MOST: usize = 3;
    let barrier = Barrier::new(MOST);
    let (now, changed) = (Mutex::new(0_usize), Condvar::new());
    let peak = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&peak);
    let stub = Stub::start(move |request| {
        *now.lock().unwrap() += 1;
        changed.notify_all();
        // Answers only when so many are here: fewer at once would wait for ever.
        barrier.wait();
        // One more than allowed has time to come; that it does not is why this ends by time.
        let span = Duration::from_millis(50);
        let waited =
            changed.wait_timeout_while(now.lock().unwrap(), span, |now| *now <= MOST).unwrap();
        let mut now = waited.0;
        seen.fetch_max(*now, Ordering::SeqCst);
        *now -= 1;
        drop(now);
        lengths(request)
    });
    let embedder = embedder(settings(&stub).with_max_batch(1).with_concurrency(MOST));
    // One call alone can fill the bound, and several side by side share it.
    let input = texts(&["a", "bb", "ccc"]);
    assert_eq!(embed(&embedder, &["a", "bb", "ccc"]).unwrap().len(), MOST);
    let context = context();
    let calls = (0..4).map(|_| embedder.embed(&context, &input, EmbedPurpose::Document));
    for vectors in block_on(join_all(calls)) {
        assert_eq!(vectors.unwrap(), [[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]]);
    }
    assert_eq!(peak.load(Ordering::SeqCst), MOST);
    assert_eq!(stub.seen().len(), 15);
}

#[test]
fn a_deadline_that_has_passed_sends_nothing() {
    let stub = Stub::start(lengths);
    let clock = clock();
    let embedder = HttpEmbedder::new(settings(&stub), Arc::clone(&clock) as _).unwrap();
    let context = context().with_deadline(Some(Deadline::at(Duration::from_secs(5))));
    let call = || block_on(embedder.embed(&context, &texts(&["abc"]), EmbedPurpose::Query));
    assert!(call().is_ok());
    clock.advance(Duration::from_secs(5));
    assert_eq!(call().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(stub.seen().len(), 1);
}

#[test]
fn a_deadline_that_passes_while_a_call_waits_is_noticed_at_its_turn_and_sends_nothing() {
    let Held { stub, came, release } = held();
    let clock = clock();
    let settings = settings(&stub).with_concurrency(1);
    let embedder = HttpEmbedder::new(settings, Arc::clone(&clock) as _).unwrap();
    let (hold, text) = (texts(&["hold"]), texts(&["abc"]));
    let patient = context();
    let hurried = context().with_deadline(Some(Deadline::at(Duration::from_secs(5))));
    let mut first = embedder.embed(&patient, &hold, EmbedPurpose::Query);
    assert!(first.as_mut().now_or_never().is_none());
    came.recv().unwrap();
    let mut late = embedder.embed(&hurried, &text, EmbedPurpose::Query);
    let mut calm = embedder.embed(&patient, &text, EmbedPurpose::Query);
    assert!(late.as_mut().now_or_never().is_none());
    assert!(calm.as_mut().now_or_never().is_none());
    clock.advance(Duration::from_secs(5));
    // It is noticed when the turn comes, not before.
    assert!(late.as_mut().now_or_never().is_none());
    release.send(()).unwrap();
    assert_eq!(block_on(first).unwrap(), [[4.0, 1.0]]);
    let error = block_on(late).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("before the call began"), "{error}");
    assert_eq!(block_on(calm).unwrap(), [[3.0, 1.0]]);
    assert_eq!(stub.seen().len(), 2);
}

#[test]
fn the_shorter_of_timeout_and_deadline_ends_a_request() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"data\":[";
    let silent = Stub::start(|_| Answer::Hang(Vec::new()));
    let slow = Stub::start(move |_| Answer::Hang(head.as_bytes().to_vec()));
    let text = texts(&["a"]);
    for stub in [silent, slow] {
        let by_setting = embedder(settings(&stub).with_timeout(Duration::from_millis(150)));
        let error = embed(&by_setting, &["a"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.is_retryable());
        assert!(error.to_string().contains("limit_ms=150"), "{error}");

        let by_deadline = embedder(settings(&stub));
        for (left, limit) in [(120, "limit_ms=120"), (80, "limit_ms=80")] {
            let deadline = Deadline::at(Duration::from_millis(left));
            let context = context().with_deadline(Some(deadline));
            let call = by_deadline.embed(&context, &text, EmbedPurpose::Query);
            let error = block_on(call).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert!(error.to_string().contains(limit), "{error}");
        }
        // A deadline further off than the timeout leaves it as it is.
        let context = context().with_deadline(Some(Deadline::at(Duration::from_secs(9))));
        let call = by_setting.embed(&context, &text, EmbedPurpose::Query);
        assert!(block_on(call).unwrap_err().to_string().contains("limit_ms=150"));
    }
}

#[test]
fn a_call_that_is_dropped_leaves_the_embedder_as_it_was() {
    let Held { stub, came, release } = held();
    let embedder = embedder(settings(&stub).with_concurrency(1));
    let context = context();
    let (hold, lost, kept) = (texts(&["hold"]), texts(&["lost"]), texts(&["kept"]));
    let mut under_way = embedder.embed(&context, &hold, EmbedPurpose::Query);
    assert!(under_way.as_mut().now_or_never().is_none());
    came.recv().unwrap();
    let mut waiting = embedder.embed(&context, &lost, EmbedPurpose::Query);
    assert!(waiting.as_mut().now_or_never().is_none());
    let mut wanted = embedder.embed(&context, &kept, EmbedPurpose::Query);
    assert!(wanted.as_mut().now_or_never().is_none());
    drop(under_way);
    drop(waiting);
    release.send(()).unwrap();
    assert_eq!(block_on(wanted).unwrap(), [[4.0, 1.0]]);
    let inputs: Vec<String> = stub.seen().iter().flat_map(|request| request.input()).collect();
    assert_eq!(inputs, ["hold", "kept"]);
}

#[test]
fn questions_and_single_requests_go_before_bulk_work() {
    let Held { stub, came, release } = held();
    let settings = settings(&stub).with_concurrency(1).with_max_batch(1).with_window_bytes(64);
    let embedder = embedder(settings);
    let context = context();
    // As windows, each a request, so that it is bulk work.
    let bulk = [["bulk"; 20].join(" ")];
    let (hold, question, single) = (texts(&["hold"]), texts(&["question"]), texts(&["single"]));
    let mut first = embedder.embed(&context, &hold, EmbedPurpose::Query);
    assert!(first.as_mut().now_or_never().is_none());
    came.recv().unwrap();
    let mut waiting = [
        embedder.embed(&context, &bulk, EmbedPurpose::Document),
        embedder.embed(&context, &question, EmbedPurpose::Query),
        embedder.embed(&context, &single, EmbedPurpose::Document),
    ];
    for call in &mut waiting {
        assert!(call.as_mut().now_or_never().is_none());
    }
    release.send(()).unwrap();
    block_on(first).unwrap();
    for call in block_on(join_all(waiting)) {
        call.unwrap();
    }
    let inputs: Vec<String> = stub.seen().iter().flat_map(|request| request.input()).collect();
    assert_eq!(inputs[..3], ["hold", "question", "single"]);
    assert!(inputs.len() >= 5 && inputs[3..].iter().all(|input| input.starts_with("bulk")));
}

#[test]
fn connections_are_used_again() {
    let stub = Stub::start(lengths);
    let embedder = embedder(settings(&stub).with_concurrency(1));
    let hurried = context().with_deadline(Some(Deadline::at(Duration::from_secs(9))));
    for context in [context(), hurried, context()] {
        let text = texts(&["abc"]);
        block_on(embedder.embed(&context, &text, EmbedPurpose::Query)).unwrap();
    }
    assert_eq!(stub.seen().len(), 3);
    assert_eq!(stub.connections(), 1);
}
