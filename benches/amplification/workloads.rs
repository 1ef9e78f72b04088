//! The workloads: what is written, in which order, and what is left.

use std::path::Path;
use std::time::Instant;

use forelog::{CommitMode, Engine, Keyspace, Options, WriteBatch};

use crate::measured::{Formulas, Phase, Reads, Watch, observe};
use crate::memory;
use crate::model::{Data, Merging};
use crate::worked::{Worked, short};
use crate::{BATCH, CHECKPOINT, KEY, Request, Result};

pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(&Run<'_>) -> Result<()>,
}

pub(crate) const SHAPES: [Shape; 8] = [
    Shape {
        name: "uniform",
        what: "a load in random order, then as many overwrites of any keys",
        run: |run| run.uniform(),
    },
    Shape {
        name: "skewed",
        what: "a load, then as many overwrites, of which 80 of 100 go to 20 keys of 100",
        run: |run| run.skewed(),
    },
    Shape { name: "hot", what: "a load, then as many overwrites of 100 keys", run: |run| run.hot() },
    Shape {
        name: "series",
        what: "keys that ascend; what is older than a tenth of them is deleted as a range",
        run: |run| run.series(),
    },
    Shape {
        name: "queue",
        what: "pushed at one end, popped at the other, with 10,000 in between",
        run: |run| run.queue(),
    },
    Shape {
        name: "delete",
        what: "a load, then every key is deleted; and the same with one clear",
        run: |run| run.delete(),
    },
    Shape {
        name: "memory",
        what: "a load, reads of any keys, overwrites of half of them: the parts of memory beside what is resident",
        run: |run| run.memory(),
    },
    Shape {
        name: "keyspaces",
        what: "one key in each of many keyspaces, written, closed and opened: memory beside what is resident",
        run: |run| run.keyspaces(),
    },
];

/// A database, and what is asked for.
pub(crate) struct Run<'a> {
    request: &'a Request,
    dir: &'a Path,
    engine: Engine,
    keyspace: Keyspace,
    value: Vec<u8>,
    data: Data,
}

impl<'a> Run<'a> {
    pub(crate) fn begin(dir: &'a Path, request: &'a Request) -> Result<Self> {
        let options = Options::new().memory_bytes(request.memory << 20).commit_mode(CommitMode::Async);
        let engine = options.open(dir)?;
        let keyspace = engine.create_keyspace("k")?;
        let data = Data {
            keys: request.keys as f64,
            key: KEY,
            value: request.value as f64,
            batch: BATCH as f64,
            checkpoint: CHECKPOINT.min((request.memory << 20) as f64 / 16.0),
        };
        Ok(Run { request, dir, engine, keyspace, value: (0..request.value).map(|at| at as u8).collect(), data })
    }

    fn observe(&self, name: &'static str, work: impl FnOnce(&mut Watch<'_>) -> forelog::Result<f64>) -> Result<Phase> {
        observe(&self.engine, self.dir, name, work)
    }

    /// The bytes of so many keys with their values.
    fn bytes(&self, puts: usize) -> f64 {
        puts as f64 * (KEY + self.request.value as f64)
    }

    /// Puts keys, a batch at a time.
    fn put(&self, watch: &mut Watch<'_>, keys: impl Iterator<Item = [u8; 16]>) -> forelog::Result<()> {
        self.commit(watch, keys, true)
    }

    fn commit(
        &self,
        watch: &mut Watch<'_>,
        mut keys: impl Iterator<Item = [u8; 16]>,
        puts: bool,
    ) -> forelog::Result<()> {
        loop {
            let mut batch = self.engine.batch()?;
            let mut count = 0;
            for key in keys.by_ref().take(BATCH) {
                count += 1;
                self.add(&mut batch, key, puts)?;
            }
            if count == 0 {
                return Ok(());
            }
            batch.commit()?;
            watch.committed(count as u64, if puts { self.bytes(count) } else { 0.0 });
        }
    }

    fn add(&self, batch: &mut WriteBatch, key: [u8; 16], puts: bool) -> forelog::Result<()> {
        if puts { batch.put(&self.keyspace, key, &self.value) } else { batch.delete(&self.keyspace, key) }
    }

    /// Each key once, in random order.
    fn load(&self, watch: &mut Watch<'_>) -> forelog::Result<f64> {
        let keys = self.request.keys;
        self.put(watch, (0..keys).map(|number| scattered(shuffled(number, keys))))?;
        Ok(self.bytes(keys))
    }

    /// As many overwrites as there are keys, of those that `pick` names.
    fn overwrite(&self, watch: &mut Watch<'_>, pick: impl Fn(u64) -> u64) -> forelog::Result<f64> {
        let mut random = self.request.seed;
        self.put(watch, (0..self.request.keys).map(|_| scattered(pick(mix(&mut random)))))?;
        Ok(self.bytes(self.request.keys))
    }

    fn uniform(&self) -> Result<()> {
        let worked = Worked::of(self.data);
        let loaded = self.observe("load", |watch| self.load(watch))?;
        loaded.print(Some(&self.formulas(&worked, worked.load)));
        let (records, memory) = (self.engine.memory_stats().records as f64, self.data.memory());
        println!(
            "  records {} B a key in memory, formula {} to {}",
            short(records / self.data.keys),
            short(memory.1),
            short(memory.0)
        );
        let keys = self.request.keys as u64;
        let overwritten = self.observe("overwrites", |watch| self.overwrite(watch, |random| random % keys))?;
        overwritten.print(Some(&self.formulas(&worked, worked.overwrites)));
        Ok(())
    }

    fn formulas(&self, worked: &Worked, merging: Merging) -> Formulas {
        let data = &self.data;
        Formulas {
            device: worked.all(merging),
            checkpoints: worked.checkpoints,
            merges: worked.checkpoints * merging.written,
            log: worked.log,
            most_layers: merging.most_layers,
            most_bytes: merging.space * data.layers() / data.bytes(),
            bytes: data.layers() / data.bytes(),
            runs: data.runs(),
            manifest: data.manifest(),
        }
    }

    /// A load, and then as many overwrites of the keys that `pick` names.
    fn load_and_overwrite(&self, pick: impl Fn(u64) -> u64) -> Result<()> {
        self.observe("load", |watch| self.load(watch))?.print(None);
        self.observe("overwrites", |watch| self.overwrite(watch, pick))?.print(None);
        Ok(())
    }

    fn memory(&self) -> Result<()> {
        const READS: u64 = 300_000;
        self.observe("load", |watch| self.load(watch))?.print(None);
        memory::print_header();
        memory::print(&self.engine, "loaded")?;
        let (keys, snapshot) = (self.request.keys as u64, self.engine.snapshot()?);
        let mut random = self.request.seed;
        for absent in [false, true] {
            let before = Reads::now()?;
            for _ in 0..READS {
                let key = scattered(mix(&mut random) % keys);
                // Of the same length, between those that are there.
                let key = if absent { key.map(|byte| byte ^ 0x55) } else { key };
                assert_eq!(snapshot.get(&self.keyspace, key)?.is_none(), absent, "a key of this load");
            }
            before.print_since(if absent { "absent keys" } else { "present keys" }, READS)?;
        }
        drop(snapshot);
        memory::print(&self.engine, "read")?;
        let half = (0..keys / 2).map(|_| scattered(mix(&mut random) % keys));
        let overwrite = |watch: &mut Watch<'_>| self.put(watch, half).map(|()| self.bytes(self.request.keys / 2));
        self.observe("overwrites", overwrite)?.print(None);
        memory::print(&self.engine, "overwritten")
    }

    fn keyspaces(&self) -> Result<()> {
        memory::print_header();
        let created = Instant::now();
        for number in 0..self.request.keys {
            let keyspace = self.engine.create_keyspace(&format!("{number:09}"))?;
            let mut batch = self.engine.batch()?;
            batch.put(&keyspace, scattered(number as u64), &self.value)?;
            batch.commit()?;
        }
        self.engine.flush()?;
        println!("  made in {:.1?}", created.elapsed());
        memory::print(&self.engine, "written")?;
        self.engine.checkpoint()?;
        memory::print(&self.engine, "in tables")?;
        self.engine.close()?;
        for time in 1..=3 {
            let begun = Instant::now();
            let engine = Options::new().memory_bytes(self.request.memory << 20).open(self.dir)?;
            let last = engine.open_keyspace(&format!("{:09}", self.request.keys - 1))?;
            let found = engine.snapshot()?.get(&last, scattered(self.request.keys as u64 - 1))?;
            assert!(found.is_some(), "the last one is there");
            println!("  open {time}, until a read is answered: {:.1?}", begun.elapsed());
            memory::print(&engine, "opened")?;
            engine.close()?;
        }
        Ok(())
    }

    fn skewed(&self) -> Result<()> {
        // Gray et al., Quickly generating billion-record synthetic databases: self-similar, the first h of the keys get 1 - h.
        let (keys, exponent) = (self.request.keys as f64, 0.2_f64.ln() / 0.8_f64.ln());
        self.load_and_overwrite(|random| (keys * (random as f64 / u64::MAX as f64).powf(exponent)) as u64)
    }

    fn hot(&self) -> Result<()> {
        self.load_and_overwrite(|random| random % 100)
    }

    fn series(&self) -> Result<()> {
        let (keys, window) = (self.request.keys, self.request.keys / 10);
        let step = (window / 10).max(1);
        let write = |watch: &mut Watch<'_>| {
            for first in (0..keys).step_by(step) {
                self.put(watch, (first..keys.min(first + step)).map(in_order))?;
                let mut batch = self.engine.batch()?;
                batch.delete_range(&self.keyspace, ..in_order(first.saturating_sub(window)))?;
                batch.commit()?;
            }
            Ok(self.bytes(window + step))
        };
        self.observe("series", write)?.print(None);
        Ok(())
    }

    fn queue(&self) -> Result<()> {
        const BACKLOG: usize = 10_000;
        let write = |watch: &mut Watch<'_>| {
            for first in (0..self.request.keys).step_by(BATCH) {
                let mut batch = self.engine.batch()?;
                for number in first..first + BATCH {
                    self.add(&mut batch, in_order(number), true)?;
                    if let Some(popped) = number.checked_sub(BACKLOG) {
                        self.add(&mut batch, in_order(popped), false)?;
                    }
                }
                batch.commit()?;
                watch.committed(2 * BATCH as u64, self.bytes(BATCH));
            }
            Ok(self.bytes(BACKLOG))
        };
        self.observe("queue", write)?.print(None);
        Ok(())
    }

    fn delete(&self) -> Result<()> {
        self.observe("load", |watch| self.load(watch))?.print(None);
        let keys = self.request.keys;
        let deleted = |watch: &mut Watch<'_>| {
            self.commit(watch, (0..keys).map(|number| scattered(shuffled(number, keys))), false).map(|()| 0.0)
        };
        self.observe("deletions", deleted)?.print(None);
        self.observe("load again", |watch| self.load(watch))?.print(None);
        let cleared = |watch: &mut Watch<'_>| {
            let mut batch = self.engine.batch()?;
            batch.clear(&self.keyspace)?;
            batch.commit()?;
            watch.committed(1, 0.0);
            Ok(0.0)
        };
        self.observe("clear", cleared)?.print(None);
        Ok(())
    }
}

/// A number of which each below `count` comes once, in any order: a step of a full-period generator.
fn shuffled(number: usize, count: usize) -> u64 {
    let (count, number) = (count as u64, number as u64);
    // Coprime to any count that is not a multiple of this prime.
    (u128::from(number) * 2_654_435_761 % u128::from(count)) as u64
}

fn key(high: u64, low: u64) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// Keys with neighbouring numbers are far from each other.
fn scattered(number: u64) -> [u8; 16] {
    key(mix(&mut number.wrapping_mul(0x9E37_79B9_7F4A_7C15)), number)
}

fn in_order(number: usize) -> [u8; 16] {
    key(number as u64, 0)
}

/// splitmix64.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
