//! The commands: each opens the store, asks, and writes the answer.
//!
//! | file | commands |
//! |---|---|
//! | `write` | `add`, `update`, `delete` |
//! | `read` | `get`, `list`, `history` |
//! | `search` | `search` |
//! | `queries` | `search --queries` |
//! | `transfer` | `import`, `export` |
//! | `embed`, `reembed` | `embed`, `reembed` |
//! | `model` | `model status`, `model pull` |
//! | `cache` | what the cache has, and has counted, in `stats` and with `--usage` |
//! | `layers` | what the layers have counted, in `stats` |
//! | `settings` | `settings` |
//! | `setup` | `setup firestore` |
//! | `upkeep` | `erase`, `purge`, `stats`, `backup` |
//! | `usage` | what operations cost, in `stats` and with `--usage` |
//! | `doctor` | `doctor` |

mod cache;
mod doctor;
mod embed;
mod layers;
mod model;
mod queries;
mod read;
mod reembed;
mod search;
mod settings;
mod setup;
mod transfer;
mod upkeep;
mod usage;
mod write;

use clap::CommandFactory as _;
use orchestra_memory::{Memory, TenantMemory};

use crate::app::{App, Places, Wants};
use crate::args::{Arm, Clearable, Cli, Command, Update};
use crate::failure::Result;

/// Runs a command.
pub(crate) async fn run(command: Command, app: &mut App) -> Result<()> {
    match &command {
        Command::Doctor(args) => return doctor::run(app, args).await,
        Command::Settings(args) => return settings::run(app, args),
        Command::Model(model) => return model::run(app, model),
        Command::Setup(setup) => return setup::run(app, setup).await,
        Command::Completions(completions) => {
            // Into memory first: the generator does not survive a closed pipe.
            let mut script = Vec::new();
            let (mut cli, name) = (Cli::command(), "orchestra-memory");
            clap_complete::generate(completions.shell, &mut cli, name, &mut script);
            return app.output.raw(&script);
        }
        _ => {}
    }
    let places = app.places()?;
    let memory = app.open(&places, wants(&command)).await?;
    let result = match memory.tenant(&places.tenant) {
        Ok(tenant) => dispatch(&command, app, &places, &memory, &tenant).await,
        Err(error) => Err(error.into()),
    };
    let closed = memory.close().await;
    usage::tell(app, &memory);
    result?;
    Ok(closed?)
}

/// What a command wants of the store: those that neither make nor take a vector work without what
/// makes them.
fn wants(command: &Command) -> Wants {
    let embedder = match command {
        Command::Add(_) | Command::Import(_) | Command::Embed(_) | Command::Reembed(_) => true,
        Command::Update(update) => embeds(update),
        Command::Search(search) => search.arm != Arm::Keyword,
        _ => false,
    };
    let create = matches!(command, Command::Add(_) | Command::Import(_));
    Wants { create, embedder }
}

/// Whether an update takes a vector or changes the text that one is made of: author and content.
fn embeds(update: &Update) -> bool {
    let author = update.author.is_some() || update.clear.contains(&Clearable::Author);
    update.content.is_some() || update.embedding.is_some() || author
}

async fn dispatch(
    command: &Command,
    app: &mut App,
    places: &Places,
    memory: &Memory,
    tenant: &TenantMemory,
) -> Result<()> {
    match command {
        Command::Add(add) => write::add(app, tenant, add).await,
        Command::Update(update) => write::update(app, tenant, update).await,
        Command::Delete(delete) => write::delete(app, tenant, delete).await,
        Command::Get(get) => read::get(app, tenant, get).await,
        Command::List(list) => read::list(app, tenant, list).await,
        Command::History(list) => read::history(app, tenant, list).await,
        Command::Search(search) => match &search.queries {
            Some(file) => queries::run(app, tenant, search, file).await,
            None => search::run(app, tenant, search).await,
        },
        Command::Import(import) => transfer::import(app, places, memory, tenant, import).await,
        Command::Export(export) => transfer::export(app, tenant, export).await,
        Command::Embed(embed) => embed::run(app, memory, tenant, embed).await,
        Command::Reembed(reembed) => reembed::run(app, memory, tenant, reembed).await,
        Command::Erase(erase) => upkeep::erase(app, places, tenant, erase).await,
        Command::Purge => upkeep::purge(app, tenant).await,
        Command::Stats => upkeep::stats(app, places, memory, tenant).await,
        Command::Backup(backup) => upkeep::backup(app, memory, backup).await,
        Command::Doctor(_)
        | Command::Settings(_)
        | Command::Model(_)
        | Command::Setup(_)
        | Command::Completions(_) => Ok(()),
    }
}
