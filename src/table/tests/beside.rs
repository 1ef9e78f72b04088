//! Checkpoints, merges, readers, removals and a close beside each other, while calls fail, and the machine stops at any.

use super::work::{DIR, Told, Work, check_content, check_image, check_stack};
use super::*;
use crate::base::error::ErrorKind;
use crate::disk::sim::{CrashPoint, Fault, FaultKind, Granularity, Loss, OpSelector, Pages, SimDisk};
use crate::rt::schedule;
use crate::rt::sync::{self, Mutex};

/// One draw after the other.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn harm(disk: &SimDisk, draws: &mut Draws) {
    for _ in 0..draws.below(5) {
        let kinds = [
            FaultKind::Errno(5),
            FaultKind::Errno(28),
            FaultKind::SyncFails { pages: Pages::KeepNew },
            FaultKind::SyncFails { pages: Pages::RevertOld },
        ];
        let kind = kinds[usize::try_from(draws.below(4)).unwrap()].clone();
        // Syncs of the directory are few, and the two that matter are of two threads.
        let suffix = if draws.below(2) == 0 { DIR } else { "" };
        disk.inject(Fault::once(OpSelector::any().on(suffix).skip(draws.below(60)), kind));
    }
}

/// A crash at some moment, and what was told then.
type Cut = (CrashPoint, Told);

fn run(seed: u64) -> std::result::Result<usize, String> {
    let mut draws = Draws(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let cuts: Arc<Mutex<Vec<Cut>>> = Arc::default();
    let noted = Arc::clone(&cuts);
    let closes = draws.below(3) == 0;
    let ended = schedule::run(seed, move || -> std::result::Result<(), String> {
        let disk = SimDisk::new();
        disk.make_dir(DIR).unwrap();
        let dir = disk.open_dir(Path::new(DIR)).unwrap();
        let (table_dir, gate) = table_dir(&dir);
        // They live as long as the test: threads have them.
        let store: &'static Store =
            Box::leak(Box::new(Store::new(table_dir, Pacers::default(), LOG_ID, None).unwrap()));
        let told: &'static Mutex<Told> = Box::leak(Box::default());
        disk.on_op(move |disk, op| {
            if op.kind.mutates() {
                noted.lock().push((disk.crash_point(), told.lock().clone()));
            }
        });
        harm(&disk, &mut draws);
        let wrong: Arc<Mutex<Vec<String>>> = Arc::default();
        let spawn = |name: &str, body: Box<dyn FnOnce() -> std::result::Result<(), String> + Send>| {
            let wrong = Arc::clone(&wrong);
            let body = move || match crate::rt::guard::contain(body) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => wrong.lock().push(error),
                Err(panicked) => wrong.lock().push(panicked.message),
            };
            sync::spawn(name, body).unwrap()
        };
        let typed = |result: Result<()>| match result {
            Err(error) if !matches!(error.kind(), ErrorKind::Io | ErrorKind::DiskFull | ErrorKind::Closed) => {
                Err(format!("{error:?}"))
            }
            _ => Ok(()),
        };
        let checkpoints = move || {
            let mut work = Work::new(store, told);
            (0..5).try_for_each(|_| typed(work.checkpoint()))
        };
        let merges = move || {
            let mut work = Work::new(store, told);
            (0..6).try_for_each(|_| typed(work.merge()))
        };
        // The layers of another merge may be gone when this one is to be installed.
        let merges_below = move || {
            let mut work = Work::new(store, told);
            (0..4).try_for_each(|_| match work.merge_from(1) {
                Err(error)
                    if error.kind() == ErrorKind::Internal && error.to_string().contains("layers of a merge") =>
                {
                    Ok(())
                }
                merged => typed(merged),
            })
        };
        let reads = move || {
            (0..8).try_for_each(|_| {
                sync::yield_now();
                let Some(stack) = store.stack() else { return Ok(()) };
                // The disk fails reads, too.
                match check_stack(store, &stack) {
                    Err(error) if !error.contains("os error") => Err(error),
                    _ => Ok(()),
                }
            })
        };
        let removes = move || (0..4).try_for_each(|_| typed(store.remove_needless().map(|_| ())));
        let mut threads = vec![
            spawn("checkpoints", Box::new(checkpoints)),
            spawn("merges", Box::new(merges)),
            spawn("merges below", Box::new(merges_below)),
            spawn("reads", Box::new(reads)),
            spawn("removes", Box::new(removes)),
        ];
        if closes {
            let gate = Arc::clone(&gate);
            threads.push(spawn(
                "closes",
                Box::new(move || {
                    for _ in 0..draws.below(200) {
                        sync::yield_now();
                    }
                    gate.close();
                    Ok(())
                }),
            ));
        }
        threads.into_iter().for_each(sync::Thread::join);
        disk.clear_faults();
        if let Some(wrong) = wrong.lock().first() {
            return Err(wrong.clone());
        }
        check_content(store)?;
        if closes {
            return Ok(());
        }
        let mut work = Work::new(store, told);
        let _first = work.all();
        for result in work.all() {
            result.map_err(|error| format!("once the error is gone: {error:?}"))?;
        }
        disk.clear_on_op();
        let (names, named) = (dir.list().unwrap().len(), store.stack().unwrap().manifest.numbers().count());
        if names != named + 1 {
            return Err(format!("{names} names, where MANIFEST and {named} files should be"));
        }
        check_content(store).map(|_| ())
    });
    ended?;
    let cuts = std::mem::take(&mut *cuts.lock());
    for (number, (point, told)) in cuts.iter().enumerate() {
        let loss = if number % 2 == 0 { Loss::Everything } else { Loss::Seeded(seed + number as u64) };
        let lost = point.power_loss(&loss, Granularity::default());
        for image in [lost, point.process_kill()] {
            check_image(&image, told).map_err(|error| format!("a crash at change {number}: {error}"))?;
        }
    }
    Ok(cuts.len())
}

#[test]
fn attempts_beside_each_other() {
    let seeds =
        std::env::var("FORELOG_SEED").ok().and_then(|seed| seed.parse().ok()).map_or(0..40, |seed| seed..seed + 1);
    let mut cuts = 0;
    for seed in seeds {
        cuts += run(seed).unwrap_or_else(|error| panic!("FORELOG_SEED={seed}: {error}"));
    }
    println!("{cuts} moments");
}
