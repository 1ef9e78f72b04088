//! SQLite, with a write-ahead log.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension};

use crate::peer::{Abilities, Kind, Mode, Peer, Put, Reader, Reads, Result, Session, Setting, Store};

pub const PEER: Peer = Peer {
    name: "sqlite",
    kind: Kind::Engine,
    package: None,
    sync: Some("journal_mode=WAL, synchronous=FULL"),
    written: Some("journal_mode=WAL, synchronous=NORMAL: the log is written at each commit, synced at checkpoints"),
    asynchronous: Some("as Written: it has nothing weaker with a log"),
    can: Abilities { mixed: true, awaited: false, replays: false },
    reads: Some(Reads::OneSnapshot),
    advice: "bundled; prepared statements, a WITHOUT ROWID table; one writer at a time, so threads take turns at one \
             connection a mode; 256 MiB of cache; its documentation advises FULL for durability in WAL mode",
    limited: None,
    installed: || Ok(format!("SQLite {} (rusqlite)", rusqlite::version())),
    open: |setting: &Setting| {
        let path = setting.dir.join("sqlite");
        let connections = [connection(&path, "FULL")?, connection(&path, "NORMAL")?];
        connections[0].execute_batch(
            "CREATE TABLE IF NOT EXISTS keys (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        )?;
        Ok(Box::new(Opened { path, connections: Mutex::new(connections) }))
    },
};

fn connection(path: &Path, synchronous: &str) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    // In KiB where it is negative.
    connection.pragma_update(None, "cache_size", -256 * 1024)?;
    Ok(connection)
}

struct Opened {
    path: PathBuf,
    /// For `Sync`, and for the rest.
    connections: Mutex<[Connection; 2]>,
}

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(&self.connections))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        let connection = connection(&self.path, "NORMAL")?;
        connection.execute_batch("BEGIN")?;
        Ok(Box::new(connection))
    }

    /// Each commit is written.
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl Session for &Mutex<[Connection; 2]> {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        let connections = self.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = &connections[usize::from(mode != Mode::Sync)];
        // A single statement is a transaction.
        let several = puts.len() > 1;
        if several {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        }
        let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO keys VALUES (?1, ?2)")?;
        for (key, value) in puts {
            insert.execute((key.as_slice(), value))?;
        }
        if several {
            connection.prepare_cached("COMMIT")?.execute([])?;
        }
        Ok(())
    }
}

impl Reader for Connection {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        let mut select = self.prepare_cached("SELECT value FROM keys WHERE key = ?1")?;
        Ok(select.query_row([key], |row| Ok(row.get_ref(0)?.as_blob()?.len())).optional()?)
    }

    fn scan(&mut self) -> Result<u64> {
        let mut select = self.prepare_cached("SELECT key, value FROM keys ORDER BY key")?;
        let (mut rows, mut keys) = (select.query([])?, 0);
        while let Some(row) = rows.next()? {
            std::hint::black_box((row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?));
            keys += 1;
        }
        Ok(keys)
    }
}
