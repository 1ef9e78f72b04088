//! Runs in which an fsync fails: everybody gets a verdict, nothing is acknowledged as durable any more, reads go on,
//! and reopening settles what was in doubt, for good.

use std::collections::HashMap;

use forelog::Outcome;
use forelog::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, SimDisk};

use super::case::Case;
use super::check::{Crash, Expected};
use super::explore::{Explorer, crash_at};
use super::life::{Faults, Life, Past, live};
use super::recovery::check_reopen;
use super::report::Tally;
use super::workload::Plan;
use crashkit::Random;

/// A life that ends well, and one with a failed fsync, all of whose crash states are explored.
pub fn run_with_failure(case: &Case, tally: &mut Tally) -> Result<(), String> {
    let first = case.first_life();
    let mut random = Random::new(!first);
    // The ledger alone must know the commit order, so that no keyspace may be created in the second life.
    let plan = |random: &mut Random, life| Plan {
        keep: case.keep.clone(),
        churn: false,
        stalls: Vec::new(),
        ..Plan::draw(random, life)
    };
    let good = Plan { steps: 2, ..plan(&mut random, 0) };
    let faulty = plan(&mut random, 1);
    let good = live(first, &SimDisk::new(), &Past::default(), good, Faults::None)?;
    let end = good.cuts.last().expect("never empty");
    let (disk, past) = crash_at(&good, end, &Crash::Kill)?;
    let faults = inject(&disk, &mut random);
    let in_run = |error| format!("{faults:?}: {error}");
    let life = live(first + 1, &disk, &past, faulty, faults).map_err(in_run)?;
    let struck = disk.fault_hits() > 0;
    tally.struck.failures += usize::from(struck);
    if struck && life.poison.is_none() && matches!(faults, Faults::Log { .. }) {
        return Err(in_run("I11: it struck, and the engine went on".to_owned()));
    }
    Explorer::of(&life, &past, case, tally).explore(&mut HashMap::new()).map_err(in_run)?;
    if life.poison.is_some() {
        settle(&life, tally).map_err(in_run)?;
    }
    tally.runs += 1;
    Ok(())
}

/// Mostly an fsync of the log; now and then any other, or one of the directory.
fn inject(disk: &SimDisk, random: &mut Random) -> Faults {
    let pages = random.pick(&[Pages::KeepNew, Pages::RevertOld]);
    let (kind, most) = match random.below(8) {
        0 => (OpKind::SyncDir, 6),
        1 => (OpKind::Sync, 20),
        _ => return Faults::Log { segment: random.below(2), skip: random.below(6) as u64, pages },
    };
    let skip = random.below(most) as u64;
    disk.inject(Fault::once(OpSelector::of(kind).skip(skip), FaultKind::SyncFails { pages }));
    Faults::Injected(pages)
}

/// The database is opened again after the failure: with the kernel's cache as the failure left it, with the cache
/// dropped, and after a power loss. Each answer must outlive a power loss right after it was given.
fn settle(life: &Life, tally: &mut Tally) -> Result<(), String> {
    let cut = life.cuts.last().expect("never empty");
    let view = &life.told;
    let kept = cut.crash.process_kill();
    let dropped = cut.crash.process_kill();
    dropped.drop_caches();
    let power = cut.crash.power_loss(&Loss::Nothing, Granularity::Sector);
    let lost = Crash::everything_lost();
    for (name, disk, crash) in
        [("reopened", kept, &Crash::Kill), ("cache dropped", dropped, &lost), ("power lost", power, &lost)]
    {
        let in_case = |error| format!("after the failure, {name}: {error}");
        let expected = Expected::after(life, cut, view, crash);
        let (engine, index) = expected.check(&disk).map_err(in_case)?;
        for commit in view.life().commits.values() {
            let Some(token) = commit.token.filter(|token| token.lsn > view.durable()) else { continue };
            let settled = engine.outcome(&token).map_err(|error| error.to_string())?;
            tally.struck.settled_durable += usize::from(settled == Outcome::Durable);
            tally.struck.settled_lost += usize::from(settled == Outcome::Lost);
        }
        check_reopen(&disk, &expected, life.history.lsns[index], tally).map_err(in_case)?;
    }
    tally.struck.poisoned += 1;
    Ok(())
}
