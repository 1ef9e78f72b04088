//! Commits that wait for background work, in simulated time.

use std::sync::Arc;
use std::time::Duration;

use crate::base::error::{Error, ErrorKind};
use crate::log::WaitLimit;
use crate::rt::schedule;
use crate::txn::due::Amount;
use crate::txn::throttle::{Load, Refusal, Throttle};

const MIB: u64 = 1 << 20;
/// What records take of memory.
const RECORDS: u64 = 100;

fn amount(bytes: u64) -> Amount {
    Amount { bytes, ops: 0 }
}

/// At twice its bound the log costs a second for a MiB.
fn load() -> Load {
    let (log, merges) = (Duration::from_millis(500), Duration::ZERO);
    Load { done: Amount::default(), bound: amount(MIB), stop: Load::NOTHING, log, merges }
}

/// How long a commit of so many bytes waits when the log owes so much, in whole milliseconds: a lock takes a moment, too.
fn pass(throttle: &Throttle, owed: u64, bytes: u64, limit: WaitLimit) -> (Duration, Option<ErrorKind>) {
    let begin = schedule::now().unwrap();
    let passed = throttle.pass(|| amount(owed), amount(bytes), limit, (|| false, || (), || RECORDS));
    let waited = schedule::now().unwrap().since(begin).as_secs_f64() * 1000.0;
    (Duration::from_secs_f64(waited.floor() / 1000.0), passed.err().map(|error| error.kind()))
}

#[test]
fn nobody_waits_up_to_the_bound_and_above_it_commits_follow_one_another() {
    schedule::run(1, || {
        let throttle = Throttle::new();
        throttle.set(load(), None, amount(0));
        for _ in 0..3 {
            assert_eq!(pass(&throttle, MIB, MIB, WaitLimit::Forever).0, Duration::ZERO);
        }
        throttle.note(amount(2 * MIB));
        let waits: Vec<_> =
            (0..4).map(|_| pass(&throttle, 2 * MIB, MIB / 2, WaitLimit::Forever).0.as_millis()).collect();
        // The first one waits for the large one before it.
        assert!(waits[0] >= 900 && waits[1..].iter().all(|wait| (490..530).contains(wait)), "{waits:?}");
    });
}

/// A commit left the wait of its moment to all that came behind it, though the debt was gone.
#[test]
fn a_debt_that_sinks_lets_go_whoever_waits() {
    schedule::run(1, || {
        let throttle = Throttle::new();
        throttle.set(load(), None, amount(3 * MIB));
        assert_eq!(pass(&throttle, 3 * MIB, 64 * MIB, WaitLimit::Forever).0, Duration::ZERO);
        let wait = pass(&throttle, MIB + MIB / 1000, 100, WaitLimit::Forever).0;
        assert!(wait < Duration::from_millis(100), "{wait:?}");
    });
}

/// A measure may be wrong, and a debt of any size was waited for.
#[test]
fn no_debt_holds_commits_to_less_than_half() {
    schedule::run(1, || {
        let throttle = Throttle::new();
        throttle.set(load(), None, amount(9000 * MIB));
        pass(&throttle, 9000 * MIB, MIB, WaitLimit::Forever);
        let wait = pass(&throttle, 9000 * MIB, MIB, WaitLimit::Forever).0;
        assert!(wait >= Duration::from_millis(900) && wait < Duration::from_millis(1100), "{wait:?}");
    });
}

#[test]
fn patience_is_respected_and_what_gave_up_charges_nobody() {
    schedule::run(1, || {
        let throttle = Throttle::new();
        throttle.set(load(), None, amount(2 * MIB));
        pass(&throttle, 2 * MIB, MIB, WaitLimit::Forever);
        assert_eq!(pass(&throttle, 2 * MIB, MIB, WaitLimit::Never), (Duration::ZERO, Some(ErrorKind::WouldBlock)));
        let limit = WaitLimit::lasting(Duration::from_millis(300));
        let (wait, error) = pass(&throttle, 2 * MIB, MIB, limit);
        assert_eq!(error, Some(ErrorKind::TimedOut));
        assert!((300..330).contains(&wait.as_millis()), "{wait:?}");
        let wait = pass(&throttle, 2 * MIB, MIB, WaitLimit::Forever).0;
        assert!((600..800).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(throttle.waited().0, 2);
    });
}

#[test]
fn commits_stop_when_too_much_is_owed_and_go_on_when_it_is_less() {
    schedule::run(1, || {
        let throttle = Arc::new(Throttle::new());
        let stops = Load { log: Duration::ZERO, stop: amount(2 * MIB), ..load() };
        throttle.set(stops, None, amount(0));
        assert_eq!(pass(&throttle, 2 * MIB - 1, MIB, WaitLimit::Forever).0, Duration::ZERO);
        throttle.note(amount(2 * MIB));
        assert_eq!(pass(&throttle, 2 * MIB, MIB, WaitLimit::Never).1, Some(ErrorKind::WouldBlock));
        let limit = WaitLimit::lasting(Duration::from_millis(300));
        assert_eq!(pass(&throttle, 2 * MIB, MIB, limit).1, Some(ErrorKind::TimedOut));
        let other = Arc::clone(&throttle);
        let worker = schedule::start("worker", move || {
            schedule::sleep(Duration::from_secs(1));
            other.set(Load { done: amount(MIB), ..stops }, None, amount(2 * MIB));
        });
        let (wait, error) = pass(&throttle, 2 * MIB, MIB, WaitLimit::Forever);
        assert!(error.is_none() && (1000..1020).contains(&wait.as_millis()), "{wait:?}");
        worker.join();
        // Nobody waits for what fails.
        throttle.set(Load { stop: Load::NOTHING, ..stops }, None, amount(9 * MIB));
        assert_eq!(pass(&throttle, 9 * MIB, MIB, WaitLimit::Never).1, None);
    });
}

#[test]
fn while_checkpoints_fail_commits_are_refused_once_memory_is_full() {
    schedule::run(1, || {
        let throttle = Throttle::new();
        let nobody_waits = Load { log: Duration::ZERO, ..load() };
        let cause = || Error::new(ErrorKind::Io, "the disk is gone");
        let refusal = |records| Refusal { from: amount(2 * MIB), records, cause: cause() };
        throttle.set(nobody_waits, Some(refusal(RECORDS - 1)), amount(0));
        assert_eq!(pass(&throttle, MIB, MIB, WaitLimit::Forever).1, None);
        throttle.note(amount(2 * MIB));
        assert_eq!(pass(&throttle, 2 * MIB - 1, MIB, WaitLimit::Forever).1, None);
        assert_eq!(pass(&throttle, 2 * MIB, MIB, WaitLimit::Forever), (Duration::ZERO, Some(ErrorKind::Io)));
        // What is written again and again takes no more of it.
        throttle.set(nobody_waits, Some(refusal(RECORDS)), amount(9 * MIB));
        assert_eq!(pass(&throttle, 9 * MIB, MIB, WaitLimit::Forever).1, None);
        throttle.set(nobody_waits, None, amount(9 * MIB));
        assert_eq!(pass(&throttle, 9 * MIB, MIB, WaitLimit::Forever).1, None);
    });
}
