//! redb: a copy-on-write B-tree without a log.

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};

use crate::peer::{Abilities, Kind, Mode, Peer, Put, Reader, Reads, Result, Session, Setting, Store, built_in};

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
    installed: built_in,
    open: |setting: &Setting| {
        let database = Database::create(setting.dir.join("redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        Ok(Box::new(Opened(database)))
    },
};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");

struct Opened(Database);

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(&self.0))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(self.0.begin_read()?.open_table(TABLE)?))
    }

    fn flush(&self) -> Result<()> {
        let transaction = self.0.begin_write()?;
        // An empty transaction would be no commit.
        transaction.open_table(TABLE)?;
        Ok(transaction.commit()?)
    }
}

impl Session for &Database {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        let mut transaction = self.begin_write()?;
        if mode != Mode::Sync {
            transaction.set_durability(Durability::None)?;
        }
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in puts {
                table.insert(key.as_slice(), *value)?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Reader for ReadOnlyTable<&'static [u8], &'static [u8]> {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        Ok(ReadableTable::get(self, key)?.map(|value| value.value().len()))
    }

    fn scan(&mut self) -> Result<u64> {
        let mut keys = 0;
        for entry in self.iter()? {
            let (key, value) = entry?;
            std::hint::black_box((key.value(), value.value()));
            keys += 1;
        }
        Ok(keys)
    }
}
