//! The machinery of the fault suite: faults of the disk while the engine runs, damage to the medium between opens, and
//! both together. See `faults.rs`.
#![allow(dead_code, reason = "the tests use one part of it, the campaign another")]

pub(crate) mod allocation;
pub(crate) mod case_checks;
pub(crate) mod cases;
pub(crate) mod double;
pub(crate) mod flips;
pub(crate) mod ledger;
pub(crate) mod log_plans;
pub(crate) mod matrix;
pub(crate) mod media;
pub(crate) mod model;
pub(crate) mod plans;
pub(crate) mod reference;
pub(crate) mod verdict;
pub(crate) mod workloads;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forelog::sim::SimDisk;
use forelog::{CommitMode, Engine, Options, Result};

/// Where the database is on a simulated disk.
pub(crate) const DIR: &str = "db";

/// Every commit mode. The flush of `Within` is far away, so that the test decides when it comes.
pub(crate) const MODES: [CommitMode; 4] =
    [CommitMode::Sync, CommitMode::Written, CommitMode::Async, CommitMode::Within(Duration::from_secs(3600))];

/// The smallest segments there are: a few commits fill one.
pub(crate) fn options() -> Options {
    Options::new().segment_bytes(4096)
}

pub(crate) fn open_with(options: Options, disk: &SimDisk) -> Result<Engine> {
    options.open_on(Arc::new(disk.clone()), DIR)
}

/// The same files, durable, with nothing pending, no fault to come and no lock held.
pub(crate) fn copy(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::new();
    for (path, bytes) in disk.files() {
        copy.write_file(path, &bytes).expect("a file");
    }
    copy
}

/// All files but the empty LOCK, which any open may create.
pub(crate) fn files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
}

pub(crate) fn name_of(path: &std::path::Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs `work` with each number below `count` on all processors, and returns what it gave, in order.
pub(crate) fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let next = AtomicUsize::new(0);
    let done = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let result = work(number);
                    done.lock().expect("nobody panics with it in hand").push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panics with it in hand");
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}
