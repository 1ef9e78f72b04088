//! Whatever a directory holds, open returns: a state that was committed, or a typed error that changed nothing. And
//! what a MARK of another time or another log says does not matter.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use forelog::sim::{self, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, Options};

/// How many commits the log of each seed holds.
const COMMITS: [usize; 6] = [12, 12, 12, 16, 12, 12];
const MARK: &str = "db/MARK";

/// The files of small logs, and the marks that get into their way.
struct Seeds {
    /// A log after a crash; after a clean close; after a crash at rest, with its mark; and the last one after a second
    /// life that ended in the same way. Then two with tables: after a crash, with log behind two layers; and after a close.
    disks: [SimDisk; COMMITS.len()],
    /// The marks of the first life at rest and of the second; of another log; of none.
    marks: [Vec<u8>; 4],
}

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| sim::run(1, seeds));

fn open(disk: &SimDisk) -> forelog::Result<Engine> {
    Options::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), "db")
}

fn commit(engine: &Engine, numbers: std::ops::Range<usize>) {
    let keys = engine.create_keyspace("keys").expect("a keyspace");
    for number in numbers {
        let mut batch = engine.batch().expect("open");
        batch.put(&keys, number.to_be_bytes(), vec![1; number * 60]).expect("a write");
        batch.commit_with(if number % 3 == 0 { CommitMode::Sync } else { CommitMode::Written }).expect("a commit");
    }
}

/// What the death of the process leaves once the log has been at rest for long enough to be marked.
fn killed_at_rest(disk: &SimDisk, numbers: std::ops::Range<usize>) -> SimDisk {
    let engine = open(disk).expect("a legal state");
    commit(&engine, numbers);
    engine.flush().expect("a flush");
    sim::sleep(Duration::from_secs(3));
    disk.crash_point().process_kill()
}

fn seeds() -> Seeds {
    let disk = SimDisk::new();
    let engine = open(&disk).expect("a new database");
    commit(&engine, 0..COMMITS[0]);
    let crashed = disk.crash_point().process_kill();
    engine.close().expect("a clean close");
    let closed = disk.crash_point().process_kill();
    let first = killed_at_rest(&SimDisk::new(), 0..COMMITS[2]);
    let second = killed_at_rest(&first.crash_point().process_kill(), COMMITS[2]..COMMITS[3]);
    let mark = |disk: &SimDisk| disk.read_file(MARK).expect("a mark");
    // Longer, so that what it says would matter if it were believed.
    let other = killed_at_rest(&SimDisk::new(), 0..COMMITS[3] + 4);
    let marks = [mark(&first), mark(&second), mark(&other), b"any bytes at all ".repeat(64)];
    let [with_log, with_tables] = with_tables();
    Seeds { disks: [crashed, closed, first, second, with_log, with_tables], marks }
}

fn with_tables() -> [SimDisk; 2] {
    let disk = SimDisk::new();
    let engine = open(&disk).expect("a new database");
    for numbers in [0..4, 4..8] {
        commit(&engine, numbers);
        engine.flush().expect("a flush");
        engine.checkpoint().expect("a checkpoint");
    }
    commit(&engine, 8..COMMITS[4]);
    let with_log = disk.crash_point().process_kill();
    engine.flush().expect("a flush");
    engine.checkpoint().expect("a checkpoint");
    engine.close().expect("a clean close");
    [with_log, disk.crash_point().process_kill()]
}

/// Whether a seed opens with everything in it, whatever else was done, if nothing was done but to give it this mark;
/// if not, it is refused.
fn is_harmless(seed: usize, mark: usize) -> bool {
    // HISTORY knows nothing of the life that this mark is of, so it is not the newest.
    (seed, mark) != (2, 1)
}

/// Reads the input as changes to the files: which file, what to do, where, and with what.
pub fn target(bytes: &[u8]) {
    let Some((&choice, changes)) = bytes.split_first() else { return };
    let seed = usize::from(choice) % COMMITS.len();
    let disk = SEEDS.disks[seed].crash_point().process_kill();
    let files = disk.files();
    // The mark that was put there, and whether anything else was done.
    let (mut marked, mut changed) = (None, false);
    for change in changes.chunks_exact(6) {
        let (path, content) = &files[usize::from(change[0]) % files.len()];
        let at = (u64::from(change[2]) << 8 | u64::from(change[3])) % (content.len() as u64).max(1);
        if change[1] % 7 == 6 {
            let mark = usize::from(change[4]) % SEEDS.marks.len();
            disk.write_file(MARK, &SEEDS.marks[mark]).expect("a file");
            marked = Some(mark);
            continue;
        }
        changed = true;
        // A file that an earlier change has removed or cut is left as it is.
        let _ = match change[1] % 7 {
            0 => disk.flip_bit(path, at * 8 + u64::from(change[4] % 8)),
            1 => disk.overwrite(path, at, &[change[4]]),
            2 => disk.truncate(path, at),
            3 => disk.delete(path),
            4 => disk.write_file(path, &content[usize::try_from(at).expect("small")..]),
            _ => disk.write_file(path, &files[usize::from(change[4]) % files.len()].1),
        };
    }
    let before = without_lock(&disk);
    let found = Options::new().open_on(Arc::new(disk.clone()), "db").map(|engine| check_prefix(&engine));
    if found.is_err() {
        assert!(before == without_lock(&disk), "a refusal changed something");
    }
    if !changed {
        let expected = marked.is_none_or(|mark| is_harmless(seed, mark)).then_some(COMMITS[seed]);
        assert_eq!(found.as_ref().ok().copied(), expected, "seed {seed} with mark {marked:?}: {found:?}");
    }
}

/// How many of the commits are there, the first ones. What layers have may be damaged, which only a read of it finds.
fn check_prefix(engine: &Engine) -> usize {
    let Ok(keys) = engine.open_keyspace("keys") else { return 0 };
    let snapshot = engine.snapshot().expect("open");
    let mut count = 0_usize;
    for entry in snapshot.iter(&keys).expect("alive") {
        let (key, value) = match entry {
            Ok(entry) => entry,
            Err(error) if error.kind() == ErrorKind::Damaged => break,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(key, count.to_be_bytes(), "a prefix");
        assert_eq!(value.len(), count * 60, "a committed value");
        count += 1;
    }
    count
}

fn without_lock(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
}
