//! What the models of the whole engine share: a log on a simulated disk, and a witness of what was acknowledged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelog::Lsn;
use forelog::log::{Log, LogOptions, Record};
use forelog::sim::{CrashPoint, Granularity, Loss, SimDisk};
use shuttle::rand::Rng;
use shuttle::thread::{self, JoinHandle};

use crashkit::DB;

/// Longer than any model lasts.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// In half of the executions a flush is one submission.
pub(crate) fn options() -> LogOptions {
    LogOptions::new().segment_bytes(8192).io_uring(shuttle::rand::thread_rng().gen_bool(0.5))
}

pub(crate) fn open(disk: &SimDisk, options: LogOptions) -> Log {
    options.open_on(Arc::new(disk.clone()), DB).unwrap()
}

pub(crate) fn start<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().name(name.to_owned()).spawn(body).unwrap()
}

/// Waits until the segment after the first is ready, so that a model meets the commit path and not its preparation.
pub(crate) fn settle(prepared: impl Fn() -> u64) {
    while prepared() == 0 {
        thread::yield_now();
    }
}

/// The name of the running thread.
pub(crate) fn name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

/// Values that threads leave. It holds its lock for no longer than a push, which is no place for another thread's turn.
#[derive(Debug)]
pub(crate) struct Shelf<T>(Mutex<Vec<T>>);

impl<T> Shelf<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Shelf(Mutex::new(Vec::new())))
    }

    pub(crate) fn push(&self, value: T) {
        self.0.lock().unwrap().push(value);
    }

    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// What a commit was promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Promise {
    Written,
    Durable,
}

/// The disk as it was when each commit was acknowledged. The disks are looked into at the end, when no schedule is lost
/// over it.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    disk: SimDisk,
    acknowledged: Arc<Shelf<(Lsn, Promise, CrashPoint)>>,
}

impl Witness {
    pub(crate) fn of(disk: &SimDisk) -> Self {
        Witness { disk: disk.clone(), acknowledged: Shelf::new() }
    }

    /// To be called as the first thing once the promise is said to be kept.
    pub(crate) fn note(&self, lsn: Lsn, promise: Promise) {
        self.acknowledged.push((lsn, promise, self.disk.crash_point()));
    }

    /// Opens each disk as a crash would have left it: it must hold everything up to what was acknowledged, and a
    /// prefix of `log` in all. Returns how many were looked at.
    pub(crate) fn check(&self, log: &[Record]) -> usize {
        let acknowledged = self.acknowledged.take();
        for (lsn, promise, crash) in &acknowledged {
            let disk = match promise {
                Promise::Written => crash.process_kill(),
                Promise::Durable => crash.power_loss(&Loss::Everything, Granularity::Sector),
            };
            let survived = records(&open(&disk, options()));
            assert!(log.starts_with(&survived), "no prefix: {survived:?} of {log:?}");
            let end = survived.last().map_or(Lsn::ZERO, |record| record.lsn);
            assert!(end >= *lsn, "{lsn} was {promise:?} and the log ends at {end}");
        }
        acknowledged.len()
    }
}

/// All durable records.
pub(crate) fn records(log: &Log) -> Vec<Record> {
    log.scan(Lsn::ZERO).unwrap().map(|record| record.unwrap()).collect()
}
