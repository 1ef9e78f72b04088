//! The machinery of the fault suite: faults of the disk while the engine runs, damage to the medium between opens, and
//! both together. See `tests/faults/main.rs`.

pub mod allocation;
pub mod case_checks;
pub mod cases;
pub mod double;
pub mod flips;
pub mod log_plans;
pub mod matrix;
pub mod media;
pub mod notes;
pub mod plans;
pub mod reference;
pub mod tables;
pub mod verdict;
pub mod workloads;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forelog::sim::SimDisk;
use forelog::{CommitMode, Engine, Options, Result};

/// Where the database is on a simulated disk.
pub const DIR: &str = "db";

/// Every commit mode. The flush of `Within` is far away, so that the test decides when it comes.
pub const MODES: [CommitMode; 4] =
    [CommitMode::Sync, CommitMode::Written, CommitMode::Async, CommitMode::Within(Duration::from_secs(3600))];

/// The smallest segments there are: a few commits fill one.
pub fn options() -> Options {
    Options::new().segment_bytes(4096)
}

pub fn open_with(options: Options, disk: &SimDisk) -> Result<Engine> {
    options.open_on(Arc::new(disk.clone()), DIR)
}

/// The same files, durable, with nothing pending, no fault to come and no lock held.
pub fn copy(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::new();
    for (path, bytes) in disk.files() {
        copy.write_file(path, &bytes).expect("a file");
    }
    copy
}

/// All files but the empty LOCK, which any open may create.
pub fn files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
}

pub fn name_of(path: &std::path::Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs `work` with each number below `count` on all processors, and returns what it gave, in order.
pub fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
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
