//! `forelog salvage` on a database with a hole.

use crashkit::TempDir;
use forelog::{CommitMode, Engine};

use crate::common::{contents, on, run};

/// `verify` called a segment damaged that is longer than its header says; `salvage` called everything whole, exit code
/// 0. All commits are there, and the file is bad: both are told by now.
#[test]
fn a_segment_that_is_too_long_is_told_by_verify_and_by_salvage() {
    let dir = TempDir::new("too-long");
    let (open, db) = (dir.join("open"), dir.join("db"));
    let engine = Engine::open(&open).unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.put(&keys, "one", "value").unwrap();
    batch.commit_with(CommitMode::Sync).unwrap();
    std::fs::create_dir(&db).unwrap();
    for (name, bytes) in contents(&open) {
        std::fs::write(db.join(name), bytes).unwrap();
    }
    engine.close().unwrap();
    let salvage = |to: &str| run(&mut on("salvage", &db, &["--to", dir.join(to).to_str().unwrap()]));
    assert_eq!((run(&mut on("verify", &db, &[])).0, salvage("whole").0), (0, 0));

    let segment = "0000000000000000.log";
    let file = std::fs::OpenOptions::new().write(true).open(db.join(segment)).unwrap();
    file.set_len(1 << 40).unwrap();
    let (code, _, error) = run(&mut on("verify", &db, &[]));
    assert!(code == 1 && error.contains(segment) && error.contains("wrong length"), "{error}");
    let (code, text, _) = salvage("saved");
    assert_eq!(code, 1, "{text}");
    assert!(text.starts_with("saved 2 commits") && text.contains("every commit up to there"), "{text}");
    assert!(text.contains(&format!("bad file: {segment}: a segment has the wrong length")), "{text}");
}

#[test]
fn the_command_says_what_is_missing() {
    let dir = TempDir::new("salvage");
    let db = dir.join("db");
    let engine = Engine::open(&db).unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    for key in ["one", "two", "three"] {
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, key, "value").unwrap();
        batch.commit().unwrap();
    }
    engine.close().unwrap();
    let segment = db.join("0000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let two = bytes.windows(3).position(|window| window == b"two").unwrap();
    bytes[two] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let run = |to: &str, json: bool| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forelog"));
        command.args(["salvage", "--db"]).arg(&db).arg("--to").arg(dir.join(to));
        let output = if json { command.arg("--json") } else { &mut command }.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text, _) = run("text", false);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("saved 3 commits"), "{text}");
    assert!(text.contains("0000000000000000.log") && text.contains("bit rot"), "{text}");
    let (code, text, _) = run("json", true);
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &found["order"], &found["commits"]), (Some(1), &"holes".into(), &3.into()));
    let (code, _, error) = run("json", false);
    assert!(code == Some(1) && error.contains("is not empty"), "{error}");
}
