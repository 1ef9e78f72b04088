use crate::scale::histogram::Histogram;

#[test]
fn a_percentile_is_at_most_a_thirtysecond_too_long() {
    let mut histogram = Histogram::new();
    let times: Vec<u64> = (0..20_000).map(|number| number * number).collect();
    times.iter().for_each(|time| histogram.add(*time));
    let told = histogram.times().expect("times");
    for (told, per_mille) in [(told.p50, 500), (told.p99, 990), (told.p999, 999)] {
        let exact = times[times.len() * per_mille / 1000 - 1] as f64 / 1000.0;
        assert!((exact..=exact * (1.0 + 1.0 / 32.0)).contains(&told), "{exact} {told}");
    }
    assert_eq!(told.max, times[times.len() - 1] as f64 / 1000.0);
}

#[test]
fn short_times_are_exact_and_the_longest_has_a_place() {
    let mut histogram = Histogram::new();
    assert!(histogram.times().is_none());
    [7, 7, 7, u64::MAX].iter().for_each(|time| histogram.add(*time));
    let told = histogram.times().expect("times");
    assert_eq!((told.p50, told.max), (0.007, u64::MAX as f64 / 1000.0));
    histogram.clear();
    assert!(histogram.times().is_none());
}
