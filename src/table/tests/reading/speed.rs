//! How fast keys and ranges are read from the page cache:
//! `cargo test --release --lib table::tests::reading::speed -- --ignored --nocapture`.

use std::time::Instant;

use super::*;
use crate::disk::OsDisk;

const KEYS: usize = 1_000_000;

/// A key of 16 bytes, without order.
fn key(number: usize) -> [u8; 16] {
    let mut draws = Draws::of(number as u64 + 1);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(draws.below(usize::MAX) as u64).to_be_bytes());
    key[8..].copy_from_slice(&(number as u64).to_be_bytes());
    key
}

fn rate(what: &str, begun: Instant, count: usize) {
    let seconds = begun.elapsed().as_secs_f64();
    println!("  {what}: {:.0} k/s, {:.0} ns each", count as f64 / seconds / 1e3, seconds / count as f64 * 1e9);
}

/// A million keys in so many layers, each of which has its share of all ranges.
fn measure(layers: usize, value: usize) {
    let path = std::env::temp_dir().join(format!("forelog-reads-{}-{layers}-{value}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    let dir = OsDisk.open_dir(&path).unwrap();
    let mut tables = Tables::new(&dir, Limits::default());
    for layer in 0..layers {
        let lsn = Lsn::new(tables.model.to.get() + 8);
        let keys = (0..KEYS).filter(|number| number % layers == layer);
        let versions = keys.map(|number| (full(0, &key(number)), lsn, Some(vec![b'v'; value]))).collect();
        tables.checkpoint(1, versions, Vec::new(), 32 << 20);
        tables.model.versions.clear();
    }
    let (held, at) = (tables.reading.installed(), tables.model.to);
    println!("{layers} layers, values of {value} bytes");
    let mut draws = Draws(7);
    let asked: Vec<usize> = (0..400_000).map(|_| draws.below(KEYS)).collect();
    for round in ["cold", "warm"] {
        let begun = Instant::now();
        let found = asked.iter().filter(|number| held.get(0, &key(**number), at).unwrap().is_some()).count();
        assert_eq!(found, asked.len());
        rate(&format!("point reads, {round}"), begun, found);
    }
    let begun = Instant::now();
    let missed = asked.iter().filter(|number| held.get(0, &key(**number)[..15], at).unwrap().is_none()).count();
    assert_eq!(missed, asked.len());
    rate("misses", begun, missed);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (asked, held) = (&asked, &held);
            scope.spawn(move || {
                for number in asked.iter().skip(thread).step_by(2) {
                    assert!(held.get(0, &key(*number), at).unwrap().is_some());
                }
            });
        }
    });
    rate("point reads of two threads, in all", begun, asked.len());
    for direction in [Direction::Forward, Direction::Backward] {
        let begun = Instant::now();
        let mut scan = Arc::clone(&held).scan(0, ALL, direction, at);
        let (mut count, mut bytes) = (0, 0);
        while scan.advance().unwrap() {
            count += 1;
            bytes += scan.key().len() + scan.value().len();
        }
        assert_eq!((count, bytes), (KEYS, KEYS * (16 + value)));
        rate(&format!("scan, {direction:?}"), begun, count);
    }
    let begun = Instant::now();
    for number in &asked[..20_000] {
        let from = (Bound::Included(Key::from(&key(*number))), Bound::Unbounded);
        let mut scan = Arc::clone(&held).scan(0, from, Direction::Forward, at);
        for _ in 0..10 {
            scan.advance().unwrap();
        }
    }
    rate("scans of ten keys", begun, 20_000);
    println!(
        "  {} bytes of partitions, {} of open runs",
        tables.reading.partition_bytes(),
        tables.reading.open_run_bytes()
    );
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
#[ignore = "it measures"]
fn a_million_keys() {
    for (layers, value) in [(1, 100), (4, 100), (8, 100), (4, 8)] {
        measure(layers, value);
    }
}
