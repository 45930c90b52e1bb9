//! Tokens are kept, fetched anew in time, fetched once for all who wait, and rest after a failure.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join_all;
use memory_core::traits::CredentialProvider;
use memory_core::{Clock, ErrorKind, ManualClock, Timestamp};
use serde_json::json;
use tokio::runtime;

use crate::stub::{Answer, Stub};
use crate::support::*;

/// Tokens with a number: `token-1`, `token-2` and so on.
fn numbered(lives: u64) -> Stub {
    let given = AtomicUsize::new(0);
    Stub::start(move |_| numbered_answer(given.fetch_add(1, Ordering::SeqCst) + 1, lives))
}

fn numbered_answer(number: usize, lives: u64) -> Answer {
    Answer::json(
        200,
        &json!({
            "access_token": format!("token-{number}"),
            "token_type": "Bearer",
            "expires_in": lives,
        }),
    )
}

/// The credentials of a user whose tokens a stub gives.
fn provider(stub: &Stub, clock: Arc<dyn Clock>) -> Arc<dyn CredentialProvider> {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "user.json", &user(&stub.url("/token")));
    // It is read once: the folder may go.
    open_file(&path, clock).unwrap().provider
}

/// A door at which answers wait.
#[derive(Default)]
struct Door {
    open: Mutex<bool>,
    moved: Condvar,
}

impl Door {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.moved.notify_all();
    }

    fn pass(&self) {
        let closed = self.open.lock().unwrap();
        let waited = self.moved.wait_timeout_while(closed, Duration::from_secs(30), |open| !*open);
        drop(waited.unwrap());
    }
}

#[test]
fn a_token_is_fetched_anew_long_before_it_ends() {
    // The library fetches anew 240 s before the end: after one second of these 241.
    let stub = numbered(241);
    let provider = provider(&stub, clock());
    assert_eq!(token(&provider).unwrap().expose(), "token-1");
    wait_until("the next token is given out", || token(&provider).unwrap().expose() == "token-2");
    assert!(stub.count("/token") >= 2);
}

#[test]
fn a_token_that_lives_long_is_not_fetched_anew() {
    let stub = numbered(3_600);
    let provider = provider(&stub, clock());
    for _ in 0..50 {
        assert_eq!(token(&provider).unwrap().expose(), "token-1");
    }
    assert_eq!(stub.count("/token"), 1);
}

#[test]
fn many_callers_cause_one_request() {
    const CALLERS: usize = 32;
    let door = Arc::new(Door::default());
    let at = Arc::clone(&door);
    let stub = Stub::start(move |_| {
        at.pass();
        numbered_answer(1, 3_600)
    });
    let provider = provider(&stub, clock());
    // Threads that all ask while the answer waits at the door.
    let start = Arc::new(Barrier::new(CALLERS + 1));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (provider, start) = (Arc::clone(&provider), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                token(&provider).unwrap().expose().to_owned()
            })
        })
        .collect();
    start.wait();
    wait_until("a request has come", || stub.count("/token") > 0);
    door.open();
    for caller in callers {
        assert_eq!(caller.join().unwrap(), "token-1");
    }
    assert_eq!(stub.count("/token"), 1);
}

#[test]
fn many_tasks_cause_one_request_and_share_its_failure() {
    let stub = Stub::start(|_| Answer::json(403, &json!({"error": "access_denied"})));
    let provider = provider(&stub, clock());
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let scopes = scopes();
    let answers = runtime.block_on(join_all((0..32).map(|_| provider.token(&scopes))));
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    assert_eq!(stub.count("/token"), 1);
}

#[test]
fn a_failure_rests_and_then_is_asked_for_again() {
    for (status, rest) in [(503, Duration::from_secs(1)), (403, Duration::from_secs(10))] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let stub = Stub::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::json(status, &json!({})),
            _ => numbered_answer(2, 3_600),
        });
        let clock = clock();
        let provider = provider(&stub, Arc::clone(&clock) as Arc<dyn Clock>);
        let kind = token(&provider).unwrap_err().kind();
        clock.advance(rest - Duration::from_millis(1));
        let again = token(&provider).unwrap_err();
        assert_eq!(again.kind(), kind);
        assert_eq!(again.retry_after(), again.is_retryable().then_some(Duration::from_millis(1)));
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{status}");
        clock.advance(Duration::from_millis(1));
        assert_eq!(token(&provider).unwrap().expose(), "token-2", "{status}");
    }
}

/// A machine that slept: its time of day went on, its steady time did not.
#[derive(Debug)]
struct Sleeper {
    wall: ManualClock,
}

impl Clock for Sleeper {
    fn now(&self) -> Timestamp {
        self.wall.now()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn a_machine_that_slept_or_was_set_fetches_anew() {
    let stub = numbered(3_600);
    let start = Timestamp::parse("2025-11-06T08:49:00Z").unwrap();
    let clock = Arc::new(Sleeper { wall: ManualClock::new(start) });
    let provider = provider(&stub, Arc::clone(&clock) as Arc<dyn Clock>);
    assert_eq!(token(&provider).unwrap().expose(), "token-1");
    clock.wall.advance(Duration::from_secs(60));
    assert_eq!(token(&provider).unwrap().expose(), "token-1");
    clock.wall.advance(Duration::from_secs(1));
    assert_eq!(token(&provider).unwrap().expose(), "token-2");
    // Set back, by more than is let pass.
    clock.wall.set(start.saturating_sub(Duration::from_secs(10)));
    assert_eq!(token(&provider).unwrap().expose(), "token-3");
}

#[test]
fn time_that_passes_in_step_is_no_sleep() {
    let stub = numbered(3_600);
    let clock = clock();
    let provider = provider(&stub, Arc::clone(&clock) as Arc<dyn Clock>);
    token(&provider).unwrap();
    clock.advance(Duration::from_secs(1_000));
    assert_eq!(token(&provider).unwrap().expose(), "token-1");
}

#[test]
fn tokens_outlive_the_runtime_of_the_first_caller() {
    let stub = numbered(241);
    let provider = provider(&stub, clock());
    let scopes = scopes();
    let first = runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(first.block_on(provider.token(&scopes)).unwrap().expose(), "token-1");
    drop(first);
    // What fetches anew went on.
    let second = runtime::Builder::new_current_thread().build().unwrap();
    wait_until("the next token is given out", || {
        second.block_on(provider.token(&scopes)).unwrap().expose() == "token-2"
    });
}

#[test]
fn a_provider_may_be_opened_and_dropped_within_a_runtime() {
    let stub = numbered(3_600);
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(memory_google_auth::CredentialChoice::KeyFile);
        settings.key_file = Some(write(folder.path(), "user.json", &user(&stub.url("/token"))));
        let environment = TestEnvironment::default();
        let found = memory_google_auth::find(&settings, &environment, clock()).await.unwrap();
        assert_eq!(found.token(&scopes()).await.unwrap().expose(), "token-1");
        drop(found);
    });
}

#[test]
fn a_caller_who_goes_does_not_end_the_fetching() {
    let door = Arc::new(Door::default());
    let at = Arc::clone(&door);
    let stub = Stub::start(move |_| {
        at.pass();
        numbered_answer(1, 3_600)
    });
    let provider = provider(&stub, clock());
    let scopes = scopes();
    // Polled once, and dropped.
    assert!(futures::FutureExt::now_or_never(provider.token(&scopes)).is_none());
    wait_until("a request has come", || stub.count("/token") > 0);
    door.open();
    assert_eq!(block_on(provider.token(&scopes)).unwrap().expose(), "token-1");
    assert_eq!(stub.count("/token"), 1);
}

#[test]
fn what_hangs_ends_with_the_bound_and_with_the_provider() {
    let stub = Stub::start(|_| Answer::Hang);
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "user.json", &user(&stub.url("/token")));

    let bounded = open_file_within(&path, clock(), 100).unwrap().provider;
    assert_eq!(token(&bounded).unwrap_err().kind(), ErrorKind::Unavailable);
    wait_until("the request that took too long is given up", || stub.left() == 1);

    let dropped = open_file(&path, clock()).unwrap().provider;
    let scopes = scopes();
    assert!(futures::FutureExt::now_or_never(dropped.token(&scopes)).is_none());
    wait_until("a request has come", || stub.count("/token") == 2);
    assert_eq!(stub.left(), 1);
    drop(dropped);
    wait_until("the request goes with its provider", || stub.left() == 2);
}
