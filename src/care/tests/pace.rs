//! A log that is read at a rate: it takes as long as it must, and finds what is found at once.

use std::sync::Arc;
use std::time::Duration;

use crate::base::error::ErrorKind;
use crate::care::dump::verify_on;
use crate::care::pace::{Paced, ScrubOptions};
use crate::disk::{Disk, Layered};
use crate::log::Recovery;
use crate::log::tests::support::*;
use crate::rt::schedule;

const RATE: u64 = 1000;

fn verified(disk: Arc<dyn Disk>) -> Recovery {
    verify_on(disk, DIR.as_ref(), &mut |_, _| Ok(())).unwrap()
}

#[test]
fn verify_keeps_the_rate_and_finds_the_same() {
    let (disk, _) = crashed_twelve();
    schedule::run(1, || {
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let at_once = verified(Arc::clone(&disk));
        let slow =
            verified(Arc::new(Layered::new(disk, Paced::new(ScrubOptions::default().bytes_per_second(RATE)).unwrap())));
        // Every byte below the end of the log is read at least once.
        let least = Duration::from_secs(at_once.recovered_to.get() / RATE);
        let waited = slow.duration.saturating_sub(at_once.duration);
        assert!((least..least * 10).contains(&waited), "waited {waited:?} for {} bytes", at_once.recovered_to);
        let same = Recovery { duration: at_once.duration, ..slow };
        assert_eq!(format!("{same:?}"), format!("{at_once:?}"));
    });
}

#[test]
fn a_rate_of_nothing_is_refused() {
    let refused = Paced::new(ScrubOptions::default().bytes_per_second(0)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("choose at least 1"), "{refused}");
}
