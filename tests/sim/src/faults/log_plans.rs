//! Fault plans over the log on its own: retiring, pruning and scanning, which the engine does not do yet.

use std::sync::{Arc, Mutex};

use forelog::log::{Log, LogOptions};
use forelog::sim::{self, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use forelog::{CommitMode, Error, ErrorKind, Lsn, Receipt, Result};

use super::plans::{Case, EIO, Repeat, Strike, Trust};
use super::verdict::{Violation, guarded};
use super::workloads::SEED;
use super::{DIR, MODES};

#[derive(Clone, Default)]
struct Told {
    records: Vec<(Lsn, Vec<u8>)>,
    durable: Lsn,
    durable_before: Lsn,
    /// The highest position that was retired.
    retired: Lsn,
    /// Each position that was asked to be.
    retiring: Vec<Lsn>,
    opened: bool,
    errors: Vec<Error>,
    wrong: Option<String>,
}

struct Client {
    disk: SimDisk,
    told: Mutex<Told>,
}

fn open(disk: &SimDisk) -> Result<Log> {
    LogOptions::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), DIR)
}

impl Client {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("nobody panics with it in hand")
    }

    fn durable(&self, lsn: Lsn) {
        let struck = self.disk.fault_hits() > 0;
        let mut told = self.told();
        told.durable = told.durable.max(lsn);
        if !struck {
            told.durable_before = told.durable;
        }
    }

    fn append(&self, log: &Log, number: usize, mode: CommitMode) -> Option<Receipt> {
        let payload = vec![u8::try_from(number).expect("few"); 300 + 200 * number];
        let result = log.append(&payload, mode);
        let lsn = match &result {
            Ok(receipt) => Some(receipt.lsn()),
            Err(error) => error.token().map(|token| token.lsn),
        };
        self.told().records.extend(lsn.map(|lsn| (lsn, payload)));
        match result {
            Ok(receipt) => {
                if mode == CommitMode::Sync {
                    self.durable(receipt.lsn());
                }
                Some(receipt)
            }
            Err(error) => {
                self.told().errors.push(error);
                None
            }
        }
    }

    fn retire(&self, log: &Log, receipt: Option<Receipt>) {
        let Some(receipt) = receipt else { return };
        match log.flush_to(receipt.lsn()) {
            Ok(()) => self.durable(receipt.lsn()),
            Err(error) => return self.told().errors.push(error),
        }
        self.told().retiring.push(receipt.lsn());
        match log.retire(receipt.lsn()) {
            Ok(()) => self.told().retired = receipt.lsn(),
            Err(error) => self.told().errors.push(error),
        }
    }

    fn life(&self, first: usize) {
        let log = match open(&self.disk) {
            Ok(log) => log,
            Err(error) => return self.told().errors.push(error),
        };
        let recovered = log.recovery().recovered_to;
        self.told().records.retain(|(lsn, _)| *lsn <= recovered);
        let told = self.told().clone();
        if let Err(wrong) = told.compare(&log, told.durable, false) {
            self.told().wrong = Some(wrong.to_string());
        }
        self.durable(recovered);
        self.told().opened = true;
        let mut third = None;
        for number in first..first + 5 {
            let receipt = self.append(&log, number, MODES[number % MODES.len()]);
            third = if number == first + 2 { receipt } else { third };
        }
        self.retire(&log, third);
        let last = self.append(&log, first + 5, CommitMode::Async);
        self.retire(&log, last);
        if let Err(error) = log.prune_history(2) {
            self.told().errors.push(error);
        }
        match log.close() {
            Ok(()) => self.durable(log.durable_lsn()),
            Err(error) => self.told().errors.push(error),
        }
    }
}

impl Told {
    /// A log that has just been opened holds the records up to some position, but for what was retired.
    fn compare(&self, log: &Log, floor: Lsn, lies: bool) -> std::result::Result<(), Violation> {
        let recovered = log.recovery().recovered_to;
        let newest = self.records.iter().map(|(lsn, _)| *lsn).filter(|lsn| *lsn <= floor).max().unwrap_or_default();
        if recovered < newest {
            return Err(Violation::Silent(format!("recovered up to {recovered} of {floor}")));
        }
        let found: Result<Vec<(Lsn, Vec<u8>)>> =
            log.scan(Lsn::ZERO).and_then(|scan| scan.map(|r| r.map(|r| (r.lsn, r.payload))).collect());
        let found = found.map_err(|error| format!("it opens and cannot be scanned: {error}"))?;
        // A retirement that failed, or was cut off, may have happened.
        let may_be_oldest = |lsn: &&Lsn| **lsn >= self.retired || lies;
        let as_retired_to = |oldest: &Lsn| {
            let retained = self.records.iter().filter(|(lsn, _)| lsn > oldest && *lsn <= recovered);
            retained.eq(&found)
        };
        if self.retiring.iter().chain([&Lsn::ZERO]).filter(may_be_oldest).any(as_retired_to) {
            return Ok(());
        }
        let lsns = |records: &[(Lsn, Vec<u8>)]| records.iter().map(|(lsn, _)| *lsn).collect::<Vec<_>>();
        let (found, issued, retired) = (lsns(&found), lsns(&self.records), self.retired);
        Err(Violation::Wrong(format!("scanned {found:?} of {issued:?} up to {recovered}, retired to {retired}")))
    }
}

/// Two lives with two retirements each, and a fault at the n-th operation.
pub fn run_case(strike: &Strike, n: u64) -> Case {
    if strike.repeat == Repeat::ForASecond {
        return Ok(None);
    }
    guarded(|| {
        let client = Client { disk: SimDisk::new(), told: Mutex::default() };
        strike.inject(&client.disk, n);
        sim::run(SEED, || {
            client.life(0);
            client.life(6);
        });
        let struck = client.disk.fault_hits() > 0;
        if !struck {
            return Ok(None);
        }
        client.disk.clear_faults();
        let told = client.told().clone();
        if let Some(wrong) = told.wrong {
            return Err(Violation::Wrong(wrong));
        }
        use ErrorKind::{Damaged, DiskFull, Indeterminate, Io, Poisoned};
        let explained = |error: &&Error| !matches!(error.kind(), Damaged | DiskFull | Indeterminate | Io | Poisoned);
        if let Some(error) = told.errors.iter().find(explained) {
            return Err(Violation::Wrong(format!("failed with {error:?}")));
        }
        let outcome = if told.errors.is_empty() { "survived" } else { "typed error" };
        let crash = client.disk.crash_point();
        let images = [
            (crash.process_kill(), true),
            (crash.power_loss(&Loss::Everything, Granularity::Sector), false),
            (crash.power_loss(&Loss::Seeded(n), Granularity::Word), false),
        ];
        for (disk, killed) in images {
            let lies = strike.trust == Trust::Lies && !killed;
            let floor = if lies { told.durable_before } else { told.durable };
            match open(&disk) {
                Ok(log) => told.compare(&log, floor, lies)?,
                Err(error) if error.kind() == Damaged && (lies || strike.trust == Trust::TearsWords) => {
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
