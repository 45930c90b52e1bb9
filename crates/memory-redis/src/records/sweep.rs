//! Sweeps of what has expired.

use std::sync::LazyLock;

use memory_core::limits::SWEEP;
use memory_core::traits::SweepStep;
use memory_core::{CallContext, Error, Result};
use redis::Value;

use crate::admin::{int, text};
use crate::error::corrupt;
use crate::fields::sortable;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};

static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    let parts = [
        include_str!("../lua/memory.lua"),
        include_str!("../lua/guard.lua"),
        include_str!("../lua/log.lua"),
        include_str!("../lua/sweep.lua"),
    ];
    Script::new(&parts.join("\n"), Effect::Writes)
});

/// Most memories of one script: some 10 ms of the server's one thread.
const STEP: u32 = 500;

/// Removes up to `limit` expired items for good: a round trip for each five hundred. A failure after
/// some were removed is no error: the answer says how many, and that more are left.
///
/// # Errors
/// `InvalidInput`: the limit. What the server met.
pub(crate) async fn sweep(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    limit: u32,
) -> Result<SweepStep> {
    if limit == 0 || limit > SWEEP {
        return Err(Error::invalid(format!("a sweep takes 1 to {SWEEP}")));
    }
    let base = [store.keys.tenant(&context.tenant).base().to_owned()];
    let mut removed = 0;
    let mut left = limit;
    loop {
        let most = left.min(STEP);
        let now = sortable(store.clock.now().as_micros());
        let args = [now.into_bytes(), most.to_string().into_bytes()];
        let answer = match store.wire.script(call, &REMOVE, &base, &args).await {
            Ok(answer) => answer,
            Err(error) if removed == 0 => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a sweep ended early");
                return Ok(SweepStep { removed, more: true });
            }
        };
        let Value::Array(answer) = answer else { return Err(odd()) };
        let [_, gone, more] = &answer[..] else { return Err(odd()) };
        removed += u64::try_from(int(gone)?).map_err(|_| odd())?;
        left -= most;
        let more = !text(more)?.is_empty();
        if !more || left == 0 {
            return Ok(SweepStep { removed, more });
        }
    }
}

fn odd() -> Error {
    corrupt("the server's answer to a sweep is not what was asked for")
}
