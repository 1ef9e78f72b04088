//! A read that fails, as one of a table may: the call has its error, and nothing else has changed.

use crate::index::fault::read_fails_after;
use crate::{CommitMode, Engine, ErrorKind, Keyspace};

fn filled() -> (Engine, Keyspace) {
    let engine = Engine::in_memory().unwrap();
    let keys = engine.create_keyspace("k").unwrap();
    let mut batch = engine.batch().unwrap();
    (0..300_u32).for_each(|key| batch.put(&keys, key.to_be_bytes(), b"value").unwrap());
    batch.commit_with(CommitMode::Async).unwrap();
    (engine, keys)
}

fn fails<T>(call: impl FnOnce() -> crate::Result<T>) {
    read_fails_after(0);
    assert_eq!(call().err().map(|error| error.kind()), Some(ErrorKind::Io));
}

#[test]
fn each_call_that_reads_tells_of_it() {
    let (engine, keys) = filled();
    let (snapshot, mut transaction) = (engine.snapshot().unwrap(), engine.begin().unwrap());
    let key = 7_u32.to_be_bytes();
    fails(|| snapshot.get(&keys, key));
    fails(|| transaction.get(&keys, key));
    fails(|| snapshot.keyspace("k"));
    fails(|| snapshot.keyspace_names());
    fails(|| engine.create_keyspace("k"));
    fails(|| engine.create_keyspace("another"));
    fails(|| engine.open_keyspace("k"));
    fails(|| engine.keyspace_names());
    fails(|| engine.drop_keyspace("k"));
    assert_eq!(snapshot.get(&keys, key).unwrap().unwrap(), b"value");
    assert_eq!(transaction.get(&keys, key).unwrap().unwrap(), b"value");
    assert_eq!(engine.keyspace_names().unwrap(), ["k"]);
}

/// What comes behind would look as if nothing were missing before it.
#[test]
fn a_range_ends_with_the_error() {
    let (engine, keys) = filled();
    for reads in 0..3 {
        for lent in [false, true] {
            let mut transaction = engine.begin().unwrap();
            transaction.put(&keys, 1000_u32.to_be_bytes(), b"own").unwrap();
            let mut range = transaction.iter(&keys).unwrap();
            read_fails_after(reads);
            let mut next = || {
                let of = |entry: crate::Result<(&[u8], &[u8])>| entry.map(|(key, _)| key.to_vec());
                if lent {
                    range.next_ref().map(of)
                } else {
                    range.next().map(|entry| entry.map(|(key, _)| key.to_vec()))
                }
            };
            let mut number = 0_u32;
            let error = loop {
                match next() {
                    Some(Ok(key)) => assert_eq!(key, number.to_be_bytes()),
                    Some(Err(error)) => break error,
                    None => panic!("no error after {number} entries"),
                }
                number += 1;
            };
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(number < 300);
            assert!(next().is_none() && next().is_none());
        }
    }
}

#[test]
fn a_range_from_behind_ends_with_the_error() {
    let (engine, keys) = filled();
    let mut range = engine.snapshot().unwrap().iter(&keys).unwrap();
    assert!(range.next().unwrap().is_ok());
    fails(|| range.next_back().unwrap());
    assert!(range.next_back().is_none() && range.next().is_none());
}

#[test]
fn a_commit_whose_reads_cannot_be_validated_did_nothing_and_can_be_tried_again() {
    let (engine, keys) = filled();
    let mut transaction = engine.begin().unwrap();
    transaction.get(&keys, 7_u32.to_be_bytes()).unwrap();
    assert_eq!(transaction.range(&keys, 8_u32.to_be_bytes()..9_u32.to_be_bytes()).unwrap().count(), 1);
    transaction.put(&keys, 7_u32.to_be_bytes(), b"new").unwrap();
    let before = engine.visible_lsn();
    for reads in 0..2 {
        read_fails_after(reads);
        let error = transaction.try_commit_with(CommitMode::Async).unwrap_err();
        assert_eq!((error.kind(), error.token()), (ErrorKind::Io, None));
        transaction = error.into_transaction().expect("nothing was done");
    }
    assert_eq!(engine.visible_lsn(), before);
    transaction.try_commit_with(CommitMode::Async).unwrap();
    assert_eq!(engine.snapshot().unwrap().get(&keys, 7_u32.to_be_bytes()).unwrap().unwrap(), b"new");
}
