//! Fault plans: the sample that every test run takes.

use std::sync::Arc;

use crate::suite::matrix::Matrix;
use crate::suite::plans::{Run, run_case, strikes, sweep};
use crate::suite::{in_parallel, log_plans, workloads};
use crate::support::{Random, seed};

/// All workloads by name.
fn runs() -> Vec<(&'static str, Run)> {
    let engine = workloads::all().into_iter().map(|workload| {
        let name = workload.name;
        let run: Run = Arc::new(move |strike, n| run_case(&workload, strike, n));
        (name, run)
    });
    let log: Run = Arc::new(log_plans::run_case);
    engine.chain([("the log alone", log)]).collect()
}

/// One n in many, drawn anew for each fault and workload.
#[test]
fn a_sample_of_faults_is_survived_or_told() {
    let mut random = Random::new(seed(0xFA17));
    let (runs, strikes) = (runs(), strikes());
    let cases: Vec<_> = strikes.iter().flat_map(|strike| runs.iter().map(move |run| (strike, run))).collect();
    let firsts: Vec<u64> = cases.iter().map(|_| random.below(40) as u64).collect();
    let parts = in_parallel(cases.len(), |index| {
        let mut matrix = Matrix::default();
        let (strike, (name, run)) = cases[index];
        sweep(name, run, strike, firsts[index], 40, &mut matrix);
        matrix
    });
    let mut matrix = Matrix::default();
    parts.into_iter().for_each(|part| matrix.merge(part));
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
    let (_, run) = runs().into_iter().find(|(name, _)| *name == workload).expect("a workload");
    let strike = strikes().into_iter().find(|strike| strike.name == fault).expect("a fault");
    match run(&strike, n.parse().expect("a number")) {
        Ok(outcome) => println!("{outcome:?}"),
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn a_scan_that_meets_a_read_error_stays_ended() {
    log_plans::check_scan_is_sticky().unwrap_or_else(|violation| panic!("{violation}"));
}
