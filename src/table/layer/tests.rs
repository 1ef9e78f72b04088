//! A layer against what was to be in it.

use proptest::prelude::*;

use super::*;
use crate::base::types::Lsn;
use crate::format::batch::BatchBuilder;
use crate::format::table::range_tombstones::Says;
use crate::format::table::write_full_key;
use crate::index::Key;
use crate::table::merge::{Gone, Retain};
use crate::table::sort::Sorter;
use crate::table::tests::{BRANCH, Versions, memory_dir, new_store, versions};

const INTERVAL: Interval = Interval { from: Lsn::ZERO, to: Lsn::new(1 << 16) };

fn full(key: &[u8]) -> Vec<u8> {
    let mut full = Vec::new();
    write_full_key(&mut full, 1, key);
    full
}

/// Keys with their values' lengths, each twice, and ranges of the first byte.
fn check(writes: &[(Vec<u8>, usize)], ranges: &[u8], run_bytes: u64) {
    let dir = memory_dir();
    let store = new_store(&dir);
    let (mut sorter, mut expected) = (Sorter::default(), Versions::new());
    for (lsn, (key, length)) in (8..).step_by(8).zip(writes.iter().chain(writes)) {
        let mut batch = BatchBuilder::new();
        batch.put(1, key, &vec![b'v'; *length]).unwrap();
        sorter.add(Lsn::new(lsn), &batch.batch());
        expected.insert((full(key), Lsn::new(lsn)), Some(vec![b'v'; *length]));
    }
    // Adjacent ones, two over each range.
    let tombstones: Vec<_> = ranges
        .iter()
        .flat_map(|first| [16, 8].map(|lsn| (*first, lsn)))
        .map(|(first, lsn)| {
            let (start, end) = (full(&[first]), full(&[first + 1]));
            RangeTombstone { start, end, lsn: Lsn::new(lsn), says: Says::Deleted }
        })
        .collect();
    let mut attempt = store.begin();
    let merge = Merge::new(vec![sorter.finish()], Retain::default(), Vec::new(), Gone::default()).unwrap();
    let layer = attempt
        .write_layer(Stretch { interval: INTERVAL, branch: BRANCH }, merge, tombstones.clone(), run_bytes)
        .unwrap();
    assert_eq!(versions(&store, &layer).unwrap(), expected);
    let runs = layer.runs;

    let (mut end, mut reached, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
    for (number, named) in runs.iter().enumerate() {
        let run = store.open_run(named, INTERVAL).unwrap();
        assert!(end <= run.root.range.low, "runs are disjoint and ascend");
        assert_eq!(reached, run.root.reach.low, "what one reaches to, the next one begins at");
        assert_eq!(run.root.reach.high.is_empty(), number + 1 == runs.len());
        (end, reached) = (run.root.range.high.clone(), run.root.reach.high.clone());
        pieces.extend(run.range_tombstones);
    }
    // Cut where runs end, and together what they were.
    for one in &tombstones {
        let own: Vec<_> = pieces
            .iter()
            .filter(|piece| piece.lsn == one.lsn && one.start <= piece.start && piece.end <= one.end)
            .collect();
        assert_eq!(own.first().map(|piece| &piece.start), Some(&one.start));
        assert_eq!(own.last().map(|piece| &piece.end), Some(&one.end));
        assert!(own.windows(2).all(|pair| pair[0].end == pair[1].start), "{own:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_is_cut_into_runs(
        writes in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..3), 0..300_usize, 0..40),
        ranges in prop::collection::btree_set(0..255_u8, 0..6),
        run_bytes in prop::sample::select(vec![1, 1500, 5000, u64::MAX]),
    ) {
        check(&writes.into_iter().collect::<Vec<_>>(), &ranges.into_iter().collect::<Vec<_>>(), run_bytes);
    }
}

#[test]
fn a_range_tombstone_over_many_runs_is_in_each() {
    let writes: Vec<_> = (0..200).map(|second| (vec![7, second], 100)).collect();
    check(&writes, &[6, 7, 8], 4000);
    check(&[], &[7], 4000);
    check(&[], &[], 4000);
}

/// A bound behind the longest key is a byte longer than any full key. The run behind it was refused.
#[test]
fn a_range_tombstone_is_cut_behind_the_longest_key() {
    let longest = vec![7; 65_535];
    check(&[(longest.clone(), 10), (vec![7, 8], 10)], &[7], 1);
    check(&[(longest, 10)], &[7], 1);
}

/// Pieces that have little but deletions: no run has more of them than it may, wherever its pieces end.
#[test]
fn a_run_of_pieces_ends_before_its_range_tombstones_are_many() {
    let dir = memory_dir();
    let store = new_store(&dir);
    let key = |number: u16| Key::from(&number.to_be_bytes());
    // Two bytes of a key behind four of an id: two bounds and the rest.
    let each = pending::bytes_of([&RangeTombstone {
        start: full(&[0, 0]),
        end: full(&[0, 0]),
        lsn: Lsn::new(8),
        says: Says::Deleted,
    }]);
    let pieces = (0..20_u16).map(|piece| {
        let begin = piece * 32;
        let deleted = (begin..begin + 24).step_by(2).map(|number| (key(number), Some(key(number + 1)), Lsn::new(8)));
        (1, Above { keys: Vec::new(), deleted: deleted.collect(), next: (piece < 19).then(|| key(begin + 32)) })
    });
    let retain = (Retain { floor: INTERVAL.to, ..Retain::default() }, Gone::default());
    // A piece has twelve: two of them are too many for a run.
    let run_bytes = 4 * 20 * each;
    let mut attempt = store.begin();
    let layer =
        attempt.write_pieces(Stretch { interval: INTERVAL, branch: BRANCH }, pieces, &retain, run_bytes).unwrap();
    let counts: Vec<_> = layer.runs.iter().map(|run| run.range_tombstones).collect();
    assert_eq!(counts, [12; 20]);
}
