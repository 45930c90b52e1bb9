//! What the servers say of themselves: version, mode, memory, persistence, replicas.

use memory_core::{Durability, Error, ErrorKind, Health, HealthStatus, Result};
use redis::{Value, cmd};

use crate::settings::RedisSettings;
use crate::wire::{Call, Effect, Wire};

/// The oldest version: scripts that state what they write, and key specifications of commands.
const OLDEST: u32 = 7;

/// Used part of the memory, in percent, from which on the health is degraded: a full server refuses
/// writes.
const NEARLY_FULL: u64 = 90;

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Server {
    address: String,
    version: String,
    is_cluster: bool,
    is_replica: bool,
    is_loading: bool,
    replicas: u64,
    policy: String,
    used: u64,
    limit: u64,
    appends: bool,
    save_failed: bool,
    /// `always`, `everysec` or `no`; `None` where the user may not ask.
    fsync: Option<String>,
    /// When snapshots are made, empty for never; `None` where the user may not ask.
    save: Option<String>,
}

/// What is known of all servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Servers {
    each: Vec<Server>,
    /// Addresses that did not answer, and why.
    away: Vec<(String, String)>,
}

/// The text of an answer.
fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

impl Server {
    fn read(address: String, info: &str) -> Self {
        let mut server = Self { address, ..Self::default() };
        for line in info.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let number = || value.parse().unwrap_or(0);
            match name {
                "redis_version" => value.clone_into(&mut server.version),
                "cluster_enabled" => server.is_cluster = value == "1",
                "role" => server.is_replica = value == "slave",
                "loading" => server.is_loading = value == "1",
                "connected_slaves" => server.replicas = number(),
                "maxmemory_policy" => value.clone_into(&mut server.policy),
                "used_memory" => server.used = number(),
                "maxmemory" => server.limit = number(),
                "aof_enabled" => server.appends = value == "1",
                "aof_last_write_status" | "rdb_last_bgsave_status" => {
                    server.save_failed |= value != "ok";
                }
                _ => {}
            }
        }
        server
    }

    fn configured(&mut self, answer: &Value) {
        let mut set = |name: Option<&str>, value: Option<&str>| match (name, value) {
            (Some("appendfsync"), Some(value)) => self.fsync = Some(value.to_owned()),
            (Some("save"), Some(value)) => self.save = Some(value.to_owned()),
            _ => {}
        };
        match answer {
            Value::Map(pairs) => {
                pairs.iter().for_each(|(name, value)| set(text(name), text(value)))
            }
            Value::Array(values) => {
                let (pairs, _) = values.as_chunks::<2>();
                pairs.iter().for_each(|[name, value]| set(text(name), text(value)));
            }
            _ => {}
        }
    }

    fn durability(&self) -> Durability {
        let told = |words: &str| Durability::Service(words.to_owned());
        if self.appends {
            return match self.fsync.as_deref() {
                Some("always") if self.replicas == 0 && !self.is_cluster => Durability::PowerLoss,
                Some("always") => told(
                    "append-only file, flushed before each answer; replicas follow later, and a \
                     failover may lose the last commits",
                ),
                Some("everysec") => told(
                    "append-only file, flushed each second: a loss of power may lose the last \
                     second, a failover the last commits",
                ),
                Some("no") => told(
                    "append-only file, flushed when the operating system does: a loss of power may \
                     lose the last commits, and so may a failover",
                ),
                _ => told("append-only file; how often it is flushed is not known"),
            };
        }
        match self.save.as_deref() {
            Some("") if self.replicas == 0 => Durability::Volatile,
            Some("") => told("replicas alone, which follow later: nothing is kept on disk"),
            Some(_) => told(
                "snapshots alone: the end of the server may lose every commit since the last one",
            ),
            None => told("no append-only file; whether snapshots are made is not known"),
        }
    }
}

/// Asks every primary.
///
/// # Errors
/// What the servers met where none of them answered. `Config`: a cluster is expected and this is
/// none.
pub(crate) async fn ask(wire: &Wire, call: Call<'_>) -> Result<Servers> {
    let mut info = cmd("INFO");
    for section in ["server", "cluster", "replication", "persistence", "memory"] {
        info.arg(section);
    }
    let mut config = cmd("CONFIG");
    config.arg("GET").arg("appendfsync").arg("save");
    let mut servers = Servers::default();
    let mut fault = None;
    let answers = wire.each_primary(call, &info, Effect::Reads).await.map_err(no_cluster)?;
    for (address, answer) in answers {
        match answer {
            Ok(answer) => {
                let told = text(&answer).unwrap_or_default();
                servers.each.push(Server::read(address, told));
            }
            Err(error) => {
                servers.away.push((address, error.message().to_owned()));
                fault = Some(error);
            }
        }
    }
    if let (true, Some(error)) = (servers.each.is_empty(), fault) {
        return Err(no_cluster(error));
    }
    // A user who may not ask does without.
    for (address, answer) in
        wire.each_primary(call, &config, Effect::Reads).await.unwrap_or_default()
    {
        let server = servers.each.iter_mut().find(|server| server.address == address);
        if let (Some(server), Ok(answer)) = (server, answer) {
            server.configured(&answer);
        }
    }
    Ok(servers)
}

fn no_cluster(error: Error) -> Error {
    let told = crate::error::told(&error).unwrap_or_default();
    if told.contains("cluster support disabled") {
        return config("the server is no cluster: leave `cluster` off");
    }
    error
}

fn config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

impl Servers {
    /// Checks that a store can be kept here.
    ///
    /// # Errors
    /// `Unsupported`: too old. `Config`: the settings are of another mode, or memories may be
    /// evicted. `Unavailable`: a replica, which takes no writes.
    pub(crate) fn check(&self, settings: &RedisSettings) -> Result<()> {
        for server in &self.each {
            let major =
                server.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
            if major.is_none_or(|major| major < OLDEST) {
                return Err(Error::unsupported("the server is older than Redis 7: use 7 or newer")
                    .with_context("version", shown(&server.version)));
            }
            if server.is_cluster && !settings.cluster {
                return Err(config("the server is a node of a cluster: set `cluster`"));
            }
            if !server.is_cluster && settings.cluster {
                return Err(config("the server is no cluster: leave `cluster` off"));
            }
            if server.is_replica {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "the server is a replica, which takes no writes: name its primary",
                ));
            }
            if server.evicts() && !settings.allow_eviction {
                return Err(config(
                    "the server may evict memories when it is full: set its maxmemory-policy to \
                     noeviction, or `allow_eviction` where memories may be lost",
                )
                .with_context("maxmemory_policy", shown(&server.policy)));
            }
        }
        Ok(())
    }

    /// What an acknowledged commit survives, on the server that keeps least.
    pub(crate) fn durability(&self) -> Durability {
        let rank = |durability: &Durability| match durability {
            Durability::Volatile => 0,
            Durability::ProcessCrash => 1,
            Durability::PowerLoss => 3,
            // Words, which may promise less.
            _ => 2,
        };
        let each = self.each.iter().map(Server::durability);
        each.min_by_key(rank).unwrap_or_else(|| Durability::Service("not known".to_owned()))
    }

    /// Writes down what is known, and what is not as it should be.
    pub(crate) fn tell(&self, settings: &RedisSettings, health: &mut Health) {
        for (address, fault) in &self.away {
            let reason = format!("the primary {} does not answer: {fault}", shown(address));
            health.lower(HealthStatus::Unhealthy, reason);
        }
        health.detail("servers", self.each.len().to_string());
        let Some(first) = self.each.first() else { return };
        health.detail("version", shown(&first.version));
        health.detail("mode", if first.is_cluster { "cluster" } else { "single" });
        let sum = |of: fn(&Server) -> u64| self.each.iter().map(of).sum::<u64>().to_string();
        health.detail("memory_bytes", sum(|server| server.used));
        health.detail("memory_limit_bytes", sum(|server| server.limit));
        health.detail("replicas", sum(|server| server.replicas));
        let worst = self.each.iter().find(|server| server.evicts()).unwrap_or(first);
        health.detail("maxmemory_policy", shown(&worst.policy));
        let known =
            |value: &Option<String>| value.as_deref().map_or_else(|| "not known".to_owned(), shown);
        health.detail("appendonly", if first.appends { "yes" } else { "no" });
        health.detail("appendfsync", known(&first.fsync));
        health.detail("save", known(&first.save));
        let durability = match self.durability() {
            Durability::Volatile => "none: memories end with the server".to_owned(),
            Durability::ProcessCrash => "the end of the server's process".to_owned(),
            Durability::PowerLoss => "a loss of power".to_owned(),
            Durability::Service(words) => words,
            _ => "not known".to_owned(),
        };
        health.detail("durability", durability);
        for server in &self.each {
            let name = shown(&server.address);
            if server.is_loading {
                health.lower(HealthStatus::Unhealthy, format!("{name} is loading its data"));
            }
            if server.is_replica {
                health.lower(HealthStatus::Unhealthy, format!("{name} is a replica"));
            }
            if server.save_failed {
                let reason = format!("{name} could not save its data: look at its disk");
                health.lower(HealthStatus::Degraded, reason);
            }
            if server.limit > 0 && server.used / server.limit.div_ceil(100) >= NEARLY_FULL {
                let reason =
                    format!("{name} is nearly full, and refuses writes then: raise maxmemory");
                health.lower(HealthStatus::Degraded, reason);
            }
            if server.evicts() && !settings.allow_eviction {
                let reason =
                    format!("{name} may evict memories: set maxmemory-policy to noeviction");
                health.lower(HealthStatus::Degraded, reason);
            }
        }
    }
}

impl Server {
    fn evicts(&self) -> bool {
        !self.policy.is_empty() && self.policy != "noeviction"
    }
}

/// A short text of the server, for an operator.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nconnected_slaves:0\r\n\
                        maxmemory:1000\r\nused_memory:10\r\nmaxmemory_policy:noeviction\r\n\
                        aof_enabled:0\r\ncluster_enabled:0\r\nloading:0\r\n";

    fn servers(change: impl FnOnce(&mut Server)) -> Servers {
        let mut server = Server::read("h:1".to_owned(), INFO);
        change(&mut server);
        Servers { each: vec![Server::read("h:2".to_owned(), INFO), server], away: Vec::new() }
    }

    #[test]
    fn what_cannot_keep_a_store_is_refused() {
        type Change = fn(&mut Server);
        let settings = RedisSettings::default();
        assert!(servers(|_| {}).check(&settings).is_ok());
        let table: [(Change, ErrorKind, &str); 6] = [
            (|s| s.version = "6.2.1".to_owned(), ErrorKind::Unsupported, "older"),
            (|s| s.version.clear(), ErrorKind::Unsupported, "older"),
            (|s| s.is_cluster = true, ErrorKind::Config, "`cluster`"),
            (|s| s.is_replica = true, ErrorKind::Unavailable, "primary"),
            (|s| s.policy = "allkeys-lru".to_owned(), ErrorKind::Config, "noeviction"),
            (|s| s.policy = "volatile-ttl".to_owned(), ErrorKind::Config, "allow_eviction"),
        ];
        for (change, kind, part) in table {
            let error = servers(change).check(&settings).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.message().contains(part), "{error}");
        }
        let mut settings = RedisSettings { allow_eviction: true, ..RedisSettings::default() };
        assert!(servers(|s| s.policy = "allkeys-lru".to_owned()).check(&settings).is_ok());
        settings.cluster = true;
        assert_eq!(servers(|_| {}).check(&settings).unwrap_err().kind(), ErrorKind::Config);
        assert!(
            servers(|s| s.version = "10.0".to_owned()).check(&RedisSettings::default()).is_ok()
        );
    }

    #[test]
    fn durability_is_that_of_the_server_that_keeps_least() {
        let of = |appends, fsync: Option<&str>, save: Option<&str>, replicas| {
            let mut server = Server::read("h:1".to_owned(), INFO);
            server.appends = appends;
            server.fsync = fsync.map(str::to_owned);
            server.save = save.map(str::to_owned);
            server.replicas = replicas;
            server
        };
        assert_eq!(of(true, Some("always"), Some(""), 0).durability(), Durability::PowerLoss);
        assert_eq!(of(false, Some("always"), Some(""), 0).durability(), Durability::Volatile);
        for (server, part) in [
            (of(true, Some("always"), None, 1), "failover"),
            (of(true, Some("everysec"), None, 0), "each second"),
            (of(true, Some("no"), None, 0), "operating system"),
            (of(true, None, None, 0), "not known"),
            (of(false, None, Some("3600 1"), 0), "snapshots alone"),
            (of(false, None, Some(""), 2), "replicas alone"),
            (of(false, None, None, 0), "not known"),
        ] {
            let Durability::Service(words) = server.durability() else { panic!("{part}") };
            assert!(words.contains(part), "{words}");
        }
        let mixed = Servers {
            each: vec![of(true, Some("always"), None, 0), of(false, None, Some(""), 0)],
            away: Vec::new(),
        };
        assert_eq!(mixed.durability(), Durability::Volatile);
    }

    #[test]
    fn health_names_what_is_wrong() {
        type Change = fn(&mut Server);
        let settings = RedisSettings::default();
        let told = |servers: Servers| {
            let mut health = Health::healthy();
            servers.tell(&settings, &mut health);
            health
        };
        let well = told(servers(|_| {}));
        assert_eq!(well.status, HealthStatus::Healthy);
        assert_eq!(well.details["memory_limit_bytes"], "2000");
        assert_eq!(well.details["appendfsync"], "not known");
        let table: [(Change, HealthStatus, &str); 5] = [
            (|s| s.is_loading = true, HealthStatus::Unhealthy, "loading"),
            (|s| s.is_replica = true, HealthStatus::Unhealthy, "replica"),
            (|s| s.save_failed = true, HealthStatus::Degraded, "disk"),
            (|s| s.used = 950, HealthStatus::Degraded, "nearly full"),
            (|s| s.policy = "allkeys-lru".to_owned(), HealthStatus::Degraded, "evict"),
        ];
        for (change, status, part) in table {
            let health = told(servers(change));
            assert_eq!(health.status, status, "{part}");
            assert!(health.reasons[0].contains(part), "{health:?}");
        }
        let mut away = servers(|_| {});
        away.away.push(("h:3".to_owned(), "gone".to_owned()));
        assert_eq!(told(away).status, HealthStatus::Unhealthy);
    }
}
