//! A layer over the system's files that waits at each sync, and counts.
#![expect(unsafe_code, reason = "SQLite takes a file as a table of C functions and raw pointers")]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memory_core::Result;
use rusqlite::ffi;

use super::vfs::{Functions, Vfs};

/// A file system that is the system's own but for a wait at each sync, with counters.
///
/// The layer itself lives as long as the process. Dropping the handle takes it out of SQLite's list
/// of file systems: no connection can be opened through it any more, and those that are open go on
/// with the delay.
#[derive(Debug)]
pub struct SlowSync {
    vfs: &'static Vfs<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    delay_micros: AtomicU64,
    syncs: AtomicU64,
    log_syncs: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
}

const FUNCTIONS: Functions = Functions {
    file_bytes: |base| size_of::<SlowFile>() + base,
    open,
    delete: None,
    access: None,
    full_path: None,
};

impl SlowSync {
    /// Registers the layer under a name that no file system of the process has; `delay` is added to
    /// each sync of a file, in whole microseconds.
    ///
    /// # Errors
    /// `InvalidInput`: a name with a NUL. `AlreadyExists`: the name is taken. `Unsupported`: SQLite
    /// has no file system here.
    pub fn register(name: &str, delay: Duration) -> Result<Self> {
        let slow = Self { vfs: Vfs::register(name, &FUNCTIONS, Counters::default())? };
        slow.set_delay(delay);
        Ok(slow)
    }

    /// The name to open a store by.
    #[must_use]
    pub fn name(&self) -> &str {
        self.vfs.name()
    }

    /// Every connection of the process that is opened from now on, until the handle is dropped,
    /// goes through the layer unless it names another.
    pub fn make_default(&self) {
        self.vfs.make_default();
    }

    /// Sets the delay of each sync, of open files too.
    pub fn set_delay(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.vfs.state.delay_micros.store(micros, Ordering::Relaxed);
    }

    /// Syncs of files so far: of write-ahead logs, and of the files themselves at checkpoints.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.vfs.state.syncs.load(Ordering::Relaxed)
    }

    /// Those of them that were of a write-ahead log: one for each commit under
    /// `synchronous = FULL`, one for each checkpoint, and one for each log that is begun anew.
    #[must_use]
    pub fn log_syncs(&self) -> u64 {
        self.vfs.state.log_syncs.load(Ordering::Relaxed)
    }

    /// Writes to files so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.vfs.state.writes.load(Ordering::Relaxed)
    }

    /// Bytes of those writes.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.vfs.state.written_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for SlowSync {
    fn drop(&mut self) {
        self.vfs.unregister();
    }
}

/// An open file: SQLite's part, ours, and the system's file behind it in the same memory.
#[repr(C)]
struct SlowFile {
    sqlite: ffi::sqlite3_file,
    counters: *const Counters,
    log: bool,
}

/// The system's file behind one of ours, and its functions.
///
/// # Safety
/// `file` was opened by [`open`] and not closed.
unsafe fn behind(
    file: *mut ffi::sqlite3_file,
) -> (*mut ffi::sqlite3_file, &'static ffi::sqlite3_io_methods) {
    // SAFETY: SQLite reserved `szOsFile` bytes, which are ours and then the system's; a file that
    // is open has its table, which the system never frees.
    unsafe {
        let real = file.cast::<SlowFile>().add(1).cast::<ffi::sqlite3_file>();
        (real, &*(*real).pMethods)
    }
}

/// The counters of an open file.
///
/// # Safety
/// `file` was opened by [`open`] and not closed.
unsafe fn counters(file: *mut ffi::sqlite3_file) -> &'static Counters {
    // SAFETY: as the caller says; the counters are never freed.
    unsafe { &*(*file.cast::<SlowFile>()).counters }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls this with the table that it was registered with, and with as much memory
    // at `file` as the table says; the path goes on as SQLite made it, for the system reads beyond
    // its NUL.
    unsafe {
        let whole = Vfs::<Counters>::of(vfs);
        let ours = file.cast::<SlowFile>();
        (*ours).sqlite.pMethods = std::ptr::null();
        let real = ours.add(1).cast::<ffi::sqlite3_file>();
        (*real).pMethods = std::ptr::null();
        let Some(open) = (*whole.base()).xOpen else { return ffi::SQLITE_CANTOPEN };
        let code = open(whole.base(), path, real, flags, out);
        // The system may leave a table behind a failure, so that it is closed.
        if (*real).pMethods.is_null() {
            return code;
        }
        (*ours).counters = &raw const whole.state;
        (*ours).log = flags & ffi::SQLITE_OPEN_WAL != 0;
        let methods = &*(*real).pMethods;
        (*ours).sqlite.pMethods = match methods.iVersion {
            ..=1 => &METHODS_1,
            _ if methods.xShmMap.is_none() => &METHODS_1,
            2 => &METHODS_2,
            _ => &METHODS_3,
        };
        code
    }
}

/// Calls the system's function of a file.
macro_rules! forward {
    ($file:expr, $function:ident, $missing:expr $(, $argument:expr)*) => {{
        // SAFETY: SQLite calls the functions of a file only while it is open, with the arguments
        // that the system's function takes.
        unsafe {
            let (real, methods) = behind($file);
            match methods.$function {
                Some(function) => function(real $(, $argument)*),
                None => $missing,
            }
        }
    }};
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    forward!(file, xClose, ffi::SQLITE_OK)
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    bytes: c_int,
    at: i64,
) -> c_int {
    forward!(file, xRead, ffi::SQLITE_IOERR, into, bytes, at)
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    bytes: c_int,
    at: i64,
) -> c_int {
    // SAFETY: the file is open.
    let counters = unsafe { counters(file) };
    counters.writes.fetch_add(1, Ordering::Relaxed);
    counters.written_bytes.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    forward!(file, xWrite, ffi::SQLITE_IOERR, from, bytes, at)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, bytes: i64) -> c_int {
    forward!(file, xTruncate, ffi::SQLITE_IOERR, bytes)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the file is open.
    let (counters, log) = unsafe { (counters(file), (*file.cast::<SlowFile>()).log) };
    counters.syncs.fetch_add(1, Ordering::Relaxed);
    counters.log_syncs.fetch_add(u64::from(log), Ordering::Relaxed);
    let delay = counters.delay_micros.load(Ordering::Relaxed);
    if delay > 0 {
        std::thread::sleep(Duration::from_micros(delay));
    }
    forward!(file, xSync, ffi::SQLITE_IOERR, flags)
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    forward!(file, xFileSize, ffi::SQLITE_IOERR, out)
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    forward!(file, xLock, ffi::SQLITE_IOERR, level)
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    forward!(file, xUnlock, ffi::SQLITE_IOERR, level)
}

unsafe extern "C" fn check_reserved(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    forward!(file, xCheckReservedLock, ffi::SQLITE_IOERR, out)
}

unsafe extern "C" fn control(file: *mut ffi::sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    forward!(file, xFileControl, ffi::SQLITE_NOTFOUND, op, arg)
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    forward!(file, xSectorSize, 0)
}

unsafe extern "C" fn characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    forward!(file, xDeviceCharacteristics, 0)
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    forward!(file, xShmMap, ffi::SQLITE_IOERR, region, bytes, extend, out)
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    forward!(file, xShmLock, ffi::SQLITE_IOERR, first, count, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    forward!(file, xShmBarrier, ());
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    forward!(file, xShmUnmap, ffi::SQLITE_OK, delete)
}

unsafe extern "C" fn fetch(
    file: *mut ffi::sqlite3_file,
    at: i64,
    bytes: c_int,
    out: *mut *mut c_void,
) -> c_int {
    forward!(file, xFetch, ffi::SQLITE_OK, at, bytes, out)
}

unsafe extern "C" fn unfetch(file: *mut ffi::sqlite3_file, at: i64, page: *mut c_void) -> c_int {
    forward!(file, xUnfetch, ffi::SQLITE_OK, at, page)
}

static METHODS_3: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};

/// Without pages that are mapped.
static METHODS_2: ffi::sqlite3_io_methods =
    ffi::sqlite3_io_methods { iVersion: 2, xFetch: None, xUnfetch: None, ..METHODS_3 };

/// Without shared memory either.
static METHODS_1: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    ..METHODS_2
};
