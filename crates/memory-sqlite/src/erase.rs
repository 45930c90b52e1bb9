//! Sweeps of what has expired, and erasure of a user or a tenant, in bounded steps.
//!
//! An erasure notes the store's counter when it begins and removes what matches up to it; an
//! update keeps its item's key, so nothing that was there before escapes by being rewritten.
//! The last step clears the tenant's log and the answers kept under idempotency keys, rewrites the
//! file and folds the write-ahead log into it, so that the files' bytes no longer hold the text.

use hmac::{Hmac, KeyInit as _, Mac as _};
use memory_core::traits::{EraseScope, EraseToken, StoreKey, SweepStep, Tombstone};
use memory_core::{CallContext, Error, Result, TenantId, Timestamp, UserId};
use rusqlite::{Connection, params};
use sha2::Sha256;

use crate::error::{corrupt, map};
use crate::rows::{self, Op, execute, value};
use crate::writer::WriteTxn;

/// What one step of an erasure left to do.
pub(crate) enum Progress {
    /// More items, from here on.
    More { erased: u64, next: EraseToken },
    /// Nothing: the rows are gone.
    Done { erased: u64, began_at: Timestamp },
}

/// Where an erasure stands: `1|began|end|scope hash`, all in decimal but the hash.
struct Place {
    began_at: Timestamp,
    end: i64,
}

/// The tombstone of an id.
pub(crate) fn tombstone(key: &StoreKey, tenant: &TenantId, id: &str) -> Tombstone {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("any length will do");
    for part in [tenant.as_str(), id] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    Tombstone(mac.finalize().into_bytes().into())
}

/// The store's key.
pub(crate) fn store_key(connection: &Connection) -> Result<StoreKey> {
    let bytes: [u8; 32] = value(connection, "SELECT value FROM meta WHERE key = 'store_key'", [])?
        .ok_or_else(|| corrupt("store key"))?;
    Ok(StoreKey::from_bytes(bytes))
}

/// Removes up to `limit` expired items of a tenant.
pub(crate) fn sweep(
    txn: &mut WriteTxn<'_>,
    context: &CallContext,
    limit: u32,
    now: Timestamp,
) -> Result<SweepStep> {
    let Some(tenant) = rows::tenant_number(txn.connection, &context.tenant)? else {
        return Ok(SweepStep { removed: 0, more: false });
    };
    let found = items(
        txn.connection,
        "SELECT item, id FROM item WHERE tenant = ?1 AND expires_at IS NOT NULL \
         AND visible_until <= ?2 LIMIT ?3",
        params![tenant, now.as_micros(), i64::from(limit) + 1],
    )?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > most;
    let mut removed = 0;
    for (item, id) in found.into_iter().take(most) {
        rows::delete_item(txn.connection, item)?;
        let position = txn.next_number();
        rows::log(txn, tenant, position, Op::Delete, item, &id)?;
        removed += 1;
    }
    Ok(SweepStep { removed, more })
}

/// Does one step of an erasure.
pub(crate) fn step(
    txn: &mut WriteTxn<'_>,
    context: &CallContext,
    scope: &EraseScope,
    resume: Option<&EraseToken>,
    batch: u32,
    now: Timestamp,
) -> Result<Progress> {
    let connection = txn.connection;
    let place = resume.map(|token| read_token(token, &context.tenant, scope)).transpose()?;
    let Some(tenant) = rows::tenant_number(connection, &context.tenant)? else {
        let began_at = place.map_or(now, |place| place.began_at);
        return Ok(Progress::Done { erased: 0, began_at });
    };
    let place = match place {
        Some(place) => place,
        None => Place { began_at: now, end: rows::item_key(tenant, txn.next_number())? },
    };
    // A token is the caller's word: whatever it says, nothing beyond the tenant's keys is touched.
    let (first, end) = rows::item_range(tenant);
    let place = Place { end: place.end.min(end), ..place };
    let found = match scope {
        EraseScope::User(user) => items(
            connection,
            "SELECT item, id FROM item WHERE tenant = ?1 AND user_id = ?2 AND item < ?3 LIMIT ?4",
            params![tenant, user.as_str(), place.end, batch],
        )?,
        EraseScope::Tenant => items(
            connection,
            "SELECT item, id FROM item WHERE item >= ?1 AND item < ?2 LIMIT ?3",
            params![first, place.end, batch],
        )?,
    };
    let key = store_key(connection)?;
    let erased = found.len() as u64;
    for (item, id) in found {
        rows::delete_item(connection, item)?;
        let mac = tombstone(&key, &context.tenant, &id);
        execute(connection, "INSERT OR IGNORE INTO tombstone VALUES (?1)", [mac.0])?;
        let position = txn.next_number();
        rows::log(txn, tenant, position, Op::Delete, item, &id)?;
    }
    if erased == u64::from(batch) {
        return Ok(Progress::More { erased, next: write_token(&place, &context.tenant, scope) });
    }
    match scope {
        EraseScope::User(_) => finish_user(txn, tenant, context, &key)?,
        EraseScope::Tenant => finish_tenant(txn, tenant, now)?,
    }
    Ok(Progress::Done { erased, began_at: place.began_at })
}

/// The log and the kept answers name erased ids: they go.
fn finish_user(
    txn: &mut WriteTxn<'_>,
    tenant: i64,
    context: &CallContext,
    key: &StoreKey,
) -> Result<()> {
    let connection = txn.connection;
    let answers: Vec<(String, String)> = connection
        .prepare_cached(
            "SELECT key, result FROM idempotency WHERE tenant = ?1 AND result IS NOT NULL",
        )
        .and_then(|mut select| {
            select.query_map([tenant], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(map)?;
    for (name, text) in answers {
        let (_, results): (u64, Vec<memory_core::WriteResult>) =
            serde_json::from_str(&text).map_err(|_| corrupt("idempotency result"))?;
        for result in results {
            let mac = tombstone(key, &context.tenant, result.id.as_str());
            // An id that was erased once and is there again is not what this answer must forget.
            let gone: Option<i64> = value(
                connection,
                "SELECT 1 FROM tombstone WHERE mac = ?1 AND NOT EXISTS \
                 (SELECT 1 FROM item WHERE tenant = ?2 AND id = ?3)",
                params![mac.0, tenant, result.id.as_str()],
            )?;
            if gone.is_some() {
                execute(
                    connection,
                    "UPDATE idempotency SET result = NULL WHERE tenant = ?1 AND key = ?2",
                    params![tenant, name],
                )?;
                break;
            }
        }
    }
    rows::reset_log(txn, tenant)
}

/// Nothing of the tenant stays but the tombstones, unless it was written to meanwhile.
fn finish_tenant(txn: &mut WriteTxn<'_>, tenant: i64, now: Timestamp) -> Result<()> {
    let connection = txn.connection;
    let (first, end) = rows::item_range(tenant);
    let left: Option<i64> = value(
        connection,
        "SELECT item FROM item WHERE item >= ?1 AND item < ?2 LIMIT 1",
        [first, end],
    )?;
    execute(connection, "DELETE FROM idempotency WHERE tenant = ?1", [tenant])?;
    // A fence or a lease is a promise to somebody else, who is at work on the tenant: they stay,
    // and the tenant's name with them, until another erasure finds them gone.
    let held: Option<i64> = value(
        connection,
        "SELECT 1 FROM tenant WHERE tenant = ?1 AND fence IS NOT NULL UNION ALL \
         SELECT 1 FROM lease WHERE tenant = ?1 AND expires_at > ?2 LIMIT 1",
        [tenant, now.as_micros()],
    )?;
    if left.is_some() || held.is_some() {
        if left.is_none() {
            execute(
                connection,
                "UPDATE tenant SET listed = 0, active_space = NULL, next_space = NULL, \
                 space_version = ?2 WHERE tenant = ?1",
                [tenant, txn.next_number()],
            )?;
            execute(connection, "DELETE FROM consumer WHERE tenant = ?1", [tenant])?;
        }
        return rows::reset_log(txn, tenant);
    }
    for sql in [
        "DELETE FROM change WHERE tenant = ?1",
        "DELETE FROM consumer WHERE tenant = ?1",
        "DELETE FROM lease WHERE tenant = ?1",
        "DELETE FROM tenant WHERE tenant = ?1",
    ] {
        execute(connection, sql, [tenant])?;
    }
    Ok(())
}

/// Clears the file of what was deleted; says whether that was possible.
///
/// Deleted cells are overwritten with zeroes, but a page that was balanced before keeps old copies
/// of cells in its unused part, which only a rewriting of the file removes. Then the write-ahead log
/// is folded in and emptied, and that is made to last: SQLite does not sync a log that it empties, so
/// that with the power its old bytes would come back. Another process that reads holds up the one or
/// the other.
pub(crate) fn clear_bytes(connection: &Connection, rewrite: bool) -> Result<bool> {
    if rewrite {
        // Not in memory: the copy is as large as the file.
        connection.execute_batch("PRAGMA temp_store = DEFAULT").map_err(map)?;
        let done = connection.execute_batch("VACUUM").map_err(map);
        connection.execute_batch("PRAGMA temp_store = MEMORY").map_err(map)?;
        done?;
    }
    let empty_log = || {
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
            .map_err(map)
    };
    if empty_log()? != 0 {
        return Ok(false);
    }
    if rewrite {
        // A commit begins the log anew and syncs it, its size with it. It has to change something,
        // and the counter may have gaps.
        execute(connection, "UPDATE meta SET value = value + 1 WHERE key = 'counter'", [])?;
        // That commit is all that can be left in the log.
        empty_log()?;
    }
    Ok(rewrite)
}

fn items(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<(i64, String)>> {
    connection
        .prepare_cached(sql)
        .and_then(|mut select| {
            select.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(map)
}

/// Binds a token to its tenant and scope.
fn scope_hash(tenant: &TenantId, scope: &EraseScope) -> String {
    let user = match scope {
        EraseScope::User(user) => Some(user),
        EraseScope::Tenant => None,
    };
    let kind = if user.is_some() { "user" } else { "tenant" };
    let text = format!(
        "{}|{}|{kind}|{}",
        tenant.as_str().len(),
        tenant.as_str(),
        user.map_or("", UserId::as_str)
    );
    memory_core::ContentHash::of(&text).to_string()
}

fn write_token(place: &Place, tenant: &TenantId, scope: &EraseScope) -> EraseToken {
    let (began, end) = (place.began_at.as_micros(), place.end);
    EraseToken(format!("1|{began}|{end}|{}", scope_hash(tenant, scope)))
}

fn read_token(token: &EraseToken, tenant: &TenantId, scope: &EraseScope) -> Result<Place> {
    let bad = || Error::invalid("the erasure's token is malformed or of another tenant or scope");
    let mut parts = token.0.split('|');
    let mut next = || parts.next().ok_or_else(bad);
    if next()? != "1" {
        return Err(bad());
    }
    let began: i64 = next()?.parse().map_err(|_| bad())?;
    let end: i64 = next()?.parse().map_err(|_| bad())?;
    if next()? != scope_hash(tenant, scope) {
        return Err(bad());
    }
    Ok(Place { began_at: Timestamp::from_micros(began)?, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_do_not_run_together() {
        let key = StoreKey::from_bytes([7; 32]);
        let tenant = |name: &str| TenantId::new(name).unwrap();
        let one = tombstone(&key, &tenant("a"), "bc");
        assert_eq!(one, tombstone(&key, &tenant("a"), "bc"));
        assert_ne!(one, tombstone(&key, &tenant("ab"), "c"));
        assert_ne!(one, tombstone(&StoreKey::from_bytes([8; 32]), &tenant("a"), "bc"));
    }

    #[test]
    fn a_token_is_of_one_scope() {
        let tenant = TenantId::new("t").unwrap();
        let user = EraseScope::User(UserId::new("u").unwrap());
        let token = write_token(&Place { began_at: Timestamp::MIN, end: 9 }, &tenant, &user);
        assert_eq!(read_token(&token, &tenant, &user).unwrap().end, 9);
        assert!(read_token(&token, &tenant, &EraseScope::Tenant).is_err());
        assert!(read_token(&token, &TenantId::new("x").unwrap(), &user).is_err());
        assert!(read_token(&EraseToken("1|x".into()), &tenant, &user).is_err());
    }
}
