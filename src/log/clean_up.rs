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
}

impl CleanUp {
    /// Nothing but these segments, which are retired.
    pub(crate) fn of(retired: Vec<PathBuf>) -> Self {
        CleanUp { retired, ..CleanUp::default() }
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
    pub(crate) fn end_at(&mut self, mut info: SegmentInfo, end: u64, oldest: u64) -> Option<SegmentInfo> {
        info.end = info.end.min(end);
        if info.base() >= end {
            self.remove.push(info.path);
            return None;
        }
        if info.end <= oldest {
            self.retired.push(info.path);
            return None;
        }
        let length = info.end - info.base();
        if info.length > length {
            self.cut.push(info.clone());
            info.length = length;
        }
        Some(info)
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
