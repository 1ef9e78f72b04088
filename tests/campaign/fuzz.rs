//! The fuzz targets on the stable toolchain, in rounds with rising seeds, each for its share of the time.

use std::time::{Duration, Instant};

use forelog_fuzz::{TARGETS, driver};

use crate::Request;
use forelog_sim::figures::{Figure, Wanted};

const PART: &str = "fuzz";
const ROUND: u64 = 1_000;

pub(crate) fn run(request: &Request) -> Vec<Figure> {
    let share = Duration::from_secs(request.minutes * 60) / u32::try_from(TARGETS.len()).expect("a few");
    let first = crate::seed();
    let drive = |(name, target)| {
        let started = Instant::now();
        let mut rounds = 0;
        while rounds == 0 || started.elapsed() < share {
            // A target that finds something panics, and the campaign with it: the input is in the message.
            driver::drive(name, target, first + rounds, ROUND);
            rounds += 1;
        }
        Figure::new(PART, format!("executions of `{name}`"), rounds * ROUND, Wanted::AtLeast(1))
    };
    TARGETS.into_iter().map(drive).collect()
}
