//! All the crash states of a life: each crash point, with many choices of what of the pending changes landed.

use std::collections::{BTreeSet, HashMap};

use forelog::sim::{Granularity, Loss, Persona, SimDisk};
use forelog::{CommitMode, Lsn};

use super::backups;
use super::case::{Case, Depth, Focus};
use super::check::{Crash, Expected, Opened, Power};
use super::choices::{self, Interest};
use super::life::{Cut, Faults, Life, Past, Place, live};
use super::notes::{View, Writes};
use super::recovery::{Recovered, check_close, check_reopen, crash_in_recovery};
use super::report::{Kind, Tally, Trait};
use super::workload::Plan;
use crashkit::event::Name;
use crashkit::ledger::{Commit, Ending};
use crashkit::model::Write;
use crashkit::{Random, mode_name};

/// For one of so many states the power fails again right after open; for one of so many there is a second crash at
/// every operation of the recovery.
const REOPENED: usize = 12;
const CRASHED_AGAIN: usize = 160;
/// For one of so many states outside of a backup the backups are looked at.
const BACKUPS: usize = 16;
/// One of so many databases is closed right after its open; four times as many where a call in `table/` was cut off.
const CLOSED: usize = 32;

/// Explores one run: a database that lives one to four times, each life on a disk that a crash of the one before left.
pub fn explore_run(case: &Case, tally: &mut Tally) -> Result<(), String> {
    explore_lives(case, tally, Plan::draw)
}

/// The same with more checkpoints, with backups, and with memory that forgets all it can or some of it.
pub fn explore_forgetful_run(case: &Case, tally: &mut Tally) -> Result<(), String> {
    let plan = |random: &mut Random, life| {
        let plan = Plan::draw(random, life);
        let records = if random.one_in(4) { None } else { Some(random.pick(&[0, 0, 24 << 10])) };
        Plan { records, backups: records.is_none() || random.one_in(3), ..plan }
    };
    explore_lives(case, tally, plan)
}

fn explore_lives(case: &Case, tally: &mut Tally, draw: impl Fn(&mut Random, u64) -> Plan) -> Result<(), String> {
    let first = case.first_life();
    let mut random = Random::new(!first);
    let (mut disk, mut past) = (SimDisk::new(), Past::default());
    for number in 0..random.pick(&[1, 1, 2, 2, 3, 4]) {
        let plan = Plan { keep: case.keep.clone(), ..draw(&mut random, number) };
        let mut ending = Random::new(random.next());
        let at_life = |error| format!("life {number}: {error}");
        let life = live(first + number, &disk, &past, plan, Faults::None).map_err(at_life)?;
        Explorer::of(&life, &past, case, tally).explore(&mut HashMap::new()).map_err(at_life)?;
        (disk, past) = crash_somewhere(&life, &mut ending).map_err(at_life)?;
    }
    tally.runs += 1;
    Ok(())
}

/// How far images were recovered, by hash.
pub type Known = HashMap<u64, Lsn>;

/// All crash points of a life.
pub struct Explorer<'a> {
    pub life: &'a Life,
    pub past: &'a Past,
    pub case: &'a Case,
    pub tally: &'a mut Tally,
    /// The first crash points are those of another life, too, that was explored.
    pub skip: usize,
    /// The medium breaks its assumptions: see [`lenient`](crashkit::judge::Expected::lenient).
    pub lenient: bool,
    /// For one of so many states there are crashes in its recovery.
    pub crashed_again: usize,
}

impl<'a> Explorer<'a> {
    pub fn of(life: &'a Life, past: &'a Past, case: &'a Case, tally: &'a mut Tally) -> Self {
        Explorer { life, past, case, tally, skip: 0, lenient: false, crashed_again: CRASHED_AGAIN }
    }

    pub fn explore(mut self, known: &mut Known) -> Result<(), String> {
        self.tally.lives += 1;
        self.tally.snapshots += self.life.snapshots;
        for number in self.skip..self.life.cuts.len() {
            if !self.case.looks_at(self.life.plan.life, number) {
                continue;
            }
            let cut = &self.life.cuts[number];
            let view = self.life.at(cut.moment);
            let mut point = Point { of: &mut self, number, cut, view, crowded: false, modes: BTreeSet::new() };
            point.explore(known)?;
            self.tally.cuts += 1;
        }
        self.tally.boundaries += (self.life.boundaries + ENDS).saturating_sub(self.skip);
        Ok(())
    }
}

/// Crash points that are no operation: at rest, and after the close.
const ENDS: usize = 2;

/// A crash point with what was known at that moment.
struct Point<'a, 'b> {
    of: &'b mut Explorer<'a>,
    number: usize,
    cut: &'a Cut,
    view: View,
    /// Three or more clients were committing in mixed modes, and a flush was in flight.
    crowded: bool,
    /// The modes of the commits that were not durable.
    modes: BTreeSet<&'static str>,
}

impl Point<'_, '_> {
    fn explore(&mut self, known: &mut Known) -> Result<(), String> {
        if let Some(focus) = &self.of.case.focus {
            return self.try_crash(&focus.crash.clone(), known).map(drop);
        }
        let durable = self.try_crash(&Crash::everything_lost(), known)?;
        self.look_at_commits(durable)?;
        for crash in self.crashes() {
            self.try_crash(&crash, known)?;
        }
        Ok(())
    }

    /// Who was committing: inside a call, or with an acknowledged commit that a power loss would have taken. And what
    /// the loss would have taken of what was acknowledged must be within the budget (I5).
    fn look_at_commits(&mut self, durable: Lsn) -> Result<(), String> {
        let at_risk: Vec<(&Name, &Commit<Writes>)> = self.view.life().acknowledged().collect();
        let not_durable = |commit: &Commit<Writes>| commit.mode != CommitMode::Sync && commit.lsn > Some(durable);
        let at_risk: Vec<_> = at_risk.into_iter().filter(|(_, commit)| not_durable(commit)).collect();
        let in_call = || self.view.life().commits.iter().filter(|(_, commit)| !commit.returned);
        let committing = || in_call().chain(at_risk.iter().copied());
        self.modes = committing().map(|(_, commit)| mode_name(commit.mode)).collect();
        let clients: BTreeSet<u32> = committing().map(|(name, _)| name.client).collect();
        self.crowded = self.cut.flushing && clients.len() >= 3 && self.modes.len() >= 2;
        if self.of.lenient {
            return Ok(());
        }
        let budget = self.of.life.plan.budget;
        let bytes: u64 = at_risk.iter().map(|(_, commit)| log_bytes(&commit.work)).sum();
        let times = || at_risk.iter().map(|(name, _)| self.of.life.acknowledged(name));
        let age = times().max().unwrap_or_default().saturating_sub(times().min().unwrap_or_default());
        let too_many = at_risk.len() as u64 > budget.max_commits;
        // One larger transaction is admitted alone.
        let too_large = at_risk.len() > 1 && bytes > budget.max_bytes;
        if too_many || too_large || age > budget.max_age {
            let error = format!(
                "I5: a power loss would take {} commits, {bytes} bytes, {age:?}; the budget is {budget:?}",
                at_risk.len()
            );
            return Err(self.failed(&Crash::everything_lost(), &error));
        }
        self.of.tally.window.note(at_risk.len() as u64, bytes, age, &budget);
        Ok(())
    }

    /// What may be lost here, besides everything pending.
    fn crashes(&self) -> Vec<Crash> {
        let interest = match self.cut {
            _ if self.crowded => Interest::Crowded,
            Cut { flushing: true, .. } | Cut { dirty: true, .. } => Interest::Busy,
            _ if self.view.life().opened.is_none() => Interest::Busy,
            _ => Interest::Quiet,
        };
        let mut random = Random::new(self.of.case.first_life() ^ ((self.number as u64) << 32));
        let point = &self.cut.crash;
        let mut crashes = choices::in_life(point, interest, self.of.case.depth, &mut random);
        if self.of.lenient {
            crashes.extend(choices::torn_anywhere(point, 8, &mut random));
        }
        crashes
    }

    fn try_crash(&mut self, crash: &Crash, known: &mut Known) -> Result<Lsn, String> {
        self.check_crash(crash, known).map_err(|error| self.failed(crash, &error))
    }

    /// Opens what the crash leaves, if it was not opened before; returns the LSN it was recovered to.
    fn check_crash(&mut self, crash: &Crash, known: &mut Known) -> Result<Lsn, String> {
        let Explorer { life, past, lenient, .. } = *self.of;
        let mut expected = Expected::after(life, self.cut, &self.view, crash);
        expected.judged.lenient = lenient;
        let disk = crash.image(&self.cut.crash);
        let hash = disk.image_hash();
        self.of.tally.note_persona(crash);
        if let Some(recovered) = known.get(&hash).copied() {
            // The same image, and perhaps more was promised meanwhile.
            self.of.tally.repeated += 1;
            expected.judged.check_bound(recovered).map_err(|violation| violation.to_string())?;
            return Ok(recovered);
        }
        let opened = expected.try_check(&disk)?;
        let recovering = self.view.life().opened.is_none() && past.ledger.exists;
        let traits = Trait {
            crowded: self.crowded,
            recovering,
            in_table: self.cut.place == Place::Table,
            in_backup: self.cut.place == Place::Backup,
            forgetful: life.forgot,
            modes: self.modes.clone(),
        };
        self.of.tally.tokens += expected.judged.tokens.len();
        let (engine, index) = match opened {
            Opened::With(engine, index) => (engine, index),
            Opened::Refused => {
                self.of.tally.detected += 1;
                self.of.tally.count(hash, Kind::of(crash, lenient), &traits);
                return Ok(Lsn::ZERO);
            }
        };
        let recovered = life.history.lsns[index];
        known.insert(hash, recovered);
        self.of.tally.count(hash, Kind::of(crash, lenient), &traits);
        let mut random = Random::new(hash);
        let killed = *crash == Crash::Kill;
        let focused = self.of.case.focus.is_some();
        // What was only in the cache is the harder half of it.
        let reopened = random.one_in(if killed { 2 } else { REOPENED }) || killed && self.cut.failed || focused;
        // What a sync has lied about is in the cache still, and may go.
        if reopened && !(lenient && killed) {
            check_reopen(&disk, &expected, recovered, self.of.tally)?;
        }
        if life.plan.backups && (focused || self.cut.place == Place::Backup || random.one_in(BACKUPS)) {
            self.of.tally.backups += backups::check(&disk, &self.view, &life.history)?;
        }
        let often = if self.cut.place == Place::Table { CLOSED / 4 } else { CLOSED };
        if focused || random.one_in(often) {
            check_close(engine, &disk, &expected, recovered)?;
            self.of.tally.closed += 1;
        }
        if !lenient && (focused || random.one_in(self.of.crashed_again)) {
            let certain = match crash {
                Crash::Kill => self.view.durable(),
                Crash::Power(_) => recovered,
            };
            let found = Recovered { expected: &expected, lsn: recovered, certain, settled: !killed };
            let all = focused || self.of.crashed_again < CRASHED_AGAIN || self.of.case.depth == Depth::Full;
            crash_in_recovery(&crash.image(&self.cut.crash), &found, 2, all, self.of.tally)?;
        }
        Ok(recovered)
    }

    /// Notes where it failed, so that it can be reduced.
    fn failed(&mut self, crash: &Crash, error: &str) -> String {
        let crash = crash.by_atoms(&self.cut.crash);
        let text = format!("{}: {crash}: {error}", self.cut.op);
        self.of.tally.failure = Some(Focus { life: self.of.life.plan.life, cut: self.number, crash });
        text
    }
}

/// Lets the life end in one of its crashes; returns the disk, and what the next life must find on it.
pub fn crash_somewhere(life: &Life, random: &mut Random) -> Result<(SimDisk, Past), String> {
    let any = random.below(life.cuts.len());
    let cut = &life.cuts[if random.one_in(8) { life.cuts.len() - 1 } else { any }];
    let seeded = |unit, seed| Crash::Power(Power { persona: Persona::ALL[0], unit, loss: Loss::Seeded(seed) });
    let crash = match random.below(5) {
        0 | 1 => Crash::Kill,
        2 => seeded(Granularity::Word, random.next()),
        _ => seeded(Granularity::Sector, random.next()),
    };
    crash_at(life, cut, &crash).map_err(|error| format!("{}: {crash}: {error}", cut.op))
}

/// The same for a chosen crash.
pub fn crash_at(life: &Life, cut: &Cut, crash: &Crash) -> Result<(SimDisk, Past), String> {
    let mut view = life.at(cut.moment);
    let expected = Expected::after(life, cut, &view, crash);
    let (engine, recovered) = expected.check(&crash.image(&cut.crash))?;
    drop(engine);
    let history = &life.history;
    let crashed = view.crashed();
    let (answered, clean) = (view.life().opened.is_some(), view.life().closed && *crash == Crash::Kill);
    let is_named = view.life().incarnation.is_some();
    view.look(if *crash == Crash::Kill { Ending::Process } else { Ending::Power }, history.lsns[recovered]);
    // What is only in the cache may still go, by a power loss before the next open has returned.
    let certain = history.index_of(view.durable());
    view.forget(history.lsns[certain]);
    let next = Past {
        ledger: view,
        base: history.states[certain].clone(),
        base_lsn: history.lsns[certain],
        answered,
        // A power loss may undo what the process before had done and not synced, such as the cut of an old segment.
        clean,
        is_named,
        crashed,
        names: life.names.clone(),
    };
    Ok((crash.image(&cut.crash), next))
}

/// What a commit takes in the log, at least.
fn log_bytes(writes: &[Write]) -> u64 {
    let frame = 32;
    let bytes = writes.iter().map(|write| match write {
        Write::Put(_, key, value) => key.len() + value.len(),
        Write::Delete(_, key) => key.len(),
        Write::DeleteRange(_, from, to) => from.len() + to.as_ref().map_or(0, |to| to.len()),
        Write::Create(name) | Write::Drop(name) => name.len().min(1),
    });
    frame + bytes.sum::<usize>() as u64
}
