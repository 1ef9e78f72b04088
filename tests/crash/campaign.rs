//! Many runs on all processors, each following from the seed and its number alone.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use super::report::Tally;

/// A number from the environment; hexadecimal after 0x.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    Some(parsed.unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

pub(crate) fn seed() -> u64 {
    number("FORELOG_SEED").unwrap_or(0x666F_7265)
}

/// The one run that was asked for.
pub(crate) fn only_run() -> Option<u64> {
    number("FORELOG_RUN")
}

/// Calls `run` with the numbers below `count`, or with the one that was asked for. Prints one line for each run that
/// fails, which is all it takes to see it again, and panics at the end if there was one.
pub(crate) fn explore(
    test: &str,
    seed: u64,
    count: u64,
    run: impl Fn(u64, &mut Tally) -> Result<(), String> + Sync,
) -> Tally {
    let started = Instant::now();
    let (first, end) = only_run().map_or((0, count), |only| (only, only + 1));
    println!("{test}: FORELOG_SEED={seed:#x}, runs {first} to {}", end - 1);
    let (next, total, failures) = (AtomicU64::new(first), Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    let work = || {
        let mut tally = total.lock().expect("nobody panics with the tally in hand").sharing();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                break;
            }
            let result = catch_unwind(AssertUnwindSafe(|| run(number, &mut tally)));
            if let Err(error) = result.unwrap_or_else(|_| Err("panicked".to_owned())) {
                let line = format!("FORELOG_SEED={seed:#x} FORELOG_RUN={number} {test}: {error}");
                println!("{line}");
                failures.lock().expect("nobody panics with the failures in hand").push(line);
            }
        }
        total.lock().expect("nobody panics with the tally in hand").merge(&tally);
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    let tally = total.into_inner().expect("nobody panics with the tally in hand");
    let failures = failures.into_inner().expect("nobody panics with the failures in hand");
    let refused = failures.iter().filter(|line| line.contains("REFUSED")).count();
    print!("{tally}");
    println!("  {:<52} {:>16}", "legal states refused", refused);
    println!("  {:<52} {:>16}", "other violations", failures.len() - refused);
    println!("  {:<52} {:>16.1?}", "time", started.elapsed());
    assert!(failures.is_empty(), "{} of {} runs failed, the first: {}", failures.len(), end - first, failures[0]);
    tally
}
