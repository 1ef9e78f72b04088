//! The identity of a segment: every checksum and the fill begin with it.

use crc32fast::Hasher;

use crate::base::types::{Incarnation, LogId};

/// Length of the identity on disk.
pub(crate) const IDENTITY_LEN: usize = 48;

/// Log, incarnation and base of one segment (specification, section 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) log_id: LogId,
    pub(crate) incarnation: Incarnation,
    /// Random, of the incarnation. It never leaves the files, so that no client can build a frame from its tokens.
    pub(crate) key: u64,
    pub(crate) base: u64,
}

impl Identity {
    pub(crate) fn to_bytes(self) -> [u8; IDENTITY_LEN] {
        let mut bytes = [0; IDENTITY_LEN];
        bytes[..16].copy_from_slice(&self.log_id.0);
        bytes[16..24].copy_from_slice(&self.incarnation.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.incarnation.nonce.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.key.to_le_bytes());
        bytes[40..].copy_from_slice(&self.base.to_le_bytes());
        bytes
    }

    /// The checksum state after the identity, from which each checksum goes on.
    pub(crate) fn checksum(self) -> Hasher {
        let mut hasher = Hasher::new();
        hasher.update(&self.to_bytes());
        hasher
    }
}
