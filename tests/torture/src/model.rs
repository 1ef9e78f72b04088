//! What a database under torture must hold: the contents that follow from the commits that are in it.
//!
//! Every value says which commit wrote it, so that a stale, foreign, misplaced or mixed one is none that is expected.
//! Every transaction writes a row with its number in the order of the commits. So the order, and which of the commits
//! in flight at the end took their place, can be read from the contents, and everything else must follow from it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crashkit::model::{self, ACCOUNTS, BANK, State, balance, first_balance};

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

const KEYS: u64 = 6;

/// Names one attempt to commit for ever: the life of the database, the thread, the how-manieth of that thread.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Name {
    pub(crate) life: u32,
    pub(crate) client: u32,
    pub(crate) number: u32,
}

impl Name {
    /// The key of its row.
    pub(crate) fn key(self) -> [u8; 12] {
        let mut key = [0; 12];
        for (place, part) in key.chunks_exact_mut(4).zip([self.life, self.client, self.number]) {
            place.copy_from_slice(&part.to_be_bytes());
        }
        key
    }

    pub(crate) fn of_key(key: &[u8]) -> Option<Self> {
        let key: &[u8; 12] = key.try_into().ok()?;
        let part = |at: usize| u32::from_be_bytes([key[at], key[at + 1], key[at + 2], key[at + 3]]);
        Some(Name { life: part(0), client: part(4), number: part(8) })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.life, self.client, self.number)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.').map(str::parse);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(life)), Some(Ok(client)), Some(Ok(number)), None) => Ok(Name { life, client, number }),
            _ => Err(format!("no commit is called '{text}'")),
        }
    }
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
    /// Writes its row and what [`writes`] says.
    Write,
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

/// One write of a transaction, beside its row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Write {
    /// Moves money from one account to another.
    Transfer {
        from: [u8; 2],
        to: [u8; 2],
        amount: i64,
    },
    Put {
        key: [u8; 2],
        length: usize,
    },
    Delete {
        key: [u8; 2],
    },
}

/// One step of splitmix64.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn draw(seed: u64, name: Name, salt: u64) -> u64 {
    [u64::from(name.life), u64::from(name.client), u64::from(name.number), salt]
        .into_iter()
        .fold(seed, |state, part| mix(state ^ part))
}

/// Everything that the transaction of this name writes beside its row: it follows from the seed.
pub(crate) fn writes(seed: u64, name: Name, script: &Script) -> Vec<Write> {
    let key = |letter: u8, of: u64, salt| [letter, b'0' + u8::try_from(draw(seed, name, salt) % of).unwrap_or(0)];
    let (from, to) = (key(b'a', ACCOUNTS as u64, 1), key(b'a', ACCOUNTS as u64, 2));
    let amount = i64::try_from(draw(seed, name, 3) % 50).unwrap_or(1);
    let mut writes = Vec::new();
    if from != to {
        writes.push(Write::Transfer { from, to, amount });
    }
    writes.push(Write::Put { key: key(b'k', KEYS, 4), length: length(seed, name, script) });
    if name.number.is_multiple_of(3) {
        writes.push(Write::Delete { key: key(b'k', KEYS, 5) });
    }
    writes
}

/// Mostly small; every so often around the sizes at which something changes: a sector, a page, a segment.
fn length(seed: u64, name: Name, script: &Script) -> usize {
    const AROUND: [usize; 8] = [0, 1, 511, 512, 513, 4095, 4096, 4097];
    let segment = usize::try_from(script.segment).unwrap_or(usize::MAX).min(64 << 10);
    let random = usize::try_from(draw(seed, name, 6) >> 33).unwrap_or(0);
    match name.number % 8 {
        3 => AROUND[random % AROUND.len()],
        5 => segment - 1,
        6 if random.is_multiple_of(4) => 3 * segment,
        7 => segment,
        _ => 20 + random % 300,
    }
}

/// A value that says which commit wrote it and where it belongs. Its first bytes are legible; a short one is the end
/// of the pattern, which tells the commit as well as 1 or 0 bytes can.
pub(crate) fn value(seed: u64, name: Name, key: &[u8], length: usize) -> Vec<u8> {
    let place = key.iter().fold(seed, |state, byte| mix(state ^ u64::from(*byte)));
    let mut value = format!("{name}@{}:{length}:", key.escape_ascii()).into_bytes();
    if value.len() > length {
        value.clear();
    }
    let mut word = draw(place, name, length as u64);
    while value.len() < length {
        word = mix(word);
        value.extend_from_slice(&word.to_le_bytes());
    }
    value.truncate(length);
    value
}

/// An account's value: the commit that wrote it last, and the balance.
pub(crate) fn account(name: Name, balance: i64) -> Vec<u8> {
    let mut value = format!("{name}=").into_bytes();
    value.extend_from_slice(&balance.to_le_bytes());
    value
}

/// The accounts as [`Action::Fill`] writes them.
pub(crate) fn first_accounts(name: Name) -> impl Iterator<Item = ([u8; 2], Vec<u8>)> {
    (b'0'..).take(ACCOUNTS).map(move |digit| ([b'a', digit], account(name, first_balance())))
}

/// The rows of a database: number in the commit order -> commit.
pub(crate) fn rows(state: &State) -> Result<BTreeMap<u64, Name>, String> {
    let mut rows = BTreeMap::new();
    for (key, value) in state.entries(ROWS) {
        let (name, number) = (Name::of_key(key), number(value));
        let (Some(name), Some(number)) = (name, number) else {
            return Err(format!("a row that nobody wrote: {} = {}", key.escape_ascii(), value.escape_ascii()));
        };
        if let Some(other) = rows.insert(number, name) {
            return Err(format!("commits {other} and {name} both came as number {number}"));
        }
    }
    Ok(rows)
}

/// What a commit that comes as `order` in the commit order does to `state`.
pub(crate) fn effects(
    state: &State,
    seed: u64,
    name: Name,
    action: &Action,
    order: u64,
    script: &Script,
) -> Vec<model::Write> {
    let put = |keyspace: &str, key: &[u8], value: &[u8]| model::Write::Put(keyspace.into(), key.into(), value.into());
    let mut effects = match action {
        Action::Create(keyspace) => return vec![model::Write::Create(keyspace.as_str().into())],
        Action::Drop(keyspace) => return vec![model::Write::Drop(keyspace.as_str().into())],
        Action::Fill | Action::Write => {
            let order = order.to_be_bytes();
            vec![put(ROWS, &name.key(), &order), put(ORDER, LAST, &order)]
        }
    };
    if *action == Action::Fill {
        effects.extend(first_accounts(name).map(|(key, value)| put(BANK, &key, &value)));
        return effects;
    }
    for write in writes(seed, name, script) {
        match write {
            Write::Transfer { from, to, amount } => {
                effects.extend([(from, -amount), (to, amount)].map(|(key, change)| {
                    let before = state.get(BANK, &key).and_then(|account| balance(account)).unwrap_or(0);
                    put(BANK, &key, &account(name, before + change))
                }));
            }
            Write::Put { key, length } => effects.push(put(DATA, &key, &value(seed, name, &key, length))),
            Write::Delete { key } => effects.push(model::Write::Delete(DATA.into(), key[..].into())),
        }
    }
    effects
}

/// A number in the commit order, as it is stored.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}
