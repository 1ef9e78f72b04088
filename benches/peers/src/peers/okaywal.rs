//! okaywal: a log in preallocated segments.

use okaywal::{Configuration, LogVoid, WriteAheadLog};

use super::forelog::concatenate;
use crate::peer::{Abilities, Kind, Mode, Peer, Put, Result, Session, Setting, Store, built_in};

pub const PEER: Peer = Peer {
    name: "okaywal",
    kind: Kind::Log,
    package: Some("okaywal"),
    sync: Some("EntryWriter::commit"),
    written: None,
    asynchronous: None,
    can: Abilities { mixed: false, awaited: false, replays: false },
    reads: None,
    advice: "defaults: segments of 1 MiB, checkpoints (here: nothing) after 768 KiB; every commit syncs",
    limited: None,
    installed: built_in,
    open: |setting: &Setting| Ok(Box::new(Opened(Configuration::default_for(setting.dir).open(LogVoid)?))),
};

struct Opened(WriteAheadLog);

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new((&self.0, Vec::new())))
    }

    /// Each commit is durable.
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl Session for (&WriteAheadLog, Vec<u8>) {
    fn commit(&mut self, puts: &[Put], _: Mode) -> Result<()> {
        concatenate(puts, &mut self.1);
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(&self.1)?;
        entry.commit()?;
        Ok(())
    }
}
