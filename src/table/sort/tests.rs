//! Sorted writes against a map of all versions.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::format::batch::BatchBuilder;
use crate::format::table::write_full_key;

/// Keyspace, key, value.
type One = (u32, Vec<u8>, Option<Vec<u8>>);

fn records() -> impl Strategy<Value = Vec<Vec<One>>> {
    // Keys that agree in all that the prefix has, that end within it, and that differ only in zeros at their end.
    let key =
        (prop::collection::vec(0..2_u8, 0..4), prop::sample::select(vec![0, 3, 300])).prop_map(|(mut key, more)| {
            key.resize(key.len() + more, 0);
            key
        });
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..4));
    prop::collection::vec(prop::collection::vec((0..3_u32, key, value), 0..5), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn each_version_is_there_once_and_in_the_order_of_a_run(records in records()) {
        let mut sorter = Sorter::default();
        let mut expected = BTreeMap::new();
        for (record, lsn) in records.iter().zip((8..).step_by(8)) {
            let mut batch = BatchBuilder::new();
            for (keyspace, key, value) in record {
                match value {
                    Some(value) => batch.put(*keyspace, key, value).unwrap(),
                    None => batch.delete(*keyspace, key).unwrap(),
                }
                let mut full = Vec::new();
                write_full_key(&mut full, *keyspace, key);
                expected.insert((full, Reverse(lsn)), value.clone());
            }
            sorter.add(Lsn::new(lsn), &batch.batch());
        }
        let mut sorted = sorter.finish();
        let mut found = Vec::new();
        while sorted.advance().unwrap() {
            let Found { lsn, value } = sorted.version();
            found.push(((sorted.key().to_vec(), Reverse(lsn.get())), value.map(<[u8]>::to_vec)));
        }
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

/// It counted nowhere, and is the most that a checkpoint takes.
#[test]
fn what_is_sorted_is_counted_until_it_goes() {
    let all = SortedBytes::default();
    let mut sorters = [Sorter::counted_in(&all), Sorter::counted_in(&all)];
    let mut batch = BatchBuilder::new();
    batch.put(1, b"k", &[7; 10_000]).unwrap();
    sorters.iter_mut().for_each(|sorter| sorter.add(Lsn::new(8), &batch.batch()));
    let both = all.load(Ordering::Relaxed);
    assert!(both >= 20_000, "{both}");
    let [first, second] = sorters.map(Sorter::finish);
    drop(first);
    assert_eq!(all.load(Ordering::Relaxed), both / 2);
    drop(second);
    assert_eq!(all.load(Ordering::Relaxed), 0);
}
