//! What is above the end of an incarnation, or retired: cut and removed, once HISTORY says durably that it is no log.

use std::path::PathBuf;

use super::log_dir::LogDir;
use crate::base::error::{Error, Result};
use crate::disk::Access;
use crate::log::read::reader::SegmentInfo;

/// What is to be cut and removed.
#[derive(Debug, Default)]
pub(crate) struct CleanUp {
    /// Segments to be cut to their `end`.
    cut: Vec<SegmentInfo>,
    remove: Vec<PathBuf>,
    /// Segments that hold log, all of which is retired.
    retired: Vec<PathBuf>,
    /// Segments that nothing needs, and that nobody has let go.
    retained: Vec<SegmentInfo>,
    /// There are segments that could not be read: whether the others go on in them nobody knows.
    has_unread: bool,
}

impl CleanUp {
    /// Nothing but these segments, which are retired; and those that may be retained.
    pub(crate) fn of(retired: Vec<PathBuf>, retained: Vec<SegmentInfo>, has_unread: bool) -> Self {
        CleanUp { retired, retained, has_unread, ..CleanUp::default() }
    }

    /// What may be retained, in order. What of it is given back to [`CleanUp::keep`] stays, and what to [`CleanUp::let_go`] is
    /// retired.
    pub(crate) fn take_retained(&mut self) -> Vec<SegmentInfo> {
        self.retained.sort_unstable_by_key(SegmentInfo::base);
        std::mem::take(&mut self.retained)
    }

    pub(crate) fn let_go(&mut self, info: SegmentInfo) {
        // The next open may read what this one could not.
        if !self.has_unread {
            self.retired.push(info.path);
        }
    }

    /// A segment that stays, as far as there is log in it.
    pub(crate) fn keep(&mut self, mut info: SegmentInfo) -> SegmentInfo {
        let length = info.end - info.base();
        if info.length > length && info.end < info.header.limit() {
            self.cut.push(info.clone());
            info.length = length;
        }
        info
    }

    /// Leaves what is retired: a MANIFEST may need it.
    pub(crate) fn spare_retired(&mut self) {
        self.retired.clear();
    }

    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// A file that holds no log.
    pub(crate) fn remove(&mut self, path: PathBuf) {
        self.remove.push(path);
    }

    /// Takes in a segment of an incarnation that ends at `end`; gives back what of it is log that is not retired.
    /// What was not `let_go`, and may be retained, stays here.
    pub(crate) fn end_at(&mut self, mut info: SegmentInfo, end: u64, oldest: u64, let_go: u64) -> Option<SegmentInfo> {
        info.end = info.end.min(end);
        if info.base() >= end {
            self.remove.push(info.path);
            return None;
        }
        if info.end <= oldest {
            match info.end > let_go {
                true => self.retained.push(info),
                false => self.retired.push(info.path),
            }
            return None;
        }
        Some(self.keep(info))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cut.is_empty() && self.remove.is_empty() && self.retired.is_empty()
    }

    pub(crate) fn to_cut(&self) -> &[SegmentInfo] {
        &self.cut
    }

    pub(crate) fn to_remove(&self) -> impl Iterator<Item = &PathBuf> {
        self.remove.iter().chain(&self.retired)
    }

    /// Does it. HISTORY must say durably that nothing of it is log.
    pub(crate) fn run(&self, place: &LogDir) -> Result<()> {
        for info in &self.cut {
            let cut = || {
                let file = place.open(&info.path, Access::Write)?;
                file.set_len(info.end - info.base())?;
                file.sync_all()
            };
            cut().map_err(|error| Error::io("cut", &info.path, error))?;
        }
        for path in &self.remove {
            match place.try_remove(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path, error));
                }
                _ => {}
            }
        }
        // What is retired is in nobody's way: a later open tries again.
        for path in &self.retired {
            let _ = place.try_remove(path);
        }
        place.sync_dir()
    }
}
