//! The thread that merges, in an engine with automatic checkpoints. A checkpoint wakes it, and starts it when it is first needed.

use std::sync::Arc;

use super::merging::{Leaves, is_due, merge_many, merge_step};
use super::tables::Tables;
use super::turn::{Wait, retries};
use crate::base::options::Checkpoints;
use crate::rt::background::Task;
use crate::rt::sleeper::{Sleeper, Woken};
use crate::txn::pipeline::Pipeline;

/// Has the merges done that are due: by the thread, or by this one if the engine has none.
pub(super) fn wake(pipeline: &Arc<Pipeline>, tables: &Arc<Tables>) {
    // The models have no thread to spare.
    let has_thread = pipeline.settings.checkpoints == Checkpoints::Automatic && !cfg!(any(loom, shuttle));
    if !(has_thread && start(pipeline, tables)) {
        merge_many(pipeline, tables, Wait::Never, Leaves::Room);
    }
}

/// Has the thread do the merges that are due. Returns false if the operating system has no thread to give.
pub(super) fn start(pipeline: &Arc<Pipeline>, tables: &Arc<Tables>) -> bool {
    if !is_due(tables) {
        return true;
    }
    let (merges, of_thread) = (Arc::clone(pipeline), Arc::clone(tables));
    let task: Arc<Sleeper> = Arc::clone(&tables.merge_bell);
    let started = pipeline.log.start_once("forelog-merge", task, move |_| run(&merges, &of_thread));
    tables.merge_bell.ring();
    !matches!(started, Some(Err(_)))
}

fn run(pipeline: &Pipeline, tables: &Tables) {
    let mut failures = retries();
    loop {
        tables.merge_bell.forget();
        let stepped = {
            let _turn = tables.merge_turns.take(Wait::ForItsTurn);
            merge_step(pipeline, tables, Leaves::Room)
        };
        let sleep = match stepped {
            Ok(true) => {
                failures.reset();
                continue;
            }
            Ok(false) => None,
            Err(_) if pipeline.log.poisoned().is_some() => return,
            Err(_) => Some(failures.take()),
        };
        if tables.merge_bell.sleep(sleep) == Woken::Stopped {
            return;
        }
    }
}

/// A step under way ends at its next change in `table/`, which a close refuses.
impl Task for Sleeper {
    fn end(&self) {
        self.stop();
    }
}
