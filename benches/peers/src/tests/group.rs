//! The raw limit's group commit: no commit returns before the sync that covers it, and a flush wakes the threads that it
//! served, and no others. On a medium that is watched.

use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::group::Group;
use crate::common::raw::{Medium, Ring};

const RING: u64 = 1 << 20;

/// Knows how far it is written and synced. A sync takes a while, in which others may write.
#[derive(Default)]
struct Watched {
    written: AtomicU64,
    synced: AtomicU64,
    syncs: AtomicU64,
}

impl Medium for &Watched {
    fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        assert_eq!(at, self.written.load(Ordering::SeqCst), "no byte is left out");
        self.written.store(at + bytes.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let covered = self.written.load(Ordering::SeqCst);
        (0..20).for_each(|_| thread::yield_now());
        self.synced.store(covered, Ordering::SeqCst);
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_commit_returns_after_the_sync_that_covers_it() {
    const THREADS: u64 = 8;
    const COMMITS: u64 = 200;
    let medium = Watched::default();
    let group = Group::new(Ring::over(&medium, RING));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..COMMITS {
                    let (end, at_risk) = group.append(&[7; 16]);
                    assert!((16..=16 * THREADS).contains(&at_risk), "{at_risk} bytes of {THREADS} commits");
                    group.sync(end).expect("a sync");
                    let synced = medium.synced.load(Ordering::SeqCst);
                    assert!(synced >= end, "told that {end} bytes are durable, where {synced} are");
                }
            });
        }
    });
    let (syncs, wake_ups) = (medium.syncs.load(Ordering::SeqCst), group.wake_ups.load(Ordering::Relaxed));
    assert!(syncs < THREADS * COMMITS, "commits shared a sync: {syncs}");
    assert!(wake_ups <= THREADS * COMMITS, "a commit wakes its thread at most once: {wake_ups}");
}

#[test]
fn what_is_durable_already_takes_no_sync() {
    let medium = Watched::default();
    let group = Group::new(Ring::over(&medium, RING));
    let (first, _) = group.append(&[7; 16]);
    let (second, _) = group.append(&[7; 16]);
    for end in [second, first, second] {
        group.sync(end).expect("a sync");
    }
    assert_eq!((group.append(&[]), medium.syncs.load(Ordering::SeqCst)), ((32, 0), 1));
}

/// Each sync waits until it is let through.
#[derive(Default)]
struct Gate {
    state: Mutex<Passing>,
    changed: Condvar,
}

#[derive(Default)]
struct Passing {
    begun: u64,
    let_through: u64,
    fails: bool,
}

impl Gate {
    /// Lets `syncs` of them through; the next one fails if `fails`.
    fn let_through(&self, syncs: u64, fails: bool) {
        let mut state = self.state.lock().expect("no panic");
        state.let_through += syncs;
        state.fails = fails;
        self.changed.notify_all();
    }

    /// Waits until a sync with this number, counted from one, has begun.
    fn wait_for(&self, sync: u64) {
        until("a sync begins", || self.state.lock().expect("no panic").begun >= sync);
    }
}

impl Medium for &Gate {
    fn write_at(&self, _: &[u8], _: u64) -> Result<()> {
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.state.lock().expect("no panic");
        state.begun += 1;
        let number = state.begun;
        let state = self.changed.wait_while(state, |state| state.let_through < number).expect("no panic");
        if state.fails { Err(Error::new(ErrorKind::StorageFull, "no room")) } else { Ok(()) }
    }
}

/// Lets every sync through when a test ends early, so that no thread waits for ever.
struct OpenAtTheEnd<'a>(&'a Gate);

impl Drop for OpenAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.let_through(u64::MAX / 2, false);
    }
}

/// Waits for what other threads do; gives up where the test would hang.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "in vain: {what}");
        thread::yield_now();
    }
}

/// One thread's flush is at the gate, and three others wait for the next one.
fn with_three_that_wait(gate: &Gate, then: impl FnOnce(&Group<&Gate>, &AtomicU64)) -> Vec<Result<()>> {
    let (group, returned) = (Group::new(Ring::over(gate, RING)), AtomicU64::new(0));
    let commit = || {
        let result = group.sync(group.append(&[7; 16]).0);
        returned.fetch_add(1, Ordering::SeqCst);
        result
    };
    thread::scope(|scope| {
        let _open = OpenAtTheEnd(gate);
        let mut threads = vec![scope.spawn(commit)];
        gate.wait_for(1);
        threads.extend((0..3).map(|_| scope.spawn(commit)));
        until("three wait", || group.waiting.load(Ordering::SeqCst) == 3);
        then(&group, &returned);
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

#[test]
fn a_flush_wakes_the_threads_it_served_and_the_next_leader() {
    let gate = Gate::default();
    let results = with_three_that_wait(&gate, |group, returned| {
        let wake_ups = || group.wake_ups.load(Ordering::SeqCst);
        assert_eq!(wake_ups(), 0);
        // The first flush served its leader alone.
        gate.let_through(1, false);
        gate.wait_for(2);
        until("the first leader returns", || returned.load(Ordering::SeqCst) == 1);
        assert_eq!(wake_ups(), 1, "the next leader alone");
        // The second serves all that waited.
        gate.let_through(1, false);
        until("all return", || returned.load(Ordering::SeqCst) == 4);
        assert_eq!(wake_ups(), 3, "each of those that waited once");
    });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(gate.state.lock().expect("no panic").begun, 2);
}

#[test]
fn a_thread_whose_bytes_are_in_the_flush_under_way_waits_for_it() {
    let gate = Gate::default();
    let (group, returned) = (Group::new(Ring::over(&gate, RING)), AtomicU64::new(0));
    let (early, _) = group.append(&[7; 16]);
    let sync = |end| {
        group.sync(end).expect("a sync");
        returned.fetch_add(1, Ordering::SeqCst);
    };
    thread::scope(|scope| {
        let _open = OpenAtTheEnd(&gate);
        scope.spawn(|| sync(group.append(&[7; 16]).0));
        gate.wait_for(1);
        scope.spawn(|| sync(early));
        until("it waits", || group.waiting.load(Ordering::SeqCst) == 1 || returned.load(Ordering::SeqCst) > 0);
        assert_eq!(returned.load(Ordering::SeqCst), 0, "nothing is durable yet");
        gate.let_through(1, false);
        until("both return", || returned.load(Ordering::SeqCst) == 2);
    });
    assert_eq!((group.wake_ups.load(Ordering::SeqCst), gate.state.lock().expect("no panic").begun), (1, 1));
}

#[test]
fn a_failed_flush_is_told_to_all_and_is_final() {
    let gate = Gate::default();
    let results = with_three_that_wait(&gate, |group, returned| {
        gate.let_through(1, true);
        until("all return", || returned.load(Ordering::SeqCst) == 4);
        let later = group.sync(group.append(&[7; 16]).0).expect_err("refused");
        assert_eq!((later.kind(), later.to_string().as_str()), (ErrorKind::StorageFull, "no room"));
    });
    let kinds: Vec<_> = results.into_iter().map(|result| result.map_err(|error| error.kind())).collect();
    assert_eq!(kinds, [Err(ErrorKind::StorageFull); 4]);
    assert_eq!(gate.state.lock().expect("no panic").begun, 1, "it is not tried again");
}
