//! Bad input: a typed error that says what to do, and nothing lost.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "sim")]
use forelog::sim::{Fault, FaultKind, OpKind, OpSelector, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, LossBudget, Options, Outcome};

#[cfg(feature = "sim")]
use crate::gate::behind_a_gate;
use crate::this_test;
use crashkit::{DB, MODES, TempDir, error_of, get, given_back, in_memory, kind_of, open_on, put};

const EIO: i32 = 5;
const EACCES: i32 = 13;
const EROFS: i32 = 30;

/// A closed database with one commit.
fn small_database(dir: &Path) {
    let engine = Engine::open(dir).unwrap();
    put(&engine, &engine.create_keyspace("k").unwrap(), "a", "1", CommitMode::Sync).unwrap();
    engine.close().unwrap();
}

/// The names and contents of all files.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect();
    files.sort();
    files
}

fn is_there(dir: impl AsRef<Path>) -> bool {
    let engine = Engine::open(dir).unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    get(&engine, &keyspace, "a").as_deref() == Some("1")
}

// ---- paths

#[test]
fn a_path_that_is_a_file_is_refused() {
    let dir = TempDir::new("test");
    let path = dir.join("notes.txt");
    std::fs::write(&path, "precious").unwrap();
    for path in [path.clone(), path.join("below")] {
        let error = error_of(Engine::open(&path));
        assert_eq!(error.kind(), ErrorKind::NotADatabase);
        assert!(error.to_string().contains("notes.txt") && error.to_string().contains("directory"), "{error}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn an_empty_path_is_refused() {
    assert_eq!(kind_of(Engine::open("")), ErrorKind::InvalidInput);
}

#[cfg(feature = "sim")]
#[test]
fn a_directory_that_may_not_be_read_or_written_is_refused_and_opens_once_it_may() {
    let disk = SimDisk::new();
    let engine = open_on(&disk, Options::new()).unwrap();
    put(&engine, &engine.create_keyspace("k").unwrap(), "a", "1", CommitMode::Sync).unwrap();
    drop(engine);
    let before = disk.files();
    for (kind, code) in [(OpKind::List, EACCES), (OpKind::Lock, EACCES), (OpKind::Lock, EROFS)] {
        disk.inject(Fault::lasting(OpSelector::of(kind), FaultKind::Errno(code)));
        let error = error_of(open_on(&disk, Options::new()));
        assert_eq!(error.kind(), ErrorKind::Io, "{kind:?}");
        let text = error.to_string();
        assert!(text.contains(DB) && text.contains(&format!("os error {code}")), "{text}");
        disk.clear_faults();
    }
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Open).on(".log"), FaultKind::Errno(EACCES)));
    let error = error_of(open_on(&disk, Options::new()));
    assert_eq!(error.kind(), ErrorKind::Io, "not damaged, just not ours to read");
    assert!(error.to_string().contains("os error 13"), "{error}");
    disk.clear_faults();
    assert!(disk.files() == before);
    let engine = open_on(&disk, Options::new()).unwrap();
    assert_eq!(get(&engine, &engine.open_keyspace("k").unwrap(), "a").as_deref(), Some("1"));
}

#[cfg(feature = "sim")]
#[test]
fn too_many_open_files_are_not_called_damage() {
    const EMFILE: i32 = 24;
    let disk = SimDisk::new();
    let engine = open_on(&disk, Options::new()).unwrap();
    put(&engine, &engine.create_keyspace("k").unwrap(), "a", "1", CommitMode::Sync).unwrap();
    let crashed = disk.crash_point().process_kill();
    drop(engine);
    for n in 0.. {
        let disk = crashed.crash_point().process_kill();
        disk.inject(Fault::once(OpSelector::of(OpKind::Open).skip(n), FaultKind::Errno(EMFILE)));
        let opened = open_on(&disk, Options::new());
        if disk.fault_hits() == 0 {
            assert!(n > 2 && opened.is_ok());
            return;
        }
        let error = error_of(opened);
        assert_eq!(error.kind(), ErrorKind::Io, "open {n}: {error}");
        assert!(error.to_string().contains("os error 24") && !error.to_string().contains("damaged"), "{error}");
    }
}

#[cfg(feature = "sim")]
#[test]
fn a_place_where_nothing_can_be_created_is_refused() {
    let kinds =
        [(OpKind::CreateDir, EACCES), (OpKind::CreateDir, EROFS), (OpKind::Create, EROFS), (OpKind::Lock, EROFS)];
    for (kind, code) in kinds {
        let disk = SimDisk::new();
        disk.inject(Fault::lasting(OpSelector::of(kind), FaultKind::Errno(code)));
        let error = error_of(open_on(&disk, Options::new()));
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains(&format!("os error {code}")), "{error}");
        disk.clear_faults();
        open_on(&disk, Options::new()).unwrap().close().unwrap();
    }
}

#[test]
fn a_relative_path_works() {
    let dir = TempDir::new("test");
    let up = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect::<PathBuf>();
    let path = dir.join("db");
    let relative = up.join(path.strip_prefix("/").unwrap());
    assert!(relative.is_relative());
    small_database(&relative);
    assert!(is_there(&path) && is_there(&relative));
}

#[test]
fn a_bare_name_works() {
    if std::env::var_os("FORELOG_CHILD").is_some() {
        small_database("bare".as_ref());
        return;
    }
    let dir = TempDir::new("test");
    let status = this_test("bad_input::a_bare_name_works").current_dir(&dir).status().unwrap();
    assert!(status.success() && is_there(dir.join("bare")));
}

#[test]
fn a_path_that_is_not_utf_8_works() {
    let dir = TempDir::new("test");
    let path = dir.join(OsStr::from_bytes(b"db-\xff\xfe"));
    small_database(&path);
    assert!(is_there(&path));
    std::fs::write(path.join(OsStr::from_bytes(b"\xff.log")), "not ours").unwrap();
    assert!(is_there(&path), "other names are left alone");
}

#[test]
fn a_foreign_directory_is_refused_and_stays_as_it_is() {
    let dir = TempDir::new("test");
    std::fs::write(dir.join("report.ods"), "precious").unwrap();
    let error = error_of(Engine::open(&dir));
    assert_eq!(error.kind(), ErrorKind::NotADatabase);
    assert!(error.to_string().contains("report.ods") && error.to_string().contains("empty directory"), "{error}");
    let mut left = contents(dir.as_ref());
    left.retain(|(path, _)| !path.ends_with("LOCK"));
    assert_eq!(left, [(dir.join("report.ods"), b"precious".to_vec())]);
}

#[test]
fn nothing_is_created_where_that_was_not_asked_for() {
    let dir = TempDir::new("test");
    let error = error_of(Options::new().create(false).open(dir.join("typo")));
    assert_eq!(error.kind(), ErrorKind::NotADatabase);
    assert!(error.to_string().contains("typo") && !dir.join("typo").exists(), "{error}");
    assert_eq!(kind_of(Options::new().create(false).open(&dir)), ErrorKind::NotADatabase);
}

#[test]
fn the_log_of_another_program_is_refused() {
    let dir = TempDir::new("test");
    let log = forelog::log::Log::open(&dir).unwrap();
    log.append(b"not a batch", CommitMode::Sync).unwrap();
    log.close().unwrap();
    let before = contents(dir.as_ref());
    let error = error_of(Engine::open(&dir));
    assert_eq!(error.kind(), ErrorKind::NotADatabase);
    assert!(error.to_string().contains("another program") && contents(dir.as_ref()) == before, "{error}");
}

// ---- the lock

#[test]
fn a_database_that_is_open_in_this_process_is_locked() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let error = error_of(Engine::open(&dir));
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("close it there first"), "{error}");
    assert_eq!(kind_of(forelog::log::Log::open(&dir)), ErrorKind::Locked);
    put(&engine, &engine.create_keyspace("k").unwrap(), "a", "1", CommitMode::Sync).unwrap();
    drop(engine);
    assert!(is_there(&dir));
}

#[test]
fn a_database_that_is_open_in_another_process_is_locked_until_that_dies() {
    if let Some(path) = std::env::var_os("FORELOG_LOCKED") {
        let _engine = Engine::open(path).unwrap();
        println!("open");
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::abort();
    }
    let dir = TempDir::new("test");
    let path = dir.join("db");
    small_database(&path);
    let mut child = this_test("bad_input::a_database_that_is_open_in_another_process_is_locked_until_that_dies")
        .env("FORELOG_LOCKED", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    assert!(std::io::BufRead::lines(output).any(|line| line.unwrap().ends_with("open")));
    assert_eq!(kind_of(Engine::open(&path)), ErrorKind::Locked);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_there(&path), "nobody has to remove a lock file");
}

// ---- formats

/// Changes bytes of a file and sets the CRC at offset 8, of everything from 12 up to `end`, right again.
fn patch(path: &Path, end: Option<usize>, offset: usize, bytes: &[u8]) {
    let mut content = std::fs::read(path).unwrap();
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    let end = end.unwrap_or(content.len());
    let crc = crc32fast::hash(&content[12..end]);
    content[8..12].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(path, content).unwrap();
}

#[test]
fn what_a_newer_version_wrote_is_refused_as_unsupported_and_not_touched() {
    let files = [("HISTORY", None), ("0000000000000000.log", Some(512))];
    let future: [(usize, &[u8], &str); 3] = [
        (12, &2u32.to_le_bytes(), "format version 2"),
        (24, &[0x40], "features 0x40"),
        (31, &[0x80], "features 0x8000000000000000"),
    ];
    for (file, end) in files {
        for (offset, bytes, says) in future {
            let dir = TempDir::new("test");
            let path = dir.join("db");
            small_database(&path);
            patch(&path.join(file), end, offset, bytes);
            let before = contents(&path);
            for error in [error_of(Engine::open(&path)), error_of(forelog::log::Log::verify(&path))] {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                let text = error.to_string();
                assert!(text.contains(says) && text.contains(file) && text.contains("newer"), "{text}");
            }
            assert!(contents(&path) == before);
        }
        // A feature that this version may ignore is ignored.
        let dir = TempDir::new("test");
        small_database(&dir.join("db"));
        patch(&dir.join("db").join(file), end, 16, &[0xFF; 8]);
        assert!(is_there(dir.join("db")));
    }
}

// ---- options

#[cfg(feature = "sim")]
#[test]
fn options_that_cannot_be_or_contradict_each_other_are_refused_before_anything_is_touched() {
    let new = Options::new;
    let budget = LossBudget::default;
    let second = Duration::from_secs(1);
    let refused = [
        ("segment_bytes", new().segment_bytes(0)),
        ("segment_bytes", new().segment_bytes(4095)),
        ("multiple of 512", new().segment_bytes(4096 + 8)),
        ("segment_bytes", new().segment_bytes((1 << 30) + 512)),
        ("max_transaction_bytes", new().max_transaction_bytes(0)),
        ("max_transaction_bytes", new().max_transaction_bytes((1 << 30) + 1)),
        ("loss budget", new().loss_budget(budget().max_bytes(0)).flush_bytes(0)),
        ("loss budget", new().loss_budget(budget().max_commits(0))),
        ("loss budget", new().loss_budget(budget().max_age(Duration::ZERO)).flush_interval(Duration::ZERO)),
        ("flush_bytes", new().flush_bytes(0)),
        ("flush_bytes", new().flush_bytes(1001).loss_budget(budget().max_bytes(1000))),
        ("flush_interval", new().flush_interval(second + Duration::from_nanos(1))),
    ];
    for (says, options) in refused {
        let disk = SimDisk::new();
        let error = error_of(open_on(&disk, options));
        assert_eq!((error.kind(), disk.ops()), (ErrorKind::InvalidInput, 0));
        assert!(error.to_string().contains(says), "{error}");
    }
    let accepted = [
        new().segment_bytes(4096),
        new().segment_bytes(1 << 30),
        new().max_transaction_bytes(1),
        new().max_transaction_bytes(1 << 30),
        new().flush_bytes(1000).loss_budget(budget().max_bytes(1000)),
        new().flush_interval(second),
        new().flush_interval(Duration::ZERO).flush_bytes(1),
        new().loss_budget(budget().max_bytes(u64::MAX).max_commits(u64::MAX).max_age(Duration::MAX)),
    ];
    for options in accepted {
        open_on(&SimDisk::new(), options).unwrap();
    }
    let log = forelog::log::LogOptions::new().segment_bytes(1).open_on(Arc::new(SimDisk::new()), DB);
    assert_eq!(kind_of(log), ErrorKind::InvalidInput);
}

// ---- transactions and engines

#[test]
fn an_empty_transaction_commits_and_writes_nothing() {
    let engine = in_memory();
    let commit_all = || {
        for mode in MODES {
            for receipt in [engine.begin().unwrap().commit_with(mode), engine.batch().unwrap().commit_with(mode)] {
                let receipt = receipt.unwrap();
                assert!(receipt.is_durable() && receipt.lsn() == engine.visible_lsn());
                assert_eq!(engine.outcome(&receipt.token()).unwrap(), Outcome::Durable);
            }
        }
    };
    commit_all();
    assert_eq!(engine.stats().appends, 0);
    engine.create_keyspace("k").unwrap();
    commit_all();
    assert_eq!(engine.stats().appends, 1);
}

#[test]
fn a_closed_engine_refuses_every_call_and_held_snapshots_read_on() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let receipt = put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    let (snapshot, mut tx, mut batch) = (engine.snapshot().unwrap(), engine.begin().unwrap(), engine.batch().unwrap());
    engine.close().unwrap();
    tx.put(&keyspace, "b", "2").unwrap();
    batch.put(&keyspace, "b", "2").unwrap();
    let (tried, tx) = given_back(tx.try_commit_with(CommitMode::Async));
    let (timed, tx) = given_back(tx.commit_timeout(CommitMode::Sync, Duration::ZERO));
    let kinds = [
        kind_of(engine.begin()),
        kind_of(engine.batch()),
        kind_of(engine.snapshot()),
        kind_of(engine.durable_snapshot()),
        kind_of(engine.create_keyspace("k")),
        kind_of(engine.create_keyspace("new")),
        kind_of(engine.open_keyspace("k")),
        kind_of(engine.keyspace_names()),
        kind_of(engine.drop_keyspace("k")),
        kind_of(engine.flush()),
        tried.kind(),
        timed.kind(),
        kind_of(tx.commit()),
        kind_of(batch.try_commit_with(CommitMode::Async)),
        kind_of(batch.commit()),
    ];
    assert_eq!(kinds, [ErrorKind::Closed; 15]);
    assert!(error_of(engine.begin()).to_string().contains("open it again"));
    assert_eq!(snapshot.get(&keyspace, "a").unwrap().unwrap(), b"1");
    assert_eq!(engine.outcome(&receipt.token()).unwrap(), Outcome::Durable);
    assert_eq!((engine.durable_lsn(), engine.at_risk().commits), (receipt.lsn(), 0));
    assert!(engine.poisoned().is_none());
}

#[cfg(feature = "sim")]
#[test]
fn a_poisoned_engine_refuses_every_commit_with_the_first_cause_and_reads_on() {
    let (disk, gate, engine, keyspace) = behind_a_gate(Options::new());
    let kept = put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap();
    gate.close();
    disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::Errno(EIO)));
    let in_flight = put(&engine, &keyspace, "a", "2", CommitMode::Async).unwrap();
    gate.open();
    assert_eq!(kind_of(engine.flush()), ErrorKind::Indeterminate);

    let poison = engine.poisoned().expect("it says so");
    assert!(poison.cause.to_string().contains("os error 5"), "{}", poison.cause);
    assert_eq!((poison.durable, poison.appended), (kept.lsn(), in_flight.lsn()));
    let mut tx = engine.begin().unwrap();
    tx.put(&keyspace, "b", "3").unwrap();
    let (tried, tx) = given_back(tx.try_commit_with(CommitMode::Async));
    let (timed, tx) = given_back(tx.commit_timeout(CommitMode::Sync, Duration::from_secs(1)));
    let mut refused = vec![
        tried,
        timed,
        error_of(tx.commit()),
        error_of(engine.create_keyspace("new")),
        error_of(engine.drop_keyspace("k")),
    ];
    refused.extend(MODES.map(|mode| error_of(put(&engine, &keyspace, "b", "3", mode))));
    refused.push(error_of(engine.close()));
    for error in refused {
        assert_eq!((error.kind(), error.token()), (ErrorKind::Poisoned, None), "{error}");
        assert!(error.to_string().contains("os error 5") && error.to_string().contains("reopen"), "{error}");
    }
    assert_eq!(engine.outcome(&kept.token()).unwrap(), Outcome::Durable);
    assert_eq!(engine.outcome(&in_flight.token()).unwrap(), Outcome::Indeterminate);
    drop(engine);
    let engine = open_on(&disk, Options::new()).unwrap();
    assert_eq!(engine.outcome(&kept.token()).unwrap(), Outcome::Durable);
    let settled = engine.outcome(&in_flight.token()).unwrap();
    let value = get(&engine, &engine.open_keyspace("k").unwrap(), "a").unwrap();
    assert_eq!(settled, if value == "2" { Outcome::Durable } else { Outcome::Lost });
}

#[cfg(feature = "sim")]
#[test]
fn a_poisoned_engine_reads_on() {
    let (disk, _, engine, keyspace) = behind_a_gate(Options::new());
    put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap();
    disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::Errno(EIO)));
    assert_eq!(kind_of(put(&engine, &keyspace, "a", "2", CommitMode::Sync)), ErrorKind::Indeterminate);
    assert_eq!(engine.keyspace_names().unwrap(), ["k"]);
    let keyspace = engine.create_keyspace("k").unwrap();
    assert_eq!(get(&engine, &keyspace, "a").as_deref(), Some("2"), "visible, and not durable");
    let mut tx = engine.begin().unwrap();
    assert_eq!(tx.iter(&keyspace).unwrap().count(), 1);
    assert!(!tx.commit().unwrap().is_durable(), "read only");
    let durable = engine.durable_snapshot().unwrap();
    assert_eq!(durable.get(&keyspace, "a").unwrap().unwrap(), b"1");
    assert_eq!(kind_of(engine.snapshot().unwrap().wait_durable()), ErrorKind::Indeterminate);
}
