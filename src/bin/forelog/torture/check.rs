//! Opens what a crash left, through the engine's own front door, and compares all contents, all tokens and the account
//! with the ledger.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use forelog::{Engine, ErrorKind, Lsn, Options, Outcome, Token};

use super::ledger::{Commit, Ending, Fate, Ledger, Life, Promise};
use super::model::{Action, BANK, Name, State};
use super::retire;
use super::script::{MODES, mode_index};

/// A promise that was broken, in words that begin with the invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violation(pub(crate) String);

impl From<String> for Violation {
    fn from(what: String) -> Self {
        Violation(what)
    }
}

/// What a check found, all promises kept.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Summary {
    /// Commits acknowledged since the last check, by mode (as in `MODES`).
    pub(crate) acknowledged: [u64; MODES.len()],
    /// Those of them that are not there.
    pub(crate) lost: [u64; MODES.len()],
    /// Those whose receipts had said that they are durable.
    pub(crate) durable: u64,
    /// Those that are not there although they had been promised to outlive a process. Only a lie can take them.
    pub(crate) promised: u64,
    /// Tokens asked about, older ones included.
    pub(crate) tokens: u64,
    /// Of the directory as the crash left it.
    pub(crate) digest: u64,
    /// How often the database was opened and compared.
    pub(crate) opens: u64,
}

/// Opens the database in `dir`, compares it with the ledger, closes it; then once more, which must change nothing. The
/// ledger goes on from there: what was found is settled.
pub(crate) fn check(dir: &Path, ledger: &mut Ledger) -> Result<Summary, Violation> {
    let of_a_log = ledger.lives.last().is_some_and(|life| life.script.retiring);
    let check = if of_a_log { retire::check } else { check_opening };
    let checked = catch_unwind(AssertUnwindSafe(|| check(dir, ledger)));
    checked.unwrap_or_else(|_| Err(Violation("I12: an open, or a read after it, panicked".to_owned())))
}

fn check_opening(dir: &Path, ledger: &mut Ledger) -> Result<Summary, Violation> {
    let before = digest(dir)?;
    // After an error a close may leave files that nothing depends on; and a power cut may take back what it did after
    // everything was durable, the cuts and the removals.
    let clean = |life: &Life| life.closed && life.errors.is_empty() && life.ending == Ending::Process;
    let clean = ledger.lives.last().is_some_and(clean);
    let engine = open(dir, ledger)?;
    let mut summary = compare(&engine, ledger)?;
    summary.digest = before;
    engine.close().map_err(|error| format!("I12: closing what was only read failed: {error}"))?;
    let after = digest(dir)?;
    if clean && after != before {
        return Err(Violation("I14: an open after a clean close changed the directory".to_owned()));
    }
    drop(engine);

    let engine = open(dir, ledger)?;
    let again = read(&engine)?;
    if let Some(difference) = again.difference(&ledger.base) {
        return Err(Violation(format!("I10: the second open shows something else: {difference}")));
    }
    ask_all(|token| engine.outcome(token), ledger)?;
    engine.close().map_err(|error| format!("I12: closing what was only read failed: {error}"))?;
    if digest(dir)? != after {
        return Err(Violation("I10: the second open changed the directory".to_owned()));
    }
    summary.opens = 2;
    Ok(summary)
}

/// What was made of a lie.
#[derive(Debug)]
pub(crate) enum AfterLie {
    /// An open, and `verify`, name the damage, and leave everything as it is.
    Refused,
    /// A prefix of what was committed.
    Opened(Summary),
}

/// [`check`] after a write that had lied, which may be noticed.
pub(crate) fn check_lie(dir: &Path, ledger: &mut Ledger) -> Result<AfterLie, Violation> {
    let before = digest(dir)?;
    let of_a_log = ledger.lives.last().is_some_and(|life| life.script.retiring);
    let verify = || if of_a_log { forelog::log::inspect::verify(dir) } else { Engine::verify(dir) };
    let open = || if of_a_log { retire::open(dir) } else { Options::new().create(false).open(dir).map(drop) };
    let verified = catch_unwind(verify).map_err(|_| "I12: verify panicked".to_owned())?;
    let Err(error) = verified else { return check(dir, ledger).map(AfterLie::Opened) };
    // Cut off before there was anything: the next open creates it.
    if error.kind() == ErrorKind::NotADatabase && !ledger.exists {
        return check(dir, ledger).map(AfterLie::Opened);
    }
    let opened = catch_unwind(open);
    match opened.map_err(|_| "I12: an open after a lie panicked".to_owned())? {
        Err(refusal) if refusal.kind() != ErrorKind::Damaged || error.kind() != ErrorKind::Damaged => {
            Err(Violation(format!("I9: damage is not called so: {error:?}, {refusal:?}")))
        }
        Err(_) if digest(dir)? == before => Ok(AfterLie::Refused),
        Err(_) => Err(Violation("I9: a refusal changed what it refused".to_owned())),
        Ok(()) => Err(Violation(format!("I9: verify refuses what opens: {error:?}"))),
    }
}

fn open(dir: &Path, ledger: &Ledger) -> Result<Engine, Violation> {
    let before = digest(dir)?;
    Options::new().create(!ledger.exists).open(dir).map_err(|error| {
        let changed = if digest(dir).is_ok_and(|after| after == before) { "" } else { ", and the refusal changed it" };
        Violation(format!("I9: REFUSED, a legal state{changed}: {error:?}"))
    })
}

/// Compares an engine that was just opened, and settles the ledger by it.
fn compare(engine: &Engine, ledger: &mut Ledger) -> Result<Summary, Violation> {
    let recovered = engine.recovery().recovered_to;
    ledger.settle(recovered)?;
    check_account(engine, ledger, recovered)?;
    let found = read(engine)?;
    if !found.bank_adds_up() {
        return Err(Violation(format!("I6: the accounts do not add up: {:?}", found.0.get(BANK))));
    }
    let order = order_of(&found, ledger)?;
    settle_keyspaces(&found, ledger)?;
    let mut summary = settle_commits(&order, ledger)?;
    let expected = replayed(&order, ledger);
    if let Some(difference) = found.difference(&expected) {
        return Err(Violation(format!("I1: not the effect of the commits that are there: {difference}")));
    }
    settle_tokens(ledger);
    summary.tokens = ask_all(|token| engine.outcome(token), ledger)?;
    ledger.base = found;
    ledger.lives.clear();
    ledger.exists = true;
    Ok(summary)
}

fn read(engine: &Engine) -> Result<State, Violation> {
    let failed = |error: forelog::Error| format!("I12: what was opened cannot be read: {error}");
    let snapshot = engine.snapshot().map_err(failed)?;
    let mut state = State::default();
    for name in snapshot.keyspaces().map_err(failed)? {
        let keyspace =
            snapshot.keyspace(&name).map_err(failed)?.ok_or_else(|| format!("I1: {name} is listed and not there"))?;
        let mut entries = BTreeMap::new();
        for entry in snapshot.iter(&keyspace).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            entries.insert(key.to_vec(), value.to_vec());
        }
        state.0.insert(name, entries);
    }
    Ok(state)
}

/// I17: the account agrees with the contents and with the ledger.
fn check_account(engine: &Engine, ledger: &Ledger, recovered: Lsn) -> Result<(), Violation> {
    let (visible, durable, at_risk) = (engine.visible_lsn(), engine.durable_lsn(), engine.at_risk());
    if visible != recovered || durable < recovered || at_risk.commits > 0 {
        return Err(Violation(format!(
            "I17: recovered to {recovered}, visible {visible}, durable {durable}, at risk {at_risk:?}"
        )));
    }
    let crashed = engine.recovery().crashed;
    let Some(life) = ledger.lives.last().filter(|life| life.opened.is_some()) else { return Ok(()) };
    let expected = match life.incarnation {
        // Nothing is certain once the close had begun, until it returned.
        Some(_) if life.closing && !life.closed => return Ok(()),
        Some(incarnation) => Some(incarnation).filter(|_| !life.closed),
        // Of an incarnation without a commit that was answered nobody knows.
        None if life.commits.is_empty() => None,
        None => return Ok(()),
    };
    if crashed != expected {
        return Err(Violation(format!("I17: the account names {crashed:?} as crashed instead of {expected:?}")));
    }
    Ok(())
}

/// The transactions that are there and were not at the last check, in the commit order.
fn order_of(found: &State, ledger: &Ledger) -> Result<Vec<(u64, Name)>, Violation> {
    let rows = found.rows().map_err(|what| format!("I7: {what}"))?;
    let before = ledger.base.rows().map_err(|what| format!("I7: {what}"))?;
    let settled = before.len() as u64;
    let mut order = Vec::new();
    let mut last: Option<(Name, Lsn)> = None;
    for (expected, (&number, &name)) in (1..).zip(&rows) {
        if number != expected {
            return Err(Violation(format!("I1: commit {name} is number {number}, and number {expected} is missing")));
        }
        if number <= settled {
            continue;
        }
        let (_, commit) = find(ledger, name)
            .ok_or_else(|| format!("I7, I8: commit {name} is there, and nobody submitted it since the last open"))?;
        let lsn = commit.lsn.unwrap_or_default();
        if let Some((earlier, at)) = last
            && ((commit.lsn.is_some() && at >= lsn) || earlier.life > name.life)
        {
            return Err(Violation(format!("I1: commit {name} at {lsn} came after {earlier} at {at}")));
        }
        if commit.lsn.is_some() {
            last = Some((name, lsn));
        }
        order.push((number, name));
    }
    Ok(order)
}

fn find(ledger: &Ledger, name: Name) -> Option<(&Life, &Commit)> {
    ledger.lives.iter().find_map(|life| life.commits.get(&name).map(|commit| (life, commit)))
}

/// Creations and drops have no row: what the contents say about them. A keyspace that is not there was dropped only if
/// its creation is not lost.
fn settle_keyspaces(found: &State, ledger: &mut Ledger) -> Result<(), Violation> {
    // A life creates only what is not there: what a later one creates again, a crash had taken.
    let mut again = HashSet::new();
    for life in ledger.lives.iter_mut().rev() {
        let mut drops = BTreeMap::new();
        for commit in life.commits.values() {
            if let Action::Drop(keyspace) = &commit.action {
                drops.insert(keyspace.clone(), commit.fate);
            }
        }
        let mut created = HashSet::new();
        for (name, commit) in &mut life.commits {
            // In the order of their names the creation comes first.
            match commit.action.clone() {
                Action::Create(keyspace) => {
                    let dropped = drops.get(&keyspace).is_some_and(|fate| *fate != Fate::Gone);
                    let there = found.0.contains_key(&keyspace) || (dropped && commit.fate == Fate::Kept);
                    let there = there && !again.contains(&keyspace);
                    settle(*name, commit, there)?;
                    created.extend((commit.fate == Fate::Kept).then_some(keyspace));
                }
                Action::Drop(keyspace) => {
                    let there = created.contains(&keyspace) && !found.0.contains_key(&keyspace);
                    settle(*name, commit, there)?;
                }
                _ => {}
            }
        }
        again.extend(life.commits.values().filter_map(|commit| match &commit.action {
            Action::Create(name) => Some(name.clone()),
            _ => None,
        }));
    }
    Ok(())
}

pub(super) fn settle(name: Name, commit: &mut Commit, there: bool) -> Result<(), Violation> {
    let lsn = commit.lsn.unwrap_or_default();
    match (commit.fate, there) {
        (Fate::Kept, false) => {
            Err(Violation(format!("I1-I4: commit {name} at {lsn} is not there (promised: {:?})", commit.promise)))
        }
        (Fate::Gone, true) => Err(Violation(format!(
            "I7, I8: commit {name} ({}) at {lsn} is there, and had been called lost, or not done at all",
            commit.action
        ))),
        (_, there) => {
            commit.fate = if there { Fate::Kept } else { Fate::Gone };
            Ok(())
        }
    }
}

/// The fate of every commit, and what the crash took.
fn settle_commits(order: &[(u64, Name)], ledger: &mut Ledger) -> Result<Summary, Violation> {
    let there: HashSet<Name> = order.iter().map(|(_, name)| *name).collect();
    let mut summary = Summary::default();
    for life in &mut ledger.lives {
        let mut cut: Option<Name> = None;
        for (name, commit) in &mut life.commits {
            let refused = commit.fate == Fate::Gone && commit.lsn.is_none();
            if matches!(commit.action, Action::Fill | Action::Write) {
                settle(*name, commit, there.contains(name))?;
            }
            // What one thread did it did in order: a later commit is not there without the earlier ones.
            match cut {
                Some(missing) if missing.client == name.client && commit.fate == Fate::Kept => {
                    return Err(Violation(format!("I1: commit {name} is there, and {missing} before it is not")));
                }
                _ if commit.fate == Fate::Gone && !refused => cut = Some(*name),
                _ => {}
            }
            let Some(mode) = commit.acknowledged else { continue };
            summary.acknowledged[mode_index(mode)] += 1;
            summary.lost[mode_index(mode)] += u64::from(commit.fate == Fate::Gone);
            summary.durable += u64::from(commit.promise == Promise::PowerLoss);
            summary.promised += u64::from(commit.fate == Fate::Gone && commit.promise >= Promise::ProcessDeath);
        }
        let lost = life.acknowledged().filter(|(_, commit)| commit.fate == Fate::Gone).count() as u64;
        if life.ending != Ending::Lie && lost > life.script.budget().max_commits {
            return Err(Violation(format!("I5: {lost} acknowledged commits are lost, more than the loss budget")));
        }
    }
    Ok(summary)
}

/// The contents that follow from the commits that are there.
fn replayed(order: &[(u64, Name)], ledger: &Ledger) -> State {
    let mut state = ledger.base.clone();
    // Nothing is written to a keyspace that is dropped, and the others are created before they are written to: beside
    // the transactions the order of these does not matter.
    for life in &ledger.lives {
        for (name, commit) in life.commits.iter().filter(|(_, commit)| commit.fate == Fate::Kept) {
            if matches!(commit.action, Action::Create(_) | Action::Drop(_)) {
                state.apply(ledger.seed, *name, &commit.action, 0, &life.script);
            }
        }
    }
    for (number, name) in order {
        if let Some((life, commit)) = find(ledger, *name) {
            state.apply(ledger.seed, *name, &commit.action, *number, &life.script);
        }
    }
    state
}

pub(super) fn settle_tokens(ledger: &mut Ledger) {
    for commit in ledger.lives.iter().flat_map(|life| life.commits.values()) {
        let outcome = if commit.fate == Fate::Kept { Outcome::Durable } else { Outcome::Lost };
        ledger.settled.extend(commit.token.map(|token| (token, outcome)));
    }
}

/// I16: every token ever handed out is answered truthfully, now and always.
pub(super) fn ask_all(answer: impl Fn(&Token) -> forelog::Result<Outcome>, ledger: &Ledger) -> Result<u64, Violation> {
    let ask = |(token, truth): &(Token, Outcome)| match answer(token) {
        Ok(outcome) if outcome == *truth => Ok(()),
        other => Err(Violation(format!("I16: {token} is answered {other:?}, and {truth:?} is true"))),
    };
    ledger.settled.iter().try_for_each(ask)?;
    Ok(ledger.settled.len() as u64)
}

/// I13: what a closed database leaves, file by file.
pub(crate) fn check_leftovers(dir: &Path) -> Result<(), Violation> {
    for name in names(dir)? {
        if !["LOCK", "HISTORY", "MARK"].contains(&&*name) && !name.ends_with(".log") {
            return Err(Violation(format!("I13: {name} is left after a clean close")));
        }
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("cannot list {}: {error}", dir.display());
    let mut names = Vec::new();
    match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(unreadable)? {
                names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

/// A hash over the names and contents of all files but the empty LOCK.
pub(crate) fn digest(dir: &Path) -> Result<u64, String> {
    let mut digest = 0xCBF2_9CE4_8422_2325_u64;
    let mut feed = |bytes: &[u8]| {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            digest = (digest ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
        for byte in words.remainder() {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
        digest = digest.wrapping_mul(31).wrapping_add(bytes.len() as u64);
    };
    for name in names(dir)?.iter().filter(|name| *name != "LOCK") {
        feed(name.as_bytes());
        let path = dir.join(name);
        feed(&fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?);
    }
    Ok(digest)
}
