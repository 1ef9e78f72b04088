//! A memory control group, of version 1 or 2, in which an engine runs.

use std::fs::{create_dir, read_to_string, remove_dir, write};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::usage::value;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    One,
    Two,
}

/// Where the memory controller is mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Controller {
    pub version: Version,
    pub root: PathBuf,
}

impl Controller {
    /// The error says what to do.
    pub fn find() -> Result<Controller, String> {
        let mounts = read_to_string("/proc/self/mounts").map_err(|error| format!("/proc/self/mounts: {error}"))?;
        Controller::in_mounts(&mounts, |root| {
            let controllers = read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            controllers.split_whitespace().any(|name| name == "memory")
        })
        .ok_or_else(|| format!("no control group with a memory controller is mounted here; {WITHOUT}"))
    }

    /// `has_memory` tells whether the controller is in version 2, mounted there: it is in one of the two alone.
    pub fn in_mounts(mounts: &str, has_memory: impl Fn(&Path) -> bool) -> Option<Controller> {
        mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (root, kind) = (PathBuf::from(fields.next()?), fields.next()?);
            let is_memory = fields.next()?.split(',').any(|option| option == "memory");
            match kind {
                "cgroup" if is_memory => Some(Controller { version: Version::One, root }),
                "cgroup2" if has_memory(&root) => Some(Controller { version: Version::Two, root }),
                _ => None,
            }
        })
    }
}

const WITHOUT: &str = "run as root on a machine that has one, or measure without a limit with --no-cgroup";

/// What the processes of a group use, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    pub all: u64,
    pub anonymous: u64,
    pub cache: u64,
}

/// A group with a limit; it is removed when it is dropped, and by then its processes have ended.
pub struct Group {
    version: Version,
    dir: PathBuf,
}

impl Group {
    /// The error says what to do.
    pub fn new(controller: &Controller, name: &str, bytes: u64) -> Result<Group, String> {
        let Controller { version, root } = controller;
        if *version == Version::Two {
            // It may be switched on already, and then this is not needed.
            let _ = write(root.join("cgroup.subtree_control"), "+memory");
        }
        let dir = root.join(name);
        create_dir(&dir).map_err(|error| {
            let what = if error.kind() == ErrorKind::PermissionDenied { "it takes root" } else { "it failed" };
            format!("a control group cannot be made at {} ({error}): {what}; {WITHOUT}", dir.display())
        })?;
        let group = Group { version: *version, dir };
        let (limit, swap) = match version {
            Version::One => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
            Version::Two => ("memory.max", "memory.swap.max"),
        };
        let path = group.dir.join(limit);
        write(&path, bytes.to_string())
            .map_err(|error| format!("{} cannot be set ({error}): {WITHOUT}", path.display()))?;
        // Without accounting of swap there is nothing to set; version 1 limits memory and swap together.
        let _ = write(group.dir.join(swap), if *version == Version::One { bytes.to_string() } else { "0".to_owned() });
        Ok(group)
    }

    /// A process joins by writing its number there.
    pub fn members(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    pub fn usage(&self) -> Usage {
        let (all, anonymous, cache) = match self.version {
            Version::One => ("memory.usage_in_bytes", "rss ", "cache "),
            Version::Two => ("memory.current", "anon ", "file "),
        };
        let stat = self.read("memory.stat");
        let bytes = |name| value(&stat, name).unwrap_or(0);
        Usage { all: self.read(all).trim().parse().unwrap_or(0), anonymous: bytes(anonymous), cache: bytes(cache) }
    }

    /// The most that it has used.
    pub fn peak(&self) -> Option<u64> {
        let name = match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        };
        self.read(name).trim().parse().ok()
    }

    /// How many processes the kernel has killed because of the limit.
    pub fn kills(&self) -> u64 {
        let name = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        value(&self.read(name), "oom_kill ").unwrap_or(0)
    }

    fn read(&self, name: &str) -> String {
        read_to_string(self.dir.join(name)).unwrap_or_default()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that was waited for may be in the group for another moment.
        for _ in 0..50 {
            if remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{} could not be removed: remove it with rmdir", self.dir.display());
    }
}
