//! `reembed`: moving a tenant to another embedding model.

use orchestra_memory::{
    Callback, EmbedOptions, EmbedReport, Memory, ReembedPreview, ReembedReport, TenantId,
    TenantMemory,
};
use serde_json::json;

use crate::app::App;
use crate::args::Reembed;
use crate::failure::{Failure, Result, describe};
use crate::human;
use crate::output::complain;
use crate::progress::Progress;

/// `reembed`.
pub(crate) async fn run(
    app: &mut App,
    memory: &Memory,
    tenant: &TenantMemory,
    reembed: &Reembed,
) -> Result<()> {
    if !reembed.all_tenants {
        return one(app, memory, tenant, reembed).await;
    }
    for id in memory.admin().tenants().await? {
        one(app, memory, &memory.tenant(&id)?, reembed).await?;
    }
    Ok(())
}

async fn one(
    app: &mut App,
    memory: &Memory,
    tenant: &TenantMemory,
    reembed: &Reembed,
) -> Result<()> {
    if reembed.abandon {
        let given_up = tenant.abandon_reembed().await?;
        return abandoned(app, tenant.id(), given_up);
    }
    if reembed.dry_run {
        let preview = tenant.reembed_preview().await?;
        let currency = memory.settings().cost.currency.clone();
        return show_preview(app, tenant.id(), &preview, &currency);
    }
    let progress = Progress::new(&app.output, "embedding", None);
    let bar = progress.clone();
    let mut options = EmbedOptions::new().with_cancel(app.cancel.clone()).with_progress(
        Callback::new(move |so_far: &EmbedReport| {
            let done = so_far.embedded + so_far.failed + so_far.stale;
            let total = so_far.missing_before.max(done);
            bar.done_of(done, total);
            bar.message(format!("{} of up to {}", human::grouped(done), memories(total)));
        }),
    );
    if let Some(size) = reembed.batch_size {
        options = options.with_batch_size(size);
    }
    let mut report = tenant.reembed(options).await;
    progress.finish();
    let stopped = report.embed.stopped.take();
    let shown = show(app, tenant.id(), &report);
    if let Some(error) = stopped {
        return Err(error.into());
    }
    shown?;
    let embed = &report.embed;
    if embed.cancelled {
        let done = memories(embed.embedded);
        return Err(Failure::Interrupted(format!(
            "interrupted after {done}; the old vectors serve until the end: run it again to go on"
        )));
    }
    match embed.failed {
        0 => Ok(()),
        failed => Err(Failure::Partial(format!("{} could not be embedded", memories(failed)))),
    }
}

fn abandoned(app: &mut App, tenant: &TenantId, given_up: bool) -> Result<()> {
    if app.output.is_json() {
        return app.output.json(&json!({ "reembed": { "tenant": tenant, "abandoned": given_up } }));
    }
    let name = human::one_line(tenant.as_str());
    app.output.note(match given_up {
        true => format!("{name}: the move was given up; the old vectors stay"),
        false => format!("{name}: no move was begun"),
    })
}

fn show_preview(
    app: &mut App,
    tenant: &TenantId,
    preview: &ReembedPreview,
    currency: &str,
) -> Result<()> {
    if app.output.is_json() {
        return app.output.json(&json!({ "reembed": {
            "tenant": tenant, "dry_run": true, "preview": preview,
            "currency": preview.estimate.map(|_| currency),
        } }));
    }
    let name = human::one_line(tenant.as_str());
    let Some(from) = &preview.from else {
        let lacking = memories(preview.memories);
        return app.output.note(format!("{name}: nothing to move; {lacking} lack a vector"));
    };
    let cost =
        preview.estimate.map_or_else(String::new, |amount| format!(", {amount:.6} {currency}"));
    app.output.note(format!(
        "{name}: up to {} from {from} to {}{}; the store's part: {} reads, {} writes{cost}",
        memories(preview.memories),
        preview.to,
        if preview.begun { ", begun before" } else { "" },
        human::grouped(preview.reads),
        human::grouped(preview.writes),
    ))
}

fn show(app: &mut App, tenant: &TenantId, report: &ReembedReport) -> Result<()> {
    let embed = &report.embed;
    for failed in &embed.failures {
        if app.output.is_json() {
            let error = describe(&failed.error);
            app.output.json(&json!({ "tenant": tenant, "id": failed.id, "error": error }))?;
        } else {
            let (id, why) = (human::safe(failed.id.as_str()), failed.error.message());
            complain(&format!("{id}: {}", human::one_line(why)));
        }
    }
    if app.output.is_json() {
        return app.output.json(&json!({ "reembed": {
            "tenant": tenant, "from": report.from, "to": report.to,
            "embedded": embed.embedded, "stale": embed.stale, "failed": embed.failed,
            "switched": report.switched, "cancelled": embed.cancelled,
        } }));
    }
    let name = human::one_line(tenant.as_str());
    let done = format!("{name}: {} embedded", memories(embed.embedded));
    match (&report.from, &report.to) {
        (Some(from), Some(to)) if report.switched => {
            app.output.note(format!("{done}; moved from {from} to {to}"))
        }
        (None, Some(to)) if !embed.cancelled => {
            app.output.note(format!("{done}; nothing to move: its space is {to}, or it has none"))
        }
        // What stopped it has its own word.
        _ => app.output.note(done),
    }
}

fn memories(number: u64) -> String {
    human::count(number, "memory", "memories")
}
