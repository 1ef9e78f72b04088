//! What a commit costs the processor, measured through the public interface: the terms that have no door of their own
//! are differences between two calls.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use forelog::log::{Log, LogOptions};
use forelog::{CommitMode, Engine, Keyspace, LossBudget, Options, Receipt, WriteBatch};

use crate::common::stats::Spread;
use crate::common::{KEYS, key, key_of};
use crate::still::Still;
use crate::threads::{Counter, each, each_of_two};

pub(crate) const VALUE: [u8; 100] = [7; 100];
/// A batch of one put of a 16-byte key and a 100-byte value, as it is in the log.
pub(crate) const PAYLOAD: usize = 121;
/// Operations between two flushes: about as many as `flush_bytes` lets through.
const TIMES: usize = 6000;
/// Keys that are written over and over.
const HOT: u64 = 256;
/// So few of them that they stay in the caches, with the memory of their versions.
const WARM: usize = 64;
/// More than a core's own caches hold.
const CLOBBERED: usize = 8 << 20;

/// An engine of a million keys and a log, on disks that cost nothing, in which nothing is flushed unless it is asked
/// for.
pub(crate) struct Bench {
    engine: Engine,
    keys: Keyspace,
    engine_disk: Still,
    log: Log,
    log_disk: Still,
    next: AtomicUsize,
    clobber: Vec<u8>,
}

macro_rules! quiet {
    ($options:expr) => {
        $options
            .flush_interval(HOUR)
            .flush_bytes(1 << 30)
            .loss_budget(LossBudget::default().max_age(HOUR).max_bytes(1 << 30))
    };
}

const HOUR: Duration = Duration::from_secs(3600);

/// Named values in nanoseconds.
pub(crate) type Values = Vec<(&'static str, f64)>;

impl Bench {
    pub(crate) fn new() -> forelog::Result<Bench> {
        let (engine_disk, log_disk) = (Still::default(), Still::default());
        let engine = quiet!(Options::new()).open_on(Arc::new(engine_disk.clone()), "engine")?;
        let log = quiet!(LogOptions::new()).open_on(Arc::new(log_disk.clone()), "log")?;
        let keys = engine.create_keyspace("keys")?;
        let bench =
            Bench { engine, keys, engine_disk, log, log_disk, next: AtomicUsize::new(0), clobber: vec![0; CLOBBERED] };
        for number in 0..KEYS {
            bench.commit(&key(number), CommitMode::Async);
            if number % TIMES as u64 == 0 {
                bench.rest();
            }
        }
        Ok(bench)
    }

    /// Everything is durable, and the buffers are empty.
    fn rest(&self) {
        self.engine.flush().expect("a disk without failures");
        self.log.flush().expect("a disk without failures");
    }

    /// Nothing is left that a commit would have to prune: a snapshot that goes prunes some hundred keys.
    fn prune(&self) {
        self.rest();
        for _ in 0..2 * TIMES / 100 {
            drop(self.engine.snapshot().expect("open"));
        }
    }

    fn batch(&self, puts: usize) -> WriteBatch {
        let mut batch = self.engine.batch().expect("open");
        for put in 0..puts {
            batch.put(&self.keys, key_of(put as u64), VALUE).expect("a write");
        }
        batch
    }

    fn commit(&self, key: &[u8], mode: CommitMode) -> Receipt {
        let mut batch = self.engine.batch().expect("open");
        batch.put(&self.keys, key, VALUE).expect("a write");
        batch.commit_with(mode).expect("a commit")
    }

    fn append(&self, bytes: usize, mode: CommitMode) -> Receipt {
        const BYTES: [u8; 8192] = [7; 8192];
        self.log.append(&BYTES[..bytes], mode).expect("an append")
    }

    /// The number of a key that nobody wrote for a long time.
    fn fresh(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The time of a single call, each after a flush, and after other things have filled the core's own caches.
    fn cold(&mut self, call: impl Fn(&Bench)) -> f64 {
        const SAMPLES: usize = 150;
        let mut times = Vec::with_capacity(SAMPLES);
        self.prune();
        for _ in 0..SAMPLES {
            self.rest();
            self.clobber.chunks_mut(64).for_each(|line| line[0] = line[0].wrapping_add(1));
            let start = Instant::now();
            call(self);
            times.push(start.elapsed().as_nanos() as f64);
        }
        Spread::of(times).map_or(0.0, |spread| spread.median)
    }

    /// The path of one commit.
    pub(crate) fn commits(&mut self) -> Values {
        self.rest();
        let build0 = each(TIMES, |_| drop(black_box(self.batch(0))));
        let build = (each(TIMES / 20, |_| drop(black_box(self.batch(101)))) - build0) / 101.0;
        let append = each(TIMES, |_| drop(self.append(PAYLOAD, CommitMode::Async)));
        self.rest();
        let (short, long) = (4096, 8192);
        let append_short = each(400, |_| drop(self.append(short, CommitMode::Async)));
        self.rest();
        let append_long = each(400, |_| drop(self.append(long, CommitMode::Async)));
        self.rest();
        let bytes = vec![7; 64 << 10];
        let crc_of_one = each(TIMES, |_| _ = black_box(crc32fast::hash(black_box(&bytes[..PAYLOAD]))));
        let crc = each(50, |_| _ = black_box(crc32fast::hash(black_box(&bytes)))) / bytes.len() as f64;
        let copy = (append_long - append_short) / (long - short) as f64 - crc;
        let append2 = each_of_two(TIMES, |_| drop(self.append(PAYLOAD, CommitMode::Async)));
        self.rest();
        // Each prunes what the one before it left: so the first of a kind is not counted.
        let cold = |_: usize| drop(self.commit(&key(self.fresh() as u64), CommitMode::Async));
        each(TIMES, cold);
        self.rest();
        let commit = each(TIMES, cold);
        self.rest();
        let commit2 = each_of_two(TIMES, cold);
        self.rest();
        let hot = |number: usize| drop(self.commit(&key_of(number as u64 % HOT), CommitMode::Async));
        each(TIMES, hot);
        self.rest();
        let commit_hot = each(TIMES, hot);
        self.rest();
        let commit_hot2 = each_of_two(TIMES, hot);
        self.rest();
        let warm_times = (0..TIMES / WARM).map(|_| {
            let warm = each(WARM, hot);
            self.rest();
            warm
        });
        let commit_warm = Spread::of(warm_times.collect::<Vec<f64>>()).map_or(0.0, |spread| spread.median);
        let append_cold = self.cold(|bench| drop(bench.append(PAYLOAD, CommitMode::Async)));
        let commit_cold = self.cold(|bench| drop(bench.commit(&key(bench.fresh() as u64), CommitMode::Async)));
        let outside = build0 + build;
        vec![
            ("build0", build0),
            ("build", build),
            ("crc_121", crc_of_one),
            ("crc", crc),
            ("copy", copy),
            ("append", append),
            ("append2", append2),
            ("apply_warm", commit_warm - append - outside),
            ("apply_hot", commit_hot - append - outside),
            ("apply", commit - append - outside),
            ("apply_cold", commit_cold - append_cold - outside),
            ("commit_warm", commit_warm),
            ("commit_hot", commit_hot),
            ("commit_hot2", commit_hot2),
            ("commit", commit),
            ("commit2", commit2),
            ("commit_cold", commit_cold),
        ]
    }

    /// The registry of snapshots.
    pub(crate) fn snapshots(&self) -> Values {
        let begin = |_| drop(self.engine.begin().expect("open"));
        vec![("begin", each(TIMES, begin)), ("begin2", each_of_two(TIMES, begin))]
    }

    /// A flush without what the device and the system calls take.
    pub(crate) fn flushes(&self) -> Values {
        self.rest();
        let many = each(TIMES, |_| drop(self.append(PAYLOAD, CommitMode::Async)));
        let start = Instant::now();
        self.log.flush().expect("a flush");
        let seal = start.elapsed().as_nanos() as f64 / TIMES as f64;
        let alone = each(TIMES, |_| drop(self.append(PAYLOAD, CommitMode::Sync)));
        let written = each(TIMES, |_| drop(self.append(PAYLOAD, CommitMode::Written)));
        self.rest();
        let mut values = vec![("seal", seal), ("flush", alone - many), ("write", written - many)];
        values.extend(self.log_disk.fill_per_byte().map(|fill| ("fill", fill)));
        values
    }

    /// Those who wait without a thread.
    pub(crate) fn waiters(&self) -> Values {
        self.rest();
        const MANY: usize = 1000;
        let mut receipts: Vec<Receipt> = (0..MANY).map(|_| self.append(PAYLOAD, CommitMode::Async)).collect();
        let called = Counter::to(MANY);
        let watch = each(MANY, |number| {
            let called = Arc::clone(&called);
            receipts[number].on_durable(move |_| called.count()).expect("a thread");
        });
        let start = Instant::now();
        self.log.flush().expect("a flush");
        called.wait();
        let call = start.elapsed().as_nanos() as f64 / MANY as f64;

        // The first one asks for a flush, which the disk holds until all of them wait.
        receipts.clear();
        self.log_disk.hold(true);
        let counter = Counter::to(MANY + 1);
        let waker = Waker::from(Arc::clone(&counter));
        let mut context = Context::from_waker(&waker);
        let mut wait = |_: usize| {
            let mut receipt = self.append(PAYLOAD, CommitMode::Async);
            assert!(Pin::new(&mut receipt).poll(&mut context).is_pending(), "the disk holds the flush");
            receipts.push(receipt);
        };
        wait(0);
        let both = each(MANY, wait);
        let start = Instant::now();
        self.log_disk.hold(false);
        counter.wait();
        let task = start.elapsed().as_nanos() as f64 / MANY as f64;
        drop(receipts);
        self.rest();
        let append = each(TIMES, |_| drop(self.append(PAYLOAD, CommitMode::Async)));
        self.rest();
        vec![("watch", watch), ("call", call), ("poll", both - append), ("task", task)]
    }

    /// Sync commits on a device whose flush takes no time, or one microsecond: what the model predicts, measured.
    pub(crate) fn fast_device(&self) -> Values {
        let sync = |number: usize| drop(self.commit(&key_of(number as u64 % HOT), CommitMode::Sync));
        let many = |threads: usize, times: usize| {
            let start = Instant::now();
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    scope.spawn(move || (0..times / threads).for_each(|number| sync(thread + number * threads)));
                }
            });
            start.elapsed().as_nanos() as f64 / times as f64
        };
        self.rest();
        let at_once = each(TIMES, sync);
        self.engine_disk.set_flush(1000);
        let alone = each(TIMES, sync);
        let (two, sixteen) = (many(2, TIMES / 4), many(16, TIMES));
        let sixty_four = many(64, TIMES / 64 * 64);
        self.engine_disk.set_flush(0);
        self.rest();
        vec![
            ("sync_0", at_once),
            ("sync_1us", alone),
            ("sync_1us_2", two),
            ("sync_1us_16", sixteen),
            ("sync_1us_64", sixty_four),
        ]
    }
}
