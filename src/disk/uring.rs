//! The operating system's files. A write and the sync behind it are one submission to io_uring.
//!
//! One request is under way at a time, from its submission to its last completion: that of the leader or the flusher.
//! All other calls are those of [`OsDisk`](super::OsDisk). So is a write without a sync: it ends in the page cache,
//! where there is nothing to wait for. If the kernel refuses a ring, or a ring fails before it took a request, ordinary
//! calls are made instead, and [`Dir::io`] says why.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode, squeue, types};

use super::os::{Files, OsDir, OsFile};
use super::{Dir, Disk, DiskFile, DiskLock, FileStatus, IoBackend, LockMode, Mapping};
use crate::rt::process;
use crate::rt::sync::Mutex;

#[cfg(test)]
mod tests;

/// [`OsDisk`] with a ring.
#[derive(Debug)]
pub(crate) struct UringDisk {
    ring: Arc<Ring>,
}

impl UringDisk {
    pub(crate) fn new() -> Self {
        process::watch_forks();
        UringDisk { ring: Arc::new(Ring::new()) }
    }
}

impl Disk for UringDisk {
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Dir>> {
        let files: Arc<dyn Files> = Arc::new(UringFiles(Arc::clone(&self.ring)));
        Ok(Arc::new(OsDir::open_path(path, Some(files))?))
    }

    fn above(&self, path: &Path) -> io::Result<Vec<super::FileId>> {
        super::OsDisk.above(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        super::OsDisk.hard_link(from, to)
    }
}

#[derive(Debug)]
struct UringFiles(Arc<Ring>);

impl Files for UringFiles {
    fn wrap(&self, file: OsFile) -> Arc<dyn DiskFile> {
        Arc::new(UringFile { file, ring: Arc::clone(&self.0) })
    }

    fn io(&self) -> IoBackend {
        match self.0.refusal() {
            None => IoBackend::IoUring,
            Some(why) => IoBackend::Calls { why: Some(why.to_owned()) },
        }
    }
}

#[derive(Debug)]
struct UringFile {
    file: OsFile,
    ring: Arc<Ring>,
}

impl DiskFile for UringFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn age(&self) -> io::Result<Option<Duration>> {
        self.file.age()
    }

    fn status(&self) -> io::Result<FileStatus> {
        self.file.status()
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.file.lock(mode)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn start_writeback(&self) -> io::Result<()> {
        self.file.start_writeback()
    }

    fn submit(&self, bytes: Vec<u8>, offset: u64, wrote: &mut dyn FnMut(Vec<u8>, usize)) -> io::Result<bool> {
        self.ring.submit(&self.file, bytes, offset, wrote)
    }

    fn map(&self) -> io::Result<Option<Arc<dyn Mapping>>> {
        self.file.map()
    }
}

/// The user data of the two halves of a request.
const WRITE: u64 = 1;
const SYNC: u64 = 2;

/// A ring for one request at a time, for as long as the kernel accepts requests.
struct Ring {
    /// `None` while a request owns the ring, and for ever after a request that did not end in order.
    idle: Mutex<Option<IoUring>>,
    /// Why ordinary calls are made from now on.
    refusal: OnceLock<String>,
    /// The process that made the ring. A forked child has the ring in its memory too, and must not touch it.
    generation: u64,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

impl Ring {
    fn new() -> Self {
        let (ring, refusal) = match set_up() {
            Ok(ring) => (Some(ring), OnceLock::new()),
            Err(why) => (None, OnceLock::from(why)),
        };
        Ring { idle: Mutex::new(ring), refusal, generation: process::generation() }
    }

    fn refusal(&self) -> Option<&str> {
        if self.generation != process::generation() {
            return Some("the ring belongs to the process that this one was forked from");
        }
        self.refusal.get().map(String::as_str)
    }

    /// [`DiskFile::submit`] for an ordinary file.
    fn submit(
        &self,
        file: &OsFile,
        bytes: Vec<u8>,
        offset: u64,
        wrote: &mut dyn FnMut(Vec<u8>, usize),
    ) -> io::Result<bool> {
        if self.refusal().is_some() {
            return file.submit(bytes, offset, wrote);
        }
        let mut idle = self.idle.lock();
        let Some(ring) = idle.take() else {
            drop(idle);
            let _ = self.refusal.set("a flush panicked".into());
            return file.submit(bytes, offset, wrote);
        };
        let mut request = match Request::begin(ring, file, bytes, offset) {
            Ok(request) => request,
            Err((bytes, error)) => {
                // The kernel began nothing, so ordinary calls do not repeat anything.
                let _ = self.refusal.set(format!("the kernel took no request: {error}"));
                drop(idle);
                return file.submit(bytes, offset, wrote);
            }
        };
        let result = request.finish(wrote);
        match request.into_idle() {
            Some(ring) => *idle = Some(ring),
            None => _ = self.refusal.set("a request did not end in order".into()),
        }
        result
    }
}

/// Makes a ring that supports the needed operations, or returns why there is none.
fn set_up() -> Result<IoUring, String> {
    let refused = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOSYS) => format!("the kernel has no io_uring ({error})"),
        Some(libc::EPERM | libc::EACCES) => {
            format!("io_uring is forbidden, by kernel.io_uring_disabled or a sandbox ({error})")
        }
        Some(libc::ENOMEM) => format!("no memory for a ring; some kernels count it as locked memory ({error})"),
        _ => format!("the kernel gives no ring ({error})"),
    };
    let ring = IoUring::new(2).map_err(refused)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(refused)?;
    let needed = [opcode::Write::CODE, opcode::Fsync::CODE];
    if !needed.iter().all(|code| probe.is_supported(*code)) {
        return Err("the kernel's io_uring cannot write and sync".into());
    }
    Ok(ring)
}

/// A write and the sync behind it, under way. It owns the ring and the bytes that the kernel reads from. Neither is
/// freed before the kernel has completed both halves, even if this thread panics meanwhile.
struct Request {
    /// `None` only once it was handed back.
    ring: Option<IoUring>,
    bytes: Vec<u8>,
    /// The kernel has both halves and knows that the second waits for the first.
    is_linked: bool,
    /// The number of halves that the kernel has and has not completed.
    under_way: usize,
    write: Option<i32>,
    sync: Option<i32>,
}

impl Request {
    /// Submits both halves and waits for one of them. Returns the bytes if the kernel took no half.
    fn begin(mut ring: IoUring, file: &OsFile, bytes: Vec<u8>, offset: u64) -> Result<Self, (Vec<u8>, io::Error)> {
        let file = types::Fd(file.0.as_raw_fd());
        // Bytes beyond the call's limit make it a short write.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let write = opcode::Write::new(file, bytes.as_ptr(), length).offset(offset).build();
        let sync = opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build();
        let both = [write.flags(squeue::Flags::IO_LINK).user_data(WRITE), sync.user_data(SYNC)];
        // SAFETY: the bytes stay where they are until the write is completed, in the returned value. The file is open
        // for as long as this call takes, within which the kernel takes a reference of its own.
        #[expect(unsafe_code, reason = "the kernel reads the bytes after this call")]
        let pushed = unsafe { ring.submission().push_multiple(&both) };
        if let Err(error) = pushed {
            return Err((bytes, io::Error::other(error)));
        }
        let submitted = ring.submit_and_wait(1);
        let left = ring.submission().len();
        if let Err(error) = submitted
            && left == both.len()
        {
            return Err((bytes, error));
        }
        let under_way = both.len() - left;
        Ok(Request { ring: Some(ring), bytes, is_linked: left == 0, under_way, write: None, sync: None })
    }

    /// Waits for both halves.
    fn finish(&mut self, wrote: &mut dyn FnMut(Vec<u8>, usize)) -> io::Result<bool> {
        let write = loop {
            match self.write {
                Some(result) => break result,
                None => self.reap()?,
            }
        };
        let taken = match usize::try_from(write) {
            Ok(taken) => Ok(taken),
            // Interrupted, cancelled with its thread, or short of memory at that moment: nothing was written.
            Err(_) if [libc::EINTR, libc::ECANCELED, libc::EAGAIN].contains(&-write) => Ok(0),
            Err(_) => Err(io::Error::from_raw_os_error(-write)),
        };
        if let Ok(taken) = taken {
            wrote(std::mem::take(&mut self.bytes), taken);
        }
        while self.under_way > 0 {
            self.reap()?;
        }
        taken?;
        match self.sync {
            Some(0) => Ok(self.is_linked),
            // Behind a short write, or never taken by the kernel.
            None => Ok(false),
            Some(result) if result == -libc::ECANCELED => Ok(false),
            // The sync must not be repeated: it may have been the one that reported the failure.
            Some(result) if result == -libc::EINTR => Err(io::Error::other("the sync was interrupted")),
            Some(result) => Err(io::Error::from_raw_os_error(-result)),
        }
    }

    /// Takes completions, and waits if there is none.
    fn reap(&mut self) -> io::Result<()> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        loop {
            let before = self.under_way;
            for completion in ring.completion() {
                match completion.user_data() {
                    WRITE => self.write = Some(completion.result()),
                    _ => self.sync = Some(completion.result()),
                }
                self.under_way -= 1;
            }
            if self.under_way < before {
                return Ok(());
            }
            wait_for_one(ring)?;
        }
    }

    /// Returns the ring, if the kernel has completed everything.
    fn into_idle(mut self) -> Option<IoUring> {
        if self.is_linked && self.under_way == 0 { self.ring.take() } else { None }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        while self.under_way > 0 {
            if self.reap().is_err() {
                // The kernel may read the bytes for as long as the process lives.
                let _ = std::mem::take(&mut self.bytes).leak();
                return;
            }
        }
    }
}

/// Waits for one completion. Submits nothing: a half that the kernel did not take at once must not be submitted later.
fn wait_for_one(ring: &IoUring) -> io::Result<()> {
    /// `IORING_ENTER_GETEVENTS`.
    const GET_EVENTS: u32 = 1;
    loop {
        // SAFETY: nothing is submitted, and there is no argument that the kernel could read.
        #[expect(unsafe_code, reason = "the safe call submits what is queued as well")]
        let waited = unsafe { ring.submitter().enter::<libc::sigset_t>(0, 1, GET_EVENTS, None) };
        match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            waited => return waited.map(drop),
        }
    }
}
