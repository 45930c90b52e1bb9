//! What a store knows of itself, and what an operator does to it.

use std::time::Duration;

use memory_core::traits::TenantSpaces;
use memory_core::{EmbeddingSpace, ErrorKind, Kind, Metric};

use super::vectors::{one_space, spaces, two_spaces};
use crate::conformance::bench::{Bench, item, tenant};
use crate::conformance::failure::{CheckResult, Failure, ensure, ensure_eq, refused};

/// A fresh store holds the shape that this build writes.
pub(crate) async fn the_schema_is_current(b: &Bench) -> CheckResult {
    let schema = b.meta()?.schema().await?;
    ensure_eq!(schema.stored, schema.current, "the stored shape");
    ensure!(schema.current > 0, "a shape without a version");
    Ok(())
}

/// Spaces change by compare-and-swap: who comes late is told, and what stands stays.
pub(crate) async fn spaces_change_by_version(b: &Bench) -> CheckResult {
    let (meta, (one, other)) = (b.meta()?, two_spaces()?);
    let none = meta.spaces(&b.ctx).await?;
    ensure!(none.active.is_none() && none.next.is_none(), "a new tenant has spaces");
    let wanted = TenantSpaces { active: Some(one.clone()), ..none.clone() };
    let first = meta.set_spaces(&b.ctx, &wanted).await?;
    ensure!(first.version > none.version, "the version does not grow");
    ensure_eq!(first.active, Some(one.clone()), "the answer");
    ensure_eq!(meta.spaces(&b.ctx).await?, first, "what stands");
    let late = meta.set_spaces(&b.ctx, &wanted).await;
    refused("a late change", late, ErrorKind::Conflict)?;
    let both = TenantSpaces { next: Some(other), ..first };
    let second = meta.set_spaces(&b.ctx, &both).await?;
    ensure!(second.version > both.version, "the version does not grow again");
    ensure_eq!(meta.spaces(&b.ctx).await?, second, "what stands then");
    let theirs = meta.spaces(&tenant("acme2")?).await?;
    ensure!(theirs.active.is_none(), "another tenant has our spaces");
    let cleared = TenantSpaces { active: None, next: None, version: second.version };
    meta.set_spaces(&b.ctx, &cleared).await?;
    ensure_eq!(meta.spaces(&b.ctx).await?.active, None, "after they were cleared");
    Ok(())
}

/// A next space without an active one, or the same as it, or too large, is refused.
pub(crate) async fn senseless_spaces_are_refused(b: &Bench) -> CheckResult {
    let (meta, one) = (b.meta()?, one_space()?);
    let now = meta.spaces(&b.ctx).await?;
    let mut bad = vec![
        TenantSpaces { active: None, next: Some(one.clone()), ..now.clone() },
        TenantSpaces { active: Some(one.clone()), next: Some(one.clone()), ..now.clone() },
    ];
    let most = b.records().capabilities().max_dimensions;
    if let Ok(large) = EmbeddingSpace::new("large", "1", most + 1, Metric::Dot) {
        bad.push(TenantSpaces { active: Some(large), ..now.clone() });
    }
    for bad in bad {
        let answer = meta.set_spaces(&b.ctx, &bad).await;
        refused("senseless spaces", answer, ErrorKind::InvalidInput)?;
    }
    ensure_eq!(meta.spaces(&b.ctx).await?, now, "what stands");
    let largest = EmbeddingSpace::new("largest", "1", most, Metric::Dot)?;
    spaces(b, &b.ctx, Some(&largest), Some(&one)).await?;
    Ok(())
}

/// The store key is one, and not a blank.
pub(crate) async fn the_store_key_is_constant(b: &Bench) -> CheckResult {
    let key = b.meta()?.store_key().await?;
    ensure!(key.expose() != &[0; 32], "the key is blank");
    b.put_all(&b.ctx, &["a"]).await?;
    ensure!(b.meta()?.store_key().await? == key, "the key has changed");
    Ok(())
}

/// A store with keyword search names its analyser, and always the same.
pub(crate) async fn the_analyser_is_named(b: &Bench) -> CheckResult {
    let name = b.meta()?.analyser().await?;
    ensure!(name.as_ref().is_some_and(|name| !name.is_empty()), "no analyser is named");
    b.put_all(&b.ctx, &["a"]).await?;
    ensure_eq!(b.meta()?.analyser().await?, name, "the analyser after a write");
    Ok(())
}

/// A tenant's numbers are those of its visible items.
pub(crate) async fn tenant_stats_count_what_is_visible(b: &Bench) -> CheckResult {
    let upkeep = b.upkeep()?;
    let none = upkeep.tenant_stats(&b.ctx).await?;
    ensure_eq!((none.items, none.expired, none.oldest), (0, 0, None), "an empty tenant");
    for n in 0..6_u64 {
        let mut one = item(&n.to_string(), "x", b.now())?;
        one.kind = if n % 2 == 0 { Kind::Message } else { Kind::Fact };
        one.occurred_at = b.now().saturating_sub(Duration::from_secs(n));
        one.expires_at = (n == 0 || n == 5).then(|| b.now().saturating_add(Duration::from_secs(9)));
        b.put(&b.ctx, one).await?;
    }
    b.put_all(&tenant("acme2")?, &["theirs"]).await?;
    let before = upkeep.tenant_stats(&b.ctx).await?;
    ensure_eq!((before.items, before.expired), (6, 0), "items before");
    ensure_eq!(before.newest, Some(b.now()), "the newest before");
    let began = b.now();
    b.advance_secs(9);
    let after = upkeep.tenant_stats(&b.ctx).await?;
    ensure_eq!((after.items, after.expired), (4, 2), "items after two have expired");
    ensure_eq!(after.by_kind.get("message"), Some(&2), "messages");
    ensure_eq!(after.by_kind.get("fact"), Some(&2), "facts");
    let at = |seconds| Some(began.saturating_sub(Duration::from_secs(seconds)));
    ensure_eq!((after.oldest, after.newest), (at(4), at(1)), "oldest and newest");
    b.records().sweep_expired(&b.ctx, 10).await?;
    let swept = upkeep.tenant_stats(&b.ctx).await?;
    ensure_eq!((swept.items, swept.expired), (4, 0), "items after the sweep");
    Ok(())
}

/// `embedded` counts the items with a vector in the active space, and `head` is the log's.
pub(crate) async fn tenant_stats_know_vectors(b: &Bench) -> CheckResult {
    let (active, next) = two_spaces()?;
    spaces(b, &b.ctx, Some(&active), Some(&next)).await?;
    b.put_all(&b.ctx, &["bare"]).await?;
    let vector = [1.0, 0.0, 0.0];
    b.put_vector(&b.ctx, item("active", "x", b.now())?, &active, &vector).await?;
    b.put_vector(&b.ctx, item("next", "x", b.now())?, &next, &vector).await?;
    let stats = b.upkeep()?.tenant_stats(&b.ctx).await?;
    ensure_eq!((stats.items, stats.embedded), (3, 1), "items and embedded ones");
    let head = b.changes()?.read_changes(&b.ctx, Default::default(), 100).await?.head;
    ensure_eq!(stats.head, head, "the head of the log");
    Ok(())
}

/// A store that is well verifies without a fault, says what it looked at, and has numbers.
pub(crate) async fn a_sound_store_verifies(b: &Bench) -> CheckResult {
    for n in 0..30 {
        b.put_all(&b.ctx, &[&n.to_string()]).await?;
    }
    b.delete(&b.ctx, "7", memory_core::Precondition::Any).await?;
    let report = b.upkeep()?.verify().await?;
    ensure!(report.faults.is_empty(), "faults of a sound store: {:?}", report.faults);
    ensure!(!report.checks.is_empty(), "the report does not say what was checked");
    ensure!(!b.upkeep()?.store_stats().await?.numbers.is_empty(), "a store without numbers");
    Ok(())
}

/// A backup is made while the store serves, and never over something that is there.
pub(crate) async fn backups_overwrite_nothing(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a"]).await?;
    let Some(target) = b.harness().backup_target() else {
        return Err(Failure::new("online backup is declared and there is no place for one"));
    };
    let report = b.upkeep()?.backup(&target).await?;
    ensure!(report.bytes > 0, "an empty backup");
    let again = b.upkeep()?.backup(&target).await;
    refused("a backup over a backup", again, ErrorKind::AlreadyExists)?;
    b.put_all(&b.ctx, &["b"]).await?;
    ensure!(b.get(&b.ctx, "a").await?.is_some(), "the store has lost what it copied");
    Ok(())
}
