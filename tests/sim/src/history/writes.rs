//! What batches and transactions have in common.

use forelog::{Keyspace, Result};

/// Writes that are committed together.
pub(super) trait Writes {
    fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()>;
    fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()>;
    /// Deletes the keys from `from` on, up to `to`.
    fn delete_range(&mut self, keyspace: &Keyspace, from: &[u8], to: &[u8]) -> Result<()>;
}

macro_rules! writes {
    ($($kind:ty),+) => {$(
        impl Writes for $kind {
            fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
                <$kind>::put(self, keyspace, key, value)
            }

            fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
                <$kind>::delete(self, keyspace, key)
            }

            fn delete_range(&mut self, keyspace: &Keyspace, from: &[u8], to: &[u8]) -> Result<()> {
                <$kind>::delete_range(self, keyspace, from..to)
            }
        }
    )+};
}
writes!(forelog::WriteBatch, forelog::Transaction);
