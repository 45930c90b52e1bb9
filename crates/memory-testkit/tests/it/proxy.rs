//! The fault proxy, before a server that sends back what it gets and before one that speaks as much
//! of HTTP/2 as a request and its answer need.

mod bytes;
mod frames;
mod servers;

use std::time::Duration;

/// Longer than anything here takes; whoever waits so long has failed.
const DEADLINE: Duration = Duration::from_secs(20);

/// The answer of a future that must not take for ever.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(DEADLINE, future).await;
    answer.unwrap_or_else(|_| panic!("it takes too long: {what}"))
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Whether nothing happens for a while.
async fn quiet<T>(future: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(50), future).await.is_err()
}
