//! The way to the server or the cluster: connections, routes, timeouts and what an answer that did
//! not come means.
//!
//! Each node has one multiplexed connection, made when it is first needed and anew when it is lost.
//! A request is sent once: to the node that has its key's slot, and after a redirection, which says
//! that it was not done, to the node that is named. Nothing else is sent again here, for whoever
//! sends a write again has to say so to the store. That is why the slots of a cluster are kept here
//! and not by the client, which sends what was lost anew.

mod cluster;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{Ledger, Usage};
use memory_core::{CallContext, Clock, Error, ErrorKind, Result};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    Client, Cmd, ConnectionInfo, Pipeline, RedisError, RedisResult, TlsCertificates, Value,
};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::BACKEND;
use crate::error::{failed, late, of_script};
use crate::settings::RedisSettings;

use cluster::Cluster;

/// Which call a request belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The operation's name, for the ledger and errors.
    pub(crate) operation: &'static str,
    /// Its deadline; `None` for the few calls about the store.
    pub(crate) context: Option<&'a CallContext>,
}

/// What a request does, and so what it means when its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing.
    Reads,
    /// It may have taken effect: the outcome is unknown.
    Writes,
}

/// A script, sent by its digest and whole where the server does not know it yet.
#[derive(Debug)]
pub(crate) struct Script {
    code: String,
    digest: String,
    effect: Effect,
}

impl Script {
    pub(crate) fn new(code: &str, effect: Effect) -> Self {
        let digest = redis::Script::new(code).get_hash().to_owned();
        Self { code: code.to_owned(), digest, effect }
    }

    fn command<A: AsRef<[u8]>>(&self, by: &str, what: &str, keys: &[String], args: &[A]) -> Cmd {
        let sizes = args.iter().map(|arg| arg.as_ref().len());
        let bytes = keys.iter().map(String::len).chain(sizes).sum::<usize>();
        let mut command = Cmd::with_capacity(keys.len() + args.len() + 3, bytes + what.len() + 16);
        command.arg(by).arg(what).arg(keys.len()).arg(keys);
        for arg in args {
            command.arg(arg.as_ref());
        }
        command
    }
}

/// How connections are made.
#[derive(Clone, Debug)]
pub(crate) struct Dialling {
    connect: Duration,
    response: Duration,
    pause: Duration,
    /// Certificates in PEM, instead of the public authorities'.
    authorities: Option<Arc<[u8]>>,
}

impl Dialling {
    /// A way to one node, connected when it is first used.
    fn node(&self, info: ConnectionInfo) -> Result<ConnectionManager> {
        let unusable = |error: &RedisError| failed(error, Effect::Reads);
        #[cfg(target_os = "linux")]
        let info = {
            // A peer that is gone without a word is noticed by what it does not acknowledge.
            let tcp = info.tcp_settings().clone().set_user_timeout(self.response);
            info.set_tcp_settings(tcp)
        };
        let client = match &self.authorities {
            None => Client::open(info),
            Some(pem) => {
                let certificates =
                    TlsCertificates { client_tls: None, root_cert: Some(pem.to_vec()) };
                Client::build_with_tls(info, certificates)
            }
        };
        let client = client.map_err(|error| unusable(&error))?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(10).min(self.pause))
            .set_max_delay(self.pause)
            .set_connection_timeout(Some(self.connect))
            .set_response_timeout(Some(self.response));
        ConnectionManager::new_lazy_with_config(client, config).map_err(|error| unusable(&error))
    }
}

/// Most bytes of a file of certificates: all public authorities together are a quarter of it.
const MOST_AUTHORITIES: u64 = 1024 * 1024;

/// The certificates in a file.
///
/// # Errors
/// `Config`: it cannot be read, is too large, or has no certificate.
fn authorities(path: &Path) -> Result<Arc<[u8]>> {
    let bad = |what: &str| {
        let text = format!("redis.ca_file {what}: it names a file of certificates in PEM");
        Error::new(ErrorKind::Config, text).with_backend(BACKEND)
    };
    let mut pem = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(MOST_AUTHORITIES + 1).read_to_end(&mut pem));
    read.map_err(|error| bad("cannot be read").with_source(error))?;
    if pem.len() as u64 > MOST_AUTHORITIES {
        return Err(bad("has more than a mebibyte"));
    }
    // The client leaves out what it cannot read.
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| bad("is not all PEM").with_source(error))?;
        let added = store.add(certificate);
        added.map_err(|error| bad("has what is no certificate").with_source(error))?;
    }
    if store.is_empty() {
        return Err(bad("has no certificate"));
    }
    Ok(pem.into())
}

/// One request and its answer, or several in one round trip.
async fn send(node: &ConnectionManager, command: &Cmd) -> RedisResult<Value> {
    node.clone().send_packed_command(command).await?.extract_error()
}

/// Several requests in one round trip; each has its own answer.
async fn send_all(
    node: &ConnectionManager,
    commands: &[&Cmd],
) -> RedisResult<Vec<RedisResult<Value>>> {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command((*command).clone());
    }
    let answers = node.clone().send_packed_commands(&pipeline, 0, commands.len()).await?;
    Ok(answers.into_iter().map(Value::extract_error).collect())
}

enum Route {
    One { node: ConnectionManager, address: String },
    Cluster(Box<Cluster>),
}

/// The way to the server or the cluster.
pub(crate) struct Wire {
    route: Route,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    most: Duration,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("most", &self.most).finish_non_exhaustive()
    }
}

impl Wire {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// `Config`: an address that cannot be used; no tokio runtime.
    pub(crate) fn new(
        settings: &RedisSettings,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Self> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::new(
                ErrorKind::Config,
                "Redis is opened and called within a tokio runtime, and there is none here",
            )
            .with_backend(BACKEND));
        }
        let most = Duration::from_millis(settings.response_timeout_ms);
        let dialling = Dialling {
            connect: Duration::from_millis(settings.connect_timeout_ms),
            response: most,
            pause: Duration::from_millis(settings.reconnect_pause_ms),
            authorities: settings.ca_file.as_deref().map(authorities).transpose()?,
        };
        let route = if settings.cluster {
            Route::Cluster(Box::new(Cluster::new(settings, dialling)?))
        } else {
            let (host, port) = settings.url.address();
            Route::One {
                node: dialling.node(settings.url.info()?)?,
                address: format!("{host}:{port}"),
            }
        };
        Ok(Self { route, clock, ledger, most })
    }

    /// How long a request of a call may take: its deadline, or the longest wait for an answer.
    ///
    /// # Errors
    /// `Timeout`, not applied: the deadline has passed.
    pub(crate) fn allowance(&self, call: Call<'_>) -> Result<Duration> {
        let Some(context) = call.context else { return Ok(self.most) };
        let now = self.clock.monotonic();
        context.check_deadline(now)?;
        Ok(context.deadline.map_or(self.most, |deadline| deadline.remaining(now).min(self.most)))
    }

    /// Admits a request, bounds it, and writes down what it moved.
    async fn bounded<T>(
        &self,
        call: Call<'_>,
        effect: Effect,
        sent: usize,
        work: impl Future<Output = RedisResult<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Result<T> {
        let most = self.allowance(call)?;
        self.ledger.admit(BACKEND, call.operation)?;
        let answer = match tokio::time::timeout(most, work).await {
            Ok(answer) => answer.map_err(|error| failed(&error, effect)),
            Err(_) => Err(late(effect)),
        };
        let received = answer.as_ref().map_or(0, bytes);
        let usage = match effect {
            Effect::Reads => Usage::reads(1),
            Effect::Writes => Usage::writes(1, 0),
        };
        let moved = u64::try_from(sent + received).unwrap_or(u64::MAX);
        self.ledger.record(BACKEND, call.operation, usage.with_bytes(moved));
        answer
    }

    async fn routed(&self, key: &str, command: &Cmd) -> RedisResult<Value> {
        match &self.route {
            Route::One { node, .. } => send(node, command).await,
            Route::Cluster(cluster) => cluster.send(key, command).await,
        }
    }

    /// Runs a script where the slot of `keys[0]` is; all keys lie in that slot.
    ///
    /// # Errors
    /// What the server answers; of what writes and whose answer was lost, with unknown outcome.
    pub(crate) async fn script<A: AsRef<[u8]>>(
        &self,
        call: Call<'_>,
        script: &Script,
        keys: &[String],
        args: &[A],
    ) -> Result<Value> {
        let Some(key) = keys.first() else {
            return Err(Error::new(ErrorKind::Unexpected, "a script without a key"));
        };
        let command = script.command("EVALSHA", &script.digest, keys, args);
        let work = async {
            match self.routed(key, &command).await {
                // Not run: the server wants it whole.
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    let whole = script.command("EVAL", &script.code, keys, args);
                    self.routed(key, &whole).await
                }
                answer => answer,
            }
        };
        let answer = self.bounded(call, script.effect, size_of(&command), work, size).await;
        answer.map_err(|error| of_script(error, script.effect))
    }

    /// Sends one command where the slot of `key` is, which need not be an argument of it.
    ///
    /// # Errors
    /// As [`Wire::script`].
    pub(crate) async fn at(
        &self,
        call: Call<'_>,
        key: &str,
        command: &Cmd,
        effect: Effect,
    ) -> Result<Value> {
        self.bounded(call, effect, size_of(command), self.routed(key, command), size).await
    }

    /// Sends commands in one round trip where the slot of `key` is; each succeeds or fails by
    /// itself, and others' may come between them.
    ///
    /// # Errors
    /// As [`Wire::script`], where none of them was answered.
    pub(crate) async fn many_at(
        &self,
        call: Call<'_>,
        key: &str,
        commands: &[Cmd],
        effect: Effect,
    ) -> Result<Vec<Result<Value>>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let sent = commands.iter().map(size_of).sum();
        let work = async {
            match &self.route {
                Route::One { node, .. } => {
                    send_all(node, &commands.iter().collect::<Vec<_>>()).await
                }
                Route::Cluster(cluster) => cluster.send_all(key, commands).await,
            }
        };
        let bytes = |answers: &Vec<RedisResult<Value>>| answers.iter().flatten().map(size).sum();
        let answers = self.bounded(call, effect, sent, work, bytes).await?;
        let each = |answer: RedisResult<Value>| answer.map_err(|error| failed(&error, effect));
        Ok(answers.into_iter().map(each).collect())
    }

    /// Sends one command to every primary: its address and its answer.
    ///
    /// # Errors
    /// `Unavailable`: no node of the cluster tells which there are.
    pub(crate) async fn each_primary(
        &self,
        call: Call<'_>,
        command: &Cmd,
        effect: Effect,
    ) -> Result<Vec<(String, Result<Value>)>> {
        let work = async {
            match &self.route {
                Route::One { node, address } => {
                    Ok(vec![(address.clone(), send(node, command).await)])
                }
                Route::Cluster(cluster) => cluster.each_primary(command).await,
            }
        };
        let bytes = |answers: &Vec<(String, RedisResult<Value>)>| {
            answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).map(size).sum()
        };
        let answers = self.bounded(call, effect, size_of(command), work, bytes).await?;
        let each = |(address, answer): (String, RedisResult<Value>)| {
            (address, answer.map_err(|error| failed(&error, effect)))
        };
        Ok(answers.into_iter().map(each).collect())
    }
}

fn size_of(command: &Cmd) -> usize {
    command
        .args_iter()
        .map(|arg| match arg {
            redis::Arg::Simple(bytes) => bytes.len(),
            _ => 0,
        })
        .sum()
}

fn size(value: &Value) -> usize {
    match value {
        Value::BulkString(bytes) => bytes.len(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.len(),
        Value::Array(values) | Value::Set(values) => values.iter().map(size).sum(),
        Value::Map(pairs) => pairs.iter().map(|(key, value)| size(key) + size(value)).sum(),
        Value::Attribute { data, .. } => size(data),
        _ => 8,
    }
}
