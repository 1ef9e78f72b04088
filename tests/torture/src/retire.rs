//! The same with a bare log, which can do what the engine does not yet: retire what nobody needs any more.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crashkit::event::Name;
use crashkit::journal::{self, kind_name};
use crashkit::ledger::Fate;
use crashkit::model::value;
use forelog::log::{Log, LogOptions};
use forelog::{Error, Lsn};

use super::books::{Books, Commit, Event, Reporter};
use super::check::{self, Summary, Violation};
use super::model::Action;
use super::workload::Work;

/// A few of them fill a segment.
const RECORD: usize = 700;
/// What is retired reaches so many records back from the last one.
const KEPT: usize = 4;

fn payload(seed: u64, name: Name) -> Vec<u8> {
    value(seed, name, b"log", RECORD)
}

/// Appends, and retires as it goes.
pub(super) fn run(dir: &Path, work: &Work, reporter: &Arc<Reporter>) {
    let log = match work.script.log_options().open(dir) {
        Ok(log) => log,
        Err(error) => return reporter.say(Event::NotOpened(kind_name(&error))),
    };
    reporter.say(Event::Opened(log.recovery().recovered_to));
    append(&log, work, reporter);
    reporter.say(Event::Closing);
    match log.close() {
        Ok(()) => reporter.say(Event::Closed),
        Err(error) => reporter.say(Event::NotClosed(kind_name(&error))),
    }
}

fn append(log: &Log, work: &Work, reporter: &Arc<Reporter>) {
    let mut lsns = Vec::new();
    for number in 1.. {
        if work.script.commits.is_some_and(|commits| number > commits) {
            return;
        }
        let name = Name { life: work.life, client: 0, number };
        let mode = work.script.mode(number);
        let append = || log.append(&payload(work.seed, name), mode);
        let Ok(receipt) = journal::commit(&**reporter, name, mode, Action::Write, append) else { return };
        lsns.push(receipt.lsn());
        if number.is_multiple_of(3) && receipt.wait().is_ok() {
            reporter.say(Event::Durable(receipt.lsn()));
            // Said before: from the call on it may be gone.
            let up_to = lsns[lsns.len().saturating_sub(KEPT).min(lsns.len() - 1)];
            reporter.say(Event::Retire(up_to));
            match log.retire(up_to) {
                Ok(()) => reporter.say(Event::Retired(up_to)),
                Err(error) => return reporter.say(Event::NotClosed(kind_name(&error))),
            }
        }
    }
}

/// Whether a log that must be there opens.
pub(super) fn open(dir: &Path) -> forelog::Result<()> {
    LogOptions::new().create(false).open(dir).map(drop)
}

/// Opens the log in `dir` and compares its records, its tokens and its account with the ledger.
pub(super) fn check(dir: &Path, books: &mut Books) -> Result<Summary, Violation> {
    let digest = check::digest(dir)?;
    let open = |books: &Books| {
        let opened = LogOptions::new().create(!books.ledger.exists).open(dir);
        opened.map_err(|error| Violation::Wrong(format!("I9: REFUSED, a legal state: {error:?}")))
    };
    let log = open(books)?;
    let recovered = log.recovery().recovered_to;
    // What was to be retired was durable, so only a lie can have taken it. Then no record ends there any more.
    books.ledger.retiring.retain(|position| *position <= recovered);
    let promises = check::Promises::settle(books, recovered)?;
    compare(&log, books, recovered)?;
    let mut summary = Summary { digest, opens: 2, ..Summary::default() };
    for commit in books.ledger.lives.iter().flat_map(|life| life.commits.values()) {
        summary.count(commit, &promises);
    }
    summary.tokens = check::ask_all(|token| log.outcome(token), books)?;
    books.ledger.lives.clear();
    books.ledger.exists = true;
    log.close().map_err(|error| format!("I12: closing what was only read failed: {error}"))?;
    let log = open(books)?;
    compare(&log, books, recovered)?;
    check::ask_all(|token| log.outcome(token), books)?;
    Ok(summary)
}

/// Everything above the retired is there, in order, and nothing else.
fn compare(log: &Log, books: &mut Books, recovered: Lsn) -> Result<(), Violation> {
    let unreadable = |error: Error| Violation::Wrong(format!("I12: what was opened cannot be read: {error}"));
    let retired = books.ledger.retiring.last().copied().unwrap_or_default().min(recovered);
    let mut found = BTreeMap::new();
    for record in log.scan(retired).map_err(unreadable)? {
        let record = record.map_err(unreadable)?;
        found.insert(record.lsn, record.payload);
    }
    let seed = books.seed;
    for (name, commit) in books.ledger.lives.iter_mut().flat_map(|life| &mut life.commits) {
        settle(seed, *name, commit, &found, retired)?;
        if commit.fate == Fate::Kept
            && let Some(lsn) = commit.lsn
        {
            books.records.insert(lsn, *name);
        }
    }
    let above = (std::ops::Bound::Excluded(retired), std::ops::Bound::Unbounded);
    let expected: Vec<_> = books.records.range(above).collect();
    if found.len() != expected.len() {
        let (found, expected) = (found.len(), expected.len());
        return Err(Violation::Wrong(format!("I1: {found} records after {retired} instead of {expected}")));
    }
    for ((at, bytes), (lsn, name)) in found.iter().zip(expected) {
        if at != lsn || *bytes != payload(seed, *name) {
            return Err(Violation::Wrong(format!("I1: the record at {at} is not {name}, which is at {lsn}")));
        }
    }
    Ok(())
}

/// A commit that was in flight has its place where its bytes are found.
fn settle(
    seed: u64,
    name: Name,
    commit: &mut Commit,
    found: &BTreeMap<Lsn, Vec<u8>>,
    retired: Lsn,
) -> Result<(), Violation> {
    if commit.lsn.is_none() && commit.fate == Fate::Open {
        let bytes = payload(seed, name);
        commit.lsn = found.iter().find(|(_, found)| **found == bytes).map(|(lsn, _)| *lsn);
    }
    let there = commit.lsn.is_some_and(|lsn| lsn <= retired || found.contains_key(&lsn));
    check::settle(name, commit, there && commit.fate != Fate::Gone)
}
