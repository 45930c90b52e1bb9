//! The exporter's requests: blocking, on the exporter's own threads, with rustls over ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::Agent;
use ureq::http::{HeaderName, HeaderValue, Uri};

/// Bytes of an answer that are read: a collector answers with a few.
const MOST: u64 = 64 * 1024;

/// A client; clones share connections and counts.
#[derive(Clone, Debug)]
pub(super) struct Client {
    agent: Agent,
    failures: Arc<AtomicU64>,
}

impl Client {
    pub(super) fn new(timeout: Duration) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build();
        Self { agent: config.new_agent(), failures: Arc::new(AtomicU64::new(0)) }
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, body.to_vec());
        let mut answer = self.agent.run(request)?;
        let body = answer.body_mut().with_config().limit(MOST).read_to_vec()?;
        let (parts, _) = answer.into_parts();
        Ok(Response::from_parts(parts, Bytes::from(body)))
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // It blocks, and may: only the exporter's threads come here.
        let answer = self.send(request);
        if !answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

/// Whether telemetry can be sent to an address.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    })
}

/// Whether it can be a header.
pub(super) fn is_header(name: &str, value: &str) -> bool {
    name.parse::<HeaderName>().is_ok() && value.parse::<HeaderValue>().is_ok()
}
