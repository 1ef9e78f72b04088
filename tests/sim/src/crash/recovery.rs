//! Crashes within recovery, and right after it: the next open must find what this one did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use forelog::sim::{CrashPoint, Granularity, Loss, SimDisk};
use forelog::{Engine, Lsn};

use super::check::{Crash, Expected};
use super::choices;
use super::report::{Kind, Tally, Trait};
use crashkit::{Random, judge};

/// The deepest crash: the third, in the recovery of a recovery.
const DEEPEST: usize = 3;
/// One of so many states of the depth before is crashed in again.
const DEEPER: usize = 24;

/// What an image was recovered to, and how much of it can still go.
pub struct Recovered<'a> {
    pub expected: &'a Expected<'a>,
    pub lsn: Lsn,
    /// What a power loss cannot take.
    pub certain: Lsn,
    /// Nothing was only in the cache of a machine that went on: the power failed since.
    pub settled: bool,
}

/// I10: crashes at every operation of the recovery of `image`, the `depth`-th crash of its database.
pub fn crash_in_recovery(
    image: &SimDisk,
    found: &Recovered<'_>,
    depth: usize,
    all: bool,
    tally: &mut Tally,
) -> Result<(), String> {
    let points = boundaries(image, found.expected)?;
    let mut known = HashMap::new();
    for (number, (point, op)) in points.iter().enumerate() {
        let mut random = Random::new(image.image_hash() ^ number as u64);
        tally.in_recovery[depth - 2] += 1;
        for crash in choices::in_recovery(point, all, &mut random) {
            let at = |error: String| format!("I10: crash {depth}, {op} of the recovery: {crash}: {error}");
            let settled = found.settled || crash != Crash::Kill;
            let floor = if found.settled || crash == Crash::Kill { found.lsn } else { found.certain };
            let judged = judge::Expected { floor, ceiling: found.lsn, crashed: None, ..found.expected.judged };
            let again = Expected { judged, ..*found.expected };
            let disk = crash.image(point);
            let hash = disk.image_hash();
            if let Some(recovered) = known.get(&hash) {
                judged.check_bound(*recovered).map_err(|violation| at(violation.to_string()))?;
                continue;
            }
            let (_, index) = again.check(&disk).map_err(at)?;
            let lsn = again.judged.history.lsns[index];
            known.insert(hash, lsn);
            tally.tokens += again.judged.tokens.len();
            tally.count(hash, Kind::InRecovery(depth), &Trait { recovering: true, ..Trait::default() });
            if depth < DEEPEST && random.one_in(DEEPER) {
                let certain = if settled { lsn } else { found.certain };
                let deeper = Recovered { expected: &again, lsn, certain, settled };
                crash_in_recovery(&crash.image(point), &deeper, depth + 1, false, tally).map_err(at)?;
            }
        }
    }
    Ok(())
}

/// The operations of the recovery of `image`.
fn boundaries(image: &SimDisk, expected: &Expected<'_>) -> Result<Vec<(CrashPoint, String)>, String> {
    let disk = image.crash_point().process_kill();
    let points = Arc::new(Mutex::new(Vec::new()));
    let collect = Arc::clone(&points);
    disk.on_op(move |disk, op| {
        let point = (disk.crash_point(), format!("{:?} op {} ({:?})", op.phase, op.number, op.kind));
        collect.lock().expect("nobody panics with the points in hand").push(point);
    });
    let opened = expected.open(&disk);
    disk.clear_on_op();
    drop(opened.map_err(|error| format!("REFUSED, a legal state: {error:?}"))?);
    let points = std::mem::take(&mut *points.lock().expect("nobody panics with the points in hand"));
    Ok(points)
}

/// I20: the power fails right after open has returned, and everything that it reported is still there.
pub fn check_reopen(disk: &SimDisk, expected: &Expected<'_>, recovered: Lsn, tally: &mut Tally) -> Result<(), String> {
    let after = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
    let hash = after.image_hash();
    check_once_more(&after, expected, recovered)
        .map_err(|error| format!("I20: after the power failed right after open: {error}"))?;
    tally.tokens += expected.judged.tokens.len();
    tally.count(hash, Kind::AfterOpen, &Trait::default());
    Ok(())
}

/// A close right after the open, whatever the crash had left to do, and another open: nothing is lost, and no crash is told.
pub fn check_close(engine: Engine, disk: &SimDisk, expected: &Expected<'_>, recovered: Lsn) -> Result<(), String> {
    engine.close().map_err(|error| format!("a close right after the open: {error:?}"))?;
    drop(engine);
    check_once_more(disk, expected, recovered).map_err(|error| format!("opened, closed, and opened again: {error}"))
}

/// An open behind one that reported everything up to `recovered` finds exactly that, and no crash.
fn check_once_more(disk: &SimDisk, expected: &Expected<'_>, recovered: Lsn) -> Result<(), String> {
    let judged = judge::Expected { floor: recovered, ceiling: recovered, crashed: Some(None), ..expected.judged };
    let (_, index) = Expected { judged, exists: true }.check(disk)?;
    let reported = judged.history.lsns[index];
    if reported == recovered { Ok(()) } else { Err(format!("{reported}, and {recovered} was reported before")) }
}
