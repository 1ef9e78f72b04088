//! A work directory on the disk that is tried, and the type of its file system.
//!
//! It is removed when the command ends, also by a signal. If a command is killed, the next one removes its directory: a
//! work directory has a file that identifies it, and its command holds a lock on that file for as long as the command
//! lives.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU,
};
use signal_hook::iterator::Signals;

use crate::output::{Failure, note};

/// The exit code of a command that was ended by a signal.
pub(crate) const INTERRUPTED: u8 = 130;

/// The file that identifies a work directory: without it, no later run removes the directory.
pub(crate) const OWN: &str = "forelog-work-directory";
const OWN_TEXT: &[u8] = b"This directory belongs to a forelog command that holds this file locked while it runs.\n\
    When no forelog runs, it can be removed; the next run of the command here does so.\n";

/// The signals that end a process unless it handles them. Those of a fault in the program itself (SIGSEGV, SIGABRT, ..)
/// are not among them, nor are SIGKILL, which nothing handles, SIGPIPE, which every Rust program ignores, and SIGXFSZ, which
/// is an error of a write here.
const ENDING: [i32; 11] =
    [SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU];

/// Those that Linux has besides: SIGSTKFLT and SIGPWR, and the ones without a name.
fn ending_on_linux() -> impl Iterator<Item = i32> {
    [16, 30].into_iter().chain(34..=64).filter(|_| cfg!(target_os = "linux"))
}

/// The time in which a command must end by itself after a signal.
const GRACE: Duration = Duration::from_secs(5);

static SIGNALLED: AtomicBool = AtomicBool::new(false);
/// The work directories of this process.
static ROOTS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Whether a signal has asked this process to end.
pub(crate) fn is_interrupted() -> bool {
    SIGNALLED.load(Ordering::Relaxed)
}

/// Returns an error once a signal has asked this process to end. Commands with a work directory call it between two
/// steps.
pub(crate) fn check() -> Result<(), Failure> {
    if is_interrupted() { Err(Failure::told("ended by a signal")) } else { Ok(()) }
}

/// Makes signals no longer end this process at once: [`check`] reports them, and the directory is removed.
pub(crate) fn watch_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A command under nohup, or in the background, goes on.
        let ignored = ignored_signals();
        let ending = ENDING.into_iter().chain(ending_on_linux());
        let watched = ending.filter(|signal| ignored >> (signal - 1) & 1 == 0);
        // The thread comes first: a signal that is handled, and that nobody hears of, would end nothing. Without a handler, as
        // where no thread is to be had, it ends the process at once, and the next run removes the directory.
        let (handlers, installed) = mpsc::channel();
        let listens = thread::Builder::new().name("forelog-signals".to_owned()).spawn(move || listen(&installed));
        let (Ok(_), Ok(signals)) = (listens, Signals::new::<[i32; 0], i32>([])) else { return };
        for signal in watched {
            // The C library may keep one for itself.
            let _ = signals.add_signal(signal);
        }
        let _ = handlers.send(signals);
    });
}

/// Waits for a signal. Returns if no handlers were installed.
fn listen(installed: &mpsc::Receiver<Signals>) {
    let Ok(mut signals) = installed.recv() else { return };
    signals.forever().next();
    SIGNALLED.store(true, Ordering::Relaxed);
    thread::sleep(GRACE);
    // The command is in a step that does not end.
    for root in ROOTS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = fs::remove_dir_all(root);
    }
    std::process::exit(INTERRUPTED.into());
}

/// A bit for each signal that this process was started to ignore; the lowest bit is signal 1.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// A new directory. It is removed with all its contents when this is dropped.
pub(crate) struct Workspace {
    root: PathBuf,
    /// The system's name of the file system type, where it can be learned: `ext4`, `tmpfs`.
    pub(crate) file_system: Option<String>,
    /// Locked until it is dropped, after the directory was removed.
    _own: File,
}

impl Workspace {
    /// Makes a new directory in `parent`.
    pub(crate) fn create(parent: &Path, command: &str) -> Result<Self, Failure> {
        let unusable = |error: &io::Error| Failure::io(format_args!("use the directory {}", parent.display()), error);
        let parent = fs::canonicalize(parent).map_err(|error| unusable(&error))?;
        watch_signals();
        for attempt in 0..1_000 {
            let root = parent.join(format!("forelog-{command}-{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&root) {
                Ok(()) => {
                    ROOTS.lock().unwrap_or_else(PoisonError::into_inner).push(root.clone());
                    let own = take(&root).map_err(|error| unusable(&error))?;
                    if let Ok(own) = fs::metadata(&root) {
                        clear_left(&parent, own.uid());
                    }
                    let file_system =
                        fs::read("/proc/self/mounts").ok().and_then(|mounts| file_system_of(&mounts, &root));
                    return Ok(Workspace { root, file_system, _own: own });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unusable(&error)),
            }
        }
        Err(Failure::told(format!("{} is full of old forelog-{command} directories: remove them", parent.display())))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether the directory is in memory, so that nothing in it survives power loss, fsync or not.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.file_system.as_deref(), Some("tmpfs" | "ramfs" | "devtmpfs"))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root) {
            // Not a failure of the command: its measurements are valid.
            note(format_args!("cannot remove {}: {error}", self.root.display()));
        }
    }
}

/// Makes a new directory a work directory of this process.
fn take(root: &Path) -> io::Result<File> {
    let mut own = File::create_new(root.join(OWN))?;
    own.lock()?;
    // Written only now: an unlocked directory with this text has lost its command.
    own.write_all(OWN_TEXT)?;
    Ok(own)
}

/// Removes the work directories in `parent` that killed commands of this user have left, and reports it.
pub(crate) fn clear_left(parent: &Path, user: u32) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_our_name(&entry.file_name().to_string_lossy())) {
        let root = entry.path();
        let is_ours = |found: &Metadata| found.uid() == user;
        let Some(_lock) = lock_of_the_dead(&root, is_ours) else { continue };
        let told = match fs::remove_dir_all(&root) {
            Ok(()) => format!("removed {}, which a killed run has left", root.display()),
            Err(error) => format!("cannot remove {}, which a killed run has left: {error}", root.display()),
        };
        note(told);
    }
}

/// Whether it is a name that [`Workspace::create`] gives.
fn is_our_name(name: &str) -> bool {
    let mut parts = name.split('-');
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
    parts.next() == Some("forelog")
        && parts.next().is_some_and(|command| matches!(command, "trial" | "torture"))
        && is_number(parts.next())
        && is_number(parts.next())
        && parts.next().is_none()
}

/// The lock of a work directory whose command is gone; `None` if the command lives, or if it is not a work directory.
fn lock_of_the_dead(root: &Path, is_ours: impl Fn(&Metadata) -> bool) -> Option<File> {
    let own = root.join(OWN);
    let directory = fs::symlink_metadata(root).ok()?;
    let file = fs::symlink_metadata(&own).ok()?;
    let whole = file.is_file() && file.len() == OWN_TEXT.len() as u64;
    if !(directory.is_dir() && is_ours(&directory) && whole && is_ours(&file)) {
        return None;
    }
    let file = File::open(&own).ok()?;
    file.try_lock().ok()?;
    (fs::read(&own).ok()? == OWN_TEXT).then_some(file)
}

/// The file system type of `path`: that of the last one of the longest mount points above it.
fn file_system_of(mounts: &[u8], path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mounts.split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b' ');
        let (Some(mount), Some(kind)) = (fields.nth(1), fields.next()) else { continue };
        let mount = PathBuf::from(std::ffi::OsString::from_vec(unescaped(mount)));
        let depth = mount.components().count();
        if path.starts_with(&mount) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, String::from_utf8_lossy(kind).into_owned()));
        }
    }
    best.map(|(_, kind)| kind)
}

/// `/proc/mounts` writes blanks and backslashes in names as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_workspace_gets_are_ours() {
        for name in ["forelog-trial-12-0", "forelog-torture-4194304-3"] {
            assert!(is_our_name(name), "{name}");
        }
        for name in
            ["forelog-trial-12", "forelog-trial-12-0-1", "forelog-backup-12-0", "forelog-trial-x-0", "trial-1-0"]
        {
            assert!(!is_our_name(name), "{name}");
        }
    }

    #[test]
    fn the_deepest_and_last_mount_decides() {
        let mounts = b"/dev/vda / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n/dev/b /a\\040b xfs rw 0 0\n/dev/c /a\\040b btrfs rw 0 0\n";
        let kind = |path: &str| file_system_of(mounts, Path::new(path)).unwrap();
        assert_eq!(kind("/home/x"), "ext4");
        assert_eq!(kind("/dev/shm/x"), "tmpfs");
        assert_eq!(kind("/dev/shmoo"), "ext4");
        assert_eq!(kind("/a b/c"), "btrfs");
    }
}
