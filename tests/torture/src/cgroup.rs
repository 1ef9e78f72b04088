//! A memory cgroup of its own for a process that is to be killed by the kernel for want of memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the processes in it may use together.
pub(super) const BYTES: usize = 8 << 20;

/// The two forms of the memory controller: what is the limit called, and the limit with swap.
const FORMS: [(&str, &str); 2] =
    [("memory.max", "memory.swap.max"), ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")];

/// The cgroup file systems that may offer the memory controller.
fn mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let memory = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        let [_, place, kind, options, ..] = fields[..] else { return None };
        let offers = kind == "cgroup2" || (kind == "cgroup" && options.split(',').any(|option| option == "memory"));
        offers.then(|| PathBuf::from(place))
    };
    mounts.lines().filter_map(memory).collect()
}

/// The cgroup of the process with this id in each of them.
fn groups(pid: u32) -> impl Iterator<Item = PathBuf> {
    mounts().into_iter().map(move |mount| mount.join(format!("forelog-torture-{pid}")))
}

/// Makes a cgroup that is full at [`BYTES`].
fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let (limit, with_swap) = FORMS
        .into_iter()
        .find(|(limit, _)| group.join(limit).exists())
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "its memory controller is not enabled"))?;
    fs::write(group.join(limit), BYTES.to_string())?;
    // Not there without swap, or without its accounting. The second form counts memory along.
    let swap = if with_swap.contains("memsw") { BYTES } else { 0 };
    let _ = fs::write(group.join(with_swap), swap.to_string());
    Ok(())
}

/// Takes this process into a new cgroup of its own.
pub(super) fn enter() -> io::Result<()> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::Unsupported, "no memory cgroups are mounted"));
    for group in groups(std::process::id()) {
        outcome = make(&group).and_then(|()| fs::write(group.join("cgroup.procs"), "0"));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Removes the cgroup of a process that has ended, wherever it is.
pub(super) fn remove(pid: u32) {
    for group in groups(pid) {
        // There is none unless the process has come so far.
        let _ = fs::remove_dir(group);
    }
}

/// Whether such a cgroup can be made here.
pub(super) fn probe() -> io::Result<()> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::Unsupported, "no memory cgroups are mounted"));
    for group in groups(std::process::id()) {
        outcome = make(&group);
        let _ = fs::remove_dir(&group);
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map_err(|error| io::Error::new(error.kind(), format!("no memory cgroup can be made here: {error}")))
}
