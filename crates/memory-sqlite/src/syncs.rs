//! The write-ahead log as the writer sees it: how long it is, when it is folded into the file, and
//! how many syncs that and the commits have taken.
//!
//! SQLite tells after each commit how many pages the log has. From that, and from what each folding
//! answers, follows where SQLite syncs: once for a commit under `FULL`; once more for a log that is
//! begun anew; and, where a folding has something to fold, once for the log before it and once for
//! the file after it, if nothing is left over.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use memory_core::Result;
use rusqlite::Connection;

use crate::error::map;
use crate::open::plain_path;
use crate::settings::{SqliteSettings, Synchronous};

/// Pages of log after which it is folded into the file: SQLite's own default, 4 MiB.
const FOLD_PAGES: i64 = 1_000;

/// What the writer has to know of the log.
pub(crate) struct LogSettings {
    synchronous: Synchronous,
    fold_pages: i64,
    /// Where the log is; `None` in memory.
    path: Option<PathBuf>,
}

impl LogSettings {
    pub(crate) fn of(settings: &SqliteSettings) -> Self {
        #[cfg(feature = "fault-vfs")]
        let fold_pages = settings.log_pages.map_or(FOLD_PAGES, i64::from);
        #[cfg(not(feature = "fault-vfs"))]
        let fold_pages = FOLD_PAGES;
        let path = (!settings.is_in_memory()).then(|| {
            let mut path = plain_path(&settings.path).into_os_string();
            path.push("-wal");
            PathBuf::from(path)
        });
        Self { synchronous: settings.synchronous, fold_pages, path }
    }
}

/// The log of the writer's connection.
pub(crate) struct Log {
    settings: LogSettings,
    /// Pages of the log after the last commit of this connection; 0 since it was last looked at.
    told: Arc<AtomicI64>,
    /// Pages of it when it was last looked at.
    pages: i64,
    /// Pages of it that are in the file.
    folded: i64,
    /// Its number when all of it was folded.
    number: Option<[u8; 4]>,
}

impl Log {
    /// Follows the log of a connection. From now on SQLite does not fold it by itself.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn of(connection: &mut Connection, settings: LogSettings) -> Result<Self> {
        let told = Arc::new(AtomicI64::new(0));
        let tell = Arc::clone(&told);
        connection
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
                tell.store(i64::from(pages), Ordering::Relaxed);
                Ok(())
            }))
            .map_err(map)?;
        let mut log = Self { settings, told, pages: 0, folded: 0, number: None };
        log.look();
        Ok(log)
    }

    /// Looks at the file of the log, after what may have emptied it: the next commit begins it anew
    /// where it has nothing.
    pub(crate) fn look(&mut self) {
        self.told.store(0, Ordering::Relaxed);
        let path = self.settings.path.as_ref();
        let bytes = path.and_then(|path| std::fs::metadata(path).ok()).map_or(0, |log| log.len());
        // How many there are the next commit tells.
        self.pages = i64::from(bytes > 0);
        self.folded = 0;
        self.number = None;
    }

    /// The number of the log, which grows when it is begun anew: bytes 12 to 15 of its file.
    fn read_number(&self) -> Option<[u8; 4]> {
        let mut head = [0; 16];
        File::open(self.settings.path.as_ref()?)
            .and_then(|mut log| log.read_exact(&mut head))
            .ok()?;
        head.last_chunk().copied()
    }

    /// The syncs that the last commit has taken.
    pub(crate) fn committed(&mut self) -> u64 {
        let pages = self.told.swap(0, Ordering::Relaxed);
        if pages == 0 {
            return 0;
        }
        // All of it was folded, so it may have been: unless a reader was still at its end.
        let maybe = self.folded == self.pages;
        let anew = pages <= self.pages
            || maybe && (self.number.is_none() || self.read_number() != self.number);
        self.pages = pages;
        if anew {
            self.folded = 0;
        }
        match self.settings.synchronous {
            Synchronous::Full => 1 + u64::from(anew),
            Synchronous::Normal => u64::from(anew),
            Synchronous::Off => 0,
        }
    }

    /// Folds the log into the file where it is long enough, and says how many syncs that took. A
    /// reader that needs old pages leaves some of them for the next time.
    pub(crate) fn fold(&mut self, connection: &Connection) -> u64 {
        if self.pages < self.settings.fold_pages || self.folded == self.pages {
            return 0;
        }
        let folded =
            connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)").and_then(|mut fold| {
                fold.query_row([], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
            });
        // What cannot be folded stays in the log, which is as good, and the next commit tries again.
        let Ok((pages, folded)) = folded else { return 0 };
        let (some, all) = (folded > self.folded, folded == pages);
        (self.pages, self.folded) = (pages, folded);
        self.number = if all { self.read_number() } else { None };
        match self.settings.synchronous {
            Synchronous::Off => 0,
            Synchronous::Full | Synchronous::Normal => u64::from(some) + u64::from(some && all),
        }
    }
}
