//! Two that want the same directory, at least one of them for a copy: one of them as a whole between any two calls of
//! the other one. The steps of a copy are those of `src/disk/LOCK.md`.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use forelog::sim::SimDisk;
use forelog::unstable::disk::{Access, DirCall, Disk};
use forelog::{Engine, Error, ErrorKind, Options};

use super::ground::{Ground, around, keys, put, verify, watched, without_directory_locks};

const TO: &str = "above/db";
const SOURCE: &str = "source";
const DAMAGED: &str = "damaged";

/// What is in the directory before.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Before {
    Nothing,
    Empty,
    /// A creation or a copy ended when it had made LOCK.
    LockAlone,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Act {
    /// Opens, commits, and closes if it is the other one and should.
    Open,
    Save,
    Salvage,
}

#[derive(Debug)]
enum Outcome {
    Opened(Engine),
    Copied,
    Refused(Error),
}

struct Meeting {
    before: Before,
    directory_locks: bool,
    closes: bool,
    first: Act,
    other: Act,
}

impl Meeting {
    fn disk(&self, disk: &SimDisk) -> Arc<dyn Disk> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        if self.directory_locks { disk } else { without_directory_locks(disk) }
    }
}

fn open(disk: Arc<dyn Disk>) -> forelog::Result<Engine> {
    Options::new().segment_bytes(4096).open_on(disk, TO)
}

/// A disk with the directory as it is before, what is saved and what is salvaged.
fn prepared(before: Before) -> (SimDisk, Engine) {
    let disk = SimDisk::new();
    let at = |path: &str| Options::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), path).unwrap();
    for name in [SOURCE, DAMAGED] {
        let engine = at(name);
        put(&engine, "copied").unwrap();
        engine.close().unwrap();
    }
    if before != Before::Nothing {
        disk.make_dir(TO).unwrap();
    }
    if before == Before::LockAlone {
        disk.write_file("above/db/LOCK", b"").unwrap();
    }
    let source = at(SOURCE);
    (disk, source)
}

fn act(act: Act, disk: Arc<dyn Disk>, source: &Engine) -> Outcome {
    let done = match act {
        Act::Open => open(disk).map(Some),
        Act::Save => source.save_to_on(disk, TO).map(|_| None),
        Act::Salvage => Engine::salvage_on(disk, DAMAGED, TO).map(|_| None),
    };
    match done {
        Ok(Some(engine)) => Outcome::Opened(engine),
        Ok(None) => Outcome::Copied,
        Err(error) => Outcome::Refused(error),
    }
}

/// Whoever has the directory first, the other one is told so.
fn check_refusal(error: &Error, what: &str) {
    assert!(matches!(error.kind(), ErrorKind::Locked | ErrorKind::InvalidInput), "{what}: {error:?}");
    assert!(!error.to_string().contains("delete the directory"), "{what}: {error}");
}

/// `first` acts while `other` does all of its work at the `at`-th place, of two for each call. `None` if there is none.
fn round(meeting: &Meeting, at: usize) -> Option<()> {
    let Meeting { before, directory_locks, closes, first, other } = *meeting;
    let what = format!("{first:?}, {other:?} at {at}, {before:?}, {directory_locks} {closes}");
    let (disk, source) = prepared(before);
    let outcome: Arc<Mutex<Option<Outcome>>> = Arc::default();
    let places = Arc::new(AtomicUsize::new(0));
    let (beside, number, slot, engine) =
        (meeting.disk(&disk), Arc::clone(&places), Arc::clone(&outcome), source.clone());
    let mine = act(
        first,
        around(meeting.disk(&disk), move || {
            if number.fetch_add(1, Ordering::Relaxed) == at {
                let came = act(other, Arc::clone(&beside), &engine);
                if let Outcome::Opened(engine) = &came {
                    put(engine, "other").unwrap();
                    if closes {
                        engine.close().unwrap();
                    }
                }
                *slot.lock().unwrap() = Some(came);
            }
        }),
        &source,
    );
    if places.load(Ordering::Relaxed) <= at {
        return None;
    }
    let theirs = outcome.lock().unwrap().take().expect("it acted");
    let mut expected = Vec::new();
    let mut had_it = 0;
    for (outcome, key) in [(&theirs, "other"), (&mine, "mine")] {
        match outcome {
            Outcome::Opened(engine) => {
                if key == "mine" {
                    put(engine, key).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                    engine.close().unwrap_or_else(|error| panic!("{what}: {error:?}"));
                }
                expected.push(key);
                had_it += 1;
            }
            Outcome::Copied => {
                expected.push("copied");
                had_it += 1;
            }
            Outcome::Refused(error) => check_refusal(error, &what),
        }
    }
    assert!(had_it > 0, "{what}: no one has it: {mine:?} {theirs:?}");
    if had_it == 2 {
        // One after the other: a copy goes only where nothing is.
        assert!(first == Act::Open && (closes || other != Act::Open), "{what}: two have it: {mine:?} {theirs:?}");
    }
    if let Outcome::Opened(engine) = &theirs
        && !closes
    {
        engine.close().unwrap_or_else(|error| panic!("{what}: {error:?}"));
    }
    drop((mine, theirs));
    expected.sort_unstable();
    let engine = open(Arc::new(disk)).unwrap_or_else(|error| panic!("{what}: what was acknowledged is gone: {error}"));
    assert_eq!(keys(&engine), expected, "{what}");
    Some(())
}

fn everywhere(first: Act, other: Act) {
    for before in [Before::Nothing, Before::Empty, Before::LockAlone] {
        for (directory_locks, closes) in [(true, false), (true, true), (false, false), (false, true)] {
            if closes && other != Act::Open {
                continue;
            }
            let meeting = Meeting { before, directory_locks, closes, first, other };
            let places = (0..).take_while(|at| round(&meeting, *at).is_some()).count();
            assert!(places >= 14, "{first:?} {other:?} {before:?}: {places} places");
        }
    }
}

/// A `save_to` or a salvage that came too late was refused, but had put its UNFINISHED into the directory of another
/// program by then. That program committed `Sync` and closed, and all was `Ok`; the next open refused its database, and
/// advised to delete the directory.
#[test]
fn a_copy_that_comes_while_another_one_opens_leaves_nothing_in_its_database() {
    everywhere(Act::Open, Act::Save);
    everywhere(Act::Open, Act::Salvage);
}

#[test]
fn whoever_opens_while_a_copy_begins_there_is_one_winner() {
    everywhere(Act::Save, Act::Open);
    everywhere(Act::Salvage, Act::Open);
}

#[test]
fn of_two_copies_into_one_directory_one_is_made() {
    everywhere(Act::Save, Act::Salvage);
    everywhere(Act::Salvage, Act::Save);
}

/// Each call of a copy fails once: the next open finds nothing, and creates, or it says that this is an unfinished copy.
/// Once that is deleted, a copy can be made.
#[test]
fn whatever_call_of_a_copy_fails_the_directory_says_what_it_is() {
    for before in [Before::Nothing, Before::Empty, Before::LockAlone] {
        let mut unfinished = 0;
        for at in 0.. {
            let (disk, source) = prepared(before);
            let mut number = 0;
            let told = Arc::new(Mutex::new(None));
            let note = Arc::clone(&told);
            let failing = watched(Arc::new(disk.clone()), move |call| {
                number += 1;
                if number == at + 1 {
                    *note.lock().unwrap() = Some(format!("{call:?}"));
                    return Err(io::Error::from_raw_os_error(5));
                }
                Ok(())
            });
            let copied = source.save_to_on(failing, TO);
            let Some(call) = told.lock().unwrap().take() else { break };
            let what = format!("{before:?}: {call} fails: {copied:?}");
            match open(Arc::new(disk.clone())) {
                // Nothing was there yet, or only the last sync failed and all is.
                Ok(engine) => {
                    let keys = keys(&engine);
                    assert!(keys.is_empty() && copied.is_err() || keys == ["copied"], "{what}: {keys:?}");
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotADatabase, "{what}: {error}");
                    assert!(copied.is_err() && error.to_string().contains("delete the directory"), "{what}: {error}");
                    unfinished += 1;
                    disk.remove_tree(TO).unwrap();
                    source.save_to_on(Arc::new(disk.clone()), TO).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(keys(&open(Arc::new(disk)).unwrap()), ["copied"], "{what}");
                }
            }
        }
        assert!(unfinished > 10, "{before:?}: {unfinished}");
    }
}

/// A segment of the copy that the copy itself had left long ago was not looked at again: the copy was told to be whole.
#[test]
fn a_copy_that_misses_a_segment_is_not_called_whole() {
    for (number, cut) in [(0, false), (0, true), (1, false), (2, true)] {
        let (disk, source) = prepared(Before::Nothing);
        (0..200).for_each(|key| put(&source, &format!("{key:0200}")).unwrap());
        let (inner, mut saved) = (disk.clone(), 0);
        let tampered = watched(Arc::new(disk.clone()), move |call| {
            if let DirCall::Rename(_, to) = call
                && to == "HISTORY.unfinished"
            {
                saved += 1;
                // For its creation, the begin of its incarnation, and the end of that.
                if saved == 3 {
                    let path = format!("{TO}/{:016x}.log", number * 4096);
                    if cut { inner.truncate(path, 600)? } else { inner.delete(path)? }
                }
            }
            Ok(())
        });
        let error = source.save_to_on(tampered, TO).unwrap_err();
        assert!(error.kind() == ErrorKind::Removed && error.to_string().contains(".log"), "{number} {cut}: {error:?}");
        let error = open(Arc::new(disk)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotADatabase, "{error}");
    }
}

/// Its HISTORY, which was cut when all else was done, got its name all the same.
#[test]
fn a_copy_whose_history_is_cut_is_not_called_whole() {
    let (disk, source) = prepared(Before::Nothing);
    let inner = disk.clone();
    let tampered = watched(Arc::new(disk.clone()), move |call| match call {
        DirCall::Remove(name) if name == "UNFINISHED" => inner.truncate(format!("{TO}/HISTORY.unfinished"), 60),
        _ => Ok(()),
    });
    let error = source.save_to_on(tampered, TO).unwrap_err();
    assert!(error.kind() == ErrorKind::Removed && error.to_string().contains("HISTORY"), "{error:?}");
    assert_eq!(open(Arc::new(disk)).unwrap_err().kind(), ErrorKind::NotADatabase);
}

/// What the system said of the second look into the directory became "another program opened it: try again".
#[test]
fn a_copy_tells_why_it_cannot_look() {
    for code in [5, 24] {
        let (disk, source) = prepared(Before::Empty);
        let mut has_lock = false;
        let failing = watched(Arc::new(disk), move |call| {
            match call {
                DirCall::Open(name, Access::Create) => has_lock |= name == "LOCK",
                DirCall::List if has_lock => return Err(io::Error::from_raw_os_error(code)),
                _ => {}
            }
            Ok(())
        });
        let error = source.save_to_on(failing, TO).unwrap_err();
        assert_eq!(error.io_error().and_then(io::Error::raw_os_error), Some(code), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
}

/// An open refused a whole database beside which a copy of an older version had left its mark, and advised to delete it.
#[test]
fn no_advice_deletes_what_may_be_a_database() {
    for ground in Ground::both("advice") {
        let engine = ground.open("db").unwrap();
        put(&engine, "a").unwrap();
        let refusals = || {
            [
                ground.open("db").unwrap_err(),
                verify(ground.disk(), ground.path("db")).unwrap_err(),
                Engine::salvage_on(ground.disk(), ground.path("other"), ground.path("db")).unwrap_err(),
            ]
        };
        let other = ground.open("other").unwrap();
        other.close().unwrap();
        for mark in ["UNFINISHED", "HISTORY.unfinished"] {
            ground.write(&format!("db/{mark}"), b"");
            // It is in use.
            refusals().iter().for_each(|error| assert!(error.kind() == ErrorKind::Locked, "{error}"));
            ground.remove(&format!("db/{mark}"));
        }
        engine.close().unwrap();
        for mark in ["UNFINISHED", "HISTORY.unfinished"] {
            ground.write(&format!("db/{mark}"), b"");
            for error in refusals() {
                let text = error.to_string();
                assert!(
                    !text.contains("delete") && text.contains("keep the directory") && text.contains(mark),
                    "{text}"
                );
            }
            // As it says.
            ground.remove(&format!("db/{mark}"));
            assert_eq!(keys(&ground.open("db").unwrap()), ["a"]);
        }
        // Its HISTORY is lost.
        let history = ground.read("db/HISTORY");
        ground.remove("db/HISTORY");
        ground.write("db/UNFINISHED", b"");
        for error in refusals() {
            let text = error.to_string();
            assert!(!text.contains("delete") && text.contains("forelog salvage"), "{text}");
        }
        ground.remove("db/UNFINISHED");
        ground.write("db/HISTORY", &history);
        assert_eq!(keys(&ground.open("db").unwrap()), ["a"]);
        // A copy, and a file that someone keeps in it.
        ground.write("copy/UNFINISHED", b"");
        ground.write("copy/notes.txt", b"mine");
        let text = ground.open("copy").unwrap_err().to_string();
        assert!(text.contains("unfinished copy") && text.contains("keep what is not of it, as notes.txt"), "{text}");
    }
}

/// `mv S S2` under an open engine, then `save_to("S2/in")`: its engine would have found foreign files there. The same by
/// the absolute path, after the program that opened it by a relative one had gone elsewhere.
#[test]
fn nothing_is_saved_into_the_directory_of_its_engine_wherever_that_is_now() {
    for ground in Ground::both("inside") {
        ground.write("above/keep", b"");
        let engine = ground.open("above/db").unwrap();
        put(&engine, "a").unwrap();
        ground.rename_dir("above/db", "above/moved");
        ground.rename_dir("above", "beyond");
        for target in ["beyond/moved/in", "beyond/moved/a/b/in"] {
            let error = engine.save_to_on(ground.disk(), ground.path(target)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains("inside"), "{error}");
        }
        assert!(!ground.names("beyond/moved").unwrap().contains(&"in".to_owned()));
        // Where it was is free.
        engine.save_to_on(ground.disk(), ground.path("above/db/in")).unwrap();
        assert_eq!(keys(&ground.open("above/db/in").unwrap()), ["a"]);
    }
    // Paths of one disk tell nothing of another one.
    let engine = Engine::in_memory().unwrap();
    put(&engine, "a").unwrap();
    let disk = Arc::new(SimDisk::new());
    engine.save_to_on(disk.clone(), "memory/copy").unwrap();
    assert_eq!(keys(&Options::new().open_on(disk, "memory/copy").unwrap()), ["a"]);
}

/// A part of the damaged database that is mounted elsewhere, too.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_saved_into_what_is_mounted_from_the_directory() {
    let [_, ground] = Ground::both("mounted");
    let engine = ground.open("db").unwrap();
    put(&engine, "a").unwrap();
    ground.write("db/sub/deeper/keep", b"");
    ground.write("mount/keep", b"");
    let at = ground.path("mount");
    let command = |name: &str, arguments: &[&std::path::Path]| {
        std::process::Command::new(name).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    if !command("mount", &["--bind".as_ref(), &ground.path("db/sub/deeper"), &at]) {
        return eprintln!("skipped: nothing can be mounted here");
    }
    let saved = engine.save_to(at.join("x"));
    engine.close().unwrap();
    let salvaged = Engine::salvage(ground.path("db"), at.join("x"));
    assert!(command("umount", &[&at]));
    for error in [saved.unwrap_err(), salvaged.unwrap_err()] {
        assert!(error.to_string().contains("inside"), "{error}");
    }
    assert_eq!(ground.names("db/sub/deeper").unwrap(), ["keep"]);
}
