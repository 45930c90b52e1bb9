//! The settings of the store: data, with every default and its reason.

use std::collections::{BTreeMap, BTreeSet};

use memory_core::{Error, ErrorKind, Field, MetaKey, OrderField, Result};
use serde::{Deserialize, Serialize};

/// How the store is reached and what it declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FirestoreSettings {
    /// The Google Cloud project.
    pub project: String,
    /// The database: `(default)` unless set.
    pub database: String,
    /// What every collection's name begins with: letters, digits, `_` and `-`, at most 64, not
    /// beginning with `__`. Several stores can share a database by it.
    pub prefix: String,
    /// `HOST:PORT` of an emulator: plain text and no credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator: Option<String>,
    /// The service's address.
    pub endpoint: String,
    /// The project that is billed for requests, where it is not the one that the credentials say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_project: Option<String>,
    /// Connections: 1 to 64. 4: a server may allow about 100 requests at once on each, and 400 are
    /// more than two cores' worth of callers keep under way.
    pub channels: u32,
    /// Longest wait for a connection, in milliseconds: 100 to 60,000. 5,000: an address that does
    /// not answer by then does not.
    pub connect_timeout_ms: u64,
    /// Longest life of one request, in milliseconds: 100 to 300,000. 15,000: a commit of the
    /// largest size takes a few seconds. A call's own deadline cuts it shorter.
    pub request_timeout_ms: u64,
    /// When an idle connection is asked for a sign of life, in seconds: 10 to 3,600. 60: the
    /// service's balancers drop what was silent for minutes.
    pub keep_alive_s: u64,
    /// What opening does.
    pub open: OpenMode,
    /// How long an opening that waits goes on, in milliseconds: 100 to 600,000.
    pub open_timeout_ms: u64,
    /// Whether each commit writes an entry of the tenant's change log: one more billed write.
    pub change_log: bool,
    /// Entries of the change log that are kept when every consumer has read them: 1 to 1,000,000.
    pub change_log_keep: u32,
    /// The metadata keys that filters may name, and what they hold. Every memory that is written
    /// carries them in its indexes. A key that is declared later needs a call of
    /// `declare_filter_keys`, once.
    pub filter_keys: BTreeMap<MetaKey, FilterKeyType>,
    /// The orders that pages may have. Each takes two composite indexes for each of `equals`.
    pub orders: BTreeSet<OrderField>,
    /// The fields that have composite indexes of their own, so that a filter by equality reads what
    /// it finds and nothing else. Declared keys are always among them.
    pub equals: BTreeSet<FieldName>,
    /// Whether filters may use ranges, `ne`, `not` and `exists` on any field: one more composite
    /// index for each order, which such a filter walks (one billed read for 1,000 entries).
    pub ranges: bool,
    /// The combinations of fields that a nearest-neighbour search filters by equality on the
    /// server; each takes a vector index for each space. The widest that a filter contains is used,
    /// and the rest of the filter is applied to what comes back.
    pub vector_scopes: BTreeSet<VectorScope>,
    /// How loads of many memories are written.
    pub bulk: BulkSettings,
    /// Documents of one step of an erasure: 1 to 500. 250: twice as many writes, for each leaves a
    /// tombstone.
    pub erase_batch: u32,
    /// Documents of one commit of a sweep: 1 to 500. 500: a commit's former limit, and far below
    /// the ten minutes of contention that larger ones can cause.
    pub sweep_batch: u32,
    /// Most bytes of one request: 64 KiB to 10 MiB. The service takes 10 MiB and the emulator 4;
    /// unset, 64 KiB less than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_bytes: Option<usize>,
    /// How a commit makes sure that the tenant's spaces and write fence are as this process knows
    /// them.
    pub guard: GuardMode,
    /// Tenants whose state is remembered: 1 to 1,000,000. 10,000: some 200 bytes each.
    pub tenant_cache: u32,
    /// How often a write that meets others on its documents looks again and tries again: 1 to
    /// 1,000. 64: each round lets one writer through, so as many may meet on one document.
    pub contention_attempts: u32,
}

impl Default for FirestoreSettings {
    fn default() -> Self {
        let scope = |fields: &[Field]| VectorScope(fields.iter().cloned().map(FieldName).collect());
        Self {
            project: String::new(),
            database: "(default)".to_owned(),
            prefix: String::new(),
            emulator: None,
            endpoint: "https://firestore.googleapis.com".to_owned(),
            quota_project: None,
            channels: 4,
            connect_timeout_ms: 5_000,
            request_timeout_ms: 15_000,
            keep_alive_s: 60,
            open: OpenMode::Lazy,
            open_timeout_ms: 30_000,
            change_log: false,
            change_log_keep: 10_000,
            filter_keys: BTreeMap::new(),
            orders: [OrderField::OccurredAt, OrderField::Id].into(),
            equals: [
                Field::UserId,
                Field::AgentId,
                Field::SessionId,
                Field::Kind,
                Field::ContentHash,
            ]
            .map(FieldName)
            .into(),
            ranges: true,
            vector_scopes: [
                scope(&[]),
                scope(&[Field::UserId]),
                scope(&[Field::AgentId]),
                scope(&[Field::SessionId]),
                scope(&[Field::UserId, Field::SessionId]),
                scope(&[Field::UserId, Field::Kind]),
            ]
            .into(),
            bulk: BulkSettings::default(),
            erase_batch: 250,
            sweep_batch: 500,
            max_request_bytes: None,
            guard: GuardMode::Auto,
            tenant_cache: 10_000,
            contention_attempts: 64,
        }
    }
}

/// What opening does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenMode {
    /// Nothing: the first call connects.
    Lazy,
    /// Asks the store once and fails where it does not answer.
    FailFast,
    /// Asks until the store answers or `open_timeout_ms` have passed.
    Wait,
}

/// What a declared metadata key holds. A value of another type is filtered all the same; only lists
/// need to be declared as such, for `contains` has an index of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterKeyType {
    /// Texts.
    Text,
    /// Numbers.
    Number,
    /// Booleans.
    Bool,
    /// Lists of texts.
    List,
}

/// How a commit makes sure of the tenant's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardMode {
    /// `verify` where the server takes it, which is found out once, otherwise `transaction`.
    Auto,
    /// A precondition on the tenant's document in the commit itself: no read and no round trip.
    Verify,
    /// A transaction that reads the tenant's document first: one more round trip and billed read.
    Transaction,
}

/// A field by its name, as filters write it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldName(pub Field);

impl TryFrom<String> for FieldName {
    type Error = Error;
    fn try_from(name: String) -> Result<Self> {
        Ok(Self(Field::parse(&name)?))
    }
}

impl From<FieldName> for String {
    fn from(name: FieldName) -> Self {
        name.0.to_string()
    }
}

/// Fields that a nearest-neighbour search filters by together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct VectorScope(pub BTreeSet<FieldName>);

/// How loads of many memories are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BulkSettings {
    /// Documents of one request: 1 to 500. 50: measured, larger requests are not quicker, and less
    /// is done again where one document is contended.
    pub batch_documents: u32,
    /// Bytes of one request: 64 KiB to 8 MiB. 1 MiB: 250 memories with a vector of 384.
    pub batch_bytes: usize,
    /// Requests under way at once: 1 to 64. 4: measured.
    pub concurrency: u32,
    /// The pace at which a load begins.
    pub ramp: Ramp,
    /// Writes a second at which the ramp begins: 1 to 100,000. 500: the service's rule for a
    /// collection that is new to traffic (500, and half as much again every five minutes).
    pub ramp_start: u32,
    /// Seconds after which the ramp grows by half: 1 to 3,600. 300, by the same rule.
    pub ramp_step_s: u32,
}

impl Default for BulkSettings {
    fn default() -> Self {
        Self {
            batch_documents: 50,
            batch_bytes: 1024 * 1024,
            concurrency: 4,
            ramp: Ramp::Auto,
            ramp_start: 500,
            ramp_step_s: 300,
        }
    }
}

/// The pace at which a load begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ramp {
    /// On the service, and not on an emulator.
    Auto,
    /// Always.
    On,
    /// Never: for collections that carry traffic already.
    Off,
}

impl FirestoreSettings {
    /// Settings of a project, with every default.
    #[must_use]
    pub fn new(project: impl Into<String>) -> Self {
        Self { project: project.into(), ..Self::default() }
    }

    /// Checks every bound. The project may still be missing: it may stand in a URL.
    ///
    /// # Errors
    /// `Config`, naming all that is wrong at once.
    pub fn validate(&self) -> Result<()> {
        let faults = self.faults();
        if faults.is_empty() { Ok(()) } else { Err(config(faults.join("; "))) }
    }

    /// All that is out of its bounds, one sentence each, beginning with the setting.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.name_faults();
        let mut within = |name: &str, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                faults.push(format!("{name} lies in {low} to {high}; this is {value}"));
            }
        };
        within("channels", self.channels.into(), 1, 64);
        within("connect_timeout_ms", self.connect_timeout_ms, 100, 60_000);
        within("request_timeout_ms", self.request_timeout_ms, 100, 300_000);
        within("keep_alive_s", self.keep_alive_s, 10, 3_600);
        within("open_timeout_ms", self.open_timeout_ms, 100, 600_000);
        within("change_log_keep", self.change_log_keep.into(), 1, 1_000_000);
        within("filter_keys", self.filter_keys.len() as u64, 0, 20);
        within("vector_scopes", self.vector_scopes.len() as u64, 1, 50);
        within("erase_batch", self.erase_batch.into(), 1, 500);
        within("sweep_batch", self.sweep_batch.into(), 1, 500);
        within("tenant_cache", self.tenant_cache.into(), 1, 1_000_000);
        within("contention_attempts", self.contention_attempts.into(), 1, 1_000);
        if let Some(bytes) = self.max_request_bytes {
            within("max_request_bytes", bytes as u64, 64 * 1024, 10 * 1024 * 1024);
        }
        let bulk = &self.bulk;
        within("bulk.batch_documents", bulk.batch_documents.into(), 1, 500);
        within("bulk.batch_bytes", bulk.batch_bytes as u64, 64 * 1024, 8 * 1024 * 1024);
        within("bulk.concurrency", bulk.concurrency.into(), 1, 64);
        within("bulk.ramp_start", bulk.ramp_start.into(), 1, 100_000);
        within("bulk.ramp_step_s", bulk.ramp_step_s.into(), 1, 3_600);
        for field in self.equals.iter().chain(self.vector_scopes.iter().flat_map(|scope| &scope.0))
        {
            let known = match &field.0 {
                Field::Metadata(key) => self.filter_keys.contains_key(key),
                field => !field.is_time() && !matches!(field, Field::Id | Field::Importance),
            };
            if !known {
                faults.push(format!(
                    "equals and vector_scopes name texts and declared filter_keys, not {}",
                    field.0
                ));
            }
        }
        faults
    }

    fn name_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut wrong = |fault: &str| faults.push(fault.to_owned());
        let simple = |text: &str, more: &[char]| {
            text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
        };
        if self.project.len() > 100 || !simple(&self.project, &['-', '.', ':']) {
            wrong("project has letters, digits, `-`, `.` and `:`");
        }
        if self.quota_project.as_ref().is_some_and(|p| p.is_empty() || !simple(p, &['-', '.', ':']))
        {
            wrong("quota_project has letters, digits, `-`, `.` and `:`");
        }
        let named = self.database == "(default)" || simple(&self.database, &['-']);
        if self.database.is_empty() || self.database.len() > 63 || !named {
            wrong("database is `(default)` or has letters, digits and `-`");
        }
        let prefix = &self.prefix;
        if prefix.len() > 64 || prefix.starts_with("__") || !simple(prefix, &['_', '-']) {
            wrong(
                "prefix has at most 64 letters, digits, `_` and `-`, and does not begin with `__`",
            );
        }
        if self.emulator.is_none() && !self.endpoint.starts_with("https://") {
            wrong("endpoint begins with `https://`; plain text is for an emulator");
        }
        faults
    }

    /// Most bytes of one request to this server.
    pub(crate) fn request_bytes(&self) -> usize {
        const MARGIN: usize = 64 * 1024;
        const MIB: usize = 1024 * 1024;
        let most = if self.emulator.is_some() { 4 * MIB } else { 10 * MIB };
        self.max_request_bytes.unwrap_or(most - MARGIN)
    }

    /// Whether loads begin slowly.
    pub(crate) fn ramps(&self) -> bool {
        match self.bulk.ramp {
            Ramp::Auto => self.emulator.is_none(),
            Ramp::On => true,
            Ramp::Off => false,
        }
    }
}

fn config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_come_back_from_text() {
        let mut settings = FirestoreSettings::new("p");
        settings.filter_keys.insert(MetaKey::new("topic").unwrap(), FilterKeyType::Text);
        settings.validate().unwrap();
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<FirestoreSettings>(&text).unwrap(), settings);
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        type Case = (&'static str, fn(&mut FirestoreSettings));
        let cases: [Case; 9] = [
            ("project", |s| s.project = "a/b".into()),
            ("database", |s| s.database = "a/b".into()),
            ("prefix", |s| s.prefix = "__x".into()),
            ("prefix", |s| s.prefix = "a/b".into()),
            ("endpoint", |s| s.endpoint = "http://x".into()),
            ("channels", |s| s.channels = 0),
            ("bulk.batch_bytes", |s| s.bulk.batch_bytes = 1),
            ("metadata.topic", |s| {
                s.equals.insert(FieldName(Field::parse("metadata.topic").unwrap()));
            }),
            ("occurred_at", |s| {
                s.equals.insert(FieldName(Field::OccurredAt));
            }),
        ];
        for (part, spoil) in cases {
            let mut settings = FirestoreSettings::new("p");
            spoil(&mut settings);
            let error = settings.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(part), "{part}: {error}");
        }
    }
}
