//! A short deterministic run of each fuzz target (`fuzz/`): its seeds, and inputs drawn from `FORELOG_SEED`.

#[allow(dead_code, unreachable_pub, reason = "a package of its own, of which this uses a part")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

mod support;

#[test]
fn every_target_runs_for_a_while() {
    let seed = support::seed(1);
    for (name, target) in targets::TARGETS {
        let inputs = match name {
            // Each of these is a simulation of its own.
            "model" | "crash" => 300,
            _ => 3_000,
        };
        targets::driver::drive(name, target, seed, inputs);
    }
}
