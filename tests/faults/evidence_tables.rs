//! Promise 11 for whole files of `table/`, at an open: every mix of the MANIFESTs and HISTORYs that a database ever had, beside
//! its log; `table/` of another database, of an older copy, and of a copy that went another way; single files of those in
//! the place of ours; names that mean nothing. The open is refused by an error that names a file and the next step, and
//! changes no byte; or each reading gives what is right, or an error of that kind. Never is anything older read, or less.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crashkit::{DB, open_on};
use forelog::sim::SimDisk;
use forelog::{CommitMode, Engine, Error, ErrorKind, ReadOnlyOptions, Result, Value};
use forelog_sim::faults::in_parallel;

use database::{
    Database, ENDS, End, Entries, Files, LIVES, State, disk_with, files_on, history, manifest, options, table,
};

mod database;

/// What became of a mix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fate {
    Refused,
    /// It opens; a reading says what is damaged, and all others are right.
    Told,
    /// All readings are right.
    Right,
    /// What is read is what another copy had at a moment, exactly.
    AnotherCopy,
    /// A reading was wrong.
    Wrong,
}

/// What can be read, with and without an open.
trait Reads {
    fn names(&self) -> Result<Vec<String>>;
    fn get(&self, keyspace: &str, key: &[u8]) -> Result<Option<Value>>;
    fn entries(&self, keyspace: &str) -> Result<forelog::Entries>;
}

impl Reads for forelog::ReadOnly {
    fn names(&self) -> Result<Vec<String>> {
        self.keyspace_names()
    }

    fn get(&self, keyspace: &str, key: &[u8]) -> Result<Option<Value>> {
        forelog::ReadOnly::get(self, keyspace, key)
    }

    fn entries(&self, keyspace: &str) -> Result<forelog::Entries> {
        self.iter(keyspace)
    }
}

impl Reads for Engine {
    fn names(&self) -> Result<Vec<String>> {
        self.snapshot()?.keyspace_names()
    }

    fn get(&self, keyspace: &str, key: &[u8]) -> Result<Option<Value>> {
        self.snapshot()?.get(&self.open_keyspace(keyspace)?, key)
    }

    fn entries(&self, keyspace: &str) -> Result<forelog::Entries> {
        self.snapshot()?.iter(&self.open_keyspace(keyspace)?)
    }
}

/// Damage, with the file and the next step.
#[track_caller]
fn check_error(error: &Error, what: &str) {
    assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error}");
    let damage = error.damage().unwrap_or_else(|| panic!("{what}: {error}"));
    let (text, name) = (error.to_string(), damage.file.display().to_string());
    assert!(damage.file.starts_with(DB) && text.contains(&name), "{what}: {text}");
    assert!(text.contains("forelog salvage"), "{what}: {text}");
}

/// Asks for every key of every keyspace, there or not, and reads each keyspace in both directions.
fn read_all(reads: &impl Reads, database: &Database, what: &str) -> Fate {
    let state: &State = &database.state;
    if !reads.names().unwrap().iter().eq(state.keys()) {
        return Fate::Wrong;
    }
    let mut fate = Fate::Right;
    for (name, entries) in state {
        for key in &database.keys {
            match reads.get(name, key) {
                Ok(found) if found.as_deref() == entries.get(key).map(Vec::as_slice) => {}
                Ok(_) => return Fate::Wrong,
                Err(error) => {
                    check_error(&error, what);
                    fate = Fate::Told;
                }
            }
        }
        for backward in [false, true] {
            match scan(reads, name, backward) {
                (found, None) if found == *entries => {}
                (found, Some(error)) if found.iter().all(|(key, value)| entries.get(key) == Some(value)) => {
                    check_error(&error, what);
                    fate = Fate::Told;
                }
                _ => return Fate::Wrong,
            }
        }
    }
    fate
}

/// What a scan gives, and the error with which it ends.
fn scan(reads: &impl Reads, name: &str, backward: bool) -> (Entries, Option<Error>) {
    let mut range = reads.entries(name).unwrap();
    let mut found = Entries::new();
    loop {
        match if backward { range.next_back() } else { range.next() } {
            Some(Ok((key, value))) => _ = found.insert(key.to_vec(), value.to_vec()),
            Some(Err(error)) => return (found, Some(error)),
            None => return (found, None),
        }
    }
}

/// Reads `files` without an open and in one. What opens and reads right is written to, and then opened again.
fn fate_of(files: &Files, database: &Database, what: &str) -> Fate {
    let disk = disk_with(files);
    let shared = || Arc::new(disk.clone());
    let verified = ReadOnlyOptions::new().verify_on(shared(), DB);
    let seen = Engine::read_only_on(shared(), DB);
    let (verified, seen) = (verified.is_ok(), seen.map(|seen| read_all(&seen, database, what)));
    // It would make a database where it takes the directory for a new one.
    let opened = open_on(&disk, options());
    let fate = match &opened {
        Err(error) => {
            check_error(error, what);
            assert_eq!(
                without_lock(files_on(&disk)),
                without_lock(files.clone()),
                "{what}: the refusal changed something"
            );
            assert!(seen.is_err(), "{what}: it can be read, and not opened: {error}");
            Fate::Refused
        }
        Ok(engine) => {
            let fate = read_all(engine, database, what);
            assert_eq!(seen.unwrap_or_else(|error| panic!("{what}: {error}")), fate, "{what}: read without an open");
            fate
        }
    };
    assert!(!verified || matches!(fate, Fate::Right | Fate::Wrong), "{what}: verify takes it for sound");
    if let (Fate::Right, Ok(engine)) = (fate, opened) {
        goes_on(&disk, engine, (files, database), what);
    }
    fate
}

fn without_lock(files: Files) -> Files {
    files.into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
}

/// Later lives have everything, too.
fn goes_on(disk: &SimDisk, engine: Engine, (files, database): (&Files, &Database), what: &str) {
    let mut database = database.clone();
    let keyspace = engine.open_keyspace("a").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.put(&keyspace, "later", "value").unwrap();
    batch.commit_with(CommitMode::Sync).unwrap();
    database.state.get_mut("a").unwrap().insert(b"later".to_vec(), b"value".to_vec());
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine =
        open_on(disk, options().create(false)).unwrap_or_else(|error| panic!("{what}: the next open: {error}"));
    assert_eq!(read_all(&engine, &database, what), Fate::Right, "{what}: the next open");
    let foreign = files.keys().filter(|path| path.starts_with(table()) && !is_ours(path));
    foreign.for_each(|path| assert!(disk.read_file(path).is_ok(), "{what}: {} is gone", path.display()));
}

/// What each kind of mix became.
#[derive(Default)]
struct Tally(BTreeMap<(String, Fate), u32>);

impl Tally {
    /// Tries all of them.
    fn of(cases: &[Case], family: &Family) -> Self {
        let fates = in_parallel(cases.len(), |number| {
            let case = &cases[number];
            match fate_of(&case.files, &family.database, &case.what) {
                Fate::Wrong if family.was_once(&case.files) => Fate::AnotherCopy,
                fate => fate,
            }
        });
        let mut tally = Tally::default();
        for (case, fate) in cases.iter().zip(fates) {
            if fate == Fate::Wrong {
                println!("WRONG: {}", case.what);
            }
            *tally.0.entry((case.kind.clone(), fate)).or_default() += 1;
        }
        tally
    }

    fn print(&self, what: &str) {
        self.0.iter().for_each(|((kind, fate), count)| println!("{what}: {kind}: {fate:?} {count}"));
    }

    fn fates(&self, kind: &str) -> BTreeSet<Fate> {
        self.0.keys().filter(|(of, _)| of == kind).map(|(_, fate)| *fate).collect()
    }

    /// The kinds of which some had this fate.
    fn kinds_with(&self, fate: Fate) -> BTreeSet<&str> {
        self.0.keys().filter(|(_, of)| *of == fate).map(|(kind, _)| kind.as_str()).collect()
    }

    fn count(&self, fate: Fate) -> u32 {
        self.0.iter().filter(|((_, of), _)| *of == fate).map(|(_, count)| count).sum()
    }
}

/// A directory to be opened.
struct Case {
    kind: String,
    what: String,
    files: Files,
}

/// Where a file is from.
const OURS: &str = "ours";

/// A database, the copies of it that went another way, and another database that did the same.
struct Family {
    database: Database,
    /// By what they are called.
    strangers: Vec<(&'static str, Database)>,
}

impl Family {
    fn new(end: End) -> Self {
        let mut database = Database::new();
        let mut strangers = Vec::new();
        let go_on = |mut copy: Database, seed: u64, from: u32| {
            (from..LIVES).for_each(|life| copy.live(seed + u64::from(life), 0xC0, life, end));
            copy
        };
        for life in 0..LIVES {
            database.live(100 + u64::from(life), 0x10, life, end);
            match life {
                0 => strangers.push(("a copy from early on", go_on(database.forked(), 200, 1))),
                2 => strangers.push(("a copy from late", go_on(database.forked(), 300, 3))),
                _ => {}
            }
        }
        strangers.push(("another database", go_on(Database::new(), 400, 0)));
        Family { database, strangers }
    }

    /// Ours first.
    fn all(&self) -> impl Iterator<Item = (&'static str, &Database)> {
        [(OURS, &self.database)].into_iter().chain(self.strangers.iter().map(|(name, of)| (*name, of)))
    }

    /// Whether a directory reads as it was at a moment when it had this HISTORY and this MANIFEST.
    fn was_once(&self, files: &Files) -> bool {
        let lists = |files: &Files| [history(), manifest()].map(|path| files.get(&path).cloned());
        let found = contents_of(files);
        let moments = self.all().flat_map(|(_, of)| &of.past.moments);
        moments.filter(|moment| lists(moment) == lists(files)).any(|moment| contents_of(moment) == found)
    }

    /// Every HISTORY that there is, and what it is called; none as well.
    fn histories(&self) -> Vec<(String, Option<&Vec<u8>>)> {
        let mut all = vec![("no HISTORY".to_owned(), None)];
        for (name, of) in self.all() {
            let last = of.past.histories.len() - 1;
            let kind = |number| match number == last {
                true => format!("HISTORY {name}, now"),
                false => format!("HISTORY {name}, former"),
            };
            all.extend(of.past.histories.iter().enumerate().map(|(number, bytes)| (kind(number), Some(bytes))));
        }
        all
    }

    /// Every `table/` that there was: with the files of its moment, of now, or all that there ever were.
    fn tables(&self) -> Vec<(String, Files)> {
        let mut all = vec![("no table/".to_owned(), Files::new())];
        for (name, of) in self.all() {
            let last = of.past.generations.len() - 1;
            let now: Files = of.files.iter().filter(|(path, _)| path.starts_with(table())).clone_all();
            for (number, generation) in of.past.generations.iter().enumerate() {
                let age = if number == last { "now" } else { "former" };
                let mut add = |with: &str, files: &Files| {
                    let mut files = files.clone();
                    files.insert(manifest(), generation.manifest.clone());
                    all.push((format!("MANIFEST {name}, {age}, {with}"), files));
                };
                add("files of then", &generation.files);
                add("files of now", &now);
                add("all files", &of.past.ever);
            }
        }
        all
    }
}

/// All that is in a directory that can be read.
fn contents_of(files: &Files) -> State {
    let seen = Engine::read_only_on(Arc::new(disk_with(files)), DB).unwrap();
    let names = seen.keyspace_names().unwrap();
    let entries = |name: &String| match scan(&seen, name, false) {
        (entries, None) => (name.clone(), entries),
        (_, Some(error)) => panic!("{error}"),
    };
    names.iter().map(entries).collect()
}

/// Owned copies of what an iterator over files gives.
trait CloneAll {
    fn clone_all(self) -> Files;
}

impl<'f, I: Iterator<Item = (&'f PathBuf, &'f Vec<u8>)>> CloneAll for I {
    fn clone_all(self) -> Files {
        self.map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
    }
}

/// Every HISTORY with every `table/`, beside the log of now: one of them ours, or both from one of the others.
fn mixes(family: &Family) -> Vec<Case> {
    let rest: Files = family.database.files.iter().filter(|(path, _)| !path.starts_with(table())).clone_all();
    let mut cases = Vec::new();
    for (number, (table_kind, tables)) in family.tables().iter().enumerate() {
        for (of, (history_kind, bytes)) in family.histories().iter().enumerate() {
            let stranger = family.strangers.iter().find(|(name, _)| table_kind.contains(name));
            if stranger.is_some_and(|(name, _)| !history_kind.contains(OURS) && !history_kind.contains(name)) {
                continue;
            }
            let mut files = rest.clone();
            files.extend(tables.clone());
            match bytes {
                Some(bytes) => _ = files.insert(history(), (*bytes).clone()),
                None => _ = files.remove(&history()),
            }
            let kind = format!("{table_kind} + {history_kind}");
            cases.push(Case { what: format!("{kind} ({number}, {of})"), kind, files });
        }
    }
    let alone = family.database.files.iter().filter(|(path, _)| path.starts_with(table())).clone_all();
    cases.push(Case { kind: "table/ alone".to_owned(), what: "table/ alone".to_owned(), files: alone });
    cases
}

#[test]
fn every_mix_of_manifest_and_history_is_right_or_refused() {
    for end in ENDS {
        let family = Family::new(end);
        let cases = mixes(&family);
        let tally = Tally::of(&cases, &family);
        tally.print(&format!("{end:?}"));
        println!("{end:?}: {} mixes, {} right", cases.len(), tally.count(Fate::Right));
        assert_eq!(tally.kinds_with(Fate::Wrong), BTreeSet::new(), "{end:?}");
        // Tables are checked by name and length at an open, and these are complete.
        assert_eq!(tally.kinds_with(Fate::Told), BTreeSet::new(), "{end:?}");
        // R3, or another database as a whole: HISTORY and all of `table/` are all that there is where the log is empty. After a
        // rest the mark proves that our HISTORY is not the last one.
        let replaced = tally.kinds_with(Fate::AnotherCopy);
        let are_all_without = |part: &str| replaced.iter().all(|kind| !kind.contains(part));
        match end {
            End::ClosedAtCheckpoint => assert!(!replaced.is_empty() && are_all_without("ours, now"), "{replaced:?}"),
            End::ClosedAtRest => assert!(are_all_without(OURS), "{replaced:?}"),
            _ => assert_eq!(replaced, BTreeSet::new(), "{end:?}"),
        }
        // Those that HISTORY allows and that the log goes on from; where the log is retained, many.
        // No directory for a new database: a salvage gives what tables have.
        assert_eq!(tally.fates("table/ alone"), [Fate::Refused].into(), "{end:?}");
        let disk = Arc::new(disk_with(&cases.last().unwrap().files));
        assert!(Engine::salvage_on(disk, DB, "saved").unwrap().entries > 50, "{end:?}");
        let right = tally.count(Fate::Right);
        assert!(right >= if end == End::KilledRetaining { 10 } else { 3 }, "{end:?}: {right}");
    }
}

/// Whether a file of tables has this name, or had it while it was written.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.starts_with("MANIFEST") || numbered(name).is_some()
}

fn numbered(name: &str) -> Option<u64> {
    let (number, kind) = name.split_once('.')?;
    let is_number = number.len() == 16 && number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_number && ["run", "keys"].contains(&kind)).then(|| u64::from_str_radix(number, 16).unwrap())
}

/// The present directory, with one thing in `table/` that is not as it was.
fn changes(family: &Family) -> Vec<Case> {
    let database = &family.database;
    let mut cases = Vec::new();
    let mut add = |kind: &str, path: &Path, from: &str, bytes: &[u8]| {
        let mut files = database.files.clone();
        files.insert(path.to_owned(), bytes.to_owned());
        cases.push(Case { kind: kind.to_owned(), what: format!("{kind}: {}, {from}", path.display()), files });
    };
    let named: Vec<_> =
        database.files.keys().filter(|path| path.starts_with(table()) && !path.ends_with("MANIFEST")).collect();
    let shown = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    for path in &named {
        for (name, stranger) in &family.strangers {
            if let Some(twin) = stranger.past.ever.get(*path).filter(|twin| **twin != database.files[*path]) {
                add("a twin", path, name, twin);
            }
        }
        for (other, bytes) in database.past.ever.iter().filter(|(other, _)| other != path) {
            if other.extension() == path.extension() {
                add("another of ours", path, &shown(other), bytes);
            }
        }
    }
    let free = |kind: &str| table().join(format!("{:016x}.{kind}", 0x1234));
    for (path, bytes) in &database.past.ever {
        add("under another number", &free("run"), &shown(path), bytes);
        add("under another number", &free("keys"), &shown(path), bytes);
        if !database.files.contains_key(path) {
            add("a former file", path, "ours", bytes);
        }
    }
    for (name, of) in family.all() {
        for (number, generation) in of.past.generations.iter().enumerate() {
            let from = format!("{name}, {number}");
            add("MANIFEST.tmp", &table().join("MANIFEST.tmp"), &from, &generation.manifest);
            add("a name that means nothing", &table().join("MANIFEST.old"), &from, &generation.manifest);
            add("table.old/", &Path::new(DB).join("table.old/MANIFEST"), &from, &generation.manifest);
        }
    }
    let (run, bytes) = database.past.ever.first_key_value().unwrap();
    let run = run.to_string_lossy();
    for name in ["notes.txt", "0000000000000001.RUN", "1.run", "000000000000000A.run", "0000000000000001.run.tmp"] {
        add("a name that means nothing", &table().join(name), &run, bytes);
    }
    add("MANIFEST.tmp", &table().join("MANIFEST.tmp"), "garbage", &[0xA5; 300]);
    cases
}

#[test]
fn a_file_of_another_time_or_database_in_the_place_of_ours_is_told() {
    for end in ENDS {
        let family = Family::new(end);
        let cases = changes(&family);
        let tally = Tally::of(&cases, &family);
        tally.print(&format!("{end:?}"));
        println!("{end:?}: {} changes", cases.len());
        assert_eq!(tally.kinds_with(Fate::Wrong), BTreeSet::new(), "{end:?}");
        assert_eq!(tally.kinds_with(Fate::AnotherCopy), BTreeSet::new(), "{end:?}");
        // A run whose length is right is looked at when it is used.
        assert_eq!(tally.fates("a twin"), [Fate::Refused, Fate::Told].into(), "{end:?}");
        let fates = tally.fates("another of ours");
        assert!(!fates.contains(&Fate::Right) && fates.contains(&Fate::Refused), "{end:?}: {fates:?}");
        for kind in ["under another number", "a former file", "MANIFEST.tmp", "a name that means nothing", "table.old/"]
        {
            assert_eq!(tally.fates(kind), [Fate::Right].into(), "{end:?}: {kind}");
        }
    }
}

/// What has the name alone is another program's.
#[test]
fn a_directory_called_table_makes_no_database() {
    for bytes in [b"".as_slice(), b"foreman", b"name: table\nversion: 1\n"] {
        let disk = disk_with(&[(manifest(), bytes.to_vec())].into());
        let error = open_on(&disk, options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotADatabase, "{error}");
    }
}
