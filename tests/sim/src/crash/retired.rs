//! The log by itself, whose front is retired while it is written: records, tokens and files after every crash.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelog::log::{Log, LogOptions, Record};
use forelog::sim::{self, CrashPoint, SimDisk};
use forelog::{CommitMode, ErrorKind, Lsn, Outcome, Token};

use super::case::{Case, Focus};
use super::check::Crash;
use super::choices::{self, Interest};
use super::life::DIR;
use super::report::{Kind, Tally, Trait};
use crashkit::Random;

/// What was known at one moment.
#[derive(Clone, Default)]
struct Book {
    /// In order, with what came back from the log.
    records: Vec<(Lsn, Vec<u8>)>,
    tokens: Vec<Token>,
    /// Tokens of commits that a crash took.
    lost: Vec<Token>,
    /// Up to here it was said to be durable.
    durable: Lsn,
    /// Acknowledged in `Written` mode.
    written: Lsn,
    /// Appends called for, that have not returned.
    in_call: Vec<u8>,
    /// Up to here `retire` was called, and has returned.
    retiring: Lsn,
    retired: Lsn,
    opened: bool,
}

struct Cut {
    point: CrashPoint,
    book: Book,
    op: String,
}

fn options() -> LogOptions {
    LogOptions::new().segment_bytes(4096).flush_interval(Duration::from_micros(300))
}

/// Up to three lives of a log, each explored at all its crash points.
pub fn run_retired(case: &Case, tally: &mut Tally) -> Result<(), String> {
    let mut random = Random::new(!case.first_life());
    let (mut disk, mut book) = (SimDisk::new(), Book::default());
    let mut known = HashSet::new();
    for life in 0..random.between(1, 3) as u64 {
        let mut steps = Random::new(random.next());
        let cuts = live(case.first_life() + life, &disk, book, &mut steps, case, life)?;
        tally.boundaries += cuts.len();
        tally.lives += 1;
        for (number, cut) in cuts.iter().enumerate().filter(|(number, _)| case.looks_at(life, *number)) {
            explore(cut, case, (life, number), &mut known, tally)?;
            tally.cuts += 1;
        }
        let end = &cuts[random.below(cuts.len())];
        let crash = if random.one_in(2) { Crash::Kill } else { Crash::everything_lost() };
        disk = crash.image(&end.point);
        let log = check(&disk.crash_point().process_kill(), &end.book, crash == Crash::Kill)?;
        book = end.book.clone();
        let certain = if crash == Crash::Kill { book.durable } else { log };
        let (kept, gone): (Vec<Token>, Vec<Token>) = book.tokens.iter().partition(|token| token.lsn <= log);
        (book.tokens, book.durable, book.written) = (kept, certain, Lsn::ZERO);
        book.lost.extend(gone);
        // The append that had not returned may have landed: from now on it is there like any other.
        if !book.in_call.is_empty() && book.records.last().is_none_or(|(lsn, _)| *lsn < log) {
            book.records.push((log, book.in_call.clone()));
        }
        book.records.retain(|(lsn, _)| *lsn <= log);
        book.in_call.clear();
    }
    tally.runs += 1;
    Ok(())
}

/// One life; all its crash points with what was known there.
fn live(
    seed: u64,
    disk: &SimDisk,
    book: Book,
    random: &mut Random,
    case: &Case,
    life: u64,
) -> Result<Vec<Cut>, String> {
    let existed = book.opened;
    let book = Arc::new(Mutex::new(book));
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let (observed, noted) = (Arc::clone(&book), Arc::clone(&cuts));
    disk.on_op(move |disk, op| {
        let book = observed.lock().expect("nobody panics with the book in hand").clone();
        let op = format!("{:?} op {} ({:?} of {})", op.phase, op.number, op.kind, op.path.display());
        noted.lock().expect("nobody panics with the cuts in hand").push(Cut { point: disk.crash_point(), book, op });
    });
    let note = |change: &dyn Fn(&mut Book)| change(&mut book.lock().expect("nobody panics with the book in hand"));
    let lived = sim::run(seed, || -> forelog::Result<()> {
        let log = options().create(!existed).open_on(Arc::new(disk.clone()), DIR)?;
        note(&|book| book.opened = true);
        for step in 0..random.between(4, 10) {
            let draw = random.next();
            if case.keep.has((life, 0, step)) {
                take_step(&log, &mut Random::new(draw), step, &note, &book)?;
            }
        }
        if random.one_in(2) { log.close() } else { Ok(()) }
    });
    disk.clear_on_op();
    lived.map_err(|error| format!("a client got {error:?}"))?;
    let last = Cut {
        point: disk.crash_point(),
        book: book.lock().expect("nobody panics with the book in hand").clone(),
        op: "after the close".to_owned(),
    };
    let mut cuts = std::mem::take(&mut *cuts.lock().expect("nobody panics with the cuts in hand"));
    cuts.push(last);
    Ok(cuts)
}

type Note<'a> = &'a dyn Fn(&dyn Fn(&mut Book));

fn take_step(log: &Log, random: &mut Random, step: usize, note: Note<'_>, book: &Mutex<Book>) -> forelog::Result<()> {
    let known = || book.lock().expect("nobody panics with the book in hand").clone();
    match random.below(8) {
        0 => {
            let lsn = log.flush()?;
            note(&|book| book.durable = book.durable.max(lsn));
        }
        1 | 2 => {
            let Book { records, durable, retired, .. } = known();
            let durable: Vec<Lsn> = records.iter().map(|(lsn, _)| *lsn).filter(|lsn| *lsn <= durable).collect();
            if let Some(up_to) = durable.last().map(|_| random.pick(&durable)).filter(|up_to| *up_to > retired) {
                note(&|book| book.retiring = book.retiring.max(up_to));
                log.retire(up_to)?;
                note(&|book| book.retired = book.retired.max(up_to));
            }
        }
        _ => {
            let mode = random.pick(&[CommitMode::Sync, CommitMode::Written, CommitMode::Async]);
            let length = random.pick(&[1, 40, 511, 1_000, 1_900, 5_000, 9_000]);
            let payload = vec![u8::try_from(step).expect("few steps"); length];
            note(&|book| book.in_call.clone_from(&payload));
            let receipt = log.append(&payload, mode)?;
            note(&|book| {
                book.in_call.clear();
                book.records.push((receipt.lsn(), payload.clone()));
                book.tokens.push(receipt.token());
                match mode {
                    CommitMode::Sync => book.durable = receipt.lsn(),
                    CommitMode::Written => book.written = receipt.lsn(),
                    _ => {}
                }
            });
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
        let checked = check(&disk, &cut.book, crash == Crash::Kill);
        tally.tokens += cut.book.tokens.len() + cut.book.lost.len();
        tally.count(
            hash,
            Kind::of(&crash, false),
            &Trait { crowded: false, recovering: false, modes: &BTreeSet::new() },
        );
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
fn check(disk: &SimDisk, book: &Book, killed: bool) -> Result<Lsn, String> {
    let open = || options().create(!book.opened).open_on(Arc::new(disk.clone()), DIR);
    let log = if book.opened { open() } else { sim::run(0, open) };
    let log = log.map_err(|error| format!("REFUSED, a legal state: {error:?}"))?;
    let recovered = log.recovery().recovered_to;
    let floor = if killed { book.durable.max(book.written) } else { book.durable };
    if recovered < floor {
        return Err(format!("I2-I4: recovered to {recovered}, and {floor} was promised"));
    }
    let kept: Vec<_> = book.records.iter().filter(|(lsn, _)| *lsn <= recovered).collect();
    let above = |after: Lsn| kept.iter().filter(move |(lsn, _)| *lsn > after);
    // All that lies above what was to be retired; and above what was retired before, unless it is gone already.
    let earlier = Some(book.retired).filter(|retired| *retired > Lsn::ZERO || book.retiring == Lsn::ZERO);
    for after in [book.retiring].into_iter().chain(earlier) {
        let found = match log.scan(after).and_then(Iterator::collect::<forelog::Result<Vec<Record>>>) {
            Err(error) if error.kind() == ErrorKind::Retired && after < book.retiring => continue,
            found => found.map_err(|error| format!("I1: no scan after {after}: {error:?}"))?,
        };
        let mut found = found.iter().map(|record| (record.lsn, &record.payload[..])).peekable();
        for (lsn, payload) in above(after) {
            if found.next_if_eq(&(*lsn, &payload[..])).is_none() {
                return Err(format!("I1: the record at {lsn} is not there, {:?} is", found.peek().map(|(lsn, _)| lsn)));
            }
        }
        // The append that had not returned may be there, whole.
        let extra = found.next();
        if extra.is_some_and(|(_, payload)| book.in_call.is_empty() || *payload != book.in_call[..])
            || found.next().is_some()
        {
            return Err("I7: a record that nobody appended".to_owned());
        }
    }
    for token in &book.tokens {
        let right = if token.lsn <= recovered { Outcome::Durable } else { Outcome::Lost };
        ask(&log, token, right)?;
    }
    for token in &book.lost {
        ask(&log, token, Outcome::Lost)?;
    }
    check_retired(disk, book.retired)?;
    Ok(recovered)
}

fn ask(log: &Log, token: &Token, right: Outcome) -> Result<(), String> {
    match log.outcome(token) {
        Ok(outcome) if outcome == right => Ok(()),
        other => Err(format!("I16: {token} is {other:?} and should be {right:?}")),
    }
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
