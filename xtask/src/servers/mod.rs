//! `cargo xtask servers`: the real servers that tests and benches need, on this machine.
//!
//! `up` starts them to stay, until `down`; [`with_firestore`] and [`with_redis`] start them for as
//! long as a command of this program runs.

mod deadline;
mod emulator;
mod guarded;
mod process;
mod redis;
mod sdk;
mod state;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::metadata::Metadata;
use emulator::Emulator;
use sdk::{Missing, Surroundings};
use state::State;

pub(crate) use guarded::{WATCH, watch};
pub(crate) use redis::{Redis, with_redis};

/// The servers.
const KNOWN: &[&str] = &[FIRESTORE, REDIS];
const FIRESTORE: &str = "firestore";
const REDIS: &str = "redis";

/// The variable in which clients of Firestore find an emulator: host and port.
const HOST: &str = "FIRESTORE_EMULATOR_HOST";

/// The variable that tells the tests why there is no [`HOST`]: [`ABSENT`].
const WHY: &str = "ORCHESTRA_FIRESTORE";

/// There is no emulator on this machine, and the suites that need it say that they are skipped.
const ABSENT: &str = "absent";

/// The variable that is set where checks run unattended: nothing may be skipped there.
const CI: &str = "CI";

/// What `cargo xtask servers` is asked to do.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    action: Action,
    /// One server, or all.
    only: Option<&'static str>,
    jar: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Up,
    Down,
    Status,
}

fn parse(args: &[String]) -> Result<Asked> {
    let mut args = args.iter();
    let action = match args.next().map(String::as_str) {
        Some("up") => Action::Up,
        Some("down") => Action::Down,
        Some("status") => Action::Status,
        Some(other) => bail!("`servers` knows up, down and status, and not `{other}`"),
        None => bail!("say what to do with the servers: up, down or status"),
    };
    let (mut only, mut jar) = (None, None);
    while let Some(arg) = args.next() {
        if let Some(value) = arg.strip_prefix("--emulator-jar") {
            if action != Action::Up {
                bail!("--emulator-jar is for `servers up`");
            }
            let value = match value.strip_prefix('=') {
                Some(value) => Some(value),
                None if value.is_empty() => args.next().map(String::as_str),
                None => bail!("unknown argument `{arg}`; known: --emulator-jar PATH"),
            };
            let value = value.filter(|value| !value.is_empty());
            jar = Some(PathBuf::from(value.context("--emulator-jar needs the path of the jar")?));
        } else if arg.starts_with('-') {
            bail!("unknown argument `{arg}`; known: --emulator-jar PATH");
        } else {
            let Some(known) = KNOWN.iter().find(|known| *known == arg) else {
                bail!("no server `{arg}`; known: {}", KNOWN.join(", "));
            };
            if only.replace(*known).is_some() {
                bail!("name one server, or none for all");
            }
        }
    }
    Ok(Asked { action, only, jar })
}

/// Does what the arguments say.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let Asked { action, only, jar } = parse(args)?;
    let folder = folder()?;
    // One `up` at a time, or a server would be started twice and forgotten once.
    let lock = folder.join("lock");
    let lock = File::create(&lock).with_context(|| lock.display().to_string())?;
    lock.lock().context("cannot wait for another `cargo xtask servers`")?;
    let place = Place { state: folder.join("firestore.json"), log: folder.join("firestore.log") };
    if only.is_none_or(|only| only == FIRESTORE) {
        match action {
            Action::Up => place.up(jar)?,
            Action::Down => place.down()?,
            Action::Status => place.status()?,
        }
    }
    if only.is_none_or(|only| only == REDIS) {
        match action {
            Action::Up => redis::up(&folder)?,
            Action::Down => redis::down(&folder)?,
            Action::Status => redis::status(&folder)?,
        }
    }
    Ok(())
}

/// Where states and logs lie; made where it is not there.
fn folder() -> Result<PathBuf> {
    let folder = Metadata::load()?.target_directory.join("servers");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// The files of the emulator that stays.
struct Place {
    state: PathBuf,
    log: PathBuf,
}

impl Place {
    fn up(&self, jar: Option<PathBuf>) -> Result<()> {
        if let Some(state) = State::read(&self.state)? {
            let host = format!("127.0.0.1:{}", state.port);
            if state.process.runs() {
                if !emulator::answers(&host) {
                    bail!(
                        "firestore: pid {} runs and does not answer at {host}; \
                         `cargo xtask servers down` ends it",
                        state.process.pid
                    );
                }
                eprintln!("firestore: already up, pid {}", state.process.pid);
                println!("{HOST}={host}");
                return Ok(());
            }
            eprintln!("firestore: pid {} has ended by itself; starting another", state.process.pid);
            State::remove(&self.state)?;
        }
        let mut surroundings = Surroundings::here();
        surroundings.named = jar;
        let found = surroundings.find()?;
        eprintln!("firestore: starting {}", found.jar.display());
        let emulator = Emulator::start(&found, &self.log)?;
        let (process, port, host) = (emulator.process(), emulator.port(), emulator.host());
        State { process, port }.write(&self.state)?;
        emulator.stay()?;
        eprintln!("firestore: up, pid {}, log {}", process.pid, self.log.display());
        println!("{HOST}={host}");
        Ok(())
    }

    fn down(&self) -> Result<()> {
        match State::read(&self.state)? {
            None => println!("firestore: down already"),
            Some(state) if state.process.runs() => {
                state.process.end()?;
                println!("firestore: down, pid {} has ended", state.process.pid);
            }
            Some(state) => {
                let pid = state.process.pid;
                println!("firestore: down already; pid {pid} had ended by itself");
            }
        }
        State::remove(&self.state)
    }

    fn status(&self) -> Result<()> {
        let Some(State { process, port }) = State::read(&self.state)? else {
            println!("firestore: down");
            return Ok(());
        };
        let pid = process.pid;
        let Some(bytes) = process.resident() else {
            println!(
                "firestore: stale: pid {pid}, once on port {port}, has ended by itself; \
                 `cargo xtask servers up` starts another"
            );
            return Ok(());
        };
        let host = format!("127.0.0.1:{port}");
        let up = if emulator::answers(&host) { "up" } else { "up, but it does not answer" };
        println!("firestore: {up}: port {port}, pid {pid}, {} MiB resident", bytes >> 20);
        println!("{HOST}={host}");
        Ok(())
    }
}

/// What a command does where there is no emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// It fails.
    Fails,
    /// It leaves out what needs one, and says so; where nothing may be skipped, it fails.
    Skips,
}

/// The emulator that a command has.
pub(crate) enum Firestore {
    /// The person's own.
    Given(String),
    /// One of the command's own, and its jar, for tests that start more of them.
    Own(Emulator, PathBuf),
    /// None.
    Absent,
}

impl Firestore {
    /// Tells a command by its environment.
    pub(crate) fn give(&self, command: &mut Command) {
        match self {
            Self::Given(host) => command.env(HOST, host).env_remove(WHY),
            Self::Own(emulator, jar) => {
                command.env(HOST, emulator.host()).env(sdk::JAR, jar).env_remove(WHY)
            }
            Self::Absent => command.env(WHY, ABSENT).env_remove(HOST),
        };
    }

    /// Whether there is none.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// Runs `work` with an emulator: that of [`HOST`] where it is set, else one of its own, which is
/// ended with the work, however that ends.
///
/// # Errors
/// Those of the work; no emulator, where that is no reason to skip; one that does not answer.
pub(crate) fn with_firestore<T>(
    absence: Absence,
    work: impl FnOnce(&Firestore) -> Result<T>,
) -> Result<T> {
    if let Some(host) = given() {
        if !emulator::answers(&host) {
            bail!(
                "{HOST} is set to {host}, where nothing answers: start it, or unset the variable"
            );
        }
        eprintln!("firestore: {HOST} is set, so none is started: {host}");
        return work(&Firestore::Given(host));
    }
    let found = match Surroundings::here().find() {
        Ok(found) => found,
        Err(missing) => {
            let why = skippable(absence, missing)?;
            eprintln!("firestore: absent; what needs it will be skipped");
            let result = work(&Firestore::Absent);
            eprintln!("{}", skipped(&why));
            return result;
        }
    };
    let log = emulator::own_log(&folder()?);
    eprintln!("firestore: starting an emulator for this run: {}", found.jar.display());
    let emulator = Emulator::start(&found, &log)?;
    let pid = emulator.process().pid;
    eprintln!("firestore: {HOST}={}, pid {pid}", emulator.host());
    let firestore = Firestore::Own(emulator, found.jar);
    let mut result = work(&firestore);
    if let Firestore::Own(emulator, _) = firestore {
        match emulator.end() {
            Ok(()) => eprintln!("firestore: ended, pid {pid}"),
            Err(error) if result.is_ok() => result = Err(error),
            Err(error) => eprintln!("firestore: {error:#}"),
        }
    }
    finish(&log, result.is_ok());
    result
}

/// The log is kept for a run that has failed.
fn finish(log: &Path, fine: bool) {
    if fine {
        // It is in the target folder, and in nobody's way.
        let _ = fs::remove_file(log);
    } else {
        eprintln!("firestore: its log is in {}", log.display());
    }
}

/// The emulator that the person has named.
fn given() -> Option<String> {
    env::var(HOST).ok().filter(|host| !host.is_empty())
}

/// Why there will be none, where that is no failure.
fn skippable(absence: Absence, missing: Missing) -> Result<String> {
    judge(absence, missing, env::var_os(CI).is_some())
}

fn judge(absence: Absence, missing: Missing, ci: bool) -> Result<String> {
    match (absence, &missing) {
        (Absence::Skips, Missing::NotInstalled(_) | Missing::Unfetched(_)) if ci => {
            Err(anyhow::Error::new(missing)
                .context(format!("nothing may be skipped where {CI} is set")))
        }
        (Absence::Skips, Missing::NotInstalled(_) | Missing::Unfetched(_)) => {
            Ok(missing.to_string())
        }
        _ => Err(missing.into()),
    }
}

/// What must not be overlooked at the end of a run.
fn skipped(why: &str) -> String {
    skipped_all("Firestore", "memory-firestore", why)
}

/// The same for any server and the package that needs it most.
fn skipped_all(server: &str, package: &str, why: &str) -> String {
    let line = "*".repeat(72);
    format!(
        "\n{line}\nSKIPPED: everything that needs {server}, the suite of {package} above \
         all.\nIt has NOT passed.\n{why}\n{line}"
    )
}

/// For a run of several commands: what it will have to say at its end, where there is no emulator.
///
/// # Errors
/// As [`with_firestore`] and [`with_redis`] for [`Absence::Skips`], without starting one.
pub(crate) fn foresee() -> Result<Option<String>> {
    let firestore = if given().is_some() {
        None
    } else {
        match Surroundings::here().find() {
            Ok(_) => None,
            Err(missing) => Some(skipped(&skippable(Absence::Skips, missing)?)),
        }
    };
    let notes: Vec<_> = firestore.into_iter().chain(redis::foresee()?).collect();
    Ok((!notes.is_empty()).then(|| notes.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Asked> {
        parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_understood_or_refused_by_name() {
        let plain = |action, only| Asked { action, only, jar: None };
        assert_eq!(parse_words("up").unwrap(), plain(Action::Up, None));
        assert_eq!(parse_words("down firestore").unwrap(), plain(Action::Down, Some(FIRESTORE)));
        assert_eq!(parse_words("status").unwrap(), plain(Action::Status, None));
        assert_eq!(parse_words("up redis").unwrap(), plain(Action::Up, Some(REDIS)));
        let jar = Some("a.jar".into());
        let with_jar = Asked { action: Action::Up, only: Some(FIRESTORE), jar };
        for words in ["up --emulator-jar a.jar firestore", "up firestore --emulator-jar=a.jar"] {
            assert_eq!(parse_words(words).unwrap(), with_jar);
        }
        for (words, part) in [
            ("", "up, down or status"),
            ("restart", "restart"),
            ("up oracle", "known: firestore, redis"),
            ("up firestore firestore", "one server"),
            ("up --emulator-jar", "needs the path"),
            ("up --emulator-jar=", "needs the path"),
            ("up --emulator-jars x", "--emulator-jars"),
            ("up --jar x", "--jar"),
            ("down --emulator-jar x", "for `servers up`"),
        ] {
            let error = parse_words(words).unwrap_err().to_string();
            assert!(error.contains(part), "{words}: {error}");
        }
    }

    #[test]
    fn what_is_not_installed_may_be_skipped_and_nothing_else_and_not_in_ci() {
        let missing = || Missing::NotInstalled("no emulator".to_owned());
        let wrong = || Missing::NotAsNamed("no such jar".to_owned());
        let why = judge(Absence::Skips, missing(), false).unwrap();
        assert!(why.contains("no emulator"));
        let ci = judge(Absence::Skips, missing(), true).unwrap_err();
        assert!(format!("{ci:#}").contains("CI") && format!("{ci:#}").contains("no emulator"));
        for ci in [false, true] {
            assert!(judge(Absence::Fails, missing(), ci).is_err());
            assert!(judge(Absence::Skips, wrong(), ci).is_err());
            assert!(judge(Absence::Fails, wrong(), ci).is_err());
        }
        let note = skipped(&why);
        assert!(note.contains("SKIPPED") && note.contains("gcloud components install"), "{note}");
    }

    #[test]
    fn a_command_is_told_of_the_emulator_or_of_its_absence_and_of_nothing_else() {
        let told = |firestore: &Firestore| {
            let mut command = Command::new("true");
            command.env(HOST, "old").env(WHY, "old");
            firestore.give(&mut command);
            let envs = command.get_envs();
            envs.map(|(name, value)| {
                let text = |one: &std::ffi::OsStr| one.to_string_lossy().into_owned();
                (text(name), value.map(text))
            })
            .collect::<Vec<_>>()
        };
        let given = Firestore::Given("here:1".to_owned());
        assert_eq!(
            told(&given),
            [(HOST.to_owned(), Some("here:1".to_owned())), (WHY.to_owned(), None)]
        );
        let absent = Firestore::Absent;
        assert_eq!(
            told(&absent),
            [(HOST.to_owned(), None), (WHY.to_owned(), Some("absent".to_owned()))]
        );
        assert!(absent.is_absent() && !given.is_absent());
    }
}
