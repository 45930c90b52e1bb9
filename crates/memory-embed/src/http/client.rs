//! One request at a time: sent, read within bounds, and its outcome remembered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use memory_core::{
    CallContext, Clock, EmbeddingSpace, Error, ErrorKind, Health, HealthStatus, Result,
};
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{HeaderValue, Response};

use super::settings::{ApiKey, Endpoint, HttpSettings};
use super::{errors, wire};
use crate::proxy;

/// Room for a component in an answer, in bytes: a JSON number is 25 at the longest in practice,
/// indented on a line of its own some 40.
const COMPONENT_BYTES: u64 = 64;
/// Room for what stands around the numbers of a vector.
const ENTRY_BYTES: u64 = 1_024;
/// Room for what stands around the vectors, and the most that is read of a refusal.
const SLACK_BYTES: u64 = 64 * 1_024;

/// The connections to one server, and how it did so far. Its calls block.
pub(super) struct Client {
    agent: Agent,
    endpoint: Endpoint,
    key: Option<ApiKey>,
    authorization: Option<HeaderValue>,
    space: EmbeddingSpace,
    /// The dimensions that requests name, if they do.
    dimensions: Option<u32>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    last: Mutex<Last>,
}

/// Whether a failure says anything of how the server does: not that it refused what it was sent,
/// and not that its caller allowed it less time than the settings do. `hurried`: that was so.
fn tells_of_the_server(error: &Error, hurried: bool) -> bool {
    match error.kind() {
        ErrorKind::InvalidInput => false,
        // A status came from the server, or from one before it.
        ErrorKind::Timeout => !hurried || error.context().iter().any(|(key, _)| *key == "status"),
        _ => true,
    }
}

/// What is known of the server from the requests so far.
#[derive(Default)]
struct Last {
    /// The kind of the last failure, if no request succeeded after it.
    failure: Option<ErrorKind>,
    /// Failures since the last success.
    failures: u64,
}

impl Client {
    pub(super) fn new(
        settings: &HttpSettings,
        endpoint: Endpoint,
        space: EmbeddingSpace,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would carry the texts to wherever the server points.
            .max_redirects(0)
            .timeout_global(Some(settings.timeout))
            .user_agent(concat!("orchestra-memory/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .max_idle_connections(settings.concurrency)
            .max_idle_connections_per_host(settings.concurrency);
        if endpoint.loopback {
            // The proxy of the environment leads away from this machine.
            config = config.proxy(None);
        } else {
            proxy::refuse_unusable(&endpoint.uri)
                .map_err(|error| error.with_backend(super::BACKEND))?;
        }
        Ok(Self {
            agent: config.build().new_agent(),
            endpoint,
            key: settings.api_key.clone(),
            authorization: settings.api_key.as_ref().map(ApiKey::header).transpose()?,
            dimensions: settings.send_dimensions.then_some(settings.dimensions),
            space,
            timeout: settings.timeout,
            clock,
            last: Mutex::default(),
        })
    }

    pub(super) fn space(&self) -> &EmbeddingSpace {
        &self.space
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Fails when the deadline of a call has passed.
    pub(super) fn check_deadline(&self, context: &CallContext) -> Result<()> {
        context.check_deadline(self.clock.monotonic())
    }

    /// The vectors of some texts, in one request.
    ///
    /// # Errors
    /// As [`super::HttpEmbedder`] has them.
    pub(super) fn embed(&self, context: &CallContext, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        // The request may have waited for its thread.
        self.check_deadline(context)?;
        let left = context.deadline.map(|deadline| deadline.remaining(self.clock.monotonic()));
        let limit = left.map_or(self.timeout, |left| left.min(self.timeout));
        let answer = self.exchange(texts, limit);
        match &answer {
            Ok(_) => self.note(None),
            Err(error) if tells_of_the_server(error, limit < self.timeout) => {
                self.note(Some(error.kind()));
            }
            Err(_) => {}
        }
        answer
    }

    fn exchange(&self, texts: &[String], limit: Duration) -> Result<Vec<Vec<f32>>> {
        let failed = |error: ureq::Error| errors::of_transport(&error, self.endpoint.https, limit);
        let body = wire::request(self.space.model(), texts, self.dimensions)?;
        let mut request =
            self.agent.post(self.endpoint.uri.clone()).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if limit < self.timeout {
            // Only then: settings of a single request keep TLS from being set up once for all.
            request = request.config().timeout_global(Some(limit)).build();
        }
        let mut answer = request.send(&body[..]).map_err(failed)?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer, texts));
        }
        let vectors = texts.len() as u64;
        let most = SLACK_BYTES
            + vectors * (ENTRY_BYTES + u64::from(self.space.dimensions()) * COMPONENT_BYTES);
        let body = answer.body_mut().with_config().limit(most).read_to_vec().map_err(failed)?;
        wire::vectors(&body, texts.len(), &self.space)
            .map_err(|error| self.named(error, &body, texts))
    }

    /// The error of an answer that is no success.
    fn refusal(&self, mut answer: Response<ureq::Body>, texts: &[String]) -> Error {
        // Without its body the status still says what happened.
        let body = answer.body_mut().with_config().limit(SLACK_BYTES).read_to_vec();
        let identifiers = self.identifiers(&body.unwrap_or_default(), texts);
        let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let status = answer.status().as_u16();
        errors::of_status(status, self.space.model(), wait, self.clock.now(), identifiers)
    }

    /// Adds what the server calls its error to an answer that should have been a success.
    fn named(&self, mut error: Error, body: &[u8], texts: &[String]) -> Error {
        if body.len() as u64 <= SLACK_BYTES {
            for (name, identifier) in self.identifiers(body, texts) {
                error = error.with_context(name, identifier);
            }
        }
        error
    }

    /// The identifiers of a refusal, but none that the request held: a server may repeat a part of
    /// a text, or of the key, where a code belongs.
    fn identifiers(&self, body: &[u8], texts: &[String]) -> Vec<(&'static str, String)> {
        let mut identifiers = wire::identifiers(body);
        identifiers.retain(|(_, identifier)| {
            let overlaps = |text: &String| {
                text.contains(identifier.as_str()) || identifier.contains(text.as_str())
            };
            let sent = texts.iter().any(overlaps);
            let secret = self.key.as_ref().is_some_and(|key| key.overlaps(identifier));
            !sent && !secret
        });
        identifiers
    }

    /// Remembers a success or a failure.
    fn note(&self, failure: Option<ErrorKind>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => *last = Last::default(),
            Some(_) => {
                last.failure = failure;
                last.failures += 1;
            }
        }
    }

    pub(super) fn health(&self) -> Health {
        let mut health = Health::healthy();
        health.detail("url", self.endpoint.shown());
        health.detail("model", self.space.model());
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = last.failure {
            health.lower(HealthStatus::Degraded, format!("the last request failed: {kind}"));
            health.detail("failures_since_success", last.failures.to_string());
        }
        health
    }
}
