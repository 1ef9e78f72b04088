//! The controls of the suite: a log that does nothing but append and fdatasync must pass it, and the same log with one
//! known sin must be caught.
//!
//! The log is a chain of preallocated segments of [`SEGMENT`] bytes, `0.log`, `1.log`, …, each made complete under
//! another name and then renamed. A record never spans two. What follows the last record of the last segment is zeros.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::worker::{Marker, Verdict};
use crashkit::mix;

const SEGMENT: usize = 8192;
/// Length, checksum, number.
const HEADER: usize = 16;

/// What the log does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Sin {
    /// Nothing: it must pass.
    None,
    /// A commit is acknowledged without fdatasync.
    NoSync,
    /// A new segment's directory is not fsynced after the rename.
    NoDirectorySync,
    /// The record's mark that it is complete does not depend on its data, and goes to the disk with it.
    NoOrder,
    /// Recovery cuts the log to nothing and writes what it kept again.
    UnsafeRecovery,
}

/// The bytes that commit `number` of life `life` wrote: from 40 bytes to two sectors, none of them zero.
pub(super) fn payload(life: u64, number: u64) -> Vec<u8> {
    let seed = mix(life << 32 | number);
    let length = 40 + usize::try_from(seed % 1000).expect("small");
    (0..length as u64).map(|at| (mix(seed ^ at) % 255) as u8 + 1).collect()
}

struct Log {
    dir: PathBuf,
    sin: Sin,
    /// The segment written to, its number, and where its next record goes.
    file: File,
    segment: u64,
    at: usize,
    /// What is in the log.
    records: Vec<Vec<u8>>,
}

fn name(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment}.log"))
}

impl Log {
    fn open(dir: &Path, sin: Sin) -> io::Result<Self> {
        if !name(dir, 0).exists() {
            // A log of which nothing was told yet may be half made.
            create(dir, 0, sin)?;
        }
        let mut records = Vec::new();
        let (mut segment, mut file, mut at) = read(dir, 0, sin, &mut records)?;
        while name(dir, segment + 1).exists() {
            (segment, file, at) = read(dir, segment + 1, sin, &mut records)?;
        }
        let mut log = Log { dir: dir.to_owned(), sin, file, segment, at, records };
        log.make_durable()?;
        Ok(log)
    }

    /// What recovery kept stays, and what it did not keep never comes back.
    fn make_durable(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; SEGMENT];
        self.file.read_exact_at(&mut bytes[..self.at], 0)?;
        if self.sin == Sin::UnsafeRecovery {
            self.file.set_len(0)?;
            self.file.sync_all()?;
        }
        self.file.write_all_at(&bytes, 0)?;
        self.file.sync_all()
    }

    fn commit(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (HEADER + data.len()).next_multiple_of(8);
        if self.at + length > SEGMENT {
            create(&self.dir, self.segment + 1, self.sin)?;
            self.segment += 1;
            self.file = OpenOptions::new().read(true).write(true).open(name(&self.dir, self.segment))?;
            self.at = 0;
        }
        let mut record = vec![0; length];
        record[..4].copy_from_slice(&u32::try_from(data.len()).expect("short").to_le_bytes());
        record[4..8].copy_from_slice(&checksum(self.sin, self.records.len() as u64, data).to_le_bytes());
        record[8..16].copy_from_slice(&(self.records.len() as u64).to_le_bytes());
        record[HEADER..HEADER + data.len()].copy_from_slice(data);
        self.file.write_all_at(&record, self.at as u64)?;
        if self.sin != Sin::NoSync {
            self.file.sync_data()?;
        }
        self.at += length;
        self.records.push(data.to_owned());
        Ok(())
    }
}

fn checksum(sin: Sin, number: u64, data: &[u8]) -> u32 {
    let data = if sin == Sin::NoOrder { &[] } else { data };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(data);
    hasher.finalize()
}

fn create(dir: &Path, segment: u64, sin: Sin) -> io::Result<()> {
    let temporary = dir.join("next.tmp");
    let file = File::create(&temporary)?;
    file.write_all_at(&[0; SEGMENT], 0)?;
    file.sync_all()?;
    fs::rename(&temporary, name(dir, segment))?;
    if sin != Sin::NoDirectorySync {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Adds the records of a segment; returns where the next one goes.
fn read(dir: &Path, segment: u64, sin: Sin, records: &mut Vec<Vec<u8>>) -> io::Result<(u64, File, usize)> {
    let file = OpenOptions::new().read(true).write(true).open(name(dir, segment))?;
    let mut bytes = vec![0; SEGMENT];
    let there = usize::try_from(file.metadata()?.len()).unwrap_or(SEGMENT).min(SEGMENT);
    file.read_exact_at(&mut bytes[..there], 0)?;
    let mut at = 0;
    while let Some(record) = bytes.get(at..).and_then(|rest| rest.split_at_checked(HEADER)) {
        let field = |range: std::ops::Range<usize>| &record.0[range];
        let length = u32::from_le_bytes(field(0..4).try_into().expect("4 bytes")) as usize;
        let number = records.len() as u64;
        let Some(data) = record.1.get(..length) else { break };
        let same = field(4..8) == checksum(sin, number, data).to_le_bytes() && field(8..16) == number.to_le_bytes();
        if length == 0 || !same {
            break;
        }
        records.push(data.to_owned());
        at += (HEADER + length).next_multiple_of(8);
    }
    Ok((segment, file, at))
}

/// What the clients of the log were told, read back from the marks.
#[derive(Default)]
pub(super) struct Told {
    /// The life in which each record, by number, was submitted last.
    submitted: Vec<u64>,
    /// So many records were acknowledged, or seen after a recovery.
    durable: usize,
    pub(super) lives: u64,
}

impl Told {
    pub(super) fn new(marks: &[String]) -> Self {
        let mut told = Told::default();
        for mark in marks {
            match mark.as_str() {
                "submit" => told.submitted.push(told.lives),
                "acknowledge" => told.durable = told.submitted.len(),
                _ => {
                    // What recovery found is what there is, and nothing of what it did not find may come back.
                    let found = mark.strip_prefix("found ").and_then(|count| count.parse().ok()).unwrap_or(0);
                    told.submitted.truncate(found);
                    told.durable = found;
                    told.lives += 1;
                }
            }
        }
        told
    }

    pub(super) fn judge(&self, records: &[Vec<u8>]) -> Result<(), String> {
        let found = records.len();
        if found < self.durable {
            return Err(format!("I2: {} records were durable, {found} are there", self.durable));
        }
        if found > self.submitted.len() {
            return Err(format!("I7: {} records were submitted, {found} are there", self.submitted.len()));
        }
        for (number, (life, record)) in (0..).zip(self.submitted.iter().zip(records)) {
            if *record != payload(*life, number) {
                return Err(format!("I1: record {number} is not what was submitted"));
            }
        }
        Ok(())
    }
}

/// Opens the log, which is empty or what a power cut left, and commits `count` records.
pub(super) fn work(dir: &Path, sin: Sin, count: u64, marks: &[String], marker: &Marker) -> io::Result<()> {
    let life = Told::new(marks).lives + 1;
    let mut log = Log::open(dir, sin)?;
    marker.mark(&format!("found {}", log.records.len()))?;
    for _ in 0..count {
        marker.mark("submit")?;
        log.commit(&payload(life, log.records.len() as u64))?;
        marker.mark("acknowledge")?;
    }
    Ok(())
}

/// Opens what a power cut left and compares it with what was told.
pub(super) fn check(dir: &Path, sin: Sin, marks: &[String]) -> Verdict {
    match Log::open(dir, sin) {
        Ok(log) => Told::new(marks).judge(&log.records).map_or_else(Verdict::Broken, |()| Verdict::Fine),
        Err(error) => Verdict::Refused(error.to_string()),
    }
}
