//! The most that one attempt of a checkpoint writes. So much is left on the disk when the log ends (`FAULTS.md`, section 4).

use super::layer::SHORTEST;
use crate::format::table::run::SECTOR_LEN;

/// What an operation takes beside what its record has: an entry at most 11 bytes more (id, lengths, age, its share of
/// restarts and filter), a keyspace in its list 24 more than its name.
const OF_AN_OP: u64 = 24;
/// What a byte of a record takes if nothing is known of it: the smallest entry has three bytes there, and up to ten more in
/// a run. A keyspace has seven, but for the first thousands.
const OF_A_BYTE: (u64, u64) = (24, 7);
/// A bound of a range, in a root or in MANIFEST.
const LONGEST_BOUND: u64 = 65_600;
/// The bounds of a run: four in its root, two in MANIFEST. Where it ends with its keyspace, half of them are short.
const BOUNDS: u64 = 6;
const BOUNDS_AT_KEYSPACE: u64 = 3;
/// How often one key is a bound, however many runs there are. As the last key of its run it ends two ranges there and one in
/// MANIFEST, and begins one of the next run. As its first one too it begins one, and one in MANIFEST. If a range tombstone is cut
/// behind it, its halves have it once each, and the next run begins there twice more.
const A_KEY_IN_BOUNDS: u64 = 10;
/// What a bound has beside a key.
const BESIDE_A_KEY: u64 = 8;
/// The least bytes of an operation in a record.
const LEAST_OP: u64 = 3;
/// The most bytes of keys that an operation has: a range deletion has two.
const KEYS_OF_AN_OP: u64 = 2 * LONGEST_BOUND;
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

impl TakenIn {
    /// The most that a part of it with so many bytes of records has of each.
    fn within(self, records: u64) -> Self {
        let TakenIn { bytes, ops, growth } = self;
        TakenIn { bytes: bytes.min(records), ops: ops.min(records / LEAST_OP), growth: growth.min(records) }
    }
}

/// The most bytes that a checkpoint of this, or of a part of it, writes, if the lists of files and keyspaces have `lists` bytes.
/// Of so many bytes of records it makes runs of `run_length` of these: the more records, the longer.
pub(crate) fn most_written(taken: TakenIn, lists: u64, run_length: impl Fn(u64) -> u64) -> u64 {
    let shortest = run_length(0);
    let (mut most, mut records) = (0, taken.bytes.saturating_add(taken.growth));
    // A large transaction has long runs, and what is behind it may have as many short ones. So each size of a part is reckoned by
    // itself, but for those that have almost the shortest runs.
    loop {
        let (longest, smaller) = (run_length(records), records / 8 * 7);
        let is_last = longest / 8 * 7 <= shortest;
        let length = if is_last { shortest } else { run_length(smaller) };
        most = most.max(written(taken.within(records), length));
        if is_last {
            // The lists are written anew while the old ones are there.
            return most.saturating_add(lists).saturating_add(OF_THE_REST);
        }
        records = smaller;
    }
}

/// The most bytes of runs, and of their lines in MANIFEST, if a run that is `run_bytes` long ends, and with its keyspace a
/// shorter one.
fn written(taken: TakenIn, run_bytes: u64) -> u64 {
    let TakenIn { bytes, ops, growth } = taken;
    // What is known may be nothing but keys, unless it has few operations.
    let known_keys = bytes.min(ops.saturating_mul(KEYS_OF_AN_OP));
    // The last key of each block stands in its partition once more, and one of 64 of these in the root. All keys may be so
    // long that each is the last of its block. Where an entry is small, that is less than what is reckoned for a byte.
    let separators = known_keys.saturating_add(known_keys / 32);
    let surplus = growth.saturating_mul(OF_A_BYTE.0) / OF_A_BYTE.1;
    let parts = [bytes, ops.saturating_mul(OF_AN_OP), growth, surplus];
    let entries = parts.into_iter().fold(0, u64::saturating_add);
    // Two blocks together have more than 4,000 bytes of entries, and each takes at most 51 beside them.
    let content = entries.saturating_add(entries / 32).saturating_add(separators);
    // Each but the last has an entry, and is as long as it must be to end. Its header counts for that.
    let by_entries = ops.saturating_add(growth / LEAST_OP);
    let by_length = content / (run_bytes / SHORTEST).saturating_sub(SECTOR_LEN).max(1);
    let runs = by_entries.min(by_length).saturating_add(1);
    // By length alone fewer runs end, with all their bounds.
    let bounds =
        by_entries.saturating_mul(BOUNDS).min(by_length.saturating_mul(BOUNDS_AT_KEYSPACE)).saturating_add(BOUNDS);
    let keys = known_keys.saturating_add(growth);
    let longest = LONGEST_BOUND.min(keys.saturating_add(BESIDE_A_KEY));
    // However many there are, they are of these keys.
    let of_all_keys = keys.saturating_mul(A_KEY_IN_BOUNDS).saturating_add(bounds.saturating_mul(BESIDE_A_KEY));
    let bounds = bounds.saturating_mul(longest).min(of_all_keys);
    content.saturating_add(runs.saturating_mul(OF_A_RUN)).saturating_add(bounds)
}
