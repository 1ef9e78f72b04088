//! What `verify` says of an open, and of the first commit after it, against what they do. It said "opens: yes" of databases
//! that no open could settle, and of those that open and take no commit.

use std::io;

use forelog::ErrorKind;
use forelog::sim::{Fault, FaultKind, OpKind, OpSelector};
use forelog::unstable::disk::DirCall;

use super::ground::{Ground, keys, put, verify, watched};
use super::moved::wait_for_segments;

/// What stands in the way.
type Obstacle = fn(&Ground);

/// Checks each obstacle with a database that was closed and with one that was not. `undo` takes it away.
fn each(name: &str, what: &str, grounds: impl IntoIterator<Item = Ground>, obstacle: Obstacle, undo: Obstacle) {
    let mut outcomes = Vec::new();
    for ground in grounds {
        for closed in [true, false] {
            let db = if closed { "clean/db" } else { "crashed/db" };
            ground.make_dir(if closed { "clean" } else { "crashed" });
            let engine = ground.open("db").unwrap();
            put(&engine, "a").unwrap();
            // So that it is known which segment is the next one.
            wait_for_segments(&ground);
            if closed {
                engine.close().unwrap();
            }
            ground.make_dir(db);
            for file in ground.names("db").unwrap() {
                ground.write(&format!("{db}/{file}"), &ground.read(&format!("db/{file}")));
            }
            drop(engine);
            ground.remove_tree("db");
            ground.rename_dir(db, "db");

            obstacle(&ground);
            let before = ground.names("db");
            let found = verify(ground.disk(), ground.path("db")).unwrap();
            assert_eq!(ground.names("db"), before, "{name}: verify changed something");
            let opened = ground.open("db");
            let told = |error: &forelog::Error| (error.kind(), error.io_error().map(io::Error::kind));
            let (open, commit) = match &opened {
                Err(error) => (Some(told(error)), None),
                Ok(engine) => (None, put(engine, "b").err().as_ref().map(told)),
            };
            undo(&ground);
            let what = format!("{name}, {what}, closed: {closed}: {:?}, {:?}", found.obstacle, found.commit_obstacle);
            assert_eq!(found.obstacle.as_ref().map(told), open, "{what}");
            assert_eq!(found.commit_obstacle.as_ref().map(told), commit, "{what}");
            outcomes.push((open.is_some(), commit.is_some()));
            drop(opened);
            ground.remove_tree("db");
        }
    }
    println!("{name}: {outcomes:?}");
}

#[test]
fn a_directory_in_the_way() {
    for (number, obstacle) in [
        (|_| ()) as Obstacle,
        |ground| ground.make_dir("db/HISTORY.tmp"),
        |ground| ground.make_dir("db/0000000000002000.log.tmp"),
        |ground| {
            ground.remove("db/LOCK");
            ground.make_dir("db/LOCK");
        },
    ]
    .into_iter()
    .enumerate()
    {
        each("directories", &number.to_string(), Ground::both("obstacle-directory"), obstacle, |_| ());
    }
}

/// "Another program opened it at the same time: try again", for ever; and verify said that it opens.
#[cfg(unix)]
#[test]
fn a_lock_file_that_leads_nowhere() {
    let [_, os] = Ground::both("obstacle-link");
    let obstacle: Obstacle = |ground| {
        ground.remove("db/LOCK");
        ground.link("db/LOCK", "nowhere");
        let error = ground.open("db").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("leads nowhere"), "{error}");
    };
    each("LOCK", "dangling", [os], obstacle, |_| ());
}

/// Of the simulated disk: what the operating system forbids, for good.
#[test]
fn what_is_forbidden() {
    let undo: Obstacle = |ground| {
        let Ground::Sim(disk) = ground else { unreachable!("only there") };
        disk.clear_faults();
    };
    let obstacles: [(&str, Obstacle); 2] =
        [("create", |ground| forbid(ground, OpKind::Create)), ("rename", |ground| forbid(ground, OpKind::Rename))];
    for (what, obstacle) in obstacles {
        let [sim, _] = Ground::both("obstacle-forbidden");
        each("forbidden", what, [sim], obstacle, undo);
    }
}

fn forbid(ground: &Ground, kind: OpKind) {
    let Ground::Sim(disk) = ground else { unreachable!("only there") };
    disk.inject(Fault::lasting(OpSelector::of(kind), FaultKind::Error(io::ErrorKind::PermissionDenied)));
}

/// Runs a command with the path of a file in the ground; whether it succeeded.
#[cfg(target_os = "linux")]
fn run(ground: &Ground, command: &str, arguments: &[&str], name: &str) -> bool {
    let done = std::process::Command::new(command).args(arguments).arg(ground.path(name)).output();
    done.is_ok_and(|output| output.status.success())
}

/// Attributes, by which root itself is refused, where they can be had.
#[cfg(target_os = "linux")]
#[test]
fn attributes_that_forbid_a_change() {
    let chattr = |ground: &Ground, attribute: &str, name: &str| run(ground, "chattr", &[attribute], name);
    {
        let [_, os] = Ground::both("obstacle-probe");
        os.write("file", b"");
        let can = chattr(&os, "+i", "file") && std::fs::remove_file(os.path("file")).is_err();
        chattr(&os, "-i", "file");
        if !can {
            return eprintln!("skipped: attributes cannot be set here");
        }
    }
    let undo: Obstacle = |ground| {
        for name in ["db", "db/HISTORY", "db/HISTORY.tmp"] {
            run(ground, "chattr", &["-ia"], name);
        }
    };
    let obstacles: [(&str, Obstacle); 5] = [
        ("HISTORY unchangeable", |ground| assert!(run(ground, "chattr", &["+i"], "db/HISTORY"))),
        ("HISTORY append-only", |ground| assert!(run(ground, "chattr", &["+a"], "db/HISTORY"))),
        ("directory unchangeable", |ground| assert!(run(ground, "chattr", &["+i"], "db"))),
        ("directory append-only", |ground| assert!(run(ground, "chattr", &["+a"], "db"))),
        ("temporary file unchangeable", |ground| {
            ground.write("db/HISTORY.tmp", b"");
            assert!(run(ground, "chattr", &["+i"], "db/HISTORY.tmp"));
        }),
    ];
    for (name, obstacle) in obstacles {
        let [_, os] = Ground::both("obstacle-attributes");
        each("attributes", name, [os], obstacle, undo);
    }
}

/// A full file system, where one can be mounted.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let [_, os] = Ground::both("obstacle-full");
    let root = os.path(".");
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(&root).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: nothing can be mounted here");
    }
    let path = os.path(".");
    let fill: Obstacle = |ground| {
        use std::io::Write;
        let mut file = std::fs::File::create(ground.path("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    };
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        each("disk", "full", [Ground::Os(path)], fill, |ground| ground.remove("filler"));
    }));
    let _ = std::process::Command::new("umount").arg("-l").arg(&root).status();
    if let Err(panic) = checked {
        std::panic::resume_unwind(panic);
    }
}

/// In a directory that only others may read, each user has one of his own. The fsync of the name above was refused, which
/// an open goes on without; but the latch had seen an fsync fail, and nothing could be written any more.
#[test]
fn a_directory_above_that_may_not_be_read_is_no_obstacle() {
    for ground in Ground::both("may-not-read") {
        let disk = watched(ground.disk(), |call| match call {
            DirCall::SyncName => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        });
        ground.make_dir("mine");
        ground.make_dir("copy");
        let open = || ground.options().open_on(std::sync::Arc::clone(&disk), ground.path("mine"));
        for key in ["a", "b"] {
            let engine = open().unwrap_or_else(|error| panic!("{error}"));
            put(&engine, key).unwrap();
            engine.close().unwrap();
        }
        let engine = open().unwrap();
        assert_eq!(keys(&engine), ["a", "b"]);
        engine.save_to_on(std::sync::Arc::clone(&disk), ground.path("copy")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(keys(&ground.open("copy").unwrap()), ["a", "b"]);
    }
}
