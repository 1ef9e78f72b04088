//! The judge of logs that are retired, on histories that no run need meet.

use std::sync::Arc;
use std::time::Duration;

use crashkit::event::{Event, Name};
use crashkit::journal::{self, Journal, Reporter};
use crashkit::judge::compare_log;
use crashkit::ledger::{Ending, Ledger};
use forelog::CommitMode::Sync;
use forelog::log::{Log, LogOptions};
use forelog::sim::{self, SimDisk};

fn open(disk: &SimDisk) -> Log {
    LogOptions::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), "db").unwrap()
}

/// A retirement that a crash cut off had happened. In the next life a lower one did nothing, rightly; the judge took the
/// last one for the highest, and asked for what was retired.
#[test]
fn a_retirement_below_one_that_was_cut_off_is_judged_right() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let mut ledger = Ledger::default();
        ledger.begin();
        let journal = Journal::new(ledger, || Duration::ZERO);
        let log = open(&disk);
        journal.say(Event::Opened(log.recovery().recovered_to));
        let mut lsns = Vec::new();
        for byte in 0..6 {
            let payload = vec![byte; 1900];
            let append = || log.append(&payload, Sync);
            journal::commit(&journal, journal.next_name(0), Sync, payload.clone(), append).unwrap();
            lsns.extend(journal.with_ledger(|ledger| ledger.life().acknowledged().filter_map(|c| c.1.lsn).max()));
        }
        journal.say(Event::Retire(lsns[4]));
        log.retire(lsns[4]).unwrap();
        // The crash comes before it returns.
        let disk = disk.crash_point().process_kill();
        drop(log);

        let mut ledger = journal.ledger();
        ledger.look(Ending::Process, lsns[5]);
        ledger.begin();
        let journal = Journal::new(ledger, || Duration::ZERO);
        let log = open(&disk);
        journal.say(Event::Opened(log.recovery().recovered_to));
        journal.say(Event::Retire(lsns[2]));
        log.retire(lsns[2]).unwrap();
        journal.say(Event::Retired(lsns[2]));
        assert_eq!(compare_log(&log, &journal.ledger(), lsns[5], false), Ok(lsns[5]));
    });
}

/// Each of two lives ended with an append that had not returned, and had landed. At the end of the second one the judge
/// took the first append to lie where the second one does, and missed it in what it expected.
#[test]
fn two_appends_that_landed_without_returning_have_two_places() {
    sim::run(1, || {
        let mut disk = SimDisk::new();
        let mut ledger = Ledger::default();
        for byte in 0..2 {
            let name = Name { life: ledger.begin(), client: 0, number: 0 };
            let log = open(&disk);
            ledger.hear(Event::Opened(log.recovery().recovered_to)).unwrap();
            let payload = vec![byte; 1900];
            ledger.hear(Event::Submit(name, Sync, payload.clone())).unwrap();
            let lsn = log.append(&payload, Sync).unwrap().lsn();
            disk = disk.crash_point().process_kill();
            drop(log);
            ledger.land(lsn);
            ledger.look(Ending::Process, lsn);
        }
        let log = open(&disk);
        ledger.begin();
        let recovered = log.recovery().recovered_to;
        ledger.hear(Event::Opened(recovered)).unwrap();
        assert_eq!(compare_log(&log, &ledger, recovered, false), Ok(recovered));
    });
}
