//! Random operations on the whole engine against the history of everything that was committed.

use std::time::Instant;

use crate::Request;
use forelog_sim::figures::{Figure, Wanted};
use forelog_sim::history::{Until, run_many};

const PART: &str = "history";

pub(crate) fn run(request: &Request) -> Vec<Figure> {
    let (seed, started) = (crate::seed(), Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let run = run_many(seed, Until::Operations(request.operations), threads);
    let operations = run.counts.operations();
    let a_second = operations * 1_000 / u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    println!("{operations} operations, {a_second} a second on {threads} threads");
    run.failure.iter().for_each(|failure| println!("{failure}"));
    let mut figures = vec![
        Figure::new(PART, "operations", operations, Wanted::AtLeast(request.operations)),
        Figure::new(PART, "operations a second", a_second, Wanted::Any),
        Figure::new(PART, "cases that were not as their history", u64::from(run.failure.is_some()), Wanted::Zero),
    ];
    figures.extend(run.counts.figures(PART));
    figures
}
