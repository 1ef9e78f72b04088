//! Limits: at the limit it works, one over it is refused before a byte is written. The end of the disk is one, too.

#[cfg(feature = "sim")]
use forelog::sim::{Fault, FaultKind, OpKind, OpSelector, SimDisk};
use forelog::{CommitMode, Engine, Error, ErrorKind, Keyspace, Options, Outcome};

#[cfg(feature = "sim")]
use crate::gate::behind_a_gate;
use crashkit::{MODES, Place, TempDir, error_of, get, given_back, in_memory, kind_of, open_on, prepared_ahead, put};

const ENOSPC: i32 = 28;

const MAX_KEY: usize = 65_535;
const MAX_VALUE: usize = 64 << 20;

/// Refuses an error that does not name both figures.
#[track_caller]
fn check_refusal(error: &Error, given: usize, limit: usize) {
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let text = error.to_string();
    assert!(text.contains(&given.to_string()) && text.contains(&limit.to_string()), "{text}");
}

/// Bytes that tell where they are.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251).to_le_bytes()[0]).collect()
}

fn value_of(engine: &Engine, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Vec<u8> {
    engine.snapshot().unwrap().get(keyspace, key).unwrap().expect("it was written").to_vec()
}

#[test]
fn a_key_has_65_535_bytes_at_most() {
    let disk = TempDir::new("limits");
    let engine = open_on(&disk, Options::new()).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let longest = pattern(MAX_KEY);
    let too_long = pattern(MAX_KEY + 1);
    prepared_ahead(&engine);
    let before = engine.stats();
    let (mut tx, mut batch) = (engine.begin().unwrap(), engine.batch().unwrap());
    check_refusal(&error_of(tx.put(&keyspace, &too_long, "v")), MAX_KEY + 1, MAX_KEY);
    check_refusal(&error_of(tx.delete(&keyspace, &too_long)), MAX_KEY + 1, MAX_KEY);
    check_refusal(&error_of(batch.put(&keyspace, &too_long, "v")), MAX_KEY + 1, MAX_KEY);
    check_refusal(&error_of(batch.delete(&keyspace, &too_long)), MAX_KEY + 1, MAX_KEY);
    assert_eq!(tx.get(&keyspace, &too_long).unwrap(), None, "what cannot be is not there");
    tx.commit().unwrap();
    batch.commit().unwrap();
    assert_eq!(engine.stats(), before, "nothing was written");

    let mut tx = engine.begin().unwrap();
    tx.put(&keyspace, &longest, "v").unwrap();
    tx.delete(&keyspace, &longest[..MAX_KEY - 1]).unwrap();
    tx.commit().unwrap();
    drop((engine, keyspace));
    let engine = open_on(&disk, Options::new()).unwrap();
    assert_eq!(value_of(&engine, &engine.open_keyspace("k").unwrap(), &longest), b"v");
}

#[test]
fn a_value_has_64_mib_at_most() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut value = pattern(MAX_VALUE + 1);
    prepared_ahead(&engine);
    let before = engine.stats();
    let (mut tx, mut batch) = (engine.begin().unwrap(), engine.batch().unwrap());
    check_refusal(&error_of(tx.put(&keyspace, "a", &value)), MAX_VALUE + 1, MAX_VALUE);
    check_refusal(&error_of(batch.put(&keyspace, "a", &value)), MAX_VALUE + 1, MAX_VALUE);
    assert_eq!(engine.stats(), before);
    value.pop();
    tx.put(&keyspace, "a", &value).unwrap();
    assert!(tx.commit().unwrap().is_durable());
    drop((engine, keyspace));
    let engine = Engine::open(&dir).unwrap();
    assert!(value_of(&engine, &engine.open_keyspace("k").unwrap(), "a") == value);
}

#[test]
fn keys_and_values_may_be_empty() {
    let disk = TempDir::new("limits");
    let engine = open_on(&disk, Options::new()).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    put(&engine, &keyspace, "", "of the empty key", CommitMode::Sync).unwrap();
    put(&engine, &keyspace, "empty", "", CommitMode::Sync).unwrap();
    put(&engine, &keyspace, "\0", "\0", CommitMode::Sync).unwrap();
    drop((engine, keyspace));
    let engine = open_on(&disk, Options::new()).unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    let snapshot = engine.snapshot().unwrap();
    let entries: Vec<_> = snapshot.iter(&keyspace).unwrap().map(|entry| entry.unwrap()).collect();
    let expected = [("", "of the empty key"), ("\0", "\0"), ("empty", "")];
    assert!(
        entries.iter().map(|(key, value)| (&**key, &**value)).eq(expected.map(|(k, v)| (k.as_bytes(), v.as_bytes())))
    );
    assert_eq!(snapshot.prefix(&keyspace, "").unwrap().count(), 3);
    assert_eq!(snapshot.range(&keyspace, ""..="").unwrap().count(), 1);
    assert_eq!(snapshot.range(&keyspace, "".."").unwrap().count(), 0);
    let mut tx = engine.begin().unwrap();
    tx.delete(&keyspace, "").unwrap();
    tx.commit().unwrap();
    assert_eq!(engine.snapshot().unwrap().get(&keyspace, "").unwrap(), None);
}

#[test]
fn ranges_that_are_turned_round_are_empty() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    put(&engine, &keyspace, "b", "1", CommitMode::Sync).unwrap();
    let mut tx = engine.begin().unwrap();
    tx.put(&keyspace, "b", "2").unwrap();
    assert_eq!(tx.range(&keyspace, "c".."a").unwrap().count(), 0);
    assert_eq!(tx.range(&keyspace, "b".."b").unwrap().rev().count(), 0);
    let excluded = (std::ops::Bound::Excluded("b"), std::ops::Bound::Excluded("b"));
    assert_eq!(tx.range(&keyspace, excluded).unwrap().count(), 0);
    assert_eq!(tx.range(&keyspace, "b"..="b").unwrap().count(), 1);
    tx.commit().unwrap();
}

#[test]
fn a_transaction_over_max_transaction_bytes_is_refused_before_a_byte_is_written() {
    // Batch version, tag, keyspace, key length and key are 5 bytes; a length from 128 on is 2.
    const LIMIT: usize = 1000;
    let fits = pattern(LIMIT - 7);
    let too_large = pattern(LIMIT - 6);
    for mode in MODES {
        let disk = TempDir::new("limits");
        let engine = open_on(&disk, Options::new().max_transaction_bytes(LIMIT as u64)).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        engine.flush().unwrap();
        let (before, visible) = (engine.stats(), engine.visible_lsn());
        let mut tx = engine.begin().unwrap();
        tx.put(&keyspace, "a", &too_large).unwrap();
        let (error, mut tx) = given_back(tx.commit_timeout(mode, std::time::Duration::MAX));
        check_refusal(&error, LIMIT + 1, LIMIT);
        let mut batch = engine.batch().unwrap();
        batch.put(&keyspace, "a", &too_large).unwrap();
        check_refusal(&error_of(batch.commit_with(mode)), LIMIT + 1, LIMIT);
        assert_eq!((engine.stats().appends, engine.stats().bytes_written), (before.appends, before.bytes_written));
        assert_eq!(engine.visible_lsn(), visible);
        // It is as it was, and can be made smaller.
        tx.put(&keyspace, "a", &fits).unwrap();
        tx.commit_with(mode).unwrap().wait().unwrap();
        assert_eq!(value_of(&engine, &keyspace, "a"), fits);
    }
}

/// What no commit can take is not collected without end: over the limit, what makes it larger is refused.
#[test]
fn a_transaction_over_its_limit_takes_only_writes_that_make_it_smaller() {
    const LIMIT: usize = 1000;
    let engine = Options::new().max_transaction_bytes(LIMIT as u64).in_memory().unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let refused = |written: forelog::Result<()>, bytes| check_refusal(&written.unwrap_err(), bytes, LIMIT);
    // Of a put of 600 bytes to a key of one byte: tag, keyspace, two lengths (1 and 2 bytes), key and value.
    const PUT: usize = 606;
    let mut tx = engine.begin().unwrap();
    for _ in 0..10 {
        tx.put(&keyspace, "a", pattern(600)).unwrap();
    }
    tx.put(&keyspace, "b", pattern(600)).unwrap();
    refused(tx.put(&keyspace, "c", ""), 1 + 2 * PUT);
    refused(tx.put(&keyspace, "b", pattern(601)), 1 + 2 * PUT);
    refused(tx.delete(&keyspace, "c"), 1 + 2 * PUT);
    tx.put(&keyspace, "b", pattern(500)).unwrap();
    tx.delete(&keyspace, "a").unwrap();
    tx.put(&keyspace, "c", "1").unwrap();
    tx.commit().unwrap();
    let snapshot = engine.snapshot().unwrap();
    let keys: Vec<_> = snapshot.iter(&keyspace).unwrap().map(|entry| entry.unwrap().0).collect();
    assert_eq!(keys, [b"b", b"c"]);

    let mut batch = engine.batch().unwrap();
    batch.put(&keyspace, "a", pattern(600)).unwrap();
    batch.put(&keyspace, "a", pattern(600)).unwrap();
    refused(batch.put(&keyspace, "a", ""), 1 + 2 * PUT);
    refused(batch.delete(&keyspace, "a"), 1 + 2 * PUT);
    check_refusal(&error_of(batch.commit()), 1 + 2 * PUT, LIMIT);
}

#[test]
fn a_record_over_max_transaction_bytes_is_refused_by_the_log() {
    let options = forelog::log::LogOptions::new().max_transaction_bytes(100);
    let dir = TempDir::new("limits");
    let log = options.open(&dir).unwrap();
    for mode in MODES {
        check_refusal(&error_of(log.append(&[0; 101], mode)), 101, 100);
        log.append(&[0; 100], mode).unwrap();
    }
    assert_eq!(log.stats().appends, 4);
}

#[test]
fn a_transaction_larger_than_a_segment_works_in_every_mode() {
    let value = pattern(1 << 20);
    for mode in MODES {
        let disk = TempDir::new("limits");
        let open = || open_on(&disk, Options::new().segment_bytes(4096)).unwrap();
        let engine = open();
        let keyspace = engine.create_keyspace("k").unwrap();
        put(&engine, &keyspace, "before", "1", mode).unwrap();
        let mut tx = engine.begin().unwrap();
        tx.put(&keyspace, "large", &value).unwrap();
        let receipt = tx.commit_with(mode).unwrap();
        put(&engine, &keyspace, "after", "2", mode).unwrap();
        assert!(engine.stats().segments_prepared >= 256);
        drop((engine, keyspace));
        let engine = open();
        let keyspace = engine.open_keyspace("k").unwrap();
        assert!(value_of(&engine, &keyspace, "large") == value, "{mode:?}");
        assert_eq!(engine.snapshot().unwrap().iter(&keyspace).unwrap().count(), 3);
        assert_eq!(engine.outcome(&receipt.token()).unwrap(), Outcome::Durable);
    }
}

#[test]
fn a_transaction_larger_than_the_loss_budget_is_admitted_alone() {
    let budget = forelog::LossBudget::default().max_bytes(10_000);
    let engine = Options::new().loss_budget(budget).flush_bytes(10_000).in_memory().unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let value = pattern(100_000);
    for round in 0..10 {
        for mode in [CommitMode::Async, CommitMode::Written] {
            let mut tx = engine.begin().unwrap();
            tx.put(&keyspace, "large", &value).unwrap();
            let receipt = tx.commit_with(mode).unwrap();
            let small = put(&engine, &keyspace, "small", "1", CommitMode::Async).unwrap();
            assert!(receipt.is_durable() && small.lsn() > receipt.lsn(), "round {round}: it made room first");
        }
    }
    let largest = engine.stats().largest_window;
    assert_eq!(largest.commits, 1, "{largest:?}");
}

#[test]
fn records_of_every_length_cross_the_ends_of_segments() {
    let disk = TempDir::new("limits");
    let open = || open_on(&disk, Options::new().segment_bytes(4096)).unwrap();
    let engine = open();
    let keyspace = engine.create_keyspace("k").unwrap();
    let lengths = (0..200).chain((200..4300).step_by(13)).chain(3400..3700);
    let mut expected = Vec::new();
    for (number, length) in lengths.enumerate() {
        let mut batch = engine.batch().unwrap();
        batch.put(&keyspace, format!("{number:05}"), pattern(length)).unwrap();
        batch.commit_with(MODES[number % 4]).unwrap();
        expected.push(length);
    }
    drop((engine, keyspace));
    let engine = open();
    let keyspace = engine.open_keyspace("k").unwrap();
    let snapshot = engine.snapshot().unwrap();
    let found = snapshot.iter(&keyspace).unwrap().map(|entry| entry.unwrap().1);
    assert!(found.zip(&expected).all(|(value, length)| value == pattern(*length)));
    assert_eq!(snapshot.iter(&keyspace).unwrap().count(), expected.len());
}

#[test]
fn ten_thousand_operations_are_one_transaction() {
    let disk = TempDir::new("limits");
    let engine = open_on(&disk, Options::new().segment_bytes(8192)).unwrap();
    let (even, odd) = (engine.create_keyspace("even").unwrap(), engine.create_keyspace("odd").unwrap());
    let mut tx = engine.begin().unwrap();
    for number in 0..10_000u32 {
        let keyspace = if number % 2 == 0 { &even } else { &odd };
        tx.put(keyspace, number.to_be_bytes(), number.to_le_bytes()).unwrap();
        if number % 10 == 0 {
            tx.delete(keyspace, number.to_be_bytes()).unwrap();
        }
    }
    assert_eq!(tx.iter(&even).unwrap().count(), 4_000, "it reads its own writes");
    let other = engine.snapshot().unwrap();
    let receipt = tx.commit().unwrap();
    assert_eq!(other.iter(&even).unwrap().count(), 0);
    let appends = engine.stats().appends;
    assert_eq!(appends, 3, "two creations and this");
    drop((engine, even, odd, other));
    let engine = open_on(&disk, Options::new()).unwrap();
    let snapshot = engine.snapshot().unwrap();
    for (name, count) in [("even", 4_000), ("odd", 5_000)] {
        let keyspace = engine.open_keyspace(name).unwrap();
        let entries: Vec<_> = snapshot.iter(&keyspace).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(entries.len(), count);
        let reversed = |key: &[u8]| key.iter().rev().copied().collect::<Vec<_>>();
        assert!(entries.iter().all(|(key, value)| *value == reversed(key)));
    }
    assert_eq!(engine.visible_lsn(), receipt.lsn());
}

#[test]
fn a_try_commit_refuses_the_mode_that_waits() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut tx = engine.begin().unwrap();
    tx.put(&keyspace, "a", "1").unwrap();
    let (error, mut tx) = given_back(tx.try_commit_with(CommitMode::Sync));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(tx.get(&keyspace, "a").unwrap().unwrap(), b"1", "it is as it was");
    tx.try_commit_with(CommitMode::Async).unwrap();
    assert_eq!(kind_of(engine.batch().unwrap().try_commit_with(CommitMode::Sync)), ErrorKind::InvalidInput);
}

// ---- a full disk

/// The first bytes of a segment are written when it is prepared, and never again.
#[cfg(feature = "sim")]
fn preparing() -> OpSelector {
    OpSelector::of(OpKind::Write).on(".log.tmp").touching(0..512)
}

#[cfg(feature = "sim")]
#[test]
fn a_disk_that_is_full_at_an_append_poisons_and_says_so() {
    for mode in [CommitMode::Sync, CommitMode::Written] {
        let (disk, _, engine, keyspace) = behind_a_gate(Options::new());
        put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap();
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Write), FaultKind::Errno(ENOSPC)));
        let error = error_of(put(&engine, &keyspace, "b", "1", mode));
        assert_eq!(error.kind(), ErrorKind::Indeterminate);
        assert_eq!(engine.poisoned().expect("the write failed").cause.kind(), ErrorKind::DiskFull);
        assert_eq!(get(&engine, &keyspace, "a").as_deref(), Some("1"));
        disk.clear_faults();
        assert_eq!(kind_of(put(&engine, &keyspace, "c", "1", mode)), ErrorKind::Poisoned, "final");
        drop((engine, keyspace));
        let engine = open_on(&disk, Options::new()).unwrap();
        let keyspace = engine.open_keyspace("k").unwrap();
        assert_eq!(get(&engine, &keyspace, "a").as_deref(), Some("1"));
        let there = get(&engine, &keyspace, "b").is_some();
        assert_eq!(engine.outcome(&error.token().unwrap()).unwrap() == Outcome::Durable, there);
    }
}

#[cfg(feature = "sim")]
#[test]
fn a_disk_that_is_full_at_the_first_commit_fails_that_commit_only() {
    let first = [preparing(), OpSelector::of(OpKind::Create), OpSelector::of(OpKind::Write).on("HISTORY.tmp")];
    for fault in first {
        let disk = SimDisk::new();
        small_on(&disk);
        let engine = open_on(&disk, Options::new()).unwrap();
        let keyspace = engine.open_keyspace("k").unwrap();
        disk.inject(Fault::lasting(fault.clone(), FaultKind::Errno(ENOSPC)));
        for mode in MODES {
            assert_eq!(kind_of(put(&engine, &keyspace, "b", "1", mode)), ErrorKind::DiskFull, "{fault:?}");
        }
        assert!(engine.poisoned().is_none());
        assert_eq!((get(&engine, &keyspace, "a").as_deref(), get(&engine, &keyspace, "b")), (Some("1"), None));
        let killed = disk.crash_point().process_kill();
        disk.clear_faults();
        put(&engine, &keyspace, "b", "2", CommitMode::Sync).unwrap();
        drop((engine, keyspace));
        for (disk, expected) in [(disk, Some("2")), (killed, None)] {
            let engine = open_on(&disk, Options::new()).unwrap();
            let keyspace = engine.open_keyspace("k").unwrap();
            let values = (get(&engine, &keyspace, "a"), get(&engine, &keyspace, "b"));
            assert_eq!((values.0.as_deref(), values.1.as_deref()), (Some("1"), expected));
        }
    }
}

fn small_on(disk: &impl Place) {
    let engine = open_on(disk, Options::new()).unwrap();
    put(&engine, &engine.create_keyspace("k").unwrap(), "a", "1", CommitMode::Sync).unwrap();
}

/// Options and the commits that fill several segments with them.
fn small_segments() -> Options {
    Options::new().segment_bytes(4096)
}

#[cfg(feature = "sim")]
#[test]
fn a_disk_that_is_full_at_the_roll_fails_commits_until_there_is_space() {
    for fault in [preparing(), OpSelector::of(OpKind::Create)] {
        for mode in MODES {
            let disk = SimDisk::new();
            let engine = open_on(&disk, small_segments()).unwrap();
            let keyspace = engine.create_keyspace("k").unwrap();
            let value = "x".repeat(700);
            let commit = |number: usize| put(&engine, &keyspace, &format!("{number:03}"), &value, mode);
            (0..10).for_each(|number| drop(commit(number).unwrap()));
            disk.inject(Fault::lasting(fault.clone(), FaultKind::Errno(ENOSPC)));
            let (count, error) = (10..).find_map(|number| Some((number, commit(number).err()?))).unwrap();
            assert_eq!((error.kind(), error.token()), (ErrorKind::DiskFull, None), "{error}");
            assert!(error.to_string().contains("prepare segment"), "{error}");
            assert_eq!(kind_of(commit(count)), ErrorKind::DiskFull);
            assert!(engine.poisoned().is_none() && count < 30);
            assert_eq!(engine.snapshot().unwrap().iter(&keyspace).unwrap().count(), count, "earlier ones stay");
            engine.flush().expect("what has its place becomes durable");
            let killed = disk.crash_point().process_kill();
            disk.clear_faults();
            (count..count + 20).for_each(|number| drop(commit(number).unwrap()));
            drop((engine, keyspace));
            for (disk, expected) in [(killed, count), (disk, count + 20)] {
                let engine = open_on(&disk, small_segments()).unwrap();
                let keyspace = engine.open_keyspace("k").unwrap();
                assert_eq!(engine.snapshot().unwrap().iter(&keyspace).unwrap().count(), expected);
            }
        }
    }
}

#[cfg(feature = "sim")]
#[test]
fn a_try_commit_says_that_the_disk_is_full_instead_of_blocking_for_ever() {
    let disk = SimDisk::new();
    let engine = open_on(&disk, small_segments()).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    disk.inject(Fault::lasting(preparing(), FaultKind::Errno(ENOSPC)));
    let mut batch = engine.batch().unwrap();
    batch.put(&keyspace, "a", "x".repeat(700)).unwrap();
    let attempt = |stop: fn(&forelog::Result<forelog::Receipt>) -> bool| {
        for _ in 0..100_000 {
            let result = batch.try_commit_with(CommitMode::Async);
            if stop(&result) {
                return result;
            }
            std::thread::yield_now();
        }
        panic!("it blocks for ever");
    };
    let full = attempt(|result| result.as_ref().is_err_and(|error| error.kind() != ErrorKind::WouldBlock));
    assert_eq!(kind_of(full), ErrorKind::DiskFull);
    disk.clear_faults();
    for _ in 0..20 {
        attempt(Result::is_ok).unwrap();
    }
    assert!(engine.poisoned().is_none());
}

#[cfg(feature = "sim")]
#[test]
fn a_disk_that_is_full_at_close_loses_nothing() {
    let disk = SimDisk::new();
    small_on(&disk);
    let engine = open_on(&disk, Options::new()).unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    let receipt = put(&engine, &keyspace, "b", "2", CommitMode::Async).unwrap();
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Write).on("HISTORY.tmp"), FaultKind::Errno(ENOSPC)));
    assert_eq!(kind_of(engine.close()), ErrorKind::DiskFull);
    assert!(receipt.is_durable());
    assert_eq!(
        kind_of(open_on(&disk, Options::new())),
        ErrorKind::DiskFull,
        "it cannot be opened before there is space"
    );
    disk.clear_faults();
    let engine = open_on(&disk, Options::new()).unwrap();
    assert!(engine.recovery().crashed.is_some());
    let keyspace = engine.open_keyspace("k").unwrap();
    assert_eq!(get(&engine, &keyspace, "b").as_deref(), Some("2"));
    assert_eq!(engine.outcome(&receipt.token()).unwrap(), Outcome::Durable);
}
