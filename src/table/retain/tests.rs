use proptest::prelude::*;

use super::*;
use crate::table::fragments::fragment;

fn one(start: &[u8], end: &[u8], lsn: u64, says: Says) -> RangeTombstone {
    let full = |key: &[u8]| [&[0, 0, 0, 1][..], key].concat();
    RangeTombstone { start: full(start), end: full(end), lsn: Lsn::new(lsn * 8), says }
}

fn deleted(start: &[u8], end: &[u8], lsn: u64) -> RangeTombstone {
    one(start, end, lsn, Says::Deleted)
}

fn retain(floor: u64, held: &[u64], is_last: bool) -> Retain {
    let held = held.iter().map(|lsn| Lsn::new(lsn * 8)).collect();
    Retain { floor: Lsn::new(floor * 8), held, is_last }
}

fn none_gone() -> Gone {
    Gone { next_id: 2, listed: [1].into() }
}

#[test]
fn a_range_tombstone_goes_from_the_last_layer_alone_and_if_nobody_reads_what_it_hides() {
    let ranges = [deleted(b"a", b"c", 5)];
    let kept = |retain: Retain| retain.ranges(&ranges, &none_gone()).len();
    assert_eq!(kept(retain(5, &[], true)), 0);
    assert_eq!(kept(retain(5, &[5], true)), 0, "who reads at it finds nothing either way");
    assert_eq!(kept(retain(5, &[], false)), 1, "a layer below has what it hides");
    assert_eq!(kept(retain(5, &[4], true)), 1, "what it hides stays for that snapshot");
    assert_eq!(kept(retain(4, &[], true)), 1, "a snapshot may begin below it");
}

#[test]
fn an_older_one_goes_if_a_newer_one_has_all_of_its_range() {
    let ranges = [deleted(b"a", b"c", 5), deleted(b"a", b"c", 3), deleted(b"c", b"d", 3)];
    let kept = |retain: Retain| retain.ranges(&ranges, &none_gone());
    assert_eq!(kept(retain(5, &[], false)), [ranges[0].clone(), ranges[2].clone()]);
    assert_eq!(kept(retain(5, &[4], false)), ranges);
    assert_eq!(kept(retain(4, &[], false)), ranges, "a snapshot may begin between the two");
}

#[test]
fn a_lost_range_stays_and_with_it_what_is_above_until_nobody_reads_it() {
    let lost = Says::LostAbove(Lsn::new(8));
    let ranges = [deleted(b"a", b"c", 5), one(b"a", b"c", 3, lost)];
    let kept = |retain: Retain| retain.ranges(&ranges, &none_gone());
    assert_eq!(kept(retain(4, &[], true)), ranges, "a snapshot may begin below the deletion");
    assert_eq!(kept(retain(5, &[2], true)), ranges, "one is held there");
    assert_eq!(kept(retain(5, &[], false)), ranges[..1]);
    assert_eq!(kept(retain(5, &[], true)), []);
    let alone = [one(b"a", b"c", 3, lost)];
    assert_eq!(retain(5, &[], true).ranges(&alone, &none_gone()), alone);
    // Its own commit may have put a key behind the deletion.
    let of_one_commit = [deleted(b"a", b"c", 5), one(b"a", b"c", 5, lost)];
    assert_eq!(retain(5, &[], true).ranges(&of_one_commit, &none_gone()), of_one_commit);
}

#[test]
fn pieces_of_one_range_become_one_again() {
    let ranges = [deleted(b"a", b"b", 5), deleted(b"b", b"c", 5), deleted(b"c", b"d", 4), deleted(b"e", b"f", 4)];
    let kept = retain(3, &[], false).ranges(&ranges, &none_gone());
    assert_eq!(kept, [deleted(b"a", b"c", 5), ranges[2].clone(), ranges[3].clone()]);
}

#[test]
fn those_of_a_keyspace_that_is_gone_go() {
    let gone = Gone { next_id: 2, listed: [].into() };
    assert!(retain(0, &[], false).ranges(&[deleted(b"a", b"b", 5)], &gone).is_empty());
}

#[test]
fn what_is_deleted_for_every_reader_is_told() {
    let ranges = [deleted(b"a", b"b", 5), deleted(b"b", b"c", 4), deleted(b"c", b"d", 6)];
    let found = retain(5, &[], false).deleted(&ranges);
    let full = |key: &[u8]| [&[0, 0, 0, 1][..], key].concat();
    assert!(found.has_all(&full(b"a"), Some(&full(b"c"))) && !found.has(&full(b"c")));
    assert!(retain(6, &[3], false).deleted(&ranges).is_empty());
}

proptest! {
    /// They say of each key what all of them say, to everybody who reads, and of each version whether it stays.
    #[test]
    fn those_that_stay_are_told_without_a_look_at_the_others(
        ranges in prop::collection::vec((0_u8..8, 1_u8..9, 1_u64..30), 0..20),
        floor in 0_u64..40,
        held in prop::collection::btree_set(0_u64..30, 0..4),
    ) {
        let held: Vec<_> = held.into_iter().filter(|held| *held < floor).collect();
        let retain = retain(floor, &held, false);
        let ranges: Vec<_> =
            ranges.iter().filter(|(a, b, _)| a < b).map(|(a, b, lsn)| deleted(&[*a], &[*b], *lsn)).collect();
        let needed = |of_range: &[RangeTombstone]| {
            let newer = |number: usize| number.checked_sub(1).map(|newer| of_range[newer].lsn);
            let stays = |number: &usize| retain.needs(of_range[*number].lsn, newer(*number));
            (0..of_range.len()).filter(stays).map(|number| of_range[number].clone()).collect::<Vec<_>>()
        };
        let all = fragment(ranges.clone());
        let expected: Vec<_> = all.chunk_by(|a, b| a.start == b.start).flat_map(needed).collect();
        prop_assert_eq!(retain.newest(ranges), expected);
    }
}

/// With all of them at once it was a thousand million.
#[test]
fn a_queue_whose_front_is_deleted_again_and_again_leaves_a_piece_for_each_time() {
    let ranges = (1..40_000_u32).map(|n| deleted(b"", &n.to_be_bytes(), u64::from(n))).collect();
    assert_eq!(retain(40_000, &[7], false).newest(ranges).len(), 39_999 + 7);
}
