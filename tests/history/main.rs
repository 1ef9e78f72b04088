//! Random operations on the whole engine, with so little memory that it forgets all the time, against the history of
//! everything that was committed: `sim/src/history/`.
//!
//! ```text
//! cargo test -p forelog-sim --test history
//! FORELOG_SEED=7 FORELOG_CASE=12 cargo test -p forelog-sim --test history replay
//! cargo test --release -p forelog-sim --test campaign -- history --operations 10000000
//! ```
//!
//! The first runs some of the cases of a seed, the second one of them alone, the third as many as it takes; it prints
//! operations a second and how often each kind of operation and each event came.

use forelog_sim::figures;
use forelog_sim::history::{Until, run_many, run_one};

const CASES: u64 = 60;

#[test]
fn the_engine_does_what_its_history_says() {
    let seed = crashkit::seed(0x41_57);
    let run = run_many(seed, Until::Cases(CASES), 2);
    figures::print(&run.counts.figures("history"));
    assert_eq!(run.failure, None);
    assert!(run.counts.missing().is_empty(), "never came: {:?}", run.counts.missing());
}

/// One case, if one is asked for.
#[test]
fn replay() {
    if let Some(case) = crashkit::number("FORELOG_CASE") {
        let result = run_one(crashkit::seed(0x41_57), case);
        println!("{result:?}");
        assert!(result.is_ok());
    }
}
