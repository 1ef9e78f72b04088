//! A reader beside a writer ("A reader beside a writer" in `src/disk/LOCK.md`), under the scheduler. Its reads are torn: what
//! one call returns was read piece by piece, between which the writer goes on.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use forelog::sim::{self, SimDisk};
use forelog::unstable::disk::{Access, Disk, DiskFile, FileLayer, Layer, Layered, LayeredFile};
use forelog::{CommitMode, Engine, ErrorKind, Options, ReadOnly, ReadOnlyOptions};

use crashkit::DB;

/// Reads files in pieces of a few bytes, most of which end inside a word.
#[derive(Clone, Debug)]
struct Torn;

impl Layer for Torn {
    fn file(&self, _: &OsStr, _: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(LayeredFile::new(file, Torn))
    }
}

const PIECE: usize = 229;

impl FileLayer for Torn {
    fn read_at(&self, file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            let piece = PIECE.min(buffer.len() - read);
            match file.read_at(&mut buffer[read..read + piece], offset + read as u64)? {
                0 => break,
                more => read += more,
            }
            sim::yield_point();
        }
        Ok(read)
    }

    fn write_at(&self, _: &dyn DiskFile, _: &[u8], _: u64) -> io::Result<usize> {
        panic!("a reader writes")
    }

    fn set_len(&self, _: &dyn DiskFile, _: u64) -> io::Result<()> {
        panic!("a reader cuts")
    }

    fn sync_data(&self, _: &dyn DiskFile) -> io::Result<()> {
        panic!("a reader syncs")
    }

    fn sync_all(&self, _: &dyn DiskFile) -> io::Result<()> {
        panic!("a reader syncs")
    }
}

const ROWS: u64 = 7;
const KEYSPACES: [&str; 2] = ["a", "b"];

fn open(disk: &SimDisk) -> Engine {
    let options = Options::new().segment_bytes(4096).checkpoint_bytes(8192).commit_mode(CommitMode::Async);
    loop {
        match options.clone().open_on(Arc::new(disk.clone()), DB) {
            // The reader has it locked for a moment.
            Err(error) if error.kind() == ErrorKind::Locked => sim::sleep(Duration::from_micros(100)),
            opened => return opened.unwrap(),
        }
    }
}

/// Commits in every mode, with values of up to two segments.
fn commit(engine: &Engine, number: u64, acknowledged: &AtomicU64) {
    let mut batch = engine.batch().unwrap();
    let length = match number % 11 {
        3 => 5000,
        7 => 0,
        other => usize::try_from(other * 60).unwrap(),
    };
    for name in KEYSPACES {
        let keyspace = engine.create_keyspace(name).unwrap();
        batch.put(&keyspace, "n", number.to_be_bytes()).unwrap();
        if number % 5 == 4 {
            batch.delete(&keyspace, format!("row {}", number % ROWS)).unwrap();
        } else {
            batch.put(&keyspace, format!("row {}", number % ROWS), vec![number.to_le_bytes()[0]; length]).unwrap();
        }
    }
    let mode = [CommitMode::Sync, CommitMode::Async, CommitMode::Written, CommitMode::Async];
    let mode = mode[usize::try_from(number % 4).unwrap()];
    batch.commit_with(mode).unwrap();
    if mode != CommitMode::Async {
        acknowledged.store(number, SeqCst);
    }
}

/// The first byte and the length of each row after so many commits.
fn expected(number: u64) -> BTreeMap<String, u8> {
    let mut rows = BTreeMap::new();
    for number in 1..=number {
        let row = format!("row {}", number % ROWS);
        if number % 5 == 4 {
            rows.remove(&row);
        } else {
            rows.insert(row, number.to_le_bytes()[0]);
        }
    }
    rows
}

/// Checks that it is the state after one commit, and returns the number of that.
fn check(seen: &ReadOnly) -> u64 {
    let numbers = KEYSPACES.map(|name| seen.get(name, "n").unwrap().map(|value| value[..].try_into().unwrap()));
    assert_eq!(numbers[0], numbers[1]);
    let number = numbers[0].map_or(0, u64::from_be_bytes);
    for name in KEYSPACES {
        let rows = seen.prefix(name, "row").unwrap().map(|entry| {
            let (key, value) = entry.unwrap();
            let expected = number - (number + ROWS - u64::from(key[4] - b'0')) % ROWS;
            (String::from_utf8(key.to_vec()).unwrap(), value.first().copied().unwrap_or(expected.to_le_bytes()[0]))
        });
        assert_eq!(rows.collect::<BTreeMap<_, _>>(), expected(number), "after commit {number}");
    }
    number
}

#[test]
fn a_reader_beside_a_writer_has_a_prefix_with_all_that_was_acknowledged() {
    let (beside, too_quick, all) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    for seed in 0..100 {
        sim::run(seed, || {
            let disk = SimDisk::new();
            // Time stands still while a reader is busy, and with it an fsync that takes any.
            disk.set_sync_latency(Duration::from_micros(if seed % 4 == 0 { 100 } else { 0 }));
            let acknowledged = Arc::new(AtomicU64::new(0));
            commit(&open(&disk), 1, &acknowledged);
            let (written, done) = (disk.clone(), Arc::clone(&acknowledged));
            let writer = sim::start("writer", move || {
                let mut number = 1;
                for life in 0..4 {
                    let engine = open(&written);
                    for _ in 0..8 + seed % 13 {
                        number += 1;
                        commit(&engine, number, &done);
                    }
                    if life % 2 == 1 {
                        engine.flush().unwrap();
                        engine.checkpoint().unwrap();
                    }
                    match life {
                        // As a drop does, which makes no checkpoint.
                        2 => drop(engine),
                        _ => engine.close().unwrap(),
                    }
                }
                done.store(u64::MAX, SeqCst);
            });
            let torn: Arc<dyn Disk> = Arc::new(Layered::new(Arc::new(disk.clone()) as Arc<dyn Disk>, Torn));
            loop {
                let before = acknowledged.load(SeqCst);
                all.fetch_add(1, SeqCst);
                match ReadOnlyOptions::new().beside_a_writer(true).open_on(Arc::clone(&torn), DB) {
                    Ok(seen) => {
                        let number = check(&seen);
                        assert!(before == u64::MAX || number >= before, "seed {seed}: {number}, not {before}");
                        beside.fetch_add(u32::from(seen.has_writer()), SeqCst);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => drop(too_quick.fetch_add(1, SeqCst)),
                    Err(error) => panic!("seed {seed}: {error:?}"),
                }
                if before == u64::MAX {
                    break;
                }
            }
            writer.join();
        });
    }
    let [beside, too_quick, all] = [beside, too_quick, all].map(AtomicU32::into_inner);
    println!("{all} reads, {beside} beside the writer, {too_quick} of which it was too quick for");
    assert!(beside > 300 && too_quick * 20 < all, "{all} reads, {beside} beside the writer, {too_quick} too quick");
}
