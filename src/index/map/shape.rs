//! What leaves and branches share: the measure of fullness, and an entry to insert.

use super::super::version::Version;

/// The fullness of a full node. Leaves count bytes and entries, branches count children; this scale makes them
/// comparable.
pub(super) const FULL: usize = 1024;

/// An entry whose key is not in the map.
#[derive(Clone, Copy, Debug)]
pub(super) struct New<'a> {
    pub(super) key: &'a [u8],
    pub(super) version: Version<'a>,
}
