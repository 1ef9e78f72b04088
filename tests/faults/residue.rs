//! The closed residue (specification, section 7): what cannot be seen, each line shown, with the side on which its
//! neighbours fall.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelog::sim::{self, Granularity, Loss, SimDisk};
use forelog::{CommitMode, ErrorKind, Outcome};

use crashkit::model::State;
use forelog_sim::faults::media::{Judge, SECTOR};
use forelog_sim::faults::reference::{Ending, Files, Reference};
use forelog_sim::faults::{DIR, MODES, copy, files, name_of, open_with, options};

const SYNC: &[CommitMode] = &[CommitMode::Sync];

fn restored(files: &Files) -> SimDisk {
    let disk = SimDisk::new();
    files.iter().for_each(|(path, bytes)| disk.write_file(path, bytes).expect("a file"));
    disk
}

#[test]
fn r1_a_lost_write_is_unseen_at_or_above_d_and_refused_below() {
    let reference = Reference::new(SYNC, Ending::PowerCut, 1, 1);
    let mut judge = Judge::new(&reference);
    let (mut unseen, mut refused) = (0, 0);
    for (path, bytes) in files(&reference.disk).iter().filter(|(path, _)| name_of(path).ends_with(".log")) {
        for at in (0..bytes.len()).step_by(SECTOR) {
            for former in reference.former_contents(path, at, SECTOR) {
                let damaged = reference.disk.crash_point().process_kill();
                damaged.overwrite(path, at as u64, &former).unwrap();
                match judge.verdict(&damaged, Some("R1")).unwrap_or_else(|violation| panic!("{violation}")).as_str() {
                    "R1" => unseen += 1,
                    verdict => refused += usize::from(verdict.starts_with("refused")),
                }
            }
        }
    }
    assert!(unseen > 0 && refused > 0, "{unseen} unseen, {refused} refused");
}

#[test]
fn r2_all_evidence_above_a_position_gone_at_once_is_the_log_of_that_moment() {
    let reference = Reference::new(SYNC, Ending::PowerCut, 1, 1);
    let now = files(&reference.disk);
    let mut judge = Judge::new(&reference);
    let mut unseen = 0;
    for former in &reference.former {
        // HISTORY is that of now; every segment is that of then, and those begun since are gone.
        let mut then: Files = former.iter().filter(|(path, _)| name_of(path).ends_with(".log")).cloned().collect();
        then.extend(now.iter().filter(|(path, _)| name_of(path) == "HISTORY").cloned());
        let verdict = judge.verdict(&restored(&then), Some("R2")).unwrap_or_else(|violation| panic!("{violation}"));
        unseen += usize::from(verdict == "R2");
    }
    assert!(unseen > 0);
}

#[test]
fn r3_an_older_copy_of_the_directory_opens_as_what_it_is() {
    let reference = Reference::new(&MODES, Ending::Killed, 1, 1);
    let mut judge = Judge::new(&reference);
    let copies = reference.former.iter().filter(|former| former.iter().any(|(path, _)| name_of(path) == "HISTORY"));
    let mut unseen = 0;
    for former in copies {
        let verdict = judge.verdict(&restored(former), Some("R3")).unwrap_or_else(|violation| panic!("{violation}"));
        assert!(!verdict.starts_with("refused"), "a process may have been killed there: {verdict}");
        unseen += usize::from(verdict == "R3");
    }
    assert!(unseen > 0);
}

/// A log whose last record has `value`, and where in which file the value is.
fn with_value(value: impl Fn(&SimDisk, usize, usize) -> Vec<u8>) -> (SimDisk, String, usize, Vec<u8>) {
    const LENGTH: usize = 96;
    let disk = SimDisk::new();
    let crash = Arc::new(Mutex::new(None));
    let first = vec![0xA5; LENGTH];
    let second = sim::run(7, || {
        let engine = open_with(options(), &disk).unwrap();
        let keys = engine.create_keyspace("keys").unwrap();
        let put = |key: &str, value: &[u8]| {
            let mut batch = engine.batch().unwrap();
            batch.put(&keys, key, value).unwrap();
            batch.commit_with(CommitMode::Sync).unwrap().lsn().get()
        };
        let before = engine.visible_lsn().get();
        let record = usize::try_from(put("a", &first) - before).unwrap();
        let at = find(&disk, &first);
        // A record of the same lengths lands one record further on.
        let second = value(&disk, at + record, LENGTH);
        put("b", &second);
        *crash.lock().unwrap() = Some(disk.crash_point());
        second
    });
    let crash = crash.lock().unwrap().take().unwrap();
    let disk = crash.power_loss(&Loss::Everything, Granularity::Sector);
    let at = find(&disk, &second);
    (disk, "0000000000000000.log".into(), at, second)
}

fn find(disk: &SimDisk, value: &[u8]) -> usize {
    let bytes = disk.read_file(format!("{DIR}/0000000000000000.log")).unwrap();
    bytes.windows(value.len()).position(|window| window == value).expect("it is in the first segment")
}

fn value_of(disk: &SimDisk, key: &str) -> forelog::Result<Option<Vec<u8>>> {
    let engine = open_with(options(), disk)?;
    let contents = State::of(&engine)?;
    Ok(contents.get("keys", key.as_bytes()).map(|value| value.to_vec()))
}

/// Changes the value in place by this pattern.
fn damaged_by(disk: &SimDisk, file: &str, at: usize, value: &[u8], pattern: &[u8]) -> (SimDisk, Vec<u8>) {
    let damaged = copy(disk);
    let changed: Vec<u8> = value.iter().zip(pattern.iter().chain(std::iter::repeat(&0))).map(|(a, b)| a ^ b).collect();
    damaged.overwrite(format!("{DIR}/{file}"), at as u64, &changed).unwrap();
    (damaged, changed)
}

#[test]
fn r4_damage_that_keeps_the_checksum_satisfies_the_definition() {
    let value = |_: &SimDisk, _: usize, length: usize| (0..length).map(|at| at.to_le_bytes()[0]).collect();
    let (disk, file, at, value) = with_value(value);
    // The generator polynomial of CRC-32 itself, in the order in which the checksum takes the bits: 33 of them in
    // which 15 change. All damage that is no multiple of it is seen.
    let generator = 0x1_04C1_1DB7_u64;
    let mut pattern = [0u8; 8];
    (0..33).filter(|bit| generator >> (32 - bit) & 1 == 1).for_each(|bit| pattern[bit / 8] |= 1 << (bit % 8));
    let (unseen, changed) = damaged_by(&disk, &file, at, &value, &pattern);
    assert_eq!(crc32fast::hash(&value), crc32fast::hash(&changed), "a collision");
    assert_eq!(value_of(&unseen, "b").unwrap(), Some(changed));
    pattern[7] = 1;
    let (seen, _) = damaged_by(&disk, &file, at, &value, &pattern);
    assert_eq!(value_of(&seen, "b").unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn r4_a_value_made_to_equal_the_fill_of_its_own_place_passes_for_a_tear_once_it_is_damaged() {
    let mut pattern = [0; 96];
    pattern[95] = 1;
    // With the files at hand: what stands where the value will be.
    let of_fill = |disk: &SimDisk, at: usize, length: usize| {
        let bytes = disk.read_file(format!("{DIR}/0000000000000000.log")).unwrap();
        bytes[at..at + length].to_vec()
    };
    let (disk, file, at, value) = with_value(of_fill);
    assert_eq!(value_of(&copy(&disk), "b").unwrap(), Some(value.clone()), "undamaged it is a value like any other");
    let (unseen, _) = damaged_by(&disk, &file, at, &value, &pattern);
    assert_eq!(value_of(&unseen, "b").unwrap(), None, "taken for a torn tail");
    // A value that is no fill: the same damage is seen.
    let (disk, file, at, value) = with_value(|_, _, length| vec![0x3C; length]);
    let (seen, _) = damaged_by(&disk, &file, at, &value, &pattern);
    assert_eq!(value_of(&seen, "b").unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn r5_a_former_history_is_unseen_only_while_nothing_of_the_life_begun_since_has_landed() {
    let first = Reference::new(SYNC, Ending::Closed, 1, 1);
    let disk = copy(&first.disk);
    let former = disk.read_file(format!("{DIR}/HISTORY")).unwrap();
    let (crash, token) = sim::run(3, || {
        let engine = open_with(options(), &disk).unwrap();
        let keys = engine.open_keyspace("keys").unwrap();
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, "new", "value").unwrap();
        let token = batch.commit_with(CommitMode::Written).unwrap().token();
        (disk.crash_point(), token)
    });
    let landed = crash.power_loss(&Loss::Nothing, Granularity::Sector);
    landed.write_file(format!("{DIR}/HISTORY"), &former).unwrap();
    assert_eq!(open_with(options(), &landed).unwrap_err().kind(), ErrorKind::Damaged);
    let lost = crash.power_loss(&Loss::Everything, Granularity::Sector);
    lost.write_file(format!("{DIR}/HISTORY"), &former).unwrap();
    let engine = open_with(options(), &lost).unwrap();
    assert!(State::of(&engine).unwrap() == *first.history.state_at(first.history.last()), "no record is lost");
    assert_eq!(engine.outcome(&token).unwrap(), Outcome::Foreign, "it is lost anyway");
}

#[test]
fn r5_a_missing_newest_segment_is_unseen_only_while_nothing_is_past_the_midpoint_before_it() {
    for (length, unseen) in [(1000, true), (2000, false)] {
        let disk = SimDisk::new();
        let crash = sim::run(4, || {
            let engine = open_with(options(), &disk).unwrap();
            let mut batch = engine.batch().unwrap();
            batch.put(&engine.create_keyspace("keys").unwrap(), "k", vec![5; length]).unwrap();
            batch.commit_with(CommitMode::Sync).unwrap();
            // The next segment is prepared in the background.
            sim::sleep(Duration::from_secs(1));
            disk.crash_point()
        });
        let disk = crash.power_loss(&Loss::Everything, Granularity::Sector);
        disk.delete(format!("{DIR}/0000000000001000.log")).unwrap();
        match value_of(&disk, "k") {
            Ok(value) => assert!(unseen && value == Some(vec![5; length]), "no record is lost"),
            Err(error) => assert!(!unseen && error.kind() == ErrorKind::Damaged, "{error}"),
        }
    }
}
