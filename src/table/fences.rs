//! Bounds of pieces that follow one another, laid out for search.
//!
//! A search in keys that each lie elsewhere in memory waits for memory at each step, and a read of one key searches two lists in
//! each layer. Here the bytes that tell the bounds apart lie side by side.

use crate::base::search::first_not;

/// The bounds of pieces, in their order.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    /// What all bounds begin with.
    shared: Box<[u8]>,
    /// The next bytes of each, as numbers that have their order.
    words: Box<[u64]>,
}

impl Fences {
    /// Of bounds that ascend.
    pub(crate) fn of<'b>(bounds: impl DoubleEndedIterator<Item = &'b [u8]> + Clone) -> Self {
        let (Some(first), Some(last)) = (bounds.clone().next(), bounds.clone().next_back()) else {
            return Fences::default();
        };
        // What the first and the last one share, all between them do.
        let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        Fences { shared: first[..shared].into(), words: bounds.map(|bound| word(&bound[shared..])).collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// The number of the first bound that is not before `key`. `is_before` says it of a bound that the words do not tell from it.
    pub(crate) fn find(&self, key: &[u8], is_before: impl Fn(usize) -> bool) -> usize {
        let Some(rest) = key.strip_prefix(&*self.shared) else {
            // A key that ends within what all share is below all of them, too.
            return if *key < *self.shared { 0 } else { self.len() };
        };
        let word = word(rest);
        let first = self.words.partition_point(|other| *other < word);
        let alike = self.words[first..].partition_point(|other| *other == word);
        first_not(first..first + alike, is_before)
    }

    /// The bytes that it takes beside itself.
    pub(crate) fn memory(&self) -> usize {
        self.shared.len() + size_of_val(&*self.words)
    }
}

/// The first bytes of a bound. Two numbers that differ have the order of their bounds; the bytes that a short one lacks count as
/// zeros.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests;
