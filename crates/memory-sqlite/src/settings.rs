//! Every bound of the store, with its default and the reason for it.

use std::path::PathBuf;

use memory_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// When SQLite waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Synchronous {
    /// `FULL`: an acknowledged commit survives a loss of power. The default.
    Full,
    /// `NORMAL`: it survives the end of the process; the last commits may be lost with the power.
    Normal,
    /// `OFF`: a loss of power may corrupt the file. For data that can be made again.
    Off,
}

/// Settings of one SQLite file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SqliteSettings {
    /// The file. Its folder must exist. Empty: a store in memory that ends with its handle.
    pub path: PathBuf,
    /// Opens an existing file for reading only.
    pub read_only: bool,
    /// When SQLite waits for the disk.
    pub synchronous: Synchronous,
    /// Threads that read, each with its connection. 4: reads of a small machine's cores, while
    /// each further one costs a page cache.
    pub readers: u32,
    /// Reads that may wait for a thread; one more is refused as `Overloaded`. 256: what four
    /// threads answer in some ten milliseconds.
    pub read_queue: u32,
    /// Writes that may wait for the writer. 1,024: four groups.
    pub write_queue: u32,
    /// Most commits that share one sync. 256: beyond it the wait for the group outweighs the sync.
    pub group_commits: u32,
    /// How long to wait for another process's lock, in milliseconds. 5,000.
    pub busy_timeout_ms: u32,
    /// Page cache of each connection, in KiB. 16,384.
    pub cache_kib: u32,
    /// Largest size of the file in bytes; 0 for no bound but the disk. A write beyond it fails as
    /// on a full disk.
    pub max_bytes: u64,
    /// Memory for the derived indexes of all tenants, in bytes. 512 MiB: about 200,000 memories with
    /// vectors of 384 dimensions; a tenant that is not in use makes room.
    pub index_bytes: u64,
    /// Keeps the f32 vectors in memory beside their int8 copies. On: the rows that the int8 scan
    /// cannot tell apart are compared at once, for four more bytes a dimension. Off: they are read
    /// from the file, some microseconds each.
    pub vectors_in_memory: bool,
    /// Entries of the change log kept for each tenant when no consumer holds them back. 10,000: a
    /// second process that falls further behind loads its index anew, which costs less.
    pub change_log_keep: u32,
    /// Items removed by one step of an erasure. 500: about 20 ms of the writer.
    pub erase_batch: u32,
    /// Whether an erasure ends with a rewriting of the whole file (`VACUUM`), for only that removes
    /// the last traces of what was deleted. On: it takes about as long as copying the file. Off:
    /// receipts say that the bytes are not cleared.
    pub erase_rewrites: bool,
    /// Language of the stemmer and the stop words, as an ISO 639-1 code, or `none`. A change
    /// rebuilds the keyword index when the store is opened.
    pub language: String,
    /// The virtual file system to open the file by, of those that are registered with SQLite.
    #[cfg(feature = "fault-vfs")]
    #[doc(hidden)]
    #[serde(skip)]
    pub vfs: Option<String>,
    /// Pages of the write-ahead log after which a commit folds it in; SQLite's default otherwise.
    #[cfg(feature = "fault-vfs")]
    #[doc(hidden)]
    #[serde(skip)]
    pub log_pages: Option<u32>,
}

impl Default for SqliteSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            read_only: false,
            synchronous: Synchronous::Full,
            readers: 4,
            read_queue: 256,
            write_queue: 1_024,
            group_commits: 256,
            busy_timeout_ms: 5_000,
            cache_kib: 16_384,
            max_bytes: 0,
            index_bytes: 512 * 1024 * 1024,
            vectors_in_memory: true,
            change_log_keep: 10_000,
            erase_batch: 500,
            erase_rewrites: true,
            language: "en".to_owned(),
            #[cfg(feature = "fault-vfs")]
            vfs: None,
            #[cfg(feature = "fault-vfs")]
            log_pages: None,
        }
    }
}

impl SqliteSettings {
    /// A file with default bounds.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// A store in memory that ends with its handle. For tests and trials.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Opens the file by a virtual file system that is registered with SQLite.
    #[cfg(feature = "fault-vfs")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_vfs(mut self, name: impl Into<String>) -> Self {
        self.vfs = Some(name.into());
        self
    }

    /// Folds the write-ahead log in after so many pages.
    #[cfg(feature = "fault-vfs")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_log_pages(mut self, pages: u32) -> Self {
        self.log_pages = Some(pages);
        self
    }

    /// Whether the store lives in memory.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.path.as_os_str().is_empty()
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
        Err(Error::new(memory_core::ErrorKind::Config, faults.join("; "))
            .with_backend(crate::BACKEND))
    }

    /// All that is out of its bounds, one sentence each, beginning with the setting.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |name: &str, value: u32, low: u32, high: u32| {
            if !(low..=high).contains(&value) {
                faults.push(format!("{name} lies in {low}..={high}, not {value}"));
            }
        };
        within("readers", self.readers, 1, 64);
        within("read_queue", self.read_queue, 1, 100_000);
        within("write_queue", self.write_queue, 1, 100_000);
        within("group_commits", self.group_commits, 1, 10_000);
        within("busy_timeout_ms", self.busy_timeout_ms, 0, 600_000);
        within("cache_kib", self.cache_kib, 64, 4_000_000);
        within("change_log_keep", self.change_log_keep, 1, 100_000_000);
        within("erase_batch", self.erase_batch, 1, 10_000);
        if self.language.parse::<memory_text::Language>().is_err() {
            faults.push("language is not one of the known codes".to_owned());
        }
        if self.read_only && self.is_in_memory() {
            faults
                .push("read_only is for a file: a store in memory cannot be read only".to_owned());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_named_at_once() {
        assert!(SqliteSettings::default().validate().is_ok());
        let settings = SqliteSettings {
            readers: 0,
            group_commits: 0,
            language: "xx-nope".into(),
            ..SqliteSettings::default()
        };
        let error = settings.validate().unwrap_err();
        for name in ["readers", "group_commits", "language"] {
            assert!(error.message().contains(name), "{error}");
        }
    }
}
