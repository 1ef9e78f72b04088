//! `scan` reads, and nothing else: it needs no right to write, and leaves everything as it is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use forelog::{CommitMode, Engine, ErrorKind, MarkFound, ReadOnlyOptions};
use serde_json::Value;

use crate::common::{Scratch, contents, on, printed, refused, run};

/// What a scan may not change of a file or directory: owner, group, permissions, size, time of change, and the file itself.
pub(crate) type Traits = (u32, u32, u32, u64, i64, i64, u64);

pub(crate) fn traits(db: &Path) -> BTreeMap<String, Traits> {
    let of = |path: &Path| {
        let found = fs::symlink_metadata(path).unwrap();
        (found.uid(), found.gid(), found.mode(), found.len(), found.ctime(), found.ctime_nsec(), found.ino())
    };
    let names = fs::read_dir(db).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| (name.clone(), of(&db.join(name)))).chain([(".".to_owned(), of(db))]).collect()
}

/// Waits until `engine`, which has committed and does so no more, does nothing of its own accord any more: the segment behind the one in
/// use is prepared, and MARK says what is durable. A reader was blamed for a segment that the writer made beside it.
pub(crate) fn wait_until_still(engine: &Engine, db: &Path) {
    let is_still = || {
        let names: Vec<String> =
            fs::read_dir(db).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let is = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
        let marked = || match ReadOnlyOptions::new().beside_a_writer(true).open(db) {
            Ok(seen) => seen.recovery().mark == MarkFound::Proves(engine.durable_lsn()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        };
        is(".log") == 2 && is(".tmp") == 0 && marked()
    };
    // The bound is for a test that fails.
    assert!(
        (0..12_000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            is_still()
        }),
        "{:?}",
        traits(db)
    );
}

/// Two commits, of which the second is in the kernel's hands only; returned as a crash leaves them.
fn crashed(db: &Path) {
    let open = db.with_extension("open");
    let engine = Engine::open(&open).unwrap();
    let rows = engine.create_keyspace("rows").unwrap();
    for (key, mode) in [("a", CommitMode::Sync), ("b", CommitMode::Written)] {
        let mut batch = engine.batch().unwrap();
        batch.put(&rows, key, "1").unwrap();
        batch.commit_with(mode).unwrap();
    }
    fs::create_dir(db).unwrap();
    for (name, bytes) in contents(&open) {
        fs::write(db.join(name), bytes).unwrap();
    }
    engine.close().unwrap();
}

const ROWS: &[&str] = &["--keyspace", "rows"];

/// A scan opened the database as a writer does: as root on a crashed one of another user, HISTORY became root's, and
/// its owner could not open it any more.
#[test]
fn scan_changes_nothing_of_a_crashed_database_and_tells_at_which_lsn_it_looks() {
    let scratch = Scratch::new("scan-crashed");
    let db = scratch.path("db");
    crashed(&db);
    fs::remove_file(db.join("LOCK")).unwrap();
    let (before, bytes) = (traits(&db), contents(&db));
    let verified: Value = serde_json::from_str(&printed(&mut on("verify", &db, &["--json"]))).unwrap();
    for (more, count) in [(&[][..], 2), (&["--json"], 2), (&["--limit", "0"], 0), (&["--from", "b"], 1)] {
        let (code, stdout, stderr) = run(on("scan", &db, ROWS).args(more));
        assert_eq!((code, stdout.lines().count()), (0, count), "{stdout}{stderr}");
        let lsn = format!("LSN {:#x}", verified["recovered_to"].as_u64().unwrap());
        assert!(stderr.starts_with("forelog: not closed: ") && stderr.contains(&lsn), "{stderr}");
        assert_eq!(stderr.lines().count(), 1);
    }
    assert_eq!((traits(&db), contents(&db)), (before, bytes));
    // What it showed is what the next open keeps.
    let engine = Engine::open(&db).unwrap();
    assert_eq!(engine.recovery().recovered_to.get(), verified["recovered_to"]);
    let rows = engine.open_keyspace("rows").unwrap();
    assert_eq!(engine.snapshot().unwrap().iter(&rows).unwrap().count(), 2);
}

#[test]
fn scan_changes_nothing_of_a_closed_database_or_an_open_one() {
    let scratch = Scratch::new("scan-closed");
    let db = scratch.path("db");
    crashed(&db);
    Engine::open(&db).unwrap().close().unwrap();
    for with_lock in [true, false] {
        if !with_lock {
            fs::remove_file(db.join("LOCK")).unwrap();
        }
        let before = traits(&db);
        assert_eq!(printed(&mut on("scan", &db, ROWS)), "a\t1\nb\t1\n");
        let error = refused(&mut on("scan", &db, &["--keyspace", "row"]));
        assert!(error.contains("no keyspace 'row'; there are: rows"), "{error}");
        assert_eq!(traits(&db), before);
    }
    // Before its first commit an open writes nothing.
    let engine = Engine::open(&db).unwrap();
    let before = traits(&db);
    let (code, stdout, stderr) = run(&mut on("scan", &db, ROWS));
    assert_eq!((code, &*stdout), (0, "a\t1\nb\t1\n"), "{stderr}");
    assert!(
        stderr.starts_with("forelog: open in a program: shown up to LSN 0x") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert_eq!(traits(&db), before);
    engine.close().unwrap();
}

/// The command, run by a user who owns nothing here. `None` if this process cannot become that user.
fn as_another(command: &Command) -> Option<Command> {
    let mut other = Command::new("setpriv");
    other.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(command.get_program());
    other.args(command.get_args());
    let mut probe = Command::new("setpriv");
    probe.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", env!("CARGO_BIN_EXE_forelog"), "--version"]);
    probe.output().is_ok_and(|output| output.status.success()).then_some(other)
}

/// A database with tables of which every file and directory, LOCK included, may only be read.
#[test]
fn what_only_reads_needs_no_right_to_write_anywhere() {
    let scratch = Scratch::new("read-only-tree");
    fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o755)).unwrap();
    let db = scratch.path("db");
    let engine = Engine::open(&db).unwrap();
    let rows = engine.create_keyspace("rows").unwrap();
    for (key, has_checkpoint) in [("a", true), ("b", false)] {
        let mut batch = engine.batch().unwrap();
        batch.put(&rows, key, "1").unwrap();
        batch.commit().unwrap();
        if has_checkpoint {
            engine.checkpoint().unwrap();
        }
    }
    engine.close().unwrap();
    let table = db.join("table");
    for dir in [&db, &table] {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let mode = if path.is_dir() { 0o555 } else { 0o444 };
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        }
    }
    fs::set_permissions(&db, PermissionsExt::from_mode(0o555)).unwrap();
    let before = [traits(&db), traits(&table)];
    for with_lock in [true, false] {
        if !with_lock {
            fs::set_permissions(&db, PermissionsExt::from_mode(0o755)).unwrap();
            fs::remove_file(db.join("LOCK")).unwrap();
            fs::set_permissions(&db, PermissionsExt::from_mode(0o555)).unwrap();
        }
        let before = if with_lock { before.clone() } else { [traits(&db), traits(&table)] };
        let commands: [(&str, &[&str], &str); 5] = [
            ("scan", ROWS, "a\t1\nb\t1\n"),
            ("get", &["--keyspace", "rows", "b"], "1\n"),
            ("info", &[], "closed, up to LSN"),
            ("dump", &[], "0000000000"),
            ("verify", &[], "sound: "),
        ];
        for (command, more, expected) in commands {
            let command_line = on(command, &db, more);
            let Some(mut other) = as_another(&command_line) else {
                return eprintln!("skipped: cannot run a command as another user here");
            };
            let (code, stdout, stderr) = run(&mut other);
            // It is sound, and this user could not commit to it.
            let expected_code = if command == "verify" { 3 } else { 0 };
            assert!(code == expected_code && stdout.starts_with(expected), "{command}: {code} {stdout}{stderr}");
            assert_eq!([traits(&db), traits(&table)], before, "{command}");
        }
    }
    [&db, &table].into_iter().for_each(|dir| fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap());
}

/// "cannot lock LOCK: Permission denied", while verify, dump and salvage worked.
#[test]
fn scan_reads_what_another_user_may_only_read() {
    let scratch = Scratch::new("scan-foreign");
    for (name, lock_mode) in [("unlockable", 0o600), ("lockable", 0o644)] {
        let db = scratch.path(name);
        crashed(&db);
        Engine::open(&db).unwrap().close().unwrap();
        fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o755)).unwrap();
        fs::set_permissions(&db, PermissionsExt::from_mode(0o555)).unwrap();
        for entry in fs::read_dir(&db).unwrap() {
            let path = entry.unwrap().path();
            let mode = if path.ends_with("LOCK") { lock_mode } else { 0o444 };
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        }
        let Some(mut scan) = as_another(&on("scan", &db, ROWS)) else {
            return eprintln!("skipped: cannot run a command as another user here");
        };
        let before = traits(&db);
        let (code, stdout, stderr) = run(&mut scan);
        assert_eq!((code, &*stdout), (0, "a\t1\nb\t1\n"), "{stderr}");
        if lock_mode == 0o644 {
            assert_eq!(stderr, "");
        } else {
            assert!(
                stderr.contains("not locked: read while it may be written") && stderr.contains("LSN 0x"),
                "{stderr}"
            );
        }
        assert_eq!(traits(&db), before);
    }
}

/// A scan by root took LOCK and HISTORY from their owner.
#[test]
fn a_scan_by_root_leaves_the_owner_everything() {
    let scratch = Scratch::new("scan-root");
    fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o755)).unwrap();
    let db = scratch.path("db");
    crashed(&db);
    fs::remove_file(db.join("LOCK")).unwrap();
    let theirs = |path: &Path| chown(path, Some(65534), Some(65534)).is_ok();
    let all_theirs = fs::read_dir(&db).unwrap().all(|entry| theirs(&entry.unwrap().path())) && theirs(&db);
    let Some(mut owner) = as_another(&on("verify", &db, &[])).filter(|_| all_theirs) else {
        return eprintln!("skipped: cannot run a command as another user here");
    };
    let before = traits(&db);
    assert_eq!(run(&mut on("scan", &db, ROWS)).0, 0);
    assert_eq!(traits(&db), before);
    let (code, stdout, stderr) = run(&mut owner);
    assert!(code == 0 && stdout.ends_with("opens: yes\n"), "{stdout}{stderr}");
}

/// "cannot lock LOCK: Read-only file system".
#[test]
fn scan_reads_a_read_only_mount() {
    let scratch = Scratch::new("scan-mount");
    let db = scratch.path("db");
    crashed(&db);
    let done = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).arg(&db).output().is_ok_and(|output| output.status.success())
    };
    if !done("mount", &["--bind", db.to_str().unwrap()]) || !done("mount", &["-o", "remount,bind,ro"]) {
        done("umount", &[]);
        return eprintln!("skipped: nothing can be mounted here");
    }
    let (code, stdout, stderr) = run(&mut on("scan", &db, ROWS));
    assert!(done("umount", &[]));
    assert_eq!((code, &*stdout), (0, "a\t1\nb\t1\n"), "{stderr}");
    assert!(stderr.contains("not closed"), "{stderr}");
}
