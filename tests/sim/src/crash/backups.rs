//! Backups that the clients of a life make, and what a crash leaves of them: one that was made is whole whatever happens, and what
//! is left of one that was cut off is refused as that, or whole (`src/engine/BACKUP.md`).

use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::sync::Arc;

use crashkit::model::{History, State};
use forelog::sim::SimDisk;
use forelog::{ErrorKind, Lsn, Options};

use super::notes::View;

/// The directory of all backups, beside the one of the database.
const ROOT: &str = "backups";

/// Where the backup of this name lies.
pub fn path(name: &str) -> String {
    format!("{ROOT}/{name}")
}

/// Whether this is a part of a backup.
pub fn is_in_backup(path: &Path) -> bool {
    path.components().any(|part| part == Component::Normal(ROOT.as_ref()))
}

/// What is left of all backups on `disk`, which a crash has left. `view` is what was known when it came. A backup from before
/// `history` has its state below it, and was looked at then.
pub fn check(disk: &SimDisk, view: &View, history: &History) -> Result<usize, String> {
    let (made, first) = (check_made(disk, view, history)?, history.lsns[0]);
    let before: BTreeSet<&str> = view.backups.iter().map(|(_, name)| &**name).collect();
    let cut_off = names(disk).into_iter().filter(|name| !before.contains(&**name));
    for name in cut_off {
        match open(disk, &name) {
            Ok(found) if found.0 >= first => compare(&found, &name, history)?,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotADatabase => {}
            Err(error) => return Err(format!("backup {name}, which was cut off: {error:?}")),
        }
    }
    Ok(made)
}

/// Those that were made. Returns how many.
pub fn check_made(disk: &SimDisk, view: &View, history: &History) -> Result<usize, String> {
    let first = history.lsns[0];
    let made = || view.backups.iter().filter(|(lsn, _)| *lsn >= first);
    for (lsn, name) in made() {
        let found = open(disk, name).map_err(|error| format!("backup {name} at {lsn}, which was made: {error:?}"))?;
        compare(&found, name, history)?;
        if found.0 != *lsn {
            return Err(format!("backup {name} is at {}, and was said to be at {lsn}", found.0));
        }
    }
    Ok(made().count())
}

fn names(disk: &SimDisk) -> BTreeSet<String> {
    let files = disk.files();
    let of_backups = files.iter().filter_map(|(path, _)| path.strip_prefix(ROOT).ok());
    of_backups.filter_map(|path| Some(path.iter().next()?.to_str()?.to_owned())).collect()
}

/// Up to where it has everything, and what it shows.
fn open(disk: &SimDisk, name: &str) -> forelog::Result<(Lsn, State)> {
    let engine = Options::new().create(false).open_on(Arc::new(disk.clone()), path(name))?;
    Ok((engine.recovery().recovered_to, State::of(&engine)?))
}

fn compare((lsn, found): &(Lsn, State), name: &str, history: &History) -> Result<(), String> {
    let index = history.index_of(*lsn);
    if history.lsns[index] != *lsn {
        return Err(format!("backup {name} is at {lsn}, where no commit ends"));
    }
    found.difference(&history.states[index]).map_or(Ok(()), |other| Err(format!("backup {name} at {lsn}: {other}")))
}
