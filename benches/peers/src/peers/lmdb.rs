//! LMDB through heed: a copy-on-write B+tree in a memory map, without a log.

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithTls};

use crate::common::KEY_BYTES;
use crate::peer::{
    ASK_EACH, Abilities, Kind, Mode, Peer, Purpose, Put, Reader, Reads, Result, Session, Setting, Store, built_in,
};

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
    limited: Some(|_| {
        format!(
            "MDB_NOSYNC; a map of {} GiB; it has no cache of its own, the page cache is its memory; its environment is left to the end of the process, so its close takes no time",
            LARGE_MAP_BYTES >> 30
        )
    }),
    installed: built_in,
    open,
};

const MAP_BYTES: usize = 8 << 30;
/// Addresses, of which the file takes as many as it needs.
const LARGE_MAP_BYTES: usize = 256 << 30;

#[expect(unsafe_code, reason = "a memory map trusts that nobody else changes the file")]
fn open(setting: &Setting) -> Result<Box<dyn Store>> {
    let always_sync = setting.purpose.mode() == Some(Mode::Sync);
    let mut options = EnvOpenOptions::new();
    options.map_size(match setting.purpose {
        Purpose::Limited { .. } => LARGE_MAP_BYTES,
        _ => MAP_BYTES,
    });
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

impl Opened {
    fn finish(&self, transaction: RwTxn, mode: Mode) -> Result<()> {
        transaction.commit()?;
        if mode == Mode::Sync && !self.always_sync {
            self.environment.force_sync()?;
        }
        Ok(())
    }
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
        self.finish(transaction, mode)
    }

    fn delete(&mut self, keys: &[[u8; KEY_BYTES]], mode: Mode) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        for key in keys {
            self.keys.delete(&mut transaction, key)?;
        }
        self.finish(transaction, mode)
    }
}

impl Reader for (RoTxn<'static, WithTls>, Database<'static, Bytes, Bytes>) {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        Ok(self.1.get(&self.0, key)?.map(<[u8]>::len))
    }

    fn scan_until(&mut self, is_enough: &mut dyn FnMut(u64) -> bool) -> Result<u64> {
        let mut keys = 0;
        for entry in self.1.iter(&self.0)? {
            std::hint::black_box(entry?);
            keys += 1;
            if keys % ASK_EACH == 0 && is_enough(keys) {
                break;
            }
        }
        Ok(keys)
    }
}
