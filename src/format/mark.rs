//! MARK: the LSN up to which the log was durable when it came to rest (specification, section 2.5).

use super::fields::{array_at, put, u64_at};
use super::preamble::Kind;
use super::{Refusal, preamble};
use crate::base::types::{Incarnation, LogId, Lsn};

/// The file's name in the log's directory.
pub(crate) const FILE_NAME: &str = "MARK";
/// The length of a slot: one sector, so that a torn write spoils only one slot.
pub(crate) const SLOT: u64 = 512;
/// The same, for slices.
pub(crate) const SLOT_LEN: usize = 512;
/// Slots, written in turn.
pub(crate) const SLOTS: u64 = 2;

const KIND: Kind = Kind::plain(*b"foremark");
const LOG_ID: usize = 32;
const NUMBER: usize = 48;
const NONCE: usize = 56;
const COUNT: usize = 64;
const DURABLE: usize = 72;
const END: usize = 80;

/// One claim: the content of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) log_id: LogId,
    pub(crate) incarnation: Incarnation,
    /// Counts the marks of the incarnation, from 1.
    pub(crate) count: u64,
    /// Every record up to here was durable before this was written.
    pub(crate) durable: Lsn,
}

impl Mark {
    /// The offset of its slot.
    pub(crate) fn offset(&self) -> u64 {
        self.count % SLOTS * SLOT
    }

    pub(crate) fn to_bytes(self) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        put(&mut bytes, LOG_ID, &self.log_id.0);
        put(&mut bytes, NUMBER, &self.incarnation.number.to_le_bytes());
        put(&mut bytes, NONCE, &self.incarnation.nonce.to_le_bytes());
        put(&mut bytes, COUNT, &self.count.to_le_bytes());
        put(&mut bytes, DURABLE, &self.durable.get().to_le_bytes());
        preamble::write(&mut bytes, KIND);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SLOT_LEN]) -> Result<Self, Refusal> {
        preamble::check(bytes, KIND)?;
        let mark = Mark {
            log_id: LogId(array_at(bytes, LOG_ID)),
            incarnation: Incarnation { number: u64_at(bytes, NUMBER), nonce: u64_at(bytes, NONCE) },
            count: u64_at(bytes, COUNT),
            durable: Lsn::new(u64_at(bytes, DURABLE)),
        };
        if bytes[END..].iter().all(|&byte| byte == 0) { Ok(mark) } else { Err(Refusal::Impossible) }
    }
}
