//! Following what is committed.

use std::collections::BTreeMap;
use std::future::Future;
use std::thread;
use std::time::Duration;

use forelog::tail::{Change, ChangedKeyspace, Commit, Horizon};
use forelog::{Checkpoints, CommitMode, Engine, ErrorKind, Key, Keyspace, LossBudget, Lsn, Options, Token, Value};

use crashkit::{Random, TempDir, block_on, in_memory, kind_of, put, seed};

const BOTH: [Horizon; 2] = [Horizon::Durable, Horizon::Visible];
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(20);

/// The state that the changes make of a state.
type State = BTreeMap<(String, Key), Value>;

fn name(keyspace: &ChangedKeyspace) -> String {
    keyspace.name.as_deref().expect("it is known").to_owned()
}

fn apply(state: &mut State, commit: &Commit) {
    for change in &commit.changes {
        match change.clone() {
            Change::Put { keyspace, key, value } => {
                state.insert((name(&keyspace), key), value);
            }
            Change::Delete { keyspace, key } => {
                state.remove(&(name(&keyspace), key));
            }
            Change::DeleteRange { keyspace, from, to } => state.retain(|(of, key), _| {
                let is_in = *key >= from && to.as_ref().is_none_or(|to| key < to);
                *of != name(&keyspace) || !is_in
            }),
            Change::DropKeyspace { keyspace } => state.retain(|(of, _), _| *of != name(&keyspace)),
            other => assert!(matches!(other, Change::CreateKeyspace { .. }), "{other:?}"),
        }
    }
}

fn state_of(engine: &Engine) -> State {
    let snapshot = engine.snapshot().unwrap();
    let mut state = State::new();
    for name in snapshot.keyspace_names().unwrap() {
        let keyspace = snapshot.keyspace(&name).unwrap().unwrap();
        for entry in snapshot.iter(&keyspace).unwrap() {
            let (key, value) = entry.unwrap();
            state.insert((name.clone(), key), value);
        }
    }
    state
}

/// Any history, followed from its begin, while it is made, in pieces, gives the state that there is at the end; and each commit comes once, with
/// its own token, durable where that was asked for.
#[test]
fn what_a_tail_shows_makes_the_same_state() {
    let seed = seed(0x7A11);
    for (round, horizon) in (0..6).flat_map(|round| BOTH.map(|horizon| (round, horizon))) {
        let mut random = Random::new(seed ^ round);
        let what = format!("FORELOG_SEED={seed:#x}, round {round}, {horizon:?}");
        let engine = in_memory();
        let mut tail = engine.tail(Lsn::ZERO, horizon).unwrap();
        let (mut state, mut tokens, mut seen) = (State::new(), Vec::new(), Lsn::ZERO);
        for step in 0..300_u32 {
            let name = format!("k{}", random.below(3));
            let keyspace = engine.create_keyspace(&name).unwrap();
            let mode = [CommitMode::Sync, CommitMode::Written, CommitMode::Async][random.below(3) as usize];
            let key = [u8::try_from(random.below(30)).unwrap()];
            let mut batch = engine.batch().unwrap();
            match random.below(20) {
                0 => drop(engine.drop_keyspace(&name).unwrap()),
                1 => batch.delete_range(&keyspace, key..).unwrap(),
                2..=5 => batch.delete(&keyspace, key).unwrap(),
                _ => (0..=random.below(3)).for_each(|n| {
                    batch.put(&keyspace, [[key[0]].as_slice(), &n.to_be_bytes()].concat(), step.to_be_bytes()).unwrap();
                }),
            }
            let before = engine.visible_lsn();
            // Without operations, or behind the drop, it is no commit.
            if let Ok(receipt) = batch.commit_with(mode)
                && receipt.lsn() > before
            {
                tokens.push(receipt.token());
            }
            if random.one_in(10) {
                // Some of what is there.
                for _ in 0..random.below(20) {
                    let Some(commit) = tail.next_timeout(Duration::ZERO).unwrap() else { break };
                    apply(&mut state, &commit);
                    assert!(commit.receipt.lsn() > seen, "{what}");
                    seen = commit.receipt.lsn();
                    tokens.retain(|token| *token != commit.receipt.token());
                    assert!(commit.receipt.is_durable() || horizon == Horizon::Visible, "{what}");
                }
            }
        }
        let end = engine.visible_lsn();
        while tail.lsn() < end {
            let commit = tail.next_timeout(LONG).unwrap().expect("there is more");
            apply(&mut state, &commit);
            tokens.retain(|token| *token != commit.receipt.token());
        }
        assert_eq!(state, state_of(&engine), "{what}");
        assert!(tokens.is_empty(), "{what}: {tokens:?} were not shown");
        assert!(tail.next_timeout(Duration::ZERO).unwrap().is_none(), "{what}");
    }
}

/// By its token, after a restart, exactly behind what was shown.
#[test]
fn a_tail_goes_on_where_it_was() {
    let dir = TempDir::new("tail");
    let options = || Options::new().retain_log_bytes(64 << 20);
    let mut position: Option<Token> = None;
    let mut shown = Vec::new();
    for life in 0..4 {
        let engine = options().open(dir.join("db")).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        for number in 0..10 {
            put(&engine, &keyspace, &format!("{life} {number}"), "1", CommitMode::Async).unwrap();
        }
        engine.flush().unwrap();
        if life == 2 {
            engine.checkpoint().unwrap();
        }
        let mut tail = match position {
            Some(token) => engine.tail(token, Horizon::Durable),
            None => engine.tail(Lsn::ZERO, Horizon::Durable),
        }
        .unwrap();
        // It leaves some for the next life.
        for _ in 0..8 {
            let commit = tail.next_timeout(LONG).unwrap().unwrap();
            position = Some(commit.receipt.token());
            if let Change::Put { key, .. } = &commit.changes[0] {
                shown.push(String::from_utf8_lossy(key).into_owned());
            }
        }
    }
    let all = (0..4).flat_map(|life| (0..10).map(move |number| format!("{life} {number}")));
    assert_eq!(shown, all.take(shown.len()).collect::<Vec<_>>());
    assert!(shown.len() >= 30);
    let engine = options().open(dir.join("db")).unwrap();
    assert_eq!(kind_of(engine.tail(other_token(), Horizon::Durable)), ErrorKind::InvalidInput);
    assert_eq!(kind_of(engine.tail(Lsn::new(1 << 50), Horizon::Durable)), ErrorKind::InvalidInput);
}

fn other_token() -> Token {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap().token()
}

/// Commits of four threads, followed by a waiting iterator and by a task: all of them, in order; and both end with a close.
#[test]
fn a_tail_waits_and_ends_with_a_close() {
    for horizon in BOTH {
        let engine = in_memory();
        let keyspace = engine.create_keyspace("k").unwrap();
        let after = engine.visible_lsn();
        let (tail, mut of_task) = (engine.tail(after, horizon).unwrap(), engine.tail(after, horizon).unwrap());
        thread::scope(|scope| {
            let blocking = scope.spawn(move || tail.map(|commit| commit.unwrap().receipt.lsn()).collect::<Vec<_>>());
            let task = scope.spawn(move || {
                block_on(async {
                    let mut all = Vec::new();
                    loop {
                        match of_task.next_async().await {
                            Ok(commit) => all.push(commit.receipt.lsn()),
                            Err(error) => break (all, error.kind()),
                        }
                    }
                })
            });
            let committers: Vec<_> = (0..4)
                .map(|client| {
                    let (engine, keyspace) = (&engine, &keyspace);
                    scope.spawn(move || {
                        for number in 0..300 {
                            let mode = [CommitMode::Async, CommitMode::Sync, CommitMode::Written][number % 3];
                            put(engine, keyspace, &format!("{client} {number}"), "1", mode).unwrap();
                        }
                    })
                })
                .collect();
            committers.into_iter().for_each(|committer| committer.join().unwrap());
            engine.close().unwrap();
            let shown = blocking.join().unwrap();
            assert_eq!(shown.len(), 1_200);
            assert!(shown.is_sorted());
            assert_eq!(task.join().unwrap(), (shown, ErrorKind::Closed));
        });
    }
}

/// At the visible horizon what is committed is shown at once, though no flush is due for long.
#[test]
fn what_is_visible_is_shown_before_it_is_durable() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let after = engine.visible_lsn();
    let [mut durable, mut visible] = BOTH.map(|horizon| engine.tail(after, horizon).unwrap());
    let late = CommitMode::Within(Duration::from_millis(900));
    let receipt = put(&engine, &keyspace, "a", "1", late).unwrap();
    let commit = visible.next_timeout(LONG).unwrap().unwrap();
    assert_eq!(commit.receipt.token(), receipt.token());
    assert!(!commit.receipt.is_durable(), "900 ms have not passed");
    assert!(durable.next_timeout(Duration::from_millis(1)).unwrap().is_none());
    commit.receipt.wait().unwrap();
    assert_eq!(durable.next_timeout(LONG).unwrap().unwrap().receipt.token(), receipt.token());
}

/// One that does not read is told that it has fallen behind; it does not hold the log for ever.
#[test]
fn one_that_is_slow_is_told() {
    let dir = TempDir::new("slow-tail");
    let options = Options::new().segment_bytes(64 << 10).retain_pinned_bytes(256 << 10).memory_bytes(64 << 20);
    let engine = options.loss_budget(LossBudget::default()).open(dir.join("db")).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut tail = engine.tail(engine.visible_lsn(), Horizon::Durable).unwrap();
    let write = |number: u32| {
        let mut batch = engine.batch().unwrap();
        batch.put(&keyspace, number.to_be_bytes(), vec![7; 4096]).unwrap();
        batch.commit_with(CommitMode::Async).unwrap();
    };
    (0..20).for_each(write);
    engine.checkpoint().unwrap();
    assert!(tail.next_timeout(LONG).unwrap().is_some(), "it is pinned");
    (20..400).for_each(write);
    engine.checkpoint().unwrap();
    engine.checkpoint().unwrap();
    let mut shown = 1;
    let error = loop {
        match tail.next_timeout(LONG) {
            Ok(Some(_)) => shown += 1,
            Ok(None) => panic!("there is more"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Retired, "{error}");
    assert!(error.to_string().contains("fallen behind"), "{error}");
    assert!(shown < 400);
    assert_eq!(kind_of(tail.next_timeout(LONG)), ErrorKind::Retired, "it says so again");
    assert_eq!(kind_of(tail.next().unwrap()), ErrorKind::Retired);
    assert!(tail.next().is_none(), "it has ended");
    // Who begins anew gets on, though checkpoints move the begin.
    thread::scope(|scope| {
        let checkpoints = scope.spawn(|| {
            (0..20).for_each(|number| {
                write(number);
                engine.checkpoint().unwrap();
            });
        });
        while !checkpoints.is_finished() {
            engine.tail(Lsn::ZERO, Horizon::Durable).unwrap();
        }
    });
}

fn watched(watch: &mut forelog::tail::Watch) -> Option<Vec<String>> {
    let commit = watch.next_timeout(Duration::ZERO).unwrap()?;
    let of = |key: &Key| String::from_utf8_lossy(key).into_owned();
    let texts = commit.changes.iter().map(|change| match change {
        Change::Put { key, .. } => format!("put {}", of(key)),
        Change::Delete { key, .. } => format!("delete {}", of(key)),
        Change::DeleteRange { from, to, .. } => {
            format!("range {}..{}", of(from), to.as_ref().map(of).unwrap_or_default())
        }
        other => format!("{other:?}"),
    });
    Some(texts.collect())
}

#[test]
fn a_watch_shows_what_concerns_its_keys() {
    let engine = in_memory();
    let [keyspace, other] = ["k", "other"].map(|name| engine.create_keyspace(name).unwrap());
    put(&engine, &keyspace, "b0", "before", CommitMode::Async).unwrap();
    let mut watch = engine.watch(&keyspace, "b").unwrap();
    let commit = |writes: &dyn Fn(&mut forelog::WriteBatch, &Keyspace, &Keyspace)| {
        let mut batch = engine.batch().unwrap();
        writes(&mut batch, &keyspace, &other);
        batch.commit_with(CommitMode::Async).unwrap();
    };
    commit(&|batch, keyspace, other| {
        batch.put(keyspace, "a", "1").unwrap();
        batch.put(keyspace, "b1", "1").unwrap();
        batch.put(other, "b1", "1").unwrap();
        batch.delete(keyspace, "b2").unwrap();
    });
    commit(&|batch, keyspace, _| batch.put(keyspace, "c", "1").unwrap());
    assert_eq!(watched(&mut watch).unwrap(), ["put b1", "delete b2"]);
    assert_eq!(watched(&mut watch), None);
    for (from, to, is_shown) in [
        ("a", "b", false),
        ("a", "b1", true),
        ("b5", "c", true),
        ("c", "d", false),
        ("bx", "by", true),
        ("a", "z", true),
    ] {
        commit(&|batch, keyspace, _| batch.delete_range(keyspace, from..to).unwrap());
        assert_eq!(watched(&mut watch), is_shown.then(|| vec![format!("range {from}..{to}")]), "{from}..{to}");
    }
    commit(&|batch, keyspace, _| batch.delete_range(keyspace, "b7"..).unwrap());
    assert_eq!(watched(&mut watch).unwrap(), ["range b7.."]);
    engine.drop_keyspace("k").unwrap();
    assert_eq!(watched(&mut watch).unwrap().len(), 1);
    assert_eq!(kind_of(watch.next_timeout(LONG)), ErrorKind::KeyspaceDropped, "nothing more comes");
    assert_eq!(kind_of(block_on(watch.next_async())), ErrorKind::KeyspaceDropped);
    assert_eq!(kind_of(engine.watch(&keyspace, "")), ErrorKind::KeyspaceDropped);
    engine.close().unwrap();
    assert!(watch.next().is_none());
}

/// A failed fsync: what was durable is shown, then the failure, once.
#[cfg(feature = "sim")]
#[test]
fn a_failure_ends_a_tail() {
    use forelog::sim::{Fault, FaultKind, OpKind, OpSelector, Pages, SimDisk};
    for horizon in BOTH {
        let disk = SimDisk::new();
        let engine = crashkit::open_on(&disk, Options::new()).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        let mut tail = engine.tail(engine.visible_lsn(), horizon).unwrap();
        let durable = put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap();
        let fails = FaultKind::SyncFails { pages: Pages::KeepNew };
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync).on(".log.tmp"), fails));
        assert_eq!(kind_of(put(&engine, &keyspace, "b", "2", CommitMode::Sync)), ErrorKind::Indeterminate);
        assert_eq!(tail.next().unwrap().unwrap().receipt.lsn(), durable.lsn());
        assert_eq!(kind_of(tail.next().unwrap()), ErrorKind::Poisoned);
        assert!(tail.next().is_none());
        assert_eq!(kind_of(tail.next_timeout(Duration::ZERO)), ErrorKind::Poisoned);
    }
}

/// A follower that has copied a keyspace must know which one is dropped, though nothing was written to it since.
#[test]
fn a_keyspace_that_was_there_before_is_dropped_by_its_name() {
    let engine = in_memory();
    let old = engine.create_keyspace("old").unwrap();
    let mut tail = engine.tail(engine.visible_lsn(), Horizon::Durable).unwrap();
    engine.drop_keyspace("old").unwrap();
    drop(old);
    let other = engine.create_keyspace("other").unwrap();
    // Memory forgets the old one.
    (0..100).for_each(|number| drop(put(&engine, &other, &number.to_string(), "1", CommitMode::Sync).unwrap()));
    let commit = tail.next_timeout(LONG).unwrap().unwrap();
    assert!(
        matches!(&commit.changes[..], [Change::DropKeyspace { keyspace }] if keyspace.name.as_deref() == Some("old"))
    );
    let commit = tail.next_timeout(LONG).unwrap().unwrap();
    assert!(
        matches!(&commit.changes[..], [Change::CreateKeyspace { keyspace }] if keyspace.name.as_deref() == Some("other"))
    );
}

/// What is of no interest takes time, too.
#[test]
fn a_watch_keeps_its_time_among_commits_of_others() {
    let engine = in_memory();
    let [keyspace, other] = ["k", "other"].map(|name| engine.create_keyspace(name).unwrap());
    let mut watch = engine.watch(&keyspace, "").unwrap();
    (0..2_000).for_each(|number| drop(put(&engine, &other, &number.to_string(), "1", CommitMode::Async).unwrap()));
    assert!(watch.next_timeout(Duration::ZERO).unwrap().is_none());
    assert!(watch.lsn() < engine.visible_lsn(), "it has not read all of it");
    let mut polls = 0;
    let mut next = std::pin::pin!(watch.next_async());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    while next.as_mut().poll(&mut context).is_pending() {
        polls += 1;
    }
    assert!((10..100).contains(&polls), "{polls}");
}

/// A large commit is durable before it is applied: whoever begins there has it in the snapshot that follows.
#[test]
fn a_snapshot_behind_the_begin_of_a_tail_has_what_lies_before() {
    // No checkpoint retires the begin meanwhile.
    let engine = Options::new().checkpoints(Checkpoints::Never).in_memory().unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut batch = engine.batch().unwrap();
    (0..100_000_u32).for_each(|number| batch.put(&keyspace, number.to_be_bytes(), "value").unwrap());
    thread::scope(|scope| {
        let commits = scope.spawn(|| {
            (0..5).for_each(|_| drop(batch.commit_with(CommitMode::Within(Duration::from_micros(1))).unwrap()));
        });
        // And whoever is shown it can look it up.
        let shown = scope.spawn(|| {
            let mut tail = engine.tail(Lsn::ZERO, Horizon::Durable).unwrap();
            for _ in 0..6 {
                let commit = tail.next_timeout(LONG).unwrap().expect("there is more");
                assert!(engine.snapshot().unwrap().lsn() >= commit.receipt.lsn());
            }
        });
        while !commits.is_finished() {
            let tail = engine.tail(engine.durable_lsn(), Horizon::Durable).unwrap();
            assert!(engine.snapshot().unwrap().lsn() >= tail.lsn());
        }
        shown.join().unwrap();
    });
}
