//! The engine from the outside, on real files.
use forelog::{CommitMode, Engine, ErrorKind, Options, Outcome};
use std::sync::mpsc;
use std::time::Duration;

fn dir(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("forelog-engine-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

#[test]
fn commits_in_every_mode_are_there_after_a_reopen() {
    let dir = dir("modes");
    let engine = Engine::open(&dir).unwrap();
    let accounts = engine.keyspace("accounts").unwrap();
    let modes =
        [CommitMode::Sync, CommitMode::Written, CommitMode::Async, CommitMode::Within(Duration::from_millis(1))];
    let mut tokens = Vec::new();
    for i in 0..400u32 {
        let mut tx = engine.begin().unwrap();
        assert_eq!(tx.get(&accounts, i.to_be_bytes()).unwrap(), None);
        tx.put(&accounts, i.to_be_bytes(), format!("value {i}")).unwrap();
        let receipt = tx.commit_with(modes[i as usize % 4]).unwrap();
        tokens.push(receipt.token());
        if i == 250 {
            receipt.wait().unwrap();
        }
    }
    let (sender, receiver) = mpsc::channel();
    let mut tx = engine.begin().unwrap();
    tx.put(&accounts, b"last", b"1").unwrap();
    let receipt = tx.commit_with(CommitMode::Async).unwrap();
    receipt.on_durable(move |verdict| sender.send(verdict.is_ok()).unwrap()).unwrap();
    assert!(receiver.recv().unwrap());
    assert!(receipt.is_durable());
    assert_eq!(engine.snapshot().unwrap().iter(&accounts).unwrap().count(), 401);
    assert_eq!(Engine::open(&dir).unwrap_err().kind(), ErrorKind::Locked);
    drop(engine);
    let engine = Options::new().create(false).open(&dir).unwrap();
    assert!(engine.recovery().crashed.is_none());
    let accounts = engine.open_keyspace("accounts").unwrap();
    let snapshot = engine.snapshot().unwrap();
    assert!(snapshot.is_durable());
    for i in 0..400u32 {
        assert_eq!(snapshot.get(&accounts, i.to_be_bytes()).unwrap().unwrap(), format!("value {i}").into_bytes());
        assert_eq!(engine.outcome(&tokens[i as usize]).unwrap(), Outcome::Durable);
    }
    drop(engine);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn speed() {
    let dir = dir("speed");
    let engine = Engine::open(&dir).unwrap();
    let ks = engine.keyspace("k").unwrap();
    for (mode, n) in [(CommitMode::Sync, 5000u64), (CommitMode::Written, 200_000), (CommitMode::Async, 1_000_000)] {
        let start = std::time::Instant::now();
        for i in 0..n {
            let mut b = engine.batch().unwrap();
            b.put(&ks, format!("{:016}", i * 7919 % 1_000_000), [7u8; 100]).unwrap();
            b.commit_with(mode).unwrap();
        }
        let e = start.elapsed();
        println!("{mode:?} {:.0}/s {:?} {:?}", n as f64 / e.as_secs_f64(), engine.stats(), engine.at_risk());
    }
    for threads in [4, 16, 64] {
        let start = std::time::Instant::now();
        let before = engine.stats();
        let n = 60000 / threads;
        std::thread::scope(|s| {
            for t in 0..threads {
                let (engine, ks) = (&engine, &ks);
                s.spawn(move || {
                    for i in 0..n {
                        let mut b = engine.batch().unwrap();
                        b.put(ks, format!("{t} {i}"), [7u8; 100]).unwrap();
                        b.commit_with(CommitMode::Sync).unwrap();
                    }
                });
            }
        });
        let e = start.elapsed();
        let f = engine.stats().flushes - before.flushes;
        println!("Sync {threads}: {:.0}/s  commits/flush {:.1}", (n * threads) as f64 / e.as_secs_f64(), (n * threads) as f64 / f as f64);
    }
    drop(engine);
    let start = std::time::Instant::now();
    let engine = Engine::open(&dir).unwrap();
    println!("open {:?} {:?}", start.elapsed(), engine.recovery());
    drop(engine);
    std::fs::remove_dir_all(&dir).unwrap();
}
