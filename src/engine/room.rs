//! What the log leaves of the disk for a checkpoint, and who gives room back when it has ended for that
//! (`table/FAULTS.md`, section 4).

use std::fmt;
use std::sync::{Arc, Weak};

use super::checkpointer::Checkpointer;
use super::install::run_bytes;
use super::tables::Tables;
use crate::base::error::Error;
use crate::base::options::Checkpoints;
use crate::log::Reserve;
use crate::table::room::{TakenIn, most_written};
use crate::txn::due::Amount;
use crate::txn::pipeline::Pipeline;

/// What a checkpoint of one database needs.
pub(super) struct TableRoom {
    /// Not kept: its log keeps this.
    pipeline: Weak<Pipeline>,
    tables: Arc<Tables>,
    checkpointer: Option<Arc<Checkpointer>>,
}

impl TableRoom {
    /// Has the log leave room, if checkpoints are made of it.
    pub(super) fn begin(pipeline: &Arc<Pipeline>, tables: &Arc<Tables>, checkpointer: Option<&Arc<Checkpointer>>) {
        let settings = &pipeline.settings;
        if settings.is_volatile || settings.checkpoints == Checkpoints::Never {
            return;
        }
        let (tables, checkpointer) = (Arc::clone(tables), checkpointer.map(Arc::clone));
        let room = TableRoom { pipeline: Arc::downgrade(pipeline), tables, checkpointer };
        pipeline.log.leave_room_for(Arc::new(room));
    }
}

impl Reserve for TableRoom {
    fn bytes(&self, growth: u64) -> u64 {
        let Some(pipeline) = self.pipeline.upgrade() else { return 0 };
        let settings = &pipeline.settings;
        // Step 1 ends at the first record that comes to a whole checkpoint.
        let full = Amount::of_a_checkpoint(settings);
        let most = full.bytes.saturating_add(settings.max_transaction_bytes);
        // What is not durable is counted twice, for a commit that has its place may not be counted yet.
        let Amount { bytes, ops } = self.tables.pending(&pipeline.due);
        let bytes = bytes.min(most);
        let taken = TakenIn { bytes, ops: ops.min(full.ops.saturating_add(most)), growth: growth.min(most - bytes) };
        let stack = self.tables.stack();
        let lists = stack.as_ref().map_or(0, |stack| stack.bytes_of_lists());
        most_written(taken, lists, |records| run_bytes(settings, stack.as_deref(), records))
    }

    fn ask(&self) -> bool {
        self.checkpointer.as_ref().is_some_and(Checkpointer::make_room)
    }

    fn failure(&self) -> Option<Error> {
        self.tables.health.stats().last_failure
    }
}

impl fmt::Debug for TableRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableRoom").finish_non_exhaustive()
    }
}
