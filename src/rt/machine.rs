//! How much memory the process may use.

use std::fs;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// The memory of the machine, or what the control groups or the limits of this process allow, whichever is least; in bytes.
/// `None` if the operating system does not say.
///
/// Read from `/proc/meminfo`; from `memory.max` (version 2) or `memory.limit_in_bytes` (version 1) of each group that the
/// process is in, since a group is limited by those above it, too; and from `/proc/self/limits`, since beyond these the
/// allocator ends the process.
pub(crate) fn memory() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(files_of).flatten().filter_map(|path| limit_in(&path));
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    let own = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    limits.chain(machine).chain(limits_of(&own)).min()
}

/// The limits of address space and of data (`ulimit -v` and `-d`), given `/proc/self/limits`.
fn limits_of(text: &str) -> impl Iterator<Item = u64> {
    let value = |line: &str| {
        let limits = line.strip_prefix("Max address space").or_else(|| line.strip_prefix("Max data size"))?;
        // The soft one, which holds, comes first: a number, or "unlimited".
        limits.split_whitespace().next()?.parse().ok()
    };
    text.lines().filter_map(value)
}

/// The files that limit a group and those above it, given a line of `/proc/self/cgroup`: number, controllers, path.
fn files_of(line: &str) -> Option<Vec<PathBuf>> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|one| one == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return None,
    };
    // In a container the path may begin where the container's own root is mounted: what is not there says nothing.
    let groups =
        Path::new(group.trim_start_matches('/')).ancestors().map(|group| Path::new(root).join(group).join(file));
    Some(groups.collect())
}

fn limit_in(path: &Path) -> Option<u64> {
    // "max": without a limit.
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
