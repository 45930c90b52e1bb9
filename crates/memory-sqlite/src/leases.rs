//! Leases with fencing tokens, and the write fence of a tenant.

use std::time::Duration;

use memory_core::traits::{FencingToken, Lease};
use memory_core::{CallContext, Error, ErrorKind, LeaseName, Result, Timestamp};
use rusqlite::{OptionalExtension as _, params};

use crate::error::map;
use crate::rows::{self, execute};
use crate::writer::WriteTxn;

/// Longest life of a lease: 24 hours, as the trait says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Checks the life that a lease is asked for.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn check_life(life: Duration) -> Result<()> {
    if life.is_zero() || life > LONGEST {
        return Err(Error::invalid("a lease lives longer than nothing and up to 24 hours"));
    }
    Ok(())
}

/// Grants a lease that nobody holds.
pub(crate) fn acquire(
    txn: &mut WriteTxn<'_>,
    context: &CallContext,
    name: &LeaseName,
    life: Duration,
    now: Timestamp,
) -> Result<Option<Lease>> {
    let tenant = rows::tenant_for_write(txn, &context.tenant, false)?;
    let held: Option<i64> = rows::value(
        txn.connection,
        "SELECT expires_at FROM lease WHERE tenant = ?1 AND name = ?2",
        params![tenant, name.as_str()],
    )?;
    if held.is_some_and(|until| now.as_micros() < until) {
        return Ok(None);
    }
    let token = txn.next_number();
    let expires_at = now.saturating_add(life);
    execute(
        txn.connection,
        "INSERT OR REPLACE INTO lease VALUES (?1, ?2, ?3, ?4)",
        params![tenant, name.as_str(), token, expires_at.as_micros()],
    )?;
    Ok(Some(Lease { name: name.clone(), token: FencingToken(token.unsigned_abs()), expires_at }))
}

/// Sets the end of a lease that is still held under its token; says whether it was.
pub(crate) fn set_end(
    txn: &WriteTxn<'_>,
    context: &CallContext,
    lease: &Lease,
    end: Timestamp,
    now: Timestamp,
) -> Result<bool> {
    let Some(tenant) = rows::tenant_number(txn.connection, &context.tenant)? else {
        return Ok(false);
    };
    let token = i64::try_from(lease.token.0).unwrap_or(-1);
    let changed = execute(
        txn.connection,
        "UPDATE lease SET expires_at = ?4 WHERE tenant = ?1 AND name = ?2 AND token = ?3 \
         AND expires_at > ?5",
        params![tenant, lease.name.as_str(), token, end.as_micros(), now.as_micros()],
    )?;
    Ok(changed > 0)
}

/// Sets or lifts the write fence.
pub(crate) fn set_fence(
    txn: &mut WriteTxn<'_>,
    context: &CallContext,
    fence: Option<FencingToken>,
) -> Result<()> {
    let tenant = rows::tenant_for_write(txn, &context.tenant, false)?;
    let standing: Option<i64> = txn
        .connection
        .query_row("SELECT fence FROM tenant WHERE tenant = ?1", [tenant], |row| row.get(0))
        .optional()
        .map_err(map)?
        .flatten();
    let fence = fence.map(|token| i64::try_from(token.0).unwrap_or(i64::MAX));
    // Who lifts a fence shows by which token, if by any.
    let shown =
        fence.or_else(|| context.fence.map(|token| i64::try_from(token.0).unwrap_or(i64::MAX)));
    if let (Some(standing), Some(shown)) = (standing, shown)
        && shown < standing
    {
        return Err(Error::new(ErrorKind::Conflict, "a fence with a newer token stands"));
    }
    execute(
        txn.connection,
        "UPDATE tenant SET fence = ?2 WHERE tenant = ?1",
        params![tenant, fence],
    )?;
    Ok(())
}
