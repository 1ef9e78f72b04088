//! Promise 11 for whole files: each file of a database is deleted, cut, extended, swapped with another, replaced by one
//! of another database or by its own former versions. The open refuses and changes no byte, or nothing is lost, or it
//! is a line of the residue (specification, section 7), named here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use forelog::sim::{self, Granularity, Loss, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, LossBudget, MarkFound, Options, Outcome, Token};

use crashkit::open_on;

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Small segments, and no flush that a commit did not ask for.
fn options() -> Options {
    let hour = Duration::from_secs(3600);
    Options::new().segment_bytes(4096).flush_interval(hour).loss_budget(LossBudget::default().max_age(hour))
}

/// How the last life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Closed,
    Killed,
    PowerCut,
    /// After a rest, in which the mark was written.
    PowerCutAtRest,
}

const ENDS: [End; 4] = [End::Closed, End::Killed, End::PowerCut, End::PowerCutAtRest];

/// A database that lived three times, with several segments each, and everything that its files ever were.
struct Database {
    files: Files,
    /// The former versions of each file, oldest first, all unlike the last.
    former: BTreeMap<PathBuf, Vec<Vec<u8>>>,
    contents: Vec<(Vec<u8>, Vec<u8>)>,
    tokens: Vec<Token>,
}

fn files_on(disk: &SimDisk) -> Files {
    disk.files().into_iter().collect()
}

fn disk_with(files: &Files) -> SimDisk {
    let disk = SimDisk::new();
    for (path, bytes) in files {
        disk.write_file(path, bytes).unwrap();
    }
    disk
}

fn contents(engine: &Engine) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Ok(keys) = engine.open_keyspace("keys") else { return Vec::new() };
    let entries = engine.snapshot().unwrap().iter(&keys).unwrap();
    entries.map(Result::unwrap).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn database(seed: u64, end: End) -> Database {
    let mut disk = SimDisk::new();
    let mut versions: Vec<Files> = Vec::new();
    let mut tokens = Vec::new();
    let mut all = Vec::new();
    for life in 0..3_u8 {
        let last = life == 2;
        let (crash, closed) = sim::run(seed * 16 + u64::from(life), || {
            let engine = open_on(&disk, options()).unwrap();
            let keys = engine.create_keyspace("keys").unwrap();
            for number in 0..7_u8 {
                let mut batch = engine.batch().unwrap();
                let length = [700, 20, 1500, 900, 1200, 60, 100][usize::from(number)];
                batch.put(&keys, [life, number], vec![number; length]).unwrap();
                tokens.push(batch.commit_with(CommitMode::Sync).unwrap().token());
                sim::sleep(Duration::from_millis(1));
                versions.push(files_on(&disk));
            }
            if !last || end == End::PowerCutAtRest {
                sim::sleep(Duration::from_secs(3));
                versions.push(files_on(&disk));
            }
            all = contents(&engine);
            let crash = disk.crash_point();
            drop(engine);
            (crash, disk.crash_point())
        });
        disk = match end {
            _ if !last => closed.process_kill(),
            End::Closed => closed.power_loss(&Loss::Nothing, Granularity::Sector),
            End::Killed => crash.process_kill(),
            End::PowerCut | End::PowerCutAtRest => crash.power_loss(&Loss::Everything, Granularity::Sector),
        };
    }
    let files = files_on(&disk);
    let mut former: BTreeMap<PathBuf, Vec<Vec<u8>>> = BTreeMap::new();
    for (path, bytes) in versions.into_iter().flatten() {
        let known = former.entry(path.clone()).or_default();
        if files.get(&path).is_some_and(|now| *now != bytes) && !known.contains(&bytes) {
            known.push(bytes);
        }
    }
    assert!(files.len() >= 8, "{:?}", files.keys());
    Database { files, former, contents: all, tokens }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fate {
    Refused,
    Harmless,
    /// Fewer commits than were durable, and no error.
    Lost,
}

/// Opens `files`; a refusal must be typed, name one of `named` (or any file), and change nothing.
fn fate_of(files: &Files, database: &Database, named: &[&Path], what: &str) -> Fate {
    let disk = disk_with(files);
    match open_on(&disk, options().create(false)) {
        Err(error) => {
            let after: Files = files_on(&disk).into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect();
            let before: Files = files.clone().into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect();
            assert!(after == before, "{what}: the refusal changed something");
            assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error}");
            let file = &error.damage().unwrap().file;
            assert!(named.is_empty() || named.iter().any(|name| *name == *file), "{what}: {error}");
            Fate::Refused
        }
        Ok(engine) => {
            let found = contents(&engine);
            if found != database.contents {
                assert!(found.iter().all(|entry| database.contents.contains(entry)), "{what}: made up");
                return Fate::Lost;
            }
            for token in &database.tokens {
                assert_eq!(engine.outcome(token).unwrap(), Outcome::Durable, "{what}");
            }
            Fate::Harmless
        }
    }
}

/// What became of each kind of damage to each kind of file.
#[derive(Default)]
struct Tally(BTreeMap<(String, &'static str, Fate), u32>);

impl Tally {
    fn count(&mut self, file: &Path, action: &'static str, fate: Fate) {
        *self.0.entry((kind(file), action, fate)).or_default() += 1;
    }

    fn print(&self, end: End) {
        for ((file, action, fate), count) in &self.0 {
            println!("{end:?}: {file:<8} {action:<26} {fate:?} {count}");
        }
    }

    /// The damage after which something was gone without a word.
    fn lost(&self) -> BTreeSet<(&str, &'static str)> {
        let lost = self.0.keys().filter(|(_, _, fate)| *fate == Fate::Lost);
        lost.map(|(file, action, _)| (file.as_str(), *action)).collect()
    }

    fn fates(&self, file: &str, action: &str) -> BTreeSet<Fate> {
        let matching = self.0.keys().filter(|(name, did, _)| name == file && *did == action);
        matching.map(|(_, _, fate)| *fate).collect()
    }
}

fn kind(file: &Path) -> String {
    if file.extension().is_some() {
        "segment".to_owned()
    } else {
        file.file_name().unwrap().to_string_lossy().into_owned()
    }
}

/// Does everything that this file is about to one database.
fn sweep(end: End) -> (Tally, Database) {
    let (database, other) = (database(1, end), database(2, end));
    let mut tally = Tally::default();
    let whole = fate_of(&database.files, &database, &[], "whole");
    assert_eq!(whole, Fate::Harmless);
    for (path, bytes) in &database.files {
        let mut try_with = |action: &'static str, named: &[&Path], change: &dyn Fn(&mut Files)| {
            let mut files = database.files.clone();
            change(&mut files);
            let what = format!("{end:?}, {action}: {}", path.display());
            tally.count(path, action, fate_of(&files, &database, named, &what));
        };
        try_with("deleted", &[path], &|files| drop(files.remove(path)));
        let half = bytes.len() / 2;
        for length in [0, half, half | 1].into_iter().chain((512..bytes.len()).step_by(512)) {
            if length < bytes.len() {
                try_with("cut", &[path], &|files| files.get_mut(path).unwrap().truncate(length));
            }
        }
        for more in [1, 8, 512, 4096] {
            try_with("extended", &[path], &|files| files.get_mut(path).unwrap().resize(bytes.len() + more, 0));
        }
        for (second, theirs) in database.files.iter().filter(|(second, _)| *second > path) {
            try_with("swapped with another", &[path, second], &|files| {
                files.insert(path.clone(), theirs.clone());
                files.insert(second.clone(), bytes.clone());
            });
        }
        for (stranger, theirs) in &other.files {
            // HISTORY and the segments disagree: which of them is the stranger cannot be told.
            let any = path.ends_with("HISTORY") && stranger.ends_with("HISTORY");
            let named: &[&Path] = if any { &[] } else { &[path] };
            try_with("of another database", named, &|files| drop(files.insert(path.clone(), theirs.clone())));
        }
        for former in database.former.get(path).into_iter().flatten() {
            try_with("a former version", &[], &|files| drop(files.insert(path.clone(), former.clone())));
        }
    }
    tally.print(end);
    (tally, database)
}

/// What holds whatever came before.
fn check_all(tally: &Tally) {
    for action in ["deleted", "cut", "of another database"] {
        assert_eq!(tally.fates("HISTORY", action), [Fate::Refused].into(), "HISTORY {action}");
    }
    assert_eq!(tally.fates("HISTORY", "extended"), [Fate::Refused].into());
    assert_eq!(tally.fates("HISTORY", "a former version"), [Fate::Refused].into());
    assert_eq!(tally.fates("segment", "cut"), [Fate::Refused].into());
    assert_eq!(tally.fates("segment", "of another database"), [Fate::Refused].into());
    assert!(tally.fates("segment", "deleted").contains(&Fate::Refused));
    for action in ["deleted", "cut", "extended", "of another database", "a former version"] {
        // Extra evidence: by itself it takes nothing along.
        let fates = tally.fates("MARK", action);
        assert!(fates.iter().all(|fate| *fate == Fate::Harmless), "MARK {action}: {fates:?}");
        let fates = tally.fates("LOCK", action);
        assert!(fates.iter().all(|fate| *fate == Fate::Harmless), "LOCK {action}: {fates:?}");
    }
}

#[test]
fn files_of_a_closed_database() {
    let (tally, _) = sweep(End::Closed);
    check_all(&tally);
    assert_eq!(tally.lost(), BTreeSet::new());
    // No segment was prepared and not used.
    assert_eq!(tally.fates("segment", "deleted"), [Fate::Refused].into());
}

#[test]
fn files_of_a_killed_database() {
    let (tally, _) = sweep(End::Killed);
    check_all(&tally);
    // R2: the newest segment held all evidence above an LSN.
    assert_eq!(tally.lost(), [("segment", "a former version")].into());
}

#[test]
fn files_of_a_database_that_lost_its_power() {
    let (tally, _) = sweep(End::PowerCut);
    check_all(&tally);
    // R2, as above.
    assert_eq!(tally.lost(), [("segment", "a former version")].into());
}

#[test]
fn files_of_a_database_that_lost_its_power_at_rest() {
    let (tally, database) = sweep(End::PowerCutAtRest);
    check_all(&tally);
    // The mark proves it all: R2 needs two files to go back at once.
    assert_eq!(tally.lost(), BTreeSet::new());
    let engine = open_on(&disk_with(&database.files), options()).unwrap();
    assert_eq!(engine.recovery().mark, MarkFound::Proves(database.tokens.last().unwrap().lsn));
}

#[test]
fn r5_the_prepared_segment_alone_may_go_unseen() {
    // What is deleted without a refusal is the one that was prepared ahead, and holds nothing.
    for end in ENDS {
        let database = database(1, end);
        let unseen: Vec<_> = database
            .files
            .keys()
            .filter(|path| path.extension().is_some())
            .filter(|path| {
                let mut files = database.files.clone();
                files.remove(*path);
                fate_of(&files, &database, &[], "deleted") == Fate::Harmless
            })
            .collect();
        let newest = database.files.keys().rfind(|path| path.extension().is_some()).unwrap();
        let expected: &[&PathBuf] = if end == End::Closed { &[] } else { &[newest] };
        assert_eq!(unseen, expected, "{end:?}");
    }
}

#[test]
fn r3_several_files_of_one_former_moment_are_that_moment_and_nothing_less() {
    // Whatever subset of files goes back to the same moment: refused, or the state of a moment, never a mixture.
    let database = database(3, End::PowerCutAtRest);
    let paths: Vec<_> = database.former.keys().filter(|path| database.files.contains_key(*path)).collect();
    let mut fates: BTreeMap<Fate, u32> = BTreeMap::new();
    for first in &paths {
        for second in &paths {
            for former in &database.former[*first] {
                for other in &database.former[*second] {
                    let mut files = database.files.clone();
                    files.insert((*first).clone(), former.clone());
                    files.insert((*second).clone(), other.clone());
                    let disk = disk_with(&files);
                    let fate = match open_on(&disk, options().create(false)) {
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Damaged);
                            Fate::Refused
                        }
                        Ok(engine) => {
                            let found = contents(&engine);
                            assert!(database.contents.starts_with(&found), "not a prefix");
                            if found == database.contents { Fate::Harmless } else { Fate::Lost }
                        }
                    };
                    *fates.entry(fate).or_default() += 1;
                }
            }
        }
    }
    println!("two files back at once: {fates:?}");
}

/// The newest segment holds no log yet, but log past the midpoint of the one before it proves that it was there (O2).
/// Up to the midpoint its loss is the residue's R5, and loses nothing.
#[test]
fn the_newest_segment_is_missed_once_log_lies_past_the_midpoint_of_the_one_before() {
    for (length, is_missed) in [(900, false), (2400, true)] {
        let disk = sim::run(7, || {
            let disk = SimDisk::new();
            let engine = open_on(&disk, options()).unwrap();
            let keys = engine.create_keyspace("keys").unwrap();
            sim::sleep(Duration::from_millis(1));
            let mut batch = engine.batch().unwrap();
            batch.put(&keys, b"k", vec![1; length]).unwrap();
            batch.commit_with(CommitMode::Sync).unwrap();
            disk.crash_point().process_kill()
        });
        let newest =
            files_on(&disk).into_keys().rfind(|path| path.extension().is_some_and(|end| end == "log")).unwrap();
        disk.delete(&newest).unwrap();
        match open_on(&disk, options()) {
            Ok(engine) => {
                assert!(!is_missed, "{} is not missed", newest.display());
                assert_eq!(contents(&engine).len(), 1);
            }
            Err(error) => {
                assert!(is_missed, "{error}");
                assert_eq!(error.kind(), ErrorKind::Damaged);
                assert_eq!(error.damage().unwrap().cause, forelog::DamageCause::MissingSegment);
            }
        }
    }
}
