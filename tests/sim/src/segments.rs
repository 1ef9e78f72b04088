//! Segments as the specification has them, read without the engine.

use std::collections::BTreeMap;
use std::path::Path;

use forelog::Lsn;

/// A segment's header.
pub const HEADER: usize = 512;
/// A frame's header.
pub const FRAME: usize = 32;

/// Where a frame is in its file, and what its header says.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub at: usize,
    pub end: usize,
    /// The length of the payload.
    pub payload: usize,
    pub lsn: Lsn,
    pub durable: Lsn,
    begins: bool,
    ends: bool,
}

/// The position at which the segment of this name begins; `None` if it is none.
pub fn base_of(path: &Path) -> Option<u64> {
    let base = path.file_name()?.to_str()?.strip_suffix(".log")?;
    u64::from_str_radix(base, 16).ok()
}

/// The frames of a sound segment, one behind the other from its header on.
pub fn frames(base: u64, bytes: &[u8]) -> Vec<Frame> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let mut frames = Vec::new();
    let mut at = HEADER;
    while at + FRAME <= bytes.len() {
        let (lsn, durable, length) = (word(at + 8), word(at + 16), word(at + 24) & 0xFFFF_FFFF);
        let payload = usize::try_from(length).expect("small");
        let end = at.saturating_add(FRAME).saturating_add(payload.next_multiple_of(8));
        if end > bytes.len() || lsn != base + end as u64 {
            break;
        }
        let kind = bytes[at + 28];
        let (begins, ends) = (matches!(kind, 1 | 2), matches!(kind, 1 | 4));
        frames.push(Frame { at, end, payload, lsn: Lsn::new(lsn), durable: Lsn::new(durable), begins, ends });
        at = end;
    }
    frames
}

/// The records that sound segments hold, by base. The end of one that began in a segment which is gone is passed over.
pub fn records(segments: &BTreeMap<u64, Vec<u8>>) -> Vec<(Lsn, Vec<u8>)> {
    let mut records = Vec::new();
    let mut begun: Option<Vec<u8>> = None;
    for (base, bytes) in segments {
        for frame in frames(*base, bytes) {
            if frame.begins {
                begun = Some(Vec::new());
            }
            let Some(record) = &mut begun else { continue };
            record.extend_from_slice(&bytes[frame.at + FRAME..][..frame.payload]);
            if frame.ends {
                records.push((frame.lsn, begun.take().expect("it was begun")));
            }
        }
    }
    records
}
