//! The settings of the store: data, with every default and its reason.

use std::collections::BTreeMap;
use std::path::PathBuf;

use memory_core::{Error, ErrorKind, MetaKey, Result};
use memory_text::Language;
use serde::{Deserialize, Serialize};

use crate::url::{RedisUrl, host_and_port};

/// How Redis is reached and what the store declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisSettings {
    /// Where it is, as whom, and with what secret: `redis://USER:PASSWORD@HOST:PORT/DATABASE`,
    /// `rediss://` with TLS.
    pub url: RedisUrl,
    /// A file with the certificates of the authorities that a server with TLS is believed by, in PEM;
    /// these and no others. Without it, the public ones that come along. A server of one's own
    /// network mostly needs it.
    pub ca_file: Option<PathBuf>,
    /// More nodes of the same cluster, `HOST:PORT` each, to find it when the first is away.
    pub nodes: Vec<String>,
    /// Whether it is a cluster.
    pub cluster: bool,
    /// What every key begins with: 1 to 64 letters, digits, `_` and `-`. Several stores can share a
    /// server by it.
    pub prefix: String,
    /// Longest wait for a connection, in milliseconds: 10 to 60,000. 1,000: a server of the same
    /// network that does not answer by then does not.
    pub connect_timeout_ms: u64,
    /// Longest wait for an answer, in milliseconds: 10 to 300,000. 5,000: a commit of the largest
    /// size takes some hundred. A call's own deadline cuts it shorter.
    pub response_timeout_ms: u64,
    /// Longest pause between two attempts at a connection, in milliseconds: 10 to 60,000. 1,000:
    /// calls fail meanwhile, and a server that is back should be found soon.
    pub reconnect_pause_ms: u64,
    /// The metadata keys that filters may name, and what they hold: at most 100.
    pub filter_keys: BTreeMap<MetaKey, FilterKeyType>,
    /// Whether the query engine is used.
    pub search: SearchMode,
    /// Language of the stemmer and the stop words, as an ISO 639-1 code, or `none`. A change makes
    /// each tenant's words anew when the tenant is next written to or searched.
    pub language: String,
    /// How vectors are indexed.
    pub vectors: VectorSettings,
    /// Entries of the change log that are kept when every consumer has read them: 1 to 1,000,000.
    pub change_log_keep: u32,
    /// Memories of one step of an erasure: 1 to 1,000. 250: a script keeps the server to itself, and
    /// so many take it a few milliseconds.
    pub erase_batch: u32,
    /// Whether a server that may evict keys is taken for a store of record: memories could vanish.
    pub allow_eviction: bool,
    /// Tenants whose state is remembered: 1 to 1,000,000. 10,000: some 200 bytes each.
    pub tenant_cache: u32,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: RedisUrl::default(),
            ca_file: None,
            nodes: Vec::new(),
            cluster: false,
            prefix: "om".to_owned(),
            connect_timeout_ms: 1_000,
            response_timeout_ms: 5_000,
            reconnect_pause_ms: 1_000,
            filter_keys: BTreeMap::new(),
            search: SearchMode::Auto,
            language: "en".to_owned(),
            vectors: VectorSettings::default(),
            change_log_keep: 10_000,
            erase_batch: 250,
            allow_eviction: false,
            tenant_cache: 10_000,
        }
    }
}

impl RedisSettings {
    /// All that is wrong with the values, one sentence each; empty when nothing is.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if !(1..=64).contains(&self.prefix.len()) || !self.prefix.chars().all(plain) {
            faults.push("prefix has 1 to 64 letters, digits, `_` and `-`".to_owned());
        }
        if self.cluster && self.url.database() != 0 {
            faults.push("url names a database, and a cluster has only database 0".to_owned());
        }
        if self.ca_file.is_some() && !self.url.is_tls() {
            faults.push("ca_file is of TLS, and url is not: `rediss://`".to_owned());
        }
        if !self.cluster && !self.nodes.is_empty() {
            faults.push("nodes are those of a cluster, and cluster is off".to_owned());
        }
        for (number, node) in (1..).zip(&self.nodes) {
            if let Err(fault) = host_and_port(node) {
                faults.push(format!("nodes are HOST:PORT each; of number {number}, {fault}"));
            }
        }
        if self.language.parse::<Language>().is_err() {
            faults.push("language is not one of the known codes, nor `none`".to_owned());
        }
        let mut within = |name: &str, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                faults.push(format!("{name} lies in {low} to {high}; this is {value}"));
            }
        };
        within("nodes", self.nodes.len() as u64, 0, 1_000);
        within("connect_timeout_ms", self.connect_timeout_ms, 10, 60_000);
        within("response_timeout_ms", self.response_timeout_ms, 10, 300_000);
        within("reconnect_pause_ms", self.reconnect_pause_ms, 10, 60_000);
        within("filter_keys", self.filter_keys.len() as u64, 0, MOST_FILTER_KEYS);
        within("change_log_keep", self.change_log_keep.into(), 1, 1_000_000);
        within("erase_batch", self.erase_batch.into(), 1, 1_000);
        within("tenant_cache", self.tenant_cache.into(), 1, 1_000_000);
        within("vectors.flat_up_to", self.vectors.flat_up_to, 0, 10_000_000);
        within("vectors.m", self.vectors.m.into(), 4, 128);
        within("vectors.ef_construction", self.vectors.ef_construction.into(), 8, 4_096);
        within("vectors.ef_runtime", self.vectors.ef_runtime.into(), 8, 4_096);
        faults
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
        Err(Error::new(ErrorKind::Config, faults.join("; ")))
    }
}

/// Most declared metadata keys: each is a field of an index, of which the query engine takes 1,024,
/// and some are the store's own.
const MOST_FILTER_KEYS: u64 = 100;

/// What a declared metadata key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterKeyType {
    /// Integers and floats.
    Number,
    /// Texts.
    Text,
    /// `true` and `false`.
    Bool,
    /// Lists of texts.
    List,
}

/// Whether the query engine is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchMode {
    /// Where the server has it; elsewhere searches are `Unsupported`.
    Auto,
    /// Opening fails where the server does not have it.
    Required,
    /// Never: memories are not indexed, and searches are `Unsupported`.
    Off,
}

/// How vectors are indexed. The query engine's own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VectorSettings {
    /// Up to so many memories of a tenant every vector is compared (FLAT, exact); above it a graph
    /// is made (HNSW): 0 to 10,000,000.
    pub flat_up_to: u64,
    /// Neighbours of each node of the graph: 4 to 128.
    pub m: u32,
    /// Candidates looked at when a node is added: 8 to 4,096.
    pub ef_construction: u32,
    /// Candidates looked at by a search: 8 to 4,096.
    pub ef_runtime: u32,
}

impl Default for VectorSettings {
    fn default() -> Self {
        Self { flat_up_to: 10_000, m: 16, ef_construction: 200, ef_runtime: 200 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_come_back_from_text() {
        let settings = RedisSettings::default();
        assert_eq!(settings.faults(), Vec::<String>::new());
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<RedisSettings>(&text).unwrap(), settings);
        assert!(serde_json::from_str::<RedisSettings>(r#"{"unknown": 1}"#).is_err());
    }

    #[test]
    fn every_bound_is_checked_and_all_faults_are_named_at_once() {
        type Change = fn(&mut RedisSettings);
        let changes: [(&str, Change); 17] = [
            ("prefix", |s| s.prefix = String::new()),
            ("prefix", |s| s.prefix = "x".repeat(65)),
            ("prefix", |s| s.prefix = "a:b".to_owned()),
            ("url names a database", |s| {
                s.cluster = true;
                s.url = "redis://h/1".parse().unwrap();
            }),
            ("nodes are those of a cluster", |s| s.nodes = vec!["h:1".to_owned()]),
            ("number 2", |s| {
                s.cluster = true;
                s.nodes = vec!["h:1".to_owned(), "h:x".to_owned()];
            }),
            ("language", |s| s.language = "xx".to_owned()),
            ("connect_timeout_ms", |s| s.connect_timeout_ms = 9),
            ("response_timeout_ms", |s| s.response_timeout_ms = 300_001),
            ("reconnect_pause_ms", |s| s.reconnect_pause_ms = 0),
            ("change_log_keep", |s| s.change_log_keep = 0),
            ("erase_batch", |s| s.erase_batch = 1_001),
            ("tenant_cache", |s| s.tenant_cache = 0),
            ("vectors.flat_up_to", |s| s.vectors.flat_up_to = 10_000_001),
            ("vectors.m", |s| s.vectors.m = 3),
            ("vectors.ef_construction", |s| s.vectors.ef_construction = 7),
            ("vectors.ef_runtime", |s| s.vectors.ef_runtime = 4_097),
        ];
        for (part, change) in changes {
            let mut settings = RedisSettings::default();
            change(&mut settings);
            let faults = settings.faults();
            assert!(faults.len() == 1 && faults[0].contains(part), "{part}: {faults:?}");
            assert_eq!(settings.validate().unwrap_err().kind(), ErrorKind::Config);
        }
        let mut settings = RedisSettings::default();
        settings.vectors.m = 0;
        settings.erase_batch = 0;
        settings.language.clear();
        assert_eq!(settings.faults().len(), 3);
    }
}
