//! Waiting on a tokio runtime.

use std::time::Duration;

use async_trait::async_trait;
use memory_core::Timer;

/// A timer of the tokio runtime that the waiting task runs on; its time must be enabled there.
///
/// Under tokio's paused time it waits by that time, which is what simulations use.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioTimer;

#[async_trait]
impl Timer for TokioTimer {
    async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}
