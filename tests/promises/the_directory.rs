//! The promise about where a database is. (Larger explorations: `tests/directory`.)

use super::*;

/// After the open no rename leads a write elsewhere, and there is one opener at a time, whatever the path says.
#[test]
fn promise_18_the_database_is_a_directory_and_not_a_path() {
    simulate(|disk, engine, keys| {
        put(engine, keys, 0, CommitMode::Sync).unwrap();
        disk.rename_dir(DIR, "moved").unwrap();
        let other = open(disk);
        let others = other.create_keyspace("keys").unwrap();
        put(&other, &others, 0, CommitMode::Sync).unwrap();
        let again = options().open_on(Arc::new(disk.clone()), "moved");
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Locked, "by whatever name it is called");
        for number in 1..100 {
            put(engine, keys, number, CommitMode::Sync).unwrap();
        }
        engine.close().unwrap();
        other.close().unwrap();
        assert_eq!(count(&open(disk)), 1);
        assert_eq!(count(&options().open_on(Arc::new(disk.clone()), "moved").unwrap()), 100);
    });
}
