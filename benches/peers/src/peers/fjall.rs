//! fjall: an LSM tree whose journal is persisted on demand.

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use crate::peer::{
    Abilities, Kind, Mode, Peer, Purpose, Put, Reader, Reads, Result, Session, Setting, Store, built_in,
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
    installed: built_in,
    open,
};

const LONG: u64 = 2 << 30;

fn open(setting: &Setting) -> Result<Box<dyn Store>> {
    let by_hand = matches!(setting.purpose, Purpose::Commits(Mode::Async) | Purpose::Mixed);
    let database = Database::builder(setting.dir).manual_journal_persist(by_hand);
    let (database, long) = match setting.purpose {
        Purpose::LongLog => (database.max_journaling_size(LONG), true),
        Purpose::Reads => (database.cache_size(512 << 20), false),
        _ => (database, false),
    };
    let database = database.open()?;
    let keys = database.keyspace("keys", || {
        let options = KeyspaceCreateOptions::default();
        if long { options.max_memtable_size(LONG) } else { options }
    })?;
    Ok(Box::new(Opened { database, keys }))
}

struct Opened {
    database: Database,
    keys: Keyspace,
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
        let mut batch = self.database.batch().durability(match mode {
            Mode::Sync => Some(PersistMode::SyncData),
            Mode::Written => Some(PersistMode::Buffer),
            Mode::Async => None,
        });
        for (key, value) in puts {
            batch.insert(&self.keys, *key, *value);
        }
        Ok(batch.commit()?)
    }
}

impl Reader for (Snapshot, &Keyspace) {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        Ok(self.0.get(self.1, key)?.map(|value| value.len()))
    }

    fn scan(&mut self) -> Result<u64> {
        let mut keys = 0;
        for entry in self.0.iter(self.1) {
            std::hint::black_box(entry.into_inner()?);
            keys += 1;
        }
        Ok(keys)
    }
}
