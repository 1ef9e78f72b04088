//! The directory whose disk is measured.

use std::fs;
use std::path::{Path, PathBuf};

/// A directory of its own in the one that was asked for; gone when it is dropped.
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    /// The file system keeps its files in memory: what it takes to write and to sync them says nothing of a disk.
    pub(crate) is_memory: bool,
}

impl Place {
    pub(crate) fn inside(parent: &Path) -> Result<Place, String> {
        let advice = "name a directory on the disk to be measured: cargo bench --bench terms -- DIR";
        let whole = fs::canonicalize(parent).map_err(|error| format!("{}: {error}; {advice}", parent.display()))?;
        let dir = whole.join(format!("forelog-terms-{}", std::process::id()));
        fs::create_dir(&dir)
            .map_err(|error| format!("no directory can be made in {}: {error}; {advice}", whole.display()))?;
        Ok(Place { is_memory: is_memory(&whole), dir })
    }

    /// Says what to do about a failed operation on a file here.
    pub(crate) fn explain(&self, error: &std::io::Error) -> String {
        format!("{}: {error}; it takes 16 MiB on a disk that can be written", self.dir.display())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Whether the mount that holds `path` is of a file system in memory; where there is no list of mounts, nobody knows.
fn is_memory(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?.replace("\\040", " ")), fields.next()?.to_owned()))
    };
    // Of two at one place the later one hides the other.
    let mounts = mounts.lines().filter_map(mount).filter(|(point, _)| path.starts_with(point));
    let holder = mounts.max_by_key(|(point, _)| point.components().count());
    holder.is_some_and(|(_, kind)| matches!(kind.as_str(), "tmpfs" | "ramfs" | "devtmpfs"))
}
