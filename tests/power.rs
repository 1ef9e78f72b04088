//! Power cuts on a real file system: a small part of the campaign, where mounts and loop devices are allowed.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelog::sim::{OpKind, Phase, SimDisk};
use serde_json::Value;

#[path = "../src/bin/forelog/torture/power/traced_work.rs"]
mod traced_work;

/// What every message begins with that says why it does not work here.
const NOT_HERE: &str = "forelog: cannot cut power here";

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forelog"));
    command.args(["torture", "--power", "--json", "--dir"]).arg(dir).args(arguments);
    let seed = std::env::var("FORELOG_SEED").unwrap_or_else(|_| "1".to_owned());
    println!("FORELOG_SEED={seed}");
    command.args(["--seed", &seed]);
    command
}

fn directory(test: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-{test}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// The runs by their names, or `None` if they cannot be made here.
fn runs(test: &str, arguments: &[&str]) -> Option<Vec<Value>> {
    let dir = directory(test);
    let output = command(&dir, arguments).output().unwrap();
    let left: Vec<_> = fs::read_dir(&dir).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    fs::remove_dir(&dir).unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    if message.starts_with(NOT_HERE) {
        println!("skipped: {message}");
        return None;
    }
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {message}"));
    Some(report["runs"].as_array().expect("a list").clone())
}

#[test]
fn every_legal_state_of_ext4_opens_and_keeps_what_was_promised() {
    let Some(runs) = runs("states", &["--run", "ext4", "--states", "60", "--minutes", "1"]) else { return };
    let [run] = &runs[..] else { panic!("{runs:?}") };
    let count = |name: &str| run[name].as_u64().unwrap_or_else(|| panic!("{name} in {run}"));
    assert_eq!((count("violations"), count("refused"), count("torn_words")), (0, 0, 0), "{run:#}");
    // How many of them are cut again within the recovery depends on the kernel's timing; the campaign has thousands.
    assert!(count("states") >= 60 && count("frames_compared") > 0, "{run:#}");
}

#[test]
fn a_log_that_does_not_sync_its_directory_and_a_device_that_lies_are_caught() {
    const CONTROLS: [&str; 2] = ["no fsync of the directory", "forelog on a device that ignores flushes"];
    let arguments = ["--run", CONTROLS[0], "--run", CONTROLS[1], "--states", "100", "--minutes", "1"];
    let Some(runs) = runs("controls", &arguments) else { return };
    assert_eq!(runs.len(), CONTROLS.len());
    for run in runs {
        assert!(run["must_be_caught"] == true && run["met"] == true, "{run:#}");
    }
}

/// Operations by the file that they are done to: what two threads do to two files comes in any order.
fn by_file(operations: &[String]) -> BTreeMap<&str, Vec<&str>> {
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for operation in operations {
        let file = operation.split(' ').nth(1).expect("KIND FILE …");
        files.entry(file).or_default().push(operation);
    }
    files
}

/// The operations of the traced workload on the simulated disk.
fn simulated() -> Vec<String> {
    let disk = SimDisk::new();
    disk.make_dir("mount/db").unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let operations = Arc::clone(&seen);
    disk.on_op(move |_, op| {
        let name = op.path.file_name().unwrap_or_default().to_string_lossy();
        let told = match op.kind {
            OpKind::Write => format!("Write {name} {} {}", op.offset, op.length),
            OpKind::SetLen => format!("SetLen {name} {}", op.offset),
            OpKind::CreateDir => return,
            kind => format!("{kind:?} {name}"),
        };
        if op.phase == Phase::Before {
            operations.lock().unwrap().push(told);
        }
    });
    traced_work::work(Arc::new(disk), "mount/db".as_ref()).unwrap();
    let operations = seen.lock().unwrap();
    operations.clone()
}

#[test]
fn the_simulated_disk_sees_what_a_real_device_gets_before_each_sync_returns() {
    const RUNS: [&str; 3] = ["trace on ext4", "trace on xfs", "trace on btrfs"];
    let Some(runs) = runs("trace", &["--run", RUNS[0], "--run", RUNS[1], "--run", RUNS[2]]) else { return };
    let simulated = simulated();
    for run in runs {
        let told = |operation: &Value| operation.as_str().unwrap().to_owned();
        let operations: Vec<String> = run["operations"].as_array().unwrap().iter().map(told).collect();
        let (real, simulated) = (by_file(&operations), by_file(&simulated));
        assert!(real.keys().eq(simulated.keys()), "{:?} instead of {:?}", real.keys(), simulated.keys());
        for (file, operations) in real {
            assert_eq!(operations, simulated[file], "{file} on {}", run["name"]);
        }
        assert_eq!(run["unflushed_sectors"], 0, "{run:#}");
        assert!(run["synced_sectors"].as_u64().unwrap() > 300, "{run:#}");
    }
}

/// The loop devices that stand on a file below `dir`.
fn attached(dir: &Path) -> usize {
    let device = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("loop/backing_file")).ok();
    let files = fs::read_dir("/sys/block").into_iter().flatten().flatten().filter_map(device);
    files.filter(|file| Path::new(file.trim_end()).starts_with(dir)).count()
}

/// Waits, far longer than it takes, until so many loop devices are attached.
fn wait_attached(dir: &Path, count: usize) -> bool {
    (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        attached(dir) == count
    })
}

#[test]
fn a_kill_leaves_no_mount_and_no_loop_device() {
    let dir = directory("kill");
    let mut power = command(&dir, &["--run", "ext4", "--states", "1000000", "--minutes", "5"]);
    let mut process = power.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut ended = false;
    while !ended && !wait_attached(&dir, 1) {
        ended = process.try_wait().unwrap().is_some();
    }
    // It ends at once where it is not allowed.
    ended |= process.try_wait().unwrap().is_some();
    if ended {
        println!("skipped: {NOT_HERE}");
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(wait_attached(&dir, 0), "a loop device stays attached");
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()), "{mounts}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    fs::remove_dir(&dir).unwrap();
}
