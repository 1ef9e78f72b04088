//! The seam to the medium: what the simulated disk loses and keeps, what the real one does, and the latch between.

mod children;
mod faults;
mod latch;
mod loss;
mod os;
mod personas;
mod submission;
mod watched;
mod watching;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelog::sim::{self, CrashPoint, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, Phase, SimDisk};
use forelog::unstable::disk::{Access, Dir, Disk, DiskFile, FailStop, LockMode, OsDisk, read_exact_at, write_all_at};

const EIO: i32 = 5;

fn create(dir: &dyn Dir, name: impl AsRef<OsStr>) -> Arc<dyn DiskFile> {
    dir.open(name.as_ref(), Access::Create).unwrap()
}

/// A disk with one durable file `f`, open for writing.
fn with_file(bytes: &[u8]) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new();
    disk.write_file("f", bytes).unwrap();
    let file = disk.open("f".as_ref(), Access::Write).unwrap();
    (disk, file)
}

fn lose_all(disk: &SimDisk) -> SimDisk {
    disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector)
}

fn keep_all(disk: &SimDisk) -> SimDisk {
    disk.crash_point().power_loss(&Loss::Nothing, Granularity::Sector)
}

/// What `f` may hold after a power loss; `None` where it does not exist.
fn all_states(crash: &CrashPoint, granularity: Granularity) -> BTreeSet<Option<Vec<u8>>> {
    let atoms = crash.atoms(granularity);
    assert!(atoms <= 12, "{atoms} atoms are too many to try all choices");
    let choice = |bits: u32| Loss::AllBut((0..atoms).map(|atom| bits >> atom & 1 == 1).collect());
    (0..1 << atoms).map(|bits| crash.power_loss(&choice(bits), granularity).read_file("f").ok()).collect()
}

fn fill(parts: &[(u8, usize)]) -> Option<Vec<u8>> {
    Some(parts.iter().flat_map(|&(byte, count)| std::iter::repeat_n(byte, count)).collect())
}
