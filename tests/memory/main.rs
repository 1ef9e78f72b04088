//! What an engine takes of memory: opening takes what writing took, and what is not needed goes back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crashkit::TempDir;
use forelog::{CommitMode, Engine, Keyspace};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn count(more: usize) {
    let held = HELD.fetch_add(more, Ordering::Relaxed) + more;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: every call is handed to the system's allocator as it is.
#[allow(unsafe_code, reason = "an allocator is unsafe by its signature")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The counters are those of the process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The most bytes that `body` holds at once, beyond what was held before.
fn peak_of<T>(body: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = body();
    (result, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

const MIB: usize = 1 << 20;

fn put(engine: &Engine, keyspace: &Keyspace, key: &[u8], value: &[u8]) {
    let mut batch = engine.batch().unwrap();
    batch.put(keyspace, key, value).unwrap();
    batch.commit_with(CommitMode::Async).unwrap();
}

fn delete(engine: &Engine, keyspace: &Keyspace, key: &[u8]) {
    let mut batch = engine.batch().unwrap();
    batch.delete(keyspace, key).unwrap();
    batch.commit_with(CommitMode::Async).unwrap();
}

/// A key that is anywhere among the others.
fn scattered(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// Writes with `write` and opens again.
fn opens_in_the_memory_of_writing(name: &str, write: impl FnOnce(&Engine)) {
    let _alone = alone();
    let dir = TempDir::new(name);
    let (versions, written) = peak_of(|| {
        let engine = Engine::open(dir.path()).unwrap();
        write(&engine);
        engine.close().unwrap();
        engine.versions_in_memory()
    });
    let (_engine, opened) = peak_of(|| {
        let engine = Engine::open(dir.path()).unwrap();
        assert!(engine.versions_in_memory() <= versions);
        engine
    });
    // What the engine takes without any data, and a bundle or two.
    let constant = 16 * MIB;
    println!("{name}: {} MiB while written, {} MiB to open", written / MIB, opened / MIB);
    assert!(opened <= written + constant, "{opened} bytes to open what took {written} to write");
}

/// 40 MiB while written, and 402 MiB to open: the loader kept every version of eight bundles.
#[test]
fn overwrites_of_a_few_keys_open_in_the_memory_of_writing() {
    opens_in_the_memory_of_writing("memory-overwrites", |engine| {
        let keys = engine.create_keyspace("k").unwrap();
        for number in 0..150_000_u64 {
            put(engine, &keys, &(number % 10).to_be_bytes(), &[7; 1024]);
        }
    });
}

#[test]
fn large_values_open_in_the_memory_of_writing() {
    opens_in_the_memory_of_writing("memory-large", |engine| {
        let keys = engine.create_keyspace("k").unwrap();
        for number in 0..150_u64 {
            put(engine, &keys, &(number % 3).to_be_bytes(), &vec![7; MIB]);
        }
    });
}

#[test]
fn what_was_deleted_opens_in_the_memory_of_writing() {
    opens_in_the_memory_of_writing("memory-deleted", |engine| {
        let keys = engine.create_keyspace("k").unwrap();
        for number in 0..100_000 {
            put(engine, &keys, &scattered(number), &[7; 500]);
            delete(engine, &keys, &scattered(number.saturating_sub(100)));
        }
    });
}

#[test]
fn distinct_keys_open_in_the_memory_of_writing() {
    opens_in_the_memory_of_writing("memory-distinct", |engine| {
        let keys = engine.create_keyspace("k").unwrap();
        (0..300_000).for_each(|number| put(engine, &keys, &scattered(number), &[7; 200]));
    });
}

/// The most that an open holds of a log that writes the same keys `times` times.
fn peak_of_opening(times: u64) -> usize {
    const KEYS: u64 = 50_000;
    let dir = TempDir::new("memory-many");
    let engine = Engine::open(dir.path()).unwrap();
    let keys = engine.create_keyspace("k").unwrap();
    (0..times * KEYS).for_each(|number| put(&engine, &keys, &scattered(number % KEYS), &[7; 400]));
    engine.close().unwrap();
    drop((engine, keys));
    let (_engine, opened) = peak_of(|| Engine::open(dir.path()).unwrap());
    println!("memory-many: {} MiB to open what was written {times} times", opened / MIB);
    opened
}

/// While the index is built anew it is there twice, and a pool's last chunk may be half empty: an open takes more than
/// writing took, but no more for a longer log.
#[test]
fn overwrites_of_many_keys_open_in_memory_that_does_not_follow_the_length_of_the_log() {
    let _alone = alone();
    let (short, long) = (peak_of_opening(4), peak_of_opening(16));
    assert!(long <= short + 16 * MIB, "{short} bytes to open a log, {long} for one that is four times as long");
}

#[test]
fn many_keyspaces_open_in_the_memory_of_writing() {
    opens_in_the_memory_of_writing("memory-keyspaces", |engine| {
        let keyspaces: Vec<_> = (0..100).map(|id| engine.create_keyspace(&format!("k{id}")).unwrap()).collect();
        for number in 0..100_000_u64 {
            let keyspace = &keyspaces[usize::try_from(number % 100).unwrap()];
            put(engine, keyspace, &(number % 7).to_be_bytes(), &[7; 1000]);
        }
    });
}

/// Waits until no more than `bytes` are held. The bound is for a test that fails.
fn until_held(bytes: usize) {
    for _ in 0..3000 {
        if HELD.load(Ordering::Relaxed) <= bytes {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} bytes are held, and {bytes} are enough", HELD.load(Ordering::Relaxed));
}

/// Commits one write for each number. The log keeps as much memory as its longest burst took: these are short, so that
/// what is held is held by the index.
fn in_short_bursts(engine: &Engine, numbers: impl Iterator<Item = u64>, write: impl Fn(u64)) {
    for (count, number) in numbers.enumerate() {
        write(number);
        if count % 1000 == 999 {
            engine.flush().unwrap();
        }
    }
    engine.flush().unwrap();
}

/// An engine with 150,000 keys that takes some memory, what it takes without them, and what they take.
fn filled(dir: &TempDir) -> (Engine, usize, usize) {
    let engine = Engine::open(dir.path()).unwrap();
    let keys = engine.create_keyspace("k").unwrap();
    // With what the log takes for the first commits.
    in_short_bursts(&engine, 0..1000, |number| put(&engine, &keys, &scattered(number), &[7; 200]));
    let before = HELD.load(Ordering::Relaxed);
    in_short_bursts(&engine, 0..150_000, |number| put(&engine, &keys, &scattered(number), &[7; 200]));
    let held = HELD.load(Ordering::Relaxed);
    (engine, before, held - before)
}

/// A commit reserved the sum of everything that was ever put: 420 values of 64 MiB for one key ended the process.
#[test]
fn a_key_that_a_transaction_overwrites_many_times_takes_memory_once() {
    let _alone = alone();
    let dir = TempDir::new("memory-overwritten");
    let engine = Engine::open(dir.path()).unwrap();
    let keys = engine.create_keyspace("k").unwrap();
    let value = vec![7; MIB];
    let (_, taken) = peak_of(|| {
        let mut tx = engine.begin().unwrap();
        for round in 0..1000 {
            if round % 3 == 0 {
                tx.delete(&keys, "progress").unwrap();
            }
            tx.put(&keys, "progress", &value).unwrap();
        }
        tx.commit().unwrap()
    });
    println!("memory-overwritten: {} MiB", taken / MIB);
    assert!(taken <= 16 * MIB, "{taken}");
}

#[test]
fn the_memory_of_a_dropped_keyspace_goes_back_without_another_commit() {
    let _alone = alone();
    let dir = TempDir::new("memory-dropped");
    let (engine, before, taken) = filled(&dir);
    assert!(taken > 30 * MIB, "{taken}");
    engine.drop_keyspace("k").unwrap();
    until_held(before + 4 * MIB);
}

#[test]
fn the_memory_of_deleted_keys_goes_back_without_another_commit() {
    let _alone = alone();
    let dir = TempDir::new("memory-emptied");
    let (engine, before, _) = filled(&dir);
    let keys = engine.create_keyspace("k").unwrap();
    in_short_bursts(&engine, 0..150_000, |number| delete(&engine, &keys, &scattered(number)));
    until_held(before + 4 * MIB);
    drop(engine);
}

/// The nine of ten lie everywhere, so that no large piece of memory is empty by itself.
#[test]
fn most_of_the_memory_goes_back_when_most_keys_are_deleted() {
    let _alone = alone();
    let dir = TempDir::new("memory-thinned");
    let (engine, before, taken) = filled(&dir);
    let keys = engine.create_keyspace("k").unwrap();
    let nine_of_ten = (0..150_000).filter(|number| number % 10 != 0);
    in_short_bursts(&engine, nine_of_ten, |number| delete(&engine, &keys, &scattered(number)));
    until_held(before + taken / 2);
    for number in (0..150_000).step_by(10) {
        assert!(engine.snapshot().unwrap().get(&keys, scattered(number)).unwrap().is_some());
    }
}
