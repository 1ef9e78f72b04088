//! One client whose operations are read from the input, and what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;

use forelog::sim::SimDisk;
use forelog::{CommitMode, Engine, Error, Options, Receipt, Token};

pub type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// A commit with what is known of it.
struct Commit {
    receipt: Option<Receipt>,
    token: Option<Token>,
    mode: CommitMode,
}

/// The states after each commit that may have taken its place, and how far each promise reaches.
pub struct Client {
    disk: SimDisk,
    engine: Option<Engine>,
    /// `states[n]` is what a prefix of `n` commits makes; the first is what the last open found.
    states: Vec<State>,
    commits: Vec<Commit>,
}

pub const DIR: &str = "db";

pub fn open(disk: &SimDisk) -> Result<Engine, Error> {
    Options::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), DIR)
}

/// What an engine holds.
pub fn contents(engine: &Engine) -> State {
    let Ok(keys) = engine.open_keyspace("keys") else { return State::new() };
    let snapshot = engine.snapshot().expect("open");
    let entries = snapshot.iter(&keys).expect("alive");
    entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).expect("readable")).collect()
}

impl Client {
    /// Opens a database on an empty disk, without faults.
    pub fn begin(disk: &SimDisk) -> Self {
        let engine = open(disk).expect("a new database");
        engine.create_keyspace("keys").expect("a keyspace");
        Client { disk: disk.clone(), engine: Some(engine), states: vec![State::new()], commits: Vec::new() }
    }

    /// Does what two bytes say. Errors of the disk are expected; what is told of them is remembered.
    pub fn step(&mut self, what: u8, with: u8) {
        match what % 8 {
            0..=5 => self.commit(what, with),
            6 => {
                // Success makes every commit durable, which their receipts then say.
                let _ = self.engine.as_ref().map(Engine::flush);
            }
            _ => {
                if let Some(Commit { receipt: Some(receipt), .. }) = self.commits.last() {
                    let _ = receipt.wait();
                }
            }
        }
    }

    fn commit(&mut self, what: u8, with: u8) {
        let Some(engine) = &self.engine else { return };
        let Ok(keys) = engine.open_keyspace("keys") else { return };
        let (Ok(mut batch), mut state) = (engine.batch(), self.states[self.states.len() - 1].clone()) else { return };
        let (key, value) = (vec![with % 8], vec![with; usize::from(what) * 3]);
        if with > 200 {
            batch.delete(&keys, &key).expect("within the limits");
            state.remove(&key);
        } else {
            batch.put(&keys, &key, &value).expect("within the limits");
            state.insert(key, value);
        }
        let mode = [CommitMode::Sync, CommitMode::Written, CommitMode::Async][usize::from(what % 3)];
        match batch.commit_with(mode) {
            Ok(receipt) => {
                self.commits.push(Commit { token: Some(receipt.token()), receipt: Some(receipt), mode });
                self.states.push(state);
            }
            // It has its place, and reopening settles what became of it.
            Err(error) if error.token().is_some() => {
                self.commits.push(Commit { token: error.token(), receipt: None, mode: CommitMode::Async });
                self.states.push(state);
            }
            Err(_) => {}
        }
    }

    /// The commits that must survive: those at or below the last one that was promised to. What a failed fsync leaves
    /// of the others in the cache is the kernel's choice, so that `Written` promises nothing from then on.
    fn promised(&self, power_loss: bool) -> usize {
        let keeps_written = !power_loss && self.engine.as_ref().is_some_and(|engine| engine.poisoned().is_none());
        let is_promised = |commit: &Commit| {
            commit.receipt.as_ref().is_some_and(|receipt| {
                commit.mode == CommitMode::Sync
                    || receipt.is_durable()
                    || (keeps_written && commit.mode == CommitMode::Written)
            })
        };
        self.commits.iter().rposition(is_promised).map_or(0, |index| index + 1)
    }

    /// Ends the engine without a word of it, keeps what `cut` makes of the disk, reopens, and compares: a prefix, no
    /// shorter than promised, and each token answered as the contents say.
    pub fn crash_and_check(self, power_loss: bool, cut: impl FnOnce(&SimDisk) -> SimDisk) {
        let least = self.promised(power_loss);
        let Client { disk, engine, states, commits } = self;
        let left = cut(&disk);
        drop(engine);
        let engine = open(&left).expect("a legal state opens");
        let found = contents(&engine);
        let durable = |commit: &Commit| {
            let outcome = commit.token.map(|token| engine.outcome(&token).expect("an answer"));
            outcome == Some(forelog::Outcome::Durable)
        };
        let recovered = commits.iter().take_while(|commit| durable(commit)).count();
        assert!(recovered >= least, "{recovered} commits recovered and {least} promised");
        assert!(!commits[recovered..].iter().any(durable), "a commit above a lost one is called durable");
        assert_eq!(found, states[recovered], "the contents are those of a prefix");
    }
}
