//! Rot under an open engine: the scrub finds it, by segment, LSN and cause, and what is in memory heals it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forelog::scrub::ScrubOptions;
use forelog::sim::{self, Fault, FaultKind, OpKind, OpSelector, SimDisk};
use forelog::{CommitMode, DamageCause, Engine, ErrorKind, Keyspace, LossBudget, Lsn, Options, Outcome, Token};

use crashkit::{DB, MODES, TempDir, kind_of, open_on, put};

const COPY: &str = "copy";

fn options() -> Options {
    let hour = Duration::from_secs(3600);
    Options::new().segment_bytes(4096).flush_interval(hour).loss_budget(LossBudget::default().max_age(hour))
}

/// Fast enough not to wait.
fn fast() -> ScrubOptions {
    ScrubOptions::default().bytes_per_second(u64::MAX)
}

/// A closed life and an open one over several segments, everything durable; the commits with their records' places.
fn open_database(disk: &SimDisk) -> (Engine, Vec<(u64, u64)>) {
    let mut records = Vec::new();
    for life in 0..2_u8 {
        let engine = open_on(disk, options()).unwrap();
        let keys = engine.create_keyspace("keys").unwrap();
        let mut after = engine.visible_lsn().get();
        for (number, length) in [700, 20, 1500, 900, 6000, 60].into_iter().enumerate() {
            let mut batch = engine.batch().unwrap();
            batch.put(&keys, [life, u8::try_from(number).unwrap()], vec![life; length]).unwrap();
            let lsn = batch.commit_with(CommitMode::Sync).unwrap().lsn().get();
            records.push((after, lsn));
            after = lsn;
        }
        if life == 1 {
            return (engine, records);
        }
        engine.close().unwrap();
    }
    unreachable!("the second life is returned open")
}

fn segments(disk: &SimDisk) -> Vec<(u64, PathBuf)> {
    let files = disk.files().into_iter().map(|(path, _)| path).filter(|path| path.extension().is_some());
    files.map(|path| (u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap(), path)).collect()
}

fn contents(engine: &Engine) -> BTreeMap<(String, Vec<u8>), Vec<u8>> {
    let snapshot = engine.snapshot().unwrap();
    let mut all = BTreeMap::new();
    for name in snapshot.keyspace_names().unwrap() {
        let keys = snapshot.keyspace(&name).unwrap().unwrap();
        for entry in snapshot.iter(&keys).unwrap() {
            let (key, value) = entry.unwrap();
            all.insert((name.clone(), key.to_vec()), value.to_vec());
        }
    }
    all
}

#[test]
fn a_sound_log_has_no_findings_and_nothing_is_changed() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let (engine, records) = open_database(&disk);
        let before = disk.files();
        let scrub = engine.scrub(fast()).unwrap();
        let progress = scrub.wait();
        assert_eq!((progress.findings, progress.stopped, progress.bytes), (0, false, progress.total_bytes));
        assert!(progress.frames > records.len() as u64, "{progress:?}");
        assert!(disk.files() == before);
    });
}

#[test]
fn rot_is_found_by_segment_lsn_and_cause() {
    let (flips, records) = sim::run(2, || {
        let disk = SimDisk::new();
        let (engine, records) = open_database(&disk);
        let end = engine.durable_lsn().get();
        let mut flips = Vec::new();
        for (base, path) in segments(&disk) {
            let length = disk.read_file(&path).unwrap().len() as u64;
            for at in (0..length).step_by(104).filter(|at| base + at < end) {
                let bit = at * 8 + 5;
                disk.flip_bit(&path, bit).unwrap();
                let scrub = engine.scrub(fast()).unwrap();
                scrub.wait();
                flips.push((base, path.clone(), at, scrub.findings()));
                disk.flip_bit(&path, bit).unwrap();
            }
        }
        // The engine has noticed nothing of it, and goes on.
        assert!(engine.scrub(fast()).unwrap().wait().findings == 0 && engine.poisoned().is_none());
        (flips, records)
    });
    assert!(flips.len() > 100);
    for (base, path, at, findings) in flips {
        let what = format!("{} at {at}: {findings:?}", path.display());
        assert_eq!(findings.len(), 1, "{what}");
        assert_eq!(findings[0].file, path, "{what}");
        if at < 512 {
            assert_eq!((findings[0].cause, findings[0].lsn), (DamageCause::BadHeader, Lsn::new(base)), "{what}");
        } else {
            assert_eq!(findings[0].cause, DamageCause::Rotten, "{what}");
            let frame = findings[0].lsn.get();
            let of = |position: u64| records.iter().position(|(after, lsn)| *after < position && position <= *lsn);
            assert!(frame <= base + at, "{what}");
            assert_eq!(of(frame + 1), of(base + at + 1), "{what}");
        }
    }
}

#[test]
fn every_kind_of_damage_is_found() {
    sim::run(3, || {
        let disk = SimDisk::new();
        let (engine, records) = open_database(&disk);
        let (base, path) = segments(&disk).remove(1);
        let whole = disk.read_file(&path).unwrap();
        let history = disk.read_file(format!("{DB}/HISTORY")).unwrap();
        let findings = || {
            let scrub = engine.scrub(fast()).unwrap();
            scrub.wait();
            let causes: Vec<_> = scrub.findings().iter().map(|damage| (damage.file.clone(), damage.cause)).collect();
            causes
        };
        disk.overwrite(&path, 512, &[0; 512]).unwrap();
        assert_eq!(findings(), [(path.clone(), DamageCause::Rotten)]);
        disk.write_file(&path, &whole).unwrap();
        disk.truncate(&path, 1024).unwrap();
        assert!(findings().iter().any(|found| *found == (path.clone(), DamageCause::Unreadable)), "{:?}", findings());
        disk.delete(&path).unwrap();
        assert!(
            findings().iter().any(|found| *found == (path.clone(), DamageCause::MissingSegment)),
            "{:?}",
            findings()
        );
        disk.write_file(&path, &whole).unwrap();
        let bad = OpSelector::of(OpKind::Read).on(path.to_str().unwrap()).touching(1024..1536);
        disk.inject(Fault::lasting(bad, FaultKind::Errno(5)));
        assert_eq!(findings(), [(path.clone(), DamageCause::Unreadable)]);
        disk.clear_faults();
        let path = PathBuf::from(format!("{DB}/HISTORY"));
        disk.flip_bit(&path, 300).unwrap();
        assert_eq!(findings(), [(path.clone(), DamageCause::BadHistory)]);
        disk.write_file(&path, &history).unwrap();
        assert_eq!(findings(), []);
        assert!(base > 0 && !records.is_empty());
    });
}

#[test]
fn the_state_in_memory_heals_what_rotted() {
    sim::run(4, || {
        let disk = SimDisk::new();
        let (engine, _) = open_database(&disk);
        let other: Keyspace = engine.create_keyspace("other").unwrap();
        for (number, mode) in MODES.into_iter().enumerate() {
            put(&engine, &other, &format!("key {number}"), "value", mode).unwrap();
        }
        put(&engine, &other, "large", &"x".repeat(3 << 20), CommitMode::Async).unwrap();
        engine.drop_keyspace("other").unwrap();
        let other = engine.create_keyspace("other").unwrap();
        put(&engine, &other, "", "", CommitMode::Async).unwrap();
        engine.create_keyspace("empty").unwrap();
        let expected = contents(&engine);
        let (_, path) = segments(&disk).remove(0);
        disk.flip_bit(&path, 600 * 8).unwrap();
        assert_eq!(engine.scrub(fast()).unwrap().wait().findings, 1);
        assert_eq!(kind_of(engine.save_to_on(Arc::new(disk.clone()), DB)), ErrorKind::InvalidInput);
        let saved = engine.save_to_on(Arc::new(disk.clone()), COPY).unwrap();
        assert_eq!((saved.entries, saved.keyspaces), (expected.len() as u64, 3));
        assert_eq!(saved.lsn, engine.visible_lsn());
        drop(engine);
        assert_eq!(kind_of(open_on(&disk, options())), ErrorKind::Damaged);
        let checked =
            forelog::unstable::inspect::verify_on(Arc::new(disk.clone()), COPY.as_ref(), &mut |_, _| Ok(())).unwrap();
        assert!(checked.crashed.is_none());
        let healed = options().create(false).open_on(Arc::new(disk.clone()), COPY).unwrap();
        assert!(contents(&healed) == expected);
        assert_eq!(healed.keyspace_names().unwrap(), ["empty", "keys", "other"]);
    });
}

#[test]
fn a_poisoned_engine_can_be_saved() {
    sim::run(5, || {
        let disk = SimDisk::new();
        let (engine, _) = open_database(&disk);
        let keys = engine.create_keyspace("keys").unwrap();
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync).on(".log.tmp"), FaultKind::Errno(5)));
        assert_eq!(kind_of(put(&engine, &keys, "in doubt", "value", CommitMode::Sync)), ErrorKind::Indeterminate);
        let expected = contents(&engine);
        engine.save_to_on(Arc::new(disk.clone()), COPY).unwrap();
        let saved = options().open_on(Arc::new(disk.clone()), COPY).unwrap();
        assert!(contents(&saved) == expected && expected.len() == 13);
    });
}

#[test]
fn the_rate_is_kept_and_close_and_stop_end_it() {
    sim::run(6, || {
        let disk = SimDisk::new();
        let (engine, _) = open_database(&disk);
        assert_eq!(kind_of(engine.scrub(ScrubOptions::default().bytes_per_second(0))), ErrorKind::InvalidInput);
        let now = || sim::now().unwrap().since_start();
        let begun = now();
        let scrub = engine.scrub(ScrubOptions::default().bytes_per_second(1000)).unwrap();
        sim::sleep(Duration::from_secs(2));
        let progress = scrub.progress();
        // One record of 6,000 bytes may have been read at once.
        assert!(!progress.ended && (500..9_000).contains(&progress.bytes), "{progress:?}");
        let progress = scrub.wait();
        let took = (now() - begun).as_millis();
        let expected = u128::from(progress.total_bytes);
        assert!((expected * 9 / 10..expected * 11 / 10 + 1_000).contains(&took), "{took} ms for {progress:?}");
        let stopped = engine.scrub(ScrubOptions::default().bytes_per_second(1)).unwrap();
        stopped.stop();
        assert!(stopped.wait().stopped);
        let closed = engine.scrub(ScrubOptions::default().bytes_per_second(1)).unwrap();
        engine.close().unwrap();
        let progress = closed.progress();
        assert!(progress.ended && progress.stopped && progress.bytes < progress.total_bytes, "{progress:?}");
        assert_eq!(kind_of(engine.scrub(fast())), ErrorKind::Closed);
        let reads = disk.ops();
        sim::sleep(Duration::from_secs(100_000));
        assert_eq!(disk.ops(), reads, "something was read after the close");
    });
}

#[test]
fn commits_and_retirement_go_on_under_a_scrub() {
    for seed in 0..20 {
        sim::run(seed, || {
            let disk = SimDisk::new();
            let (engine, _) = open_database(&disk);
            let keys = engine.create_keyspace("keys").unwrap();
            let scrub = engine.scrub(ScrubOptions::default().bytes_per_second(200_000)).unwrap();
            for number in 0..30 {
                put(&engine, &keys, &format!("{number}"), &"v".repeat(300), MODES[number % 4]).unwrap();
            }
            assert_eq!(scrub.wait().findings, 0, "seed {seed}: {:?}", scrub.findings());
        });
    }
}

#[test]
fn a_database_in_memory_does_everything_and_keeps_nothing() {
    let engine = Options::new().segment_bytes(4096).in_memory().unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    let mut tokens: Vec<Token> = Vec::new();
    for number in 0..200 {
        let mut tx = engine.begin().unwrap();
        let count =
            tx.get(&keys, "count").unwrap().map_or(0, |value| u32::from_le_bytes(value[..].try_into().unwrap()));
        tx.put(&keys, "count", (count + 1).to_le_bytes()).unwrap();
        tokens.push(tx.commit_with(MODES[number % 4]).unwrap().token());
    }
    let (mut first, mut second) = (engine.begin().unwrap(), engine.begin().unwrap());
    for tx in [&mut first, &mut second] {
        tx.get(&keys, "count").unwrap();
        tx.put(&keys, "count", "x").unwrap();
    }
    first.commit().unwrap();
    assert_eq!(kind_of(second.commit()), ErrorKind::Conflict);
    engine.flush().unwrap();
    assert!(tokens.iter().all(|token| engine.outcome(token).unwrap() == Outcome::Durable));
    assert_eq!(engine.scrub(fast()).unwrap().wait().findings, 0);
    let dir = TempDir::new("memory");
    engine.save_to(dir.join("db")).unwrap();
    engine.close().unwrap();
    let kept = Engine::open(dir.join("db")).unwrap();
    assert_eq!(kept.snapshot().unwrap().get(&kept.open_keyspace("keys").unwrap(), "count").unwrap().unwrap(), b"x");
    assert!(Engine::in_memory().unwrap().keyspace_names().unwrap().is_empty());
}

#[test]
fn a_memory_disk_can_be_closed_and_opened_again_while_it_lasts() {
    let disk = forelog::unstable::disk::MemoryDisk::new();
    let open = || options().open_on(Arc::new(disk.clone()), "some/where");
    let engine = open().unwrap();
    put(&engine, &engine.create_keyspace("k").unwrap(), "a", "1", CommitMode::Sync).unwrap();
    assert_eq!(kind_of(open()), ErrorKind::Locked);
    engine.close().unwrap();
    let engine = open().unwrap();
    assert_eq!(crashkit::get(&engine, &engine.open_keyspace("k").unwrap(), "a").as_deref(), Some("1"));
}
