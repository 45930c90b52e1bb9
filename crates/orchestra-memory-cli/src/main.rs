//! The program `orchestra-memory`: a memory for AI agents, on the command line.
//!
//! It stands on `orchestra-memory` alone and adds nothing to it but words: arguments become
//! requests, answers become lines for people or JSON, errors become exit codes.
//! `docs/cli.md` is its reference.

mod app;
mod args;
mod commands;
mod environment;
mod failure;
mod human;
mod lines;
mod metrics;
mod output;
mod parse;
mod progress;
mod scope;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind as ParseErrorKind;
use orchestra_memory::{CancelFlag, Error, ErrorKind};

use crate::app::App;
use crate::args::{Cli, Command, ModelCommand};
use crate::failure::{Failure, Result};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let json = cli.global.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, json);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Says why the arguments cannot be read, or shows the help that they ask for.
fn refuse(error: &clap::Error) -> ExitCode {
    // The arguments could not be read, so that whether JSON was wanted has to be guessed.
    let json = std::env::args_os().any(|argument| argument == "--json");
    let is_help = !error.use_stderr();
    if json && !is_help && error.kind() != ParseErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        let text = error.to_string();
        let message = text.split("\n\n").next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        report(&Failure::usage(human::one_line(message)), true);
    } else {
        // A closed pipe after `--help` is nobody's concern.
        let _ = error.print();
    }
    ExitCode::from(if is_help { 0 } else { failure::exit_code(ErrorKind::InvalidInput) })
}

fn report(failure: &Failure, json: bool) {
    match failure {
        Failure::ClosedPipe => {}
        failure if json => output::complain(&failure.to_json()),
        failure => output::complain(&format!("orchestra-memory: {}", failure.to_text())),
    }
}

fn run(cli: Cli) -> Result<()> {
    // One worker beside the main thread, which may wait for a file or a terminal: it takes Ctrl-C.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Unexpected, "cannot start a thread").with_source(error)
        })?;
    let cancel = CancelFlag::new();
    // These have something to finish or to clear away. The others end at once, as the system has
    // it: what they commit happens whole or not at all.
    let heard = match &cli.command {
        Command::Import(_) | Command::Export(_) | Command::Embed(_) | Command::Reembed(_) => true,
        Command::Model(model) => matches!(model.command, ModelCommand::Pull(_)),
        _ => false,
    };
    if heard {
        let grace = if matches!(cli.command, Command::Model(_)) { GRACE } else { Duration::ZERO };
        runtime.spawn(watch(cancel.clone(), grace));
    }
    let mut app = App::new(cli.global, cancel)?;
    // On the heap: the commands are many, and the largest decides the size.
    let result = runtime.block_on(Box::pin(commands::run(cli.command, &mut app)));
    // The figures of a command that failed are figures, too.
    let measured = app.metrics.write();
    let flushed = app.output.flush();
    // The watch waits for a signal that may never come.
    runtime.shutdown_background();
    result.and(flushed).and(measured)
}

/// How long a pull has to stop after a second Ctrl-C: it looks at the flag ten times a second while
/// `pip` is at work, which would work on alone if the program just ended.
const GRACE: Duration = Duration::from_secs(2);

/// Raises the flag at the first Ctrl-C, so that what is at hand is finished; ends the program at
/// the second, after a grace, for the main thread may wait for an input that never comes.
async fn watch(cancel: CancelFlag, grace: Duration) {
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    cancel.cancel();
    if tokio::signal::ctrl_c().await.is_ok() {
        // The main thread ends the program if it comes to its end meanwhile.
        std::thread::sleep(grace);
        std::process::exit(i32::from(failure::INTERRUPTED));
    }
}
