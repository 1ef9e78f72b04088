//! Fault plans over the log on its own: retiring, pruning and scanning, which the engine does not do yet.

use std::sync::Arc;

use forelog::log::{Log, LogOptions};
use forelog::sim::{self, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use forelog::{CommitMode, Error, ErrorKind, Lsn, Receipt, Result};

use super::notes::{self, Call};
use super::plans::{Case, EIO, Repeat, Strike, Trust};
use super::verdict::{Violation, guarded};
use super::workloads::SEED;
use super::{DIR, MODES};
use crashkit::event::Event;
use crashkit::journal::Reporter;
use crashkit::judge::compare_log;
use crashkit::ledger::{Ending, Ledger};

type Notes = notes::Notes<Vec<u8>>;

fn open(disk: &SimDisk) -> Result<Log> {
    LogOptions::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), DIR)
}

fn append(notes: &Notes, log: &Log, number: usize, mode: CommitMode) -> Option<Receipt> {
    let payload = vec![u8::try_from(number).expect("few"); 300 + 200 * number];
    let name = notes.journal.next_name(0);
    notes.commit(name, mode, payload.clone(), || log.append(&payload, mode)).ok()?;
    notes.told().receipts.pop()
}

fn retire(notes: &Notes, log: &Log, receipt: Option<Receipt>) {
    let Some(lsn) = receipt.map(|receipt| receipt.lsn()) else { return };
    match log.flush_to(lsn) {
        Ok(()) => notes.durable(lsn),
        Err(error) => return notes.failed(Call::Flush, &error),
    }
    notes.say(Event::Retire(lsn));
    match log.retire(lsn) {
        Ok(()) => notes.say(Event::Retired(lsn)),
        Err(error) => notes.failed(Call::Retire, &error),
    }
}

fn life(notes: &Notes, disk: &SimDisk, first: usize) {
    notes.journal.with_ledger(|ledger| {
        ledger.end(Ending::Power, false);
        ledger.begin()
    });
    let log = match open(disk) {
        Ok(log) => log,
        Err(error) => return notes.failed(Call::Open, &error),
    };
    let ledger = notes.journal.ledger();
    match compare_log(&log, &ledger, ledger.durable(), false) {
        Ok(recovered) => notes.say(Event::Opened(recovered)),
        Err(violation) => notes.journal.wrong(violation.to_string()),
    }
    let mut third = None;
    for number in first..first + 5 {
        let receipt = append(notes, &log, number, MODES[number % MODES.len()]);
        third = if number == first + 2 { receipt } else { third };
    }
    retire(notes, &log, third);
    let last = append(notes, &log, first + 5, CommitMode::Async);
    retire(notes, &log, last);
    notes.say(Event::Prune);
    if let Err(error) = log.prune_history(2) {
        notes.failed(Call::Retire, &error);
    }
    notes.say(Event::Closing);
    match log.close() {
        Ok(()) => notes.say(Event::Closed),
        Err(error) => notes.failed(Call::Close, &error),
    }
}

/// Two lives with two retirements each, and a fault at the n-th operation.
pub fn run_case(strike: &Strike, n: u64) -> Case {
    if strike.repeat == Repeat::ForASecond {
        return Ok(None);
    }
    guarded(|| {
        let disk = SimDisk::new();
        let notes = Notes::new(&disk, Ledger::default());
        strike.inject(&disk, n);
        sim::run(SEED, || {
            life(&notes, &disk, 0);
            life(&notes, &disk, 6);
        });
        let struck = disk.fault_hits() > 0;
        if !struck {
            return Ok(None);
        }
        disk.clear_faults();
        if let Some(wrong) = notes.journal.first_wrong() {
            return Err(Violation::Wrong(wrong));
        }
        let (told, ledger) = (notes.told(), notes.journal.ledger());
        use ErrorKind::{Damaged, DiskFull, Indeterminate, Io, Poisoned};
        let explained =
            |(_, error): &&(Call, Error)| !matches!(error.kind(), Damaged | DiskFull | Indeterminate | Io | Poisoned);
        if let Some((_, error)) = told.errors.iter().find(explained) {
            return Err(Violation::Wrong(format!("failed with {error:?}")));
        }
        let outcome = if told.errors.is_empty() { "survived" } else { "typed error" };
        let crash = disk.crash_point();
        let images = [
            (crash.process_kill(), true),
            (crash.power_loss(&Loss::Everything, Granularity::Sector), false),
            (crash.power_loss(&Loss::Seeded(n), Granularity::Word), false),
        ];
        for (disk, killed) in images {
            let lies = strike.trust == Trust::Lies && !killed;
            let ending = if killed && strike.trust == Trust::Full { Ending::Process } else { Ending::Power };
            let floor = if lies { ledger.floor_before_lies(ending) } else { ledger.floor(ending) };
            match open(&disk) {
                Ok(log) => drop(compare_log(&log, &ledger, floor, lies)?),
                Err(error) if error.kind() == Damaged && lies => {
                    return Ok(Some("noticed and refused (beyond the assumptions)"));
                }
                Err(error) => return Err(Violation::Wrong(format!("a legal state is refused: {error:?}"))),
            }
        }
        Ok(Some(outcome))
    })
}

/// A scan that meets a read error ends with it, and stays ended: it never goes on behind what it could not read.
pub fn check_scan_is_sticky() -> std::result::Result<(), Violation> {
    let disk = SimDisk::new();
    let log = open(&disk).map_err(|error| error.to_string())?;
    for number in 0..6 {
        log.append(&vec![number; 1000], CommitMode::Sync).map_err(|error| error.to_string())?;
    }
    let reads = OpSelector::of(OpKind::Read);
    let mut failures = 0;
    for skip in 0.. {
        disk.clear_faults();
        let hits = disk.fault_hits();
        // What fails is read again: without reading ahead, and both once more.
        (0..4).for_each(|_| disk.inject(Fault::once(reads.clone().skip(skip), FaultKind::Errno(EIO))));
        let mut scan = log.scan(Lsn::ZERO).map_err(|error| error.to_string())?;
        let mut good = 0;
        let failed = loop {
            match scan.next() {
                Some(Ok(record)) if record.payload == vec![good; 1000] => good += 1,
                Some(Ok(_)) => return Err(Violation::Wrong("a record was skipped".into())),
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        if failed.is_some() && scan.next().is_some() {
            return Err(Violation::Wrong("a scan went on after an error".into()));
        }
        if failed.is_none() && good != 6 {
            return Err(Violation::Silent(format!("a scan ended after {good} of 6 records")));
        }
        failures += u32::from(failed.is_some());
        if disk.fault_hits() == hits {
            let none = Violation::Wrong("no scan has failed".into());
            return if failures > 0 { Ok(()) } else { Err(none) };
        }
    }
    Ok(())
}
