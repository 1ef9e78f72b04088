//! The order of the layers, the doors through which the outside enters, the sizes of files, and what `cargo test` builds,
//! as rules that a build can break.

use std::path::Path;

mod figures;
mod source;

use source::SourceFile;

/// Top down: a folder imports only folders that come after it.
const LAYERS: [&str; 13] =
    ["tail", "requests", "typed", "engine", "care", "txn", "table", "index", "log", "format", "disk", "base", "rt"];

/// What may be named in one file only, and where.
const DOORS: [(&str, &[&str]); 13] = [
    ("std::fs", &["disk/os.rs", "disk/os/unix.rs", "disk/os/elsewhere.rs", "rt/machine.rs"]),
    ("fs::File", &["disk/os.rs", "disk/os/unix.rs", "disk/os/elsewhere.rs"]),
    ("std::time::Instant", &["rt/clock.rs"]),
    ("Instant::now", &["rt/clock.rs"]),
    ("SystemTime", &[]),
    ("std::thread::spawn", &[]),
    ("thread::Builder", &["rt/sync/plain.rs", "rt/sync/checked.rs", "rt/schedule.rs"]),
    ("getrandom", &["rt/entropy.rs"]),
    ("libc::", &["disk/os.rs", "disk/uring.rs", "rt/memory.rs", "rt/process.rs"]),
    ("rustix", &["disk/os/unix.rs", "rt/descriptor.rs"]),
    ("io_uring::", &["disk/uring.rs"]),
    ("memmap2", &["disk/os.rs"]),
    (".examine(", &["log/read/reader.rs", "log/read/walk.rs"]),
];

/// The one door for locks; what waits under none of its own takes the short ones that it has to offer.
const LOCKS: &str = "rt/sync/";

const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 70;

fn source_files() -> Vec<SourceFile> {
    source::source_files(Path::new(env!("CARGO_MANIFEST_DIR")))
}

#[test]
fn a_folder_imports_only_folders_below_it() {
    let mut broken = Vec::new();
    for file in source_files() {
        let Some(layer) = LAYERS.iter().position(|layer| *layer == file.folder()) else { continue };
        for (line, code) in file.code() {
            for above in &LAYERS[..layer] {
                if code.contains(&format!("crate::{above}::")) {
                    broken.push(format!("{}:{line}: {} must not know {above}", file.name, LAYERS[layer]));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn files_of_a_folder_import_each_other_in_one_direction() {
    let files = source_files();
    for folder in LAYERS {
        let circles = source::circles(&source::imports(&files, folder));
        assert!(circles.is_empty(), "circles in {folder}: {circles:#?}");
    }
}

#[test]
fn log_and_index_meet_in_two_places_only() {
    let meets: Vec<String> = source_files()
        .into_iter()
        .filter(|file| !file.is_test())
        .filter(|file| {
            let names = |what: &str| file.code().any(|(_, code)| code.contains(what));
            (names(".apply_all(") || names("Loader")) && (names("crate::log") || names("log::"))
        })
        .map(|file| file.name)
        .collect();
    assert_eq!(meets, ["engine/replay.rs", "txn/pipeline.rs"]);
}

#[test]
fn the_outside_enters_through_one_file_each() {
    let mut broken = Vec::new();
    for file in source_files() {
        let name = file.name.as_str();
        if file.is_test() || file.folder() == "bin" {
            continue;
        }
        for (line, code) in file.code() {
            for (call, allowed) in &DOORS {
                if code.contains(call) && !allowed.contains(&name) {
                    broken.push(format!("{name}:{line}: {call} belongs in {allowed:?}"));
                }
            }
            let plain_lock = code.contains("parking_lot") || code.contains("std::sync::Mutex");
            let simulated_door = name == "rt/schedule.rs";
            if plain_lock && !simulated_door && !name.starts_with(LOCKS) {
                broken.push(format!("{name}:{line}: locks come from {LOCKS}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn files_and_functions_stay_readable() {
    let mut long = Vec::new();
    for file in source_files() {
        let lines = file.text.lines().count();
        if lines > LONGEST_FILE {
            long.push(format!("{}: {lines} lines", file.name));
        }
        for (line, name, lines) in file.functions() {
            if lines > LONGEST_FUNCTION && !file.is_test() {
                long.push(format!("{}:{line}: {name} has {lines} lines", file.name));
            }
        }
    }
    assert!(
        long.is_empty(),
        "files over {LONGEST_FILE} lines, functions over {LONGEST_FUNCTION}:\n{}",
        long.join("\n")
    );
}

/// Planted bugs are text beside the crash suite (`tests/plants`), applied to copies of the checkout.
#[test]
fn the_product_knows_nothing_of_planted_bugs() {
    let speaks = source_files().into_iter().filter(|file| file.text.contains("planted"));
    let found: Vec<String> = speaks.map(|file| file.name).collect();
    assert!(found.is_empty(), "planted bugs belong in tests/plants/plants: {found:?}");
}

#[test]
fn every_unsafe_block_gives_its_reason() {
    for file in source_files() {
        let is_unsafe = |code: &str| code.contains("unsafe {") || code.contains("unsafe impl");
        let blocks = file.code().filter(|(_, code)| is_unsafe(code)).count();
        let reasons = file.text.matches("// SAFETY:").count();
        assert!(blocks <= reasons, "{}: {blocks} unsafe blocks, {reasons} SAFETY reasons", file.name);
    }
}

/// Cargo unifies features: one dev-dependency that asks for the simulated disk would put it into every test and benchmark
/// here, as it once did.
#[test]
fn what_is_tested_here_is_what_ships() {
    let on = [("sim", cfg!(feature = "sim")), ("io-uring", cfg!(feature = "io-uring")), ("cli", cfg!(feature = "cli"))];
    assert!(on.iter().all(|(_, is_on)| !is_on), "{on:?}: run the others by their packages, as the README says");
}
