use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::disk::{Access, FailStop, Layer, Layered, MemoryDisk, write_and_sync};

/// A ring, or `None` after a message why the test is skipped.
fn ring() -> Option<Ring> {
    let ring = Ring::new();
    match ring.refusal() {
        None => Some(ring),
        Some(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

struct TempFile(PathBuf);

impl TempFile {
    fn new(bytes: usize) -> (Self, OsFile) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forelog-uring-{}-{number}", std::process::id()));
        std::fs::write(&path, vec![b'.'; bytes]).unwrap();
        let file = OsFile(OpenOptions::new().read(true).write(true).open(&path).unwrap());
        (TempFile(path), file)
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(&self.0).unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn device(path: &str) -> OsFile {
    OsFile(OpenOptions::new().write(true).open(path).unwrap())
}

/// A full pipe that has room for `room` bytes again.
fn pipe_with_room(room: usize) -> (io::PipeReader, OsFile) {
    let (reader, writer) = io::pipe().unwrap();
    // SAFETY: the descriptor is open, and the flag changes nothing that the types rely on.
    #[expect(unsafe_code, reason = "the standard library cannot set the flag")]
    let set = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(set, 0);
    let mut file = File::from(OwnedFd::from(writer));
    // In whole pages: otherwise the rest of the last one would not be used.
    while file.write(&[b'x'; 4096]).is_ok() {}
    let mut reader = reader;
    reader.read_exact(&mut vec![0; room]).unwrap();
    (reader, OsFile(file))
}

/// The result of a submission, and the count that `wrote` got.
fn submit(ring: &Ring, file: &OsFile, bytes: &[u8]) -> (io::Result<bool>, Option<usize>) {
    let mut told = None;
    let result = ring.submit(file, bytes.to_vec(), 0, &mut |given, taken| {
        assert_eq!(given, bytes);
        assert!(told.replace(taken).is_none(), "told twice");
    });
    (result, told)
}

/// Whether the ring is as good as new.
fn goes_on(ring: &Ring) -> bool {
    let (path, file) = TempFile::new(4);
    let (result, told) = submit(ring, &file, b"next");
    ring.refusal().is_none() && result.unwrap() && told == Some(4) && path.content() == b"next"
}

#[test]
fn a_write_and_its_sync_are_done_and_the_bytes_given_back() {
    let Some(ring) = ring() else { return };
    let (path, file) = TempFile::new(8);
    let bytes = b"abcd".to_vec();
    let place = bytes.as_ptr();
    let mut told = 0;
    let synced = ring.submit(&file, bytes, 2, &mut |bytes, taken| {
        assert_eq!((bytes.as_ptr(), taken), (place, 4), "the memory moved");
        assert_eq!(path.content(), b"..abcd..");
        told += 1;
    });
    assert!(synced.unwrap() && told == 1);
    assert!(goes_on(&ring));
}

#[test]
fn the_error_of_a_write_is_told_and_the_sync_behind_it_is_cancelled() {
    let Some(ring) = ring() else { return };
    let (result, told) = submit(&ring, &device("/dev/full"), b"abcd");
    assert_eq!((result.unwrap_err().raw_os_error(), told), (Some(libc::ENOSPC), None));
    assert!(goes_on(&ring));
}

#[test]
fn the_error_of_a_sync_is_told_and_closes_the_latch() {
    let Some(ring) = ring() else { return };
    // It takes every byte, and cannot be synced.
    let (result, told) = submit(&ring, &device("/dev/null"), b"abcd");
    assert_eq!((result.unwrap_err().raw_os_error(), told), (Some(libc::EINVAL), Some(4)));
    assert!(goes_on(&ring));

    #[derive(Clone, Debug)]
    struct Null(Arc<Ring>);
    impl Layer for Null {
        fn file(&self, _: &OsStr, _: Access, _: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
            Arc::new(UringFile { file: device("/dev/null"), ring: Arc::clone(&self.0) })
        }
    }
    let dir = MemoryDisk::new().open_dir(Path::new("")).unwrap();
    dir.open("null".as_ref(), Access::Create).unwrap();
    let disk = FailStop::new(Arc::new(Layered::new(dir, Null(Arc::new(ring)))));
    let file = disk.open("null".as_ref(), Access::Write).unwrap();
    let mut written = false;
    let result = write_and_sync(&*file, b"abcd".to_vec(), 0, &mut |_| written = true);
    assert!(result.is_err() && written);
    assert_eq!(disk.failure().and_then(|error| error.raw_os_error()), Some(libc::EINVAL));
}

#[test]
fn a_short_write_is_told_as_what_it_is_and_cancels_the_sync() {
    let Some(ring) = ring() else { return };
    let (_reader, file) = pipe_with_room(4096);
    // The sync would have failed: a pipe has none.
    let (result, told) = submit(&ring, &file, &[b'y'; 4096 * 2]);
    assert_eq!((result.ok(), told), (Some(false), Some(4096)));
    assert!(goes_on(&ring));
}

#[test]
fn a_panic_meanwhile_gives_the_ring_up() {
    let Some(ring) = ring() else { return };
    let (path, file) = TempFile::new(4);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _ = ring.submit(&file, b"abcd".to_vec(), 0, &mut |_, _| panic!("on purpose"));
    }));
    assert!(panicked.is_err());
    assert_eq!(path.content(), b"abcd");
    let (result, told) = submit(&ring, &file, b"efgh");
    assert_eq!((result.ok(), told), (Some(true), Some(4)), "by ordinary calls");
    assert_eq!(path.content(), b"efgh");
    assert!(ring.refusal().is_some());
}

/// Submits a write alone and does not wait for it.
fn begun_write(ring: &Ring, file: &OsFile, bytes: Vec<u8>) -> Request {
    let mut ring = ring.idle.lock().take().unwrap();
    let length = u32::try_from(bytes.len()).unwrap();
    let write = opcode::Write::new(types::Fd(file.0.as_raw_fd()), bytes.as_ptr(), length).build().user_data(WRITE);
    // SAFETY: the request below owns the bytes, and is waited for.
    #[expect(unsafe_code, reason = "the kernel reads the bytes after this call")]
    unsafe { ring.submission().push(&write) }.unwrap();
    assert_eq!(ring.submit().unwrap(), 1);
    Request { ring: Some(ring), bytes, is_linked: false, under_way: 1, write: None, sync: None }
}

/// The kernel owns the bytes until the write is completed.
#[test]
fn a_request_that_is_dropped_is_waited_for() {
    let Some(ring) = ring() else { return };
    let (mut reader, file) = pipe_with_room(0);
    let request = begun_write(&ring, &file, vec![b'y'; 4096]);
    let has_room = Arc::new(AtomicU64::new(0));
    let noted = Arc::clone(&has_room);
    let drain = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(30));
        noted.store(1, Ordering::Release);
        let mut last = [0; 4096];
        while last != [b'y'; 4096] {
            reader.read_exact(&mut last).unwrap();
        }
    });
    drop(request);
    assert_eq!(has_room.load(Ordering::Acquire), 1, "dropped while the kernel still had the bytes");
    drain.join().unwrap();
}

#[test]
fn a_sync_that_the_kernel_did_not_take_is_not_taken_for_done() {
    let Some(ring) = ring() else { return };
    let (path, file) = TempFile::new(4);
    let mut request = begun_write(&ring, &file, b"abcd".to_vec());
    let mut told = None;
    let synced = request.finish(&mut |_, taken| told = Some(taken)).unwrap();
    assert_eq!((synced, told), (false, Some(4)));
    assert!(request.into_idle().is_none(), "the other half is in its queue");
    assert_eq!(path.content(), b"abcd");
}

#[test]
fn a_forked_child_leaves_the_ring_alone() {
    let Some(ring) = ring() else { return };
    process::watch_forks();
    let ring = Ring { generation: process::generation(), ..ring };
    let (path, file) = TempFile::new(4);
    // Held, as if another thread were in the middle of a flush. No thread of the child will end it.
    let held = ring.idle.lock();
    // SAFETY: the child makes one call, which does not get the ring, and leaves by _exit.
    #[expect(unsafe_code, reason = "fork has no safe binding")]
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut told = 0;
        let done = ring.submit(&file, b"kids".to_vec(), 0, &mut |_, taken| told = taken);
        let right = done.is_ok_and(|synced| synced) && told == 4 && ring.refusal().is_some();
        // SAFETY: no destructor of the parent's may run here.
        #[expect(unsafe_code, reason = "_exit has no safe binding")]
        unsafe {
            libc::_exit(i32::from(!right))
        }
    }
    let mut status = 0;
    // SAFETY: the child is ours, and the status is a valid place to write to.
    #[expect(unsafe_code, reason = "waitpid has no safe binding")]
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(waited == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
    drop(held);
    assert_eq!(path.content(), b"kids");
    assert!(goes_on(&ring));
}
