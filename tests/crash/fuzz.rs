//! A short deterministic run of each fuzz target (`fuzz/`): its seeds, and inputs drawn from `FORELOG_SEED`.

use forelog_fuzz::{TARGETS, driver};

#[test]
fn every_target_runs_for_a_while() {
    let seed = crashkit::seed(1);
    for (name, target) in TARGETS {
        let inputs = match name {
            // Each of these is a simulation of its own.
            "model" | "crash" => 300,
            _ => 3_000,
        };
        driver::drive(name, target, seed, inputs);
    }
}
