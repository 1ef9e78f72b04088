//! What the engine does for a range deletion of the model.

use forelog::{Keyspace, Result};

use super::model::{Bounds, half_open};

/// Deletes the keys from `from` on, up to `to`, in a batch or transaction. `present` are those that it sees. Returns whether
/// the writer has read the range for it: it then conflicts with what others write there.
///
/// Today key by key; so a transaction reads the range, or it would spare what others put meanwhile. Once the engine has
/// range deletions, this is one line: `writes.delete_range(keyspace, from..to).map(|()| false)`.
pub(super) fn delete_range(
    writes: &mut impl Writes,
    keyspace: &Keyspace,
    (from, to): (&[u8], &[u8]),
    present: &[Vec<u8>],
) -> Result<bool> {
    present.iter().try_for_each(|key| writes.delete(keyspace, key))?;
    writes.read(keyspace, half_open(from, to))
}

/// What batches and transactions have in common.
pub(super) trait Writes {
    fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()>;
    fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()>;
    /// Reads a range, if it can.
    fn read(&mut self, keyspace: &Keyspace, bounds: Bounds) -> Result<bool>;
}

macro_rules! writes {
    ($($kind:ty => $read:expr),+) => {$(
        impl Writes for $kind {
            fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
                <$kind>::put(self, keyspace, key, value)
            }

            fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
                <$kind>::delete(self, keyspace, key)
            }

            fn read(&mut self, keyspace: &Keyspace, bounds: Bounds) -> Result<bool> {
                $read(self, keyspace, bounds)
            }
        }
    )+};
}
writes!(
    forelog::WriteBatch => |_, _, _| Ok(false),
    forelog::Transaction => |tx: &mut forelog::Transaction, keyspace, bounds: Bounds| {
        tx.range(keyspace, bounds)?.try_for_each(|entry| entry.map(drop)).map(|()| true)
    }
);
