//! The plan of `FAULTS.md`, section 5, as far as it concerns `table/` alone: each call of three checkpoints and two merges
//! fails, in each way that it can, and the machine stops at each later call.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::work::{DIR, Told, Work, check_content, check_image};
use super::*;
use crate::base::error::{Error, ErrorKind};
use crate::disk::sim::{CrashPoint, Fault, FaultKind, Granularity, Loss, OpSelector, Pages, SimDisk};
use crate::disk::{DirCall, Layer as DiskLayer, Layered};
use crate::rt::sync::Mutex;

/// A directory in which nothing fails but what the disk lets fail.
fn as_it_is(dir: Arc<dyn Dir>) -> (Arc<dyn Dir>, Box<dyn Fn()>) {
    (dir, Box::new(|| ()))
}

#[derive(Default)]
struct Plan {
    runs: usize,
    /// Images, and what was told then.
    seen: HashSet<(u64, Told)>,
    images: usize,
    /// Look at what a crash leaves before the disk has failed, too.
    all_moments: bool,
    /// So many calls after the first failure another one fails.
    second: Option<u64>,
}

impl Plan {
    /// Runs the work with what `harm` does to the disk, and checks each moment from then on.
    fn run(
        &mut self,
        what: &str,
        harm: impl FnOnce(&SimDisk),
        dir_of: impl FnOnce(Arc<dyn Dir>) -> (Arc<dyn Dir>, Box<dyn Fn()>),
    ) -> bool {
        self.runs += 1;
        let disk = SimDisk::new();
        disk.make_dir(DIR).unwrap();
        let told = Arc::new(Mutex::new(Told::default()));
        let cuts: Arc<Mutex<Vec<(CrashPoint, Told)>>> = Arc::default();
        let (noted, known, all_moments) = (Arc::clone(&cuts), Arc::clone(&told), self.all_moments);
        let second = Arc::new(Mutex::new(self.second));
        let armed = Arc::clone(&second);
        disk.on_op(move |disk, op| {
            if disk.fault_hits() > 0
                && let Some(later) = armed.lock().take()
            {
                disk.inject(Fault::once(OpSelector::any().skip(later), FaultKind::Errno(5)));
            }
            let is_of_interest = op.kind.mutates() && (all_moments || disk.fault_hits() > 0);
            if is_of_interest {
                noted.lock().push((disk.crash_point(), known.lock().clone()));
            }
        });
        let (dir, calm) = dir_of(disk.open_dir(Path::new(DIR)).unwrap());
        let store = new_store(&dir);
        harm(&disk);
        let mut work = Work::new(&store, &told);
        let failed: Vec<Error> = work.all().into_iter().filter_map(Result::err).collect();
        for error in &failed {
            let is_typed = matches!(error.kind(), ErrorKind::Io | ErrorKind::DiskFull);
            assert!(is_typed && error.to_string().contains(DIR), "{what}: {error:?}");
        }
        let was_hit = disk.fault_hits() > 0 || !failed.is_empty();
        *second.lock() = None;
        disk.clear_faults();
        calm();
        check_content(&store).unwrap_or_else(|error| panic!("{what}, without a crash: {error}"));
        // Once the error is gone the next attempts succeed, also those that were in doubt.
        let again: Vec<_> = work.all().into_iter().filter_map(Result::err).collect();
        disk.clear_on_op();
        assert!(again.is_empty(), "{what}: {again:?}");
        check_content(&store).unwrap_or_else(|error| panic!("{what}, at last: {error}"));
        assert_eq!(dir.list().unwrap().len(), store.stack().unwrap().manifest.numbers().count() + 1, "{what}");
        for (point, told) in cuts.lock().drain(..) {
            let losses = [Loss::Everything, Loss::Seeded(self.images as u64)];
            let lost = losses.iter().map(|loss| point.power_loss(loss, Granularity::default()));
            for image in lost.chain([point.process_kill()]) {
                self.images += 1;
                if self.seen.insert((image.image_hash(), told.clone())) {
                    check_image(&image, &told).unwrap_or_else(|error| panic!("{what}, a crash: {error}"));
                }
            }
        }
        was_hit
    }
}

#[test]
fn every_failing_call_and_every_crash_after_it() {
    let mut plan = Plan { all_moments: true, ..Plan::default() };
    assert!(!plan.run("no fault", |_| (), as_it_is));
    plan.all_moments = false;
    let kinds = [
        (FaultKind::Errno(5), 0, 1),
        (FaultKind::SyncFails { pages: Pages::KeepNew }, 0, 2),
        (FaultKind::SyncFails { pages: Pages::RevertOld }, 1, 2),
        (FaultKind::Errno(28), 0, 4),
        (FaultKind::FailedWrite(3), 2, 4),
    ];
    for (kind, first, every) in &kinds {
        for count in (*first..).step_by(*every) {
            let at = || OpSelector::any().skip(count);
            let once = |disk: &SimDisk| disk.inject(Fault::once(at(), kind.clone()));
            let mut was_hit = plan.run(&format!("{kind:?} at {count}"), once, as_it_is);
            let lasting = |disk: &SimDisk| disk.inject(Fault::lasting(at(), kind.clone()));
            was_hit |= plan.run(&format!("{kind:?} from {count} on"), lasting, as_it_is);
            plan.second = Some((count / *every as u64) % 5);
            was_hit |= plan.run(&format!("{kind:?} at {count}, EIO {:?} later", plan.second), once, as_it_is);
            plan.second = None;
            if !was_hit {
                break;
            }
        }
    }
    println!("{} runs, {} images, {} of them different", plan.runs, plan.images, plan.seen.len());
}

/// A call that has its effect, and fails all the same.
#[derive(Clone, Debug)]
struct Lands {
    dir: Arc<dyn Dir>,
    /// How many calls were made; none fails any more once it is huge.
    calls: Arc<AtomicU64>,
    at: u64,
    /// The error of a rename. An interrupted one, and one whose answer was lost, may have landed.
    code: i32,
    was_hit: Arc<AtomicBool>,
}

impl DiskLayer for Lands {
    fn before(&self, call: DirCall<'_>) -> io::Result<()> {
        let changes =
            matches!(call, DirCall::Rename(..) | DirCall::Remove(_) | DirCall::Sync | DirCall::Open(_, Access::Create));
        if !changes || self.calls.fetch_add(1, Ordering::Relaxed) != self.at {
            return Ok(());
        }
        self.was_hit.store(true, Ordering::Relaxed);
        match call {
            DirCall::Rename(from, to) => self.dir.rename(from, to)?,
            DirCall::Remove(name) => self.dir.remove(name)?,
            DirCall::Sync => self.dir.sync()?,
            DirCall::Open(name, access) => drop(self.dir.open(name, access)?),
            _ => {}
        }
        let is_rename = matches!(call, DirCall::Rename(..));
        Err(io::Error::from_raw_os_error(if is_rename { self.code } else { EIO }))
    }
}

const EIO: i32 = 5;
const EINTR: i32 = 4;
const ENOENT: i32 = 2;

#[test]
fn a_call_that_fails_may_have_landed() {
    let mut plan = Plan { all_moments: true, ..Plan::default() };
    for (code, step) in [(EIO, 1), (EINTR, 3), (ENOENT, 3)] {
        for at in (0..).step_by(step) {
            let (calls, was_hit) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
            let (calm, hit) = (Arc::clone(&calls), Arc::clone(&was_hit));
            let behind = |dir: Arc<dyn Dir>| -> (Arc<dyn Dir>, Box<dyn Fn()>) {
                let layered = Layered::new(Arc::clone(&dir), Lands { dir, calls, at, code, was_hit: hit });
                (Arc::new(layered), Box::new(move || calm.store(1 << 60, Ordering::Relaxed)))
            };
            plan.run(&format!("call {at} lands, and fails with {code}"), |_| (), behind);
            if !was_hit.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    println!("{} runs, {} images, {} of them different", plan.runs, plan.images, plan.seen.len());
}
