//! All the crash states of a life: each crash point, with many choices of what of the pending changes landed.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use forelog::Lsn;
use forelog::sim::{Granularity, Loss, SimDisk};

use super::check::{Crash, Expected};
use super::ledger::View;
use super::life::{Cut, Faults, Life, Past, live, mode_name};
use super::model::Write;
use super::report::{Kind, Tally};
use super::workload::Plan;
use crate::support::Random;

/// Up to this many sectors and names, every subset of them is tried.
const EXHAUSTIVE: usize = 6;
/// For one of so many states the power fails again right after open; for one of so many there is a second crash at
/// every operation of the recovery.
const REOPENED: usize = 12;
const CRASHED_AGAIN: usize = 120;

/// Explores one run: a database that lives one to four times, each life on a disk that a crash of the one before left.
pub(crate) fn explore_run(seed: u64, run: u64, tally: &mut Tally) -> Result<(), String> {
    let first = seed.wrapping_add(run << 4);
    let mut random = Random::new(!first);
    let (mut disk, mut past) = (SimDisk::new(), Past::default());
    for number in 0..random.pick(&[1, 1, 2, 2, 3, 4]) {
        let plan = Plan::draw(&mut random, number);
        let at_life = |error| format!("life {number}: {error}");
        let life = live(first + number, &disk, &past, plan, Faults::None).map_err(at_life)?;
        explore_life(&life, &past, &mut random, tally).map_err(at_life)?;
        (disk, past) = crash_somewhere(&life, &past, &mut random).map_err(at_life)?;
    }
    tally.runs += 1;
    Ok(())
}

/// Every crash point of a life.
pub(crate) fn explore_life(life: &Life, past: &Past, random: &mut Random, tally: &mut Tally) -> Result<(), String> {
    tally.lives += 1;
    tally.cuts += life.cuts.len();
    let mut known = HashMap::new();
    for cut in &life.cuts {
        let view = life.pages.at(cut.moment);
        let mut point = Point { life, past, cut, view, crowded: false, modes: BTreeSet::new() };
        point.explore(&mut known, random, tally)?;
    }
    Ok(())
}

/// A crash point with what was known at that moment.
struct Point<'a> {
    life: &'a Life,
    past: &'a Past,
    cut: &'a Cut,
    view: View,
    /// Three or more clients were committing in mixed modes, and a flush was in flight.
    crowded: bool,
    /// The modes of the commits that were not durable.
    modes: BTreeSet<&'static str>,
}

impl Point<'_> {
    /// `known` says how far the images seen in this life were recovered.
    fn explore(&mut self, known: &mut HashMap<u64, Lsn>, random: &mut Random, tally: &mut Tally) -> Result<(), String> {
        let worst = Crash::Power(Loss::Everything, Granularity::Sector);
        let durable = self.try_crash(&worst, known, random, tally)?;
        self.look_at_commits(durable, tally)?;
        for crash in self.crashes(random) {
            self.try_crash(&crash, known, random, tally)?;
        }
        Ok(())
    }

    /// Who was committing: inside a call, or with an acknowledged commit that a power loss would have taken. And what
    /// the loss would have taken of what was acknowledged must be within the budget (I5).
    fn look_at_commits(&mut self, durable: Lsn, tally: &mut Tally) -> Result<(), String> {
        let commits = &self.life.pages.commits;
        let acknowledged = self.view.at_risk.iter().map(|index| &commits[*index]);
        let at_risk: Vec<_> = acknowledged.filter(|commit| commit.lsn > Some(durable)).collect();
        let committing = || self.view.in_call.iter().map(|index| &commits[*index]).chain(at_risk.iter().copied());
        self.modes = committing().map(|commit| mode_name(commit.mode)).collect();
        let clients: BTreeSet<usize> = committing().map(|commit| commit.client).collect();
        self.crowded = self.cut.flushing && clients.len() >= 3 && self.modes.len() >= 2;
        let budget = self.life.plan.budget;
        let bytes: u64 = at_risk.iter().map(|commit| log_bytes(&commit.writes)).sum();
        let times = || at_risk.iter().map(|commit| commit.acknowledged);
        let age = times().max().unwrap_or_default().saturating_sub(times().min().unwrap_or_default());
        let too_many = at_risk.len() as u64 > budget.max_commits;
        // One larger transaction is admitted alone.
        let too_large = at_risk.len() > 1 && bytes > budget.max_bytes;
        if too_many || too_large || age > budget.max_age {
            return Err(self.place(&format!(
                "I5: a power loss would take {} commits, {bytes} bytes, {age:?}; the budget is {budget:?}",
                at_risk.len()
            )));
        }
        tally.window.note(at_risk.len() as u64, bytes, age, &budget);
        Ok(())
    }

    /// What may be lost here, besides everything pending.
    fn crashes(&self, random: &mut Random) -> Vec<Crash> {
        let (sector, word) = (Granularity::Sector, Granularity::Word);
        let atoms = self.cut.crash.atoms(sector);
        let mut crashes = vec![Crash::Kill];
        if atoms == 0 {
            return crashes;
        }
        if atoms <= EXHAUSTIVE {
            let landed = |chosen: usize| (0..atoms).map(|atom| chosen & (1 << atom) != 0).collect();
            crashes.extend((1..1 << atoms).map(|chosen| Crash::Power(Loss::AllBut(landed(chosen)), sector)));
            crashes.extend((0..3).map(|_| Crash::Power(Loss::Seeded(random.next()), word)));
            return crashes;
        }
        crashes.push(Crash::Power(Loss::Nothing, sector));
        // A segment that is being prepared, and nothing else, is many atoms and little to learn from.
        let (missing, seeded) = match self.cut {
            _ if self.crowded => (12, 30),
            Cut { flushing: true, .. } | Cut { dirty: true, .. } => (6, 3),
            _ if !self.view.opened => (6, 3),
            _ => (1, 1),
        };
        for _ in 0..missing {
            let missing = random.below(atoms);
            let landed = (0..atoms).map(|atom| atom != missing).collect();
            crashes.push(Crash::Power(Loss::AllBut(landed), sector));
        }
        for _ in 0..seeded {
            crashes.push(Crash::Power(Loss::Seeded(random.next()), sector));
            crashes.push(Crash::Power(Loss::Seeded(random.next()), word));
        }
        crashes
    }

    /// Opens what the crash leaves, if it was not opened before; returns the LSN it was recovered to.
    fn try_crash(
        &self,
        crash: &Crash,
        known: &mut HashMap<u64, Lsn>,
        random: &mut Random,
        tally: &mut Tally,
    ) -> Result<Lsn, String> {
        let at_crash = |error: String| self.place(&format!("{crash}: {error}"));
        let expected = Expected::after(self.life, self.past, self.cut, &self.view, crash);
        let disk = crash.image(self.cut);
        let hash = disk.image_hash();
        if let Some(recovered) = known.get(&hash) {
            // The same image, and perhaps more was promised meanwhile.
            tally.repeated += 1;
            expected.check_bound(*recovered).map_err(at_crash)?;
            return Ok(*recovered);
        }
        let (engine, index) = expected.check(&disk).map_err(at_crash)?;
        let recovered = self.life.history.lsns[index];
        known.insert(hash, recovered);
        tally.tokens += expected.asked();
        let recovering = !self.view.opened && self.past.exists;
        tally.count(hash, Kind::of(crash), self.crowded, recovering, &self.modes);
        // What was only in the cache is the harder half of it.
        let killed = *crash == Crash::Kill;
        if random.one_in(if killed { 2 } else { REOPENED }) || killed && self.cut.failed {
            check_reopen(&disk, &expected, recovered, tally).map_err(at_crash)?;
        }
        drop(engine);
        if random.one_in(CRASHED_AGAIN) {
            self.crash_again(crash, &expected, recovered, random, tally).map_err(at_crash)?;
        }
        Ok(recovered)
    }

    /// I10: crashes at every operation of the recovery; the next one must find what this one did.
    fn crash_again(
        &self,
        first: &Crash,
        expected: &Expected<'_>,
        recovered: Lsn,
        random: &mut Random,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let disk = first.image(self.cut);
        let points = Arc::new(Mutex::new(Vec::new()));
        let collect = Arc::clone(&points);
        disk.on_op(move |disk, op| {
            let point = (disk.crash_point(), format!("{:?} op {} ({:?})", op.phase, op.number, op.kind));
            collect.lock().expect("nobody panics with the points in hand").push(point);
        });
        drop(expected.open(&disk)?);
        disk.clear_on_op();
        let points = std::mem::take(&mut *points.lock().expect("nobody panics with the points in hand"));
        for (point, op) in points {
            let seeded = |granularity, random: &mut Random| Crash::Power(Loss::Seeded(random.next()), granularity);
            let crashes = [
                Crash::Kill,
                Crash::Power(Loss::Everything, Granularity::Sector),
                seeded(Granularity::Sector, random),
                seeded(Granularity::Word, random),
            ];
            for second in crashes {
                // What was in the cache of the machine that went on may go with its power.
                let in_doubt = *first == Crash::Kill && second != Crash::Kill;
                let floor = if in_doubt { second.floor(self.past, &self.view, false) } else { recovered };
                let disk = second.image_of(&point);
                let hash = disk.image_hash();
                let again = Expected { floor, ceiling: recovered, crashed: None, ..*expected };
                again.check(&disk).map_err(|error| format!("I10: {op} of the recovery: {second}: {error}"))?;
                tally.count(hash, Kind::InRecovery, false, true, &BTreeSet::new());
            }
        }
        Ok(())
    }

    fn place(&self, error: &str) -> String {
        format!("{}: {error}", self.cut.op)
    }
}

/// I20 and I10: the power fails right after open has returned, and everything that it reported is still there.
pub(crate) fn check_reopen(
    disk: &SimDisk,
    expected: &Expected<'_>,
    recovered: Lsn,
    tally: &mut Tally,
) -> Result<(), String> {
    let after = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
    let hash = after.image_hash();
    let again = Expected { floor: recovered, ceiling: recovered, exists: true, crashed: Some(None), ..*expected };
    again.check(&after).map_err(|error| format!("I20: after the power failed right after open: {error}"))?;
    tally.count(hash, Kind::AfterOpen, false, false, &BTreeSet::new());
    Ok(())
}

/// Lets the life end in one of its crashes; returns the disk, and what the next life must find on it.
pub(crate) fn crash_somewhere(life: &Life, past: &Past, random: &mut Random) -> Result<(SimDisk, Past), String> {
    let any = random.below(life.cuts.len());
    let cut = &life.cuts[if random.one_in(8) { life.cuts.len() - 1 } else { any }];
    let crash = match random.below(5) {
        0 | 1 => Crash::Kill,
        2 => Crash::Power(Loss::Seeded(random.next()), Granularity::Word),
        _ => Crash::Power(Loss::Seeded(random.next()), Granularity::Sector),
    };
    crash_at(life, past, cut, &crash).map_err(|error| format!("{}: {crash}: {error}", cut.op))
}

/// The same for a chosen crash.
pub(crate) fn crash_at(life: &Life, past: &Past, cut: &Cut, crash: &Crash) -> Result<(SimDisk, Past), String> {
    let view = life.pages.at(cut.moment);
    let expected = Expected::after(life, past, cut, &view, crash);
    let (engine, recovered) = expected.check(&crash.image(cut))?;
    drop(engine);
    let history = &life.history;
    // What is only in the cache may still go, by a power loss before the next open has returned.
    let certain = match crash {
        Crash::Kill => {
            let worst = Crash::Power(Loss::Everything, Granularity::Sector);
            history.index_of(worst.floor(past, &view, cut.failed))
        }
        Crash::Power(..) => recovered,
    };
    let all = past.tokens.iter().chain(&view.tokens).copied();
    let (tokens, lost): (Vec<_>, Vec<_>) = all.partition(|token| token.lsn <= history.lsns[recovered]);
    let next = Past {
        base: history.states[certain].clone(),
        base_lsn: history.lsns[certain],
        in_doubt: history.commits[certain..recovered].to_vec(),
        tokens,
        lost: past.lost.iter().copied().chain(lost).collect(),
        exists: expected.exists,
        answered: view.opened,
        // A power loss may undo what the process before had done and not synced, such as the cut of an old segment.
        clean: view.closed && *crash == Crash::Kill,
    };
    Ok((crash.image(cut), next))
}

/// What a commit takes in the log, at least.
fn log_bytes(writes: &[Write]) -> u64 {
    let frame = 32;
    let bytes = writes.iter().map(|write| match write {
        Write::Put(_, key, value) => key.len() + value.len(),
        Write::Delete(_, key) => key.len(),
        Write::Create(name) | Write::Drop(name) => name.len().min(1),
    });
    frame + bytes.sum::<usize>() as u64
}
