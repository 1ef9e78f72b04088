//! What `{:?}` of a handle shows: a line, and nothing of what users keep. Programs print their state to logs.

use std::fmt::Debug;
use std::time::Duration;

use forelog::log::{Log, LogOptions};
use forelog::scrub::ScrubOptions;
use forelog::{CommitMode, Engine, Lsn, Options};

use crashkit::TempDir;

/// Long, so that a part of the state that holds it would be more than a line.
const SECRET: &str = "SECRET-4711-SECRET-4711-SECRET-4711-SECRET-4711-SECRET-4711-SECRET-4711";

/// The longest line that a handle may print, in bytes; the directory of the test is in it.
const LINE: usize = 640;

/// Checks what `value` prints.
#[track_caller]
fn check(value: &dyn Debug) {
    let text = format!("{value:?}");
    assert!(!text.contains('\n') && text.len() <= LINE, "{} bytes: {text:.1000}", text.len());
    let all = format!("{text}{value:#?}");
    let listed: Vec<String> = SECRET.bytes().take(6).map(|byte| byte.to_string()).collect();
    let as_list = all.split_whitespace().collect::<String>().contains(&listed.join(","));
    assert!(!all.contains("SECRET") && !as_list, "{all:.1000}");
}

/// Commits that keep the secret in the log's buffer, in the index, and as one that is at risk.
#[test]
fn the_handles_of_an_engine_print_a_line_without_what_they_hold() {
    let dir = TempDir::new("face");
    let options = Options::new().flush_interval(Duration::from_secs(1)).commit_mode(CommitMode::Async);
    let engine = options.clone().open(&dir).unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    check(&options);
    let value = SECRET.repeat(10_000);
    let mut batch = engine.batch().unwrap();
    batch.put(&keys, SECRET, &value).unwrap();
    batch.delete(&keys, format!("{SECRET}-2")).unwrap();
    check(&batch);
    let receipt = batch.commit().unwrap();
    check(&receipt);
    assert!(engine.at_risk().commits > 0, "or the buffer holds nothing");
    let snapshot = engine.snapshot().unwrap();
    let mut tx = engine.begin().unwrap();
    check(&tx.get(&keys, SECRET).unwrap().map(|value| value.len()));
    let mut entries = tx.iter(&keys).unwrap();
    check(&entries);
    assert!(entries.next_ref().unwrap().is_ok());
    check(&entries);
    tx.put(&keys, format!("{SECRET}-3"), &value).unwrap();
    check(&tx.range(&keys, SECRET..).unwrap());
    check(&tx);
    for handle in [&engine as &dyn Debug, &keys, &snapshot, &engine.recovery(), &engine.stats(), &engine.io()] {
        check(handle);
    }
    // As a program has it that derives `Debug` for its own state.
    check(&Some((engine.clone(), snapshot.clone(), [receipt.clone()])));

    // Errors: a conflict, one that gives its transaction back, and those of what was given.
    put(&engine, &keys, &value);
    check(&tx.commit_with(CommitMode::Async).unwrap_err());
    let mut tx = engine.begin().unwrap();
    tx.put(&keys, SECRET, &value).unwrap();
    check(&tx.try_commit_with(CommitMode::Sync).unwrap_err());
    let mut tx = engine.begin().unwrap();
    check(&tx.put(&keys, SECRET.repeat(1000), "").unwrap_err());
    let scrub = engine.scrub(ScrubOptions::default()).unwrap();
    check(&scrub);
    scrub.wait();
    check(&scrub);
    check(&receipt.token());
    engine.close().unwrap();
    check(&engine);
}

fn put(engine: &Engine, keys: &forelog::Keyspace, value: &str) {
    let mut batch = engine.batch().unwrap();
    batch.put(keys, SECRET, value).unwrap();
    batch.commit().unwrap();
}

#[test]
fn the_handles_of_a_log_print_a_line_without_what_they_hold() {
    let dir = TempDir::new("face");
    let options = LogOptions::new().flush_interval(Duration::from_secs(1));
    check(&options);
    let log: Log = options.open(&dir).unwrap();
    log.append(SECRET.as_bytes(), CommitMode::Sync).unwrap();
    log.append(SECRET.repeat(10_000).as_bytes(), CommitMode::Sync).unwrap();
    let receipt = log.append(SECRET.as_bytes(), CommitMode::Async).unwrap();
    check(&log);
    check(&receipt);
    let (mut scan, mut tail) = (log.scan(Lsn::ZERO).unwrap(), log.tail(Lsn::ZERO).unwrap());
    for _ in 0..2 {
        check(&scan);
        check(&tail);
        check(&scan.next().unwrap().unwrap());
        check(&tail.next_timeout(Duration::ZERO).unwrap().unwrap());
    }
    check(&scan);
    check(&tail);
    let pins = [0; 3].map(|_| log.pin(receipt.lsn()).unwrap());
    assert_eq!(format!("{:?}", pins[0]), format!("Pin {{ lsn: Lsn({}) }}", receipt.lsn()));
}

/// What was read is shown, for it is what the program asked for; but a value of 1 MiB was 1 MiB of text.
#[test]
fn a_key_and_a_value_print_no_more_than_a_line() {
    let engine = Engine::in_memory().unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    let long = "\0".repeat(60_000);
    let mut tx = engine.begin().unwrap();
    tx.put(&keys, "a", "short").unwrap();
    tx.put(&keys, &long, long.repeat(20)).unwrap();
    let entries: Vec<_> = tx.iter(&keys).unwrap().map(Result::unwrap).collect();
    let (key, value) = (format!("{:?}", entries[0].0), format!("{:?}", Some(&entries[0].1)));
    assert!(key.len() < LINE && key.contains("60000 bytes"), "{key:.1000}");
    assert!(value.len() < LINE && value.contains("1200000 bytes"), "{value:.1000}");
    assert_eq!(format!("{:?}", entries[1]), r#"(b"a", b"short")"#);
}
