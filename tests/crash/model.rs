//! What a database must hold: the commits in LSN order, and the state after each of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use forelog::{Engine, Lsn, Snapshot};

pub(crate) type Bytes = Arc<[u8]>;
type Name = Arc<str>;

/// The keyspace of the accounts, whose balances sum to the same at all times.
pub(crate) const BANK: &str = "bank";
pub(crate) const ACCOUNTS: usize = 4;
const BALANCE: i64 = 100;

/// One operation of a commit.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Write {
    Create(Name),
    Drop(Name),
    Put(Name, Bytes, Bytes),
    Delete(Name, Bytes),
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Write::Create(name) => write!(f, "create {name}"),
            Write::Drop(name) => write!(f, "drop {name}"),
            Write::Put(name, key, value) => write!(f, "{name}[{}] = {}", key.escape_ascii(), brief(value)),
            Write::Delete(name, key) => write!(f, "delete {name}[{}]", key.escape_ascii()),
        }
    }
}

/// A value as a person can read it: its head says who wrote it (see [`value`]).
fn brief(value: &[u8]) -> String {
    format!("{} ({} bytes)", value[..value.len().min(HEAD)].escape_ascii(), value.len())
}

const HEAD: usize = 32;

/// A value of at least 32 bytes that says who wrote it, and where and when it belongs: a stale, foreign, misplaced or
/// mixed value is none that the ledger knows.
pub(crate) fn value(life: u64, client: usize, number: usize, key: &[u8], length: usize) -> Vec<u8> {
    let place = key
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3));
    let mut value = format!("{life:06}.{client:02}.{number:05}.{:08x}.{length:06}.", place >> 32).into_bytes();
    let mut filler = crate::support::Random::new(place ^ (life << 40) ^ (number as u64));
    while value.len() < length {
        value.extend_from_slice(&filler.next().to_le_bytes());
    }
    value.truncate(length.max(HEAD));
    value
}

/// An account's balance: the last 8 bytes of its value.
pub(crate) fn balance(value: &[u8]) -> i64 {
    let tail = value.last_chunk::<8>().expect("an account's value ends with its balance");
    i64::from_le_bytes(*tail)
}

pub(crate) fn account(number: usize) -> Vec<u8> {
    format!("account {number}").into_bytes()
}

pub(crate) fn account_value(life: u64, client: usize, number: usize, key: &[u8], balance: i64) -> Vec<u8> {
    let mut bytes = value(life, client, number, key, 0);
    bytes.extend_from_slice(&balance.to_le_bytes());
    bytes
}

/// What the accounts begin with.
pub(crate) fn first_balance() -> i64 {
    BALANCE
}

/// The contents of a database. Clones share what they have in common.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct State(BTreeMap<Name, Arc<BTreeMap<Bytes, Bytes>>>);

impl State {
    fn keyspace(&mut self, name: &Name) -> &mut BTreeMap<Bytes, Bytes> {
        Arc::make_mut(self.0.get_mut(name).expect("the commit was accepted, so the keyspace was there"))
    }

    pub(crate) fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Create(name) => drop(self.0.insert(Arc::clone(name), Arc::default())),
                Write::Drop(name) => drop(self.0.remove(name)),
                Write::Put(name, key, value) => {
                    self.keyspace(name).insert(Arc::clone(key), Arc::clone(value));
                }
                Write::Delete(name, key) => drop(self.keyspace(name).remove(key)),
            }
        }
    }

    /// Whether the accounts are all there with what they began with, or none of them.
    pub(crate) fn bank_adds_up(&self) -> bool {
        match self.0.get(BANK).map(|bank| (bank.len(), bank.values().map(|value| balance(value)).sum::<i64>())) {
            None | Some((0, _)) => true,
            Some((accounts, sum)) => accounts == ACCOUNTS && sum == BALANCE * 4,
        }
    }

    /// What a snapshot shows.
    pub(crate) fn read(snapshot: &Snapshot) -> forelog::Result<Self> {
        let mut state = State::default();
        for name in snapshot.keyspaces()? {
            let Some(keyspace) = snapshot.keyspace(&name)? else { continue };
            let entries =
                snapshot.iter(&keyspace)?.map(|entry| entry.map(|(k, v)| (Bytes::from(&*k), Bytes::from(&*v))));
            let entries = entries.collect::<forelog::Result<BTreeMap<_, _>>>()?;
            state.0.insert(name.into(), Arc::new(entries));
        }
        Ok(state)
    }

    /// The keys of a keyspace.
    pub(crate) fn keys(&self, name: &str) -> impl Iterator<Item = &Bytes> {
        self.0.get(name).into_iter().flat_map(|entries| entries.keys())
    }

    /// Compares everything that the engine shows, the names of its keyspaces included; the first difference otherwise.
    pub(crate) fn compare(&self, engine: &Engine) -> Result<(), String> {
        let snapshot = engine.snapshot().map_err(|error| format!("no snapshot: {error}"))?;
        let names = snapshot.keyspaces().map_err(|error| format!("no keyspaces: {error}"))?;
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
pub(crate) struct Placed {
    pub(crate) lsn: Lsn,
    pub(crate) writes: Arc<[Write]>,
}

/// The commit order, and the state after each commit: `states[i]` and `lsns[i]` after the first `i` of them.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) commits: Vec<Placed>,
    pub(crate) states: Vec<State>,
    pub(crate) lsns: Vec<Lsn>,
}

impl History {
    pub(crate) fn new(base: State, base_lsn: Lsn, commits: Vec<Placed>) -> Self {
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

    /// How many commits lie at or below `lsn`.
    pub(crate) fn index_of(&self, lsn: Lsn) -> usize {
        self.lsns.partition_point(|at| *at <= lsn).saturating_sub(1)
    }

    /// Finds the state that the engine shows, whatever it says about it.
    pub(crate) fn find(&self, engine: &Engine) -> Option<usize> {
        self.states.iter().position(|state| state.compare(engine).is_ok())
    }
}
