//! Embedders behind an OpenAI-compatible HTTP interface: servers on this machine and hosted ones.
//!
//! Texts leave this process; where they go is [`HttpSettings::url`]'s affair, and no redirect is
//! followed. The proxy of the environment (`ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`, in this
//! order, less what `NO_PROXY` names) is used for every host but this machine; one that cannot be
//! used, such as a SOCKS proxy, is refused when an embedder is made, not passed over. The threads
//! are those of [`HttpSettings::concurrency`], and a short-lived one for each look-up of a host's
//! name.
//!
//! Under `https` only the root certificates that are built in count, not those of the system: a
//! server whose certificate is of a private authority is not trusted. Put a proxy on this machine
//! in front of it, which trusts that authority, and name it by `http://localhost:PORT/v1`.
//!
//! Each request holds a thread, its connection. A request that waits for one is not sent before;
//! questions go before the parts of bulk work (see [`HttpEmbedder`]). Nothing here measures time
//! while a call waits for its turn: a deadline that passes meanwhile is noticed when the turn
//! comes, later by what the requests ahead take, each at most [`HttpSettings::timeout`].

mod client;
pub(crate) mod errors;
mod settings;
pub(crate) mod windows;
pub(crate) mod wire;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{CallContext, Clock, EmbeddingSpace, Error, Health, Result};

use self::client::Client;
pub use self::settings::{ApiKey, HttpSettings};
pub use self::windows::MOST_WINDOWS;
use crate::cached::check_texts;
use crate::workers::Workers;

/// The name of this embedder in errors.
const BACKEND: &str = "http";

/// An embedder behind `POST /v1/embeddings`, as OpenAI defined it and many servers have it.
///
/// A call is sent in requests of [`HttpSettings::max_batch`] texts, so many at once as
/// [`HttpSettings::concurrency`] allows over all calls; texts longer than
/// [`HttpSettings::window_bytes`] as windows, whose vectors are pooled: their mean weighted by
/// bytes, under cosine brought to length 1. Vectors of texts that fit come as the server gave
/// them. Nothing is sent twice: whether to try again is the caller's decision.
///
/// Requests of calls to find with, and of calls that are one request, go before those of calls of
/// documents in several requests, as soon as a thread is free.
///
/// # Errors
/// Of [`Embedder::embed`], each with the back end `http`:
///
/// | kind | when |
/// |---|---|
/// | `InvalidInput` | too many texts, an empty one; statuses 400, 413, 422 |
/// | `PermissionDenied` | 401, 403, 407; 407 of the proxy |
/// | `Config` | 404, 405, 410: no such model or path; redirects |
/// | `Timeout` | the deadline or [`HttpSettings::timeout`] passed, noticed when a thread is free; 408, 504 |
/// | `RateLimited` | 429, with the wait of `Retry-After` up to a day |
/// | `Overloaded` | 4,096 requests of this embedder wait for a thread already |
/// | `Unavailable` | no connection, or one that broke; other 5xx, with `Retry-After`; failures of TLS, not worth a second attempt |
/// | `Corrupt` | an answer that is not one vector of the space for each text |
/// | `Unexpected` | any other status |
///
/// No error and no `Debug` output carries a text, a key, or a part of an answer other than
/// `error.type` and `error.code`, where they are short identifiers that the request did not hold.
///
/// # Cancellation
/// Dropping the future of a call: requests that wait for a thread are not sent, and their texts
/// are freed at once; those under way end by themselves within [`HttpSettings::timeout`], and
/// nobody waits for them.
pub struct HttpEmbedder {
    client: Arc<Client>,
    workers: Workers,
    settings: HttpSettings,
}

/// A window: the number of its text, and its bytes there.
type Window = (usize, Range<usize>);

impl HttpEmbedder {
    /// An embedder with checked settings. Nothing is sent before the first call.
    ///
    /// # Errors
    /// `Config`, naming all that is wrong with the settings; or the variable of the environment
    /// whose proxy would have to be used for this host and cannot be.
    pub fn new(settings: HttpSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let (endpoint, space) = settings.checked()?;
        let client = Arc::new(Client::new(&settings, endpoint, space, clock)?);
        let workers = Workers::new("embed-http", settings.concurrency);
        Ok(Self { client, workers, settings })
    }

    async fn embed_all(
        &self,
        context: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        check_texts(texts, self.max_batch())?;
        self.client.check_deadline(context)?;
        let windows: Vec<Window> = texts
            .iter()
            .enumerate()
            .flat_map(|(at, text)| {
                let ranges = windows::cut(text, self.settings.window_bytes);
                ranges.into_iter().map(move |range| (at, range))
            })
            .collect();
        let prefix = match purpose {
            EmbedPurpose::Document => self.settings.document_prefix.as_str(),
            EmbedPurpose::Query => self.settings.query_prefix.as_str(),
        };
        // The texts of a request are copied when its turn comes, so that few are held twice.
        let starts = (0..windows.len()).step_by(self.settings.max_batch);
        let bulk = purpose == EmbedPurpose::Document && starts.len() > 1;
        let requests = starts.map(|start| {
            let windows = windows[start..].iter().take(self.settings.max_batch);
            self.send(
                context.clone(),
                windows.map(|(at, range)| [prefix, &texts[*at][range.clone()]].concat()).collect(),
                bulk,
            )
        });
        let vectors: Vec<Vec<Vec<f32>>> =
            stream::iter(requests).buffered(self.workers.most()).try_collect().await?;
        let vectors = vectors.into_iter().flatten().collect();
        self.join(windows, vectors)
    }

    /// The vectors of some windows, by one request on one of the threads.
    async fn send(
        &self,
        context: CallContext,
        input: Vec<String>,
        bulk: bool,
    ) -> Result<Vec<Vec<f32>>> {
        let client = Arc::clone(&self.client);
        let job = move || client.embed(&context, &input);
        match bulk {
            true => self.workers.run_later(job).await?,
            false => self.workers.run(job).await?,
        }
    }

    /// Pools the windows of each text.
    fn join(&self, windows: Vec<Window>, vectors: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>> {
        let mut pairs = windows.into_iter().zip(vectors).peekable();
        let mut joined = Vec::new();
        while let Some(((at, range), vector)) = pairs.next() {
            let mut parts = vec![(range.len(), vector)];
            while let Some(((_, range), vector)) = pairs.next_if(|((other, _), _)| *other == at) {
                parts.push((range.len(), vector));
            }
            joined.push(windows::pool(parts, self.settings.metric).ok_or_else(|| {
                wire::corrupt(format!("the vectors of the windows of text {at} cancel out"))
            })?);
        }
        Ok(joined)
    }
}

#[async_trait]
impl Embedder for HttpEmbedder {
    fn space(&self) -> EmbeddingSpace {
        self.client.space().clone()
    }

    /// `max_batch` times `concurrency` of the settings: one call can keep all connections busy.
    fn max_batch(&self) -> usize {
        self.settings.max_batch * self.workers.most()
    }

    /// As [`HttpEmbedder`] says. The deadline is looked at when the call begins and when a request
    /// gets its thread, and bounds each request: a call that waits for its turn notices a deadline
    /// that passed meanwhile when a thread is free, and sends nothing then.
    async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        let named = |error: Error| error.with_backend(BACKEND).with_operation("embed");
        self.embed_all(context, texts, purpose).await.map_err(named)
    }

    /// By the last request, for the interface has none that asks for nothing: healthy unless it
    /// failed, then degraded until one succeeds. A request that the server refused for its input,
    /// and one that its caller's deadline ended before [`HttpSettings::timeout`], count as neither.
    async fn health(&self) -> Health {
        self.client.health()
    }
}

impl fmt::Debug for HttpEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpEmbedder")
            .field("endpoint", &self.client.endpoint().shown())
            .field("settings", &self.settings)
            .finish()
    }
}
