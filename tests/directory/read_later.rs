//! What one who reads without opening still reads after the answer: B2 and B9 of "A reader beside a writer" in
//! `src/disk/LOCK.md`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use forelog::unstable::disk::{Access, DirCall, DiskFile, FileLayer, Layer, Layered, LayeredFile};
use forelog::{Checkpoints, CommitMode, Engine, ErrorKind, ReadOnly, ReadOnlyOptions, Result};

use super::ground::Ground;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

const KEYS: u32 = 200;

fn open(ground: &Ground) -> Engine {
    ground
        .options()
        .checkpoints(Checkpoints::OnRequest)
        .checkpoint_bytes(4096)
        .open_on(ground.disk(), ground.path("db"))
        .unwrap()
}

/// Writes all keys of which the number has this remainder by 5.
fn write(engine: &Engine, remainder: u32, value: u8) {
    let rows = engine.create_keyspace("rows").unwrap();
    let mut batch = engine.batch().unwrap();
    for key in (0..KEYS).filter(|key| key % 5 == remainder) {
        batch.put(&rows, key.to_be_bytes(), [value; 300]).unwrap();
    }
    batch.commit_with(CommitMode::Sync).unwrap();
}

/// Several runs, and something in the log behind them.
fn fill(engine: &Engine) {
    for remainder in 0..5 {
        write(engine, remainder, 1);
        if remainder < 4 {
            engine.checkpoint().unwrap();
        }
    }
}

/// Replaces every file that was there.
fn replace_all(engine: &Engine) {
    clear(engine);
    (0..5).for_each(|remainder| write(engine, remainder, 2));
    engine.checkpoint().unwrap();
    engine.compact().unwrap();
    engine.drop_keyspace("rows").unwrap();
    engine.checkpoint().unwrap();
    engine.compact().unwrap();
}

fn clear(engine: &Engine) {
    let rows = engine.open_keyspace("rows").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.clear(&rows).unwrap();
    batch.commit_with(CommitMode::Sync).unwrap();
    engine.checkpoint().unwrap();
}

fn expected() -> State {
    (0..KEYS).map(|key| (key.to_be_bytes().to_vec(), vec![1; 300])).collect()
}

/// Both ways, and key by key.
fn contents(seen: &ReadOnly) -> Result<State> {
    let forward = seen.iter("rows")?.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())));
    let state: State = forward.collect::<Result<_>>()?;
    let backward: Vec<_> =
        seen.iter("rows")?.rev().map(|entry| entry.map(|(key, _)| key.to_vec())).collect::<Result<_>>()?;
    assert!(backward.iter().rev().eq(state.keys()));
    for (key, value) in &state {
        assert_eq!(seen.get("rows", key)?.as_deref(), Some(&value[..]));
    }
    assert!(seen.get("rows", 777_u32.to_be_bytes())?.is_none());
    Ok(state)
}

fn runs(ground: &Ground) -> Vec<String> {
    let mut names = ground.names("db/table").unwrap();
    names.retain(|name| name.ends_with(".run"));
    names
}

#[test]
fn what_was_read_beside_a_writer_stays_as_it_was() {
    for ground in Ground::both("later-beside") {
        let writer = open(&ground);
        fill(&writer);
        let seen = ReadOnlyOptions::new().beside_a_writer(true).open_on(ground.disk(), ground.path("db")).unwrap();
        let before = runs(&ground);
        let mut half = seen.iter("rows").unwrap();
        let first: Vec<_> = half.by_ref().take(3).map(|entry| entry.unwrap().0.to_vec()).collect();
        replace_all(&writer);
        assert!(runs(&ground).iter().all(|name| !before.contains(name)), "a file that was to go is there");
        assert_eq!(contents(&seen).unwrap(), expected());
        let rest = half.map(|entry| entry.unwrap().0.to_vec());
        assert!(first.into_iter().chain(rest).eq(expected().into_keys()));
        writer.close().unwrap();
        ground.remove_tree("db");
        assert_eq!(contents(&seen).unwrap(), expected());
    }
}

#[test]
fn what_was_read_under_locks_keeps_no_writer_out_and_stays_as_it_was() {
    for ground in Ground::both("later-alone") {
        let writer = open(&ground);
        fill(&writer);
        writer.close().unwrap();
        drop(writer);
        let seen = Engine::read_only_on(ground.disk(), ground.path("db")).unwrap();
        let writer = open(&ground);
        replace_all(&writer);
        assert_eq!(contents(&seen).unwrap(), expected());
        writer.close().unwrap();
    }
}

/// A process that may have only so many files open.
#[derive(Clone, Debug)]
struct Few {
    most: usize,
    open: Arc<AtomicUsize>,
}

/// A file that counts as open while it is there.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl FileLayer for Counted {}

impl Layer for Few {
    fn before(&self, call: DirCall<'_>) -> io::Result<()> {
        const EMFILE: i32 = 24;
        match call {
            DirCall::Open(..) if self.open.load(SeqCst) >= self.most => Err(io::Error::from_raw_os_error(EMFILE)),
            _ => Ok(()),
        }
    }

    fn file(&self, _: &OsStr, _: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        self.open.fetch_add(1, SeqCst);
        Arc::new(LayeredFile::new(file, Counted(Arc::clone(&self.open))))
    }
}

/// With fewer files than runs, all is read as long as nothing is replaced; then what was not kept open is missed, by name and
/// with what to do. Nothing is ever read of another file.
#[test]
fn a_reader_of_more_runs_than_it_may_have_files_open() {
    let (mut refused, mut whole, mut missed) = (0, 0, 0);
    for most in 1..32 {
        let [ground, _] = Ground::both("later-few");
        let writer = open(&ground);
        fill(&writer);
        assert!(runs(&ground).len() > 8, "{:?}", runs(&ground));
        let few = Few { most, open: Arc::default() };
        let disk = Arc::new(Layered::new(ground.disk(), few.clone()));
        let read = ReadOnlyOptions::new().beside_a_writer(true).open_on(disk, ground.path("db"));
        let seen = match read.and_then(|seen| contents(&seen).map(|state| (seen, state))) {
            Ok((seen, state)) => {
                assert_eq!(state, expected());
                seen
            }
            // A scan is in several runs at once.
            Err(error) => {
                assert!(error.kind() == ErrorKind::Io && error.to_string().contains("ulimit -n"), "{most}: {error}");
                assert!(most < 5, "{most}: {error}");
                refused += 1;
                continue;
            }
        };
        replace_all(&writer);
        match contents(&seen) {
            Ok(state) => {
                assert_eq!(state, expected());
                whole += 1;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(
                    error.kind() == ErrorKind::Removed && text.contains("read the database again"),
                    "{most}: {text}"
                );
                assert!(!error.is_retryable());
                missed += 1;
            }
        }
        drop(seen);
        assert_eq!(few.open.load(SeqCst), 0, "{most}: files stay open behind it");
    }
    println!("refused {refused}, whole {whole}, missed {missed}");
    assert!(refused > 0 && whole > 0 && missed > 0, "refused {refused}, whole {whole}, missed {missed}");
}
