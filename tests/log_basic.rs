//! The log on its own, on real files.
use forelog::{CommitMode, Log, LogOptions, Lsn, Outcome};
use std::time::Duration;

fn dir(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("forelog-test-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

#[test]
fn appends_scans_reopens() {
    let dir = dir("basic");
    let log = LogOptions::new().segment_bytes(8192).open(&dir).unwrap();
    let mut tokens = Vec::new();
    for i in 0..500u32 {
        let mode = [CommitMode::Sync, CommitMode::Written, CommitMode::Async, CommitMode::Within(Duration::from_millis(1))][i as usize % 4];
        let payload = vec![i as u8; (i as usize * 37) % 9000];
        tokens.push(log.append(&payload, mode).unwrap().token());
    }
    log.close().unwrap();
    assert_eq!(log.append(b"x", CommitMode::Sync).unwrap_err().kind(), forelog::ErrorKind::Closed);
    drop(log);
    let log = Log::open(&dir).unwrap();
    let records: Vec<_> = log.scan(Lsn::ZERO).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 500);
    for (i, record) in records.iter().enumerate() {
        assert_eq!(record.payload, vec![i as u8; (i * 37) % 9000]);
        assert_eq!(record.lsn, tokens[i].lsn);
        assert_eq!(log.outcome(&tokens[i]).unwrap(), Outcome::Durable);
    }
    println!("{:?}", log.recovery());
    std::fs::remove_dir_all(&dir).unwrap();
}
