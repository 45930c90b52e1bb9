//! One request at a time: sent, read within bounds, and its outcome remembered.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use memory_core::traits::AccessToken;
use memory_core::{
    CallContext, Clock, EmbeddingSpace, Error, ErrorKind, Health, HealthStatus, Result,
};
use memory_google_auth::QUOTA_PROJECT_HEADER;
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{HeaderValue, Response};

use super::settings::{Endpoint, TaskType, VertexSettings};
use super::{BACKEND, errors, wire};
use crate::http::errors::of_transport;
use crate::proxy;

/// Room for a component in an answer, in bytes: a JSON number is 25 at the longest in practice,
/// indented on a line of its own some 40.
const COMPONENT_BYTES: u64 = 64;
/// Room for what stands around the numbers of a vector.
const ENTRY_BYTES: u64 = 1_024;
/// Room for what stands around the vectors, and the most that is read of a refusal.
const SLACK_BYTES: u64 = 64 * 1_024;

/// The connections to the service, and how it did so far. Its calls block.
pub(super) struct Client {
    agent: Agent,
    endpoint: Endpoint,
    space: EmbeddingSpace,
    /// The dimensions that requests name, if they do.
    dimensions: Option<u32>,
    auto_truncate: bool,
    quota_project: Option<HeaderValue>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    last: Mutex<Last>,
}

/// What is known of the service from the requests so far.
#[derive(Default)]
struct Last {
    /// The kind of the last failure, if no request succeeded after it.
    failure: Option<ErrorKind>,
    /// Failures since the last success.
    failures: u64,
}

impl Client {
    pub(super) fn new(settings: &VertexSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let (endpoint, space) = settings.checked()?;
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
            proxy::refuse_unusable(&endpoint.uri).map_err(|error| error.with_backend(BACKEND))?;
        }
        let quota_project = match &settings.quota_project {
            None => None,
            Some(project) => Some(HeaderValue::from_str(project).map_err(|_| {
                Error::new(ErrorKind::Config, "the quota project has odd letters")
                    .with_backend(BACKEND)
            })?),
        };
        Ok(Self {
            agent: config.build().new_agent(),
            endpoint,
            dimensions: settings.send_dimensions.then_some(settings.dimensions),
            auto_truncate: settings.auto_truncate,
            quota_project,
            space,
            timeout: settings.timeout,
            clock,
            last: Mutex::default(),
        })
    }

    pub(super) fn space(&self) -> &EmbeddingSpace {
        &self.space
    }

    /// Fails when the deadline of a call has passed.
    pub(super) fn check_deadline(&self, context: &CallContext) -> Result<()> {
        context.check_deadline(self.clock.monotonic())
    }

    /// The vectors of some texts, in one request.
    ///
    /// # Errors
    /// As [`super::VertexEmbedder`] has them.
    pub(super) fn embed(
        &self,
        context: &CallContext,
        token: &AccessToken,
        texts: &[String],
        task: Option<TaskType>,
    ) -> Result<Vec<Vec<f32>>> {
        // The request may have waited for its thread.
        self.check_deadline(context)?;
        let left = context.deadline.map(|deadline| deadline.remaining(self.clock.monotonic()));
        let limit = left.map_or(self.timeout, |left| left.min(self.timeout));
        let answer = self.exchange(token, texts, task, limit);
        match &answer {
            Ok(_) => self.note(None),
            Err(error) => {
                let refused = error.kind() == ErrorKind::InvalidInput;
                let hurried = error.kind() == ErrorKind::Timeout
                    && limit < self.timeout
                    && !error.context().iter().any(|(key, _)| *key == "status");
                if !refused && !hurried {
                    self.note(Some(error.kind()));
                }
            }
        }
        answer
    }

    fn exchange(
        &self,
        token: &AccessToken,
        texts: &[String],
        task: Option<TaskType>,
        limit: Duration,
    ) -> Result<Vec<Vec<f32>>> {
        let failed = |error: ureq::Error| of_transport(&error, self.endpoint.https, limit);
        let body = wire::request(texts, task, self.dimensions, self.auto_truncate)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| Error::new(ErrorKind::PermissionDenied, "the token has odd letters"))?;
        bearer.set_sensitive(true);
        let mut request = self
            .agent
            .post(self.endpoint.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, bearer);
        if let Some(project) = &self.quota_project {
            request = request.header(QUOTA_PROJECT_HEADER, project.clone());
        }
        if limit < self.timeout {
            // Only then: settings of a single request keep TLS from being set up once for all.
            request = request.config().timeout_global(Some(limit)).build();
        }
        let mut answer = request.send(&body[..]).map_err(failed)?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer));
        }
        let vectors = texts.len() as u64;
        let most = SLACK_BYTES
            + vectors * (ENTRY_BYTES + u64::from(self.space.dimensions()) * COMPONENT_BYTES);
        let body = answer.body_mut().with_config().limit(most).read_to_vec().map_err(failed)?;
        wire::vectors(&body, texts.len(), &self.space)
    }

    /// The error of an answer that is no success.
    fn refusal(&self, mut answer: Response<ureq::Body>) -> Error {
        // Without its body the status still says what happened.
        let body = answer.body_mut().with_config().limit(SLACK_BYTES).read_to_vec();
        let refusal = wire::refusal(&body.unwrap_or_default());
        let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let status = answer.status().as_u16();
        errors::of_refusal(status, &refusal, self.space.model(), wait, self.clock.now())
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
        health.detail("host", self.endpoint.uri.host().unwrap_or_default());
        health.detail("model", self.space.model());
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = last.failure {
            health.lower(HealthStatus::Degraded, format!("the last request failed: {kind}"));
            health.detail("failures_since_success", last.failures.to_string());
        }
        health
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("space", &self.space).finish_non_exhaustive()
    }
}
