//! What is read from layers into memory (`table/RULES.md`, 7 and 12).

use super::beyond::LayersScan;
use super::key::Key;
use crate::base::types::Lsn;

/// Entries that were read from layers: all that they have of a range.
#[derive(Debug)]
pub(crate) struct Fill {
    pub(super) low: Key,
    /// The first key behind; `None` at the end of the keyspace.
    pub(super) high: Option<Key>,
    /// That of the layers.
    to: Lsn,
    /// Keys and values, one behind the other.
    bytes: Vec<u8>,
    entries: Vec<Filled>,
}

#[derive(Clone, Copy, Debug)]
struct Filled {
    /// Where the key begins in the bytes.
    at: usize,
    key_end: usize,
    value_end: usize,
    lsn: Lsn,
}

impl Fill {
    /// A fill is no longer than this, unless one entry is: while it lands, writers wait. A leaf has room for it.
    const ENTRIES: usize = if cfg!(test) { 3 } else { 112 };
    const BYTES: usize = 9 << 10;

    /// Nothing of the keys from `low` on, up to `high`, from layers up to `to`.
    pub(super) fn new(low: Key, high: Option<Key>, to: Lsn) -> Self {
        Fill { low, high, to, bytes: Vec::new(), entries: Vec::new() }
    }

    pub(super) fn keys(&self) -> (&[u8], Option<&[u8]>) {
        (&self.low, self.high.as_ref().map(Key::as_slice))
    }

    pub(super) fn to(&self) -> Lsn {
        self.to
    }

    /// Keys, LSNs and values, by key.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], Lsn, &[u8])> {
        self.entries.iter().map(|entry| {
            let Filled { at, key_end, value_end, lsn } = *entry;
            (&self.bytes[at..key_end], lsn, &self.bytes[key_end..value_end])
        })
    }

    /// Adds the present entry of a scan.
    pub(super) fn add(&mut self, scan: &dyn LayersScan) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(scan.key());
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(scan.value());
        self.entries.push(Filled { at, key_end, value_end: self.bytes.len(), lsn: scan.lsn() });
    }

    /// Whether it has room for the present entry of a scan.
    pub(super) fn has_room(&self, scan: &dyn LayersScan) -> bool {
        let bytes = self.bytes.len() + scan.key().len() + scan.value().len();
        self.entries.is_empty() || (self.entries.len() < Self::ENTRIES && bytes <= Self::BYTES)
    }
}
