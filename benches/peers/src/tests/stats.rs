use crate::common::stats::{Spread, percentile};

#[test]
fn the_spread_of_five_is_its_second_third_and_fourth() {
    let spread = Spread::of([50.0, 10.0, 40.0, 20.0, 30.0]).expect("five values");
    assert_eq!(spread, Spread { median: 30.0, low: 20.0, high: 40.0 });
}

#[test]
fn the_spread_of_one_is_itself_and_of_none_is_none() {
    assert_eq!(Spread::of([7.0]), Some(Spread { median: 7.0, low: 7.0, high: 7.0 }));
    assert_eq!(Spread::of([]), None);
}

#[test]
fn percentiles_of_a_thousand_and_one() {
    let sorted: Vec<u64> = (0..=1000).collect();
    assert_eq!([500, 990, 999].map(|per_mille| percentile(&sorted, per_mille)), [Some(500), Some(990), Some(999)]);
    assert_eq!(percentile::<u64>(&[], 500), None);
}
