//! The catalogue: the keyspaces that exist at each LSN that a reader may still ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::types::Lsn;
use crate::format::batch::{Batch, Op};

use super::ApplyError;
use super::beyond::{AwayKeyspace, Beyond};
use super::meter::Meter;
use super::tree::Tree;

/// All keyspaces that a reader may still see, dropped ones included.
#[derive(Debug)]
pub(super) struct Catalogue {
    by_id: BTreeMap<u32, Arc<Tree>>,
    /// The keyspaces of one name, oldest first.
    by_name: BTreeMap<Box<str>, Vec<Arc<Tree>>>,
    next_id: u32,
    /// What `next_id` became, and by which commit.
    made: Vec<(Lsn, u32)>,
    /// What all keyspaces ask that are not in memory as a whole.
    beyond: Option<Arc<dyn Beyond>>,
    pub(super) meter: Arc<Meter>,
}

impl Catalogue {
    /// The id of the first keyspace.
    const FIRST_ID: u32 = 1;

    pub(super) fn new() -> Self {
        let (by_id, by_name, made, meter) = Default::default();
        Catalogue { by_id, by_name, next_id: Self::FIRST_ID, made, beyond: None, meter }
    }

    /// The keyspaces that layers have, whose effect goes up to `to`. An id from `next_id` on was never used.
    pub(super) fn of_layers(
        beyond: &Arc<dyn Beyond>,
        keyspaces: impl IntoIterator<Item = AwayKeyspace>,
        to: Lsn,
        next_id: u32,
    ) -> Self {
        let mut catalogue = Catalogue::new();
        for keyspace in keyspaces {
            catalogue.add(Arc::new(Tree::away(&keyspace, Arc::clone(beyond), &catalogue.meter)));
        }
        catalogue.next_id = catalogue.next_id.max(next_id);
        catalogue.made.push((to, catalogue.next_id));
        catalogue.beyond = Some(Arc::clone(beyond));
        catalogue
    }

    pub(super) fn next_id(&self) -> u32 {
        self.next_id
    }

    pub(super) fn by_id(&self, id: u32) -> Option<&Arc<Tree>> {
        self.by_id.get(&id)
    }

    /// The id of the first keyspace that comes behind `at`.
    pub(super) fn next_id_at(&self, at: Lsn) -> u32 {
        let made = self.made.partition_point(|(lsn, _)| *lsn <= at);
        made.checked_sub(1).map_or(Self::FIRST_ID, |last| self.made[last].1)
    }

    pub(super) fn by_name(&self, name: &str, at: Lsn) -> Option<Arc<Tree>> {
        self.by_name.get(name)?.iter().rev().find(|tree| tree.is_visible(at)).cloned()
    }

    /// The keyspaces at `at`, in the order of their names.
    pub(super) fn all(&self, at: Lsn) -> Vec<Arc<Tree>> {
        self.by_name.values().flatten().filter(|tree| tree.is_visible(at)).cloned().collect()
    }

    pub(super) fn trees(&self) -> impl Iterator<Item = &Arc<Tree>> {
        self.by_id.values()
    }

    pub(super) fn alive(&self, id: u32) -> Option<&Arc<Tree>> {
        self.by_id.get(&id).filter(|tree| tree.dropped().is_none())
    }

    fn is_name_taken(&self, name: &str) -> bool {
        self.by_name.get(name).and_then(|trees| trees.last()).is_some_and(|tree| tree.dropped().is_none())
    }

    /// Refuses a batch that cannot be applied as a whole.
    pub(super) fn check(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        let mut changes = Changes::new(self);
        let mut known = None;
        for op in batch {
            let id = op.keyspace();
            match op {
                Op::Put { .. } | Op::Delete { .. } | Op::DeleteRange { .. } if known == Some(id) => {}
                Op::Put { .. } | Op::Delete { .. } | Op::DeleteRange { .. } => {
                    changes.alive(id)?;
                    known = Some(id);
                }
                Op::CreateKeyspace { name, .. } => changes.create(id, name)?,
                Op::DropKeyspace { .. } => {
                    changes.drop(id)?;
                    known = None;
                }
            }
        }
        Ok(())
    }

    pub(super) fn create(&mut self, id: u32, name: &str, lsn: Lsn) {
        self.add(Arc::new(Tree::new(id, name, lsn, self.beyond.clone(), &self.meter)));
        self.made.push((lsn, self.next_id));
    }

    fn add(&mut self, tree: Arc<Tree>) {
        self.next_id = self.next_id.max(tree.id().saturating_add(1));
        self.by_id.insert(tree.id(), Arc::clone(&tree));
        self.by_name.entry(tree.name().into()).or_default().push(tree);
    }

    /// Removes a keyspace that no reader can see.
    pub(super) fn forget(&mut self, tree: &Tree) {
        self.by_id.remove(&tree.id());
        if let Some(trees) = self.by_name.get_mut(tree.name()) {
            trees.retain(|other| other.id() != tree.id());
            if trees.is_empty() {
                self.by_name.remove(tree.name());
            }
        }
    }
}

/// The changes that the operations of a batch make to the catalogue, up to the operation being checked.
struct Changes<'a> {
    catalogue: &'a Catalogue,
    next_id: u32,
    /// Created by the batch and not dropped by it.
    created: BTreeMap<u32, &'a str>,
    dropped: BTreeSet<u32>,
    /// For each name that the batch created or dropped: whether it is taken now.
    names: BTreeMap<&'a str, bool>,
}

impl<'a> Changes<'a> {
    fn new(catalogue: &'a Catalogue) -> Self {
        let (created, dropped, names) = Default::default();
        Changes { catalogue, next_id: catalogue.next_id, created, dropped, names }
    }

    fn alive(&self, id: u32) -> Result<&'a str, ApplyError> {
        if let Some(name) = self.created.get(&id) {
            return Ok(name);
        }
        let tree = self.catalogue.alive(id).filter(|_| !self.dropped.contains(&id));
        tree.map(|tree| tree.name()).ok_or(ApplyError::NoSuchKeyspace(id))
    }

    fn create(&mut self, id: u32, name: &'a str) -> Result<(), ApplyError> {
        // The last id stays unused, so that there is always a next one.
        if id < self.next_id || id == u32::MAX {
            return Err(ApplyError::IdNotRising { id, next: self.next_id });
        }
        if self.names.get(name).copied().unwrap_or_else(|| self.catalogue.is_name_taken(name)) {
            return Err(ApplyError::NameTaken(name.into()));
        }
        self.next_id = id + 1;
        self.created.insert(id, name);
        self.names.insert(name, true);
        Ok(())
    }

    fn drop(&mut self, id: u32) -> Result<(), ApplyError> {
        let name = self.alive(id)?;
        self.created.remove(&id);
        self.dropped.insert(id);
        self.names.insert(name, false);
        Ok(())
    }
}
