//! The steps of opens, checkpoints and merges, and what may go wrong in each.

use std::collections::{HashSet, VecDeque};

use super::Rules;
use crate::names::{Dir, Names, Step as NameStep, reach};

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Name {
    History,
    /// The log's part with this number, from 1.
    Segment(u8),
    Manifest,
    Run(u8),
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct Manifest {
    generation: u8,
    /// The log up to this part is in the runs.
    to: u8,
    runs: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Content {
    History(Manifest),
    Manifest(Manifest),
    /// The parts of the log that it holds, as bits.
    Run(u8),
    Segment,
}

type Disk = Names<Dir, Name, Content>;
type Step = NameStep<Dir, Name, Content>;

const PARTS: u8 = 3;

const CHECKPOINT: usize = 0;
const MERGE: usize = 1;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Its run is there (5).
    Made,
    /// The run's name is durable (7).
    Named,
    /// It has the right to write MANIFEST (8).
    Chosen,
    /// It has renamed (9).
    Renamed,
    Doubt,
    /// It removes (12, 13).
    Installed,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Attempt {
    phase: Phase,
    run: u8,
    inputs: Vec<u8>,
    /// A failed sync counts for its run.
    is_tainted: bool,
    /// What it wrote, or what it would have written when it began.
    own: Manifest,
}

/// The memory of an open engine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Live {
    installed: Manifest,
    /// What MANIFEST may be on the medium, besides.
    doubt: Vec<Manifest>,
    highest: u8,
    next_run: u8,
    attempts: [Option<Attempt>; 2],
    writer: Option<usize>,
    /// The medium has no MANIFEST of an earlier life that was in doubt.
    is_settled: bool,
    begun: [u8; 2],
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Program {
    Ended,
    /// What an open has still to do. The manifest that it writes again is the first step, if it does.
    Opening {
        steps: VecDeque<Step>,
        live: Live,
        is_named: bool,
    },
    Live(Live),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    disk: Disk,
    program: Program,
    failures: u8,
}

fn parts_of(disk: &Disk, run: u8) -> Option<u8> {
    match disk.get(Dir::Table, &Name::Run(run)) {
        Some(Content::Run(parts)) => Some(*parts),
        _ => None,
    }
}

fn runs_in(disk: &Disk) -> Vec<u8> {
    disk.list(Dir::Table)
        .into_iter()
        .filter_map(|name| if let Name::Run(run) = name { Some(run) } else { None })
        .collect()
}

/// Whether the manifest and the log have everything.
fn is_whole(disk: &Disk, manifest: &Manifest) -> bool {
    let held: Option<u8> =
        manifest.runs.iter().map(|run| parts_of(disk, *run)).try_fold(0, |all, run| Some(all | run?));
    held.is_some_and(|held| {
        (1..=PARTS).all(|part| {
            let in_log = disk.get(Dir::Database, &Name::Segment(part)).is_some();
            if part <= manifest.to { held >> part & 1 == 1 } else { in_log }
        })
    })
}

/// What the removal of needless files may take.
fn needless(disk: &Disk, live: &Live, judged_by: &Manifest, rules: Rules) -> Vec<(Dir, Name)> {
    if !live.is_settled {
        return Vec::new();
    }
    let under_way: Vec<u8> =
        live.attempts.iter().flatten().filter(|one| one.phase != Phase::Installed).map(|one| one.run).collect();
    let is_needed = |run: u8| {
        judged_by.runs.contains(&run)
            || (rules.doubt_stays && live.doubt.iter().any(|doubt| doubt.runs.contains(&run)))
            || (rules.spares_attempts && under_way.contains(&run))
    };
    let runs = runs_in(disk).into_iter().filter(|run| !is_needed(*run)).map(|run| (Dir::Table, Name::Run(run)));
    let segments = disk
        .list(Dir::Database)
        .into_iter()
        .filter(|name| matches!(name, Name::Segment(part) if *part <= judged_by.to));
    runs.chain(segments.map(|name| (Dir::Database, name))).collect()
}

fn open(disk: &Disk, rules: Rules, is_first: bool) -> Result<Program, String> {
    let Some(Content::History(known)) = disk.get(Dir::Database, &Name::History) else {
        unreachable!("it is always there")
    };
    let Some(Content::Manifest(found)) = disk.get(Dir::Table, &Name::Manifest) else {
        return Err(format!("MANIFEST is missing: {disk:?}"));
    };
    if found.generation < known.generation || (found.generation == known.generation && found != known) {
        return Err(format!("MANIFEST is older than HISTORY: {disk:?}"));
    }
    if !is_whole(disk, found) {
        return Err(format!("something is missing: {disk:?}"));
    }
    let mut live = Live {
        installed: found.clone(),
        doubt: Vec::new(),
        highest: found.generation,
        next_run: runs_in(disk).into_iter().max().unwrap_or(0) + 1,
        attempts: [None, None],
        writer: None,
        is_settled: true,
        begun: if is_first { [0, 0] } else { rules.attempts.map(|begun| begun.saturating_sub(1)) },
    };
    let is_named = found == known;
    let removals = needless(disk, &live, found, rules);
    let mut steps = VecDeque::new();
    if !is_named || (rules.open_writes_first && !removals.is_empty()) {
        let again = Manifest { generation: found.generation + 1, ..found.clone() };
        steps.extend([
            Step::Set(Dir::Table, Name::Manifest, Some(Content::Manifest(again.clone()))),
            Step::Sync(Dir::Table),
        ]);
        live.highest = again.generation;
        live.installed = again;
    }
    steps.extend([
        Step::Set(Dir::Database, Name::History, Some(Content::History(live.installed.clone()))),
        Step::Sync(Dir::Database),
    ]);
    steps.extend(removals.into_iter().map(|(dir, name)| Step::Set(dir, name, None)));
    Ok(Program::Opening { steps, live, is_named })
}

/// The open after its MANIFEST could not be written.
fn open_without_it(disk: &Disk, steps: &VecDeque<Step>, live: &Live, is_named: bool, rules: Rules) -> Program {
    if !is_named {
        return Program::Ended;
    }
    let Some(Content::History(found)) = disk.get(Dir::Database, &Name::History) else {
        unreachable!("it is always there")
    };
    let mut live = live.clone();
    live.doubt.push(std::mem::replace(&mut live.installed, found.clone()));
    live.is_settled = !rules.removals_wait;
    let mut steps: VecDeque<Step> =
        steps.iter().filter(|step| matches!(step, Step::Set(_, _, None))).cloned().collect();
    if rules.open_leaves_removals {
        steps.clear();
    }
    Program::Opening { steps, live, is_named }
}

fn content(live: &Live, who: usize, run: u8, inputs: &[u8]) -> Manifest {
    let Manifest { to, runs, .. } = &live.installed;
    let (to, runs) = if who == CHECKPOINT {
        (to + 1, runs.iter().copied().chain([run]).collect())
    } else {
        let kept = runs.iter().filter(|other| !inputs.contains(other));
        (*to, [run].into_iter().chain(kept.copied()).collect())
    };
    Manifest { generation: live.highest.max(live.installed.generation) + 1, to, runs }
}

/// A sync of `table/` fails during a call of `who`.
fn fail_to_sync(disk: &mut Disk, live: &mut Live, who: usize, rules: Rules) {
    disk.fail_to_sync(Dir::Table);
    for number in 0..live.attempts.len() {
        if number != who && !rules.failed_sync_counts_for_all {
            continue;
        }
        let Some(attempt) = &mut live.attempts[number] else { continue };
        match attempt.phase {
            Phase::Made => attempt.is_tainted = true,
            Phase::Renamed => to_doubt(live, number),
            _ => {}
        }
    }
}

fn to_doubt(live: &mut Live, who: usize) {
    let attempt = live.attempts[who].as_mut().expect("under way");
    attempt.phase = Phase::Doubt;
    live.doubt.push(attempt.own.clone());
    live.doubt.sort();
    live.doubt.dedup();
    live.writer = live.writer.filter(|writer| *writer != who);
}

/// The attempt has no effect: it removes its run.
fn give_up(disk: &mut Disk, live: &mut Live, who: usize, rules: Rules) {
    let attempt = live.attempts[who].take().expect("under way");
    live.writer = live.writer.filter(|writer| *writer != who);
    let is_in_doubt = live.doubt.iter().any(|doubt| doubt.runs.contains(&attempt.run));
    if !is_in_doubt || !rules.failure_spares_doubt {
        disk.set(Dir::Table, Name::Run(attempt.run), None);
    }
}

/// Step 10 has succeeded.
fn install(live: &mut Live, who: usize, rules: Rules) {
    let attempt = live.attempts[who].as_mut().expect("under way");
    attempt.phase = Phase::Installed;
    if who == CHECKPOINT || rules.merge_installs {
        live.installed = attempt.own.clone();
    }
    live.writer = None;
    live.doubt.clear();
    live.is_settled = true;
}

/// Every next step of the attempt `who`, begun or not.
fn attempt_steps(state: &State, live: &Live, who: usize, rules: Rules) -> Result<Vec<State>, String> {
    let may_fail = state.failures < rules.failures;
    let mut next = Vec::new();
    let mut push = |disk: Disk, live: Live, failed: bool| {
        next.push(State { disk, program: Program::Live(live), failures: state.failures + u8::from(failed) });
    };
    let (mut disk, mut after) = (state.disk.clone(), live.clone());
    let Some(attempt) = &live.attempts[who] else {
        let installed = &live.installed;
        // 12 and 13 come first in each attempt, too.
        for (dir, name) in needless(&disk, live, installed, rules) {
            let mut disk = disk.clone();
            disk.set(dir, name, None);
            push(disk, after.clone(), false);
        }
        let can = if who == CHECKPOINT { installed.to < PARTS } else { installed.runs.len() > 1 };
        if can && live.begun[who] < rules.attempts[who] {
            let (run, inputs) = (live.next_run, if who == MERGE { installed.runs[..2].to_vec() } else { Vec::new() });
            let held = inputs.iter().filter_map(|run| parts_of(&disk, *run)).fold(0, |all, run| all | run);
            let parts = if who == MERGE { held } else { 1 << (installed.to + 1) };
            disk.set(Dir::Table, Name::Run(run), Some(Content::Run(parts)));
            let own = content(live, who, run, &inputs);
            let phase = if rules.runs_first { Phase::Made } else { Phase::Named };
            after.attempts[who] = Some(Attempt { phase, run, inputs, is_tainted: false, own });
            after.begun[who] += 1;
            after.next_run += 1;
            push(disk, after, false);
        }
        return Ok(next);
    };
    let set_phase = |live: &mut Live, phase| live.attempts[who].as_mut().expect("under way").phase = phase;
    match attempt.phase {
        Phase::Made if attempt.is_tainted => {
            give_up(&mut disk, &mut after, who, rules);
            push(disk, after, false);
        }
        Phase::Made => {
            if may_fail {
                let (mut disk, mut live) = (disk.clone(), live.clone());
                fail_to_sync(&mut disk, &mut live, who, rules);
                push(disk, live, true);
            }
            disk.sync(Dir::Table);
            set_phase(&mut after, Phase::Named);
            push(disk, after, false);
        }
        Phase::Named if live.writer.is_none() || !rules.content_of_the_moment => {
            after.writer = Some(who);
            set_phase(&mut after, Phase::Chosen);
            push(disk, after, false);
        }
        Phase::Named => {}
        Phase::Chosen => {
            let mut own = attempt.own.clone();
            if rules.content_of_the_moment {
                own = content(live, who, attempt.run, &attempt.inputs);
            }
            if !rules.fresh_generation {
                own.generation = live.installed.generation + 1;
            }
            let is_used = live.doubt.iter().any(|doubt| doubt.generation == own.generation && *doubt != own);
            if is_used && rules.content_of_the_moment {
                return Err(format!("generation {} is used twice: {live:?}", own.generation));
            }
            after.highest = after.highest.max(own.generation);
            after.attempts[who].as_mut().expect("under way").own = own.clone();
            if may_fail {
                let (mut refused, mut memory) = (disk.clone(), after.clone());
                give_up(&mut refused, &mut memory, who, rules);
                push(refused, memory, true);
                for lands in [true, false] {
                    let (mut disk, mut memory) = (disk.clone(), after.clone());
                    disk.fail_to_set(Dir::Table, Name::Manifest, Some(Content::Manifest(own.clone())), lands);
                    to_doubt(&mut memory, who);
                    push(disk, memory, true);
                }
            }
            disk.set(Dir::Table, Name::Manifest, Some(Content::Manifest(own)));
            set_phase(&mut after, Phase::Renamed);
            if !rules.installs_after_sync {
                install(&mut after, who, rules);
            }
            push(disk, after, false);
        }
        Phase::Renamed => {
            if may_fail {
                let (mut disk, mut live) = (disk.clone(), live.clone());
                fail_to_sync(&mut disk, &mut live, who, rules);
                push(disk, live, true);
            }
            disk.sync(Dir::Table);
            install(&mut after, who, rules);
            push(disk, after, false);
        }
        // Resumed.
        Phase::Doubt => {
            set_phase(&mut after, Phase::Named);
            push(disk, after, false);
        }
        Phase::Installed => {
            let judged_by = if rules.judges_by_installed { &live.installed } else { &attempt.own };
            let needless = needless(&disk, live, judged_by, rules);
            for (dir, name) in &needless {
                let mut disk = disk.clone();
                disk.set(*dir, name.clone(), None);
                push(disk, after.clone(), false);
            }
            if needless.is_empty() {
                after.attempts[who] = None;
                push(disk, after, false);
            }
        }
    }
    Ok(next)
}

fn successors(state: &State, rules: Rules) -> Result<Vec<State>, String> {
    let mut next = Vec::new();
    let may_fail = state.failures < rules.failures;
    if may_fail && state.program != Program::Ended {
        for disk in state.disk.power_losses().into_iter().chain([state.disk.clone()]) {
            next.push(State { disk, program: Program::Ended, failures: state.failures + 1 });
        }
    }
    match &state.program {
        Program::Ended => {
            let program = open(&state.disk, rules, state.failures == 0)?;
            next.push(State { program, ..state.clone() });
        }
        Program::Opening { steps, live, is_named } => {
            let (mut disk, mut left) = (state.disk.clone(), steps.clone());
            let Some(step) = left.pop_front() else {
                next.push(State { program: Program::Live(live.clone()), ..state.clone() });
                return Ok(next);
            };
            let mut fail = |disk: Disk| {
                let program = open_without_it(&disk, &left, live, *is_named, rules);
                next.push(State { disk, program, failures: state.failures + 1 });
            };
            match step {
                Step::Set(dir, name, content) => {
                    if may_fail && name == Name::Manifest {
                        for lands in [true, false] {
                            let mut disk = disk.clone();
                            disk.fail_to_set(dir, name.clone(), content.clone(), lands);
                            fail(disk);
                        }
                    }
                    disk.set(dir, name, content);
                }
                Step::Sync(dir) => {
                    if may_fail && dir == Dir::Table {
                        let mut disk = disk.clone();
                        disk.fail_to_sync(dir);
                        fail(disk);
                    }
                    disk.sync(dir);
                }
            }
            next.push(State {
                disk,
                program: Program::Opening { steps: left, live: live.clone(), is_named: *is_named },
                ..state.clone()
            });
        }
        Program::Live(live) => {
            if !live.installed.runs.iter().all(|run| parts_of(&state.disk, *run).is_some()) {
                return Err(format!("a reader misses a run: {state:?}"));
            }
            for who in [CHECKPOINT, MERGE] {
                next.extend(attempt_steps(state, live, who, rules)?);
            }
            // HISTORY is written for another reason.
            let named =
                if rules.history_names_known { &live.installed } else { live.doubt.last().unwrap_or(&live.installed) };
            let history = Content::History(named.clone());
            if state.disk.get(Dir::Database, &Name::History) != Some(&history) {
                let mut disk = state.disk.clone();
                disk.set(Dir::Database, Name::History, Some(history));
                disk.sync(Dir::Database);
                next.push(State { disk, ..state.clone() });
            }
        }
    }
    Ok(next)
}

/// Every state that can be reached, or what is wrong with one of them.
pub(super) fn explore(rules: Rules) -> Result<HashSet<State>, String> {
    let mut disk = Disk::new();
    let manifest = Manifest { generation: 1, to: 1, runs: vec![1] };
    disk.set(Dir::Database, Name::History, Some(Content::History(manifest.clone())));
    disk.set(Dir::Table, Name::Manifest, Some(Content::Manifest(manifest)));
    disk.set(Dir::Table, Name::Run(1), Some(Content::Run(1 << 1)));
    (2..=PARTS).for_each(|part| disk.set(Dir::Database, Name::Segment(part), Some(Content::Segment)));
    disk.sync(Dir::Database);
    disk.sync(Dir::Table);
    reach(State { disk, program: Program::Ended, failures: 0 }, |state| successors(state, rules))
}
