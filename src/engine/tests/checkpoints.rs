//! Checkpoints between commits, and a crash at every call.

use std::collections::HashSet;
use std::sync::Arc;

use crate::base::error::Result;
use crate::base::types::CommitMode;
use crate::disk::sim::{CrashPoint, Fault, FaultKind, Granularity, Loss, OpSelector, Pages, SimDisk};
use crate::engine::{Engine, Options};
use crate::rt::schedule;
use crate::rt::sync::Mutex;

/// Commits are numbered: each puts its number under its own key, and under key 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Told {
    /// Acknowledged in `Sync` mode.
    pub(super) durable: u32,
    pub(super) begun: u32,
}

pub(super) fn open(disk: &SimDisk) -> Result<Engine> {
    Options::new().segment_bytes(8192).open_on(Arc::new(disk.clone()), "db")
}

pub(super) fn put(engine: &Engine, told: &Mutex<Told>, mode: CommitMode) -> Result<()> {
    let keys = engine.create_keyspace("keys")?;
    let number = told.lock().begun + 1;
    told.lock().begun = number;
    let mut batch = engine.batch()?;
    batch.put(&keys, number.to_be_bytes(), [7; 600])?;
    batch.put(&keys, 0_u32.to_be_bytes(), number.to_be_bytes())?;
    batch.commit_with(mode)?;
    if mode == CommitMode::Sync {
        told.lock().durable = number;
    }
    Ok(())
}

/// The number of the last commit that is there, with all before it.
pub(super) fn last(engine: &Engine) -> std::result::Result<u32, String> {
    let snapshot = engine.snapshot().map_err(|error| error.to_string())?;
    let Ok(keys) = engine.open_keyspace("keys") else { return Ok(0) };
    let mut entries = snapshot.iter(&keys).map_err(|error| error.to_string())?;
    let Some(first) = entries.next() else { return Ok(0) };
    let value = first.map_err(|error| error.to_string())?.1;
    let last = u32::from_be_bytes(value[..].try_into().map_err(|_| "key 0 is missing".to_owned())?);
    let found: Vec<u32> = entries.map(|entry| u32::from_be_bytes(entry.unwrap().0[..].try_into().unwrap())).collect();
    if found == (1..=last).collect::<Vec<_>>() { Ok(last) } else { Err(format!("{last} is the last of {found:?}")) }
}

fn check(image: &SimDisk, told: Told) -> std::result::Result<(), String> {
    let engine = open(image).map_err(|error| format!("the open is refused: {error:?}"))?;
    let found = last(&engine)?;
    if !(told.durable..=told.begun).contains(&found) {
        return Err(format!("{found} is there, {told:?}"));
    }
    // It goes on from there, and survives another crash.
    let known = Mutex::new(Told { durable: found, begun: found });
    put(&engine, &known, CommitMode::Sync).map_err(|error| format!("a commit: {error:?}"))?;
    engine.checkpoint().map_err(|error| format!("a checkpoint: {error:?}"))?;
    put(&engine, &known, CommitMode::Sync).map_err(|error| format!("a second commit: {error:?}"))?;
    let lost = image.crash_point().power_loss(&Loss::Everything, Granularity::default());
    let engine = open(&lost).map_err(|error| format!("the second open is refused: {error:?}"))?;
    match last(&engine)? {
        again if again == found + 2 => Ok(()),
        again => Err(format!("after a second crash {again} is there of {}", found + 2)),
    }
}

/// Some lives; returns what each crash would leave.
fn run(seed: u64, harm: impl FnOnce(&SimDisk)) -> Vec<(CrashPoint, Told)> {
    let cuts: Arc<Mutex<Vec<(CrashPoint, Told)>>> = Arc::default();
    let told: Arc<Mutex<Told>> = Arc::default();
    let disk = SimDisk::new();
    let (noted, known) = (Arc::clone(&cuts), Arc::clone(&told));
    disk.on_op(move |disk, op| {
        if op.kind.mutates() {
            let told = *known.lock();
            noted.lock().push((disk.crash_point(), told));
        }
    });
    harm(&disk);
    schedule::run(seed, || {
        for life in 0..3 {
            let Ok(engine) = open(&disk) else { return };
            // Promise 5. What an open has left in tables is read here.
            let Ok(found) = last(&engine) else { return };
            *told.lock() = Told { durable: found, begun: found };
            let mut went_well = true;
            for step in 0..7 {
                let mode = [CommitMode::Sync, CommitMode::Async, CommitMode::Written][step % 3];
                went_well = put(&engine, &told, mode).is_ok();
                if !went_well {
                    break;
                }
                if (step + life) % 3 == 1 {
                    let _ = engine.checkpoint();
                }
            }
            // The last life ends as a crash does.
            if life < 2 && engine.close().is_ok() && went_well {
                let mut told = told.lock();
                told.durable = told.begun;
            }
        }
    });
    disk.clear_on_op();
    std::mem::take(&mut *cuts.lock())
}

#[derive(Default)]
struct Seen {
    images: usize,
    different: HashSet<(u64, Told)>,
}

impl Seen {
    fn check_all(&mut self, what: &str, cuts: &[(CrashPoint, Told)]) {
        for (number, (point, told)) in cuts.iter().enumerate() {
            let losses = [Loss::Everything, Loss::Seeded(number as u64)];
            let lost = losses.iter().map(|loss| point.power_loss(loss, Granularity::default()));
            for image in lost.chain([point.process_kill()]) {
                self.images += 1;
                if self.different.insert((image.image_hash(), *told)) {
                    // In a simulation, so that no thread runs beside.
                    let checked = schedule::run(1, || check(&image, *told));
                    checked.unwrap_or_else(|error| panic!("{what}, a crash at change {number}: {error}"));
                }
            }
        }
    }
}

#[test]
fn a_crash_at_every_call_of_commits_and_checkpoints() {
    let mut seen = Seen::default();
    for seed in 0..2 {
        let cuts = run(seed, |_| ());
        assert!(cuts.len() > 100);
        seen.check_all(&format!("seed {seed}"), &cuts);
    }
    println!("{} images, {} of them different", seen.images, seen.different.len());
}

#[test]
fn a_call_fails_in_table() {
    let mut seen = Seen::default();
    let kinds = [FaultKind::Errno(5), FaultKind::Errno(28), FaultKind::SyncFails { pages: Pages::KeepNew }];
    for (kind, on) in kinds.iter().flat_map(|kind| ["table", "MANIFEST.tmp", ".run", ".keys"].map(|on| (kind, on))) {
        for count in (0..).step_by(4) {
            let disk = Arc::new(Mutex::new(None));
            let keep = Arc::clone(&disk);
            let cuts = run(5, |disk| {
                disk.inject(Fault::once(OpSelector::any().on(on).skip(count), kind.clone()));
                *keep.lock() = Some(disk.clone());
            });
            let hits = disk.lock().as_ref().map_or(0, SimDisk::fault_hits);
            let some: Vec<_> = cuts.into_iter().step_by(48).collect();
            seen.check_all(&format!("{kind:?} at {count} on {on}"), &some);
            if hits == 0 {
                break;
            }
        }
    }
    println!("{} images, {} of them different", seen.images, seen.different.len());
}
