//! HISTORY: the log's identity and the begin and end of its incarnations (specification, section 2.4).

use std::io;

use super::features::{IN_SEGMENTS, RANGE_DELETION, TABLES};
use super::fields::{array_at, put, u32_at, u64_at};
use super::preamble::Kind;
use super::table::MAX_NUMBER;
use super::{Refusal, preamble};
use crate::base::types::{Incarnation, LogId, Lsn};

/// The file's name in the log's directory.
pub(crate) const FILE_NAME: &str = "HISTORY";
/// The name under which the next content is written before it is renamed.
pub(crate) const TEMPORARY_NAME: &str = "HISTORY.tmp";

const KIND: Kind = Kind { magic: *b"forehist", known: TABLES | RANGE_DELETION };
/// Where the id of the log stands, 16 bytes.
pub(crate) const LOG_ID: usize = 32;
const OLDEST: usize = 48;
const FIRST_NUMBER: usize = 56;
const COUNT: usize = 64;
/// The length of a HISTORY that lists no incarnation.
pub(crate) const HEADER: usize = 72;
const ENTRY: usize = 56;
/// The length of the block of tables, between these and the incarnations.
const TABLES_BLOCK: usize = 24;
/// A segment can begin at multiples of this.
const ALIGNED: u64 = super::segment::SEGMENT_HEADER;
const OPEN: u64 = u64::MAX;
const CLEAN: u64 = 1;

/// The end of an incarnation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    /// Every record up to here is durable; every record above is lost.
    pub(crate) lsn: Lsn,
    /// No LSN above this was ever handed out.
    pub(crate) prepared: Lsn,
    /// Ended by a close, rather than by recovery.
    pub(crate) clean: bool,
}

/// One incarnation in the history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) incarnation: Incarnation,
    /// The secret part of its segments' identity.
    pub(crate) key: u64,
    /// The base of its first segment.
    pub(crate) begin: Lsn,
    /// `None` while it is open.
    pub(crate) end: Option<End>,
}

/// What HISTORY says of tables, once there may be some.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tables {
    /// Generation and CRC of a MANIFEST that is known durable.
    pub(crate) names: Option<(u64, u32)>,
}

impl Tables {
    fn to_bytes(self) -> [u8; TABLES_BLOCK] {
        let (generation, crc) = self.names.unwrap_or_default();
        let mut block = [0; TABLES_BLOCK];
        put(&mut block, 0, &(TABLES_BLOCK as u64).to_le_bytes());
        put(&mut block, 8, &generation.to_le_bytes());
        put(&mut block, 16, &crc.to_le_bytes());
        block
    }

    fn decode(block: &[u8; TABLES_BLOCK]) -> Option<Self> {
        let (generation, crc) = (u64_at(block, 8), u32_at(block, 16));
        let is_possible = u64_at(block, 0) == TABLES_BLOCK as u64 && generation <= MAX_NUMBER && u32_at(block, 20) == 0;
        let names = match generation {
            0 if crc != 0 => return None,
            0 => None,
            generation => Some((generation, crc)),
        };
        is_possible.then_some(Tables { names })
    }
}

/// The content of HISTORY.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct History {
    pub(crate) log_id: LogId,
    /// Segments that end at or below this were retired.
    pub(crate) oldest: Lsn,
    /// The number of the first incarnation in `entries`, or of the next one if there is none.
    pub(crate) first_number: u64,
    /// With them a build that does not know them refuses the directory, for ever.
    pub(crate) tables: Option<Tables>,
    /// Whether records may delete ranges. A build that does not know them refuses the directory, for ever.
    pub(crate) has_ranges: bool,
    pub(crate) entries: Vec<Entry>,
}

impl History {
    pub(crate) fn new(log_id: LogId) -> Self {
        History { log_id, oldest: Lsn::ZERO, first_number: 1, tables: None, has_ranges: false, entries: Vec::new() }
    }

    /// The number that the next incarnation gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.first_number + self.entries.len() as u64
    }

    /// Where the next incarnation begins. Asked only when none is open.
    pub(crate) fn next_begin(&self) -> Lsn {
        let end = self.entries.last().and_then(|entry| entry.end);
        end.map_or(Lsn::ZERO, |end| end.prepared)
    }

    /// The must-understand bits.
    fn features(&self) -> u64 {
        let bit = |bit, is_set| if is_set { bit } else { 0 };
        bit(TABLES, self.tables.is_some()) | bit(RANGE_DELETION, self.has_ranges)
    }

    /// Those of its bits that the header of a segment has which is made now (F2 of `DECISIONS.md`).
    pub(crate) fn features_of_segments(&self) -> u64 {
        self.features() & IN_SEGMENTS
    }

    /// Whether `entry` can be the next one.
    fn can_go_on_with(&self, entry: &Entry) -> bool {
        let begin = match self.entries.last().map(|last| last.end) {
            // Only the last incarnation can be open.
            Some(None) => return false,
            Some(Some(end)) => end.prepared,
            None => Lsn::ZERO,
        };
        let is_aligned = |lsn: Lsn| lsn.get().is_multiple_of(ALIGNED);
        let ends =
            entry.end.is_none_or(|end| entry.begin <= end.lsn && end.lsn <= end.prepared && is_aligned(end.prepared));
        self.next_number() == entry.incarnation.number && entry.begin >= begin && is_aligned(entry.begin) && ends
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        put(&mut bytes, LOG_ID, &self.log_id.0);
        put(&mut bytes, OLDEST, &self.oldest.get().to_le_bytes());
        put(&mut bytes, FIRST_NUMBER, &self.first_number.to_le_bytes());
        put(&mut bytes, COUNT, &(self.entries.len() as u64).to_le_bytes());
        if let Some(tables) = self.tables {
            bytes.extend_from_slice(&tables.to_bytes());
        }
        for entry in &self.entries {
            let (end, prepared, flags) = match entry.end {
                Some(end) => (end.lsn.get(), end.prepared.get(), if end.clean { CLEAN } else { 0 }),
                None => (OPEN, 0, 0),
            };
            let Incarnation { number, nonce } = entry.incarnation;
            for field in [number, nonce, entry.key, entry.begin.get(), end, prepared, flags] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
        }
        preamble::write_with(&mut bytes, KIND, self.features());
        bytes
    }

    /// The length of [`History::to_bytes`], without writing it.
    pub(crate) fn encoded_len(&self) -> u64 {
        (HEADER + self.tables.map_or(0, |_| TABLES_BLOCK) + self.entries.len() * ENTRY) as u64
    }

    /// The length of the file that begins with `head`; `None` if it is of another version.
    pub(crate) fn length(head: &[u8; HEADER]) -> Result<Option<u64>, Refusal> {
        if !preamble::is_of_this_version(head, KIND)? {
            return Ok(None);
        }
        let entries = u64_at(head, COUNT).checked_mul(ENTRY as u64);
        let before = (HEADER + blocks_of(head)) as u64;
        entries.and_then(|entries| entries.checked_add(before)).map(Some).ok_or(Refusal::Impossible)
    }

    #[cfg(test)]
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        preamble::check(bytes, KIND)?;
        let (head, rest) = bytes.split_first_chunk().ok_or(Refusal::Impossible)?;
        let mut decoder = Decoder::new(head)?;
        let (blocks, entries) = rest.split_at_checked(decoder.blocks).ok_or(Refusal::Impossible)?;
        if !blocks.is_empty() {
            decoder.add(blocks)?;
        }
        decoder.add(entries)?;
        decoder.finish()
    }
}

/// Decodes a HISTORY that comes in pieces. It refuses the first entry that cannot be, so that no more is taken into memory
/// than there are entries: neither the count nor the length of a file proves that anything is in it.
#[derive(Debug)]
pub(crate) struct Decoder {
    check: preamble::Check,
    /// Whether the entries are those of this version.
    is_known: bool,
    /// The bytes of the blocks, which come first, until they have come.
    blocks: usize,
    count: u64,
    history: History,
}

/// The bytes of the blocks that the bits of this file bring.
fn blocks_of(head: &[u8; HEADER]) -> usize {
    if preamble::features(head) & TABLES == 0 { 0 } else { TABLES_BLOCK }
}

impl Decoder {
    /// Of entries.
    const PIECE: usize = 1024 * ENTRY;

    /// How long the next piece is, of so many bytes that are left: that of the blocks, or of one or more entries.
    pub(crate) fn piece(&self, left: u64) -> usize {
        let most = if self.blocks > 0 { self.blocks } else { Self::PIECE };
        usize::try_from(left).map_or(most, |left| left.min(most))
    }

    pub(crate) fn new(head: &[u8; HEADER]) -> Result<Self, Refusal> {
        let history = History {
            log_id: LogId(array_at(head, LOG_ID)),
            oldest: Lsn::new(u64_at(head, OLDEST)),
            first_number: u64_at(head, FIRST_NUMBER),
            tables: None,
            has_ranges: preamble::features(head) & RANGE_DELETION != 0,
            entries: Vec::new(),
        };
        let is_known = preamble::is_of_this_version(head, KIND)?;
        let (check, blocks) = (preamble::Check::begin(head, KIND)?, if is_known { blocks_of(head) } else { 0 });
        Ok(Decoder { check, is_known, blocks, count: u64_at(head, COUNT), history })
    }

    /// Makes room in memory for the entries of a piece.
    pub(crate) fn reserve(&mut self, piece: usize) -> io::Result<()> {
        Ok(self.history.entries.try_reserve(piece / ENTRY)?)
    }

    /// Takes the next piece.
    pub(crate) fn add(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.check.add(piece);
        if !self.is_known {
            return Ok(());
        }
        if self.blocks > 0 {
            self.blocks = 0;
            let block = piece.try_into().ok().and_then(Tables::decode);
            self.history.tables = Some(block.ok_or(Refusal::Impossible)?);
            return Ok(());
        }
        let (records, rest) = piece.as_chunks::<ENTRY>();
        // There must be a number left for the next incarnation.
        let numbers = self.history.first_number.checked_add(self.count);
        let is_possible = self.history.first_number > 0 && numbers.is_some_and(|next| next < u64::MAX);
        let known = (self.history.entries.len() + records.len()) as u64;
        if !rest.is_empty() || !is_possible || known > self.count {
            return Err(Refusal::Impossible);
        }
        records.iter().try_for_each(|record| {
            let entry = decode_entry(record).filter(|entry| self.history.can_go_on_with(entry));
            self.history.entries.push(entry.ok_or(Refusal::Impossible)?);
            Ok(())
        })
    }

    /// The HISTORY, if all of it was there.
    pub(crate) fn finish(mut self) -> Result<History, Refusal> {
        // One without entries has numbers, too.
        self.add(&[])?;
        self.check.end()?;
        if self.history.entries.len() as u64 == self.count { Ok(self.history) } else { Err(Refusal::Impossible) }
    }
}

/// `None` if it has bits that `to_bytes` would not write back: the next replacement of HISTORY would lose them.
fn decode_entry(record: &[u8; ENTRY]) -> Option<Entry> {
    let (prepared, flags) = (u64_at(record, 40), u64_at(record, 48));
    let end = match u64_at(record, 32) {
        OPEN if prepared == 0 && flags == 0 => None,
        OPEN => return None,
        lsn if flags & !CLEAN == 0 => {
            Some(End { lsn: Lsn::new(lsn), prepared: Lsn::new(prepared), clean: flags & CLEAN != 0 })
        }
        _ => return None,
    };
    Some(Entry {
        incarnation: Incarnation { number: u64_at(record, 0), nonce: u64_at(record, 8) },
        key: u64_at(record, 16),
        begin: Lsn::new(u64_at(record, 24)),
        end,
    })
}
