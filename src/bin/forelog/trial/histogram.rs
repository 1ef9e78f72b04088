//! Latencies in constant memory: exact below 64 ns, within 1.6 % above.

use std::time::Duration;

/// Each power of two is divided into this number of buckets.
const PER_OCTAVE: usize = 32;

#[derive(Clone)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Histogram { buckets: vec![0; 64 * PER_OCTAVE], count: 0 }
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)] += 1;
        self.count += 1;
    }

    pub(super) fn add(&mut self, other: &Histogram) {
        for (bucket, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += count;
        }
        self.count += other.count;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The counts by powers of two, each with the latency that it lies below, from the first that has any to the last.
    pub(super) fn octaves(&self) -> Vec<(Duration, u64)> {
        let octave_of = |bucket: usize| if bucket < 2 * PER_OCTAVE { 5 } else { bucket / PER_OCTAVE + 4 };
        let power = |octave: usize| u32::try_from(octave).ok().and_then(|octave| 2_u64.checked_pow(octave));
        let mut octaves: Vec<(Duration, u64)> = Vec::new();
        for (bucket, count) in self.buckets.iter().enumerate() {
            let below = Duration::from_nanos(power(octave_of(bucket) + 1).unwrap_or(u64::MAX));
            match octaves.last_mut() {
                Some((known, sum)) if *known == below => *sum += count,
                _ => octaves.push((below, *count)),
            }
        }
        let has_any = |(_, count): &(Duration, u64)| *count > 0;
        let (first, last) = (octaves.iter().position(has_any), octaves.iter().rposition(has_any));
        first.zip(last).map_or(Vec::new(), |(first, last)| octaves[first..=last].to_vec())
    }

    /// The latency that the fraction `of` of all operations did not exceed; zero if there are none.
    pub(super) fn quantile(&self, of: f64) -> Duration {
        let rank = (self.count as f64 * of).ceil().max(1.0);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen as f64 >= rank {
                return Duration::from_nanos(middle_of(bucket));
            }
        }
        Duration::ZERO
    }
}

fn bucket_of(nanos: u64) -> usize {
    let octave = (nanos | 1).ilog2() as usize;
    if octave < 6 {
        return usize::try_from(nanos).unwrap_or(0);
    }
    let within = usize::try_from(nanos >> (octave - 5)).unwrap_or(0) & (PER_OCTAVE - 1);
    (octave - 4) * PER_OCTAVE + within
}

fn middle_of(bucket: usize) -> u64 {
    if bucket < 2 * PER_OCTAVE {
        return bucket as u64;
    }
    let shift = bucket / PER_OCTAVE - 1;
    let lowest = ((PER_OCTAVE + bucket % PER_OCTAVE) as u64) << shift;
    lowest + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_reads_back_within_two_percent() {
        for nanos in (0..200).chain([1_000, 84_321, 1_000_000, 7_777_777_777, u64::MAX / 3]) {
            let mut histogram = Histogram::new();
            histogram.record(Duration::from_nanos(nanos));
            let back = histogram.quantile(0.5).as_nanos() as f64;
            assert!((back - nanos as f64).abs() <= nanos as f64 / 50.0, "{nanos} came back as {back}");
        }
    }

    #[test]
    fn octaves_have_all_of_it() {
        let mut histogram = Histogram::new();
        for nanos in [3, 63, 64, 127, 128, 1_000, 1_023, 1_024] {
            histogram.record(Duration::from_nanos(nanos));
        }
        let octaves = histogram.octaves();
        let counts: Vec<(u128, u64)> = octaves.iter().map(|(below, count)| (below.as_nanos(), *count)).collect();
        assert_eq!(counts, [(64, 2), (128, 2), (256, 1), (512, 0), (1_024, 2), (2_048, 1)]);
        assert!(Histogram::new().octaves().is_empty());
    }

    #[test]
    fn quantiles_split_the_sorted_latencies() {
        let mut histogram = Histogram::new();
        for nanos in 1..=60 {
            histogram.record(Duration::from_nanos(nanos));
        }
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|of| histogram.quantile(of).as_nanos()), [1, 30, 60, 60]);
        assert_eq!(Histogram::new().quantile(0.5), Duration::ZERO);
    }
}
