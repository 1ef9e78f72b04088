//! Runs a model and prints its figures, in one line that the campaign reads.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

#[cfg(shuttle)]
const CHECKER: &str = "shuttle";
#[cfg(loom)]
const CHECKER: &str = "loom";

/// Preemptive changes of threads that PCT places, plus one.
#[cfg(shuttle)]
const PCT_DEPTH: usize = 4;

/// Runs `explore` with a body that counts, and prints what came of it.
fn measure(model: &str, bound: &str, body: impl Fn() + Send + Sync + 'static, explore: impl FnOnce(Body)) {
    let executions = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&executions);
    let counted = Body(Box::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        body();
    }));
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| explore(counted)));
    let verdict = if result.is_ok() { "held" } else { "FAILED" };
    let line = format!(
        "\nmodel={model} checker={CHECKER} executions={} bound=\"{bound}\" seconds={:.1} {verdict}\n",
        executions.load(Ordering::Relaxed),
        start.elapsed().as_secs_f64()
    );
    // Not println: the harness would keep it to itself.
    let _ = std::io::stdout().write_all(line.as_bytes());
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

struct Body(Box<dyn Fn() + Send + Sync>);

#[cfg(shuttle)]
pub(crate) fn check(model: &str, body: impl Fn() + Send + Sync + 'static) {
    check_often(model, 1, body);
}

/// [`check`] with so many times the executions, for a model whose race is rare.
#[cfg(shuttle)]
pub(crate) fn check_often(model: &str, times: u64, body: impl Fn() + Send + Sync + 'static) {
    use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
    use shuttle::{Config, MaxSteps, Runner};

    fn number(name: &str, default: u64) -> u64 {
        std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: no number")))
    }
    fn run(scheduler: impl Scheduler + 'static, body: &Arc<Body>) {
        let mut config = Config::new();
        config.stack_size = 1 << 18;
        // A wait that spins for ever is a failure, as a deadlock is.
        config.max_steps = MaxSteps::FailAfter(300_000);
        config.silence_warnings = true;
        let body = Arc::clone(body);
        Runner::new(scheduler, config).run(move || (body.0)());
    }

    let seed = number("FORELOG_SEED", 1);
    let half = usize::try_from(times * number("FORELOG_EXECUTIONS", 2000) / 2).expect("a number of executions");
    let schedule = std::env::var("FORELOG_SCHEDULE").ok();
    let bound = match &schedule {
        Some(_) => "one schedule".to_owned(),
        None => format!("seed {seed}: half random, half PCT with {} preemptions", PCT_DEPTH - 1),
    };
    measure(model, &bound, body, |body| {
        let body = Arc::new(body);
        match schedule {
            Some(schedule) => run(ReplayScheduler::new_from_encoded(&schedule), &body),
            None => {
                run(RandomScheduler::new_from_seed(seed, half), &body);
                run(PctScheduler::new_from_seed(seed, PCT_DEPTH, half), &body);
            }
        }
    });
}

/// Tries every schedule with at most `preemptions` changes of threads that no wait calls for; `None` for every one.
#[cfg(loom)]
pub(crate) fn check(model: &str, preemptions: Option<usize>, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions.map(|preemptions| builder.preemption_bound.unwrap_or(preemptions));
    builder.max_branches = 50_000;
    let bound = builder.preemption_bound.map_or("none".to_owned(), |bound| format!("{bound} preemptions"));
    measure(model, &bound, body, |body| builder.check(move || (body.0)()));
}
