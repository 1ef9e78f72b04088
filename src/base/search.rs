//! A search among things that are known by their numbers: the standard library searches slices alone.

use std::ops::Range;

/// The first of `numbers` that `is_before` does not hold for; their end if there is none. It holds for the first ones alone.
#[inline]
pub(crate) fn first_not(mut numbers: Range<usize>, is_before: impl Fn(usize) -> bool) -> usize {
    while !numbers.is_empty() {
        let middle = numbers.start.midpoint(numbers.end);
        if is_before(middle) { numbers.start = middle + 1 } else { numbers.end = middle }
    }
    numbers.start
}
