//! Fault plans: the sample that every test run takes.

use crashkit::{Random, seed};
use forelog_sim::faults::log_plans;
use forelog_sim::faults::plans::{runs, strikes, sweep_all};

/// One n in twelve, beginning at one that is drawn anew for each fault and workload.
#[test]
fn a_sample_of_faults_is_survived_or_told() {
    let mut random = Random::new(seed(0xFA17));
    let matrix = sweep_all(12, |_| random.below(12) as u64);
    matrix.assert_clean("fault plans");
    assert!(matrix.total("survived") > 0 && matrix.total("typed error") > 0);
}

/// `FORELOG_FAULT=workload/fault/n`, as a failure prints it.
#[test]
fn one_fault() {
    let Ok(case) = std::env::var("FORELOG_FAULT") else { return };
    let mut parts = case.splitn(2, '/');
    let (workload, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (fault, n) = rest.rsplit_once('/').expect("workload/fault/n");
    let run = runs().into_iter().find(|run| run.name() == workload).expect("a workload");
    let strike = strikes().into_iter().find(|strike| strike.name == fault).expect("a fault");
    match run.run_case(&strike, n.parse().expect("a number")) {
        Ok(outcome) => println!("{outcome:?}"),
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn a_scan_that_meets_a_read_error_stays_ended() {
    log_plans::check_scan_is_sticky().unwrap_or_else(|violation| panic!("{violation}"));
}
