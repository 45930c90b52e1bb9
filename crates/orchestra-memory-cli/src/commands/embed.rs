//! `embed --missing`: vectors for the memories that have none.

use orchestra_memory::{
    Callback, EmbedOptions, EmbedReport, Error, Memory, TenantId, TenantMemory,
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
    /// Tenants that were looked at.
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
    judge(&sum, report.cancelled, None)?;
    shown
}

/// Every tenant of the store. One that the embedder can do nothing for does not keep the others
/// from theirs; any other fault ends it.
async fn all(app: &mut App, memory: &Memory, embed: &Embed) -> Result<()> {
    let (mut sum, mut cancelled) = (Sum::default(), false);
    let tenants = memory.admin().tenants().await?;
    let count = tenants.len() as u64;
    for id in tenants {
        let mut report = one(app, &memory.tenant(&id)?, embed).await;
        sum.take_in(&report);
        let of_the_tenant = report.refused_by_space();
        match report.stopped.take() {
            Some(error) if of_the_tenant => {
                sum.refused += 1;
                refuse(app, &id, &error)?;
            }
            Some(error) => {
                show_done(app, &id, &report)?;
                show_sum(app, &sum, Ended::Stopped)?;
                return Err(error.with_context("tenant", id.to_string()).into());
            }
            None => show(app, &id, &report)?,
        }
        cancelled = report.cancelled;
        if cancelled {
            break;
        }
    }
    let shown = show_sum(app, &sum, if cancelled { Ended::Cancelled } else { Ended::Through });
    judge(&sum, cancelled, Some(count))?;
    shown
}

/// One tenant, with progress on a terminal.
async fn one(app: &App, tenant: &TenantMemory, embed: &Embed) -> EmbedReport {
    // How many there are is known with the first that are done.
    let progress = Progress::new(&app.output, "embedding", None);
    progress.message("the first memories".to_owned());
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

/// How it ends, if not well; `tenants`: how many there are, where it was about all of them.
fn judge(sum: &Sum, cancelled: bool, tenants: Option<u64>) -> Result<()> {
    if cancelled {
        let done = match (sum.embedded, sum.missing_before, tenants) {
            (done, _, Some(all)) => format!(
                "after {} of {} of {}",
                memories(done),
                human::grouped(sum.tenants),
                human::count(all, "tenant", "tenants")
            ),
            (_, 0, None) => "before anything was embedded".to_owned(),
            (done, all, None) => format!("after {} of {}", human::grouped(done), memories(all)),
        };
        return Err(Failure::Interrupted(format!("interrupted {done}: run it again to go on")));
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
    let nothing = match (report.cancelled, report.missing_before) {
        // The interruption has its own word.
        (true, _) => None,
        (false, 0) => Some("nothing was missing"),
        (false, _) => Some(NOTHING_DONE),
    };
    match counts(report.embedded, report.stale, report.failed, nothing) {
        Some(counts) => app.output.note(format!("{name}: {counts}")),
        None => Ok(()),
    }
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

/// How a run over all tenants ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// With the last tenant.
    Through,
    /// By Ctrl-C.
    Cancelled,
    /// By a fault.
    Stopped,
}

fn show_sum(app: &mut App, sum: &Sum, ended: Ended) -> Result<()> {
    if app.output.is_json() {
        return app.output.json(&json!({ "embed_all": {
            "tenants": sum.tenants,
            "refused": sum.refused,
            "missing_before": sum.missing_before,
            "embedded": sum.embedded,
            "stale": sum.stale,
            "failed": sum.failed,
            "cancelled": ended == Ended::Cancelled,
        } }));
    }
    let tenants = human::count(sum.tenants, "tenant", "tenants");
    let nothing = match ended {
        Ended::Through if sum.missing_before + sum.refused == 0 => Some("nothing was missing"),
        Ended::Through => Some(NOTHING_DONE),
        // What ended it has its own word, and not all tenants were looked at.
        Ended::Cancelled | Ended::Stopped => None,
    };
    match counts(sum.embedded, sum.stale, sum.failed, nothing) {
        Some(counts) => app.output.note(format!("{tenants}: {counts}")),
        None => Ok(()),
    }
}

/// Where something may have been missing.
const NOTHING_DONE: &str = "nothing was embedded";

/// The numbers that are not 0; `nothing`: what is said if all are.
fn counts(embedded: u64, stale: u64, failed: u64, nothing: Option<&str>) -> Option<String> {
    let counts = [(embedded, "embedded"), (stale, "changed meanwhile"), (failed, "refused")];
    let counts: Vec<_> = counts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", human::grouped(*number)))
        .collect();
    if counts.is_empty() { nothing.map(str::to_owned) } else { Some(counts.join(", ")) }
}

fn memories(number: u64) -> String {
    human::count(number, "memory", "memories")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_follows_from_the_numbers() {
        let code = |sum: &Sum, cancelled| judge(sum, cancelled, None).map_err(|f| f.exit_code());
        let well = Sum { tenants: 1, missing_before: 3, embedded: 2, stale: 1, ..Sum::default() };
        assert_eq!(code(&well, false), Ok(()));
        assert_eq!(code(&well, true), Err(130));
        assert_eq!(code(&Sum { failed: 1, ..Sum::default() }, false), Err(10));
        let refused = Sum { tenants: 3, refused: 1, ..Sum::default() };
        assert_eq!(code(&refused, false), Err(10));
        let text = judge(&refused, false, Some(3)).unwrap_err().to_text();
        assert_eq!(text, "1 tenant of 3 could not be served");
    }

    #[test]
    fn an_interruption_says_how_far_it_came() {
        let text = |embedded, missing_before, tenants| {
            let sum = Sum { tenants: 2, embedded, missing_before, ..Sum::default() };
            judge(&sum, true, tenants).unwrap_err().to_text()
        };
        let so_far = |done: &str| format!("interrupted {done}: run it again to go on");
        assert_eq!(text(3, 400, None), so_far("after 3 of 400 memories"));
        assert_eq!(text(0, 400, None), so_far("after 0 of 400 memories"));
        assert_eq!(text(0, 0, None), so_far("before anything was embedded"));
        assert_eq!(text(3, 400, Some(5)), so_far("after 3 memories of 2 of 5 tenants"));
    }

    #[test]
    fn counts_leave_out_what_is_nothing() {
        assert_eq!(counts(0, 0, 0, Some("nothing")).as_deref(), Some("nothing"));
        assert_eq!(counts(0, 0, 0, None), None);
        for nothing in [Some("nothing"), None] {
            let counts = counts(1_200, 0, 1, nothing);
            assert_eq!(counts.as_deref(), Some("1,200 embedded, 1 refused"));
        }
    }
}
