//! The smallest FUSE file system that a loop device can stand on: one directory with one file, spoken directly over
//! `/dev/fuse` (protocol 7.31, `include/uapi/linux/fuse.h`).
//!
//! One thread serves it, one request after the other. A flush covers the writes that were answered before it was
//! *received*: all requests that are waiting are received before the first of them is answered, so a write that was
//! in flight when a flush was issued is not covered by it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::recorder::Recorder;
use super::system;
use crate::output::Failure;

/// The name of the one file.
const NAME: &str = "disk";
const ROOT_NODE: u64 = 1;
const FILE_NODE: u64 = 2;

const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
/// The most bytes in one write request.
const MAX_WRITE: u32 = 256 << 10;

const MAJOR: u32 = 7;
const MINOR: u32 = 31;
const ASYNC_READ: u32 = 1 << 0;
const BIG_WRITES: u32 = 1 << 5;
const ASYNC_DIO: u32 = 1 << 15;
const PARALLEL_DIROPS: u32 = 1 << 18;
const MAX_PAGES: u32 = 1 << 22;
/// Of an open file: no page cache; several writes at once.
const DIRECT_IO: u32 = 1 << 0;
const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;

mod opcode {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const STATFS: u32 = 17;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const DESTROY: u32 = 38;
    pub(super) const BATCH_FORGET: u32 = 42;
    pub(super) const FALLOCATE: u32 = 43;
}

/// A mounted file system whose one file is the block device that `recorder` keeps.
#[derive(Debug)]
pub(super) struct Device {
    dir: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Device {
    /// Mounts it on `dir`, an empty directory.
    pub(super) fn mount(dir: &Path, recorder: Arc<Recorder>) -> Result<Self, Failure> {
        let channel = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/fuse")
            .map_err(|error| Failure::io("open /dev/fuse", &error))?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", channel.as_raw_fd());
        system::mount("forelog-torture", dir, "fuse", libc::MS_NOSUID | libc::MS_NODEV, &options)
            .map_err(|error| Failure::io(format_args!("mount a recorded device on {}", dir.display()), &error))?;
        let stop = Arc::new(AtomicBool::new(false));
        let server = Server { channel, recorder, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("device".into()).spawn(move || server.run());
        let thread = thread.map_err(|error| Failure::io("start a thread", &error))?;
        Ok(Device { dir: dir.to_owned(), stop, thread: Some(thread) })
    }

    /// The file to put a loop device on. Never to be touched by this process: its own threads answer.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The thread closes the channel, and that ends every request that somebody may still wait for.
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = system::unmount(&self.dir);
    }
}

struct Server {
    channel: File,
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
}

/// A request as it was received.
struct Request {
    opcode: u32,
    unique: u64,
    node: u64,
    body: Box<[u8]>,
    /// Of a flush: how many events had been recorded when it was received.
    received: usize,
}

impl Request {
    fn u32(&self, at: usize) -> u32 {
        self.body.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().expect("4 bytes")))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }
}

/// A reply's body, or the error number.
type Reply = Result<Vec<u8>, i32>;

impl Server {
    fn run(mut self) {
        let mut buffer = vec![0; MAX_WRITE as usize + 4096];
        let mut waiting = VecDeque::new();
        while !self.stop.load(Ordering::Relaxed) {
            match self.receive(&mut buffer, &mut waiting) {
                // Unmounted: nobody asks any more.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return,
                Err(_) => continue,
                Ok(()) => {}
            }
            while let Some(request) = waiting.pop_front() {
                self.answer(&request);
            }
        }
    }

    /// Takes every request that is there, after waiting for the first.
    fn receive(&mut self, buffer: &mut [u8], waiting: &mut VecDeque<Request>) -> io::Result<()> {
        system::wait_readable(&self.channel, Duration::from_millis(100))?;
        loop {
            let length = match self.channel.read(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // ENOENT: the request was interrupted while it was being read.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOENT)) => continue,
                Err(error) => return Err(error),
            };
            let whole = Request { opcode: 0, unique: 0, node: 0, body: buffer[..length].into(), received: 0 };
            waiting.push_back(Request {
                opcode: whole.u32(4),
                unique: whole.u64(8),
                node: whole.u64(16),
                body: buffer[IN_HEADER.min(length)..length].into(),
                received: self.recorder.events(),
            });
        }
    }

    fn answer(&mut self, request: &Request) {
        let reply = match request.opcode {
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => return,
            opcode::INIT => Ok(init(request)),
            opcode::LOOKUP => self.lookup(request),
            // There is nothing that could be set: the file's length is the device's.
            opcode::GETATTR | opcode::SETATTR => Ok(self.attributes_reply(request.node)),
            opcode::OPEN => Ok(opened()),
            opcode::READ => Ok(self.read(request)),
            opcode::WRITE => self.write(request),
            opcode::FSYNC => {
                self.recorder.flush(request.received);
                Ok(Vec::new())
            }
            opcode::FALLOCATE => self.fallocate(request),
            opcode::STATFS => Ok(vec![0; 80]),
            opcode::RELEASE | opcode::FLUSH | opcode::DESTROY => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        };
        let (error, body) = match reply {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let length = u32::try_from(OUT_HEADER + body.len()).expect("a reply is short");
        let mut bytes = Vec::with_capacity(OUT_HEADER + body.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&error.to_le_bytes());
        bytes.extend_from_slice(&request.unique.to_le_bytes());
        bytes.extend_from_slice(&body);
        // An error here means that whoever asked is gone.
        let _ = self.channel.write(&bytes);
    }

    fn lookup(&self, request: &Request) -> Reply {
        if request.node != ROOT_NODE || request.body.strip_suffix(b"\0") != Some(NAME.as_bytes()) {
            return Err(libc::ENOENT);
        }
        // Node, generation, and for how long name and attributes may be cached: not at all.
        let mut body = FILE_NODE.to_le_bytes().to_vec();
        body.resize(40, 0);
        body.extend_from_slice(&self.attributes(FILE_NODE));
        Ok(body)
    }

    fn attributes_reply(&self, node: u64) -> Vec<u8> {
        let mut body = vec![0; 16];
        body.extend_from_slice(&self.attributes(node));
        body
    }

    fn attributes(&self, node: u64) -> [u8; 88] {
        let (mode, size) = match node {
            ROOT_NODE => (libc::S_IFDIR | 0o700, 0),
            _ => (libc::S_IFREG | 0o600, self.recorder.size()),
        };
        let mut bytes = [0; 88];
        bytes[..8].copy_from_slice(&node.to_le_bytes());
        bytes[8..16].copy_from_slice(&size.to_le_bytes());
        bytes[16..24].copy_from_slice(&(size / 512).to_le_bytes());
        bytes[60..64].copy_from_slice(&mode.to_le_bytes());
        bytes[64..68].copy_from_slice(&1_u32.to_le_bytes()); // links
        bytes[80..84].copy_from_slice(&4096_u32.to_le_bytes()); // preferred size of a read or write
        bytes
    }

    fn read(&self, request: &Request) -> Vec<u8> {
        let (offset, size) = (request.u64(8), u64::from(request.u32(16)));
        let size = size.min(self.recorder.size().saturating_sub(offset));
        let mut body = vec![0; usize::try_from(size).unwrap_or(0)];
        self.recorder.read(offset, &mut body);
        body
    }

    fn write(&self, request: &Request) -> Reply {
        let (offset, size) = (request.u64(8), request.u32(16));
        let data = request.body.get(40..).unwrap_or_default();
        if data.len() != size as usize || !self.recorder.write(offset, data) {
            return Err(libc::EINVAL);
        }
        let mut body = size.to_le_bytes().to_vec();
        body.resize(8, 0);
        Ok(body)
    }

    /// A discarded or zeroed range is a write of zeros: until a flush it is there or not, sector by sector.
    fn fallocate(&self, request: &Request) -> Reply {
        const ZEROING: u32 = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) as u32;
        let (offset, length, mode) = (request.u64(8), request.u64(16), request.u32(24));
        if mode & ZEROING == 0 || !self.recorder.zero(offset, length) {
            return Err(libc::EOPNOTSUPP);
        }
        Ok(Vec::new())
    }
}

fn init(request: &Request) -> Vec<u8> {
    let (readahead, offered) = (request.u32(8), request.u32(12));
    let wanted = ASYNC_READ | BIG_WRITES | ASYNC_DIO | PARALLEL_DIROPS | MAX_PAGES;
    let mut body = Vec::with_capacity(64);
    let mut word = |word: u32| body.extend_from_slice(&word.to_le_bytes());
    word(MAJOR);
    word(MINOR);
    word(readahead);
    word(offered & wanted);
    word(32 | 24 << 16); // requests in the background: at most, and before it counts as congested
    word(MAX_WRITE);
    word(1); // granularity of times in nanoseconds
    word(MAX_WRITE / 4096); // pages; no alignment of mappings
    body.resize(64, 0);
    body
}

fn opened() -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend_from_slice(&(DIRECT_IO | PARALLEL_DIRECT_WRITES).to_le_bytes());
    body.resize(16, 0);
    body
}
