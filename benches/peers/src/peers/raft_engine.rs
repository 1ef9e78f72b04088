//! raft-engine: a shared log for Raft groups, with key-value pairs of each group in memory.

use raft_engine::{Config, Engine, LogBatch};

use crate::peer::{Abilities, Kind, Mode, Peer, Put, Reader, Reads, Result, Session, Setting, Store, built_in};

pub const PEER: Peer = Peer {
    name: "raft-engine",
    kind: Kind::Engine,
    package: Some("raft-engine"),
    sync: Some("Engine::write(batch, sync = true)"),
    written: Some("Engine::write(batch, sync = false): one write call for those that come together"),
    asynchronous: Some("as Written: it has nothing weaker"),
    can: Abilities { mixed: true, awaited: false, replays: true },
    reads: Some(Reads::Latest),
    advice: "defaults; all keys in one group; no transactions over reads; its files are purged on demand alone, which \
             is never asked for here",
    limited: None,
    installed: built_in,
    open: |setting: &Setting| {
        let dir = setting.dir.to_str().ok_or("the directory's name is no UTF-8")?.to_owned();
        Ok(Box::new(Opened(Engine::open(Config { dir, ..Config::default() })?)))
    },
};

/// The Raft group of all keys.
const GROUP: u64 = 1;

struct Opened(Engine);

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new((&self.0, LogBatch::default())))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(&self.0))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.0.sync()?)
    }
}

impl Session for (&Engine, LogBatch) {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        for (key, value) in puts {
            self.1.put(GROUP, key.to_vec(), value.to_vec())?;
        }
        // Leaves the batch empty.
        self.0.write(&mut self.1, mode == Mode::Sync)?;
        Ok(())
    }
}

impl Reader for &Engine {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        Ok(Engine::get(self, GROUP, key).map(|value| value.len()))
    }

    fn scan(&mut self) -> Result<u64> {
        let mut keys = 0;
        self.scan_raw_messages(GROUP, None, None, false, |key, value| {
            std::hint::black_box((key, value));
            keys += 1;
            true
        })?;
        Ok(keys)
    }
}
