//! What has become of the checkpoints and merges of an open engine.

use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::rt::sync::Mutex;
use crate::table::store::Stack;
use crate::txn::due::Amount;

/// What an engine's tables hold, and how its checkpoints fare: see [`Engine::table_stats`](crate::Engine::table_stats).
///
/// Write amplification is the bytes of log, checkpoints, merges and lists, each of them written once, by `log_bytes`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TableStats {
    /// The tables hold the effect of the log up to here; zero without tables.
    pub up_to: Lsn,
    /// Layers, each of which is sorted.
    pub layers: usize,
    /// Files that these consist of.
    pub runs: usize,
    /// Their length in bytes.
    pub bytes: u64,
    /// Bytes of records in the log that no table has yet. An open replays them.
    pub pending_bytes: u64,
    /// Operations in these records.
    pub pending_ops: u64,
    /// Checkpoints since the open.
    pub checkpoints: u64,
    /// Those that failed. All data are in the log, and the next one tries again.
    pub checkpoint_failures: u64,
    /// Merges since the open.
    pub merges: u64,
    /// Those that failed, or that waited for room on the disk. One is tried again behind each checkpoint.
    pub merge_failures: u64,
    /// Checkpoints that could not read the log, or missed a table, and wrote all data from memory.
    pub healed: u64,
    /// Failures to remove a file that nothing needs. It is tried again.
    pub removal_failures: u64,
    /// Why the last checkpoint failed, or the merge behind it; none if both succeeded.
    pub last_failure: Option<Error>,
    /// What a checkpoint last found in the log, or of the tables, that it could not read.
    pub last_rot: Option<Error>,
    /// Bytes of records that checkpoints have read since the database has tables.
    pub log_bytes: u64,
    /// Bytes that they have written since then.
    pub bytes_by_checkpoints: u64,
    /// Bytes that merges have written since then.
    pub bytes_by_merges: u64,
    /// Bytes of lists of files and keyspaces since then.
    pub bytes_of_lists: u64,
}

impl TableStats {
    /// With what the installed layers say.
    pub(super) fn with(mut self, stack: &Stack) -> Self {
        let manifest = &stack.manifest;
        let written = manifest.written;
        self.up_to = manifest.to;
        self.layers = manifest.layers.len();
        self.runs = manifest.layers.iter().map(|layer| layer.runs.len()).sum();
        self.bytes = manifest.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.bytes()));
        (self.log_bytes, self.bytes_by_checkpoints) = (written.log_read, written.by_checkpoints);
        (self.bytes_by_merges, self.bytes_of_lists) = (written.by_merges, written.lists);
        self
    }
}

/// Taken for a few instructions.
#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How much of the log, as it is counted, checkpoints have taken in.
    done: Amount,
    /// A layer of all data has been written, and is in doubt.
    has_healed_in_doubt: bool,
    /// The last checkpoint did.
    has_failed: bool,
    stats: TableStats,
}

impl Health {
    pub(super) fn done(&self) -> Amount {
        self.state.lock().done
    }

    pub(super) fn set_done(&self, done: Amount) {
        self.state.lock().done = done;
    }

    pub(super) fn stats(&self) -> TableStats {
        self.state.lock().stats.clone()
    }

    /// Whether the last checkpoint, and the merge behind it, succeeded.
    pub(super) fn is_good(&self) -> bool {
        self.state.lock().stats.last_failure.is_none()
    }

    /// Whether the last checkpoint failed.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().has_failed
    }

    pub(super) fn checkpointed(&self, made: &Result<u64>) {
        let State { stats, has_failed, .. } = &mut *self.state.lock();
        *has_failed = made.is_err();
        match made {
            Ok(made) => {
                stats.checkpoints += made;
                stats.last_failure = None;
            }
            Err(error) => {
                stats.checkpoint_failures += 1;
                stats.last_failure = Some(error.clone());
            }
        }
    }

    pub(super) fn merged(&self, merged: &Result<bool>) {
        let stats = &mut self.state.lock().stats;
        match merged {
            Ok(merged) => stats.merges += u64::from(*merged),
            Err(error) => {
                stats.merge_failures += 1;
                stats.last_failure = Some(error.clone());
            }
        }
    }

    /// The log, or a table, cannot be read. Whether it is to be healed: while no MANIFEST can be made durable, once.
    pub(super) fn found_rot(&self, rot: &Error, is_in_doubt: bool) -> bool {
        let state = &mut *self.state.lock();
        state.stats.last_rot = Some(rot.clone());
        !is_in_doubt || !std::mem::replace(&mut state.has_healed_in_doubt, true)
    }

    pub(super) fn healed(&self) {
        let state = &mut *self.state.lock();
        state.stats.healed += 1;
        state.has_healed_in_doubt = false;
    }

    /// A file that nothing needs could not be removed.
    pub(super) fn not_removed(&self, failed: Option<&Error>) {
        self.state.lock().stats.removal_failures += u64::from(failed.is_some());
    }
}
