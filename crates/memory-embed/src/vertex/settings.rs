//! Settings of the embedder on Vertex AI: every bound with its default and the reason for it.

use std::time::Duration;

use memory_core::{EmbeddingSpace, Error, ErrorKind, Metric, Result};
use ureq::http::Uri;

use super::BACKEND;
use crate::proxy::is_loopback;

/// Longest time of one request that may be set: one hour. Beyond it nobody waits.
const MOST_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Most texts of one request, by the most generous of the published pages.
const MOST_BATCH: usize = 250;
/// Most requests at once that may be set: each holds a thread while it waits.
const MOST_CONCURRENCY: usize = 64;
/// Smallest window, in bytes: less than a sentence has no meaning to embed.
const LEAST_WINDOW: usize = 64;

/// What a model is told that a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskType {
    /// A question to find documents with.
    RetrievalQuery,
    /// A document to be found.
    RetrievalDocument,
    /// Likeness of texts of one kind.
    SemanticSimilarity,
    /// Sorting into classes.
    Classification,
    /// Grouping.
    Clustering,
    /// A question to find answers with.
    QuestionAnswering,
    /// A statement to find evidence for.
    FactVerification,
    /// A question to find code with.
    CodeRetrievalQuery,
}

impl TaskType {
    /// The service's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RetrievalQuery => "RETRIEVAL_QUERY",
            Self::RetrievalDocument => "RETRIEVAL_DOCUMENT",
            Self::SemanticSimilarity => "SEMANTIC_SIMILARITY",
            Self::Classification => "CLASSIFICATION",
            Self::Clustering => "CLUSTERING",
            Self::QuestionAnswering => "QUESTION_ANSWERING",
            Self::FactVerification => "FACT_VERIFICATION",
            Self::CodeRetrievalQuery => "CODE_RETRIEVAL_QUERY",
        }
    }
}

/// Settings of one embedder on Vertex AI.
///
/// What changes the vectors of a text (the tasks, the windows) has to change
/// [`VertexSettings::revision`] too: vectors of one space are compared with one another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VertexSettings {
    /// The Google Cloud project.
    pub project: String,
    /// The location whose servers compute, such as `us-central1`, or `global`.
    pub location: String,
    /// The server's address, without a path; `https`, or `http` to this machine. Unset: that of the
    /// location.
    pub endpoint: Option<String>,
    /// The model's name, such as `text-embedding-005`, `text-multilingual-embedding-002` or
    /// `gemini-embedding-001`: letters, digits, `-`, `_`, `.` and `@`.
    pub model: String,
    /// The revision, part of the space's name; 1 to 100 bytes. `1`.
    pub revision: String,
    /// Components of each vector.
    pub dimensions: u32,
    /// How vectors are compared. Cosine: vectors that are shortened do not have length 1.
    pub metric: Metric,
    /// Whether requests name the dimensions. On: the models of today shorten their vectors; the
    /// first ones refuse it.
    pub send_dimensions: bool,
    /// What texts to find with are for. [`TaskType::RetrievalQuery`]. `None` is for models that take
    /// no task.
    pub query_task: Option<TaskType>,
    /// What texts to be found are for. [`TaskType::RetrievalDocument`].
    pub document_task: Option<TaskType>,
    /// Whether the service may cut off what is beyond the model's tokens. On, its default: off, a
    /// text whose windows have more tokens than they seem to is refused.
    pub auto_truncate: bool,
    /// The project that quota and cost count for, where it is not the one that the credentials say.
    pub quota_project: Option<String>,
    /// Longest time of one request; 1 ms to one hour. 30 s: answers take well below a second, and a
    /// busy service longer.
    pub timeout: Duration,
    /// Most texts (or windows of texts) of one request; 1 to 250. Unset: 1 for models whose names
    /// begin with `gemini`, 5 for the others, as their page says.
    pub max_batch: Option<usize>,
    /// Most bytes of the texts of one request: 1,000 and more. 60,000: about 15,000 tokens of
    /// English, below the 20,000 that a request may have.
    pub batch_bytes: usize,
    /// Most requests at once; 1 to 64, each with a thread while it runs. 4.
    pub concurrency: usize,
    /// Longest piece of a text that is embedded at once, in bytes; 0 for no bound, or 64 and more.
    /// 8,000: about 2,000 tokens of English, and models take 2,048. A longer text is cut into at
    /// most [`crate::http::MOST_WINDOWS`] windows, whose vectors are pooled. Scripts with more tokens
    /// a byte want a smaller value.
    pub window_bytes: usize,
}

impl VertexSettings {
    /// A model in a location, with default bounds. Checked by [`VertexSettings::validate`].
    #[must_use]
    pub fn new(
        project: impl Into<String>,
        location: impl Into<String>,
        model: impl Into<String>,
        dimensions: u32,
    ) -> Self {
        Self {
            project: project.into(),
            location: location.into(),
            endpoint: None,
            model: model.into(),
            revision: "1".to_owned(),
            dimensions,
            metric: Metric::Cosine,
            send_dimensions: true,
            query_task: Some(TaskType::RetrievalQuery),
            document_task: Some(TaskType::RetrievalDocument),
            auto_truncate: true,
            quota_project: None,
            timeout: Duration::from_secs(30),
            max_batch: None,
            batch_bytes: 60_000,
            concurrency: 4,
            window_bytes: 8_000,
        }
    }

    /// Most texts of one request.
    #[must_use]
    pub fn batch(&self) -> usize {
        let documented = if self.model.starts_with("gemini") { 1 } else { 5 };
        self.max_batch.unwrap_or(documented)
    }

    /// Checks the names, the space and every bound.
    ///
    /// # Errors
    /// `Config`, naming all that is wrong at once.
    pub fn validate(&self) -> Result<()> {
        self.checked().map(|_| ())
    }

    /// The endpoint and the space, once all is checked.
    pub(super) fn checked(&self) -> Result<(Endpoint, EmbeddingSpace)> {
        let mut faults = Vec::new();
        let of = |text: &str, most: usize, more: &[u8]| {
            (1..=most).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        if !of(&self.project, 100, b"-.:") {
            faults.push("project has 1 to 100 letters, digits, `-`, `.` and `:`".to_owned());
        }
        if self.quota_project.as_deref().is_some_and(|project| !of(project, 100, b"-.:")) {
            faults.push("quota_project has 1 to 100 letters, digits, `-`, `.` and `:`".to_owned());
        }
        if !of(&self.location, 63, b"-") {
            faults.push("location has 1 to 63 letters, digits and dashes".to_owned());
        }
        if !of(&self.model, 100, b"-_.@") {
            faults.push("model has 1 to 100 letters, digits, `-`, `_`, `.` and `@`".to_owned());
        }
        let endpoint = self.whole().map_err(|fault| faults.push(fault.to_owned()));
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
        within("max_batch", self.batch(), 1, MOST_BATCH);
        within("batch_bytes", self.batch_bytes, 1_000, usize::MAX);
        within("concurrency", self.concurrency, 1, MOST_CONCURRENCY);
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

    /// The whole address of the method.
    fn whole(&self) -> Result<Endpoint, &'static str> {
        const BASE: &str =
            "endpoint is `https://HOST`, or `http://` to this machine, without a path";
        let base = match &self.endpoint {
            Some(base) => base.trim_end_matches('/').to_owned(),
            None if self.location == "global" => "https://aiplatform.googleapis.com".to_owned(),
            None => format!("https://{}-aiplatform.googleapis.com", self.location),
        };
        let parsed: Uri = base.parse().map_err(|_| BASE)?;
        let authority = parsed.authority().ok_or(BASE)?;
        let loopback = is_loopback(authority.host());
        let https = parsed.scheme_str() == Some("https");
        let plain = parsed.scheme_str() == Some("http") && loopback;
        let bare = parsed.path() == "/" && parsed.query().is_none();
        if !(https || plain) || !bare || authority.as_str().contains('@') {
            return Err(BASE);
        }
        let Self { project, location, model, .. } = self;
        let uri = format!(
            "{base}/v1/projects/{project}/locations/{location}/publishers/google/models/{model}:predict"
        );
        let uri = uri.parse().map_err(|_| "project, location and model make no URL")?;
        Ok(Endpoint { uri, https, loopback })
    }
}

/// Where requests go.
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    pub(super) https: bool,
    /// Whether the host is this machine.
    pub(super) loopback: bool,
}

fn config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message).with_backend(BACKEND)
}
