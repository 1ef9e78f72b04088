//! More data than memory: what is forgotten is read from tables, and nothing shows.

use std::collections::BTreeMap;

use crashkit::{Random, TempDir, error_of, seed};
use forelog::{Checkpoints, CommitMode, Engine, ErrorKind, Keyspace, Options};

/// With the least memory, and checkpoints so small that most of what is written can be forgotten.
fn options() -> Options {
    Options::new().memory_bytes(16 << 20).checkpoint_bytes(256 << 10).commit_mode(CommitMode::Written)
}

type Model = BTreeMap<u32, Option<u32>>;

fn key(number: u32) -> [u8; 8] {
    // Neighbours in time are far from each other.
    (u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes()
}

fn value(version: u32) -> Vec<u8> {
    version.to_be_bytes().repeat(25)
}

/// Writes `count` keys anew, or deletes every third of them.
fn write(engine: &Engine, keyspace: &Keyspace, model: &mut Model, keys: impl Iterator<Item = u32>, version: u32) {
    let keys: Vec<_> = keys.collect();
    for keys in keys.chunks(100) {
        let mut batch = engine.batch().unwrap();
        for number in keys {
            let is_deleted = version > 0 && number % 3 == 0;
            match is_deleted {
                true => batch.delete(keyspace, key(*number)).unwrap(),
                false => batch.put(keyspace, key(*number), value(version)).unwrap(),
            }
            model.insert(*number, (!is_deleted).then_some(version));
        }
        batch.commit().unwrap();
    }
}

fn check(engine: &Engine, keyspace: &Keyspace, model: &Model) {
    let snapshot = engine.snapshot().unwrap();
    let mut expected: Vec<_> =
        model.iter().filter_map(|(number, version)| Some((key(*number).to_vec(), value((*version)?)))).collect();
    expected.sort();
    let owned = |entry: forelog::Result<(forelog::Key, forelog::Value)>| {
        let (key, value) = entry.unwrap();
        (key.to_vec(), value.to_vec())
    };
    assert!(snapshot.iter(keyspace).unwrap().map(owned).eq(expected.iter().cloned()));
    assert!(snapshot.iter(keyspace).unwrap().rev().map(owned).eq(expected.into_iter().rev()));
    for (number, version) in model.iter().step_by(37) {
        let found = snapshot.get(keyspace, key(*number)).unwrap();
        assert_eq!(found.as_deref(), version.map(value).as_deref(), "key {number}");
    }
}

#[test]
fn data_that_outgrow_memory_are_read_from_tables() {
    let dir = TempDir::new("outgrow");
    let mut random = Random::new(seed(0x3E3));
    let (mut model, count) = (Model::new(), 150_000);
    let engine = options().open(dir.join("db")).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    write(&engine, &keyspace, &mut model, 0..count, 0);
    engine.checkpoint().unwrap();
    let stats = engine.memory_stats();
    assert!(stats.records <= stats.records_limit && !engine.table_stats().all_in_memory, "{stats:?}");
    check(&engine, &keyspace, &model);
    // What was forgotten is written again, deleted, and read meanwhile.
    let before = engine.snapshot().unwrap();
    for version in 1..4 {
        let first = u32::try_from(random.below(count as usize / 2)).unwrap();
        write(&engine, &keyspace, &mut model, first..first + 40_000, version);
        check(&engine, &keyspace, &model);
    }
    let old = before.iter(&keyspace).unwrap().map(|entry| entry.unwrap().1.to_vec());
    assert_eq!(old.filter(|old| *old == value(0)).count(), count as usize, "the snapshot sees what it saw");
    drop(before);
    let stats = engine.memory_stats();
    engine.checkpoint().unwrap();
    assert!(engine.memory_stats().records <= stats.records_limit, "{stats:?}");
    engine.close().unwrap();
    let engine = options().open(dir.join("db")).unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    check(&engine, &keyspace, &model);
    let stats = engine.memory_stats();
    assert!(stats.records <= stats.records_limit && stats.partitions > 0, "{stats:?}");
}

#[test]
fn what_is_on_its_way_to_the_log_is_told() {
    let dir = TempDir::new("told-memory");
    let engine = options().open(dir.join("db")).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.put(&keyspace, "k", vec![1; 1 << 20]).unwrap();
    batch.commit_with(CommitMode::Async).unwrap();
    let stats = engine.memory_stats();
    assert!(stats.log_buffers >= 1 << 20 && stats.sorting == 0, "{stats:?}");
}

/// What a transaction has read is changed and forgotten before it commits.
#[test]
fn a_transaction_finds_its_conflict_with_what_was_forgotten() {
    let dir = TempDir::new("forgotten-conflict");
    let engine = options().open(dir.join("db")).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut model = Model::new();
    write(&engine, &keyspace, &mut model, 0..20_000, 0);
    let mut read = engine.begin().unwrap();
    assert!(read.get(&keyspace, key(7)).unwrap().is_some());
    let mut absent = engine.begin().unwrap();
    assert!(absent.get(&keyspace, b"absent").unwrap().is_none());
    write(&engine, &keyspace, &mut model, 7..8, 1);
    let mut batch = engine.batch().unwrap();
    batch.put(&keyspace, "absent", "now there").unwrap();
    batch.commit().unwrap();
    write(&engine, &keyspace, &mut model, 20_000..170_000, 0);
    engine.checkpoint().unwrap();
    assert!(!engine.table_stats().all_in_memory);
    for mut transaction in [read, absent] {
        transaction.put(&keyspace, "mine", "1").unwrap();
        assert_eq!(error_of(transaction.commit()).kind(), ErrorKind::Conflict);
    }
}

/// The memory of leaves that were let go of counted until their keyspace was passed, and so all of it was forgotten.
#[test]
fn no_more_is_forgotten_than_there_must() {
    let dir = TempDir::new("forgets-a-part");
    let options = options().memory_bytes(64 << 20).checkpoint_bytes(1 << 20).checkpoints(Checkpoints::OnRequest);
    let engine = options.open(dir.join("db")).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let value = [7; 1_000];
    for first in (0..40_000_u32).step_by(100) {
        let mut batch = engine.batch().unwrap();
        (first..first + 100).for_each(|number| batch.put(&keyspace, key(number), value).unwrap());
        batch.commit().unwrap();
    }
    let before = engine.memory_stats();
    assert!(before.records > before.records_limit, "{before:?}");
    engine.flush().unwrap();
    engine.checkpoint().unwrap();
    let after = engine.memory_stats();
    assert!(after.records <= after.records_limit && after.records >= after.records_limit / 2, "{after:?}");
}

#[test]
fn too_little_memory_is_refused() {
    let dir = TempDir::new("little-memory");
    for bytes in [0, 1, (16 << 20) - 1] {
        let error = error_of(Options::new().memory_bytes(bytes).open(dir.join("db")));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("memory_bytes"), "{error}");
    }
    drop(Options::new().memory_bytes(u64::MAX).open(dir.join("db")).unwrap());
}

/// No sum of shares overflows, and nothing is made as large as it may become.
#[test]
fn with_whatever_memory_the_same_is_written_and_read() {
    const MEMORY: [u64; 3] = [16 << 20, 1 << 40, u64::MAX];
    for written_with in MEMORY {
        let dir = TempDir::new("any-memory");
        let open = |memory| Options::new().memory_bytes(memory).commit_mode(CommitMode::Written).open(dir.join("db"));
        let engine = open(written_with).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        let mut model = Model::new();
        write(&engine, &keyspace, &mut model, 0..10_000, 0);
        engine.flush().unwrap();
        engine.checkpoint().unwrap();
        write(&engine, &keyspace, &mut model, 3_000..6_000, 1);
        check(&engine, &keyspace, &model);
        let stats = engine.memory_stats();
        assert!(stats.limit == written_with && stats.records <= stats.records_limit, "{stats:?}");
        engine.close().unwrap();
        for (version, read_with) in (2_u32..).zip(MEMORY) {
            let engine = open(read_with).unwrap();
            let keyspace = engine.open_keyspace("k").unwrap();
            // Most of it from tables, or while it comes into memory.
            check(&engine, &keyspace, &model);
            let keys = version * 2_000;
            write(&engine, &keyspace, &mut model, keys..keys + 1_000, version);
            engine.flush().unwrap();
            engine.checkpoint().unwrap();
            check(&engine, &keyspace, &model);
            engine.close().unwrap();
        }
    }
}

/// What is behind the last checkpoint comes into memory at once, and goes when a checkpoint has it.
#[test]
fn what_was_written_with_much_memory_is_opened_with_little() {
    let dir = TempDir::new("much-then-little");
    let much = Options::new().memory_bytes(1 << 30).commit_mode(CommitMode::Written);
    let engine = much.open(dir.join("db")).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut model = Model::new();
    write(&engine, &keyspace, &mut model, 0..40_000, 0);
    engine.flush().unwrap();
    engine.checkpoint().unwrap();
    write(&engine, &keyspace, &mut model, 30_000..80_000, 0);
    assert!(engine.table_stats().all_in_memory && engine.table_stats().pending_bytes > 5 << 20);
    engine.close().unwrap();
    for round in 2..4 {
        let engine = options().open(dir.join("db")).unwrap();
        let keyspace = engine.open_keyspace("k").unwrap();
        check(&engine, &keyspace, &model);
        write(&engine, &keyspace, &mut model, round * 15_000..round * 15_000 + 5_000, round);
        engine.flush().unwrap();
        engine.checkpoint().unwrap();
        check(&engine, &keyspace, &model);
        let stats = engine.memory_stats();
        assert!(stats.records <= stats.records_limit && !engine.table_stats().all_in_memory, "{stats:?}");
        engine.close().unwrap();
    }
}

/// Sorting one would take a hundred times the memory: what is there is taken in all the same.
#[test]
fn a_checkpoint_may_be_larger_than_the_memory() {
    let dir = TempDir::new("large-checkpoint");
    let open = || {
        let options = Options::new().memory_bytes(16 << 20).checkpoint_bytes(1 << 30);
        options.commit_mode(CommitMode::Written).open(dir.join("db"))
    };
    let engine = open().unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut model = Model::new();
    write(&engine, &keyspace, &mut model, 0..60_000, 0);
    engine.flush().unwrap();
    engine.checkpoint().unwrap();
    let stats = engine.memory_stats();
    assert!(stats.records <= stats.records_limit, "{stats:?}");
    check(&engine, &keyspace, &model);
    write(&engine, &keyspace, &mut model, 20_000..40_000, 1);
    engine.close().unwrap();
    let engine = open().unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    check(&engine, &keyspace, &model);
    engine.flush().unwrap();
    engine.checkpoint().unwrap();
    check(&engine, &keyspace, &model);
}

/// With an engine of 32 MiB two segments of 64 MiB lay beside 174 MB of data, and one of 16 MiB had as many.
#[test]
fn the_log_of_an_engine_with_little_memory_takes_little_of_the_disk() {
    let log_of = |options: Options| {
        let dir = TempDir::new("small-log");
        let engine = options.commit_mode(CommitMode::Written).open(&dir).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        write(&engine, &keyspace, &mut Model::new(), 0..100_000, 0);
        engine.flush().unwrap();
        engine.checkpoint().unwrap();
        let files = std::fs::read_dir(&dir).unwrap().map(Result::unwrap);
        let segments = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
        segments.map(|segment| segment.metadata().unwrap().len()).sum::<u64>()
    };
    let (little, chosen) = (Options::new().memory_bytes(16 << 20), Options::new().segment_bytes(16 << 20));
    let (little, chosen) = (log_of(little), log_of(chosen.memory_bytes(16 << 20)));
    assert!(little <= 8 << 20, "{little} bytes");
    assert!(chosen > 8 << 20, "what the user says holds: {chosen} bytes");
}

/// Reads alone let partitions grow, and no checkpoint came that made records give up as much.
#[test]
fn what_reads_keep_of_tables_is_given_up_by_records() {
    let dir = TempDir::new("partitions");
    let options = || Options::new().memory_bytes(64 << 20).commit_mode(CommitMode::Written);
    let engine = options().open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    // Long keys: a third of the data are separators.
    let long = |number: u32| [key(number).as_slice(), &[b'k'; 1500]].concat();
    for first in (0..26_000).step_by(20) {
        let mut batch = engine.batch().unwrap();
        (first..first + 20).for_each(|number| batch.put(&keyspace, long(number), b"").unwrap());
        batch.commit().unwrap();
    }
    engine.flush().unwrap();
    engine.checkpoint().unwrap();
    let snapshot = engine.snapshot().unwrap();
    (0..26_000).for_each(|number| assert!(snapshot.get(&keyspace, long(number)).unwrap().is_some()));
    let held = || {
        let stats = engine.memory_stats();
        (stats.records <= stats.records_limit, stats)
    };
    assert!(held().1.partitions > 8 << 20, "{:?}", held());
    // The bound is for a test that fails.
    let holds = (0..3000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        held().0
    });
    assert!(holds, "{:?}", held());
}

/// What memory has forgotten is in a copy and in a backup, each of one moment, however much is written, deleted and merged beside.
#[test]
fn what_was_forgotten_is_saved_and_backed_up_beside_writes() {
    /// Keys that each commit of the writer gives the same value.
    const TOGETHER: u32 = 20;
    const COUNT: u32 = 40_000;
    let dir = TempDir::new("forgotten-copies");
    let engine = options().open(dir.join("db")).unwrap();
    let (keyspace, moving) = (engine.create_keyspace("k").unwrap(), engine.create_keyspace("moving").unwrap());
    let mut model = Model::new();
    write(&engine, &keyspace, &mut model, 0..COUNT, 0);
    write(&engine, &keyspace, &mut model, 10_000..30_000, 1);
    engine.checkpoint().unwrap();
    assert!(!engine.table_stats().all_in_memory);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 0.. {
                if is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let mut batch = engine.batch().unwrap();
                batch.clear(&moving).unwrap();
                // Others too, so that checkpoints and merges come.
                let keys = (0..TOGETHER).chain((version % 500 + 1) * 100..(version % 500 + 1) * 100 + 80);
                keys.for_each(|number| batch.put(&moving, key(number), value(version)).unwrap());
                batch.commit().unwrap();
            }
        });
        for round in 0..2 {
            engine.save_to(dir.join(format!("saved-{round}"))).unwrap();
            engine.backup(dir.join(format!("backup-{round}"))).unwrap();
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    for name in (0..2).flat_map(|round| [format!("saved-{round}"), format!("backup-{round}")]) {
        let copy = options().open(dir.join(&name)).unwrap();
        check(&copy, &copy.open_keyspace("k").unwrap(), &model);
        let moving = copy.open_keyspace("moving").unwrap();
        let snapshot = copy.snapshot().unwrap();
        let values: Vec<_> = (0..TOGETHER).map(|number| snapshot.get(&moving, key(number)).unwrap()).collect();
        assert!(values.iter().all(|value| *value == values[0]), "{name} is of several moments");
        assert_eq!(snapshot.iter(&moving).unwrap().count(), values[0].as_ref().map_or(0, |_| 100), "{name}");
        // It can be written to and goes on.
        let mut batch = copy.batch().unwrap();
        batch.put(&moving, "more", "1").unwrap();
        batch.commit().unwrap();
        copy.flush().unwrap();
        copy.checkpoint().unwrap();
        copy.close().unwrap();
    }
    engine.close().unwrap();
}
