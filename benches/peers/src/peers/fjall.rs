//! fjall: an LSM tree whose journal is persisted on demand.

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, Snapshot};

use crate::common::KEY_BYTES;
use crate::peer::{
    ASK_EACH, Abilities, Kind, Mode, Peer, Purpose, Put, Reader, Reads, Result, Session, Setting, Shares, Store,
    built_in,
};

pub const PEER: Peer = Peer {
    name: "fjall",
    kind: Kind::Engine,
    package: Some("fjall"),
    sync: Some("insert, then Database::persist(SyncData); several puts: a batch with durability(SyncData)"),
    written: Some("insert: the journal is written at each"),
    asynchronous: Some("manual_journal_persist(true): the journal is written when its buffer is full, never synced"),
    can: Abilities { mixed: true, awaited: false, replays: true },
    reads: Some(Reads::OneSnapshot),
    advice: "defaults; its documentation advises persist() after what must be durable; reads and reopen: a memtable of \
             2 GiB, so that all is in it and in the journal",
    limited: Some(|shares| {
        let (cache, memtable) = (shares.cache >> 20, memtable_bytes(shares) >> 20);
        format!("a batch with PersistMode::Buffer; cache_size {cache} MiB, max_memtable_size {memtable} MiB")
    }),
    installed: built_in,
    open,
};

const LONG: u64 = 2 << 30;

/// One is written to while another one becomes a table.
fn memtable_bytes(shares: Shares) -> u64 {
    shares.writes / 2
}

fn open(setting: &Setting) -> Result<Box<dyn Store>> {
    let by_hand = matches!(setting.purpose, Purpose::Commits(Mode::Async) | Purpose::Mixed);
    let database = Database::builder(setting.dir).manual_journal_persist(by_hand);
    let (database, memtable) = match setting.purpose {
        Purpose::LongLog => (database.max_journaling_size(LONG), Some(LONG)),
        Purpose::Reads => (database.cache_size(512 << 20), None),
        Purpose::Limited { memory } => {
            let shares = Shares::of(memory);
            (database.cache_size(shares.cache), Some(memtable_bytes(shares)))
        }
        _ => (database, None),
    };
    let database = database.open()?;
    let keys = database.keyspace("keys", || {
        let options = KeyspaceCreateOptions::default();
        match memtable {
            Some(bytes) => options.max_memtable_size(bytes),
            None => options,
        }
    })?;
    Ok(Box::new(Opened { database, keys }))
}

struct Opened {
    database: Database,
    keys: Keyspace,
}

impl Opened {
    fn batch(&self, mode: Mode) -> OwnedWriteBatch {
        self.database.batch().durability(match mode {
            Mode::Sync => Some(PersistMode::SyncData),
            Mode::Written => Some(PersistMode::Buffer),
            Mode::Async => None,
        })
    }
}

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new((self.database.snapshot(), &self.keys)))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::Buffer)?)
    }
}

impl Session for &Opened {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        if let [(key, value)] = puts {
            self.keys.insert(*key, *value)?;
            if mode == Mode::Sync {
                self.database.persist(PersistMode::SyncData)?;
            }
            return Ok(());
        }
        let mut batch = self.batch(mode);
        for (key, value) in puts {
            batch.insert(&self.keys, *key, *value);
        }
        Ok(batch.commit()?)
    }

    fn delete(&mut self, keys: &[[u8; KEY_BYTES]], mode: Mode) -> Result<()> {
        let mut batch = self.batch(mode);
        for key in keys {
            batch.remove(&self.keys, *key);
        }
        Ok(batch.commit()?)
    }
}

impl Reader for (Snapshot, &Keyspace) {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        Ok(self.0.get(self.1, key)?.map(|value| value.len()))
    }

    fn scan_until(&mut self, is_enough: &mut dyn FnMut(u64) -> bool) -> Result<u64> {
        let mut keys = 0;
        for entry in self.0.iter(self.1) {
            std::hint::black_box(entry.into_inner()?);
            keys += 1;
            if keys % ASK_EACH == 0 && is_enough(keys) {
                break;
            }
        }
        Ok(keys)
    }
}
