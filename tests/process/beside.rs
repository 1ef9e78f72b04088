//! A reader and a writer as two processes: the one reads again and again, the other commits, rolls, checkpoints, merges, closes,
//! opens, and is killed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use forelog::{CommitMode, Engine, ErrorKind, Options, ReadOnly, ReadOnlyOptions};
use serde_json::Value;

use crate::common::{Scratch, on, refused, run};
use crate::reading::{traits, wait_until_still};

/// What tells the test of this name that it is to be the writer.
const DB: &str = "FORELOG_TEST_WRITER";
/// Rows that are written over and over.
const ROWS: u64 = 60;
const KEYSPACES: [&str; 3] = ["a", "b", "c"];

fn acknowledged(db: &Path) -> PathBuf {
    db.with_extension("acknowledged")
}

fn open(db: &Path) -> Engine {
    let options = Options::new().segment_bytes(8192).checkpoint_bytes(32 << 10).commit_mode(CommitMode::Async);
    loop {
        match options.clone().open(db) {
            // The reader has it locked for a moment.
            Err(error) if error.kind() == ErrorKind::Locked => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// Commits `count` times in one life: the number of the commit to each keyspace, and to one of its rows.
fn live(db: &Path, acknowledged: &File, count: u64) {
    let engine = open(db);
    let keyspaces = KEYSPACES.map(|name| engine.create_keyspace(name).unwrap());
    let first = engine.snapshot().unwrap().get(&keyspaces[0], "n").unwrap();
    let first = first.map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap()));
    for number in first + 1..=first + count {
        let mut batch = engine.batch().unwrap();
        for keyspace in &keyspaces {
            batch.put(keyspace, "n", number.to_be_bytes()).unwrap();
            batch.put(keyspace, format!("row {:02}", number % ROWS), vec![number.to_le_bytes()[0]; 300]).unwrap();
        }
        let mode = match number % 16 {
            0 => CommitMode::Sync,
            5 => CommitMode::Written,
            _ => CommitMode::Async,
        };
        batch.commit_with(mode).unwrap();
        if mode != CommitMode::Async {
            acknowledged.write_all_at(&number.to_be_bytes(), 0).unwrap();
        }
    }
    if first.is_multiple_of(3) {
        engine.checkpoint().unwrap();
    }
    engine.close().unwrap();
}

/// No test of its own: the other process.
#[test]
fn the_writer() {
    let Some(db) = std::env::var_os(DB) else { return };
    let db = PathBuf::from(db);
    let acknowledged = File::options().create(true).truncate(false).write(true).open(acknowledged(&db)).unwrap();
    (0..40).for_each(|life| live(&db, &acknowledged, 20 + life * 7));
}

fn start_writer(db: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "beside::the_writer"]).env(DB, db);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Checks that it is the state after one commit, and returns the number of that.
fn check(seen: &ReadOnly) -> u64 {
    let numbers = KEYSPACES.map(|name| seen.get(name, "n").unwrap().map(|value| value[..].try_into().unwrap()));
    let number = numbers[0].map_or(0, u64::from_be_bytes);
    assert!(numbers.iter().all(|other| *other == numbers[0]), "{numbers:?}");
    for name in KEYSPACES {
        for row in 0..ROWS.min(number) {
            // The newest number up to this one that the row has.
            let newest = number - (number + ROWS - row) % ROWS;
            let value = seen.get(name, format!("row {row:02}")).unwrap();
            let expected = (newest > 0).then(|| vec![newest.to_le_bytes()[0]; 300]);
            assert_eq!(value.map(|value| value.to_vec()), expected, "row {row} after commit {number}");
        }
        assert!(seen.range(name, ..).unwrap().rev().count() as u64 <= ROWS + 1);
    }
    number
}

#[derive(Default, Debug)]
struct Reads {
    all: u64,
    beside: u64,
    too_quick: u64,
}

/// Reads once, and checks that everything is there which was acknowledged before.
fn read(db: &Path, reads: &mut Reads) {
    let mut bytes = [0; 8];
    let before = match File::open(acknowledged(db)).and_then(|file| file.read_exact_at(&mut bytes, 0)) {
        Ok(()) => u64::from_be_bytes(bytes),
        Err(_) => 0,
    };
    reads.all += 1;
    match ReadOnlyOptions::new().beside_a_writer(true).open(db) {
        Ok(seen) if before > 0 => {
            let number = check(&seen);
            assert!(number >= before, "commit {before} was acknowledged, and {number} is the last one that is seen");
            reads.beside += u64::from(seen.has_writer());
        }
        // It was not made yet, or its keyspaces were not.
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock && error.is_retryable() => reads.too_quick += 1,
        Err(error) if before == 0 && error.kind() == ErrorKind::NotADatabase => {}
        Err(error) => panic!("read {}: {error:?}", reads.all),
    }
}

#[test]
fn a_reader_beside_a_process_that_writes_has_a_prefix_with_all_that_was_acknowledged() {
    let scratch = Scratch::new("beside");
    let db = scratch.path("db");
    let mut reads = Reads::default();
    for kill in [true, true, true, false] {
        let mut writer = start_writer(&db);
        for number in 0.. {
            read(&db, &mut reads);
            if kill && number == 60 {
                writer.kill().unwrap();
            }
            if let Some(status) = writer.try_wait().unwrap() {
                assert!(status.success() || kill, "{status}");
                break;
            }
        }
        // What it was killed over is read as an open will keep it.
        read(&db, &mut reads);
    }
    assert!(reads.beside > 100 && reads.too_quick * 20 < reads.all, "{reads:?}");
    Engine::verify(&db).unwrap();
}

/// Each command that only reads shows a database that is open, says so, and changes nothing.
#[test]
fn the_commands_that_read_do_so_beside_a_writer() {
    let scratch = Scratch::new("beside-commands");
    let db = scratch.path("db");
    let engine = Options::new().segment_bytes(8192).open(&db).unwrap();
    let rows = engine.create_keyspace("rows").unwrap();
    let put = |key: &str| {
        let mut batch = engine.batch().unwrap();
        batch.put(&rows, key, format!("of {key}")).unwrap();
        batch.commit_with(CommitMode::Sync).unwrap();
    };
    put("a");
    engine.checkpoint().unwrap();
    put("b");
    wait_until_still(&engine, &db);
    let commands: [(&str, &[&str], &str); 7] = [
        ("scan", &["--keyspace", "rows"], "a\tof a\nb\tof b\n"),
        ("get", &["--keyspace", "rows", "b"], "of b\n"),
        ("get", &["--keyspace", "rows", "a", "--json"], "{\"key\":\"a\",\"value\":\"of a\"}\n"),
        ("info", &[], "open in a program, up to LSN"),
        ("info", &["--json"], "{\"state\":\"open in a program\""),
        ("verify", &[], "sound: "),
        ("dump", &[], "0000000000000000.log"),
    ];
    for (command, more, expected) in commands {
        let before = [traits(&db), traits(&db.join("table"))];
        let (code, stdout, stderr) = run(&mut on(command, &db, more));
        assert!(code == 0 && stdout.starts_with(expected), "{command}: {stdout}{stderr}");
        let told = stderr.lines().next().unwrap_or_default();
        assert!(
            told.contains("open in a program") || told.contains("not closed: if a program has it open"),
            "{stderr}"
        );
        assert_eq!([traits(&db), traits(&db.join("table"))], before, "{command}");
    }
    let (code, stdout, _) = run(&mut on("info", &db, &["--json"]));
    let info: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &info["writer"], &info["keyspaces"][0]["entries"]), (0, &true.into(), &2.into()));
    let (code, stdout, _) = run(&mut on("verify", &db, &["--json"]));
    let verified: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &verified["sound"], &verified["opens"]), (0, &true.into(), &Value::Null));
    let error = refused(&mut on("get", &db, &["--keyspace", "rows", "c"]));
    assert!(error.contains("there is no key 'c' in 'rows'"), "{error}");
    engine.close().unwrap();
    let (code, stdout, stderr) = run(&mut on("info", &db, &[]));
    assert!(code == 0 && stdout.starts_with("closed, up to LSN") && stderr.is_empty(), "{stdout}{stderr}");
    let _ = fs::metadata(&db).unwrap();
}
