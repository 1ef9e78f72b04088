//! What becomes of an open database when its path leads elsewhere, or when its files are removed under it.

use std::time::Duration;

use forelog::sim::{self, SimDisk};
use forelog::unstable::disk::MemoryDisk;
use forelog::{Engine, ErrorKind, LockHeld, Options};

use super::ground::{Ground, keys, put, without_directory_locks};

/// Commits until the engine notices; how many were acknowledged, and what it said.
pub(crate) fn commit_until_it_stops(engine: &Engine) -> (usize, forelog::Error) {
    for number in 0..1000 {
        if let Err(error) = put(engine, &format!("{number:04}")) {
            return (number, error);
        }
    }
    panic!("a thousand commits went into files that are gone");
}

/// Whether `error` says that files were removed: it did so itself, or `engine` stopped because of it before.
pub(crate) fn tells_of_removal(engine: &Engine, error: &forelog::Error) -> bool {
    let stopped = engine.poisoned().is_some_and(|poison| poison.cause.kind() == ErrorKind::Removed);
    error.kind() == ErrorKind::Removed || error.kind() == ErrorKind::Poisoned && stopped
}

/// Waits until the segment behind the first one is prepared, too.
pub(crate) fn wait_for_segments(ground: &Ground) {
    loop {
        let names = ground.names("db").unwrap();
        let is = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
        if is(".log") == 2 && is(".tmp") == 0 {
            return;
        }
        std::thread::yield_now();
    }
}

/// `mv db db.old` under an open engine; another one made a new `db`; the first one committed, closed, and all was `Ok`:
/// `db` was damaged, and `db.old` lacked the commits (A2).
#[test]
fn a_database_that_is_renamed_stays_the_one_that_was_opened() {
    for ground in Ground::both("renamed") {
        let first = ground.open("db").unwrap();
        put(&first, "before").unwrap();
        ground.rename_dir("db", "db.old");
        let second = ground.open("db").unwrap();
        put(&second, "other").unwrap();
        let mut expected: Vec<String> = (0..100).map(|number| format!("{number:04}")).collect();
        expected.iter().for_each(|key| put(&first, key).unwrap());
        second.close().unwrap();
        first.close().unwrap();
        expected.push("before".into());
        assert_eq!(keys(&ground.open("db.old").unwrap()), expected);
        assert_eq!(keys(&ground.open("db").unwrap()), ["other"]);
        assert!(ground.names("db.old").unwrap().contains(&"LOCK".to_owned()));
    }
}

/// Ten commits through a symbolic link that was moved to another database meanwhile: none was there, and the other one
/// was refused as damaged (A3).
#[cfg(unix)]
#[test]
fn a_symbolic_link_that_moves_takes_no_commit_along() {
    for ground in Ground::both("link") {
        for name in ["one", "two"] {
            let engine = ground.open(name).unwrap();
            put(&engine, name).unwrap();
            engine.close().unwrap();
        }
        ground.link("db", "one");
        let engine = ground.open("db").unwrap();
        put(&engine, "a").unwrap();
        ground.link("db", "two");
        ["b", "c", "d"].iter().for_each(|key| put(&engine, key).unwrap());
        assert_eq!(keys(&ground.open("db").unwrap()), ["two"], "the path leads to the other one, which is free");
        engine.close().unwrap();
        assert_eq!(keys(&ground.open("one").unwrap()), ["a", "b", "c", "d", "one"]);
        assert_eq!(keys(&ground.open("two").unwrap()), ["two"]);
    }
}

/// A relative path and a program that changes its directory: the working directory is the process's, so this is a child's
/// matter; the simulated disk has the same in a parent that moves.
#[test]
fn a_directory_above_may_move_as_well() {
    for ground in Ground::both("above") {
        ground.write("a/b/keep", b"");
        let engine = ground.open("a/b/db").unwrap();
        put(&engine, "before").unwrap();
        ground.rename_dir("a", "c");
        put(&engine, "after").unwrap();
        engine.close().unwrap();
        assert_eq!(keys(&ground.open("c/b/db").unwrap()), ["after", "before"]);
        assert_eq!(ground.names("a"), None, "nothing is made again under the old path");
    }
}

/// `rm -r db` under an open engine: 31 more `Sync` commits were acknowledged into deleted files, until a segment could not
/// be prepared, and that error went away (A4).
#[test]
fn a_database_that_is_removed_stops_at_the_next_segment() {
    for ground in Ground::both("removed") {
        let engine = ground.open("db").unwrap();
        put(&engine, "before").unwrap();
        wait_for_segments(&ground);
        ground.remove_tree("db");
        let (acknowledged, error) = commit_until_it_stops(&engine);
        assert!(acknowledged < 80, "{acknowledged} commits of 100 bytes into two segments of 4096");
        assert!(matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Indeterminate), "{error:?}");
        let poison = engine.poisoned().expect("it stopped");
        assert_eq!(poison.cause.kind(), ErrorKind::Removed);
        let told = poison.cause.to_string();
        assert!(told.contains("was removed") && told.contains("db") && told.contains(".log"), "{told}");
        let closed = engine.close().unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Poisoned);
        // It said that a write or fsync had failed, which none had.
        assert!(closed.to_string().contains("were removed or replaced"), "{closed}");
        assert!(!closed.to_string().contains("failed") && !closed.to_string().contains("check the disk"), "{closed}");
        assert_eq!(ground.names("db"), None);
    }
}

#[test]
fn a_database_that_is_removed_tells_its_close() {
    for ground in Ground::both("removed-close") {
        let engine = ground.open("db").unwrap();
        put(&engine, "before").unwrap();
        ground.remove_tree("db");
        let error = engine.close().unwrap_err();
        assert!(tells_of_removal(&engine, &error), "{error:?}");
        assert_eq!(ground.names("db"), None);
        assert_eq!(keys(&ground.open("db").unwrap()), [""; 0], "a new one can be made");
    }
}

#[test]
fn a_database_that_is_removed_stops_at_the_mark() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let engine = Options::new().open_on(std::sync::Arc::new(disk.clone()), "db").unwrap();
        put(&engine, "before").unwrap();
        disk.remove_tree("db").unwrap();
        assert!(engine.poisoned().is_none());
        sim::sleep(Duration::from_secs(3));
        assert_eq!(engine.poisoned().expect("it was at rest").cause.kind(), ErrorKind::Removed);
    });
}

/// One segment alone, not the whole directory.
#[test]
fn a_segment_that_is_removed_is_noticed() {
    for ground in Ground::both("segment") {
        let engine = ground.open("db").unwrap();
        put(&engine, "before").unwrap();
        let names = ground.names("db").unwrap();
        let first = names.iter().find(|name| name.ends_with(".log")).unwrap();
        ground.remove(&format!("db/{first}"));
        let error = engine.close().unwrap_err();
        assert!(tells_of_removal(&engine, &error), "{error:?}");
        assert!(error.to_string().contains(first.as_str()), "{error}");
    }
}

/// LOCK was deleted by hand while a database was open, and a second process opened it beside the first (A5).
#[test]
fn a_deleted_lock_file_lets_no_second_writer_in() {
    for ground in Ground::both("lock-deleted") {
        let engine = ground.open("db").unwrap();
        put(&engine, "a").unwrap();
        ground.remove("db/LOCK");
        assert_eq!(ground.open("db").unwrap_err().kind(), ErrorKind::Locked);
        assert!(!ground.names("db").unwrap().contains(&"LOCK".to_owned()), "a refusal leaves no trace");
        let error = engine.close().unwrap_err();
        assert!(tells_of_removal(&engine, &error), "{error:?}");
        assert!(error.to_string().contains("LOCK was removed or replaced"), "{error}");
        let again = ground.open("db").unwrap();
        assert_eq!(keys(&again), ["a"]);
        assert_eq!(again.recovery().lock, LockHeld::Both);
        again.close().unwrap();
    }
}

/// Where directories cannot be locked, a second writer does come in; the first one notices before it replaces HISTORY.
#[test]
fn without_the_lock_on_the_directory_the_first_writer_notices() {
    for ground in Ground::both("lock-file-alone") {
        let disk = || without_directory_locks(ground.disk());
        let open = || ground.options().open_on(disk(), ground.path("db"));
        let first = open().unwrap();
        assert!(matches!(first.recovery().lock, LockHeld::FileAlone { .. }));
        put(&first, "a").unwrap();
        wait_for_segments(&ground);
        assert_eq!(open().unwrap_err().kind(), ErrorKind::Locked);
        ground.remove("db/LOCK");
        let second = open().unwrap();
        put(&second, "b").unwrap();
        let history = ground.read("db/HISTORY");
        let error = first.close().unwrap_err();
        assert!(tells_of_removal(&first, &error), "{error:?}");
        assert_eq!(ground.read("db/HISTORY"), history, "it wrote nothing over the other one's");
        put(&second, "c").unwrap();
        second.close().unwrap();
        assert_eq!(keys(&ground.open("db").unwrap()), ["a", "b", "c"]);
    }
}

/// The disk in memory knows directories by themselves as well.
#[test]
fn a_disk_in_memory_can_be_pulled_away_like_any_other() {
    let disk = std::sync::Arc::new(MemoryDisk::new());
    let open = |name: &str| Options::new().segment_bytes(4096).open_on(std::sync::Arc::clone(&disk) as _, name);
    let first = open("db").unwrap();
    put(&first, "before").unwrap();
    disk.rename_dir("db", "old").unwrap();
    let second = open("db").unwrap();
    put(&second, "other").unwrap();
    put(&first, "after").unwrap();
    first.close().unwrap();
    assert_eq!(keys(&open("old").unwrap()), ["after", "before"]);
    disk.remove_tree("db").unwrap();
    let (_, error) = commit_until_it_stops(&second);
    assert!(matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Indeterminate), "{error:?}");
    assert_eq!(second.poisoned().expect("it stopped").cause.kind(), ErrorKind::Removed);
    assert_eq!(keys(&open("db").unwrap()), [""; 0]);
}
