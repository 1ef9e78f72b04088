//! What clients do: operations as values, drawn from a seed or read from bytes, and what they write.

use forelog::CommitMode;

use crate::Random;
use crate::event::Name;
use crate::model::{ACCOUNTS, BANK, Bytes, Write, account, account_value, balance, value};

/// One operation of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Opens the database.
    Open,
    /// Creates a keyspace, if it is not there.
    Create(&'static str),
    /// Drops it.
    Drop(&'static str),
    /// Commits in this mode.
    Commit(Vec<Change>, CommitMode),
    /// Flushes.
    Flush,
    /// Waits for the receipts of what was committed.
    Wait,
    /// What is durable moves out of the log.
    Checkpoint,
    /// A copy is made beside the engine.
    Backup,
    /// Closes the database.
    Close,
}

impl Op {
    /// Of a client with one keyspace: every two bytes are an operation.
    pub fn from_bytes(keyspace: &'static str, what: u8, with: u8) -> Self {
        let mode = [CommitMode::Sync, CommitMode::Written, CommitMode::Async][usize::from(what % 3)];
        let key = vec![with % 8];
        match what % 8 {
            0..=5 if with > 240 => Op::Commit(vec![Change::DeleteRange { keyspace, from: key, to: None }], mode),
            0..=5 if with > 200 => Op::Commit(vec![Change::Delete { keyspace, key }], mode),
            0..=5 => Op::Commit(vec![Change::Put { keyspace, key, length: usize::from(what) * 3 }], mode),
            6 => Op::Flush,
            _ if with.is_multiple_of(2) => Op::Checkpoint,
            _ => Op::Wait,
        }
    }

    /// The same with shorter values, the shortest first.
    pub fn simpler(&self) -> Vec<Op> {
        let Op::Commit(changes, mode) = self else { return Vec::new() };
        let shorter = |part: usize| {
            let shorter = |change: &Change| match change {
                Change::Put { keyspace, key, length } => {
                    Change::Put { keyspace, key: key.clone(), length: length * part / 4 }
                }
                other => other.clone(),
            };
            Op::Commit(changes.iter().map(shorter).collect(), *mode)
        };
        [0, 1, 2].map(shorter).into_iter().filter(|op| op != self).collect()
    }
}

/// One change of a commit. What it writes may depend on what it reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Writes a value of this length.
    Put {
        /// Where.
        keyspace: &'static str,
        /// Which.
        key: Vec<u8>,
        /// In bytes.
        length: usize,
    },
    /// Deletes a key.
    Delete {
        /// Where.
        keyspace: &'static str,
        /// Which.
        key: Vec<u8>,
    },
    /// Deletes a range of keys.
    DeleteRange {
        /// Where.
        keyspace: &'static str,
        /// The first one.
        from: Vec<u8>,
        /// The first one behind; without it, to the end.
        to: Option<Vec<u8>>,
    },
    /// Moves money from one account to another, if both are there.
    Transfer {
        /// Number of the account that gives.
        from: usize,
        /// Number of the account that gets.
        to: usize,
        /// How much.
        amount: i64,
    },
}

/// What `changes` write for the attempt of this name; `read` shows the accounts as they are.
///
/// # Errors
/// Those of `read`.
pub fn writes<E>(
    changes: &[Change],
    seed: u64,
    name: Name,
    mut read: impl FnMut(&[u8]) -> Result<Option<Bytes>, E>,
) -> Result<Vec<Write>, E> {
    let mut writes = Vec::new();
    for change in changes {
        match change {
            Change::Put { keyspace, key, length } => {
                let value = value(seed, name, key, *length);
                writes.push(Write::Put((*keyspace).into(), key[..].into(), value.into()));
            }
            Change::Delete { keyspace, key } => writes.push(Write::Delete((*keyspace).into(), key[..].into())),
            Change::DeleteRange { keyspace, from, to } => {
                let to = to.as_deref().map(Bytes::from);
                writes.push(Write::DeleteRange((*keyspace).into(), from[..].into(), to));
            }
            Change::Transfer { from, to, amount } => {
                let (from, to) = (account(*from), account(*to));
                let balance_of = |bytes: Option<Bytes>| bytes.and_then(|bytes| balance(&bytes));
                let (Some(gives), Some(gets)) = (balance_of(read(&from)?), balance_of(read(&to)?)) else { continue };
                for (key, balance) in [(from, gives - amount), (to, gets + amount)] {
                    let value = account_value(seed, name, &key, balance);
                    writes.push(Write::Put(BANK.into(), key.into(), value.into()));
                }
            }
        }
    }
    Ok(writes)
}

/// Puts writes into a batch or a transaction, in the keyspaces that the closure finds.
#[macro_export]
macro_rules! fill {
    ($unit:expr, $keyspace:expr, $writes:expr) => {
        $writes.iter().try_for_each(|write: &$crate::model::Write| match write {
            $crate::model::Write::Put(name, key, value) => $unit.put(&($keyspace)(&**name)?, key, value),
            $crate::model::Write::Delete(name, key) => $unit.delete(&($keyspace)(&**name)?, key),
            $crate::model::Write::DeleteRange(name, from, to) => {
                let end = to.as_ref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
                $unit.delete_range(&($keyspace)(&**name)?, (std::ops::Bound::Included(from), end))
            }
            _ => unreachable!("no part of a transaction"),
        })
    };
}

/// A key that marks each deletion: the state after it is like no other, also where the key was not there.
pub const MARKER: &[u8] = b"marker";

/// What a client of a drawn workload does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One value.
    PutOne,
    /// Several keys in all keyspaces, values without a byte and of one byte among them.
    PutMany,
    /// A value that does not fit one segment, or only just.
    PutBig,
    /// One key.
    Delete,
    /// A range of keys.
    DeleteRange,
    /// A keyspace, key by key, in one transaction.
    Clear,
    /// Money moves between two accounts.
    Transfer,
    /// A keyspace comes, is written to, and goes.
    Churn,
    /// Everything is made durable.
    Flush,
    /// A snapshot is taken.
    Observe,
    /// What is durable moves out of the log.
    Checkpoint,
    /// A copy is made beside the engine. None is drawn: not every client has a place for it.
    Backup,
}

/// What a workload draws from.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Where values are put.
    pub keyspaces: &'static [&'static str],
    /// How large a segment is, in bytes.
    pub segment: usize,
    /// Whether there are values that do not fit one segment.
    pub big_values: bool,
    /// Whether a keyspace comes and goes.
    pub churn: bool,
}

impl Shape {
    /// What comes next.
    pub fn kind(&self, random: &mut Random) -> Kind {
        match random.below(34) {
            0..=5 => Kind::PutOne,
            6..=11 => Kind::PutMany,
            12..=17 => Kind::Transfer,
            18 => Kind::Delete,
            19 => Kind::DeleteRange,
            20 => Kind::Clear,
            21..=26 => Kind::Observe,
            27..=29 => Kind::Checkpoint,
            30..=31 if self.big_values => Kind::PutBig,
            _ if self.churn => Kind::Churn,
            _ => Kind::PutOne,
        }
    }

    /// One of few keys, so that values are overwritten.
    pub fn key(random: &mut Random) -> Vec<u8> {
        format!("key {}", random.below(8)).into_bytes()
    }

    /// The changes of a commit of this kind; none for the others.
    pub fn changes(&self, kind: Kind, random: &mut Random) -> Vec<Change> {
        const LENGTHS: [usize; 14] = [0, 1, 40, 40, 100, 300, 511, 512, 513, 1_000, 1_000, 4_095, 4_096, 4_097];
        let put = |keyspace, key: Vec<u8>, length| Change::Put { keyspace, key, length };
        let keyspace = random.pick(self.keyspaces);
        match kind {
            Kind::PutOne => vec![put(keyspace, Self::key(random), random.pick(&LENGTHS))],
            Kind::PutMany => {
                let mut changes: Vec<_> = self.keyspaces.iter().map(|name| put(name, Self::key(random), 60)).collect();
                changes.push(put(keyspace, b"tiny".to_vec(), random.below(2)));
                changes
            }
            Kind::PutBig => {
                let length = random.pick(&[self.segment - 1, self.segment, self.segment * 3]);
                vec![put(keyspace, Self::key(random), length)]
            }
            Kind::Delete => {
                vec![Change::Delete { keyspace, key: Self::key(random) }, put(keyspace, MARKER.to_vec(), MARK)]
            }
            // The mark is in the range that goes to the end, and stays: it is put behind the deletion.
            Kind::DeleteRange => {
                let from = Self::key(random);
                let to =
                    from.last().is_some_and(|last| last % 2 == 0).then(|| b"key 6".to_vec()).filter(|to| from < *to);
                vec![Change::DeleteRange { keyspace, from, to }, put(keyspace, MARKER.to_vec(), MARK)]
            }
            Kind::Transfer => {
                let from = random.below(ACCOUNTS);
                let to = (from + random.between(1, ACCOUNTS - 1)) % ACCOUNTS;
                vec![Change::Transfer { from, to, amount: i64::try_from(random.between(1, 50)).expect("small") }]
            }
            Kind::Clear | Kind::Churn | Kind::Flush | Kind::Observe | Kind::Checkpoint | Kind::Backup => Vec::new(),
        }
    }

    /// Deletes these keys, and marks that.
    pub fn clear<'a>(&self, keyspace: &'static str, keys: impl Iterator<Item = &'a Bytes>) -> Vec<Change> {
        let keys = keys.filter(|key| !key.starts_with(MARKER));
        let deleted = keys.map(|key| Change::Delete { keyspace, key: key.to_vec() });
        deleted.chain([Change::Put { keyspace, key: MARKER.to_vec(), length: MARK }]).collect()
    }
}

/// Long enough to say who wrote it.
const MARK: usize = 60;
