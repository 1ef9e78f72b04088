//! What an opener knows of the log from its other files: evidence of durability, and records that need no replay.

use super::support::*;
use crate::base::error::{DamageCause, Result};
use crate::base::types::Lsn;
use crate::disk::sim::SimDisk;
use crate::format::frame::Kind;
use crate::log::Prior;

const FIRST: usize = 0;
const SECOND: usize = 1;
const THIRD: usize = 2;

/// Three records of which the third did not land whole, and the ends of the three.
fn torn_third() -> (Sketch, [u64; 3]) {
    let mut sketch = Sketch::new();
    let first = sketch.frame(FIRST_FRAME, Kind::Full, &payload(0, 100), 0);
    let second = sketch.frame(first, Kind::Full, &payload(1, 100), first);
    let third = sketch.frame(second, Kind::Full, &payload(2, 100), first);
    sketch.unland(third - 8, 8);
    (sketch, [first, second, third])
}

fn proven(disk: &SimDisk, lsn: u64) -> Result<Opened> {
    open_knowing(disk, Prior { proven: Lsn::new(lsn), ..Prior::default() })
}

#[test]
fn a_torn_tail_below_what_is_proven_elsewhere_is_damage() {
    let (sketch, ends) = torn_third();
    assert_eq!(open(&sketch.disk()).unwrap().records.len(), 2);
    let report = proven(&sketch.disk(), ends[SECOND]).unwrap().log.recovery().clone();
    assert_eq!((report.recovered_to.get(), report.proven_durable.get()), (ends[SECOND], ends[SECOND]));
    let disk = sketch.disk();
    let before = files(&disk);
    let error = proven(&disk, ends[THIRD]).err().expect("the third was durable");
    let damage = error.damage().expect("damage");
    assert_eq!((damage.cause, damage.lsn.get()), (DamageCause::Unlanded, ends[SECOND]));
    assert!(files(&disk) == before, "the refusal changed a byte");
}

#[test]
fn a_history_that_ends_below_what_is_proven_is_older_than_the_log() {
    let (mut sketch, ends) = torn_third();
    sketch.end(ends[SECOND], 4096);
    assert_eq!(proven(&sketch.disk(), ends[SECOND]).unwrap().records.len(), 2);
    let damage = proven(&sketch.disk(), ends[THIRD]).err().unwrap().damage().unwrap().clone();
    assert_eq!((damage.cause, damage.lsn.get()), (DamageCause::BadHistory, ends[THIRD]));
    assert!(damage.file.ends_with("HISTORY"), "{damage:?}");
}

#[test]
fn what_is_known_is_neither_walked_nor_replayed() {
    let (sketch, ends) = torn_third();
    for (up_to, replayed) in [(0, 2), (ends[FIRST], 1), (ends[SECOND], 0)] {
        let prior = Prior { known: Lsn::new(up_to), ..Prior::default() };
        let opened = open_knowing(&sketch.disk(), prior).unwrap();
        assert_eq!(opened.records.len(), replayed, "known up to {up_to}");
        assert_eq!(opened.log.recovery().recovered_to.get(), ends[SECOND]);
    }
    let mut rotten = sketch;
    rotten.at(ends[FIRST] - 8, 8)[0] ^= 1;
    let open = |known: u64| open_knowing(&rotten.disk(), Prior { known: Lsn::new(known), ..Prior::default() });
    assert!(open(0).is_err());
    assert!(open(ends[FIRST]).is_ok(), "nobody needs it");
}
