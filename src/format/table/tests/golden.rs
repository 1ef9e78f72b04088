//! The bytes of each file in `table/` are those of TABLES.md, field by field.
//!
//! The literals were computed outside this crate, from the page alone (zlib's `crc32` and splitmix64).

use super::super::block::{self, BlockKind, BlockRef, Indexed};
use super::super::data::{DataBlock, DataBuilder, Found, Interval};
use super::super::keyspaces::{Keyspace, Keyspaces};
use super::super::manifest::{Layer, Manifest, NamedFile, NamedRun, Role, Written};
use super::super::partition::{Partition, PartitionBuilder};
use super::super::range_tombstones::{self, RangeTombstone, Says};
use super::super::root::{Range, Root, Witness};
use super::super::run::{Counts, Footer, RunHeader, SECTOR};
use super::super::{FileIdentity, write_full_key};
use super::hex;
use crate::base::types::{Incarnation, LogId, Lsn};

const DATA: &str = "6fb93726500000000100000004000000140000000009000000016170706c651801037265640900ff0300080179000100
    0301028f03011478787878787878787878787878787878787878780000000000";
const PARTITION: &str =
    "5c97c28f7000000002000000010000000002000000000000010000000000000000200400000000012200001000050010
    400400000000000000040000000020000000000000000000090000000020000000000000000000400000000000008000
    000400000002506fb937260000000000";
const RANGE_TOMBSTONES: &str =
    "63c4825840000000030000000300000005000000016205000000016300000500000001620500000001638f0300050000
    0001780400000002a803015800000000";
const ROOT: &str = "e3b559d25800000004000000010000000600000001617005000000020000040000000300040000000250020000000000
    00700000005c97c28f0104000000000000004d000000000000000500000000610400000001000000";
const HEADER: &str = "666f726572756e1af66e621b0100000000000000000000000000000000000000000102030405060708090a0b0c0d0e0f
    0500000000000000887766554433221100100000000000000020000000000000030000000000000000ffeeddccbbaa99";
const FOOTER: &str = "666f7265666f6f745a1a340f0100000000000000000000000000000000000000000102030405060708090a0b0c0d0e0f
    0500000000000000887766554433221100100000000000000020000000000000030000000000000000ffeeddccbbaa99
    5805000000000000000300000000000058000000e3b559d2c0020000000000004000000063c482580000000000000000
    000000000000000004000000000000000100000000000000030000000000000008100000000000000020000000000000
    0f000000000000001700000000000000";
const KEYSPACES: &str =
    "666f72656b6579739ad204cc0100000000000000000000000000000000000000000102030405060708090a0b0c0d0e0f
    060000000000000009000000000000000020000000000000030000000000000000ffeeddccbbaa990800000003000000
    010000000500000000020000000000000000000000000000757365727302000000030000005802000000000000401f00
    00000000006f6c64070000000200000000200000000000000000000000000000c3a9";
const MANIFEST: &str =
    "666f72656d616e691405447f0100000000000000000000000000000000000000000102030405060708090a0b0c0d0e0f
    11000000000000000030000000000000030000000000000000ffeeddccbbaa9900100000000000000b00000000000000
    040000000100000006000000000000000900000000000000b2000000000000009ad204cc000000000100000000000000
    020000000000000003000000000000000400000000000000000000000000000000000000000000000000000000000000
    000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    000000000000000000000000000000000020000000000000003000000000000002000000000000000000000009000000
    0000000001000000000000000008000000000000ddccbbaa580200000a00000000000000020000000000000000000000
    0000000000300000000000000005000000016104016d0a00000000000000020000000000000000100000000000000100
    0000bc020000140000000000000000000000000000000100000000000000282300000000000005000000001000000000
    000000200000000000000100000001000000000000000500000000000000887766554433221158050000000000005a1a
    340f98020000040000000000000001000000000000000300000000000000002000000000000000060000000161700302
    020000000000000000000010000000000000000000000100000000000000000000000000000000200000000000000100
    000002000000060000000000000161700800000000000000030000000000000040040000000000000200000040020000
    000000000000000000000000000000000000000000000000000000000000000000000004000000010700000000000000
    3700000000000000b80b0000000000006300000000000000";

const BRANCH: Incarnation = Incarnation { number: 3, nonce: 0x99AA_BBCC_DDEE_FF00 };
const INTERVAL: Interval = Interval { from: Lsn::new(4096), to: Lsn::new(8192) };
const LENGTH: u64 = 1368;
const RANGE_TOMBSTONES_AT: u64 = 704;

fn log_id() -> LogId {
    LogId(std::array::from_fn(|i| u8::try_from(i).unwrap()))
}

fn identity() -> FileIdentity {
    FileIdentity { log_id: log_id(), number: 5, nonce: 0x1122_3344_5566_7788 }
}

fn full(id: u32, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::new();
    write_full_key(&mut full, id, key);
    full
}

fn sealed(position: u64, (kind, content): ((BlockKind, u32), Vec<u8>)) -> (Vec<u8>, BlockRef) {
    let mut bytes = Vec::new();
    let block = block::seal(&mut bytes, &identity().checksum(), position, kind, &content);
    (bytes, block)
}

/// Full key, LSN, value.
type Entry = (Vec<u8>, u64, Option<&'static [u8]>);

fn entries() -> [Entry; 4] {
    [
        (full(1, b"apple"), 8000, Some(b"red")),
        (full(1, b"apple"), 4104, None),
        (full(1, b"apply"), 8192, Some(b"")),
        (full(2, b""), 5000, Some(&[b'x'; 20])),
    ]
}

fn data() -> (Vec<u8>, BlockRef) {
    let mut builder = DataBuilder::new(INTERVAL);
    for (key, lsn, value) in entries() {
        assert!(builder.push(&key, Found { lsn: Lsn::new(lsn), value }));
    }
    assert_eq!(builder.last_key(), full(2, b""));
    sealed(512, builder.finish())
}

fn partition() -> (Vec<u8>, BlockRef) {
    let (bytes, data) = data();
    let mut builder = PartitionBuilder::new(INTERVAL);
    [full(1, b"apple"), full(1, b"apply"), full(2, b"")].iter().for_each(|key| builder.add_key(key));
    builder.add_block(&full(2, b""), data);
    sealed(512 + bytes.len() as u64, builder.finish())
}

fn range_tombstones() -> Vec<RangeTombstone> {
    let b_to_c =
        |lsn| RangeTombstone { start: full(1, b"b"), end: full(1, b"c"), lsn: Lsn::new(lsn), says: Says::Deleted };
    let lost = Says::LostAbove(Lsn::new(4096));
    let from_x = RangeTombstone { start: full(1, b"x"), end: full(2, b""), lsn: Lsn::new(4800), says: lost };
    vec![b_to_c(8192), b_to_c(5000), from_x]
}

fn range() -> Range {
    Range { low: full(1, b"ap"), high: full(2, b"\0") }
}

fn root() -> Root {
    let (_, partition) = partition();
    Root {
        range: range(),
        reach: Range { low: Vec::new(), high: full(3, b"") },
        partitions: vec![Indexed { separator: full(2, b""), block: partition }],
        witnesses: vec![Witness { number: 4, nonce: 77, range: Range { low: full(0, b"a"), high: full(1, b"") } }],
    }
}

pub(super) fn footer() -> Footer {
    let (tombstones, block) = sealed(RANGE_TOMBSTONES_AT, range_tombstones::build(&range_tombstones(), INTERVAL));
    let (_, root) = sealed(RANGE_TOMBSTONES_AT + tombstones.len() as u64, root().to_content());
    Footer {
        header: RunHeader { identity: identity(), interval: INTERVAL, branch: BRANCH },
        length: LENGTH,
        root,
        range_tombstones: Some(block),
        counts: Counts {
            entries: 4,
            tombstones: 1,
            range_tombstones: 3,
            oldest: Lsn::new(4104),
            newest: Lsn::new(8192),
            key_bytes: 15,
            value_bytes: 23,
        },
    }
}

pub(super) fn keyspaces() -> Keyspaces {
    let keyspace = |id, name: &str, created, dropped: Option<u64>| Keyspace {
        id,
        name: name.to_owned(),
        created: Lsn::new(created),
        dropped: dropped.map(Lsn::new),
    };
    Keyspaces {
        identity: FileIdentity { log_id: log_id(), number: 6, nonce: 9 },
        to: Lsn::new(8192),
        branch: BRANCH,
        next_id: 8,
        list: vec![
            keyspace(1, "users", 512, None),
            keyspace(2, "old", 600, Some(8000)),
            keyspace(7, "\u{e9}", 8192, None),
        ],
    }
}

fn run(file: (u64, u64, u64, u32), tail: u32, counts: [u64; 4], low: Vec<u8>, high: Vec<u8>) -> NamedRun {
    let (number, nonce, length, crc) = file;
    let [entries, tombstones, range_tombstones, newest] = counts;
    let file = NamedFile { number, nonce, length, crc };
    NamedRun { file, tail, entries, tombstones, range_tombstones, newest: Lsn::new(newest), range: Range { low, high } }
}

fn layer(from: u64, to: u64, role: Role, runs: Vec<NamedRun>) -> Layer {
    Layer { interval: Interval { from: Lsn::new(from), to: Lsn::new(to) }, role, runs }
}

pub(super) fn manifest() -> Manifest {
    let crc = Footer::crc(&footer().to_bytes());
    let list = keyspaces().to_bytes();
    let first = run((9, 1, 2048, 0xAABB_CCDD), 600, [10, 2, 0, 12288], full(1, b"a"), full(1, b"m"));
    let second = run((10, 2, 4096, 1), 700, [20, 0, 1, 9000], full(1, b"m"), Vec::new());
    let ours = run((5, 0x1122_3344_5566_7788, LENGTH, crc), 664, [4, 1, 3, 8192], range().low, range().high);
    let empty = run((8, 3, 1088, 2), 576, [0; 4], Vec::new(), full(1, b""));
    Manifest {
        log_id: log_id(),
        generation: 17,
        to: Lsn::new(12288),
        branch: BRANCH,
        oldest: Lsn::new(4096),
        next_number: 11,
        keyspaces: NamedFile { number: 6, nonce: 9, length: list.len() as u64, crc: Keyspaces::crc(&list) },
        written: Written { log_read: 1, by_checkpoints: 2, by_merges: 3, lists: 4 },
        layers: vec![
            layer(8192, 12288, Role::Whole, vec![first, second]),
            layer(4096, 8192, Role::Input, vec![ours]),
            layer(0, 4096, Role::Input, Vec::new()),
            layer(0, 8192, Role::Output { cursor: full(1, b"ap") }, vec![empty]),
        ],
        aside: vec![NamedFile { number: 7, nonce: 55, length: 3000, crc: 99 }],
    }
}

#[test]
fn the_blocks_of_a_run_are_the_golden_bytes() {
    let (data_bytes, data_ref) = data();
    assert_eq!(data_bytes, hex(DATA));
    let (partition_bytes, partition_ref) = partition();
    assert_eq!(partition_bytes, hex(PARTITION));
    let of_ranges = sealed(RANGE_TOMBSTONES_AT, range_tombstones::build(&range_tombstones(), INTERVAL));
    assert_eq!(of_ranges.0, hex(RANGE_TOMBSTONES));
    let (root_bytes, root_ref) = sealed(of_ranges.1.end().unwrap(), root().to_content());
    assert_eq!(root_bytes, hex(ROOT));

    let checksum = identity().checksum();
    let open = |bytes, block, kind| block::open(bytes, &checksum, block, kind).unwrap();
    let block = DataBlock::new(open(&data_bytes, data_ref, BlockKind::Data), INTERVAL).unwrap();
    let mut cursor = block.cursor();
    for (key, lsn, value) in entries() {
        assert!(cursor.advance().unwrap());
        assert_eq!((cursor.key(), cursor.version()), (key.as_slice(), Found { lsn: Lsn::new(lsn), value }));
    }
    assert!(!cursor.advance().unwrap());
    let index = Partition::new(open(&partition_bytes, partition_ref, BlockKind::Partition), partition_ref.position);
    assert_eq!(index.unwrap().blocks().unwrap().iter().map(|one| one.block).collect::<Vec<_>>(), [data_ref]);
    let Range { low, high } = range();
    let block = open(&of_ranges.0, of_ranges.1, BlockKind::RangeTombstones);
    assert_eq!(range_tombstones::read(block, INTERVAL, (&low, &high)).unwrap(), range_tombstones());
    let block = open(&root_bytes, root_ref, BlockKind::Root);
    assert_eq!(Root::read(block, 512, RANGE_TOMBSTONES_AT).unwrap(), root());
}

#[test]
fn the_header_and_the_footer_of_a_run_are_the_golden_bytes() {
    let padded = |text| {
        let mut bytes = hex(text);
        bytes.resize(SECTOR, 0);
        bytes
    };
    assert_eq!(footer().header.to_bytes().to_vec(), padded(HEADER));
    assert_eq!(footer().to_bytes().to_vec(), padded(FOOTER));
    assert_eq!(RunHeader::decode(&footer().header.to_bytes()), Ok(footer().header));
    assert_eq!(Footer::decode(&footer().to_bytes()), Ok(footer()));
    assert_eq!((footer().blocks_end(), footer().tail()), (RANGE_TOMBSTONES_AT, LENGTH - RANGE_TOMBSTONES_AT));
}

#[test]
fn the_lists_are_the_golden_bytes() {
    assert_eq!(keyspaces().to_bytes(), hex(KEYSPACES));
    assert_eq!(Keyspaces::decode(&hex(KEYSPACES)), Ok(keyspaces()));
    assert_eq!(manifest().to_bytes(), hex(MANIFEST));
    assert_eq!(Manifest::decode(&hex(MANIFEST)), Ok(manifest()));
}
