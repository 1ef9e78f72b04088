//! HISTORY: the log's identity and the begin and end of its incarnations (specification, section 2.4).

use std::io;

use super::fields::{array_at, put, u64_at};
use super::{Refusal, preamble};
use crate::base::types::{Incarnation, LogId, Lsn};

/// The file's name in the log's directory.
pub(crate) const FILE_NAME: &str = "HISTORY";
/// The name under which the next content is written before it is renamed.
pub(crate) const TEMPORARY_NAME: &str = "HISTORY.tmp";

const MAGIC: [u8; 8] = *b"forehist";
const LOG_ID: usize = 32;
const OLDEST: usize = 48;
const FIRST_NUMBER: usize = 56;
const COUNT: usize = 64;
/// The length of a HISTORY that lists no incarnation.
pub(crate) const HEADER: usize = 72;
const ENTRY: usize = 56;
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

/// The content of HISTORY.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct History {
    pub(crate) log_id: LogId,
    /// Segments that end at or below this were retired.
    pub(crate) oldest: Lsn,
    /// The number of the first incarnation in `entries`, or of the next one if there is none.
    pub(crate) first_number: u64,
    pub(crate) entries: Vec<Entry>,
}

impl History {
    pub(crate) fn new(log_id: LogId) -> Self {
        History { log_id, oldest: Lsn::ZERO, first_number: 1, entries: Vec::new() }
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
        preamble::write(&mut bytes, MAGIC);
        bytes
    }

    /// The length of [`History::to_bytes`], without writing it.
    pub(crate) fn encoded_len(&self) -> u64 {
        (HEADER + self.entries.len() * ENTRY) as u64
    }

    /// The length of the file that begins with `head`; `None` if it is of another version.
    pub(crate) fn length(head: &[u8; HEADER]) -> Result<Option<u64>, Refusal> {
        if !preamble::is_of_this_version(head, MAGIC)? {
            return Ok(None);
        }
        let entries = u64_at(head, COUNT).checked_mul(ENTRY as u64);
        entries.and_then(|entries| entries.checked_add(HEADER as u64)).map(Some).ok_or(Refusal::Impossible)
    }

    #[cfg(test)]
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        preamble::check(bytes, MAGIC)?;
        let (head, entries) = bytes.split_first_chunk().ok_or(Refusal::Impossible)?;
        let mut decoder = Decoder::new(head)?;
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
    count: u64,
    history: History,
}

impl Decoder {
    /// Pieces have the length of one or more entries.
    pub(crate) const PIECE: usize = 1024 * ENTRY;

    pub(crate) fn new(head: &[u8; HEADER]) -> Result<Self, Refusal> {
        let history = History {
            log_id: LogId(array_at(head, LOG_ID)),
            oldest: Lsn::new(u64_at(head, OLDEST)),
            first_number: u64_at(head, FIRST_NUMBER),
            entries: Vec::new(),
        };
        let is_known = preamble::is_of_this_version(head, MAGIC)?;
        Ok(Decoder { check: preamble::Check::begin(head, MAGIC)?, is_known, count: u64_at(head, COUNT), history })
    }

    /// Makes room in memory for the entries of a piece.
    pub(crate) fn reserve(&mut self, piece: usize) -> io::Result<()> {
        Ok(self.history.entries.try_reserve(piece / ENTRY)?)
    }

    /// Takes the next entries.
    pub(crate) fn add(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.check.add(piece);
        if !self.is_known {
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
