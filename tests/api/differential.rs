//! One history on three engines: on one all data fit in memory, on one they are many times what it may keep, and one has no
//! tables. They must give the same answers.

use std::ops::Bound;

use crashkit::{Random, TempDir, seed};
use forelog::{Checkpoints, CommitMode, Engine, ErrorKind, Keyspace, Options, Snapshot, Transaction};

const KEYS: usize = 20_000;
const NAMES: [&str; 2] = ["a", "b"];
/// What the history ends with, in bytes of values: four times what the smallest engine keeps of it, 3.5 MiB.
const LEAST: usize = 14 << 20;

type Entry = (Vec<u8>, Vec<u8>);
type Write = (usize, usize, Option<u64>);

fn options() -> [Options; 3] {
    let all = || Options::new().commit_mode(CommitMode::Async).checkpoints(Checkpoints::OnRequest);
    [
        all().memory_bytes(1 << 30).checkpoint_bytes(4 << 20),
        all().memory_bytes(16 << 20).checkpoint_bytes(1 << 20),
        all().memory_bytes(1 << 30).checkpoints(Checkpoints::Never),
    ]
}

fn key(number: usize) -> [u8; 8] {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn value(id: u64) -> Vec<u8> {
    let length = match id % 16 {
        0 => 3_000,
        1..4 => 0,
        part => 100 * usize::try_from(part).unwrap(),
    };
    crashkit::mix(id).to_be_bytes().repeat(length / 8)
}

/// What is the same for all engines.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, of: [T; 3]) -> T {
    let [first, second, third] = of;
    assert!(first == second, "{what}: in memory {first:?}, with little memory {second:?}");
    assert!(first == third, "{what}: with tables {first:?}, without {third:?}");
    first
}

/// Open transactions, with what they write, and whether one of the engines may see a conflict that another does not.
struct Open {
    txs: [Transaction; 3],
    writes: Vec<Write>,
    may_differ: bool,
}

#[derive(Debug, Default)]
struct Counts {
    conflicts: u64,
    for_what_was_forgotten: u64,
    compared: u64,
    ranges: u64,
    drops: u64,
}

struct Three {
    random: Random,
    dirs: [TempDir; 3],
    engines: [Engine; 3],
    keyspaces: [[Keyspace; 2]; 3],
    held: Vec<[Snapshot; 3]>,
    open: Vec<Open>,
    ids: u64,
    counts: Counts,
}

impl Three {
    fn new(seed: u64) -> Self {
        let dirs = ["fits", "outgrows", "without-tables"].map(|name| TempDir::new(&format!("same-{name}")));
        let mut options = options().into_iter();
        let engines = dirs.each_ref().map(|dir| options.next().unwrap().open(dir.join("db")).unwrap());
        let keyspaces = engines.each_ref().map(|engine| NAMES.map(|name| engine.create_keyspace(name).unwrap()));
        let (held, open, counts) = Default::default();
        Three { random: Random::new(seed), dirs, engines, keyspaces, held, open, ids: 0, counts }
    }

    fn write(&mut self) -> Write {
        self.ids += 1;
        let (keyspace, number) = (self.random.below(2), self.random.below(KEYS));
        (keyspace, number, (!self.random.one_in(8)).then_some(self.ids))
    }

    fn batch(&mut self, length: usize) {
        let writes: Vec<_> = (0..length).map(|_| self.write()).collect();
        // Where memory does not know the key, its deletion may have been a change.
        let is_absent = |(keyspace, number, value): &Write| {
            let found =
                || self.engines[2].snapshot().unwrap().get(&self.keyspaces[2][*keyspace], key(*number)).unwrap();
            value.is_none() && found().is_none()
        };
        if !self.open.is_empty() && writes.iter().any(is_absent) {
            self.open.iter_mut().for_each(|open| open.may_differ = true);
        }
        (0..3).for_each(|number| self.commit_batch(number, &writes));
    }

    fn commit_batch(&self, number: usize, writes: &[Write]) {
        let mut batch = self.engines[number].batch().unwrap();
        for (keyspace, at, id) in writes {
            let keyspace = &self.keyspaces[number][*keyspace];
            match id {
                Some(id) => batch.put(keyspace, key(*at), value(*id)).unwrap(),
                None => batch.delete(keyspace, key(*at)).unwrap(),
            }
        }
        batch.commit().unwrap();
    }

    /// Some tens of keys, of which memory may know none.
    fn delete_range(&mut self) {
        let (keyspace, low) = (self.random.below(2), key(self.random.below(KEYS)));
        let high = (u64::from_be_bytes(low).saturating_add(1 << 55)).to_be_bytes();
        for (engine, keyspaces) in self.engines.iter().zip(&self.keyspaces) {
            let mut batch = engine.batch().unwrap();
            batch.delete_range(&keyspaces[keyspace], low..high).unwrap();
            batch.commit().unwrap();
        }
        self.open.iter_mut().for_each(|open| open.may_differ = true);
        self.counts.ranges += 1;
    }

    /// Drops a keyspace and begins it anew. What is held goes on with the old one.
    fn drop_one(&mut self) {
        while !self.open.is_empty() {
            self.commit(0);
        }
        let keyspace = self.random.below(2);
        for (engine, keyspaces) in self.engines.iter().zip(&mut self.keyspaces) {
            engine.drop_keyspace(NAMES[keyspace]).unwrap();
            keyspaces[keyspace] = engine.create_keyspace(NAMES[keyspace]).unwrap();
        }
        self.counts.drops += 1;
    }

    fn begin(&mut self) {
        let mut txs = self.engines.each_ref().map(|engine| engine.begin().unwrap());
        for _ in 0..self.random.between(1, 4) {
            let (keyspace, number) = (self.random.below(2), self.random.below(KEYS));
            let (low, is_range) = (key(number), self.random.one_in(2));
            let high = (u64::from_be_bytes(low).saturating_add(1 << 51)).to_be_bytes();
            let mut of = self.keyspaces.iter();
            let read = txs.each_mut().map(|tx| {
                let keyspace = &of.next().unwrap()[keyspace];
                match is_range {
                    true => tx.range(keyspace, low..high).unwrap().map(owned).collect(),
                    false => {
                        tx.get(keyspace, low).unwrap().map(|value| (low.to_vec(), value.to_vec())).into_iter().collect()
                    }
                }
            });
            let _: Vec<Entry> = same("a read of a transaction", read);
        }
        let writes: Vec<_> = (0..self.random.between(1, 5)).map(|_| self.write()).collect();
        for (number, tx) in txs.iter_mut().enumerate() {
            for (keyspace, at, id) in &writes {
                let keyspace = &self.keyspaces[number][*keyspace];
                match id {
                    Some(id) => tx.put(keyspace, key(*at), value(*id)).unwrap(),
                    None => tx.delete(keyspace, key(*at)).unwrap(),
                }
            }
        }
        self.open.push(Open { txs, writes, may_differ: false });
    }

    /// All of them have a conflict if the engine without tables has one. If not, another one may have one if it forgot what was
    /// read, or did not know it. Then what it would have written is written again.
    fn commit(&mut self, open: usize) {
        let Open { txs, writes, may_differ } = self.open.swap_remove(open);
        let conflicts = txs.map(|tx| match tx.commit() {
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::Conflict => true,
            Err(error) => panic!("{error}"),
        });
        if conflicts[2] || !may_differ {
            self.counts.conflicts += u64::from(same("a conflict", conflicts));
            return;
        }
        for (number, has_conflict) in conflicts.into_iter().enumerate() {
            if has_conflict {
                self.counts.for_what_was_forgotten += 1;
                self.commit_batch(number, &writes);
            }
        }
    }

    fn checkpoint(&mut self) {
        for engine in &self.engines[..2] {
            engine.flush().unwrap();
            engine.checkpoint().unwrap();
        }
        self.open.iter_mut().for_each(|open| open.may_differ = true);
    }

    fn hold(&mut self) {
        self.held.push(self.engines.each_ref().map(|engine| engine.snapshot().unwrap()));
        if self.held.len() > 6 {
            let number = self.random.below(self.held.len());
            drop(self.held.swap_remove(number));
        }
    }

    /// Gets and short scans, of the newest state or of one that is held.
    fn compare(&mut self) {
        let newest = self.engines.each_ref().map(|engine| engine.snapshot().unwrap());
        let snapshots =
            if self.held.is_empty() || self.random.one_in(2) { newest } else { self.random.pick(&self.held) };
        let keyspace = self.random.below(2);
        for _ in 0..20 {
            let key = key(self.random.below(KEYS));
            let found = Self::of_each(&snapshots, keyspace, |snapshot, keyspace| snapshot.get(keyspace, key).unwrap());
            same("a get", found.map(|value| value.map(|value| value.to_vec())));
        }
        let low = key(self.random.below(KEYS));
        let bounds = (Bound::Included(low), Bound::<[u8; 8]>::Unbounded);
        let scan = |snapshot: &Snapshot, keyspace: &Keyspace| -> Vec<Entry> {
            snapshot.range(keyspace, bounds).unwrap().take(50).map(owned).collect()
        };
        same("a scan", Self::of_each(&snapshots, keyspace, scan));
        let bounds = (Bound::<[u8; 8]>::Unbounded, Bound::Excluded(low));
        let back = |snapshot: &Snapshot, keyspace: &Keyspace| -> Vec<Entry> {
            snapshot.range(keyspace, bounds).unwrap().rev().take(50).map(owned).collect()
        };
        same("a scan backward", Self::of_each(&snapshots, keyspace, back));
        self.counts.compared += 1;
    }

    /// As the snapshots have the keyspace, which may have been dropped since.
    fn of_each<T>(of: &[Snapshot; 3], keyspace: usize, ask: impl Fn(&Snapshot, &Keyspace) -> T) -> [T; 3] {
        of.each_ref().map(|snapshot| ask(snapshot, &snapshot.keyspace(NAMES[keyspace]).unwrap().unwrap()))
    }

    /// Everything, from both ends. Returns the bytes of values.
    fn compare_all(&self) -> usize {
        let snapshots = self.engines.each_ref().map(|engine| engine.snapshot().unwrap());
        let mut bytes = 0;
        for keyspace in 0..2 {
            let all = || Self::of_each(&snapshots, keyspace, |snapshot, keyspace| snapshot.iter(keyspace).unwrap());
            let (mut forward, mut backward) = (all(), all());
            while let Some((_, value)) = same("all", forward.each_mut().map(|entries| entries.next().map(owned))) {
                bytes += value.len();
            }
            let mut is_left = true;
            while is_left {
                let entries = backward.each_mut().map(|entries| entries.next_back().map(owned));
                is_left = same("all backward", entries).is_some();
            }
        }
        bytes
    }

    fn reopen(&mut self) {
        (self.held, self.open) = Default::default();
        self.engines.iter().for_each(|engine| engine.close().unwrap());
        let mut options = options().into_iter();
        self.engines = self.dirs.each_ref().map(|dir| options.next().unwrap().open(dir.join("db")).unwrap());
        self.keyspaces = self.engines.each_ref().map(|engine| NAMES.map(|name| engine.open_keyspace(name).unwrap()));
    }
}

fn owned(entry: forelog::Result<(forelog::Key, forelog::Value)>) -> Entry {
    let (key, value) = entry.unwrap();
    (key.to_vec(), value.to_vec())
}

#[test]
fn the_answers_are_the_same_whatever_is_in_memory() {
    let mut three = Three::new(seed(0xD1FF));
    for step in 1..=420_usize {
        let length = if step.is_multiple_of(3) { three.random.between(1, 5) } else { 200 };
        three.batch(length);
        match three.random.below(8) {
            0 | 1 => three.begin(),
            2 | 3 if !three.open.is_empty() => {
                let open = three.random.below(three.open.len());
                three.commit(open);
            }
            4 => three.hold(),
            5 => three.delete_range(),
            _ => three.compare(),
        }
        if three.open.len() > 4 {
            three.commit(0);
        }
        if step.is_multiple_of(20) {
            three.checkpoint();
        }
        if step == 70 || step == 250 {
            three.drop_one();
        }
        if step.is_multiple_of(210) {
            three.compare_all();
            three.reopen();
        }
    }
    three.checkpoint();
    let bytes = three.compare_all();
    println!("{bytes} bytes of values, {:?}", three.counts);
    let [fits, outgrows, without] =
        three.engines.each_ref().map(|engine| (engine.memory_stats(), engine.table_stats()));
    assert!(bytes >= LEAST && outgrows.0.records <= outgrows.0.records_limit, "{bytes} bytes, {outgrows:?}");
    assert!(!outgrows.1.all_in_memory && fits.1.layers > 0 && without.1.layers == 0, "{fits:?} {without:?}");
    let Counts { conflicts, for_what_was_forgotten, compared, ranges, drops } = three.counts;
    assert!(conflicts > 0 && for_what_was_forgotten > 0 && compared > 50, "{:?}", three.counts);
    assert!(ranges > 20 && drops == 2, "{:?}", three.counts);
}
