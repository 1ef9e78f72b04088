//! What is asked of a revision of the engine, and the only place that calls it. Where the two revisions name things
//! differently, `implement!` takes the name as a parameter.

use std::path::Path;

use crate::common::awaited::Awaited;

/// What was measured, or in one line why it could not be.
pub(crate) type Result<T> = std::result::Result<T, String>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Sync,
    Written,
    Async,
}

/// When the new revision makes checkpoints. (Text in `--help`.)
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Tables {
    /// As by default
    Automatic,
    /// Never: all that is measured is in memory and in the log
    None,
    /// Once, behind the load; then every side is closed and opened again, and no checkpoint comes while it is measured
    Reopened,
}

/// Looks up the length of a key's value.
pub(crate) type Get<'a> = dyn FnMut(&[u8]) -> Result<Option<usize>> + 'a;

/// An open database of one revision.
pub(crate) trait Revision: Send + Sync {
    /// Commits 100 bytes under one of the keys.
    fn commit(&self, number: u64, mode: Mode) -> Result<()>;

    /// Keeps `tasks` durable commits in flight from one thread, as [`Revision::commit`], beginning with the number `first`,
    /// until `enough` says so of those that are durable.
    fn awaited(&self, first: u64, tasks: usize, enough: &mut dyn FnMut(usize) -> bool) -> Result<Awaited>;

    /// Writes 100 bytes under each of these keys, in one transaction.
    fn load(&self, keys: &mut dyn Iterator<Item = [u8; 16]>) -> Result<()>;

    /// Makes everything durable.
    fn flush(&self) -> Result<()>;

    /// Makes a checkpoint, if the revision has any, and closes the database.
    fn checkpoint_and_close(&self) -> Result<()>;

    /// Reads through one snapshot.
    fn read(&self, reads: &mut dyn FnMut(&mut Get<'_>) -> Result<()>) -> Result<()>;

    /// Visits all keys with their values through one snapshot. Returns their number.
    fn scan(&self) -> Result<u64>;
}

/// Opens a database of one revision.
pub(crate) type Open = fn(&Path, Tables) -> Result<Box<dyn Revision>>;

macro_rules! implement {
    ($module:ident, crate $forelog:ident, keyspace $keyspace:ident, next $next:ident, open $open:expr, checkpoint $checkpoint:expr) => {
        pub(crate) mod $module {
            use std::path::Path;

            use $forelog::{CommitMode, Engine, Keyspace, Receipt};

            use super::{Get, Mode, Result, Revision, Tables};
            use crate::common::awaited::{Awaited, keep_in_flight};
            use crate::common::key;

            struct Opened {
                engine: Engine,
                keys: Keyspace,
            }

            /// Opens a database with default options but for checkpoints.
            pub(crate) fn open(dir: &Path, tables: Tables) -> Result<Box<dyn Revision>> {
                let open: fn(&Path, Tables) -> $forelog::Result<Engine> = $open;
                let engine = open(dir, tables).map_err(told)?;
                let keys = engine.$keyspace("keys").map_err(told)?;
                Ok(Box::new(Opened { engine, keys }))
            }

            fn told(error: $forelog::Error) -> String {
                error.to_string()
            }

            impl Opened {
                fn put(&self, number: u64, mode: CommitMode) -> $forelog::Result<Receipt> {
                    let mut batch = self.engine.batch()?;
                    batch.put(&self.keys, key(number), [7; 100])?;
                    batch.commit_with(mode)
                }
            }

            impl Revision for Opened {
                fn commit(&self, number: u64, mode: Mode) -> Result<()> {
                    let mode = match mode {
                        Mode::Sync => CommitMode::Sync,
                        Mode::Written => CommitMode::Written,
                        Mode::Async => CommitMode::Async,
                    };
                    self.put(number, mode).map(drop).map_err(told)
                }

                fn awaited(&self, first: u64, tasks: usize, enough: &mut dyn FnMut(usize) -> bool) -> Result<Awaited> {
                    let commit = |number| self.put(first + number as u64, CommitMode::Async);
                    keep_in_flight(tasks, enough, commit).map_err(told)
                }

                fn load(&self, keys: &mut dyn Iterator<Item = [u8; 16]>) -> Result<()> {
                    let mut batch = self.engine.batch().map_err(told)?;
                    for key in keys {
                        batch.put(&self.keys, key, [7; 100]).map_err(told)?;
                    }
                    batch.commit_with(CommitMode::Async).map(drop).map_err(told)
                }

                fn flush(&self) -> Result<()> {
                    self.engine.flush().map(drop).map_err(told)
                }

                fn checkpoint_and_close(&self) -> Result<()> {
                    let checkpoint: fn(&Engine) -> $forelog::Result<()> = $checkpoint;
                    checkpoint(&self.engine).and_then(|()| self.engine.close()).map_err(told)
                }

                fn read(&self, reads: &mut dyn FnMut(&mut Get<'_>) -> Result<()>) -> Result<()> {
                    let snapshot = self.engine.snapshot().map_err(told)?;
                    reads(&mut |key| {
                        let found = snapshot.get(&self.keys, key).map_err(told)?;
                        Ok(found.map(|value| value.len()))
                    })
                }

                fn scan(&self) -> Result<u64> {
                    let snapshot = self.engine.snapshot().map_err(told)?;
                    let mut entries = snapshot.iter(&self.keys).map_err(told)?;
                    let mut keys = 0;
                    while let Some(entry) = entries.$next() {
                        std::hint::black_box(entry.map_err(told)?);
                        keys += 1;
                    }
                    Ok(keys)
                }
            }
        }
    };
}

implement!(
    new,
    crate forelog,
    keyspace create_keyspace,
    next next_ref,
    open |dir, tables| {
        let checkpoints =
            if tables == Tables::Automatic { forelog::Checkpoints::Automatic } else { forelog::Checkpoints::OnRequest };
        forelog::Options::new().checkpoints(checkpoints).open(dir)
    },
    checkpoint Engine::checkpoint
);
implement!(
    old,
    crate forelog_old,
    keyspace create_keyspace,
    next next_ref,
    open |dir, _| Engine::open(dir),
    checkpoint |_| Ok(())
);
