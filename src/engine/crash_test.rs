//! Crash tests for programs built on the engine: their own work, their own invariant, every crash in between.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::{Engine, Options};
use crate::disk::sim::{CrashPoint, Granularity, Loss, SimDisk};
use crate::rt::schedule;
use crate::rt::sync::Mutex;

const DIR: &str = "db";

/// How an engine's incarnation ended before a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Crash {
    /// The process died; what it had written is in the operating system's hands.
    ProcessKill,
    /// The power failed, or the machine stopped; what was not synced may be lost, in any part.
    PowerLoss,
}

/// What the application was told, or told its own users: whatever a crash must not belie. Clones share it.
#[derive(Debug)]
pub struct Told<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Told<T> {
    fn clone(&self) -> Self {
        Told(Arc::clone(&self.0))
    }
}

impl<T> Told<T> {
    /// Notes something, from the moment on at which it is said.
    pub fn say(&self, what: T) {
        self.0.lock().push(what);
    }
}

/// What a [`CrashTest`] went through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Explored {
    /// Moments at which the engine was cut off: before each operation that changes the disk, and within each sync.
    pub crash_points: usize,
    /// Distinct states of the disk that were opened and checked.
    pub states: usize,
}

/// Runs an application's work on a simulated disk, cuts it off at every operation, and checks what is left.
///
/// ```
/// use forelog::sim::CrashTest;
/// use forelog::CommitMode;
///
/// let explored = CrashTest::new(1).run(
///     |engine, told| {
///         let keys = engine.create_keyspace("keys").unwrap();
///         for number in 0..5_u8 {
///             let mut tx = engine.begin().unwrap();
///             tx.put(&keys, [number], b"there").unwrap();
///             tx.commit_with(CommitMode::Sync).unwrap();
///             told.say(number);
///         }
///     },
///     |engine, told, _crash| {
///         let Ok(keys) = engine.open_keyspace("keys") else { return assert!(told.is_empty()) };
///         let snapshot = engine.snapshot().unwrap();
///         for number in told {
///             assert!(snapshot.get(&keys, [*number]).unwrap().is_some(), "{number} was acknowledged");
///         }
///     },
/// );
/// assert!(explored.states > 20);
/// ```
#[derive(Clone, Debug)]
pub struct CrashTest {
    seed: u64,
    losses: u64,
    options: Options,
}

impl CrashTest {
    /// A test in which everything follows from `seed`: the turns of the threads, the random numbers, the losses.
    pub fn new(seed: u64) -> Self {
        CrashTest { seed, losses: 8, options: Options::new().segment_bytes(4096) }
    }

    /// How the engine is opened, before and after each crash. By default with segments of 4 KiB, so that they are
    /// rolled often.
    #[must_use]
    pub fn options(self, options: Options) -> Self {
        CrashTest { options, ..self }
    }

    /// How many random power losses are tried at each crash point, besides those that take nothing and everything;
    /// half of them by sector and half by word. Default 8.
    #[must_use]
    pub fn losses(self, losses: u64) -> Self {
        CrashTest { losses, ..self }
    }

    /// Runs `work` on a new engine, as the first thread of a simulation ([`run`](crate::sim::run)); it may begin more with
    /// [`start`](crate::sim::start), on clones. Then opens every distinct state that a crash meanwhile could have left, and has
    /// `check` look at the engine, at what had been told by then, and at what kind of crash it was.
    ///
    /// # Panics
    /// If `work` or `check` panics, or if a state does not open. The seed, the crash point and the loss are printed.
    pub fn run<T: Clone + Send + 'static>(
        &self,
        work: impl FnOnce(&Engine, &Told<T>),
        check: impl Fn(&Engine, &[T], Crash),
    ) -> Explored {
        let told = Told(Arc::default());
        let points: Arc<Mutex<Vec<(CrashPoint, usize)>>> = Arc::default();
        schedule::run(self.seed, || {
            let disk = SimDisk::new();
            let (told_by_then, cut) = (told.clone(), Arc::clone(&points));
            disk.on_op(move |disk, _| {
                // In this order: what is said after the disk was looked at may rest on what it does not hold.
                let told = told_by_then.0.lock().len();
                cut.lock().push((disk.crash_point(), told));
            });
            let engine = self.open(&disk);
            work(&engine, &told);
            // Its close is cut off too.
            drop(engine);
            disk.clear_on_op();
        });
        let told: Vec<T> = told.0.lock().clone();
        let points = std::mem::take(&mut *points.lock());
        let mut explored = Explored { crash_points: points.len(), states: 0 };
        let mut seen = HashSet::new();
        for (index, (point, told_by_then)) in points.iter().enumerate() {
            for (loss, granularity) in self.losses_at(index) {
                let (disk, crash) = match &loss {
                    None => (point.process_kill(), Crash::ProcessKill),
                    Some(loss) => (point.power_loss(loss, granularity), Crash::PowerLoss),
                };
                if seen.insert((disk.image_hash(), *told_by_then, crash)) {
                    let _reported = Report { seed: self.seed, index, loss: &loss, granularity };
                    check(&self.open(&disk), &told[..*told_by_then], crash);
                    explored.states += 1;
                }
            }
        }
        explored
    }

    fn open(&self, disk: &SimDisk) -> Engine {
        let opened = self.options.clone().open_on(Arc::new(disk.clone()), Path::new(DIR));
        opened.unwrap_or_else(|error| panic!("a legal state does not open: {error}"))
    }

    /// `None` is the death of the process.
    fn losses_at(&self, point: usize) -> impl Iterator<Item = (Option<Loss>, Granularity)> {
        let fixed =
            [None, Some(Loss::Nothing), Some(Loss::Everything)].into_iter().map(|loss| (loss, Granularity::Sector));
        let first = self.seed.wrapping_add((point as u64).wrapping_mul(self.losses));
        let drawn = (0..self.losses).map(move |number| {
            let granularity = if number % 2 == 0 { Granularity::Sector } else { Granularity::Word };
            (Some(Loss::Seeded(first.wrapping_add(number))), granularity)
        });
        fixed.chain(drawn)
    }
}

/// Says, if the check panics, what it was looking at.
struct Report<'a> {
    seed: u64,
    index: usize,
    loss: &'a Option<Loss>,
    granularity: Granularity,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Report { seed, index, loss, granularity } = self;
            let what = match loss {
                None => "process kill".to_owned(),
                Some(loss) => format!("power loss, {loss:?} by {granularity:?}"),
            };
            eprintln!("CrashTest::new({seed}): crash point {index}, {what}");
        }
    }
}
