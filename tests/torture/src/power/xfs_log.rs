//! Brings the log of an xfs almost to its end, so that it wraps around in what is recorded from then on.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a record's length is rounded up to, and its header.
const SECTOR: u64 = 512;
/// One fsync logs less than this.
const STEP: u64 = 2 << 10;
/// So near to the end it stops. The unmount that follows logs less than two steps, a recording more than all of it.
const LEFT: u64 = 4 * STEP;

const MAGIC: [u8; 4] = [0xFE, 0xED, 0xBA, 0xBE];

/// How often the log had come to its end before the record was written that begins in this sector. What a mount clears
/// ahead of the newest record looks like one of a turn before.
fn turns(sector: &[u8]) -> Option<u64> {
    if sector.starts_with(&MAGIC) { big_endian(sector, 4, 4).checked_sub(1) } else { None }
}

/// Whether a record is in what was written that came after the end of the log.
pub(super) fn has_wrapped(written: &[u8]) -> bool {
    written.chunks_exact(512).any(|sector| turns(sector) > Some(0))
}

/// The log on the device, in bytes.
struct Log {
    start: u64,
    length: u64,
}

fn big_endian(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Log {
    /// Where the superblock says that it is.
    fn find(device: &File) -> io::Result<Self> {
        let mut block = [0; 512];
        device.read_exact_at(&mut block, 0)?;
        if !block.starts_with(b"XFSB") {
            return Err(io::Error::other("the device holds no xfs"));
        }
        let field = |at, length| big_endian(&block, at, length);
        let (block_size, first, group_blocks, blocks) = (field(4, 4), field(48, 8), field(84, 4), field(96, 4));
        // A block's address is that of its group and its place therein.
        let bits = field(124, 1);
        let first = (first >> bits) * group_blocks + (first & ((1 << bits) - 1));
        Ok(Log { start: first * block_size, length: blocks * block_size })
    }

    /// How much of it lies behind its newest record; an error once it has wrapped.
    fn left(&self, device: &File) -> io::Result<u64> {
        let mut log = vec![0; usize::try_from(self.length).map_err(io::Error::other)?];
        device.read_exact_at(&mut log, self.start)?;
        let mut end = 0;
        for (sector, at) in log.chunks_exact(512).zip((0..).step_by(512)) {
            match turns(sector) {
                None => {}
                Some(0) => end = at + SECTOR + big_endian(sector, 12, 4).next_multiple_of(SECTOR),
                Some(_) => return Err(io::Error::other("the log has wrapped too early")),
            }
        }
        Ok(self.length.saturating_sub(end))
    }
}

/// Refuses a log that has wrapped before anything is recorded.
pub(super) fn check(device: &Path) -> io::Result<()> {
    let device = File::open(device)?;
    Log::find(&device)?.left(&device).map(drop)
}

/// Logs, on the file system mounted at `mount` that `device` holds, until little of the log is left.
pub(super) fn use_up(device: &Path, mount: &Path) -> io::Result<()> {
    let device = File::open(device)?;
    let log = Log::find(&device)?;
    let names = ["logged", "logged again"].map(|name| mount.join(name));
    let dir = File::open(mount)?;
    File::create(&names[0])?;
    // Renamed to and fro, because the end of a removed file is logged at some later time, by the unmount at the latest.
    let mut turn = 0;
    loop {
        let left = log.left(&device)?;
        if left <= LEFT {
            return Ok(());
        }
        for _ in 0..((left - LEFT) / STEP).max(1) {
            fs::rename(&names[turn % 2], &names[(turn + 1) % 2])?;
            dir.sync_all()?;
            turn += 1;
        }
    }
}
