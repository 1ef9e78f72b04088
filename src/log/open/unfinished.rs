//! Directories that are marked as an unfinished copy: what they are, and what may be done about them.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::base::error::{DamageCause, Error, ErrorKind};
use crate::base::types::Lsn;
use crate::disk::{LOCK_NAME, is_system_name};
use crate::format::history::{self, FILE_NAME};
use crate::format::mark;
use crate::format::segment::base_of;
use crate::format::table::{DIRECTORY, OLD_DIRECTORY};
use crate::log::log_dir::LogDir;

/// In a directory while a copy is being written there: no database yet.
pub(crate) const UNFINISHED: &str = "UNFINISHED";
/// What HISTORY is called in a copy until it is finished.
pub(crate) const UNFINISHED_HISTORY: &str = "HISTORY.unfinished";

/// Whether a file of this name says that its directory holds an unfinished copy.
pub(crate) fn is_of_unfinished(name: &OsStr) -> bool {
    name == UNFINISHED || name == UNFINISHED_HISTORY
}

/// What a directory with such a file is. Only the first may be deleted: a copy has no HISTORY before both marks are gone,
/// and no segment before it has HISTORY.unfinished.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Marked {
    /// A copy that is being made, or was cut off, and the first name that is not of it.
    Copy { stranger: Option<OsString> },
    /// A database, and beside it a mark of this name.
    Database { mark: OsString },
    /// Files of a database that has lost its HISTORY, and a mark.
    Remains,
}

impl Marked {
    /// What the directory with these names is; `None` if it has no mark.
    pub(crate) fn of(names: &[OsString]) -> Option<Self> {
        let mark = names.iter().find(|name| is_of_unfinished(name))?.clone();
        let has = |known: &str| names.iter().any(|name| name == known);
        Some(if has(FILE_NAME) {
            Marked::Database { mark }
        } else if !has(UNFINISHED_HISTORY) && names.iter().any(|name| is_of_log(name)) {
            Marked::Remains
        } else {
            let is_of_copy = |name: &OsString| {
                let is_temporary = name.to_str().is_some_and(is_temporary);
                let is_of_log = is_of_log(name) || name == LOCK_NAME || name == DIRECTORY || name == OLD_DIRECTORY;
                is_of_unfinished(name) || is_of_log || is_temporary || is_system_name(name)
            };
            Marked::Copy { stranger: names.iter().find(|name| !is_of_copy(name)).cloned() }
        })
    }

    /// What it is, and what to do.
    pub(crate) fn describe(&self, dir: &Path) -> String {
        let dir = dir.display();
        match self {
            Marked::Copy { stranger } => {
                let keep = stranger.as_ref().map(|name| format!(" (keep what is not of it, as {})", name.display()));
                format!(
                    "{dir} is an unfinished copy of a database and holds only a part of it: unless the copy is still being \
                     made, delete the directory{} and make the copy again. (A backup or restore may be made again into it as it \
                     is, and goes on)",
                    keep.unwrap_or_default()
                )
            }
            Marked::Database { mark } => format!(
                "{dir} holds a database and, beside it, {}, the mark of an unfinished copy that is not part of it: keep \
                 the directory, move {0} out of it, and open it again",
                mark.display()
            ),
            Marked::Remains => format!(
                "{dir} holds files of a database whose HISTORY is gone, and the mark of an unfinished copy: keep it, and \
                 run `forelog salvage`"
            ),
        }
    }

    /// The error of an open.
    pub(crate) fn error(&self, place: &LogDir) -> Error {
        match self {
            Marked::Remains => Error::damaged(&place.path(history::FILE_NAME), Lsn::ZERO, DamageCause::BadHistory),
            _ => Error::new(ErrorKind::NotADatabase, self.describe(place.dir())),
        }
    }
}

fn is_of_log(name: &OsStr) -> bool {
    name == mark::FILE_NAME || name.to_str().and_then(base_of).is_some()
}

/// Whether a directory with these names holds an unfinished copy with which a backup may go on: there is nothing of a log in
/// it, nor of anybody else (`engine/BACKUP.md`).
pub(crate) fn may_go_on(names: &[OsString]) -> bool {
    Marked::of(names) == Some(Marked::Copy { stranger: None }) && !names.iter().any(|name| is_of_log(name))
}

/// Whether this is the name of a file that is being prepared.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|stem| [FILE_NAME, UNFINISHED].contains(&stem) || base_of(stem).is_some())
}
