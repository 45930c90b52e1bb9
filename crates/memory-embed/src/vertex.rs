//! The text embeddings of Vertex AI: models of Google behind the method `predict`.
//!
//! Texts leave this process; where they go is [`VertexSettings::location`]'s affair, and no redirect
//! is followed. Proxies, certificates, threads and waiting are as in [`crate::http`], whose client
//! this is. Credentials are the workspace's own; a token is asked for before each request waits for
//! its thread.
//!
//! A request holds as many texts as the model takes: the published pages say one for Gemini's models
//! and five for the others (a reference page says 250), each of at most 2,048 tokens, and at most
//! 20,000 tokens together. What has been run against the real service, and what has not, stands in
//! `docs/google-vector-search.md`.

mod client;
mod errors;
mod settings;
mod wire;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use memory_core::traits::{CredentialProvider, EmbedPurpose, Embedder};
use memory_core::{CallContext, Clock, EmbeddingSpace, Error, Health, Result};
use memory_google_auth::CLOUD_PLATFORM_SCOPE;

use self::client::Client;
pub use self::settings::{TaskType, VertexSettings};
use crate::cached::check_texts;
use crate::http::{windows, wire::corrupt};
use crate::workers::Workers;

/// The name of this embedder in errors.
const BACKEND: &str = "vertex";

/// Most requests of one call's texts: so many times [`VertexSettings::batch`] is its `max_batch`. A
/// model that takes one text a request would else be given each text by a call of its own.
const REQUESTS: usize = 64;

/// An embedder on Vertex AI.
///
/// A call is sent in requests of [`VertexSettings::batch`] texts and
/// [`VertexSettings::batch_bytes`], so many at once as [`VertexSettings::concurrency`] allows over
/// all calls; texts longer than [`VertexSettings::window_bytes`] as windows, whose vectors are
/// pooled: their mean weighted by bytes, under cosine brought to length 1. Nothing is sent twice:
/// whether to try again is the caller's decision.
///
/// # Errors
/// Of [`Embedder::embed`], each with the back end `vertex` unless the credentials failed:
///
/// | kind | when |
/// |---|---|
/// | `InvalidInput` | too many texts, an empty one; `INVALID_ARGUMENT` |
/// | `PermissionDenied` | `UNAUTHENTICATED`, `PERMISSION_DENIED`; 407 of a proxy |
/// | `Config` | `NOT_FOUND`: no such model in the location; redirects |
/// | `Timeout` | the deadline or [`VertexSettings::timeout`] passed; `DEADLINE_EXCEEDED` |
/// | `RateLimited` | `RESOURCE_EXHAUSTED`, with the wait that the service asks for |
/// | `Overloaded` | 4,096 requests of this embedder wait for a thread already |
/// | `Unavailable` | no connection, or one that broke; any other failure of the service |
/// | `Corrupt` | an answer that is not one vector of the space for each text |
/// | `Unexpected` | any other status |
///
/// No error and no `Debug` output carries a text, a token, or a part of an answer other than its
/// `error.status`, where it is one of Google's codes.
///
/// # Cancellation
/// Dropping the future of a call: requests that wait for a thread are not sent; those under way end
/// by themselves within [`VertexSettings::timeout`], and nobody waits for them.
pub struct VertexEmbedder {
    client: Arc<Client>,
    credentials: Arc<dyn CredentialProvider>,
    scopes: Vec<String>,
    workers: Workers,
    settings: VertexSettings,
}

/// A window: the number of its text, and its bytes there.
type Window = (usize, Range<usize>);

impl VertexEmbedder {
    /// An embedder with checked settings. Nothing is sent before the first call.
    ///
    /// # Errors
    /// `Config`, naming all that is wrong with the settings; or the variable of the environment
    /// whose proxy would have to be used for this host and cannot be.
    pub fn new(
        settings: VertexSettings,
        credentials: Arc<dyn CredentialProvider>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let client = Arc::new(Client::new(&settings, clock)?);
        let workers = Workers::new("embed-vertex", settings.concurrency);
        let scopes = vec![CLOUD_PLATFORM_SCOPE.to_owned()];
        Ok(Self { client, credentials, scopes, workers, settings })
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
        let task = match purpose {
            EmbedPurpose::Document => self.settings.document_task,
            EmbedPurpose::Query => self.settings.query_task,
        };
        let batches = self.batches(&windows);
        let bulk = purpose == EmbedPurpose::Document && batches.len() > 1;
        let requests = batches.into_iter().map(|batch| {
            let input: Vec<String> = windows[batch]
                .iter()
                .map(|(at, range)| texts[*at][range.clone()].to_owned())
                .collect();
            self.send(context.clone(), input, task, bulk)
        });
        let vectors: Vec<Vec<Vec<f32>>> =
            stream::iter(requests).buffered(self.workers.most()).try_collect().await?;
        self.join(windows, vectors.into_iter().flatten().collect())
    }

    /// The windows of each request: as many as the settings allow, by number and by bytes.
    fn batches(&self, windows: &[Window]) -> Vec<Range<usize>> {
        let mut batches = Vec::new();
        let (mut start, mut bytes) = (0, 0);
        for (at, (_, range)) in windows.iter().enumerate() {
            let full = at - start == self.settings.batch()
                || bytes + range.len() > self.settings.batch_bytes;
            if at > start && full {
                batches.push(start..at);
                (start, bytes) = (at, 0);
            }
            bytes += range.len();
        }
        if start < windows.len() {
            batches.push(start..windows.len());
        }
        batches
    }

    /// The vectors of some windows, by one request on one of the threads.
    async fn send(
        &self,
        context: CallContext,
        input: Vec<String>,
        task: Option<TaskType>,
        bulk: bool,
    ) -> Result<Vec<Vec<f32>>> {
        let token = self.credentials.token(&self.scopes).await?;
        let client = Arc::clone(&self.client);
        let job = move || client.embed(&context, &token, &input, task);
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
                corrupt(format!("the vectors of the windows of text {at} cancel out"))
            })?);
        }
        Ok(joined)
    }
}

#[async_trait]
impl Embedder for VertexEmbedder {
    fn space(&self) -> EmbeddingSpace {
        self.client.space().clone()
    }

    /// 64 requests' worth of texts.
    fn max_batch(&self) -> usize {
        self.settings.batch() * REQUESTS
    }

    /// As [`VertexEmbedder`] says. The deadline is looked at when the call begins and when a request
    /// gets its thread, and bounds each request from there on; fetching a token is bounded by the
    /// credentials' own settings.
    async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        let named = |error: Error| error.with_backend(BACKEND).with_operation("embed");
        self.embed_all(context, texts, purpose).await.map_err(named)
    }

    /// By the last request, for there is none that asks for nothing: healthy unless it failed, then
    /// degraded until one succeeds. A request that was refused for its input, and one that its
    /// caller's deadline ended before [`VertexSettings::timeout`], count as neither.
    async fn health(&self) -> Health {
        self.client.health()
    }
}

impl fmt::Debug for VertexEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VertexEmbedder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
