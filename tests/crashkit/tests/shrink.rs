//! Histories that fail for a planted reason become small.

use crashkit::Random;
use crashkit::shrink::{leave_out, simplify};
use crashkit::workload::{Change, Kind, Op, Shape};
use forelog::CommitMode;

const SHAPE: Shape = Shape { keyspaces: &["left", "right"], segment: 4096, big_values: true, churn: false };

fn history(seed: u64) -> Vec<Op> {
    let mut random = Random::new(seed);
    let draw = |_| match random.below(4) {
        0 => Op::Flush,
        1 => Op::Wait,
        _ => {
            let changes = SHAPE.changes(Kind::PutOne, &mut random);
            Op::Commit(changes, random.pick(&[CommitMode::Sync, CommitMode::Written, CommitMode::Async]))
        }
    };
    (0..60).map(draw).collect()
}

/// A judge with a planted bug: a flush between an `Async` commit of more than 90 bytes and a `Sync` one fails.
fn fails(history: &[Op]) -> bool {
    let long = |change: &Change| matches!(change, Change::Put { length, .. } if *length > 90);
    let mut seen = 0;
    for op in history {
        match (seen, op) {
            (0, Op::Commit(changes, CommitMode::Async)) if changes.iter().any(long) => seen = 1,
            (1, Op::Flush) => seen = 2,
            (2, Op::Commit(_, CommitMode::Sync)) => return true,
            _ => {}
        }
    }
    false
}

#[test]
fn a_planted_failure_is_reduced_to_the_operations_that_it_takes() {
    let mut tried = 0;
    for history in (0..20).map(history).filter(|history| fails(history)) {
        let mut attempts = 500;
        let (mut small, ()) = leave_out(&history, &mut attempts, |part| fails(part).then_some(())).unwrap();
        simplify(&mut small, &mut attempts, Op::simpler, fails);
        assert!(fails(&small) && small.len() == 3, "{small:?}");
        let lengths: Vec<usize> = small
            .iter()
            .filter_map(|op| match op {
                Op::Commit(changes, _) => Some(changes),
                _ => None,
            })
            .flatten()
            .filter_map(|change| match change {
                Change::Put { length, .. } => Some(*length),
                _ => None,
            })
            .collect();
        assert!(lengths.len() == 2 && lengths[0] > 90 && lengths[1] == 0, "{small:?}");
        tried += 1;
    }
    assert!(tried > 5);
}

#[test]
fn no_more_is_tried_than_allowed_and_what_does_not_fail_smaller_stays() {
    let mut calls = 0;
    let mut attempts = 7;
    let smaller = leave_out(&[0; 64], &mut attempts, |_| {
        calls += 1;
        None::<()>
    });
    assert_eq!((smaller, calls, attempts), (None, 7, 0));
    let whole = [1, 2, 3];
    assert_eq!(leave_out(&whole, &mut 100, |part| (part == whole).then_some(())), None);
    assert_eq!(leave_out(&whole, &mut 100, |_| Some(())), Some((vec![], ())));
}
