//! The program as a whole, for milliseconds.

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use support::Temporary;

const PROGRAM: &str = env!("CARGO_BIN_EXE_forelog-peers");

fn run(arguments: &[&str]) -> Output {
    support::run(PROGRAM, arguments)
}

const SHORT: [&str; 6] = ["--rounds", "1", "--seconds", "0.01", "--transactions", "1000"];

#[test]
fn every_workload_runs_and_is_reported() {
    let dir = Temporary::new(std::env::temp_dir(), "all");
    let (json, markdown, plots) = (dir.path("report.json"), dir.path("report.md"), dir.path("plots"));
    let place = dir.path("");
    let mut arguments = vec!["--dir", &place, "--peers", "forelog,forelog::Log", "--json", &json];
    arguments.extend(["--markdown", &markdown, "--svg", &plots]);
    let output = run(&[arguments.as_slice(), &SHORT].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("the JSON")).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 18, "every workload");
    for row in rows {
        for cell in row["cells"].as_array().expect("cells") {
            assert_eq!(cell["error"], Value::Null, "{row}");
            assert!(cell["rounds"][0]["value"].as_f64().is_some_and(|value| value > 0.0), "{row}");
            let times = ["p50", "p999"].map(|time| cell["rounds"][0][time].as_f64());
            let is_timed = matches!(times, [Some(p50), Some(p999)] if 0.0 < p50 && p50 <= p999);
            assert!(is_timed || row["id"] == "reopen", "beside each rate stand its times: {row}");
        }
    }
    let markdown = std::fs::read_to_string(&markdown).expect("the report");
    assert!(markdown.contains("| Sync, 1 thread |") && markdown.contains("### Does Sync sync?"), "{markdown}");
    assert!(std::fs::read_to_string(dir.0.join("plots/sync-1.svg")).expect("a plot").starts_with("<svg"));
    let left: Vec<_> =
        std::fs::read_dir(&dir.0).expect("the directory").flatten().map(|file| file.file_name()).collect();
    assert_eq!(left.len(), 3, "nothing but the reports is left: {left:?}");

    // The same report again, from the JSON.
    let output = run(&["--from", &json]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), markdown.trim_end());
}

#[test]
fn a_peer_that_is_not_there_is_skipped_and_the_rest_runs() {
    let dir = Temporary::new(std::env::temp_dir(), "skipped");
    let place = dir.path("");
    let output = Command::new(PROGRAM)
        .args(["--dir", &place, "--peers", "redis", "--only", "sync-1", "--unchecked"])
        .args(SHORT)
        .env("PATH", "")
        .output()
        .expect("the program runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("apt-get install redis-server"), "{told}");
    assert!(told.contains("| **forelog** |"), "{told}");
}

#[test]
fn a_directory_in_memory_makes_sync_meaningless() {
    let shared = PathBuf::from("/dev/shm");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    if !mounts.lines().any(|line| line.contains(" /dev/shm tmpfs ")) {
        eprintln!("skipped: /dev/shm is no tmpfs here");
        return;
    }
    let dir = Temporary::new(shared, "memory");
    let place = dir.path("");
    let output = run(&[["--dir", &place, "--peers", "raw", "--only", "sync-1"].as_slice(), &SHORT].concat());
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    let too_small = told.contains("MiB free");
    assert!(too_small || (output.status.success() && told.contains("meaningless: memory")), "{told}");
}

#[test]
fn bad_input_is_told_what_to_do() {
    let dir = Temporary::new(std::env::temp_dir(), "bad");
    let (missing, file, place) = (dir.path("missing"), dir.path("file"), dir.path(""));
    let refuses = |arguments: &[&str], words: &[&str]| support::refuses(PROGRAM, arguments, words);
    std::fs::write(&file, "").expect("a file");
    refuses(&["--dir", &missing], &["missing", "make it, or name another with --dir"]);
    refuses(&["--dir", &file], &["is no directory"]);
    refuses(&["--dir", &place, "--peers", "nobody"], &["no peer of this build is called nobody"]);
    refuses(&["--dir", &place, "--only", "nothing"], &["no workload is called nothing"]);
    refuses(&["--dir", &place, "--transactions", "1000000000000"], &["MiB free", "make room"]);
    refuses(&["--dir", &place, "--json", "/nowhere/at/all"], &["cannot be written"]);
    refuses(&["--dir", &place, "--seconds", "never"], &["--seconds"]);
    refuses(&["--from", &file], &["is no report of this program"]);
    refuses(&[], &["--dir"]);
    // A file system that cannot be written, whoever asks.
    refuses(&["--dir", "/proc"], &["/proc", "name another directory with --dir"]);
}
