//! The plan of `FAULTS.md`, section 5, as far as it concerns `table/` alone: each call of three checkpoints and two merges
//! fails, in each way that it can, and the machine stops at each later call.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::base::error::ErrorKind;
use crate::disk::sim::{CrashPoint, Fault, FaultKind, Granularity, Loss, OpSelector, Pages, SimDisk};
use crate::disk::{DirCall, Layer as DiskLayer, Layered};
use crate::format::batch::BatchBuilder;
use crate::format::table::data::Interval;
use crate::rt::sync::Mutex;
use crate::table::checkpoint::{NewLayer, Piece};
use crate::table::job::Job;
use crate::table::merge::Retain;
use crate::table::sort::Sorter;
use crate::table::store::NotInstalled;

const DIR: &str = "db/table";

/// Up to where the layers may reach after a crash.
#[derive(Clone, Default, Debug)]
struct Told {
    /// A checkpoint up to here has succeeded.
    durable: Lsn,
    tried: BTreeSet<Lsn>,
}

/// What an open engine does in `table/`.
struct Work<'s> {
    store: &'s Store,
    told: &'s Mutex<Told>,
    layer: Option<NewLayer<'s>>,
    job: Option<Job<'s>>,
}

impl<'s> Work<'s> {
    fn new(store: &'s Store, told: &'s Mutex<Told>) -> Self {
        Work { store, told, layer: None, job: None }
    }

    /// The n-th checkpoint puts key n and overwrites key 0.
    fn checkpoint(&mut self) -> Result<()> {
        let mut layer = match self.layer.take() {
            Some(layer) => layer,
            None => {
                let stack = self.store.stack();
                let from = stack.as_ref().map_or(Lsn::ZERO, |stack| stack.manifest.to);
                let to = Lsn::new(from.get() + 8);
                let number = u8::try_from(to.get() / 8).unwrap();
                let mut batch = BatchBuilder::new();
                let mut keyspaces = stack.map_or_else(KeyspaceList::default, |stack| (*stack.keyspaces).clone());
                if number % 2 == 1 {
                    batch.create_keyspace(u32::from(number / 2), &format!("k{number}")).unwrap();
                }
                batch.put(0, &[number], &[number; 40]).unwrap();
                batch.put(0, &[0], &[number]).unwrap();
                keyspaces.add(to, &batch.batch());
                let mut sorter = Sorter::default();
                sorter.add(to, &batch.batch());
                let horizon = Retain { floor: to, held: Vec::new(), is_last: false };
                let (interval, writes) = (Interval { from, to }, sorter.finish());
                let piece = Piece { interval, branch: BRANCH, writes, keyspaces, horizon, log_bytes: 8 };
                self.store.write_layer(piece, u64::MAX)?
            }
        };
        let to = layer.to();
        let choose = |oldest| {
            self.told.lock().tried.insert(to);
            oldest
        };
        match layer.install(choose, |_| self.told.lock().durable = to) {
            Ok(_) => Ok(()),
            Err(NotInstalled::Failed(error)) => Err(error),
            Err(NotInstalled::InDoubt(error)) => {
                self.layer = Some(layer);
                Err(error)
            }
        }
    }

    /// Merges the two newest layers.
    fn merge(&mut self) -> Result<()> {
        let mut job = match self.job.take() {
            Some(job) => job,
            None => {
                let Some(stack) = self.store.stack().filter(|stack| stack.manifest.layers.len() > 1) else {
                    return Ok(());
                };
                let horizon = Retain { floor: stack.manifest.to, held: Vec::new(), is_last: false };
                self.store.merge(&stack, 0..2, &horizon, 1)?
            }
        };
        match job.install() {
            Ok(_) => Ok(()),
            Err(NotInstalled::Failed(error)) => Err(error),
            Err(NotInstalled::InDoubt(error)) => {
                self.job = Some(job);
                Err(error)
            }
        }
    }

    fn all(&mut self) -> Vec<Result<()>> {
        let mut results = vec![self.checkpoint(), self.checkpoint(), self.merge(), self.checkpoint(), self.merge()];
        results.push(self.store.remove_needless().map(|_| ()));
        results
    }
}

/// What the layers hold: key 0 as the newest checkpoint left it, and a key of each.
fn check_content(store: &Store) -> std::result::Result<Lsn, String> {
    let Some(stack) = store.stack() else { return Ok(Lsn::ZERO) };
    let to = stack.manifest.to;
    let mut newest = BTreeMap::new();
    for layer in &stack.manifest.layers {
        let all = versions(store, layer).map_err(|error| format!("a layer cannot be read: {error:?}"))?;
        for ((key, lsn), value) in all {
            let known = newest.entry(key).or_insert((lsn, value.clone()));
            if known.0 < lsn {
                *known = (lsn, value);
            }
        }
    }
    let number = u8::try_from(to.get() / 8).unwrap();
    let found: Vec<(u8, Vec<u8>)> = newest.into_iter().map(|(key, (_, value))| (key[4], value.unwrap())).collect();
    let expected: Vec<_> =
        (0..=number).map(|key| if key == 0 { (0, vec![number]) } else { (key, vec![key; 40]) }).collect();
    let created = stack.keyspaces.iter().count();
    match found == expected && created == usize::from(number).div_ceil(2) {
        true => Ok(to),
        false => Err(format!("up to {to} the layers hold {found:?}, and {created} keyspaces")),
    }
}

fn open_dir(dir: &Arc<dyn Dir>) -> std::result::Result<Store, String> {
    let found = read_stack(dir).map_err(|error| format!("the open is refused: {error:?}"))?;
    Ok(Store::new(table_dir(dir).0, LOG_ID, found).unwrap())
}

/// What a crash left opens, has what was told, and takes more; which survives another crash.
fn check_image(disk: &SimDisk, told: &Told) -> std::result::Result<(), String> {
    let dir = disk.open_dir(Path::new(DIR)).unwrap();
    let store = open_dir(&dir)?;
    let to = check_content(&store)?;
    if to < told.durable || (to > told.durable && !told.tried.contains(&to)) {
        return Err(format!("the layers reach up to {to}, and {told:?} was told"));
    }
    store.settle(false).map_err(|error| format!("the open cannot write: {error:?}"))?;
    let known = Mutex::new(told.clone());
    let mut work = Work::new(&store, &known);
    for result in work.all() {
        result.map_err(|error| format!("an attempt after the crash: {error:?}"))?;
    }
    let after = known.lock().durable;
    let names = dir.list().unwrap().len();
    let named = store.stack().unwrap().manifest.numbers().count();
    if names != named + 1 {
        return Err(format!("{names} names, where MANIFEST and {named} files should be"));
    }
    let lost = disk.crash_point().power_loss(&Loss::Everything, Granularity::default());
    let store = open_dir(&lost.open_dir(Path::new(DIR)).unwrap())?;
    match check_content(&store)? {
        to if to == after => Ok(()),
        to => Err(format!("after a second crash the layers reach up to {to}, and {after} was durable")),
    }
}

/// A directory in which nothing fails but what the disk lets fail.
fn as_it_is(dir: Arc<dyn Dir>) -> (Arc<dyn Dir>, Box<dyn Fn()>) {
    (dir, Box::new(|| ()))
}

#[derive(Default)]
struct Plan {
    runs: usize,
    seen: HashSet<u64>,
    images: usize,
    /// Look at what a crash leaves before the disk has failed, too.
    all_moments: bool,
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
        disk.on_op(move |disk, op| {
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
        disk.clear_faults();
        calm();
        check_content(&store).unwrap_or_else(|error| panic!("{what}, without a crash: {error}"));
        // Once the error is gone the next attempts succeed, also those that were in doubt.
        let again: Vec<_> = work.all().into_iter().filter_map(Result::err).collect();
        disk.clear_on_op();
        // A name for which a sync failed is not named, and written again.
        let retried: Vec<_> = work.all().into_iter().filter_map(Result::err).collect();
        assert!(again.len() <= 2 && retried.is_empty(), "{what}: {again:?} {retried:?}");
        check_content(&store).unwrap_or_else(|error| panic!("{what}, at last: {error}"));
        assert_eq!(dir.list().unwrap().len(), store.stack().unwrap().manifest.numbers().count() + 1, "{what}");
        for (point, told) in cuts.lock().drain(..) {
            let losses = [Loss::Everything, Loss::Seeded(self.images as u64)];
            let lost = losses.iter().map(|loss| point.power_loss(loss, Granularity::default()));
            for image in lost.chain([point.process_kill()]) {
                self.images += 1;
                if self.seen.insert(image.image_hash()) {
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
        (FaultKind::Errno(5), 1),
        (FaultKind::SyncFails { pages: Pages::KeepNew }, 1),
        (FaultKind::SyncFails { pages: Pages::RevertOld }, 3),
        (FaultKind::Errno(28), 3),
        (FaultKind::FailedWrite(3), 3),
    ];
    for (kind, every) in &kinds {
        for count in (0..).step_by(*every) {
            let at = || OpSelector::any().skip(count);
            let once = |disk: &SimDisk| disk.inject(Fault::once(at(), kind.clone()));
            let mut was_hit = plan.run(&format!("{kind:?} at {count}"), once, as_it_is);
            let lasting = |disk: &SimDisk| disk.inject(Fault::lasting(at(), kind.clone()));
            was_hit |= plan.run(&format!("{kind:?} from {count} on"), lasting, as_it_is);
            // Two in a row, of which the second one is near.
            let next = count % 3;
            let both = |disk: &SimDisk| {
                once(disk);
                disk.inject(Fault::once(OpSelector::any().skip(count + next), FaultKind::Errno(5)));
            };
            was_hit |= plan.run(&format!("{kind:?} at {count}, EIO {next} later"), both, as_it_is);
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
        Err(io::Error::from_raw_os_error(5))
    }
}

#[test]
fn a_call_that_fails_may_have_landed() {
    let mut plan = Plan { all_moments: true, ..Plan::default() };
    for at in 0.. {
        let (calls, was_hit) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (calm, hit) = (Arc::clone(&calls), Arc::clone(&was_hit));
        let behind = |dir: Arc<dyn Dir>| -> (Arc<dyn Dir>, Box<dyn Fn()>) {
            let layered = Layered::new(Arc::clone(&dir), Lands { dir, calls, at, was_hit: hit });
            (Arc::new(layered), Box::new(move || calm.store(1 << 60, Ordering::Relaxed)))
        };
        plan.run(&format!("call {at} fails and lands"), |_| (), behind);
        if !was_hit.load(Ordering::Relaxed) {
            break;
        }
    }
    println!("{} runs, {} images, {} of them different", plan.runs, plan.images, plan.seen.len());
}
