//! Log that is retained behind the tables (`table/RETENTION.md`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::background::checkpoint;
use super::merging::{put, small, values};
use crate::base::error::ErrorKind;
use crate::base::options::Checkpoints;
use crate::disk::sim::{Granularity, Loss, OpKind, SimDisk};
use crate::engine::{Engine, Options};
use crate::rt::schedule::{self, sleep};

fn open_with(disk: &SimDisk, options: Options) -> Engine {
    options.open_on(Arc::new(disk.clone()), "db").unwrap()
}

fn retaining(bytes: u64) -> Options {
    small(Checkpoints::OnRequest).retain_log_bytes(bytes)
}

/// The bases of the segments that are there, in order.
fn segments(disk: &SimDisk) -> Vec<u64> {
    let names = disk.files().into_iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned());
    let bases = names.filter_map(|name| u64::from_str_radix(name.strip_suffix(".log")?, 16).ok());
    let mut bases: Vec<_> = bases.collect();
    bases.sort_unstable();
    bases
}

fn path_of(base: u64) -> String {
    format!("db/{base:016x}.log")
}

/// Commits and checkpoints, about 60 KB of log.
fn fill(engine: &Engine) {
    for round in 0..10 {
        put(engine, "k", 0, 45, round);
        checkpoint(engine);
    }
}

#[test]
fn segments_stay_up_to_their_bytes_over_opens_and_an_open_does_not_read_them() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_with(&disk, retaining(30_000));
        fill(&engine);
        let stats = engine.stats();
        assert!((20_000..=30_000).contains(&stats.retained_bytes), "{stats:?}");
        assert!(stats.oldest > crate::Lsn::ZERO && stats.oldest < engine.table_stats().up_to, "{stats:?}");
        assert_eq!(segments(&disk)[0], stats.oldest.get(), "what is older is gone");
        engine.close().unwrap();

        let before = segments(&disk);
        let read = Arc::new(AtomicU64::new(0));
        let (counted, to) = (Arc::clone(&read), before[before.len() - 2]);
        disk.on_op(move |_, op| {
            let base = op.path.file_stem().and_then(|stem| u64::from_str_radix(stem.to_str()?, 16).ok());
            if op.kind == OpKind::Read && base.is_some_and(|base| base < to) {
                counted.fetch_add(op.length, Ordering::Relaxed);
            }
        });
        let engine = open_with(&disk, retaining(30_000));
        disk.clear_on_op();
        assert_eq!(segments(&disk), before, "an open leaves them");
        assert!(read.load(Ordering::Relaxed) <= 512 * before.len() as u64, "their headers");
        assert!(engine.stats().retained_bytes > 15_000, "{:?}", engine.stats());
        assert_eq!(values(&engine, "k"), vec![9; 45]);
        fill(&engine);
        assert!((15_000..=30_000).contains(&engine.stats().retained_bytes), "{:?}", engine.stats());
        engine.close().unwrap();

        // Whoever opens it for a moment keeps them, and who wants none has none.
        let before = segments(&disk);
        let engine = open_with(&disk, small(Checkpoints::OnRequest).retain_log_as_found());
        put(&engine, "k", 0, 45, 3);
        checkpoint(&engine);
        assert!(segments(&disk).starts_with(&before[..before.len() - 1]));
        engine.close().unwrap();
        let engine = open_with(&disk, small(Checkpoints::OnRequest));
        assert_eq!(engine.stats().retained_bytes, 0);
        assert_eq!(values(&engine, "k"), vec![3; 45]);
        engine.close().unwrap();
        assert!(segments(&disk).len() <= 2, "{:?}", segments(&disk));
        let engine = open_with(&disk, small(Checkpoints::OnRequest).retain_log_as_found());
        fill(&engine);
        assert_eq!(engine.stats().retained_bytes, 0, "nothing was found");
    });
}

/// Each segment that is only retained may be lost or rotten: the database opens, and retains what joins the log.
#[test]
fn damage_in_what_is_retained_refuses_nothing() {
    let base = SimDisk::new();
    schedule::run(1, || {
        let engine = open_with(&base, retaining(1 << 20));
        fill(&engine);
        engine.close().unwrap();
    });
    let all = segments(&base);
    for (index, segment) in all[..all.len() - 1].iter().enumerate() {
        for damage in 0..4 {
            let disk = base.crash_point().power_loss(&Loss::Nothing, Granularity::default());
            schedule::run(1, || {
                match damage {
                    0 => disk.delete(path_of(*segment)).unwrap(),
                    1 => disk.overwrite(path_of(*segment), 0, &[0; 512]).unwrap(),
                    2 => disk.overwrite(path_of(*segment), 512, &[0; 700]).unwrap(),
                    _ => disk.truncate(path_of(*segment), 600).unwrap(),
                }
                Engine::verify_on_sim(&disk);
                let engine = open_with(&disk, retaining(1 << 20));
                assert_eq!(values(&engine, "k"), vec![9; 45]);
                let expected = if damage < 2 { all[index + 1] } else { all[0] };
                assert_eq!(engine.stats().oldest.get(), expected, "{damage} of {segment}");
                fill(&engine);
                engine.close().unwrap();
            });
        }
    }
}

impl Engine {
    fn verify_on_sim(disk: &SimDisk) {
        crate::ReadOnlyOptions::new().verify_on(Arc::new(disk.clone()), "db").unwrap();
    }
}

/// By age they go at rest, too, and not before their time.
#[test]
fn segments_go_when_they_are_too_old() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let options = small(Checkpoints::Automatic).retain_log_for(Duration::from_secs(100));
        let engine = open_with(&disk, options);
        fill(&engine);
        sleep(Duration::from_secs(50));
        let retained = engine.stats().retained_bytes;
        assert!(retained > 40_000, "{:?}", engine.stats());
        put(&engine, "k", 0, 45, 11);
        checkpoint(&engine);
        sleep(Duration::from_secs(60));
        let stats = engine.stats();
        assert!(stats.retained_bytes > 0 && stats.retained_bytes < retained / 2, "{stats:?}");
        sleep(Duration::from_secs(60));
        assert_eq!(engine.stats().retained_bytes, 0);
        assert_eq!(engine.stats().retention_gave_way, 0);
        assert_eq!(values(&engine, "k"), vec![11; 45]);
        engine.close().unwrap();
    });
}

#[test]
fn a_pin_keeps_the_log_up_to_its_bound() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        let engine = open_with(&disk, small(Checkpoints::OnRequest).retain_pinned_bytes(40_000));
        put(&engine, "k", 0, 45, 1);
        let keys = engine.open_keyspace("k").unwrap();
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, "pinned", "here").unwrap();
        let token = batch.commit().unwrap().token();
        let pin = engine.retain_from(&token).unwrap();
        for round in 0..3 {
            put(&engine, "k", 0, 45, round);
            checkpoint(&engine);
        }
        let stats = engine.stats();
        assert!(pin.is_held() && stats.retained_bytes > 0 && stats.oldest <= pin.lsn(), "{stats:?}");
        fill(&engine);
        let stats = engine.stats();
        assert!(!pin.is_held() && stats.log_pins_dropped == 1 && stats.retained_bytes == 0, "{stats:?}");
        assert_eq!(engine.retain_from(&token).unwrap_err().kind(), ErrorKind::Retired);
        // One that is given back keeps nothing.
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, "l", "m").unwrap();
        let token = batch.commit().unwrap().token();
        let pin = engine.retain_from(&token).unwrap();
        put(&engine, "k", 0, 100, 1);
        checkpoint(&engine);
        assert!(engine.stats().retained_bytes > 0 && pin.is_held());
        drop(pin);
        put(&engine, "k", 0, 45, 1);
        checkpoint(&engine);
        assert_eq!((engine.stats().retained_bytes, engine.stats().log_pins_dropped), (0, 1));
        let other = open_with(&SimDisk::new(), small(Checkpoints::OnRequest));
        assert_eq!(other.retain_from(&token).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

/// Commits are never refused for the sake of what is retained.
#[test]
fn retention_gives_way_on_a_full_disk() {
    let disk = SimDisk::new();
    schedule::run(1, || {
        disk.set_capacity(13 << 20);
        let engine = open_with(&disk, small(Checkpoints::Automatic).retain_log_bytes(1 << 40));
        let keys = engine.create_keyspace("k").unwrap();
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, "pinned", "here").unwrap();
        let pin = engine.retain_from(&batch.commit().unwrap().token()).unwrap();
        for round in 0..250_u8 {
            for half in 0..4 {
                let mut batch = engine.batch().unwrap();
                (0..45_u32)
                    .for_each(|number| batch.put(&keys, (half * 45 + number).to_be_bytes(), vec![round; 100]).unwrap());
                batch.commit().unwrap();
            }
            sleep(Duration::from_millis(20));
        }
        let stats = engine.stats();
        assert!(stats.retention_gave_way > 0 && !pin.is_held(), "{stats:?}");
        sleep(Duration::from_secs(5));
        assert!(engine.stats().retained_bytes > 0, "it retains what fits: {:?}", engine.stats());
        engine.close().unwrap();
    });
}

/// At each operation of checkpoints, closes and opens that retain: the data are there, and what is retained has no hole.
#[test]
fn a_crash_anywhere_leaves_what_is_retained_without_a_hole() {
    let disk = SimDisk::new();
    let points = Arc::new(std::sync::Mutex::new(Vec::new()));
    schedule::run(1, || {
        let taken = Arc::clone(&points);
        for round in 0..3_u8 {
            let engine = open_with(&disk, retaining(25_000));
            if round == 0 {
                fill(&engine);
                let taken = Arc::clone(&taken);
                disk.on_op(move |disk, op| {
                    if op.kind.mutates() && op.kind != OpKind::Write {
                        taken.lock().unwrap().push(disk.crash_point());
                    }
                });
            }
            put(&engine, "k", 0, 45, 10 + round);
            engine.flush().unwrap();
            checkpoint(&engine);
            engine.close().unwrap();
        }
        disk.clear_on_op();
    });
    let points = points.lock().unwrap();
    assert!(points.len() > 60, "{}", points.len());
    for (index, point) in points.iter().enumerate() {
        for loss in [Loss::Nothing, Loss::Everything, Loss::Seeded(index as u64)] {
            let disk = point.power_loss(&loss, Granularity::default());
            schedule::run(1, || {
                let engine = open_with(&disk, retaining(25_000));
                let found = values(&engine, "k");
                assert!(found.len() == 45 && found.iter().all(|value| *value == found[0]) && found[0] >= 9, "{index}");
                let stats = engine.stats();
                assert!(stats.retained_bytes > 8_000, "{index}, {loss:?}: {stats:?}");
                assert!(segments(&disk).contains(&stats.oldest.get()), "{index}, {loss:?}: {stats:?}");
                put(&engine, "k", 0, 45, 20);
                checkpoint(&engine);
                assert!(engine.stats().retained_bytes <= 25_000);
                engine.close().unwrap();
            });
        }
    }
}
