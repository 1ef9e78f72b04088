//! What the tests of the engine share.
#![allow(dead_code, reason = "each test file uses a part of it")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use forelog::sim::{OpKind, Phase, SimDisk};
use forelog::{CommitMode, Engine, Error, ErrorKind, Keyspace, Options, Receipt, Result};

/// Where the database is on a simulated disk.
pub(crate) const DB: &str = "db";

/// Every commit mode.
pub(crate) const MODES: [CommitMode; 4] =
    [CommitMode::Sync, CommitMode::Written, CommitMode::Async, CommitMode::Within(Duration::from_millis(1))];

#[allow(unused_imports, reason = "not every test needs files")]
pub(crate) use support::TempDir;

/// Copies the files of one directory into a new one.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Writes `bytes` into a file that is there.
pub(crate) fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, offset).unwrap();
}

/// The paths of everything below a directory, LOCK files excepted.
pub(crate) fn names_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(names_below(&entry.path()));
        }
        if entry.file_name() != "LOCK" {
            names.push(entry.path());
        }
    }
    names.sort();
    names
}

/// Opens the database on `disk` with `options`.
pub(crate) fn open_on(disk: &SimDisk, options: Options) -> Result<Engine> {
    options.open_on(Arc::new(disk.clone()), DB)
}

/// A new engine that lives in memory only.
pub(crate) fn in_memory() -> Engine {
    open_on(&SimDisk::new(), Options::new()).unwrap()
}

/// Commits one blind write.
pub(crate) fn put(engine: &Engine, keyspace: &Keyspace, key: &str, value: &str, mode: CommitMode) -> Result<Receipt> {
    let mut batch = engine.batch()?;
    batch.put(keyspace, key, value)?;
    batch.commit_with(mode)
}

/// The value of `key` now, as text.
pub(crate) fn get(engine: &Engine, keyspace: &Keyspace, key: &str) -> Option<String> {
    let value = engine.snapshot().unwrap().get(keyspace, key).unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// The error of a call that has to fail.
#[track_caller]
pub(crate) fn error_of<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error,
    }
}

/// The kind of the error of a call that has to fail.
#[track_caller]
pub(crate) fn kind_of<T>(result: Result<T>) -> ErrorKind {
    error_of(result).kind()
}

/// Gives other threads time until `condition` holds.
pub(crate) fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A way to stop the device: while it is closed, syncs of log segments begin and do not end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// An open gate in the way of the syncs on `disk`.
    pub(crate) fn on(disk: &SimDisk) -> Self {
        let gate = Gate::default();
        let pass = gate.clone();
        disk.on_op(move |_, op| {
            let name = op.path.as_os_str().as_encoded_bytes();
            if op.kind == OpKind::Sync && op.phase == Phase::InFlight && name.ends_with(b".log.tmp") {
                let (closed, changed) = &*pass.0;
                drop(changed.wait_while(closed.lock().unwrap(), |closed| *closed).unwrap());
            }
        });
        gate
    }

    pub(crate) fn close(&self) {
        *self.0.0.lock().unwrap() = true;
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }
}

/// An engine in memory with a gate, that has prepared what it prepares at first, and its keyspace `k`.
pub(crate) fn behind_a_gate(options: Options) -> (SimDisk, Gate, Engine, Keyspace) {
    let disk = SimDisk::new();
    let gate = Gate::on(&disk);
    let engine = open_on(&disk, options).unwrap();
    let keyspace = engine.keyspace("k").unwrap();
    engine.flush().unwrap();
    wait_until(|| engine.stats().segments_prepared > 0);
    (disk, gate, engine, keyspace)
}

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Wakes::default());
        (Arc::clone(&wakes), Waker::from(wakes))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An executor of one thread: the tasks that are to be polled, in the order in which they were woken.
#[derive(Default)]
struct Ready(Mutex<VecDeque<usize>>, Condvar);

struct Task(usize, Arc<Ready>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.1.0.lock().unwrap().push_back(self.0);
        self.1.1.notify_one();
    }
}

/// Drives all futures on this thread, each with a waker of its own; returns what they gave, in their order.
pub(crate) fn drive<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let ready = Arc::new(Ready::default());
    let wakers: Vec<_> = (0..futures.len()).map(|task| Waker::from(Arc::new(Task(task, Arc::clone(&ready))))).collect();
    wakers.iter().for_each(Waker::wake_by_ref);
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    while outputs.iter().any(Option::is_none) {
        let task = {
            let tasks = ready.0.lock().unwrap();
            ready.1.wait_while(tasks, |tasks| tasks.is_empty()).unwrap().pop_front().unwrap()
        };
        if outputs[task].is_none()
            && let Poll::Ready(output) = Pin::new(&mut futures[task]).poll(&mut Context::from_waker(&wakers[task]))
        {
            outputs[task] = Some(output);
        }
    }
    outputs.into_iter().flatten().collect()
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    drive(vec![pin!(future)]).remove(0)
}
