//! The same with a bare log, which can do what the engine does not yet: retire what nobody needs any more.

use std::path::Path;
use std::sync::Arc;

use forelog::log::{Log, LogOptions};
use forelog::{Error, Lsn};

use super::check::{self, Summary, Violation};
use super::ledger::{Commit, Fate, Ledger, Line, Promise, Reporter};
use super::model::{self, Action, Name};
use super::script::mode_index;
use super::workload::Work;

/// A few of them fill a segment.
const RECORD: usize = 700;
/// What is retired reaches so many records back from the last one.
const KEPT: usize = 4;

fn payload(seed: u64, name: Name) -> Vec<u8> {
    model::value(seed, name, b"log", RECORD)
}

fn kind(error: &Error) -> String {
    format!("{:?}", error.kind())
}

/// Appends, and retires as it goes.
pub(super) fn run(dir: &Path, work: &Work, reporter: &Arc<dyn Reporter>) {
    let log = match work.script.log_options().open(dir) {
        Ok(log) => log,
        Err(error) => return reporter.say(&Line::NotOpened(kind(&error))),
    };
    reporter.say(&Line::Opened(log.recovery().recovered_to));
    append(&log, work, reporter);
    reporter.say(&Line::Closing);
    match log.close() {
        Ok(()) => reporter.say(&Line::Closed),
        Err(error) => reporter.say(&Line::NotClosed(kind(&error))),
    }
}

fn append(log: &Log, work: &Work, reporter: &Arc<dyn Reporter>) {
    let mut lsns = Vec::new();
    for number in 1.. {
        if work.script.commits.is_some_and(|commits| number > commits) {
            return;
        }
        let name = Name { life: work.life, client: 0, number };
        let mode = work.script.mode(number);
        reporter.say(&Line::Submit(name, Action::Write));
        match log.append(&payload(work.seed, name), mode) {
            Ok(receipt) => {
                lsns.push(receipt.lsn());
                reporter.say(&Line::Ack { name, mode, lsn: receipt.lsn(), token: Some(receipt.token()) });
                if number.is_multiple_of(3) && receipt.wait().is_ok() {
                    reporter.say(&Line::Durable(name));
                    // Said before: from the call on it may be gone.
                    let up_to = lsns[lsns.len().saturating_sub(KEPT).min(lsns.len() - 1)];
                    reporter.say(&Line::Retire(up_to));
                    match log.retire(up_to) {
                        Ok(()) => reporter.say(&Line::Retired),
                        Err(error) => return reporter.say(&Line::NotClosed(kind(&error))),
                    }
                }
            }
            Err(error) => {
                reporter.say(&Line::Fail { name, kind: kind(&error), token: error.token() });
                return;
            }
        }
    }
}

/// Whether a log that must be there opens.
pub(super) fn open(dir: &Path) -> forelog::Result<()> {
    LogOptions::new().create(false).open(dir).map(drop)
}

/// Opens the log in `dir` and compares its records, its tokens and its account with the ledger.
pub(super) fn check(dir: &Path, ledger: &mut Ledger) -> Result<Summary, Violation> {
    let digest = check::digest(dir)?;
    let open = |ledger: &Ledger| {
        let opened = LogOptions::new().create(!ledger.exists).open(dir);
        opened.map_err(|error| Violation(format!("I9: REFUSED, a legal state: {error:?}")))
    };
    let log = open(ledger)?;
    let recovered = log.recovery().recovered_to;
    ledger.settle(recovered)?;
    compare(&log, ledger, recovered)?;
    let mut summary = Summary { digest, opens: 2, ..Summary::default() };
    for commit in ledger.lives.iter().flat_map(|life| life.commits.values()) {
        let Some(mode) = commit.acknowledged else { continue };
        summary.acknowledged[mode_index(mode)] += 1;
        summary.lost[mode_index(mode)] += u64::from(commit.fate == Fate::Gone);
        summary.promised += u64::from(commit.fate == Fate::Gone && commit.promise >= Promise::ProcessDeath);
    }
    check::settle_tokens(ledger);
    summary.tokens = check::ask_all(|token| log.outcome(token), ledger)?;
    ledger.lives.clear();
    ledger.exists = true;
    log.close().map_err(|error| format!("I12: closing what was only read failed: {error}"))?;
    let log = open(ledger)?;
    compare(&log, ledger, recovered)?;
    check::ask_all(|token| log.outcome(token), ledger)?;
    Ok(summary)
}

/// Everything above the retired is there, in order, and nothing else.
fn compare(log: &Log, ledger: &mut Ledger, recovered: Lsn) -> Result<(), Violation> {
    let unreadable = |error: Error| Violation(format!("I12: what was opened cannot be read: {error}"));
    let retired = ledger.retired.min(recovered);
    let mut found = std::collections::BTreeMap::new();
    for record in log.scan(retired).map_err(unreadable)? {
        let record = record.map_err(unreadable)?;
        found.insert(record.lsn, record.payload);
    }
    let seed = ledger.seed;
    for (name, commit) in ledger.lives.iter_mut().flat_map(|life| &mut life.commits) {
        settle(seed, *name, commit, &found, retired)?;
        if commit.fate == Fate::Kept
            && let Some(lsn) = commit.lsn
        {
            ledger.records.insert(lsn, *name);
        }
    }
    let expected: Vec<_> =
        ledger.records.range((std::ops::Bound::Excluded(retired), std::ops::Bound::Unbounded)).collect();
    if found.len() != expected.len() {
        return Err(Violation(format!("I1: {} records after {retired} instead of {}", found.len(), expected.len())));
    }
    for ((at, bytes), (lsn, name)) in found.iter().zip(expected) {
        if at != lsn || *bytes != payload(seed, *name) {
            return Err(Violation(format!("I1: the record at {at} is not {name}, which is at {lsn}")));
        }
    }
    Ok(())
}

/// A commit that was in flight has its place where its bytes are found.
fn settle(
    seed: u64,
    name: Name,
    commit: &mut Commit,
    found: &std::collections::BTreeMap<Lsn, Vec<u8>>,
    retired: Lsn,
) -> Result<(), Violation> {
    if commit.lsn.is_none() && commit.fate == Fate::Open {
        let bytes = payload(seed, name);
        commit.lsn = found.iter().find(|(_, found)| **found == bytes).map(|(lsn, _)| *lsn);
    }
    let there = commit.lsn.is_some_and(|lsn| lsn <= retired || found.contains_key(&lsn));
    check::settle(name, commit, there && commit.fate != Fate::Gone)
}
