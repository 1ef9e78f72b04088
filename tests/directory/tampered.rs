//! What becomes of an open database when single files of it are cut, moved, exchanged or put in the way.

use std::time::Duration;

use forelog::sim::{self, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use forelog::{Engine, ErrorKind, Options};

use super::ground::{Ground, keys, put};
use super::moved::{commit_until_it_stops, tells_of_removal, wait_for_segments};

/// The segments at the begin: the one that is written to, the one behind it, and the one that is prepared next.
const ACTIVE: &str = "db/0000000000000000.log";
const PREPARED: &str = "db/0000000000001000.log";
const NEXT: &str = "db/0000000000002000.log";

/// What someone does to the files of an open database.
type Tampering = fn(&Ground);

/// Files that an open engine writes to, or will, are not where it believes them to be, or not as it left them. Each of
/// them has a name still, or the directory has: all that was looked at was whether a name was left. `truncate` and the
/// exchange of two names: 30 commits acknowledged, close `Ok`, and then a database that is refused as damaged. `mv`:
/// never noticed, and the close spoke of something that cannot be cut. `cp -al db snap; rm -r db`: noticed at the close
/// alone.
const TAMPERINGS: [(&str, Tampering); 9] = [
    ("cut to nothing", |ground| ground.truncate(ACTIVE, 0)),
    ("cut by a half", |ground| ground.truncate(ACTIVE, 2048)),
    ("prepared one cut", |ground| ground.truncate(PREPARED, 512)),
    ("names exchanged", |ground| {
        ground.rename(ACTIVE, "db/aside");
        ground.rename(PREPARED, ACTIVE);
        ground.rename("db/aside", PREPARED);
    }),
    ("renamed", |ground| ground.rename(ACTIVE, "db/0000000000000000.log.bak")),
    ("prepared one renamed", |ground| ground.rename(PREPARED, "db/0000000000001000.log.bak")),
    ("moved elsewhere", |ground| {
        ground.make_dir("other");
        ground.rename(ACTIVE, "other/0000000000000000.log");
        ground.rename(PREPARED, "other/0000000000001000.log");
    }),
    ("replaced by a copy", |ground| {
        let bytes = ground.read(ACTIVE);
        ground.write("db/copy", &bytes);
        ground.rename("db/copy", ACTIVE);
    }),
    ("removed, with hard links elsewhere", |ground| {
        ground.make_dir("snap");
        ground.link_file(ACTIVE, "snap/0000000000000000.log");
        ground.link_file(PREPARED, "snap/0000000000001000.log");
        ground.remove_tree("db");
    }),
];

/// Calls `check` with an engine whose files were tampered with, on both disks, in each way.
fn each_tampering(name: &str, check: impl Fn(&Ground, &Engine, &str)) {
    for (number, (what, tamper)) in TAMPERINGS.iter().enumerate() {
        for ground in Ground::both(&format!("{name}-{number}")) {
            let engine = ground.open("db").unwrap();
            put(&engine, "before").unwrap();
            wait_for_segments(&ground);
            tamper(&ground);
            check(&ground, &engine, what);
        }
    }
}

#[test]
fn files_that_are_tampered_with_stop_the_log_at_the_next_segment() {
    each_tampering("roll", |_, engine, what| {
        // Written to its very end, a segment that was cut has its length again.
        if what.starts_with("cut ") {
            return;
        }
        let (acknowledged, error) = commit_until_it_stops(engine);
        assert!(acknowledged < 80, "{what}: {acknowledged} commits of 100 bytes into two segments of 4096");
        assert!(matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Indeterminate), "{what}: {error:?}");
        let poison = engine.poisoned().expect("it stopped");
        assert_eq!(poison.cause.kind(), ErrorKind::Removed, "{what}: {}", poison.cause);
        assert!(poison.cause.to_string().contains(".log"), "{what}: {}", poison.cause);
        assert_eq!(engine.close().unwrap_err().kind(), ErrorKind::Poisoned, "{what}");
    });
}

/// Without a new segment, and without a moment of rest: once a second someone looks.
#[test]
fn files_that_are_tampered_with_stop_the_log_within_two_seconds() {
    for (what, tamper) in TAMPERINGS {
        let poisoned = sim::run(1, || {
            let ground = Ground::Sim(SimDisk::new());
            let engine = ground.open("db").unwrap();
            put(&engine, "before").unwrap();
            sim::sleep(Duration::from_millis(100));
            tamper(&ground);
            let acknowledged = (0..25).take_while(|number| {
                sim::sleep(Duration::from_millis(100));
                put(&engine, &format!("{number:02}")).is_ok()
            });
            (acknowledged.count(), engine.poisoned().map(|poison| poison.cause.kind()))
        });
        assert!(poisoned.0 < 21 && poisoned.1 == Some(ErrorKind::Removed), "{what}: {poisoned:?}");
    }
}

#[test]
fn files_that_are_tampered_with_are_told_by_the_close() {
    each_tampering("close", |ground, engine, what| {
        let history = ground.names("db").map(|_| ground.read("db/HISTORY"));
        let error = engine.close().unwrap_err();
        assert!(tells_of_removal(engine, &error), "{what}: {error:?}");
        assert_eq!(
            ground.names("db").map(|_| ground.read("db/HISTORY")),
            history,
            "{what}: nothing is written any more"
        );
    });
}

#[test]
fn files_that_are_tampered_with_stop_the_log_at_the_mark() {
    for (what, tamper) in TAMPERINGS {
        let lock: Tampering = |ground| {
            ground.write("db/copy", b"");
            ground.rename("db/copy", "db/LOCK");
        };
        for (what, tamper) in [(what, tamper), ("LOCK replaced", lock)] {
            let poisoned = sim::run(1, || {
                let disk = SimDisk::new();
                let ground = Ground::Sim(disk.clone());
                let engine = Options::new().segment_bytes(4096).open_on(ground.disk(), "db").unwrap();
                put(&engine, "before").unwrap();
                // Both segments are there by then.
                sim::sleep(Duration::from_millis(100));
                tamper(&ground);
                put(&engine, "after").unwrap();
                assert!(engine.poisoned().is_none(), "a commit does not look");
                sim::sleep(Duration::from_secs(3));
                engine.poisoned().map(|poison| poison.cause.kind())
            });
            assert_eq!(poisoned, Some(ErrorKind::Removed), "{what}");
        }
    }
}

/// HISTORY has all that was ever decided, and the next open refuses a log without it. That it was removed, or cut, under
/// an open database was not noticed: days of commits, a kill, and the open said that HISTORY is damaged.
#[test]
fn a_history_that_is_tampered_with_is_written_again() {
    const HISTORY: &str = "db/HISTORY";
    let tamperings: [(&str, Tampering); 4] = [
        ("removed", |ground| ground.remove(HISTORY)),
        ("cut", |ground| ground.truncate(HISTORY, 0)),
        ("renamed", |ground| ground.rename(HISTORY, "db/HISTORY.bak")),
        ("replaced", |ground| {
            ground.write("db/other", b"a shopping list");
            ground.rename("db/other", HISTORY);
        }),
    ];
    for (what, tamper) in tamperings {
        for rests in [true, false] {
            let crash = sim::run(1, || {
                let disk = SimDisk::new();
                let ground = Ground::Sim(disk.clone());
                let engine = ground.open("db").unwrap();
                put(&engine, "before").unwrap();
                sim::sleep(Duration::from_millis(100));
                tamper(&ground);
                for number in 0..25 {
                    put(&engine, &format!("{number:02}")).unwrap();
                    sim::sleep(Duration::from_millis(if rests { 3000 } else { 100 }));
                }
                assert!(engine.poisoned().is_none(), "{what}");
                disk.crash_point()
            });
            let ground = Ground::Sim(crash.power_loss(&Loss::Everything, Granularity::Sector));
            assert_eq!(keys(&ground.open("db").unwrap()).len(), 26, "{what}, rests: {rests}");
        }
    }
}

/// Where HISTORY cannot be put back either, the log stops: what it would acknowledge, no open would find.
#[test]
fn a_history_that_cannot_be_written_again_stops_the_log() {
    let cause = sim::run(1, || {
        let ground = Ground::Sim(SimDisk::new());
        let engine = ground.open("db").unwrap();
        put(&engine, "before").unwrap();
        sim::sleep(Duration::from_millis(100));
        ground.rename("db/HISTORY", "db/HISTORY.bak");
        ground.make_dir("db/HISTORY");
        put(&engine, "after").unwrap();
        for number in 0..10 {
            sim::sleep(Duration::from_secs(1));
            let _ = put(&engine, &number.to_string());
        }
        engine.poisoned().map(|poison| (poison.cause.kind(), poison.cause.to_string()))
    });
    let (kind, text) = cause.expect("it stopped");
    assert!(kind == ErrorKind::Removed && text.contains("HISTORY"), "{kind:?}: {text}");
}

/// For a moment there was no room to put it back. That stopped the log for good, and its close wrote no HISTORY.
#[test]
fn a_history_that_cannot_be_written_again_at_once_is_written_later() {
    for (kind, code) in [(OpKind::Create, 28), (OpKind::Create, 24), (OpKind::Write, 28), (OpKind::SyncDir, 4)] {
        for closes in [true, false] {
            let disk = SimDisk::new();
            let crash = sim::run(1, || {
                let ground = Ground::Sim(disk.clone());
                let engine = ground.open("db").unwrap();
                put(&engine, "before").unwrap();
                sim::sleep(Duration::from_millis(100));
                ground.remove("db/HISTORY");
                let at = OpSelector::of(kind);
                let at = if kind == OpKind::SyncDir { at } else { at.on("HISTORY.tmp") };
                disk.inject(Fault::once(at, FaultKind::Errno(code)));
                let last = if closes { 10 } else { 30 };
                for number in 0..last {
                    put(&engine, &format!("{number:02}")).unwrap_or_else(|error| panic!("{kind:?} {code}: {error}"));
                    sim::sleep(Duration::from_millis(100));
                }
                assert!(disk.fault_hits() == 1 && engine.poisoned().is_none(), "{kind:?} {code}");
                if closes {
                    engine.close().unwrap_or_else(|error| panic!("{kind:?} {code}: {error}"));
                }
                disk.crash_point()
            });
            let ground = Ground::Sim(crash.power_loss(&Loss::Everything, Granularity::Sector));
            assert_eq!(keys(&ground.open("db").unwrap()).len(), if closes { 11 } else { 31 }, "{kind:?} {code}");
        }
    }
}

/// Someone restores an older copy over the open database, HISTORY first. The log put its own back, in a look, at its close,
/// or with its first commit, and what was restored was neither the one nor the other.
#[test]
fn a_history_of_a_copy_that_is_restored_stays() {
    type Act = fn(&Engine);
    let acts: [(&str, Act); 2] = [
        ("a look", |engine| {
            put(engine, "after").unwrap();
            sim::sleep(Duration::from_secs(3));
            assert_eq!(engine.poisoned().map(|poison| poison.cause.kind()), Some(ErrorKind::Removed));
        }),
        ("a close", |_| ()),
    ];
    for (what, act) in acts {
        for begun in [true, false] {
            let (left, copy) = sim::run(1, || {
                let ground = Ground::Sim(SimDisk::new());
                let engine = ground.open("db").unwrap();
                put(&engine, "earlier").unwrap();
                engine.close().unwrap();
                let copy = ground.read("db/HISTORY");
                let engine = ground.open("db").unwrap();
                put(&engine, "later").unwrap();
                engine.close().unwrap();
                let engine = ground.open("db").unwrap();
                if begun {
                    put(&engine, "before").unwrap();
                    sim::sleep(Duration::from_millis(100));
                }
                ground.write("db/HISTORY", &copy);
                if begun {
                    act(&engine);
                    let error = engine.close().unwrap_err();
                    assert!(matches!(error.kind(), ErrorKind::Removed | ErrorKind::Poisoned), "{what}: {error:?}");
                } else {
                    let error = put(&engine, "first").unwrap_err();
                    assert!(error.to_string().contains("HISTORY"), "{error}");
                    let _ = engine.close();
                }
                (ground.read("db/HISTORY"), copy)
            });
            assert_eq!(left, copy, "{what}, begun: {begun}");
        }
    }
}

/// Two attempts to put it back had no room, and then no commit came for hours. No one looked again.
#[test]
fn a_history_is_written_again_though_no_commit_comes() {
    let crash = sim::run(1, || {
        let disk = SimDisk::new();
        let ground = Ground::Sim(disk.clone());
        let engine = ground.open("db").unwrap();
        put(&engine, "before").unwrap();
        sim::sleep(Duration::from_secs(5));
        ground.remove("db/HISTORY");
        for _ in 0..2 {
            disk.inject(Fault::once(OpSelector::of(OpKind::Create).on("HISTORY.tmp"), FaultKind::Errno(28)));
        }
        put(&engine, "last").unwrap();
        sim::sleep(Duration::from_secs(10));
        assert!(disk.fault_hits() == 2 && engine.poisoned().is_none());
        disk.crash_point()
    });
    let ground = Ground::Sim(crash.power_loss(&Loss::Everything, Granularity::Sector));
    assert_eq!(keys(&ground.open("db").unwrap()), ["before", "last"]);
}

/// A mark that could not be written was the end of all looking at the files, for the life of the open.
#[test]
fn files_are_looked_at_although_no_mark_can_be_written() {
    for fault in [FaultKind::Errno(28), FaultKind::Errno(13)] {
        for kind in [OpKind::Write, OpKind::Create] {
            for (what, tamper) in TAMPERINGS {
                let poisoned = sim::run(1, || {
                    let disk = SimDisk::new();
                    let ground = Ground::Sim(disk.clone());
                    disk.inject(Fault::once(OpSelector::of(kind).on("MARK"), fault.clone()));
                    let engine = ground.open("db").unwrap();
                    put(&engine, "before").unwrap();
                    sim::sleep(Duration::from_secs(3));
                    assert_eq!(engine.stats().mark_failures, 1);
                    put(&engine, "rested").unwrap();
                    sim::sleep(Duration::from_millis(100));
                    tamper(&ground);
                    put(&engine, "after").unwrap();
                    sim::sleep(Duration::from_secs(3));
                    engine.poisoned().map(|poison| poison.cause.kind())
                });
                assert_eq!(poisoned, Some(ErrorKind::Removed), "{what}, {kind:?}");
            }
        }
    }
}

/// A file of the name that the next segment was to have: it was replaced, silently, by 60 commits.
#[test]
fn a_foreign_file_is_not_replaced_by_a_segment() {
    for ground in Ground::both("in-the-way") {
        let engine = ground.open("db").unwrap();
        put(&engine, "before").unwrap();
        wait_for_segments(&ground);
        ground.write(NEXT, b"a letter to Santa");
        let (acknowledged, error) = commit_until_it_stops(&engine);
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, true), "{error}");
        assert!(error.to_string().contains("0000000000002000.log"), "{error}");
        assert!(engine.poisoned().is_none());
        assert_eq!(ground.read(NEXT), b"a letter to Santa");
        // The one who put it there takes it away.
        ground.rename(NEXT, "letter");
        put(&engine, "after").unwrap();
        engine.close().unwrap();
        assert_eq!(ground.read("letter"), b"a letter to Santa");
        assert_eq!(keys(&ground.open("db").unwrap()).len(), acknowledged + 2);
    }
}

#[test]
fn a_directory_or_a_link_in_the_way_of_a_segment_stays_too() {
    for ground in Ground::both("dir-in-the-way") {
        let is_os = matches!(ground, Ground::Os(_));
        for way in ["directory", "link"] {
            if way == "link" && !(cfg!(unix) && is_os) {
                continue;
            }
            let engine = ground.open(way).unwrap();
            put(&engine, "before").unwrap();
            let next = format!("{way}/0000000000002000.log");
            while ground.names(way).unwrap().iter().filter(|name| name.ends_with(".log")).count() < 2 {
                std::thread::yield_now();
            }
            match way {
                "directory" => ground.make_dir(&next),
                #[cfg(unix)]
                _ => ground.link(&next, "nowhere"),
                #[cfg(not(unix))]
                _ => unreachable!(),
            }
            let (_, error) = commit_until_it_stops(&engine);
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, true), "{way}: {error}");
            assert!(engine.poisoned().is_none(), "{way}: {:?}", engine.poisoned());
            assert_eq!(ground.names("nowhere"), None);
            if is_os {
                let kind = std::fs::symlink_metadata(ground.path(&next)).unwrap().file_type();
                assert_eq!((kind.is_dir(), kind.is_symlink()), (way == "directory", way == "link"));
            }
            engine.close().unwrap();
        }
    }
}

/// A program that clears away what ends in `.tmp` took the files from under a rename: the log was poisoned for good,
/// though nothing had failed.
#[test]
fn a_program_that_removes_temporary_files_stops_no_log() {
    use forelog::unstable::disk::DirCall;
    for ground in Ground::both("cleaner") {
        let (disk, root) = (ground.disk(), ground.path("db"));
        let mut cleaned = 0;
        let cleaner = super::ground::watched(ground.disk(), move |call| {
            if let DirCall::Rename(from, _) = call {
                cleaned += 1;
                if cleaned % 2 == 1 {
                    disk.open_dir(&root)?.remove(from)?;
                }
            }
            Ok(())
        });
        let open = || ground.options().open_on(std::sync::Arc::clone(&cleaner), ground.path("db"));
        let engine = open().or_else(|_| open()).unwrap();
        let (mut acknowledged, mut refused) = (0, 0);
        while acknowledged < 200 {
            match put(&engine, &format!("{acknowledged:04}")) {
                Ok(()) => acknowledged += 1,
                Err(error) => {
                    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, true), "{error}");
                    refused += 1;
                    assert!(refused < 200, "{error}");
                }
            }
        }
        assert!(engine.poisoned().is_none() && refused > 0);
        drop(engine);
        assert_eq!(keys(&ground.open("db").unwrap()).len(), 200);
    }
}
