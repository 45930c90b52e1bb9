//! Settings of an embedder over HTTP: every bound with its default and the reason for it.

use std::fmt;
use std::time::Duration;

use memory_core::{EmbeddingSpace, Error, ErrorKind, Metric, Result};
use ureq::http::{HeaderValue, Uri};

use crate::proxy::is_loopback;

/// Longest time of one request that may be set: one hour. Beyond it nobody waits.
const MOST_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Most texts of one request that may be set; the hosted interfaces take no more.
const MOST_BATCH: usize = 2_048;
/// Most requests at once that may be set: each holds a thread while it waits.
const MOST_CONCURRENCY: usize = 64;
/// Smallest window, in bytes: less than a sentence has no meaning to embed.
const LEAST_WINDOW: usize = 64;
/// Longest prefix, in bytes: those of known models are some hundred.
const PREFIX_BYTES: usize = 4_096;

/// The key of a service. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Wraps a key: 1 or more visible ASCII characters, as a header can carry them.
    ///
    /// # Errors
    /// `Config`: an empty key, or one with control characters, spaces or characters beyond ASCII.
    pub fn new(key: impl Into<String>) -> Result<Self> {
        let key = key.into();
        if key.is_empty() {
            return Err(config("the API key is empty; leave it out where none is needed"));
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(config(
                "the API key has characters other than visible ASCII; is there a line break in it?",
            ));
        }
        Ok(Self(key))
    }

    /// The value of the `Authorization` header, marked as a secret.
    pub(super) fn header(&self) -> Result<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0))
            .map_err(|_| config("the API key cannot be sent in a header"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Whether a text is a part of the key, or has it in it.
    pub(super) fn overlaps(&self, text: &str) -> bool {
        self.0.contains(text) || text.contains(&self.0)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(redacted)")
    }
}

/// Settings of one embedder over HTTP.
///
/// What changes the vectors of a text (the model behind the name, the prefixes, the windows) has
/// to change [`HttpSettings::revision`] too: vectors of one space are compared with one another.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpSettings {
    /// The endpoint, such as `https://host/v1/embeddings`, or a base that ends in `/v1`, to which
    /// `/embeddings` is added. `http` or `https`, without user and password.
    pub url: String,
    /// The model's name, as the server knows it; 1 to 100 bytes.
    pub model: String,
    /// The model's revision, part of the space's name; 1 to 100 bytes. `1`.
    pub revision: String,
    /// Components of each vector.
    pub dimensions: u32,
    /// How vectors of the model are compared. Cosine: what most models are trained for.
    pub metric: Metric,
    /// The key, sent as `Authorization: Bearer`. It is sent over `https` or to this machine only.
    pub api_key: Option<ApiKey>,
    /// Longest time of one request, from the look-up of the host's name to the last byte of the
    /// answer; 1 ms to one hour. 30 s: a full batch on a machine without a GPU takes some seconds,
    /// and so does a model that is loaded at its first request.
    pub timeout: Duration,
    /// Most texts (or windows of texts) of one request; 1 to 2,048. 64: larger ones gain little,
    /// and some servers refuse them.
    pub max_batch: usize,
    /// Most requests at once; 1 to 64, each with a thread while it runs. 4: enough to hide the way
    /// to a distant server, and no more than one that computes on few cores can use.
    pub concurrency: usize,
    /// Longest piece of a text that is embedded at once, in bytes without the prefix; 0 for no
    /// bound, or 64 and more. 8,000: about 2,000 tokens of English, while the models in common use
    /// (nomic-embed-text, say) have windows of 2,048 tokens or more; many servers cut off silently
    /// what is beyond. A longer text is cut into at most [`super::MOST_WINDOWS`] windows, whose
    /// vectors are pooled. Scripts with more tokens a byte, and models with shorter windows, want
    /// a smaller value.
    pub window_bytes: usize,
    /// Put before each window of a text to find with, as some models want it; at most 4,096 bytes.
    /// Empty.
    pub query_prefix: String,
    /// Put before each window of a text to be found; at most 4,096 bytes. Empty.
    pub document_prefix: String,
    /// Whether requests name the dimensions. Off: only models whose vectors can be shortened take
    /// it, and servers refuse it for others.
    pub send_dimensions: bool,
}

impl HttpSettings {
    /// An endpoint and its model, with default bounds. Checked by [`HttpSettings::validate`].
    #[must_use]
    pub fn new(url: impl Into<String>, model: impl Into<String>, dimensions: u32) -> Self {
        Self {
            url: url.into(),
            model: model.into(),
            revision: "1".to_owned(),
            dimensions,
            metric: Metric::Cosine,
            api_key: None,
            timeout: Duration::from_secs(30),
            max_batch: 64,
            concurrency: 4,
            window_bytes: 8_000,
            query_prefix: String::new(),
            document_prefix: String::new(),
            send_dimensions: false,
        }
    }

    /// Sets [`HttpSettings::revision`].
    #[must_use]
    pub fn with_revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// Sets [`HttpSettings::metric`].
    #[must_use]
    pub fn with_metric(mut self, metric: Metric) -> Self {
        self.metric = metric;
        self
    }

    /// Sets [`HttpSettings::api_key`].
    #[must_use]
    pub fn with_api_key(mut self, key: Option<ApiKey>) -> Self {
        self.api_key = key;
        self
    }

    /// Sets [`HttpSettings::timeout`].
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`HttpSettings::max_batch`].
    #[must_use]
    pub fn with_max_batch(mut self, texts: usize) -> Self {
        self.max_batch = texts;
        self
    }

    /// Sets [`HttpSettings::concurrency`].
    #[must_use]
    pub fn with_concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests;
        self
    }

    /// Sets [`HttpSettings::window_bytes`].
    #[must_use]
    pub fn with_window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Sets [`HttpSettings::query_prefix`].
    #[must_use]
    pub fn with_query_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.query_prefix = prefix.into();
        self
    }

    /// Sets [`HttpSettings::document_prefix`].
    #[must_use]
    pub fn with_document_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.document_prefix = prefix.into();
        self
    }

    /// Sets [`HttpSettings::send_dimensions`].
    #[must_use]
    pub fn with_send_dimensions(mut self, send: bool) -> Self {
        self.send_dimensions = send;
        self
    }

    /// Checks the URL, the space and every bound.
    ///
    /// # Errors
    /// `Config`, naming all that is wrong at once; never a part of the URL.
    pub fn validate(&self) -> Result<()> {
        self.checked().map(|_| ())
    }

    /// The endpoint and the space, once all is checked.
    pub(super) fn checked(&self) -> Result<(Endpoint, EmbeddingSpace)> {
        let mut faults = Vec::new();
        let endpoint = Endpoint::parse(&self.url)
            .and_then(|endpoint| match &self.api_key {
                Some(_) if !endpoint.https && !endpoint.loopback => Err(
                    "url is http and not this machine: the API key would travel in the clear; use https",
                ),
                _ => Ok(endpoint),
            })
            .map_err(|fault| faults.push(fault.to_owned()));
        let space = EmbeddingSpace::new(
            self.model.as_str(),
            self.revision.as_str(),
            self.dimensions,
            self.metric,
        )
        .map_err(|error| faults.push(error.message().to_owned()));
        if self.timeout < Duration::from_millis(1) || self.timeout > MOST_TIMEOUT {
            faults.push(format!("timeout lies in 1 ms to 1 h, not {:?}", self.timeout));
        }
        let mut within = |name: &str, value: usize, low: usize, high: usize| {
            if !(low..=high).contains(&value) {
                faults.push(format!("{name} lies in {low}..={high}, not {value}"));
            }
        };
        within("max_batch", self.max_batch, 1, MOST_BATCH);
        within("concurrency", self.concurrency, 1, MOST_CONCURRENCY);
        within("bytes of query_prefix", self.query_prefix.len(), 0, PREFIX_BYTES);
        within("bytes of document_prefix", self.document_prefix.len(), 0, PREFIX_BYTES);
        if (1..LEAST_WINDOW).contains(&self.window_bytes) {
            faults.push(format!(
                "window_bytes is 0 or at least {LEAST_WINDOW}, not {}",
                self.window_bytes
            ));
        }
        match (endpoint, space) {
            (Ok(endpoint), Ok(space)) if faults.is_empty() => Ok((endpoint, space)),
            _ => Err(config(faults.join("; "))),
        }
    }
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Endpoint::parse(&self.url).map(|endpoint| endpoint.shown());
        f.debug_struct("HttpSettings")
            .field("url", &shown.as_deref().unwrap_or("(unusable)"))
            .field("model", &self.model)
            .field("revision", &self.revision)
            .field("dimensions", &self.dimensions)
            .field("metric", &self.metric)
            .field("api_key", &self.api_key)
            .field("timeout", &self.timeout)
            .field("max_batch", &self.max_batch)
            .field("concurrency", &self.concurrency)
            .field("window_bytes", &self.window_bytes)
            .field("query_prefix", &self.query_prefix)
            .field("document_prefix", &self.document_prefix)
            .field("send_dimensions", &self.send_dimensions)
            .finish()
    }
}

/// Where requests go.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    pub(super) https: bool,
    /// Whether the host is this machine.
    pub(super) loopback: bool,
}

impl Endpoint {
    /// Reads a URL and completes it; says what is wrong with it, without a part of it.
    fn parse(url: &str) -> Result<Self, &'static str> {
        let https = match url.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => true,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => false,
            _ => return Err("url begins with neither http:// nor https://"),
        };
        let uri: Uri = url.parse().map_err(|_| "url is not a URL")?;
        let authority = uri.authority().ok_or("url has no host")?;
        if authority.as_str().contains('@') {
            return Err("url has a user or password in it; set api_key instead");
        }
        let loopback = is_loopback(authority.host());
        let trimmed = uri.path().trim_end_matches('/');
        if trimmed.is_empty() {
            return Err("url has no path; it ends in /v1 or is the whole endpoint");
        }
        if !trimmed.ends_with("/v1") {
            return Ok(Self { uri, https, loopback });
        }
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("{trimmed}/embeddings{query}");
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(path.parse().map_err(|_| "url is not a URL")?);
        let uri = Uri::from_parts(parts).map_err(|_| "url is not a URL")?;
        Ok(Self { uri, https, loopback })
    }

    /// The URL without its query, which may hold a secret.
    pub(super) fn shown(&self) -> String {
        let authority = self.uri.authority().map(|authority| authority.as_str());
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", authority.unwrap_or_default(), self.uri.path())
    }
}

pub(super) fn config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message).with_backend(super::BACKEND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_completed_and_a_whole_endpoint_is_left_alone() {
        for (url, whole) in [
            ("http://localhost:11434/v1", "http://localhost:11434/v1/embeddings"),
            ("http://localhost:11434/v1/", "http://localhost:11434/v1/embeddings"),
            ("HTTPS://Host/api/v1", "https://Host/api/v1/embeddings"),
            ("https://host/v1/embeddings", "https://host/v1/embeddings"),
            ("https://host/openai/embed/", "https://host/openai/embed/"),
        ] {
            assert_eq!(Endpoint::parse(url).ok().unwrap().shown(), whole, "{url}");
        }
        let query = Endpoint::parse("https://host/v1?api-version=3").ok().unwrap();
        assert_eq!(query.uri.to_string(), "https://host/v1/embeddings?api-version=3");
        assert_eq!(query.shown(), "https://host/v1/embeddings");
    }

    #[test]
    fn hosts_of_this_machine_are_told_from_others() {
        for host in
            ["localhost", "LocalHost", "127.0.0.1", "127.8.9.1", "[::1]", "[::ffff:127.0.0.1]"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example",
            "127.0.0.1.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]",
            "127.1",
            "::1]",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
