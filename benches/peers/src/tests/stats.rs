use crate::common::stats::{Latency, Spread, percentile};

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

#[test]
fn of_few_values_the_largest_stands_for_the_last_of_a_thousand() {
    for (count, p50, p999) in
        [(1_u64, 1, 1), (2, 1, 2), (13, 7, 13), (999, 500, 999), (1000, 500, 999), (1001, 501, 1000)]
    {
        let sorted: Vec<u64> = (1..=count).collect();
        assert_eq!([500, 999].map(|of| percentile(&sorted, of)), [Some(p50), Some(p999)], "of {count}");
    }
}

#[test]
fn latencies_are_in_microseconds_whatever_their_order() {
    let mut times: Vec<u64> = (1..=1000).rev().map(|time| time * 1000).collect();
    assert_eq!(Latency::of(&mut times), Latency { p50: Some(500.0), p99: Some(990.0), p999: Some(999.0) });
    assert_eq!(Latency::of(&mut []), Latency::default());
}
