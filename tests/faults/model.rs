//! What a database must hold: the effect of the commits up to a position, and how to see whether it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use forelog::{Engine, Lsn};

/// One change that a commit makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Write {
    Put(&'static str, Vec<u8>, Vec<u8>),
    Delete(&'static str, Vec<u8>),
    Create(&'static str),
    Drop(&'static str),
}

/// Keyspaces with their keys and values.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Contents(pub(crate) BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>);

impl Contents {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Put(name, key, value) => {
                self.0.entry((*name).to_owned()).or_default().insert(key.clone(), value.clone());
            }
            Write::Delete(name, key) => {
                self.0.entry((*name).to_owned()).or_default().remove(key);
            }
            Write::Create(name) => {
                self.0.entry((*name).to_owned()).or_default();
            }
            Write::Drop(name) => {
                self.0.remove(*name);
            }
        }
    }

    /// Everything that `engine` shows, the newest state.
    pub(crate) fn of(engine: &Engine) -> forelog::Result<Contents> {
        let snapshot = engine.snapshot()?;
        let mut contents = BTreeMap::new();
        for name in snapshot.keyspaces()? {
            let keyspace = engine.open_keyspace(&name)?;
            let entries: forelog::Result<BTreeMap<_, _>> = snapshot
                .iter(&keyspace)?
                .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())))
                .collect();
            contents.insert(name, entries?);
        }
        Ok(Contents(contents))
    }
}

/// The states that a database goes through: after no commit, after the first, and so on.
#[derive(Clone, Default)]
pub(crate) struct History {
    pub(crate) commits: Vec<(Lsn, Arc<[Write]>)>,
}

impl History {
    pub(crate) fn new(mut commits: Vec<(Lsn, Arc<[Write]>)>) -> Self {
        commits.sort_by_key(|(lsn, _)| *lsn);
        History { commits }
    }

    /// The state of the commits up to `lsn`.
    pub(crate) fn state_at(&self, lsn: Lsn) -> Contents {
        let mut contents = Contents::default();
        self.commits.iter().take_while(|(at, _)| *at <= lsn).for_each(|(_, writes)| {
            writes.iter().for_each(|write| contents.apply(write));
        });
        contents
    }

    pub(crate) fn up_to(&self, lsn: Lsn) -> History {
        History { commits: self.commits.iter().filter(|(at, _)| *at <= lsn).cloned().collect() }
    }

    pub(crate) fn contains(&self, lsn: Lsn) -> bool {
        self.commits.binary_search_by_key(&lsn, |(at, _)| *at).is_ok()
    }

    pub(crate) fn last(&self) -> Lsn {
        self.commits.last().map_or(Lsn::ZERO, |(lsn, _)| *lsn)
    }

    /// The last commit at or below `lsn`.
    pub(crate) fn newest_at(&self, lsn: Lsn) -> Lsn {
        self.commits.iter().rev().map(|(at, _)| *at).find(|at| *at <= lsn).unwrap_or_default()
    }
}
