//! What has become of the checkpoints and merges of an open engine.

use std::time::Duration;

use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::format::table::manifest::bytes_of;
use crate::rt::sync::Mutex;
use crate::table::job::Stepped;
use crate::table::pick;
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
    /// Everything is in memory: no read asks a table. An open begins without, and reads tables meanwhile.
    pub all_in_memory: bool,
    /// Bytes of records in the log that no table has yet. An open replays them.
    pub pending_bytes: u64,
    /// Operations in these records.
    pub pending_ops: u64,
    /// Bytes of layers that merges are to take into the last one.
    pub unmerged_bytes: u64,
    /// Commits that waited since the open, since checkpoints or merges did not keep up.
    pub waits: u64,
    /// For how long they waited, in sum.
    pub waited: Duration,
    /// Checkpoints since the open.
    pub checkpoints: u64,
    /// Those that failed. All data are in the log, and the next one tries again.
    pub checkpoint_failures: u64,
    /// Merges since the open.
    pub merges: u64,
    /// Steps of merges since the open.
    pub merge_steps: u64,
    /// Steps that failed, or that waited for room on the disk. They are tried again.
    pub merge_failures: u64,
    /// Checkpoints that could not read the log, or missed a table, and wrote from memory what it held.
    pub healed: u64,
    /// Failures to remove a file that nothing needs. It is tried again.
    pub removal_failures: u64,
    /// Why the last checkpoint failed or could not begin, or the last step of a merge failed; none if both succeeded.
    pub last_failure: Option<Error>,
    /// What a checkpoint last found in the log, or a checkpoint or merge of the tables, that it could not read.
    pub last_rot: Option<Error>,
    /// Files of tables of which a merge could not read a part. It has gone round that; reads of these keys fail. No layer has the
    /// files any more: they are kept for a salvage, and whoever needs the room may remove them. `forelog dump` of MANIFEST names them.
    pub set_aside: usize,
    /// Bytes of records that checkpoints have taken in since the database has tables.
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
        self.unmerged_bytes = pick::owed(&manifest.layers).0;
        self.runs = manifest.layers.iter().map(|layer| layer.runs.len()).sum();
        self.bytes = bytes_of(&manifest.layers);
        self.set_aside = manifest.aside.len();
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
    stats: TableStats,
    checkpoint_failure: Option<Error>,
    merge_failure: Option<Error>,
    /// Why there is no thread that makes checkpoints. No checkpoint has failed for it: a close makes one without.
    refused_thread: Option<Error>,
}

impl State {
    fn last_failure(&self) -> Option<&Error> {
        self.checkpoint_failure.as_ref().or(self.merge_failure.as_ref())
    }
}

impl Health {
    pub(super) fn done(&self) -> Amount {
        self.state.lock().done
    }

    pub(super) fn set_done(&self, done: Amount) {
        self.state.lock().done = done;
    }

    pub(super) fn stats(&self) -> TableStats {
        let state = self.state.lock();
        let last_failure = state.last_failure().or(state.refused_thread.as_ref()).cloned();
        TableStats { last_failure, ..state.stats.clone() }
    }

    /// Whether the last checkpoint, and the last step of a merge, succeeded.
    pub(super) fn is_good(&self) -> bool {
        self.state.lock().last_failure().is_none()
    }

    /// Whether the last checkpoint failed.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().checkpoint_failure.is_some()
    }

    /// Over what it did.
    pub(super) fn checkpoint_failure(&self) -> Option<Error> {
        self.state.lock().checkpoint_failure.clone()
    }

    pub(super) fn checkpointed(&self, made: &Result<u64>) {
        let state = &mut *self.state.lock();
        state.checkpoint_failure = made.as_ref().err().cloned();
        state.refused_thread = None;
        match made {
            Ok(made) => state.stats.checkpoints += made,
            Err(_) => state.stats.checkpoint_failures += 1,
        }
    }

    /// The operating system has no thread to give for checkpoints.
    pub(super) fn thread_refused(&self, why: Error) {
        self.state.lock().refused_thread = Some(why);
    }

    /// What a step has come to; none was due if it is none.
    pub(super) fn stepped(&self, stepped: Option<Stepped>) {
        let state = &mut *self.state.lock();
        state.merge_failure = None;
        state.stats.merge_steps += u64::from(matches!(stepped, Some(Stepped::Part | Stepped::Done)));
        state.stats.merges += u64::from(stepped == Some(Stepped::Done));
    }

    pub(super) fn step_failed(&self, error: &Error) {
        let state = &mut *self.state.lock();
        state.merge_failure = Some(error.clone());
        state.stats.merge_failures += 1;
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
