//! Cases, one or many.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crashkit::mix;
use forelog::sim;

use super::counts::Counts;
use super::reads::Outcome;
use super::system::System;

/// What many cases have come to.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub counts: Counts,
    /// What went wrong first, with what replays it.
    pub failure: Option<String>,
}

/// Runs the case of this number.
///
/// # Errors
/// What was not as the history says, with what replays it.
pub fn run_one(seed: u64, number: u64) -> Outcome<Counts> {
    let seed_of_case = mix(seed ^ mix(number));
    let case = AssertUnwindSafe(|| sim::run(seed_of_case, || case(seed_of_case)));
    let result = catch_unwind(case).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("of another kind")))
    });
    result.map_err(|why| format!("FORELOG_SEED={seed} FORELOG_CASE={number}: {why}"))
}

fn case(seed: u64) -> Outcome<Counts> {
    let mut system = System::new(seed)?;
    for step in 0..system.plan.steps {
        let stepped = system.step();
        if let Err(why) = stepped {
            return Err(format!("step {step} ({}): {why}", system.plan));
        }
    }
    system.end()
}

/// How many cases are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    Cases(u64),
    /// Until all of them have come to so many operations.
    Operations(u64),
}

impl Until {
    fn goes_on(self, case: u64, operations: u64) -> bool {
        match self {
            Until::Cases(cases) => case < cases,
            Until::Operations(wanted) => operations < wanted,
        }
    }
}

/// Runs one case after the other on `threads` threads.
pub fn run_many(seed: u64, until: Until, threads: usize) -> Run {
    let (next, done, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let run = Mutex::new(Run::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if is_over.load(Ordering::Relaxed) || !until.goes_on(case, done.load(Ordering::Relaxed)) {
                        break;
                    }
                    let result = run_one(seed, case);
                    let mut run = run.lock().expect("nobody panics with it");
                    match result {
                        Ok(counts) => {
                            run.counts.add(&counts);
                            run.counts.forgetful += u64::from(counts.forgets > 0);
                            done.fetch_add(counts.operations(), Ordering::Relaxed);
                        }
                        Err(why) => {
                            run.failure.get_or_insert(why);
                            is_over.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    run.into_inner().expect("nobody panics with it")
}
