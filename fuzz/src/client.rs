//! One client whose operations are read from the input, and what it was told.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crashkit::event::Event;
use crashkit::fill;
use crashkit::journal::{self, Journal, Reporter};
use crashkit::judge::Expected;
use crashkit::ledger::{Ending, Ledger};
use crashkit::model::{History, Write};
use crashkit::workload::{Change, Op, writes};
use forelog::sim::SimDisk;
use forelog::{CommitMode, Engine, Error, Options, Receipt, Result};

pub struct Client {
    disk: SimDisk,
    engine: Engine,
    journal: Journal<Arc<[Write]>>,
    receipts: Vec<Receipt>,
}

pub const DIR: &str = "db";
const KEYS: &str = "keys";

pub fn open(disk: &SimDisk) -> std::result::Result<Engine, Error> {
    Options::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), DIR)
}

impl Client {
    /// Opens a database on an empty disk, without faults.
    pub fn begin(disk: &SimDisk) -> Self {
        let mut ledger = Ledger::default();
        ledger.begin();
        let journal = Journal::new(ledger, || Duration::ZERO);
        let engine = open(disk).expect("a new database");
        journal.say(Event::Opened(engine.recovery().recovered_to));
        let (create, place) = (|| engine.create_keyspace(KEYS), || Some(engine.visible_lsn()));
        let (name, writes) = (journal.next_name(0), [Write::Create(KEYS.into())].into());
        journal::create(&journal, name, CommitMode::Sync, writes, create, place).expect("a keyspace");
        Client { disk: disk.clone(), engine, journal, receipts: Vec::new() }
    }

    /// Does what two bytes say. Errors of the disk are expected; what is told of them is remembered.
    pub fn step(&mut self, what: u8, with: u8) {
        match Op::from_bytes(KEYS, what, with) {
            Op::Commit(changes, mode) => drop(self.commit(&changes, mode)),
            Op::Flush => self.engine.flush().map_or((), |lsn| self.journal.say(Event::Durable(lsn))),
            Op::Checkpoint => {
                let durable = self.engine.durable_lsn();
                self.journal.say(Event::Checkpoint);
                if self.engine.checkpoint().is_ok() {
                    self.journal.say(Event::Durable(durable));
                }
            }
            // What comes of it, its receipt says at the end.
            _ => drop(self.receipts.last().map(Receipt::wait)),
        }
    }

    fn commit(&mut self, changes: &[Change], mode: CommitMode) -> Result<()> {
        let name = self.journal.next_name(0);
        let Ok(writes) = writes(changes, 0, name, |_| Ok::<_, Infallible>(None));
        let mut batch = self.engine.batch()?;
        fill!(batch, |name: &str| self.engine.open_keyspace(name), writes)?;
        let commit = || batch.commit_with(mode);
        self.receipts.push(journal::commit(&self.journal, name, mode, writes.into(), commit)?);
        Ok(())
    }

    /// Ends the engine without a word of it, keeps what `cut` makes of the disk, reopens, and compares: a prefix, no
    /// shorter than promised, and each token answered as the contents say. A failed fsync that `reverts` leaves nothing
    /// in the cache that was written and not synced.
    pub fn crash_and_check(self, ending: Ending, reverts: bool, cut: impl FnOnce(&SimDisk) -> SimDisk) {
        let Client { disk, engine, journal, receipts } = self;
        let durable = receipts.iter().filter(|receipt| receipt.is_durable()).map(Receipt::lsn).max();
        journal.say(Event::Durable(durable.unwrap_or_default()));
        let ending = if reverts && engine.poisoned().is_some() { Ending::Power } else { ending };
        let left = cut(&disk);
        drop(engine);
        if let Some(wrong) = journal.first_wrong() {
            panic!("{wrong}");
        }
        let ledger = journal.ledger();
        let history = History::of(ledger.placed());
        let engine = open(&left).expect("a legal state opens");
        Expected::after(&ledger, &history, ending).compare(&engine).unwrap_or_else(|violation| panic!("{violation}"));
    }
}
