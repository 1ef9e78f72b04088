//! Runs in which calls in `table/` fail, and nothing else: the log goes on, nothing is lost by any crash from then on, and
//! once the error is gone nothing is left of it (P1 to P7 of `table/FAULTS.md`).

use std::collections::HashMap;

use forelog::sim::{Fault, FaultKind, OpKind, OpSelector, Pages, SimDisk};

use super::case::Case;
use super::check::Crash;
use super::explore::{Explorer, crash_at};
use super::life::{Faults, Past, live};
use super::report::Tally;
use super::workload::Plan;
use crashkit::Random;

/// Which call fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct TableFault {
    op: OpKind,
    /// How the path ends.
    on: &'static str,
    /// After how many others.
    skip: u64,
    /// The system's number; a sync without one loses what it covered.
    errno: Option<i32>,
    lasting: bool,
    /// What a failed sync leaves in the cache.
    pages: Pages,
    /// The life ends with it, in doubt perhaps; otherwise it is over before a last checkpoint.
    pub stays: bool,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Refused: a rename that fails so has changed nothing.
const EACCES: i32 = 13;

impl TableFault {
    fn draw(random: &mut Random) -> Self {
        let file = random.pick(&["MANIFEST.tmp", ".run", ".keys"]);
        let (op, on, most) = match random.below(8) {
            0 => (OpKind::Create, file, 4),
            1 => (OpKind::Write, file, 6),
            2 | 3 => (OpKind::Sync, file, 4),
            4 => (OpKind::Rename, "MANIFEST.tmp", 4),
            5 => (OpKind::Remove, file, 6),
            _ => (OpKind::SyncDir, "table", 8),
        };
        let is_sync = matches!(op, OpKind::Sync | OpKind::SyncDir);
        let errno = if is_sync { None } else { Some(random.pick(&[EIO, ENOSPC, EACCES])) };
        let pages = random.pick(&[Pages::KeepNew, Pages::RevertOld]);
        TableFault {
            op,
            on,
            skip: random.below(most) as u64,
            errno,
            lasting: random.one_in(3),
            pages,
            stays: random.one_in(2),
        }
    }

    pub fn fault(&self) -> Fault {
        let kind = self.errno.map_or(FaultKind::SyncFails { pages: self.pages }, FaultKind::Errno);
        let at = OpSelector::of(self.op).on(self.on).skip(self.skip);
        if self.lasting { Fault::lasting(at, kind) } else { Fault::once(at, kind) }
    }
}

/// A life that ends well; one in which calls fail, all of whose crash states are explored; and one that must find nothing
/// to do.
pub fn run_with_failing_tables(case: &Case, tally: &mut Tally) -> Result<(), String> {
    let first = case.first_life();
    let mut random = Random::new(!first);
    let plan = |random: &mut Random, life| Plan {
        keep: case.keep.clone(),
        clients: random.between(1, 3),
        segment_bytes: 4096,
        stalls: Vec::new(),
        tables_fail: true,
        records: (life == 1 && first.is_multiple_of(3)).then_some(0),
        ..Plan::draw(random, life)
    };
    let (good, faulty) = (plan(&mut random, 0), plan(&mut random, 1));
    let after = Plan { clients: 0, ..plan(&mut random, 2) };
    let good = live(first, &SimDisk::new(), &Past::default(), good, Faults::None)?;
    let (disk, past) = crash_at(&good, good.cuts.last().expect("never empty"), &Crash::Kill)?;
    let fault = TableFault::draw(&mut random);
    let in_run = |error| format!("{fault:?}: {error}");
    let life = live(first + 1, &disk, &past, faulty, Faults::Table(fault)).map_err(in_run)?;
    tally.struck.failures += usize::from(disk.fault_hits() > 0);
    if life.poison.is_some() {
        return Err(in_run("P3: the log has stopped".to_owned()));
    }
    Explorer { crashed_again: 40, ..Explorer::of(&life, &past, case, tally) }
        .explore(&mut HashMap::new())
        .map_err(in_run)?;
    if fault.stays {
        tally.runs += 1;
        return Ok(());
    }
    // P5: what it left behind the last attempt has removed, or the open that comes would (I14).
    let (disk, mut past) = crash_at(&life, life.cuts.last().expect("never empty"), &Crash::Kill).map_err(in_run)?;
    // Step 13 is not the first thing of an attempt yet: what could not be removed may stay for the open.
    past.is_named &= fault.op != OpKind::Remove;
    live(first + 2, &disk, &past, after, Faults::None).map_err(in_run)?;
    tally.runs += 1;
    Ok(())
}
