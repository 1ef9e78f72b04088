//! What nobody can read any more goes without further commits. A held snapshot keeps what it sees, and nothing else.

use std::time::Duration;

use forelog::{CommitMode, Engine, Keyspace, LossBudget, Options};

use crashkit::{in_memory, put};

/// Waits until `engine` has so many versions in memory. The bound is for a test that fails.
fn until_versions(engine: &Engine, versions: usize) {
    for _ in 0..3000 {
        if engine.versions_in_memory() == versions {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} versions stay in memory, and {versions} are needed", engine.versions_in_memory());
}

fn fill(engine: &Engine, keyspace: &Keyspace, keys: u32) {
    let mut batch = engine.batch().unwrap();
    for key in 0..keys {
        batch.put(keyspace, key.to_be_bytes(), b"value").unwrap();
    }
    batch.commit_with(CommitMode::Async).unwrap();
}

fn delete(engine: &Engine, keyspace: &Keyspace, keys: u32) {
    let mut batch = engine.batch().unwrap();
    for key in 0..keys {
        batch.delete(keyspace, key.to_be_bytes()).unwrap();
    }
    batch.commit_with(CommitMode::Async).unwrap();
}

#[test]
fn what_was_deleted_goes_without_another_commit() {
    let engine = in_memory();
    let keys = engine.create_keyspace("k").unwrap();
    fill(&engine, &keys, 10_000);
    delete(&engine, &keys, 10_000);
    until_versions(&engine, 0);
}

/// Up to fifteen small commits wait to be applied together with a sixteenth.
#[test]
fn what_the_last_small_commits_superseded_goes_without_another() {
    let engine = in_memory();
    let keys = engine.create_keyspace("k").unwrap();
    for number in 0..10 {
        put(&engine, &keys, "key", &number.to_string(), CommitMode::Async).unwrap();
    }
    until_versions(&engine, 1);
}

#[test]
fn what_a_snapshot_kept_goes_with_it() {
    let engine = in_memory();
    let keys = engine.create_keyspace("k").unwrap();
    fill(&engine, &keys, 10_000);
    let (first, second) = (engine.snapshot().unwrap(), engine.snapshot().unwrap());
    delete(&engine, &keys, 10_000);
    fill(&engine, &keys, 1_000);
    // It sees ten thousand keys, of which none is what it was, and of the new ones none.
    until_versions(&engine, 11_000);
    assert_eq!(first.iter(&keys).unwrap().count(), 10_000);
    drop(first);
    assert_eq!(second.iter(&keys).unwrap().count(), 10_000);
    until_versions(&engine, 11_000);
    drop(second);
    until_versions(&engine, 1_000);
}

/// Its end is that of a snapshot, and no commit comes with it.
#[test]
fn what_a_transaction_kept_goes_when_it_is_given_up() {
    let engine = in_memory();
    let keys = engine.create_keyspace("k").unwrap();
    fill(&engine, &keys, 10_000);
    let mut transaction = engine.begin().unwrap();
    let range = transaction.iter(&keys).unwrap();
    delete(&engine, &keys, 10_000);
    until_versions(&engine, 10_000);
    transaction.rollback();
    assert_eq!(range.count(), 10_000, "a range keeps its snapshot");
    until_versions(&engine, 0);
}

#[test]
fn what_is_not_durable_yet_goes_when_it_is() {
    let hour = Duration::from_secs(3600);
    let options = Options::new().flush_interval(hour).loss_budget(LossBudget::default().max_age(hour));
    let engine = options.in_memory().unwrap();
    let keys = engine.create_keyspace("k").unwrap();
    fill(&engine, &keys, 1_000);
    delete(&engine, &keys, 1_000);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(engine.versions_in_memory(), 2_000, "a durable snapshot would see them");
    engine.flush().unwrap();
    until_versions(&engine, 0);
}
