//! The settings of embedding: where vectors come from, when they are made, what a failure does.

use std::fmt;
use std::path::PathBuf;

use memory_core::{EmbeddingSpace, Metric, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{config, within};

/// What makes vectors of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Provider {
    /// The local model if its files are on this machine; otherwise nothing, and searches say so.
    /// Opening fails if they are all there and one has a wrong size.
    Auto,
    /// Nothing: callers supply vectors, or memories have none.
    None,
    /// The local model all-MiniLM-L6-v2; opening fails if its files are not there.
    MiniLm,
    /// A server with an OpenAI-compatible interface.
    Http,
}

impl Provider {
    /// The name that it has in a settings file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::None => "none",
            Self::MiniLm => "minilm",
            Self::Http => "http",
        }
    }
}

/// When the vectors of texts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbedWhen {
    /// With the write: the memory and its vector are one commit, and a search by meaning finds it
    /// at once. The embedder's time counts against the call's; see [`OnEmbedFailure`].
    #[default]
    Write,
    /// After the write, by a thread of the memory: writes do not wait for the model. A program
    /// that ends soon waits for it with
    /// [`Memory::embedding_idle`](crate::Memory::embedding_idle), or leaves the rest to the next
    /// one that uses the tenant.
    Background,
    /// When [`TenantMemory::embed_missing`](crate::TenantMemory::embed_missing) is called.
    Later,
}

/// What becomes of a memory whose vector cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnEmbedFailure {
    /// It is stored without one, and the receipt says so: to remember comes first. Of a call with
    /// a time limit the embedder has half of what is left when it is asked, so that one that is
    /// slow leaves time to store.
    #[default]
    Store,
    /// It is not stored, and the call fails. The embedder may take all of the call's time.
    Refuse,
}

/// Where vectors come from, when they are made, and what a failure does.
///
/// A tenant has one active space. The first vector of a tenant declares it, the caller's or a made
/// one. From then on only vectors of that space are stored and searched with.
///
/// | `provider` | what `model`, `revision`, `dimensions` and `metric` say |
/// |---|---|
/// | `none` | what the callers' vectors are; without `model`, the first vector's length declares a space of the model `caller`, revision `1`, with cosine, for which most sentence models are made |
/// | `http` | what the server is asked for; `model` and `dimensions` are required |
/// | `auto`, `minilm` | they are left out, for the model says it itself |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EmbeddingSettings {
    /// What makes vectors. Left out: `none` if `model` is set, for then the caller supplies them;
    /// else `auto`, so that search by meaning works as soon as the model is on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The model's name: 1 to 100 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model's revision: 1 to 100 bytes. `1`: most models have no other.
    pub revision: String,
    /// Components of each vector: 1 to 8,192.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
    /// How likeness is measured. Cosine: most sentence models are made for it.
    pub metric: Metric,
    /// When vectors are made. `write`: what was remembered is found by its meaning at once.
    pub when: EmbedWhen,
    /// What becomes of a memory whose vector cannot be made. `store`: to remember comes first.
    pub on_failure: OnEmbedFailure,
    /// Texts of one call of the embedder: 1 to 1,000, and never more than it takes. Left out: what
    /// it takes, at most 256, so that the provider `http` keeps all its connections busy, and a
    /// pass over missing vectors can be stopped between two calls all the same. With
    /// [`HttpEmbeddingSettings::max_batch`] times [`HttpEmbeddingSettings::concurrency`] above
    /// that, a larger number puts the others to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// Vectors kept by tenant and text, so that a text that comes again is not embedded again: 0
    /// (none) to 1,000,000. 4,096: 6 MB at 384 dimensions. An erasure drops those of its tenant.
    pub cache_entries: usize,
    /// The local model.
    pub minilm: MiniLmSettings,
    /// The server.
    pub http: HttpEmbeddingSettings,
}

impl Default for EmbeddingSettings {
    fn default() -> Self {
        Self {
            provider: None,
            model: None,
            revision: "1".to_owned(),
            dimensions: None,
            metric: Metric::Cosine,
            when: EmbedWhen::default(),
            on_failure: OnEmbedFailure::default(),
            batch_size: None,
            cache_entries: 4_096,
            minilm: MiniLmSettings::default(),
            http: HttpEmbeddingSettings::default(),
        }
    }
}

impl EmbeddingSettings {
    /// Callers supply vectors of this model, revision `1`, under cosine.
    #[must_use]
    pub fn new(model: impl Into<String>, dimensions: u32) -> Self {
        Self { model: Some(model.into()), dimensions: Some(dimensions), ..Self::default() }
    }

    /// Nothing makes vectors, whatever is on the machine.
    #[must_use]
    pub fn none() -> Self {
        Self { provider: Some(Provider::None), ..Self::default() }
    }

    /// The provider, with what is left out filled in.
    #[must_use]
    pub fn chosen_provider(&self) -> Provider {
        match (self.provider, &self.model) {
            (Some(provider), _) => provider,
            (None, Some(_)) => Provider::None,
            (None, None) => Provider::Auto,
        }
    }

    /// The space that `model`, `revision`, `dimensions` and `metric` name; `None` without `model`.
    ///
    /// # Errors
    /// `Config`: a name or number that no space can have.
    pub fn space(&self) -> Result<Option<EmbeddingSpace>> {
        let Some(model) = &self.model else { return Ok(None) };
        let Some(dimensions) = self.dimensions else {
            let message = "embedding: `model` needs `dimensions`, the length of its vectors";
            return Err(config(message.to_owned()));
        };
        EmbeddingSpace::new(model, &self.revision, dimensions, self.metric)
            .map(Some)
            .map_err(|error| config(format!("embedding: {}", error.message())))
    }

    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |name, value: usize, low, high| {
            within(&mut faults, name, value as u64, low, high);
        };
        if let Some(texts) = self.batch_size {
            check("embedding.batch_size", texts, 1, 1_000);
        }
        check("embedding.cache_entries", self.cache_entries, 0, 1_000_000);
        if let Some(threads) = self.minilm.threads {
            check("embedding.minilm.threads", threads, 1, 1_024);
        }
        faults.extend(self.http.faults());
        let space = self.space();
        let named = self.model.is_some() || self.dimensions.is_some();
        let wrong = match (self.chosen_provider(), &space) {
            (_, Err(error)) => Some(error.message().to_owned()),
            (Provider::None, Ok(None)) if self.dimensions.is_some() => {
                Some("embedding: `dimensions` needs `model`, whose vectors have this length".into())
            }
            (Provider::None, _) => None,
            (Provider::Http, Ok(None)) => {
                Some("embedding: the provider `http` needs `model` and `dimensions`".into())
            }
            (Provider::Http, _) if self.http.url.is_none() => {
                Some("embedding: the provider `http` needs `url` in [embedding.http]".into())
            }
            (Provider::Http, _) => None,
            (provider, _) if named => Some(format!(
                "embedding: the provider `{}` has its own model; leave `model` and `dimensions` \
                 out, or set the provider `none` for vectors of your own",
                provider.name()
            )),
            _ => None,
        };
        faults.extend(wrong);
        faults
    }
}

/// What the local model's weights are held and multiplied in.
///
/// Vectors of the two are spaces of their own: a tenant whose vectors were made in one refuses the
/// other, and both can serve tenants of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MiniLmPrecision {
    /// 32 bits, as the model's file has them.
    #[default]
    F32,
    /// Eight bits: about a quarter of the memory, and less than half of the time where the
    /// processor has AVX-512 VNNI.
    Int8,
}

/// The local model, all-MiniLM-L6-v2.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MiniLmSettings {
    /// The folder of the model's files. Left out: the one in the platform's cache folder that
    /// `orchestra-memory model pull` fills, for the files can be got again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Threads that compute: 1 to 1,024. Left out: as many as the machine has processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// What its weights are held and multiplied in. `f32`: as the model was made, and as the stores
    /// that are there have it.
    pub precision: MiniLmPrecision,
}

#[cfg(feature = "minilm")]
impl MiniLmSettings {
    /// The space of the vectors that the local model makes by these settings.
    #[must_use]
    pub fn space(&self) -> EmbeddingSpace {
        memory_embed::minilm::Precision::from(self.precision).space()
    }
}

#[cfg(feature = "minilm")]
impl From<MiniLmPrecision> for memory_embed::minilm::Precision {
    fn from(precision: MiniLmPrecision) -> Self {
        match precision {
            MiniLmPrecision::F32 => Self::F32,
            MiniLmPrecision::Int8 => Self::Int8,
        }
    }
}

/// A server with an OpenAI-compatible interface for embeddings.
///
/// Whatever changes the vectors of a text (the model behind the name, the prefixes, the windows)
/// has to change [`EmbeddingSettings::revision`] too, for vectors of one space are compared.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpEmbeddingSettings {
    /// The endpoint, such as `https://host/v1/embeddings`, or a base that ends in `/v1`. It may
    /// hold a secret and is never shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The key that is sent along, over `https` or to this machine only. It is never written into
    /// a settings file and never shown.
    #[serde(skip_serializing)]
    pub api_key: Option<Secret>,
    /// Longest time of one request, in milliseconds: 1 to 3,600,000. 30,000: a full batch on a
    /// machine without a GPU takes some seconds, and so does a model that is loaded at its first
    /// request.
    pub timeout_ms: u64,
    /// Texts, or windows of texts, of one request: 1 to 2,048. 64: larger ones gain little, and
    /// some servers refuse them.
    pub max_batch: usize,
    /// Requests under way at once: 1 to 64. 4: enough to hide the way to a distant server, and no
    /// more than one that computes on few cores can use.
    pub concurrency: usize,
    /// Longest piece of a text that is embedded at once, in bytes without the prefix: 0 for no
    /// bound, or 64 to 786,432. 8,000: about 2,000 tokens of English, which the models in common
    /// use take. A longer text is cut into windows, whose vectors are pooled.
    pub window_bytes: usize,
    /// What stands before a text to find with, as some models want it: at most 4,096 bytes. Empty.
    pub query_prefix: String,
    /// What stands before a text to be found: at most 4,096 bytes. Empty.
    pub document_prefix: String,
    /// Whether requests name the dimensions. No: only models whose vectors can be shortened take
    /// it, and servers refuse it for others.
    pub send_dimensions: bool,
}

impl Default for HttpEmbeddingSettings {
    fn default() -> Self {
        Self {
            url: None,
            api_key: None,
            timeout_ms: 30_000,
            max_batch: 64,
            concurrency: 4,
            window_bytes: 8_000,
            query_prefix: String::new(),
            document_prefix: String::new(),
            send_dimensions: false,
        }
    }
}

impl HttpEmbeddingSettings {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |name, value, low, high| within(&mut faults, name, value, low, high);
        check("embedding.http.timeout_ms", self.timeout_ms, 1, 3_600_000);
        check("embedding.http.max_batch", self.max_batch as u64, 1, 2_048);
        check("embedding.http.concurrency", self.concurrency as u64, 1, 64);
        if self.window_bytes > 0 {
            check("embedding.http.window_bytes", self.window_bytes as u64, 64, 786_432);
        }
        let bytes = |text: &str| text.len() as u64;
        check("bytes of embedding.http.query_prefix", bytes(&self.query_prefix), 0, 4_096);
        check("bytes of embedding.http.document_prefix", bytes(&self.document_prefix), 0, 4_096);
        faults
    }
}

/// The URL may hold a secret: `Debug` shows its scheme only.
impl fmt::Debug for HttpEmbeddingSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.url.as_ref().and_then(|url| url.split_once(':')).map(|(s, _)| s);
        f.debug_struct("HttpEmbeddingSettings")
            .field("url_scheme", &scheme)
            .field("api_key", &self.api_key)
            .field("timeout_ms", &self.timeout_ms)
            .field("max_batch", &self.max_batch)
            .field("concurrency", &self.concurrency)
            .field("window_bytes", &self.window_bytes)
            .field("query_prefix", &self.query_prefix)
            .field("document_prefix", &self.document_prefix)
            .field("send_dimensions", &self.send_dimensions)
            .finish()
    }
}

/// A secret: readable from a settings file, never written or shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The reader's own message is left out, for it repeats a value of a wrong type.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer);
        text.map(Self).map_err(|_| D::Error::custom("a secret is a string, in quotes"))
    }
}

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use memory_core::ErrorKind;

    use super::*;
    use crate::settings::Settings;

    fn read(text: &str) -> Result<EmbeddingSettings> {
        Ok(Settings::from_toml_str(&format!("[embedding]\n{text}"))?.embedding)
    }

    #[test]
    fn the_provider_follows_from_the_model_unless_it_is_set() {
        for (text, provider) in [
            ("", Provider::Auto),
            ("when = 'later'", Provider::Auto),
            ("model = 'm'\ndimensions = 3", Provider::None),
            ("provider = 'none'", Provider::None),
            ("provider = 'auto'", Provider::Auto),
            ("provider = 'minilm'", Provider::MiniLm),
            (
                "provider = 'http'\nmodel = 'm'\ndimensions = 3\nhttp.url = 'http://127.0.0.1/v1'",
                Provider::Http,
            ),
        ] {
            let settings = read(text).unwrap();
            assert_eq!(settings.chosen_provider(), provider, "{text}");
            let named = settings.space().unwrap();
            assert_eq!(named.is_some(), text.contains("model = "), "{text}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_named() {
        for (text, part) in [
            ("model = 'm'", "needs `dimensions`"),
            ("dimensions = 3", "leave `model` and `dimensions` out"),
            ("provider = 'none'\ndimensions = 3", "needs `model`"),
            ("provider = 'minilm'\nmodel = 'm'\ndimensions = 3", "`minilm` has its own model"),
            ("provider = 'auto'\nmodel = 'm'\ndimensions = 3", "`auto` has its own model"),
            ("provider = 'http'", "needs `model` and `dimensions`"),
            ("provider = 'http'\nmodel = 'm'\ndimensions = 3", "needs `url`"),
            ("model = ''\ndimensions = 3", "embedding: "),
            ("model = 'm'\ndimensions = 0", "embedding: "),
            ("provider = 'magic'", "embedding.provider: expected one of `auto`, "),
            ("when = 'never'", "embedding.when: expected one of "),
            ("on_failure = 'x'", "embedding.on_failure: expected `store` or `refuse`"),
            ("batch_size = 0", "embedding.batch_size"),
            ("batch_size = 1001", "embedding.batch_size"),
            ("cache_entries = 1000001", "embedding.cache_entries"),
            ("minilm.threads = 0", "embedding.minilm.threads"),
            ("minilm.precision = 'f16'", "embedding.minilm.precision: expected `f32` or `int8`"),
            ("minilm.precison = 'int8'", "did you mean `precision`?"),
            ("http.timeout_ms = 0", "embedding.http.timeout_ms"),
            ("http.max_batch = 0", "embedding.http.max_batch"),
            ("http.concurrency = 65", "embedding.http.concurrency"),
            ("http.window_bytes = 63", "embedding.http.window_bytes"),
            ("modl = 'm'", "did you mean `model`?"),
            ("minilm.foldr = 'x'", "did you mean `folder`?"),
            ("http.api_kye = 'x'", "did you mean `api_key`?"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn every_field_is_read_and_written_but_the_key() {
        let text = "provider = 'http'\nmodel = 'm'\nrevision = '2'\ndimensions = 3\n\
                    metric = 'dot'\nwhen = 'background'\non_failure = 'refuse'\nbatch_size = 7\n\
                    cache_entries = 8\n[embedding.minilm]\nfolder = 'models'\nthreads = 2\n\
                    precision = 'int8'\n\
                    [embedding.http]\nurl = 'http://127.0.0.1/v1'\napi_key = 'sk-secret'\n\
                    timeout_ms = 9\nmax_batch = 10\nconcurrency = 11\nwindow_bytes = 12000\n\
                    query_prefix = 'query: '\ndocument_prefix = 'passage: '\n\
                    send_dimensions = true\n";
        let settings = Settings::from_toml_str(&format!("[embedding]\n{text}")).unwrap();
        let embedding = &settings.embedding;
        assert_eq!((embedding.when, embedding.batch_size), (EmbedWhen::Background, Some(7)));
        assert_eq!(embedding.on_failure, OnEmbedFailure::Refuse);
        assert_eq!(embedding.minilm.threads, Some(2));
        assert_eq!(embedding.minilm.precision, MiniLmPrecision::Int8);
        assert_eq!(embedding.http.api_key.as_ref().unwrap().expose(), "sk-secret");
        assert_eq!(embedding.http.query_prefix, "query: ");
        assert!(!format!("{settings:?}").contains("sk-secret"));
        let written = settings.to_toml_string().unwrap();
        assert!(!written.contains("sk-secret") && !written.contains("api_key"), "{written}");
        let mut again = Settings::from_toml_str(&written).unwrap();
        assert_eq!(again.embedding.http.api_key, None);
        again.embedding.http.api_key = embedding.http.api_key.clone();
        assert_eq!(again, settings, "all else comes back");
    }

    #[cfg(feature = "minilm")]
    #[test]
    fn the_space_of_the_local_model_follows_its_precision() {
        for (text, revision) in [
            ("", "53aa5117"),
            ("minilm.precision = 'f32'", "53aa5117"),
            ("minilm.precision = 'int8'", "53aa5117-int8"),
        ] {
            assert_eq!(read(text).unwrap().minilm.space().revision(), revision, "{text}");
        }
    }

    #[test]
    fn debug_hides_the_address() {
        let settings = read("http.url = 'https://host/v1?key=sk-secret'").unwrap();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("sk-secret") && shown.contains("https"), "{shown}");
    }

    #[test]
    fn a_key_of_a_wrong_type_is_not_repeated() {
        for value in [
            "123456789",
            "-123456789",
            "123456789.5",
            "['123456789']",
            "{ key = '123456789' }",
            "true",
            "2025-12-31",
            "0x123456789",
        ] {
            let text = format!("[embedding.http]\ntimeout_ms = 5\napi_key = {value}\n");
            let error = Settings::from_toml_str(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{value}");
            let told = "at line 3: embedding.http.api_key: a secret is a string, in quotes";
            assert!(error.message().ends_with(told), "{error}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("123456") && !shown.contains("2025"), "{shown}");
            assert!(!shown.contains("true"), "{shown}");
        }
        let settings = read("http.api_key = '123456789'").unwrap();
        assert_eq!(settings.http.api_key.unwrap().expose(), "123456789");
    }

    #[test]
    fn a_malformed_section_does_not_repeat_the_key() {
        for text in [
            "[embedding.http]\napi_key = 'sk-secret'\nmax_batch = 'x'\n",
            "[embedding.http]\napi_key = ['sk-secret']\n",
            "[embedding]\nhttp = { api_key = 'sk-secret', nothing = 1 }\n",
        ] {
            let error = Settings::from_toml_str(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("sk-secret"), "{error:?}");
        }
    }
}
