//! Keyspaces: created, listed and dropped atomically, in the log.

use std::collections::BTreeSet;

#[cfg(feature = "sim")]
use forelog::sim::{Granularity, Loss, SimDisk};
use forelog::{CommitMode, Engine, ErrorKind, Options};

use crashkit::{MODES, TempDir, error_of, get, in_memory, kind_of, open_on, prepared_ahead, put};

#[test]
fn creating_listing_and_dropping_survive_a_reopen() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    assert_eq!(engine.keyspace_names().unwrap(), Vec::<String>::new());
    for name in ["b", "c", "a"] {
        let keyspace = engine.create_keyspace(name).unwrap();
        assert_eq!(keyspace.name(), name);
        put(&engine, &keyspace, "key", name, CommitMode::Async).unwrap();
    }
    assert!(engine.drop_keyspace("c").unwrap().is_durable());
    assert_eq!(engine.keyspace_names().unwrap(), ["a", "b"]);
    drop(engine);
    let engine = Engine::open(&dir).unwrap();
    assert_eq!(engine.keyspace_names().unwrap(), ["a", "b"]);
    for name in ["a", "b"] {
        assert_eq!(get(&engine, &engine.open_keyspace(name).unwrap(), "key").as_deref(), Some(name));
    }
    assert_eq!(kind_of(engine.open_keyspace("c")), ErrorKind::NoSuchKeyspace);
}

#[test]
fn opening_a_keyspace_again_writes_nothing() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    put(&engine, &keyspace, "a", "1", CommitMode::Sync).unwrap();
    let appends = engine.stats().appends;
    assert_eq!(get(&engine, &engine.create_keyspace("k").unwrap(), "a").as_deref(), Some("1"));
    assert_eq!(engine.stats().appends, appends);
}

#[test]
fn a_keyspace_is_created_and_dropped_in_the_engines_mode() {
    for mode in MODES {
        let engine = Options::new().commit_mode(mode).in_memory().unwrap();
        let keyspace = engine.create_keyspace("k").unwrap();
        put(&engine, &keyspace, "a", "1", mode).unwrap();
        engine.drop_keyspace("k").unwrap().wait().unwrap();
        assert_eq!(engine.keyspace_names().unwrap(), Vec::<String>::new());
    }
}

#[cfg(feature = "sim")]
#[test]
fn a_crash_takes_the_creation_and_what_came_after_it_or_neither() {
    for seed in 0..50 {
        let disk = SimDisk::new();
        let engine = open_on(&disk, Options::new().commit_mode(CommitMode::Async)).unwrap();
        for name in ["a", "b", "c"] {
            let keyspace = engine.create_keyspace(name).unwrap();
            put(&engine, &keyspace, "key", name, CommitMode::Written).unwrap();
        }
        let engine = engine.drop_keyspace("a").map(|_| engine).unwrap();
        let crashed = disk.crash_point().power_loss(&Loss::Seeded(seed), Granularity::Sector);
        drop(engine);
        let engine = open_on(&crashed, Options::new()).unwrap();
        let names = engine.keyspace_names().unwrap();
        let legal: [&[&str]; 5] = [&[], &["a"], &["a", "b"], &["a", "b", "c"], &["b", "c"]];
        assert!(legal.iter().any(|legal| names == *legal), "seed {seed}: {names:?}");
        for name in names.iter().rev().skip(1) {
            let keyspace = engine.open_keyspace(name).unwrap();
            assert_eq!(get(&engine, &keyspace, "key").as_ref(), Some(name), "seed {seed}: it was written first");
        }
    }
}

#[test]
fn names_have_1_to_255_bytes() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let longest = "n".repeat(255);
    let unicode = format!("{}b", "ß".repeat(127));
    assert_eq!(unicode.len(), 255);
    for name in [&longest, &unicode, "🦀", " ", "\0", "a/b", ".."] {
        assert_eq!(engine.create_keyspace(name).unwrap().name(), name);
    }
    prepared_ahead(&engine);
    let before = engine.stats();
    for name in ["", &"n".repeat(256), &"ß".repeat(128), &"🦀".repeat(64)] {
        for error in [
            error_of(engine.create_keyspace(name)),
            error_of(engine.open_keyspace(name)),
            error_of(engine.drop_keyspace(name)),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
            assert!(error.to_string().contains("1 to 255"), "{error}");
        }
    }
    assert_eq!(engine.stats(), before, "nothing was written");
    let names = engine.keyspace_names().unwrap();
    drop(engine);
    assert_eq!(Engine::open(&dir).unwrap().keyspace_names().unwrap(), names);
    assert!(names.is_sorted() && names.len() == 7);
}

#[test]
fn an_unknown_name_is_refused_and_not_created() {
    let engine = in_memory();
    engine.create_keyspace("known").unwrap();
    let error = error_of(engine.open_keyspace("unknown"));
    assert_eq!(error.kind(), ErrorKind::NoSuchKeyspace);
    assert!(error.to_string().contains("'unknown'"), "{error}");
    assert_eq!(kind_of(engine.drop_keyspace("unknown")), ErrorKind::NoSuchKeyspace);
    assert!(engine.snapshot().unwrap().keyspace("unknown").unwrap().is_none());
    assert_eq!(engine.keyspace_names().unwrap(), ["known"]);
}

#[test]
fn a_keyspace_dropped_while_in_use_is_refused_by_every_call() {
    let engine = in_memory();
    let (doomed, other) = (engine.create_keyspace("doomed").unwrap(), engine.create_keyspace("other").unwrap());
    put(&engine, &doomed, "a", "1", CommitMode::Sync).unwrap();
    let mut reader = engine.begin().unwrap();
    assert!(reader.get(&doomed, "a").unwrap().is_some());
    reader.put(&other, "copy", "1").unwrap();
    let mut writer = engine.begin().unwrap();
    writer.put(&doomed, "b", "2").unwrap();
    writer.put(&other, "b", "2").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.delete(&doomed, "a").unwrap();
    batch.put(&other, "c", "3").unwrap();
    engine.drop_keyspace("doomed").unwrap();

    let dropped = ErrorKind::KeyspaceDropped;
    assert_eq!(kind_of(reader.commit()), dropped);
    assert_eq!(kind_of(writer.commit()), dropped);
    assert_eq!(kind_of(batch.commit()), dropped);
    assert_eq!(engine.snapshot().unwrap().iter(&other).unwrap().count(), 0, "nothing of them was done");

    let mut tx = engine.begin().unwrap();
    assert_eq!(kind_of(tx.get(&doomed, "a")), dropped);
    assert_eq!(kind_of(tx.put(&doomed, "a", "1")), dropped);
    assert_eq!(kind_of(tx.delete(&doomed, "a")), dropped);
    assert_eq!(kind_of(tx.iter(&doomed)), dropped);
    assert_eq!(kind_of(tx.prefix(&doomed, "a")), dropped);
    let mut batch = engine.batch().unwrap();
    assert_eq!(kind_of(batch.put(&doomed, "a", "1")), dropped);
    assert_eq!(kind_of(batch.delete(&doomed, "a")), dropped);
    let error = error_of(engine.snapshot().unwrap().get(&doomed, "a"));
    assert_eq!(error.kind(), dropped);
    assert!(error.to_string().contains("'doomed'"), "{error}");
    assert_eq!(kind_of(engine.drop_keyspace("doomed")), ErrorKind::NoSuchKeyspace);
}

#[test]
fn a_keyspace_of_another_engine_is_refused() {
    let (engine, another) = (in_memory(), in_memory());
    let (mine, foreign) = (engine.create_keyspace("k").unwrap(), another.create_keyspace("k").unwrap());
    let mut tx = engine.begin().unwrap();
    assert_eq!(kind_of(tx.put(&foreign, "a", "1")), ErrorKind::InvalidInput);
    assert_eq!(kind_of(engine.snapshot().unwrap().get(&foreign, "a")), ErrorKind::InvalidInput);
    tx.put(&mine, "a", "1").unwrap();
    tx.commit().unwrap();
}

#[test]
fn a_snapshot_taken_before_the_drop_goes_on_seeing_the_keyspace() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    for key in 0..2_000 {
        put(&engine, &keyspace, &format!("{key:04}"), "kept", CommitMode::Async).unwrap();
    }
    let before = engine.snapshot().unwrap();
    engine.drop_keyspace("k").unwrap();
    let after = engine.snapshot().unwrap();
    let other = engine.create_keyspace("other").unwrap();
    for key in 0..500 {
        put(&engine, &other, &key.to_string(), "more commits, which prune", CommitMode::Async).unwrap();
    }
    assert_eq!(before.keyspace_names().unwrap(), ["k"]);
    assert_eq!(before.iter(&keyspace).unwrap().count(), 2_000);
    assert_eq!(before.iter(&before.keyspace("k").unwrap().unwrap()).unwrap().rev().count(), 2_000);
    assert_eq!(after.keyspace_names().unwrap(), Vec::<String>::new());
    assert_eq!(kind_of(after.iter(&keyspace)), ErrorKind::KeyspaceDropped);
}

#[test]
fn a_keyspace_created_again_under_the_same_name_is_another_one() {
    let dir = TempDir::new("test");
    let engine = Engine::open(&dir).unwrap();
    let old = engine.create_keyspace("k").unwrap();
    put(&engine, &old, "a", "old", CommitMode::Sync).unwrap();
    let before = engine.snapshot().unwrap();
    engine.drop_keyspace("k").unwrap();
    let new = engine.create_keyspace("k").unwrap();
    assert_eq!(get(&engine, &new, "a"), None);
    assert_eq!(kind_of(put(&engine, &old, "a", "x", CommitMode::Sync)), ErrorKind::KeyspaceDropped);
    put(&engine, &new, "b", "new", CommitMode::Sync).unwrap();
    assert_eq!(before.get(&old, "a").unwrap().unwrap(), b"old");
    assert_eq!(before.get(&before.keyspace("k").unwrap().unwrap(), "a").unwrap().unwrap(), b"old");
    drop((engine, before));
    let engine = Engine::open(&dir).unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    assert_eq!((get(&engine, &keyspace, "a"), get(&engine, &keyspace, "b").as_deref()), (None, Some("new")));
}

#[test]
fn eight_threads_that_create_the_same_name_get_one_keyspace() {
    for round in 0..20 {
        let engine = in_memory();
        let barrier = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (engine, barrier) = (&engine, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let keyspace = engine.create_keyspace("same").unwrap();
                    put(engine, &keyspace, &thread.to_string(), "here", CommitMode::Async).unwrap();
                });
            }
        });
        assert_eq!(engine.keyspace_names().unwrap(), ["same"]);
        let keyspace = engine.open_keyspace("same").unwrap();
        assert_eq!(engine.snapshot().unwrap().iter(&keyspace).unwrap().count(), 8, "round {round}");
        assert_eq!(engine.stats().appends, 9, "one creation, eight writes");
    }
}

#[test]
fn threads_that_create_different_names_get_one_keyspace_each() {
    let engine = in_memory();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let engine = &engine;
            scope.spawn(move || {
                for round in 0..10 {
                    let name = format!("{thread}-{round}");
                    let keyspace = engine.create_keyspace(&name).unwrap();
                    put(engine, &keyspace, "name", &name, CommitMode::Async).unwrap();
                    if round % 2 == 1 {
                        engine.drop_keyspace(&name).unwrap();
                    }
                }
            });
        }
    });
    let names: BTreeSet<String> = engine.keyspace_names().unwrap().into_iter().collect();
    assert_eq!(names.len(), 40);
    for name in names {
        assert_eq!(get(&engine, &engine.open_keyspace(&name).unwrap(), "name"), Some(name));
    }
}
