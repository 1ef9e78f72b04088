//! Makes a history that fails small: parts are left out, then what is left is simplified, as long as it still fails.

/// The smallest part of `history` found that still fails, tried at most `attempts` times (delta debugging: halves,
/// quarters, and so on are left out, down to single operations). `fails` gives what is known of a failure; the last is
/// returned. `None`: nothing that is smaller failed.
pub fn leave_out<T: Clone, F>(
    history: &[T],
    attempts: &mut usize,
    mut fails: impl FnMut(&[T]) -> Option<F>,
) -> Option<(Vec<T>, F)> {
    let mut best: Option<(Vec<T>, F)> = None;
    let mut parts = 2;
    loop {
        let kept = best.as_ref().map_or(history, |(kept, _)| kept);
        if kept.is_empty() {
            return best;
        }
        let size = kept.len().div_ceil(parts.min(kept.len()));
        let without = |start: usize| [&kept[..start], &kept[(start + size).min(kept.len())..]].concat();
        let smaller = (0..kept.len()).step_by(size).map(without).find_map(|kept| {
            *attempts = attempts.checked_sub(1)?;
            fails(&kept).map(|failure| (kept, failure))
        });
        match smaller {
            Some(smaller) => (best, parts) = (Some(smaller), parts.saturating_sub(1).max(2)),
            None if size == 1 || *attempts == 0 => return best,
            None => parts *= 2,
        }
    }
}

/// Replaces each operation by the first of its simpler forms (the simplest first) with which the history still fails.
pub fn simplify<T: Clone>(
    history: &mut [T],
    attempts: &mut usize,
    simpler: impl Fn(&T) -> Vec<T>,
    mut fails: impl FnMut(&[T]) -> bool,
) {
    for at in 0..history.len() {
        for form in simpler(&history[at]) {
            let Some(left) = attempts.checked_sub(1) else { return };
            *attempts = left;
            let before = std::mem::replace(&mut history[at], form);
            if fails(history) {
                break;
            }
            history[at] = before;
        }
    }
}
