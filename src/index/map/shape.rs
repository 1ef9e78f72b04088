//! What the nodes of a map share: how full one is, and what is put into one.

use super::super::version::Version;

/// The fullness of a full node. Leaves count bytes and entries, branches children: this makes them comparable.
pub(super) const FULL: usize = 1024;

/// An entry that is to be put where none is.
#[derive(Clone, Copy, Debug)]
pub(super) struct New<'a> {
    pub(super) key: &'a [u8],
    pub(super) version: Version<'a>,
}
