//! What an engine takes of memory: opening takes what writing took, and what is not needed goes back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crashkit::TempDir;
use forelog::{CommitMode, Engine, Keyspace};

mod beyond;

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
    let (engine, opened) = peak_of(|| {
        let engine = Engine::open(dir.path()).unwrap();
        // A deletion behind the last checkpoint leaves its tombstone: tables may have the key.
        let replayed = usize::try_from(engine.table_stats().pending_ops).unwrap();
        assert!(engine.versions_in_memory() <= versions + replayed);
        engine
    });
    // What the engine takes without any data, and a bundle or two.
    let constant = 16 * MIB;
    println!("{name}: {} MiB while written, {} MiB to open", written / MIB, opened / MIB);
    // Of a deletion behind the last checkpoint: its tombstone, and its place in the queue of those that leave with the next one.
    let replayed = usize::try_from(engine.table_stats().pending_ops).unwrap() * 100;
    assert!(opened <= written + constant + replayed, "{opened} bytes to open what took {written} to write");
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

/// The loader estimated what is live of the writes that it had gathered, and took a deletion, and the put that it deletes,
/// for live: so it gathered the whole log. 72 MiB while written, and 417 MiB to open.
#[test]
fn a_queue_opens_in_the_memory_of_writing() {
    opens_in_the_memory_of_writing("memory-queue", |engine| {
        let keys = engine.create_keyspace("k").unwrap();
        for number in 0..800_000_u64 {
            let mut batch = engine.batch().unwrap();
            batch.put(&keys, number.to_be_bytes(), [7; 100]).unwrap();
            if let Some(oldest) = number.checked_sub(5000) {
                batch.delete(&keys, oldest.to_be_bytes()).unwrap();
            }
            batch.commit_with(CommitMode::Async).unwrap();
        }
    });
}

/// The values of a put and of what deletes it have different sizes: a sample by size has one and not the other.
#[test]
fn a_queue_of_large_values_under_scattered_keys_opens_in_the_memory_of_writing() {
    opens_in_the_memory_of_writing("memory-queue-scattered", |engine| {
        let keys = engine.create_keyspace("k").unwrap();
        let key = |number: u64| [scattered(number), number.to_be_bytes()].concat().repeat(3);
        for number in 0..100_000_u64 {
            put(engine, &keys, &key(number), &[7; 1000]);
            if let Some(oldest) = number.checked_sub(2000) {
                delete(engine, &keys, &key(oldest));
            }
        }
    });
}

/// 24 MiB while written, and 958 MiB to open. Then, if a checkpoint happened to come meanwhile, 97 MiB and 236 MiB: its layer
/// had nothing in it, and the next open kept a tombstone for each key.
#[test]
fn deletions_of_absent_keys_open_in_the_memory_of_writing() {
    for (name, length, count) in [("memory-absent", 100, 300_000_u64), ("memory-absent-long", 60_000, 2000)] {
        for checkpoint_at in [None, Some(count / 10)] {
            opens_in_the_memory_of_writing(name, |engine| {
                let keys = engine.create_keyspace("k").unwrap();
                for number in 0..count {
                    let mut key = scattered(number).to_vec();
                    key.resize(length, 7);
                    delete(engine, &keys, &key);
                    if Some(number) == checkpoint_at {
                        engine.checkpoint().unwrap();
                    }
                }
            });
        }
    }
}

/// A bundle had whole transactions only, and took 100 bytes for each of their writes while they were sorted: 370 MiB
/// while written, and 1025 MiB to open.
#[test]
fn giant_transactions_open_in_the_memory_of_writing() {
    opens_in_the_memory_of_writing("memory-giant", |engine| {
        let keys = engine.create_keyspace("k").unwrap();
        for _ in 0..3 {
            let mut batch = engine.batch().unwrap();
            for number in 0..1_000_000_u32 {
                batch.put(&keys, (number % 10).to_be_bytes(), [7; 30]).unwrap();
            }
            batch.commit_with(CommitMode::Async).unwrap();
        }
    });
}

/// The cut of a keyspace into parts looked at each 256th write of a sorted piece, and a piece has three such keys: all of
/// them were built in one part, with the pieces in memory until its end. 184 MiB while written, and 347 MiB to open.
#[test]
fn long_keys_open_in_the_memory_of_writing() {
    opens_in_the_memory_of_writing("memory-long-keys", |engine| {
        let keys = engine.create_keyspace("k").unwrap();
        for number in 0..1500_u64 {
            let mut key = scattered(number).to_vec();
            key.resize(60_000, 7);
            put(engine, &keys, &key, b"");
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

/// Whoever reads a database without opening it, or verifies it, needs memory for the log behind its tables, and for parts of these.
#[test]
fn reading_without_an_open_takes_memory_that_does_not_follow_the_data() {
    let _alone = alone();
    let dir = TempDir::new("memory-read-only");
    let engine = Engine::open(dir.path()).unwrap();
    let keys = engine.create_keyspace("k").unwrap();
    (0..300_000).for_each(|number| put(&engine, &keys, &scattered(number), &[7; 400]));
    engine.flush().unwrap();
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    drop((engine, keys));
    let read = || {
        let seen = Engine::read_only(dir.path()).unwrap();
        assert_eq!(seen.iter("k").unwrap().map(Result::unwrap).count(), 300_000);
        assert_eq!(seen.get("k", scattered(5)).unwrap().as_deref(), Some(&[7; 400][..]));
    };
    let (((), read), (_, verified)) = (peak_of(read), peak_of(|| Engine::verify(dir.path()).unwrap()));
    println!(
        "memory-read-only: {} MiB to read, {} MiB to verify, of {} MiB",
        read / MIB,
        verified / MIB,
        300_000 * 408 / MIB
    );
    assert!(read < 24 * MIB && verified < 24 * MIB, "{read} bytes to read, {verified} to verify");
}

/// A held snapshot kept a note for each key that was put and deleted after it began: a million for a queue that was never
/// longer than one element. Only a transaction needs them, to find out at its commit what has changed.
#[test]
fn a_queue_leaves_nothing_under_those_who_only_read() {
    let _alone = alone();
    let engine = Engine::in_memory().unwrap();
    let keys = engine.create_keyspace("k").unwrap();
    put(&engine, &keys, b"seen", b"1");
    let snapshot = engine.snapshot().unwrap();
    let mut transaction = engine.begin().unwrap();
    let entries = transaction.iter(&keys).unwrap();
    transaction.rollback();
    for number in 0..20_000 {
        put(&engine, &keys, &scattered(number), b"job");
        delete(&engine, &keys, &scattered(number));
    }
    engine.flush().unwrap();
    in_short_bursts(&engine, 0..200, |_| put(&engine, &keys, b"seen", b"2"));
    until(|| engine.versions_in_memory(), 1000);
    assert_eq!(snapshot.get(&keys, b"seen").unwrap().unwrap(), b"1");
    assert_eq!(entries.map(|entry| entry.unwrap().1).collect::<Vec<_>>(), [b"1"]);
}

/// Waits until no more than `bytes` are held.
fn until_held(bytes: usize) {
    until(|| HELD.load(Ordering::Relaxed), bytes);
}

/// Waits until `count` gives no more than `enough`: a thread in the background prunes. The end of its patience is for a
/// test that fails.
fn until(count: impl Fn() -> usize, enough: usize) {
    for _ in 0..3000 {
        if count() <= enough {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} are held, and {enough} are enough", count());
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

/// A HISTORY of 3 GiB that was a hole, save for a count that fitted its length, took as much memory, and 23 seconds.
#[test]
fn a_history_of_nothing_takes_no_memory() {
    let _alone = alone();
    let dir = TempDir::new("history");
    let db = dir.join("db");
    let engine = Engine::open(&db).unwrap();
    put(&engine, &engine.create_keyspace("rows").unwrap(), b"key", b"value");
    engine.close().unwrap();
    let mut history = std::fs::read(db.join("HISTORY")).unwrap();
    // It begins with no entry that can be, or with one that can.
    for kept in [72, 72 + 56] {
        let count: u64 = (1 << 28) / 56;
        history.truncate(kept.max(72 + 56));
        history[64..72].copy_from_slice(&count.to_le_bytes());
        std::fs::write(db.join("HISTORY"), &history[..kept]).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(db.join("HISTORY")).unwrap();
        file.set_len(72 + 56 * count).unwrap();
        let (refused, peak) = peak_of(|| {
            let salvaged = Engine::salvage(&db, dir.join(format!("saved-{kept}"))).unwrap();
            assert_eq!((salvaged.commits, salvaged.bad_files.len()), (2, 1), "{salvaged:?}");
            [Engine::verify(&db).err(), Engine::open(&db).err()]
        });
        for error in refused {
            assert_eq!(error.unwrap().kind(), forelog::ErrorKind::Damaged);
        }
        assert!(peak < 64 * MIB, "{} MiB", peak / MIB);
    }
}
