//! Where the rows come from: a file, or a pipe. An import reads twice, and a pipe can be read only once. So what comes
//! through a pipe is kept in a temporary file while it is read for the first time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;

use super::temporary;
use crate::output::Failure;

/// The most that is kept of a pipe, in bytes.
const MAX_KEPT: u64 = 64 << 30;

/// What is read, twice.
#[derive(Debug)]
pub(super) struct Input {
    /// What it is called in messages.
    pub(super) name: String,
    file: File,
    /// What the pipe brought, if it is one.
    kept: Option<File>,
    /// Whether its name says which file it is.
    pub(super) is_named: bool,
    /// How long it is, if that is known before it was read.
    pub(super) length: Option<u64>,
}

impl Input {
    /// Opens the file. `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let is_stdin = path == Path::new("-");
        let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
        let unreadable = |error: &io::Error| Failure::io(format_args!("read {name}"), error);
        let opened = if is_stdin { io::stdin().as_fd().try_clone_to_owned().map(File::from) } else { File::open(path) };
        let file = opened.map_err(|error| unreadable(&error))?;
        let found = file.metadata().map_err(|error| unreadable(&error))?;
        if found.is_dir() {
            return Err(Failure::told(format!("{name} is a directory: name a file")));
        }
        // Standard input may be a file that another program has read in part, and goes on from there.
        let is_file = found.is_file() && !is_stdin;
        let kept =
            if is_file { None } else { Some(temporary::create().map_err(|error| Failure::told(cannot_keep(&error)))?) };
        let is_descriptor = ["/dev/stdin", "/dev/fd", "/proc"].iter().any(|name| path.starts_with(name));
        let length = is_file.then_some(found.len());
        Ok(Input { name, file, kept, is_named: is_file && !is_descriptor, length })
    }

    /// For the first reading.
    pub(super) fn first(&self) -> Result<Reading, Failure> {
        let keep = self.kept.as_ref().map(File::try_clone).transpose().map(|kept| kept.map(Keep::new));
        self.reading(&self.file, keep)
    }

    /// For another reading from the begin, when the one before has come to its end, or as far as it will.
    pub(super) fn again(&self) -> Result<Reading, Failure> {
        let file = self.kept.as_ref().unwrap_or(&self.file);
        let rewound = (&*file).seek(SeekFrom::Start(0)).map(|_| None);
        self.reading(file, rewound)
    }

    fn reading(&self, file: &File, keep: io::Result<Option<Keep>>) -> Result<Reading, Failure> {
        let opened = keep.and_then(|keep| Ok(Reading { file: file.try_clone()?, keep }));
        opened.map_err(|error| Failure::io(format_args!("read {}", self.name), &error))
    }
}

/// One reading of the input.
#[derive(Debug)]
pub(super) struct Reading {
    file: File,
    keep: Option<Keep>,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        if let Some(keep) = &mut self.keep {
            keep.keep(&buffer[..length])?;
        }
        Ok(length)
    }
}

/// Keeps what is read.
#[derive(Debug)]
struct Keep {
    file: File,
    room: u64,
}

impl Keep {
    fn new(file: File) -> Self {
        Keep { file, room: MAX_KEPT }
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.room.checked_sub(bytes.len() as u64);
        self.room = room.ok_or_else(|| {
            let most = MAX_KEPT >> 30;
            io::Error::other(format!("more than {most} GiB come through the pipe: save it to a file, and import that"))
        })?;
        self.file.write_all(bytes).map_err(|error| io::Error::other(cannot_keep(&error)))
    }
}

fn cannot_keep(error: &io::Error) -> String {
    let told = temporary::cannot_keep("what comes through the pipe", error);
    format!("{told}, or save it to a file and import that")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut keep = Keep { file: temporary::create().unwrap(), room: 5 };
        keep.keep(b"abc").unwrap();
        keep.keep(b"de").unwrap();
        assert!(keep.keep(b"f").unwrap_err().to_string().contains("more than 64 GiB"));
        let mut text = String::new();
        keep.file.seek(SeekFrom::Start(0)).unwrap();
        keep.file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
    }
}
