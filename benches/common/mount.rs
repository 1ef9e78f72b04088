//! What a directory lies on.

use std::fs::{canonicalize, read_to_string};
use std::path::{Path, PathBuf};

/// File systems that keep their files in memory.
const MEMORY: [&str; 4] = ["tmpfs", "ramfs", "devtmpfs", "hugetlbfs"];

/// A mount, as the kernel names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mount {
    pub(crate) file_system: String,
    pub(crate) device: String,
    /// What was written is in memory, so no power loss would be survived and no `Sync` figure means anything.
    pub(crate) is_memory: bool,
}

impl Mount {
    /// The one that holds `dir`; `None` where the kernel has no list of them.
    pub(crate) fn of(dir: &Path) -> Option<Mount> {
        find(&canonicalize(dir).ok()?, &read_to_string("/proc/self/mountinfo").ok()?)
    }
}

fn find(dir: &Path, mounts: &str) -> Option<Mount> {
    let fields = mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let point = PathBuf::from(unescaped(place.split(' ').nth(4)?));
        Some((point, kind.next()?, kind.next()?, kind.next().unwrap_or_default()))
    });
    // Of two at one place the later one hides the other.
    let holder =
        fields.filter(|(point, ..)| dir.starts_with(point)).max_by_key(|(point, ..)| point.components().count());
    let (point, file_system, device, options) = holder?;
    let is_memory = MEMORY.contains(&file_system) || device.starts_with("/dev/ram") || device.starts_with("/dev/zram");
    // An overlay writes to another directory, which may be out of sight here.
    let below = options.split(',').find_map(|option| option.strip_prefix("upperdir=")).map(unescaped);
    let below = below.filter(|below| file_system == "overlay" && !dir.starts_with(below) && Path::new(below) != point);
    let is_memory = is_memory || below.and_then(|below| find(Path::new(&below), mounts)).is_some_and(|it| it.is_memory);
    Some(Mount { file_system: file_system.to_owned(), device: device.to_owned(), is_memory })
}

/// The list of mounts is separated by blanks.
fn unescaped(field: &str) -> String {
    field.replace("\\040", " ")
}
