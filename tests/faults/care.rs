//! Care for a database that is not as it should be: what is read of it is bounded, what is said of it is true, and what
//! is made of it is whole or says that it is not.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crashkit::{DB, TempDir, copy_dir, error_of, get, kind_of, open_on, put};
use forelog::log::{Log, LogOptions};
use forelog::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Phase, SimDisk};
use forelog::unstable::inspect;
use forelog::{CommitMode, Engine, Error, ErrorKind, LossBudget, Lsn, Options};

const KEYS: [&str; 3] = ["a", "b", "c"];

/// A closed database with three commits, in two incarnations.
fn database(dir: &Path) {
    for keys in [&KEYS[..2], &KEYS[2..]] {
        let engine = Options::new().segment_bytes(1 << 20).open(dir).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        for key in keys {
            put(&engine, &keyspace, key, "1", CommitMode::Sync).unwrap();
        }
        engine.close().unwrap();
    }
}

/// The same on a simulated disk.
fn simulated() -> SimDisk {
    let disk = SimDisk::new();
    for keys in [&KEYS[..2], &KEYS[2..]] {
        let engine = open_on(&disk, Options::new().segment_bytes(4096)).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        for key in keys {
            put(&engine, &keyspace, key, "1", CommitMode::Sync).unwrap();
        }
        engine.close().unwrap();
    }
    disk.crash_point().process_kill()
}

fn copy(disk: &SimDisk) -> SimDisk {
    disk.crash_point().process_kill()
}

/// A file of this length in which nothing was written.
fn sparse(path: &Path, length: u64) {
    File::options().create(true).truncate(false).write(true).open(path).unwrap().set_len(length).unwrap();
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, offset).unwrap();
}

/// The paths of everything below a directory, LOCK files excepted.
fn names_below(dir: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(names_below(&entry.path()));
        }
        if entry.file_name() != "LOCK" {
            names.push(entry.path());
        }
    }
    names.sort();
    names
}

/// Whether all three keys are there.
fn holds_everything(engine: &Engine) -> bool {
    let keyspace = engine.open_keyspace("k").unwrap();
    KEYS.iter().all(|key| get(engine, &keyspace, key).as_deref() == Some("1"))
}

fn verify_on(disk: &SimDisk, dir: &str) -> forelog::Result<forelog::Recovery> {
    inspect::verify_on(Arc::new(disk.clone()), dir.as_ref(), &mut |_, _| Ok(()))
}

fn dump(dir: &Path) -> forelog::Result<()> {
    inspect::dump(dir, |_| Ok::<_, Error>(()))
}

// ---- numbers that come from names and files

#[test]
fn a_stray_file_under_a_segments_name_ends_no_salvage() {
    let strays = [
        ("ffffffffffffffff.log", 0),
        ("ffffffffffffffff.log", 1 << 40),
        ("fffffffffffffe00.log", 0),
        ("fffffffffffffe00.log", 4096),
        ("ffffffffffffe000.log", 1 << 40),
        ("ffffffffc0000000.log", 1 << 30),
        ("0000000000000001.log", 1 << 40),
        ("0000000000000007.log", 513),
        ("0000000040000000.log", 1 << 30),
        ("0000000080000000.log", 1 << 40),
    ];
    for with_history in [true, false] {
        for (name, length) in strays {
            let dir = TempDir::new("stray");
            let (from, to) = (dir.join("db"), dir.join("saved"));
            database(&from);
            if !with_history {
                fs::remove_file(from.join("HISTORY")).unwrap();
            }
            sparse(&from.join(name), length);
            let salvaged = Engine::salvage(&from, &to).unwrap();
            assert!(salvaged.bad_files.iter().any(|bad| bad.file == from.join(name)), "{name}: {salvaged:?}");
            assert!(holds_everything(&Engine::open(&to).unwrap()), "{name}");
            for error in [error_of(Engine::open(&from)), error_of(Engine::verify(&from)), error_of(dump(&from))] {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{name}: {error}");
            }
        }
    }
}

#[test]
fn a_segment_that_was_made_longer_is_read_as_far_as_a_segment_goes() {
    for (length, header_gone) in [(1 << 40, false), (1 << 40, true), (1 << 30, true)] {
        let dir = TempDir::new("longer");
        let (from, to) = (dir.join("db"), dir.join("saved"));
        database(&from);
        let segment = from.join("0000000000000000.log");
        sparse(&segment, length);
        if header_gone {
            overwrite(&segment, 0, &[0; 512]);
        }
        Engine::salvage(&from, &to).unwrap();
        assert!(holds_everything(&Engine::open(&to).unwrap()));
        let _ = (Engine::verify(&from), dump(&from));
    }
}

#[test]
fn a_history_whose_numbers_overflow_is_refused() {
    let dir = TempDir::new("overflow");
    database(&dir.join("db"));
    let whole = fs::read(dir.join("db/HISTORY")).unwrap();
    // The offsets of the number of the oldest incarnation, the count, and of number, begin, end and prepared of the first.
    for offset in [56, 64, 72, 96, 104, 112] {
        for value in [u64::MAX, u64::MAX - 1, 1 << 60, 1 << 63, 513] {
            let db = dir.join(format!("db-{offset}-{value:x}"));
            copy_dir(&dir.join("db"), &db);
            let mut history = whole.clone();
            history[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
            let crc = crc32fast::hash(&history[12..]);
            history[8..12].copy_from_slice(&crc.to_le_bytes());
            fs::write(db.join("HISTORY"), &history).unwrap();
            let _ = dump(&db);
            for error in [error_of(Engine::verify(&db)), error_of(Engine::open(&db))] {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{offset} {value:#x}: {error}");
            }
            Engine::salvage(&db, dir.join(format!("to-{offset}-{value:x}"))).unwrap();
        }
    }
    // No incarnation, and the next one's number would be the last there is or none.
    for first in [u64::MAX, 0] {
        let db = dir.join(format!("empty-{first:x}"));
        fs::create_dir(&db).unwrap();
        let mut history = whole[..72].to_vec();
        history[56..64].copy_from_slice(&first.to_le_bytes());
        history[64..72].fill(0);
        let crc = crc32fast::hash(&history[12..]);
        history[8..12].copy_from_slice(&crc.to_le_bytes());
        fs::write(db.join("HISTORY"), &history).unwrap();
        assert_eq!(kind_of(Engine::open(&db)), ErrorKind::Damaged, "{first:#x}");
    }
}

#[test]
fn a_file_that_was_made_a_tebibyte_long_is_not_read_into_memory() {
    let dir = TempDir::new("long");
    for name in ["HISTORY", "MARK", "HISTORY.tmp"] {
        for length in [1 << 40, (1 << 30) + 1, 4097] {
            let (db, to) = (dir.join(format!("db-{name}-{length}")), dir.join(format!("to-{name}-{length}")));
            database(&db);
            sparse(&db.join(name), length);
            let opened = [dump(&db).err(), Engine::verify(&db).err(), Engine::open(&db).err()];
            for error in &opened {
                match error {
                    Some(error) if name == "HISTORY" => {
                        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
                        let text = error.to_string();
                        // Two incarnations are 72 and twice 56 bytes.
                        assert!(text.contains("HISTORY") && text.contains(&length.to_string()), "{text}");
                        assert!(text.contains("184"), "{text}");
                    }
                    other => assert!(name != "HISTORY" && other.is_none(), "{name}: {other:?}"),
                }
            }
            Engine::salvage(&db, &to).unwrap();
            assert!(holds_everything(&Engine::open(&to).unwrap()), "{name}");
        }
    }
}

// ---- errors of the operating system

/// EIO, ESTALE, ENOTCONN, ETIMEDOUT, EACCES, ENOMEM, EMFILE, EREMOTEIO, EUCLEAN, ENXIO, ENOENT.
const ERRNOS: [i32; 11] = [5, 116, 107, 110, 13, 12, 24, 121, 117, 6, 2];

fn is_of_the_system(error: &Error, errno: i32, file: &str) -> bool {
    let text = error.to_string();
    error.kind() == ErrorKind::Io
        && error.damage().is_none()
        && text.contains(&format!("os error {errno}"))
        && text.contains(file)
        && !text.contains("damaged")
}

#[test]
fn an_error_of_the_operating_system_is_never_called_damage_by_an_open() {
    let whole = simulated();
    for file in [".log", "HISTORY"] {
        for kind in [OpKind::Read, OpKind::Open] {
            for errno in ERRNOS {
                for nth in 0.. {
                    let disk = copy(&whole);
                    let fault = || Fault::lasting(OpSelector::of(kind).on(file).skip(nth), FaultKind::Errno(errno));
                    disk.inject(fault());
                    let verified = verify_on(&disk, DB);
                    if disk.fault_hits() == 0 {
                        assert!(nth > 0 && verified.is_ok());
                        break;
                    }
                    let error = error_of(verified);
                    assert!(is_of_the_system(&error, errno, file), "{file} {kind:?} {nth}: {error}");
                    disk.clear_faults();
                    let before = disk.files();
                    disk.inject(fault());
                    let error = error_of(open_on(&disk, Options::new()));
                    assert!(is_of_the_system(&error, errno, file), "{file} {kind:?} {nth}: {error}");
                    assert!(disk.files() == before, "a refusal changed something");
                    disk.clear_faults();
                    assert!(holds_everything(&open_on(&disk, Options::new()).unwrap()));
                }
            }
        }
    }
}

/// After a crash more is read: what lies above the end, and what is written again.
#[test]
fn an_error_of_the_operating_system_is_never_called_damage_by_a_recovery() {
    let disk = SimDisk::new();
    let engine = open_on(&disk, Options::new().segment_bytes(4096)).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    for key in KEYS {
        put(&engine, &keyspace, key, &"1".repeat(900), CommitMode::Written).unwrap();
    }
    let whole = disk.crash_point().process_kill();
    drop(engine);
    for kind in [OpKind::Read, OpKind::Open] {
        for errno in [5, 116] {
            for nth in 0.. {
                let disk = copy(&whole);
                disk.inject(Fault::once(OpSelector::of(kind).on(".log").skip(nth), FaultKind::Errno(errno)));
                let opened = open_on(&disk, Options::new());
                if disk.fault_hits() == 0 {
                    assert!(nth > 2 && opened.is_ok());
                    break;
                }
                match opened {
                    // What is read ahead is asked for once more.
                    Ok(engine) => drop(engine),
                    Err(error) => assert!(is_of_the_system(&error, errno, ".log"), "{kind:?} {nth}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_mark_is_no_proof_while_the_medium_fails_and_no_mark_is_lost_to_an_error_of_the_system() {
    let whole = simulated();
    whole.write_file(format!("{DB}/MARK"), &[0; 1024]).unwrap();
    for (errno, opens) in [(5, true), (116, false), (107, false), (13, false)] {
        let disk = copy(&whole);
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Read).on("MARK"), FaultKind::Errno(errno)));
        match open_on(&disk, Options::new()) {
            Ok(_) => assert!(opens, "{errno}"),
            Err(error) => assert!(!opens && is_of_the_system(&error, errno, "MARK"), "{error}"),
        }
    }
}

#[test]
fn a_scan_that_cannot_read_says_so_and_calls_nothing_damaged() {
    let disk = SimDisk::new();
    let log: Log = LogOptions::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), DB).unwrap();
    for number in 0..40_u8 {
        log.append(&[number; 300], CommitMode::Sync).unwrap();
    }
    for kind in [OpKind::Read, OpKind::Open] {
        for errno in ERRNOS {
            disk.inject(Fault::lasting(OpSelector::of(kind).on(".log").skip(1), FaultKind::Errno(errno)));
            let error = log.scan(Lsn::ZERO).unwrap().find_map(Result::err).unwrap();
            assert!(is_of_the_system(&error, errno, ".log"), "{kind:?}: {error}");
            disk.clear_faults();
            assert_eq!(log.scan(Lsn::ZERO).unwrap().filter(|record| record.is_ok()).count(), 40);
        }
    }
}

#[test]
fn salvage_tells_what_it_could_not_read_from_what_is_damaged() {
    let whole = simulated();
    for kind in [OpKind::Read, OpKind::Open] {
        let disk = copy(&whole);
        let reads = OpSelector::of(kind).on(format!("{DB}/0000000000000000.log"));
        disk.inject(Fault::lasting(reads, FaultKind::Errno(116)));
        let salvaged = Engine::salvage_on(Arc::new(disk.clone()), DB, "saved").unwrap();
        let causes: Vec<String> = salvaged.lost.iter().map(|lost| lost.cause.to_string()).collect();
        let bad: Vec<String> = salvaged.bad_files.iter().map(|bad| bad.cause.to_string()).collect();
        assert!(!causes.is_empty() || !bad.is_empty());
        for cause in causes.iter().chain(&bad) {
            assert!(cause.contains("could not be read") && cause.contains("os error 116"), "{kind:?}: {salvaged:?}");
        }
        let copy = Options::new().create(false).open_on(Arc::new(disk), "saved").unwrap();
        let keyspaces = copy.keyspace_names().unwrap();
        assert_eq!(keyspaces.len(), 1, "what the second incarnation holds is saved: {keyspaces:?}");
    }
    let disk = copy(&whole);
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Read).on("HISTORY"), FaultKind::Errno(116)));
    let salvaged = Engine::salvage_on(Arc::new(disk.clone()), DB, "saved").unwrap();
    assert_eq!(salvaged.bad_files.len(), 1, "{salvaged:?}");
    assert!(salvaged.bad_files[0].cause.to_string().contains("could not be read"), "{salvaged:?}");
}

#[test]
fn a_refusal_for_damage_names_verify_and_then_salvage() {
    let whole = simulated();
    let damages: [fn(&SimDisk); 4] = [
        |disk| disk.flip_bit(format!("{DB}/0000000000000000.log"), 8 * 600).unwrap(),
        |disk| disk.flip_bit(format!("{DB}/HISTORY"), 8 * 60).unwrap(),
        |disk| disk.delete(format!("{DB}/HISTORY")).unwrap(),
        |disk| disk.delete(format!("{DB}/0000000000000000.log")).unwrap(),
    ];
    for damage in damages {
        let disk = copy(&whole);
        damage(&disk);
        let error = error_of(open_on(&disk, Options::new()));
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        let (verify, salvage) = (text.find("forelog verify"), text.find("forelog salvage"));
        assert!(verify.is_some() && verify < salvage, "{text}");
    }
}

// ---- copies

/// Calls `work` again and again, and looks at the disk as it is when the power fails at every moment of it.
fn cut_everywhere(disk: &SimDisk, work: impl FnOnce(&SimDisk), mut judge: impl FnMut(&SimDisk, &str)) {
    let moments = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&moments);
    disk.on_op(move |disk, op| {
        if op.kind.mutates() && op.phase == Phase::InFlight {
            seen.lock().unwrap().push(disk.crash_point());
        }
    });
    work(disk);
    disk.clear_on_op();
    moments.lock().unwrap().push(disk.crash_point());
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 10);
    for (moment, crash) in moments.iter().enumerate() {
        judge(&crash.process_kill(), &format!("killed at {moment}"));
        for loss in [Loss::Nothing, Loss::Everything, Loss::Seeded(1), Loss::Seeded(2), Loss::Seeded(3)] {
            judge(&crash.power_loss(&loss, Granularity::Sector), &format!("power lost at {moment}, {loss:?}"));
        }
    }
}

/// What is in `to` is everything, or it is refused by name, or nothing has been written yet.
fn is_whole_or_refused(disk: &SimDisk, to: &str, what: &str) -> bool {
    let names: Vec<PathBuf> =
        disk.files().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(to)).collect();
    let open = || Options::new().create(false).open_on(Arc::new(disk.clone()), to);
    match open() {
        Ok(engine) => {
            assert!(
                engine.keyspace_names().unwrap() == ["k"] && holds_everything(&engine),
                "{what}: a part: {names:?}"
            );
            engine.close().unwrap();
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotADatabase, "{what}: {error} {names:?}");
            if names.iter().any(|name| !name.ends_with("LOCK")) {
                let verified = error_of(verify_on(disk, to));
                for error in [error, verified] {
                    let text = error.to_string();
                    assert!(text.contains("unfinished copy") && text.contains("delete"), "{what}: {text} {names:?}");
                }
                // A forelog that knows nothing of unfinished copies refuses what has no HISTORY.
                assert!(!names.iter().any(|name| name.ends_with("HISTORY")), "{what}: {names:?}");
            }
            false
        }
    }
}

#[test]
fn a_salvage_that_is_cut_off_leaves_what_says_so_and_does_not_open() {
    let disk = simulated();
    let mut whole = 0;
    cut_everywhere(
        &disk,
        |disk| drop(Engine::salvage_on(Arc::new(disk.clone()), DB, "saved").unwrap()),
        |disk, what| whole += u32::from(is_whole_or_refused(disk, "saved", what)),
    );
    assert!(whole >= 2, "the last moments");
}

#[test]
fn a_saving_that_is_cut_off_leaves_what_says_so_and_does_not_open() {
    let disk = simulated();
    let engine = open_on(&disk, Options::new()).unwrap();
    let mut whole = 0;
    cut_everywhere(
        &disk,
        |disk| assert_eq!(engine.save_to_on(Arc::new(disk.clone()), "above/saved").unwrap().keyspaces, 1),
        |disk, what| whole += u32::from(is_whole_or_refused(disk, "above/saved", what)),
    );
    assert!(whole >= 2, "the last moments");
}

#[test]
fn a_copy_that_fails_says_so_too_and_is_not_copied_over() {
    let disk = simulated();
    for nth in 0.. {
        let target = copy(&disk);
        target.inject(Fault::once(OpSelector::of(OpKind::Write).skip(nth), FaultKind::Errno(5)));
        let saved = Engine::salvage_on(Arc::new(target.clone()), DB, "saved");
        if target.fault_hits() == 0 {
            assert!(nth > 3 && saved.is_ok());
            break;
        }
        target.clear_faults();
        if saved.is_err() {
            assert!(!is_whole_or_refused(&target, "saved", "after a failure"));
            let again = error_of(Engine::salvage_on(Arc::new(target.clone()), DB, "saved"));
            assert_eq!(again.kind(), ErrorKind::InvalidInput, "{again}");
        }
    }
}

#[test]
fn nothing_is_copied_into_the_directory_that_it_is_copied_from() {
    let dir = TempDir::new("inside");
    let db = dir.join("db");
    database(&db);
    std::os::unix::fs::symlink(&db, dir.join("link")).unwrap();
    fs::create_dir(dir.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../db", dir.join("elsewhere/up")).unwrap();
    let before = names_below(dir.path());
    let targets =
        ["db/saved", "db/a/b/saved", "link/saved", "elsewhere/up/saved", "elsewhere/../db/saved", "new/../db/x"];
    for target in targets {
        for from in ["db", "link", "elsewhere/../link"] {
            let error = error_of(Engine::salvage(dir.join(from), dir.join(target)));
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{target}: {error}");
            assert!(error.to_string().contains("inside"), "{error}");
        }
    }
    assert_eq!(names_below(dir.path()), before);
    let engine = Engine::open(dir.join("link")).unwrap();
    for target in targets {
        let error = error_of(engine.save_to(dir.join(target)));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{target}: {error}");
    }
    assert_eq!(names_below(dir.path()), before);
    engine.save_to(dir.join("elsewhere/saved")).unwrap();
    drop(engine);
    let disk = simulated();
    assert_eq!(kind_of(Engine::salvage_on(Arc::new(disk), DB, format!("{DB}/saved"))), ErrorKind::InvalidInput);
    // The source inside the target: that is not empty.
    assert_eq!(kind_of(Engine::salvage(&db, dir.path())), ErrorKind::InvalidInput);
}

// ---- the account

#[test]
fn no_more_is_called_durable_than_what_is_there() {
    // No flush in the background: what is `Async` is lost.
    let hour = Duration::from_secs(3600);
    let options = || Options::new().flush_interval(hour).loss_budget(LossBudget::default().max_age(hour));
    let mut disk = SimDisk::new();
    let engine = open_on(&disk, options()).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let last = put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap().lsn();
    engine.close().unwrap();
    for _ in 0..3 {
        let engine = open_on(&disk, options()).unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        put(&engine, &keyspace, "b", "2", CommitMode::Async).unwrap();
        let crashed = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
        let found = verify_on(&crashed, DB).unwrap();
        assert!(found.crashed.is_some());
        assert_eq!((found.proven_durable, found.recovered_to), (last, last));
        let engine = open_on(&crashed, Options::new()).unwrap();
        assert_eq!((engine.recovery().proven_durable, engine.recovery().recovered_to), (last, last));
        assert_eq!(engine.durable_lsn(), last);
        engine.close().unwrap();
        let found = verify_on(&crashed, DB).unwrap();
        assert_eq!((found.crashed, found.proven_durable, found.recovered_to), (None, last, last));
        disk = crashed;
    }
}
