//! LMDB through heed: a copy-on-write B+tree in a memory map, without a log.

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls};

use crate::peer::{Abilities, Kind, Mode, Peer, Put, Reader, Reads, Result, Session, Setting, Store, built_in};

pub const PEER: Peer = Peer {
    name: "lmdb",
    kind: Kind::Engine,
    package: Some("heed"),
    sync: Some("no flags"),
    written: Some("MDB_NOSYNC: pages are written at each commit; a power loss may take the whole database"),
    asynchronous: Some("as Written: it has nothing weaker"),
    can: Abilities { mixed: true, awaited: false, replays: false },
    reads: Some(Reads::OneSnapshot),
    advice: "an 8 GiB map; one writer at a time; Sync beside Async: MDB_NOSYNC, and force_sync after those; no log, so \
             nothing is replayed",
    installed: built_in,
    open,
};

const MAP_BYTES: usize = 8 << 30;

#[expect(unsafe_code, reason = "a memory map trusts that nobody else changes the file")]
fn open(setting: &Setting) -> Result<Box<dyn Store>> {
    let always_sync = setting.purpose.mode() == Some(Mode::Sync);
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES);
    if !always_sync {
        // SAFETY: without syncs a power loss may damage the database; it is thrown away after the measurement.
        unsafe { options.flags(EnvFlags::NO_SYNC) };
    }
    // SAFETY: the directory is this process's own, and opened once.
    let environment = unsafe { options.open(setting.dir)? };
    // The database borrows it: it lives as long as the process, which takes one measurement.
    let environment: &'static Env = Box::leak(Box::new(environment));
    let keys = environment
        .create_databases_and_commit(environment.write_txn()?, |opener, transaction| {
            opener.create_database::<Bytes, Bytes>(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?
        .commit()
        .ok_or("its transaction was aborted")?;
    Ok(Box::new(Opened { environment, keys, always_sync }))
}

struct Opened {
    environment: &'static Env,
    keys: Database<'static, Bytes, Bytes>,
    always_sync: bool,
}

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new((self.environment.read_txn()?, self.keys)))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.environment.force_sync()?)
    }
}

impl Session for &Opened {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        for (key, value) in puts {
            self.keys.put(&mut transaction, key, value)?;
        }
        transaction.commit()?;
        if mode == Mode::Sync && !self.always_sync {
            self.environment.force_sync()?;
        }
        Ok(())
    }
}

impl Reader for (RoTxn<'static, WithTls>, Database<'static, Bytes, Bytes>) {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        Ok(self.1.get(&self.0, key)?.map(<[u8]>::len))
    }

    fn scan(&mut self) -> Result<u64> {
        let mut keys = 0;
        for entry in self.1.iter(&self.0)? {
            std::hint::black_box(entry?);
            keys += 1;
        }
        Ok(keys)
    }
}
