//! Where `table/` comes from: what earlier lives left of it, what is another's, and what fails.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::checkpoints::{Told, last, open, put};
use crate::base::error::{Error, ErrorKind};
use crate::base::types::CommitMode;
use crate::disk::sim::{CrashPoint, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, Persona, SimDisk};
use crate::engine::Engine;
use crate::rt::schedule;
use crate::rt::sync::Mutex;

type Cuts = Vec<(CrashPoint, Told)>;

/// What a life does, with what fails in it: a commit, two checkpoints with a commit between, a commit. Then the process is
/// killed, and the next life finds what the cache had.
struct Lives {
    disk: SimDisk,
    told: Arc<Mutex<Told>>,
    /// The disk at each change so far, and after the last one.
    cuts: Arc<Mutex<Cuts>>,
}

impl Lives {
    fn new() -> Self {
        Lives { disk: SimDisk::new(), told: Arc::default(), cuts: Arc::default() }
    }

    /// Returns how often the fault hit.
    fn live(&mut self, fault: Option<Fault>) -> u64 {
        let (cuts, told) = (Arc::clone(&self.cuts), Arc::clone(&self.told));
        self.disk.on_op(move |disk, op| {
            if op.kind.mutates() {
                let told = *told.lock();
                cuts.lock().push((disk.crash_point(), told));
            }
        });
        if let Some(fault) = fault {
            self.disk.inject(fault);
        }
        let killed = schedule::run(1, || {
            let Ok(engine) = open(&self.disk) else { return self.disk.crash_point() };
            let found = last(&engine).unwrap();
            *self.told.lock() = Told { durable: found, begun: found };
            for _ in 0..2 {
                let _ = put(&engine, &self.told, CommitMode::Sync);
                let _ = engine.checkpoint();
            }
            let _ = put(&engine, &self.told, CommitMode::Sync);
            let killed = self.disk.crash_point();
            self.disk.clear_on_op();
            killed
        });
        self.disk.clear_on_op();
        let hits = self.disk.fault_hits();
        self.cuts.lock().push((killed.clone(), *self.told.lock()));
        self.disk = killed.process_kill();
        hits
    }

    /// A power loss at each change opens, with all that was acknowledged.
    fn check(&self, what: &str, seen: &mut HashSet<(u64, Told)>) {
        for (number, (point, told)) in self.cuts.lock().iter().enumerate() {
            let seeded = (0..6).map(|seed| Loss::Seeded(number as u64 * 6 + seed));
            for (at, loss) in [Loss::Everything, Loss::Nothing].into_iter().chain(seeded).enumerate() {
                let persona = &Persona::ALL[at % Persona::ALL.len()];
                let image = point.power_loss_on(persona, &loss, Granularity::Sector);
                if !seen.insert((image.image_hash(), *told)) {
                    continue;
                }
                let found = schedule::run(1, || open(&image).map(|engine| last(&engine).unwrap()));
                let found = found.unwrap_or_else(|error| panic!("{what}, {number}, {loss:?}: refused: {error:?}"));
                assert!(
                    (told.durable..=told.begun).contains(&found),
                    "{what}, {number}, {loss:?}: {found} of {told:?}"
                );
            }
        }
    }
}

fn lost_sync(number: u64) -> Fault {
    Fault::once(OpSelector::of(OpKind::SyncDir).on("db").skip(number), FaultKind::SyncFails { pages: Pages::KeepNew })
}

/// Each rename of MANIFEST lands on the medium, and fails.
fn manifest_on_the_medium() -> Fault {
    Fault::lasting(OpSelector::of(OpKind::Rename).on("MANIFEST.tmp"), FaultKind::RenameOnMedium)
}

/// A name of `table/` that is in the cache alone is not taken over.
#[test]
fn a_sync_of_the_database_fails_and_the_next_life_makes_a_checkpoint() {
    let mut seen = HashSet::new();
    for number in 0.. {
        let mut lives = Lives::new();
        let hits = lives.live(Some(lost_sync(number)));
        lives.live(None);
        lives.live(None);
        lives.check(&format!("sync {number}"), &mut seen);
        if hits == 0 {
            assert!(number > 4);
            break;
        }
    }
    println!("{} images", seen.len());
}

/// A MANIFEST that no life has seen does not return beside removed runs, also if the next life cannot rename it away.
#[test]
fn a_manifest_on_the_medium_alone_refuses_no_open() {
    let mut seen = HashSet::new();
    for number in 0.. {
        let mut lives = Lives::new();
        assert!(lives.live(Some(manifest_on_the_medium())) > 0);
        let hits = lives.live(Some(lost_sync(number)));
        lives.live(None);
        lives.check(&format!("sync {number} of the second life"), &mut seen);
        if hits == 0 {
            assert!(number > 4);
            break;
        }
    }
    println!("{} images", seen.len());
}

/// The first checkpoint is cut off at each call, with what an earlier one left and without; the next life goes on with what
/// the cache has.
#[test]
fn a_kill_at_every_call_of_the_first_checkpoint() {
    let mut seen = HashSet::new();
    for mut first in [Lives::new(), cut_off()] {
        first.live(None);
        let cuts = first.cuts.lock().clone();
        for (number, (point, told)) in cuts.into_iter().enumerate() {
            let mut lives =
                Lives { disk: point.process_kill(), told: Arc::new(Mutex::new(told)), cuts: Arc::default() };
            lives.live(None);
            let has = |name: &str| lives.disk.files().iter().any(|(path, _)| path.starts_with(name));
            assert!(has("db/table/MANIFEST") && !has("db/table.old"), "a kill at {number}");
            lives.check(&format!("a kill at {number}"), &mut seen);
        }
    }
    println!("{} images", seen.len());
}

/// A database whose first checkpoint was cut off before its MANIFEST.
fn cut_off() -> Lives {
    let mut lives = Lives::new();
    let refused = Fault::lasting(OpSelector::of(OpKind::Create).on("MANIFEST.tmp"), FaultKind::Errno(28));
    // Of its own files an attempt removes what it can.
    lives.disk.inject(Fault::lasting(OpSelector::of(OpKind::Remove).on(".run"), FaultKind::Errno(5)));
    lives.live(Some(refused));
    lives.disk.clear_faults();
    assert!(lives.disk.read_file("db/table/0000000000000001.run").is_ok());
    lives.cuts.lock().clear();
    lives
}

fn files_in(disk: &SimDisk, dir: &str) -> usize {
    disk.files().iter().filter(|(path, _)| path.starts_with(dir)).count()
}

fn with_engine<T>(disk: &SimDisk, work: impl FnOnce(&Engine, &Mutex<Told>) -> T) -> T {
    schedule::run(1, || {
        let engine = open(disk).unwrap();
        let found = last(&engine).unwrap();
        let told = Mutex::new(Told { durable: found, begun: found });
        put(&engine, &told, CommitMode::Sync).unwrap();
        let done = work(&engine, &told);
        engine.close().ok();
        done
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    /// The call is made again.
    None,
    EndsTheAttempt,
    StopsTheLog,
}

/// Each call of step 2 fails once, with leftovers of both names.
#[test]
fn a_call_that_is_refused_ends_the_attempt_and_one_that_is_final_the_log() {
    use Effect::*;
    let before = cut_off().disk;
    before.write_file("db/table.old/0000000000000009.run", b"old").unwrap();
    let (eintr, eio, ebusy, enospc) = (4, 5, 16, 28);
    let calls = [
        (OpKind::List, "db/table", eio, EndsTheAttempt),
        (OpKind::List, "db/table", eintr, None),
        (OpKind::OpenDir, "db/table.old", eio, EndsTheAttempt),
        (OpKind::Remove, "9.run", eio, EndsTheAttempt),
        (OpKind::Remove, "9.run", eintr, None),
        (OpKind::Remove, "db/table.old", eio, EndsTheAttempt),
        (OpKind::Rename, "db/table", ebusy, EndsTheAttempt),
        (OpKind::Rename, "db/table", eintr, EndsTheAttempt),
        (OpKind::Rename, "db/table", eio, StopsTheLog),
        (OpKind::CreateDir, "db/table", enospc, EndsTheAttempt),
        (OpKind::CreateDir, "db/table", eio, EndsTheAttempt),
        (OpKind::CreateDir, "db/table", eintr, None),
        (OpKind::SyncDir, "db", eio, StopsTheLog),
        (OpKind::SyncDir, "db", eintr, EndsTheAttempt),
        (OpKind::Remove, "1.run", eio, EndsTheAttempt),
    ];
    for (kind, path, errno, effect) in calls {
        let what = format!("{errno} at {kind:?} {path}");
        let disk = before.crash_point().process_kill();
        with_engine(&disk, |engine, told| {
            disk.inject(Fault::once(OpSelector::of(kind).on(path), FaultKind::Errno(errno)));
            let ended = engine.checkpoint();
            assert_eq!(disk.fault_hits(), 1, "{what}");
            assert_eq!(ended.is_err(), effect != None, "{what}: {ended:?}");
            assert_eq!(engine.poisoned().is_some(), effect == StopsTheLog, "{what}: {ended:?}");
            let Err(error) = ended else { return };
            let kind = if errno == enospc { ErrorKind::DiskFull } else { ErrorKind::Io };
            if effect == StopsTheLog {
                assert_eq!(error.kind(), ErrorKind::Poisoned, "{what}: {error:?}");
                return;
            }
            assert!(error.kind() == kind && error.to_string().contains("db"), "{what}: {error:?}");
            put(engine, told, CommitMode::Sync).unwrap();
            engine.checkpoint().unwrap_or_else(|error| panic!("the attempt after {what}: {error}"));
        });
        with_engine(&disk, |engine, _| engine.checkpoint().unwrap());
        assert!(disk.files().iter().all(|(path, _)| !path.starts_with("db/table.old")), "{what}");
    }
}

fn state(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    disk.files().into_iter().filter(|(path, _)| path.extension().is_none_or(|extension| extension != "log")).collect()
}

/// What is not ours is named, and stays; HISTORY is not replaced, and the database goes on without tables.
#[test]
fn what_is_not_ours_is_left_alone_and_named() {
    let plant = |disk: &SimDisk, path: &str| disk.write_file(path, b"another's").unwrap();
    type Plant<'a> = Box<dyn Fn(&SimDisk) + 'a>;
    let file = |path: &'static str| -> (&str, Plant<'_>) { (path, Box::new(move |disk: &SimDisk| plant(disk, path))) };
    let run = "db/table/0000000000000001.run";
    let plants: Vec<(&str, Plant<'_>)> = vec![
        file("db/table"),
        file("db/table.old"),
        file("db/table/notes"),
        file("db/table/MANIFEST"),
        file("db/table/1.run"),
        file("db/table.old/notes"),
        file("db/table.old/MANIFEST"),
        (run, Box::new(move |disk| disk.make_dir(run).unwrap())),
    ];
    for (path, plant) in &plants {
        let disk = SimDisk::new();
        with_engine(&disk, |_, _| ());
        plant(&disk);
        with_engine(&disk, |engine, told| {
            let before = state(&disk);
            for _ in 0..2 {
                let error: Error = engine.checkpoint().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                assert!(error.to_string().starts_with(&format!("{path} is not a file of this")), "{error}");
                assert_eq!(state(&disk), before, "{path}");
            }
            put(engine, told, CommitMode::Sync).unwrap();
        });
        // Once it is moved away all goes well.
        disk.rename_file(path, "away").or_else(|_| disk.rename_dir(path, "away")).unwrap();
        with_engine(&disk, |engine, _| engine.checkpoint().unwrap_or_else(|error| panic!("{path}: {error}")));
    }
}

/// What an earlier life renamed away is ours, with the MANIFEST that was in doubt.
#[test]
fn what_an_earlier_life_renamed_away_goes() {
    let disk = cut_off().disk;
    disk.write_file("db/table.old/MANIFEST", b"foremani and more").unwrap();
    disk.write_file("db/table.old/MANIFEST.tmp", b"").unwrap();
    disk.write_file("db/table.old/0000000000000007.keys", b"").unwrap();
    with_engine(&disk, |_, _| ());
    assert_eq!(files_in(&disk, "db/table.old"), 3, "an open leaves it");
    with_engine(&disk, |engine, _| engine.checkpoint().unwrap());
    assert_eq!(files_in(&disk, "db/table.old"), 0);
    assert_eq!(with_engine(&disk, |engine, _| last(engine).unwrap()), 3 + 3);
}

/// The lock is gone: the directory may be another's, and so may be `table/`.
#[test]
fn nothing_is_renamed_away_in_a_directory_that_may_be_anothers() {
    let disk = cut_off().disk;
    let left =
        |disk: &SimDisk| state(disk).into_iter().filter(|(path, _)| path.starts_with("db/table")).collect::<Vec<_>>();
    let before = left(&disk);
    with_engine(&disk, |engine, _| {
        disk.delete("db/LOCK").unwrap();
        assert_eq!(engine.checkpoint().unwrap_err().kind(), ErrorKind::Poisoned);
    });
    assert_eq!(left(&disk), before);
}
