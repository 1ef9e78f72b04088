//! Fragments against what the whole ranges say of each key.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::base::types::Lsn;
use crate::format::table::range_tombstones::Says;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn fragments_say_what_the_ranges_say(ranges in prop::collection::vec((0..12_u8, 1..12_u8, 1..6_u64, any::<bool>()), 0..8)) {
        let says = |lost| if lost { Says::LostAbove(Lsn::ZERO) } else { Says::Deleted };
        let whole: Vec<_> = ranges
            .iter()
            .map(|(start, length, lsn, lost)| RangeTombstone {
                start: vec![*start],
                end: vec![start + length],
                lsn: Lsn::new(8 * lsn),
                says: says(*lost),
            })
            .collect();
        let pieces = fragment(whole.clone());
        prop_assert!(pieces.is_sorted_by(|a, b| a.order() < b.order()));
        let are_fragments = |a: &RangeTombstone, b: &RangeTombstone| (&a.start, &a.end) == (&b.start, &b.end) || a.end <= b.start;
        prop_assert!(pieces.windows(2).all(|pair| are_fragments(&pair[0], &pair[1])), "{pieces:?}");
        for key in 0..=24_u8 {
            let over = |all: &[RangeTombstone]| -> BTreeSet<_> {
                let covers = |one: &&RangeTombstone| one.start <= vec![key] && vec![key] < one.end;
                all.iter().filter(covers).map(|one| (one.lsn, one.says)).collect()
            };
            prop_assert_eq!(over(&pieces), over(&whole), "{}", key);
        }
    }
}
