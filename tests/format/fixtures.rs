//! Every directory that a released format left opens for ever, with what was in it, and can be written to.

use std::path::Path;

use forelog::log::{Log, LogOptions};
use forelog::{CommitMode, Engine, Outcome, Token};

use crate::script::{FIXTURES, SEGMENT_BYTES, State, root, value};
use crate::write::options;
use crashkit::{TempDir, contents_of, restore};

pub(crate) fn state_of(engine: &Engine) -> State {
    let snapshot = engine.snapshot().unwrap();
    let mut state = State::new();
    for name in snapshot.keyspace_names().unwrap() {
        let keyspace = snapshot.keyspace(&name).unwrap().unwrap();
        let entries = snapshot.iter(&keyspace).unwrap().map(|entry| {
            let (key, value) = entry.unwrap();
            (key.to_vec(), value.to_vec())
        });
        state.insert(name, entries.collect());
    }
    state
}

/// The tokens that were handed out while the fixture was written, each with its answer.
fn tokens_of(name: &str) -> Vec<(Token, String)> {
    let text = std::fs::read_to_string(root().join(name).with_extension("tokens")).unwrap();
    let split = |line: &str| {
        let (token, outcome) = line.split_once(' ').unwrap();
        (token.parse().unwrap(), outcome.to_owned())
    };
    text.lines().map(split).collect()
}

fn check_tokens(name: &str, ask: impl Fn(&Token) -> forelog::Result<Outcome>) {
    for (token, outcome) in tokens_of(name) {
        assert_eq!(format!("{:?}", ask(&token).unwrap()), outcome, "{name}: {token}");
    }
}

pub(crate) fn copy_of(name: &str, dir: &Path) {
    restore(dir, &contents_of(&root().join(name)));
}

#[test]
fn directories_of_version_1_open_for_ever() {
    for fixture in &FIXTURES {
        let name = fixture.name;
        let work = TempDir::new("fixture");
        let dir = work.join("db");
        copy_of(name, &dir);
        Engine::verify(&dir).unwrap_or_else(|error| panic!("{name}: {error}"));
        let before = contents_of(&dir);

        let engine = options().open(&dir).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut expected = fixture.state();
        assert!(state_of(&engine) == expected, "{name}");
        check_tokens(name, |token| engine.outcome(token));
        drop(engine);
        if matches!(name, "closed") {
            assert!(contents_of(&dir) == before, "{name}: an open that commits nothing writes nothing");
        }

        let engine = options().open(&dir).unwrap();
        let keyspace = engine.create_keyspace("written later").unwrap();
        let mut batch = engine.batch().unwrap();
        batch.put(&keyspace, b"key", b"value").unwrap();
        let token = batch.commit_with(CommitMode::Sync).unwrap().token();
        engine.close().unwrap();

        expected.entry("written later".to_owned()).or_default().insert(b"key".to_vec(), b"value".to_vec());
        let engine = options().open(&dir).unwrap();
        assert!(state_of(&engine) == expected, "{name}, written to");
        check_tokens(name, |token| engine.outcome(token));
        assert_eq!(engine.outcome(&token).unwrap(), Outcome::Durable);
    }
}

#[test]
fn a_log_of_version_1_that_was_retired_and_pruned_opens_for_ever() {
    let work = TempDir::new("fixture");
    let dir = work.join("log");
    copy_of("retired", &dir);
    let open = || LogOptions::new().segment_bytes(SEGMENT_BYTES).open(&dir).unwrap();
    let records = |log: &Log| -> Vec<Vec<u8>> {
        let scan = log.scan(forelog::Lsn::ZERO).unwrap();
        scan.map(|record| record.unwrap().payload).collect()
    };
    let mut expected: Vec<_> = (13..20).map(|n| value(1, n, 200)).chain((0..20).map(|n| value(2, n, 200))).collect();
    let log = open();
    assert!(records(&log) == expected);
    check_tokens("retired", |token| log.outcome(token));
    log.append(b"written later", CommitMode::Sync).unwrap();
    log.close().unwrap();
    expected.push(b"written later".to_vec());
    let log = open();
    assert!(records(&log) == expected);
    check_tokens("retired", |token| log.outcome(token));
}

#[test]
fn each_fixture_is_what_its_name_says() {
    let work = TempDir::new("fixture");
    let dir = |name: &str| {
        copy_of(name, &work.join(name));
        work.join(name)
    };
    let segments = |name: &str| contents_of(&dir(name)).iter().filter(|(path, _)| path.extension().is_some()).count();
    let verify = |name: &str| Engine::verify(dir(name)).unwrap();
    assert_eq!(contents_of(&dir("empty")).len(), 1, "HISTORY alone");
    assert!(verify("closed").crashed.is_none() && segments("closed") == 1);
    assert!(verify("killed").crashed.is_some() && verify("killed").dropped_frames == 0);
    assert!(verify("torn").dropped_frames > 0);
    assert!(segments("segments") >= 5 && segments("lives") >= 5);
    assert!(matches!(verify("marked").mark, forelog::MarkFound::Proves(_)));
    assert!(verify("uncut").crashed.is_none() && segments("uncut") > segments("closed"));
}
