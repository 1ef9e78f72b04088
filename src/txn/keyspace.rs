//! The handle of a keyspace.

use std::fmt;
use std::sync::Arc;

use super::pipeline::Pipeline;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::index::Tree;
use crate::rt::process;

/// An ordered map of its own inside an engine: a transaction may read and write any number of them.
///
/// Cheap to clone. It stays valid until the keyspace is dropped; a keyspace that is created again under the same name
/// is another one.
#[derive(Clone)]
pub struct Keyspace {
    pub(super) tree: Arc<Tree>,
    engine: u64,
    /// The process that opened the engine.
    generation: u64,
}

impl Keyspace {
    pub(crate) fn new(pipeline: &Pipeline, tree: Arc<Tree>) -> Self {
        Keyspace { tree, engine: pipeline.id, generation: process::generation() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.tree.name()
    }

    pub(crate) fn id(&self) -> u32 {
        self.tree.id()
    }

    /// About how many keys it holds: a few of the newest commits may not be counted yet. None in a forked child.
    pub fn len_estimate(&self) -> usize {
        if process::is_current(self.generation) { self.tree.len_estimate() } else { 0 }
    }

    /// The newest LSN that can be read, at which the keyspace is there.
    pub(crate) fn check_alive(&self, pipeline: &Pipeline) -> Result<Lsn> {
        let now = pipeline.index_now().visible();
        self.at(pipeline, now).map(|_| now)
    }

    /// Its map, if the keyspace is there in the state at `at`. Refuses a handle that crossed `fork()`.
    pub(super) fn at(&self, pipeline: &Pipeline, at: Lsn) -> Result<&Arc<Tree>> {
        pipeline.log.check_process()?;
        if self.engine != pipeline.id {
            let message =
                format!("the keyspace '{}' was opened from another engine: open it from this one", self.name());
            return Err(Error::invalid_input(message));
        }
        match self.tree.dropped() {
            Some(dropped) if dropped <= at => Err(dropped_error(self.name())),
            _ => Ok(&self.tree),
        }
    }
}

/// The error for the use of a keyspace that is gone.
pub(super) fn dropped_error(name: &str) -> Error {
    Error::new(ErrorKind::KeyspaceDropped, format!("the keyspace '{name}' was dropped: open or create it again"))
}

pub(crate) fn no_such_keyspace(name: &str) -> Error {
    Error::new(ErrorKind::NoSuchKeyspace, format!("there is no keyspace '{name}': names are exact"))
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace").field("name", &self.name()).finish_non_exhaustive()
    }
}
