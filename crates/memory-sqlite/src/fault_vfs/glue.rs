//! The functions that SQLite calls for a [`Disk`](super::Disk): from C to safe Rust and back.
#![expect(
    unsafe_code,
    reason = "SQLite takes a file system and its files as tables of C functions and raw pointers"
)]

use std::ffi::{CStr, c_char, c_int, c_void};

use rusqlite::ffi;

use super::disk::{Code, DiskState, Handle, How};
use super::vfs::{Functions, Vfs};

/// What a disk does by itself.
pub(super) const FUNCTIONS: Functions = Functions {
    file_bytes: |_| size_of::<DiskFile>(),
    open,
    delete: Some(delete),
    access: Some(access),
    full_path: Some(full_path),
};

/// An open file: SQLite's part, and ours behind a pointer that [`close`] frees.
#[repr(C)]
struct DiskFile {
    sqlite: ffi::sqlite3_file,
    handle: *mut Handle,
}

/// The opening behind a file of SQLite.
///
/// # Safety
/// `file` was opened by [`open`] and not closed, and no other call on it is under way: SQLite uses a
/// file from one thread at a time.
unsafe fn handle<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Handle {
    // SAFETY: as the caller says; the pointer came from a box.
    unsafe { &mut *(*file.cast::<DiskFile>()).handle }
}

fn code(answer: Result<(), Code>) -> c_int {
    answer.err().unwrap_or(ffi::SQLITE_OK)
}

/// Writes an answer where SQLite wants it.
///
/// # Safety
/// `out` may be written.
unsafe fn put<T>(out: *mut T, answer: Result<T, Code>) -> c_int {
    match answer {
        Ok(value) => {
            // SAFETY: as the caller says.
            unsafe { out.write(value) };
            ffi::SQLITE_OK
        }
        Err(code) => code,
    }
}

fn size(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

/// A name as SQLite gives it.
///
/// # Safety
/// `name` is null or ends with NUL.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: as the caller says, and it outlives the call that it was given to.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let has = |flag| flags & flag != 0;
    let how = How {
        create: has(ffi::SQLITE_OPEN_CREATE),
        delete_on_close: has(ffi::SQLITE_OPEN_DELETEONCLOSE),
        sync_folder: has(ffi::SQLITE_OPEN_WAL)
            || has(ffi::SQLITE_OPEN_MAIN_JOURNAL)
            || has(ffi::SQLITE_OPEN_SUPER_JOURNAL),
    };
    // SAFETY: SQLite calls this with the table that it was registered with, whose state lives for
    // ever, with as much memory at `file` as the table says, and with a name that ends with NUL.
    unsafe {
        let file = file.cast::<DiskFile>();
        (*file).sqlite.pMethods = std::ptr::null();
        let state: &'static DiskState = &Vfs::<DiskState>::of(vfs).state;
        match state.open(text(name), how) {
            Err(code) => code,
            Ok(handle) => {
                (*file).handle = Box::into_raw(Box::new(handle));
                (*file).sqlite.pMethods = &raw const METHODS;
                if !out.is_null() {
                    out.write(flags);
                }
                ffi::SQLITE_OK
            }
        }
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: as in `open`.
    let (state, name) = unsafe { (&Vfs::<DiskState>::of(vfs).state, text(name)) };
    let Some(name) = name else { return ffi::SQLITE_IOERR };
    code(state.delete(name, sync != 0))
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as in `open`; SQLite gives a place for the answer.
    unsafe {
        let Some(name) = text(name) else { return ffi::SQLITE_IOERR };
        let found = Vfs::<DiskState>::of(vfs).state.size(name);
        // An empty file does not exist to this question, as with the system's own.
        let there = found.map(|size| {
            c_int::from(size.is_some_and(|size| flags != ffi::SQLITE_ACCESS_EXISTS || size > 0))
        });
        put(out, there)
    }
}

unsafe extern "C" fn full_path(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: the name ends with NUL, and `out` has room for as many bytes as SQLite says.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > usize::try_from(room).unwrap_or(0) {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), out.cast::<u8>(), bytes.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the file is open, and SQLite uses it no more.
    unsafe {
        let file = file.cast::<DiskFile>();
        drop(Box::from_raw((*file).handle));
        (*file).sqlite.pMethods = std::ptr::null();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    bytes: c_int,
    at: i64,
) -> c_int {
    // SAFETY: the file is open; SQLite gives room for that many bytes, and does not read them before
    // they are written.
    unsafe {
        let room = usize::try_from(bytes).unwrap_or(0);
        into.cast::<u8>().write_bytes(0, room);
        let into = std::slice::from_raw_parts_mut(into.cast::<u8>(), room);
        code(handle(file).read(into, size(at)))
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    bytes: c_int,
    at: i64,
) -> c_int {
    // SAFETY: the file is open; SQLite gives that many bytes.
    unsafe {
        let bytes = usize::try_from(bytes).unwrap_or(0);
        let from = std::slice::from_raw_parts(from.cast::<u8>(), bytes);
        code(handle(file).write(from, size(at)))
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, bytes: i64) -> c_int {
    // SAFETY: the file is open.
    code(unsafe { handle(file) }.truncate(size(bytes)))
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: the file is open.
    code(unsafe { handle(file) }.sync())
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: the file is open; SQLite gives a place for the answer.
    unsafe { put(out, handle(file).size().map(|size| i64::try_from(size).unwrap_or(i64::MAX))) }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is open.
    code(unsafe { handle(file) }.lock(level))
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is open.
    unsafe { handle(file) }.unlock(level);
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: the file is open; SQLite gives a place for the answer.
    unsafe { put(out, handle(file).is_reserved().map(c_int::from)) }
}

unsafe extern "C" fn control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    // What the system's own file system says, so that SQLite writes here as it does there.
    4_096
}

unsafe extern "C" fn characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    // As the system's own: a write that tears does not harm the bytes beside it.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE | ffi::SQLITE_IOCAP_SUBPAGE_READ
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    let (region, bytes) =
        (usize::try_from(region).unwrap_or(0), usize::try_from(bytes).unwrap_or(0));
    // SAFETY: the file is open; SQLite gives a place for the answer. The region lives until the
    // file is unmapped or closed, and is made of atomics, which may be written through a shared
    // pointer.
    unsafe {
        let found = handle(file).region(region, bytes, extend != 0);
        put(out, found.map(|at| at.map_or(std::ptr::null_mut(), |at| at.cast_mut().cast())))
    }
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    let mask = (first..first + count).filter(|slot| (0..8).contains(slot));
    let mask = mask.fold(0_u8, |mask, slot| mask | (1 << slot));
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        handle.give(mask);
        return ffi::SQLITE_OK;
    }
    code(handle.take(mask, flags & ffi::SQLITE_SHM_EXCLUSIVE != 0))
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: the file is open.
    unsafe { handle(file) }.unmap();
    ffi::SQLITE_OK
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
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
    xFetch: None,
    xUnfetch: None,
};
