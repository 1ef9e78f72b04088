//! Medians with their spread.

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

/// The value that so many of a thousand do not exceed. `sorted` is in ascending order.
pub(crate) fn percentile<T: Copy>(sorted: &[T], per_mille: usize) -> Option<T> {
    sorted.get(sorted.len().saturating_sub(1) * per_mille / 1000).copied()
}
