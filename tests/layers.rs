//! The order of the layers, the doors through which the outside enters, and the sizes of files, as rules that a build
//! can break.

use std::fs;
use std::path::{Path, PathBuf};

/// Top down: a folder imports only folders that come after it.
const LAYERS: [&str; 8] = ["engine", "txn", "table", "index", "log", "format", "disk", "words"];

/// What may be named in one file only, and where.
const DOORS: [(&str, &[&str]); 12] = [
    ("std::fs", &["disk/os.rs", "disk/os/unix.rs", "disk/os/elsewhere.rs"]),
    ("fs::File", &["disk/os.rs", "disk/os/unix.rs", "disk/os/elsewhere.rs"]),
    ("std::time::Instant", &["words/clock.rs"]),
    ("Instant::now", &["words/clock.rs"]),
    ("SystemTime", &[]),
    ("std::thread::spawn", &[]),
    ("thread::Builder", &["words/sync/plain.rs", "words/sync/checked.rs", "words/schedule.rs"]),
    ("getrandom", &["words/entropy.rs"]),
    ("libc::", &["disk/os.rs", "disk/uring.rs", "words/memory.rs", "words/process.rs"]),
    ("rustix", &["disk/os/unix.rs"]),
    ("io_uring::", &["disk/uring.rs"]),
    ("memmap2", &["disk/os.rs"]),
];

/// The one door for locks; what waits under none of its own takes the short ones that it has to offer.
const LOCKS: &str = "words/sync/";

const LONGEST_FILE: usize = 500;

fn source_files() -> Vec<(String, String)> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("src can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let name = |path: &Path| path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
    files.iter().map(|path| (name(path), fs::read_to_string(path).expect("a source file"))).collect()
}

/// The code of a file: without comments, and without what only tests see.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
}

fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("_tests.rs") || name.ends_with("/tests.rs")
}

#[test]
fn a_folder_imports_only_folders_below_it() {
    let mut broken = Vec::new();
    for (name, text) in source_files() {
        let Some(layer) = LAYERS.iter().position(|layer| name.starts_with(&format!("{layer}/"))) else { continue };
        for (line, code) in code(&text) {
            for above in &LAYERS[..layer] {
                if code.contains(&format!("crate::{above}::")) {
                    broken.push(format!("{name}:{line}: {} must not know {above}", LAYERS[layer]));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn log_and_index_meet_in_two_places_only() {
    let meets: Vec<String> = source_files()
        .into_iter()
        .filter(|(name, _)| !is_test(name))
        .filter(|(_, text)| {
            let names = |what: &str| code(text).any(|(_, code)| code.contains(what));
            (names(".apply_all(") || names("Loader")) && (names("crate::log") || names("log::"))
        })
        .map(|(name, _)| name)
        .collect();
    assert_eq!(meets, ["engine/open.rs", "txn/pipeline.rs"]);
}

#[test]
fn the_outside_enters_through_one_file_each() {
    let mut broken = Vec::new();
    for (name, text) in source_files() {
        if is_test(&name) || name.starts_with("bin/") {
            continue;
        }
        for (line, code) in code(&text) {
            for (call, allowed) in &DOORS {
                if code.contains(call) && !allowed.contains(&name.as_str()) {
                    broken.push(format!("{name}:{line}: {call} belongs in {allowed:?}"));
                }
            }
            let plain_lock = code.contains("parking_lot") || code.contains("std::sync::Mutex");
            let simulated_door = name == "words/schedule.rs";
            if plain_lock && !simulated_door && !name.starts_with(LOCKS) {
                broken.push(format!("{name}:{line}: locks come from {LOCKS}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn files_stay_readable() {
    let long: Vec<_> = source_files()
        .into_iter()
        .map(|(name, text)| (text.lines().count(), name))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .collect();
    assert!(long.is_empty(), "over {LONGEST_FILE} lines: {long:?}");
}

#[test]
fn every_unsafe_block_gives_its_reason() {
    for (name, text) in source_files() {
        let blocks = code(&text).filter(|(_, code)| code.contains("unsafe {") || code.contains("unsafe impl")).count();
        let reasons = text.matches("// SAFETY:").count();
        assert!(blocks <= reasons, "{name}: {blocks} unsafe blocks, {reasons} SAFETY reasons");
    }
}
