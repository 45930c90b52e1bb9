//! `embed --missing`: vectors for the memories that have none.

use orchestra_memory::{
    Callback, EmbedOptions, EmbedReport, Error, ErrorKind, Memory, TenantId, TenantMemory,
};
use serde_json::json;

use crate::app::App;
use crate::args::Embed;
use crate::failure::{Failure, Result, describe};
use crate::human;
use crate::output::complain;
use crate::progress::Progress;

/// What was done for some tenants together.
#[derive(Debug, Default)]
struct Sum {
    tenants: u64,
    /// Tenants that the embedder can do nothing for.
    refused: u64,
    missing_before: u64,
    embedded: u64,
    stale: u64,
    failed: u64,
}

/// `embed --missing`.
pub(crate) async fn run(
    app: &mut App,
    memory: &Memory,
    tenant: &TenantMemory,
    embed: &Embed,
) -> Result<()> {
    if embed.all_tenants {
        return all(app, memory, embed).await;
    }
    let mut report = one(app, tenant, embed).await;
    if let Some(error) = report.stopped.take() {
        show_done(app, tenant.id(), &report)?;
        return Err(error.into());
    }
    let shown = show(app, tenant.id(), &report);
    let mut sum = Sum::default();
    sum.take_in(&report);
    judge(&sum, report.cancelled)?;
    shown
}

/// Every tenant of the store. One that the embedder can do nothing for does not keep the others
/// from theirs; any other fault ends it.
async fn all(app: &mut App, memory: &Memory, embed: &Embed) -> Result<()> {
    let (mut sum, mut cancelled) = (Sum::default(), false);
    for id in memory.admin().tenants().await? {
        let mut report = one(app, &memory.tenant(&id)?, embed).await;
        sum.take_in(&report);
        match report.stopped.take() {
            Some(error) if error.kind() == ErrorKind::Config => {
                sum.refused += 1;
                refuse(app, &id, &error)?;
            }
            Some(error) => {
                show_done(app, &id, &report)?;
                show_sum(app, &sum, false)?;
                return Err(error.with_context("tenant", id.to_string()).into());
            }
            None => show(app, &id, &report)?,
        }
        cancelled = report.cancelled;
        if cancelled {
            break;
        }
    }
    let shown = show_sum(app, &sum, cancelled);
    judge(&sum, cancelled)?;
    shown
}

/// One tenant, with progress on a terminal.
async fn one(app: &App, tenant: &TenantMemory, embed: &Embed) -> EmbedReport {
    let progress = Progress::new(&app.output, "embedding", Some(0));
    let bar = progress.clone();
    let mut options = EmbedOptions::new().with_cancel(app.cancel.clone()).with_progress(
        Callback::new(move |so_far: &EmbedReport| {
            let done = so_far.embedded + so_far.failed + so_far.stale;
            // Memories may be added meanwhile.
            let total = so_far.missing_before.max(done);
            bar.done_of(done, total);
            bar.message(format!("{} of {}", human::grouped(done), memories(total)));
        }),
    );
    if let Some(size) = embed.batch_size {
        options = options.with_batch_size(size);
    }
    let report = tenant.embed_missing(options).await;
    progress.finish();
    report
}

impl Sum {
    fn take_in(&mut self, report: &EmbedReport) {
        self.tenants += 1;
        self.missing_before += report.missing_before;
        self.embedded += report.embedded;
        self.stale += report.stale;
        self.failed += report.failed;
    }
}

/// How it ends, if not well.
fn judge(sum: &Sum, cancelled: bool) -> Result<()> {
    if cancelled {
        let (done, all) = (human::grouped(sum.embedded), memories(sum.missing_before));
        return Err(Failure::Interrupted(format!(
            "interrupted after {done} of {all}: run it again to go on"
        )));
    }
    let mut parts = Vec::new();
    if sum.failed > 0 {
        parts.push(format!("{} could not be embedded", memories(sum.failed)));
    }
    if sum.refused > 0 {
        let tenants = human::count(sum.refused, "tenant", "tenants");
        parts.push(format!("{tenants} of {} could not be served", human::grouped(sum.tenants)));
    }
    if parts.is_empty() { Ok(()) } else { Err(Failure::Partial(parts.join("; "))) }
}

/// What was done for a tenant; the texts that were refused come first.
fn show(app: &mut App, tenant: &TenantId, report: &EmbedReport) -> Result<()> {
    for failed in &report.failures {
        if app.output.is_json() {
            let error = describe(&failed.error);
            app.output.json(&json!({ "tenant": tenant, "id": failed.id, "error": error }))?;
        } else {
            let (id, why) = (human::safe(failed.id.as_str()), failed.error.message());
            complain(&format!("{id}: {}", human::one_line(why)));
        }
    }
    if app.output.is_json() {
        return app.output.json(&json!({ "embed": {
            "tenant": tenant,
            "missing_before": report.missing_before,
            "embedded": report.embedded,
            "stale": report.stale,
            "failed": report.failed,
            "cancelled": report.cancelled,
        } }));
    }
    let name = human::one_line(tenant.as_str());
    let counts = counts(report.embedded, report.stale, report.failed);
    app.output.note(format!("{name}: {counts}"))
}

/// What was done for a tenant before a fault, where there is something to say.
fn show_done(app: &mut App, tenant: &TenantId, report: &EmbedReport) -> Result<()> {
    if report.embedded + report.failed > 0 { show(app, tenant, report) } else { Ok(()) }
}

/// A tenant that the embedder can do nothing for.
fn refuse(app: &mut App, tenant: &TenantId, error: &Error) -> Result<()> {
    if app.output.is_json() {
        return app.output.json(&json!({ "tenant": tenant, "error": describe(error) }));
    }
    let (name, why) = (human::one_line(tenant.as_str()), human::one_line(error.message()));
    complain(&format!("{name}: {why}"));
    Ok(())
}

fn show_sum(app: &mut App, sum: &Sum, cancelled: bool) -> Result<()> {
    if app.output.is_json() {
        return app.output.json(&json!({ "embed_all": {
            "tenants": sum.tenants,
            "refused": sum.refused,
            "missing_before": sum.missing_before,
            "embedded": sum.embedded,
            "stale": sum.stale,
            "failed": sum.failed,
            "cancelled": cancelled,
        } }));
    }
    let tenants = human::count(sum.tenants, "tenant", "tenants");
    app.output.note(format!("{tenants}: {}", counts(sum.embedded, sum.stale, sum.failed)))
}

fn counts(embedded: u64, stale: u64, failed: u64) -> String {
    let counts = [(embedded, "embedded"), (stale, "changed meanwhile"), (failed, "refused")];
    let counts: Vec<_> = counts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", human::grouped(*number)))
        .collect();
    if counts.is_empty() { "nothing was missing".to_owned() } else { counts.join(", ") }
}

fn memories(number: u64) -> String {
    human::count(number, "memory", "memories")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_follows_from_the_numbers() {
        let code = |sum: &Sum, cancelled| judge(sum, cancelled).map_err(|f| f.exit_code());
        let well = Sum { tenants: 1, missing_before: 3, embedded: 2, stale: 1, ..Sum::default() };
        assert_eq!(code(&well, false), Ok(()));
        assert_eq!(code(&well, true), Err(130));
        assert_eq!(code(&Sum { failed: 1, ..Sum::default() }, false), Err(10));
        let refused = Sum { tenants: 3, refused: 1, ..Sum::default() };
        assert_eq!(code(&refused, false), Err(10));
        let text = judge(&refused, false).unwrap_err().to_text();
        assert_eq!(text, "1 tenant of 3 could not be served");
    }

    #[test]
    fn counts_leave_out_what_is_nothing() {
        assert_eq!(counts(0, 0, 0), "nothing was missing");
        assert_eq!(counts(1_200, 0, 1), "1,200 embedded, 1 refused");
    }
}
