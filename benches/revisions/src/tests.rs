//! What the report says of slices that are made up.

use std::time::Duration;

use crate::ORDERS;
use crate::report::{Block, HEAD, Pair, Verdict, line};
use crate::slices::Slice;

fn slice(rate: u64, time: u64) -> Slice {
    Slice { operations: rate, time: Duration::from_secs(1), times: vec![time * 1000; 10] }
}

/// Blocks with these rates of new, old and old again.
fn blocks(rates: &[[u64; 3]]) -> Vec<Block> {
    let block =
        |[new, old, again]: &[u64; 3]| Block { new: slice(*new, 2), old: slice(*old, 1), again: slice(*again, 1) };
    rates.iter().map(block).collect()
}

fn rates(blocks: &mut [Block]) -> Pair {
    Pair::of(blocks, |slice| Some(slice.rate())).expect("all were measured")
}

#[test]
fn ratios_are_taken_within_blocks() {
    // A tenth less in each block, though the blocks differ by a factor of ten.
    let pair = rates(&mut blocks(&[[90, 100, 100], [900, 1000, 1000], [180, 200, 200]]));
    assert_eq!((pair.change.low, pair.change.median, pair.change.high, pair.chance.median), (0.9, 0.9, 0.9, 1.0));
}

#[test]
fn a_change_is_judged_beside_what_one_revision_differs_from_itself() {
    for (new, again, verdict) in [
        ([90, 90, 90], [100, 100, 100], Verdict::Worse),
        ([98, 98, 98], [100, 100, 100], Verdict::Even),
        ([90, 90, 90], [85, 100, 115], Verdict::Even),
        ([110, 110, 110], [99, 100, 101], Verdict::Better),
        ([80, 80, 80], [85, 100, 115], Verdict::Worse),
    ] {
        let rows: Vec<[u64; 3]> = new.into_iter().zip(again).map(|(new, again)| [new, 100, again]).collect();
        assert_eq!(rates(&mut blocks(&rows)).verdict(), verdict, "{rows:?}");
    }
}

#[test]
fn a_line_has_the_columns_of_its_head_and_the_figures_of_its_side() {
    let line = line("a row", &mut blocks(&[[50, 100, 100]; 3]));
    for head in HEAD.lines() {
        assert_eq!(head.matches('|').count(), line.matches('|').count(), "{line}");
    }
    assert!(line.starts_with("| a row | 100 | 1.0 | 1.0 | 50 | 2.0 | 2.0 | 0.500 "), "{line}");
    assert!(line.contains("| 2.000 (2.000 to 2.000) |") && line.ends_with("| **worse** |"), "{line}");
}

#[test]
fn each_side_is_first_second_and_third_equally_often() {
    for position in 0..3 {
        for side in 0..3 {
            assert_eq!(ORDERS.iter().filter(|order| order[position] == side).count(), 2);
        }
    }
}

#[test]
fn slices_of_a_side_add_up() {
    let mut all = slice(100, 1);
    all.add(slice(300, 2));
    assert_eq!((all.rate(), all.times.len()), (200.0, 20));
}
