//! Why bytes were refused, and the error that says so.

use std::path::Path;

use super::{FORMAT_VERSION, features};
use crate::base::error::{Error, ErrorKind};

/// Why a header, a list or a block was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Not this kind of file at all.
    Magic,
    /// Damaged.
    Checksum,
    /// Checksums match, but the fields are impossible.
    Impossible,
    /// Written by a newer version (its number).
    Version(u32),
    /// Uses features that this version does not know (their bits).
    Features(u64),
    /// A block is compressed in a way that this version does not know (its number).
    Compression(u8),
}

/// The error for who asks for the log of a database with tables alone, of which `path` is the evidence.
pub(crate) fn has_tables(path: &Path) -> Error {
    let message = format!(
        "{} says that this is a database with tables, of which the log holds only the newest part: open it with \
         `Engine::open`, check it with `Engine::verify` or the command `forelog verify`",
        path.display()
    );
    Error::new(ErrorKind::Unsupported, message)
}

impl Refusal {
    /// The error for the file `path`: that a newer forelog wrote it, or what `damaged` says.
    pub(crate) fn error(self, path: &Path, damaged: impl FnOnce() -> Error) -> Error {
        let path = path.display();
        let what = match self {
            Refusal::Magic | Refusal::Checksum | Refusal::Impossible => return damaged(),
            Refusal::Version(version) => {
                format!("{path} has format version {version}, this forelog reads up to {FORMAT_VERSION}")
            }
            Refusal::Features(bits) => {
                format!("{path} uses features {bits:#x} that this forelog does not know ({})", features::describe(bits))
            }
            Refusal::Compression(number) => {
                format!("{path} is compressed in a way ({number}) that this forelog does not know")
            }
        };
        Error::new(ErrorKind::Unsupported, format!("{what}: open it with a newer one"))
    }
}
