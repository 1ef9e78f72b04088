//! What a database must hold: the commits in LSN order, and the state after each of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use forelog::{Engine, Lsn, Snapshot};

use crate::event::Name;
use crate::mix;

/// A key or a value.
pub type Bytes = Arc<[u8]>;
type Keyspace = Arc<str>;

/// The keyspace of the accounts, whose balances sum to the same at all times.
pub const BANK: &str = "bank";
/// How many accounts there are.
pub const ACCOUNTS: usize = 4;
const BALANCE: i64 = 100;

/// One operation of a commit.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// Of a keyspace.
    Create(Keyspace),
    /// Of a keyspace.
    Drop(Keyspace),
    /// Keyspace, key, value.
    Put(Keyspace, Bytes, Bytes),
    /// Keyspace, key.
    Delete(Keyspace, Bytes),
    /// Keyspace, first key, the first one behind; without it, to the end.
    DeleteRange(Keyspace, Bytes, Option<Bytes>),
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Write::Create(name) => write!(f, "create {name}"),
            Write::Drop(name) => write!(f, "drop {name}"),
            Write::Put(name, key, value) => write!(f, "{name}[{}] = {}", key.escape_ascii(), brief(value)),
            Write::Delete(name, key) => write!(f, "delete {name}[{}]", key.escape_ascii()),
            Write::DeleteRange(name, from, to) => {
                let to = to.as_deref().unwrap_or_default();
                write!(f, "delete {name}[{}..{}]", from.escape_ascii(), to.escape_ascii())
            }
        }
    }
}

/// A value as a person can read it: its head says who wrote it (see [`value`]).
fn brief(value: &[u8]) -> String {
    format!("{} ({} bytes)", value[..value.len().min(HEAD)].escape_ascii(), value.len())
}

const HEAD: usize = 32;

/// A value that says which attempt wrote it, and where it belongs: a stale, foreign, misplaced or mixed value is none that
/// the ledger knows. Its first bytes are legible; a short one is the end of the pattern, which tells as much as its few
/// bytes can.
pub fn value(seed: u64, name: Name, key: &[u8], length: usize) -> Vec<u8> {
    let mut value = format!("{name}@{}:{length}:", key.escape_ascii()).into_bytes();
    if value.len() > length {
        value.clear();
    }
    let place = key.iter().fold(seed, |state, byte| mix(state ^ u64::from(*byte)));
    let parts = [u64::from(name.life), u64::from(name.client), u64::from(name.number), length as u64];
    let mut word = parts.into_iter().fold(place, |state, part| mix(state ^ part));
    while value.len() < length {
        word = mix(word);
        value.extend_from_slice(&word.to_le_bytes());
    }
    value.truncate(length);
    value
}

/// An account's balance: the last 8 bytes of its value. `None` if that is no account's.
pub fn balance(value: &[u8]) -> Option<i64> {
    value.last_chunk::<8>().map(|tail| i64::from_le_bytes(*tail))
}

/// The key of an account.
pub fn account(number: usize) -> Vec<u8> {
    format!("account {number}").into_bytes()
}

/// The value of an account: who wrote it, and its balance.
pub fn account_value(seed: u64, name: Name, key: &[u8], balance: i64) -> Vec<u8> {
    let mut bytes = value(seed, name, key, HEAD);
    bytes.extend_from_slice(&balance.to_le_bytes());
    bytes
}

/// The accounts with what they begin with.
pub fn first_accounts(seed: u64, name: Name) -> Vec<Write> {
    let first = |number| {
        let key = account(number);
        let value = account_value(seed, name, &key, BALANCE);
        Write::Put(BANK.into(), key.into(), value.into())
    };
    (0..ACCOUNTS).map(first).collect()
}

/// The contents of a database. Clones share what they have in common.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct State(BTreeMap<Keyspace, Arc<BTreeMap<Bytes, Bytes>>>);

impl std::fmt::Debug for State {
    /// How many entries each keyspace has.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, entries)| (name, entries.len()))).finish()
    }
}

impl State {
    fn keyspace(&mut self, name: &Keyspace) -> &mut BTreeMap<Bytes, Bytes> {
        Arc::make_mut(self.0.get_mut(name).expect("the commit was accepted, so the keyspace was there"))
    }

    /// Whether there is a keyspace of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value of a key.
    pub fn get(&self, name: &str, key: &[u8]) -> Option<&Bytes> {
        self.0.get(name)?.get(key)
    }

    /// What the writes of one commit make of it.
    pub fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Create(name) => _ = self.0.entry(Arc::clone(name)).or_default(),
                Write::Drop(name) => drop(self.0.remove(name)),
                Write::Put(name, key, value) => {
                    self.keyspace(name).insert(Arc::clone(key), Arc::clone(value));
                }
                Write::Delete(name, key) => drop(self.keyspace(name).remove(key)),
                Write::DeleteRange(name, from, to) => {
                    let is_in = |key: &Bytes| from <= key && to.as_ref().is_none_or(|to| key < to);
                    self.keyspace(name).retain(|key, _| !is_in(key));
                }
            }
        }
    }

    /// Whether the accounts are all there with what they began with, or none of them.
    pub fn bank_adds_up(&self) -> bool {
        let Some(bank) = self.0.get(BANK).filter(|bank| !bank.is_empty()) else { return true };
        let sum: Option<i64> = bank.values().map(|value| balance(value)).sum();
        bank.len() == ACCOUNTS && sum == Some(BALANCE * 4)
    }

    /// What a snapshot shows.
    pub fn read(snapshot: &Snapshot) -> forelog::Result<Self> {
        let mut state = State::default();
        for name in snapshot.keyspace_names()? {
            let Some(keyspace) = snapshot.keyspace(&name)? else { continue };
            let entries =
                snapshot.iter(&keyspace)?.map(|entry| entry.map(|(k, v)| (Bytes::from(&*k), Bytes::from(&*v))));
            let entries = entries.collect::<forelog::Result<BTreeMap<_, _>>>()?;
            state.0.insert(name.into(), Arc::new(entries));
        }
        Ok(state)
    }

    /// What `engine` shows now.
    pub fn of(engine: &Engine) -> forelog::Result<Self> {
        State::read(&engine.snapshot()?)
    }

    /// The entries of a keyspace; none if it is not there.
    pub fn entries(&self, name: &str) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.get(name).into_iter().flat_map(|entries| entries.iter())
    }

    /// The keys of a keyspace.
    pub fn keys(&self, name: &str) -> impl Iterator<Item = &Bytes> {
        self.0.get(name).into_iter().flat_map(|entries| entries.keys())
    }

    /// The first difference to what is expected.
    pub fn difference(&self, expected: &State) -> Option<String> {
        if !self.0.keys().eq(expected.0.keys()) {
            return Some(format!("keyspaces {:?} instead of {:?}", self.0.keys(), expected.0.keys()));
        }
        for ((name, found), expected) in self.0.iter().zip(expected.0.values()) {
            let odd = found.iter().find(|(key, value)| expected.get(*key) != Some(value));
            let odd = odd.or_else(|| expected.iter().find(|(key, _)| !found.contains_key(*key)));
            if let Some((key, _)) = odd {
                let show =
                    |entries: &BTreeMap<Bytes, Bytes>| entries.get(key).map_or("nothing".to_owned(), |v| brief(v));
                let (found, expected, key) = (show(found), show(expected), key.escape_ascii());
                return Some(format!("{name}[{key}] is {found} and should be {expected}"));
            }
        }
        None
    }

    /// Compares everything that the engine shows, the names of its keyspaces included; the first difference otherwise.
    pub fn compare(&self, engine: &Engine) -> Result<(), String> {
        let snapshot = engine.snapshot().map_err(|error| format!("no snapshot: {error}"))?;
        let names = snapshot.keyspace_names().map_err(|error| format!("no keyspaces: {error}"))?;
        if !names.iter().map(String::as_str).eq(self.0.keys().map(|name| &**name)) {
            return Err(format!("keyspaces {names:?} instead of {:?}", self.0.keys()));
        }
        for (name, expected) in &self.0 {
            let found = snapshot.keyspace(name).map_err(|error| format!("no keyspace {name}: {error}"))?;
            let found = found.ok_or_else(|| format!("{name} is listed and not there"))?;
            let mut entries = snapshot.iter(&found).map_err(|error| format!("{name} cannot be read: {error}"))?;
            for (key, value) in expected.iter() {
                match entries.next() {
                    Some(Ok((k, v))) if *k == **key && *v == **value => {}
                    Some(Ok((k, v))) => {
                        let (k, key) = (k.escape_ascii(), key.escape_ascii());
                        return Err(format!("{name}[{k}] = {} instead of [{key}] = {}", brief(&v), brief(value)));
                    }
                    Some(Err(error)) => return Err(format!("{name} cannot be read: {error}")),
                    None => return Err(format!("{name}[{}] is missing", key.escape_ascii())),
                }
            }
            if let Some(Ok((key, value))) = entries.next() {
                return Err(format!("{name}[{}] = {} should not be there", key.escape_ascii(), brief(&value)));
            }
        }
        Ok(())
    }
}

/// A commit that took its place in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Where it ends.
    pub lsn: Lsn,
    /// What it does.
    pub writes: Arc<[Write]>,
}

/// The commit order, and the state after each commit: `states[i]` and `lsns[i]` after the first `i` of them.
#[derive(Clone, Debug)]
pub struct History {
    /// The commits in LSN order.
    pub commits: Vec<Placed>,
    /// The contents before the first commit, and after each.
    pub states: Vec<State>,
    /// Where those commits lie, behind where the first state is of.
    pub lsns: Vec<Lsn>,
}

impl Default for History {
    /// That of a database without a commit.
    fn default() -> Self {
        History::new(State::default(), Lsn::ZERO, Vec::new())
    }
}

impl History {
    /// Of a database that began with `base` at `base_lsn`; the commits in LSN order.
    pub fn new(base: State, base_lsn: Lsn, commits: Vec<Placed>) -> Self {
        let mut history = History { commits: Vec::new(), states: vec![base], lsns: vec![base_lsn] };
        for commit in commits {
            let mut state = history.states.last().expect("never empty").clone();
            state.apply(&commit.writes);
            history.states.push(state);
            history.lsns.push(commit.lsn);
            history.commits.push(commit);
        }
        history
    }

    /// Of a database that began empty; the commits in any order.
    pub fn of(mut commits: Vec<Placed>) -> Self {
        commits.sort_by_key(|commit| commit.lsn);
        History::new(State::default(), Lsn::ZERO, commits)
    }

    /// How many commits lie at or below `lsn`.
    pub fn index_of(&self, lsn: Lsn) -> usize {
        self.lsns.partition_point(|at| *at <= lsn).saturating_sub(1)
    }

    /// The state of the commits up to `lsn`.
    pub fn state_at(&self, lsn: Lsn) -> &State {
        &self.states[self.index_of(lsn)]
    }

    /// The last commit at or below `lsn`, or where the history begins.
    pub fn newest_at(&self, lsn: Lsn) -> Lsn {
        self.lsns[self.index_of(lsn)]
    }

    /// The last commit, or where the history begins.
    pub fn last(&self) -> Lsn {
        *self.lsns.last().expect("never empty")
    }

    /// Whether a commit ends at `lsn`.
    pub fn contains(&self, lsn: Lsn) -> bool {
        self.commits.binary_search_by_key(&lsn, |commit| commit.lsn).is_ok()
    }

    /// Without the commits above `lsn`.
    pub fn up_to(&self, lsn: Lsn) -> Self {
        let kept = self.index_of(lsn);
        History {
            commits: self.commits[..kept].to_vec(),
            states: self.states[..=kept].to_vec(),
            lsns: self.lsns[..=kept].to_vec(),
        }
    }

    /// Finds the state that the engine shows, whatever it says about it.
    pub fn find(&self, engine: &Engine) -> Option<usize> {
        self.states.iter().position(|state| state.compare(engine).is_ok())
    }
}
