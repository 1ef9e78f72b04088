//! An idle engine costs nothing: its threads sleep without a timeout.
use std::time::Duration;

use forelog::{CommitMode, Engine};

/// How often each of the engine's threads gave up the processor by itself so far, by name.
fn wake_ups() -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").expect("proc").flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let name = read("comm").trim().to_owned();
        if name.starts_with("forelog-") {
            let status = read("status");
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap_or("0");
            let count = line.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(0);
            found.push((name, count));
        }
    }
    found.sort();
    found
}

/// In a process of its own: other tests have engines, too.
#[test]
fn an_idle_engine_does_not_wake_up() {
    if std::env::var_os("FORELOG_CHILD").is_none() {
        let status = crate::this_test("idle::an_idle_engine_does_not_wake_up").status().unwrap();
        return assert!(status.success(), "{status}");
    }
    let dir = crashkit::TempDir::new("idle");
    let engine = Engine::open(dir.path()).unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    for number in 0..100u32 {
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, number.to_be_bytes(), b"value").unwrap();
        batch.commit_with(if number % 2 == 0 { CommitMode::Async } else { CommitMode::Written }).unwrap();
    }
    // Until the last flush, the preparation of a segment and the one mark after them are over.
    while engine.at_risk().commits > 0 || engine.stats().segments_prepared == 0 || engine.stats().marks == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let settled = loop {
        let before = wake_ups();
        std::thread::sleep(Duration::from_millis(100));
        if before == wake_ups() {
            break before;
        }
    };
    assert!(!settled.is_empty(), "the engine has threads");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(wake_ups(), settled, "a thread woke up without a reason");
    assert_eq!(engine.stats(), {
        std::thread::sleep(Duration::from_millis(100));
        engine.stats()
    });
}
