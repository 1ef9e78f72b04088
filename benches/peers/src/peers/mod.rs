//! Everything that is measured, one file each.

#[cfg(feature = "canopydb")]
mod canopydb;
#[cfg(feature = "fjall")]
mod fjall;
mod forelog;
#[cfg(feature = "heed")]
mod lmdb;
#[cfg(feature = "okaywal")]
mod okaywal;
mod postgres;
#[cfg(feature = "raft-engine")]
mod raft_engine;
mod raw;
#[cfg(feature = "redb")]
mod redb;
mod redis;
mod rocksdb;
mod server;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "rusqlite")]
mod sqlite;
#[cfg(feature = "surrealkv")]
mod surrealkv;
#[cfg(feature = "wal-db")]
mod wal_db;
#[cfg(feature = "walrus-rust")]
mod walrus;

use crate::peer::Peer;

/// The name of the raw limit and of the engine that the others are compared with.
pub const RAW: &str = raw::PEER.name;
pub const OURS: &str = forelog::ENGINE.name;

/// In the order in which they are shown.
pub const ALL: &[&Peer] = &[
    &raw::PEER,
    &forelog::ENGINE,
    &forelog::LOG,
    #[cfg(feature = "fjall")]
    &fjall::PEER,
    #[cfg(feature = "redb")]
    &redb::PEER,
    #[cfg(feature = "rusqlite")]
    &sqlite::PEER,
    &rocksdb::PEER,
    #[cfg(feature = "heed")]
    &lmdb::PEER,
    #[cfg(feature = "raft-engine")]
    &raft_engine::PEER,
    #[cfg(feature = "sled")]
    &sled::PEER,
    #[cfg(feature = "canopydb")]
    &canopydb::PEER,
    #[cfg(feature = "surrealkv")]
    &surrealkv::PEER,
    #[cfg(feature = "okaywal")]
    &okaywal::PEER,
    #[cfg(feature = "walrus-rust")]
    &walrus::PEER,
    #[cfg(feature = "wal-db")]
    &wal_db::PEER,
    &postgres::PEER,
    &redis::PEER,
];

pub fn named(name: &str) -> Option<&'static Peer> {
    ALL.iter().copied().find(|peer| peer.name == name)
}
