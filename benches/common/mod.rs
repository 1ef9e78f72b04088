//! What the benchmarks share: the keys, the raw limit (alone and as a group commit), the statistics, a thread that awaits
//! many receipts, copies of a database, and on what a directory lies.

pub(crate) mod awaited;
pub(crate) mod files;
pub(crate) mod group;
pub(crate) mod mount;
pub(crate) mod raw;
pub(crate) mod stats;

/// The keys of a workload are drawn from so many.
pub(crate) const KEYS: u64 = 1_000_000;
pub(crate) const KEY_BYTES: usize = 16;
/// What the log adds to a transaction: the frame and the head of its batch.
const TRANSACTION_BYTES: usize = 40;
/// What the log adds to each put of a transaction.
const PUT_BYTES: usize = 4;

/// Bytes of the log that a transaction takes, to the next word or so.
pub(crate) const fn record_bytes(puts: usize, value: usize) -> usize {
    TRANSACTION_BYTES + puts * (PUT_BYTES + KEY_BYTES + value)
}

/// One of the keys, in no order.
pub(crate) fn key(number: u64) -> [u8; KEY_BYTES] {
    key_of(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % KEYS)
}

/// The key with this number, below [`KEYS`]. Keys are ordered as their numbers.
pub(crate) fn key_of(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'k'; KEY_BYTES];
    key[KEY_BYTES - 8..].copy_from_slice(&number.to_be_bytes());
    key
}
