//! Log that is retained by the age of its files (`src/table/RETENTION.md`).

use std::fs::{File, read_dir};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use forelog::{Checkpoints, Engine, Options};

use crashkit::TempDir;

const HOUR: Duration = Duration::from_secs(3600);

fn open(dir: &Path) -> Engine {
    let options = Options::new().segment_bytes(8192).checkpoints(Checkpoints::OnRequest);
    options.retain_log_for(HOUR).open(dir).unwrap()
}

fn put(engine: &Engine, rounds: u8) {
    let keys = engine.create_keyspace("k").unwrap();
    for round in 0..rounds {
        let mut batch = engine.batch().unwrap();
        (0..40_u8).for_each(|key| batch.put(&keys, [key], vec![round; 100]).unwrap());
        batch.commit().unwrap();
    }
    engine.checkpoint().unwrap();
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "log")).collect();
    segments.sort();
    segments
}

/// An age goes on over a restart, and what lies below a segment that is too old goes with it, however young its file looks.
#[test]
fn a_segment_is_as_old_as_its_file() {
    let dir = TempDir::new("retention-age");
    let engine = open(dir.path());
    put(&engine, 10);
    let retained = engine.stats().retained_bytes;
    engine.close().unwrap();
    let engine = open(dir.path());
    put(&engine, 1);
    assert!(retained > 30_000 && engine.stats().retained_bytes >= retained, "{:?}", engine.stats());
    engine.close().unwrap();

    let all = segments(dir.path());
    let past = SystemTime::now() - 2 * HOUR;
    File::options().write(true).open(&all[2]).unwrap().set_modified(past).unwrap();
    let engine = open(dir.path());
    assert_eq!(segments(dir.path()), all, "an open lets go of nothing");
    put(&engine, 1);
    assert!(segments(dir.path()).starts_with(&all[3..]), "{:?}", engine.stats());
    engine.close().unwrap();
    for path in segments(dir.path()) {
        File::options().write(true).open(path).unwrap().set_modified(past).unwrap();
    }
    let engine = open(dir.path());
    put(&engine, 1);
    assert_eq!(engine.stats().retained_bytes, 0);
    engine.close().unwrap();
}

/// Zero bytes were a choice to retain: what the message of a full disk advises freed nothing.
#[test]
fn who_asks_for_none_has_none_after_an_open() {
    let dir = TempDir::new("retention-none");
    let options = || Options::new().segment_bytes(8192).checkpoints(Checkpoints::OnRequest);
    let engine = options().retain_log_bytes(1 << 30).open(dir.path()).unwrap();
    put(&engine, 10);
    assert!(engine.stats().retained_bytes > 30_000);
    engine.close().unwrap();
    let before = segments(dir.path()).len();
    let engine = options().retain_log_bytes(0).open(dir.path()).unwrap();
    engine.checkpoint().unwrap();
    assert_eq!(engine.stats().retained_bytes, 0);
    assert!(segments(dir.path()).len() < before);
}
