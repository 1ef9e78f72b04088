//! The files in `table/`: MANIFEST, keyspaces and runs (TABLES.md beside this folder).

pub(crate) mod block;
pub(crate) mod block_index;
pub(crate) mod data;
pub(crate) mod entries;
pub(crate) mod filter;
pub(crate) mod keyspaces;
pub(crate) mod manifest;
pub(crate) mod partition;
pub(crate) mod range_tombstones;
pub(crate) mod root;
pub(crate) mod run;

mod reader;

#[cfg(test)]
mod tests;

use crc32fast::Hasher;

use super::fields::{array_at, u64_at};
use crate::base::types::{Incarnation, LogId};

/// The directory of these files in the database's directory.
pub(crate) const DIRECTORY: &str = "table";
/// What one without MANIFEST is called from when it is replaced to when it is removed. Nobody reads it.
pub(crate) const OLD_DIRECTORY: &str = "table.old";

/// Length of the keyspace's id at the beginning of a full key.
pub(crate) const ID_LEN: usize = 4;
/// The longest full key.
pub(crate) const MAX_FULL_KEY: usize = ID_LEN + super::batch::MAX_KEY_LEN;
/// The longest bound: one byte more.
pub(crate) const MAX_BOUND: usize = MAX_FULL_KEY + 1;
/// The highest number of a file, and the highest generation. Above every one of them is another number.
pub(crate) const MAX_NUMBER: u64 = 1 << 63;
/// MANIFEST and a file of keyspaces are at most this long.
pub(crate) const MAX_LIST_BYTES: u64 = 1 << 30;

/// Length of an identity on disk.
const IDENTITY_LEN: usize = 32;
/// Length of a branch on disk.
const BRANCH_LEN: usize = 16;

/// What no two files share: every CRC of a block begins with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileIdentity {
    pub(crate) log_id: LogId,
    pub(crate) number: u64,
    /// Random, of the file.
    pub(crate) nonce: u64,
}

impl FileIdentity {
    fn to_bytes(self) -> [u8; IDENTITY_LEN] {
        let mut bytes = [0; IDENTITY_LEN];
        bytes[..16].copy_from_slice(&self.log_id.0);
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..].copy_from_slice(&self.nonce.to_le_bytes());
        bytes
    }

    fn at(bytes: &[u8], offset: usize) -> Self {
        FileIdentity {
            log_id: LogId(array_at(bytes, offset)),
            number: u64_at(bytes, offset + 16),
            nonce: u64_at(bytes, offset + 24),
        }
    }

    fn is_possible(self) -> bool {
        (1..=MAX_NUMBER).contains(&self.number) && self.nonce != 0
    }

    /// The checksum state after the identity, from which the CRC of each block goes on.
    pub(crate) fn checksum(self) -> Hasher {
        let mut hasher = Hasher::new();
        hasher.update(&self.to_bytes());
        hasher
    }
}

/// The incarnation in which an LSN lies, as bytes.
fn branch_to_bytes(Incarnation { number, nonce }: Incarnation) -> [u8; BRANCH_LEN] {
    let mut bytes = [0; BRANCH_LEN];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&nonce.to_le_bytes());
    bytes
}

fn branch_at(bytes: &[u8], offset: usize) -> Incarnation {
    Incarnation { number: u64_at(bytes, offset), nonce: u64_at(bytes, offset + 8) }
}

/// The kinds of files that have a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileKind {
    Keyspaces,
    Run,
}

impl FileKind {
    fn suffix(self) -> &'static str {
        match self {
            FileKind::Keyspaces => ".keys",
            FileKind::Run => ".run",
        }
    }
}

/// The name of the file with this number.
pub(crate) fn file_name(number: u64, kind: FileKind) -> String {
    format!("{number:016x}{}", kind.suffix())
}

/// The number and the kind of the file called `name`; `None` if the name is not ours.
pub(crate) fn number_of(name: &str) -> Option<(u64, FileKind)> {
    [FileKind::Keyspaces, FileKind::Run].into_iter().find_map(|kind| {
        let number = u64::from_str_radix(name.strip_suffix(kind.suffix())?, 16).ok()?;
        let is_ours = (1..=MAX_NUMBER).contains(&number) && file_name(number, kind) == name;
        is_ours.then_some((number, kind))
    })
}

/// A range of the keys of a keyspace as full keys; without `to` it goes to the keyspace's end.
pub(crate) fn full_range(keyspace: u32, from: &[u8], to: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let full = |key: &[u8]| [&keyspace.to_be_bytes(), key].concat();
    // The last id is never used: there is a next one.
    (full(from), to.map_or_else(|| keyspace.saturating_add(1).to_be_bytes().to_vec(), full))
}

/// Writes the full key of `key` in the keyspace `id` over `full`.
pub(crate) fn write_full_key(full: &mut Vec<u8>, id: u32, key: &[u8]) {
    full.clear();
    full.extend_from_slice(&id.to_be_bytes());
    full.extend_from_slice(key);
}

/// The keyspace and the key of a full key; `None` if it is too short or too long to be one.
pub(crate) fn split_full_key(full: &[u8]) -> Option<(u32, &[u8])> {
    let (id, key) = full.split_first_chunk::<ID_LEN>()?;
    let id = u32::from_be_bytes(*id);
    (id != u32::MAX && full.len() <= MAX_FULL_KEY).then_some((id, key))
}

/// Whether `key` is below the upper bound `high`; the empty one is above every key.
pub(crate) fn is_below(key: &[u8], high: &[u8]) -> bool {
    high.is_empty() || key < high
}

/// The lowest bound above a full key.
pub(crate) fn behind(mut full_key: Vec<u8>) -> Vec<u8> {
    full_key.push(0);
    full_key
}

/// Whether the upper bound `low` is at or below the upper bound `high`.
pub(crate) fn ends_within(low: &[u8], high: &[u8]) -> bool {
    high.is_empty() || (!low.is_empty() && low <= high)
}
