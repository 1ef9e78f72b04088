//! Many runs on all processors, each following from the seed and its number alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::case::{Case, Depth};
use super::report::Tally;
use super::shrink::{Run, shrink};
use crashkit::number;

pub fn seed() -> u64 {
    number("FORELOG_SEED").unwrap_or(0x666F_7265)
}

/// The one run that was asked for.
pub fn only_run() -> Option<u64> {
    number("FORELOG_RUN")
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// So many runs.
    pub runs: u64,
    /// So many distinct images, counted with those that the tally shares.
    pub images: usize,
    /// And until a third of them is crowded.
    pub crowded: bool,
    /// Of so many runs one is looked at in full, after the first so many.
    pub full: Option<u64>,
}

/// What came of it.
pub struct Explored {
    pub tally: Tally,
    /// The first failure, as the line that shows it again.
    pub failure: Option<String>,
    pub time: Duration,
}

/// Explores until there is enough, or one run fails. `test` is what reproduces it.
pub fn explore(test: &str, until: Until, sharing: &Tally, run: Run<'_>) -> Explored {
    let started = Instant::now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (total, failure) = (Mutex::new(sharing.sharing()), Mutex::new(None));
    let work = || {
        let mut tally = sharing.sharing();
        let enough = |tally: &Tally| tally.images() >= until.images && (!until.crowded || tally.enough_crowded());
        while !stop.load(Ordering::Relaxed) && !enough(&tally) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= until.runs {
                break;
            }
            let full = until.full.is_some_and(|every| number > every && number % every == 0);
            let depth = if full { Depth::Full } else { Depth::Sampled };
            let case = Case { depth, ..Case::new(seed(), number) };
            if let Err(error) = run_one(run, &case, &mut tally)
                && !stop.swap(true, Ordering::Relaxed)
            {
                *failure.lock().expect("nobody panics with the failure in hand") =
                    Some((case, error, tally.failure.take()));
            }
        }
        total.lock().expect("nobody panics with the tally in hand").merge(&tally);
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    let failure = failure.into_inner().expect("nobody panics with the failure in hand");
    let failure = failure.map(|(case, error, focus)| {
        println!("{case} {test}: {error}");
        let (smallest, error) = shrink(&case, error, focus, run);
        format!("{smallest} {test}: {error}")
    });
    let tally = total.into_inner().expect("nobody panics with the tally in hand");
    Explored { tally, failure, time: started.elapsed() }
}

fn run_one(run: Run<'_>, case: &Case, tally: &mut Tally) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| run(case, tally))).unwrap_or_else(|_| Err("I12: panicked".to_owned()))
}

/// For a test: explores, or runs the one case that the environment asks for; prints what was found and panics if
/// something failed.
pub fn explore_or_replay(test: &str, until: Until, run: Run<'_>) -> Tally {
    let command = format!("cargo test -p forelog-sim --test crash {test} -- --nocapture");
    if let Some(case) = Case::asked_for() {
        let mut tally = Tally::default();
        run_one(run, &case, &mut tally).unwrap_or_else(|error| panic!("{case} {command}: {error}"));
        print!("{tally}");
        return tally;
    }
    println!("{test}: FORELOG_SEED={:#x}", seed());
    let Explored { tally, failure, time } = explore(&command, until, &Tally::default(), run);
    print!("{tally}");
    println!("  {:<60} {:>16.1?}", "time", time);
    if let Some(failure) = failure {
        panic!("the smallest that fails:\n{failure}");
    }
    tally
}
