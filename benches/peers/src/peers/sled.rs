//! sled: a lock-free tree over a log.

use sled::{Batch, Db};

use crate::peer::{Abilities, Kind, Mode, Peer, Put, Reader, Reads, Result, Session, Setting, Store, built_in};

pub const PEER: Peer = Peer {
    name: "sled",
    kind: Kind::Engine,
    package: Some("sled"),
    sync: Some("insert, then Db::flush"),
    written: None,
    asynchronous: Some("insert: flushed every 500 ms"),
    can: Abilities { mixed: true, awaited: false, replays: true },
    reads: Some(Reads::Latest),
    advice: "defaults; the last release that is not an alpha; its documentation advises flush() for durability",
    limited: None,
    installed: built_in,
    open: |setting: &Setting| Ok(Box::new(Opened(sled::open(setting.dir)?))),
};

struct Opened(Db);

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(&self.0))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(&self.0))
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()?;
        Ok(())
    }
}

impl Session for &Db {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        if let [(key, value)] = puts {
            self.insert(key, *value)?;
        } else {
            let mut batch = Batch::default();
            for (key, value) in puts {
                batch.insert(key, *value);
            }
            self.apply_batch(batch)?;
        }
        if mode == Mode::Sync {
            self.flush()?;
        }
        Ok(())
    }
}

impl Reader for &Db {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        Ok(sled::Tree::get(self, key)?.map(|value| value.len()))
    }

    fn scan(&mut self) -> Result<u64> {
        let mut keys = 0;
        for entry in self.iter() {
            std::hint::black_box(entry?);
            keys += 1;
        }
        Ok(keys)
    }
}
