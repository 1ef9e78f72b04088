//! What a database under torture must hold: the contents that follow from the commits that are in it.
//!
//! Every value says which commit wrote it, so that a stale, foreign, misplaced or mixed one is none that is expected.
//! Every transaction writes a row with its number in the order of the commits. So the order, and which of the commits
//! in flight at the end took their place, can be read from the contents, and everything else must follow from it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crashkit::event::Name;
use crashkit::model::{BANK, Bytes, State, Write, first_accounts};
use crashkit::workload::{self, Change, Kind, Shape};
use crashkit::{Random, mix};

use super::script::Script;

/// One row for each transaction: who it is -> its number in the commit order.
pub(crate) const ROWS: &str = "rows";
/// One key, which every transaction reads and raises: the number of the last one.
pub(crate) const ORDER: &str = "order";
pub(crate) const LAST: &[u8] = b"last";
/// Keys that are overwritten and deleted with values of all sizes.
pub(crate) const DATA: &str = "data";
/// The keyspaces that every life begins with, in the order in which they are created.
pub(crate) const BASE: [&str; 4] = [ROWS, ORDER, BANK, DATA];

/// The key of a commit's row.
pub(crate) fn row_key(name: Name) -> [u8; 12] {
    let mut key = [0; 12];
    for (place, part) in key.chunks_exact_mut(4).zip([name.life, name.client, name.number]) {
        place.copy_from_slice(&part.to_be_bytes());
    }
    key
}

fn name_of_row(key: &[u8]) -> Option<Name> {
    let key: &[u8; 12] = key.try_into().ok()?;
    let part = |at: usize| u32::from_be_bytes([key[at], key[at + 1], key[at + 2], key[at + 3]]);
    Some(Name { life: part(0), client: part(4), number: part(8) })
}

/// What a commit does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Creates a keyspace. No two creations of one database share a name.
    Create(String),
    /// Drops it.
    Drop(String),
    /// Fills the accounts, and writes its row.
    Fill,
    /// Writes its row and what `writes` says.
    Write,
}

impl Action {
    /// Whether it writes a row.
    pub(crate) fn has_row(&self) -> bool {
        matches!(self, Action::Fill | Action::Write)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Create(name) => write!(f, "create:{name}"),
            Action::Drop(name) => write!(f, "drop:{name}"),
            Action::Fill => f.write_str("fill"),
            Action::Write => f.write_str("write"),
        }
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("create", name)) => Ok(Action::Create(name.to_owned())),
            Some(("drop", name)) => Ok(Action::Drop(name.to_owned())),
            None if text == "fill" => Ok(Action::Fill),
            None if text == "write" => Ok(Action::Write),
            _ => Err(format!("no action is called '{text}'")),
        }
    }
}

/// What the transaction of this name writes beside its row: it follows from the seed. Mostly small values; every so
/// often around the size of a segment.
pub(crate) fn changes(seed: u64, name: Name, script: &Script) -> Vec<Change> {
    let parts = [u64::from(name.life), u64::from(name.client), u64::from(name.number)];
    let mut random = Random::new(parts.into_iter().fold(seed, |state, part| mix(state ^ part)));
    let segment = usize::try_from(script.segment).unwrap_or(usize::MAX).min(64 << 10);
    let shape = Shape { keyspaces: &[DATA], segment, big_values: true, churn: false };
    let value = if random.one_in(3) { Kind::PutBig } else { Kind::PutOne };
    let mut changes = shape.changes(Kind::Transfer, &mut random);
    changes.extend(shape.changes(value, &mut random));
    if name.number.is_multiple_of(3) {
        changes.extend(shape.changes(Kind::Delete, &mut random));
    }
    if name.number % 7 == 3 {
        changes.extend(shape.changes(Kind::DeleteRange, &mut random));
    }
    changes
}

/// The rows of a database: number in the commit order -> commit.
pub(crate) fn rows(state: &State) -> Result<BTreeMap<u64, Name>, String> {
    let mut rows = BTreeMap::new();
    for (key, value) in state.entries(ROWS) {
        let (name, number) = (name_of_row(key), number(value));
        let (Some(name), Some(number)) = (name, number) else {
            return Err(format!("a row that nobody wrote: {} = {}", key.escape_ascii(), value.escape_ascii()));
        };
        if let Some(other) = rows.insert(number, name) {
            return Err(format!("commits {other} and {name} both came as number {number}"));
        }
    }
    Ok(rows)
}

/// What a commit that comes as `order` in the commit order writes, where `read` shows the accounts before it.
pub(crate) fn effects<E>(
    seed: u64,
    name: Name,
    action: &Action,
    order: u64,
    script: &Script,
    read: impl FnMut(&[u8]) -> Result<Option<Bytes>, E>,
) -> Result<Vec<Write>, E> {
    let order = order.to_be_bytes();
    let put = |keyspace: &str, key: &[u8]| Write::Put(keyspace.into(), key.into(), order[..].into());
    let row = || vec![put(ROWS, &row_key(name)), put(ORDER, LAST)];
    Ok(match action {
        Action::Create(keyspace) => vec![Write::Create(keyspace.as_str().into())],
        Action::Drop(keyspace) => vec![Write::Drop(keyspace.as_str().into())],
        Action::Fill => [row(), first_accounts(seed, name)].concat(),
        Action::Write => [row(), workload::writes(&changes(seed, name, script), seed, name, read)?].concat(),
    })
}

/// A number in the commit order, as it is stored.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}
