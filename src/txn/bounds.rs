//! The bounds of a range of keys, in every form in which a caller has them.

use std::borrow::Cow;
use std::ops::{Bound, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use crate::index::KeyRange;

/// A range of keys: `..`, `"a".."b"`, `[0]..=[9]`, `from..`, `..=to`, or a pair of [`Bound`]s, of anything that is bytes
/// (`&str`, `String`, `&[u8]`, arrays, `Vec<u8>`).
///
/// A range that ends before it begins is empty.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = forelog::Engine::in_memory()?;
/// # let users = engine.create_keyspace("users")?;
/// use std::ops::Bound;
/// # let mut batch = engine.batch()?;
/// # for name in ["alice", "bob", "carol"] { batch.put(&users, name, "1")?; }
/// # batch.commit()?;
/// let snapshot = engine.snapshot()?;
/// assert_eq!(snapshot.range(&users, ..)?.count(), 3);
/// assert_eq!(snapshot.range(&users, "b"..)?.count(), 2);
/// assert_eq!(snapshot.range(&users, "alice"..="bob")?.count(), 2);
/// assert_eq!(snapshot.range(&users, [b'a']..[b'b'])?.count(), 1);
/// let after = String::from("alice");
/// assert_eq!(snapshot.range(&users, (Bound::Excluded(&after), Bound::Unbounded))?.count(), 2);
/// # Ok(()) }
/// ```
pub trait KeyBounds {
    /// The lower and the upper bound.
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>);
}

impl KeyBounds for RangeFull {
    fn bounds(&self) -> KeyRange<'_> {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

impl<B: KeyBounds + ?Sized> KeyBounds for &B {
    fn bounds(&self) -> KeyRange<'_> {
        (**self).bounds()
    }
}

/// One for each form: with one for everything that is `RangeBounds<K>`, nothing would tell `K` in `..`.
macro_rules! key_bounds {
    ($($form:ty),+) => {$(
        impl<K: AsRef<[u8]>> KeyBounds for $form {
            fn bounds(&self) -> KeyRange<'_> {
                use std::ops::RangeBounds;
                (self.start_bound().map(AsRef::as_ref), self.end_bound().map(AsRef::as_ref))
            }
        }
    )+};
}
key_bounds!(Range<K>, RangeFrom<K>, RangeTo<K>, RangeInclusive<K>, RangeToInclusive<K>, (Bound<K>, Bound<K>));

/// The first key after all that begin with `prefix`; `None` if there is none.
pub(super) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// The range of keys that begin with `prefix`, given the end that [`end_of_prefix`] found.
pub(super) fn prefix_range<'a>(prefix: &'a [u8], end: Option<&'a [u8]>) -> KeyRange<'a> {
    (Bound::Included(prefix), end.map_or(Bound::Unbounded, Bound::Excluded))
}

type Bytes<'a> = Cow<'a, [u8]>;

/// The first key of a range, and the first one behind it (`None`: it goes to the end), each as long as it has to be; `None` if no
/// key can be in it.
pub(super) fn first_and_end(range: KeyRange<'_>) -> Option<(Bytes<'_>, Option<Bytes<'_>>)> {
    let behind = |key: &[u8]| Cow::Owned([key, &[0]].concat());
    let from = match range.0 {
        Bound::Unbounded => Cow::Borrowed(&[][..]),
        Bound::Included(key) => Cow::Borrowed(key),
        Bound::Excluded(key) => behind(key),
    };
    let to = match range.1 {
        Bound::Unbounded => None,
        Bound::Included(key) => Some(behind(key)),
        Bound::Excluded(key) => Some(Cow::Borrowed(key)),
    };
    to.as_ref().is_none_or(|to| from < *to).then_some((from, to))
}
