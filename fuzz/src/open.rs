//! Whatever a directory holds, open returns: a state that was committed, or a typed error that changed nothing.

use std::sync::{Arc, LazyLock};

use forelog::sim::SimDisk;
use forelog::{CommitMode, Options};

const COMMITS: usize = 12;

/// The files of a small log after a crash, and of the same log after a clean close.
static SEEDS: LazyLock<[SimDisk; 2]> = LazyLock::new(|| {
    let disk = SimDisk::new();
    let engine = Options::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), "db").expect("a new database");
    let keys = engine.keyspace("keys").expect("a keyspace");
    for number in 0..COMMITS {
        let mut batch = engine.batch().expect("open");
        batch.put(&keys, number.to_be_bytes(), vec![1; number * 60]).expect("a write");
        batch.commit_with(if number % 3 == 0 { CommitMode::Sync } else { CommitMode::Written }).expect("a commit");
    }
    let crashed = disk.crash_point().process_kill();
    engine.close().expect("a clean close");
    [crashed, disk.crash_point().process_kill()]
});

/// Reads the input as changes to the files: which file, what to do, where, and with what.
pub fn target(bytes: &[u8]) {
    let Some((&choice, changes)) = bytes.split_first() else { return };
    let disk = SEEDS[usize::from(choice % 2)].crash_point().process_kill();
    let files = disk.files();
    for change in changes.chunks_exact(6) {
        let (path, content) = &files[usize::from(change[0]) % files.len()];
        let at = (u64::from(change[2]) << 8 | u64::from(change[3])) % (content.len() as u64).max(1);
        // A file that an earlier change has removed or cut is left as it is.
        let _ = match change[1] % 6 {
            0 => disk.flip_bit(path, at * 8 + u64::from(change[4] % 8)),
            1 => disk.overwrite(path, at, &[change[4]]),
            2 => disk.truncate(path, at),
            3 => disk.delete(path),
            4 => disk.write_file(path, &content[usize::try_from(at).expect("small")..]),
            _ => disk.write_file(path, &files[usize::from(change[4]) % files.len()].1),
        };
    }
    let before = without_lock(&disk);
    match Options::new().open_on(Arc::new(disk.clone()), "db") {
        Ok(engine) => {
            if let Ok(keys) = engine.open_keyspace("keys") {
                let snapshot = engine.snapshot().expect("open");
                for (number, entry) in snapshot.iter(&keys).expect("alive").enumerate() {
                    let (key, value) = entry.expect("readable");
                    assert_eq!(key, number.to_be_bytes(), "a prefix");
                    assert_eq!(value.len(), number * 60, "a committed value");
                }
            }
        }
        Err(_) => assert!(before == without_lock(&disk), "a refusal changed something"),
    }
}

fn without_lock(disk: &SimDisk) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    disk.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
}
