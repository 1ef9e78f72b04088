//! A segment as a file: created, filled and durable before the log uses it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32fast::Hasher;

use crate::base::error::{Error, ErrorKind, Result};
use crate::disk::{DiskFile, write_all_at};
use crate::format::fill::Fill;
use crate::format::identity::Identity;
use crate::format::segment::{SEGMENT_HEADER_LEN, SegmentHeader, TEMPORARY_SUFFIX, file_name};
use crate::log::log_dir::LogDir;

/// The fill is written in pieces of this size: after larger ones the kernel caches the file in large units, and each
/// small write and fsync into it costs more (ext4, Linux 6.18: 36 us after pieces of 4 MiB, 22 us after 64 KiB).
const FILL_PIECE: u64 = 64 << 10;

/// The fill is synced whenever this much was written: one fsync of a whole large segment would make the commits'
/// fsyncs wait behind it.
const FILL_SYNC: u64 = 4 << 20;

/// A segment with its open file.
#[derive(Debug)]
pub(crate) struct Segment {
    header: SegmentHeader,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    checksum: Hasher,
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader, path: PathBuf, file: Arc<dyn DiskFile>) -> Self {
        let checksum = header.identity.checksum();
        Segment { header, path, file, checksum }
    }

    pub(crate) fn base(&self) -> u64 {
        self.header.identity.base
    }

    pub(crate) fn limit(&self) -> u64 {
        self.header.limit()
    }

    pub(crate) fn size(&self) -> u64 {
        self.header.size
    }

    pub(crate) fn identity(&self) -> Identity {
        self.header.identity
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(crate) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// The checksum state that every frame of the segment goes on from.
    pub(crate) fn checksum(&self) -> &Hasher {
        &self.checksum
    }

    /// Creates a segment, fills it, and makes it durable, its name included. It gets its name only when it is
    /// complete, so that a crash in between leaves nothing that recovery would have to explain.
    pub(crate) fn create(place: &LogDir, header: SegmentHeader) -> Result<Arc<Segment>> {
        let identity = header.identity;
        if identity.base.checked_add(header.size).is_none() {
            return Err(Error::invalid_input("the log has used up its 2^64 positions: start a new database"));
        }
        // Under the same names a second writer would prepare its own.
        place.handle().check_lock()?;
        let path = place.path(&file_name(identity.base));
        let temporary = place.path(&(file_name(identity.base) + TEMPORARY_SUFFIX));
        let filled = place.create(&temporary).and_then(|file| {
            write_content(&*file, &header)?;
            file.sync_all()?;
            Ok(file)
        });
        let file = filled.map_err(|error| {
            // What cannot be removed only costs space: the next attempt removes it first.
            let _ = place.try_remove(&temporary);
            Error::io("prepare segment", &path, error)
        })?;
        place.handle().check_lock()?;
        let named = place.rename_new(&temporary, &path).map_err(|error| not_named(&path, error));
        named.and_then(|()| place.sync_dir()).inspect_err(|_| {
            // The next attempt begins anew, unless this failure was final: then nothing is removed any more.
            let _ = place.try_remove(&temporary);
            // A name that leads to another file is not this log's to remove.
            if place.handle().is_named(&*file, &path).is_ok_and(|is_named| is_named) {
                let _ = place.try_remove(&path);
            }
        })?;
        Ok(Arc::new(Segment::new(header, path, file)))
    }
}

/// The error of a segment that did not get its name.
fn not_named(path: &Path, error: io::Error) -> Error {
    if error.kind() != io::ErrorKind::AlreadyExists {
        return Error::io("rename segment", path, error);
    }
    let message = format!(
        "cannot make the segment {}: another program has put something of that name there. It is left as it is: move it \
         out of the database's directory, and try again",
        path.display()
    );
    Error::new(ErrorKind::Io, message).with_source(error)
}

fn write_content(file: &dyn DiskFile, header: &SegmentHeader) -> io::Result<()> {
    let fill = Fill::new(header.identity);
    let base = header.identity.base;
    let mut position = base;
    let mut piece = Vec::new();
    while position < header.limit() {
        let length = FILL_PIECE.min(header.limit() - position);
        piece.resize(usize::try_from(length).expect("a piece is small"), 0);
        fill.write(&mut piece, position);
        if position == base {
            piece[..SEGMENT_HEADER_LEN].copy_from_slice(&header.to_bytes());
        }
        write_all_at(file, &piece, position - base)?;
        position += length;
        if (position - base).is_multiple_of(FILL_SYNC) && position < header.limit() {
            file.sync_data()?;
        }
    }
    Ok(())
}
