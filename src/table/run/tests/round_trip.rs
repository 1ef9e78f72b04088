//! What is written is read.

use proptest::prelude::*;

use super::*;

/// Keys that share much, and little; versions of one key over more than a block, and more than a partition, large ones
/// between small ones.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let key = (0..10_u32, prop::collection::vec(0..4_u8, 0..6), 0..300_usize);
    let value = prop::option::weighted(0.7, (any::<u8>(), prop::sample::select(vec![0, 3, 90, 4200])));
    let versions = prop::collection::btree_map(513..131_072_u64, value, 1..30);
    prop::collection::vec((key, versions), 0..30).prop_map(|all| {
        let mut entries: Vec<Entry> = Vec::new();
        for ((id, mut key, more), versions) in all {
            key.resize(key.len() + more, b'k');
            for (lsn, value) in versions {
                let value = value.map(|(byte, length)| vec![byte; length]);
                entries.push((full(id, &key), lsn * 8, value));
            }
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        entries.dedup_by(|a, b| (&a.0, a.1) == (&b.0, b.1));
        entries
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_run_holds_what_was_written(entries in entries(), ranges in 0..3_u64) {
        let dir = dir();
        let ranges: Vec<_> =
            (0..ranges).map(|number| deleted(full(1, &[9, 0]), full(1, &[9, 9]), 90_000 - 8 * number)).collect();
        let named = write(&*dir, 5, &entries, ranges.clone());
        let run = open(&*dir, 5).unwrap();
        prop_assert_eq!(walk(&run), (entries.clone(), 0));
        prop_assert_eq!(read(open(&*dir, 5).unwrap()).unwrap(), entries.clone());
        prop_assert_eq!(&run.range_tombstones, &ranges);
        prop_assert_eq!(named.entries, entries.len() as u64);
        prop_assert_eq!(named.range_tombstones, ranges.len() as u64);
        let lsns = entries.iter().map(|entry| entry.1).chain(ranges.iter().map(|range| range.lsn.get()));
        prop_assert_eq!(named.newest.get(), lsns.max().unwrap_or(0));
        prop_assert_eq!(named.file.length, bytes(&*dir, 5).len() as u64);
        prop_assert_eq!(u64::from(named.tail), run.footer.tail());
    }
}

/// What a separator and a partition take at least, as a reader expected it, was a byte too much: if it is the one before,
/// nothing of the key is repeated. Blocks of tombstones, each between values for which a block is too small.
#[test]
fn separators_that_are_all_the_same_take_their_least() {
    for (keys, versions, partitions) in [(40, 4, 1), (1, 2000, 16)] {
        let mut entries = Vec::new();
        for key in 0..keys {
            for number in 0..versions {
                let value = (number % 2 == 0 || keys == 1).then(|| vec![7; 4200]);
                entries.push((full(1, &[key]), 80_000 - 8 * number, value));
            }
        }
        let dir = dir();
        write(&*dir, 5, &entries, Vec::new());
        let run = open(&*dir, 5).unwrap();
        assert!(run.root.partitions.len() >= partitions);
        assert_eq!(walk(&run), (entries.clone(), 0));
        assert_eq!(read(open(&*dir, 5).unwrap()).unwrap(), entries);
    }
}

/// One key with more versions than a partition has room for, between two others.
#[test]
fn the_versions_of_a_key_go_on_in_the_next_partition() {
    let mut entries = vec![(full(1, b"a"), 5000, Some(vec![1]))];
    entries.extend((0..300).map(|number| (full(1, b"b"), 80_000 - 8 * number, Some(vec![2; 1500]))));
    entries.push((full(1, b"c"), 4104, None));
    let dir = dir();
    write(&*dir, 5, &entries, Vec::new());
    let run = open(&*dir, 5).unwrap();
    assert!(run.root.partitions.len() > 1, "{}", run.root.partitions.len());
    // Each partition's filter must have the key: the walk asks it for every entry.
    assert_eq!(walk(&run), (entries.clone(), 0));
    assert_eq!(read(run).unwrap(), entries);
}

#[test]
fn a_run_may_have_nothing_but_its_reach() {
    let dir = dir();
    let named = write(&*dir, 5, &[], Vec::new());
    let run = open(&*dir, 5).unwrap();
    assert_eq!((named.entries, named.newest, walk(&run)), (0, Lsn::ZERO, (Vec::new(), 0)));
    assert_eq!(run.root.reach, Range::default());
}

/// What it costs: the page says about 5 bytes an entry beside its value and what its key does not share.
#[test]
fn an_entry_costs_what_the_page_says() {
    let dir = dir();
    let entries: Vec<Entry> =
        (0..20_000_u64).map(|number| (full(1, &number.to_be_bytes()), 8192, Some(vec![0; 100]))).collect();
    let named = write(&*dir, 5, &entries, Vec::new());
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let each = named.file.length as f64 / entries.len() as f64;
    println!("{each:.1} bytes an entry of 8 + 100");
    assert!((105.0..113.0).contains(&each), "{each}");
}
