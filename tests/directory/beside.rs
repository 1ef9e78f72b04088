//! A reader beside a writer, with what the writer does put before each single call of the reader ("A reader beside a writer"
//! in `src/disk/LOCK.md`).

use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use forelog::unstable::disk::{Access, DirCall, Disk, DiskFile, DiskLock, FileStatus, Layer, Layered, LockMode};
use forelog::{Checkpoints, CommitMode, Engine, ErrorKind, LockHeld, ReadOnly, ReadOnlyOptions, Result};

use super::ground::{Ground, is_lock};

/// What is done before the call with this number.
struct Once {
    at: usize,
    calls: usize,
    act: Option<Box<dyn FnOnce() + Send>>,
}

/// Counts the calls of a reader, on directories and reads of files, refuses those that change something, and acts before one
/// of them.
#[derive(Clone)]
struct Hook(Arc<Mutex<Once>>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

impl Hook {
    fn call(&self) {
        let act = {
            let mut once = self.0.lock().unwrap();
            once.calls += 1;
            if once.calls > once.at { once.act.take() } else { None }
        };
        if let Some(act) = act {
            act();
        }
    }
}

impl Layer for Hook {
    fn before(&self, call: DirCall<'_>) -> io::Result<()> {
        let is_reading = matches!(
            call,
            DirCall::OpenDir(_)
                | DirCall::Open(_, Access::Read)
                | DirCall::List
                | DirCall::Child(_, Access::Read)
                | DirCall::Lock(LockMode::Shared)
                | DirCall::IdOf(_)
        );
        assert!(is_reading, "a reader has changed something: {call:?}");
        self.call();
        Ok(())
    }

    fn file(&self, name: &OsStr, _: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if is_lock(name) { file } else { Arc::new(ReadFile { file, hook: self.clone() }) }
    }
}

#[derive(Debug)]
struct ReadFile {
    file: Arc<dyn DiskFile>,
    hook: Hook,
}

impl DiskFile for ReadFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn status(&self) -> io::Result<FileStatus> {
        self.file.status()
    }

    fn lock(&self, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.file.lock(mode)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.hook.call();
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        panic!("a reader writes")
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        panic!("a reader cuts")
    }

    fn sync_data(&self) -> io::Result<()> {
        panic!("a reader syncs")
    }

    fn sync_all(&self) -> io::Result<()> {
        panic!("a reader syncs")
    }
}

/// Reads `db` beside its writer, with `act` done before call `at`; returns how many calls there were, too.
fn read_with(ground: &Ground, at: usize, act: impl FnOnce() + Send + 'static) -> (Result<ReadOnly>, usize) {
    let hook = Hook(Arc::new(Mutex::new(Once { at, calls: 0, act: Some(Box::new(act)) })));
    let disk: Arc<dyn Disk> = Arc::new(Layered::new(ground.disk(), hook.clone()));
    let read = ReadOnlyOptions::new().beside_a_writer(true).open_on(disk, ground.path("db"));
    let calls = hook.0.lock().unwrap().calls;
    (read, calls)
}

/// A writer, open or not, and how many commits it has acknowledged: of one key each, in this order.
struct Writer {
    ground: Ground,
    engine: Mutex<Option<Engine>>,
    acknowledged: AtomicUsize,
}

impl Writer {
    fn new(ground: Ground) -> Arc<Self> {
        let writer = Writer { ground, engine: Mutex::new(None), acknowledged: AtomicUsize::new(0) };
        writer.open();
        Arc::new(writer)
    }

    fn open(&self) {
        let options = self.ground.options().checkpoints(Checkpoints::OnRequest);
        *self.engine.lock().unwrap() = Some(options.open_on(self.ground.disk(), self.ground.path("db")).unwrap());
    }

    fn close(&self) {
        self.engine.lock().unwrap().take().unwrap().close().unwrap();
    }

    fn with<R>(&self, act: impl FnOnce(&Engine) -> R) -> R {
        act(self.engine.lock().unwrap().as_ref().unwrap())
    }

    fn commit(&self, mode: CommitMode) {
        self.with(|engine| {
            let rows = [engine.create_keyspace("rows").unwrap(), engine.create_keyspace("again").unwrap()];
            let mut batch = engine.batch().unwrap();
            let number = self.acknowledged.load(SeqCst);
            rows.iter().for_each(|rows| batch.put(rows, format!("{number:05}"), [b'v'; 300]).unwrap());
            batch.commit_with(mode).unwrap();
            self.acknowledged.store(number + 1, SeqCst);
        });
    }

    fn commits(&self, count: usize) {
        (0..count).for_each(|number| {
            self.commit(if number % 2 == 0 { CommitMode::Sync } else { CommitMode::Written });
        });
    }

    fn checkpoint(&self) {
        self.with(|engine| {
            engine.flush().unwrap();
            engine.checkpoint().unwrap();
        });
    }
}

/// How many commits a reader sees: a prefix, the same in both keyspaces.
fn seen(database: &ReadOnly) -> usize {
    let of = |keyspace: &str| -> Vec<Vec<u8>> {
        database.iter(keyspace).unwrap().map(|entry| entry.unwrap().0.to_vec()).collect()
    };
    let rows = of("rows");
    assert_eq!(rows, of("again"), "a part of a commit");
    assert!(rows.iter().enumerate().all(|(number, key)| *key == format!("{number:05}").into_bytes()), "a hole");
    if let Some(last) = rows.last() {
        assert_eq!(database.get("rows", last).unwrap().unwrap(), &[b'v'; 300][..]);
    }
    rows.len()
}

/// What a writer does while a reader reads.
type Act = fn(&Writer);

const ACTS: [(&str, Act); 9] = [
    ("nothing", |_| ()),
    ("a commit", |writer| writer.commits(1)),
    ("some segments", |writer| writer.commits(30)),
    ("a checkpoint", |writer| writer.checkpoint()),
    ("checkpoints and merges", |writer| {
        (0..4).for_each(|_| {
            writer.commits(8);
            writer.checkpoint();
        });
    }),
    ("a close", |writer| writer.close()),
    ("a close that takes in the log", |writer| {
        writer.checkpoint();
        writer.close();
    }),
    ("another life", |writer| {
        writer.close();
        writer.open();
        writer.commits(20);
    }),
    ("lives, with checkpoints", |writer| {
        (0..3).for_each(|_| {
            writer.commits(9);
            writer.checkpoint();
            writer.close();
            writer.open();
            writer.commits(3);
        });
    }),
];

/// Whatever the writer does between two calls of the reader, it sees a prefix with all that was acknowledged before.
#[test]
fn whatever_a_writer_does_a_reader_has_what_was_acknowledged_before() {
    for (what, act) in ACTS {
        for (name, before) in [("a log", 0), ("tables", 1), ("more tables", 3)] {
            let mut at = 0;
            loop {
                let [ground, os] = Ground::both("beside");
                // The operating system's files now and then: they differ in nothing that a reader asks for.
                let writer = Writer::new(if at % 16 == 5 { os } else { ground });
                (0..before).for_each(|_| {
                    writer.commits(12);
                    writer.checkpoint();
                });
                writer.commits(7);
                let acknowledged = writer.acknowledged.load(SeqCst);
                let doing = Arc::clone(&writer);
                let (read, calls) = read_with(&writer.ground, at, move || act(&doing));
                let read = read.unwrap_or_else(|error| panic!("{what} on {name} before call {at}: {error:?}"));
                assert!(seen(&read) >= acknowledged, "{what} on {name} before call {at}: {} seen", seen(&read));
                assert!(
                    read.recovery().crashed.is_none()
                        && read.has_writer() == (read.recovery().lock == LockHeld::Beside)
                );
                assert!(read.recovery().proven_durable <= read.lsn());
                if at >= calls {
                    break;
                }
                at += 1;
            }
            assert!(at > 15, "{at} calls");
        }
    }
}

/// Others' doings: a reader has one state as a whole, or a typed error.
#[test]
fn what_is_removed_or_replaced_under_a_reader_is_told() {
    let mut told = Vec::new();
    for act in 0..3 {
        for at in 0.. {
            let [ground, _] = Ground::both("beside-others");
            let writer = Writer::new(ground);
            writer.commits(5);
            writer.checkpoint();
            writer.commits(5);
            let doing = Arc::clone(&writer);
            let (read, calls) = read_with(&writer.ground, at, move || {
                let ground = &doing.ground;
                match act {
                    0 => ground.remove_tree("db"),
                    1 => ground.rename_dir("db", "elsewhere"),
                    // Another database comes to its place, file by file, as by a copy.
                    _ => {
                        let other = ground.open("other").unwrap();
                        super::ground::put(&other, "x").unwrap();
                        other.close().unwrap();
                        for name in ground.names("other").unwrap() {
                            let bytes = ground.read(&format!("other/{name}"));
                            ground.write(&format!("db/{name}"), &bytes);
                        }
                    }
                }
            });
            match read {
                Ok(read) if read.keyspace_names().unwrap() == ["again", "rows"] => assert_eq!(seen(&read), 10, "{at}"),
                Ok(read) => panic!("{act} before call {at}: {:?}", read.keyspace_names()),
                Err(error) => told.push((act, error.kind())),
            }
            // The engine may not close over what became of its directory.
            drop(writer.engine.lock().unwrap().take());
            if at >= calls {
                break;
            }
        }
    }
    let of = |act| told.iter().filter(move |(of, _)| *of == act).map(|(_, kind)| *kind);
    // Before anything was seen of it, it is no database, or one whose names cannot be listed.
    assert!(of(0).all(|kind| matches!(kind, ErrorKind::Removed | ErrorKind::NotADatabase | ErrorKind::Io)), "{told:?}");
    assert_eq!(of(0).filter(|kind| *kind == ErrorKind::Io).count(), 2);
    assert!(of(0).any(|kind| kind == ErrorKind::Removed), "{told:?}");
    assert!(of(1).all(|kind| kind == ErrorKind::NotADatabase), "only before it was opened: {told:?}");
    assert!(of(2).any(|kind| kind == ErrorKind::Removed), "{told:?}");
    assert!(of(2).all(|kind| matches!(kind, ErrorKind::Removed | ErrorKind::Damaged)), "{told:?}");
}

/// Beside a writer, too, rot is damage: in a frame that others prove durable, in the last one, and in a run.
#[test]
fn rot_is_damage_beside_a_writer_too() {
    for ground in Ground::both("beside-rot") {
        let writer = Writer::new(ground);
        writer.commits(9);
        let flip = |name: &str, at: u64| writer.ground.flip(name, at);
        let read =
            || ReadOnlyOptions::new().beside_a_writer(true).open_on(writer.ground.disk(), writer.ground.path("db"));
        let logs: Vec<_> =
            writer.ground.names("db").unwrap().into_iter().filter(|name| name.ends_with(".log")).collect();
        assert!(logs.len() > 2);
        assert_eq!(seen(&read().unwrap()), 9);
        for (log, at) in [(&logs[0], 600), (&logs[0], 700), (&logs[1], 600)] {
            flip(&format!("db/{log}"), at);
            assert_eq!(read().unwrap_err().kind(), ErrorKind::Damaged, "{log}, {at}");
            flip(&format!("db/{log}"), at);
        }
        // The last frame: no later one proves it durable.
        let end = read().unwrap().lsn().get();
        let log = logs.iter().rfind(|log| u64::from_str_radix(&log[..16], 16).unwrap() < end).unwrap();
        let base = u64::from_str_radix(&log[..16], 16).unwrap();
        flip(&format!("db/{log}"), end - base - 100);
        let error = read().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        flip(&format!("db/{log}"), end - base - 100);
        writer.checkpoint();
        let run = writer.ground.names("db/table").unwrap().into_iter().find(|name| name.ends_with(".run")).unwrap();
        flip(&format!("db/table/{run}"), 600);
        assert_eq!(read().unwrap_err().kind(), ErrorKind::Damaged);
        flip(&format!("db/table/{run}"), 600);
        assert_eq!(seen(&read().unwrap()), 9);
    }
}

/// It must be asked for, and says how; without a writer it is a reader as every other.
#[test]
fn a_reader_goes_beside_a_writer_only_if_asked_to() {
    for ground in Ground::both("beside-asked") {
        let writer = Writer::new(ground);
        writer.commits(1);
        let (disk, path) = (|| writer.ground.disk(), writer.ground.path("db"));
        let refused = [
            Engine::read_only_on(disk(), &path).map(drop).unwrap_err(),
            ReadOnlyOptions::new().verify_on(disk(), &path).map(drop).unwrap_err(),
        ];
        for error in refused {
            assert!(error.kind() == ErrorKind::Locked && error.to_string().contains("beside_a_writer"), "{error}");
        }
        let asked = ReadOnlyOptions::new().beside_a_writer(true);
        let report = asked.verify_on(disk(), &path).unwrap();
        assert_eq!((report.lock, report.crashed, report.obstacle.is_none()), (LockHeld::Beside, None, true));
        writer.close();
        let read = asked.open_on(disk(), &path).unwrap();
        assert!(!read.has_writer() && read.recovery().lock == LockHeld::Both && seen(&read) == 1);
        // What it has stays as it was.
        writer.open();
        writer.commits(5);
        assert_eq!(seen(&read), 1);
        writer.close();
    }
}
