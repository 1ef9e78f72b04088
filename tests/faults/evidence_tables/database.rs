//! Databases with tables, and every HISTORY, MANIFEST and file of `table/` that they ever had.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crashkit::{DB, open_on};
use forelog::sim::{self, SimDisk};
use forelog::{Checkpoints, CommitMode, Engine, LossBudget, Options};

pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;
pub(super) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;
pub(super) type State = BTreeMap<String, Entries>;

/// Small segments, so that checkpoints let some go, and nothing that nobody asked for.
pub(super) fn options() -> Options {
    let hour = Duration::from_secs(3600);
    let budget = LossBudget::default().max_age(hour);
    Options::new().segment_bytes(4096).checkpoints(Checkpoints::OnRequest).flush_interval(hour).loss_budget(budget)
}

pub(super) fn history() -> PathBuf {
    Path::new(DB).join("HISTORY")
}

pub(super) fn table() -> PathBuf {
    Path::new(DB).join("table")
}

pub(super) fn manifest() -> PathBuf {
    table().join("MANIFEST")
}

/// How the last life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// With commits behind the last checkpoint.
    Killed,
    /// The same, and all of the log is retained: what an older MANIFEST misses is in it.
    KilledRetaining,
    /// With commits behind the last checkpoint.
    Closed,
    /// Right behind a checkpoint: HISTORY does not name its MANIFEST.
    KilledAtCheckpoint,
    /// Right behind a checkpoint: the log is empty.
    ClosedAtCheckpoint,
    /// The same after a rest, in which the mark was written.
    ClosedAtRest,
}

pub(super) const ENDS: [End; 6] = [
    End::Killed,
    End::KilledRetaining,
    End::Closed,
    End::KilledAtCheckpoint,
    End::ClosedAtCheckpoint,
    End::ClosedAtRest,
];

/// How it lives.
fn options_of(end: End) -> Options {
    if end == End::KilledRetaining { options().retain_log_bytes(1 << 20) } else { options() }
}

/// The lives of a database.
pub(super) const LIVES: u32 = 4;

/// `table/` as it was when a MANIFEST came into it.
#[derive(Clone)]
pub(super) struct Generation {
    pub(super) manifest: Vec<u8>,
    /// With that MANIFEST.
    pub(super) files: Files,
}

/// What a directory has held, oldest first.
#[derive(Clone, Default)]
pub(super) struct Past {
    pub(super) histories: Vec<Vec<u8>>,
    pub(super) generations: Vec<Generation>,
    /// Every file of `table/` but MANIFEST. No name was given to two of them.
    pub(super) ever: Files,
    /// The whole directory, whenever one of the former two had changed.
    pub(super) moments: Vec<Files>,
}

impl Past {
    fn note(&mut self, files: Files) {
        let lists = |files: &Files| [history(), manifest()].map(|path| files.get(&path).cloned());
        if self.moments.last().is_none_or(|last| lists(last) != lists(&files)) {
            self.moments.push(files.clone());
        }
        if let Some(history) = files.get(&history())
            && self.histories.last() != Some(history)
        {
            self.histories.push(history.clone());
        }
        let Some(now) = files.get(&manifest()).cloned() else { return };
        if self.generations.last().is_some_and(|last| last.manifest == now) {
            return;
        }
        let is_of_table = |path: &Path| path.starts_with(table()) && path.extension().is_none_or(|end| end != "tmp");
        let files: Files = files.into_iter().filter(|(path, _)| is_of_table(path)).collect();
        let named = files.iter().filter(|(path, _)| **path != manifest());
        self.ever.extend(named.map(|(path, bytes)| (path.clone(), bytes.clone())));
        self.generations.push(Generation { manifest: now, files });
    }
}

/// A database between two lives.
#[derive(Clone)]
pub(super) struct Database {
    pub(super) files: Files,
    pub(super) state: State,
    /// Every key that there ever was, in every keyspace.
    pub(super) keys: BTreeSet<Vec<u8>>,
    pub(super) past: Past,
}

pub(super) fn files_on(disk: &SimDisk) -> Files {
    disk.files().into_iter().collect()
}

pub(super) fn disk_with(files: &Files) -> SimDisk {
    let disk = SimDisk::new();
    files.iter().for_each(|(path, bytes)| disk.write_file(path, bytes).unwrap());
    disk
}

impl Database {
    pub(super) fn new() -> Self {
        Database { files: Files::new(), state: State::new(), keys: BTreeSet::new(), past: Past::default() }
    }

    /// The same directory, whose past begins now.
    pub(super) fn forked(&self) -> Self {
        Database { past: Past::default(), ..self.clone() }
    }

    /// Lives once more. Two copies that live on with different seeds are two branches; with different salts they hold
    /// different values.
    pub(super) fn live(&mut self, seed: u64, salt: u8, life: u32, end: End) {
        let disk = disk_with(&self.files);
        let past = Arc::new(Mutex::new(std::mem::take(&mut self.past)));
        let noted = Arc::clone(&past);
        disk.on_op(move |disk, _| noted.lock().unwrap().note(files_on(disk)));
        let crash = sim::run(seed, || {
            let mut work = Work { engine: open_on(&disk, options_of(end)).unwrap(), salt, life, database: self };
            let is_closed = work.live(end);
            let crash = disk.crash_point();
            if is_closed {
                work.engine.close().unwrap();
                return disk.crash_point();
            }
            crash
        });
        disk.clear_on_op();
        self.files = files_on(&crash.process_kill());
        let mut past = std::mem::take(&mut *past.lock().unwrap());
        // What an engine does when it is dropped comes after the crash.
        past.forget_what_is_behind(&self.files);
        self.past = past;
    }
}

impl Past {
    fn forget_what_is_behind(&mut self, files: &Files) {
        self.note(files.clone());
        let at = |now: Option<&Vec<u8>>| self.histories.iter().position(|history| Some(history) == now);
        if let Some(last) = at(files.get(&history())) {
            self.histories.truncate(last + 1);
        }
    }
}

/// A life.
struct Work<'d> {
    engine: Engine,
    salt: u8,
    life: u32,
    database: &'d mut Database,
}

impl Work<'_> {
    /// Whether the life ends with a close.
    fn live(&mut self, end: End) -> bool {
        match self.life {
            0 => {
                self.create("a");
                self.create("b");
                self.put("a", 0..60, 120);
                self.put("b", 0..20, 60);
                self.checkpoint();
                self.put("a", 20..40, 90);
                self.delete("a", 5..9);
                self.checkpoint();
                self.put("a", 58..64, 40);
                false
            }
            1 => {
                // It ends in the incarnation before.
                self.checkpoint();
                self.delete_range("a", 10..20);
                self.put("b", 10..30, 100);
                self.checkpoint();
                self.put("a", 12..15, 30);
                self.checkpoint();
                self.engine.compact().unwrap();
                true
            }
            2 => {
                self.drop_keyspace("b");
                self.create("c");
                self.put("c", 0..25, 150);
                self.checkpoint();
                self.put("a", 0..12, 70);
                false
            }
            _ => {
                self.create("b2");
                // HISTORY names the MANIFEST before these.
                self.put("a", 30..34, 200);
                self.checkpoint();
                self.delete("c", 3..6);
                self.checkpoint();
                self.engine.compact().unwrap();
                self.put("b2", 0..3, 50);
                self.checkpoint();
                if matches!(end, End::Killed | End::KilledRetaining | End::Closed) {
                    self.put("a", 40..44, 20);
                }
                if end == End::ClosedAtRest {
                    sim::sleep(Duration::from_secs(3));
                }
                !matches!(end, End::Killed | End::KilledRetaining | End::KilledAtCheckpoint)
            }
        }
    }

    fn create(&mut self, name: &str) {
        self.engine.create_keyspace(name).unwrap();
        self.database.state.insert(name.to_owned(), Entries::new());
    }

    fn drop_keyspace(&mut self, name: &str) {
        self.engine.drop_keyspace(name).unwrap();
        self.database.state.remove(name);
    }

    fn put(&mut self, name: &str, numbers: std::ops::Range<u32>, length: usize) {
        let keyspace = self.engine.open_keyspace(name).unwrap();
        for number in numbers {
            let mut value = vec![self.salt; length];
            let told = [self.life, number].map(u32::to_be_bytes).concat();
            value[..8].copy_from_slice(&told);
            let mut batch = self.engine.batch().unwrap();
            batch.put(&keyspace, key(number), &value).unwrap();
            batch.commit_with(CommitMode::Sync).unwrap();
            self.database.keys.insert(key(number));
            self.database.state.get_mut(name).unwrap().insert(key(number), value);
        }
    }

    fn delete(&mut self, name: &str, numbers: std::ops::Range<u32>) {
        let keyspace = self.engine.open_keyspace(name).unwrap();
        let mut batch = self.engine.batch().unwrap();
        for number in numbers {
            batch.delete(&keyspace, key(number)).unwrap();
            self.database.state.get_mut(name).unwrap().remove(&key(number));
        }
        batch.commit_with(CommitMode::Sync).unwrap();
    }

    fn delete_range(&mut self, name: &str, numbers: std::ops::Range<u32>) {
        let keyspace = self.engine.open_keyspace(name).unwrap();
        let range = key(numbers.start)..key(numbers.end);
        let mut batch = self.engine.batch().unwrap();
        batch.delete_range(&keyspace, range.clone()).unwrap();
        batch.commit_with(CommitMode::Sync).unwrap();
        self.database.state.get_mut(name).unwrap().retain(|key, _| !range.contains(key));
    }

    fn checkpoint(&mut self) {
        self.engine.checkpoint().unwrap();
    }
}

fn key(number: u32) -> Vec<u8> {
    format!("key/{number:04}").into_bytes()
}
