//! Media that break what the format assumes: a sync that lied, tears inside of words. Nothing can be promised there but
//! that no wrong data is shown: the log is refused, or what is recovered is a prefix.

use std::collections::HashMap;

use forelog::sim::SimDisk;

use super::case::Case;
use super::explore::Explorer;
use super::life::{Faults, Past, live};
use super::report::Tally;
use super::workload::Plan;
use crashkit::Random;

/// One life in which one sync lies, or none does; at each crash point words are torn, too.
pub fn run_on_a_bad_medium(case: &Case, tally: &mut Tally) -> Result<(), String> {
    let first = case.first_life();
    let mut random = Random::new(!first);
    let plan = Plan { keep: case.keep.clone(), big_values: false, ..Plan::draw(&mut random, 0) };
    let (disk, past) = (SimDisk::new(), Past::default());
    if random.one_in(2) {
        disk.lie_once(random.below(24) as u64);
    }
    let life = live(first, &disk, &past, plan, Faults::None)?;
    Explorer { lenient: true, ..Explorer::of(&life, &past, case, tally) }.explore(&mut HashMap::new())?;
    tally.runs += 1;
    Ok(())
}
