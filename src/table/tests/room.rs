//! What a checkpoint writes at most, against the worst that logs can hold.

use super::*;
use crate::format::batch::BatchBuilder;
use crate::format::table::data::Interval;
use crate::table::checkpoint::Piece;
use crate::table::merge::Retain;
use crate::table::room::{OF_THE_REST, TakenIn, most_written};
use crate::table::sort::Sorter;

/// Records behind the first layer. Each is so far behind the one before that the age of an entry takes four bytes.
struct Records {
    store: Store,
    dir: Arc<dyn Dir>,
    sorter: Sorter,
    keyspaces: KeyspaceList,
    to: Lsn,
    bytes: u64,
    ops: u64,
}

impl Records {
    fn new() -> Self {
        let dir = memory_dir();
        let store = new_store(&dir);
        let (sorter, keyspaces) = Default::default();
        let mut records = Records { store, dir, sorter, keyspaces, to: Lsn::ZERO, bytes: 0, ops: 0 };
        records.add(|batch| batch.create_keyspace(0, "keys").unwrap());
        records.write(u64::MAX);
        (records.bytes, records.ops) = (0, 0);
        records
    }

    fn add(&mut self, fill: impl FnOnce(&mut BatchBuilder)) {
        let mut batch = BatchBuilder::new();
        fill(&mut batch);
        let batch = batch.batch();
        self.to = Lsn::new(self.to.get() + (1 << 16));
        self.keyspaces.add(self.to, &batch);
        self.sorter.add(self.to, &batch);
        self.bytes += batch.bytes().len() as u64;
        self.ops += batch.len() as u64;
    }

    fn write(&mut self, run_bytes: u64) {
        let from = self.store.stack().map_or(Lsn::ZERO, |stack| stack.manifest.to);
        let horizon = Retain { floor: self.to, held: Vec::new(), is_last: false };
        let (interval, writes) = (Interval { from, to: self.to }, std::mem::take(&mut self.sorter).finish());
        let keyspaces = self.keyspaces.clone();
        let piece =
            Piece { interval, branch: BRANCH, writes, ranges: Vec::new(), keyspaces, horizon, log_bytes: self.bytes };
        let mut layer = self.store.write_layer(piece, run_bytes).unwrap();
        layer.install(|oldest| oldest, |_| ()).unwrap();
    }

    /// Makes a checkpoint of them, whose MANIFEST is written beside the one before. Returns what was reckoned, of what is known.
    fn check(mut self, what: &str, run_length: impl Fn(u64) -> u64) -> u64 {
        let (before, lists) = (bytes_of(&self.dir), self.store.stack().unwrap().bytes_of_lists());
        let old_manifest = self.store.stack().unwrap().manifest.to_bytes().len() as u64;
        self.write(run_length(self.bytes));
        let written = bytes_of(&self.dir) + old_manifest - before;
        let known = TakenIn { bytes: self.bytes, ops: self.ops, growth: 0 };
        let unknown = TakenIn { bytes: 0, ops: 0, growth: self.bytes };
        let reckoned = [(known, "known"), (unknown, "unknown")].map(|(taken, how)| {
            let most = most_written(taken, lists, &run_length) - OF_THE_REST;
            assert!(written <= most, "{what}, {how}: {written} bytes of {}, and at most {most}", self.bytes);
            most
        });
        reckoned[0]
    }
}

fn bytes_of(dir: &Arc<dyn Dir>) -> u64 {
    dir.list().unwrap().iter().map(|name| dir.open(name, Access::Read).unwrap().len().unwrap()).sum()
}

#[test]
fn a_checkpoint_writes_no_more_than_is_reckoned() {
    for run_bytes in [2 << 10, 64 << 10, 32 << 20] {
        let mut short = Records::new();
        for key in 0..=u16::MAX {
            short.add(|batch| batch.delete(0, &key.to_be_bytes()).unwrap());
        }
        short.check("deletions of short keys", |_| run_bytes);
        // Two of these do not fit into a block.
        for (length, count) in [(65_535, 40_u16), (2040, 1000), (1350, 1000), (700, 1000), (100, 20_000)] {
            let mut long = Records::new();
            for number in 0..count {
                let mut key = vec![0; length];
                key[..2].copy_from_slice(&number.to_be_bytes());
                long.add(|batch| batch.delete(0, &key).unwrap());
            }
            long.check(&format!("keys of {length} bytes"), |_| run_bytes);
        }
        let mut large = Records::new();
        for number in 0..2000_u16 {
            large.add(|batch| batch.put(0, &number.to_be_bytes(), &[7; 2050]).unwrap());
        }
        large.add(|batch| batch.put(0, b"one", &vec![7; 3 << 20]).unwrap());
        large.check("values that fill half a block", |_| run_bytes);
        let mut spaces = Records::new();
        for number in 1..40_000_u32 {
            // The shortest names that are left.
            let name = char::from_u32(0x100 + number).unwrap_or('x').to_string() + &format!("{:x}", number / 0x4000);
            spaces.add(|batch| batch.create_keyspace(number, &name).unwrap());
            spaces.add(|batch| batch.delete(number, b"").unwrap());
        }
        spaces.check("keyspaces with one entry", |_| run_bytes);
        let mut listed = Records::new();
        listed.add(|batch| {
            (1..200_000_u32).for_each(|number| batch.create_keyspace(number, &format!("{number:x}")).unwrap());
        });
        listed.check("keyspaces without entries", |_| run_bytes);
        let mut one = Records::new();
        one.add(|batch| batch.delete(0, b"").unwrap());
        one.check("one entry", |_| run_bytes);
    }
}

/// Runs of half a checkpoint, as it would have them by itself, would have the longest bounds twenty thousand times: 16 GB.
#[test]
fn for_a_transaction_of_many_checkpoints_no_multiple_of_it_is_reckoned_but_a_few() {
    const BYTES: usize = 40 << 20;
    let run_length = |records: u64| (records / 128).max(2 << 10);
    for (count, times) in [(1_u32, 2), (40, 3), (20_000, 9), (640_000, 10)] {
        let mut records = Records::new();
        let value = vec![7; BYTES / count as usize - 4];
        records.add(|batch| (0..count).for_each(|key| batch.put(0, &key.to_be_bytes(), &value).unwrap()));
        let (bytes, what) = (records.bytes, format!("{count} values"));
        let most = records.check(&what, run_length);
        assert!(most <= times * bytes, "{what}: {most} is reckoned for {bytes}");
    }
    let mut keys = Records::new();
    keys.add(|batch| {
        for number in 0..640_u16 {
            let mut key = vec![0; 65_535];
            key[..2].copy_from_slice(&number.to_be_bytes());
            batch.delete(0, &key).unwrap();
        }
    });
    keys.check("long keys", run_length);
}
