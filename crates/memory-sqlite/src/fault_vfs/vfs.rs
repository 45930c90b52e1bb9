//! What the file systems of this folder share: registering with SQLite, and what is left to the
//! system's own file system (time, sleep, randomness, libraries).
#![expect(
    unsafe_code,
    reason = "SQLite takes a file system as a table of C functions and raw pointers"
)]

use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use memory_core::{Error, ErrorKind, Result};
use rusqlite::ffi;

use crate::BACKEND;

/// A file system as SQLite sees it, and what stands behind it.
///
/// `repr(C)` with the table first: SQLite hands the table's address back, and that is the address
/// of the whole.
#[repr(C)]
pub(super) struct Vfs<T> {
    /// In a cell, for SQLite writes the link to the next table into it.
    table: UnsafeCell<ffi::sqlite3_vfs>,
    /// The system's own. Lives as long as the process.
    base: *mut ffi::sqlite3_vfs,
    name: CString,
    /// What the functions of the table work on.
    pub(super) state: T,
}

// SAFETY: nothing here touches the table after the registration but SQLite, which guards the link to
// the next table by a mutex of its own; `base` belongs to the process and is called from any thread;
// `T` is asked for both.
unsafe impl<T: Send + Sync> Send for Vfs<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Vfs<T> {}

impl<T> std::fmt::Debug for Vfs<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vfs").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a file system does by itself; the rest is the system's.
pub(super) struct Functions {
    /// Bytes of one open file, for those of the system `base` below.
    pub(super) file_bytes: fn(base: usize) -> usize,
    pub(super) open: unsafe extern "C" fn(
        *mut ffi::sqlite3_vfs,
        ffi::sqlite3_filename,
        *mut ffi::sqlite3_file,
        c_int,
        *mut c_int,
    ) -> c_int,
    /// `None`: the system's own, as with the next two.
    pub(super) delete:
        Option<unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *const c_char, c_int) -> c_int>,
    pub(super) access: Option<
        unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *const c_char, c_int, *mut c_int) -> c_int,
    >,
    pub(super) full_path: Option<
        unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *const c_char, c_int, *mut c_char) -> c_int,
    >,
}

impl<T> Vfs<T> {
    /// Registers a file system under a name of its own. It is never freed, for SQLite may hold it
    /// as long as a connection is open; tests and benches make few.
    ///
    /// # Errors
    /// `InvalidInput`: a name with a NUL. `AlreadyExists`: the name is taken. `Unsupported`: SQLite
    /// has no file system of its own, or refuses another.
    pub(super) fn register(name: &str, functions: &Functions, state: T) -> Result<&'static Self> {
        let refuse = |kind, words: &str| Err(Error::new(kind, words).with_backend(BACKEND));
        let Ok(name) = CString::new(name) else {
            return refuse(ErrorKind::InvalidInput, "the name of a file system has no NUL");
        };
        // SAFETY: no arguments but NUL-terminated strings; SQLite locks its own list.
        let (ready, base, taken) = unsafe {
            let ready = ffi::sqlite3_initialize();
            let base = ffi::sqlite3_vfs_find(ptr::null());
            (ready, base, ffi::sqlite3_vfs_find(name.as_ptr()))
        };
        if ready != ffi::SQLITE_OK || base.is_null() {
            return refuse(ErrorKind::Unsupported, "SQLite has no file system here");
        }
        if !taken.is_null() {
            return refuse(ErrorKind::AlreadyExists, "a file system of that name is registered");
        }
        // SAFETY: `base` was just given by SQLite and is not null; its fields do not change.
        let (size, path) = unsafe { ((*base).szOsFile, (*base).mxPathname) };
        let bytes = (functions.file_bytes)(usize::try_from(size).unwrap_or(0));
        let vfs = Box::leak(Box::new(Self {
            table: UnsafeCell::new(ffi::sqlite3_vfs {
                iVersion: 2,
                szOsFile: c_int::try_from(bytes).unwrap_or(c_int::MAX),
                mxPathname: path,
                pNext: ptr::null_mut(),
                zName: ptr::null(),
                pAppData: ptr::null_mut(),
                xOpen: Some(functions.open),
                xDelete: Some(functions.delete.unwrap_or(delete)),
                xAccess: Some(functions.access.unwrap_or(access)),
                xFullPathname: Some(functions.full_path.unwrap_or(full_path)),
                xDlOpen: Some(dl_open),
                xDlError: Some(dl_error),
                xDlSym: Some(dl_sym),
                xDlClose: Some(dl_close),
                xRandomness: Some(randomness),
                xSleep: Some(sleep),
                xCurrentTime: Some(current_time),
                xGetLastError: Some(last_error),
                xCurrentTimeInt64: Some(current_time_int64),
                xSetSystemCall: None,
                xGetSystemCall: None,
                xNextSystemCall: None,
            }),
            base,
            name,
            state,
        }));
        vfs.table.get_mut().zName = vfs.name.as_ptr();
        let vfs: &'static Self = vfs;
        // SAFETY: the table lives for ever and every function in it is there.
        if unsafe { ffi::sqlite3_vfs_register(vfs.table_of(), 0) } == ffi::SQLITE_OK {
            Ok(vfs)
        } else {
            refuse(ErrorKind::Unsupported, "SQLite refused the file system")
        }
    }

    fn table_of(&self) -> *mut ffi::sqlite3_vfs {
        // Of the whole and not of the field, for `of` goes the way back.
        ptr::from_ref(self).cast_mut().cast()
    }

    /// The name to open it by.
    pub(super) fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    /// Takes every connection that is opened by no name from now on.
    pub(super) fn make_default(&'static self) {
        // SAFETY: the table lives for ever; registering it again moves it to the front.
        unsafe { ffi::sqlite3_vfs_register(self.table_of(), 1) };
    }

    /// Takes no new connection; those that are open go on.
    pub(super) fn unregister(&'static self) {
        // SAFETY: the table was registered and lives for ever.
        unsafe { ffi::sqlite3_vfs_unregister(self.table_of()) };
    }

    /// The whole from what SQLite hands to a function of the table.
    ///
    /// # Safety
    /// `table` is that of a `Vfs<T>` with the same `T`.
    pub(super) unsafe fn of<'a>(table: *mut ffi::sqlite3_vfs) -> &'a Self {
        // SAFETY: `repr(C)`, the table is the first field, and nothing of it is ever freed.
        unsafe { &*table.cast::<Self>() }
    }

    /// The system's own file system.
    pub(super) fn base(&self) -> *mut ffi::sqlite3_vfs {
        self.base
    }
}

/// The system's file system and one function of it, from a table of this module.
macro_rules! below {
    ($table:expr, $function:ident, $missing:expr $(, $argument:expr)*) => {{
        // SAFETY: `Vfs<T>` begins alike for every `T`, so that `base` is found without knowing it;
        // the function is called with the arguments that SQLite gave for it.
        unsafe {
            let base = (*$table.cast::<Vfs<()>>()).base;
            match (*base).$function {
                Some(function) => function(base $(, $argument)*),
                None => $missing,
            }
        }
    }};
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, path: *const c_char, sync: c_int) -> c_int {
    below!(vfs, xDelete, ffi::SQLITE_IOERR, path, sync)
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    flags: c_int,
    answer: *mut c_int,
) -> c_int {
    below!(vfs, xAccess, ffi::SQLITE_IOERR, path, flags, answer)
}

unsafe extern "C" fn full_path(
    vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    bytes: c_int,
    out: *mut c_char,
) -> c_int {
    below!(vfs, xFullPathname, ffi::SQLITE_CANTOPEN, path, bytes, out)
}

unsafe extern "C" fn dl_open(vfs: *mut ffi::sqlite3_vfs, path: *const c_char) -> *mut c_void {
    below!(vfs, xDlOpen, ptr::null_mut(), path)
}

unsafe extern "C" fn dl_error(vfs: *mut ffi::sqlite3_vfs, bytes: c_int, out: *mut c_char) {
    below!(vfs, xDlError, (), bytes, out)
}

unsafe extern "C" fn dl_sym(
    vfs: *mut ffi::sqlite3_vfs,
    library: *mut c_void,
    symbol: *const c_char,
) -> Option<unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *mut c_void, *const c_char)> {
    below!(vfs, xDlSym, None, library, symbol)
}

unsafe extern "C" fn dl_close(vfs: *mut ffi::sqlite3_vfs, library: *mut c_void) {
    below!(vfs, xDlClose, (), library)
}

unsafe extern "C" fn randomness(
    vfs: *mut ffi::sqlite3_vfs,
    bytes: c_int,
    out: *mut c_char,
) -> c_int {
    below!(vfs, xRandomness, 0, bytes, out)
}

unsafe extern "C" fn sleep(vfs: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    below!(vfs, xSleep, 0, micros)
}

unsafe extern "C" fn current_time(vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    below!(vfs, xCurrentTime, ffi::SQLITE_ERROR, out)
}

unsafe extern "C" fn current_time_int64(vfs: *mut ffi::sqlite3_vfs, out: *mut i64) -> c_int {
    below!(vfs, xCurrentTimeInt64, ffi::SQLITE_ERROR, out)
}

unsafe extern "C" fn last_error(
    vfs: *mut ffi::sqlite3_vfs,
    bytes: c_int,
    out: *mut c_char,
) -> c_int {
    below!(vfs, xGetLastError, 0, bytes, out)
}
