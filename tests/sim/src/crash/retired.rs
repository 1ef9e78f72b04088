//! The log by itself, whose front is retired while it is written: records, tokens and files after every crash.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crashkit::event::Event;
use crashkit::journal::{self, Reporter};
use crashkit::judge::compare_log;
use crashkit::ledger::{Commit, Ending, Fate, Ledger};
use forelog::log::{Log, LogOptions};
use forelog::sim::{self, CrashPoint, SimDisk};
use forelog::{CommitMode, Lsn};

use super::case::{Case, Focus};
use super::check::Crash;
use super::choices::{self, Interest};
use super::life::DIR;
use super::report::{Kind, Tally, Trait};
use crashkit::Random;

type Journal = journal::Journal<Vec<u8>>;

struct Cut {
    point: CrashPoint,
    ledger: Ledger<Vec<u8>>,
    op: String,
}

fn options() -> LogOptions {
    LogOptions::new().segment_bytes(4096).flush_interval(Duration::from_micros(300))
}

/// Up to three lives of a log, each explored at all its crash points.
pub fn run_retired(case: &Case, tally: &mut Tally) -> Result<(), String> {
    let mut random = Random::new(!case.first_life());
    let (mut disk, mut ledger) = (SimDisk::new(), Ledger::default());
    let mut known = HashSet::new();
    for life in 0..random.between(1, 3) as u64 {
        let mut steps = Random::new(random.next());
        let cuts = live(case.first_life() + life, &disk, ledger, &mut steps, case, life)?;
        tally.boundaries += cuts.len();
        tally.lives += 1;
        for (number, cut) in cuts.iter().enumerate().filter(|(number, _)| case.looks_at(life, *number)) {
            explore(cut, case, (life, number), &mut known, tally)?;
            tally.cuts += 1;
        }
        let end = &cuts[random.below(cuts.len())];
        let crash = if random.one_in(2) { Crash::Kill } else { Crash::everything_lost() };
        disk = crash.image(&end.point);
        let recovered = check(&disk.crash_point().process_kill(), &end.ledger, crash.ending(false))?;
        ledger = end.ledger.clone();
        ledger.land(recovered);
        ledger.look(crash.ending(false), recovered);
    }
    tally.runs += 1;
    Ok(())
}

fn commits(ledger: &mut Ledger<Vec<u8>>) -> impl Iterator<Item = &mut Commit<Vec<u8>>> {
    let commits = ledger.lives.iter_mut().flat_map(|life| life.commits.values_mut());
    commits.filter(|commit| commit.fate != Fate::Gone)
}

/// One life; all its crash points with what was known there.
fn live(
    seed: u64,
    disk: &SimDisk,
    mut ledger: Ledger<Vec<u8>>,
    random: &mut Random,
    case: &Case,
    life: u64,
) -> Result<Vec<Cut>, String> {
    let existed = ledger.exists;
    ledger.begin();
    let journal = Journal::new(ledger, || Duration::ZERO);
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let cut = |disk: &SimDisk, journal: &Journal, op| Cut { point: disk.crash_point(), ledger: journal.ledger(), op };
    let (observed, noted) = (journal.clone(), Arc::clone(&cuts));
    disk.on_op(move |disk, op| {
        let op = format!("{:?} op {} ({:?} of {})", op.phase, op.number, op.kind, op.path.display());
        noted.lock().expect("nobody panics with the cuts in hand").push(cut(disk, &observed, op));
    });
    let lived = sim::run(seed, || -> forelog::Result<()> {
        let log = options().create(!existed).open_on(Arc::new(disk.clone()), DIR)?;
        journal.say(Event::Opened(log.recovery().recovered_to));
        for step in 0..random.between(4, 10) {
            let draw = random.next();
            if case.keep.has((life, 0, step)) {
                take_step(&log, &mut Random::new(draw), step, &journal)?;
            }
        }
        if random.one_in(2) { log.close() } else { Ok(()) }
    });
    disk.clear_on_op();
    lived.map_err(|error| format!("a client got {error:?}"))?;
    if let Some(wrong) = journal.first_wrong() {
        return Err(wrong);
    }
    let mut cuts = std::mem::take(&mut *cuts.lock().expect("nobody panics with the cuts in hand"));
    cuts.push(cut(disk, &journal, "after the close".to_owned()));
    Ok(cuts)
}

fn take_step(log: &Log, random: &mut Random, step: usize, journal: &Journal) -> forelog::Result<()> {
    match random.below(8) {
        0 => journal.say(Event::Durable(log.flush()?)),
        1 | 2 => {
            let mut ledger = journal.ledger();
            let (durable, retired) = (ledger.durable(), ledger.retired);
            let durable: Vec<Lsn> = commits(&mut ledger).filter_map(|c| c.lsn).filter(|lsn| *lsn <= durable).collect();
            if let Some(up_to) = durable.last().map(|_| random.pick(&durable)).filter(|up_to| *up_to > retired) {
                journal.say(Event::Retire(up_to));
                log.retire(up_to)?;
                journal.say(Event::Retired(up_to));
            }
        }
        _ => {
            let mode = random.pick(&[CommitMode::Sync, CommitMode::Written, CommitMode::Async]);
            let length = random.pick(&[1, 40, 511, 1_000, 1_900, 5_000, 9_000]);
            let payload = vec![u8::try_from(step).expect("few steps"); length];
            let append = || log.append(&payload, mode);
            journal::commit(journal, journal.next_name(0), mode, payload.clone(), append)?;
        }
    }
    Ok(())
}

fn explore(
    cut: &Cut,
    case: &Case,
    (life, number): (u64, usize),
    known: &mut HashSet<u64>,
    tally: &mut Tally,
) -> Result<(), String> {
    let mut random = Random::new(case.first_life() ^ ((number as u64) << 32));
    let crashes = match &case.focus {
        Some(focus) => vec![focus.crash.clone()],
        None => choices::in_life(&cut.point, Interest::Busy, case.depth, &mut random),
    };
    for crash in crashes.into_iter().chain([Crash::everything_lost()]) {
        let disk = crash.image(&cut.point);
        let hash = disk.image_hash();
        tally.note_persona(&crash);
        if !known.insert(hash) {
            tally.repeated += 1;
            continue;
        }
        let checked = check(&disk, &cut.ledger, crash.ending(false));
        tally.tokens += cut.ledger.tokens.len();
        tally.count(hash, Kind::of(&crash, false), &Trait::default());
        if let Err(error) = checked {
            let crash = crash.by_atoms(&cut.point);
            let text = format!("{}: {crash}: {error}", cut.op);
            tally.failure = Some(Focus { life, cut: number, crash });
            return Err(text);
        }
    }
    Ok(())
}

/// Opens what a crash left, and compares; returns the LSN recovered to.
fn check(disk: &SimDisk, ledger: &Ledger<Vec<u8>>, ending: Ending) -> Result<Lsn, String> {
    let open = || options().create(!ledger.exists).open_on(Arc::new(disk.clone()), DIR);
    let log = if ledger.exists { open() } else { sim::run(0, open) };
    let log = log.map_err(|error| format!("REFUSED, a legal state: {error:?}"))?;
    let recovered =
        compare_log(&log, ledger, ledger.floor(ending), false).map_err(|violation| violation.to_string())?;
    check_retired(disk, ledger.retired)?;
    Ok(recovered)
}

/// I13: no segment whose successor begins at or below what was retired.
fn check_retired(disk: &SimDisk, retired: Lsn) -> Result<(), String> {
    let bases: BTreeSet<u64> = disk
        .files()
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "log"))
        .filter_map(|(path, _)| u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok())
        .collect();
    match bases.iter().zip(bases.iter().skip(1)).find(|(_, next)| **next <= retired.get()) {
        Some((base, next)) => Err(format!("I13: segment {base:#x} up to {next:#x} is there, retired up to {retired}")),
        None => Ok(()),
    }
}
