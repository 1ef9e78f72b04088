//! Backups that a child makes beside its commits, and what a crash leaves of them: one that it was told of is whole, and what is left
//! of one that was cut off is refused as that, or whole (`src/engine/BACKUP.md`).

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crashkit::ledger::Fate;
use crashkit::model::State;
use forelog::{BackupOptions, BackupReport, Engine, ErrorKind, Lsn, Options, Result};

use super::books::Books;
use super::check::{self, Violation};

/// The directory of the backups of the database in `dir`, beside it.
pub(crate) fn root(dir: &Path) -> PathBuf {
    dir.with_extension("backups")
}

/// Makes one, against an earlier one if there is any.
pub(crate) fn make(engine: &Engine, dir: &Path, name: &str, earlier: Option<&str>) -> Result<BackupReport> {
    let at = |name: &str| root(dir).join(name);
    let options = earlier.map_or_else(BackupOptions::new, |earlier| BackupOptions::new().against(at(earlier)));
    engine.backup_with(at(name), options)
}

/// Looks at all backups of the database in `dir` before what the crash has left of that is looked at, and removes them. Returns how
/// many were whole.
pub(crate) fn check(dir: &Path, books: &mut Books) -> std::result::Result<u64, Violation> {
    let made = std::mem::take(&mut books.ledger.backups);
    let unreadable = |error: io::Error| format!("cannot look at {}: {error}", root(dir).display());
    let names: Vec<OsString> = match std::fs::read_dir(root(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && made.is_empty() => return Ok(0),
        entries => {
            let names = entries.map_err(unreadable)?.map(|entry| Ok(entry?.file_name()));
            names.collect::<io::Result<_>>().map_err(unreadable)?
        }
    };
    if let Some((lsn, name)) = made.iter().find(|(_, name)| !names.iter().any(|found| **found == **name)) {
        return Err(Violation::Wrong(format!("backup {name} at {lsn} was made, and is not there")));
    }
    let mut whole = 0;
    for name in &names {
        let told = made.iter().find(|(_, told)| **name == **told).map(|(lsn, _)| *lsn);
        whole += u64::from(check_one(&root(dir).join(name), told, books).map_err(|wrong| wrong.at(name.display()))?);
    }
    std::fs::remove_dir_all(root(dir)).map_err(unreadable)?;
    Ok(whole)
}

/// Whether a backup is whole, which it has to be if it was told to be made, up to here.
fn check_one(at: &Path, told: Option<Lsn>, books: &Books) -> std::result::Result<bool, Violation> {
    let engine = match Options::new().create(false).open(at) {
        Ok(engine) => engine,
        Err(error) if error.kind() == ErrorKind::NotADatabase && told.is_none() => return Ok(false),
        Err(error) => return Err(Violation::Wrong(format!("a backup, made at {told:?}, does not open: {error:?}"))),
    };
    let lsn = engine.recovery().recovered_to;
    if told.is_some_and(|told| told != lsn) {
        return Err(Violation::Wrong(format!("it is at {lsn}, and was said to be at {told:?}")));
    }
    let found = State::of(&engine).map_err(|error| format!("it cannot be read: {error}"))?;
    drop(engine);
    // What has been settled since does not matter: a creation, or a drop, may lie above it.
    let mut books = books.clone();
    for commit in books.ledger.lives.iter_mut().flat_map(|life| life.commits.values_mut()) {
        if commit.fate == Fate::Kept {
            commit.fate = Fate::Open;
        }
    }
    let order = check::order_of(&found, &books)?;
    for (name, commit) in books.ledger.lives.iter().flat_map(|life| &life.commits) {
        let Some(own) = commit.lsn.filter(|_| commit.work.has_row()) else { continue };
        let is_there = order.iter().any(|(_, there)| there == name);
        if is_there != (own <= lsn && commit.fate != Fate::Gone) {
            let not = if is_there { "" } else { "not " };
            return Err(Violation::Wrong(format!("it is at {lsn}, and commit {name} at {own} is {not}there")));
        }
    }
    check::settle_keyspaces(&found, &mut books)?;
    match found.difference(&check::replayed(&order, &books)) {
        Some(difference) => Err(Violation::Wrong(format!("not the effect of the commits in it: {difference}"))),
        None => Ok(true),
    }
}
