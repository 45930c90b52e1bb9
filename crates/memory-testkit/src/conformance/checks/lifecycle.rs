//! Capabilities, health, deadlines, close.

use std::fmt::Debug;
use std::time::Duration;

use memory_core::traits::{
    ChangePosition, EraseScope, KeywordEntry, KeywordQuery, TenantSpaces, VectorEntry, VectorQuery,
};
use memory_core::{
    CallContext, Capability, Clock, ConsumerName, Deadline, ErrorKind, Filter, HealthStatus,
    LeaseName, Outcome, Precondition, Projection, Query, Revision, Vectors, Write,
};

use super::vectors::{one_space, spaces};
use crate::conformance::bench::{Bench, item, memory_ids};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

/// The calls of all parts that are there, each with its name and the kind of its failure.
type Answers = Vec<(&'static str, Option<ErrorKind>)>;

fn kind<T: Debug>(answer: memory_core::Result<T>) -> Option<ErrorKind> {
    answer.err().map(|error| error.kind())
}

/// Every call that takes a context.
async fn calls(b: &Bench, ctx: &CallContext) -> CheckResult<Answers> {
    let (records, mut answers) = (b.records(), Answers::new());
    let ids = memory_ids(&["a"])?;
    answers.push(("commit", kind(b.put(ctx, item("written", "x", b.now())?).await)));
    answers.push(("fetch", kind(records.fetch(ctx, &ids, &Projection::full()).await)));
    answers.push(("query", kind(records.query(ctx, &Query::new(1)).await)));
    answers.push(("count", kind(records.count(ctx, &Filter::All).await)));
    answers.push(("sweep", kind(records.sweep_expired(ctx, 10).await)));
    let nobody = EraseScope::User(memory_core::UserId::new("nobody")?);
    answers.push(("erase", kind(records.erase(ctx, &nobody, None).await)));
    if let (Some(index), Some(meta)) = (b.harness().vectors(), b.harness().meta()) {
        answers.push(("spaces", kind(meta.spaces(ctx).await)));
        answers.push(("erased", kind(meta.erased(ctx, &ids).await)));
        let space = one_space()?;
        let query = VectorQuery::new(space.clone(), vec![1.0, 0.0, 0.0], 1);
        answers.push(("vector search", kind(index.search(ctx, &query).await)));
        let (id, vector) = (ids[0].clone(), vec![1.0, 0.0, 0.0]);
        let entry = VectorEntry { id, revision: Revision::new("stale")?, vector };
        answers.push(("vector upsert", kind(index.upsert(ctx, &space, &[entry]).await)));
        answers.push(("vector remove", kind(index.remove(ctx, &space, &ids).await)));
        if index.capabilities().has(Capability::CoLocated) {
            answers.push(("missing vectors", kind(index.missing(ctx, &space, None, 1).await)));
        }
    }
    if let Some(index) = b.harness().keywords() {
        answers.push(("keywords", kind(index.search(ctx, &KeywordQuery::new("x", 1)).await)));
        let (id, text) = (ids[0].clone(), "x".to_owned());
        let entry = KeywordEntry { id, revision: Revision::new("stale")?, text };
        answers.push(("keyword upsert", kind(index.upsert(ctx, &[entry]).await)));
    }
    if let Some(log) = b.harness().changes() {
        let consumer = ConsumerName::new("c")?;
        answers.push(("changes", kind(log.read_changes(ctx, ChangePosition(0), 1).await)));
        let position = ChangePosition(0);
        answers.push(("acknowledge", kind(log.acknowledge(ctx, &consumer, position).await)));
        answers.push(("consumers", kind(log.consumers(ctx).await)));
        answers.push(("forget", kind(log.forget_consumer(ctx, &consumer).await)));
    }
    if let Some(leases) = b.harness().leases() {
        let (name, life) = (LeaseName::new("job")?, Duration::from_secs(1));
        answers.push(("acquire", kind(leases.acquire(ctx, &name, life).await)));
        answers.push(("fence", kind(leases.set_write_fence(ctx, None).await)));
    }
    if let Some(upkeep) = b.harness().upkeep() {
        answers.push(("stats", kind(upkeep.tenant_stats(ctx).await)));
    }
    Ok(answers)
}

/// Gives the tenant a space, where there are any, so that a search of it can succeed.
async fn ready(b: &Bench) -> CheckResult {
    if b.harness().vectors().is_some() && b.harness().meta().is_some() {
        spaces(b, &b.ctx, Some(&one_space()?), None).await?;
    }
    b.put_all(&b.ctx, &["a"]).await
}

/// A deadline that has passed is `Timeout` for every call, and the call has done nothing; one
/// that has not is no hindrance.
pub(crate) async fn passed_deadlines_are_timeouts(b: &Bench) -> CheckResult {
    ready(b).await?;
    b.advance_secs(10);
    let at = b.clock().monotonic();
    for passed in [Duration::ZERO, at] {
        let late = b.ctx.clone().with_deadline(Some(Deadline::at(passed)));
        for (name, answer) in calls(b, &late).await? {
            ensure_eq!(answer, Some(ErrorKind::Timeout), "{name} after its deadline");
        }
        let write = item("written", "x", b.now())?;
        let error = refused("a commit", b.put(&late, write).await, ErrorKind::Timeout)?;
        ensure_eq!(error.outcome(), Outcome::NotApplied, "the outcome of a late commit");
    }
    ensure!(b.get(&b.ctx, "written").await?.is_none(), "a late commit has happened");
    let ahead = Deadline::at(at + Duration::from_secs(3_600));
    for (name, answer) in calls(b, &b.ctx.clone().with_deadline(Some(ahead))).await? {
        ensure_eq!(answer, None, "{name} before its deadline");
    }
    ensure!(b.get(&b.ctx, "written").await?.is_some(), "a commit in time has not happened");
    Ok(())
}

/// After `close` every call is `Unavailable`, a second close is no error, and health says so.
pub(crate) async fn closed_stores_refuse_every_call(b: &Bench) -> CheckResult {
    ready(b).await?;
    for (name, answer) in calls(b, &b.ctx).await? {
        ensure_eq!(answer, None, "{name} before the end");
    }
    ensure_eq!(b.records().health().await.status, HealthStatus::Healthy, "the health before");
    let capabilities = b.records().capabilities();
    b.records().close().await?;
    b.records().close().await?;
    for (name, answer) in calls(b, &b.ctx).await? {
        ensure_eq!(answer, Some(ErrorKind::Unavailable), "{name} after the end");
    }
    if let Some(directory) = b.harness().tenants() {
        let answer = directory.list_tenants(None, 1).await;
        refused("the directory", answer, ErrorKind::Unavailable)?;
    }
    if let Some(meta) = b.harness().meta() {
        refused("the schema", meta.schema().await, ErrorKind::Unavailable)?;
        let spaces = TenantSpaces::default();
        refused("spaces", meta.set_spaces(&b.ctx, &spaces).await, ErrorKind::Unavailable)?;
    }
    if let Some(upkeep) = b.harness().upkeep() {
        refused("the check", upkeep.verify().await, ErrorKind::Unavailable)?;
    }
    let health = b.records().health().await;
    ensure_eq!(health.status, HealthStatus::Unhealthy, "the health after");
    ensure!(!health.reasons.is_empty(), "an unhealthy store gives no reason");
    ensure_eq!(b.records().capabilities(), capabilities, "the capabilities after");
    Ok(())
}

/// A store that serves is healthy, without a reason to be otherwise.
pub(crate) async fn a_serving_store_is_healthy(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a"]).await?;
    let mut all = vec![b.records().health().await];
    if let Some(index) = b.harness().vectors() {
        all.push(index.health().await);
    }
    if let Some(index) = b.harness().keywords() {
        all.push(index.health().await);
    }
    for health in all {
        ensure_eq!(health.status, HealthStatus::Healthy, "the health");
        ensure!(health.reasons.is_empty(), "a healthy store has reasons: {:?}", health.reasons);
        let shown = format!("{health:?}");
        ensure!(
            !shown.contains("the text of a") && !shown.contains(crate::canary::TEXT),
            "the health shows memory text"
        );
    }
    Ok(())
}

/// Capabilities are constant, named, and agree with each other and with the parts.
pub(crate) async fn capabilities_are_constant(b: &Bench) -> CheckResult {
    let before = b.records().capabilities();
    ensure!(!before.backend.is_empty(), "a back end without a name");
    ensure!(before.max_dimensions > 0, "no vector has no dimensions");
    b.put_all(&b.ctx, &["a"]).await?;
    ensure_eq!(b.records().capabilities(), before, "the capabilities after a write");
    if let Some(index) = b.harness().vectors() {
        ensure!(index.capabilities().has(Capability::VectorSearch), "an index without search");
    }
    if let Some(index) = b.harness().keywords() {
        ensure!(index.capabilities().has(Capability::KeywordSearch), "an index without search");
    }
    Ok(())
}

/// Errors say where they come from, and show neither text nor ids' owners.
pub(crate) async fn errors_show_no_text(b: &Bench) -> CheckResult {
    b.put(&b.ctx, item("a", "a very secret text", b.now())?).await?;
    let again = item("a", "another secret text", b.now())?;
    let write = Write::put(again, Vectors::default(), Precondition::Absent);
    let answer = b.commit(&b.ctx, vec![write]).await;
    let error = refused("a create", answer, ErrorKind::AlreadyExists)?;
    let shown = format!("{error} {error:?}");
    ensure!(!shown.contains("secret"), "an error shows memory text: {shown}");
    ensure!(!error.is_retryable(), "a failed precondition is called retryable");
    Ok(())
}

/// A write that is dropped before it was ever polled leaves nothing.
pub(crate) async fn dropped_writes_leave_nothing(b: &Bench) -> CheckResult {
    let records = b.records();
    for n in 0..20 {
        let one = item(&n.to_string(), "x", b.now())?;
        let commit = b.commit_of(vec![Write::put(one, Vectors::default(), Precondition::Absent)]);
        drop(records.commit(&b.ctx, commit));
    }
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 0, "items after dropped writes");
    b.put_all(&b.ctx, &["0"]).await?;
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 1, "items after a write");
    Ok(())
}
