//! What `doctor` checks about embedding: the model's files, what makes vectors, the tenant's space
//! against it, and what has no vector. Nothing is sent to any server.

use orchestra_memory::model::{self, Check as Look, FileState, MINILM};
use orchestra_memory::{
    EmbedWhen, EmbedderSource, EmbeddingSpace, Memory, Provider, TenantMemory, TenantStats,
};

use super::{Check, ErrorKind};
use crate::app::{App, Places};
use crate::failure::Failure;
use crate::human;

/// The model of the spaces that are declared for callers' vectors where nobody names one.
const CALLER: &str = "caller";

const PULL: &str = "get the model's files, or name another folder or provider in the section \
                    [embedding] of the settings";
const EMBED: &str = "`orchestra-memory embed --missing` makes them";
const SUPPLY: &str = "give the memories vectors of your own, or name a provider in the section \
                      [embedding] of the settings and run `orchestra-memory embed --missing`";
const MOVE: &str = "set provider and model back to those of the tenant, search by words alone \
                    (`--arm keyword`), or move the tenant to the model: `orchestra-memory reembed`";

/// The model's files, where the settings have a use for them.
pub(super) fn model(app: &App, places: &Places) -> Option<Check> {
    let provider = places.settings.embedding.chosen_provider();
    if !matches!(provider, Provider::Auto | Provider::MiniLm) {
        return None;
    }
    let given = places.settings.embedding.minilm.folder.as_deref();
    let folder = match app.model_folder(given) {
        Ok(folder) => folder,
        Err(_) if provider == Provider::Auto => {
            return Some(Check::ok("model", "this machine has no cache folder to keep one in"));
        }
        Err(failure) => return Some(Check::failed("model", &failure)),
    };
    let status = model::status(&MINILM, &folder, Look::Sizes);
    let Some(problem) = status.problem() else {
        let check = "`orchestra-memory model status --check` compares checksums";
        let detail = format!("{} is in {}; {check}", MINILM.name, folder.display());
        return Some(Check::ok("model", detail));
    };
    let missing = status.files.iter().filter(|file| file.state == FileState::Missing).count();
    Some(match (provider, missing) {
        // The provider `auto` does without.
        (Provider::Auto, all) if all == status.files.len() => Check::ok("model", problem.message()),
        (Provider::Auto, some) if some > 0 => Check::warning("model", problem.message(), PULL),
        _ => Check::failed("model", &problem.into()).with_advice(PULL),
    })
}

/// What makes vectors, and when.
pub(super) async fn embedder(memory: &Memory, places: &Places) -> Check {
    let settings = &places.settings.embedding;
    let provider = settings.chosen_provider();
    let Some(embedder) = memory.embedder() else {
        let detail = match (provider, &settings.model) {
            (Provider::None, Some(model)) => {
                format!("callers supply vectors of the model {model}")
            }
            (Provider::None, None) => "callers supply vectors, or there are none".to_owned(),
            _ if memory.has_keyword_index() => {
                "there is no model on this machine: search is by words".to_owned()
            }
            _ => {
                let detail = "there is no model on this machine, and the store has no keyword \
                              index: nothing is found but by `--vector`";
                return Check::warning("embedding", detail, PULL);
            }
        };
        return Check::ok("embedding", format!("{}: {detail}", provider.name()));
    };
    let when = match settings.when {
        EmbedWhen::Write => "with each write",
        EmbedWhen::Background => "in the background",
        EmbedWhen::Later => "by `orchestra-memory embed --missing`",
    };
    let more = match embedder.source {
        EmbedderSource::Http => "; the server was not asked".to_owned(),
        _ => instructions(memory).await,
    };
    let detail = format!("{}: vectors of {}, made {when}{more}", provider.name(), embedder.space);
    Check::ok("embedding", detail)
}

/// The processor's instructions that the local model computes with.
async fn instructions(memory: &Memory) -> String {
    let health = memory.embedding_state().await.health;
    let name = health.and_then(|health| health.details.get("instructions").cloned());
    name.map(|name| format!(", with {name}")).unwrap_or_default()
}

/// The tenant's space against what makes vectors, and what has none.
pub(super) async fn tenant(
    memory: &Memory,
    places: &Places,
    tenant: &TenantMemory,
    stats: Option<&TenantStats>,
    checks: &mut Vec<Check>,
) {
    let spaces = match tenant.spaces().await {
        Ok(spaces) => spaces,
        Err(error) => return checks.push(Check::failed("vectors", &error.into())),
    };
    let provider = places.settings.embedding.chosen_provider();
    let wanted = wanted(memory, places);
    let makes = provider != Provider::None && wanted.is_some();
    let fits = match (&spaces.active, &wanted) {
        (Some(space), Some(wanted)) if space != wanted => {
            let own = provider == Provider::Auto && space.model() == CALLER;
            checks.push(if own {
                let detail = format!("{space}, the callers' own: the local model makes none");
                Check::ok("vectors", detail)
            } else {
                let detail = format!("the tenant's space is {space}, the settings name {wanted}");
                Check::fault("vectors", ErrorKind::Config, detail).with_advice(MOVE)
            });
            false
        }
        (Some(space), _) => {
            checks.push(Check::ok("vectors", space.to_string()));
            true
        }
        (None, _) => {
            let stored = stats.is_some_and(|stats| stats.items > 0);
            checks.push(match (memory.has_keyword_index(), stored) {
                (true, _) => Check::ok("vectors", "none yet: search is by words"),
                (false, false) => Check::ok("vectors", "none yet, nor any memory"),
                (false, true) => {
                    let detail =
                        "none, and the store has no keyword index: no search finds anything";
                    Check::warning("vectors", detail, if makes { EMBED } else { SUPPLY })
                }
            });
            true
        }
    };
    let missing = stats.map_or(0, |stats| stats.items.saturating_sub(stats.embedded));
    if fits && makes && missing > 0 {
        let memories = human::count(missing, "memory lacks a vector", "memories lack a vector");
        let detail = format!("{memories}: a search by meaning does not find what lacks one");
        checks.push(Check::warning("missing", detail, EMBED));
    }
}

/// The space that the settings stand for, whether or not what makes its vectors could be opened.
fn wanted(memory: &Memory, places: &Places) -> Option<EmbeddingSpace> {
    match places.settings.embedding.chosen_provider() {
        Provider::MiniLm => Some(places.settings.embedding.minilm.space()),
        Provider::Auto => memory.embedder().map(|embedder| embedder.space),
        _ => places.settings.embedding.space().ok().flatten(),
    }
}

/// What keeps the embedder from being opened, while the store opens without it.
pub(super) fn unopened(failure: &Failure) -> Check {
    Check::failed("embedding", failure)
        .with_advice("correct the section [embedding] of the settings; the message says what of it")
}
