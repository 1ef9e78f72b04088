//! Blocks: what a run consists of between its header and its footer (TABLES.md, section 2.3).

use crc32fast::Hasher;

use super::super::fields::{put, u32_at};
use super::super::{Refusal, WORD};

/// Length of a block's header.
pub(crate) const BLOCK_HEADER: usize = 16;
/// A block is at most this long.
pub(crate) const MAX_BLOCK: usize = 1 << 27;

/// Blocks are padded to whole words.
const WORD_LEN: usize = size_of::<u64>();

const CRC: usize = 0;
const LENGTH: usize = 4;
const KIND: usize = 8;
const COMPRESSION: usize = 9;
const ZERO: usize = 10;
const COUNT: usize = 12;

/// What is in a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BlockKind {
    Data = 1,
    Partition = 2,
    RangeTombstones = 3,
    Root = 4,
}

impl BlockKind {
    const ALL: [BlockKind; 4] = [BlockKind::Data, BlockKind::Partition, BlockKind::RangeTombstones, BlockKind::Root];
}

/// What a block's parent knows of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockRef {
    pub(crate) position: u64,
    pub(crate) length: u32,
    pub(crate) crc: u32,
}

impl BlockRef {
    /// Where the next block begins; `None` if no file can be so long.
    pub(crate) fn end(&self) -> Option<u64> {
        self.position.checked_add(u64::from(self.length))
    }

    /// Whether it can be a block between `begin` and `end`.
    pub(super) fn lies_in(&self, begin: u64, end: u64) -> bool {
        self.position >= begin
            && self.position.is_multiple_of(WORD)
            && u64::from(self.length).is_multiple_of(WORD)
            && (BLOCK_HEADER..=MAX_BLOCK).contains(&(self.length as usize))
            && self.end().is_some_and(|at| at <= end)
    }
}

/// A data block in a partition, or a partition in a root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Indexed {
    /// The last full key in it.
    pub(crate) separator: Vec<u8>,
    pub(crate) block: BlockRef,
}

impl Indexed {
    /// The bytes that it takes in memory.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.separator.capacity()
    }
}

/// A block whose checksum matches, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    pub(crate) count: u32,
    /// What follows the header, with the zeros at the end.
    pub(crate) content: &'a [u8],
}

/// Appends a block at `position` of the file with this identity.
pub(crate) fn seal(
    file: &mut Vec<u8>,
    identity: &Hasher,
    position: u64,
    (kind, count): (BlockKind, u32),
    content: &[u8],
) -> BlockRef {
    let start = file.len();
    let length = (BLOCK_HEADER + content.len()).next_multiple_of(WORD_LEN);
    let in_header = u32::try_from(length).expect("a block is far below 4 GiB");
    file.extend_from_slice(&[0; BLOCK_HEADER]);
    file.extend_from_slice(content);
    file.resize(start + length, 0);
    let block = &mut file[start..];
    put(block, LENGTH, &in_header.to_le_bytes());
    block[KIND] = kind as u8;
    put(block, COUNT, &count.to_le_bytes());
    let crc = crc(block, identity, position);
    put(block, CRC, &crc.to_le_bytes());
    BlockRef { position, length: in_header, crc }
}

/// What the header of a block at `position` says of it, for one who has no parent to ask; `None` if nothing up to `end` can
/// be such a block. Its checksum is still to be checked.
pub(crate) fn described(header: &[u8; BLOCK_HEADER], position: u64, end: u64) -> Option<(BlockKind, BlockRef)> {
    let kind = BlockKind::ALL.into_iter().find(|kind| *kind as u8 == header[KIND])?;
    let block = BlockRef { position, length: u32_at(header, LENGTH), crc: u32_at(header, CRC) };
    block.lies_in(position, end).then_some((kind, block))
}

/// Checks the bytes of the block that its parent describes as `expected`.
pub(crate) fn open<'a>(
    bytes: &'a [u8],
    identity: &Hasher,
    expected: BlockRef,
    kind: BlockKind,
) -> Result<Block<'a>, Refusal> {
    let is_whole = bytes.len() == expected.length as usize && bytes.len() >= BLOCK_HEADER;
    if !is_whole || u32_at(bytes, CRC) != expected.crc || crc(bytes, identity, expected.position) != expected.crc {
        return Err(Refusal::Checksum);
    }
    match bytes[COMPRESSION] {
        0 => {}
        other => return Err(Refusal::Compression(other)),
    }
    let is_possible = u32_at(bytes, LENGTH) == expected.length
        && bytes[KIND] == kind as u8
        && bytes[ZERO..COUNT].iter().all(|byte| *byte == 0);
    let block = Block { count: u32_at(bytes, COUNT), content: &bytes[BLOCK_HEADER..] };
    if is_possible { Ok(block) } else { Err(Refusal::Impossible) }
}

fn crc(block: &[u8], identity: &Hasher, position: u64) -> u32 {
    let mut hasher = identity.clone();
    hasher.update(&position.to_le_bytes());
    hasher.update(&block[LENGTH..]);
    hasher.finalize()
}

/// Whether `rest` is what may stand behind the content: zeros up to the next word.
pub(super) fn is_padding(rest: &[u8]) -> bool {
    rest.len() < WORD_LEN && rest.iter().all(|byte| *byte == 0)
}
