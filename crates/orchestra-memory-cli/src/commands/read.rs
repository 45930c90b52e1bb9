//! `get`, `list`, `history`.

use orchestra_memory::{
    AgentId, Cursor, HistoryRequest, Kind, ListRequest, MemoryId, MemoryItem, Order, Page,
    Projection, Result as CoreResult, SessionId, TenantMemory, UserId, VectorProjection,
};
use serde_json::json;

use super::write::missing_ids;
use crate::app::App;
use crate::args::{End, Get, List};
use crate::failure::Result;
use crate::{human, scope};

/// `get`.
pub(crate) async fn get(app: &mut App, tenant: &TenantMemory, get: &Get) -> Result<()> {
    let ids = get.ids.iter().map(MemoryId::new).collect::<CoreResult<Vec<_>>>()?;
    let mut projection = Projection::full();
    if get.with_vectors {
        projection = projection.with_vectors(VectorProjection::All);
    }
    let found = tenant.get_many(&ids, &projection).await?;
    let missing = found.iter().filter(|item| item.is_none()).count();
    for (place, item) in found.iter().flatten().enumerate() {
        if app.output.is_json() {
            app.output.json(item)?;
            continue;
        }
        if place > 0 {
            app.output.line("")?;
        }
        let lines = human::card(item, app.output.style());
        print(app, lines)?;
    }
    match missing {
        0 => Ok(()),
        _ => Err(missing_ids(missing, ids.len())),
    }
}

/// `list`.
pub(crate) async fn list(app: &mut App, tenant: &TenantMemory, list: &List) -> Result<()> {
    let request = ListRequest::new()
        .with_filter(scope::filter(&list.scope, app.now())?)
        .with_order(match list.order {
            End::Newest => Order::NEWEST,
            End::Oldest => Order::OLDEST,
        })
        .with_limit(list.limit)
        .with_cursor(cursor(list)?);
    let page = tenant.list(&request).await?;
    show(app, &page, |items, app| human::table(items, app.output.style()))
}

/// `history`.
pub(crate) async fn history(app: &mut App, tenant: &TenantMemory, list: &List) -> Result<()> {
    // What the request names itself is left to it; the rest becomes its filter.
    let scope = &list.scope;
    let rest = crate::args::Scope {
        filter: scope.filter.clone(),
        since: scope.since.clone(),
        until: scope.until.clone(),
        ..crate::args::Scope::default()
    };
    let mut request = HistoryRequest::new()
        .with_filter(scope::filter(&rest, app.now())?)
        .with_limit(list.limit)
        .with_cursor(cursor(list)?);
    if let Some(user) = &scope.user {
        request = request.with_user(UserId::new(user)?);
    }
    if let Some(agent) = &scope.agent {
        request = request.with_agent(AgentId::new(agent)?);
    }
    if let Some(session) = &scope.session {
        request = request.with_session(SessionId::new(session)?);
    }
    if let Some(kind) = &scope.kind {
        request = request.with_kinds([kind.parse::<Kind>()?]);
    }
    if list.order == End::Oldest {
        request = request.oldest_first();
    }
    let page = tenant.history(&request).await?;
    show(app, &page, |items, app| {
        items.iter().flat_map(|item| human::turn(item, app.output.style())).collect()
    })
}

fn cursor(list: &List) -> Result<Option<Cursor>> {
    Ok(list.cursor.as_deref().map(str::parse).transpose()?)
}

/// Writes a page: an item a line and then where to go on.
fn show(
    app: &mut App,
    page: &Page,
    lines: impl FnOnce(&[MemoryItem], &App) -> Vec<String>,
) -> Result<()> {
    if app.output.is_json() {
        for item in &page.items {
            app.output.json(item)?;
        }
        return app
            .output
            .json(&json!({ "page": { "count": page.items.len(), "next": page.next } }));
    }
    let lines = lines(&page.items, app);
    print(app, lines)?;
    if page.items.is_empty() {
        app.output.note("no memories")?;
    }
    if let Some(next) = &page.next {
        let more = format!("more: --cursor {next}");
        app.output.note(app.output.style().dim(&more))?;
    }
    Ok(())
}

fn print(app: &mut App, lines: Vec<String>) -> Result<()> {
    lines.into_iter().try_for_each(|line| app.output.line(line))
}
