//! The workloads: what is done, by how many threads, in which mode.

use crate::common::KEY_BYTES;
use crate::peer::{Kind, Mode, Peer, Purpose};

/// Which mode each commit has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mix {
    All(Mode),
    /// Every tenth `Sync`, the others `Async`.
    TenthSync,
}

impl Mix {
    /// The mode of a thread's commit with this number.
    pub fn mode(self, number: u64) -> Mode {
        match self {
            Mix::All(mode) => mode,
            Mix::TenthSync if number % 10 == 9 => Mode::Sync,
            Mix::TenthSync => Mode::Async,
        }
    }
}

/// Commits, one after the other in each thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commits {
    pub mix: Mix,
    pub threads: usize,
    /// Writes in a transaction.
    pub puts: usize,
    /// Bytes of a value.
    pub value: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    Commits(Commits),
    /// Durable commits, so many awaited from one thread.
    Awaited(usize),
    /// Opening what a killed process left.
    Reopen,
    Get {
        threads: usize,
    },
    Scan,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Without spaces: for file names and the command line.
    pub id: &'static str,
    pub title: &'static str,
    pub task: Task,
}

const fn commits(id: &'static str, title: &'static str, mix: Mix, threads: usize) -> Workload {
    sized(id, title, mix, threads, 1, 100)
}

const fn sized(id: &'static str, title: &'static str, mix: Mix, threads: usize, puts: usize, value: usize) -> Workload {
    Workload { id, title, task: Task::Commits(Commits { mix, threads, puts, value }) }
}

const SYNC: Mix = Mix::All(Mode::Sync);
const ASYNC: Mix = Mix::All(Mode::Async);

pub const WORKLOADS: &[Workload] = &[
    commits("sync-1", "Sync, 1 thread", SYNC, 1),
    commits("sync-4", "Sync, 4 threads", SYNC, 4),
    commits("sync-16", "Sync, 16 threads", SYNC, 16),
    commits("sync-32", "Sync, 32 threads", SYNC, 32),
    commits("sync-64", "Sync, 64 threads", SYNC, 64),
    Workload { id: "awaited", title: "durable, 1,024 awaited from one thread", task: Task::Awaited(1024) },
    commits("async-1", "Async, 1 thread", ASYNC, 1),
    commits("async-8", "Async, 8 threads", ASYNC, 8),
    commits("written-1", "Written, 1 thread", Mix::All(Mode::Written), 1),
    commits("mixed-8", "8 threads, every tenth Sync, the rest Async", Mix::TenthSync, 8),
    sized("sync-4k-1", "Sync, 4 KiB values, 1 thread", SYNC, 1, 1, 4096),
    sized("sync-4k-16", "Sync, 4 KiB values, 16 threads", SYNC, 16, 1, 4096),
    sized("sync-100", "Sync, 100 puts a transaction", SYNC, 1, 100, 100),
    sized("async-100", "Async, 100 puts a transaction", ASYNC, 1, 100, 100),
    Workload { id: "reopen", title: "reopen after SIGKILL", task: Task::Reopen },
    Workload {
        id: "get-1",
        title: "point reads of 1M keys, 1 thread, one snapshot a thread",
        task: Task::Get { threads: 1 },
    },
    Workload {
        id: "get-2",
        title: "point reads of 1M keys, 2 threads, one snapshot a thread",
        task: Task::Get { threads: 2 },
    },
    Workload { id: "scan", title: "full ordered scan of 1M keys, one snapshot a scan", task: Task::Scan },
];

impl Workload {
    pub fn named(id: &str) -> Option<&'static Workload> {
        WORKLOADS.iter().find(|workload| workload.id == id)
    }

    /// Whether less is better: seconds instead of operations per second.
    pub fn in_seconds(&self) -> bool {
        self.task == Task::Reopen
    }

    /// Whether what it measures is made of fsyncs.
    pub fn syncs(&self) -> bool {
        match self.task {
            Task::Commits(commits) => commits.mix != ASYNC && commits.mix != Mix::All(Mode::Written),
            Task::Awaited(_) => true,
            Task::Reopen | Task::Get { .. } | Task::Scan => false,
        }
    }

    /// What the store is opened for.
    pub fn purpose(&self) -> Purpose {
        match self.task {
            Task::Commits(Commits { mix: Mix::All(mode), .. }) => Purpose::Commits(mode),
            Task::Commits(Commits { mix: Mix::TenthSync, .. }) => Purpose::Mixed,
            Task::Awaited(_) => Purpose::Commits(Mode::Async),
            Task::Reopen => Purpose::LongLog,
            Task::Get { .. } | Task::Scan => Purpose::Reads,
        }
    }

    /// Whether the peer has what this needs.
    pub fn suits(&self, peer: &Peer) -> bool {
        match self.task {
            // Beside a server, what a commit takes is lost in what a round trip takes: a few rows are enough.
            Task::Commits(commits) if peer.kind == Kind::Outside && (commits.puts > 1 || commits.value > 100) => false,
            Task::Commits(Commits { mix: Mix::All(mode), .. }) => peer.configuration(mode).is_some(),
            Task::Commits(Commits { mix: Mix::TenthSync, .. }) => peer.can.mixed,
            Task::Awaited(_) => peer.can.awaited,
            Task::Reopen => peer.can.replays,
            Task::Get { .. } | Task::Scan => peer.reads.is_some(),
        }
    }
}

/// Values that no compression shortens: slices of one run of pseudo-random bytes.
pub struct Values(Vec<u8>);

impl Values {
    const BYTES: usize = 64 << 10;

    pub fn new() -> Self {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let bytes = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Values(bytes.take(Self::BYTES / 8).flatten().collect())
    }

    /// `length` is at most [`Commits::value`] of any workload.
    pub fn value(&self, number: u64, length: usize) -> &[u8] {
        let at = (number.wrapping_mul(KEY_BYTES as u64) % (Self::BYTES - length) as u64) as usize;
        &self.0[at..at + length]
    }
}
