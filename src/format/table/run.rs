//! The first and the last sector of a run (TABLES.md, section 2.3).

use super::super::fields::{put, u32_at, u64_at};
use super::super::preamble::Kind;
use super::super::{Refusal, WORD, preamble};
use super::block::BlockRef;
use super::data::{Found, Interval};
use super::{BRANCH_LEN, FileIdentity, ID_LEN, IDENTITY_LEN, branch_at, branch_to_bytes};
use crate::base::types::{Incarnation, Lsn};

/// The length of the header, and that of the footer.
pub(crate) const SECTOR: usize = 512;
/// The same, for positions.
pub(crate) const SECTOR_LEN: u64 = 512;
/// No run is shorter.
pub(crate) const LEAST_RUN: u64 = 2 * SECTOR_LEN;

const FOOTER_KIND: Kind = Kind::plain(*b"forefoot");

const IDENTITY: usize = 32;
const FROM: usize = 64;
const TO: usize = 72;
const BRANCH: usize = 80;
const HEADER_END: usize = 96;
const LENGTH: usize = 96;
const ROOT: usize = 104;
const RANGE_TOMBSTONES: usize = 120;
const REFERENCES: usize = 136;
const COUNTS: usize = 152;
const FOOTER_END: usize = 208;

/// What a run says of itself at its beginning and again at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RunHeader {
    pub(crate) identity: FileIdentity,
    pub(crate) interval: Interval,
    /// The incarnation in which the interval ends.
    pub(crate) branch: Incarnation,
}

/// How much is in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) entries: u64,
    /// Among the entries.
    pub(crate) tombstones: u64,
    pub(crate) range_tombstones: u64,
    /// Of entries and range tombstones; zero if there is none.
    pub(crate) oldest: Lsn,
    pub(crate) newest: Lsn,
    /// Without the ids of the keyspaces.
    pub(crate) key_bytes: u64,
    pub(crate) value_bytes: u64,
}

impl Counts {
    /// Counts a version of a full key.
    pub(crate) fn add(&mut self, full_key: &[u8], version: Found<'_>) {
        self.entries += 1;
        self.tombstones += u64::from(version.value.is_none());
        self.key_bytes += (full_key.len() - ID_LEN) as u64;
        self.value_bytes += version.value.map_or(0, |value| value.len() as u64);
        self.note(version.lsn);
    }

    /// Takes in the LSN of an entry or range tombstone.
    pub(crate) fn note(&mut self, lsn: Lsn) {
        self.oldest = if self.oldest == Lsn::ZERO { lsn } else { lsn.min(self.oldest) };
        self.newest = lsn.max(self.newest);
    }
}

/// The last sector of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Footer {
    pub(crate) header: RunHeader,
    /// Of the file.
    pub(crate) length: u64,
    pub(crate) root: BlockRef,
    pub(crate) range_tombstones: Option<BlockRef>,
    pub(crate) counts: Counts,
}

impl RunHeader {
    pub(crate) const MAGIC: [u8; 8] = *b"forerun\x1a";
    const KIND: Kind = Kind::plain(Self::MAGIC);

    fn write(&self, bytes: &mut [u8; SECTOR]) {
        put(bytes, IDENTITY, &self.identity.to_bytes());
        put(bytes, FROM, &self.interval.from.get().to_le_bytes());
        put(bytes, TO, &self.interval.to.get().to_le_bytes());
        put(bytes, BRANCH, &branch_to_bytes(self.branch));
    }

    pub(crate) fn to_bytes(self) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        self.write(&mut bytes);
        preamble::write(&mut bytes, RunHeader::KIND);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SECTOR]) -> Result<Self, Refusal> {
        preamble::check(bytes, RunHeader::KIND)?;
        let header = RunHeader::read(bytes);
        let is_possible = header.is_possible() && bytes[HEADER_END..].iter().all(|byte| *byte == 0);
        if is_possible { Ok(header) } else { Err(Refusal::Impossible) }
    }

    fn read(bytes: &[u8; SECTOR]) -> Self {
        RunHeader {
            identity: FileIdentity::at(bytes, IDENTITY),
            interval: Interval { from: Lsn::new(u64_at(bytes, FROM)), to: Lsn::new(u64_at(bytes, TO)) },
            branch: branch_at(bytes, BRANCH),
        }
    }

    fn is_possible(&self) -> bool {
        self.identity.is_possible() && self.interval.is_possible() && self.branch.number != 0
    }
}

impl Interval {
    /// Whether both ends can be LSNs, and something lies between.
    pub(crate) fn is_possible(self) -> bool {
        let Interval { from, to } = self;
        from < to && from.get().is_multiple_of(WORD) && to.get().is_multiple_of(WORD)
    }

    /// Whether `lsn` lies in it.
    pub(crate) fn contains(self, lsn: Lsn) -> bool {
        self.from < lsn && lsn <= self.to
    }
}

impl Footer {
    pub(crate) fn to_bytes(self) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        self.header.write(&mut bytes);
        put(&mut bytes, LENGTH, &self.length.to_le_bytes());
        write_block(&mut bytes, ROOT, self.root);
        if let Some(block) = self.range_tombstones {
            write_block(&mut bytes, RANGE_TOMBSTONES, block);
        }
        let Counts { entries, tombstones, range_tombstones, oldest, newest, key_bytes, value_bytes } = self.counts;
        let counts = [entries, tombstones, range_tombstones, oldest.get(), newest.get(), key_bytes, value_bytes];
        for (at, count) in (COUNTS..).step_by(8).zip(counts) {
            put(&mut bytes, at, &count.to_le_bytes());
        }
        preamble::write(&mut bytes, FOOTER_KIND);
        bytes
    }

    /// What MANIFEST calls the CRC of the footer.
    pub(crate) fn crc(bytes: &[u8; SECTOR]) -> u32 {
        preamble::crc(bytes)
    }

    pub(crate) fn decode(bytes: &[u8; SECTOR]) -> Result<Self, Refusal> {
        preamble::check(bytes, FOOTER_KIND)?;
        let range_tombstones = read_block(bytes, RANGE_TOMBSTONES);
        let none = BlockRef { position: 0, length: 0, crc: 0 };
        let count = |number: usize| u64_at(bytes, COUNTS + 8 * number);
        let footer = Footer {
            header: RunHeader::read(bytes),
            length: u64_at(bytes, LENGTH),
            root: read_block(bytes, ROOT),
            range_tombstones: (range_tombstones != none).then_some(range_tombstones),
            counts: Counts {
                entries: count(0),
                tombstones: count(1),
                range_tombstones: count(2),
                oldest: Lsn::new(count(3)),
                newest: Lsn::new(count(4)),
                key_bytes: count(5),
                value_bytes: count(6),
            },
        };
        let zeros = [&bytes[REFERENCES..COUNTS], &bytes[FOOTER_END..]];
        let is_possible = footer.is_possible() && zeros.concat().iter().all(|byte| *byte == 0);
        if is_possible { Ok(footer) } else { Err(Refusal::Impossible) }
    }

    /// Where the data blocks and partitions end.
    pub(crate) fn blocks_end(&self) -> u64 {
        self.range_tombstones.map_or(self.root.position, |block| block.position)
    }

    /// The bytes from the range tombstones, or from the root, to the end of the file.
    pub(crate) fn tail(&self) -> u64 {
        self.length - self.blocks_end()
    }

    fn is_possible(&self) -> bool {
        let Some(end) = self.length.checked_sub(SECTOR_LEN) else { return false };
        let follow = match self.range_tombstones {
            Some(block) => block.lies_in(SECTOR_LEN, end) && block.end() == Some(self.root.position),
            None => true,
        };
        let Counts { entries, tombstones, range_tombstones, oldest, newest, .. } = self.counts;
        let lies_in = |lsn| self.header.interval.contains(lsn);
        let lsns = match entries == 0 && range_tombstones == 0 {
            true => oldest == Lsn::ZERO && newest == Lsn::ZERO,
            false => oldest <= newest && lies_in(oldest) && lies_in(newest),
        };
        self.header.is_possible()
            && self.root.lies_in(SECTOR_LEN, end)
            && self.root.end() == Some(end)
            && follow
            && (range_tombstones == 0) == self.range_tombstones.is_none()
            && tombstones <= entries
            && lsns
    }
}

fn write_block(bytes: &mut [u8; SECTOR], at: usize, block: BlockRef) {
    put(bytes, at, &block.position.to_le_bytes());
    put(bytes, at + 8, &block.length.to_le_bytes());
    put(bytes, at + 12, &block.crc.to_le_bytes());
}

fn read_block(bytes: &[u8; SECTOR], at: usize) -> BlockRef {
    BlockRef { position: u64_at(bytes, at), length: u32_at(bytes, at + 8), crc: u32_at(bytes, at + 12) }
}

const _: () = assert!(IDENTITY + IDENTITY_LEN == FROM && BRANCH + BRANCH_LEN == HEADER_END);
