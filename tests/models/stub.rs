//! A disk for loom: it remembers how far each file was written and synced, and nothing of what. Its locks are loom's,
//! so the order of operations on a file is part of what loom explores.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forelog::unstable::disk::{Access, Dir, Disk, DiskFile, DiskLock, FileId, FileStatus, LockMode};
use loom::sync::{Condvar, Mutex};

/// How far a file is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    /// End of the bytes written; those of the fill do not count.
    pub(crate) written: u64,
    /// The file's length, the fill included.
    length: u64,
    /// End of the bytes that a sync covered.
    pub(crate) durable: u64,
    /// Syncs in flight.
    syncing: u32,
    /// Those in flight do not end.
    is_held: bool,
    /// The next sync, or the next write, fails.
    sync_fails: bool,
    write_fails: bool,
}

#[derive(Debug, Default)]
struct File {
    extent: Mutex<Extent>,
    released: Condvar,
}

/// The disk. Names are only moved while a log is opened, begun or closed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stub(Arc<std::sync::Mutex<BTreeMap<PathBuf, Arc<File>>>>);

impl Stub {
    fn segment(&self) -> Arc<File> {
        let files = self.0.lock().unwrap();
        let mut segments = files.iter().filter(|(path, _)| path.extension().is_some_and(|it| it == "log"));
        Arc::clone(segments.next().expect("the log has begun").1)
    }

    /// How far the log's one segment is.
    pub(crate) fn extent(&self) -> Extent {
        *self.segment().extent.lock().unwrap()
    }

    /// Has the next sync of the segment fail.
    pub(crate) fn fail_sync(&self) {
        self.segment().extent.lock().unwrap().sync_fails = true;
    }

    /// Has the next write to the segment fail.
    pub(crate) fn fail_write(&self) {
        self.segment().extent.lock().unwrap().write_fails = true;
    }

    /// Has no sync of the segment end any more, or those that were held and all others again.
    pub(crate) fn hold_syncs(&self, is_held: bool) {
        let segment = self.segment();
        segment.extent.lock().unwrap().is_held = is_held;
        segment.released.notify_all();
    }
}

impl Disk for Stub {
    fn open_dir(&self, _: &Path) -> io::Result<Arc<dyn Dir>> {
        Ok(Arc::new(self.clone()))
    }
}

impl Dir for Stub {
    fn open(&self, name: &OsStr, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.0.lock().unwrap();
        if access == Access::Create {
            files.insert(name.into(), Arc::new(File::default()));
        }
        let file = files.get(Path::new(name)).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Handle(Arc::clone(file))))
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let file = files.remove(Path::new(from)).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.into(), file);
        Ok(())
    }

    fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.rename(from, to)
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.0.lock().unwrap().remove(Path::new(name)).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        Ok(Vec::new())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_name(&self) -> io::Result<()> {
        Ok(())
    }

    fn child(&self, _: &OsStr, _: Access) -> io::Result<Arc<dyn Dir>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename_child(&self, _: &OsStr, _: &OsStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove_child(&self, _: &OsStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn lock(&self, _: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        Ok(Some(Box::new(Locked)))
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(FileId::default())
    }

    fn id_of(&self, _: &OsStr) -> io::Result<FileId> {
        Ok(FileId::default())
    }
}

#[derive(Debug)]
struct Locked;

impl DiskLock for Locked {}

#[derive(Debug)]
struct Handle(Arc<File>);

impl Handle {
    /// Begins a sync; returns what it covers.
    fn begin_sync(&self) -> u64 {
        let mut extent = self.0.extent.lock().unwrap();
        extent.syncing += 1;
        assert_eq!(extent.syncing, 1, "two leaders");
        extent.written
    }

    fn end_sync(&self, covered: u64) -> io::Result<()> {
        let mut extent = self.0.extent.lock().unwrap();
        while extent.is_held {
            extent = self.0.released.wait(extent).unwrap();
        }
        extent.syncing -= 1;
        if std::mem::take(&mut extent.sync_fails) {
            return Err(io::Error::from_raw_os_error(5));
        }
        extent.durable = covered;
        Ok(())
    }
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.extent.lock().unwrap().length)
    }

    fn status(&self) -> io::Result<FileStatus> {
        Ok(FileStatus { id: FileId::default(), links: 1 })
    }

    fn lock(&self, _: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        Ok(Some(Box::new(Locked)))
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut extent = self.0.extent.lock().unwrap();
        if std::mem::take(&mut extent.write_fails) {
            return Err(io::Error::from_raw_os_error(5));
        }
        extent.length = extent.length.max(offset + bytes.len() as u64);
        // The fill, and HISTORY, begin the file.
        if offset > 0 {
            let hole = extent.written != 0 && offset != extent.written;
            assert!(!hole, "a write at {offset} behind one that ended at {}", extent.written);
            extent.written = offset + bytes.len() as u64;
        }
        Ok(bytes.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.extent.lock().unwrap().length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let covered = self.begin_sync();
        self.end_sync(covered)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    /// As a ring does: the sync has begun when the write is said to be over, and covers nothing that comes then.
    fn submit(&self, bytes: Vec<u8>, offset: u64, wrote: &mut dyn FnMut(Vec<u8>, usize)) -> io::Result<bool> {
        let taken = self.write_at(&bytes, offset)?;
        let covered = self.begin_sync();
        wrote(bytes, taken);
        self.end_sync(covered).map(|()| true)
    }
}
