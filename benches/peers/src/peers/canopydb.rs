//! canopydb: a copy-on-write B+tree with a write-ahead log.

use std::sync::atomic::{AtomicUsize, Ordering};

use canopydb::{Database, DbOptions, EnvOptions, Error, ReadTransaction};

use crate::peer::{
    Abilities, Kind, Mode, Peer, Purpose, Put, Reader, Reads, Result, Session, Setting, Store, built_in,
};

pub const PEER: Peer = Peer {
    name: "canopydb",
    kind: Kind::Engine,
    package: Some("canopydb"),
    sync: Some("commit_with(sync = true)"),
    written: Some("commit_with(sync = false): the log is written at each commit"),
    asynchronous: Some("as Written: it has nothing weaker with its log"),
    can: Abilities { mixed: true, awaited: false, replays: true },
    reads: Some(Reads::OneSnapshot),
    advice: "defaults; several threads write with begin_write_concurrent and begin anew after a conflict, one alone \
             with begin_write; reopen: no checkpoint below 2 GiB",
    limited: None,
    installed: built_in,
    open,
};

const LONG: usize = 2 << 30;

fn open(setting: &Setting) -> Result<Box<dyn Store>> {
    let (mut environment, mut options) = (EnvOptions::new(setting.dir), DbOptions::new());
    if setting.purpose == Purpose::LongLog {
        environment.max_wal_size = LONG as u64;
        options.checkpoint_target_size = LONG;
        options.throttle_memory_limit = LONG;
        options.stall_memory_limit = LONG;
        options.checkpoint_interval = std::time::Duration::from_secs(3600);
    }
    let database = Database::with_options(environment, options)?;
    let transaction = database.begin_write()?;
    transaction.get_or_create_tree(TREE)?;
    transaction.commit()?;
    Ok(Box::new(Opened { database, sessions: AtomicUsize::new(0) }))
}

const TREE: &[u8] = b"keys";

struct Opened {
    database: Database,
    sessions: AtomicUsize,
}

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(OneSession(self)))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(self.database.begin_read()?))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.database.sync()?)
    }
}

struct OneSession<'a>(&'a Opened);

impl Drop for OneSession<'_> {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session for OneSession<'_> {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        loop {
            let concurrent = self.0.sessions.load(Ordering::Relaxed) > 1;
            let transaction = self.0.database.begin_write_with(concurrent)?;
            let mut tree = transaction.get_tree(TREE)?.ok_or("its tree is gone")?;
            for (key, value) in puts {
                tree.insert(key, value)?;
            }
            drop(tree);
            match transaction.commit_with(mode == Mode::Sync) {
                Ok(_) => return Ok(()),
                Err(Error::WriteConflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Reader for ReadTransaction {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        let tree = self.get_tree(TREE)?.ok_or("its tree is gone")?;
        Ok(tree.get(key)?.map(|value| value.as_ref().len()))
    }

    fn scan(&mut self) -> Result<u64> {
        let tree = self.get_tree(TREE)?.ok_or("its tree is gone")?;
        let mut keys = 0;
        for entry in tree.iter()? {
            std::hint::black_box(entry?);
            keys += 1;
        }
        Ok(keys)
    }
}
