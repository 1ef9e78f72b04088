//! The terms of the model of what a commit costs (`src/SCALE.md`), by the names that they have there, each measured by
//! itself, and the rates that the model makes of them.
//!
//! `cargo bench --features unstable --bench terms [-- DIR]` prints one table. DIR is on the disk to be measured; without it, it is the
//! directory for temporary files; it takes 16 MiB there. All terms are measured in turn, several times; what is printed is the median with the
//! quartiles. What belongs to the processor is measured on a disk that costs nothing (`still`), so that the device's
//! terms are those of DIR alone.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use forelog::unstable::disk::{Access, Disk, DiskFile, OsDisk, write_all_at};

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the raw limit is for the benchmark of the commit modes")]
mod common;
mod engine;
mod model;
#[path = "../common/place.rs"]
#[expect(dead_code, reason = "workloads are chosen in the benchmark of the commit modes alone")]
mod place;
mod still;
mod threads;

use common::record_bytes;
use common::stats::Spread;
use engine::{Bench, VALUE, Values};
use place::{Place, Request, Stop, failed, main_of};
use threads::{crowd, each, each_of_two, line, wake_up};

const ROUNDS: usize = 15;
/// Bytes of the log that a commit takes.
const RECORD: usize = record_bytes(1, VALUE.len());

/// Name, what it is, unit.
type Term = (&'static str, &'static str, &'static str);

const TERMS: [Term; 71] = [
    ("now", "reading the clock", "ns"),
    ("lock", "a lock that nobody else wants, taken and given up", "ns"),
    ("lock2", "the same, taken by two threads in turn: each acquisition", "ns"),
    ("line", "a cache line from one core to the other", "ns"),
    ("alloc", "memory for a value of 100 bytes: taken, written, given back", "ns"),
    ("syscall", "the shortest system call", "ns"),
    ("yield", "sched_yield with nobody else to run", "ns"),
    ("build0", "an empty batch, made and dropped", "ns"),
    ("build", "encoding one put", "ns/put"),
    ("crc_121", "checksum of a payload of 121 bytes", "ns"),
    ("crc", "checksum of a long payload", "ns/byte"),
    ("copy", "copying a payload into the log buffer, under the append lock", "ns/byte"),
    ("append", "log append of 121 bytes, Async: checksum, append lock, receipt", "ns"),
    ("append2", "the same by two threads: each append", "ns"),
    ("apply_warm", "order lock, index apply and publish; everything in the core's caches", "ns"),
    ("apply_hot", "the same; 256 keys with all their versions since the last flush", "ns"),
    ("apply", "the same; a million keys, written again in the order of their first writes (as in `modes`)", "ns"),
    ("apply_cold", "the same; each after the core's caches were filled with other things", "ns"),
    ("commit_warm", "a whole Async commit of one put, as `apply_warm`", "ns"),
    ("commit_hot", "as `apply_hot`", "ns"),
    ("commit_hot2", "as `apply_hot`, by two threads: each commit", "ns"),
    ("commit", "as `apply`", "ns"),
    ("commit2", "as `apply`, by two threads: each commit", "ns"),
    ("commit_cold", "as `apply_cold`", "ns"),
    ("begin", "a transaction begun and dropped: the snapshot registry, twice", "ns"),
    ("begin2", "the same by two threads: each transaction", "ns"),
    ("seal", "durable LSN and header checksum, by the writer", "ns/frame"),
    ("write", "what `Written` adds to an append, without the system call", "ns"),
    ("flush", "what `Sync` adds to an append, without device and system calls", "ns"),
    ("fill", "filling a segment before its use, in the background, without the write calls", "ns/byte"),
    ("wake", "from a signal until the sleeping thread runs", "ns"),
    ("signal_16", "what each of 16 sleeping threads costs the one that wakes them", "ns/thread"),
    ("back_16", "until the last of them has run", "ns/thread"),
    ("signal_64", "what each of 64 costs", "ns/thread"),
    ("back_64", "until the last of them has run", "ns/thread"),
    ("watch", "registering a callback", "ns"),
    ("call", "the callback's way from the flush to its thread, with the seal", "ns"),
    ("poll", "registering a waiting task: asking for a flush included", "ns"),
    ("task", "waking it, with the seal", "ns"),
    ("pwrite", "write call of one record, in a prepared file", "ns"),
    ("pwrite_byte", "each further byte of a write call", "ns/byte"),
    ("start", "having the device begin with one record (sync_file_range)", "ns"),
    ("fsync", "fdatasync after one record", "ns"),
    ("fsync_64", "fdatasync after 64 records in one write", "ns"),
    ("sync_0", "check: a Sync commit, one thread, a device that takes no time", "ns"),
    ("sync_1us", "check: one thread, a device of a million flushes a second", "ns"),
    ("sync_1us_2", "check: the same by 2 threads, each commit", "ns"),
    ("sync_1us_16", "check: the same by 16 threads", "ns"),
    ("sync_1us_64", "check: the same by 64 threads", "ns"),
    ("async", "model: Async, 1 thread", "commits/s"),
    ("async_warm", "model: the same, as `commit_warm`", "commits/s"),
    ("written", "model: Written, 1 thread", "commits/s"),
    ("written_warm", "model: the same, as `commit_warm`", "commits/s"),
    ("sync_1", "model: Sync, 1 thread", "commits/s"),
    ("sync_4", "model: Sync, 4 threads", "commits/s"),
    ("sync_4_warm", "model: the same, as `commit_warm`", "commits/s"),
    ("sync_16", "model: Sync, 16 threads", "commits/s"),
    ("sync_16_warm", "model: the same, as `commit_warm`", "commits/s"),
    ("sync_64", "model: Sync, 64 threads", "commits/s"),
    ("sync_64_warm", "model: the same, as `commit_warm`", "commits/s"),
    ("awaited", "model: 1,024 awaited, 1 thread", "commits/s"),
    ("awaited_warm", "model: the same, as `commit_warm`", "commits/s"),
    ("log_async", "model: log only, Async, 1 thread", "commits/s"),
    ("log_awaited", "model: log only, 1,024 awaited", "commits/s"),
    ("fast_1", "model: what `sync_1us` measures", "commits/s"),
    ("at_order_warm", "limit: the order lock, as `apply_warm`", "commits/s"),
    ("at_order", "limit: the order lock, as `apply`", "commits/s"),
    ("at_order_cold", "limit: the order lock, as `apply_cold`", "commits/s"),
    ("at_append", "limit: the append lock, two threads", "commits/s"),
    ("at_signal", "limit: one leader that wakes threads", "commits/s"),
    ("at_start", "limit: flushes through the page cache, by the processor's part alone", "flushes/s"),
];
/// The terms that say nothing of a disk where files are kept in memory.
const OF_THE_DEVICE: [&str; 5] = ["pwrite", "pwrite_byte", "start", "fsync", "fsync_64"];

/// A file of a segment's kind, written from the front to the end and again.
struct Prepared {
    file: Arc<dyn DiskFile>,
    at: u64,
}

impl Prepared {
    const BYTES: u64 = 16 << 20;
    /// As the engine fills its segments: after larger pieces some kernels cache the file in larger units.
    const PIECE: usize = 64 << 10;

    fn create(path: &Path) -> std::io::Result<Prepared> {
        let dir = OsDisk.open_dir(path.parent().unwrap_or(Path::new("")))?;
        let file = dir.open(path.file_name().unwrap_or_default(), Access::Create)?;
        for at in (0..Self::BYTES).step_by(Self::PIECE) {
            write_all_at(&*file, &[7; Self::PIECE], at)?;
        }
        file.sync_all()?;
        Ok(Prepared { file, at: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let length = bytes.len() as u64;
        let at = if self.at + length <= Self::BYTES { self.at } else { 0 };
        self.at = at + length;
        write_all_at(&*self.file, bytes, at)
    }

    /// Nanoseconds of the median call of `call`, made after a write of `bytes` that is not counted.
    fn after_writes(
        &mut self,
        bytes: &[u8],
        call: fn(&dyn DiskFile) -> std::io::Result<()>,
        after: fn(&dyn DiskFile) -> std::io::Result<()>,
    ) -> std::io::Result<f64> {
        const SAMPLES: usize = 150;
        let mut times = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            self.write(bytes)?;
            let start = Instant::now();
            call(&*self.file)?;
            times.push(start.elapsed().as_nanos() as f64);
            after(&*self.file)?;
        }
        Ok(Spread::of(times).map_or(0.0, |spread| spread.median))
    }

    fn measure(&mut self) -> std::io::Result<Values> {
        const WRITES: usize = 2000;
        let mut each_write = |bytes: &[u8], times: usize| {
            let start = Instant::now();
            for _ in 0..times {
                self.write(bytes)?;
            }
            Ok::<f64, std::io::Error>(start.elapsed().as_nanos() as f64 / times as f64)
        };
        let pwrite = each_write(&[7; RECORD], WRITES)?;
        let pwrite_long = each_write(&[7; 64 * RECORD], WRITES / 20)?;
        self.file.sync_data()?;
        let start = self.after_writes(&[7; RECORD], |file| file.start_writeback(), |file| file.sync_data())?;
        let fsync = self.after_writes(&[7; RECORD], |file| file.sync_data(), |_| Ok(()))?;
        let fsync_64 = self.after_writes(&[7; 64 * RECORD], |file| file.sync_data(), |_| Ok(()))?;
        Ok(vec![
            ("pwrite", pwrite),
            ("pwrite_byte", (pwrite_long - pwrite) / (63 * RECORD) as f64),
            ("start", start),
            ("fsync", fsync),
            ("fsync_64", fsync_64),
        ])
    }
}

/// What needs no engine.
fn primitives() -> Values {
    const TIMES: usize = 20_000;
    let mutex = parking_lot::Mutex::new(0_u64);
    let lock = |_: usize| *black_box(&mutex).lock() += 1;
    let value = |_: usize| drop(black_box(Arc::<[u8]>::from(black_box(VALUE.as_slice()))));
    let ((signal_16, back_16), (signal_64, back_64)) = (crowd(16), crowd(64));
    vec![
        ("now", each(TIMES, |_| _ = black_box(Instant::now()))),
        ("lock", each(TIMES, lock)),
        ("lock2", each_of_two(TIMES, lock)),
        ("line", line()),
        ("alloc", each(TIMES, value)),
        ("syscall", each(TIMES, |_| _ = black_box(std::os::unix::process::parent_id()))),
        ("yield", each(TIMES, |_| std::thread::yield_now())),
        ("wake", wake_up()),
        ("signal_16", signal_16),
        ("back_16", back_16),
        ("signal_64", signal_64),
        ("back_64", back_64),
    ]
}

fn measure(place: &Place) -> Result<BTreeMap<&'static str, Vec<f64>>, String> {
    let path = place.dir.join("records");
    let failed = |error| failed("write", &path, &error);
    let mut file = Prepared::create(&path).map_err(failed)?;
    let mut bench = Bench::new().map_err(|error| error.to_string())?;
    let mut measured: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for round in 1..=ROUNDS {
        let parts = [
            file.measure().map_err(failed)?,
            primitives(),
            bench.commits(),
            bench.snapshots(),
            bench.flushes(),
            bench.waiters(),
            bench.fast_device(),
        ];
        let terms: Values = parts.into_iter().flatten().collect();
        let rates = model::rates(&terms);
        for (name, value) in terms.into_iter().chain(rates) {
            measured.entry(name).or_default().push(value);
        }
        eprintln!("round {round} of {ROUNDS}");
    }
    Ok(measured)
}

fn print(measured: &BTreeMap<&'static str, Vec<f64>>, is_memory: bool) {
    println!("| term | what | unit | median | quartiles |\n|---|---|---|---|---|");
    for (name, what, unit) in TERMS {
        let spread = measured.get(name).and_then(|values| Spread::of(values.iter().copied()));
        let spread = spread.unwrap_or_else(|| panic!("{name} was not measured"));
        let digits = if spread.median.abs() < 10.0 { 2 } else { 0 };
        let note = if is_memory && OF_THE_DEVICE.contains(&name) { " (files in memory: meaningless)" } else { "" };
        let (median, low, high) = (spread.median, spread.low, spread.high);
        println!("| `{name}` | {what}{note} | {unit} | {median:.digits$} | {low:.digits$} to {high:.digits$} |");
    }
    assert_eq!(measured.len(), TERMS.len(), "a term is measured and not printed");
}

fn run(request: &Request) -> Result<(), Stop> {
    let place = Place::inside(&request.parent)?;
    let measured = measure(&place)?;
    print(&measured, place.is_memory);
    Ok(())
}

fn main() -> ExitCode {
    main_of("terms", false, run)
}
