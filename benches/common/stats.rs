//! Medians with their spread, and the times of single operations.

use std::time::Duration;

/// Of fast operations only those are timed whose number is a multiple of this: a look at the clock costs as much as a fast
/// commit. A prime, so that what an engine does with every eighth or sixteenth operation is timed as often as all else.
pub(crate) const STRIDE: u64 = 7;

/// A time as it is collected.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The median of some measurements and their quartiles.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` where nothing was measured. Each figure is one of those measured, the upper one where two lie next to it.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values.get(values.len() * quarter / 4).copied();
        Some(Spread { median: at(2)?, low: at(1)?, high: at(3)? })
    }
}

/// The smallest of the values that `per_mille` of a thousand do not exceed: of few values the largest stands for the 99.9th
/// percentile. `sorted` is in ascending order.
pub(crate) fn percentile<T: Copy>(sorted: &[T], per_mille: usize) -> Option<T> {
    sorted.get((sorted.len() * per_mille).div_ceil(1000).saturating_sub(1)).copied()
}

/// Microseconds that single operations took.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p999: Option<f64>,
}

impl Latency {
    /// Of times in nanoseconds, which it sorts.
    pub(crate) fn of(times: &mut [u64]) -> Latency {
        times.sort_unstable();
        let time = |per_mille| percentile(times, per_mille).map(|nanoseconds| nanoseconds as f64 / 1000.0);
        Latency { p50: time(500), p99: time(990), p999: time(999) }
    }
}
