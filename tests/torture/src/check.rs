//! Opens what a crash left, through the engine's own front door, and compares all contents, all tokens and the account
//! with the ledger.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use crashkit::event::Name;
pub(crate) use crashkit::judge::Violation;
use crashkit::judge::{self, guarded};
use crashkit::ledger::{Ending, Fate};
use crashkit::model::{BANK, State};
use forelog::{Engine, ErrorKind, Lsn, Options, Outcome, Token};

use super::backups;
use super::books::{Books, Commit, Life};
use super::model::{Action, effects, rows};
use super::retire;
use super::script::{MODES, mode_index};

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
    /// Its backups that were whole, and were compared.
    pub(crate) backups: u64,
}

/// Opens the database in `dir`, compares it with the ledger, closes it; then once more, which must change nothing. The
/// ledger goes on from there: what was found is settled.
pub(crate) fn check(dir: &Path, books: &mut Books) -> Result<Summary, Violation> {
    let of_a_log = books.last_script().is_some_and(|script| script.retiring);
    let check = if of_a_log { retire::check } else { check_opening };
    guarded(|| check(dir, books))
}

fn check_opening(dir: &Path, books: &mut Books) -> Result<Summary, Violation> {
    let backups = backups::check(dir, books)?;
    let before = digest(dir)?;
    // After an error, told or not, a close may leave files that nothing depends on; and a power cut may take back what it
    // did after everything was durable, the cuts and the removals.
    let closed = |life: &Life| life.closed && life.errors.is_empty() && !books.failed;
    let clean = books.ledger.lives.last().is_some_and(closed) && books.ending == Ending::Process && !books.lied;
    let engine = open(dir, books)?;
    let mut summary = compare(&engine, books)?;
    (summary.digest, summary.backups) = (before, backups);
    engine.close().map_err(|error| format!("I12: closing what was only read failed: {error}"))?;
    let after = digest(dir)?;
    if clean && after != before {
        return Err(Violation::Wrong("I14: an open after a clean close changed the directory".to_owned()));
    }
    drop(engine);

    let engine = open(dir, books)?;
    let again = read(&engine)?;
    if let Some(difference) = again.difference(&books.base) {
        return Err(Violation::Wrong(format!("I10: the second open shows something else: {difference}")));
    }
    ask_all(|token| engine.outcome(token), books)?;
    engine.close().map_err(|error| format!("I12: closing what was only read failed: {error}"))?;
    if digest(dir)? != after {
        return Err(Violation::Wrong("I10: the second open changed the directory".to_owned()));
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
pub(crate) fn check_lie(dir: &Path, books: &mut Books) -> Result<AfterLie, Violation> {
    let before = digest(dir)?;
    let of_a_log = books.last_script().is_some_and(|script| script.retiring);
    let verify = || if of_a_log { forelog::log::Log::verify(dir) } else { Engine::verify(dir) };
    let open = || if of_a_log { retire::open(dir) } else { Options::new().create(false).open(dir).map(drop) };
    let verified = catch_unwind(verify).map_err(|_| "I12: verify panicked".to_owned())?;
    let Err(error) = verified else { return check(dir, books).map(AfterLie::Opened) };
    // Cut off before there was anything: the next open creates it.
    if error.kind() == ErrorKind::NotADatabase && !books.ledger.exists {
        return check(dir, books).map(AfterLie::Opened);
    }
    let opened = catch_unwind(open);
    match opened.map_err(|_| "I12: an open after a lie panicked".to_owned())? {
        Err(refusal) if refusal.kind() != ErrorKind::Damaged || error.kind() != ErrorKind::Damaged => {
            Err(Violation::Wrong(format!("I9: damage is not called so: {error:?}, {refusal:?}")))
        }
        Err(_) if digest(dir)? == before => Ok(AfterLie::Refused),
        Err(_) => Err(Violation::Wrong("I9: a refusal changed what it refused".to_owned())),
        Ok(()) => Err(Violation::Wrong(format!("I9: verify refuses what opens: {error:?}"))),
    }
}

fn open(dir: &Path, books: &Books) -> Result<Engine, Violation> {
    let before = digest(dir)?;
    Options::new().create(!books.ledger.exists).open(dir).map_err(|error| {
        let changed = if digest(dir).is_ok_and(|after| after == before) { "" } else { ", and the refusal changed it" };
        Violation::Wrong(format!("I9: REFUSED, a legal state{changed}: {error:?}"))
    })
}

/// Up to where promises reached before a check settled them.
pub(super) struct Promises {
    process: Lsn,
    power: Lsn,
}

impl Promises {
    /// An open has found everything up to `recovered`.
    pub(super) fn settle(books: &mut Books, recovered: Lsn) -> Result<Self, Violation> {
        let promises = Promises { process: books.ledger.floor(Ending::Process), power: books.ledger.durable() };
        books.finish();
        books.ledger.settle(recovered)?;
        Ok(promises)
    }
}

impl Summary {
    /// Counts a commit whose fate is settled.
    pub(super) fn count(&mut self, commit: &Commit, promises: &Promises) {
        if !commit.acknowledged {
            return;
        }
        let (mode, gone) = (mode_index(commit.mode), commit.fate == Fate::Gone);
        self.acknowledged[mode] += 1;
        self.lost[mode] += u64::from(gone);
        self.durable += u64::from(commit.lsn.is_some_and(|lsn| lsn <= promises.power));
        self.promised += u64::from(gone && commit.lsn.is_some_and(|lsn| lsn <= promises.process));
    }
}

/// Compares an engine that was just opened, and settles the ledger by it.
fn compare(engine: &Engine, books: &mut Books) -> Result<Summary, Violation> {
    let promises = Promises::settle(books, engine.recovery().recovered_to)?;
    judge::check_account(engine, books.ledger.crashed())?;
    let found = read(engine)?;
    if !found.bank_adds_up() {
        return Err(Violation::Wrong(format!(
            "I6: the accounts do not add up: {:?}",
            found.entries(BANK).collect::<Vec<_>>()
        )));
    }
    let order = order_of(&found, books)?;
    settle_keyspaces(&found, books)?;
    let mut summary = settle_commits(&order, books, &promises)?;
    let expected = replayed(&order, books);
    if let Some(difference) = found.difference(&expected) {
        return Err(Violation::Wrong(format!("I1: not the effect of the commits that are there: {difference}")));
    }
    summary.tokens = ask_all(|token| engine.outcome(token), books)?;
    books.base = found;
    books.ledger.lives.clear();
    books.ledger.exists = true;
    Ok(summary)
}

fn read(engine: &Engine) -> Result<State, Violation> {
    State::of(engine).map_err(|error| Violation::Wrong(format!("I12: what was opened cannot be read: {error}")))
}

/// The transactions that are there and were not at the last check, in the commit order.
pub(super) fn order_of(found: &State, books: &Books) -> Result<Vec<(u64, Name)>, Violation> {
    let now = rows(found).map_err(|what| format!("I7: {what}"))?;
    let before = rows(&books.base).map_err(|what| format!("I7: {what}"))?;
    let settled = before.len() as u64;
    let mut order = Vec::new();
    let mut last: Option<(Name, Lsn)> = None;
    for (expected, (&number, &name)) in (1..).zip(&now) {
        if number != expected {
            return Err(Violation::Wrong(format!(
                "I1: commit {name} is number {number}, and number {expected} is missing"
            )));
        }
        if number <= settled {
            continue;
        }
        let commit = find(books, name)
            .ok_or_else(|| format!("I7, I8: commit {name} is there, and nobody submitted it since the last open"))?;
        let lsn = commit.lsn.unwrap_or_default();
        if let Some((earlier, at)) = last
            && ((commit.lsn.is_some() && at >= lsn) || earlier.life > name.life)
        {
            return Err(Violation::Wrong(format!("I1: commit {name} at {lsn} came after {earlier} at {at}")));
        }
        if commit.lsn.is_some() {
            last = Some((name, lsn));
        }
        order.push((number, name));
    }
    Ok(order)
}

fn find(books: &Books, name: Name) -> Option<&Commit> {
    books.ledger.lives.iter().find_map(|life| life.commits.get(&name))
}

/// Creations and drops have no row: what the contents say about them. A keyspace that is not there was dropped only if
/// its creation is not lost.
pub(super) fn settle_keyspaces(found: &State, books: &mut Books) -> Result<(), Violation> {
    // A life creates only what is not there: what a later one creates again, a crash had taken.
    let mut again = HashSet::new();
    for life in books.ledger.lives.iter_mut().rev() {
        let mut drops = BTreeMap::new();
        for commit in life.commits.values() {
            if let Action::Drop(keyspace) = &commit.work {
                drops.insert(keyspace.clone(), commit.fate);
            }
        }
        let mut created = HashSet::new();
        for (name, commit) in &mut life.commits {
            // In the order of their names the creation comes first.
            match commit.work.clone() {
                Action::Create(keyspace) => {
                    let dropped = drops.get(&keyspace).is_some_and(|fate| *fate != Fate::Gone);
                    let there = found.has(&keyspace) || (dropped && commit.fate == Fate::Kept);
                    let there = there && !again.contains(&keyspace);
                    settle(*name, commit, there)?;
                    created.extend((commit.fate == Fate::Kept).then_some(keyspace));
                }
                Action::Drop(keyspace) => {
                    let there = created.contains(&keyspace) && !found.has(&keyspace);
                    settle(*name, commit, there)?;
                }
                _ => {}
            }
        }
        again.extend(life.commits.values().filter_map(|commit| match &commit.work {
            Action::Create(name) => Some(name.clone()),
            _ => None,
        }));
    }
    Ok(())
}

pub(super) fn settle(name: Name, commit: &mut Commit, there: bool) -> Result<(), Violation> {
    let lsn = commit.lsn.unwrap_or_default();
    match (commit.fate, there) {
        (Fate::Kept, false) => Err(Violation::Wrong(format!(
            "I1-I4: commit {name} at {lsn} is not there (submitted in mode {:?})",
            commit.mode
        ))),
        (Fate::Gone, true) => Err(Violation::Wrong(format!(
            "I7, I8: commit {name} ({}) at {lsn} is there, and had been called lost, or not done at all",
            commit.work
        ))),
        (_, there) => {
            commit.fate = if there { Fate::Kept } else { Fate::Gone };
            Ok(())
        }
    }
}

/// The fate of every commit, and what the crash took.
fn settle_commits(order: &[(u64, Name)], books: &mut Books, promises: &Promises) -> Result<Summary, Violation> {
    let there: HashSet<Name> = order.iter().map(|(_, name)| *name).collect();
    let mut summary = Summary::default();
    let most = books.last_script().map(|script| script.budget().max_commits);
    for life in &mut books.ledger.lives {
        let mut cut: Option<Name> = None;
        for (name, commit) in &mut life.commits {
            let refused = commit.fate == Fate::Gone && commit.lsn.is_none();
            if commit.work.has_row() {
                settle(*name, commit, there.contains(name))?;
            }
            // What one thread did it did in order: a later commit is not there without the earlier ones.
            match cut {
                Some(missing) if missing.client == name.client && commit.fate == Fate::Kept => {
                    return Err(Violation::Wrong(format!(
                        "I1: commit {name} is there, and {missing} before it is not"
                    )));
                }
                _ if commit.fate == Fate::Gone && !refused => cut = Some(*name),
                _ => {}
            }
            summary.count(commit, promises);
        }
        let lost = life.acknowledged().filter(|(_, commit)| commit.fate == Fate::Gone).count() as u64;
        if !books.lied && most.is_some_and(|most| lost > most) {
            return Err(Violation::Wrong(format!(
                "I5: {lost} acknowledged commits are lost, more than the loss budget"
            )));
        }
    }
    Ok(summary)
}

/// The contents that follow from the commits that are there.
pub(super) fn replayed(order: &[(u64, Name)], books: &Books) -> State {
    let mut state = books.base.clone();
    let mut apply = |name: Name, commit: &Commit, number| {
        let read = |key: &[u8]| Ok::<_, Infallible>(state.get(BANK, key).cloned());
        let Ok(writes) = effects(books.seed, name, &commit.work, number, books.script(name.life), read);
        state.apply(&writes);
    };
    // Nothing is written to a keyspace that is dropped, and the others are created before they are written to: beside
    // the transactions the order of these does not matter.
    for (name, commit) in books.ledger.lives.iter().flat_map(|life| &life.commits) {
        if commit.fate == Fate::Kept && matches!(commit.work, Action::Create(_) | Action::Drop(_)) {
            apply(*name, commit, 0);
        }
    }
    for (number, name) in order {
        if let Some(commit) = find(books, *name) {
            apply(*name, commit, *number);
        }
    }
    state
}

/// I16: every token ever handed out is answered truthfully, now and always.
pub(super) fn ask_all(answer: impl Fn(&Token) -> forelog::Result<Outcome>, books: &Books) -> Result<u64, Violation> {
    for (token, fate) in &books.ledger.tokens {
        let truth = if *fate == Fate::Kept { Outcome::Durable } else { Outcome::Lost };
        judge::ask(&answer, token, truth)?;
    }
    Ok(books.ledger.tokens.len() as u64)
}

/// I13: what a closed database leaves, file by file.
pub(crate) fn check_leftovers(dir: &Path) -> Result<(), Violation> {
    for name in names(dir)? {
        let is_of_tables = name.starts_with("table") && !name.ends_with(".tmp");
        if !["LOCK", "HISTORY", "MARK"].contains(&&*name) && !name.ends_with(".log") && !is_of_tables {
            return Err(Violation::Wrong(format!("I13: {name} is left after a clean close")));
        }
    }
    Ok(())
}

/// The files of a directory and of those in it, from there.
fn names(dir: &Path) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("cannot list {}: {error}", dir.display());
    let mut names = Vec::new();
    match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.path().is_dir() {
                    names.extend(self::names(&entry.path())?.into_iter().map(|file| format!("{name}/{file}")));
                } else {
                    names.push(name);
                }
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
