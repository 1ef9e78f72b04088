//! The command line where something is not as it should be: files that are no clean CSV, databases that would not open,
//! and commands that are ended by a signal.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forelog::{CommitMode, Engine};
use serde_json::Value;

use crate::common::{Scratch, contents, import, on, printed, refused, run};

/// Key and row of every line that `scan --json` prints.
fn rows(db: &Path) -> Vec<String> {
    printed(&mut on("scan", db, &["--keyspace", "rows", "--json"])).lines().map(str::to_owned).collect()
}

// ---- import

#[test]
fn what_the_reader_would_have_to_guess_is_refused_with_row_and_line() {
    let scratch = Scratch::new("guesses");
    let db = scratch.path("db");
    let cases: [(&str, &[u8], &str, &str); 17] = [
        ("open-quote", b"id,name\n1,\"unterminated\n2,b\n3,c\n", "row 1 (line 2)", "never closed"),
        ("open-quote-last", b"id,name\n1,a\n2,\"b", "row 2 (line 3)", "never closed"),
        ("open-quote-header", b"id,\"name\n1,a\n", "header (line 1)", "never closed"),
        ("quote-inside", b"id,name\n1,a\n2,5\" disk\n", "row 2 (line 3)", "inside a field"),
        ("space-quote", b"id,name\n1, \"a, b\"\n", "row 1 (line 2)", "inside a field"),
        ("behind-quote", b"id,name\n1,\"a\"b\n", "row 1 (line 2)", "behind the closing quote"),
        ("fewer", b"id,name\n1,a\n2\n", "row 2 (line 3)", "1 fields where the header has 2"),
        ("more", b"id,name\n1,a,b\n", "row 1 (line 2)", "3 fields where the header has 2"),
        ("more-empty", b"id,name\n1,a,,\n", "row 1 (line 2)", "--lenient"),
        ("no-key", b"id,name\n1,a\n,b\n", "row 2 (line 3)", "no key: column 'id' is empty"),
        ("all-empty", b"id,name\n1,a\n,\n", "row 2 (line 3)", "no key"),
        ("quoted-no-key", b"id,name\n\"\",b\n", "row 1 (line 2)", "no key"),
        ("nameless", b"id,name,\n1,a,\n", "", "column 3 has no name"),
        ("nul", b"id,name\n1,a\0b\n", "row 1 (line 2)", "NUL"),
        ("utf-16", b"\xff\xfei\0d\0\n\0", "header (line 1)", "UTF-16"),
        ("two-ends", b"id,name\r\n1,a\r2,b\r\n", "row 1 (line 2)", "two ways"),
        ("blank-line", b"id,name\n1,a\n\n2,b\n", "row 2 (line 3)", "blank line"),
    ];
    for (name, content, place, what) in cases {
        let file = scratch.write(name, content);
        let error = refused(&mut import(&db, &file, &[]));
        assert!(error.contains(name) && error.contains(place) && error.contains(what), "{name}: {error}");
    }
    let duplicate = scratch.write("duplicate", "id,name\n1,a\n1,b\n");
    assert!(refused(&mut import(&db, &duplicate, &["--lenient"])).contains("row 2 (line 3): the key '1' is in row 1"));
    assert!(!db.exists(), "a file that was refused made a database");
}

#[test]
fn files_as_programs_write_them_are_imported_whole() {
    let scratch = Scratch::new("whole");
    let cases: [(&str, &[u8]); 7] = [
        ("lf", b"id,name\n1,a\n2,b\n"),
        ("crlf", b"id,name\r\n1,a\r\n2,b\r\n"),
        ("cr", b"id,name\r1,a\r2,b\r"),
        ("both", b"id,name\r\n1,a\n2,b\r\n"),
        ("no-end", b"id,name\n1,a\n2,b"),
        ("bom", b"\xef\xbb\xbfid,name\n1,a\n2,b\n\n\n"),
        ("quoted", b"\xef\xbb\xbf\"id\",\"name\"\r\n\"1\",\"a\"\r\n\"2\",\"b\"\r\n"),
    ];
    for (name, content) in cases {
        let (db, file) = (scratch.path(&format!("db-{name}")), scratch.write(name, content));
        let summary: Value = serde_json::from_str(&printed(&mut import(&db, &file, &["--json"]))).unwrap();
        assert_eq!((&summary["rows"], &summary["imported"]), (&Value::from(2), &Value::from(2)), "{name}");
        let expected = [r#"{"key":"1","value":{"id":"1","name":"a"}}"#, r#"{"key":"2","value":{"id":"2","name":"b"}}"#];
        assert_eq!(rows(&db), expected, "{name}");
    }
    let header_only = scratch.write("header-only", "id,name\n");
    assert!(printed(&mut import(&scratch.path("db"), &header_only, &[])).starts_with("imported 0 rows"));
}

#[test]
fn a_lenient_import_takes_what_others_take_and_counts_what_it_passes_over() {
    let scratch = Scratch::new("lenient");
    let (db, file) =
        (scratch.path("db"), scratch.write("a.csv", "id,name,note,,\n1,5\" disk,x,,\n2,b\n\n3,\"c\" d,,,\n,,,,\n,,\n"));
    refused(&mut import(&db, &file, &[]));
    let lenient = ["--lenient", "--batch", "2", "--json"];
    let summary: Value = serde_json::from_str(&printed(&mut import(&db, &file, &lenient))).unwrap();
    assert_eq!(
        (&summary["rows"], &summary["imported"], &summary["empty_rows"]),
        (&Value::from(3), &Value::from(3), &Value::from(2))
    );
    let expected = [
        r#"{"key":"1","value":{"id":"1","name":"5\" disk","note":"x"}}"#,
        r#"{"key":"2","value":{"id":"2","name":"b"}}"#,
        r#"{"key":"3","value":{"id":"3","name":"c d","note":""}}"#,
    ];
    assert_eq!(rows(&db), expected);
    assert!(printed(&mut import(&db, &file, &["--lenient"])).starts_with("already imported"));
    for (name, content, what) in [
        ("more", "id,name\n1,a,b\n", "3 fields"),
        ("no-key", "id,name\n,b\n", "no key"),
        ("open", "id,name\n1,\"a\n", "never closed"),
    ] {
        let error = refused(&mut import(&db, &scratch.write(name, content), &["--lenient"]));
        assert!(error.contains("row 1 (line 2)") && error.contains(what), "{error}");
    }
}

// ---- verify

/// A database that was not closed, so that an open has something to write.
fn crashed(db: &Path) {
    let copied = db.with_extension("open");
    let engine = Engine::open(&copied).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.put(&keyspace, "a", "1").unwrap();
    batch.commit_with(CommitMode::Written).unwrap();
    fs::create_dir(db).unwrap();
    for (name, bytes) in contents(&copied) {
        fs::write(db.join(name), bytes).unwrap();
    }
    engine.close().unwrap();
}

/// What stands in the way of an open.
type Obstacle = fn(&Path);

#[test]
fn verify_says_whether_it_would_open_and_that_is_what_an_open_does() {
    let scratch = Scratch::new("two-verdicts");
    let obstacles: [(&str, Obstacle); 13] = [
        ("none", |_| ()),
        ("temporary-directory", |db| fs::create_dir(db.join("HISTORY.tmp")).unwrap()),
        ("temporary-file", |db| fs::write(db.join("HISTORY.tmp"), "x").unwrap()),
        ("temporary-link", |db| std::os::unix::fs::symlink("/nowhere", db.join("HISTORY.tmp")).unwrap()),
        ("temporary-link-to-directory", |db| std::os::unix::fs::symlink("/", db.join("HISTORY.tmp")).unwrap()),
        ("segment-temporary", |db| fs::create_dir(db.join("0000000000300000.log.tmp")).unwrap()),
        ("unknown", |db| fs::write(db.join("notes.txt"), "x").unwrap()),
        ("unknown-directory", |db| fs::create_dir(db.join("lost+found")).unwrap()),
        ("lock-directory", |db| {
            let _ = fs::remove_file(db.join("LOCK"));
            fs::create_dir(db.join("LOCK")).unwrap();
        }),
        ("lock-link", |db| {
            let _ = fs::remove_file(db.join("LOCK"));
            fs::write(db.with_extension("lock"), "").unwrap();
            std::os::unix::fs::symlink(db.with_extension("lock"), db.join("LOCK")).unwrap();
        }),
        ("lock-nowhere", |db| {
            let _ = fs::remove_file(db.join("LOCK"));
            std::os::unix::fs::symlink("/nowhere", db.join("LOCK")).unwrap();
        }),
        ("lock-fifo", |db| {
            let _ = fs::remove_file(db.join("LOCK"));
            assert!(Command::new("mkfifo").arg(db.join("LOCK")).status().unwrap().success());
        }),
        ("mark-directory", |db| {
            let _ = fs::remove_file(db.join("MARK"));
            fs::create_dir(db.join("MARK")).unwrap();
        }),
    ];
    let (mut refusals, mut commits_refused) = (Vec::new(), Vec::new());
    for (name, obstacle) in obstacles {
        let db = scratch.path(name);
        crashed(&db);
        obstacle(&db);
        let before = names_and_lengths(&db);
        let (code, text, _) = run(&mut on("verify", &db, &[]));
        let (json_code, json, _) = run(&mut on("verify", &db, &["--json"]));
        assert_eq!(names_and_lengths(&db), before, "{name}: verify changed something");
        let json: Value = serde_json::from_str(&json).unwrap();
        let opened = Engine::open(&db);
        let committed = opened.as_ref().is_ok_and(|engine| engine.create_keyspace("another").is_ok());
        assert_eq!((code, json_code), if committed { (0, 0) } else { (3, 3) }, "{name}: {text}");
        assert_eq!((&json["sound"], json["opens"].as_bool()), (&Value::Bool(true), Some(opened.is_ok())), "{name}");
        assert_eq!(json["commits"].as_bool(), Some(committed), "{name}");
        assert!(text.starts_with("sound: "), "{name}: {text}");
        match opened {
            Ok(_) if committed => assert!(text.ends_with("\nopens: yes\n"), "{name}: {text}"),
            Ok(_) => {
                commits_refused.push(name);
                assert!(text.contains("\nopens: yes\ncommits: no: "), "{name}: {text}");
            }
            Err(error) => {
                refusals.push(name);
                assert!(text.contains("\nopens: no: "), "{name}: {text}");
                let error = error.to_string();
                assert_eq!(json["obstacle"].as_str().unwrap().split(':').next(), error.split(':').next(), "{name}");
            }
        }
    }
    assert_eq!(refusals, ["temporary-directory", "lock-directory", "lock-nowhere", "lock-fifo"]);
    // Which segment is the next one depends on how far the preparation had come.
    assert!(commits_refused.iter().all(|name| *name == "segment-temporary"), "{commits_refused:?}");
}

/// The names in a directory and what they are, the empty LOCK that an open may create excepted.
fn names_and_lengths(db: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(db).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| !path.ends_with("LOCK"))
        .map(|path| (path.clone(), fs::symlink_metadata(&path).unwrap().len()))
        .collect();
    found.sort();
    found
}

#[test]
fn verify_of_what_is_damaged_or_open_tells_both_verdicts() {
    let scratch = Scratch::new("unsound");
    let db = scratch.path("db");
    crashed(&db);
    let engine = Engine::open(&db).unwrap();
    let (code, text, told) = run(&mut on("verify", &db, &[]));
    assert!(code == 0 && text.starts_with("sound: ") && text.ends_with("\nopens: not asked\n"), "{text}{told}");
    assert!(told.starts_with("forelog: open in a program: checked up to LSN "), "{told}");
    engine.close().unwrap();
    let mut bytes = fs::read(db.join("HISTORY")).unwrap();
    bytes[60] ^= 1;
    fs::write(db.join("HISTORY"), bytes).unwrap();
    let error = refused(&mut on("verify", &db, &[]));
    assert!(error.contains("would not open, and is not sound") && error.contains("forelog salvage"), "{error}");
    let (code, json, _) = run(&mut on("verify", &db, &["--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["opens"], &json["sound"]), (1, &Value::Bool(false), &Value::Bool(false)));
}

#[test]
fn an_unfinished_copy_is_refused_by_every_command() {
    let scratch = Scratch::new("unfinished");
    let (db, copy) = (scratch.path("db"), scratch.path("copy"));
    crashed(&db);
    printed(&mut on("salvage", &db, &["--to", copy.to_str().unwrap()]));
    printed(&mut on("verify", &copy, &[]));
    // As it is before the last step.
    fs::rename(copy.join("HISTORY"), copy.join("HISTORY.unfinished")).unwrap();
    let before = names_and_lengths(&copy);
    for (command, more) in [("verify", &[][..]), ("dump", &[]), ("scan", &["--keyspace", "k"])] {
        let error = refused(&mut on(command, &copy, more));
        assert!(error.contains("unfinished copy") && error.contains("delete"), "{command}: {error}");
    }
    let again = refused(&mut on("salvage", &db, &["--to", copy.to_str().unwrap()]));
    assert!(again.contains("unfinished copy") && again.contains("delete"), "{again}");
    assert_eq!(names_and_lengths(&copy), before);
}

// ---- signals

/// The work directories below `dir`.
fn work_directories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("forelog-")).collect()
}

/// Starts a command with a work directory, and waits until that is in use.
fn start(arguments: &[&str], dir: &Path) -> Child {
    // These tests may run where signals are ignored, in the background of a shell: the command must not inherit that.
    let mut child = Command::new("env")
        .args(["--default-signal", env!("CARGO_BIN_EXE_forelog")])
        .args(arguments)
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let root = dir.join(format!("forelog-{}-{}-0", arguments[0], child.id()));
    while !fs::read_dir(&root).is_ok_and(|entries| entries.count() > 1) {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn send(signal: &str, child: &Child) {
    assert!(Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap().success());
}

const COMMAND: &[&str] = &["trial", "--seconds", "60"];

#[test]
fn a_command_that_is_ended_by_a_signal_removes_its_directory() {
    let mut signals = vec!["-INT", "-TERM", "-HUP", "-QUIT", "-XCPU", "-ALRM", "-VTALRM", "-PROF", "-USR1", "-USR2"];
    if cfg!(target_os = "linux") {
        signals.extend(["-IO", "-PWR", "-STKFLT", "-34", "-64"]);
    }
    for signal in signals {
        let scratch = Scratch::new(&format!("signal{signal}"));
        let mut child = start(COMMAND, &scratch.0);
        send(signal, &child);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        assert!(work_directories(&scratch.0).is_empty(), "{signal}");
    }
}

#[test]
fn what_a_killed_command_left_is_removed_by_the_next_one_and_nothing_else_is() {
    let scratch = Scratch::new("left");
    let alive_dir = scratch.path("alive");
    fs::create_dir(&alive_dir).unwrap();
    let mut alive = start(COMMAND, &alive_dir);
    let (living, moved) = (work_directories(&alive_dir).remove(0), scratch.path("forelog-trial-1-0"));
    // Another's work directory, by whatever name, and what only looks like one.
    fs::rename(&living, &moved).unwrap();
    for name in ["forelog-trial-2-0", "forelog-torture-3-0", "forelog-backup-4-0"] {
        fs::create_dir(scratch.path(name)).unwrap();
        fs::write(scratch.path(name).join("precious"), "x").unwrap();
    }
    fs::write(scratch.path("forelog-torture-3-0").join("forelog-work-directory"), "something else").unwrap();
    std::os::unix::fs::symlink(scratch.path("forelog-trial-2-0"), scratch.path("forelog-trial-5-0")).unwrap();
    let mut child = start(COMMAND, &scratch.0);
    let left = scratch.path(&format!("forelog-trial-{}-0", child.id()));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(left.exists());
    let mut next = start(COMMAND, &scratch.0);
    send("-TERM", &next);
    assert_eq!(next.wait().unwrap().code(), Some(130));
    assert!(!left.exists(), "the next run clears up");
    assert!(moved.exists(), "its command lives");
    for name in ["forelog-trial-2-0", "forelog-torture-3-0", "forelog-backup-4-0"] {
        assert!(scratch.path(name).join("precious").exists(), "{name}");
    }
    assert!(scratch.path("forelog-trial-5-0").is_symlink());
    alive.kill().unwrap();
    alive.wait().unwrap();
}
