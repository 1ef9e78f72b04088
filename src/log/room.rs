//! Room on the disk: the log ends while what stands above it can still give room back (`table/FAULTS.md`, section 4).

use std::io;
use std::sync::Arc;

use super::inner::LogInner;
use super::reserve::Reserve;
use crate::base::error::{Error, ErrorKind, Result};
use crate::disk::Dir;
use crate::log::write::segment::Segment;

/// No segment is made smaller than this for lack of room, unless the options say so.
const LEAST_SEGMENT: u64 = 64 << 10;
/// What stays free for records that only delete.
const SPARE: u64 = 512 << 10;

/// What happens to a segment that does not fit, at its smallest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Short {
    Refused,
    /// It is made if there is room for it in what is left for deletions.
    Spare,
    /// It is needed to give room back.
    Made,
}

impl LogInner {
    /// Has the log leave room on the disk. Called before the first commit.
    pub(crate) fn leave_room_for(&self, reserve: Arc<dyn Reserve>) {
        let _ = self.reserve.set(reserve);
    }

    /// Asks for room to be given back; whether someone answers.
    pub(super) fn ask_for_room(&self) -> bool {
        self.reserve.get().is_some_and(|reserve| reserve.ask())
    }

    /// How many bytes a merge leaves free: what a next segment needs, at its smallest.
    pub(crate) fn room_to_leave(&self) -> u64 {
        let unused = self.appender().last_segment().map_or(0, |(last, _)| self.unused(&last));
        let size = LEAST_SEGMENT;
        let left = self.reserve.get().map_or(0, |reserve| reserve.bytes(unused.saturating_add(size)));
        size.saturating_add(left).saturating_add(SPARE)
    }

    /// How many bytes of the log are prepared, up to the end of `last`, and not durable.
    pub(super) fn unused(&self, last: &Segment) -> u64 {
        last.limit().saturating_sub(self.positions().durable().max(self.incarnations().begin()))
    }

    /// Makes a segment behind `last`, of `wanted` bytes if there is room for it. Returns it, and whether it is made of what
    /// is left for deletions.
    pub(super) fn create_with_room(
        &self,
        (wanted, last): (u64, Option<&Segment>),
        short: Short,
        create: impl Fn(u64) -> Result<Arc<Segment>>,
    ) -> Result<(Arc<Segment>, bool)> {
        let Some(reserve) = self.reserve.get() else { return create(wanted).map(|made| (made, false)) };
        // A file system that cannot be asked refuses what it has no room for.
        let room = self.place.disk().room().ok().flatten();
        let least = LEAST_SEGMENT.min(wanted);
        let (mut size, mut is_flushed) = (wanted, last.is_none());
        loop {
            let unused = last.map_or(0, |last| self.unused(last));
            let left = reserve.bytes(unused.saturating_add(size));
            let fits = |spare: u64| room.is_none_or(|room| room >= size.saturating_add(left).saturating_add(spare));
            let is_spare = !fits(SPARE);
            if is_spare && !is_flushed {
                // The worst is believed of what is not durable. A flush that fails is told to those who wait for it.
                let _ = self.flush_to(self.positions().appended());
                is_flushed = true;
                continue;
            }
            let is_made = match short {
                _ if !is_spare => true,
                Short::Refused => false,
                Short::Spare => size == least && fits(0),
                Short::Made => size == least,
            };
            let made = match is_made {
                true => create(size),
                false => Err(self.no_room(&**reserve, size, left, room)),
            };
            match made {
                Err(error) if error.kind() == ErrorKind::DiskFull && size > least => {
                    // A multiple of a sector, as every size.
                    size = (size / 2 / 512 * 512).max(least);
                }
                made => return made.map(|made| (made, is_spare && short == Short::Spare)),
            }
        }
    }

    fn no_room(&self, reserve: &dyn Reserve, size: u64, left: u64, room: Option<u64>) -> Error {
        let message = format!(
            "there is no room for more log in {}: {} bytes are free, and it would take {size} and leave less than the \
             {left} that a checkpoint may need to give room back. Make room, or a checkpoint, and commit again",
            self.place.dir().display(),
            room.unwrap_or_default(),
        );
        let mut error = Error::new(ErrorKind::DiskFull, message);
        let retained = self.retained_bytes();
        if retained > 0 {
            error = error.adding(format_args!(
                "Of the log, {retained} bytes are only retained: retain_log_bytes(0) gives them up"
            ));
        }
        match reserve.failure() {
            Some(cause) => error.with_source(cause),
            None => error.with_source(io::Error::from(io::ErrorKind::StorageFull)),
        }
    }
}
