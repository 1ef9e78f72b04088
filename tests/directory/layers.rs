//! What an open finds beside its layers: segments that they have in full, and files of attempts that were cut off.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use forelog::sim::{CrashPoint, Fault, FaultKind, Granularity, Loss, OpEvent, OpKind, OpSelector, Phase, SimDisk};
use forelog::unstable::disk::{Access, DirCall, Disk};
use forelog::{DamageCause, Engine, ErrorKind, Options};

use super::ground::{keys, put, watched};

fn open(disk: Arc<dyn Disk>) -> forelog::Result<Engine> {
    Options::new().segment_bytes(4096).open_on(disk, "db")
}

fn open_on(disk: &SimDisk) -> forelog::Result<Engine> {
    open(Arc::new(disk.clone()))
}

fn copy(disk: &SimDisk) -> SimDisk {
    disk.crash_point().process_kill()
}

fn path(base: u64) -> String {
    format!("db/{base:016x}.log")
}

/// The bases of the segments, in order.
fn bases(disk: &SimDisk) -> Vec<u64> {
    let names = disk.files().into_iter().filter_map(|(path, _)| path.file_name()?.to_str().map(str::to_owned));
    let mut bases: Vec<_> = names.filter_map(|name| u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()).collect();
    bases.sort_unstable();
    bases
}

fn names_of_tables(disk: &SimDisk) -> Vec<String> {
    let names = disk.files().into_iter().filter(|(path, _)| path.starts_with("db/table"));
    names.map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

fn fill(engine: &Engine, round: u8) {
    (0..40).for_each(|number| put(engine, &format!("{round} {number:02}")).unwrap());
}

/// The disk as it was at the first operation that `is_it`.
fn crash_at(
    disk: &SimDisk,
    is_it: impl Fn(&OpEvent<'_>) -> bool + Send + Sync + 'static,
    action: impl FnOnce(),
) -> CrashPoint {
    let point: Arc<Mutex<Option<CrashPoint>>> = Arc::default();
    let taken = Arc::clone(&point);
    disk.on_op(move |disk, op| {
        if op.phase == Phase::Before && is_it(op) {
            taken.lock().unwrap().get_or_insert_with(|| disk.crash_point());
        }
    });
    action();
    disk.clear_on_op();
    point.lock().unwrap().take().expect("it came to that")
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

/// All changes that an action makes.
fn changes(disk: &SimDisk, action: impl FnOnce()) -> Vec<String> {
    let made: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&made);
    disk.on_op(move |_, op| {
        if op.phase == Phase::Before && op.kind.mutates() {
            noted.lock().unwrap().push(format!("{:?} {}", op.kind, op.path.display()));
        }
    });
    action();
    disk.clear_on_op();
    std::mem::take(&mut *made.lock().unwrap())
}

/// A database whose MANIFEST is durable, and none of whose segments was removed; all of its keys; the begin of the first
/// segment that the layers do not have in full.
fn before_removal(is_closed: bool) -> (SimDisk, Vec<String>, u64) {
    let disk = SimDisk::new();
    let engine = open_on(&disk).unwrap();
    fill(&engine, 0);
    engine.close().unwrap();
    let engine = open_on(&disk).unwrap();
    fill(&engine, 1);
    let to = engine.durable_lsn().get();
    if is_closed {
        // Nothing lies above the layers.
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Remove).on(".log"), FaultKind::Error(io::ErrorKind::Other)));
        engine.checkpoint().unwrap();
        disk.clear_faults();
        engine.close().unwrap();
        let expected = keys(&open_on(&copy(&disk)).unwrap());
        return (disk, expected, u64::MAX);
    }
    let removes = |op: &OpEvent<'_>| op.kind == OpKind::Remove && is_segment(op.path);
    let point = crash_at(&disk, removes, || engine.checkpoint().unwrap());
    let killed = point.power_loss(&Loss::Everything, Granularity::Sector);
    let first = bases(&killed).into_iter().rfind(|base| *base < to).unwrap();
    (killed, keys(&engine), first)
}

type Spoil = fn(&SimDisk, &str);

/// The spoilt header must be that of a segment below the layers' end: then it goes, and nothing is missed.
#[test]
fn a_segment_that_the_layers_have_in_full_refuses_no_open_whatever_it_looks_like() {
    let spoils: [(&str, Spoil); 5] = [
        ("a flipped bit", |disk, path| disk.flip_bit(path, 40 * 8).unwrap()),
        ("garbage", |disk, path| disk.overwrite(path, 0, &[0xAB; 512]).unwrap()),
        ("cut", |disk, path| disk.truncate(path, 100).unwrap()),
        ("empty", |disk, path| disk.truncate(path, 0).unwrap()),
        ("removed", |disk, path| disk.delete(path).unwrap()),
    ];
    for is_closed in [false, true] {
        let (disk, expected, first) = before_removal(is_closed);
        let below: Vec<_> = bases(&disk).into_iter().filter(|base| *base < first).collect();
        assert!(below.len() > 2, "{below:?}");
        for (how, spoil) in spoils {
            for victims in below.iter().map(std::slice::from_ref).chain([&below[..]]) {
                let what = format!("{how}, closed: {is_closed}, {victims:?}");
                let disk = copy(&disk);
                victims.iter().for_each(|base| spoil(&disk, &path(*base)));
                let read = Engine::read_only_on(Arc::new(disk.clone()), "db");
                assert!(read.is_ok(), "{what}: {read:?}");
                let engine = open_on(&disk).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                assert_eq!(keys(&engine), expected, "{what}");
                assert!(bases(&disk).iter().all(|base| *base >= first), "{what}: it is left over");
                put(&engine, "more").unwrap();
                engine.close().unwrap();
                assert_eq!(keys(&open_on(&disk).unwrap()).len(), expected.len() + 1, "{what}");
            }
        }
    }
}

/// A MANIFEST of an earlier life may be on the medium that needs it.
#[test]
fn a_spoilt_segment_stays_until_a_manifest_of_this_open_is_durable() {
    let (disk, expected, _) = before_removal(true);
    disk.flip_bit(path(bases(&disk)[0]), 40 * 8).unwrap();
    let before = bases(&disk);
    let no_room = FaultKind::Error(io::ErrorKind::StorageFull);
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Create).on("MANIFEST.tmp"), no_room));
    let engine = open_on(&disk).unwrap();
    assert_eq!((keys(&engine), bases(&disk)), (expected.clone(), before));
    engine.close().unwrap();
    disk.clear_faults();
    assert_eq!((keys(&open_on(&disk).unwrap()), bases(&disk)), (expected, vec![]));
}

/// A medium that does not give it refuses no open either.
#[test]
fn a_segment_that_the_layers_have_in_full_need_not_be_readable() {
    let (disk, expected, _) = before_removal(false);
    let name = path(bases(&disk)[0]);
    let unreadable = watched(Arc::new(disk.clone()), move |call| match call {
        DirCall::Open(found, Access::Read) if name.ends_with(found.to_str().unwrap()) => {
            Err(io::Error::from_raw_os_error(5))
        }
        _ => Ok(()),
    });
    assert_eq!(keys(&open(unreadable).unwrap()), expected);
}

#[test]
fn a_segment_that_the_layers_do_not_have_in_full_must_have_its_header() {
    let (disk, _, first) = before_removal(false);
    let above: Vec<_> = bases(&disk).into_iter().filter(|base| *base >= first).collect();
    for base in above {
        let disk = copy(&disk);
        disk.flip_bit(path(base), 40 * 8).unwrap();
        let before = disk.files();
        let error = open_on(&disk).unwrap_err();
        assert_eq!(error.damage().map(|damage| damage.cause), Some(DamageCause::BadHeader), "{base}: {error}");
        assert_eq!(disk.files(), before);
    }
    // Whose header is whole, and says that it is another's, is no one's to remove.
    let base = bases(&disk)[0];
    let other = SimDisk::new();
    fill(&open_on(&other).unwrap(), 0);
    disk.write_file(path(base), &other.read_file(path(0)).unwrap()).unwrap();
    assert_eq!(open_on(&disk).unwrap_err().kind(), ErrorKind::Damaged);
}

/// By its name the next one begins below the layers' end, so the one before it seems to end there.
#[test]
fn a_name_alone_misleads_no_open() {
    let (disk, _, first) = before_removal(false);
    disk.flip_bit(path(first), 40 * 8).unwrap();
    let whole = disk.read_file(path(bases(&disk)[0])).unwrap();
    disk.write_file(path(first + 512), &whole[..512]).unwrap();
    disk.flip_bit(path(first + 512), 40 * 8).unwrap();
    let before = disk.files();
    assert_eq!(open_on(&disk).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(disk.files(), before);
}

/// Closed, with a layer and commits above it, which the next open may take in without a commit of its own.
fn closed_with_more_to_take_in() -> SimDisk {
    let disk = SimDisk::new();
    let engine = open_on(&disk).unwrap();
    put(&engine, "a").unwrap();
    engine.checkpoint().unwrap();
    put(&engine, "b").unwrap();
    engine.close().unwrap();
    disk
}

#[test]
fn runs_that_no_manifest_names_go_with_the_next_open_and_the_one_after_it_writes_nothing() {
    let disk = closed_with_more_to_take_in();
    let engine = open_on(&disk).unwrap();
    let makes_manifest = |op: &OpEvent<'_>| op.kind == OpKind::Write && op.path.ends_with("MANIFEST.tmp");
    let killed = crash_at(&disk, makes_manifest, || engine.checkpoint().unwrap()).process_kill();
    let expected = names_of_tables(&copy(&closed_with_more_to_take_in())).len();
    assert!(names_of_tables(&killed).len() > expected, "a layer that is not installed");
    let reopen = || {
        let engine = open_on(&killed).unwrap();
        assert_eq!(keys(&engine), ["a", "b"]);
        assert_eq!(names_of_tables(&killed).len(), expected, "{:?}", names_of_tables(&killed));
        engine.close().unwrap();
    };
    assert!(!changes(&killed, reopen).is_empty());
    assert_eq!(changes(&killed, reopen), [""; 0], "the second open has nothing to do");
}

/// MANIFEST was written by a life that has not written HISTORY: the open writes both, and the next one neither.
#[test]
fn an_open_that_writes_manifest_again_has_history_name_it() {
    let disk = closed_with_more_to_take_in();
    let engine = open_on(&disk).unwrap();
    let history = disk.read_file("db/HISTORY").unwrap();
    engine.checkpoint().unwrap();
    // A close would have HISTORY name it.
    let disk = disk.crash_point().process_kill();
    engine.close().unwrap();
    assert_eq!(disk.read_file("db/HISTORY").unwrap(), history, "that life has not begun");
    let reopen = |disk: &SimDisk| {
        let engine = open_on(disk).unwrap();
        assert_eq!(keys(&engine), ["a", "b"]);
        engine.close().unwrap();
    };
    for fault in [OpKind::Create, OpKind::Write, OpKind::Sync] {
        // What is refused before the rename refuses no open, and is made up for.
        let disk = copy(&disk);
        disk.inject(Fault::once(
            OpSelector::of(fault).on("db/HISTORY.tmp"),
            FaultKind::Error(io::ErrorKind::StorageFull),
        ));
        reopen(&disk);
        assert_eq!(disk.fault_hits(), 1, "{fault:?}");
        assert!(!changes(&disk, || reopen(&disk)).is_empty(), "{fault:?}");
        assert_eq!(changes(&disk, || reopen(&disk)), [""; 0], "{fault:?}");
    }
    let refused = copy(&disk);
    refused.inject(Fault::once(OpSelector::of(OpKind::SyncDir).on("db"), FaultKind::Error(io::ErrorKind::Other)));
    assert!(open_on(&refused).is_err(), "which HISTORY is there is not known");
    refused.clear_faults();
    reopen(&copy(&refused));

    assert!(!changes(&disk, || reopen(&disk)).is_empty());
    assert_ne!(disk.read_file("db/HISTORY").unwrap(), history);
    assert_eq!(changes(&disk, || reopen(&disk)), [""; 0]);
}
