//! walrus: a log of topics.

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use super::forelog::concatenate;
use crate::peer::{Abilities, Kind, Mode, Peer, Put, Result, Session, Setting, Store, built_in};

pub const PEER: Peer = Peer {
    name: "walrus",
    kind: Kind::Log,
    package: Some("walrus-rust"),
    sync: Some("FsyncSchedule::SyncEach: its files are opened with O_SYNC"),
    written: Some("FsyncSchedule::Milliseconds(200): one write call an entry"),
    asynchronous: Some("as Written: it has nothing weaker that syncs"),
    can: Abilities { mixed: false, awaited: false, replays: false },
    reads: None,
    advice: "its default backend (pwrite); all threads append to one topic; a transaction is one entry",
    limited: None,
    installed: built_in,
    open: |setting: &Setting| {
        let schedule = match setting.purpose.mode() {
            Some(Mode::Sync) => FsyncSchedule::SyncEach,
            _ => FsyncSchedule::Milliseconds(200),
        };
        // Its files lie in the working directory, which is the one that is measured in.
        let consistency = ReadConsistency::AtLeastOnce { persist_every: 1000 };
        Ok(Box::new(Opened(Walrus::with_consistency_and_schedule(consistency, schedule)?)))
    },
};

const TOPIC: &str = "keys";

struct Opened(Walrus);

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new((&self.0, Vec::new())))
    }

    /// Each append is written.
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl Session for (&Walrus, Vec<u8>) {
    fn commit(&mut self, puts: &[Put], _: Mode) -> Result<()> {
        concatenate(puts, &mut self.1);
        Ok(self.0.append_for_topic(TOPIC, &self.1)?)
    }
}
