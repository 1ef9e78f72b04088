//! The directory whose disk is measured, as the command line of a benchmark names it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::common::mount::Mount;

/// What the command line of a benchmark asks for.
pub(crate) struct Request {
    /// The directory for temporary files, unless another is named.
    pub(crate) parent: PathBuf,
    /// Part of the names of what is to be measured.
    pub(crate) only: Option<String>,
}

/// Why a benchmark ends early.
pub(crate) enum Stop {
    /// The command line is wrong.
    Usage(String),
    /// It cannot go on.
    Failure(String),
    /// What went wrong was said where it did.
    Told,
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Stop::Failure(message)
    }
}

/// Runs a benchmark called `name`, which takes `DIR` and, if `takes_only`, `only=TEXT`. Exit code 1 says that something
/// was not measured, 2 that the command line is wrong.
pub(crate) fn main_of(name: &str, takes_only: bool, run: impl FnOnce(&Request) -> Result<(), Stop>) -> ExitCode {
    let (message, code) = match parse(std::env::args().skip(1), takes_only).and_then(|request| run(&request)) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Stop::Told) => return ExitCode::from(1),
        Err(Stop::Failure(message)) => (message, 1),
        Err(Stop::Usage(message)) => {
            let only = if takes_only { " [only=TEXT]" } else { "" };
            (format!("{message}; usage: cargo bench --bench {name} [-- [DIR]{only}]"), 2)
        }
    };
    eprintln!("{name}: {message}");
    ExitCode::from(code)
}

fn parse(arguments: impl Iterator<Item = String>, takes_only: bool) -> Result<Request, Stop> {
    let (mut parent, mut only) = (None, None);
    // cargo adds the one.
    for argument in arguments.filter(|argument| argument != "--bench") {
        let again = match argument.strip_prefix("only=") {
            Some(text) if takes_only => only.replace(text.to_owned()).is_some(),
            _ if argument.starts_with('-') || argument.starts_with("only=") => {
                return Err(Stop::Usage(format!("{argument:?} is not known")));
            }
            _ if argument.is_empty() => return Err(Stop::Usage("an empty argument names no directory".to_owned())),
            _ => parent.replace(PathBuf::from(&argument)).is_some(),
        };
        if again {
            return Err(Stop::Usage(format!("{argument:?} is one too many")));
        }
    }
    Ok(Request { parent: parent.unwrap_or_else(std::env::temp_dir), only })
}

/// A directory of its own in the one that was asked for; gone when it is dropped.
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    /// See [`Mount::is_memory`].
    pub(crate) is_memory: bool,
}

impl Place {
    /// Makes it, and `parent` if that is not there, and says so if its files are kept in memory.
    pub(crate) fn inside(parent: &Path) -> Result<Place, String> {
        fs::create_dir_all(parent).map_err(|error| failed("make the directory", parent, &error))?;
        let whole = fs::canonicalize(parent).map_err(|error| failed("find", parent, &error))?;
        let dir = whole.join(format!("forelog-bench-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| failed("make the directory", &dir, &error))?;
        let place = Place { is_memory: Mount::of(&whole).is_some_and(|mount| mount.is_memory), dir };
        let probe = place.dir.join("probe");
        let written =
            File::create(&probe).and_then(|mut file| file.write_all(&[7; 4096]).and_then(|()| file.sync_all()));
        written.and_then(|()| fs::remove_file(&probe)).map_err(|error| failed("write", &probe, &error))?;
        if place.is_memory {
            let shown = whole.display();
            eprintln!(
                "{shown} keeps its files in memory: no figure of a sync, nor of `Sync` commits, means anything here"
            );
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Says in one line what could not be done to which path, and what to do about it.
pub(crate) fn failed(what: &str, path: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room there",
        ErrorKind::ReadOnlyFilesystem => "mount it writable",
        ErrorKind::PermissionDenied => "change its owner or mode",
        ErrorKind::NotFound => "make it",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "a file is in the way: move it",
        _ => "see what is wrong with that disk",
    };
    format!("cannot {what} {}: {error}; {advice}, or name another directory: -- DIR", path.display())
}
