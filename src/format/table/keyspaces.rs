//! A file of keyspaces: which there were at an LSN (TABLES.md, section 2.2).

use std::collections::HashSet;

use super::super::batch::MAX_KEYSPACE_NAME_LEN;
use super::super::fields::{put, u32_at, u64_at};
use super::super::preamble::Kind;
use super::super::{Check, Refusal, WORD, preamble};
use super::reader::Reader;
use super::{FileIdentity, MAX_LIST_BYTES, branch_at, branch_to_bytes};
use crate::base::types::{Incarnation, Lsn};

const IDENTITY: usize = 32;
const TO: usize = 64;
const BRANCH: usize = 72;
const NEXT_ID: usize = 88;
const COUNT: usize = 92;
/// Length of the part with fixed offsets.
pub(crate) const HEADER: usize = 96;
/// The least bytes of a keyspace.
const LEAST: usize = 25;

/// A keyspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Keyspace {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// The LSN of the commit that created it.
    pub(crate) created: Lsn,
    /// The LSN of the commit that dropped it; `None` while it is alive.
    pub(crate) dropped: Option<Lsn>,
}

/// The content of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Keyspaces {
    pub(crate) identity: FileIdentity,
    /// When this was true.
    pub(crate) to: Lsn,
    /// The incarnation in which `to` lies.
    pub(crate) branch: Incarnation,
    pub(crate) next_id: u32,
    /// By id.
    pub(crate) list: Vec<Keyspace>,
}

impl Keyspaces {
    pub(crate) const MAGIC: [u8; 8] = *b"forekeys";
    const KIND: Kind = Kind::plain(Self::MAGIC);

    /// Begins to check a file that comes in pieces, with the first one.
    pub(crate) fn begin_check(head: &[u8]) -> Result<Check, Refusal> {
        Check::begin(head, Keyspaces::KIND)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        let narrow = |number: usize| u32::try_from(number).expect("an id has 32 bits, a name 255 bytes").to_le_bytes();
        put(&mut bytes, IDENTITY, &self.identity.to_bytes());
        put(&mut bytes, TO, &self.to.get().to_le_bytes());
        put(&mut bytes, BRANCH, &branch_to_bytes(self.branch));
        put(&mut bytes, NEXT_ID, &self.next_id.to_le_bytes());
        put(&mut bytes, COUNT, &narrow(self.list.len()));
        for keyspace in &self.list {
            bytes.extend_from_slice(&keyspace.id.to_le_bytes());
            bytes.extend_from_slice(&narrow(keyspace.name.len()));
            bytes.extend_from_slice(&keyspace.created.get().to_le_bytes());
            bytes.extend_from_slice(&keyspace.dropped.unwrap_or(Lsn::ZERO).get().to_le_bytes());
            bytes.extend_from_slice(keyspace.name.as_bytes());
        }
        preamble::write(&mut bytes, Keyspaces::KIND);
        bytes
    }

    /// What MANIFEST calls the CRC of this file.
    pub(crate) fn crc(bytes: &[u8]) -> u32 {
        preamble::crc(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        preamble::check(bytes, Keyspaces::KIND)?;
        match Keyspaces::read(bytes) {
            Some(keyspaces) if keyspaces.is_consistent() => Ok(keyspaces),
            _ => Err(Refusal::Impossible),
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (head, list) = bytes.split_at_checked(HEADER)?;
        let count = u32_at(head, COUNT) as usize;
        if bytes.len() as u64 > MAX_LIST_BYTES || count.checked_mul(LEAST)? > list.len() {
            return None;
        }
        let mut reader = Reader::new(list);
        let list = (0..count).map(|_| read_keyspace(&mut reader)).collect::<Option<_>>()?;
        reader.rest().is_empty().then_some(Keyspaces {
            identity: FileIdentity::at(head, IDENTITY),
            to: Lsn::new(u64_at(head, TO)),
            branch: branch_at(head, BRANCH),
            next_id: u32_at(head, NEXT_ID),
            list,
        })
    }

    fn is_consistent(&self) -> bool {
        let ids = self.list.is_sorted_by(|a, b| a.id < b.id) && self.list.iter().all(|one| one.id < self.next_id);
        let mut names = HashSet::new();
        let alive = |one: &&Keyspace| one.dropped.is_none();
        let unique = self.list.iter().filter(alive).all(|one| names.insert(one.name.as_str()));
        let lsns = self.list.iter().all(|one| {
            let last = one.dropped.unwrap_or(one.created);
            one.created > Lsn::ZERO && one.dropped.is_none_or(|dropped| one.created < dropped) && last <= self.to
        });
        let is_empty = self.to == Lsn::ZERO;
        self.identity.is_possible()
            && self.to.get().is_multiple_of(WORD)
            && is_empty == (self.branch == Incarnation { number: 0, nonce: 0 })
            && ids
            && unique
            && lsns
    }
}

fn read_keyspace(reader: &mut Reader<'_>) -> Option<Keyspace> {
    let (id, length) = (reader.u32()?, reader.u32()? as usize);
    let (created, dropped) = (Lsn::new(reader.u64()?), Lsn::new(reader.u64()?));
    let name = reader.bytes(length).filter(|name| (1..=MAX_KEYSPACE_NAME_LEN).contains(&name.len()))?;
    let name = str::from_utf8(name).ok()?.to_owned();
    Some(Keyspace { id, name, created, dropped: (dropped != Lsn::ZERO).then_some(dropped) })
}
