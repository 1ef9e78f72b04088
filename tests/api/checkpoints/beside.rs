//! What fails beside the tables while a checkpoint runs (HISTORY, the removal of segments), and a close that comes
//! meanwhile; with commits in every mode under way, and a snapshot that is held.

use std::sync::{Arc, Mutex};

use crashkit::model::State;
use crashkit::open_on;
use forelog::sim::{self, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, Options, Result};

/// What each of three clients commits in.
const MODES: [CommitMode; 3] = [CommitMode::Sync, CommitMode::Written, CommitMode::Async];
const NAMES: [&str; 3] = ["sync", "written", "async"];

/// How many commits of each client were begun, and how many acknowledged.
#[derive(Clone, Copy, Default, Debug)]
struct Told {
    begun: [u32; 3],
    acknowledged: [u32; 3],
}

#[derive(Clone)]
struct Work {
    disk: SimDisk,
    engine: Engine,
    told: Arc<Mutex<Told>>,
}

fn open(disk: &SimDisk) -> Result<Engine> {
    open_on(disk, Options::new().segment_bytes(4096))
}

impl Work {
    fn begin() -> Self {
        let disk = SimDisk::new();
        let engine = open(&disk).unwrap();
        NAMES.iter().for_each(|name| drop(engine.create_keyspace(name).unwrap()));
        Work { disk, engine, told: Arc::default() }
    }

    /// The next commit of a client puts its number, in its own keyspace.
    fn commit(&self, client: usize) -> Result<()> {
        let number = self.told.lock().unwrap().begun[client] + 1;
        self.told.lock().unwrap().begun[client] = number;
        let mut batch = self.engine.batch()?;
        batch.put(&self.engine.open_keyspace(NAMES[client])?, number.to_be_bytes(), [7; 500])?;
        let committed = batch.commit_with(MODES[client]);
        let mut told = self.told.lock().unwrap();
        match &committed {
            Ok(_) => told.acknowledged[client] = number,
            // Nothing was done: the number is the next one's.
            Err(error) if error.is_retryable() => told.begun[client] -= 1,
            Err(_) => {}
        }
        committed.map(drop)
    }

    fn commit_all(&self) {
        (0..12).for_each(|step| self.commit(step % 3).unwrap());
        self.engine.flush().unwrap();
    }

    /// Commits of all clients, as far as they succeed, with a call beside them.
    fn beside_commits<T>(&self, call: impl FnOnce() -> T) -> T {
        let client = |client: usize| {
            let work = self.clone();
            sim::start(NAMES[client], move || {
                while work.commit(client).is_ok() && work.told.lock().unwrap().begun[client] < 12 {}
            })
        };
        let clients = [0, 1, 2].map(client);
        let result = call();
        clients.into_iter().for_each(sim::Simulated::join);
        result
    }

    /// What a crash leaves now opens, has what was promised of each client, and takes more.
    fn check_crashes(&self, what: &str) {
        let (told, crash) = (*self.told.lock().unwrap(), self.disk.crash_point());
        let lost = [Loss::Everything, Loss::Nothing, Loss::Seeded(7)];
        let images = lost.map(|loss| (1, crash.power_loss(&loss, Granularity::Sector)));
        for (surviving, image) in images.into_iter().chain([(2, crash.process_kill())]) {
            let engine = open(&image).unwrap_or_else(|error| panic!("{what}: an open is refused: {error:?}"));
            for (client, name) in NAMES.iter().enumerate() {
                let there = State::of(&engine).unwrap().keys(name).map(|key| key.to_vec()).collect::<Vec<_>>();
                let count = u32::try_from(there.len()).unwrap();
                assert!(
                    there.iter().zip(1..).all(|(key, number): (_, u32)| **key == number.to_be_bytes()),
                    "{what}: {there:?}"
                );
                let least = if client < surviving { told.acknowledged[client] } else { 0 };
                assert!((least..=told.begun[client]).contains(&count), "{what}: {count} of {name}, {told:?}");
            }
            let again = Work { disk: image, engine, told: Arc::default() };
            again.told.lock().unwrap().begun = [100; 3];
            again.commit(0).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            again.engine.checkpoint().unwrap_or_else(|error| panic!("{what}: {error:?}"));
            let lost = again.disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
            let state = open(&lost).map(|engine| State::of(&engine).unwrap());
            assert!(state.unwrap() == State::of(&again.engine).unwrap(), "{what}: after a second crash");
        }
    }
}

/// Whether the fault has struck.
fn checkpoint_with(what: &str, fault: Fault, is_first: bool) -> bool {
    let work = Work::begin();
    work.commit_all();
    if !is_first {
        work.engine.checkpoint().unwrap();
        work.commit_all();
    }
    let snapshot = work.engine.snapshot().unwrap();
    let before = State::read(&snapshot).unwrap();
    work.disk.inject(fault);
    let result = work.beside_commits(|| work.engine.checkpoint());
    let has_struck = work.disk.fault_hits() > 0;
    work.disk.clear_faults();
    if let Err(error) = &result {
        let kinds = [ErrorKind::Io, ErrorKind::DiskFull, ErrorKind::Poisoned, ErrorKind::Indeterminate];
        assert!(has_struck && kinds.contains(&error.kind()), "{what}: {error:?}");
    }
    assert!(State::read(&snapshot).unwrap() == before, "{what}: the snapshot shows something else");
    work.check_crashes(what);
    if work.engine.poisoned().is_none() {
        // Once the error is gone all goes on.
        work.commit_all();
        work.engine.checkpoint().unwrap_or_else(|error| panic!("{what}, again: {error:?}"));
        work.check_crashes(&format!("{what}, again"));
        work.engine.close().unwrap_or_else(|error| panic!("{what}, at the close: {error:?}"));
    }
    work.check_crashes(&format!("{what}, at the end"));
    has_struck
}

#[test]
fn what_fails_beside_the_tables_takes_nothing_and_refuses_no_open() {
    const CALLS: [(OpKind, &str); 9] = [
        (OpKind::CreateDir, "table"),
        (OpKind::Create, "HISTORY.tmp"),
        (OpKind::Write, "HISTORY.tmp"),
        (OpKind::Sync, "HISTORY.tmp"),
        (OpKind::Rename, "HISTORY.tmp"),
        (OpKind::SyncDir, "db"),
        (OpKind::Remove, ".log"),
        (OpKind::Read, ".log"),
        (OpKind::Rename, ".log.tmp"),
    ];
    let mut struck = [0; 2];
    for (op, on) in CALLS {
        let sync =
            matches!(op, OpKind::Sync | OpKind::SyncDir).then_some(FaultKind::SyncFails { pages: Pages::KeepNew });
        for kind in [FaultKind::Errno(5), FaultKind::Errno(28)].into_iter().chain(sync) {
            for is_first in [true, false] {
                for skip in 0..4 {
                    let fault = Fault::once(OpSelector::of(op).on(on).skip(skip), kind.clone());
                    let what = format!("{op:?} {skip} of {on}: {kind:?}, first {is_first}");
                    let has_struck = sim::run(skip, || checkpoint_with(&what, fault, is_first));
                    struck[usize::from(is_first)] += usize::from(has_struck);
                    if !has_struck {
                        break;
                    }
                }
            }
        }
    }
    assert!(struck.iter().all(|count| *count > 5), "{struck:?}");
}

/// Step 2 of `table/FAULTS.md`: what an attempt of an earlier life has left may be in the cache alone (A9).
#[test]
fn a_directory_whose_name_may_not_be_durable_is_not_taken_over() {
    sim::run(1, || {
        let work = Work::begin();
        work.commit_all();
        // What is prepared in the background is over.
        sim::sleep(std::time::Duration::from_secs(1));
        let lost = FaultKind::SyncFails { pages: Pages::KeepNew };
        work.disk.inject(Fault::once(OpSelector::of(OpKind::SyncDir).on("db"), lost));
        assert!(work.engine.checkpoint().is_err() && work.engine.poisoned().is_some());
        assert_eq!(work.disk.fault_hits(), 1);
        let killed = work.disk.crash_point().process_kill();
        let engine = open(&killed).unwrap();
        let expected = State::of(&engine).unwrap();
        engine.checkpoint().unwrap();
        engine.close().unwrap();
        let lost = killed.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
        let engine = open(&lost).unwrap_or_else(|error| panic!("a legal state is refused: {error:?}"));
        assert!(State::of(&engine).unwrap() == expected);
    });
}

/// P8: nothing in the directory changes once a close has given up the lock; and the checkpoint is done, or was not.
#[test]
fn a_close_beside_a_checkpoint_ends_it() {
    for seed in 0..60 {
        sim::run(seed, || {
            let work = Work::begin();
            work.commit_all();
            let (checkpointing, other) = (work.clone(), work.clone());
            let end = Arc::new(Mutex::new(None));
            let ended = Arc::clone(&end);
            let checkpoints = sim::start("checkpoints", move || {
                loop {
                    if let Err(error) = checkpointing.engine.checkpoint() {
                        *ended.lock().unwrap() = Some(error.kind());
                        return;
                    }
                    let _ = checkpointing.commit(0);
                }
            });
            let commits = sim::start("commits", move || while other.commit(2).is_ok() {});
            sim::sleep(std::time::Duration::from_micros(seed * 40));
            work.engine.close().unwrap();
            let files = work.disk.image_hash();
            checkpoints.join();
            commits.join();
            assert_eq!(*end.lock().unwrap(), Some(ErrorKind::Closed), "seed {seed}");
            assert_eq!(work.disk.image_hash(), files, "changed after the close, seed {seed}");
            work.check_crashes(&format!("seed {seed}"));
        });
    }
}
