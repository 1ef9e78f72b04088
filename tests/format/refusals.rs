//! What a newer build wrote is refused by name, whatever is asked of it, and not touched.

use std::path::Path;

use forelog::log::Log;

use forelog::salvage::{Completeness, Gap};
use forelog::{CommitMode, DamageCause, Engine, Error, ErrorKind, Lsn, MarkFound};

use crate::fixtures::{copy_of, state_of};
use crate::write::options;
use crashkit::{TempDir, contents_of};

const SEGMENT: &str = "0000000000000000.log";
const VERSION: usize = 12;
const MUST_UNDERSTAND: usize = 24;
/// The bits that are known.
const TABLES: u8 = 1;
const RANGE_DELETION: usize = 3;

/// Changes a file, and makes the checksum of its first `covered` bytes good.
fn patch(path: &Path, covered: Option<usize>, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    let end = covered.unwrap_or(bytes.len());
    let crc = crc32fast::hash(&bytes[12..end]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

/// Every way in, each of which has to refuse.
fn errors_of(dir: &Path, target: &Path) -> [Error; 3] {
    let error = |result: Result<(), Error>| result.expect_err("a newer format was not refused");
    [
        error(Engine::verify(dir).map(drop)),
        error(Engine::salvage(dir, target).map(drop)),
        error(Engine::open(dir).map(drop)),
    ]
}

#[track_caller]
fn refused(file: &str, says: &[&str], change: impl FnOnce(&mut Vec<u8>)) {
    let work = TempDir::new("refusal");
    let (dir, target) = (work.join("db"), work.join("saved"));
    copy_of("killed", &dir);
    patch(&dir.join(file), (file == SEGMENT).then_some(512), change);
    let before = contents_of(&dir);
    for error in errors_of(&dir, &target) {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let text = error.to_string();
        assert!(text.contains(file) && text.contains("newer"), "{text}");
        says.iter().for_each(|word| assert!(text.contains(word), "{text} does not say {word}"));
    }
    assert!(contents_of(&dir) == before, "a refusal changes nothing");
    assert!(!target.exists(), "a refusal leaves nothing");
}

#[test]
fn every_unknown_feature_bit_is_refused_by_number_and_by_the_name_it_has() {
    let names = ["tables", "archived incarnations", "cuts", "range deletion"];
    for bit in (1..64).filter(|bit| *bit != RANGE_DELETION) {
        let number = format!("bit {bit}");
        let name = names.get(bit).copied().unwrap_or_default();
        for file in ["HISTORY", SEGMENT] {
            refused(file, &[&number, name], |bytes| bytes[MUST_UNDERSTAND + bit / 8] |= 1 << (bit % 8));
            // Only the unknown one is named.
            refused(file, &[&format!("({name}")], |bytes| {
                bytes[MUST_UNDERSTAND] |= TABLES;
                bytes[MUST_UNDERSTAND + bit / 8] |= 1 << (bit % 8);
            });
        }
    }
}

fn add_tables(history: &mut Vec<u8>) {
    history[MUST_UNDERSTAND] |= TABLES;
    history.splice(72..72, [24].into_iter().chain([0; 23]));
}

/// The bit of tables and its block, which names no MANIFEST: a checkpoint was cut off before its first one.
#[test]
fn a_history_with_tables_that_names_none_opens_from_the_log() {
    let work = TempDir::new("refusal");
    let (dir, target) = (work.join("db"), work.join("saved"));
    copy_of("killed", &dir);
    let expected = state_of(&options().open(&dir).unwrap());
    copy_of("killed", &dir);
    patch(&dir.join("HISTORY"), None, add_tables);
    Engine::verify(&dir).unwrap();
    let salvaged = Engine::salvage(&dir, &target).unwrap();
    assert_eq!(salvaged.completeness, Completeness::Prefix);
    assert!(state_of(&Engine::open(&target).unwrap()) == expected);
    let of_a_part = [Log::open(&dir).map(drop), Log::verify(&dir).map(drop)];
    for refused in of_a_part.map(Result::unwrap_err) {
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        let text = refused.to_string();
        let says = ["db/HISTORY", "tables", "`Engine::open`", "`forelog verify`"];
        assert!(says.iter().all(|part| text.contains(part)) && !text.contains("newer"), "{text}");
    }
    let engine = options().open(&dir).unwrap();
    assert!(state_of(&engine) == expected);
    engine.close().unwrap();
    let history = std::fs::read(dir.join("HISTORY")).unwrap();
    assert_eq!(history[MUST_UNDERSTAND], TABLES, "a bit is never cleared");
}

#[track_caller]
fn damaged(dir: &Path, file: &str, cause: DamageCause) {
    let before = contents_of(dir);
    for error in [Engine::verify(dir).map(drop), Engine::open(dir).map(drop)].map(Result::unwrap_err) {
        let damage = error.damage().unwrap_or_else(|| panic!("{error:?}"));
        assert_eq!((&damage.file, damage.cause), (&dir.join(file), cause), "{error}");
    }
    assert!(contents_of(dir) == before, "a refusal changes nothing");
}

/// The bits determine how long HISTORY is.
#[test]
fn a_history_with_the_bit_of_tables_and_without_its_block_is_damaged() {
    let work = TempDir::new("refusal");
    let dir = work.join("db");
    for (with_bit, with_block) in [(true, false), (false, true)] {
        copy_of("killed", &dir);
        patch(&dir.join("HISTORY"), None, |history| {
            if with_block {
                add_tables(history);
            }
            history[MUST_UNDERSTAND] = u8::from(with_bit);
        });
        damaged(&dir, "HISTORY", DamageCause::BadHistory);
    }
}

fn carries_tables(dir: &Path, segment: &str) -> bool {
    std::fs::read(dir.join(segment)).unwrap()[MUST_UNDERSTAND] == TABLES
}

fn segments_of(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut segments: Vec<_> = names.filter(|name| name.ends_with(".log")).collect();
    segments.sort();
    segments
}

/// F2 of `DECISIONS.md`.
#[test]
fn a_segment_carries_the_bit_of_tables_from_then_on_and_proves_that_history_had_it() {
    let work = TempDir::new("refusal");
    let dir = work.join("db");
    let engine = options().open(&dir).unwrap();
    let fill = |engine: &Engine| {
        let keyspace = engine.create_keyspace("fill").unwrap();
        for number in 0..40_u32 {
            let mut batch = engine.batch().unwrap();
            batch.put(&keyspace, number.to_be_bytes(), [7; 200]).unwrap();
            batch.commit_with(CommitMode::Sync).unwrap();
        }
    };
    fill(&engine);
    let before = segments_of(&dir);
    assert!(before.iter().all(|segment| !carries_tables(&dir, segment)));
    let history = std::fs::read(dir.join("HISTORY")).unwrap();
    engine.checkpoint().unwrap();
    fill(&engine);
    let since = segments_of(&dir).split_off(2);
    assert!(since.iter().all(|segment| !before.contains(segment) && carries_tables(&dir, segment)), "{since:?}");

    // The same incarnation, listed before the bit was set.
    let older = work.join("older");
    std::fs::create_dir(&older).unwrap();
    for segment in segments_of(&dir) {
        std::fs::copy(dir.join(&segment), older.join(&segment)).unwrap();
    }
    std::fs::write(older.join("HISTORY"), &history).unwrap();
    damaged(&older, "HISTORY", DamageCause::BadHistory);
    for history in [Some(&history), None] {
        match history {
            Some(history) => std::fs::write(older.join("HISTORY"), history).unwrap(),
            None => std::fs::remove_file(older.join("HISTORY")).unwrap(),
        }
        let saved = work.join("saved");
        let salvaged = Engine::salvage(&older, &saved).unwrap();
        assert_eq!(salvaged.completeness, Completeness::Holes);
        assert!(salvaged.bad_files.iter().any(|bad| bad.file.ends_with("table/MANIFEST")), "{salvaged:?}");
        let is_all_before = |gap: &Gap| gap.from == Lsn::ZERO && gap.file.ends_with("table/MANIFEST");
        assert!(salvaged.lost.iter().any(is_all_before), "{salvaged:?}");
        std::fs::remove_dir_all(saved).unwrap();
    }

    engine.close().unwrap();
    let engine = options().open(&dir).unwrap();
    let closed = segments_of(&dir);
    fill(&engine);
    let begun: Vec<_> = segments_of(&dir).into_iter().filter(|segment| !closed.contains(segment)).collect();
    assert!(begun.len() > 1 && begun.iter().all(|segment| carries_tables(&dir, segment)), "{begun:?}");
    engine.close().unwrap();
}

#[test]
fn another_version_is_refused_by_number() {
    for file in ["HISTORY", SEGMENT] {
        refused(file, &["format version 2"], |bytes| bytes[VERSION] = 2);
    }
}

/// It proves nothing then, and refuses nothing: what must be understood of MARK has to be announced in HISTORY.
#[test]
fn a_mark_with_an_unknown_bit_is_no_mark() {
    let work = TempDir::new("refusal");
    let dir = work.join("db");
    copy_of("marked", &dir);
    let proven = |dir: &Path| Engine::verify(dir).unwrap().mark;
    assert!(matches!(proven(&dir), MarkFound::Proves(_)));
    let path = dir.join("MARK");
    let mut bytes = std::fs::read(&path).unwrap();
    for slot in bytes.chunks_exact_mut(512) {
        slot[MUST_UNDERSTAND] = TABLES;
        let crc = crc32fast::hash(&slot[12..]);
        slot[8..12].copy_from_slice(&crc.to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(proven(&dir), MarkFound::Invalid));
}
