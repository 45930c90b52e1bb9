//! `search`: one question, and how hits are written for people and as JSON.

use orchestra_memory::{
    ArmHit, ArmSelection, ArmShare, Explanation, Hit, Limit, MemoryItem, SearchAnswer,
    SearchRequest, SignalShare, TenantMemory, limits,
};
use serde::Serialize;

use crate::app::App;
use crate::args::{Arm, Search};
use crate::failure::Result;
use crate::output::Style;
use crate::{human, parse, scope};

/// Hits of an answer for which nobody set a limit.
const DEFAULT_LIMIT: u32 = 10;

/// `search` with a text, a vector, or both.
pub(crate) async fn run(app: &mut App, tenant: &TenantMemory, search: &Search) -> Result<()> {
    let mut request = base(app, search)?;
    if let Some(text) = &search.text {
        request = request.with_text(parse::text(text)?);
    }
    let vector = search.vector.as_deref().map(parse::vector).transpose()?;
    let answer = ask(tenant, request, vector).await?;
    if app.output.is_json() {
        return app.output.json(&AnswerJson {
            hits: hits_json(&answer.hits),
            arms_used: &answer.arms_used,
            notes: &answer.notes,
            exact: answer.exact,
            relevance: answer.relevance,
        });
    }
    let style = app.output.style();
    for (place, hit) in answer.hits.iter().enumerate() {
        for line in lines(place + 1, hit, style) {
            app.output.line(line)?;
        }
    }
    if answer.hits.is_empty() {
        app.output.note("no hits")?;
    }
    for note in &answer.notes {
        app.output.note(style.dim(&format!("note: {}", human::one_line(note))))?;
    }
    Ok(())
}

/// What the options ask for, without text and vector.
pub(crate) fn base(app: &App, search: &Search) -> Result<SearchRequest> {
    let limit = match (search.limit, search.max_tokens) {
        (_, Some(budget)) => Limit::Tokens { budget, most: limits::TOP_K },
        (Some(limit), None) => Limit::Count(limit),
        (None, None) => Limit::Count(DEFAULT_LIMIT),
    };
    Ok(SearchRequest::new()
        .with_filter(scope::filter(&search.scope, app.now())?)
        .with_limit(limit)
        .with_explain(search.explain)
        .with_min_relevance(search.min_relevance)
        .with_arms(match search.arm {
            Arm::Auto => ArmSelection::Auto,
            Arm::Keyword => ArmSelection::KeywordOnly,
            Arm::Vector => ArmSelection::VectorOnly,
            Arm::Both => ArmSelection::Both,
        }))
}

/// Asks, with a vector of the tenant's active space or without.
pub(crate) async fn ask(
    tenant: &TenantMemory,
    request: SearchRequest,
    vector: Option<Vec<f32>>,
) -> Result<SearchAnswer> {
    Ok(match vector {
        Some(vector) => tenant.search_with_vector(request, vector).await?,
        None => tenant.search(&request).await?,
    })
}

/// An answer as `--json` writes it.
#[derive(Serialize)]
struct AnswerJson<'a> {
    hits: Vec<HitJson<'a>>,
    arms_used: &'a [orchestra_memory::Arm],
    notes: &'a [String],
    exact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    relevance: Option<f64>,
}

/// A hit as JSON: the id and the score first, then how it was found and the item.
#[derive(Serialize)]
pub(crate) struct HitJson<'a> {
    id: &'a str,
    score: f64,
    arms: &'a [ArmHit],
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a Explanation>,
    item: &'a MemoryItem,
}

/// Hits as JSON.
pub(crate) fn hits_json(hits: &[Hit]) -> Vec<HitJson<'_>> {
    fn hit(hit: &Hit) -> HitJson<'_> {
        HitJson {
            id: hit.item.id.as_str(),
            score: hit.score,
            arms: &hit.arms,
            explanation: hit.explanation.as_ref(),
            item: &hit.item,
        }
    }
    hits.iter().map(hit).collect()
}

fn lines(rank: usize, hit: &Hit, style: Style) -> Vec<String> {
    let item = &hit.item;
    let session = item.session_id.as_ref().map(|session| format!(", session {session}"));
    let facts = format!("({} {}{})", item.kind, item.id, session.unwrap_or_default());
    let mut lines = vec![format!(
        "{}  {:.3}  {}  {}  {}",
        style.bold(&format!("{rank:>3}")),
        hit.score,
        human::when(item.occurred_at),
        style.bold(&human::who(item)),
        style.dim(&human::one_line(&facts))
    )];
    lines.extend(human::wrapped(item.content(), "     ", style.width));
    if let Some(explanation) = &hit.explanation {
        for share in &explanation.arms {
            let text = human::wrapped(&why(share), "       ", style.width);
            lines.extend(text.iter().map(|line| style.dim(line)));
        }
        if !explanation.context.is_empty() {
            let text = human::wrapped(&around(&explanation.context), "       ", style.width);
            lines.extend(text.iter().map(|line| style.dim(line)));
        }
    }
    lines
}

/// What the context gave to a hit, in words: `context: speaker 1.00 = 0.210, session 0.80 = 0.150`.
fn around(shares: &[SignalShare]) -> String {
    let share = |share: &SignalShare| {
        format!("{} {:.2} = {:.3}", share.signal, share.strength, share.contribution)
    };
    format!("context: {}", shares.iter().map(share).collect::<Vec<_>>().join(", "))
}

/// What an arm gave to a hit, in words: `keyword: rank 1, BM25 7.31; 1.000 x 0.45 = 0.450 (...)`.
fn why(share: &ArmShare) -> String {
    let (Some(rank), Some(raw)) = (share.rank, share.raw_score) else {
        return format!("{}: not among its candidates", share.arm);
    };
    let measure = match share.arm {
        orchestra_memory::Arm::Keyword => "BM25",
        _ => "likeness",
    };
    let mut text = format!(
        "{}: rank {rank}, {measure} {raw:.3}; {:.3} x {:.2} = {:.3}",
        share.arm, share.normalised, share.weight, share.contribution
    );
    if share.lent > 0.0 {
        text.push_str(&format!(", {:.3} of the measure lent by its neighbours", share.lent));
    }
    if !share.terms.is_empty() {
        let mut terms: Vec<_> = share.terms.iter().collect();
        terms.sort_by(|a, b| b.score.total_cmp(&a.score));
        let terms: Vec<_> =
            terms.iter().map(|term| format!("{} {:.2}", term.term, term.score)).collect();
        text.push_str(&format!(" ({})", terms.join(", ")));
    }
    text
}
