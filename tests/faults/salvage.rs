//! Salvage against a ledger: whatever the damage, every commit that is whole is saved, and every other one lies in a
//! range that is reported as lost, and in none that is saved.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forelog::salvage::{Completeness, LossCause, Salvaged};
use forelog::sim::{self, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use forelog::{CommitMode, DamageCause, Engine, ErrorKind, LossBudget, Lsn, Options};

use crashkit::{DB, kind_of, open_on};

const SEGMENT: u64 = 4096;
const TO: &str = "saved";

fn options() -> Options {
    let hour = Duration::from_secs(3600);
    let budget = LossBudget::default().max_age(hour);
    Options::new().segment_bytes(SEGMENT).flush_interval(hour).loss_budget(budget)
}

/// A commit: where its record ends, where the one before it does, and its one key and value.
#[derive(Clone, Debug)]
struct Commit {
    after: u64,
    lsn: u64,
    key: Vec<u8>,
    value: Vec<u8>,
}

struct Ledger {
    disk: SimDisk,
    commits: Vec<Commit>,
}

/// Three lives over several segments each, the last one cut off by a power loss after everything was durable. The
/// first record creates the keyspace.
fn ledger() -> Ledger {
    let mut disk = SimDisk::new();
    let mut commits: Vec<Commit> = Vec::new();
    for life in 0..3_u8 {
        let (crash, closed) = sim::run(u64::from(life), || {
            let engine = open_on(&disk, options()).unwrap();
            let keys = engine.create_keyspace("keys").unwrap();
            let mut after = engine.visible_lsn().get();
            for (number, length) in [700, 20, 1500, 900, 6000, 60, 100].into_iter().enumerate() {
                let (key, value) = (vec![life, u8::try_from(number).unwrap()], vec![life; length]);
                let mut batch = engine.batch().unwrap();
                batch.put(&keys, &key, &value).unwrap();
                let lsn = batch.commit_with(CommitMode::Sync).unwrap().lsn().get();
                commits.push(Commit { after, lsn, key, value });
                after = lsn;
                sim::sleep(Duration::from_millis(1));
            }
            let crash = disk.crash_point();
            drop(engine);
            (crash, disk.crash_point())
        });
        disk = if life < 2 { closed.process_kill() } else { crash.power_loss(&Loss::Everything, Granularity::Sector) };
    }
    // The first commit of a life begins with its segment.
    let bases: Vec<u64> = segments(&disk).into_iter().map(|(base, _)| base).collect();
    for commit in &mut commits {
        let base = bases.iter().rfind(|base| **base < commit.lsn).unwrap();
        if commit.after < base + 512 && commit.value.len() < 4000 {
            commit.after = base + 512;
        }
    }
    Ledger { disk, commits }
}

fn segments(disk: &SimDisk) -> Vec<(u64, PathBuf)> {
    let base = |path: &Path| u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok();
    let files = disk.files().into_iter().filter(|(path, _)| path.extension().is_some());
    files.filter_map(|(path, _)| Some((base(&path)?, path))).collect()
}

fn copy(disk: &SimDisk) -> SimDisk {
    disk.crash_point().process_kill()
}

fn salvage(disk: &SimDisk) -> forelog::Result<Salvaged> {
    Engine::salvage_on(Arc::new(disk.clone()), DB, TO)
}

/// The entries of all keyspaces of the new database, by keyspace and key.
fn saved(disk: &SimDisk) -> BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>> {
    let engine = Options::new().create(false).open_on(Arc::new(disk.clone()), TO).unwrap();
    let snapshot = engine.snapshot().unwrap();
    let entries = |name: &String| {
        let keys = snapshot.keyspace(name).unwrap().unwrap();
        let entries = snapshot.iter(&keys).unwrap().map(Result::unwrap);
        entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    };
    snapshot.keyspace_names().unwrap().iter().map(|name| (name.clone(), entries(name))).collect()
}

fn from_files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files().into_iter().filter(|(path, _)| path.starts_with(DB)).collect()
}

impl Ledger {
    /// Salvages `damaged`, and compares: `whole` says which commits must be saved.
    fn check(&self, damaged: &SimDisk, whole: impl Fn(&Commit) -> bool, what: &str) -> Salvaged {
        let before = from_files(damaged);
        let salvaged = salvage(damaged).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(from_files(damaged) == before, "{what}: salvage changed what it read");
        let found: BTreeMap<Vec<u8>, Vec<u8>> = saved(damaged).into_values().flatten().collect();
        for commit in &self.commits {
            let is_saved = found.get(&commit.key) == Some(&commit.value);
            assert_eq!(is_saved, whole(commit), "{what}: {:?}: {salvaged:?}", (commit.after, commit.lsn));
            let is_lost = |lost: &&forelog::salvage::Gap| {
                lost.from.get() < commit.lsn && lost.to.is_none_or(|to| commit.lsn <= to.get())
            };
            let reported = salvaged.lost.iter().any(|lost| is_lost(&lost));
            assert_eq!(reported, !is_saved, "{what}: {:?}: {salvaged:?}", (commit.after, commit.lsn));
        }
        assert!(found.len() <= self.commits.len(), "{what}: made up");
        let last = self.commits.iter().rev().find(|commit| whole(commit)).map_or(0, |commit| commit.lsn);
        let hole = self.commits.iter().any(|commit| commit.lsn < last && !whole(commit));
        if hole {
            assert_eq!(salvaged.completeness, Completeness::Holes, "{what}");
        }
        salvaged
    }

    fn end(&self) -> u64 {
        self.commits.last().unwrap().lsn
    }
}

impl Commit {
    fn touches(&self, from: u64, to: u64) -> bool {
        self.after < to && from < self.lsn
    }
}

#[test]
fn a_sound_database_is_saved_as_a_whole() {
    let ledger = ledger();
    let salvaged = ledger.check(&ledger.disk, |_| true, "sound");
    assert!(salvaged.is_complete() && salvaged.renamed.is_empty(), "{salvaged:?}");
    // The creation of the keyspace is a commit, too.
    assert_eq!((salvaged.commits, salvaged.completeness), (ledger.commits.len() as u64 + 1, Completeness::Prefix));
    assert_eq!(salvaged.last, Lsn::new(ledger.end()));
    assert_eq!(saved(&ledger.disk).keys().collect::<Vec<_>>(), ["keys"]);
    // And a clean one.
    let closed = copy(&ledger.disk);
    open_on(&closed, options()).unwrap().close().unwrap();
    closed.delete(format!("{TO}/HISTORY")).unwrap();
    closed.files().iter().filter(|(path, _)| path.starts_with(TO)).for_each(|(path, _)| closed.delete(path).unwrap());
    assert!(ledger.check(&closed, |_| true, "closed").is_complete());
}

#[test]
fn a_flipped_bit_costs_the_record_that_it_is_in() {
    let ledger = ledger();
    for (base, path) in segments(&ledger.disk) {
        let length = ledger.disk.read_file(&path).unwrap().len() as u64;
        for at in (base + 512..(base + length).min(ledger.end())).step_by(88) {
            let damaged = copy(&ledger.disk);
            damaged.flip_bit(&path, (at - base) * 8 + 3).unwrap();
            let what = format!("{at:#x}");
            let creation = at < ledger.commits[0].after;
            let salvaged = ledger.check(&damaged, |commit| !commit.touches(at, at + 1), &what);
            if let Some(lost) = salvaged.lost.first() {
                assert_eq!(salvaged.lost.len(), 1, "{what}: {salvaged:?}");
                assert_eq!((&lost.file, lost.cause), (&path, LossCause::Damaged(DamageCause::Rotten)), "{what}");
            }
            assert_eq!(salvaged.renamed.len(), usize::from(creation), "{what}: {salvaged:?}");
            if creation {
                assert_eq!(saved(&damaged).keys().collect::<Vec<_>>(), ["salvaged-1"]);
            }
        }
    }
}

#[test]
fn a_segment_that_is_gone_costs_what_it_held() {
    let ledger = ledger();
    let all = segments(&ledger.disk);
    for (base, path) in &all {
        let damaged = copy(&ledger.disk);
        damaged.delete(path).unwrap();
        let end = base + SEGMENT;
        let salvaged = ledger.check(&damaged, |commit| !commit.touches(base + 512, end), &format!("{base:#x} deleted"));
        // The one prepared ahead may be missed, too: what was handed out demands it.
        assert!(!salvaged.lost.is_empty() || *base > ledger.end(), "{salvaged:?}");
    }
    let damaged = copy(&ledger.disk);
    all.iter().for_each(|(_, path)| damaged.delete(path).unwrap());
    let salvaged = ledger.check(&damaged, |_| false, "all of them deleted");
    assert_eq!((salvaged.commits, salvaged.last), (0, Lsn::ZERO));
}

#[test]
fn a_segment_that_was_cut_costs_what_was_cut_off() {
    let ledger = ledger();
    for (base, path) in segments(&ledger.disk).into_iter().filter(|(base, _)| *base < ledger.end()) {
        let length = ledger.disk.read_file(&path).unwrap().len() as u64;
        for cut in (512..length).step_by(200) {
            let damaged = copy(&ledger.disk);
            damaged.truncate(&path, cut).unwrap();
            let whole = |commit: &Commit| !commit.touches(base + cut, base + SEGMENT);
            ledger.check(&damaged, whole, &format!("{base:#x} cut to {cut}"));
        }
    }
}

#[test]
fn a_segment_without_its_header_is_known_by_its_neighbours_and_by_history() {
    let ledger = ledger();
    let all = segments(&ledger.disk);
    let headless = |bases: &[u64], history: bool| {
        let damaged = copy(&ledger.disk);
        for (base, path) in &all {
            if bases.contains(base) {
                damaged.overwrite(path, 0, &[0xA5; 512]).unwrap();
            }
        }
        if !history {
            damaged.delete(format!("{DB}/HISTORY")).unwrap();
        }
        damaged
    };
    let bases: Vec<u64> = all.iter().map(|(base, _)| *base).collect();
    for base in &bases {
        for history in [true, false] {
            let what = format!("{base:#x}, history {history}");
            let salvaged = ledger.check(&headless(&[*base], history), |_| true, &what);
            assert_eq!(salvaged.bad_files.len(), 1 + usize::from(!history), "{what}: {salvaged:?}");
        }
    }
    ledger.check(&headless(&bases, true), |_| true, "all headers");
    let salvaged = ledger.check(&headless(&bases, false), |_| false, "all headers and HISTORY");
    assert_eq!(salvaged.bad_files.len(), bases.len() + 1);
}

#[test]
fn without_history_everything_is_saved_and_nothing_proves_that_it_is_all() {
    let ledger = ledger();
    for content in [None, Some(&b""[..]), Some(b"forehist"), Some(&[0; 200])] {
        let damaged = copy(&ledger.disk);
        match content {
            None => damaged.delete(format!("{DB}/HISTORY")).unwrap(),
            Some(bytes) => damaged.write_file(format!("{DB}/HISTORY"), bytes).unwrap(),
        }
        let salvaged = ledger.check(&damaged, |_| true, "no history");
        assert_eq!((salvaged.completeness, salvaged.bad_files.len()), (Completeness::Unproven, 1));
    }
}

#[test]
fn files_of_others_are_told_and_files_under_a_wrong_name_are_used() {
    let (ledger, other) = (
        ledger(),
        sim::run(99, || {
            let disk = SimDisk::new();
            let engine = open_on(&disk, options()).unwrap();
            engine.create_keyspace("theirs").unwrap();
            disk
        }),
    );
    let (_, theirs) = segments(&other).remove(0);
    let theirs = other.read_file(theirs).unwrap();
    let stranger = PathBuf::from(DB).join(format!("{:016x}.log", 1 << 20));
    let added = copy(&ledger.disk);
    added.write_file(&stranger, &theirs).unwrap();
    let salvaged = ledger.check(&added, |_| true, "one more");
    assert_eq!(salvaged.bad_files.len(), 1);
    assert_eq!((&salvaged.bad_files[0].file, salvaged.bad_files[0].cause), (&stranger, LossCause::Foreign));
    let all = segments(&ledger.disk);
    for (base, path) in &all {
        let replaced = copy(&ledger.disk);
        replaced.write_file(path, &theirs).unwrap();
        let what = format!("{base:#x} replaced");
        let salvaged = ledger.check(&replaced, |commit| !commit.touches(base + 512, base + SEGMENT), &what);
        assert!(salvaged.bad_files.iter().any(|bad| bad.file == *path && bad.cause == LossCause::Foreign));
    }
    for pair in all.windows(2) {
        let swapped = copy(&ledger.disk);
        for (from, to) in [(0, 1), (1, 0)] {
            swapped.write_file(&pair[to].1, &ledger.disk.read_file(&pair[from].1).unwrap()).unwrap();
        }
        let salvaged = ledger.check(&swapped, |_| true, "swapped");
        assert_eq!(salvaged.bad_files.len(), 2);
    }
}

#[test]
fn a_sector_that_cannot_be_read_costs_the_records_in_it() {
    let ledger = ledger();
    for (base, path) in segments(&ledger.disk) {
        let length = ledger.disk.read_file(&path).unwrap().len() as u64;
        for sector in (512..length).step_by(512).filter(|sector| base + sector < ledger.end()) {
            let damaged = copy(&ledger.disk);
            let bad = OpSelector::of(OpKind::Read).on(path.to_str().unwrap()).touching(sector..sector + 512);
            damaged.inject(Fault::lasting(bad, FaultKind::Errno(5)));
            let (from, to) = (base + sector, base + sector + 512);
            ledger.check(&damaged, |commit| !commit.touches(from, to), &format!("{from:#x} unreadable"));
        }
    }
}

#[test]
fn several_kinds_of_damage_at_once() {
    let ledger = ledger();
    let all = segments(&ledger.disk);
    let damaged = copy(&ledger.disk);
    let (first, second) = (&ledger.commits[2], &ledger.commits[9]);
    let flip = |commit: &Commit| {
        let (base, path) = all.iter().rfind(|(base, _)| *base < commit.lsn).unwrap();
        damaged.flip_bit(path, (commit.lsn - 9 - base) * 8).unwrap();
    };
    flip(first);
    flip(second);
    let (base, path) = all.iter().rfind(|(base, _)| *base < ledger.commits[17].lsn).unwrap();
    damaged.delete(path).unwrap();
    damaged.delete(format!("{DB}/HISTORY")).unwrap();
    let gone = |commit: &Commit| {
        commit.lsn == first.lsn || commit.lsn == second.lsn || commit.touches(base + 512, base + SEGMENT)
    };
    let salvaged = ledger.check(&damaged, |commit| !gone(commit), "several");
    assert!(salvaged.lost.len() >= 3, "{salvaged:?}");
}

#[test]
fn what_a_recovery_dropped_does_not_come_back() {
    let mut disk = SimDisk::new();
    let write = |disk: &SimDisk, key: &str, mode| {
        sim::run(5, || {
            let engine = open_on(disk, options()).unwrap();
            let keys = engine.create_keyspace("keys").unwrap();
            let mut batch = engine.batch().unwrap();
            batch.put(&keys, key, "value").unwrap();
            batch.commit_with(mode).unwrap();
            disk.crash_point()
        })
    };
    write(&disk, "durable", CommitMode::Sync);
    // Written, and then torn: one word of it is lost.
    let crash = write(&disk, "dropped", CommitMode::Written);
    let atoms = crash.atoms(Granularity::Word);
    let without = |lost: usize| {
        let landed = (0..atoms).map(|atom| atom != lost).collect();
        crash.power_loss(&Loss::AllBut(landed), Granularity::Word)
    };
    let is_dropped = |disk: &SimDisk| {
        let engine = open_on(disk, options()).unwrap();
        let keys = engine.open_keyspace("keys").unwrap();
        engine.snapshot().unwrap().get(&keys, "dropped").unwrap().is_none()
    };
    let torn = (0..atoms).find(|atom| is_dropped(&without(*atom))).expect("a word of the record");
    disk = without(torn);
    // The tear is legal, and what is whole above it was never durable.
    let salvaged = salvage(&copy(&disk)).unwrap();
    assert!(salvaged.lost.iter().all(|lost| lost.cause == LossCause::Torn), "{salvaged:?}");
    let before = disk.files();
    write(&disk, "after", CommitMode::Sync);
    // The cut of the recovery that dropped it is undone.
    for (path, bytes) in before.into_iter().filter(|(path, _)| path.extension().is_some()) {
        disk.write_file(path, &bytes).unwrap();
    }
    let salvaged = salvage(&disk).unwrap();
    assert_eq!(salvaged.completeness, Completeness::Prefix, "{salvaged:?}");
    let keys: BTreeSet<Vec<u8>> = saved(&disk).into_values().flat_map(BTreeMap::into_keys).collect();
    assert_eq!(keys, [b"after".to_vec(), b"durable".to_vec()].into());
}

#[test]
fn a_record_whole_behind_a_tear_is_saved_and_the_tear_is_told() {
    // E3: open drops both; what can be proven whole is saved nevertheless.
    let (disk, lsns) = sim::run(6, || {
        let disk = SimDisk::new();
        let engine = open_on(&disk, options()).unwrap();
        let keys = engine.create_keyspace("keys").unwrap();
        let mut lsns = Vec::new();
        for key in ["one", "two", "three"] {
            let mut batch = engine.batch().unwrap();
            batch.put(&keys, key, vec![1; 100]).unwrap();
            lsns.push(batch.commit_with(CommitMode::Written).unwrap().lsn().get());
        }
        (disk.crash_point().power_loss(&Loss::Nothing, Granularity::Word), lsns)
    });
    let (_, path) = segments(&disk).remove(0);
    let lost = disk.crash_point().power_loss(&Loss::Everything, Granularity::Word);
    drop(lost);
    // The fill of that word stands in a copy of the segment from before.
    let fill = sim::run(6, || {
        let disk = SimDisk::new();
        let engine = open_on(&disk, options()).unwrap();
        engine.create_keyspace("keys").unwrap();
        let bytes = disk.read_file(&path).unwrap();
        drop(engine);
        bytes
    });
    let at = usize::try_from(lsns[1] - 16).unwrap();
    disk.overwrite(&path, at as u64, &fill[at..at + 8]).unwrap();
    let salvaged = salvage(&disk).unwrap();
    assert_eq!((salvaged.completeness, salvaged.lost.len()), (Completeness::Holes, 1), "{salvaged:?}");
    assert_eq!(salvaged.lost[0].cause, LossCause::Torn);
    assert_eq!((salvaged.lost[0].from, salvaged.lost[0].to), (Lsn::new(lsns[0]), Some(Lsn::new(lsns[1]))));
    let keys: BTreeSet<Vec<u8>> = saved(&disk).into_values().flat_map(BTreeMap::into_keys).collect();
    assert_eq!(keys, [b"one".to_vec(), b"three".to_vec()].into());
}

#[test]
fn salvage_refuses_a_place_in_use_an_open_database_and_nothing_at_all() {
    let ledger = ledger();
    let occupied = copy(&ledger.disk);
    occupied.write_file(format!("{TO}/notes.txt"), b"precious").unwrap();
    assert_eq!(kind_of(salvage(&occupied)), ErrorKind::InvalidInput);
    assert_eq!(occupied.read_file(format!("{TO}/notes.txt")).unwrap(), b"precious");
    let onto_itself = Engine::salvage_on(Arc::new(copy(&ledger.disk)), DB, DB);
    assert_eq!(kind_of(onto_itself), ErrorKind::InvalidInput);
    let open = copy(&ledger.disk);
    let engine = open_on(&open, options()).unwrap();
    assert_eq!(kind_of(salvage(&open)), ErrorKind::Locked);
    drop(engine);
    let empty = SimDisk::new();
    empty.write_file(format!("{DB}/notes.txt"), b"no database").unwrap();
    assert_eq!(kind_of(salvage(&empty)), ErrorKind::NotADatabase);
    assert_eq!(empty.files().len(), 1, "a failure left something behind");
}

#[test]
fn records_of_another_program_are_told() {
    let disk = SimDisk::new();
    let log = forelog::log::LogOptions::new().open_on(Arc::new(disk.clone()), DB).unwrap();
    let lsns: Vec<Lsn> =
        [b"one", b"two"].iter().map(|text| log.append(*text, CommitMode::Sync).unwrap().lsn()).collect();
    log.close().unwrap();
    let salvaged = salvage(&disk).unwrap();
    assert_eq!(salvaged.commits, 0);
    let told: Vec<_> = salvaged.lost.iter().map(|lost| (lost.to, lost.cause)).collect();
    assert_eq!(told, lsns.iter().map(|lsn| (Some(*lsn), LossCause::NotATransaction)).collect::<Vec<_>>());
}

/// A record that goes on in segments that are all gone: the last one that is there is full, and was taken for the end of
/// the log, since the record that filled it has no end. The salvage called that complete.
#[test]
fn salvage_tells_of_a_record_whose_later_segments_are_all_gone() {
    let disk = SimDisk::new();
    let crash = sim::run(1, || {
        let engine = open_on(&disk, options()).unwrap();
        let keys = engine.create_keyspace("keys").unwrap();
        for (key, length) in [("short", 100), ("long", 9000)] {
            let mut batch = engine.batch().unwrap();
            batch.put(&keys, key, vec![1; length]).unwrap();
            batch.commit_with(CommitMode::Sync).unwrap();
        }
        disk.crash_point()
    });
    let whole = crash.power_loss(&Loss::Everything, Granularity::Sector);
    let all = segments(&whole);
    assert!(all.len() > 3, "{all:?}");
    for kept in 1..all.len() {
        let disk = crash.power_loss(&Loss::Everything, Granularity::Sector);
        for (_, path) in &all[kept..] {
            disk.delete(path).unwrap();
        }
        let opened = open_on(&disk, options());
        let salvaged = salvage(&disk).unwrap();
        match opened {
            Err(error) => {
                assert_eq!(error.damage().unwrap().cause, DamageCause::MissingSegment, "{kept} kept");
                assert!(!salvaged.lost.is_empty() && !salvaged.is_complete(), "{kept} kept: {salvaged:?}");
            }
            Ok(_) => assert!(salvaged.is_complete(), "{kept} kept: {salvaged:?}"),
        }
    }
}

/// What the system said of a HISTORY that is there became "there is nothing of a database".
#[test]
fn salvage_tells_that_history_cannot_be_read() {
    let disk = ledger().disk;
    for (_, path) in segments(&disk) {
        disk.delete(path).unwrap();
    }
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Read).on("HISTORY"), FaultKind::Errno(5)));
    let error = salvage(&disk).unwrap_err();
    assert_eq!((error.kind(), error.io_error().and_then(std::io::Error::raw_os_error)), (ErrorKind::Io, Some(5)));
    assert!(error.to_string().contains("HISTORY"), "{error}");
}
