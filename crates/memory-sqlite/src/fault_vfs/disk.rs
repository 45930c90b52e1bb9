//! A disk in memory that knows of each byte whether it was synced, and loses its power on demand.
//!
//! Names are synced apart from contents, as on a real file system: a file that was made, or deleted,
//! may be so or not after a loss of power until the folder was synced. As the system's own file
//! system of SQLite does, the first sync of a log or journal syncs the folder too.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use memory_core::Result;
use rusqlite::ffi;

use super::glue;
use super::image::{self, Change, Dice, Fates, Mood};
use super::vfs::Vfs;

/// What a function of a file answers on failure: a result code of SQLite.
pub(super) type Code = i32;

/// A disk, registered with SQLite under a name. All its files lie in one folder.
///
/// Its contents end with the process. Dropping the handle takes it out of SQLite's list of file
/// systems.
#[derive(Debug)]
pub struct Disk {
    vfs: &'static Vfs<DiskState>,
}

/// The state behind the functions that SQLite calls.
#[derive(Debug)]
pub(super) struct DiskState(Mutex<Files>);

#[derive(Debug)]
struct Files {
    nodes: BTreeMap<u64, Node>,
    /// What each name leads to, now and after a loss of power, and the changes between the two.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<(String, Option<u64>)>,
    /// The last number given to a file or to an opening of one.
    last: u64,
    /// Grows with each loss of power; what was opened before is dead.
    generation: u64,
    off: bool,
    cut_at: Option<u64>,
    operations: u64,
    syncs: u64,
    /// Whether syncs are confirmed and not done.
    lying: bool,
    dice: Dice,
}

/// A file, whatever its name is.
#[derive(Debug, Default)]
struct Node {
    now: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
    locks: BTreeMap<u64, i32>,
    shared: Weak<Shared>,
}

/// The memory that the connections of one file share, and its locks.
#[derive(Debug, Default)]
struct Shared {
    /// Of atomics, for connections write into it from several threads.
    regions: Mutex<Vec<Box<[AtomicU64]>>>,
    /// For each lock: -1 for one exclusive holder, else how many share it.
    locks: Mutex<[i32; 8]>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// Registers an empty disk under a name that no file system of the process has. `seed` decides
    /// what survives losses of power.
    ///
    /// # Errors
    /// `InvalidInput`: a name with a NUL. `AlreadyExists`: the name is taken. `Unsupported`: SQLite
    /// has no file system here.
    pub fn register(name: &str, seed: u64) -> Result<Self> {
        let files = Files {
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            last: 0,
            generation: 0,
            off: false,
            cut_at: None,
            operations: 0,
            syncs: 0,
            lying: false,
            dice: Dice::new(seed),
        };
        Ok(Self { vfs: Vfs::register(name, &glue::FUNCTIONS, DiskState(Mutex::new(files)))? })
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        held(&self.vfs.state.0)
    }

    /// What the functions that SQLite calls work on.
    #[cfg(test)]
    pub(super) fn state(&self) -> &'static DiskState {
        &self.vfs.state
    }

    /// The name to open a store by.
    #[must_use]
    pub fn name(&self) -> &str {
        self.vfs.name()
    }

    /// Lets the power fail at the `count`-th operation from now: 1 is the next. An operation is a
    /// write, a sync, a truncation, or the making or deletion of a name; the one at which the power
    /// fails is begun and not confirmed.
    pub fn cut_after(&self, count: u64) {
        let mut files = self.files();
        files.cut_at = Some(files.operations + count);
    }

    /// Lets the power fail now: every later call fails, until [`Disk::restore`].
    pub fn cut(&self) {
        self.files().off = true;
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.files().off
    }

    /// Confirms syncs from now on without doing them, as a disk does that lies.
    pub fn lie(&self, lying: bool) {
        self.files().lying = lying;
    }

    /// Operations so far, as [`Disk::cut_after`] counts them.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.files().operations
    }

    /// Syncs of files so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.files().syncs
    }

    /// Gives power again, over what the loss of it left: all that was synced, and of the rest what
    /// the seed decides. What was opened before stays dead. Loses the power first where it is there.
    pub fn restore(&self) -> Fates {
        self.files().restore()
    }

    /// Removes all files; what was opened before is dead.
    pub fn clear(&self) {
        let mut files = self.files();
        files.nodes.clear();
        files.names.clear();
        files.durable_names.clear();
        files.name_changes.clear();
        files.start();
    }

    /// The files by name, with their bytes as programs see them.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.files();
        let named = files.names.iter();
        named
            .filter_map(|(name, node)| Some((name.clone(), files.nodes.get(node)?.now.clone())))
            .collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.vfs.unregister();
    }
}

impl Files {
    /// Counts an operation; says whether the power is still there after it.
    fn step(&mut self) -> std::result::Result<(), Code> {
        self.operations += 1;
        if self.cut_at.is_some_and(|cut| self.operations >= cut) {
            self.off = true;
        }
        self.powered()
    }

    fn powered(&self) -> std::result::Result<(), Code> {
        if self.off { Err(ffi::SQLITE_IOERR) } else { Ok(()) }
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn rename(&mut self, name: &str, node: Option<u64>) {
        match node {
            Some(node) => self.names.insert(name.to_owned(), node),
            None => self.names.remove(name),
        };
        self.name_changes.push((name.to_owned(), node));
    }

    fn sync_names(&mut self) {
        if !self.lying {
            self.durable_names.clone_from(&self.names);
            self.name_changes.clear();
        }
    }

    fn start(&mut self) {
        self.generation += 1;
        self.off = false;
        self.cut_at = None;
    }

    fn restore(&mut self) -> Fates {
        let mut fates = Fates::default();
        let mood = Mood::draw(&mut self.dice);
        let mut names = std::mem::take(&mut self.durable_names);
        // Changes of one name keep their order; of each name a first part has happened.
        let changes = std::mem::take(&mut self.name_changes);
        let mut by_name: BTreeMap<&str, Vec<Option<u64>>> = BTreeMap::new();
        for (name, node) in &changes {
            by_name.entry(name).or_default().push(*node);
        }
        for (name, changes) in by_name {
            let happened = self.dice.below(changes.len() + 1);
            if let Some(last) = happened.checked_sub(1) {
                match changes[last] {
                    Some(node) => names.insert(name.to_owned(), node),
                    None => names.remove(name),
                };
            }
        }
        let mut nodes = BTreeMap::new();
        for number in names.values() {
            let Some(node) = self.nodes.get(number) else { continue };
            let left =
                image::survivors(&node.durable, &node.changes, mood, &mut self.dice, &mut fates);
            let node = Node { now: left.clone(), durable: left, ..Node::default() };
            nodes.insert(*number, node);
        }
        self.nodes = nodes;
        self.durable_names.clone_from(&names);
        self.names = names;
        self.start();
        fates
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) create: bool,
    pub(super) delete_on_close: bool,
    /// A log or a journal, whose first sync syncs the folder too.
    pub(super) sync_folder: bool,
}

impl DiskState {
    /// Opens a file; one without a name is nobody else's and never survives.
    pub(super) fn open(
        &'static self,
        name: Option<&str>,
        how: How,
    ) -> std::result::Result<Handle, Code> {
        let mut files = held(&self.0);
        files.powered()?;
        let node = match name.and_then(|name| files.names.get(name).copied()) {
            Some(node) => node,
            None if name.is_some() && !how.create => return Err(ffi::SQLITE_CANTOPEN),
            None => {
                let node = files.next();
                files.nodes.insert(node, Node::default());
                if let Some(name) = name {
                    files.rename(name, Some(node));
                    files.step()?;
                }
                node
            }
        };
        Ok(Handle {
            state: self,
            number: files.next(),
            generation: files.generation,
            node,
            name: name.map(str::to_owned),
            delete: how.delete_on_close || name.is_none(),
            sync_folder: how.create && how.sync_folder,
            shared: None,
            share: 0,
            exclude: 0,
        })
    }

    /// Removes a name. The file goes on for those who have it open.
    pub(super) fn delete(&self, name: &str, sync: bool) -> std::result::Result<(), Code> {
        let mut files = held(&self.0);
        files.powered()?;
        if !files.names.contains_key(name) {
            return Err(ffi::SQLITE_IOERR_DELETE_NOENT);
        }
        files.rename(name, None);
        files.step()?;
        if sync {
            files.sync_names();
        }
        Ok(())
    }

    /// How many bytes a file has; `None` where there is none.
    pub(super) fn size(&self, name: &str) -> std::result::Result<Option<usize>, Code> {
        let files = held(&self.0);
        files.powered()?;
        let node = files.names.get(name).and_then(|node| files.nodes.get(node));
        Ok(node.map(|node| node.now.len()))
    }
}

/// An opening of a file.
#[derive(Debug)]
pub(super) struct Handle {
    state: &'static DiskState,
    number: u64,
    generation: u64,
    node: u64,
    name: Option<String>,
    delete: bool,
    sync_folder: bool,
    shared: Option<Arc<Shared>>,
    /// The locks of the shared memory that this opening holds, a bit each.
    share: u8,
    exclude: u8,
}

impl Handle {
    /// Works on the file, where there is power and has been since the opening.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Files) -> std::result::Result<T, Code>,
    ) -> std::result::Result<T, Code> {
        let mut files = held(&self.state.0);
        files.powered()?;
        if files.generation != self.generation {
            return Err(ffi::SQLITE_IOERR);
        }
        work(&mut files)
    }

    fn change(&self, change: Change) -> std::result::Result<(), Code> {
        self.with(|files| {
            let node = files.nodes.get_mut(&self.node).ok_or(ffi::SQLITE_IOERR)?;
            image::apply(&mut node.now, &change);
            if self.name.is_none() {
                return Ok(());
            }
            node.changes.push(change);
            files.step()
        })
    }

    /// Reads into the whole of `into`; what lies beyond the end is zeroes and a short read.
    pub(super) fn read(&self, into: &mut [u8], at: usize) -> std::result::Result<(), Code> {
        self.with(|files| {
            let node = files.nodes.get(&self.node).ok_or(ffi::SQLITE_IOERR)?;
            let there = node.now.get(at..).unwrap_or_default();
            let count = there.len().min(into.len());
            into[..count].copy_from_slice(&there[..count]);
            into[count..].fill(0);
            if count == into.len() { Ok(()) } else { Err(ffi::SQLITE_IOERR_SHORT_READ) }
        })
    }

    pub(super) fn write(&self, bytes: &[u8], at: usize) -> std::result::Result<(), Code> {
        self.change(Change::Write { at, bytes: bytes.to_vec() })
    }

    pub(super) fn truncate(&self, size: usize) -> std::result::Result<(), Code> {
        self.change(Change::Truncate { size })
    }

    pub(super) fn sync(&mut self) -> std::result::Result<(), Code> {
        let folder = std::mem::take(&mut self.sync_folder);
        self.with(|files| {
            if self.name.is_none() {
                return Ok(());
            }
            files.syncs += 1;
            files.step()?;
            if !files.lying {
                let node = files.nodes.get_mut(&self.node).ok_or(ffi::SQLITE_IOERR)?;
                for change in node.changes.drain(..) {
                    image::apply(&mut node.durable, &change);
                }
            }
            if folder {
                files.sync_names();
            }
            Ok(())
        })
    }

    pub(super) fn size(&self) -> std::result::Result<usize, Code> {
        self.with(|files| {
            files.nodes.get(&self.node).map(|node| node.now.len()).ok_or(ffi::SQLITE_IOERR)
        })
    }

    /// Raises the lock on the file, as SQLite's five levels go.
    pub(super) fn lock(&self, level: i32) -> std::result::Result<(), Code> {
        self.with(|files| {
            let node = files.nodes.get_mut(&self.node).ok_or(ffi::SQLITE_IOERR)?;
            let mine = node.locks.get(&self.number).copied().unwrap_or(ffi::SQLITE_LOCK_NONE);
            if mine >= level {
                return Ok(());
            }
            let others = node.locks.iter().filter(|(number, _)| **number != self.number);
            let highest = others.map(|(_, level)| *level).max().unwrap_or(ffi::SQLITE_LOCK_NONE);
            let most = match level {
                ffi::SQLITE_LOCK_SHARED => ffi::SQLITE_LOCK_RESERVED,
                ffi::SQLITE_LOCK_RESERVED => ffi::SQLITE_LOCK_SHARED,
                _ if highest >= ffi::SQLITE_LOCK_RESERVED => return Err(ffi::SQLITE_BUSY),
                _ => {
                    // Nobody new may read; those who do are waited for.
                    node.locks.insert(self.number, ffi::SQLITE_LOCK_PENDING);
                    ffi::SQLITE_LOCK_NONE
                }
            };
            if highest > most {
                return Err(ffi::SQLITE_BUSY);
            }
            node.locks.insert(self.number, level);
            Ok(())
        })
    }

    /// Lowers the lock; always succeeds.
    pub(super) fn unlock(&self, level: i32) {
        let mut files = held(&self.state.0);
        if files.generation == self.generation
            && let Some(node) = files.nodes.get_mut(&self.node)
        {
            if level == ffi::SQLITE_LOCK_NONE {
                node.locks.remove(&self.number);
            } else if let Some(mine) = node.locks.get_mut(&self.number) {
                *mine = level.min(*mine);
            }
        }
    }

    pub(super) fn is_reserved(&self) -> std::result::Result<bool, Code> {
        self.with(|files| {
            let node = files.nodes.get(&self.node).ok_or(ffi::SQLITE_IOERR)?;
            Ok(node.locks.values().any(|level| *level >= ffi::SQLITE_LOCK_RESERVED))
        })
    }

    /// A region of the shared memory; `None` where it is not there and is not to be made.
    pub(super) fn region(
        &mut self,
        number: usize,
        bytes: usize,
        make: bool,
    ) -> std::result::Result<Option<*const AtomicU64>, Code> {
        let shared = self.with(|files| {
            let node = files.nodes.get_mut(&self.node).ok_or(ffi::SQLITE_IOERR)?;
            Ok(self.shared.clone().unwrap_or_else(|| {
                node.shared.upgrade().unwrap_or_else(|| {
                    let new = Arc::new(Shared::default());
                    node.shared = Arc::downgrade(&new);
                    new
                })
            }))
        })?;
        let shared = self.shared.insert(shared);
        let mut regions = held(&shared.regions);
        while make && regions.len() <= number {
            regions.push((0..bytes.div_ceil(8)).map(|_| AtomicU64::new(0)).collect());
        }
        Ok(regions.get(number).map(|region| region.as_ptr()))
    }

    /// Takes locks of the shared memory, all of the mask or none.
    pub(super) fn take(&mut self, mask: u8, exclusive: bool) -> std::result::Result<(), Code> {
        self.with(|_| Ok(()))?;
        let shared = self.shared.as_ref().ok_or(ffi::SQLITE_IOERR)?;
        let mut locks = held(&shared.locks);
        let mine = if exclusive { self.exclude } else { self.share };
        let wanted = (0..8).filter(|slot| mask & (1 << slot) != 0 && mine & (1 << slot) == 0);
        let refused = |count: i32| if exclusive { count != 0 } else { count < 0 };
        if wanted.clone().any(|slot| refused(locks[slot])) {
            return Err(ffi::SQLITE_BUSY);
        }
        for slot in wanted {
            locks[slot] = if exclusive { -1 } else { locks[slot] + 1 };
        }
        if exclusive {
            self.exclude |= mask;
        } else {
            self.share |= mask;
        }
        Ok(())
    }

    /// Gives locks of the shared memory back; always succeeds.
    pub(super) fn give(&mut self, mask: u8) {
        let Some(shared) = &self.shared else { return };
        let mut locks = held(&shared.locks);
        for slot in 0..8 {
            let bit = 1 << slot;
            if mask & bit & self.exclude != 0 {
                locks[slot] = 0;
            } else if mask & bit & self.share != 0 {
                locks[slot] -= 1;
            }
        }
        self.exclude &= !mask;
        self.share &= !mask;
    }

    /// Gives all locks and the memory itself back; it ends with its last user.
    pub(super) fn unmap(&mut self) {
        self.give(u8::MAX);
        self.shared = None;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.unmap();
        self.unlock(ffi::SQLITE_LOCK_NONE);
        let mut files = held(&self.state.0);
        if !self.delete || files.generation != self.generation {
            return;
        }
        match &self.name {
            None => {
                files.nodes.remove(&self.node);
            }
            Some(name) if !files.off => files.rename(name, None),
            Some(_) => {}
        }
    }
}
