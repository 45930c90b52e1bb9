//! `erase`, `purge`, `stats`, `backup`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use orchestra_memory::{
    Callback, EraseOptions, EraseProgress, Field, Filter, Memory, TenantMemory, UserId,
};
use serde_json::json;

use super::usage;
use crate::app::{self, App, Places, utf8};
use crate::args::{Backup, Erase};
use crate::failure::{Failure, Result};
use crate::human;
use crate::progress::Progress;

/// `erase`.
pub(crate) async fn erase(
    app: &mut App,
    places: &Places,
    tenant: &TenantMemory,
    erase: &Erase,
) -> Result<()> {
    let user = erase.user.as_deref().map(UserId::new).transpose()?;
    if !erase.yes {
        let filter = match &user {
            Some(user) => Filter::eq(Field::UserId, user.as_str()),
            None => Filter::All,
        };
        let count = human::count(tenant.count(&filter).await?, "memory", "memories");
        let tenant = human::safe(tenant.id().as_str());
        confirm(
            app,
            &match &user {
                Some(user) => {
                    let user = human::safe(user.as_str());
                    format!("Erase {count} of user {user} in tenant {tenant} for good?")
                }
                None => format!("Erase the whole tenant {tenant}, {count}, for good?"),
            },
        )?;
    }
    let progress = Progress::new(&app.output, "erasing", None);
    let options = options(&progress);
    let report = match &user {
        Some(user) => tenant.erase_user(user, options).await,
        None => tenant.erase_tenant(options).await,
    };
    progress.finish();
    let report = report?;
    if app.output.is_json() {
        return app.output.json(&json!({
            "tenant": tenant.id(),
            "user": user,
            "erased": report.erased,
            "receipt": report.receipt,
        }));
    }
    let receipt = &report.receipt;
    app.output.line(format!(
        "erased {}; began {}, ended {}",
        human::count(report.erased, "memory", "memories"),
        receipt.began_at,
        receipt.ended_at
    ))?;
    let is_service = app::is_firestore(&places.url) || app::is_redis(&places.url);
    app.output.line(match (receipt.bytes_cleared, is_service) {
        (_, true) => "how long the service keeps copies of its own is the service's to say",
        (true, _) => "the bytes are gone from the store's files too",
        (false, _) => {
            "the bytes are still in the store's files: they go when no other process reads old ones"
        }
    })
}

/// `purge`.
pub(crate) async fn purge(app: &mut App, tenant: &TenantMemory) -> Result<()> {
    let progress = Progress::new(&app.output, "purging", None);
    let purged = tenant.purge_expired(options(&progress)).await;
    progress.finish();
    let purged = purged?;
    if app.output.is_json() {
        return app.output.json(&json!({ "purged": purged }));
    }
    app.output
        .line(format!("purged {}", human::count(purged, "expired memory", "expired memories")))
}

fn options(progress: &Progress) -> EraseOptions {
    let progress = progress.clone();
    EraseOptions::new().with_progress(Callback::new(move |so_far: &EraseProgress| {
        progress.message(human::count(so_far.removed, "memory", "memories"));
    }))
}

/// Asks a person; where there is none, `--yes` has to say it.
fn confirm(app: &App, question: &str) -> Result<()> {
    if app.output.is_json() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(
            "this cannot be undone: say --yes, as nobody can be asked here",
        ));
    }
    let mut error = io::stderr();
    // A question that cannot be shown is answered by nobody, and then nothing is erased.
    let _ = write!(error, "{question} Type yes: ").and_then(|()| error.flush());
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::file("standard input", error))?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure::usage("nothing was erased")) }
}

/// `stats`.
pub(crate) async fn stats(
    app: &mut App,
    places: &Places,
    memory: &Memory,
    tenant: &TenantMemory,
) -> Result<()> {
    let embedding = &places.settings.embedding;
    let (provider, when) = (embedding.chosen_provider(), embedding.when);
    let admin = memory.admin();
    let (stats, spaces) = (tenant.stats().await?, tenant.spaces().await?);
    let (store, schema) = (admin.store_stats().await?, admin.schema().await?);
    let missing = stats.items.saturating_sub(stats.embedded);
    if app.output.is_json() {
        return app.output.json(&json!({
            "tenant": tenant.id(),
            "tenant_stats": stats,
            "spaces": spaces,
            "embedding": { "provider": provider.name(), "when": when, "missing": missing },
            "store": store.numbers,
            "schema": schema,
            "usage": memory.usage(),
            "layers": super::layers::json(&memory.layers()),
            "cache": super::cache::json(memory).await,
        }));
    }
    let style = app.output.style();
    let mut rows: Vec<(String, String)> =
        vec![("memories".to_owned(), human::grouped(stats.items))];
    for (kind, number) in &stats.by_kind {
        rows.push((format!("  {}", human::safe(kind)), human::grouped(*number)));
    }
    rows.push(("with a vector".to_owned(), human::grouped(stats.embedded)));
    if missing > 0 {
        rows.push(("without a vector".to_owned(), human::grouped(missing)));
    }
    rows.push(("expired, to be purged".to_owned(), human::grouped(stats.expired)));
    if let (Some(oldest), Some(newest)) = (stats.oldest, stats.newest) {
        rows.push(("oldest".to_owned(), human::when(oldest)));
        rows.push(("newest".to_owned(), human::when(newest)));
    }
    for (name, space) in [("vectors", spaces.active), ("vectors to come", spaces.next)] {
        if let Some(space) = space {
            let metric = space.metric().name();
            let text =
                format!("{} dimensions, {metric}, model {}", space.dimensions(), space.model());
            rows.push((name.to_owned(), human::one_line(&text)));
        }
    }
    app.output.line(style.bold(&format!("tenant {}", human::safe(tenant.id().as_str()))))?;
    table(app, &rows)?;
    app.output.line("")?;
    app.output.line(style.bold("store"))?;
    let mut rows: Vec<_> = store
        .numbers
        .iter()
        // Most counters of a process that has just begun are 0 and say nothing.
        .filter(|(_, number)| **number > 0)
        .map(|(name, number)| (name.replace('_', " "), human::grouped(*number)))
        .collect();
    rows.push(("schema".to_owned(), schema.stored.to_string()));
    table(app, &rows)?;
    app.output.line("")?;
    app.output.line(style.bold("what these numbers cost"))?;
    table(app, &usage::rows(&memory.usage()))?;
    let rows = super::cache::rows(memory).await;
    if !rows.is_empty() {
        app.output.line("")?;
        app.output.line(style.bold("cache"))?;
        table(app, &rows)?;
    }
    let rows = super::layers::rows(&memory.layers());
    if rows.is_empty() {
        return Ok(());
    }
    app.output.line("")?;
    app.output.line(style.bold("layers"))?;
    table(app, &rows)
}

fn table(app: &mut App, rows: &[(String, String)]) -> Result<()> {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().try_for_each(|(name, value)| {
        app.output.line(format!("  {}  {value}", human::pad(name, width)))
    })
}

/// `backup`.
pub(crate) async fn backup(app: &mut App, memory: &Memory, backup: &Backup) -> Result<()> {
    let progress = Progress::new(&app.output, "copying", None);
    let report = memory.admin().backup(utf8(&backup.target)?).await;
    progress.finish();
    let report = report?;
    if app.output.is_json() {
        return app.output.json(&json!({ "target": utf8(&backup.target)?, "bytes": report.bytes }));
    }
    let bytes = human::grouped(report.bytes);
    app.output.note(format!("copied {bytes} bytes to {}", backup.target.display()))
}
