//! Two things at once: the sample that every test run takes.

use crashkit::{Random, seed};
use forelog_sim::faults::double::{
    crash_in_recovery, failed_read_in_recovery, failed_sync_in_recovery, full_in_recovery, rot_beside_a_tear,
    torn_states,
};
use forelog_sim::faults::matrix::Matrix;

#[test]
fn recovery_may_be_cut_off_at_every_operation_and_again() {
    let mut matrix = Matrix::default();
    for torn in torn_states(4) {
        crash_in_recovery(&torn, 3, 61, &mut matrix);
    }
    matrix.assert_clean("crashes in recovery");
}

#[test]
fn a_fault_in_recovery_is_told_and_the_next_open_succeeds() {
    let mut matrix = Matrix::default();
    for torn in torn_states(6) {
        full_in_recovery(&torn, &mut matrix);
        failed_sync_in_recovery(&torn, &mut matrix);
        failed_read_in_recovery(&torn, &mut matrix);
    }
    matrix.assert_clean("faults in recovery");
    assert!(matrix.total("typed error") > 0);
}

#[test]
fn rot_beside_a_torn_tail_is_refused_or_harmless() {
    let mut random = Random::new(seed(0x0707));
    let mut matrix = Matrix::default();
    for torn in torn_states(6) {
        rot_beside_a_tear(&torn, || 1 + random.below(200), &mut matrix);
    }
    matrix.assert_clean("rot and tear");
}
