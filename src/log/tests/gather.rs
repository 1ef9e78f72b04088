//! For whom a leader waits, and how long: by what the flushes before have shown.

use std::time::Duration;

use crate::log::write::gather::{Gathering, MOST, Wait};

const FLUSH: Duration = Duration::from_micros(10);

/// After many flushes by eight threads that take `time`.
fn eight(time: Duration) -> Gathering {
    let mut gathering = Gathering::default();
    (0..100).for_each(|_| gathering.flushed(time, 5, 2));
    gathering
}

/// What becomes of a wait to which `came` of the seven others come.
fn wait_for(gathering: &mut Gathering, came: usize) -> Option<Wait> {
    let wait = gathering.begin()?;
    gathering.end(wait, 1, 1 + came);
    Some(wait)
}

#[test]
fn nobody_waits_for_nobody() {
    let mut gathering = Gathering::default();
    assert!(gathering.is_alone());
    gathering.flushed(FLUSH, 0, 0);
    assert!(gathering.is_alone());
    assert_eq!(gathering.begin(), None);
}

#[test]
fn a_leader_waits_for_those_of_the_last_flush_as_long_as_two_flushes_take() {
    let wait = eight(FLUSH).begin().unwrap();
    assert_eq!(wait.crowd, 8);
    assert!(wait.limit.abs_diff(2 * FLUSH) < Duration::from_nanos(100), "{wait:?}");
    let fast = eight(Duration::from_nanos(500)).begin().unwrap();
    assert!(fast.limit < Duration::from_micros(2), "{fast:?}");
}

/// Nor does a device that stalls once change what is known of it.
#[test]
fn no_wait_is_longer_than_the_bound() {
    assert_eq!(eight(Duration::from_millis(10)).begin().unwrap().limit, MOST);
    let mut stalled = eight(FLUSH);
    stalled.flushed(Duration::from_secs(1), 5, 2);
    assert!(stalled.begin().unwrap().limit < 4 * FLUSH);
}

#[test]
fn whoever_waits_in_vain_stops_waiting_and_tries_again_now_and_then() {
    let mut gathering = eight(FLUSH);
    let waits = (0..100).filter(|_| wait_for(&mut gathering, 3).is_some()).count();
    assert!((5..12).contains(&waits), "{waits} waits of 100");
    // They are back: at the next try it shows.
    let first = (0..100).position(|_| wait_for(&mut gathering, 4).is_some()).unwrap();
    assert!(first <= 16, "only at flush {first}");
    assert!((0..100).all(|_| wait_for(&mut gathering, 4).is_some()));
}

/// The log failed while a leader waited, so those who were there went away; their number was then taken to have grown.
#[test]
fn a_failure_may_send_those_who_wait_away() {
    let mut gathering = eight(FLUSH);
    let wait = gathering.begin().unwrap();
    gathering.end(wait, 3, 1);
    assert!(gathering.begin().is_some(), "in vain once");
}
