//! Salvage: what can be proven whole of a database in any state, as a new database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Options;
use super::copy::{Copy, copy_entries};
use super::unfinished::{MayHold, refuse_if_used, refuse_inside};
use crate::base::error::{Error, Result};
use crate::base::options::MAX_TRANSACTION_BYTES;
use crate::base::types::{CommitMode, Lsn};
use crate::care::salvage::{self, BadFile, Completeness, Found, Gap, Listed, LossCause, Save};
use crate::disk::{DirHandle, Disk, LockHeld};
use crate::format::batch::{Batch, BatchBuilder, Op, Reason};
use crate::format::table::root::Range;
use crate::log::WaitLimit;

/// What [`Engine::salvage`](crate::Engine::salvage) saved, and what it could not.
///
/// Positions are those of the damaged database; the new one has its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Salvaged {
    /// Commits of the log behind what the tables have: each was made again in the new database, but for what it wrote to
    /// keyspaces that were dropped later.
    pub commits: u64,
    /// Entries of the tables in the new database, before those commits.
    pub entries: u64,
    /// The last position in the old one up to which something is here: of a commit, or of the end of the tables, even if the
    /// newest of them are missing.
    pub last: Lsn,
    /// Whether they are all commits up to one, or commits between them are missing.
    pub completeness: Completeness,
    /// The parts of the log that are missing, in order.
    pub lost: Vec<Gap>,
    /// Keys of which the tables miss something. What is here of them may be older than it was, or deleted since.
    pub lost_keys: Vec<LostKeys>,
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
        self.lost.is_empty() && self.lost_keys.is_empty() && self.bad_files.is_empty()
    }
}

/// Keys of one keyspace of which writes are missing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LostKeys {
    /// What the keyspace is called in the new database. `None`: no list tells which keyspaces were made or dropped in that
    /// interval. One may be missing; one that is here may have been dropped, and another made under its name.
    pub keyspace: Option<String>,
    /// The first key of the range...
    pub first: Vec<u8>,
    /// ...and the key before which it ends; `None` if it reaches to the end of the keyspace.
    pub end: Option<Vec<u8>>,
    /// Of the commits whose records lie above this position...
    pub from: Lsn,
    /// ...up to and including the one that ends here, the writes in this range are missing.
    pub to: Lsn,
    /// Where they should be: a file, or the directory of the tables if it is not known which one.
    pub file: PathBuf,
    /// What is wrong.
    pub cause: LossCause,
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
    refuse_if_used(disk, to, MayHold::Nothing)?;
    // Made with the first thing to save: what holds nothing to salvage leaves no empty database behind.
    let mut lazy = Lazy { begin: || Saver::new(disk, to), saver: None };
    let found = salvage::salvage(from, &mut lazy)?;
    let saver = match lazy.saver {
        Some(saver) => saver,
        None => Saver::new(disk, to)?,
    };
    saver.finish(found)
}

/// A saver that begins when it is needed.
struct Lazy<B> {
    begin: B,
    saver: Option<Saver>,
}

impl<B: Fn() -> Result<Saver>> Lazy<B> {
    fn saver(&mut self) -> Result<&mut Saver> {
        match &mut self.saver {
            Some(saver) => Ok(saver),
            none => Ok(none.insert((self.begin)()?)),
        }
    }
}

impl<B: Fn() -> Result<Saver>> Save for Lazy<B> {
    fn keyspaces(&mut self, listed: Listed) -> Result<()> {
        self.saver()?.list(listed)
    }

    fn entry(&mut self, keyspace: u32, key: &[u8], value: &[u8]) -> Result<()> {
        self.saver()?.entry(keyspace, key, value)
    }

    fn record(&mut self, lsn: Lsn, payload: &[u8]) -> Result<bool> {
        self.saver()?.save(lsn, payload)
    }
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

/// Entries are committed together from this number of bytes on.
const TOGETHER: usize = 1 << 20;

struct Saver {
    copy: Copy,
    names: Names,
    /// The keyspaces at the end of the layers.
    listed: Option<Listed>,
    /// Entries that are not committed yet.
    gathered: BatchBuilder,
    entries: u64,
    commits: u64,
    last: Lsn,
    renamed: Vec<RenamedKeyspace>,
}

impl Saver {
    fn new(disk: &dyn Disk, to: &Path) -> Result<Self> {
        // With checkpoints, though they write most of it once more: what was saved may be more than memory.
        let options = Options::new().max_transaction_bytes(MAX_TRANSACTION_BYTES);
        let copy = Copy::begin(disk, to, &options)?;
        let names = Names { next: copy.engine.pipeline().index().next_keyspace_id(), ..Names::default() };
        let (gathered, renamed) = Default::default();
        Ok(Saver { copy, names, listed: None, gathered, entries: 0, commits: 0, last: Lsn::ZERO, renamed })
    }

    /// Creates the keyspaces that the layers' end has, and remembers those that it has not.
    fn list(&mut self, listed: Listed) -> Result<()> {
        self.names.used.extend(listed.list.iter().map(|one| one.name.clone()));
        let mut created = BatchBuilder::new();
        for keyspace in listed.list.iter().filter(|one| one.dropped.is_none()) {
            self.create(keyspace.id, keyspace.name.clone(), &mut created).map_err(impossible)?;
        }
        self.last = listed.at;
        self.listed = Some(listed);
        self.commit(&created)
    }

    fn entry(&mut self, keyspace: u32, key: &[u8], value: &[u8]) -> Result<()> {
        if self.is_dropped(keyspace) {
            return Ok(());
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        let added = self.known(keyspace, &mut gathered).and_then(|keyspace| gathered.put(keyspace, key, value));
        self.gathered = gathered;
        added.map_err(impossible)?;
        self.entries += 1;
        if self.gathered.len() >= TOGETHER { self.commit_gathered() } else { Ok(()) }
    }

    /// Whether the list says that the keyspace was dropped before the layers' end.
    fn is_dropped(&self, keyspace: u32) -> bool {
        let is_told = |listed: &Listed| keyspace < listed.settled_below || listed.dropped.contains(&keyspace);
        self.listed.as_ref().is_some_and(is_told) && !self.names.alive.contains_key(&keyspace)
    }

    fn commit_gathered(&mut self) -> Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        self.commit(&gathered)
    }

    fn commit(&self, batch: &BatchBuilder) -> Result<()> {
        if batch.batch().is_empty() {
            return Ok(());
        }
        let pipeline = self.copy.engine.pipeline();
        pipeline.commit(batch.batch(), CommitMode::Async, WaitLimit::Forever, &|| Ok(())).map(drop)
    }

    /// Commits a record again; `false` if it is no transaction.
    fn save(&mut self, lsn: Lsn, payload: &[u8]) -> Result<bool> {
        let Ok(batch) = Batch::parse(payload) else { return Ok(false) };
        self.commit_gathered()?;
        // What it did to keyspaces is in the list, and so are drops that came later.
        let is_listed = self.listed.as_ref().is_some_and(|listed| lsn <= listed.at);
        if !batch.only_writes() && !is_listed {
            for op in &batch {
                if let Op::CreateKeyspace { name, .. } = op {
                    self.make_way_for(name)?;
                }
            }
        }
        let mut saved = BatchBuilder::with_capacity(payload.len());
        for op in &batch {
            if is_listed && (!op.is_write() || self.is_dropped(op.keyspace())) {
                continue;
            }
            self.translate(&op, &mut saved).map_err(impossible)?;
        }
        self.commit(&saved)?;
        self.commits += 1;
        self.last = self.last.max(lsn);
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
            Op::DeleteRange { keyspace, from, to } => {
                let keyspace = self.known(keyspace, saved)?;
                saved.delete_range(keyspace, from, to)
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

    fn finish(mut self, found: Found) -> Result<Salvaged> {
        self.commit_gathered()?;
        let completeness = found.completeness(self.last);
        let lost_keys = self.lost_keys(&found);
        self.copy.finish()?;
        let Found { lost, bad_files, lock, .. } = found;
        let (commits, entries, last, renamed) = (self.commits, self.entries, self.last, self.renamed);
        Ok(Salvaged { commits, entries, last, completeness, lost, lost_keys, bad_files, renamed, lock })
    }

    /// What is lost of the keyspaces that are here, under the names that they have here.
    fn lost_keys(&self, found: &Found) -> Vec<LostKeys> {
        let listed = self.listed.as_ref().map_or(0, |listed| listed.list.next_id());
        let made_up: BTreeSet<u32> = self.renamed.iter().map(|renamed| renamed.id).collect();
        // Those that came later are in the log alone.
        let may_miss = |id: u32| id < listed || made_up.contains(&id) || found.unknown_keyspaces.is_some();
        let told = |lost: &salvage::LostKeys, keyspace, first, end| {
            let salvage::LostKeys { interval, file, cause, .. } = lost.clone();
            LostKeys { keyspace, first, end, from: interval.from, to: interval.to, file, cause }
        };
        let mut all = Vec::new();
        for lost in &found.lost_keys {
            for (id, (_, name)) in self.names.alive.range(lost.range.ids()).filter(|(id, _)| may_miss(**id)) {
                let part = part_in(&lost.range, *id);
                all.extend(part.map(|(first, end)| told(lost, Some(name.clone()), first, end)));
            }
        }
        let unknown = found.unknown_keyspaces.iter().filter(|lost| lost.interval.from < lost.interval.to);
        all.extend(unknown.map(|lost| told(lost, None, Vec::new(), None)));
        all
    }
}

/// The part of a range of full keys that lies in a keyspace: its first key, and the one before which it ends.
fn part_in(range: &Range, id: u32) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let key_of = |bound: &[u8]| bound.strip_prefix(&id.to_be_bytes()).map(<[u8]>::to_vec);
    let is_behind = range.low.as_slice() > &id.to_be_bytes()[..] && key_of(&range.low).is_none();
    let is_before = !range.high.is_empty() && range.high.as_slice() <= &id.to_be_bytes()[..];
    let part = || (key_of(&range.low).unwrap_or_default(), key_of(&range.high));
    (!is_behind && !is_before).then(part)
}

/// Of operations that were in a record or a run.
fn impossible(reason: Reason) -> Error {
    Error::invalid_input(reason.to_string())
}
