use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::Fences;

/// Keys of few letters, so that many share bytes, end early, and differ behind the eighth.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0_u8), Just(1), Just(255)], 0..12)
}

proptest! {
    /// As a search in the bounds themselves: of the first at or above a key, and of the first above it.
    #[test]
    fn a_search_finds_what_the_bounds_say(prefix in key(), bounds in btree_set(key(), 0..40), asked in key(), within: bool) {
        let bounds: Vec<Vec<u8>> = bounds.into_iter().map(|bound| [prefix.clone(), bound].concat()).collect();
        let fences = Fences::of(bounds.iter().map(Vec::as_slice));
        let asked = if within { [prefix, asked].concat() } else { asked };
        prop_assert_eq!(fences.len(), bounds.len());
        for asked in bounds.iter().chain([&asked]) {
            let at = fences.find(asked, |number| bounds[number] < *asked);
            prop_assert_eq!(at, bounds.partition_point(|bound| bound < asked));
            let above = fences.find(asked, |number| bounds[number] <= *asked);
            prop_assert_eq!(above, bounds.partition_point(|bound| bound <= asked));
        }
    }
}
