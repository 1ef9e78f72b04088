//! Two that open the same directory: one of them as a whole between any two calls of the other one.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use forelog::sim::SimDisk;
use forelog::unstable::disk::{Access, Disk, LockMode};
use forelog::{Engine, ErrorKind, Options};

use super::ground::{around, keys, put, watched, without_directory_locks};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Before {
    Nothing,
    Empty,
    Killed,
    Closed,
    WithoutLock,
    /// With a layer, a record above it, and without LOCK.
    Layers,
}

const BEFORE: [Before; 6] =
    [Before::Nothing, Before::Empty, Before::Killed, Before::Closed, Before::WithoutLock, Before::Layers];

fn open(disk: Arc<dyn Disk>) -> forelog::Result<Engine> {
    Options::new().segment_bytes(4096).open_on(disk, "above/db")
}

fn prepared(before: Before) -> SimDisk {
    let disk = SimDisk::new();
    if before == Before::Nothing {
        return disk;
    }
    if before == Before::Empty {
        disk.make_dir("above/db").unwrap();
        return disk;
    }
    let engine = open(Arc::new(disk.clone())).unwrap();
    if before == Before::Layers {
        put(&engine, "older").unwrap();
        engine.checkpoint().unwrap();
    }
    put(&engine, "old").unwrap();
    if before == Before::Killed {
        return disk.crash_point().process_kill();
    }
    engine.close().unwrap();
    if matches!(before, Before::WithoutLock | Before::Layers) {
        disk.delete("above/db/LOCK").unwrap();
    }
    disk
}

/// With whom an opener meets, and where.
#[derive(Clone, Copy, Debug)]
struct Meeting {
    before: Before,
    /// Whether directories can be locked.
    directory_locks: bool,
    /// Whether the other one closes what it has opened.
    closes: bool,
    /// Whether it commits, or makes a checkpoint alone: of what is there, so HISTORY stays as it is.
    commits: bool,
}

impl Meeting {
    fn all() -> impl Iterator<Item = Meeting> {
        let others = |before| [true, false].into_iter().filter(move |commits| *commits || before == Before::Layers);
        let meetings = BEFORE.into_iter().flat_map(move |before| others(before).map(move |commits| (before, commits)));
        meetings.flat_map(|(before, commits)| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(directory_locks, closes)| Meeting {
                before,
                directory_locks,
                closes,
                commits,
            })
        })
    }

    fn disk(&self, disk: &SimDisk) -> Arc<dyn Disk> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        if self.directory_locks { disk } else { without_directory_locks(disk) }
    }
}

/// Opens while another one opens, commits or makes a checkpoint and, if it `closes`, closes at the `at`-th place, of two for each call: before
/// and after it. `None` if there is none.
fn round(meeting: Meeting, at: usize) -> Option<()> {
    let Meeting { before, closes, commits, .. } = meeting;
    let what = format!("{meeting:?}, at {at}");
    let disk = prepared(before);
    let other: Arc<Mutex<Option<Engine>>> = Arc::default();
    let places = Arc::new(AtomicUsize::new(0));
    let (beside, engine, number) = (meeting.disk(&disk), Arc::clone(&other), Arc::clone(&places));
    let opened = open(around(meeting.disk(&disk), move || {
        if number.fetch_add(1, Ordering::Relaxed) == at {
            match open(Arc::clone(&beside)) {
                Ok(second) => {
                    if commits {
                        put(&second, "other").unwrap();
                    } else {
                        second.checkpoint().unwrap();
                    }
                    if closes {
                        second.close().unwrap();
                    }
                    *engine.lock().unwrap() = Some(second);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Locked),
            }
        }
    }));
    if places.load(Ordering::Relaxed) <= at {
        return None;
    }
    let other = other.lock().unwrap().take();
    let mut expected: Vec<String> = match before {
        Before::Nothing | Before::Empty => vec![],
        Before::Layers => vec!["old".to_owned(), "older".to_owned()],
        _ => vec!["old".to_owned()],
    };
    let holder = match (&opened, &other) {
        (Ok(first), None) => first,
        (Ok(first), Some(_)) => {
            assert!(closes, "{what}: two have it");
            first
        }
        (Err(error), Some(second)) => {
            assert_eq!(error.kind(), ErrorKind::Locked, "{what}: {error:?}");
            second
        }
        (Err(error), None) => panic!("{what}: no one has it: {error:?}"),
    };
    if other.is_some() && commits {
        expected.insert(expected.len(), "other".to_owned());
    }
    if opened.is_ok() {
        put(holder, "mine").unwrap();
        expected.insert(0, "mine".to_owned());
    }
    expected.sort();
    assert!(disk.read_file("above/db/LOCK").is_ok(), "{what}: LOCK is gone");
    if opened.is_ok() || !closes {
        assert_eq!(open(meeting.disk(&disk)).unwrap_err().kind(), ErrorKind::Locked, "{what}: a third one");
        holder.close().unwrap();
    }
    drop((opened, other));
    assert_eq!(keys(&open(Arc::new(disk)).unwrap()), expected, "{what}");
    Some(())
}

/// The loser deleted the winner's LOCK, a third open succeeded beside the first, and commits were lost (A1).
#[test]
fn whenever_another_one_opens_there_is_one_winner_and_its_lock() {
    for meeting in Meeting::all() {
        let places = (0..).take_while(|at| round(meeting, *at).is_some()).count();
        assert!(places >= 16, "{meeting:?}: {places} places");
    }
}

/// Someone tidies up: LOCK is deleted while no one has it locked, also between an opener's open of it and its lock.
#[test]
fn a_lock_file_that_is_deleted_while_it_is_free_costs_no_one_anything() {
    for meeting in Meeting::all().filter(|meeting| meeting.before == Before::Closed) {
        for at in 0.. {
            let what = format!("{meeting:?}, at {at}");
            let disk = prepared(Before::Closed);
            let places = Arc::new(AtomicUsize::new(0));
            let (beside, number) = (disk.clone(), Arc::clone(&places));
            let opened = open(around(meeting.disk(&disk), move || {
                let name = "LOCK".as_ref();
                let dir = beside.open_dir("above/db".as_ref()).unwrap();
                let is_free =
                    || dir.open(name, Access::Read).is_ok_and(|lock| lock.lock(LockMode::Exclusive).unwrap().is_some());
                if number.fetch_add(1, Ordering::Relaxed) == at && is_free() {
                    dir.remove(name).unwrap();
                }
            }));
            if places.load(Ordering::Relaxed) <= at {
                break;
            }
            // Deleted after it was found: the opener makes another one, or is told to try again.
            let Ok(engine) = opened else {
                assert_eq!(opened.unwrap_err().kind(), ErrorKind::Locked, "{what}");
                continue;
            };
            assert!(disk.read_file("above/db/LOCK").is_ok(), "{what}: LOCK is gone");
            assert_eq!(open(meeting.disk(&disk)).unwrap_err().kind(), ErrorKind::Locked, "{what}: a second one");
            put(&engine, "mine").unwrap();
            engine.close().unwrap();
            assert_eq!(keys(&open(Arc::new(disk)).unwrap()), ["mine", "old"], "{what}");
        }
    }
}

/// Each call fails once: the error is typed, what was there is there, and the next open goes on. A creation takes back
/// the directories that it made, as long as they are empty, and nothing else.
#[test]
fn whatever_call_fails_the_next_open_goes_on() {
    for before in BEFORE {
        for at in 0.. {
            let disk = prepared(before);
            let mut number = 0;
            let told = Arc::new(Mutex::new(None));
            let note = Arc::clone(&told);
            let opened = open(watched(Arc::new(disk.clone()), move |call| {
                number += 1;
                if number == at + 1 {
                    *note.lock().unwrap() = Some(format!("{call:?}"));
                    return Err(io::Error::from_raw_os_error(5));
                }
                Ok(())
            }));
            let Some(call) = told.lock().unwrap().take() else { break };
            let what = format!("{before:?}: {call} fails");
            if let Ok(engine) = &opened {
                drop(engine.close());
            }
            drop(opened);
            let again = open(Arc::new(disk.clone())).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            put(&again, "new").unwrap_or_else(|error| panic!("{what}: {error:?}"));
            again.close().unwrap();
        }
    }
}
