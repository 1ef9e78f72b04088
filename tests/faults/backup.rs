//! Backups beside an engine that goes on, cut off and failing at every call, and what they share with earlier ones
//! (`src/engine/BACKUP.md`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crashkit::{DB, open_on};
use forelog::sim::{self, CrashPoint, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, SimDisk};
use forelog::{
    BackupOptions, BackupReport, Checkpoints, CommitMode, Engine, ErrorKind, LossBudget, Options, Outcome, Token,
};

mod calls;
mod point;

const TO: &str = "backups/one";
const NEXT: &str = "backups/two";

fn options() -> Options {
    let hour = Duration::from_secs(3600);
    let budget = LossBudget::default().max_age(hour);
    let checkpoints = Checkpoints::OnRequest;
    Options::new().segment_bytes(8192).checkpoints(checkpoints).flush_interval(hour).loss_budget(budget)
}

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// Each commit in order: its key and value.
type Ledger = Vec<(Token, u32, Option<u8>)>;

fn write(engine: &Engine, ledger: &mut Ledger, key: u32, value: Option<u8>) {
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut batch = engine.batch().unwrap();
    match value {
        Some(value) => batch.put(&keyspace, key.to_be_bytes(), vec![value; 100]).unwrap(),
        None => batch.delete(&keyspace, key.to_be_bytes()).unwrap(),
    }
    let receipt = batch.commit_with(CommitMode::Written).unwrap();
    ledger.push((receipt.token(), key, value));
}

fn state(ledger: &Ledger, up_to: u64) -> State {
    let mut state = State::new();
    for (_, key, value) in ledger.iter().filter(|(token, ..)| token.lsn.get() <= up_to) {
        match value {
            Some(value) => _ = state.insert(key.to_be_bytes().to_vec(), vec![*value; 100]),
            None => _ = state.remove(key.to_be_bytes().as_slice()),
        }
    }
    state
}

fn all(ledger: &Ledger) -> State {
    state(ledger, u64::MAX)
}

fn contents(engine: &Engine) -> State {
    let snapshot = engine.snapshot().unwrap();
    let Some(keyspace) = snapshot.keyspace("k").unwrap() else { return State::new() };
    let entries = snapshot.iter(&keyspace).unwrap().map(Result::unwrap);
    entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn open_at(disk: &SimDisk, path: &str) -> forelog::Result<Engine> {
    options().create(false).open_on(Arc::new(disk.clone()), path)
}

fn check_at(disk: &SimDisk, path: &str, expected: &State, what: &str) {
    let engine = open_at(disk, path).unwrap_or_else(|error| panic!("{what}: {path}: {error}"));
    assert!(contents(&engine) == *expected, "{what}: {path} has another state");
    engine.close().unwrap();
}

/// Reads all of it without opening it.
fn read_at(disk: &SimDisk, path: &str) -> State {
    let seen = Engine::read_only_on(Arc::new(disk.clone()), path).unwrap();
    let entries = seen.range("k", ..).unwrap().map(Result::unwrap);
    entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn backup(engine: &Engine, disk: &SimDisk, to: &str) -> forelog::Result<BackupReport> {
    engine.backup_on(Arc::new(disk.clone()), to, BackupOptions::new())
}

fn against(engine: &Engine, disk: &SimDisk, to: &str, earlier: &str) -> forelog::Result<BackupReport> {
    engine.backup_on(Arc::new(disk.clone()), to, BackupOptions::new().against(earlier))
}

fn files(disk: &SimDisk, under: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    disk.files().into_iter().filter(|(path, _)| path.starts_with(under)).collect()
}

fn checkpoint(engine: &Engine) {
    engine.flush().unwrap();
    engine.checkpoint().unwrap();
}

/// Two layers, and log above them.
fn prepared(disk: &SimDisk) -> (Engine, Ledger) {
    let (engine, mut ledger) = (open_on(disk, options()).unwrap(), Ledger::new());
    for (keys, value) in [(0..120, 1), (100..140, 2), (130..150, 3)] {
        for key in keys {
            write(&engine, &mut ledger, key, Some(value));
        }
        if value < 3 {
            checkpoint(&engine);
        }
    }
    write(&engine, &mut ledger, 7, None);
    (engine, ledger)
}

#[test]
fn a_backup_is_the_state_at_its_lsn_whatever_goes_on_beside_it() {
    for seed in 0..6 {
        sim::run(seed, || {
            let disk = SimDisk::new();
            let (engine, ledger) = prepared(&disk);
            let (ledger, ended) = (Arc::new(Mutex::new(ledger)), Arc::new(AtomicBool::new(false)));
            let writer = {
                let (engine, ledger, ended) = (engine.clone(), Arc::clone(&ledger), Arc::clone(&ended));
                sim::start("beside", move || {
                    for round in 0..u8::MAX {
                        for key in 0..40 {
                            let value = (key % 5 > 0).then_some(round);
                            write(&engine, &mut ledger.lock().unwrap(), key * 3 + u32::from(round % 7), value);
                        }
                        if ended.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                })
            };
            let keeper = {
                let (engine, ended) = (engine.clone(), Arc::clone(&ended));
                sim::start("beside", move || {
                    while !ended.load(Ordering::Relaxed) {
                        checkpoint(&engine);
                        sim::sleep(Duration::from_micros(100));
                    }
                })
            };
            let mut made = Vec::new();
            for number in 0..4 {
                let (to, visible) = (format!("backups/{number}"), engine.visible_lsn());
                let earlier = format!("backups/{}", number - 1);
                let report = match number {
                    0 => backup(&engine, &disk, &to),
                    _ => against(&engine, &disk, &to, &earlier),
                };
                let report = report.unwrap();
                assert!(report.lsn >= visible, "{report:?}");
                made.push((to, report));
            }
            ended.store(true, Ordering::Relaxed);
            writer.join();
            keeper.join();
            let mut ledger = ledger.lock().unwrap().clone();
            for (to, report) in made {
                let at = report.lsn.get();
                assert!(read_at(&disk, &to) == state(&ledger, at), "{seed}: {to}");
                branches(&disk, &engine, &mut ledger, (&to, at));
            }
            engine.close().unwrap();
            check_at(&disk, DB, &all(&ledger), "the source");
        });
    }
}

#[test]
fn what_a_backup_reads_stays_while_merges_take_its_place_and_goes_afterwards() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let (engine, ledger) = prepared(&disk);
        let (once, beside) = (AtomicBool::new(true), engine.clone());
        let with = BackupOptions::new().on_progress(move |_| {
            for round in 0..if once.swap(false, Ordering::Relaxed) { 6 } else { 0 } {
                let mut own = Ledger::new();
                (0..150).for_each(|key| write(&beside, &mut own, key, Some(round)));
                checkpoint(&beside);
                sim::sleep(Duration::from_secs(5));
            }
        });
        engine.backup_on(Arc::new(disk.clone()), TO, with).unwrap();
        assert!(read_at(&disk, TO) == all(&ledger));
        let runs = |of: &str| -> Vec<_> {
            let paths = files(&disk, of).into_iter().map(|(path, _)| path);
            paths.filter(|path| path.extension().is_some_and(|kind| kind == "run")).collect()
        };
        let (here, there) = (runs(DB), runs(TO));
        let is_left = |run: &std::path::PathBuf| here.iter().any(|other| other.file_name() == run.file_name());
        assert!(!there.is_empty() && !there.iter().any(is_left), "{here:?} {there:?}");
    });
}

/// The backup and its original both go on, and each answers for what is its own.
fn branches(disk: &SimDisk, engine: &Engine, ledger: &mut Ledger, (to, at): (&str, u64)) {
    let expected = state(ledger, at);
    let copy = open_at(disk, to).unwrap();
    assert!(contents(&copy) == expected);
    assert_eq!(copy.log_id(), engine.log_id());
    for (token, ..) in ledger.iter() {
        let (here, there) = (copy.outcome(token).unwrap(), engine.outcome(token).unwrap());
        assert_ne!(there, Outcome::Lost);
        let is_right = match here {
            Outcome::Durable => token.lsn.get() <= at,
            Outcome::Lost | Outcome::Invalid => token.lsn.get() > at,
            _ => false,
        };
        assert!(is_right, "{here:?} of {token:?}, the backup ends at {at}");
    }
    let mut own = ledger.iter().filter(|(token, ..)| token.lsn.get() <= at).copied().collect();
    for key in 0..30 {
        write(&copy, &mut own, key * 4, Some(77));
        write(engine, ledger, key * 5, Some(88));
    }
    let (mine, theirs) = (own.last().unwrap().0, ledger.last().unwrap().0);
    checkpoint(&copy);
    checkpoint(engine);
    assert_eq!((copy.outcome(&mine).unwrap(), engine.outcome(&mine).unwrap()), (Outcome::Durable, Outcome::Foreign));
    assert!(matches!(copy.outcome(&theirs).unwrap(), Outcome::Lost | Outcome::Invalid));
    copy.close().unwrap();
    check_at(disk, to, &all(&own), "the backup");
    assert!(contents(engine) == all(ledger));
    disk.remove_tree(to).unwrap();
}

/// All states that a power loss or a kill at this point may leave, or a few.
fn left(point: &CrashPoint) -> Vec<SimDisk> {
    let lost = |loss| point.power_loss(&loss, Granularity::Sector);
    let mut left = vec![point.process_kill(), lost(Loss::Everything), lost(Loss::Nothing)];
    left.extend((0..3).map(|seed| lost(Loss::Seeded(seed))));
    left
}

/// What an open finds of the backup: it is whole, or it says that it is not, or there is nothing of it yet. Returns whether it is
/// whole.
fn is_whole(disk: &SimDisk, to: &str, expected: &State, what: &str) -> bool {
    match open_at(disk, to) {
        Ok(engine) => {
            assert!(contents(&engine) == *expected, "{what}: the backup has another state");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotADatabase, "{what}: {error}");
            let has_files = disk.files().iter().any(|(path, _)| path.starts_with(to) && !path.ends_with("LOCK"));
            assert!(!has_files || error.to_string().contains("unfinished copy"), "{what}: {error}");
            false
        }
    }
}

#[test]
fn cut_off_at_any_call_it_says_that_it_is_unfinished_and_is_gone_on_with() {
    for earlier in [None, Some(TO)] {
        let to = if earlier.is_none() { TO } else { NEXT };
        let (points, ledger) = sim::run(1, || {
            let disk = SimDisk::new();
            let (engine, mut ledger) = prepared(&disk);
            if let Some(earlier) = earlier {
                backup(&engine, &disk, earlier).unwrap();
                write(&engine, &mut ledger, 1, Some(9));
            }
            let points: Arc<Mutex<Vec<CrashPoint>>> = Arc::default();
            let note = Arc::clone(&points);
            disk.on_op(move |disk, op| {
                if op.kind.mutates() {
                    note.lock().unwrap().push(disk.crash_point());
                }
            });
            let with = earlier.map_or(BackupOptions::new(), |earlier| BackupOptions::new().against(earlier));
            engine.backup_on(Arc::new(disk.clone()), to, with).unwrap();
            points.lock().unwrap().push(disk.crash_point());
            disk.clear_on_op();
            drop(engine);
            let points = std::mem::take(&mut *points.lock().unwrap());
            (points, ledger)
        });
        assert!(points.len() > 40, "{} calls", points.len());
        let (expected, mut unfinished) = (all(&ledger), 0);
        for (number, point) in points.iter().enumerate() {
            for (kind, disk) in left(point).into_iter().enumerate() {
                let what = format!("{earlier:?}: call {number} of {}, {kind}", points.len());
                check_cut(&disk, (to, earlier), &expected, &what, &mut unfinished);
                assert!(number + 1 < points.len() || is_whole(&disk, to, &expected, &what), "{what}: not durable");
            }
        }
        assert!(unfinished > 100, "{unfinished}");
    }
}

fn check_cut(disk: &SimDisk, (to, earlier): (&str, Option<&str>), expected: &State, what: &str, unfinished: &mut u32) {
    if let Some(earlier) = earlier {
        open_at(disk, earlier).unwrap_or_else(|error| panic!("{what}: the earlier one: {error}"));
    }
    let engine = open_at(disk, DB).unwrap_or_else(|error| panic!("{what}: the source: {error}"));
    // Commits that were written and not flushed may be gone before the backup has flushed them.
    if contents(&engine) != *expected || is_whole(disk, to, expected, what) {
        return;
    }
    *unfinished += 1;
    backup(&engine, disk, to).unwrap_or_else(|error| panic!("{what}: not gone on with: {error}"));
    let disk = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
    check_at(&disk, to, expected, what);
}

#[test]
fn whatever_call_fails_the_error_is_typed_and_the_next_try_goes_on() {
    let faults = [
        FaultKind::Errno(5),
        FaultKind::Errno(28),
        FaultKind::SyncFails { pages: Pages::KeepNew },
        FaultKind::SyncFails { pages: Pages::RevertOld },
        FaultKind::RenameOnMedium,
        FaultKind::FailedWrite(100),
    ];
    let mut reused = 0;
    for fault in faults {
        let mut failed = 0;
        for at in 0.. {
            let (disk, target) = (SimDisk::new(), SimDisk::new());
            let is_hit = sim::run(at, || {
                let (engine, mut ledger) = prepared(&disk);
                // So that no directory has the number of one on the other disk.
                (0..500).for_each(|number| target.make_dir(format!("others/{number}")).unwrap());
                target.make_dir("backups").unwrap();
                target.inject(Fault::once(OpSelector::any().skip(at), fault.clone()));
                let before = target.ops();
                let made = backup(&engine, &target, TO);
                let (is_over, hits) = (target.ops() - before <= at, target.fault_hits());
                target.clear_faults();
                let what = format!("{fault:?} at {at}: {:?}", made.as_ref().err());
                if let Err(error) = &made {
                    // What cannot be opened may be taken for what is not there.
                    let is_made = target.read_file(Path::new(TO).join("LOCK")).is_ok();
                    let is_missing = !is_made && error.kind() == ErrorKind::NotADatabase;
                    assert!(is_missing || matches!(error.kind(), ErrorKind::Io | ErrorKind::DiskFull), "{what}");
                    assert!(["backups", "directory ."].iter().any(|path| error.to_string().contains(path)), "{what}");
                    failed += 1;
                }
                if made.is_err() && !is_whole_as_named(&target) {
                    let again = backup(&engine, &target, TO);
                    let again = again.unwrap_or_else(|error| panic!("{what}: not gone on with: {error}"));
                    reused += again.bytes_reused;
                    // All of it is on the medium, whatever was in the cache alone.
                    let after = target.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
                    check_at(&after, TO, &all(&ledger), &what);
                }
                // The source does not notice.
                write(&engine, &mut ledger, 1000, Some(1));
                checkpoint(&engine);
                assert!(engine.poisoned().is_none() && contents(&engine) == all(&ledger), "{what}");
                !is_over || hits > 0
            });
            if !is_hit {
                break;
            }
        }
        assert!(failed > 1, "{fault:?}: {failed}");
    }
    assert!(reused > 0);
}

/// Whether the last rename was done: only the sync behind it has failed.
fn is_whole_as_named(disk: &SimDisk) -> bool {
    disk.read_file(Path::new(TO).join("HISTORY")).is_ok()
}

#[test]
fn against_an_earlier_backup_only_what_is_new_is_copied_and_both_stay_whole() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let (engine, mut ledger) = prepared(&disk);
        let first = backup(&engine, &disk, TO).unwrap();
        assert_eq!((first.bytes_reused, first.lsn), (0, engine.visible_lsn()));
        let old = all(&ledger);
        let same = against(&engine, &disk, "backups/same", TO).unwrap();
        let list = first.bytes_copied - same.bytes_reused;
        assert!(same.bytes_copied == list && list < 300 && same.files == first.files, "{first:?} {same:?}");
        (0..3).for_each(|key| write(&engine, &mut ledger, key, Some(50)));
        let next = against(&engine, &disk, NEXT, TO).unwrap();
        assert!(next.bytes_reused == same.bytes_reused && next.bytes_copied < first.bytes_copied, "{next:?}");
        // Nobody's life ends another's.
        let copy = open_at(&disk, "backups/same").unwrap();
        let mut own = ledger[..ledger.len() - 3].to_vec();
        for round in 0..6 {
            (0..150).for_each(|key| write(&copy, &mut own, key, Some(round)));
            checkpoint(&copy);
        }
        copy.close().unwrap();
        check_at(&disk, "backups/same", &all(&own), "written to");
        assert!(read_at(&disk, TO) == old && read_at(&disk, NEXT) == all(&ledger));
        disk.remove_tree(TO).unwrap();
        disk.remove_tree("backups/same").unwrap();
        check_at(&disk, NEXT, &all(&ledger), "alone");
        // Where no second name can be had, the file is copied.
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Create).on(".run"), FaultKind::Errno(18)));
        let copied = against(&engine, &disk, "backups/three", NEXT).unwrap();
        disk.clear_faults();
        assert!(copied.bytes_reused == 0 && copied.bytes_copied > next.bytes_copied, "{copied:?}");
        check_at(&disk, "backups/three", &all(&ledger), "copied");
        let refused = against(&engine, &disk, "backups/four", DB).unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Locked | ErrorKind::InvalidInput), "{refused}");
        assert!(files(&disk, "backups/four").is_empty());
    });
}

#[test]
fn damage_in_the_source_is_told_and_not_copied() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let (engine, _) = prepared(&disk);
        checkpoint(&engine);
        // A merge may have left more.
        backup(&engine, &disk, NEXT).unwrap();
        let needed = files(&disk, NEXT);
        let table = Path::new(DB).join("table");
        for (path, bytes) in files(&disk, table.to_str().unwrap()) {
            let is_needed = needed.iter().any(|(copied, _)| copied.file_name() == path.file_name());
            if path.ends_with("MANIFEST") || !is_needed {
                continue;
            }
            for at in (3..bytes.len() as u64).step_by(211) {
                disk.flip_bit(&path, at * 8 + 1).unwrap();
                let error = backup(&engine, &disk, TO).unwrap_err();
                let damage = error.damage().unwrap_or_else(|| panic!("{} at {at}: {error}", path.display()));
                assert_eq!((error.kind(), &damage.file), (ErrorKind::Damaged, &path), "{at}: {error}");
                assert_eq!(open_at(&disk, TO).unwrap_err().kind(), ErrorKind::NotADatabase);
                disk.flip_bit(&path, at * 8 + 1).unwrap();
                // What is whole in it would be taken over.
                disk.remove_tree(TO).unwrap();
            }
        }
        // The file that was damaged is copied anew.
        backup(&engine, &disk, TO).unwrap();
        check_at(&disk, TO, &contents(&engine), "repaired");
        // Nor is a copy believed that an earlier try has left, and that has rotted since.
        disk.remove_tree(TO).unwrap();
        disk.inject(Fault::once(OpSelector::of(OpKind::Rename).on("HISTORY.tmp"), FaultKind::Errno(28)));
        assert_eq!(backup(&engine, &disk, TO).unwrap_err().kind(), ErrorKind::DiskFull);
        for (path, _) in files(&disk, TO).iter().filter(|(path, _)| path.extension().is_some_and(|kind| kind == "run"))
        {
            disk.flip_bit(path, 900 * 8).unwrap();
        }
        assert_eq!(backup(&engine, &disk, TO).unwrap().bytes_reused, 0);
        check_at(&disk, TO, &contents(&engine), "rotted");
        // Nor is what cannot be read.
        disk.remove_tree(NEXT).unwrap();
        disk.inject(Fault::once(OpSelector::of(OpKind::Read).on(".run"), FaultKind::Errno(5)));
        let error = backup(&engine, &disk, NEXT).unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.to_string().contains(&*table.to_string_lossy()), "{error}");
    });
}

#[test]
fn what_does_not_come_back_as_it_was_written_is_told_with_the_file_of_the_backup() {
    sim::run(1, || {
        let target = SimDisk::new();
        let (engine, _) = prepared(&target);
        let mut failed = 0;
        for at in 0.. {
            target.inject(Fault::once(OpSelector::of(OpKind::Read).on(".run.tmp").skip(at), FaultKind::FlippedRead(9)));
            let made = backup(&engine, &target, TO);
            target.clear_faults();
            let Err(error) = made else { break };
            assert!(error.damage().is_some_and(|damage| damage.file.starts_with(TO)), "{at}: {error}");
            failed += 1;
            target.remove_tree(TO).unwrap();
        }
        assert!(failed > 3, "{failed}");
    });
}
