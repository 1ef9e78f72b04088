//! Finding, making and dropping keyspaces. To make or drop one is a commit, which looks again at what is there when it
//! takes its place.

use std::sync::Arc;

use super::Engine;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::format::batch::{BatchBuilder, MAX_KEYSPACE_NAME_LEN};
use crate::index::{Index, Tree};
use crate::log::{Receipt, WaitLimit};
use crate::txn::async_commit::{CommitFuture, Request};
use crate::txn::pipeline::{Check, Pipeline};
use crate::txn::{Keyspace, no_such_keyspace};

/// As the last apply left it, visible or not.
const NOW: Lsn = Lsn::new(u64::MAX);

impl Engine {
    /// [`Engine::create_keyspace`] for an async program. To poll it blocks no thread. Dropped, it may be done all the same.
    ///
    /// # Errors
    /// As [`Engine::create_keyspace`].
    pub async fn create_keyspace_async(&self, name: &str) -> Result<Keyspace> {
        create_async(self.pipeline(), name).await
    }

    /// [`Engine::drop_keyspace`] for an async program. To poll it blocks no thread. Dropped, it may be done all the same.
    ///
    /// # Errors
    /// As [`Engine::drop_keyspace`].
    pub async fn drop_keyspace_async(&self, name: &str) -> Result<Receipt> {
        let (ops, is_there) = removal(self.pipeline(), name)?;
        let request = Request { ops, check: Box::new(is_there) };
        CommitFuture::new(self.pipeline(), self.pipeline().settings.commit_mode, request).await
    }
}

fn find(pipeline: &Arc<Pipeline>, name: &str) -> Result<Option<Keyspace>> {
    pipeline.check_open()?;
    if name.is_empty() || name.len() > MAX_KEYSPACE_NAME_LEN {
        let message = format!("a keyspace name of {} bytes: names have 1 to {MAX_KEYSPACE_NAME_LEN} bytes", name.len());
        return Err(Error::invalid_input(message));
    }
    let index = pipeline.index_now();
    let tree = index.keyspace_by_name(name, index.visible())?;
    Ok(tree.map(|tree| Keyspace::new(pipeline, tree)))
}

pub(super) fn open(pipeline: &Arc<Pipeline>, name: &str) -> Result<Keyspace> {
    find(pipeline, name)?.ok_or_else(|| no_such_keyspace(name))
}

pub(super) fn create(pipeline: &Arc<Pipeline>, name: &str) -> Result<Keyspace> {
    loop {
        if let Some(keyspace) = find(pipeline, name)? {
            return Ok(keyspace);
        }
        let (batch, is_free) = creation(pipeline, name)?;
        let mode = pipeline.settings.commit_mode;
        unless_another_came(pipeline.commit(batch.batch(), mode, WaitLimit::Forever, &is_free))?;
    }
}

async fn create_async(pipeline: &Arc<Pipeline>, name: &str) -> Result<Keyspace> {
    loop {
        if let Some(keyspace) = find(pipeline, name)? {
            return Ok(keyspace);
        }
        let (ops, is_free) = creation(pipeline, name)?;
        let request = Request { ops, check: Box::new(is_free) };
        unless_another_came(CommitFuture::new(pipeline, pipeline.settings.commit_mode, request).await)?;
    }
}

/// What makes a keyspace, and what must be true when that takes its place.
fn creation(pipeline: &Arc<Pipeline>, name: &str) -> Result<(BatchBuilder, IsFree)> {
    let id = pipeline.index().next_keyspace_id();
    let mut batch = BatchBuilder::new();
    batch.create_keyspace(id, name).map_err(|reason| Error::invalid_input(reason.to_string()))?;
    Ok((batch, IsFree { id, name: name.to_owned() }))
}

/// Then it is looked for again.
fn unless_another_came(created: Result<Receipt>) -> Result<()> {
    match created {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        other => other.map(std::mem::drop),
    }
}

/// A name and an id that no keyspace has.
struct IsFree {
    id: u32,
    name: String,
}

impl Check for IsFree {
    fn depends_on_writes(&self) -> bool {
        true
    }

    fn check(&self, index: &Index) -> Result<()> {
        let free = index.next_keyspace_id() == self.id && index.keyspace_by_name(&self.name, NOW)?.is_none();
        if free { Ok(()) } else { Err(Error::new(ErrorKind::Conflict, "another keyspace came first")) }
    }
}

pub(super) fn drop(pipeline: &Arc<Pipeline>, name: &str) -> Result<Receipt> {
    let (batch, is_there) = removal(pipeline, name)?;
    pipeline.commit(batch.batch(), pipeline.settings.commit_mode, WaitLimit::Forever, &is_there)
}

/// What drops a keyspace, and what must be true when that takes its place.
fn removal(pipeline: &Arc<Pipeline>, name: &str) -> Result<(BatchBuilder, IsThere)> {
    let id = open(pipeline, name)?.id();
    let mut batch = BatchBuilder::new();
    batch.drop_keyspace(id).map_err(|reason| Error::invalid_input(reason.to_string()))?;
    Ok((batch, IsThere { id, name: name.to_owned() }))
}

/// A keyspace that was not dropped meanwhile.
struct IsThere {
    id: u32,
    name: String,
}

impl Check for IsThere {
    fn depends_on_writes(&self) -> bool {
        true
    }

    fn check(&self, index: &Index) -> Result<()> {
        let current = index.keyspace_by_name(&self.name, NOW)?;
        let is_there = current.is_some_and(|tree: Arc<Tree>| tree.id() == self.id);
        if is_there { Ok(()) } else { Err(no_such_keyspace(&self.name)) }
    }
}
