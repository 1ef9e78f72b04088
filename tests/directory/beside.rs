//! A reader beside a writer, with what the writer does put before each single call of the reader ("A reader beside a writer"
//! in `src/disk/LOCK.md`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use forelog::unstable::disk::{Access, DirCall, Disk, DiskFile, FileLayer, Layer, Layered, LayeredFile, LockMode};
use forelog::{Checkpoints, CommitMode, DamageCause, Engine, ErrorKind, LockHeld, ReadOnly, ReadOnlyOptions, Result};

use super::ground::{Ground, is_lock};

/// What is done before a call of the reader, with its number and the name of the file that it reads.
/// An error becomes that of the read.
type Act = dyn FnMut(usize, Option<&OsStr>) -> io::Result<()> + Send;

/// Counts the calls of a reader, on directories and reads of files, refuses those that change something, and acts before
/// them.
#[derive(Clone)]
struct Hook {
    act: Arc<Mutex<Box<Act>>>,
    calls: Arc<AtomicUsize>,
    /// Neither LOCK nor the directory can be locked.
    without_locks: bool,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

impl Hook {
    fn new(act: impl FnMut(usize, Option<&OsStr>) -> io::Result<()> + Send + 'static) -> Self {
        let act: Box<Act> = Box::new(act);
        Hook { act: Arc::new(Mutex::new(act)), calls: Arc::default(), without_locks: false }
    }

    /// Acts once, before the call with this number.
    fn once(at: usize, act: impl FnOnce() + Send + 'static) -> Self {
        let mut act = Some(act);
        Hook::new(move |call, _| {
            if call >= at
                && let Some(act) = act.take()
            {
                act();
            }
            Ok(())
        })
    }

    fn call(&self, read: Option<&OsStr>) -> io::Result<()> {
        let number = self.calls.fetch_add(1, SeqCst);
        (self.act.lock().unwrap())(number, read)
    }

    /// Reads `db` through it.
    fn read(&self, ground: &Ground) -> Result<ReadOnly> {
        let disk: Arc<dyn Disk> = Arc::new(Layered::new(ground.disk(), self.clone()));
        ReadOnlyOptions::new().beside_a_writer(!self.without_locks).open_on(disk, ground.path("db"))
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
        self.call(None)?;
        match call {
            DirCall::Lock(_) if self.without_locks => Err(io::ErrorKind::Unsupported.into()),
            DirCall::Open(name, _) if self.without_locks && is_lock(name) => {
                Err(io::ErrorKind::PermissionDenied.into())
            }
            _ => Ok(()),
        }
    }

    fn file(&self, name: &OsStr, _: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if is_lock(name) {
            file
        } else {
            let read = ReadFile { name: name.to_owned(), hook: self.clone(), met: None };
            Arc::new(LayeredFile::new(file, read))
        }
    }
}

#[derive(Debug)]
struct ReadFile {
    name: OsString,
    hook: Hook,
    met: Option<Met>,
}

impl FileLayer for ReadFile {
    fn read_at(&self, file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.hook.call(Some(&self.name))?;
        match &self.met {
            Some(met) => met.read_at(file, buffer, offset),
            None => file.read_at(buffer, offset),
        }
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

/// A writer, open or not, and how many commits it has acknowledged: of one key each, in this order.
#[derive(Debug)]
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
    try_seen(database).unwrap()
}

fn try_seen(database: &ReadOnly) -> Result<usize> {
    let of = |keyspace: &str| -> Result<Vec<Vec<u8>>> {
        database.iter(keyspace)?.map(|entry| entry.map(|(key, _)| key.to_vec())).collect()
    };
    let rows = of("rows")?;
    assert_eq!(rows, of("again")?, "a part of a commit");
    assert!(rows.iter().enumerate().all(|(number, key)| *key == format!("{number:05}").into_bytes()), "a hole");
    if let Some(last) = rows.last() {
        assert_eq!(database.get("rows", last)?.unwrap(), &[b'v'; 300][..]);
    }
    Ok(rows.len())
}

/// What a writer does while a reader reads.
type Doing = fn(&Writer);

const ACTS: [(&str, Doing); 9] = [
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

/// A database of which one kind has tables.
fn writer(ground: Ground, checkpoints: usize) -> Arc<Writer> {
    let writer = Writer::new(ground);
    (0..checkpoints).for_each(|_| {
        writer.commits(12);
        writer.checkpoint();
    });
    writer.commits(7);
    // The segment behind the one in use is there when the names are listed: its frames prove earlier ones durable.
    let is_prepared = || {
        let newest = writer.ground.names("db").unwrap().into_iter().rfind(|name| name.ends_with(".log")).unwrap();
        u64::from_str_radix(&newest[..16], 16).unwrap() >= writer.with(Engine::durable_lsn).get()
    };
    while !is_prepared() {
        std::thread::yield_now();
    }
    writer
}

/// Whatever the writer does between two calls of the reader, it sees a prefix with all that was acknowledged before. So it
/// does where it cannot know that there is a writer.
#[test]
fn whatever_a_writer_does_a_reader_has_what_was_acknowledged_before() {
    for ((what, act), checkpoints) in ACTS.into_iter().flat_map(|act| [0, 1, 3].map(|checkpoints| (act, checkpoints))) {
        for at in 0.. {
            let [ground, os] = Ground::both("beside");
            // The operating system's files now and then: they differ in nothing that a reader asks for.
            let writer = writer(if at % 16 == 5 { os } else { ground }, checkpoints);
            let acknowledged = writer.acknowledged.load(SeqCst);
            let doing = Arc::clone(&writer);
            let hook = Hook { without_locks: at % 2 == 1, ..Hook::once(at, move || act(&doing)) };
            let place = format!("{what} before call {at}, {checkpoints} checkpoints");
            let read = hook.read(&writer.ground).unwrap_or_else(|error| panic!("{place}: {error:?}"));
            assert!(seen(&read) >= acknowledged, "{place}: {} seen", seen(&read));
            let report = read.recovery();
            assert_eq!(read.has_writer(), report.lock == LockHeld::Beside, "{place}");
            assert!(report.proven_durable <= read.lsn() && (!read.has_writer() || report.crashed.is_none()), "{place}");
            let calls = hook.calls.load(SeqCst);
            if at >= calls {
                assert!(at > 15, "{calls} calls");
                break;
            }
        }
    }
}

/// What was found stays open: a reader that needs longer than the writer for a checkpoint ends all the same.
#[test]
fn a_reader_ends_though_a_checkpoint_comes_before_each_of_its_reads() {
    for ground in Ground::both("beside-slow") {
        let writer = writer(ground, 3);
        let (doing, histories) = (Arc::clone(&writer), Arc::new(AtomicUsize::new(0)));
        let opened = Arc::clone(&histories);
        let mut checkpoints = 0;
        let hook = Hook::new(move |_, read| {
            let name = read.map(OsStr::to_string_lossy).unwrap_or_default();
            opened.fetch_add(usize::from(name == "HISTORY"), SeqCst);
            // Not for ever: who begins again finds ever more to read.
            if checkpoints < 200 && (name.ends_with(".run") || name.ends_with(".log")) {
                checkpoints += 1;
                // So that the next one has something to take in, and segments go.
                doing.commits(8);
                doing.checkpoint();
            }
            Ok(())
        });
        let read = hook.read(&writer.ground).unwrap();
        assert!(seen(&read) >= 43);
        assert!(writer.with(|engine| engine.table_stats().merges) > 0, "runs were removed");
        let histories = histories.load(SeqCst);
        assert!(histories < 12, "it began again: {histories} reads of HISTORY");
    }
}

/// Commits once before a read of one file, which then returns a byte at `position` that was never there: the read has met the
/// write in the midst of a word.
#[derive(Clone, Debug)]
struct Met {
    name: OsString,
    reads: Arc<AtomicUsize>,
    at: usize,
    position: u64,
    writer: Arc<Writer>,
}

impl Layer for Met {
    fn file(&self, name: &OsStr, _: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let hook = Hook::new(|_, _| Ok(()));
        let met = (name == self.name).then(|| self.clone());
        Arc::new(LayeredFile::new(file, ReadFile { name: name.to_owned(), hook, met }))
    }
}

impl Met {
    fn read_at(&self, file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let is_it = self.reads.fetch_add(1, SeqCst) == self.at;
        if is_it {
            self.writer.commits(1);
        }
        let read = file.read_at(buffer, offset)?;
        let index = usize::try_from(self.position.saturating_sub(offset)).unwrap();
        if is_it && self.position >= offset && index < read {
            buffer[index] ^= 1;
        }
        Ok(read)
    }
}

/// The first look, the second, the third: whichever of them meets the write of a frame, that is no rot.
#[test]
fn a_read_that_meets_a_write_is_not_rot() {
    // In the header of the frame that is written, and in its payload.
    for (at, behind) in (0..12).flat_map(|at| [9, 60].map(|behind| (at, behind))) {
        let [ground, _] = Ground::both("beside-met");
        let writer = writer(ground, 0);
        let end = writer.with(Engine::durable_lsn).get();
        let logs = writer.ground.names("db").unwrap().into_iter().filter(|name| name.ends_with(".log"));
        let base_of = |name: &str| u64::from_str_radix(&name[..16], 16).unwrap();
        let name = logs.rev().find(|name| base_of(name) < end).unwrap();
        let position = end - base_of(&name) + behind;
        assert!(position < 2500, "the next frame is to be in the same segment, and behind no midpoint");
        let met = Met { name: name.into(), reads: Arc::default(), at, position, writer: Arc::clone(&writer) };
        let disk: Arc<dyn Disk> = Arc::new(Layered::new(writer.ground.disk(), met));
        let read = ReadOnlyOptions::new().beside_a_writer(true).open_on(disk, writer.ground.path("db"));
        let read = read.unwrap_or_else(|error| panic!("read {at}, {behind}: {error:?}"));
        assert!(seen(&read) >= 7, "read {at}, {behind}: {} seen", seen(&read));
    }
}

/// A list may leave out what is made while it is read, and HISTORY, which is replaced.
#[test]
fn what_a_list_leaves_out_is_found_by_its_name() {
    let [ground, _] = Ground::both("beside-list");
    let writer = writer(ground, 0);
    writer.commits(20);
    let logs = writer.ground.names("db").unwrap().into_iter().filter(|name| name.ends_with(".log"));
    let hidden: Vec<String> = logs.skip(1).chain(["HISTORY".to_owned()]).collect();
    assert!(hidden.len() > 3, "{hidden:?}");
    for name in hidden {
        // Renamed away before the names are listed, and back before the next call.
        let (doing, is_hidden, of) = (Arc::clone(&writer), Arc::new(AtomicUsize::new(0)), name.clone());
        let hidden = Arc::clone(&is_hidden);
        let around = move |call: DirCall<'_>, is_before: bool| {
            let ground = &doing.ground;
            let (name, away) = (format!("db/{of}"), format!("db/{of}.away"));
            match (call, is_before) {
                (DirCall::List, true) if hidden.fetch_add(1, SeqCst) == 0 => ground.rename(&name, &away),
                (DirCall::List, false) if hidden.load(SeqCst) == 1 => ground.rename(&away, &name),
                _ => {}
            }
        };
        let disk: Arc<dyn Disk> = Arc::new(Layered::new(writer.ground.disk(), Around(Arc::new(around))));
        let read = ReadOnlyOptions::new().beside_a_writer(true).open_on(disk, writer.ground.path("db"));
        let read = read.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(is_hidden.load(SeqCst) == 1, "it was read twice: {name}");
        // The last segment is only asked for, not read.
        let newest = writer.ground.names("db").unwrap().into_iter().rfind(|name| name.ends_with(".log"));
        assert!(seen(&read) == 27 || newest == Some(name), "{} seen", seen(&read));
    }
}

/// Told each call on a directory, and whether that is before it.
type Told = dyn Fn(DirCall<'_>, bool) + Send + Sync;

#[derive(Clone)]
struct Around(Arc<Told>);

impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Around")
    }
}

impl Layer for Around {
    fn before(&self, call: DirCall<'_>) -> io::Result<()> {
        (self.0)(call, true);
        Ok(())
    }

    fn after(&self, call: DirCall<'_>, _: bool) {
        (self.0)(call, false);
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
            let hook = Hook::once(at, move || {
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
            let read = hook.read(&writer.ground);
            let calls = hook.calls.load(SeqCst);
            match read {
                // A directory that was renamed is the same one. The last calls read a HISTORY that is open.
                Ok(read) if act == 1 || at + 4 > calls => assert_eq!(seen(&read), 10, "{act} before call {at}"),
                Ok(_) => panic!("{act} before call {at} of {calls} was not noticed"),
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
        // All segments behind the first one: what is in it proves that there were more.
        logs[1..].iter().for_each(|log| writer.ground.rename(&format!("db/{log}"), &format!("db/{log}.away")));
        assert_eq!(read().unwrap_err().damage().map(|damage| damage.cause), Some(DamageCause::MissingSegment));
        logs[1..].iter().for_each(|log| writer.ground.rename(&format!("db/{log}.away"), &format!("db/{log}")));
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
        let damaged = read().unwrap().get("rows", "00000").unwrap_err();
        assert!(damaged.kind() == ErrorKind::Damaged && damaged.to_string().contains(&run), "{damaged}");
        let verify =
            ReadOnlyOptions::new().beside_a_writer(true).verify_on(writer.ground.disk(), writer.ground.path("db"));
        assert_eq!(verify.unwrap_err().kind(), ErrorKind::Damaged);
        flip(&format!("db/table/{run}"), 600);
        assert_eq!(seen(&read().unwrap()), 9);
    }
}

/// A frame that cannot be read for a moment, nor what is read ahead with it, ends no log: that is told.
#[test]
fn a_failed_read_is_not_the_end_of_the_log() {
    let [ground, _] = Ground::both("beside-failing");
    let writer = writer(ground, 1);
    let mut refused = 0;
    for at in 0.. {
        let mut reads = 0;
        let hook = Hook::new(move |_, read| {
            reads += usize::from(read.is_some());
            if read.is_some() && (reads == at + 1 || reads == at + 2) {
                Err(io::Error::from_raw_os_error(5))
            } else {
                Ok(())
            }
        });
        match hook.read(&writer.ground).and_then(|read| try_seen(&read)) {
            Ok(seen) => assert_eq!(seen, 19, "read {at}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io, "read {at}: {error}");
                refused += 1;
            }
        }
        if hook.calls.load(SeqCst) < at {
            break;
        }
    }
    assert!(refused > 5, "{refused}");
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
