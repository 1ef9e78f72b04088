//! The system calls that have no safe binding: mounts, loop devices, namespaces. All `unsafe` code of the power cuts is
//! here.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const LOOP_CONTROL: &str = "/dev/loop-control";
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_GET_FREE: libc::Ioctl = 0x4C82;
/// The same number on every architecture.
const CACHESTAT: libc::c_long = 451;
const FLUSH_BUFFERS: libc::Ioctl = 0x1261;
/// The driver lets go of the file when the device is closed for the last time.
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

fn text(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// mount(2).
pub(super) fn mount(source: &str, target: &Path, kind: &str, flags: libc::c_ulong, options: &str) -> io::Result<()> {
    let (source, target) = (text(source.as_bytes())?, text(target.as_os_str().as_bytes())?);
    let (kind, options) = (text(kind.as_bytes())?, text(options.as_bytes())?);
    // SAFETY: all four point to strings that end with zero and live until the call returns.
    #[expect(unsafe_code, reason = "mount has no safe binding")]
    let result = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast::<libc::c_void>())
    };
    check(result).map(drop)
}

/// umount(2).
pub(super) fn unmount(target: &Path) -> io::Result<()> {
    let target = text(target.as_os_str().as_bytes())?;
    // SAFETY: the string ends with zero and lives until the call returns.
    #[expect(unsafe_code, reason = "umount has no safe binding")]
    let result = unsafe { libc::umount2(target.as_ptr(), 0) };
    check(result).map(drop)
}

/// Gives this thread, and the threads and processes that it starts, mounts of its own. They go when the last of these
/// ends, however it ends.
pub(super) fn own_mounts() -> io::Result<()> {
    // SAFETY: takes no pointer; only this thread's view of the mounts changes.
    #[expect(unsafe_code, reason = "unshare has no safe binding")]
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    check(result)?;
    mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, "")
}

/// This process is killed when the thread that started it ends.
pub(super) fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a number.
    #[expect(unsafe_code, reason = "prctl has no safe binding")]
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    check(result).map(drop)
}

pub(super) fn is_root() -> bool {
    // SAFETY: takes nothing, and cannot fail.
    #[expect(unsafe_code, reason = "geteuid has no safe binding")]
    let user = unsafe { libc::geteuid() };
    user == 0
}

/// Whether there is a program of this name.
pub(super) fn is_installed(program: &str) -> bool {
    let mut asked = Command::new(program);
    asked.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().is_ok()
}

/// Waits until there is something to read, or for so long.
pub(super) fn wait_readable(file: &File, time: Duration) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let time = libc::c_int::try_from(time.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: points to one structure, as the count says, that lives until the call returns.
    #[expect(unsafe_code, reason = "poll has no safe binding")]
    let result = unsafe { libc::poll(&raw mut poll, 1, time) };
    check(result).map(drop)
}

/// A loop device, attached until this is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) path: PathBuf,
    device: File,
}

impl Loop {
    /// Attaches a free loop device with sectors of `sector` bytes to a file, past the page cache.
    pub(super) fn attach(file: &Path, sector: u32) -> io::Result<Self> {
        let both = |path: &Path| OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(path);
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(file)?;
        let control = both(Path::new(LOOP_CONTROL))?;
        // Somebody else may take the free one first.
        for _ in 0..64 {
            // SAFETY: this request takes no argument.
            #[expect(unsafe_code, reason = "ioctl has no safe binding")]
            let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_GET_FREE) })?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = both(&path)?;
            match configure(&device, &file, sector) {
                Ok(()) => return Ok(Loop { path, device }),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Drops what the kernel remembers of the device's content; `false` if it may still remember something. (A file
    /// system that was mounted may have left pages that are in use for ever, as ext4 does with `fast_commit`.)
    pub(super) fn forget(&self) -> io::Result<bool> {
        // SAFETY: this request takes no argument.
        #[expect(unsafe_code, reason = "ioctl has no safe binding")]
        let result = unsafe { libc::ioctl(self.device.as_raw_fd(), FLUSH_BUFFERS, 0) };
        check(result)?;
        let whole = [0_u64; 2];
        let mut pages = [1_u64; 5];
        // SAFETY: points to the two numbers that this call reads and the five that it writes.
        #[expect(unsafe_code, reason = "cachestat has no safe binding")]
        let result =
            unsafe { libc::syscall(CACHESTAT, self.device.as_raw_fd(), whole.as_ptr(), pages.as_mut_ptr(), 0) };
        // Kernels before 6.5 cannot tell.
        Ok(result == 0 && pages[0] == 0)
    }
}

fn configure(device: &File, file: &File, sector: u32) -> io::Result<()> {
    // struct loop_config: the file and the size of a sector, then struct loop_info64, whose flags are at 52, then zeros.
    let mut config = [0_u32; 76];
    config[0] = u32::try_from(file.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    config[1] = sector;
    config[2 + 52 / 4] = AUTOCLEAR | DIRECT_IO;
    // SAFETY: points to the 304 bytes that this request reads.
    #[expect(unsafe_code, reason = "ioctl has no safe binding")]
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, config.as_ptr()) };
    check(result).map(drop)
}
