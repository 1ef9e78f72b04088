//! What readers keep open and in memory, and what they read: counted at the disk.

use std::collections::BTreeMap;
use std::io;

use super::*;
use crate::disk::{DiskFile, FileLayer, Layer as DiskLayer, Layered, LayeredFile};
use crate::rt::sync::Mutex;

/// What is open to read, and what was read.
#[derive(Clone, Debug, Default)]
struct Counted(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// How often each file is open.
    open: BTreeMap<String, usize>,
    most: usize,
    reads: usize,
    longest: usize,
}

impl Counted {
    fn open(&self) -> usize {
        self.0.lock().open.values().sum()
    }

    /// The calls that read since the last look, and the most bytes that one asked for.
    fn reads(&self) -> (usize, usize) {
        let mut counts = self.0.lock();
        (std::mem::take(&mut counts.reads), std::mem::take(&mut counts.longest))
    }
}

impl DiskLayer for Counted {
    fn file(&self, name: &OsStr, access: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let name = name.to_str().unwrap().to_owned();
        if access != Access::Read || !name.ends_with(".run") {
            return file;
        }
        let mut counts = self.0.lock();
        *counts.open.entry(name.clone()).or_default() += 1;
        counts.most = counts.most.max(counts.open.values().sum());
        Arc::new(LayeredFile::new(file, OpenFile { name, counted: self.clone() }))
    }
}

#[derive(Debug)]
struct OpenFile {
    name: String,
    counted: Counted,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut counts = self.counted.0.lock();
        let count = counts.open.get_mut(&self.name).unwrap();
        *count -= 1;
        if *count == 0 {
            counts.open.remove(&self.name);
        }
    }
}

impl FileLayer for OpenFile {
    fn read_at(&self, file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut counts = self.counted.0.lock();
        counts.reads += 1;
        counts.longest = counts.longest.max(buffer.len());
        file.read_at(buffer, offset)
    }

    fn write_at(&self, _: &dyn DiskFile, _: &[u8], _: u64) -> io::Result<usize> {
        unreachable!("it is open to read")
    }

    fn set_len(&self, _: &dyn DiskFile, _: u64) -> io::Result<()> {
        unreachable!("it is open to read")
    }

    fn sync_data(&self, _: &dyn DiskFile) -> io::Result<()> {
        unreachable!("it is open to read")
    }

    fn sync_all(&self, _: &dyn DiskFile) -> io::Result<()> {
        unreachable!("it is open to read")
    }
}

fn counted(limits: Limits) -> (Counted, Tables) {
    let counted = Counted::default();
    let dir: Arc<dyn Dir> = Arc::new(Layered::new(memory_dir(), counted.clone()));
    let tables = Tables::new(&dir, limits);
    (counted, tables)
}

/// Adds a layer of these keys of one keyspace, with values of this length.
fn add_layer(tables: &mut Tables, keys: impl Iterator<Item = u32>, value: usize, run_bytes: u64) {
    let lsn = Lsn::new(tables.model.to.get() + 8);
    let versions = keys.map(|key| (full(0, &key.to_be_bytes()), lsn, Some(vec![b'v'; value]))).collect();
    tables.checkpoint(1, versions, Vec::new(), run_bytes);
}

/// Beyond those that readers are in, no more runs are open than the limit says.
#[test]
fn few_runs_are_open_while_many_are_read() {
    const KEPT: usize = 8;
    const LAYERS: u32 = 3;
    const THREADS: usize = 3;
    const KEYS: u32 = 1800;
    let (counted, mut tables) = counted(Limits { open_runs: KEPT, ..Limits::default() });
    for layer in 0..LAYERS {
        // A run for each five keys.
        add_layer(&mut tables, (0..KEYS).filter(|key| key % LAYERS == layer), 1000, 4000);
    }
    let runs: usize = tables.store().stack().unwrap().manifest.layers.iter().map(|layer| layer.runs.len()).sum();
    assert!(runs >= 300, "{runs}");
    counted.0.lock().most = 0;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let tables = &tables;
            scope.spawn(move || {
                let layers = tables.reading.installed();
                for round in 0..4 {
                    let direction = if (thread + round) % 2 == 0 { Direction::Forward } else { Direction::Backward };
                    let (entries, ended) = scan(&layers, 0, ALL, direction, tables.model.to);
                    assert_eq!((entries.len(), ended.is_ok()), (KEYS as usize, true));
                }
            });
        }
    });
    let most = counted.0.lock().most;
    assert!(most > KEPT, "scans were in others");
    assert!(most <= KEPT + THREADS * LAYERS as usize, "{most}");
    assert_eq!((counted.open(), tables.reading.open_runs()), (KEPT, KEPT));
    assert!(tables.reading.open_run_bytes() > (KEPT * size_of::<usize>()) as u64);
    // One that is asked for time and again stays, whatever comes between.
    let layers = tables.reading.installed();
    let get = |key: u32| assert!(layers.get(0, &key.to_be_bytes(), tables.model.to).unwrap().is_some());
    get(600);
    let mut read = 0;
    for key in (0..KEYS).step_by(5) {
        get(key);
        counted.reads();
        get(600);
        read += counted.reads().0;
    }
    // Its block alone; to open one of its three runs again takes four reads.
    let rounds = KEYS as usize / 5;
    assert!(read < rounds + rounds / 10, "{read} reads of {rounds} rounds");
}

/// A scan opens runs as it comes to them.
#[test]
fn a_scan_that_stops_early_has_opened_few_runs() {
    let (counted, mut tables) = counted(Limits { open_runs: 0, ..Limits::default() });
    add_layer(&mut tables, 0..400, 1000, 4000);
    // Of a layer that begins further on nothing is opened before.
    add_layer(&mut tables, 100..200, 1000, 4000);
    for (direction, range) in [(Direction::Forward, ALL), (Direction::Backward, ALL)] {
        let mut scan = tables.reading.installed().scan(0, range, direction, tables.model.to);
        assert_eq!(counted.open(), 0);
        for _ in 0..90 {
            assert!(scan.advance().unwrap());
        }
        // Backward the last run of a layer has all to the end of the key space, and its first key is not known before.
        let open = if direction == Direction::Forward { 1 } else { 2 };
        assert_eq!(counted.open(), open, "{direction:?}");
        while scan.advance().unwrap() {}
        assert_eq!(counted.open(), 0, "it gives them back at its end");
    }
}

/// A file that was removed takes its space as long as it is open.
#[test]
fn runs_that_are_installed_no_more_are_closed() {
    let (counted, mut tables) = counted(Limits::default());
    add_layer(&mut tables, 0..300, 1000, 40_000);
    add_layer(&mut tables, 0..300, 1000, 40_000);
    let reader = tables.reading.installed();
    let mut begun = Arc::clone(&reader).scan(0, ALL, Direction::Forward, tables.model.to);
    assert!(begun.advance().unwrap());
    scan(&reader, 0, ALL, Direction::Forward, tables.model.to).1.unwrap();
    assert!(counted.open() > 10);
    let bytes = tables.reading.partition_bytes();
    let mut draws = Draws(1);
    let horizon = Retain { floor: tables.model.to, ..Retain::default() };
    while tables.store().stack().unwrap().manifest.layers.len() > 1 {
        tables.merge(&mut draws, &horizon, Sizes::whole(40_000));
    }
    assert_eq!(counted.open(), 2, "those that the scan is in");
    assert!(tables.reading.partition_bytes() < bytes);
    // What is held stays, and is read; a late reader leaves nothing open.
    let mut count = 1;
    while begun.advance().unwrap() {
        count += 1;
    }
    assert_eq!((count, reader.to()), (300, tables.model.to));
    drop(begun);
    assert_eq!((counted.open(), tables.reading.open_runs()), (0, 0));
    drop(reader);
    tables.store().remove_needless().unwrap();
    scan(&tables.reading.installed(), 0, ALL, Direction::Forward, tables.model.to).1.unwrap();
    let installed: usize = tables.store().stack().unwrap().manifest.layers.iter().map(|layer| layer.runs.len()).sum();
    assert_eq!(counted.open(), installed);
}

/// The filters answer for keys that are not there, and one block is read for one that is.
#[test]
fn a_miss_reads_no_block_and_a_hit_reads_one() {
    const LAYERS: u32 = 6;
    let (counted, mut tables) = counted(Limits::default());
    for layer in 0..LAYERS {
        add_layer(&mut tables, (0..12_000).filter(|key| key % (2 * LAYERS) == 2 * layer), 30, u64::MAX);
    }
    let layers = tables.reading.installed();
    let get = |key: u32| layers.get(0, &key.to_be_bytes(), tables.model.to).unwrap();
    (0..12_000).for_each(|key| _ = get(key));
    counted.reads();
    let misses = (0..12_000).filter(|key| key % 2 == 1).map(|key| assert!(get(key).is_none())).count();
    let (read, longest) = counted.reads();
    // Ten bits a key in the lowest layer: one of a hundred says "perhaps". Sixteen above it: one of a thousand.
    assert!(read > 0 && read < misses * LAYERS as usize / 200, "{read} of {misses} in each of {LAYERS} layers");
    let hits = (0..12_000).step_by(2).map(|key| assert!(get(key).is_some())).count();
    let read = counted.reads().0;
    assert!(read >= hits && read < hits + hits * LAYERS as usize / 200, "{read} of {hits}");
    assert!(longest <= 4200, "{longest}");
}

/// A long scan reads several blocks at a time, and a short one no more than it needs.
#[test]
fn long_scans_read_blocks_together() {
    let (counted, mut tables) = counted(Limits::default());
    add_layer(&mut tables, 0..20_000, 30, u64::MAX);
    let layers = tables.reading.installed();
    for direction in [Direction::Forward, Direction::Backward] {
        let mut scan = Arc::clone(&layers).scan(0, ALL, direction, tables.model.to);
        for _ in 0..200 {
            assert!(scan.advance().unwrap());
        }
        assert!(counted.reads().1 <= 4 << 10 << 2, "header, footer, root, partitions and single blocks");
        while scan.advance().unwrap() {}
        let (reads, longest) = counted.reads();
        // About 200 blocks.
        assert!(reads < 40 && longest > 60 << 10 && longest <= 64 << 10, "{reads} reads of up to {longest} bytes");
    }
}

#[test]
fn partitions_in_memory_keep_to_their_bytes() {
    for limit in [0, 30_000, 200_000] {
        let (counted, mut tables) = counted(Limits { partition_bytes: limit, ..Limits::default() });
        add_layer(&mut tables, 0..40_000, 30, u64::MAX);
        let layers = tables.reading.installed();
        for key in (0..40_000_u32).step_by(7) {
            layers.get(0, &key.to_be_bytes(), tables.model.to).unwrap().unwrap();
            assert!(tables.reading.partition_bytes() <= limit);
        }
        // Two blocks for each read without memory for partitions.
        assert_eq!(counted.reads().0 > 40_000 / 7 * 2, limit == 0);
        assert_eq!(tables.reading.partition_bytes() > 0, limit > 0);
    }
}
