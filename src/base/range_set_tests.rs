use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn set(ranges: &[(u8, Option<u8>)]) -> RangeSet<Vec<u8>> {
    let mut set = RangeSet::default();
    let mut count = 0;
    for (from, to) in ranges {
        let mut joined = 0;
        let is_new = set.insert(vec![*from], to.map(|to| vec![to]), |_, _| joined += 1).is_some();
        count = count + usize::from(is_new) - joined;
    }
    assert_eq!(set.iter().count(), count);
    set
}

proptest! {
    #[test]
    fn it_has_the_keys_of_all_ranges_and_no_two_touch(
        ranges in vec((0_u8..40, proptest::option::weighted(0.9, 0_u8..40)), 0..12),
    ) {
        let set = set(&ranges);
        for key in 0..42 {
            let is_in = ranges.iter().any(|(from, to)| *from <= key && to.is_none_or(|to| key < to));
            prop_assert_eq!(set.has(&[key]), is_in, "{} of {:?}", key, ranges);
        }
        for (from, to) in (0..42).flat_map(|from| (from + 1..43).map(move |to| (from, to))) {
            prop_assert_eq!(set.has_all(&[from], Some(&[to])), (from..to).all(|key| set.has(&[key])));
        }
        let all: Vec<_> = set.iter().collect();
        prop_assert!(all.windows(2).all(|pair| pair[0].1.is_some_and(|end| end < pair[1].0)), "{:?}", all);
        prop_assert_eq!(set.is_empty(), all.is_empty());
    }
}
