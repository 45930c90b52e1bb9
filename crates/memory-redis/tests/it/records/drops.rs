//! Calls whose future is dropped at any point: a commit happens whole or not at all.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use memory_core::traits::RecordStore as _;
use memory_core::{Precondition, Projection, Write};

use super::rig::{Rig, SERVERS, commit, id, item, put, put_one, tenant};

/// Polls a future at most so many times, letting others run between, and drops it.
async fn polled<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..times {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(value);
        }
        tokio::time::sleep(Duration::from_micros(50)).await;
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_commit_happened_whole_or_not_at_all() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, mut raw) = (tenant("t"), rig.raw("t"));
        let (mut finished, mut happened) = (0, 0);
        for round in 0..60_usize {
            let kept = format!("kept {round}");
            put_one(&rig.store, &context, item(&kept, "x")).await.unwrap();
            let names = [format!("a {round}"), format!("b {round}")];
            let writes = vec![
                put(item(&names[0], "x"), Precondition::Absent),
                put(item(&names[1], "x"), Precondition::Absent),
                Write::delete(id(&kept), Precondition::Any),
            ];
            let answer = polled(rig.store.commit(&context, commit(writes)), round % 12).await;
            finished += usize::from(answer.is_some());
            drop(answer);
            // The same connection answers in order: what was sent before has been done.
            put_one(&rig.store, &context, item("last", "x")).await.unwrap();
            let ids = [id(&names[0]), id(&names[1]), id(&kept)];
            let found = rig.store.fetch(&context, &ids, &Projection::narrow()).await.unwrap();
            let there: Vec<_> = found.iter().map(Option::is_some).collect();
            assert!(there == [true, true, false] || there == [false, false, true], "{there:?}");
            happened += usize::from(there[0]);
            raw.check();
        }
        assert!(happened >= finished);
        assert!(happened < 60, "some were dropped before they were sent");
        assert!(happened > 0, "some happened");
    }
}
