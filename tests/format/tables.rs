//! A directory with tables that the first build with tables wrote opens for ever, with what was in it. (Its bytes: the tests of
//! fixtures in `src/`.) `tests/crash/fixtures.rs` has written it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forelog::salvage::Completeness;
use forelog::{CommitMode, Engine, ErrorKind, Options};

use crate::fixtures::state_of;
use crate::script::{State, checkout};
use crashkit::TempDir;

fn root() -> PathBuf {
    checkout().join("tests/fixtures/v1-tables")
}

/// Of each entry the length and the checksum of its value.
type Summary = BTreeMap<String, BTreeMap<String, String>>;

fn summary(state: &State) -> Summary {
    let key = |key: &[u8]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let value = |value: &[u8]| format!("{} {:08x}", value.len(), crc32fast::hash(value));
    let entries = |entries: &BTreeMap<Vec<u8>, Vec<u8>>| entries.iter().map(|(k, v)| (key(k), value(v))).collect();
    state.iter().map(|(name, of)| (name.clone(), entries(of))).collect()
}

fn expected() -> Summary {
    let mut all = Summary::new();
    let mut name = String::new();
    for line in std::fs::read_to_string(root().join("kinds.entries")).unwrap().lines() {
        match line.strip_prefix("  ").and_then(|entry| entry.split_once(' ')) {
            Some((key, value)) => _ = all.get_mut(&name).unwrap().insert(key.to_owned(), value.to_owned()),
            None => {
                line.clone_into(&mut name);
                all.insert(name.clone(), BTreeMap::new());
            }
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() { copy(&path, &to) } else { _ = std::fs::copy(&path, &to).unwrap() }
    }
}

fn files_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files_of(&path));
        } else if !path.ends_with("LOCK") {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

/// All that is there, by one key after the other and in both directions.
fn read(engine: &Engine) -> Summary {
    let state = state_of(engine);
    let snapshot = engine.snapshot().unwrap();
    for (name, entries) in &state {
        let keyspace = snapshot.keyspace(name).unwrap().unwrap();
        let back = snapshot.iter(&keyspace).unwrap().rev().map(Result::unwrap);
        assert!(back.map(|(key, value)| (key.to_vec(), value.to_vec())).eq(entries.clone().into_iter().rev()));
        for (key, value) in entries {
            assert_eq!(snapshot.get(&keyspace, key).unwrap().as_deref(), Some(value.as_slice()));
            assert_eq!(snapshot.get(&keyspace, [key.as_slice(), b"!"].concat()).unwrap(), None);
        }
    }
    summary(&state)
}

#[test]
fn a_directory_with_tables_opens_for_ever() {
    let work = TempDir::new("fixture");
    let dir = work.join("db");
    copy(&root().join("kinds"), &dir);
    let before = files_of(&dir);
    assert!(before.values().map(Vec::len).sum::<usize>() < 64 << 10);
    Engine::verify(&dir).unwrap();
    let mut all = expected();
    assert!(all.values().map(BTreeMap::len).sum::<usize>() > 70);

    let engine = Options::new().create(false).open(&dir).unwrap();
    assert_eq!(read(&engine), all);
    engine.close().unwrap();
    drop(engine);
    assert!(files_of(&dir) == before, "an open that commits nothing writes nothing");

    let salvaged = Engine::salvage(&dir, work.join("saved")).unwrap();
    assert!(salvaged.is_complete() && salvaged.completeness == Completeness::Prefix, "{salvaged:?}");
    assert_eq!(read(&Engine::open(work.join("saved")).unwrap()), all);

    let engine = Options::new().create(false).open(&dir).unwrap();
    let keyspace = engine.create_keyspace("written later").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.put(&keyspace, b"key", b"value").unwrap();
    batch.commit_with(CommitMode::Sync).unwrap();
    all.insert(
        "written later".to_owned(),
        [("6b6579".to_owned(), format!("5 {:08x}", crc32fast::hash(b"value")))].into(),
    );
    engine.checkpoint().unwrap();
    assert_eq!(read(&engine), all);
    engine.compact().unwrap();
    assert_eq!(read(&engine), all);
    engine.close().unwrap();
    drop(engine);
    assert_eq!(read(&Options::new().create(false).open(&dir).unwrap()), all);
}

#[test]
fn a_bare_log_refuses_a_directory_with_tables() {
    let work = TempDir::new("fixture");
    let dir = work.join("db");
    copy(&root().join("kinds"), &dir);
    let error = forelog::log::Log::open(&dir).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}
