//! Directories that were copied file by file while their engine ran (`engine/BACKUP.md`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::merging::{open_small, small};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::Checkpoints;
use crate::base::types::CommitMode;
use crate::disk::sim::{CrashPoint, Granularity, Loss, OpKind, Phase, SimDisk};
use crate::engine::Engine;
use crate::rt::schedule;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(disk: &SimDisk) -> Files {
    disk.files().into_iter().collect()
}

fn disk_of(files: &Files) -> SimDisk {
    let disk = SimDisk::new();
    files.iter().for_each(|(path, bytes)| disk.write_file(path, bytes).unwrap());
    disk
}

/// An engine whose n-th commit puts n under its own key and under the key of the newest.
struct Source {
    disk: SimDisk,
    engine: Engine,
    commits: u32,
}

impl Source {
    fn new() -> Self {
        let disk = SimDisk::new();
        let engine = open_small(&disk, Checkpoints::OnRequest);
        Source { disk, engine, commits: 0 }
    }

    fn commit(&mut self, count: u32) {
        let keys = self.engine.create_keyspace("k").unwrap();
        for _ in 0..count {
            self.commits += 1;
            let mut batch = self.engine.batch().unwrap();
            batch.put(&keys, self.commits.to_be_bytes(), vec![7; 100]).unwrap();
            batch.put(&keys, "newest", self.commits.to_be_bytes()).unwrap();
            batch.commit_with(CommitMode::Sync).unwrap();
        }
    }

    fn reopen(&mut self) {
        self.engine.close().unwrap();
        self.engine = open_small(&self.disk, Checkpoints::OnRequest);
    }

    fn work(&mut self, random: &mut Random) {
        match random.below(8) {
            0..3 => self.commit(1 + random.below(4)),
            3..5 => self.engine.checkpoint().unwrap(),
            5 => self.commit(40),
            6 => self.reopen(),
            _ => drop(self.engine.compact().unwrap()),
        }
    }
}

/// How many commits the database on this disk has, all of them whole and none missing between.
fn commits(disk: &SimDisk) -> Result<u32> {
    let engine = small(Checkpoints::OnRequest).create(false).open_on(Arc::new(disk.clone()), "db")?;
    let snapshot = engine.snapshot()?;
    let Ok(keys) = engine.open_keyspace("k") else { return Ok(0) };
    let newest = snapshot.get(&keys, "newest")?.map_or(0, |value| u32::from_be_bytes(value[..].try_into().unwrap()));
    let present: Vec<_> = snapshot.iter(&keys)?.map(|entry| entry.unwrap().0.to_vec()).collect();
    let expected =
        (1..=newest).map(|number| number.to_be_bytes().to_vec()).chain((newest > 0).then(|| b"newest".to_vec()));
    assert_eq!(present, expected.collect::<Vec<_>>(), "not a state that the database had");
    Ok(newest)
}

#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = crate::format::fill::mix(self.0);
        u32::try_from((self.0 >> 33) % u64::from(limit)).unwrap()
    }
}

/// Copies the directory as `cp -r` does: names are listed, and then read one after the other. Between two reads, and in the
/// middle of a file, the engine works.
fn copy(source: &mut Source, random: &mut Random) -> SimDisk {
    let mut names: Vec<PathBuf> = files(&source.disk).into_keys().collect();
    let list_tables_again = random.below(2) == 0;
    for at in (1..names.len()).rev() {
        names.swap(at, random.below(u32::try_from(at).unwrap() + 1) as usize);
    }
    if random.below(3) == 0 {
        // In the order of the names, as many programs do.
        names.sort();
    }
    let mut copied = Files::new();
    let work = |source: &mut Source, random: &mut Random| {
        if random.below(3) > 0 {
            source.work(random);
        }
    };
    while let Some(name) = names.pop() {
        let is_first_table = name.starts_with("db/table") && !copied.keys().any(|name| name.starts_with("db/table"));
        if list_tables_again && is_first_table {
            names.retain(|name| !name.starts_with("db/table"));
            let now = files(&source.disk).into_keys().filter(|name| name.starts_with("db/table"));
            names.extend(now);
        }
        work(source, random);
        // What is gone by now is told by cp, which goes on.
        let Ok(mut bytes) = source.disk.read_file(&name) else { continue };
        if random.below(2) == 0 {
            work(source, random);
            // The file stays open, but only one that is written in place can change.
            if let Some(later) = source.disk.read_file(&name).ok().filter(|_| base_name(&name).ends_with(".log")) {
                let half = (bytes.len() / 2).min(later.len());
                bytes = [&bytes[..half], &later[half..]].concat();
            }
        }
        copied.insert(name, bytes);
    }
    disk_of(&copied)
}

fn base_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Never an older state than when the copy began, and never a mixture: a state that there was, or a refusal.
#[test]
fn a_copy_of_a_running_engine_is_a_state_that_there_was_or_is_refused() {
    let one = std::env::var("FORELOG_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let (mut opened, mut refused, mut told) = (0, 0, 0);
    for seed in one.map_or(0..120, |seed| seed..seed + 1) {
        println!("FORELOG_SEED={seed}");
        schedule::run(seed, || {
            let mut random = Random(seed);
            let mut source = Source::new();
            for _ in 0..1 + random.below(12) {
                source.work(&mut random);
            }
            let before = source.commits;
            let copied = copy(&mut source, &mut random);
            let after = source.commits;
            match commits(&copied) {
                Ok(found) => {
                    assert!((before..=after).contains(&found), "{found} of {before} to {after}");
                    opened += 1;
                }
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotADatabase), "{error}");
                    refused += 1;
                    told += i32::from(error.is_of_mixed_files());
                }
            }
        });
    }
    println!("{opened} opened, {refused} refused, of which {told} are told");
    assert!(one.is_some() || (opened > 10 && refused > 10 && told > 10), "{opened}, {refused}, {told}");
}

/// The error of an open.
fn refusal(files: &Files) -> Error {
    let read = Engine::read_only_on(Arc::new(disk_of(files)), "db").unwrap_err();
    let error = commits(&disk_of(files)).unwrap_err();
    assert_eq!(error.to_string(), read.to_string(), "a reader says the same");
    error
}

#[track_caller]
fn is_told(files: &Files, older: &str, newer: &str) {
    let error = refusal(files);
    let text = error.to_string();
    assert!(error.is_of_mixed_files() && error.damage().is_some(), "{text}");
    assert!(text.contains(older) && text.contains(" is older than ") && text.contains(newer), "{text}");
    assert!(text.contains("copied while a program had it open") && text.contains("forelog backup"), "{text}");
}

/// A state of the directory, with files that another one has in their place.
fn with(all: &Files, other: &Files, is_of_other: impl Fn(&str) -> bool) -> Files {
    let mut mixed: Files = all.clone();
    mixed.retain(|path, _| !is_of_other(base_name(path)));
    mixed.extend(
        other
            .iter()
            .filter(|(path, _)| is_of_other(base_name(path)))
            .map(|(path, bytes)| (path.clone(), bytes.clone())),
    );
    mixed
}

/// H1, H3, H4: HISTORY was copied before the incarnation began that the rest is of.
#[test]
fn a_history_that_was_copied_first_is_told() {
    schedule::run(1, || {
        let mut source = Source::new();
        source.commit(3);
        source.engine.close().unwrap();
        let first = files(&source.disk);
        source.engine = open_small(&source.disk, Checkpoints::OnRequest);
        source.commit(3);
        is_told(&with(&files(&source.disk), &first, |name| name == "HISTORY"), "HISTORY", ".log");
        source.engine.checkpoint().unwrap();
        source.engine.close().unwrap();
        // Before the first checkpoint.
        let last = files(&source.disk);
        let without_log = |name: &str| name.ends_with(".log") || name == "MARK";
        let mut mixed = with(&last, &first, |name| name == "HISTORY");
        mixed.retain(|path, _| !without_log(base_name(path)));
        is_told(&mixed, "HISTORY", "MANIFEST");
    });
}

/// M1 and M2: MANIFEST was copied before a checkpoint or a merge, and the rest later.
#[test]
fn a_manifest_that_was_copied_first_is_told() {
    schedule::run(1, || {
        let mut source = Source::new();
        source.commit(30);
        source.engine.checkpoint().unwrap();
        let first = files(&source.disk);
        source.commit(10);
        source.engine.checkpoint().unwrap();
        let second = files(&source.disk);
        for _ in 0..3 {
            source.commit(10);
            source.engine.checkpoint().unwrap();
        }
        let last = files(&source.disk);
        is_told(&with(&last, &first, |name| name == "MANIFEST"), "MANIFEST", ".run");
        is_told(&with(&last, &second, |name| name == "MANIFEST"), "MANIFEST", ".run");
        source.reopen();
        source.engine.close().unwrap();
        let mut closed = with(&files(&source.disk), &first, |name| name == "MANIFEST");
        closed.retain(|path, _| !base_name(path).ends_with(".run"));
        is_told(&closed, "MANIFEST", "HISTORY");
    });
}

/// What a crash leaves, with one file lost or damaged beside it, is never called a copy: the data were not copied, and a user
/// would look for the mistake in the wrong place.
#[test]
fn damage_after_a_crash_is_not_taken_for_a_copy() {
    let points: Arc<Mutex<Vec<CrashPoint>>> = Arc::default();
    schedule::run(1, || {
        let mut source = Source::new();
        let taken = Arc::clone(&points);
        source.disk.on_op(move |disk, op| {
            // Files are there that no MANIFEST names, segments that hold nothing yet, and an incarnation before it begins.
            let is_between = matches!(op.kind, OpKind::Rename | OpKind::SyncDir | OpKind::Remove);
            if is_between && op.phase == Phase::Before {
                taken.lock().unwrap().push(disk.crash_point());
            }
        });
        let mut random = Random(7);
        for _ in 0..14 {
            source.work(&mut random);
        }
        source.reopen();
        source.commit(5);
        source.engine.checkpoint().unwrap();
        source.disk.clear_on_op();
    });
    let (mut tried, mut unnamed) = (0, 0);
    for point in points.lock().unwrap().iter().step_by(3) {
        for loss in [Loss::Nothing, Loss::Everything] {
            let crashed = files(&point.power_loss(&loss, Granularity::default()));
            unnamed += i32::from(crashed.keys().filter(|path| base_name(path).ends_with(".run")).count() > 1);
            for name in crashed.keys() {
                for damage in 0..4 {
                    let mut damaged = crashed.clone();
                    let bytes = damaged.get_mut(name).unwrap();
                    match damage {
                        0 => drop(damaged.remove(name)),
                        1 => bytes.truncate(bytes.len() / 2),
                        2 => bytes.iter_mut().skip(16).take(700).for_each(|byte| *byte = 0),
                        _ => bytes.iter_mut().last().into_iter().for_each(|byte| *byte ^= 1),
                    }
                    schedule::run(1, || {
                        let read = Engine::read_only_on(Arc::new(disk_of(&damaged)), "db");
                        if let Err(error) = read {
                            assert!(!error.is_of_mixed_files(), "{name:?}, {damage}: {error}");
                            tried += 1;
                        }
                    });
                }
            }
        }
    }
    assert!(tried > 200 && unnamed > 20, "{tried}, {unnamed}");
}
