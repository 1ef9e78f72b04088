//! A write-ahead-log storage engine in which **each transaction chooses how durable its commit is** before it returns.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("forelog-doc-lib-{}", std::process::id()));
//! # let _ = std::fs::remove_dir_all(&dir);
//! use forelog::{CommitMode, Engine, Outcome};
//!
//! let engine = Engine::open(&dir)?;
//! let accounts = engine.create_keyspace("accounts")?;
//!
//! let mut tx = engine.begin()?;                                   // serializable, optimistic
//! tx.put(&accounts, b"alice", b"90")?;
//! tx.put(&accounts, b"bob", b"110")?;
//! tx.commit()?;                                                   // the default: Sync, survives power loss
//!
//! let mut tx = engine.begin()?;
//! tx.put(&accounts, b"carol", b"5")?;
//! let receipt = tx.commit_with(CommitMode::Async)?;               // returns at once
//! let token = receipt.token();                                    // store it, send it, ask after a crash
//! receipt.wait()?;                                                // or .await, or on_durable, or is_durable
//! assert_eq!(engine.outcome(&token)?, Outcome::Durable);
//! engine.close()?;
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(()) }
//! ```
//!
//! # What each mode promises
//!
//! | mode | returns when the commit | survives |
//! |---|---|---|
//! | [`Sync`](CommitMode::Sync) | is on the medium | power loss |
//! | [`Written`](CommitMode::Written) | is in the operating system's hands | the death of the process |
//! | [`Async`](CommitMode::Async), [`Within(d)`](CommitMode::Within) | has its place in the log | a crash, once its flush has come: within the flush interval, or `d` |
//!
//! Which one to take: [`guide::choosing`]. Modes mix freely: there is one log in one order, so a durable commit proves every earlier one durable. What a crash
//! could take is bounded at every instant by the [`LossBudget`]; what it took is told by [`Engine::recovery`] and, for
//! each commit, by [`Engine::outcome`]. What was derived from it, such as the next id, is derived again: see
//! [`CommitMode`].
//!
//! # In an async program
//!
//! [`Engine::begin`] and reads of what is in memory wait for nothing. [`Transaction::commit_async`] is the commit that a task awaits: for its
//! place, for room in the loss budget, for what its mode promises, without a blocked thread. [`Engine::flush_async`] and
//! [`Engine::create_keyspace_async`] are the same for those calls, and a [`Receipt`] is a future. Any executor will do.
//!
//! # When a file is damaged
//!
//! Opening refuses what was durable and has changed, with segment, LSN and cause ([`Error::damage`]), and changes
//! nothing. What cannot be noticed is a closed list (the residue, in the [specification]).
//!
//! | to | use |
//! |---|---|
//! | check a database that is not open | [`Engine::verify`] |
//! | read one that must not be changed, or that a program has open | [`Engine::read_only`], [`ReadOnlyOptions`] |
//! | save what can be proven whole of one that does not open | [`Engine::salvage`] |
//! | check the files under an open engine, in the background | [`Engine::scrub`] |
//! | back an open database up, and get it back | [`Engine::backup`], [`Engine::restore`] |
//! | write the state of an open engine to another place, as a log alone | [`Engine::save_to`] |
//!
//! # Tests of your own
//!
//! [`Engine::in_memory`] gives an engine on which everything works and nothing survives. With the feature `sim`, a
//! `SimDisk` loses what was not synced, and a whole program follows from one seed.
//!
//! # The map
//!
//! A commit goes down this list, recovery comes up it; a folder imports only those below it.
//!
//! | layer | what it knows |
//! |---|---|
//! | [`requests`] | requests that are done once, however often they come |
//! | [`tail`] | following what is committed |
//! | [`typed`] | keys and values with types |
//! | `engine` | open, handles, close |
//! | `care` | salvage, scrub, dump: checking what is on the medium |
//! | `txn` | transactions, conflicts, the commit pipeline |
//! | `table` | what will be on disk besides the log |
//! | `index` | ordered keys with versions, in memory; never files |
//! | [`log`] | bytes and LSNs; never keys. Public on its own: [`log::Log`] |
//! | `format` | the bytes on disk, and the decision table of recovery: the [specification] |
//! | `disk` | the seam to files, real and simulated |
//! | `base` | types, errors, options |
//! | `rt` | where time, threads, locks and randomness enter |
//!
//! How each promise is tried, with the figures and the commands that print them: [`trust`]. What a commit costs, and what
//! would limit more cores or a faster device: [`scale`].
//!
//! # Features
//!
//! - `io-uring`: `Options::io_uring`, which gives each flush to the kernel in one submission (Linux).
//! - `sim`: the module `sim`: a disk in memory that loses what was not synced, and a deterministic scheduler.
//! - `unstable`: the module `unstable`: inner parts, which may change in any release. `sim` and `cli` turn it on.
//! - `serde`: [`typed`] values of anything that serde knows, and commit modes, tokens, LSNs and outcomes in what is serialized.
//! - `cli`: the `forelog` command.

// What only `unstable` shows is unreachable without it.
mod base;
#[cfg_attr(not(feature = "unstable"), allow(unreachable_pub, reason = "public behind the feature `unstable`"))]
mod care;
#[cfg_attr(not(feature = "unstable"), allow(unreachable_pub, reason = "public behind the feature `unstable`"))]
mod disk;
mod engine;
#[cfg_attr(not(feature = "unstable"), allow(unreachable_pub, reason = "public behind the feature `unstable`"))]
mod format;
pub mod guide;
mod index;
pub mod log;
pub mod requests;
mod rt;
mod table;
pub mod tail;
mod txn;
pub mod typed;

pub use base::error::{Damage, DamageCause, Error, ErrorKind, Result};
pub use base::options::{Checkpoints, LossBudget};
pub use base::types::{CommitMode, Incarnation, LogId, Lsn, Outcome, Token};
pub use disk::{IoBackend, LockHeld};
pub use engine::{
    BackupOptions, BackupProgress, BackupReport, CompactOptions, CompactProgress, CompactReport, CopyReport, Engine,
    MemoryStats, Options, ReadOnlyOptions, RestorePoint, TableStats,
};
pub use index::{Key, Value};
pub use log::failure::Poisoned;
pub use log::mark::MarkFound;
pub use log::open::decide::Recovery;
#[cfg(unix)]
pub use log::receipts::durable_fd::DurableFd;
pub use log::receipts::receipt::Receipt;
pub use log::retention::LogPin;
pub use log::stats::Stats;
pub use log::write::budget::LossWindow;
pub use txn::{
    CommitFuture, Entries, KeyBounds, Keyspace, Len, ReadOnly, Snapshot, Transaction, TryCommitError, WriteBatch,
};

pub mod salvage {
    //! What [`Engine::salvage`](crate::Engine::salvage) saved of a damaged database, and what it could not.
    pub use crate::care::salvage::{BadFile, Completeness, Gap, LossCause};
    pub use crate::engine::salvage::{LostKeys, RenamedKeyspace, Salvaged};
}

pub mod scrub {
    //! Checking a log in the background ([`Engine::scrub`](crate::Engine::scrub)), or at a rate
    //! ([`Engine::verify_with`](crate::Engine::verify_with)).
    pub use crate::care::pace::ScrubOptions;
    pub use crate::care::scrub::{Scrub, ScrubProgress};
}

pub mod limits {
    //! What is refused by its size, before anything is written.
    pub use crate::base::options::{
        MAX_CHECKPOINT_BYTES, MAX_SEGMENT_BYTES, MAX_TRANSACTION_BYTES, MIN_CHECKPOINT_BYTES, MIN_MEMORY_BYTES,
        MIN_SEGMENT_BYTES,
    };
    pub use crate::format::batch::{MAX_KEY_LEN, MAX_KEYSPACE_NAME_LEN, MAX_VALUE_LEN};
    #[cfg(unix)]
    pub use crate::log::receipts::bells::MAX_DURABLE_FDS;
}

#[cfg(feature = "unstable")]
pub mod unstable {
    //! Inner parts, for tools and tests that look inside. **No promise of stability**: anything here may change or go
    //! in any release, a patch release too.
    //!
    //! With this feature there are also [`Options::open_on`](crate::Options::open_on) and its like, which take a disk
    //! of your own.

    pub mod disk {
        //! The seam to the storage medium: a small object-safe trait with positional reads and writes.
        pub use crate::disk::{
            Access, Dir, DirCall, Disk, DiskFile, DiskLock, FailStop, FileId, FileLayer, FileStatus, Layer, Layered,
            LayeredFile, LockMode, Mapping, MemoryDisk, OsDisk, read_exact_at, write_all_at, write_and_sync,
        };
    }

    pub mod format {
        //! The payload of a transaction's record, and the decision table of recovery: see
        //! [the specification](crate::specification).
        pub use crate::format::FORMAT_VERSION;
        pub use crate::format::batch::{BATCH_VERSION, Batch, BatchBuilder, Malformed, Op, Ops, Reason, encoded_len};
        pub use crate::format::verdict::{FrameState, Row, TABLE, Verdict, verdict};
    }

    pub mod inspect {
        //! Looking at a log without opening it, frame by frame, changing nothing.
        pub use crate::care::dump::{DumpedFrame, DumpedMark, dump, is_unclosed, marks, verify_on};
        pub use crate::care::table_file::{
            TableField, TableItem, dump_table_file, verify_table_file, verify_table_file_on,
        };
    }
}

#[doc = include_str!("format/SPECIFICATION.md")]
pub mod specification {}

#[doc = include_str!("TRUST.md")]
pub mod trust {}

#[doc = include_str!("SCALE.md")]
pub mod scale {}

#[cfg(feature = "sim")]
pub mod sim {
    //! For crash tests: a simulated disk, and a scheduler under which everything follows from one seed.
    //!
    //! [`run`] runs a closure as the first thread of a simulation: the engine's threads and those begun with
    //! [`start`] take turns in an order drawn from the seed, on virtual time, over a [`SimDisk`].
    //!
    //! ```
    //! use forelog::sim::{self, Granularity, Loss, SimDisk};
    //! use forelog::{CommitMode, Options};
    //! use std::sync::Arc;
    //!
    //! sim::run(7, || {
    //!     let disk = SimDisk::new();
    //!     let engine = Options::new().segment_bytes(8192).open_on(Arc::new(disk.clone()), "db").unwrap();
    //!     let keys = engine.create_keyspace("keys").unwrap();
    //!     let mut tx = engine.begin().unwrap();
    //!     tx.put(&keys, b"k", b"v").unwrap();
    //!     tx.commit_with(CommitMode::Sync).unwrap();
    //!     let after_crash = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
    //!     let engine = Options::new().open_on(Arc::new(after_crash), "db").unwrap();
    //!     let keys = engine.create_keyspace("keys").unwrap();
    //!     assert_eq!(engine.snapshot().unwrap().get(&keys, b"k").unwrap().unwrap(), b"v");
    //! });
    //! ```
    pub use crate::disk::sim::*;
    pub use crate::engine::crash_test::{Crash, CrashTest, Explored, Told};
    #[cfg(shuttle)]
    pub use crate::index::load_dies_after;
    pub use crate::rt::moment::Moment;
    pub use crate::rt::schedule::{Simulated, now, run, sleep, start, yield_point};
}

/// The program of the README, compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
