//! `forelog compact`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use forelog::{Checkpoints, CommitMode, Engine, Options};
use serde_json::Value;

use crate::common::{Scratch, forelog, on, printed, refused};

/// In order of the keys.
fn values(db: &Path) -> Vec<u8> {
    let read = Engine::read_only(db).unwrap();
    read.iter("k").unwrap().map(|entry| entry.unwrap().1[0]).collect()
}

fn put(engine: &Engine, value: u8, count: u32) {
    let keys = engine.create_keyspace("k").unwrap();
    for first in (0..count).step_by(1000) {
        let mut batch = engine.batch().unwrap();
        for number in first..first + 1000 {
            batch.put(&keys, number.to_be_bytes(), vec![value; 100]).unwrap();
        }
        batch.commit_with(CommitMode::Async).unwrap();
    }
}

/// A database with `count` keys, of which `deleted` are gone, in many small runs.
fn fill(db: &Path, count: u32, deleted: u32) {
    let engine = Options::new().checkpoint_bytes(64 << 10).checkpoints(Checkpoints::OnRequest).open(db).unwrap();
    put(&engine, 1, count);
    engine.checkpoint().unwrap();
    let keys = engine.open_keyspace("k").unwrap();
    let mut batch = engine.batch().unwrap();
    (0..deleted).for_each(|number| batch.delete(&keys, number.to_be_bytes()).unwrap());
    batch.commit().unwrap();
    engine.close().unwrap();
}

#[test]
fn what_was_deleted_gives_its_space_back() {
    let scratch = Scratch::new("compact");
    let db = scratch.path("db");
    fill(&db, 20_000, 9_000);
    let engine = Engine::open(&db).unwrap();
    assert!(refused(&mut on("compact", &db, &[])).contains("is open already"));
    engine.close().unwrap();
    let report: Value = serde_json::from_str(&printed(&mut on("compact", &db, &["--json"]))).unwrap();
    let (before, after) = (report["bytes_before"].as_u64().unwrap(), report["bytes_after"].as_u64().unwrap());
    assert!(before > 2_300_000 && after < before, "{report}");
    assert_eq!(values(&db), vec![1; 11_000]);
    // What the warmer was reading at the end goes with the next open.
    Engine::open(&db).unwrap().close().unwrap();
    let tables = std::fs::read_dir(db.join("table")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert!(tables.sum::<u64>() < 1_400_000);
    assert!(printed(&mut on("verify", &db, &[])).starts_with("sound"));
    let told = printed(&mut on("compact", &db, &[]));
    assert!(told.starts_with("compacted up to LSN") && told.contains("before") && told.contains("after"), "{told}");
    assert!(refused(&mut on("compact", &scratch.path("none"), &[])).contains("none"));
}

/// Whenever the signal comes, the database is whole, and the rest can be done later.
#[test]
fn an_interrupted_compaction_leaves_a_good_database() {
    let scratch = Scratch::new("compact-interrupted");
    let db = scratch.path("db");
    fill(&db, 100_000, 30_000);
    let mut compacting = forelog();
    compacting.arg("compact").arg("--db").arg(&db).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = compacting.spawn().unwrap();
    // Behind its first step, if it is not over by then.
    let begin = Instant::now();
    let manifest = || std::fs::read(db.join("table/MANIFEST")).ok();
    let first = manifest();
    while manifest() == first && child.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let code = child.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 130)) || code.is_none(), "{code:?}");
    assert_eq!(values(&db), vec![1; 70_000]);
    printed(&mut on("compact", &db, &[]));
    assert_eq!(values(&db), vec![1; 70_000]);
}

/// A byte of the longest table, in its middle.
fn rot(db: &Path) {
    let tables = std::fs::read_dir(db.join("table")).unwrap().map(|entry| entry.unwrap().path());
    let longest = tables.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&longest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    std::fs::write(&longest, bytes).unwrap();
}

#[test]
fn rot_is_told_by_each_command_and_what_is_whole_goes_on() {
    let scratch = Scratch::new("compact-rot");
    let db = scratch.path("db");
    fill(&db, 20_000, 0);
    printed(&mut on("compact", &db, &[]));
    rot(&db);
    let told = refused(&mut on("verify", &db, &[]));
    assert!(told.contains("not sound, though it opens") && told.contains(".run"), "{told}");
    let compacted = on("compact", &db, &[]).output().unwrap();
    let told = String::from_utf8(compacted.stderr).unwrap();
    assert!(compacted.status.success() && told.contains("kept apart") && told.contains(".run"), "{told}");
    let info = on("info", &db, &[]).output().unwrap();
    let told = String::from_utf8(info.stdout).unwrap();
    assert!(info.status.code() == Some(1) && told.contains("keyspace 'k': ") && told.contains("then damage"), "{told}");
    let report: Value = serde_json::from_slice(&on("verify", &db, &["--json"]).output().unwrap().stdout).unwrap();
    assert_eq!(
        (&report["opens"], &report["sound"], &report["damage"]["cause"]),
        (&true.into(), &false.into(), &"Lost".into())
    );
    let keys: usize = {
        let read = Engine::read_only(&db).unwrap();
        (0..20_000_u32).filter(|number| read.get("k", number.to_be_bytes()).is_ok()).count()
    };
    assert!((19_900..20_000).contains(&keys), "{keys}");
}
