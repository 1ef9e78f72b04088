//! What a log's directory holds, read and checked without changing anything.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::prior::Prior;
use super::unfinished::{Marked, is_temporary};
use crate::base::error::{DamageCause, Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::disk::{Access, Dir, DirHandle, LOCK_NAME, is_system_name, read_exact_at};
use crate::format::Refusal;
use crate::format::history::{Decoder, Entry, FILE_NAME, HEADER as HISTORY_HEADER, History};
use crate::format::identity::Identity;
use crate::format::mark;
use crate::format::refusal::has_tables;
use crate::format::segment::{SEGMENT_HEADER_LEN, SegmentHeader, base_of, file_name};
use crate::format::table::DIRECTORY;
use crate::format::table::manifest::{self, Manifest};
use crate::log::log_dir::LogDir;
use crate::log::mark::Slots;
use crate::log::read::reader::SegmentInfo;

/// Whether the files stay as they are while they are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Files {
    /// They are locked, or nobody else is there.
    Still,
    /// A writer may change them: "A reader beside a writer" in `disk/LOCK.md`.
    MayChange,
}

/// A log's directory with a HISTORY.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) history: History,
    /// What the owner's other files say.
    pub(crate) prior: Prior,
    pub(crate) mark: Slots,
    /// By incarnation number, each in base order.
    pub(crate) segments: BTreeMap<u64, Vec<SegmentInfo>>,
    /// Files that nothing depends on and that may go: retired segments whose removal was cut off, whole or not.
    pub(crate) leftovers: Vec<PathBuf>,
    /// Segments that nothing needs, and that nobody has let go.
    pub(crate) retained: Vec<SegmentInfo>,
    /// There are others, which the system has not let read.
    pub(crate) has_unread: bool,
    /// Files that were being prepared.
    pub(crate) temporary: Vec<PathBuf>,
}

impl Directory {
    /// Reads the directory; `None` if it is empty, save for what a creation that was cut off may leave, and for what
    /// systems put into any directory.
    pub(crate) fn load(place: &LogDir, files: Files, look: &mut Look<'_>) -> Result<Option<Directory>> {
        let mut names = Names::list(place)?;
        // A list may leave out a name that is replaced meanwhile.
        names.has_history |= files == Files::MayChange && place.open(&place.path(FILE_NAME), Access::Read).is_ok();
        if !names.has_history {
            if !names.bases.is_empty() || names.has_mark || has_manifest(place) {
                return Err(Error::damaged(&place.path(FILE_NAME), Lsn::ZERO, DamageCause::BadHistory));
            }
            if let Some(stranger) = names.strangers.first() {
                return Err(Error::new(
                    ErrorKind::NotADatabase,
                    format!(
                        "{} holds other files ({}) and no forelog database: choose an empty directory",
                        place.dir().display(),
                        stranger.display()
                    ),
                ));
            }
            return Ok(None);
        }
        let history = read_history(place)?;
        let prior = look(place.handle(), &history)?;
        let Names { mut bases, temporary, .. } = names;
        let mark = Slots::read(place)?;
        let (segments, leftovers, retained) = Default::default();
        let mut directory =
            Directory { history, prior, mark, segments, leftovers, retained, has_unread: false, temporary };
        bases.sort_unstable();
        if files == Files::MayChange {
            // All at once, before any is read: a reader keeps open what it has opened.
            bases.iter().for_each(|base| drop(place.open(&place.path(&file_name(*base)), Access::Read)));
        }
        for (index, &base) in bases.iter().enumerate() {
            match read_info(place, base) {
                Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
                Err(error) if files == Files::MayChange && is_missing(&error) => {}
                Err(error) if directory.has_all_of(base, bases.get(index + 1).copied()) => {
                    // What the system does not show now may be whole, and somebody may want to retain it.
                    match error.damage() {
                        Some(_) => directory.leftovers.push(place.path(&file_name(base))),
                        None => directory.has_unread = true,
                    }
                }
                info => directory.add(place, base, info?)?,
            }
        }
        Ok(Some(directory))
    }

    /// Everything at or below this is retired, or known from elsewhere.
    pub(crate) fn oldest(&self) -> Lsn {
        self.history.oldest.max(self.prior.known)
    }

    /// Whether all that a segment can hold which begins at `base` is known from elsewhere, as far as the begin of the `next`
    /// one and HISTORY tell: segments do not overlap (`table/FAULTS.md`, "Where the walk begins").
    fn has_all_of(&self, base: u64, next: Option<u64>) -> bool {
        let known = self.prior.known.get();
        let (begun, later) =
            self.history.entries.split_at(self.history.entries.partition_point(|e| e.begin.get() <= base));
        let ended = begun.last().and_then(|own| own.end).filter(|end| base < end.prepared.get());
        let ends = [next, later.first().map(|entry| entry.begin.get()), ended.map(|end| end.lsn.get())];
        known > 0 && ends.into_iter().flatten().any(|end| end <= known)
    }

    fn add(&mut self, place: &LogDir, base: u64, info: SegmentInfo) -> Result<()> {
        let identity = info.header.identity;
        let bad = |cause| Err(Error::damaged(&info.path, Lsn::new(base), cause));
        if identity.base != base || identity.log_id != self.history.log_id {
            return bad(DamageCause::BadHeader);
        }
        let number = identity.incarnation.number;
        if number < self.history.first_number {
            self.leftovers.push(info.path);
            return Ok(());
        }
        let index = usize::try_from(number - self.history.first_number).unwrap_or(usize::MAX);
        if let Some(entry) = self.history.entries.get(index) {
            if entry.incarnation != identity.incarnation || entry.key != identity.key {
                return bad(DamageCause::BadHeader);
            }
            if info.header.features & !self.history.features_of_segments() != 0 {
                // HISTORY had this bit, durably, before it listed the incarnation or the segment was made (F1): it is older
                // than the log.
                return Err(Error::damaged(&place.path(FILE_NAME), Lsn::new(base), DamageCause::BadHistory));
            }
            let end = entry.end.map_or(info.header.limit(), |end| end.lsn.get().min(info.header.limit()));
            if end <= self.oldest().get() && end > base {
                if end > self.history.oldest.max(self.prior.let_go).get() {
                    self.retained.push(SegmentInfo { end, ..info });
                } else {
                    self.leftovers.push(info.path);
                }
                return Ok(());
            }
        }
        self.segments.entry(number).or_default().push(info);
        Ok(())
    }
}

/// The names in the directory of a log.
#[derive(Debug, Default)]
struct Names {
    /// Of segments.
    bases: Vec<u64>,
    temporary: Vec<PathBuf>,
    strangers: Vec<OsString>,
    has_history: bool,
    has_mark: bool,
}

impl Names {
    /// Refuses the directory of an unfinished copy.
    fn list(place: &LogDir) -> Result<Self> {
        let names = place.handle().list()?;
        if let Some(marked) = Marked::of(&names) {
            return Err(marked.error(place));
        }
        let mut found = Names::default();
        for name in names {
            let known = name.to_str().map(|name| (name, base_of(name)));
            match known {
                Some((_, Some(base))) => found.bases.push(base),
                Some((name, None)) if name == FILE_NAME => found.has_history = true,
                Some((name, None)) if name == mark::FILE_NAME => found.has_mark = true,
                Some((name, None)) if name == LOCK_NAME => {}
                Some((name, None)) if is_temporary(name) => found.temporary.push(place.path(name)),
                _ if is_system_name(&name) => {}
                _ => found.strangers.push(name),
            }
        }
        Ok(found)
    }
}

/// Whether there are tables of a database, which may be all that is left of it. Another program's `table` has none.
fn has_manifest(place: &LogDir) -> bool {
    let mut magic = [0; Manifest::MAGIC.len()];
    let tables = place.handle().dir().child(OsStr::new(DIRECTORY), Access::Read);
    let manifest = tables.and_then(|dir| dir.open(OsStr::new(manifest::FILE_NAME), Access::Read));
    manifest.and_then(|file| read_exact_at(&*file, &mut magic, 0)).is_ok_and(|()| magic == Manifest::MAGIC)
}

/// Asks the owner of a log what its other files say, once HISTORY is known.
pub(crate) type Look<'l> = dyn FnMut(&DirHandle, &History) -> Result<Prior> + 'l;

/// For an owner that has no other files.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if there are tables: segments may be missing that they have.
pub(crate) fn no_tables(handle: &DirHandle, history: &History) -> Result<Prior> {
    match history.tables {
        None => Ok(Prior::default()),
        Some(_) => Err(has_tables(&handle.path_of(FILE_NAME.as_ref()))),
    }
}

/// A HISTORY of another version is not read if it is longer than this.
const MAX_FOREIGN_HISTORY: u64 = 1 << 30;

/// Reads and checks HISTORY. It is taken into memory as far as its entries are possible: what its first bytes, or its
/// length, say that there is may be a hole in a file.
pub(crate) fn read_history(place: &LogDir) -> Result<History> {
    let path = place.path(FILE_NAME);
    let bad = || Error::damaged(&path, Lsn::ZERO, DamageCause::BadHistory);
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => bad().with_source(error),
        _ => Error::unreadable(&path, Lsn::ZERO, error),
    };
    let check = |refusal| refused(refusal, &path, Lsn::ZERO, DamageCause::BadHistory);
    let file = place.open(&path, Access::Read).map_err(unreadable)?;
    let length = file.len().map_err(unreadable)?;
    let mut head = [0; HISTORY_HEADER];
    read_exact_at(&*file, &mut head, 0).map_err(unreadable)?;
    let expected = History::length(&head).map_err(check)?;
    let fits = expected.map_or(length <= MAX_FOREIGN_HISTORY, |expected| expected == length);
    if !fits {
        let expected = expected.map_or("and is of another version".to_owned(), |expected| format!("not {expected}"));
        let why = format!("it is {length} bytes long, {expected}");
        return Err(bad().with_source(io::Error::new(io::ErrorKind::InvalidData, why)));
    }
    let mut decoder = Decoder::new(&head).map_err(check)?;
    let (mut at, mut piece) = (HISTORY_HEADER as u64, Vec::new());
    while at < length {
        piece.resize(decoder.piece(length - at), 0);
        decoder.reserve(piece.len()).map_err(unreadable)?;
        read_exact_at(&*file, &mut piece, at).map_err(unreadable)?;
        decoder.add(&piece).map_err(check)?;
        at += piece.len() as u64;
    }
    decoder.finish().map_err(check)
}

/// Reads and checks the header of the segment whose name is that of `base`.
pub(crate) fn read_info(place: &LogDir, base: u64) -> Result<SegmentInfo> {
    let path = place.path(&file_name(base));
    let damaged = |cause, error: io::Error| Error::damaged(&path, Lsn::new(base), cause).with_source(error);
    let unreadable = |error| Error::unreadable(&path, Lsn::new(base), error);
    let file = place.open(&path, Access::Read).map_err(unreadable)?;
    let length = file.len().map_err(unreadable)?;
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    read_exact_at(&*file, &mut bytes, 0).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(DamageCause::WrongLength, error),
        _ => unreadable(error),
    })?;
    let header = SegmentHeader::decode(&bytes)
        .map_err(|refusal| refused(refusal, &path, Lsn::new(base), DamageCause::BadHeader))?;
    Ok(SegmentInfo { end: header.limit(), header, path, length })
}

/// Whether the error is that there is no such file.
pub(super) fn is_missing(error: &Error) -> bool {
    error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The segment of the open incarnation `entry` that follows `last`, found by its name; `None` if it is not there, or is not
/// of this incarnation. A list of names may be older than it.
pub(super) fn next_segment(place: &LogDir, entry: &Entry, last: &SegmentInfo) -> Result<Option<SegmentInfo>> {
    let info = match read_info(place, last.header.limit()) {
        Err(error) if is_missing(&error) => return Ok(None),
        info => info?,
    };
    let Identity { log_id, incarnation, key, base } = info.header.identity;
    let is_it = base == last.header.limit()
        && (log_id, incarnation, key) == (last.header.identity.log_id, entry.incarnation, entry.key);
    Ok(is_it.then_some(info))
}

/// The segments of the open incarnation in order, with those that a list of names has left out.
pub(super) fn filled(place: &LogDir, entry: &Entry, found: Vec<SegmentInfo>) -> Result<Vec<SegmentInfo>> {
    let mut filled: Vec<SegmentInfo> = Vec::with_capacity(found.len());
    for info in found {
        while let Some(last) = filled.last().filter(|last| last.header.limit() < info.base()) {
            match next_segment(place, entry, last)? {
                Some(between) => filled.push(between),
                None => break,
            }
        }
        filled.push(info);
    }
    Ok(filled)
}

/// The error for a header that was refused.
pub(super) fn refused(refusal: Refusal, path: &Path, lsn: Lsn, cause: DamageCause) -> Error {
    refusal.error(path, || Error::damaged(path, lsn, cause))
}
