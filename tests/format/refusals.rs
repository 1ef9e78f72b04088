//! What a newer build wrote is refused by name, whatever is asked of it, and not touched.

use std::path::Path;

use forelog::MarkFound;
use forelog::{Engine, Error, ErrorKind};

use crate::fixtures::copy_of;
use crashkit::{TempDir, contents_of};

const SEGMENT: &str = "0000000000000000.log";
const VERSION: usize = 12;
const MUST_UNDERSTAND: usize = 24;

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
fn every_feature_bit_is_refused_by_number_and_by_the_name_it_has() {
    let names = ["tables", "archived incarnations", "cuts", "range deletion"];
    for bit in 0..64 {
        let number = format!("bit {bit}");
        let name = names.get(bit).copied().unwrap_or_default();
        for file in ["HISTORY", SEGMENT] {
            refused(file, &[&number, name], |bytes| bytes[MUST_UNDERSTAND + bit / 8] |= 1 << (bit % 8));
        }
    }
}

#[test]
fn a_history_with_a_block_that_a_bit_announces_is_refused_by_the_bit() {
    refused("HISTORY", &["tables (bit 0)"], |bytes| {
        bytes[MUST_UNDERSTAND] |= 1;
        bytes.splice(72..72, [24].into_iter().chain([0; 23]));
    });
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
        slot[MUST_UNDERSTAND] = 1;
        let crc = crc32fast::hash(&slot[12..]);
        slot[8..12].copy_from_slice(&crc.to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(proven(&dir), MarkFound::Invalid));
}
