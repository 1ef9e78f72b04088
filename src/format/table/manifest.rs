//! MANIFEST: which files of `table/` count, and up to which LSN they speak (TABLES.md, section 2.1).

use std::collections::HashSet;

use super::super::fields::{array_at, put, u32_at, u64_at};
use super::super::preamble::Kind;
use super::super::{Check, Refusal, WORD, preamble};
use super::data::Interval;
use super::reader::{Reader, put_shared};
use super::root::Range;
use super::run::{LEAST_RUN, SECTOR_LEN};
use super::{MAX_LIST_BYTES, MAX_NUMBER, branch_at, branch_to_bytes, ends_within, is_below};
use crate::base::types::{Incarnation, LogId, Lsn};

/// The file's name in `table/`.
pub(crate) const FILE_NAME: &str = "MANIFEST";
/// The name under which the next content is written before it is renamed.
pub(crate) const TEMPORARY_NAME: &str = "MANIFEST.tmp";

const LOG_ID: usize = 32;
const GENERATION: usize = 48;
const TO: usize = 56;
const BRANCH: usize = 64;
const OLDEST: usize = 80;
const NEXT_NUMBER: usize = 88;
const LAYERS: usize = 96;
const ASIDE: usize = 100;
const KEYSPACES: usize = 104;
const WRITTEN: usize = 136;
const ZERO: usize = 168;
/// Length of the part with fixed offsets.
pub(crate) const HEADER: usize = 256;

/// The least bytes of a layer, of a run and of a run set aside.
const LEAST_LAYER: usize = 28;
const LEAST_NAMED: usize = 68;
const ASIDE_LEN: usize = 32;

/// How a layer takes part in a merge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Whole,
    /// Counts from the cursor of its job on.
    Input,
    /// Counts below this cursor.
    Output {
        cursor: Vec<u8>,
    },
}

/// A file that MANIFEST names: enough to know it for the right one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NamedFile {
    pub(crate) number: u64,
    pub(crate) nonce: u64,
    pub(crate) length: u64,
    /// Of a run the CRC of its footer, of a file of keyspaces its own.
    pub(crate) crc: u32,
}

/// A run as MANIFEST knows it. The counts are those of the whole file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NamedRun {
    pub(crate) file: NamedFile,
    /// Length of range tombstones, root and footer: one read gets them.
    pub(crate) tail: u32,
    pub(crate) entries: u64,
    /// Among the entries.
    pub(crate) tombstones: u64,
    pub(crate) range_tombstones: u64,
    /// Zero if the run has neither entries nor range tombstones.
    pub(crate) newest: Lsn,
    pub(crate) range: Range,
}

/// What an interval of the log did to all keyspaces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Layer {
    pub(crate) interval: Interval,
    pub(crate) role: Role,
    /// By key.
    pub(crate) runs: Vec<NamedRun>,
}

/// Bytes read and written since the database has tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Written {
    /// Of the log, by checkpoints.
    pub(crate) log_read: u64,
    pub(crate) by_checkpoints: u64,
    pub(crate) by_merges: u64,
    /// MANIFEST and files of keyspaces before this one.
    pub(crate) lists: u64,
}

/// The content of MANIFEST.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Manifest {
    pub(crate) log_id: LogId,
    pub(crate) generation: u64,
    pub(crate) to: Lsn,
    /// The incarnation in which `to` lies.
    pub(crate) branch: Incarnation,
    /// Segments that end at or below this were retired.
    pub(crate) oldest: Lsn,
    pub(crate) next_number: u64,
    pub(crate) keyspaces: NamedFile,
    pub(crate) written: Written,
    /// The newest first.
    pub(crate) layers: Vec<Layer>,
    /// Runs with damage, kept for a salvage.
    pub(crate) aside: Vec<NamedFile>,
}

impl Manifest {
    pub(crate) const MAGIC: [u8; 8] = *b"foremani";
    const KIND: Kind = Kind::plain(Self::MAGIC);

    /// Begins to check a file that comes in pieces, with the first one.
    pub(crate) fn begin_check(head: &[u8]) -> Result<Check, Refusal> {
        Check::begin(head, Manifest::KIND)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        let count = |list: usize| u32::try_from(list).expect("a MANIFEST is at most 1 GiB long").to_le_bytes();
        put(&mut bytes, LOG_ID, &self.log_id.0);
        put(&mut bytes, GENERATION, &self.generation.to_le_bytes());
        put(&mut bytes, TO, &self.to.get().to_le_bytes());
        put(&mut bytes, BRANCH, &branch_to_bytes(self.branch));
        put(&mut bytes, OLDEST, &self.oldest.get().to_le_bytes());
        put(&mut bytes, NEXT_NUMBER, &self.next_number.to_le_bytes());
        put(&mut bytes, LAYERS, &count(self.layers.len()));
        put(&mut bytes, ASIDE, &count(self.aside.len()));
        let mut keyspaces = Vec::new();
        put_file(&mut keyspaces, self.keyspaces, 0);
        put(&mut bytes, KEYSPACES, &keyspaces);
        let Written { log_read, by_checkpoints, by_merges, lists } = self.written;
        for (at, written) in (WRITTEN..).step_by(8).zip([log_read, by_checkpoints, by_merges, lists]) {
            put(&mut bytes, at, &written.to_le_bytes());
        }
        self.layers.iter().for_each(|layer| layer.write(&mut bytes));
        self.aside.iter().for_each(|file| put_file(&mut bytes, *file, 0));
        preamble::write(&mut bytes, Manifest::KIND);
        bytes
    }

    /// The numbers of the files that it names.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let runs = self.layers.iter().flat_map(|layer| &layer.runs).map(|run| &run.file);
        [&self.keyspaces].into_iter().chain(runs).chain(&self.aside).map(|file| file.number)
    }

    /// What HISTORY's block calls the CRC of this MANIFEST.
    pub(crate) fn crc(bytes: &[u8]) -> u32 {
        preamble::crc(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        preamble::check(bytes, Manifest::KIND)?;
        match Manifest::read(bytes) {
            Some(manifest) if manifest.is_consistent() => Ok(manifest),
            _ => Err(Refusal::Impossible),
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (head, lists) = bytes.split_at_checked(HEADER)?;
        if bytes.len() as u64 > MAX_LIST_BYTES || head[ZERO..].iter().any(|byte| *byte != 0) {
            return None;
        }
        let (layers, aside) = (u32_at(head, LAYERS) as usize, u32_at(head, ASIDE) as usize);
        let least = layers.checked_mul(LEAST_LAYER)?.checked_add(aside.checked_mul(ASIDE_LEN)?)?;
        if least > lists.len() {
            return None;
        }
        let mut reader = Reader::new(lists);
        let manifest = Manifest {
            log_id: LogId(array_at(head, LOG_ID)),
            generation: u64_at(head, GENERATION),
            to: Lsn::new(u64_at(head, TO)),
            branch: branch_at(head, BRANCH),
            oldest: Lsn::new(u64_at(head, OLDEST)),
            next_number: u64_at(head, NEXT_NUMBER),
            keyspaces: read_file(&mut Reader::new(&head[KEYSPACES..WRITTEN]))?.0,
            written: Written {
                log_read: u64_at(head, WRITTEN),
                by_checkpoints: u64_at(head, WRITTEN + 8),
                by_merges: u64_at(head, WRITTEN + 16),
                lists: u64_at(head, WRITTEN + 24),
            },
            layers: (0..layers).map(|_| Layer::read(&mut reader)).collect::<Option<_>>()?,
            aside: (0..aside)
                .map(|_| read_file(&mut reader).filter(|(_, more)| *more == 0).map(|(file, _)| file))
                .collect::<Option<_>>()?,
        };
        let zero = u32_at(head, KEYSPACES + 28);
        (reader.rest().is_empty() && zero == 0).then_some(manifest)
    }

    fn is_consistent(&self) -> bool {
        (1..=MAX_NUMBER).contains(&self.generation)
            && self.to > Lsn::ZERO
            && self.to.get().is_multiple_of(WORD)
            && self.branch.number != 0
            && self.oldest <= self.to
            && self.oldest.get().is_multiple_of(WORD)
            && self.intervals_join()
            && self.jobs_are_whole()
            && self.layers.iter().all(Layer::is_consistent)
            && self.inputs_reach_beyond_their_cursor()
            && self.numbers_differ()
    }

    /// M1.
    fn intervals_join(&self) -> bool {
        let mut end = self.to;
        let join = self.layers.iter().filter(|layer| !matches!(layer.role, Role::Output { .. })).all(|layer| {
            let joins = layer.interval.is_possible() && layer.interval.to == end;
            end = layer.interval.from;
            joins
        });
        join && end == Lsn::ZERO
    }

    /// The layers that are whole, and the jobs: their inputs, and their output behind them. The newest first.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[Layer]> {
        self.layers.split_inclusive(|layer| layer.role != Role::Input)
    }

    fn jobs(&self) -> impl Iterator<Item = &[Layer]> {
        self.groups().filter(|group| group.first().is_some_and(|layer| layer.role != Role::Whole))
    }

    /// All layers, each with the bound from which on it counts. (An output has nothing that does not.)
    pub(crate) fn begins(&self) -> impl Iterator<Item = (&Layer, &[u8])> {
        self.groups().flat_map(|group| {
            let cursor = match group {
                [.., Layer { role: Role::Output { cursor }, .. }] => cursor.as_slice(),
                _ => &[],
            };
            group.iter().map(move |layer| (layer, if layer.role == Role::Input { cursor } else { &[] }))
        })
    }

    /// M2.
    fn jobs_are_whole(&self) -> bool {
        self.jobs().all(|job| match job {
            [first, .., output] => {
                let oldest_input = &job[job.len() - 2];
                matches!(output.role, Role::Output { .. })
                    && output.interval.to == first.interval.to
                    && output.interval.from == oldest_input.interval.from
            }
            _ => false,
        })
    }

    /// The last sentence of M3.
    fn inputs_reach_beyond_their_cursor(&self) -> bool {
        self.jobs().all(|job| match job.split_last() {
            Some((Layer { role: Role::Output { cursor }, .. }, inputs)) => {
                inputs.iter().flat_map(|layer| &layer.runs).all(|run| is_below(cursor, &run.range.high))
            }
            _ => false,
        })
    }

    /// M5.
    fn numbers_differ(&self) -> bool {
        let mut seen = HashSet::new();
        let runs = self.layers.iter().flat_map(|layer| &layer.runs).map(|run| run.file);
        let aside = self.aside.iter().copied();
        let is_possible = |file: &NamedFile, least: u64| {
            file.number >= 1 && file.number < self.next_number && file.nonce != 0 && file.length >= least
        };
        self.next_number <= MAX_NUMBER
            && is_possible(&self.keyspaces, super::keyspaces::HEADER as u64)
            && seen.insert(self.keyspaces.number)
            && runs.chain(aside).all(|file| is_possible(&file, LEAST_RUN) && seen.insert(file.number))
    }
}

/// Of the files of all of these.
pub(crate) fn bytes_of(layers: &[Layer]) -> u64 {
    layers.iter().fold(0, |bytes, layer| bytes.saturating_add(layer.bytes()))
}

impl Layer {
    /// Of its files.
    pub(crate) fn bytes(&self) -> u64 {
        self.runs.iter().fold(0, |bytes, run| bytes.saturating_add(run.file.length))
    }

    /// Its runs, each with its interval.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&NamedRun, Interval)> {
        self.runs.iter().map(|run| (run, self.interval))
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let (kind, cursor): (u8, &[u8]) = match &self.role {
            Role::Whole => (0, &[]),
            Role::Input => (1, &[]),
            Role::Output { cursor } => (2, cursor),
        };
        let narrow = |number: usize| u32::try_from(number).expect("a MANIFEST is at most 1 GiB long").to_le_bytes();
        bytes.extend_from_slice(&self.interval.from.get().to_le_bytes());
        bytes.extend_from_slice(&self.interval.to.get().to_le_bytes());
        bytes.extend_from_slice(&narrow(self.runs.len()));
        bytes.extend_from_slice(&[kind, 0, 0, 0]);
        bytes.extend_from_slice(&narrow(cursor.len()));
        bytes.extend_from_slice(cursor);
        let mut last = Vec::new();
        for run in &self.runs {
            put_file(bytes, run.file, run.tail);
            for number in [run.entries, run.tombstones, run.range_tombstones, run.newest.get()] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            put_shared(bytes, &mut last, &run.range.low);
            put_shared(bytes, &mut last, &run.range.high);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let interval = Interval { from: Lsn::new(reader.u64()?), to: Lsn::new(reader.u64()?) };
        let (count, kind) = (reader.u32()? as usize, reader.u8()?);
        reader.zeros(3)?;
        let length = reader.u32()? as usize;
        let cursor = reader.bytes(length).filter(|cursor| cursor.len() <= super::MAX_BOUND)?;
        let role = match kind {
            0 if cursor.is_empty() => Role::Whole,
            1 if cursor.is_empty() => Role::Input,
            2 if !cursor.is_empty() => Role::Output { cursor: cursor.to_vec() },
            _ => return None,
        };
        if count.checked_mul(LEAST_NAMED)? > reader.rest().len() {
            return None;
        }
        let mut last = Vec::new();
        let runs = (0..count).map(|_| read_run(reader, &mut last)).collect::<Option<_>>()?;
        Some(Layer { interval, role, runs })
    }

    /// M3 but for its last sentence, and M4.
    fn is_consistent(&self) -> bool {
        let mut end: &[u8] = &[];
        let in_order = self.runs.iter().enumerate().all(|(number, run)| {
            let Range { low, high } = &run.range;
            let follows = number == 0 || (!end.is_empty() && end <= low.as_slice());
            end = high;
            follows && is_below(low, high)
        });
        let in_interval = self.runs.iter().all(|run| match run.entries == 0 && run.range_tombstones == 0 {
            true => run.newest == Lsn::ZERO,
            false => self.interval.contains(run.newest),
        });
        let within_cursor = match &self.role {
            Role::Output { cursor } => {
                self.runs.iter().all(|run| !run.range.high.is_empty() && ends_within(&run.range.high, cursor))
            }
            Role::Whole | Role::Input => true,
        };
        let tails = self.runs.iter().all(|run| {
            let tail = u64::from(run.tail);
            run.tombstones <= run.entries && tail > SECTOR_LEN && tail <= run.file.length.saturating_sub(SECTOR_LEN)
        });
        in_order && in_interval && within_cursor && tails
    }
}

/// Writes a file and the four bytes behind it.
fn put_file(bytes: &mut Vec<u8>, file: NamedFile, more: u32) {
    for field in [file.number, file.nonce, file.length] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&file.crc.to_le_bytes());
    bytes.extend_from_slice(&more.to_le_bytes());
}

fn read_file(reader: &mut Reader<'_>) -> Option<(NamedFile, u32)> {
    let file = NamedFile { number: reader.u64()?, nonce: reader.u64()?, length: reader.u64()?, crc: reader.u32()? };
    Some((file, reader.u32()?))
}

fn read_run(reader: &mut Reader<'_>, last: &mut Vec<u8>) -> Option<NamedRun> {
    let (file, tail) = read_file(reader)?;
    let (entries, tombstones, range_tombstones) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let newest = Lsn::new(reader.u64()?);
    let mut bound = || {
        reader.shared(last)?;
        Some(last.clone())
    };
    let range = Range { low: bound()?, high: bound()? };
    Some(NamedRun { file, tail, entries, tombstones, range_tombstones, newest, range })
}
