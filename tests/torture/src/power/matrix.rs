//! The file systems under test: how they are made, and how they are mounted.

use super::system::is_installed;

/// One file system with its options.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileSystem {
    /// As it is named in the report, and by `power-worker`.
    pub(super) name: &'static str,
    /// As it is named by `--fs` and mount(2).
    pub(super) kind: &'static str,
    /// The program that makes it, and what it is told; the device comes last.
    pub(super) make: &'static [&'static str],
    pub(super) options: &'static str,
    /// The program that looks, and changes nothing, whether the file system is whole; the device comes last. It ends with a status that
    /// has this bit if not.
    pub(super) checker: Option<(&'static [&'static str], i32)>,
    pub(super) bytes: u64,
    /// Bytes in a sector of the device.
    pub(super) sector: u32,
    /// Whether a file's bytes have one place on the device.
    pub(super) in_place: bool,
    /// Whether its log is to stand near its end when a recording begins.
    pub(super) wraps: bool,
}

const MIB: u64 = 1 << 20;
/// As small as a journal may be, so that it wraps; and nothing is written later that could be written now.
const EXT4: &[&str] =
    &["mkfs.ext4", "-q", "-F", "-b", "1024", "-J", "size=1", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"];
const EXT4_FAST_COMMIT: &[&str] = &[
    "mkfs.ext4",
    "-q",
    "-F",
    "-b",
    "1024",
    "-J",
    "size=2",
    "-O",
    "fast_commit",
    "-E",
    "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
];
const EXT4_PAGES: &[&str] =
    &["mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"];
const E2FSCK: &[&str] = &["e2fsck", "-f", "-n"];
const XFS: &[&str] = &["mkfs.xfs", "-q", "-f", "-K"];
/// About as small as a log may be (3,527 blocks for mkfs.xfs 6.1). The file system's own minimum of 300 MiB, with a log
/// of 64 MiB, is one of mkfs.xfs alone, which `--unsupported` lifts.
const XFS_SMALL_LOG: &[&str] = &["mkfs.xfs", "--unsupported", "-q", "-f", "-K", "-b", "size=1024", "-l", "size=4m"];
const BTRFS: &[&str] = &["mkfs.btrfs", "-q", "-f", "-K", "-m", "single"];

/// ext4 with one set of mount options.
const fn ext4(name: &'static str, options: &'static str) -> FileSystem {
    let checker = Some((E2FSCK, 4));
    FileSystem {
        name,
        kind: "ext4",
        make: EXT4,
        options,
        checker,
        bytes: 16 * MIB,
        sector: 512,
        in_place: true,
        wraps: false,
    }
}

/// btrfs with one set of mount options.
const fn btrfs(name: &'static str, options: &'static str) -> FileSystem {
    FileSystem { kind: "btrfs", make: BTRFS, checker: None, bytes: 128 * MIB, ..ext4(name, options) }
}

/// Every file system, the plain one of each kind first.
pub(super) const MATRIX: [FileSystem; 10] = [
    ext4("ext4", ""),
    ext4("ext4 data=writeback", "data=writeback"),
    FileSystem { in_place: false, ..ext4("ext4 data=journal", "data=journal") },
    ext4("ext4 nodelalloc", "nodelalloc"),
    FileSystem { name: "ext4 fast_commit", make: EXT4_FAST_COMMIT, ..ext4("", "") },
    FileSystem { name: "ext4 4096-byte sectors", make: EXT4_PAGES, sector: 4096, bytes: 24 * MIB, ..ext4("", "") },
    FileSystem { name: "xfs", kind: "xfs", make: XFS, checker: None, bytes: 300 * MIB, ..ext4("", "") },
    FileSystem { name: "xfs small log", kind: "xfs", make: XFS_SMALL_LOG, checker: None, wraps: true, ..ext4("", "") },
    FileSystem { in_place: false, ..btrfs("btrfs", "") },
    btrfs("btrfs nodatacow", "nodatacow"),
];

/// ext4 that never flushes the device: what is synced on it is not durable.
pub(super) const WITHOUT_BARRIERS: FileSystem = ext4("ext4 nobarrier", "nobarrier");

impl FileSystem {
    /// The length of the shortest file that has sectors of its own.
    pub(super) fn least_file(&self) -> usize {
        if self.kind == "btrfs" { 4096 } else { 1 }
    }

    pub(super) fn find(name: &str) -> Option<FileSystem> {
        MATRIX.into_iter().chain([WITHOUT_BARRIERS]).find(|system| system.name == name)
    }

    /// Why it cannot be made here, if it cannot.
    pub(super) fn missing(&self) -> Option<String> {
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !known.split_whitespace().any(|kind| kind == self.kind) {
            return Some(format!("this kernel has no {}", self.kind));
        }
        (!is_installed(self.make[0])).then(|| format!("{} is not installed", self.make[0]))
    }
}
