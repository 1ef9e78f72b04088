//! The engine itself, and its log alone.

use forelog::log::Log;
use forelog::{CommitMode, Engine, Keyspace, Options, Snapshot};

use crate::common::awaited::{Awaited, keep_in_flight};
use crate::common::{KEY_BYTES, key, record_bytes};
use crate::peer::{
    ASK_EACH, Abilities, Kind, Mode, Peer, Purpose, Put, Reader, Reads, Result, Session, Setting, Shares, Store,
    built_in,
};

pub const ENGINE: Peer = Peer {
    name: "forelog",
    kind: Kind::Engine,
    package: Some("forelog"),
    sync: Some("WriteBatch::commit_with(Sync)"),
    written: Some("WriteBatch::commit_with(Written)"),
    asynchronous: Some("WriteBatch::commit_with(Async): flushed after 10 ms or 1 MiB, at most 16 MiB at risk"),
    can: Abilities { mixed: true, awaited: true, replays: true },
    reads: Some(Reads::OneSnapshot),
    advice: "default options",
    limited: Some(|shares| format!("memory_bytes {} MiB", shares.whole >> 20)),
    installed: built_in,
    open: |setting| {
        let options = match setting.purpose {
            Purpose::Limited { memory } => Options::new().memory_bytes(Shares::of(memory).whole),
            _ => Options::new(),
        };
        let engine = options.open(setting.dir)?;
        let keys = engine.create_keyspace("keys")?;
        Ok(Box::new(Opened { engine, keys }))
    },
};

pub const LOG: Peer = Peer {
    name: "forelog::Log",
    kind: Kind::Log,
    package: Some("forelog"),
    sync: Some("Log::append(Sync)"),
    written: Some("Log::append(Written)"),
    asynchronous: Some("Log::append(Async): flushed after 10 ms or 1 MiB, at most 16 MiB at risk"),
    can: Abilities { mixed: true, awaited: true, replays: false },
    reads: None,
    advice: "default options; a transaction is one record of keys and values",
    limited: None,
    installed: built_in,
    open: |setting: &Setting| Ok(Box::new(OpenedLog(Log::open(setting.dir)?))),
};

fn commit_mode(mode: Mode) -> CommitMode {
    match mode {
        Mode::Sync => CommitMode::Sync,
        Mode::Written => CommitMode::Written,
        Mode::Async => CommitMode::Async,
    }
}

struct Opened {
    engine: Engine,
    keys: Keyspace,
}

impl Opened {
    fn commit(&self, puts: &[Put], mode: CommitMode) -> forelog::Result<forelog::Receipt> {
        let mut batch = self.engine.batch()?;
        for (key, value) in puts {
            batch.put(&self.keys, key, value)?;
        }
        batch.commit_with(mode)
    }
}

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new((self.engine.snapshot()?, &self.keys)))
    }

    fn flush(&self) -> Result<()> {
        self.engine.flush()?;
        Ok(())
    }

    fn keep_in_flight(&self, commits: usize, enough: &mut dyn FnMut(usize) -> bool) -> Result<Awaited> {
        let commit = |number| self.commit(&[(key(number as u64), &[7; 100])], CommitMode::Async);
        Ok(keep_in_flight(commits, enough, commit)?)
    }
}

impl Session for &Opened {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        Opened::commit(self, puts, commit_mode(mode))?;
        Ok(())
    }

    fn delete(&mut self, keys: &[[u8; KEY_BYTES]], mode: Mode) -> Result<()> {
        let mut batch = self.engine.batch()?;
        for key in keys {
            batch.delete(&self.keys, key)?;
        }
        batch.commit_with(commit_mode(mode))?;
        Ok(())
    }
}

impl Reader for (Snapshot, &Keyspace) {
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        Ok(self.0.get(self.1, key)?.map(|value| value.len()))
    }

    fn scan_until(&mut self, is_enough: &mut dyn FnMut(u64) -> bool) -> Result<u64> {
        let mut keys = 0;
        let mut entries = self.0.iter(self.1)?;
        while let Some(entry) = entries.next_ref() {
            std::hint::black_box(entry?);
            keys += 1;
            if keys % ASK_EACH == 0 && is_enough(keys) {
                break;
            }
        }
        Ok(keys)
    }
}

struct OpenedLog(Log);

impl Store for OpenedLog {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(LogSession { log: &self.0, record: Vec::new() }))
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()?;
        Ok(())
    }

    fn keep_in_flight(&self, commits: usize, enough: &mut dyn FnMut(usize) -> bool) -> Result<Awaited> {
        const PAYLOAD: usize = record_bytes(1, 100) - 32;
        Ok(keep_in_flight(commits, enough, |_| self.0.append(&[7; PAYLOAD], CommitMode::Async))?)
    }
}

struct LogSession<'a> {
    log: &'a Log,
    record: Vec<u8>,
}

impl Session for LogSession<'_> {
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        concatenate(puts, &mut self.record);
        self.log.append(&self.record, commit_mode(mode))?;
        Ok(())
    }
}

/// A transaction as one record, for a log that knows no keys.
pub fn concatenate(puts: &[Put], record: &mut Vec<u8>) {
    record.clear();
    for (key, value) in puts {
        record.extend_from_slice(key);
        record.extend_from_slice(value);
    }
}
