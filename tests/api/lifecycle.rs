//! The life of an engine: shared, closed, dropped, reopened, held up by its device.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

#[cfg(feature = "sim")]
use forelog::sim::{self, Fault, FaultKind, OpKind, OpSelector, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, Keyspace, LossBudget, Options, Outcome, Receipt, Snapshot, Transaction};

#[cfg(feature = "sim")]
use crate::gate::behind_a_gate;
use crashkit::{MODES, TempDir, error_of, get, given_back, in_memory, kind_of, open_on, put};

const SECOND: Duration = Duration::from_secs(1);

/// Name, content and time of change of every file.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>, SystemTime)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let content = std::fs::read(entry.path()).unwrap();
            (entry.path(), content, entry.metadata().unwrap().modified().unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Every fsync of a segment takes this much simulated time longer, until the faults are cleared.
#[cfg(feature = "sim")]
fn stall(disk: &SimDisk, time: Duration) {
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Sync).on(".log.tmp"), FaultKind::Stall(time)));
}

/// An engine in a simulation that has prepared its segments; its keyspace.
#[cfg(feature = "sim")]
fn prepared(disk: &SimDisk, options: Options) -> (Engine, Keyspace) {
    let engine = open_on(disk, options).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    sim::sleep(SECOND);
    (engine, keyspace)
}

#[test]
fn handles_can_be_shared_and_sent() {
    const fn shared<T: Send + Sync + Clone + 'static>() {}
    const fn sent<T: Send + 'static>() {}
    const {
        shared::<Engine>();
        shared::<Keyspace>();
        shared::<Snapshot>();
        shared::<Receipt>();
        shared::<Options>();
        shared::<forelog::log::Log>();
        shared::<forelog::Token>();
        shared::<forelog::Error>();
        sent::<Transaction>();
        sent::<forelog::WriteBatch>();
        sent::<forelog::Entries>();
        sent::<forelog::log::Tail>();
    }
}

#[test]
fn commits_in_every_mode_from_many_threads_are_there_after_a_reopen() {
    let dir = TempDir::new("test");
    let engine = Options::new().segment_bytes(64 << 10).open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let commit = |thread: usize, number: usize| {
        let key = format!("{thread} {number:03}");
        let mut tx = engine.begin().unwrap();
        assert_eq!(tx.get(&keyspace, &key).unwrap(), None);
        tx.put(&keyspace, &key, format!("value {key}")).unwrap();
        (key, tx.commit_with(MODES[number % 4]).unwrap().token())
    };
    let tokens: Vec<_> = std::thread::scope(|scope| {
        let commit = &commit;
        let run = |thread| scope.spawn(move || (0..200).map(|number| commit(thread, number)).collect::<Vec<_>>());
        let threads: Vec<_> = (0..8).map(run).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    drop((engine, keyspace));
    let engine = Options::new().create(false).open(&dir).unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    assert_eq!(engine.snapshot().unwrap().iter(&keyspace).unwrap().count(), tokens.len());
    for (key, token) in tokens {
        assert_eq!(get(&engine, &keyspace, &key), Some(format!("value {key}")));
        assert_eq!(engine.outcome(&token).unwrap(), Outcome::Durable);
    }
    assert!(engine.recovery().crashed.is_none());
}

#[test]
fn close_from_one_clone_closes_all() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let other = engine.clone();
    let receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    engine.close().unwrap();
    assert!(receipt.is_durable());
    assert_eq!(kind_of(other.begin()), ErrorKind::Closed);
    assert_eq!(kind_of(engine.begin()), ErrorKind::Closed);
    let engine = Engine::open(&dir).unwrap();
    assert_eq!(get(&engine, &engine.open_keyspace("k").unwrap(), "a").as_deref(), Some("1"));
}

#[cfg(feature = "sim")]
#[test]
fn closing_again_returns_the_first_result() {
    let engine = in_memory();
    let other = engine.clone();
    assert!(engine.close().is_ok() && engine.close().is_ok() && other.close().is_ok());

    let (disk, _, engine, keyspace) = behind_a_gate(Options::new());
    disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::Errno(5)));
    assert_eq!(kind_of(put(&engine, &keyspace, "a", "1", CommitMode::Sync)), ErrorKind::Indeterminate);
    let (first, second) = (error_of(engine.close()), error_of(engine.close()));
    assert_eq!((first.kind(), second.kind()), (ErrorKind::Poisoned, ErrorKind::Poisoned));
    assert_eq!(first.to_string(), second.to_string());
}

#[test]
fn closing_while_another_thread_commits_acknowledges_nothing_that_is_lost() {
    for round in 0..20 {
        let disk = TempDir::new("lifecycle");
        let engine = open_on(&disk, Options::new()).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            for mode in MODES {
                let (engine, keyspace, sender) = (&engine, &keyspace, sender.clone());
                scope.spawn(move || {
                    for number in 0.. {
                        let key = format!("{mode:?} {number}");
                        match put(engine, keyspace, &key, "1", mode) {
                            Ok(_) => sender.send(key).unwrap(),
                            Err(error) => return assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
                        }
                    }
                });
            }
            while receiver.recv().unwrap() != "Async 5" {}
            engine.close().unwrap();
        });
        drop(sender);
        let engine = open_on(&disk, Options::new()).unwrap();
        assert!(engine.recovery().crashed.is_none());
        let keyspace = engine.open_keyspace("k").unwrap();
        for key in receiver {
            assert!(get(&engine, &keyspace, &key).is_some(), "round {round}: {key}");
        }
    }
}

#[test]
fn dropping_the_last_clone_closes() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let other = engine.clone();
    put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    drop(engine);
    put(&other, &keyspace, "b", "1", CommitMode::Async).unwrap();
    drop(other);
    let engine = Engine::open(&dir).unwrap();
    assert!(engine.recovery().crashed.is_none());
    assert_eq!(engine.snapshot().unwrap().iter(&engine.open_keyspace("k").unwrap()).unwrap().count(), 2);
}

#[test]
fn an_open_after_a_clean_close_that_appends_nothing_changes_no_file() {
    let dir = TempDir::new("test");
    let engine = Options::new().segment_bytes(8192).open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    for number in 0..500 {
        put(&engine, &keyspace, &number.to_string(), "value", CommitMode::Async).unwrap();
    }
    drop((engine, keyspace));
    let before = files(dir.as_ref());
    assert!(before.len() > 5);
    for _ in 0..3 {
        let engine = Engine::open(&dir).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        let mut tx = engine.begin().unwrap();
        assert_eq!(tx.iter(&keyspace).unwrap().count(), 500);
        assert!(tx.commit().unwrap().is_durable());
        engine.batch().unwrap().commit().unwrap();
        engine.flush().unwrap();
        engine.close().unwrap();
    }
    assert!(files(dir.as_ref()) == before);
}

/// A crash within the preparation of a segment, then an open that commits nothing and so begins no incarnation, which
/// would have come across the file: it stayed for as long as nothing was committed. And a directory of such a name made
/// the first open after a crash fail, the second succeed.
#[test]
fn what_a_preparation_that_was_cut_off_left_goes_with_the_next_open() {
    let dir = TempDir::new("leftovers");
    let engine = Engine::open(dir.path()).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap();
    engine.close().unwrap();
    let (leftover, folder) = (dir.path().join("00000000001b7000.log.tmp"), dir.path().join("00000000001c7000.log.tmp"));
    std::fs::write(&leftover, [0; 4096]).unwrap();
    std::fs::create_dir(&folder).unwrap();
    for _ in 0..2 {
        let engine = Engine::open(dir.path()).unwrap();
        assert_eq!(get(&engine, &engine.open_keyspace("k").unwrap(), "a").as_deref(), Some("1"));
        engine.close().unwrap();
        assert!(!leftover.exists() && folder.is_dir());
    }
}

#[test]
fn a_new_database_without_a_commit_opens_again() {
    let dir = TempDir::new("test");
    let path = dir.join("a/b/c");
    let id = Engine::open(&path).unwrap().log_id();
    // HISTORY is written again: nothing says yet that it ever became durable.
    let contents = || files(&path).into_iter().map(|(path, content, _)| (path, content)).collect::<Vec<_>>();
    let before = contents();
    let engine = Engine::open(&path).unwrap();
    assert_eq!((engine.log_id(), engine.keyspace_names().unwrap().len()), (id, 0));
    assert!(engine.recovery().crashed.is_none() && engine.durable_lsn() == forelog::Lsn::ZERO);
    drop(engine);
    assert!(contents() == before);
}

#[test]
fn an_engine_may_be_dropped_while_its_handles_live() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    let snapshot = engine.snapshot().unwrap();
    let mut range = snapshot.iter(&keyspace).unwrap();
    let (mut tx, mut batch) = (engine.begin().unwrap(), engine.batch().unwrap());
    tx.put(&keyspace, "b", "1").unwrap();
    batch.put(&keyspace, "b", "1").unwrap();
    let read_only = engine.begin().unwrap();
    drop(engine);
    assert!(receipt.is_durable() && snapshot.is_durable());
    snapshot.wait_durable().unwrap();
    assert_eq!(snapshot.get(&keyspace, "a").unwrap().unwrap(), b"1");
    assert_eq!(range.next().unwrap().unwrap().1, b"1");
    assert_eq!(tx.get(&keyspace, "a").unwrap().unwrap(), b"1");
    assert_eq!(kind_of(tx.commit()), ErrorKind::Closed);
    assert_eq!(kind_of(batch.commit()), ErrorKind::Closed);
    assert_eq!(kind_of(read_only.commit()), ErrorKind::Closed);
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    assert_eq!((get(&engine, &keyspace, "a").as_deref(), get(&engine, &keyspace, "b")), (Some("1"), None));
    assert!(engine.recovery().crashed.is_none());
}

#[test]
fn a_snapshot_is_stable_while_it_is_held_and_costs_nothing_afterwards() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    for key in 0..10 {
        put(&engine, &keyspace, &key.to_string(), "old", CommitMode::Async).unwrap();
    }
    let snapshot = engine.snapshot().unwrap();
    let mut range = snapshot.iter(&keyspace).unwrap();
    for number in 0..10_000 {
        let mut batch = engine.batch().unwrap();
        let key = (number % 20).to_string();
        if number % 7 == 0 { batch.delete(&keyspace, key) } else { batch.put(&keyspace, key, "new") }.unwrap();
        batch.commit_with(CommitMode::Async).unwrap();
        if number % 1_000 == 0 {
            assert_eq!(range.next().unwrap().unwrap().1, b"old");
            assert_eq!(snapshot.iter(&keyspace).unwrap().rev().count(), 10);
        }
    }
    assert!(range.next().is_none());
    assert!(snapshot.iter(&keyspace).unwrap().all(|entry| entry.unwrap().1 == b"old"));
    engine.flush().unwrap();
    drop((range, snapshot));
    put(&engine, &keyspace, "0", "newest", CommitMode::Sync).unwrap();
    // Each prunes a part of what the one that was held had kept from pruning.
    (0..20).for_each(|_| drop(engine.snapshot().unwrap()));
    put(&engine, &keyspace, "0", "newest", CommitMode::Sync).unwrap();
    assert!(engine.versions_in_memory() < 60, "{}", engine.versions_in_memory());
}

#[cfg(feature = "sim")]
#[test]
fn a_full_budget_makes_try_commit_and_commit_timeout_give_up_and_the_transaction_can_be_tried_again() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let budget = LossBudget::default().max_commits(2);
        let (engine, keyspace) = prepared(&disk, Options::new().loss_budget(budget));
        stall(&disk, 2 * SECOND);
        for key in ["a", "b"] {
            put(&engine, &keyspace, key, "1", CommitMode::Async).unwrap();
        }
        let mut tx = engine.begin().unwrap();
        assert_eq!(tx.get(&keyspace, "c").unwrap(), None);
        tx.put(&keyspace, "c", "1").unwrap();
        let (visible, begin) = (engine.visible_lsn(), sim::now().unwrap());
        let short = Duration::from_millis(10);
        for mode in [CommitMode::Async, CommitMode::Written, CommitMode::Within(SECOND)] {
            let (error, again) = given_back(tx.try_commit_with(mode));
            assert_eq!((error.kind(), error.token()), (ErrorKind::WouldBlock, None), "{error}");
            let (error, again) = given_back(again.commit_timeout(mode, short));
            tx = again;
            assert_eq!((error.kind(), error.token()), (ErrorKind::TimedOut, None), "{error}");
        }
        assert!(sim::now().unwrap().since(begin) < SECOND, "the device took longer than they waited");
        assert_eq!((engine.visible_lsn(), engine.at_risk().commits), (visible, 2));
        sim::sleep(3 * SECOND);
        let receipt = tx.try_commit_with(CommitMode::Async).unwrap();
        assert_eq!(get(&engine, &keyspace, "c").as_deref(), Some("1"));
        // A transaction that was made to wait loses against one that came first, as always.
        put(&engine, &keyspace, "d", "1", CommitMode::Async).unwrap();
        let mut late = engine.begin().unwrap();
        assert_eq!(late.get(&keyspace, "e").unwrap(), None);
        late.put(&keyspace, "f", "1").unwrap();
        let (error, late) = given_back(late.try_commit_with(CommitMode::Async));
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        put(&engine, &keyspace, "e", "1", CommitMode::Async).unwrap();
        sim::sleep(3 * SECOND);
        assert_eq!(kind_of(late.try_commit_with(CommitMode::Async)), ErrorKind::Conflict);
        assert!(receipt.is_durable() && engine.stats().largest_window.commits == 2);
    });
}

#[cfg(feature = "sim")]
#[test]
fn a_sync_commit_that_times_out_is_visible_and_becomes_durable_later() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let (engine, keyspace) = prepared(&disk, Options::new());
        stall(&disk, 2 * SECOND);
        put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
        sim::sleep(Duration::from_millis(100));
        let begin = sim::now().unwrap();
        let mut tx = engine.begin().unwrap();
        tx.put(&keyspace, "b", "1").unwrap();
        let refused = tx.commit_timeout(CommitMode::Sync, Duration::from_millis(10)).unwrap_err();
        assert!(sim::now().unwrap().since(begin) < SECOND);
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
        let token = refused.token().expect("it took its place");
        assert!(refused.into_transaction().is_none(), "not twice");
        assert_eq!(get(&engine, &keyspace, "b").as_deref(), Some("1"));
        assert_eq!(engine.outcome(&token).unwrap(), Outcome::Pending);
        sim::sleep(5 * SECOND);
        assert_eq!(engine.outcome(&token).unwrap(), Outcome::Durable, "nobody else had to flush");
    });
}

#[cfg(feature = "sim")]
#[test]
fn waits_with_a_timeout_end_while_the_device_stalls() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let (engine, keyspace) = prepared(&disk, Options::new());
        stall(&disk, 10 * SECOND);
        let receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
        let begin = sim::now().unwrap();
        for _ in 0..3 {
            let error = error_of(receipt.wait_timeout(Duration::from_millis(100)));
            assert_eq!((error.kind(), error.token()), (ErrorKind::TimedOut, Some(receipt.token())));
        }
        assert!(sim::now().unwrap().since(begin) < SECOND);
        receipt.wait_timeout(60 * SECOND).unwrap();
        // Written commits, reads and new transactions go on meanwhile.
        put(&engine, &keyspace, "b", "1", CommitMode::Async).unwrap();
        sim::sleep(Duration::from_millis(100));
        let begin = sim::now().unwrap();
        put(&engine, &keyspace, "c", "1", CommitMode::Written).unwrap();
        assert_eq!(engine.snapshot().unwrap().iter(&keyspace).unwrap().count(), 3);
        assert!(sim::now().unwrap().since(begin) < SECOND && engine.at_risk().commits == 2);
    });
}
