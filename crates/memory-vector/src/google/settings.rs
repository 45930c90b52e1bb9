//! The settings of the index: data, with every default and its reason.

use std::collections::BTreeSet;

use memory_core::{Error, ErrorKind, MetaKey, Result};
use serde::{Deserialize, Serialize};

use super::{BACKEND, MOST_OBJECTS};

/// Longest beginning of a collection's name: a label has 63 characters, and a dash and 20 digits
/// that name the space follow.
const COLLECTION_BYTES: usize = 42;

/// Where scores of cosine spaces come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreFrom {
    /// `distance`: 1 less the distance that the service tells.
    #[default]
    Distance,
    /// `vectors`: the vectors of the hits come along and are compared here, with some 12 bytes for
    /// each of their components. Spaces of the dot product always do, for the definitions do not say
    /// which sign their distance has.
    Vectors,
}

/// How the service is reached and what is declared to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GoogleVectorSettings {
    /// The Google Cloud project.
    pub project: String,
    /// The location, such as `us-central1`.
    pub location: String,
    /// What the names of the collections begin with: a small letter, then small letters, digits and
    /// dashes, not a dash last, at most 42. Each space has a collection of its own, whose name goes
    /// on with a dash and 20 digits of the space's digest. `memories`.
    pub collection: String,
    /// The service's address: `https`, or `http` to this machine.
    /// `https://vectorsearch.googleapis.com`.
    pub endpoint: String,
    /// The project that quota and cost count for, where it is not the one that the credentials say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_project: Option<String>,
    /// The metadata keys that filters may name, at most 20. They are part of a collection's schema;
    /// items that were kept before a key was declared are found under it once they are kept anew.
    pub filter_keys: BTreeSet<MetaKey>,
    /// Longest life of one request, in milliseconds: 100 to 300,000. 15,000: a search takes far
    /// below a second and a batch some. A call's own deadline cuts it shorter.
    pub request_timeout_ms: u64,
    /// How long making a collection is waited for, in milliseconds: 1,000 to 3,600,000. 300,000: it
    /// is a long-running operation, of which no times are published.
    pub open_timeout_ms: u64,
    /// Objects of one request that writes: 1 to 1,000, the most that the service takes. 200: a batch
    /// that is refused for one object is sent again in halves.
    pub batch_objects: u32,
    /// Bytes of one request that writes, counted as 13 for a component and the text of the rest:
    /// 64 KiB to 64 MiB. 4 MiB: the size of gRPC's messages, which the service speaks too. An object
    /// that is larger goes alone.
    pub batch_bytes: usize,
    /// Requests that write at once, over all calls: 1 to 64. 8.
    pub concurrency: usize,
    /// Whether searches compare with every vector of the collection, whatever indexes it has. Off:
    /// the service uses an index that is there, and compares with every vector where there is none.
    pub exact: bool,
    /// Where scores of cosine spaces come from.
    pub scores: ScoreFrom,
}

impl Default for GoogleVectorSettings {
    fn default() -> Self {
        Self {
            project: String::new(),
            location: String::new(),
            collection: "memories".to_owned(),
            endpoint: "https://vectorsearch.googleapis.com".to_owned(),
            quota_project: None,
            filter_keys: BTreeSet::new(),
            request_timeout_ms: 15_000,
            open_timeout_ms: 300_000,
            batch_objects: 200,
            batch_bytes: 4 * 1024 * 1024,
            concurrency: 8,
            exact: false,
            scores: ScoreFrom::Distance,
        }
    }
}

impl GoogleVectorSettings {
    /// The defaults for a project and a location.
    #[must_use]
    pub fn new(project: impl Into<String>, location: impl Into<String>) -> Self {
        Self { project: project.into(), location: location.into(), ..Self::default() }
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// `Config`, naming all that is wrong at once.
    pub fn validate(&self) -> Result<()> {
        let faults = self.faults();
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Config, faults.join("; ")).with_backend(BACKEND))
    }

    /// All that is out of its bounds, one sentence each, beginning with the setting.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut unless = |good: bool, fault: &str| {
            if !good {
                faults.push(fault.to_owned());
            }
        };
        let project = |text: &str| {
            (1..=100).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b))
        };
        unless(project(&self.project), "project has 1 to 100 letters, digits, `-`, `.` and `:`");
        unless(
            self.quota_project.as_deref().is_none_or(project),
            "quota_project has 1 to 100 letters, digits, `-`, `.` and `:`",
        );
        let location = &self.location;
        unless(
            (1..=63).contains(&location.len())
                && location
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "location has 1 to 63 small letters, digits and dashes, such as `us-central1`",
        );
        unless(
            super::names::is_label(&self.collection) && self.collection.len() <= COLLECTION_BYTES,
            "collection begins with a small letter, goes on with small letters, digits and dashes, \
             does not end with a dash, and has at most 42 of them",
        );
        unless(
            self.endpoint.starts_with("https://") || is_this_machine(&self.endpoint),
            "endpoint begins with `https://`; plain text is for this machine alone",
        );
        let mut within = |name: &str, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                faults.push(format!("{name} lies in {low} to {high}; this is {value}"));
            }
        };
        within("filter_keys", self.filter_keys.len() as u64, 0, 20);
        within("request_timeout_ms", self.request_timeout_ms, 100, 300_000);
        within("open_timeout_ms", self.open_timeout_ms, 1_000, 3_600_000);
        within("batch_objects", self.batch_objects.into(), 1, MOST_OBJECTS.into());
        within("batch_bytes", self.batch_bytes as u64, 64 * 1024, 64 * 1024 * 1024);
        within("concurrency", self.concurrency as u64, 1, 64);
        faults
    }
}

/// Whether a URL is plain HTTP to this machine.
fn is_this_machine(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_come_back_from_text() {
        let mut settings = GoogleVectorSettings::new("p", "us-central1");
        settings.filter_keys.insert(MetaKey::new("topic").unwrap());
        settings.validate().unwrap();
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<GoogleVectorSettings>(&text).unwrap(), settings);
        assert!(serde_json::from_str::<GoogleVectorSettings>(r#"{"colection":"x"}"#).is_err());
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        type Change = fn(&mut GoogleVectorSettings);
        let table: [(&str, Change); 15] = [
            ("project", |s| s.project.clear()),
            ("project", |s| s.project = "a/b".to_owned()),
            ("quota_project", |s| s.quota_project = Some(String::new())),
            ("location", |s| s.location = "US".to_owned()),
            ("location", |s| s.location.clear()),
            ("collection", |s| s.collection = "Memories".to_owned()),
            ("collection", |s| s.collection = "a-".to_owned()),
            ("collection", |s| s.collection = "a".repeat(43)),
            ("endpoint", |s| s.endpoint = "http://example.com".to_owned()),
            ("endpoint", |s| s.endpoint = "http://localhost.example.com".to_owned()),
            ("request_timeout_ms", |s| s.request_timeout_ms = 99),
            ("open_timeout_ms", |s| s.open_timeout_ms = 3_600_001),
            ("batch_objects", |s| s.batch_objects = 1_001),
            ("batch_bytes", |s| s.batch_bytes = 1),
            ("concurrency", |s| s.concurrency = 0),
        ];
        for (name, change) in table {
            let mut settings = GoogleVectorSettings::new("p", "us-central1");
            change(&mut settings);
            let faults = settings.faults();
            assert_eq!(faults.len(), 1, "{name}: {faults:?}");
            assert!(faults[0].starts_with(name), "{name}: {faults:?}");
            assert_eq!(settings.validate().unwrap_err().kind(), ErrorKind::Config);
        }
        for good in ["http://localhost:1", "http://127.0.0.1:8080/x", "http://[::1]"] {
            let mut settings = GoogleVectorSettings::new("p", "us-central1");
            settings.endpoint = good.to_owned();
            settings.validate().unwrap();
        }
    }
}
