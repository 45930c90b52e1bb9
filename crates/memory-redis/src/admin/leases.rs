//! Leases with fencing tokens, and the write fence of a tenant: each call is one script.
//!
//! Tokens are numbers of the tenant that only grow, and outlive its erasure.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{FencingToken, Lease, LeaseStore};
use memory_core::{CallContext, Error, ErrorKind, LeaseName, Result, Timestamp};
use redis::Value;

use super::{count, list, text};
use crate::error::corrupt;
use crate::fields::sortable;
use crate::state::fence_text;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};

static LEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/lease.lua"), Effect::Writes));

/// Longest life of a lease: 24 hours, as the trait says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// # Errors
/// `InvalidInput`.
fn check_life(life: Duration) -> Result<()> {
    if life.is_zero() || life > LONGEST {
        return Err(Error::invalid("a lease lives longer than nothing and up to 24 hours"));
    }
    Ok(())
}

impl RedisStore {
    async fn lease(
        &self,
        call: Call<'_>,
        context: &CallContext,
        args: &[Vec<u8>],
    ) -> Result<(String, Option<Value>)> {
        let base = [self.keys.tenant(&context.tenant).base().to_owned()];
        let mut answer = list(self.wire.script(call, &LEASE, &base, args).await?)?.into_iter();
        let status = answer.next().ok_or_else(|| corrupt("a script has no answer"))?;
        Ok((text(&status)?, answer.next()))
    }

    /// Moves the end of a lease that is held; whether it was.
    async fn end(
        &self,
        call: Call<'_>,
        context: &CallContext,
        lease: &Lease,
        now: Timestamp,
        end: Timestamp,
    ) -> Result<bool> {
        let args = [
            b"end".to_vec(),
            lease.name.as_str().into(),
            sortable(now.as_micros()).into_bytes(),
            sortable(end.as_micros()).into_bytes(),
            lease.token.0.to_string().into_bytes(),
        ];
        Ok(self.lease(call, context, &args).await?.0 == "done")
    }
}

#[async_trait]
impl LeaseStore for RedisStore {
    async fn acquire(
        &self,
        context: &CallContext,
        name: &LeaseName,
        life: Duration,
    ) -> Result<Option<Lease>> {
        self.run("acquire", Some(context), async |call| {
            check_life(life)?;
            let now = self.clock.now();
            let expires_at = now.saturating_add(life);
            let args = [
                b"acquire".to_vec(),
                name.as_str().into(),
                sortable(now.as_micros()).into_bytes(),
                sortable(expires_at.as_micros()).into_bytes(),
            ];
            let (status, token) = self.lease(call, context, &args).await?;
            if status != "granted" {
                return Ok(None);
            }
            let token = FencingToken(count(&token.unwrap_or(Value::Nil))?);
            Ok(Some(Lease { name: name.clone(), token, expires_at }))
        })
        .await
    }

    async fn renew(
        &self,
        context: &CallContext,
        lease: &Lease,
        life: Duration,
    ) -> Result<Option<Lease>> {
        self.run("renew", Some(context), async |call| {
            check_life(life)?;
            let now = self.clock.now();
            let expires_at = now.saturating_add(life);
            let is_held = self.end(call, context, lease, now, expires_at).await?;
            Ok(is_held.then(|| Lease { expires_at, ..lease.clone() }))
        })
        .await
    }

    async fn release(&self, context: &CallContext, lease: &Lease) -> Result<()> {
        self.run("release", Some(context), async |call| {
            let now = self.clock.now();
            self.end(call, context, lease, now, now).await.map(drop)
        })
        .await
    }

    async fn set_write_fence(
        &self,
        context: &CallContext,
        fence: Option<FencingToken>,
    ) -> Result<()> {
        self.run("set_write_fence", Some(context), async |call| {
            // Who lifts a fence shows by which token, if by any.
            let shown = fence.or(context.fence);
            let args =
                [b"fence".to_vec(), fence_text(fence).into_bytes(), fence_text(shown).into_bytes()];
            match self.lease(call, context, &args).await?.0.as_str() {
                "done" => Ok(()),
                _ => Err(Error::new(ErrorKind::Conflict, "a fence with a newer token stands")),
            }
        })
        .await
    }
}
