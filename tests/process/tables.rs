//! The command on a database with tables.

use std::fs;
use std::path::Path;

use crashkit::TempDir;
use forelog::{CommitMode, Engine, Options};
use serde_json::Value;

use crate::common::{on, printed, run};

/// A closed database with a checkpoint, and something in the log behind it.
fn database(db: &Path) {
    let engine = Options::new().segment_bytes(8192).open(db).unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    let put = |engine: &Engine, key: u32, value: &str| {
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, key.to_string(), value).unwrap();
        batch.commit_with(CommitMode::Async).unwrap();
    };
    (0..1000).for_each(|key| put(&engine, key, "of the tables"));
    engine.flush().unwrap();
    engine.checkpoint().unwrap();
    put(&engine, 7, "of the log");
    engine.close().unwrap();
}

fn file(db: &Path, suffix: &str) -> std::path::PathBuf {
    let files = fs::read_dir(db.join("table")).unwrap().map(|file| file.unwrap().path());
    files.into_iter().find(|path| path.to_str().unwrap().ends_with(suffix)).unwrap()
}

#[test]
fn each_command_knows_a_database_with_tables() {
    let dir = TempDir::new("tables");
    let db = dir.join("db");
    database(&db);
    assert!(printed(&mut on("verify", &db, &[])).starts_with("sound: "));
    let lines = printed(&mut on("scan", &db, &["--keyspace", "keys"]));
    assert!(lines.lines().count() == 1000 && lines.contains("7\tof the log\n"), "{lines}");
    let (code, frames, note) = run(&mut on("dump", &db, &[]));
    assert!(code == 0 && frames.contains("Full") && note.contains("the log goes on in the tables"), "{frames}, {note}");
    let text = printed(&mut on("salvage", &db, &["--to", dir.join("whole").to_str().unwrap()]));
    assert!(
        text.starts_with("saved 1,000 entries of the tables and 1 commits") && text.contains("every commit"),
        "{text}"
    );
}

#[test]
fn each_command_says_what_is_wrong_with_a_table_and_what_to_do() {
    let dir = TempDir::new("bad-tables");
    let db = dir.join("db");
    database(&db);
    let run_file = file(&db, ".run");
    let mut bytes = fs::read(&run_file).unwrap();
    bytes[700] ^= 1;
    fs::write(&run_file, &bytes).unwrap();
    let name = run_file.file_name().unwrap().to_str().unwrap();
    for (command, more) in [("verify", &[][..]), ("scan", &["--keyspace", "keys"])] {
        let (code, _, told) = run(&mut on(command, &db, more));
        assert!(code == 1 && told.contains(name) && told.contains("forelog salvage"), "{command}: {told}");
        assert!(!told.contains("newer one"), "{command}: {told}");
    }
    let (code, text, _) = run(&mut on("salvage", &db, &["--to", dir.join("text").to_str().unwrap()]));
    assert!(code == 1 && text.contains("lost: keys of 'keys' from \"0\" to before ") && text.contains(name), "{text}");
    let (code, text, _) = run(&mut on("salvage", &db, &["--to", dir.join("json").to_str().unwrap(), "--json"]));
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["complete"], &told["order"]), (1, &false.into(), &"holes".into()));
    assert_eq!((&told["lost_keys"][0]["keyspace"], &told["lost_keys"][0]["from"]), (&"keys".into(), &0.into()));
    fs::remove_file(db.join("table/MANIFEST")).unwrap();
    let (code, _, told) = run(&mut on("verify", &db, &[]));
    assert!(code == 1 && told.contains("forelog salvage") && !told.contains("newer one"), "{told}");
}
