//! How an engine's memory is shared out.

use crate::base::options::{MIN_CHECKPOINT_BYTES, Settings};
use crate::base::types::Lsn;
use crate::index::Key;
use crate::rt::machine;
use crate::table::reading::Limits;

/// What an engine may use where the operating system does not say how much there is.
const UNKNOWN: u64 = 1 << 30;
/// Buffers of the log, of merges and of their runs.
const FIXED: u64 = 12 << 20;
/// This part of it is set aside for what is kept of tables: runs that stay open, and partitions. Partitions may take half of what
/// records may, if reads ask for so many: then records give up as much. Without its partition a read of a key that is not in memory reads
/// some KiB more for each layer; the memory of a partition has but a few records in a hundred of those it leads to.
const ASIDE: u64 = 32;
/// No less than this: a partition is up to about 100 KiB long, and several readers share the rest.
const LEAST_PARTITIONS: u64 = 2 << 20;
/// A checkpoint takes in no more than a part of it, unless the user says so.
const CHECKPOINT: u64 = 16;

/// Segments are no longer than a checkpoint, unless the user says so, but no shorter than this: each costs a few syncs.
const SHORTEST_SEGMENT: u64 = 4 << 20;

/// What an engine keeps in memory: see [`Engine::memory_stats`](crate::Engine::memory_stats). In bytes.
///
/// The allocator's own overhead comes on top, and what calls that are under way have in hand: a merge a few blocks of each layer that
/// it reads and the run that it is about to write, an uncommitted transaction its writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// What the engine may use: [`memory_bytes`](crate::Options::memory_bytes), or half of what there is.
    pub limit: u64,
    /// Of that, what records may take.
    pub records_limit: u64,
    /// What records take, with the unused room of the leaves that hold them.
    pub records: u64,
    /// What superseded versions take: what commits have replaced lately, and what held snapshots need. It comes on top of the limit.
    pub superseded: u64,
    /// Parts of tables that are kept: filters, and where blocks begin.
    pub partitions: u64,
    /// Tables that are kept open.
    pub open_runs: u64,
    /// What a checkpoint under way has sorted of the log.
    pub sorting: u64,
    /// Commits on their way to the log's files. The two buffers keep up to 4 MiB each for the next ones.
    pub log_buffers: u64,
}

/// The shares of an engine's memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    pub(super) memory: u64,
    /// What records may take.
    pub(super) records: u64,
    /// What a checkpoint takes in of the log.
    checkpoint: u64,
    /// What is kept of tables without taking it from records.
    aside: u64,
    /// What records have given up to tables of their share.
    pub(super) given_up: u64,
}

impl Shares {
    pub(super) fn of(settings: &Settings) -> Self {
        let (memory, checkpoint) = (memory(settings), settings.checkpoint_bytes);
        let aside = (memory / ASIDE).max(LEAST_PARTITIONS);
        // Sorting takes the checkpoint and a half.
        let sorting = checkpoint.saturating_add(checkpoint / 2);
        let rest = memory.saturating_sub(aside + FIXED).saturating_sub(sorting);
        let records = settings.records_bytes.unwrap_or(rest.max(memory / 4) / 8 * 7);
        Shares { memory, records, checkpoint, aside, given_up: 0 }
    }

    /// The same while what is kept of tables takes so much.
    pub(super) fn beside(self, tables: u64) -> Self {
        // Half of their share stays with records.
        let given_up = tables.saturating_sub(self.aside).min(self.records - self.records / 2);
        Shares { records: self.records - given_up, given_up, ..self }
    }

    /// More records than this are too many: what comes until the end of the next checkpoint, and while it has memory forgotten, still
    /// has room.
    pub(super) fn start(self) -> u64 {
        // More than what is left when all was forgotten that could be: see below.
        let least = self.goal().midpoint(self.records).max(self.goal() / 7 * 8);
        self.records.saturating_sub(self.checkpoint.saturating_mul(2)).max(least)
    }

    /// Down to here ranges are forgotten when there is too much: what comes until the next checkpoint cannot be.
    pub(super) fn goal(self) -> u64 {
        // Up to two checkpoints are in the log, and what was written lately lies in leaves that are mostly empty.
        let goal = self.records.saturating_sub(self.checkpoint.saturating_mul(4)).max(self.records / 4);
        // The memory of up to an eighth of the leaves that were let go of stays with the map.
        goal.min(self.records / 16 * 13)
    }

    /// What is brought in of its own accord.
    pub(super) fn to_warm(self) -> u64 {
        self.goal() / 8 * 7
    }

    pub(super) fn limits(self) -> Limits {
        Limits {
            open_run_bytes: self.aside,
            partition_bytes: (self.records / 2).max(LEAST_PARTITIONS),
            ..Limits::default()
        }
    }
}

fn memory(settings: &Settings) -> u64 {
    settings.memory_bytes.unwrap_or_else(|| machine::memory().map_or(UNKNOWN, |memory| memory / 2))
}

/// The settings with what follows from the memory and from each other.
pub(super) fn resolved(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    if !settings.is_checkpoint_chosen {
        let part = memory(&settings) / CHECKPOINT;
        settings.checkpoint_bytes = settings.checkpoint_bytes.min(part).max(MIN_CHECKPOINT_BYTES);
    }
    if settings.segment_bytes.is_none() {
        let longest = settings.checkpoint_bytes.max(SHORTEST_SEGMENT).next_multiple_of(4096);
        settings.segment_bytes = Some(settings.segment_bytes().min(longest));
    }
    settings
}

/// Where the hand that forgets goes on: the id of a keyspace, and a key.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) id: u32,
    pub(super) low: Key,
    /// Nothing could be brought in when layers ended here.
    pub(super) full_at: Option<Lsn>,
    /// What records had given up to tables when they were last made to fit.
    pub(super) given_up: u64,
}

impl Hand {
    /// Goes to the begin of a keyspace.
    pub(super) fn go_to(&mut self, id: u32) {
        (self.id, self.low) = (id, Key::from(&[]));
    }
}

impl Default for Hand {
    fn default() -> Self {
        Hand { id: 0, low: Key::from(&[]), full_at: None, given_up: 0 }
    }
}
