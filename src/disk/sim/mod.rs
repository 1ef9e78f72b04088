//! A disk in memory that distinguishes written from durable data, and loses the difference on demand.
//!
//! A [`SimDisk`] is used through [`Disk`] like any other. Take a [`CrashPoint`] at any moment, also in the middle of an
//! operation ([`SimDisk::on_op`]), and derive from it what the medium may look like after a power loss, or after the
//! death of the process alone. Make operations fail with [`SimDisk::inject`], and damage the medium with
//! [`SimDisk::flip_bit`] and its siblings. The disk knows nothing of the formats stored on it.
//!
//! Inside a simulation, another thread may get its turn at every operation, and syncs and stalls take simulated time.
//! Outside a simulation the disk works too, and nothing takes time.
//!
//! ```
//! use forelog::unstable::disk::{Access, Dir, Disk};
//! use forelog::sim::{Granularity, Loss, SimDisk};
//!
//! # fn main() -> std::io::Result<()> {
//! let disk = SimDisk::new();
//! let dir = disk.open_dir("".as_ref())?;
//! let file = dir.open("notes".as_ref(), Access::Create)?;
//! dir.sync()?;
//! file.write_at(b"kept", 0)?;
//! file.sync_data()?;
//! file.write_at(b", or not", 4)?;
//!
//! let crash = disk.crash_point();
//! assert_eq!(crash.process_kill().read_file("notes")?, b"kept, or not");
//! assert_eq!(crash.power_loss(&Loss::Everything, Granularity::Sector).read_file("notes")?, b"kept");
//! # Ok(()) }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Dir, Disk, DiskFile, DiskLock, FileId, FileStatus, LockMode, write_some_at};
use crate::rt::schedule;
use crate::rt::sync::ShortMutex as Mutex;

mod crash;
mod dir;
mod faults;
mod hash;
mod media;
mod names;
mod paths;
mod persona;
mod state;

pub use crash::{Atom, AtomKind, CrashPoint, Loss};
pub use faults::{Fault, FaultKind, OpEvent, OpKind, OpSelector, Pages, Phase};
pub use persona::{Granularity, Growth, NameOrder, Persona};

use dir::{Held, Links, LockKey, SimDir, SimLock};
use faults::{Faults, Harm, eio};
use names::{Entry, Ino, Key};
use paths::{Name, tidy};
use state::{Fate, Image};

type Observer = Arc<dyn Fn(&SimDisk, &OpEvent<'_>) + Send + Sync>;

/// A simulated disk. Clones are the same disk.
///
/// - A write, a new length, a new name is visible at once and *pending* until a sync makes it durable.
/// - A sync covers the changes pending on that file when the sync began, and nothing that is written meanwhile. Both
///   syncs of a file do the same, and neither makes its name durable.
/// - [`Dir::sync`] covers the names in that directory, those of directories included.
/// - A directory that is renamed keeps its contents, on the medium too, under whichever of its names is durable. An open
///   one stays the same: a test renames, replaces and removes directories, and moves links to them, with
///   [`SimDisk::rename_dir`] and its siblings.
/// - Permissions are not simulated, but as faults that last, of which [`Dir::may_replace`] knows.
///
/// The disk is its own root directory, too.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<SimState>>);

/// Not locked while a thread gives away its turn or an observer runs.
#[derive(Default)]
struct SimState {
    image: Arc<Image>,
    ops: u64,
    faults: Faults,
    observer: Option<Observer>,
    sync_latency: Duration,
    /// The number of honest syncs before the one that lies.
    honest: Option<u64>,
    /// How many handles each inode has.
    open: BTreeMap<Ino, usize>,
    locked: BTreeMap<LockKey, Held>,
    links: Links,
    capacity: Option<Capacity>,
}

/// How much the disk holds.
#[derive(Clone, Copy)]
struct Capacity {
    bytes: u64,
    /// [`Dir::room`] knows it.
    is_told: bool,
}

impl SimState {
    fn image_mut(&mut self) -> &mut Image {
        Arc::make_mut(&mut self.image)
    }

    /// How many bytes files can still grow by.
    fn free(&self) -> Option<u64> {
        let Capacity { bytes, .. } = self.capacity?;
        let image = &self.image;
        let mut used: BTreeSet<Ino> = image.visible.inos().collect();
        used.extend(self.open.keys());
        let lengths = used.iter().filter_map(|ino| image.inodes.get(ino)).map(|inode| inode.visible.len() as u64);
        Some(bytes.saturating_sub(lengths.sum()))
    }

    fn sweep(&mut self) {
        let SimState { image, open, .. } = self;
        Arc::make_mut(image).sweep(|ino| open.contains_key(&ino));
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        SimDisk::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        let visible = &state.image.visible;
        let names: Vec<_> = visible.iter().filter_map(|(key, _)| visible.path(key)).collect();
        f.debug_struct("SimDisk").field("ops", &state.ops).field("names", &names).finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        SimDisk::holding(Arc::default())
    }

    fn holding(image: Arc<Image>) -> Self {
        SimDisk(Arc::new(Mutex::new(SimState { image, ..SimState::default() })))
    }

    /// The disk at this moment, from which crashes are derived. Not an operation.
    pub fn crash_point(&self) -> CrashPoint {
        CrashPoint(Arc::clone(&self.0.lock().image))
    }

    /// The number of operations that have begun.
    pub fn ops(&self) -> u64 {
        self.0.lock().ops
    }

    /// Injects a fault.
    pub fn inject(&self, fault: Fault) {
        self.0.lock().faults.inject(fault);
    }

    /// Removes all faults, also those that last.
    pub fn clear_faults(&self) {
        self.0.lock().faults.clear();
    }

    /// How many operations faults have hit. A sweep over the n-th operation ends when this stays 0.
    pub fn fault_hits(&self) -> u64 {
        self.0.lock().faults.hits
    }

    /// Sets the simulated time that a sync of a file or directory takes. Initially none, but other threads get their
    /// turn.
    pub fn set_sync_latency(&self, latency: Duration) {
        self.0.lock().sync_latency = latency;
    }

    /// Has the disk hold at most so many bytes in files that have a name or are open. A write beyond takes what fits, and the
    /// next one fails with [`io::ErrorKind::StorageFull`]. Names cost nothing. [`Dir::room`] tells what is left.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity = Some(Capacity { bytes, is_told: true });
    }

    /// The same, and [`Dir::room`] does not know of it: a quota.
    pub fn set_quota(&self, bytes: u64) {
        self.0.lock().capacity = Some(Capacity { bytes, is_told: false });
    }

    /// Makes the sync after `honest` others, of a file or directory, report success and make nothing durable: the
    /// changes that it should have covered stay pending. No log can keep a promise on such a disk.
    pub fn lie_once(&self, honest: u64) {
        self.0.lock().honest = Some(honest);
    }

    /// Calls `observer` right before each operation that [mutates](OpKind::mutates) takes effect, and once more while a
    /// sync is in flight, on the thread of the operation. The observer gets the disk as an argument: an observer that
    /// owned a clone would keep the disk alive for ever. It may take crash points and use other disks. Replaces the
    /// observer before it.
    pub fn on_op(&self, observer: impl Fn(&SimDisk, &OpEvent<'_>) + Send + Sync + 'static) {
        self.0.lock().observer = Some(Arc::new(observer));
    }

    /// Removes the observer.
    pub fn clear_on_op(&self) {
        self.0.lock().observer = None;
    }

    fn with_image<T>(&self, action: impl FnOnce(&mut Image) -> T) -> T {
        action(self.0.lock().image_mut())
    }

    /// Counts an operation and determines the effect of the faults on it.
    fn begin(&self, op: &mut OpEvent<'_>) -> Harm {
        schedule::yield_point();
        let mut state = self.0.lock();
        op.number = state.ops;
        state.ops += 1;
        state.faults.strike(op)
    }

    fn tell(&self, op: &OpEvent<'_>) {
        let observer = if op.kind.mutates() { self.0.lock().observer.clone() } else { None };
        if let Some(observer) = observer {
            observer(self, op);
        }
    }

    /// Does everything before an operation takes effect. Returns the fault that the operation must apply itself.
    fn admit(&self, mut op: OpEvent<'_>) -> io::Result<Option<FaultKind>> {
        let harm = self.begin(&mut op);
        if !harm.stall.is_zero() {
            schedule::sleep(harm.stall);
        }
        self.tell(&op);
        harm.error()?;
        Ok(harm.kind)
    }

    /// Runs a sync. `end` is called with the moment up to which the sync covers changes, and with their fate.
    /// `meanwhile` runs when the sync has begun.
    fn sync_op(
        &self,
        mut op: OpEvent<'_>,
        meanwhile: impl FnOnce(),
        end: impl FnOnce(&mut Image, u64, Fate),
    ) -> io::Result<()> {
        let harm = self.begin(&mut op);
        self.tell(&op);
        let (moment, latency) = {
            let state = self.0.lock();
            (state.image.moment, state.sync_latency)
        };
        meanwhile();
        pass(latency.saturating_add(harm.stall));
        self.tell(&OpEvent { phase: Phase::InFlight, ..op });
        harm.error()?;
        if let Some(FaultKind::SyncFails { pages }) = harm.kind {
            self.with_image(|image| end(image, moment, Fate::Dropped(pages)));
            return self.0.lock().faults.report(pages, op.path);
        }
        let mut state = self.0.lock();
        let lies = state.honest == Some(0);
        state.honest = if lies { None } else { state.honest.map(|honest| honest - 1) };
        if !lies {
            end(state.image_mut(), moment, Fate::Landed);
        }
        Ok(())
    }
}

/// Lets simulated time pass. A wait of zero only gives away the turn, which a panicking thread may do.
fn pass(time: Duration) {
    if time.is_zero() { schedule::yield_point() } else { schedule::sleep(time) }
}

/// An operation on a whole path.
fn op(kind: OpKind, path: &OsStr) -> OpEvent<'_> {
    OpEvent { number: 0, kind, path: Path::new(path), offset: 0, length: 0, phase: Phase::Before }
}

impl Disk for SimDisk {
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Dir>> {
        let path = tidy(path);
        self.admit(op(OpKind::OpenDir, &path))?;
        let state = self.0.lock();
        let path = state.links.resolve(&path);
        SimDir::at(self, &state, &path).map(|dir| -> Arc<dyn Dir> { Arc::new(dir) })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (tidy(from), tidy(to));
        self.admit(op(OpKind::Create, &to))?;
        self.with_image(|image| image.link(&image.locate(&from)?, &image.locate(&to)?))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    /// The path and the name with which it was opened.
    path: Name,
    key: Key,
    ino: Ino,
    writable: bool,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.0.lock();
        if let Some(count) = state.open.get_mut(&self.ino) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.ino);
                // An inode that still has its name stays. Checking it first matters: a search of all names at every
                // close is slow on a large disk.
                if state.image.visible.get(&self.key) != Some(Entry::File(self.ino)) {
                    state.sweep();
                }
            }
        }
    }
}

impl SimFile {
    fn op(&self, kind: OpKind) -> OpEvent<'_> {
        op(kind, &self.path)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    /// How much of a write of `length` bytes at `offset` there is room for.
    fn fitting(&self, length: usize, offset: u64) -> io::Result<usize> {
        let state = self.disk.0.lock();
        let Some(free) = state.free() else { return Ok(length) };
        let has = state.image.inodes.get(&self.ino).map_or(0, |inode| inode.visible.len() as u64);
        let fits = (has + free).saturating_sub(offset).min(length as u64);
        if fits == 0 && length > 0 {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(usize::try_from(fits).unwrap_or(length))
        }
    }

    fn sync(&self, meanwhile: impl FnOnce()) -> io::Result<()> {
        self.disk.sync_op(self.op(OpKind::Sync), meanwhile, |image, moment, fate| {
            image.end_file_sync(self.ino, moment, fate);
        })
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.0.lock();
        Ok(state.image.inodes.get(&self.ino).map_or(0, |inode| inode.visible.len() as u64))
    }

    fn status(&self) -> io::Result<FileStatus> {
        let state = self.disk.0.lock();
        let links = state.image.visible.inos().filter(|ino| *ino == self.ino).count() as u64;
        Ok(FileStatus { id: FileId { device: 0, inode: self.ino }, links })
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.disk.admit(self.op(OpKind::Lock))?;
        Ok(SimLock::take(&self.disk, LockKey::File(self.ino), mode))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let length = buffer.len() as u64;
        let harm = self.disk.admit(OpEvent { offset, length, ..self.op(OpKind::Read) })?;
        let wanted = harm.as_ref().map_or(buffer.len(), |harm| harm.given(buffer.len()));
        let state = self.disk.0.lock();
        let inode = state.image.inodes.get(&self.ino);
        let bytes = inode.and_then(|inode| inode.visible.get(usize::try_from(offset).ok()?..)).unwrap_or_default();
        let read = wanted.min(bytes.len());
        buffer[..read].copy_from_slice(&bytes[..read]);
        if let Some(harm) = harm {
            harm.garble(&mut buffer[..read]);
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.check_writable()?;
        let length = bytes.len() as u64;
        let harm = self.disk.admit(OpEvent { offset, length, ..self.op(OpKind::Write) })?;
        let taken = &bytes[..harm.as_ref().map_or(bytes.len(), |harm| harm.taken(bytes.len()))];
        let taken = &taken[..self.fitting(taken.len(), offset)?];
        if !taken.is_empty() {
            self.disk.with_image(|image| image.write(self.ino, offset, taken))?;
        }
        if matches!(harm, Some(FaultKind::FailedWrite(_))) { Err(eio()) } else { Ok(taken.len()) }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.check_writable()?;
        self.disk.admit(OpEvent { offset: length, ..self.op(OpKind::SetLen) })?;
        if length > self.len()? {
            self.fitting(usize::try_from(length).unwrap_or(usize::MAX), 0)?;
        }
        self.disk.with_image(|image| image.set_len(self.ino, length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(|| ())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(|| ())
    }

    /// Behaves as io_uring does with a linked write and sync: the sync has begun when the end of the write is reported,
    /// and covers nothing that is written later. A short write cancels it.
    fn submit(&self, bytes: Vec<u8>, offset: u64, wrote: &mut dyn FnMut(Vec<u8>, usize)) -> io::Result<bool> {
        let taken = write_some_at(self, &bytes, offset)?;
        if taken < bytes.len() {
            wrote(bytes, taken);
            return Ok(false);
        }
        self.sync(|| wrote(bytes, taken)).map(|()| true)
    }

    fn start_writeback(&self) -> io::Result<()> {
        let harm = self.disk.admit(self.op(OpKind::StartWriteback))?;
        let Some(FaultKind::SyncFails { pages }) = harm else { return Ok(()) };
        let mut state = self.disk.0.lock();
        let moment = state.image.moment;
        state.image_mut().end_file_sync(self.ino, moment, Fate::Dropped(pages));
        state.faults.report(pages, self.path.as_ref().as_ref())
    }
}
