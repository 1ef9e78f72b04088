//! Two things at once: a crash in the recovery from a crash, a fault in it, and rot beside a torn tail.

use std::sync::{Arc, Mutex};

use forelog::sim::{CrashPoint, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, SimDisk};
use forelog::{ErrorKind, Lsn, Token};

use super::matrix::Matrix;
use super::plans::{EIO, ENOSPC};
use super::verdict::{Expected, Opened, Violation, guarded};
use super::workloads::torn_tail;
use super::{files, name_of, open_with, options};
use crashkit::ledger::Fate;
use crashkit::model::History;

/// What a crash left: a torn tail, or all of it in the cache alone.
pub struct Torn {
    pub name: String,
    pub disk: SimDisk,
    history: History,
    tokens: Vec<(Token, Fate)>,
    durable: Lsn,
    /// What an open without a further fault recovers.
    pub recovered: Lsn,
    /// Nothing is in the cache alone: what is read is there.
    settled: bool,
}

impl Torn {
    fn expected(&self) -> Expected<'_> {
        // What is only in the cache may go with the power; what was read after a power cut may not.
        let floor = if self.settled { self.recovered } else { self.durable };
        Expected { floor, ceiling: self.recovered, ..Expected::of(&self.history, &self.tokens) }
    }
}

/// One process kill, and power cuts that tear the tail in different ways.
pub fn torn_states(cuts: u64) -> Vec<Torn> {
    let start = torn_tail();
    let (crash, history) = (&start.crash, start.history());
    let state = |name: String, disk: SimDisk, settled| {
        let mut torn = Torn {
            name,
            disk,
            history: history.clone(),
            tokens: start.ledger.tokens.clone(),
            durable: start.ledger.durable(),
            recovered: history.last(),
            settled: false,
        };
        let copy = torn.disk.crash_point().process_kill();
        match torn.expected().open(&copy) {
            Ok(Opened::Holds(_, recovered)) => torn.recovered = recovered,
            Ok(Opened::Refused(error)) => panic!("{}: a legal state is refused: {error:?}", torn.name),
            Err(violation) => panic!("{}: {violation}", torn.name),
        }
        torn.settled = settled;
        torn
    };
    let mut states = vec![state("the process killed".into(), crash.process_kill(), false)];
    for cut in 0..cuts {
        let granularity = if cut % 2 == 0 { Granularity::Sector } else { Granularity::Word };
        let disk = crash.power_loss(&Loss::Seeded(cut), granularity);
        states.push(state(format!("the power cut, {cut}"), disk, true));
    }
    states
}

/// Every moment of an open at which the machine may die.
fn moments(disk: &SimDisk) -> (Vec<CrashPoint>, bool) {
    let points = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&points);
    disk.on_op(move |disk, _| taken.lock().expect("one thread").push(disk.crash_point()));
    let opened = open_with(options().create(false), disk).is_ok();
    disk.clear_on_op();
    let mut points = std::mem::take(&mut *points.lock().expect("one thread"));
    points.push(disk.crash_point());
    (points, opened)
}

/// Crashes at every moment of the recovery, and again in the recovery from that, `depth` times in all. At each depth
/// but the first, one image in `sample` is followed.
pub fn crash_in_recovery(torn: &Torn, depth: u32, sample: u64, matrix: &mut Matrix) {
    let mut count = 0;
    follow(torn, &torn.disk, torn.expected().floor, depth, depth, sample, &mut count, matrix);
}

#[expect(clippy::too_many_arguments, reason = "a recursion with its books")]
fn follow(
    torn: &Torn,
    disk: &SimDisk,
    floor: Lsn,
    depth: u32,
    left: u32,
    sample: u64,
    count: &mut u64,
    matrix: &mut Matrix,
) {
    let row = format!("crash in recovery, depth {}", depth - left + 1);
    let (points, opened) = moments(&disk.crash_point().process_kill());
    if !opened {
        return matrix.judge(row, Err::<&str, _>(Violation::Wrong(format!("{}: it does not open", torn.name))));
    }
    for (number, point) in points.iter().enumerate() {
        let images = [
            point.process_kill(),
            point.power_loss(&Loss::Everything, Granularity::Sector),
            point.power_loss(&Loss::Nothing, Granularity::Sector),
            point.power_loss(&Loss::Seeded(number as u64), Granularity::Word),
        ];
        for (image, next) in images.into_iter().enumerate() {
            *count += 1;
            let expected = Expected { floor, ..torn.expected() };
            let followed = next.crash_point().process_kill();
            let result = guarded(|| match expected.open(&next)? {
                Opened::Holds(_, recovered) => Ok(recovered),
                Opened::Refused(error) => Err(Violation::Wrong(format!("a legal state is refused: {error:?}"))),
            });
            let place = || format!("{}, operation {number}, image {image}", torn.name);
            let recovered = *result.as_ref().unwrap_or(&floor);
            matrix.judge(&row, result.map(|_| "survived").map_err(|violation| violation.at(place())));
            if left > 1 && (*count).is_multiple_of(sample) {
                // What was recovered from the medium, and not from the cache, stays from here on.
                let floor = if image == 0 { floor } else { recovered };
                follow(torn, &followed, floor, depth, left - 1, sample, count, matrix);
            }
        }
    }
}

/// From the n-th operation of the recovery on the disk is full, for every n; then it has room again.
pub fn full_in_recovery(torn: &Torn, matrix: &mut Matrix) {
    for n in 0.. {
        let disk = torn.disk.crash_point().process_kill();
        for kind in [OpKind::Write, OpKind::Create, OpKind::SetLen, OpKind::Rename, OpKind::Sync, OpKind::SyncDir] {
            disk.inject(Fault::lasting(OpSelector::of(kind).skip(n), FaultKind::Errno(ENOSPC)));
        }
        let result = guarded(|| {
            let first = match torn.expected().open(&disk)? {
                Opened::Holds(..) => "survived",
                Opened::Refused(error) if error.kind() == ErrorKind::DiskFull => "typed error",
                Opened::Refused(error) => return Err(Violation::Wrong(format!("not said to be full: {error:?}"))),
            };
            disk.clear_faults();
            must_hold(torn, &disk)?;
            must_hold(torn, &disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector))?;
            Ok(first)
        });
        let place = format!("{}, operation {n}", torn.name);
        matrix.judge("disk full in recovery, then room", result.map_err(|violation| violation.at(place)));
        if disk.fault_hits() == 0 {
            return;
        }
    }
}

/// The n-th sync of the recovery fails, for every n; then the process is killed or the power cut.
pub fn failed_sync_in_recovery(torn: &Torn, matrix: &mut Matrix) {
    for pages in [Pages::KeepNew, Pages::RevertOld] {
        for kind in [OpKind::Sync, OpKind::SyncDir] {
            for n in 0.. {
                let disk = torn.disk.crash_point().process_kill();
                disk.inject(Fault::once(OpSelector::of(kind).skip(n), FaultKind::SyncFails { pages }));
                let first = open_with(options().create(false), &disk).map(drop);
                if disk.fault_hits() == 0 {
                    break;
                }
                let result = guarded(|| {
                    if first.as_ref().map_err(forelog::Error::kind) != Err(ErrorKind::Io) {
                        return Err(Violation::Wrong(format!("a failed sync in recovery, and {first:?}")));
                    }
                    let crash = disk.crash_point();
                    must_hold(torn, &crash.power_loss(&Loss::Everything, Granularity::Sector))?;
                    must_hold(torn, &crash.power_loss(&Loss::Nothing, Granularity::Sector))?;
                    // The cache is left as the failure left it: what is reported from it must be on the medium then.
                    must_hold(torn, &disk)?;
                    must_hold(torn, &disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector))?;
                    Ok("typed error")
                });
                let place = format!("{}, {pages:?}, {kind:?} {n}", torn.name);
                matrix.judge("failed sync in recovery, then a crash", result.map_err(|violation| violation.at(place)));
            }
        }
    }
}

/// One read of the recovery fails, for every read; the medium is sound the next time.
pub fn failed_read_in_recovery(torn: &Torn, matrix: &mut Matrix) {
    for n in 0.. {
        let disk = torn.disk.crash_point().process_kill();
        disk.inject(Fault::once(OpSelector::of(OpKind::Read).skip(n), FaultKind::Errno(EIO)));
        let result = guarded(|| {
            let first = match torn.expected().open(&disk)? {
                Opened::Holds(..) => "survived",
                Opened::Refused(error) if error.kind() == ErrorKind::Io => "typed error",
                Opened::Refused(error) => return Err(Violation::Wrong(format!("a failed read, and {error:?}"))),
            };
            disk.clear_faults();
            must_hold(torn, &disk)?;
            Ok(first)
        });
        let place = format!("{}, read {n}", torn.name);
        matrix.judge("failed read in recovery, then none", result.map_err(|violation| violation.at(place)));
        if disk.fault_hits() == 0 {
            return;
        }
    }
}

fn must_hold(torn: &Torn, disk: &SimDisk) -> Result<(), Violation> {
    match torn.expected().open(disk)? {
        Opened::Holds(..) => Ok(()),
        Opened::Refused(error) => Err(Violation::Wrong(format!("refused afterwards: {error:?}"))),
    }
}

/// A bit rots beside a torn tail: refused, or nothing is lost but what the tear took.
pub fn rot_beside_a_tear(torn: &Torn, mut pick: impl FnMut() -> usize, matrix: &mut Matrix) {
    let whole = torn.disk.crash_point();
    for (path, bytes) in files(&torn.disk) {
        let mut bit = pick() - 1;
        while bit < bytes.len() * 8 {
            let disk = whole.process_kill();
            disk.flip_bit(&path, bit as u64).expect("inside the file");
            let before = disk.image_hash();
            let expected = Expected { floor: torn.recovered, ..torn.expected() };
            let result = guarded(|| match expected.open(&disk)? {
                Opened::Holds(..) => Ok("harmless"),
                Opened::Refused(error) if error.kind() != ErrorKind::Damaged => {
                    Err(Violation::Wrong(format!("refused with {error:?}")))
                }
                Opened::Refused(_) if disk.image_hash() != before => {
                    Err(Violation::Wrong("the refusal changed a byte".into()))
                }
                Opened::Refused(_) => Ok("refused: damaged"),
            });
            let place = || format!("{}, bit {bit} of {}", torn.name, name_of(&path));
            matrix.judge("bit rot beside a torn tail", result.map_err(|violation| violation.at(place())));
            bit += pick();
        }
    }
}
