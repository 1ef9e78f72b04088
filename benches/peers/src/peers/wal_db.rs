//! wal-db: a log with lock-free appends.

use wal_db::Wal;

use super::forelog::concatenate;
use crate::peer::{Abilities, Kind, Mode, Peer, Put, Result, Session, Setting, Store, built_in};

pub const PEER: Peer = Peer {
    name: "wal-db",
    kind: Kind::Log,
    package: Some("wal-db"),
    sync: Some("Wal::append_and_sync"),
    written: Some("Wal::append: one write call a record"),
    asynchronous: Some("as Written: it has nothing weaker"),
    can: Abilities { mixed: true, awaited: false, replays: false },
    reads: None,
    advice: "defaults: one file that grows; a transaction is one record",
    limited: None,
    installed: built_in,
    open: |setting: &Setting| Ok(Box::new(Opened(Wal::open(setting.dir.join("wal"))?))),
};

struct Opened(Wal);

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new((&self.0, Vec::new())))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.0.sync()?)
    }
}

impl Session for (&Wal, Vec<u8>) {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        concatenate(puts, &mut self.1);
        let _position = match mode {
            Mode::Sync => self.0.append_and_sync(&self.1)?,
            Mode::Written | Mode::Async => self.0.append(&self.1)?,
        };
        Ok(())
    }
}
