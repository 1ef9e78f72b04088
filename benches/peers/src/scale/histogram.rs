//! The times of any number of operations in a fixed amount of memory: the memory of a run is what it measures.

use serde::{Deserialize, Serialize};

/// Each power of two is divided in so many steps, so that a time is at most 1/32 too long.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.ilog2();
const BUCKETS: usize = ((u64::BITS - STEP_BITS + 1) as usize) << STEP_BITS;

/// Counts times in nanoseconds.
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    count: u64,
    max: u64,
}

/// What a histogram tells, in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Times {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

fn bucket(time: u64) -> usize {
    if time < STEPS {
        return time as usize;
    }
    let shift = time.ilog2() - STEP_BITS;
    (((u64::from(shift) + 1) << STEP_BITS) + ((time >> shift) & (STEPS - 1))) as usize
}

/// The longest time of a bucket.
fn longest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = (bucket >> STEP_BITS) - 1;
    let next = (STEPS + (bucket & (STEPS - 1)) + 1) as u128;
    u64::try_from((next << shift) - 1).unwrap_or(u64::MAX)
}

impl Histogram {
    pub fn new() -> Histogram {
        Histogram { counts: Box::new([0; BUCKETS]), count: 0, max: 0 }
    }

    pub fn add(&mut self, time: u64) {
        self.counts[bucket(time)] += 1;
        self.count += 1;
        self.max = self.max.max(time);
    }

    pub fn clear(&mut self) {
        self.counts.fill(0);
        (self.count, self.max) = (0, 0);
    }

    /// `None` where nothing was timed.
    pub fn times(&self) -> Option<Times> {
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let time = |per_mille| microseconds(self.percentile(per_mille));
        (self.count > 0).then(|| Times { p50: time(500), p99: time(990), p999: time(999), max: microseconds(self.max) })
    }

    fn percentile(&self, per_mille: u64) -> u64 {
        let (rank, mut seen) = ((self.count * per_mille).div_ceil(1000), 0);
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return longest(bucket).min(self.max);
            }
        }
        self.max
    }
}
