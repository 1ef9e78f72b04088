//! The most that one attempt of a checkpoint writes. So much is left on the disk when the log ends (`FAULTS.md`, section 4).

/// What an operation takes beside what its record has: an entry at most 11 bytes more (id, lengths, age, its share of
/// restarts and filter), a keyspace in its list 24 more than its name.
const OF_AN_OP: u64 = 24;
/// What a byte of a record takes if nothing is known of it: the smallest entry has three bytes there, and up to ten more in
/// a run. A keyspace has seven, but for the first thousands.
const OF_A_BYTE: (u64, u64) = (24, 7);
/// A bound of a range, in a root or in MANIFEST.
const LONGEST_BOUND: u64 = 65_600;
/// The bounds of a run: four in its root, two in MANIFEST.
const BOUNDS: u64 = 6;
/// What a run takes whatever it has: header, footer, root, its last block and partition, and its line in MANIFEST.
const OF_A_RUN: u64 = 2048;
/// What file systems need for names, extents and the ends of files, and the log for HISTORY.
pub(super) const OF_THE_REST: u64 = 256 << 10;

/// What an attempt takes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenIn {
    /// Bytes of records that are there.
    pub(crate) bytes: u64,
    /// Their operations.
    pub(crate) ops: u64,
    /// Bytes of records that may come.
    pub(crate) growth: u64,
}

/// The most bytes that a checkpoint of this writes, if the lists of files and keyspaces have `lists` bytes, and a run that
/// is `run_bytes` long ends.
pub(crate) fn most_written(taken: TakenIn, lists: u64, run_bytes: u64) -> u64 {
    let TakenIn { bytes, ops, growth } = taken;
    // The last key of each block stands in its partition once more, and one of 64 of these in the root. All keys may be so
    // long that each is the last of its block. Where an entry is small, that is less than what is reckoned for a byte.
    let separators = bytes.saturating_add(bytes / 32);
    let surplus = growth.saturating_mul(OF_A_BYTE.0) / OF_A_BYTE.1;
    let parts = [bytes, ops.saturating_mul(OF_AN_OP), growth, surplus];
    let entries = parts.into_iter().fold(0, u64::saturating_add);
    // Two blocks together have more than 4,000 bytes of entries, and each takes at most 51 beside them.
    let content = entries.saturating_add(entries / 32).saturating_add(separators);
    let runs = content / run_bytes.max(1) + 1;
    let of_a_run = OF_A_RUN + BOUNDS * LONGEST_BOUND.min(bytes.saturating_add(growth).saturating_add(8));
    // The lists are written anew while the old ones are there.
    content.saturating_add(runs.saturating_mul(of_a_run)).saturating_add(lists).saturating_add(OF_THE_REST)
}
