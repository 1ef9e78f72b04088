//! What the clones of an engine share, and how it ends.

use std::sync::Arc;

use super::checkpointer::Checkpointer;
use super::tables::Tables;
use super::warmer;
use crate::base::error::Result;
use crate::log;
use crate::rt::guard::contain;
use crate::table::store::Store;
use crate::txn::pipeline::Pipeline;

pub(super) struct Inner {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) log: log::Handle,
    pub(super) tables: Arc<Tables>,
    /// If checkpoints are made without being asked for.
    pub(super) checkpointer: Option<Arc<Checkpointer>>,
}

impl Inner {
    /// Nothing begins any more, and nothing in `table/` is changed once this returns. Then the log may be closed.
    fn set_closed(&self) {
        self.pipeline.set_closed();
        let log = &self.pipeline.log;
        if log.is_of_this_process() {
            // What is acknowledged is not to wait for what the background reads.
            let _ = contain(|| log.flush_to(log.positions().appended()));
            let _ended = self.tables.end();
            // What it reads cannot be removed, and nobody else would remove it.
            warmer::end(&self.pipeline);
            if contain(|| self.tables.check_place(log.handle())).is_ok_and(|checked| checked.is_ok()) {
                // What one of two attempts beside each other still looked at when the other was done with it.
                let settled = self.tables.store().filter(|store| store.is_settled());
                let _ = contain(|| settled.map(Store::remove_needless));
            } else {
                // HISTORY is not to name tables in whose place others are.
                log.incarnations().keep_named();
            }
            self.tables.close();
        }
    }

    /// Closes it for all clones, in order.
    pub(super) fn close(&self) -> Result<()> {
        self.pipeline.set_closed();
        if self.pipeline.log.is_of_this_process()
            && let Some(checkpointer) = &self.checkpointer
        {
            // A disk that panics must not keep the lock from being given up.
            let _ = contain(|| checkpointer.at_close());
        }
        self.set_closed();
        self.log.log().close_and_drain()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Then the handle of the log closes it, and ends the pruner with its threads.
        self.set_closed();
    }
}
