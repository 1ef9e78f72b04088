//! surrealkv: an LSM tree with transactions, asynchronous.

use std::path::PathBuf;

use surrealkv::{Durability, Error, LSMIterator, Options, Transaction, Tree, TreeBuilder};
use tokio::runtime::{EnterGuard, Runtime};

use crate::peer::{
    Abilities, Kind, Mode, Peer, Purpose, Put, Reader, Reads, Result, Session, Setting, Store, built_in,
};

pub const PEER: Peer = Peer {
    name: "surrealkv",
    kind: Kind::Engine,
    package: Some("surrealkv"),
    sync: Some("Durability::Immediate"),
    written: Some("Durability::Eventual: the log is written at each commit"),
    asynchronous: Some("as Written: it has nothing weaker"),
    can: Abilities { mixed: true, awaited: false, replays: true },
    reads: Some(Reads::OneSnapshot),
    advice: "with_wal_preallocation(true), as its documentation advises for small synced commits; write-only \
             transactions, blocked on one at a time in each thread and begun anew after a conflict; a tokio runtime \
             around it; reads: 512 MiB of cache; reopen and reads: a memtable of 2 GiB, so that all is in the log",
    limited: None,
    installed: built_in,
    open: |setting: &Setting| {
        let runtime = Runtime::new()?;
        let tree = {
            let _inside = runtime.enter();
            let mut options = Options::new().with_wal_preallocation(true);
            if matches!(setting.purpose, Purpose::LongLog | Purpose::Reads) {
                options = options.with_max_memtable_size(2 << 30);
            }
            if setting.purpose == Purpose::Reads {
                options = options.with_block_cache_capacity(512 << 20);
            }
            TreeBuilder::with_options(options).with_path(PathBuf::from(setting.dir)).build()?
        };
        Ok(Box::new(Opened { tree: Some(tree), runtime }))
    },
};

struct Opened {
    /// Present until it is dropped, inside the runtime.
    tree: Option<Tree>,
    runtime: Runtime,
}

impl Opened {
    fn tree(&self) -> Result<&Tree> {
        Ok(self.tree.as_ref().ok_or("it is closed")?)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _inside = self.runtime.enter();
        drop(self.tree.take());
    }
}

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(OneSession { tree: self.tree()?, _inside: self.runtime.enter() }))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(self.tree()?.begin_with_mode(surrealkv::Mode::ReadOnly)?))
    }

    fn flush(&self) -> Result<()> {
        Ok(self.tree()?.flush_wal(false)?)
    }
}

struct OneSession<'a> {
    tree: &'a Tree,
    /// Commits spawn tasks of the runtime.
    _inside: EnterGuard<'a>,
}

impl Session for OneSession<'_> {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        loop {
            let mut transaction = self.tree.begin_with_mode(surrealkv::Mode::WriteOnly)?;
            transaction.set_durability(match mode {
                Mode::Sync => Durability::Immediate,
                Mode::Written | Mode::Async => Durability::Eventual,
            });
            for (key, value) in puts {
                transaction.set(key, *value)?;
            }
            match pollster::block_on(transaction.commit()) {
                Ok(()) => return Ok(()),
                Err(Error::TransactionWriteConflict | Error::TransactionRetry) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Reader for Transaction {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        Ok(Transaction::get(self, key)?.map(|value| value.len()))
    }

    fn scan(&mut self) -> Result<u64> {
        let mut entries = self.iter()?;
        let (mut keys, mut valid) = (0, entries.seek_first()?);
        while valid {
            std::hint::black_box((entries.key(), entries.value_ref()?));
            keys += 1;
            valid = entries.next()?;
        }
        Ok(keys)
    }
}
