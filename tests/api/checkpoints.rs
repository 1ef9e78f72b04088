//! Checkpoints: what they move out of the log, and what the next open finds.

use crashkit::TempDir;
use forelog::{CommitMode, Engine, Options, Outcome};

#[cfg(feature = "sim")]
mod beside;

fn open(dir: &TempDir) -> Engine {
    Options::new().segment_bytes(1 << 20).commit_mode(CommitMode::Written).open(dir).unwrap()
}

fn put(engine: &Engine, keyspace: &str, range: std::ops::Range<u32>, value: u8) {
    let keys = engine.create_keyspace(keyspace).unwrap();
    for number in range {
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, number.to_be_bytes(), vec![value; 100]).unwrap();
        batch.commit().unwrap();
    }
    engine.flush().unwrap();
}

fn all(engine: &Engine) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let snapshot = engine.snapshot().unwrap();
    let mut all = Vec::new();
    for name in snapshot.keyspace_names().unwrap() {
        let keyspace = engine.open_keyspace(&name).unwrap();
        for entry in snapshot.iter(&keyspace).unwrap() {
            let (key, value) = entry.unwrap();
            all.push((name.clone(), key.to_vec(), value.to_vec()));
        }
    }
    all
}

fn bytes_of_log(dir: &TempDir) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap());
    let logs = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
    logs.map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn what_a_checkpoint_moved_is_there_after_reopening_and_the_log_is_short() {
    let dir = TempDir::new("checkpoint");
    let engine = open(&dir);
    put(&engine, "a", 0..20_000, 1);
    put(&engine, "b", 0..10, 2);
    let before = bytes_of_log(&dir);
    engine.checkpoint().unwrap();
    assert!(bytes_of_log(&dir) <= before / 2, "{before} bytes of log became {}", bytes_of_log(&dir));
    put(&engine, "a", 10_000..12_000, 3);
    engine.drop_keyspace("b").unwrap();
    put(&engine, "c", 0..10, 4);
    engine.close().unwrap();
    let mut tokens = Vec::new();
    for round in 0..6 {
        let engine = open(&dir);
        let expected = all(&engine);
        assert_eq!(
            (engine.visible_lsn(), engine.snapshot().unwrap().lsn()),
            (engine.durable_lsn(), engine.durable_lsn())
        );
        let nothing = engine.batch().unwrap().commit().unwrap().token();
        tokens.push(nothing);
        engine.checkpoint().unwrap();
        assert!(all(&engine) == expected, "round {round}");
        // In every other round the layers have all there is, and the log has nothing; and every other one of each kind
        // ends without a close.
        if round % 2 == 0 {
            put(&engine, "c", 5..15, round);
        }
        let expected = all(&engine);
        let reached = engine.durable_lsn();
        if round % 4 < 2 {
            engine.close().unwrap();
        } else {
            drop(engine);
        }
        let engine = open(&dir);
        assert!(all(&engine) == expected, "round {round}");
        assert_eq!((engine.visible_lsn(), engine.durable_lsn()), (reached, reached), "round {round}");
        for token in &tokens {
            assert_eq!(engine.outcome(token).unwrap(), Outcome::Durable, "of a commit that did nothing");
        }
        engine.close().unwrap();
    }
}

/// Runs say only the number of a keyspace. One that was dropped, and of which no list says anything any more, must not give
/// its number to another.
#[test]
fn what_was_in_a_dropped_keyspace_is_in_no_later_one() {
    let dir = TempDir::new("checkpoint");
    let engine = open(&dir);
    put(&engine, "stays", 0..2_000, 1);
    put(&engine, "old", 0..10, 2);
    engine.checkpoint().unwrap();
    engine.drop_keyspace("old").unwrap();
    // A layer that is too small to have those below merged into it.
    put(&engine, "stays", 0..1, 3);
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    let engine = open(&dir);
    put(&engine, "new", 20..21, 4);
    engine.checkpoint().unwrap();
    let expected = all(&engine);
    engine.close().unwrap();
    let engine = open(&dir);
    assert!(all(&engine) == expected, "{} entries instead of {}", all(&engine).len(), expected.len());
}

/// An id is kept from being used again by a keyspace that nobody sees. Its name was a user's.
#[test]
fn a_keyspace_of_any_name_is_opened_again() {
    let dir = TempDir::new("checkpoint");
    for name in ["dropped", "dropped 0", "dropped 1"] {
        let engine = open(&dir);
        put(&engine, name, 0..3, 1);
        put(&engine, "x", 0..3, 1);
        engine.drop_keyspace("x").unwrap();
        let expected = all(&engine);
        engine.checkpoint().unwrap();
        engine.close().unwrap();
        let engine = open(&dir);
        assert_eq!(all(&engine), expected);
        engine.close().unwrap();
    }
}
