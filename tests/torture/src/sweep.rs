//! The sweeps: every place of every script, every error at every call, recovery upon recovery, and chance.

use std::time::{Duration, Instant};

use forelog::CommitMode;
use indicatif::ProgressBar;

use super::cgroup;
use super::check;
use super::check::AfterLie;
use super::fate::{Call, Case, Death, Fate, Fault, Lie, Step};
use super::life::{Lived, Subject, Trouble};
use super::script::{MODES, Modes, Script, WITHIN};
use super::tally::{Covered, Tally};
use crate::workspace::Workspace;
use crashkit::mix;

const PAGE: u64 = 4096;
/// The calls that fail, and how.
const ERRORS: [(Call, Fault); 22] = [
    (Call::Fdatasync, Fault::Eio),
    (Call::Fdatasync, Fault::NoSpace),
    (Call::Fdatasync, Fault::Interrupted),
    (Call::StartWriteback, Fault::Eio),
    (Call::StartWriteback, Fault::Interrupted),
    (Call::Fsync, Fault::Eio),
    (Call::Fsync, Fault::NoSpace),
    (Call::Fsync, Fault::Interrupted),
    (Call::Pwrite, Fault::Eio),
    (Call::Pwrite, Fault::NoSpace),
    (Call::Pwrite, Fault::Short),
    (Call::Pwrite, Fault::Hundred),
    (Call::Pwrite, Fault::Interrupted),
    (Call::Open, Fault::NoFiles),
    (Call::Open, Fault::Interrupted),
    (Call::Rename, Fault::Eio),
    (Call::Rename, Fault::NoSpace),
    (Call::Unlink, Fault::Eio),
    (Call::Ftruncate, Fault::Eio),
    (Call::Mkdir, Fault::NoSpace),
    (Call::Submit, Fault::Eio),
    (Call::Submit, Fault::Interrupted),
];
/// How many calls after a lie the process is killed; the last is more than there are.
const AFTER_A_LIE: [u64; 4] = [1, 3, 10, 10_000];
/// A database lives so often, then a new one is begun.
const LIVES: u64 = 12;

/// The parts of a torture, each with its share of the time in percent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Boundaries,
    Recovery,
    Errors,
    Lies,
    Deaths,
    Random,
}

impl Part {
    pub(super) const ALL: [(Part, &'static str, u32); 6] = [
        (Part::Boundaries, "boundaries", 35),
        (Part::Recovery, "recovery", 15),
        (Part::Errors, "errors", 15),
        (Part::Lies, "lies", 10),
        (Part::Deaths, "deaths", 10),
        (Part::Random, "random", 15),
    ];

    pub(super) fn is_traced(self) -> bool {
        matches!(self, Part::Boundaries | Part::Recovery | Part::Errors | Part::Lies)
    }
}

pub(super) struct Torturer<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) seed: u64,
    /// Whether a sweep is cut short when its time is over.
    pub(super) in_time: bool,
    /// The smallest set that still covers every mode.
    pub(super) tiny: bool,
    pub(super) until: Instant,
    pub(super) tally: Tally,
    /// What befell the last database, for whoever must tell of it.
    pub(super) last: Case,
    pub(super) bar: ProgressBar,
    pub(super) serial: u64,
}

/// One of `choices`, which are few.
fn pick<T: Copy>(choices: &[T], number: u64) -> T {
    choices[usize::try_from(number % choices.len() as u64).unwrap_or(0)]
}

impl Torturer<'_> {
    pub(super) fn run(&mut self, part: Part) -> Result<(), Trouble> {
        match part {
            Part::Boundaries => self.in_turns(&self.scripts(), Self::boundaries),
            Part::Recovery => self.recovery(),
            Part::Errors => self.errors(),
            Part::Lies => self.lies(),
            Part::Deaths => self.deaths(),
            Part::Random => self.random(),
        }
    }

    /// What one script leaves of its time goes to the others.
    fn in_turns(
        &mut self,
        scripts: &[Script],
        sweep: impl Fn(&mut Self, &Script) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let end = self.until;
        for (left, script) in (1..=u32::try_from(scripts.len()).unwrap_or(1)).rev().zip(scripts) {
            self.until = Instant::now() + end.saturating_duration_since(Instant::now()) / left;
            sweep(self, script)?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.in_time && Instant::now() > self.until
    }

    fn fresh(&mut self) -> Subject {
        self.serial += 1;
        Subject::new(self.workspace.path(&format!("db-{}", self.serial % 2)), self.seed)
    }

    /// One life of `subject`.
    fn live(&mut self, subject: &mut Subject, script: &Script, fate: Fate) -> Result<Lived, Trouble> {
        crate::workspace::check()?;
        let lived = subject.live(script, fate);
        self.last = subject.case.clone();
        self.tally.processes += 1;
        self.bar.tick();
        let lived = lived?;
        self.tally.locked += u64::from(lived.locked);
        match fate {
            Fate::Before(_) => self.tally.killed(&lived, false),
            Fate::After(_) => self.tally.killed(&lived, true),
            _ => {}
        }
        Ok(lived)
    }

    fn check(&mut self, subject: &mut Subject) -> Result<(), Trouble> {
        let summary = subject.check(&self.workspace.path("damaged"));
        self.last = subject.case.clone();
        self.tally.checked(&summary?, subject.case.modes());
        Ok(())
    }

    fn check_lie(&mut self, subject: &mut Subject) -> Result<AfterLie, Trouble> {
        let after = subject.check_lie(&self.workspace.path("damaged"));
        self.last = subject.case.clone();
        after
    }

    /// A last life, undisturbed: what was lost stays lost, nothing is handed out again, and nothing is left behind.
    fn afterlife(&mut self, subject: &mut Subject) -> Result<(), Trouble> {
        // As many as it takes for a checkpoint: what a first attempt leaves in `table/` the next one removes.
        let mut script = Script::new(Modes::One(CommitMode::Written), 1, Some(3), PAGE);
        script.retiring = subject.case.0.iter().any(|step| step.script.retiring);
        script.checkpoints = subject.case.0.iter().any(|step| step.script.checkpoints);
        self.live(subject, &script, Fate::Finish)?;
        self.check(subject)?;
        Ok(check::check_leftovers(&subject.dir)?)
    }

    fn remove(&self, subject: &Subject) -> Result<(), Trouble> {
        Ok(subject.remove()?)
    }

    /// Runs a case that was told of.
    pub(super) fn replay(&mut self, case: &Case) -> Result<(), Trouble> {
        let mut subject = self.fresh();
        for Step { script, fate, checked } in &case.0 {
            self.live(&mut subject, script, *fate)?;
            match fate {
                Fate::Lies(lie, ..) => {
                    let after = self.check_lie(&mut subject)?;
                    self.tally.lied(*lie, &after, subject.case.modes());
                    if matches!(after, AfterLie::Refused) {
                        break;
                    }
                }
                _ if *checked => self.check(&mut subject)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// One in each mode, one with all modes from three threads; each fills several segments.
    fn scripts(&self) -> Vec<Script> {
        let commits = Some(if self.tiny { 2 } else { 9 });
        let mut scripts: Vec<_> =
            MODES.iter().map(|(_, mode)| Script::new(Modes::One(*mode), 1, commits, PAGE)).collect();
        scripts.push(Script::new(Modes::Mixed, 1, commits.map(|commits| commits * 2), PAGE).checkpoints());
        if !self.tiny {
            scripts.push(Script::new(Modes::Mixed, 3, Some(6), PAGE));
            scripts.push(Script::new(Modes::Mixed, 3, Some(6), PAGE).checkpoints());
            let modes = MODES.iter().map(|(_, mode)| Modes::One(*mode)).chain([Modes::Mixed]);
            scripts.extend(modes.map(|modes| Script::new(modes, 1, Some(8), PAGE).forgetful().backups()));
            scripts.push(Script::new(Modes::Mixed, 1, Some(18), PAGE).retiring());
            if Script::HAS_IO_URING {
                scripts.push(Script::new(Modes::One(CommitMode::Sync), 1, commits, PAGE).io_uring());
                scripts.push(Script::new(Modes::Mixed, 3, Some(6), PAGE).io_uring());
            }
        }
        scripts
    }

    /// Kills a process before and after its n-th call, for every n until it comes to its end.
    fn boundaries(&mut self, script: &Script) -> Result<(), Trouble> {
        let mut covered = Covered { script: script.to_string(), ..Covered::default() };
        for nth in 1.. {
            if self.is_over() {
                break;
            }
            let (before, after) = (covered.before, covered.after);
            covered.before += u64::from(self.boundary(script, Fate::Before(nth))?);
            covered.after += u64::from(self.boundary(script, Fate::After(nth))?);
            let hit = (covered.before, covered.after) != (before, after);
            if !hit {
                covered.of = Some(nth - 1);
                break;
            }
        }
        self.tally.boundaries.push(covered);
        Ok(())
    }

    /// Whether a process was killed there. How many calls a life makes depends on how its threads run: one that ended
    /// before it came so far is tried again.
    fn boundary(&mut self, script: &Script, fate: Fate) -> Result<bool, Trouble> {
        for _ in 0..3 {
            let mut subject = self.fresh();
            let hit = self.live(&mut subject, script, fate)?.hit.is_some();
            self.check(&mut subject)?;
            if !self.tiny || self.serial.is_multiple_of(32) {
                self.afterlife(&mut subject)?;
            }
            self.remove(&subject)?;
            if hit {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Databases as crashes leave them: closed, cut off in the middle, cut off while a segment is made.
    fn crashed(&mut self, index: u64) -> Result<Subject, Trouble> {
        let modes = pick(&[Modes::Mixed, Modes::One(CommitMode::Written), Modes::One(WITHIN)], index);
        let script = Script::new(modes, 1, Some(9), PAGE);
        let script = match index {
            0 => script.checkpoints(),
            1 | 2 => script.forgetful(),
            5 => script.retiring(),
            _ => script,
        };
        let mut subject = Subject::new(self.workspace.path("crashed"), self.seed);
        subject.remove()?;
        self.live(&mut subject, &script, Fate::After(60 + 17 * index))?;
        Ok(subject)
    }

    /// Kills recovery at every boundary, then the recovery of what that left, and some of the third.
    ///
    /// A recovery is one thread: after a call is before the next one.
    fn recovery(&mut self) -> Result<(), Trouble> {
        for index in 0..if self.tiny { 1 } else { 6 } {
            if self.is_over() {
                self.tally.recovery.iter_mut().for_each(|depth| depth.cut_short = true);
                return Ok(());
            }
            let crashed = self.crashed(index)?;
            self.recoveries(&crashed, 0)?;
            self.remove(&crashed)?;
        }
        Ok(())
    }

    fn recoveries(&mut self, crashed: &Subject, depth: usize) -> Result<(), Trouble> {
        let retiring = crashed.case.0.iter().any(|step| step.script.retiring);
        let script = Script { retiring, ..Script::recovery() };
        for nth in 1.. {
            if self.is_over() {
                self.tally.recovery.iter_mut().for_each(|depth| depth.cut_short = true);
                return Ok(());
            }
            let mut subject = crashed.copy_to(self.workspace.path(&format!("recovery-{depth}")))?;
            let lived = self.live(&mut subject, &script, Fate::Before(nth))?;
            if lived.hit.is_none() {
                // It came to its end, after so many calls.
                self.tally.recovery[depth].of += lived.calls;
                self.check(&mut subject)?;
                return self.remove(&subject);
            }
            self.tally.recovery[depth].covered += 1;
            // The second recovery is killed everywhere, of the third ones one in thirty-two.
            let deeper = match depth {
                0 => true,
                1 => !self.tiny && mix(self.seed ^ self.tally.processes).is_multiple_of(32),
                _ => false,
            };
            if deeper {
                self.recoveries(&subject, depth + 1)?;
            }
            self.check(&mut subject)?;
            self.remove(&subject)?;
        }
        Ok(())
    }

    /// Has the n-th call of a kind fail, for every n until the process comes to its end undisturbed.
    fn errors(&mut self) -> Result<(), Trouble> {
        let mut scripts = self.scripts();
        if self.tiny {
            scripts.truncate(1);
        }
        let errors = if self.tiny { &ERRORS[..1] } else { &ERRORS[..] };
        self.in_turns(&scripts, |torturer, script| {
            errors.iter().try_for_each(|&(call, fault)| torturer.failing(None, script, call, fault))
        })?;
        if self.tiny {
            return Ok(());
        }
        let crashed = self.crashed(1)?;
        for (call, fault) in ERRORS {
            self.failing(Some(&crashed), &Script::recovery(), call, fault)?;
        }
        self.remove(&crashed)
    }

    fn failing(&mut self, crashed: Option<&Subject>, script: &Script, call: Call, fault: Fault) -> Result<(), Trouble> {
        for nth in 1.. {
            if self.is_over() {
                return Ok(());
            }
            let mut subject = match crashed {
                Some(crashed) => crashed.copy_to(self.workspace.path("failing"))?,
                None => self.fresh(),
            };
            let lived = self.live(&mut subject, script, Fate::Fails(call, fault, nth))?;
            self.check(&mut subject)?;
            self.afterlife(&mut subject)?;
            self.remove(&subject)?;
            if lived.hit.is_none() {
                return Ok(());
            }
            self.tally.failed(call, fault, &lived);
        }
        Ok(())
    }

    /// Has the n-th write lie, for every n until there is none, and kills the process a few calls later.
    fn lies(&mut self) -> Result<(), Trouble> {
        let mut scripts = self.scripts();
        if self.tiny {
            scripts.truncate(2);
        }
        let lies = if self.tiny { &[Lie::Nothing, Lie::Half][..] } else { Lie::ALL };
        let after = if self.tiny { &AFTER_A_LIE[1..2] } else { &AFTER_A_LIE[..] };
        self.in_turns(&scripts, |torturer, script| {
            let cases = lies.iter().flat_map(|lie| after.iter().map(|more| (*lie, *more)));
            cases.into_iter().try_for_each(|(lie, more)| torturer.lying(script, lie, more))
        })
    }

    fn lying(&mut self, script: &Script, lie: Lie, more: u64) -> Result<(), Trouble> {
        for nth in 1.. {
            if self.is_over() {
                return Ok(());
            }
            let mut subject = self.fresh();
            let lived = self.live(&mut subject, script, Fate::Lies(lie, nth, more))?;
            let after = self.check_lie(&mut subject)?;
            if lived.hit.is_none() {
                return self.remove(&subject);
            }
            self.tally.lied(lie, &after, subject.case.modes());
            if matches!(after, AfterLie::Opened(_)) {
                self.afterlife(&mut subject)?;
            }
            self.remove(&subject)?;
        }
        Ok(())
    }

    /// Ends that a process brings upon itself.
    fn deaths(&mut self) -> Result<(), Trouble> {
        let out_of_memory = cgroup::probe();
        self.tally.no_cgroup = out_of_memory.as_ref().err().map(ToString::to_string);
        let modes = MODES.iter().map(|(_, mode)| Modes::One(*mode)).chain([Modes::Mixed]);
        for modes in modes {
            let deaths = Death::ALL.iter().filter(|death| **death != Death::OutOfMemory || out_of_memory.is_ok());
            for (&death, nth) in deaths.flat_map(|death| [6, 9, 15, 24].map(|nth| (death, nth))) {
                if self.is_over() {
                    return Ok(());
                }
                let script = Script::new(modes, 2, Some(24), PAGE);
                let mut subject = self.fresh();
                self.live(&mut subject, &script, Fate::Dies(death, nth))?;
                *self.tally.deaths.entry(death.name()).or_default() += 1;
                self.check(&mut subject)?;
                self.afterlife(&mut subject)?;
                self.remove(&subject)?;
            }
        }
        Ok(())
    }

    /// Kills at random moments until the time is over, and at least once.
    fn random(&mut self) -> Result<(), Trouble> {
        let mut subject = self.fresh();
        for kill in 0.. {
            if kill % LIVES == 0 {
                self.remove(&subject)?;
                subject = self.fresh();
            }
            let draw = |salt: u64| mix(self.seed ^ mix(kill ^ (salt << 32)));
            let [sync, written, relaxed, within] = MODES.map(|(_, mode)| Modes::One(mode));
            let modes = pick(&[sync, written, relaxed, within, Modes::Mixed, Modes::Mixed], draw(1));
            let segment = pick(&[PAGE, 4 * PAGE, 16 * PAGE], draw(2));
            let clients = pick(&[1, 1, 2, 4], draw(3));
            // Mostly while it is young: creation, recovery and the first segments are where the most happens.
            let longest = if draw(4).is_multiple_of(4) { 100_000 } else { 15_000 };
            let moment = Duration::from_micros(draw(5) % longest);
            let fate = if draw(6).is_multiple_of(5) { Fate::Stop(moment) } else { Fate::Kill(moment) };
            let script = Script::new(modes, clients, None, segment);
            let script = if draw(7).is_multiple_of(2) { script.io_uring() } else { script };
            let script = match draw(8) % 4 {
                0 => script.checkpoints(),
                1 => script.forgetful(),
                _ => script,
            };
            let script = if draw(9).is_multiple_of(4) { script.backups() } else { script };
            self.live(&mut subject, &script, fate)?;
            self.tally.random_kills += 1;
            self.check(&mut subject)?;
            if Instant::now() > self.until && kill >= 4 {
                break;
            }
        }
        self.remove(&subject)
    }
}
