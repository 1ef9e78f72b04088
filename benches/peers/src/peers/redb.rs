//! redb: a copy-on-write B-tree without a log.

use redb::{
    Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use crate::common::KEY_BYTES;
use crate::peer::{
    ASK_EACH, Abilities, Kind, Mode, Peer, Purpose, Put, Reader, Reads, Result, Session, Setting, Shares, Store,
    built_in,
};

pub const PEER: Peer = Peer {
    name: "redb",
    kind: Kind::Engine,
    package: Some("redb"),
    sync: Some("Durability::Immediate"),
    written: None,
    asynchronous: Some("Durability::None: persisted by the next Immediate commit"),
    can: Abilities { mixed: true, awaited: false, replays: false },
    reads: Some(Reads::OneSnapshot),
    advice: "defaults, one transaction a commit; no log, so nothing is replayed",
    limited: Some(|shares| {
        let cache = shares.whole >> 20;
        format!("Durability::None, each {DURABLE_EACH}th transaction Immediate; set_cache_size {cache} MiB")
    }),
    installed: built_in,
    open: |setting: &Setting| {
        let mut options = Builder::new();
        let durable_each = match setting.purpose {
            Purpose::Limited { memory } => {
                options.set_cache_size(usize::try_from(Shares::of(memory).whole)?);
                DURABLE_EACH
            }
            _ => u64::MAX,
        };
        let database = options.create(setting.dir.join("redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        Ok(Box::new(Opened { database, durable_each }))
    },
};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");

/// What commits of `Durability::None` have freed is free after an `Immediate` one alone, so that a file to which no other
/// commits come grows for ever.
const DURABLE_EACH: u64 = 1000;

struct Opened {
    database: Database,
    /// Each transaction of a thread with a multiple of this number is `Immediate`, whatever its mode.
    durable_each: u64,
}

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(OneSession { store: self, commits: 0 }))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(self.database.begin_read()?.open_table(TABLE)?))
    }

    fn flush(&self) -> Result<()> {
        let transaction = self.database.begin_write()?;
        // An empty transaction would be no commit.
        transaction.open_table(TABLE)?;
        Ok(transaction.commit()?)
    }
}

struct OneSession<'a> {
    store: &'a Opened,
    commits: u64,
}

impl OneSession<'_> {
    fn transaction(&mut self, mode: Mode) -> Result<WriteTransaction> {
        self.commits += 1;
        let mut transaction = self.store.database.begin_write()?;
        if mode != Mode::Sync && !self.commits.is_multiple_of(self.store.durable_each) {
            transaction.set_durability(Durability::None)?;
        }
        Ok(transaction)
    }
}

impl Session for OneSession<'_> {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        let transaction = self.transaction(mode)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in puts {
                table.insert(key.as_slice(), *value)?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn delete(&mut self, keys: &[[u8; KEY_BYTES]], mode: Mode) -> Result<()> {
        let transaction = self.transaction(mode)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for key in keys {
                table.remove(key.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Reader for ReadOnlyTable<&'static [u8], &'static [u8]> {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        Ok(ReadableTable::get(self, key)?.map(|value| value.value().len()))
    }

    fn scan_until(&mut self, is_enough: &mut dyn FnMut(u64) -> bool) -> Result<u64> {
        let mut keys = 0;
        for entry in self.iter()? {
            let (key, value) = entry?;
            std::hint::black_box((key.value(), value.value()));
            keys += 1;
            if keys % ASK_EACH == 0 && is_enough(keys) {
                break;
            }
        }
        Ok(keys)
    }
}
