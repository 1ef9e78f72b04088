//! Blocks against a plain list of entries, and against damage.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::block::{self, Block, BlockKind, BlockRef, Indexed};
use super::super::block_index::BlockIndex;
use super::super::data::{DataBlock, DataBuilder, Found, Interval};
use super::super::partition::{Partition, PartitionBuilder};
use super::super::range_tombstones;
use super::super::root::{Range, Root};
use super::super::{FileIdentity, filter, write_full_key};
use crate::base::types::{LogId, Lsn};
use crate::format::Refusal;

const INTERVAL: Interval = Interval { from: Lsn::new(800), to: Lsn::new(8000) };

fn identity(nonce: u64) -> FileIdentity {
    FileIdentity { log_id: LogId([7; 16]), number: 1, nonce }
}

type Entry = (Vec<u8>, Lsn, Option<Vec<u8>>);

/// Entries in the order of a run: few keys with many versions, and keys that share long prefixes.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let key = prop_oneof![vec(0..3_u8, 0..4), vec(0..2_u8, 0..40)];
    let entry = (0..3_u32, key, 101..=1000_u64, proptest::option::of(vec(any::<u8>(), 0..300)));
    vec(entry, 1..600).prop_map(|entries| {
        let full = |(id, key, word, value): (u32, Vec<u8>, u64, Option<Vec<u8>>)| {
            let mut full = Vec::new();
            write_full_key(&mut full, id, &key);
            (full, Lsn::new(8 * word), value)
        };
        let mut entries: Vec<Entry> = entries.into_iter().map(full).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        entries.dedup_by(|a, b| (&a.0, a.1) == (&b.0, b.1));
        entries
    })
}

/// Data blocks with one partition behind them, from position 512.
struct Written {
    bytes: Vec<u8>,
    partition: BlockRef,
}

fn write(entries: &[Entry]) -> Written {
    let checksum = identity(1).checksum();
    let (mut bytes, mut data, mut index) = (Vec::new(), DataBuilder::new(INTERVAL), PartitionBuilder::new(INTERVAL));
    let seal = |bytes: &mut Vec<u8>, (kind, content): ((BlockKind, u32), Vec<u8>)| {
        let position = 512 + bytes.len() as u64;
        block::seal(bytes, &checksum, position, kind, &content)
    };
    let end = |bytes: &mut Vec<u8>, data: &mut DataBuilder, index: &mut PartitionBuilder| {
        let separator = data.last_key().to_vec();
        index.add_block(&separator, seal(bytes, data.finish()));
    };
    let mut last: Option<&[u8]> = None;
    for (key, lsn, value) in entries {
        let version = Found { lsn: *lsn, value: value.as_deref() };
        if !data.push(key, version) {
            end(&mut bytes, &mut data, &mut index);
            assert!(data.push(key, version), "an empty block takes any entry");
        }
        if last.replace(key) != Some(key) {
            index.add_key(key);
        }
    }
    end(&mut bytes, &mut data, &mut index);
    let partition = seal(&mut bytes, index.finish());
    Written { bytes, partition }
}

impl Written {
    fn bytes_of(&self, block: BlockRef) -> &[u8] {
        let start = usize::try_from(block.position - 512).unwrap();
        &self.bytes[start..start + block.length as usize]
    }

    fn partition(&self) -> Partition<'_> {
        let block =
            block::open(self.bytes_of(self.partition), &identity(1).checksum(), self.partition, BlockKind::Partition);
        Partition::new(block.unwrap(), self.partition.position).unwrap()
    }

    fn data(&self, block: BlockRef) -> DataBlock<'_> {
        let block = block::open(self.bytes_of(block), &identity(1).checksum(), block, BlockKind::Data).unwrap();
        DataBlock::new(block, INTERVAL).unwrap()
    }

    /// The newest version of `key` at or below `at`, as a reader of the run finds it.
    fn newest(&self, key: &[u8], at: Lsn) -> Option<Found<'_>> {
        let blocks = BlockIndex::of(&self.partition().blocks().unwrap());
        blocks.candidates(key).find_map(|number| self.data(blocks.block(number)).newest(key, at).unwrap())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_run_is_the_list_of_its_entries(entries in entries()) {
        let written = write(&entries);
        let mut read = Vec::new();
        for indexed in written.partition().blocks().unwrap() {
            let mut cursor = written.data(indexed.block).cursor();
            while cursor.advance().unwrap() {
                let Found { lsn, value } = cursor.version();
                read.push((cursor.key().to_vec(), lsn, value.map(<[u8]>::to_vec)));
            }
            prop_assert_eq!(&indexed.separator, &read.last().unwrap().0);
        }
        prop_assert_eq!(read, entries);
    }

    #[test]
    fn each_version_is_found_at_its_lsn_and_none_below(entries in entries()) {
        let written = write(&entries);
        let keys: BTreeSet<&Vec<u8>> = entries.iter().map(|entry| &entry.0).collect();
        for key in keys {
            prop_assert!(written.partition().may_contain(filter::hash(key)));
            let own = entries.iter().filter(|entry| entry.0 == *key).map(|entry| entry.1.get());
            for at in (800..=8008).step_by(360).chain(own) {
                let expected = entries.iter().find(|(of, lsn, _)| of == key && lsn.get() <= at);
                let expected = expected.map(|(_, lsn, value)| Found { lsn: *lsn, value: value.as_deref() });
                prop_assert_eq!(written.newest(key, Lsn::new(at)), expected);
            }
            let mut absent = key.clone();
            absent.extend([2, 2]);
            prop_assert_eq!(written.newest(&absent, INTERVAL.to), newest(&entries, &absent));
        }
    }

    /// With a checksum that holds, as a bug of a writer would leave them: refused or read, never a panic.
    #[test]
    fn any_content_is_read_or_refused(
        content in vec(prop_oneof![0..4_u8, any::<u8>()], 0..400),
        count in 0..40_u32,
    ) {
        let block = Block { count, content: &content };
        if let Ok(data) = DataBlock::new(block, INTERVAL) {
            let mut cursor = data.cursor();
            while cursor.advance().is_ok_and(|more| more) {}
            let _ = data.newest(&[0, 0, 0, 1, 2], INTERVAL.to);
        }
        if let Ok(partition) = Partition::new(block, 4096) {
            let _ = (partition.blocks(), partition.may_contain(filter::hash(&content)));
        }
        let _ = range_tombstones::read(block, INTERVAL, (&[], &[]));
        let _ = Root::read(block, 512, 1024);
    }
}

fn newest<'a>(entries: &'a [Entry], key: &[u8]) -> Option<Found<'a>> {
    let found = entries.iter().find(|(of, _, _)| of == key);
    found.map(|(_, lsn, value)| Found { lsn: *lsn, value: value.as_deref() })
}

fn one_block() -> (Vec<u8>, BlockRef) {
    let mut builder = DataBuilder::new(INTERVAL);
    for number in 0..40_u8 {
        assert!(builder.push(&[0, 0, 0, 1, number], Found { lsn: Lsn::new(4000), value: Some(&[number; 3]) }));
    }
    let (kind, content) = builder.finish();
    let mut bytes = Vec::new();
    let block = block::seal(&mut bytes, &identity(1).checksum(), 512, kind, &content);
    (bytes, block)
}

#[test]
fn a_flipped_bit_of_a_block_is_refused() {
    let (mut bytes, block) = one_block();
    for bit in 0..8 * bytes.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let opened = block::open(&bytes, &identity(1).checksum(), block, BlockKind::Data);
        assert_eq!(opened.unwrap_err(), Refusal::Checksum, "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_block_of_another_file_place_or_moment_is_refused() {
    let (bytes, block) = one_block();
    let open = |identity: FileIdentity, block| block::open(&bytes, &identity.checksum(), block, BlockKind::Data);
    assert!(open(identity(1), block).is_ok());
    assert!(open(identity(2), block).is_err(), "of a file with another nonce");
    assert!(open(FileIdentity { number: 2, ..identity(1) }, block).is_err(), "of a file with another number");
    assert!(open(identity(1), BlockRef { position: 1024, ..block }).is_err(), "of another place");
    // Whole, and not the one that the parent has seen.
    let mut other = Vec::new();
    let stale = block::seal(&mut other, &identity(1).checksum(), 512, (BlockKind::Data, 1), &[0; 64]);
    assert!(block::open(&other, &identity(1).checksum(), stale, BlockKind::Data).is_ok());
    let asked = BlockRef { length: stale.length, ..block };
    assert!(block::open(&other, &identity(1).checksum(), asked, BlockKind::Data).is_err(), "of another moment");
    assert!(block::open(&bytes, &identity(1).checksum(), block, BlockKind::Root).is_err(), "of another kind");
}

/// An index says little more of a key than what it shares with the one before, so that one of a few kilobytes could ask for
/// gigabytes of them. A key in full stands in its data block: what is longer than the block is not in it.
#[test]
fn an_index_has_no_more_bytes_of_keys_than_there_are_of_blocks() {
    for (length, is_read) in [(40, true), (60_000, false)] {
        let separator = vec![1; length];
        let (count, spacing) = (1000, 128_u64);
        let indexed = |number: u64| {
            let block = BlockRef { position: 512 + number * spacing + 64, length: 64, crc: 1 };
            Indexed { separator: separator.clone(), block }
        };
        let all = Range::default();
        let partitions = (0..count).map(indexed).collect();
        let root = Root { range: all.clone(), reach: all, partitions, witnesses: Vec::new() };
        let ((_, number), content) = root.to_content();
        assert!(content.len() < 90_000, "{} bytes", content.len());
        let read = Root::read(Block { count: number, content: &content }, 512, 512 + count * spacing);
        assert_eq!(read.is_ok(), is_read, "a root with separators of {length} bytes");
        let mut builder = PartitionBuilder::new(INTERVAL);
        builder.add_key(&separator);
        for number in 0..64 {
            builder.add_block(&separator, BlockRef { position: 512 + number * 64, length: 64, crc: 1 });
        }
        let ((_, number), content) = builder.finish();
        let partition = Partition::new(Block { count: number, content: &content }, 512 + 64 * 64).unwrap();
        assert_eq!(partition.blocks().is_ok(), is_read, "a partition with separators of {length} bytes");
    }
}

#[test]
fn an_unknown_compression_is_not_damage() {
    let (mut bytes, block) = one_block();
    bytes[9] = 3;
    let mut hasher = identity(1).checksum();
    hasher.update(&512_u64.to_le_bytes());
    hasher.update(&bytes[4..]);
    let crc = hasher.finalize();
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    let opened = block::open(&bytes, &identity(1).checksum(), BlockRef { crc, ..block }, BlockKind::Data);
    assert_eq!(opened.unwrap_err(), Refusal::Compression(3));
}

/// The layers above the lowest one are asked first, and rarely for nothing.
#[test]
fn a_filter_lets_few_other_keys_through() {
    let hashes: Vec<u64> = (0..2_000_u32).map(|number| filter::hash(&number.to_be_bytes())).collect();
    let others_of = |from: u64| {
        let interval = Interval { from: Lsn::new(from), to: Lsn::new(1 << 20) };
        let filter = filter::build(&hashes, filter::bits_per_key(interval));
        assert!(hashes.iter().all(|hash| filter::may_contain(&filter, *hash)));
        (2_000..102_000_u32).filter(|n| filter::may_contain(&filter, filter::hash(&n.to_be_bytes()))).count()
    };
    let (lowest, above) = (others_of(0), others_of(8));
    assert!(lowest < 2_000 && above < 300, "{lowest} and {above} of 100,000");
}
