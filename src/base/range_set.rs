//! Sets of keys that consist of ranges.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;

#[cfg(test)]
#[path = "range_set_tests.rs"]
mod tests;

/// Keys, as ranges from one key on up to another one; without it, to the end. The ranges neither overlap nor touch.
#[derive(Clone, Debug)]
pub(crate) struct RangeSet<K> {
    /// For the first key of each range the first one behind it.
    ranges: BTreeMap<K, Option<K>>,
}

impl<K> Default for RangeSet<K> {
    fn default() -> Self {
        RangeSet { ranges: BTreeMap::new() }
    }
}

impl<K: Ord + Clone + Borrow<[u8]>> RangeSet<K> {
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, Option<&K>)> {
        self.ranges.iter().map(|(from, to)| (from, to.as_ref()))
    }

    /// Whether `key` is in it.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        let before = self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        before.is_some_and(|(_, to)| to.as_ref().is_none_or(|to| key < to.borrow()))
    }

    /// Whether all keys from `from` on, up to `to`, are in it.
    pub(crate) fn has_all(&self, from: &[u8], to: Option<&[u8]>) -> bool {
        let before = self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(from))).next_back();
        before.is_some_and(|(_, end)| match (end, to) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(end), Some(to)) => to <= end.borrow(),
        })
    }

    /// Adds the keys from `from` on, up to `to`. `joined` is shown each range that becomes a part of the new one, which is
    /// returned; `None` if there is no key between the two. What it takes follows the number of those ranges.
    pub(crate) fn insert(
        &mut self,
        from: K,
        to: Option<K>,
        mut joined: impl FnMut(&K, Option<&K>),
    ) -> Option<(&K, Option<&K>)> {
        if to.as_ref().is_some_and(|to| *to <= from) {
            return None;
        }
        let (mut from, mut to) = (from, to);
        let touches = |end: &Option<K>, key: &K| end.as_ref().is_none_or(|end| key <= end);
        if let Some((before, end)) = self.ranges.range::<K, _>(..=&from).next_back()
            && touches(end, &from)
        {
            from = before.clone();
        }
        while let Some((next, _)) = self.ranges.range::<K, _>(&from..).next()
            && touches(&to, next)
        {
            let next = next.clone();
            let end = self.ranges.remove::<K>(&next).flatten();
            joined(&next, end.as_ref());
            to = if to.is_none() || end.is_none() { None } else { to.max(end) };
        }
        let place = from.clone();
        self.ranges.insert(from, to);
        self.ranges.get_key_value::<K>(&place).map(|(from, to)| (from, to.as_ref()))
    }
}
