//! The mark: proof, outside the segments, of how far the log was durable when it came to rest.
//!
//! A frame proves what was durable before it. So nothing in the segments proves the last group durable, until the next
//! one is written. Once a log has been at rest for a second, its durable LSN is written to MARK. Three rules make it
//! harmless: a claim is true before it is written; it binds only the incarnation that it names; no commit waits for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::log_dir::LogDir;
use crate::base::error::{DamageCause, Error, Result, is_the_mediums};
use crate::base::types::{Incarnation, LogId, Lsn};
use crate::disk::{Access, DiskFile, read_exact_at, write_all_at};
use crate::format::history::History;
use crate::format::mark::{FILE_NAME, Mark, SLOT, SLOT_LEN, SLOTS};
use crate::rt::clock::{self, Moment};
use crate::rt::sync::Mutex;

/// The log is at rest when its durable LSN has not moved for this long. The flusher looks once in that time, so the
/// mark comes one to two of them after the last flush.
pub(crate) const REST: Duration = Duration::from_secs(1);

/// Whether a mark is to be written. Guarded by the append lock.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Arming {
    /// The mark says it all; the next flush arms it.
    #[default]
    Idle,
    /// The durable LSN has moved; the flusher has yet to notice.
    Armed,
    /// The flusher looks again at `at`, whether the durable LSN is still `seen`.
    Watching { at: Moment, seen: u64 },
    /// Being written.
    Underway,
    /// The log has stopped.
    Over,
}

/// What the flusher is to do about the mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    Never,
    /// Look again at that time.
    At(Moment),
    /// The same, and have the files looked at now: at most once in [`REST`], and at least once in two of them while the
    /// durable LSN moves. A log that is never at rest may be long in coming to its next segment.
    AtFiles(Moment),
    /// The log is at rest: have the mark written.
    Write,
}

impl Arming {
    /// The durable LSN has moved; whether the flusher is to be told.
    pub(super) fn arm(&mut self) -> bool {
        let is_new = *self == Arming::Idle;
        if is_new {
            *self = Arming::Armed;
        }
        is_new
    }

    /// The flusher looks, and finds this durable LSN.
    pub(super) fn watch(&mut self, durable: u64) -> Look {
        let now = clock::now();
        match *self {
            Arming::Watching { at, .. } if now < at => Look::At(at),
            Arming::Watching { seen, .. } if seen == durable => {
                *self = Arming::Underway;
                Look::Write
            }
            Arming::Armed | Arming::Watching { .. } => {
                let at = now.after(REST);
                *self = Arming::Watching { at, seen: durable };
                Look::AtFiles(at)
            }
            Arming::Idle | Arming::Underway | Arming::Over => Look::Never,
        }
    }
}

/// MARK as the open incarnation writes it. Held during I/O on it, by the one thread that does any.
#[derive(Debug, Default)]
pub(super) struct Marker {
    file: Mutex<Option<MarkFile>>,
}

#[derive(Debug)]
struct MarkFile {
    file: Arc<dyn DiskFile>,
    last: Mark,
}

impl Marker {
    /// Replaces MARK by an empty one, for an incarnation that is about to begin. That of the last incarnation has done
    /// its work: HISTORY has its end. The name becomes durable with the HISTORY that lists the incarnation. Nothing
    /// relies on the file, so that a failure costs nothing but the marks.
    pub(super) fn begin(&self, place: &LogDir, log_id: LogId, incarnation: Incarnation, begin: Lsn) -> io::Result<()> {
        let file = place.create(&place.path(FILE_NAME))?;
        let last = Mark { log_id, incarnation, count: 0, durable: begin };
        *self.file.lock() = Some(MarkFile { file, last });
        Ok(())
    }

    /// Writes that everything up to `durable` is durable; `None` if there is no file to write to. After a failure there is
    /// none any more.
    pub(super) fn write(&self, durable: Lsn) -> Option<io::Result<()>> {
        let mut marks = self.file.lock();
        let MarkFile { file, last } = marks.as_mut()?;
        let next = Mark { count: last.count + 1, durable, ..*last };
        // Never `sync_all`: the file stays fresh to the fail-stop latch, so that its failures are its own.
        let written = write_all_at(&**file, &next.to_bytes(), next.offset()).and_then(|()| file.sync_data());
        match written {
            Ok(()) => *last = next,
            Err(_) => *marks = None,
        }
        Some(written)
    }
}

/// What the MARK beside a log was found to say.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum MarkFound {
    /// There is no such file.
    #[default]
    Absent,
    /// Nothing was written to it: since the incarnation began the log was never at rest for a second.
    Empty,
    /// No slot of it checks, or it cannot be read. It proves nothing. A crash in the first mark may leave this.
    Invalid,
    /// It is of another log, or of an incarnation that is not the last one. It proves nothing.
    Foreign,
    /// Everything up to here was durable in the last incarnation.
    Proves(Lsn),
}

/// The slots of a MARK that check, each with its number; and what can be said about it before HISTORY is looked at.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    marks: Vec<(u64, Mark)>,
    found: MarkFound,
}

impl Slots {
    /// Reads the file. Whatever is wrong with it proves nothing and is no damage: a torn slot is a legal state. But an
    /// error of the operating system that says nothing about the medium must not make the proof disappear for one open.
    pub(crate) fn read(place: &LogDir) -> Result<Self> {
        let path = place.path(FILE_NAME);
        let file = match place.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Slots::default()),
            Err(error) if is_the_mediums(&error) => return Ok(Slots { marks: Vec::new(), found: MarkFound::Invalid }),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let mut slots = Slots { marks: Vec::new(), found: MarkFound::Empty };
        for slot in 0..SLOTS {
            let mut bytes = [0; SLOT_LEN];
            match read_exact_at(&*file, &mut bytes, slot * SLOT) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) if is_the_mediums(&error) => slots.found = MarkFound::Invalid,
                Err(error) => return Err(Error::io("read", &path, error)),
            }
            match Mark::decode(&bytes) {
                Ok(mark) => slots.marks.push((slot, mark)),
                Err(_) if bytes.iter().all(|&byte| byte == 0) => {}
                Err(_) => slots.found = MarkFound::Invalid,
            }
        }
        Ok(slots)
    }

    /// Up to where they prove this incarnation durable; zero if they say nothing of it.
    pub(crate) fn proven(&self, incarnation: Incarnation) -> u64 {
        let own = self.marks.iter().filter(|(_, mark)| mark.incarnation == incarnation);
        own.map(|(_, mark)| mark.durable.get()).max().unwrap_or(0)
    }

    /// The slots that check, each with its number.
    #[cfg(feature = "unstable")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(u64, Mark)> {
        self.marks.iter()
    }

    /// What the mark says about the log whose history this is. Refuses a history that a mark proves to be stale.
    pub(crate) fn judge(&self, history: &History, place: &LogDir) -> Result<MarkFound> {
        let own = || self.marks.iter().map(|(_, mark)| mark).filter(|mark| mark.log_id == history.log_id);
        let stale =
            |lsn| Err(Error::damaged(&place.path(crate::format::history::FILE_NAME), lsn, DamageCause::BadHistory));
        // A mark is written after HISTORY has listed its incarnation, durably.
        if let Some(mark) = own().find(|mark| mark.incarnation.number >= history.next_number()) {
            return stale(mark.durable);
        }
        let Some(last) = history.entries.last() else { return Ok(self.unless_marked()) };
        let proven = own().filter(|mark| mark.incarnation == last.incarnation).map(|mark| mark.durable).max();
        match (proven, last.end) {
            (None, _) => Ok(self.unless_marked()),
            // No end is below what was durable: this one is of another branch of the directory.
            (Some(durable), Some(end)) if durable > end.lsn => stale(durable),
            (Some(durable), _) => Ok(MarkFound::Proves(durable)),
        }
    }

    fn unless_marked(&self) -> MarkFound {
        if self.marks.is_empty() { self.found } else { MarkFound::Foreign }
    }
}
