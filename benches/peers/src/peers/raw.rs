//! The raw limit: a log without an engine, over a preallocated file.

use std::fs::{File, read_dir};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::awaited::Awaited;
use crate::common::group::Group;
use crate::common::raw::Ring;
use crate::common::record_bytes;
use crate::common::stats::{STRIDE, nanoseconds};
use crate::peer::{Abilities, Kind, Mode, Peer, Purpose, Put, Result, Session, Setting, Store, built_in};

pub const PEER: Peer = Peer {
    name: "raw",
    kind: Kind::Raw,
    package: None,
    sync: Some(
        "a group commit: the leader gathers, one pwrite and fdatasync for all that wait, and only those are woken",
    ),
    written: Some("one pwrite"),
    asynchronous: Some(
        "a copy into a buffer that one thread writes and fdatasyncs every 10 ms, at most 16 MiB at risk",
    ),
    can: Abilities { mixed: true, awaited: true, replays: true },
    reads: None,
    advice: "a file of zeros written in advance, from the front again at its end; as many bytes as forelog logs; \
             1,024 awaited: one write and fdatasync for 1,024 records; reopen: reading the log and its CRC-32",
    limited: None,
    installed: built_in,
    open,
};

const RING_BYTES: u64 = 64 << 20;
const MOST_AT_RISK: u64 = 16 << 20;

fn open(setting: &Setting) -> Result<Box<dyn Store>> {
    match setting.purpose {
        Purpose::LongLog => Ok(Box::new(LongLog::open(setting.dir)?)),
        purpose => {
            let ring = Ring::create(&setting.dir.join("raw"), RING_BYTES)?;
            Ok(match purpose.mode() {
                Some(Mode::Written) => Box::new(Writes(ring)),
                _ => Box::new(Grouped::new(ring)),
            })
        }
    }
}

/// A record of as many bytes as the engine logs for a transaction.
struct Record(Vec<u8>);

impl Record {
    fn of(&mut self, puts: &[Put]) -> &[u8] {
        self.0.resize(record_bytes(puts.len(), puts.first().map_or(0, |put| put.1.len())), 7);
        &self.0
    }
}

struct Writes(Ring);

impl Store for Writes {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new((self, Record(Vec::new()))))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.0.sync()?)
    }
}

impl Session for (&Writes, Record) {
    fn commit(&mut self, puts: &[Put], _: Mode) -> Result<()> {
        Ok(self.0.0.write(self.1.of(puts))?)
    }
}

struct Grouped {
    group: Arc<Group>,
    over: Arc<AtomicBool>,
    flusher: Option<JoinHandle<()>>,
}

impl Grouped {
    fn new(ring: Ring) -> Self {
        let (group, over) = (Arc::new(Group::new(ring)), Arc::new(AtomicBool::new(false)));
        let flusher = std::thread::spawn({
            let (group, over) = (Arc::clone(&group), Arc::clone(&over));
            move || {
                while !over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                    let (end, at_risk) = group.append(&[]);
                    if at_risk > 0 && group.sync(end).is_err() {
                        return;
                    }
                }
            }
        });
        Grouped { group, over, flusher: Some(flusher) }
    }
}

impl Drop for Grouped {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.flusher.take().map(JoinHandle::join);
    }
}

impl Store for Grouped {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new((&*self.group, Record(Vec::new()))))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.group.sync(self.group.append(&[]).0)?)
    }

    fn keep_in_flight(&self, commits: usize, enough: &mut dyn FnMut(usize) -> bool) -> Result<Awaited> {
        const RECORD: [u8; record_bytes(1, 100)] = [7; record_bytes(1, 100)];
        let mut done = Awaited::default();
        loop {
            let (mut end, mut begun) = (0, Vec::with_capacity(commits));
            for number in done.commits..done.commits + commits {
                if (number as u64).is_multiple_of(STRIDE) {
                    begun.push(Instant::now());
                }
                (end, _) = self.group.append(&RECORD);
            }
            self.group.sync(end)?;
            done.times.extend(begun.iter().map(|begin| nanoseconds(begin.elapsed())));
            done.commits += commits;
            if enough(done.commits) {
                return Ok(done);
            }
        }
    }
}

impl Session for (&Group, Record) {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        let (end, at_risk) = self.0.append(self.1.of(puts));
        if mode == Mode::Sync || at_risk > MOST_AT_RISK {
            self.0.sync(end)?;
        }
        Ok(())
    }
}

/// A log that grows: opening it reads and sums it.
struct LongLog {
    dir: PathBuf,
    /// Bytes of each session's file are its own.
    sessions: AtomicU64,
}

impl LongLog {
    fn open(dir: &Path) -> Result<Self> {
        let (mut piece, mut sum) = (vec![0; 1 << 20], crc32fast::Hasher::new());
        for entry in read_dir(dir)? {
            let mut file = File::open(entry?.path())?;
            loop {
                match file.read(&mut piece)? {
                    0 => break,
                    read => sum.update(&piece[..read]),
                }
            }
        }
        std::hint::black_box(sum.finalize());
        Ok(LongLog { dir: dir.to_owned(), sessions: AtomicU64::new(0) })
    }
}

impl Store for LongLog {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        let file = File::create(self.dir.join(number.to_string()))?;
        Ok(Box::new((std::io::BufWriter::with_capacity(1 << 20, file), Record(Vec::new()))))
    }

    /// Nothing is left to write: a session writes out what it has when it is dropped.
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl Session for (std::io::BufWriter<File>, Record) {
    fn commit(&mut self, puts: &[Put], _: Mode) -> Result<()> {
        Ok(self.0.write_all(self.1.of(puts))?)
    }
}
