//! One client whose operations are read from the input, and what it was told.

use std::sync::Arc;

use crashkit::judge::Expected;
use crashkit::model::{History, Placed, Write};
use forelog::sim::SimDisk;
use forelog::{CommitMode, Engine, Error, Lsn, Options, Receipt, Result, Token};

/// A commit with what is known of it.
struct Commit {
    /// `None` if it was not acknowledged: reopening settles what became of it.
    receipt: Option<Receipt>,
    token: Token,
    mode: CommitMode,
}

/// The commits that may have taken their place, and how far each promise reaches.
pub struct Client {
    disk: SimDisk,
    engine: Option<Engine>,
    placed: Vec<Placed>,
    commits: Vec<Commit>,
}

pub const DIR: &str = "db";
const KEYS: &str = "keys";

pub fn open(disk: &SimDisk) -> std::result::Result<Engine, Error> {
    Options::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), DIR)
}

impl Client {
    /// Opens a database on an empty disk, without faults.
    pub fn begin(disk: &SimDisk) -> Self {
        let engine = open(disk).expect("a new database");
        engine.create_keyspace(KEYS).expect("a keyspace");
        let created = Placed { lsn: engine.visible_lsn(), writes: [Write::Create(KEYS.into())].into() };
        Client { disk: disk.clone(), engine: Some(engine), placed: vec![created], commits: Vec::new() }
    }

    /// Does what two bytes say. Errors of the disk are expected; what is told of them is remembered.
    pub fn step(&mut self, what: u8, with: u8) {
        match what % 8 {
            0..=5 => drop(self.commit(what, with)),
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

    fn commit(&mut self, what: u8, with: u8) -> Result<()> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let keys = engine.open_keyspace(KEYS)?;
        let mut batch = engine.batch()?;
        let (key, value) = (vec![with % 8], vec![with; usize::from(what) * 3]);
        let write = if with > 200 {
            batch.delete(&keys, &key).expect("within the limits");
            Write::Delete(KEYS.into(), key.into())
        } else {
            batch.put(&keys, &key, &value).expect("within the limits");
            Write::Put(KEYS.into(), key.into(), value.into())
        };
        let mode = [CommitMode::Sync, CommitMode::Written, CommitMode::Async][usize::from(what % 3)];
        let (receipt, token) = match batch.commit_with(mode) {
            Ok(receipt) => (Some(receipt.clone()), receipt.token()),
            // With a token it has its place.
            Err(error) => (None, error.token().ok_or(error)?),
        };
        self.placed.push(Placed { lsn: token.lsn, writes: [write].into() });
        self.commits.push(Commit { receipt, token, mode });
        Ok(())
    }

    /// Up to where commits must survive: the last that was promised to. What a failed fsync leaves of the others in the
    /// cache is the kernel's choice, so that `Written` promises nothing from then on.
    fn promised(&self, power_loss: bool) -> Lsn {
        let keeps_written = !power_loss && self.engine.as_ref().is_some_and(|engine| engine.poisoned().is_none());
        let is_promised = |commit: &&Commit| {
            commit.receipt.as_ref().is_some_and(|receipt| {
                commit.mode == CommitMode::Sync
                    || receipt.is_durable()
                    || (keeps_written && commit.mode == CommitMode::Written)
            })
        };
        self.commits.iter().rfind(is_promised).map_or(Lsn::ZERO, |commit| commit.token.lsn)
    }

    /// Ends the engine without a word of it, keeps what `cut` makes of the disk, reopens, and compares: a prefix, no
    /// shorter than promised, and each token answered as the contents say.
    pub fn crash_and_check(self, power_loss: bool, cut: impl FnOnce(&SimDisk) -> SimDisk) {
        // The keyspace was created before any fault.
        let floor = self.promised(power_loss).max(self.placed[0].lsn);
        let Client { disk, engine, placed, commits } = self;
        let left = cut(&disk);
        drop(engine);
        let (history, tokens) = (History::of(placed), commits.iter().map(|commit| commit.token).collect::<Vec<_>>());
        let engine = open(&left).expect("a legal state opens");
        let expected = Expected { floor, ..Expected::of(&history, &tokens) };
        expected.compare(&engine).unwrap_or_else(|violation| panic!("{violation}"));
    }
}
