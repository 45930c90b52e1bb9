//! Redis for tests and benches: with the query engine, without it, Debian's 7.0, and a cluster of
//! three primaries with a replica each, all with the engine. On free ports, in folders of their own,
//! and without files of data.

mod files;
mod resp;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::deadline::Deadline;
use super::guarded::Guarded;
use super::state::State;
use super::{Absence, skippable};
use files::Files;

/// The variables in which the tests find the servers, and the folder of the programs.
const WITH_ENGINE: &str = "MEMORY_TEST_REDIS";
const WITHOUT: &str = "MEMORY_TEST_REDIS_PLAIN";
const OLD: &str = "MEMORY_TEST_REDIS_OLD";
const CLUSTER: &str = "MEMORY_TEST_REDIS_CLUSTER";
const PROGRAMS: &str = "MEMORY_TEST_REDIS_BIN";
const VARIABLES: [&str; 5] = [WITH_ENGINE, WITHOUT, OLD, CLUSTER, PROGRAMS];

/// Nodes of the cluster: the first half are primaries.
const NODES: usize = 6;
/// Slots of a cluster, as its specification has them.
const SLOTS: usize = 16_384;

/// How long a server may take to answer, and a cluster to agree: some seconds on two busy cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ports that are tried for a server.
const PORTS: usize = 20;

/// One server to be started.
struct Plan {
    /// Its name in messages and files.
    name: String,
    program: PathBuf,
    libraries: Option<PathBuf>,
    args: Vec<String>,
}

fn plans(files: &Files) -> Vec<Plan> {
    let engine = || vec!["--loadmodule".to_owned(), files.engine().display().to_string()];
    let new = |name: &str, args: Vec<String>| Plan {
        name: name.to_owned(),
        program: files.server(),
        libraries: None,
        args,
    };
    let old = Plan {
        name: "redis-7".to_owned(),
        program: files.old.0.clone(),
        libraries: files.old.1.clone(),
        args: Vec::new(),
    };
    let mut plans = vec![new("redis", engine()), new("redis-plain", Vec::new()), old];
    for node in 0..NODES {
        let cluster = "--cluster-enabled yes --cluster-node-timeout 2000";
        let mut args: Vec<String> = cluster.split(' ').map(str::to_owned).collect();
        args.extend(engine());
        plans.push(new(&format!("redis-cluster-{node}"), args));
    }
    plans
}

/// A port that is free, and whose bus port, 10,000 above it, is.
fn free_port(taken: &[u16]) -> Result<u16> {
    for _ in 0..200 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
        let port = listener.local_addr().context("no port is free")?.port();
        let bus = port.checked_add(10_000);
        let bus_is_free =
            bus.is_some_and(|bus| TcpListener::bind((Ipv4Addr::LOCALHOST, bus)).is_ok());
        let is_new = |port: u16| !taken.contains(&port) && !taken.contains(&(port - 10_000));
        if bus_is_free && port > 10_000 && is_new(port) && port < 55_535 {
            return Ok(port);
        }
    }
    bail!("no port is free whose bus port is free too")
}

/// A server that runs.
struct Server {
    name: String,
    guarded: Guarded,
    port: u16,
}

fn start(plan: &Plan, folder: &Path, taken: &[u16]) -> Result<Server> {
    let place = folder.join(&plan.name);
    let mut problem = None;
    for _ in 0..PORTS {
        if place.exists() {
            fs::remove_dir_all(&place).with_context(|| place.display().to_string())?;
        }
        fs::create_dir_all(&place).with_context(|| place.display().to_string())?;
        let port = free_port(taken)?;
        let log = place.join("log");
        let mut command = Guarded::command(&plan.program);
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(&place)
            .args(["--save", "", "--appendonly", "no"])
            .args(&plan.args);
        if let Some(libraries) = &plan.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let mut guarded = Guarded::start(command, &log)?;
        let deadline = Deadline::after(PATIENCE);
        loop {
            if let Some(status) = guarded.ended()? {
                problem = Some(format!("{} ended at once ({status}): {}", plan.name, tail(&log)));
                break;
            }
            if guarded.process().listens_on(port) && resp::ask(port, "PING").is_ok() {
                return Ok(Server { name: plan.name.clone(), guarded, port });
            }
            if deadline.passed() {
                bail!("{} does not answer: {}", plan.name, tail(&log));
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Another program may have taken the port.
        let was_taken = problem.as_ref().is_some_and(|problem| problem.contains("in use"));
        if !was_taken {
            break;
        }
    }
    bail!(problem.unwrap_or_else(|| format!("{} cannot be started", plan.name)))
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

/// Asks until the answer is right.
fn until(what: &str, mut right: impl FnMut() -> bool) -> Result<()> {
    let deadline = Deadline::after(PATIENCE);
    while !right() {
        if deadline.passed() {
            bail!("the cluster's nodes do not agree in time: {what}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Makes a cluster of its nodes: slots, acquaintance, replicas.
fn join(ports: &[u16]) -> Result<()> {
    let primaries = ports.len() / 2;
    for (node, port) in ports.iter().enumerate() {
        resp::ask(*port, &format!("CLUSTER SET-CONFIG-EPOCH {}", node + 1))?;
        if node < primaries {
            let (first, end) = (node * SLOTS / primaries, (node + 1) * SLOTS / primaries);
            resp::ask(*port, &format!("CLUSTER ADDSLOTSRANGE {first} {}", end - 1))?;
        }
    }
    for port in &ports[1..] {
        resp::ask(ports[0], &format!("CLUSTER MEET 127.0.0.1 {port}"))?;
    }
    let info = |port: u16| resp::ask(port, "CLUSTER INFO").unwrap_or_default();
    let knows = |port: u16, what: &str| info(port).lines().any(|line| line == what);
    let all = format!("cluster_known_nodes:{}", ports.len());
    until("acquaintance", || ports.iter().all(|port| knows(*port, &all)))?;
    for (node, port) in ports.iter().enumerate().skip(primaries) {
        let id = resp::ask(ports[node - primaries], "CLUSTER MYID")?;
        let replicate = format!("CLUSTER REPLICATE {}", id.trim());
        until("replicas", || resp::ask(*port, &replicate).is_ok())?;
    }
    until("slots", || ports.iter().all(|port| knows(*port, "cluster_state:ok")))?;
    let attached = |port: &u16| {
        let told = resp::ask(*port, "INFO replication").unwrap_or_default();
        told.lines().any(|line| line == "connected_slaves:1") && told.contains("state=online")
    };
    until("replicas", || ports[..primaries].iter().all(attached))
}

/// All servers, ended with this value.
pub(crate) struct Servers {
    servers: Vec<Server>,
    files: Files,
    folder: PathBuf,
}

impl Servers {
    fn start(files: Files, folder: PathBuf) -> Result<Self> {
        let mut all = Self { servers: Vec::new(), files, folder };
        for plan in plans(&all.files) {
            let taken: Vec<_> = all.servers.iter().map(|server| server.port).collect();
            all.servers.push(start(&plan, &all.folder, &taken)?);
        }
        join(&all.servers[3..].iter().map(|server| server.port).collect::<Vec<_>>())?;
        Ok(all)
    }

    fn variables(&self) -> BTreeMap<&'static str, String> {
        let ports: Vec<_> = self.servers.iter().map(|server| server.port).collect();
        variables(&ports, &self.files)
    }

    fn end(mut self) -> Result<()> {
        for server in self.servers.drain(..) {
            server.guarded.end().with_context(|| server.name.clone())?;
        }
        // They hold logs alone, and lie in the target folder.
        let _ = fs::remove_dir_all(&self.folder);
        Ok(())
    }
}

fn variables(ports: &[u16], files: &Files) -> BTreeMap<&'static str, String> {
    let url = |port: u16| format!("redis://127.0.0.1:{port}");
    BTreeMap::from([
        (WITH_ENGINE, url(ports[0])),
        (WITHOUT, url(ports[1])),
        (OLD, url(ports[2])),
        (CLUSTER, url(ports[3])),
        (PROGRAMS, files.folder.display().to_string()),
    ])
}

/// The servers that a command has.
pub(crate) enum Redis {
    /// The person's own, and those of an `up`: by their variables.
    Given,
    /// The command's own.
    Own(Servers),
    /// None.
    Absent,
}

impl Redis {
    /// Whether there are none.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Tells a command by its environment.
    pub(crate) fn give(&self, command: &mut Command) {
        match self {
            Self::Given => {}
            Self::Own(servers) => {
                command.envs(servers.variables());
            }
            Self::Absent => {
                for variable in VARIABLES {
                    command.env_remove(variable);
                }
            }
        }
    }
}

/// Whether the person has named servers.
///
/// # Errors
/// Some of them: what needs the others would be left out without a word.
fn is_given() -> Result<bool> {
    let is_set = |variable: &&str| env::var_os(variable).is_some_and(|value| !value.is_empty());
    let lacking: Vec<_> = VARIABLES.into_iter().filter(|variable| !is_set(variable)).collect();
    match lacking.len() {
        0 => Ok(true),
        all if all == VARIABLES.len() => Ok(false),
        _ => bail!(
            "some of the servers of Redis are given and {} not: set all of their variables or none",
            lacking.join(", ")
        ),
    }
}

/// Runs `work` with servers of Redis: those of the variables where they are set, else its own, which
/// are ended with the work, however that ends.
///
/// # Errors
/// Those of the work; no servers, where that is no reason to skip.
pub(crate) fn with_redis<T>(absence: Absence, work: impl FnOnce(&Redis) -> Result<T>) -> Result<T> {
    if is_given()? {
        eprintln!("redis: {WITH_ENGINE} is set, so none is started");
        return work(&Redis::Given);
    }
    let folder = super::folder()?;
    let files = match files::ensure(&folder.join("redis")) {
        Ok(files) => files,
        Err(missing) => {
            let why = skippable(absence, missing)?;
            eprintln!("redis: absent; what needs it will be skipped");
            let result = work(&Redis::Absent);
            eprintln!("{}", super::skipped_all("Redis", "memory-redis", &why));
            return result;
        }
    };
    let own = folder.join(format!("redis-{}", std::process::id()));
    let redis = Redis::Own(Servers::start(files, own)?);
    if let Redis::Own(servers) = &redis {
        let told: Vec<_> =
            servers.servers.iter().map(|it| format!("{} {}", it.name, it.port)).collect();
        eprintln!("redis: started for this run, on ports of 127.0.0.1: {}", told.join(", "));
    }
    let mut result = work(&redis);
    if let Redis::Own(servers) = redis {
        match servers.end() {
            Ok(()) => eprintln!("redis: ended"),
            Err(error) if result.is_ok() => result = Err(error),
            Err(error) => eprintln!("redis: {error:#}"),
        }
    }
    result
}

/// Where the state of a server that stays is kept.
fn state_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

/// Starts all servers to stay, and says where they are.
///
/// # Errors
/// They cannot be had, or do not start.
pub(super) fn up(folder: &Path) -> Result<()> {
    let files = files::ensure(&folder.join("redis"))?;
    let plans = plans(&files);
    let mut states = Vec::new();
    for plan in &plans {
        states.push(State::read(&state_of(folder, &plan.name))?);
    }
    let running: Vec<_> =
        states.iter().flatten().filter(|state| state.process.runs()).map(|it| it.port).collect();
    let ports = if running.len() == plans.len() {
        eprintln!("redis: already up");
        running
    } else {
        if !running.is_empty() {
            eprintln!("redis: some have ended by themselves; starting all anew");
            down(folder)?;
        }
        let servers = Servers::start(files.clone(), folder.join("redis-up"))?;
        let ports: Vec<_> = servers.servers.iter().map(|server| server.port).collect();
        for server in servers.servers {
            let process = server.guarded.process();
            State { process, port: server.port }.write(&state_of(folder, &server.name))?;
            server.guarded.stay()?;
            eprintln!("redis: {} up, pid {}, port {}", server.name, process.pid, server.port);
        }
        ports
    };
    for (name, value) in variables(&ports, &files) {
        println!("{name}={value}");
    }
    Ok(())
}

/// The names of all servers, which their states are kept under.
fn names() -> Vec<String> {
    let mut names = vec!["redis".to_owned(), "redis-plain".to_owned(), "redis-7".to_owned()];
    names.extend((0..NODES).map(|node| format!("redis-cluster-{node}")));
    names
}

/// Ends the servers that stay.
///
/// # Errors
/// One does not end.
pub(super) fn down(folder: &Path) -> Result<()> {
    let mut ended = 0;
    for name in names() {
        let path = state_of(folder, &name);
        if let Some(state) = State::read(&path)?
            && state.process.runs()
        {
            state.process.end().with_context(|| name.clone())?;
            ended += 1;
        }
        State::remove(&path)?;
    }
    let _ = fs::remove_dir_all(folder.join("redis-up"));
    println!("redis: down{}", if ended == 0 { " already" } else { "" });
    Ok(())
}

/// Says of each server whether it is up.
///
/// # Errors
/// A state cannot be read.
pub(super) fn status(folder: &Path) -> Result<()> {
    for name in names() {
        match State::read(&state_of(folder, &name))? {
            None => println!("{name}: down"),
            Some(State { process, port }) => match process.resident() {
                None => println!("{name}: stale: pid {} has ended by itself", process.pid),
                Some(bytes) => {
                    let answers = resp::ask(port, "PING").is_ok();
                    let up = if answers { "up" } else { "up, but it does not answer" };
                    let pid = process.pid;
                    println!("{name}: {up}: port {port}, pid {pid}, {} MiB resident", bytes >> 20);
                }
            },
        }
    }
    Ok(())
}

/// For a run of several commands: what it will have to say at its end, where there are no servers.
///
/// # Errors
/// As [`with_redis`] for [`Absence::Skips`], without starting any.
pub(super) fn foresee() -> Result<Option<String>> {
    if is_given()? {
        return Ok(None);
    }
    match files::ensure(&super::folder()?.join("redis")) {
        Ok(_) => Ok(None),
        Err(missing) => {
            let why = skippable(Absence::Skips, missing)?;
            Ok(Some(super::skipped_all("Redis", "memory-redis", &why)))
        }
    }
}
