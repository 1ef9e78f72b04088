//! Rules of `FAULTS.md`, one at a time.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::work::{DIR, Told, Work, check_content, check_image};
use super::*;
use crate::base::error::ErrorKind;
use crate::disk::sim::{Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Phase, SimDisk};
use crate::disk::{DirCall, Layer as DiskLayer, Layered, write_all_at};
use crate::format::table::data::Interval;
use crate::format::table::manifest::TEMPORARY_NAME;
use crate::format::table::{FileKind, file_name};
use crate::rt::schedule;
use crate::rt::sync::{self, Mutex};
use crate::table::layer::Stretch;
use crate::table::store::{Chosen, NotInstalled};

fn disk() -> (SimDisk, Arc<dyn Dir>) {
    let disk = SimDisk::new();
    disk.make_dir(DIR).unwrap();
    let dir = disk.open_dir(Path::new(DIR)).unwrap();
    (disk, dir)
}

/// A store after one checkpoint.
fn begun(dir: &Arc<dyn Dir>) -> Store {
    let store = new_store(dir);
    checkpoint(&store).unwrap();
    store
}

fn checkpoint(store: &Store) -> Result<()> {
    Work::new(store, &Mutex::new(Told::default())).checkpoint()
}

fn reopen(dir: &Arc<dyn Dir>) -> Store {
    Store::new(table_dir(dir).0, Pacers::default(), LOG_ID, read_stack(dir).unwrap()).unwrap()
}

fn names(dir: &Arc<dyn Dir>) -> Vec<String> {
    let mut names: Vec<_> = dir.list().unwrap().into_iter().map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn leave(dir: &Arc<dyn Dir>, name: &str) {
    let file = dir.open(OsStr::new(name), Access::Create).unwrap();
    write_all_at(&*file, b"left", 0).unwrap();
}

type Call = Arc<dyn Fn(DirCall<'_>) -> io::Result<()> + Send + Sync>;

/// What a test does before each call.
#[derive(Clone)]
struct Before(Call);

impl std::fmt::Debug for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Before")
    }
}

impl DiskLayer for Before {
    fn before(&self, call: DirCall<'_>) -> io::Result<()> {
        (self.0)(call)
    }
}

fn behind(dir: Arc<dyn Dir>, call: impl Fn(DirCall<'_>) -> io::Result<()> + Send + Sync + 'static) -> Arc<dyn Dir> {
    Arc::new(Layered::new(dir, Before(Arc::new(call))))
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn run_interval(store: &Store) -> Interval {
    let from = store.stack().unwrap().manifest.to;
    Interval { from, to: Lsn::new(from.get() + 8) }
}

/// Step 13 spares what an attempt has made.
#[test]
fn files_of_an_attempt_under_way_stay() {
    let (_disk, dir) = disk();
    let store = begun(&dir);
    let mut attempt = store.begin();
    let interval = run_interval(&store);
    let run = attempt.create_run(Stretch { interval, branch: BRANCH }).unwrap();
    let before = names(&dir);
    assert_eq!(store.remove_needless().unwrap().removed, 0);
    assert_eq!(names(&dir), before);
    drop(run);
    // One that is dropped removes its own.
    drop(attempt);
    assert_eq!(names(&dir).len(), before.len() - 1);
}

/// A file of an attempt that failed may be on the medium under its name, so its number is nobody's any more.
#[test]
fn the_numbers_of_attempts_that_failed_are_not_given_again() {
    let (_disk, dir) = disk();
    let store = begun(&dir);
    let before = names(&dir);
    let mut given = HashSet::new();
    for _ in 0..5 {
        let mut attempt = store.begin();
        let run = attempt.create_run(Stretch { interval: run_interval(&store), branch: BRANCH }).unwrap();
        let made: Vec<String> = names(&dir).into_iter().filter(|name| !before.contains(name)).collect();
        assert!(made.len() == 1 && given.insert(made.concat()), "{made:?} after {given:?}");
        drop(run);
        drop(attempt);
        assert_eq!(names(&dir), before);
    }
}

/// A failed sync counts for all names that are new, whoever called it.
#[test]
fn a_failed_sync_counts_for_the_names_of_others() {
    let (disk, dir) = disk();
    let store = begun(&dir);
    let interval = run_interval(&store);
    let (mut first, mut second) = (store.begin(), store.begin());
    let _runs = [
        first.create_run(Stretch { interval, branch: BRANCH }).unwrap(),
        second.create_run(Stretch { interval, branch: BRANCH }).unwrap(),
    ];
    disk.inject(Fault::once(OpSelector::of(OpKind::SyncDir), FaultKind::Errno(EIO)));
    assert_eq!(first.sync_names().unwrap_err().kind(), ErrorKind::Io);
    // The kernel has told it once; it would tell nobody else.
    let error = second.sync_names().unwrap_err();
    assert!(error.to_string().contains(DIR), "{error}");
    let stack = store.stack().unwrap();
    for mut attempt in [first, second] {
        let installed = attempt.install(|_| Ok(Chosen::of(&stack)), |_| ());
        assert!(matches!(installed, Err(NotInstalled::Failed(_))));
    }
    assert_eq!(store.stack().unwrap().manifest.generation, stack.manifest.generation);
}

/// A sync makes durable what was there when it began.
#[test]
fn a_name_that_comes_during_a_sync_is_not_durable() {
    for fails in [false, true] {
        let (_disk, inner) = disk();
        let (waits, goes_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (waiting, gone_on, armed) = (Arc::clone(&waits), Arc::clone(&goes_on), Arc::new(AtomicBool::new(false)));
        let arm = Arc::clone(&armed);
        let dir = behind(inner, move |call| {
            if call == DirCall::Sync && armed.swap(false, Ordering::SeqCst) {
                waiting.store(true, Ordering::SeqCst);
                while !gone_on.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                if fails {
                    return Err(io::Error::from_raw_os_error(EIO));
                }
            }
            Ok(())
        });
        let store = begun(&dir);
        let interval = run_interval(&store);
        arm.store(true, Ordering::SeqCst);
        std::thread::scope(|scope| {
            let store = &store;
            let syncing = scope.spawn(move || {
                let mut attempt = store.begin();
                let _run = attempt.create_run(Stretch { interval, branch: BRANCH }).unwrap();
                attempt.sync_names().is_ok()
            });
            while !waits.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let mut attempt = store.begin();
            let _run = attempt.create_run(Stretch { interval, branch: BRANCH }).unwrap();
            goes_on.store(true, Ordering::SeqCst);
            assert_eq!(syncing.join().unwrap(), !fails);
            let stack = store.stack().unwrap();
            let early = attempt.install(|_| Ok(Chosen::of(&stack)), |_| ());
            assert!(matches!(early, Err(NotInstalled::Failed(_))), "without a sync of its own");
            assert_eq!(attempt.sync_names().is_ok(), !fails);
        });
    }
}

#[test]
fn what_no_sync_has_named_is_not_installed() {
    let (_disk, dir) = disk();
    let store = begun(&dir);
    let mut attempt = store.begin();
    let _run = attempt.create_run(Stretch { interval: run_interval(&store), branch: BRANCH }).unwrap();
    let stack = store.stack().unwrap();
    assert!(matches!(attempt.install(|_| Ok(Chosen::of(&stack)), |_| ()), Err(NotInstalled::Failed(_))));
}

/// While each step 10 fails, and each second try has no room even for MANIFEST, there is one layer in doubt and not sixty.
#[test]
fn a_layer_in_doubt_is_resumed_for_an_hour() {
    let (disk, dir) = disk();
    let store = begun(&dir);
    let told = Mutex::new(Told::default());
    let mut work = Work::new(&store, &told);
    for round in 0..60 {
        if round % 2 == 0 {
            // Step 10, however many syncs come before it.
            disk.on_op(|disk, op| {
                if op.kind == OpKind::Rename && op.phase == Phase::Before {
                    disk.inject(Fault::once(OpSelector::of(OpKind::SyncDir), FaultKind::Errno(EIO)));
                }
            });
        } else {
            let create = OpSelector::of(OpKind::Create).on(TEMPORARY_NAME);
            disk.inject(Fault::once(create, FaultKind::Errno(ENOSPC)));
        }
        work.checkpoint().unwrap_err();
        disk.clear_on_op();
        disk.clear_faults();
        store.remove_needless().unwrap();
        // MANIFEST, and a run and a list of keyspaces; the run that is in doubt.
        assert!(names(&dir).len() <= 5, "round {round}: {:?}", names(&dir));
    }
    work.checkpoint().unwrap();
    store.remove_needless().unwrap();
    assert_eq!(check_content(&store).unwrap(), Lsn::new(16));
    assert_eq!(names(&dir).len(), 4, "MANIFEST, two runs, a list of keyspaces: {:?}", names(&dir));
}

/// Its MANIFEST may be on the medium, and name them.
#[test]
fn files_of_a_layer_in_doubt_stay_when_it_is_given_up() {
    let (disk, dir) = disk();
    let store = begun(&dir);
    let told = Mutex::new(Told { durable: Lsn::new(8), tried: [Lsn::new(8)].into() });
    disk.inject(Fault::once(OpSelector::of(OpKind::SyncDir).skip(1), FaultKind::Errno(EIO)));
    let mut work = Work::new(&store, &told);
    work.checkpoint().unwrap_err();
    // Refusals take back nothing of it: neither one of its own, nor another attempt's.
    disk.inject(Fault::once(OpSelector::of(OpKind::Create).on(TEMPORARY_NAME), FaultKind::Errno(ENOSPC)));
    work.checkpoint().unwrap_err();
    let stack = store.stack().unwrap();
    let mut other = store.begin();
    let _run = other.create_run(Stretch { interval: run_interval(&store), branch: BRANCH }).unwrap();
    other.sync_names().unwrap();
    disk.inject(Fault::once(OpSelector::of(OpKind::Create).on(TEMPORARY_NAME), FaultKind::Errno(ENOSPC)));
    other.install(|_| Ok(Chosen::of(&stack)), |_| ()).unwrap_err();
    drop((work, other, stack));
    store.remove_needless().unwrap();
    let told = told.lock().clone();
    assert_eq!(told.tried.len(), 2, "it was in doubt");
    let point = disk.crash_point();
    for image in [point.process_kill(), point.power_loss(&Loss::Nothing, Granularity::default())] {
        check_image(&image, &told).unwrap();
    }
    // Once another MANIFEST is durable they go.
    checkpoint(&store).unwrap();
    store.remove_needless().unwrap();
    assert_eq!(names(&dir).len(), 1 + store.stack().unwrap().manifest.numbers().count());
}

/// Section 2 of `FAULTS.md`, "Opening".
#[test]
fn an_open_writes_manifest_again_unless_it_is_known_and_nothing_is_to_go() {
    let generation = |dir: &Arc<dyn Dir>| read_stack(dir).unwrap().unwrap().manifest.generation;
    for (is_named, has_more, leftover, is_written) in
        [(true, false, false, false), (true, true, false, true), (true, false, true, true), (false, false, false, true)]
    {
        let (_disk, dir) = disk();
        drop(begun(&dir));
        if leftover {
            leave(&dir, "00000000000000ff.run");
        }
        let before = generation(&dir);
        let store = reopen(&dir);
        assert!(store.settle(is_named, has_more).unwrap().is_none());
        assert_eq!(generation(&dir) > before, is_written, "{is_named} {has_more} {leftover}");
        assert_eq!(store.is_settled(), is_written);
        store.remove_needless().unwrap();
        assert_eq!(names(&dir).len(), 3);
    }
}

/// It must not be refused by its own tidying.
#[test]
fn an_open_that_cannot_write_goes_on_if_history_names_what_it_found() {
    for kind in [OpKind::Create, OpKind::Rename, OpKind::SyncDir, OpKind::List] {
        let (disk, dir) = disk();
        drop(begun(&dir));
        leave(&dir, "00000000000000ff.run");
        let fail = |store: &Store, is_named| {
            disk.inject(Fault::lasting(OpSelector::of(kind), FaultKind::Errno(EIO)));
            let settled = store.settle(is_named, false);
            disk.clear_faults();
            settled
        };
        let store = reopen(&dir);
        let told = fail(&store, true).unwrap();
        assert_eq!(told.is_some(), kind != OpKind::List, "{kind:?}");
        if kind != OpKind::List {
            // A MANIFEST of an earlier life may be in doubt that names it.
            assert_eq!((store.is_settled(), store.remove_needless().unwrap().removed), (false, 0), "{kind:?}");
            assert!(fail(&reopen(&dir), false).is_err());
        }
        // Once one is durable, it goes.
        checkpoint(&store).unwrap();
        assert_eq!(store.remove_needless().unwrap().removed, 1);
    }
}

/// Without a MANIFEST in the cache there may be one on the medium.
#[test]
fn nothing_is_removed_before_this_open_has_made_a_manifest_durable() {
    let (_disk, dir) = disk();
    leave(&dir, "0000000000000007.run");
    let store = new_store(&dir);
    assert_eq!(store.remove_needless().unwrap().removed, 0);
    checkpoint(&store).unwrap();
    assert_eq!(store.remove_needless().unwrap().removed, 1);
}

/// Files that another program has left under names that no forelog comes to.
#[test]
fn a_number_that_cannot_be_ours_ends_nothing() {
    for name in ["8000000000000000.run", "7fffffffffffffff.run", "4000000000000000.keys"] {
        let (_disk, dir) = disk();
        drop(begun(&dir));
        leave(&dir, name);
        let store = reopen(&dir);
        store.settle(true, false).unwrap();
        checkpoint(&store).unwrap();
        store.remove_needless().unwrap();
        assert!(!names(&dir).contains(&name.to_owned()));
        reopen(&dir).settle(false, false).unwrap();
    }
}

#[test]
fn a_name_that_is_taken_is_left_alone_and_the_next_one_tried() {
    let (_disk, dir) = disk();
    let store = begun(&dir);
    let next = store.stack().unwrap().manifest.next_number;
    for number in next..next + 3 {
        leave(&dir, &file_name(number, FileKind::Run));
    }
    checkpoint(&store).unwrap();
    let bytes = dir.open(OsStr::new(&file_name(next, FileKind::Run)), Access::Read).unwrap().len().unwrap();
    assert_eq!(bytes, 4, "it was not replaced");
    for number in next + 4..next + 30 {
        leave(&dir, &file_name(number, FileKind::Run));
    }
    let error = checkpoint(&store).unwrap_err();
    assert_eq!(error.io_error().map(io::Error::kind), Some(io::ErrorKind::AlreadyExists));
}

/// A try that was cut off may have left it, and on a full disk its room is needed.
#[test]
fn a_temporary_manifest_goes_with_what_nothing_needs() {
    let (_disk, dir) = disk();
    let store = begun(&dir);
    leave(&dir, TEMPORARY_NAME);
    store.remove_needless().unwrap();
    assert!(!names(&dir).contains(&TEMPORARY_NAME.to_owned()));
    leave(&dir, TEMPORARY_NAME);
    let store = reopen(&dir);
    store.settle(true, false).unwrap();
    store.remove_needless().unwrap();
    assert!(!store.is_settled() && !names(&dir).contains(&TEMPORARY_NAME.to_owned()));
}

/// An interrupted call that changed nothing is made again; a panic of the disk is as its failure.
#[test]
fn interrupted_calls_and_panics_of_the_disk() {
    let calls = Arc::new(AtomicUsize::new(0));
    for at in 0.. {
        let mut was_hit = true;
        for panics in [false, true] {
            calls.store(0, Ordering::Relaxed);
            let (_disk, inner) = disk();
            let (counted, is_sync) = (Arc::clone(&calls), Arc::new(AtomicBool::new(false)));
            let noted = Arc::clone(&is_sync);
            let dir = behind(inner, move |call| {
                if counted.fetch_add(1, Ordering::Relaxed) != at {
                    return Ok(());
                }
                noted.store(matches!(call, DirCall::Sync | DirCall::Rename(..)), Ordering::Relaxed);
                assert!(!panics, "a disk of one's own");
                Err(io::ErrorKind::Interrupted.into())
            });
            let Ok(store) = Store::new(table_dir(&dir).0, Pacers::default(), LOG_ID, None) else {
                assert!(panics, "a listing that was interrupted");
                continue;
            };
            let told = Mutex::new(Told::default());
            let mut work = Work::new(&store, &told);
            let failed = work.all().into_iter().filter_map(Result::err).count();
            assert!(panics || is_sync.load(Ordering::Relaxed) || failed == 0, "call {at} was interrupted");
            was_hit = calls.swap(usize::MAX / 2, Ordering::Relaxed) > at;
            assert!(work.all().iter().all(Result::is_ok), "call {at}");
            check_content(&store).unwrap();
        }
        if !was_hit {
            assert!(at > 40, "calls were made");
            break;
        }
    }
}

/// P8: a close waits for the call under way, and then nothing is changed.
#[test]
fn after_a_close_nothing_is_changed() {
    for seed in 0..40 {
        schedule::run(seed, move || {
            let disk = SimDisk::new();
            disk.make_dir(DIR).unwrap();
            let dir = disk.open_dir(Path::new(DIR)).unwrap();
            let (table_dir, gate) = table_dir(&dir);
            let store: &'static Store =
                Box::leak(Box::new(Store::new(table_dir, Pacers::default(), LOG_ID, None).unwrap()));
            let (is_closed, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let (closed, noted) = (Arc::clone(&is_closed), Arc::clone(&late));
            disk.on_op(move |_, op| {
                if op.kind.mutates() && closed.load(Ordering::SeqCst) {
                    noted.store(true, Ordering::SeqCst);
                }
            });
            let working = sync::spawn("works", move || {
                let told = Mutex::new(Told::default());
                let mut work = Work::new(store, &told);
                let last = work.all().pop().unwrap();
                assert!(last.is_ok() || last.is_err());
            })
            .unwrap();
            for _ in 0..seed * 3 {
                sync::yield_now();
            }
            gate.close();
            is_closed.store(true, Ordering::SeqCst);
            working.join();
            assert!(!late.load(Ordering::SeqCst), "seed {seed}");
            assert_eq!(checkpoint(store).unwrap_err().kind(), ErrorKind::Closed);
        });
    }
}

/// P7: no generation is used twice, whatever fails.
#[test]
fn each_try_has_a_generation_of_its_own() {
    let (disk, dir) = disk();
    let store = begun(&dir);
    let stack = store.stack().unwrap();
    let mut last = stack.manifest.generation;
    for kind in [OpKind::Rename, OpKind::SyncDir, OpKind::Rename, OpKind::Create] {
        disk.inject(Fault::once(OpSelector::of(kind), FaultKind::Errno(EIO)));
        let mut attempt = store.begin();
        attempt.install(|_| Ok(Chosen::of(&stack)), |_| ()).unwrap_err();
        disk.clear_faults();
        drop(attempt);
        let installed = store.begin().install(|_| Ok(Chosen::of(&stack)), |_| ()).unwrap();
        assert!(installed.manifest.generation >= last + 2, "{kind:?}");
        last = installed.manifest.generation;
    }
}
