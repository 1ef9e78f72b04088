//! Who answers for what, in one letter a key: intervals and reaches as a picture.

use super::*;
use crate::base::error::Error;

fn bound(letter: char) -> Vec<u8> {
    if letter == '-' { Vec::new() } else { vec![letter as u8] }
}

fn range(from_to: &str) -> Range {
    let mut letters = from_to.chars();
    Range { low: bound(letters.next().unwrap()), high: bound(letters.next().unwrap()) }
}

fn interval(from: u64, to: u64) -> Interval {
    Interval { from: Lsn::new(from), to: Lsn::new(to) }
}

fn speaker(number: u64, (from, to): (u64, u64), reach: &str, bad: &[&str]) -> Speaker {
    let error = Error::bad_table("run".as_ref(), number);
    let bad = bad.iter().map(|bad| Bad { range: range(bad), error: error.clone(), older: None }).collect();
    Speaker { interval: interval(from, to), number, reach: range(reach), bad, unreadable: Vec::new() }
}

/// A piece: its range, the numbers of those that are used, what is missing.
type Shown = (String, Vec<u64>, Vec<(u64, u64)>);

fn cut(speakers: &[Speaker], begin: u64) -> Vec<Shown> {
    cut_with(speakers, &[], begin)
}

fn cut_with(speakers: &[Speaker], deleted: &[RangeTombstone], begin: u64) -> Vec<Shown> {
    let letters = |bound: &[u8]| bound.first().map_or('-', |letter| char::from(*letter));
    let shown = |piece: Piece| {
        let range: String = [letters(&piece.range.low), letters(&piece.range.high)].into_iter().collect();
        let used = piece.used.iter().map(|one| speakers[*one].number).collect();
        let missing = piece.missing.iter().map(|missing| (missing.from.get(), missing.to.get())).collect();
        (range, used, missing)
    };
    pieces(speakers, deleted, Lsn::new(begin)).into_iter().map(shown).collect()
}

fn piece(range: &str, used: &[u64], missing: &[(u64, u64)]) -> Shown {
    (range.to_owned(), used.to_vec(), missing.to_vec())
}

/// A checkpoint lets go of the runs of older layers that it has deleted.
#[test]
fn what_a_range_tombstone_has_deleted_is_not_missed() {
    let layers = [speaker(1, (0, 8), "hz", &[]), speaker(2, (8, 24), "-z", &[])];
    let deleted = |from_to, lsn, says| {
        let Range { low: start, high: end } = range(from_to);
        [RangeTombstone { start, end, lsn: Lsn::new(lsn), says }]
    };
    let rest = [piece("hz", &[1, 2], &[]), piece("z-", &[], &[(0, 24)])];
    let cut = |deleted: &[RangeTombstone]| cut_with(&layers, deleted, 24);
    let first =
        |pieces: Vec<Shown>| pieces.into_iter().take_while(|(range, ..)| !range.starts_with('h')).collect::<Vec<_>>();
    assert_eq!(cut(&[]), [&[piece("-h", &[2], &[(0, 8)])][..], &rest].concat());
    let up_to_f = cut(&deleted("cf", 16, Says::Deleted));
    assert_eq!(first(up_to_f), [piece("-c", &[2], &[(0, 8)]), piece("cf", &[2], &[]), piece("fh", &[2], &[(0, 8)])]);
    // Its own commit may have put a key behind it.
    assert_eq!(cut(&deleted("ch", 8, Says::Deleted))[0], piece("-h", &[2], &[(0, 8)]));
    // What is lost is no deletion.
    assert_eq!(cut(&deleted("ch", 16, Says::LostAbove(Lsn::new(8))))[0], piece("-h", &[2], &[(0, 8)]));
}

#[test]
fn intervals_that_join_miss_nothing() {
    let layers = [speaker(1, (0, 8), "--", &[]), speaker(2, (8, 16), "--", &[])];
    assert_eq!(cut(&layers, 16), [piece("--", &[1, 2], &[])]);
    // The log begins lower, or higher.
    assert_eq!(cut(&layers, 8), [piece("--", &[1, 2], &[])]);
    assert_eq!(cut(&layers, 24), [piece("--", &[1, 2], &[(16, 24)])]);
    assert_eq!(cut(&[], 0), [piece("--", &[], &[])]);
    assert_eq!(cut(&[], 8), [piece("--", &[], &[(0, 8)])]);
}

#[test]
fn what_nobody_answers_for_is_missing_there_alone() {
    let layers =
        [speaker(1, (0, 8), "--", &["df"]), speaker(2, (8, 16), "-m", &[]), speaker(3, (8, 16), "p-", &["x-"])];
    let all = [
        piece("-d", &[1, 2], &[]),
        piece("df", &[1, 2], &[(0, 8)]),
        piece("fm", &[1, 2], &[]),
        piece("mp", &[1], &[(8, 16)]),
        piece("px", &[1, 3], &[]),
        piece("x-", &[1, 3], &[(8, 16)]),
    ];
    assert_eq!(cut(&layers, 16), all);
    // The log has the newer interval.
    let missing: Vec<_> = cut(&layers, 8).into_iter().filter(|(_, _, missing)| !missing.is_empty()).collect();
    assert_eq!(missing, [piece("df", &[1, 2], &[(0, 8)])]);
}

#[test]
fn an_output_covers_its_inputs_where_it_answers() {
    let all = [
        speaker(1, (0, 8), "--", &[]),
        speaker(2, (8, 16), "--", &[]),
        speaker(3, (0, 16), "--", &["df"]),
        speaker(4, (16, 24), "--", &[]),
    ];
    let inputs = piece("df", &[1, 2, 3, 4], &[]);
    assert_eq!(cut(&all, 24), [piece("-d", &[3, 4], &[]), inputs, piece("f-", &[3, 4], &[])]);
    // Of two for one interval the later one counts; of two that overlap both do.
    let again = [speaker(1, (0, 8), "--", &[]), speaker(2, (0, 8), "-m", &[])];
    assert_eq!(cut(&again, 8), [piece("-m", &[2], &[]), piece("m-", &[1], &[])]);
    let overlap = [speaker(1, (0, 16), "--", &[]), speaker(2, (8, 24), "--", &[])];
    assert_eq!(cut(&overlap, 24), [piece("--", &[1, 2], &[])]);
}

#[test]
fn those_that_follow_one_another_are_read_one_after_the_other() {
    let all = [
        speaker(1, (0, 8), "m-", &[]),
        speaker(2, (0, 8), "-m", &[]),
        speaker(3, (8, 16), "-d", &[]),
        speaker(4, (8, 16), "d-", &[]),
    ];
    let chains = chains(&all);
    assert_eq!(chains, [vec![1, 0], vec![2, 3]]);
}
