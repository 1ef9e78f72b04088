//! What the cases check; each is named by its bug in `cases.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelog::sim::{self, CrashPoint, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, SimDisk};
use forelog::unstable::disk::{Access, Dir, write_all_at};
use forelog::{CommitMode, Engine, ErrorKind, Keyspace, Lsn, Receipt};

use super::double::torn_states;
use super::media::{Judge, SECTOR};
use super::plans::{EIO, ENOSPC, LONGEST_RUN, end_a_hang};
use super::reference::{ENDINGS, Ending, Reference};
use super::verdict::{Expected, Opened};
use super::workloads::{self, Cut, Session, Start, Step};
use super::{DIR, MODES, copy, files, name_of, open_with, options};
use crashkit::model::{History, State};

fn put(engine: &Engine, keys: &Keyspace, key: u64, mode: CommitMode) -> forelog::Result<Receipt> {
    let mut batch = engine.batch()?;
    batch.put(keys, key.to_be_bytes(), vec![7; 700])?;
    batch.commit_with(mode)
}

/// The keys that are there.
fn keys_on(disk: &SimDisk) -> Vec<u64> {
    let engine = open_with(options(), disk).unwrap_or_else(|error| panic!("{error:?}"));
    let contents = State::of(&engine).expect("readable");
    contents.keys("keys").map(|key| u64::from_be_bytes(key[..].try_into().expect("8 bytes"))).collect()
}

fn cut_power(disk: &SimDisk) -> SimDisk {
    disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector)
}

/// Runs `body` on a new database with a keyspace.
fn with_engine(body: impl FnOnce(&SimDisk, &Engine, &Keyspace)) -> SimDisk {
    let disk = SimDisk::new();
    reopen(1, &disk, |engine, keys| body(&disk, engine, keys));
    disk
}

/// Opens, and runs `body` in a simulation. A check that fails in it must not unwind through the engine, whose end
/// would have to wait for other threads.
fn reopen(seed: u64, disk: &SimDisk, body: impl FnOnce(&Engine, &Keyspace)) {
    let result = sim::run(seed, || {
        let engine = open_with(options(), disk).expect("it opens");
        let keys = engine.create_keyspace("keys").expect("a keyspace");
        let over = Arc::default();
        end_a_hang(&over, LONGEST_RUN, format!("a case, seed {seed}"));
        let result = catch_unwind(AssertUnwindSafe(|| body(&engine, &keys)));
        over.store(true, Ordering::Relaxed);
        result
    });
    result.unwrap_or_else(|failure| resume_unwind(failure));
}

fn sync_fails() -> Fault {
    Fault::once(OpSelector::of(OpKind::Sync), FaultKind::SyncFails { pages: Pages::KeepNew })
}

/// What is known before each operation of a workload that changes the disk.
fn at_every_operation(steps: &[Step]) -> Vec<Cut> {
    let session = Session::new(&Start::nothing(), false);
    let observer = session.clone();
    session.disk.on_op(move |_, _| observer.cut("before an operation"));
    sim::run(workloads::SEED, || workloads::run(&session, steps));
    session.disk.clear_on_op();
    let mut cuts = session.cuts.lock().expect("one thread");
    std::mem::take(&mut *cuts)
}

#[track_caller]
fn must_hold(disk: &SimDisk, expected: &Expected<'_>) -> Lsn {
    match expected.open(disk) {
        Ok(Opened::Holds(_, recovered)) => recovered,
        Ok(Opened::Refused(error)) => panic!("a legal state is refused: {error:?}"),
        Err(violation) => panic!("{violation}"),
    }
}

/// At every operation everything that is not durable is lost, or everything but the names, or but the data.
fn crash_everywhere(steps: &[Step]) {
    for cut in at_every_operation(steps) {
        let atoms = cut.crash.atoms(Granularity::Sector);
        let names = vec![false; atoms.min(6)].into_iter().chain(vec![true; atoms.saturating_sub(6)]).collect();
        for loss in [Loss::Everything, Loss::Nothing, Loss::AllBut(names)] {
            let disk = cut.crash.power_loss(&loss, Granularity::Sector);
            let opened = open_with(options().create(!cut.ledger.exists), &disk);
            let engine = opened.unwrap_or_else(|error| panic!("a legal state is refused: {error:?}"));
            let promised = History::of(cut.ledger.placed()).newest_at(cut.ledger.durable());
            assert!(engine.recovery().recovered_to >= promised, "acknowledged and lost");
        }
    }
}

#[track_caller]
fn refused(disk: &SimDisk) {
    let before = files(disk);
    match open_with(options(), disk) {
        Ok(_) => panic!("it opened"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged, "{error}"),
    }
    assert!(files(disk) == before, "the refusal changed a byte");
}

fn crashed() -> Reference {
    Reference::new(&MODES, Ending::PowerCut, 1, 1)
}

fn segments(disk: &SimDisk) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    files(disk).into_iter().filter(|(path, _)| name_of(path).ends_with(".log")).collect()
}

pub fn second_fsync_answers_zero() {
    let disk = with_engine(|disk, engine, keys| {
        put(engine, keys, 1, CommitMode::Sync).unwrap();
        disk.inject(sync_fails());
        assert_eq!(put(engine, keys, 2, CommitMode::Sync).unwrap_err().kind(), ErrorKind::Indeterminate);
        assert_eq!(put(engine, keys, 3, CommitMode::Sync).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(engine.flush().unwrap_err().kind(), ErrorKind::Indeterminate);
        assert_eq!(keys_on(&cut_power(disk)), [1]);
    });
    assert_eq!(keys_on(&cut_power(&disk)), [1]);
}

pub fn roll_inside_the_sync_window() {
    with_engine(|disk, engine, keys| {
        disk.set_sync_latency(Duration::from_millis(1));
        let syncer = |first: u64| {
            let (disk, engine, keys) = (disk.clone(), engine.clone(), keys.clone());
            sim::start("client", move || {
                for number in first..first + 12 {
                    put(&engine, &keys, number, if number % 3 == 0 { CommitMode::Sync } else { CommitMode::Async })
                        .unwrap();
                    if number % 3 == 0 {
                        let kept = keys_on(&cut_power(&disk));
                        assert!((first..=number).all(|key| kept.contains(&key)), "{number}: {kept:?}");
                    }
                }
            })
        };
        let clients = [syncer(0), syncer(100), syncer(200)];
        clients.into_iter().for_each(sim::Simulated::join);
    });
}

pub fn names_are_lost_at_every_operation() {
    crash_everywhere(&workloads::rotation());
}

pub fn crash_after_every_operation_on_keyspaces() {
    crash_everywhere(&workloads::keyspaces());
}

pub fn acknowledged_is_synced_at_every_operation() {
    crash_everywhere(&workloads::one_thread());
}

pub fn power_cut_while_it_is_created() {
    crash_everywhere(&workloads::create());
}

pub fn segment_cut_inside_a_record() {
    let reference = crashed();
    for frame in &reference.frames {
        for at in [frame.at + 8, frame.at + 40, frame.end - 8] {
            let disk = copy(&reference.disk);
            disk.truncate(&frame.file, at as u64).unwrap();
            refused(&disk);
        }
    }
}

pub fn segment_cut_at_a_record_or_zeroed() {
    for ending in ENDINGS {
        let reference = Reference::new(&MODES, ending, 1, 1);
        for frame in &reference.frames {
            let disk = copy(&reference.disk);
            disk.truncate(&frame.file, frame.at as u64).unwrap();
            refused(&disk);
            let disk = copy(&reference.disk);
            let length = disk.read_file(&frame.file).unwrap().len();
            disk.overwrite(&frame.file, frame.at as u64, &vec![0; length - frame.at]).unwrap();
            refused(&disk);
            disk.truncate(&frame.file, 0).unwrap();
            refused(&disk);
        }
    }
}

pub fn read_error_is_not_the_end() {
    let reference = crashed();
    for lasting in [false, true] {
        for n in 0.. {
            let disk = copy(&reference.disk);
            let at = OpSelector::of(OpKind::Read).skip(n);
            let kind = FaultKind::Errno(EIO);
            disk.inject(if lasting { Fault::lasting(at, kind) } else { Fault::once(at, kind) });
            match Expected::of(&reference.history, &reference.tokens).open(&disk) {
                Ok(Opened::Refused(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                }
                Ok(Opened::Holds(..)) => {}
                Err(violation) => panic!("read {n}: {violation}"),
            }
            if disk.fault_hits() == 0 {
                break;
            }
        }
    }
}

pub fn short_read_is_not_the_end() {
    let reference = crashed();
    for bytes in [1, 7, 511, 513] {
        let disk = copy(&reference.disk);
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Read), FaultKind::ShortRead(bytes)));
        (0..9).for_each(|n| {
            let interrupted = FaultKind::Error(std::io::ErrorKind::Interrupted);
            disk.inject(Fault::once(OpSelector::of(OpKind::Read).skip(n), interrupted));
        });
        must_hold(&disk, &Expected::of(&reference.history, &reference.tokens));
    }
}

pub fn nothing_is_there_twice_after_a_failure() {
    let disk = with_engine(|disk, engine, keys| {
        put(engine, keys, 1, CommitMode::Sync).unwrap();
        disk.inject(sync_fails());
        put(engine, keys, 2, CommitMode::Sync).unwrap_err();
    });
    reopen(2, &disk, |engine, keys| drop(put(engine, keys, 3, CommitMode::Sync).unwrap()));
    let log = forelog::log::LogOptions::new().open_on(Arc::new(cut_power(&disk)), DIR).unwrap();
    let payloads: Vec<_> = log.scan(Lsn::ZERO).unwrap().map(|record| record.unwrap().payload).collect();
    let distinct: std::collections::BTreeSet<_> = payloads.iter().collect();
    assert_eq!(payloads.len(), distinct.len());
    assert!(payloads.len() >= 3);
}

pub fn failed_write_is_final_for_every_keyspace() {
    with_engine(|disk, engine, keys| {
        let other = engine.create_keyspace("other").unwrap();
        let mut both = engine.batch().unwrap();
        both.put(keys, 9u64.to_be_bytes(), "x").unwrap();
        both.put(&other, 9u64.to_be_bytes(), "x").unwrap();
        disk.inject(Fault::once(OpSelector::of(OpKind::Write), FaultKind::FailedWrite(40)));
        both.commit_with(CommitMode::Written).unwrap_err();
        for keyspace in [keys, &other] {
            assert_eq!(put(engine, keyspace, 1, CommitMode::Written).unwrap_err().kind(), ErrorKind::Poisoned);
        }
        let after = open_with(options(), &disk.crash_point().process_kill()).unwrap();
        let contents = State::of(&after).unwrap();
        assert!(contents.entries("keys").eq(contents.entries("other")), "both or neither");
    });
}

pub fn power_cut_right_after_recovery() {
    for torn in torn_states(6) {
        let disk = torn.disk.crash_point().process_kill();
        let engine = open_with(options(), &disk).unwrap();
        let contents = State::of(&engine).unwrap();
        let after = open_with(options(), &cut_power(&disk)).unwrap();
        assert!(State::of(&after).unwrap() == contents, "{}", torn.name);
    }
}

pub fn closing_a_file_syncs_nothing() {
    let disk = SimDisk::new();
    let file = disk.open("f".as_ref(), Access::Create).unwrap();
    disk.sync().unwrap();
    write_all_at(&*file, b"lost", 0).unwrap();
    drop(file);
    assert_eq!(cut_power(&disk).read_file("f").unwrap(), b"");
}

pub fn garbage_where_nothing_was_synced() {
    let reference = crashed();
    let mut judge = Judge::new(&reference);
    for (path, bytes) in segments(&reference.disk) {
        for at in (0..bytes.len()).step_by(SECTOR) {
            for content in [[0xEE; SECTOR], [0; SECTOR]] {
                let disk = copy(&reference.disk);
                disk.overwrite(&path, at as u64, &content).unwrap();
                judge.verdict(&disk, None).unwrap_or_else(|violation| panic!("{at} of {path:?}: {violation}"));
            }
        }
    }
}

pub fn commit_after_a_torn_tail() {
    for torn in torn_states(6) {
        let disk = torn.disk.crash_point().process_kill();
        let before = keys_on(&disk.crash_point().process_kill());
        reopen(1, &disk, |engine, keys| {
            put(engine, keys, 1000, CommitMode::Sync).unwrap();
            let after = keys_on(&cut_power(&disk));
            assert_eq!(after, [&before[..], &[1000]].concat(), "{}", torn.name);
        });
    }
}

pub fn history_cut_anywhere() {
    let reference = crashed();
    let path = format!("{DIR}/HISTORY");
    let bytes = reference.disk.read_file(&path).unwrap();
    for length in 0..bytes.len() {
        let disk = copy(&reference.disk);
        disk.write_file(&path, &bytes[..length]).unwrap();
        refused(&disk);
    }
}

pub fn each_unsynced_write_missing_in_turn() {
    let start = workloads::torn_tail();
    let (crash, history) = (&start.crash, start.history());
    let atoms = crash.atoms(Granularity::Sector);
    assert!(atoms > 2);
    for alone in [false, true] {
        for atom in 0..atoms {
            let landed = (0..atoms).map(|other| (other == atom) == alone).collect();
            let disk = crash.power_loss(&Loss::AllBut(landed), Granularity::Sector);
            must_hold(
                &disk,
                &Expected { floor: start.ledger.durable(), ..Expected::of(&history, &start.ledger.tokens) },
            );
        }
    }
}

pub fn page_of_zeros() {
    let reference = crashed();
    for (path, bytes) in segments(&reference.disk) {
        let holds_log = reference.frames.iter().any(|frame| frame.file == path);
        let disk = copy(&reference.disk);
        disk.overwrite(&path, 0, &vec![0; bytes.len()]).unwrap();
        assert!(holds_log || !bytes.is_empty());
        refused(&disk);
    }
}

pub fn no_length_is_needed_that_was_not_synced() {
    for cut in at_every_operation(&workloads::rotation()) {
        for loss in [Loss::Everything, Loss::Seeded(1)] {
            let disk = cut.crash.power_loss(&loss, Granularity::Sector);
            for (path, bytes) in segments(&disk) {
                assert!(bytes.len() >= 512, "{path:?} has its name and {} bytes", bytes.len());
            }
        }
    }
}

pub fn log_without_history_is_not_a_new_database() {
    let reference = crashed();
    let path = format!("{DIR}/HISTORY");
    let disk = copy(&reference.disk);
    disk.delete(&path).unwrap();
    refused(&disk);
    disk.write_file(&path, b"").unwrap();
    refused(&disk);
}

pub fn error_in_the_background_surfaces() {
    with_engine(|disk, engine, keys| {
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Create), FaultKind::Errno(ENOSPC)));
        let errors = (0..40).filter_map(|number| put(engine, keys, number, CommitMode::Async).err());
        assert_eq!(errors.map(|error| error.kind()).next(), Some(ErrorKind::DiskFull));
        disk.clear_faults();
        put(engine, keys, 50, CommitMode::Sync).expect("there is room again");
        assert!(keys_on(&cut_power(disk)).contains(&50));
    });
}

pub fn damage_in_the_middle_in_every_mode() {
    for mode in MODES {
        for ending in ENDINGS {
            let reference = Reference::new(&[mode], ending, 1, 1);
            for frame in &reference.frames {
                for at in [frame.at + 20, frame.end - 1] {
                    let disk = copy(&reference.disk);
                    disk.flip_bit(&frame.file, at as u64 * 8).unwrap();
                    refused(&disk);
                }
            }
        }
    }
}

pub fn recovery_writes_no_rotten_bytes_again() {
    // The last group: acknowledged as written, and proven durable by nothing.
    for torn in torn_states(1) {
        let sound = torn.disk.crash_point().process_kill();
        let before = files(&sound);
        drop(open_with(options(), &sound).unwrap());
        for (path, bytes) in before.iter().filter(|(path, _)| name_of(path).ends_with(".log")) {
            for at in (512..bytes.len()).step_by(61) {
                let disk = torn.disk.crash_point().process_kill();
                disk.flip_bit(path, at as u64 * 8).unwrap();
                let damaged = files(&disk);
                if open_with(options(), &disk).is_err() {
                    assert!(files(&disk) == damaged);
                    refused(&disk);
                }
            }
        }
    }
}

pub fn no_position_is_handed_out_again() {
    let mut disk = SimDisk::new();
    let mut highest = Lsn::ZERO;
    for life in 0..8u64 {
        let crash: Arc<Mutex<Option<CrashPoint>>> = Arc::default();
        reopen(life, &disk, |engine, keys| {
            for number in 0..3 {
                let lsn = put(engine, keys, number, CommitMode::Written).unwrap().lsn();
                assert!(lsn > highest, "{lsn} after {highest}");
                highest = lsn;
            }
            *crash.lock().unwrap() = Some(disk.crash_point());
        });
        let crash = crash.lock().unwrap().take().unwrap();
        disk = crash.power_loss(&Loss::Seeded(life), Granularity::Sector);
    }
}

pub fn stale_segments_come_back() {
    for torn in torn_states(6) {
        let disk = torn.disk.crash_point().process_kill();
        let before = segments(&disk);
        let contents = State::of(&open_with(options(), &disk).unwrap()).unwrap();
        let left = segments(&disk);
        // What recovery has removed or cut, as it was: its removal was not durable, or a backup brought it back.
        for (path, bytes) in before.iter().filter(|old| !left.contains(old)) {
            let stale = copy(&disk);
            stale.write_file(path, bytes).unwrap();
            let engine = open_with(options(), &stale).unwrap_or_else(|error| panic!("{}: {error:?}", torn.name));
            assert!(State::of(&engine).unwrap() == contents, "{}: {path:?} came back", torn.name);
        }
    }
}

pub fn first_commit_fails() {
    for fault in [FaultKind::Errno(EIO), FaultKind::FailedWrite(16), FaultKind::FailedWrite(512)] {
        let disk = SimDisk::new();
        sim::run(1, || {
            let engine = open_with(options(), &disk).unwrap();
            // The first segment is being filled, then the log written.
            disk.inject(Fault::once(OpSelector::of(OpKind::Write).skip(2), fault.clone()));
            let _ = engine.create_keyspace("keys");
        });
        assert_eq!(disk.fault_hits(), 1);
        reopen(2, &disk, |engine, keys| drop(put(engine, keys, 5, CommitMode::Sync).unwrap()));
        assert_eq!(keys_on(&cut_power(&disk)), [5]);
    }
}

pub fn each_file_missing_in_turn() {
    for ending in ENDINGS {
        let reference = Reference::new(&MODES, ending, 1, 1);
        let with_log = |path: &std::path::PathBuf| reference.frames.iter().any(|frame| frame.file == *path);
        for (path, _) in files(&reference.disk).iter().filter(|(path, _)| with_log(path) || name_of(path) == "HISTORY")
        {
            let disk = copy(&reference.disk);
            disk.delete(path).unwrap();
            refused(&disk);
        }
    }
}

pub fn refusal_repairs_nothing() {
    let reference = crashed();
    for (path, bytes) in segments(&reference.disk) {
        let disk = copy(&reference.disk);
        disk.overwrite(&path, 100, &[1; 8]).unwrap();
        refused(&disk);
        disk.write_file(&path, &bytes).unwrap();
        must_hold(&disk, &Expected::of(&reference.history, &reference.tokens));
    }
}
