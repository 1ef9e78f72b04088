//! Salvage: what can be proven whole of a database in any state, as a new database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::Options;
use super::copy::{Copy, copy_entries, refuse_if_used, refuse_inside};
use crate::base::error::{Error, Result};
use crate::base::options::MAX_TRANSACTION_BYTES;
use crate::base::types::{CommitMode, Lsn};
use crate::care::salvage::{self, BadFile, Completeness, Found, Gap};
use crate::disk::{DirHandle, Disk, LockHeld};
use crate::format::batch::{Batch, BatchBuilder, Op, Reason};
use crate::log::WaitLimit;
use crate::txn::pipeline::Check;

/// What [`Engine::salvage`](crate::Engine::salvage) saved, and what it could not.
///
/// Positions are those of the damaged database; the new one has its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Salvaged {
    /// Commits in the new database.
    pub commits: u64,
    /// The position of the last of them in the old one.
    pub last: Lsn,
    /// Whether they are all commits up to one, or commits between them are missing.
    pub completeness: Completeness,
    /// The parts of the log that are missing, in order.
    pub lost: Vec<Gap>,
    /// Files that could not be used, or not as what they should be.
    pub bad_files: Vec<BadFile>,
    /// Keyspaces whose creation is lost: their contents, or what is left of them, are under a made-up name. It is never
    /// one that another keyspace has, or had.
    pub renamed: Vec<RenamedKeyspace>,
    /// How the damaged database was locked meanwhile: if not at all, it was read while it may have been written.
    pub lock: LockHeld,
}

impl Salvaged {
    /// Whether nothing was found to be missing or bad.
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty() && self.bad_files.is_empty()
    }
}

/// A keyspace whose name is lost.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RenamedKeyspace {
    /// Its number in the damaged database.
    pub id: u32,
    /// What it is called in the new one.
    pub name: String,
}

/// Salvages from the database in `from` into a new one in `to`.
pub(super) fn salvage(disk: &dyn Disk, from: &Path, to: &Path) -> Result<Salvaged> {
    let from = Arc::new(DirHandle::open(disk, from)?);
    refuse_inside(disk, to, &from)?;
    refuse_if_used(disk, to)?;
    let begin = || Saver::new(disk, to);
    let mut saver: Option<Saver> = None;
    let found = salvage::salvage(from, &mut |lsn, payload| {
        // Created with the first record: what holds nothing to salvage leaves no empty database behind.
        let saver = match &mut saver {
            Some(saver) => saver,
            none => none.insert(begin()?),
        };
        saver.save(lsn, payload)
    })?;
    let saver = match saver {
        Some(saver) => saver,
        None => begin()?,
    };
    saver.finish(found)
}

/// The keyspaces of the old database, as they are known in the new one.
#[derive(Default)]
struct Names {
    /// By the old id: the new one, and the name.
    alive: BTreeMap<u32, (u32, String)>,
    /// All names ever used.
    used: BTreeSet<String>,
    next: u32,
}

impl Names {
    /// A name for a keyspace whose own is lost, which no other had before.
    fn make_up(&self, old: u32) -> String {
        let mut name = format!("salvaged-{old}");
        while self.used.contains(&name) {
            name.push('+');
        }
        name
    }
}

/// Operations that were encoded once can be encoded again, so that an error is a bug.
type Encoded<T> = std::result::Result<T, Reason>;

struct Saver {
    copy: Copy,
    names: Names,
    commits: u64,
    last: Lsn,
    renamed: Vec<RenamedKeyspace>,
}

impl Saver {
    fn new(disk: &dyn Disk, to: &Path) -> Result<Self> {
        let options = Options::new().max_transaction_bytes(MAX_TRANSACTION_BYTES);
        let copy = Copy::begin(disk, to, &options)?;
        let names = Names { next: copy.engine.pipeline().index().next_keyspace_id(), ..Names::default() };
        Ok(Saver { copy, names, commits: 0, last: Lsn::ZERO, renamed: Vec::new() })
    }

    /// Commits a record again; `false` if it is no transaction.
    fn save(&mut self, lsn: Lsn, payload: &[u8]) -> Result<bool> {
        let Ok(batch) = Batch::parse(payload) else { return Ok(false) };
        if !batch.only_writes() {
            for op in &batch {
                if let Op::CreateKeyspace { name, .. } = op {
                    self.make_way_for(name)?;
                }
            }
        }
        let mut saved = BatchBuilder::with_capacity(payload.len());
        for op in &batch {
            self.translate(&op, &mut saved).map_err(|reason| Error::invalid_input(reason.to_string()))?;
        }
        let pipeline = self.copy.engine.pipeline();
        pipeline.commit(saved.batch(), CommitMode::Async, WaitLimit::Forever, Check::Keyspaces(&|| Ok(())))?;
        self.commits += 1;
        self.last = lsn;
        Ok(true)
    }

    /// Frees a name that a user chose. A keyspace that has it as a made-up name gets another one, with its contents.
    fn make_way_for(&mut self, name: &str) -> Result<()> {
        self.names.used.insert(name.to_owned());
        let Some(at) = self.renamed.iter().position(|renamed| renamed.name == name) else { return Ok(()) };
        let old = self.renamed[at].id;
        let free = self.names.make_up(old);
        let engine = &self.copy.engine;
        let snapshot = engine.snapshot()?;
        let source = snapshot.keyspace(name)?.ok_or_else(|| Error::bug("a made-up keyspace is gone"))?;
        let target = engine.create_keyspace(&free)?;
        copy_entries(&snapshot, &source, engine, &target)?;
        engine.drop_keyspace(name)?;
        self.names.next = engine.pipeline().index().next_keyspace_id();
        self.names.alive.insert(old, (target.id(), free.clone()));
        self.names.used.insert(free.clone());
        self.renamed[at].name = free;
        Ok(())
    }

    fn translate(&mut self, op: &Op<'_>, saved: &mut BatchBuilder) -> Encoded<()> {
        match *op {
            Op::CreateKeyspace { keyspace, name } => {
                // Another of that name was dropped before, and the record of that is lost: the name is not made up.
                let namesake = self.names.alive.iter().find(|(_, (_, taken))| taken == name);
                if let Some((&old, &(new, _))) = namesake {
                    saved.drop_keyspace(new)?;
                    self.names.alive.remove(&old);
                }
                self.create(keyspace, name.to_owned(), saved).map(drop)
            }
            // If its creation is lost, so is everything in it.
            Op::DropKeyspace { keyspace } => {
                self.renamed.retain(|renamed| renamed.id != keyspace);
                self.names.alive.remove(&keyspace).map_or(Ok(()), |(new, _)| saved.drop_keyspace(new))
            }
            Op::Put { keyspace, key, value } => {
                let keyspace = self.known(keyspace, saved)?;
                saved.put(keyspace, key, value)
            }
            Op::Delete { keyspace, key } => {
                let keyspace = self.known(keyspace, saved)?;
                saved.delete(keyspace, key)
            }
        }
    }

    /// The new id of a keyspace that is written to.
    fn known(&mut self, old: u32, saved: &mut BatchBuilder) -> Encoded<u32> {
        if let Some((new, _)) = self.names.alive.get(&old) {
            return Ok(*new);
        }
        let name = self.names.make_up(old);
        self.renamed.push(RenamedKeyspace { id: old, name: name.clone() });
        self.create(old, name, saved)
    }

    fn create(&mut self, old: u32, name: String, saved: &mut BatchBuilder) -> Encoded<u32> {
        let new = self.names.next;
        saved.create_keyspace(new, &name)?;
        self.names.next += 1;
        self.names.used.insert(name.clone());
        self.names.alive.insert(old, (new, name));
        Ok(new)
    }

    fn finish(self, found: Found) -> Result<Salvaged> {
        self.copy.finish()?;
        let completeness = found.completeness(self.last);
        let Found { lost, bad_files, lock, .. } = found;
        let (commits, last, renamed) = (self.commits, self.last, self.renamed);
        Ok(Salvaged { commits, last, completeness, lost, bad_files, renamed, lock })
    }
}
