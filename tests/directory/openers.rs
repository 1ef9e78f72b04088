//! Two that open the same directory: one of them as a whole between any two calls of the other one.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use forelog::disk::{DirCall, Disk};
use forelog::sim::SimDisk;
use forelog::{Engine, ErrorKind, Options};

use super::ground::{keys, put, watched};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Before {
    Nothing,
    Empty,
    Killed,
    Closed,
    WithoutLock,
}

const BEFORE: [Before; 5] = [Before::Nothing, Before::Empty, Before::Killed, Before::Closed, Before::WithoutLock];

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
    put(&engine, "old").unwrap();
    if before == Before::Killed {
        return disk.crash_point().process_kill();
    }
    engine.close().unwrap();
    if before == Before::WithoutLock {
        disk.delete("above/db/LOCK").unwrap();
    }
    disk
}

/// Opens while another one opens, commits and, if it `closes`, closes before the `at`-th call. `None` if there is none.
fn round(before: Before, at: usize, closes: bool) -> Option<()> {
    let what = format!("{before:?}, before call {at}, the other one closes: {closes}");
    let disk = prepared(before);
    let other: Arc<Mutex<Option<Engine>>> = Arc::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let (beside, engine, number) = (disk.clone(), Arc::clone(&other), Arc::clone(&calls));
    let mut came = false;
    let opened = open(watched(Arc::new(disk.clone()), move |_| {
        if number.fetch_add(1, Ordering::Relaxed) == at {
            match open(Arc::new(beside.clone())) {
                Ok(second) => {
                    put(&second, "other").unwrap();
                    if closes {
                        second.close().unwrap();
                    }
                    *engine.lock().unwrap() = Some(second);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Locked),
            }
        }
        Ok(())
    }));
    came |= calls.load(Ordering::Relaxed) > at;
    if !came {
        return None;
    }
    let other = other.lock().unwrap().take();
    let mut expected = if matches!(before, Before::Nothing | Before::Empty) { vec![] } else { vec!["old".to_owned()] };
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
    if other.is_some() {
        expected.insert(expected.len(), "other".to_owned());
    }
    if opened.is_ok() {
        put(holder, "mine").unwrap();
        expected.insert(0, "mine".to_owned());
    }
    expected.sort();
    assert!(disk.read_file("above/db/LOCK").is_ok(), "{what}: LOCK is gone");
    if opened.is_ok() || !closes {
        assert_eq!(open(Arc::new(disk.clone())).unwrap_err().kind(), ErrorKind::Locked, "{what}: a third one");
        holder.close().unwrap();
    }
    drop((opened, other));
    assert_eq!(keys(&open(Arc::new(disk)).unwrap()), expected, "{what}");
    Some(())
}

/// The loser deleted the winner's LOCK, a third open succeeded beside the first, and commits were lost (A1).
#[test]
fn whenever_another_one_opens_there_is_one_winner_and_its_lock() {
    for before in BEFORE {
        for closes in [false, true] {
            let calls = (0..).take_while(|at| round(before, *at, closes).is_some()).count();
            assert!(calls >= 8, "{before:?}: {calls} calls");
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
            let mut hit = None;
            let told = Arc::new(Mutex::new(None));
            let note = Arc::clone(&told);
            let opened = open(watched(Arc::new(disk.clone()), move |call| {
                number += 1;
                if number == at + 1 {
                    *note.lock().unwrap() = Some(format!("{call:?}"));
                    return Err(io::Error::from_raw_os_error(5));
                }
                let _ = matches!(call, DirCall::Sync);
                Ok(())
            }));
            hit = told.lock().unwrap().take().or(hit.take());
            let Some(call) = hit else { break };
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
