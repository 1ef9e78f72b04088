//! A writing process is killed before and after each of its system calls, in every mode, on the real file system; and
//! what `forelog-torture` does with a promise that was broken. The long form is a part of the campaign.

use std::process::{Command, Output};

use crashkit::TempDir;
use serde_json::Value;

const FORELOG: &str = env!("CARGO_BIN_EXE_forelog-torture");

/// A directory in memory where there is such a file system: what the death of a process leaves is the same there, and
/// hundreds of lives do not wait for a disk. The campaign waits.
fn in_memory(name: &str) -> TempDir {
    let shared_memory = std::path::Path::new("/dev/shm");
    if shared_memory.is_dir() { TempDir::inside(shared_memory, name) } else { TempDir::new(name) }
}

fn torture(dir: &TempDir, arguments: &[&str]) -> Output {
    let seed = crashkit::seed(1).to_string();
    let mut command = Command::new(FORELOG);
    command.arg("--dir").arg(dir.path()).args(["--seed", &seed, "--json"]).args(arguments);
    command.output().expect("the command runs")
}

/// The report, all promises kept; `None` where processes cannot be stopped at their system calls.
fn report(dir: &TempDir, arguments: &[&str]) -> Option<Value> {
    let output = torture(dir, arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(report["violations"], 0, "{text}");
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "something is left in the directory");
    if let Some(why) = report["untraced"].as_str() {
        println!("skipped: {why}");
        return None;
    }
    Some(report)
}

#[test]
fn every_system_call_of_a_small_life_in_each_mode() {
    let dir = in_memory("torture-boundaries");
    let Some(report) = report(&dir, &["--tiny", "--complete", "--only", "boundaries"]) else { return };
    let scripts = report["boundaries"].as_array().unwrap();
    assert_eq!(scripts.len(), 5, "one script in each mode, and one with checkpoints");
    for script in scripts {
        let of = script["of"].as_u64().expect("the sweep came to its end");
        assert!(of > 40, "creation, commits, a roll and a close make more calls than {of}");
        // Threads are not in step: a run may make a call more or less than another.
        assert!(script["before"].as_u64().unwrap() + 3 >= of, "{script}");
        assert!(script["after"].as_u64().unwrap() + 3 >= of, "{script}");
    }
    let lost = |mode: &str| {
        let modes = report["modes"].as_array().unwrap();
        modes.iter().find(|entry| entry["mode"] == mode).unwrap()["lost"].as_u64().unwrap()
    };
    assert_eq!((lost("sync"), lost("written")), (0, 0));
    let phases: Vec<_> = report["points"].as_array().unwrap().iter().map(|point| &point["phase"]).collect();
    for phase in ["create", "commit", "roll", "checkpoint", "close"] {
        assert!(phases.iter().any(|found| *found == phase), "nobody was killed in {phase}");
    }
}

#[test]
fn every_system_call_of_a_recovery_and_of_the_next_one() {
    let dir = TempDir::new("torture-recovery");
    let Some(report) =
        report(&dir, &["--replay", "written-1x4-4096@after:60+sync-1x0-4096@before:7+sync-1x0-4096@before:9"])
    else {
        return;
    };
    assert_eq!(report["states"], 1, "checked once, when the third process was dead");
    let points = report["points"].as_array().unwrap();
    let recovering: u64 =
        points.iter().filter(|p| p["phase"] == "recover").map(|p| p["before"].as_u64().unwrap()).sum();
    assert_eq!(recovering, 2, "{report}");
}

#[test]
fn a_failed_fsync_stops_the_engine_and_the_next_open_settles_it() {
    let dir = TempDir::new("torture-eio");
    let Some(report) = report(&dir, &["--tiny", "--complete", "--only", "errors"]) else { return };
    let failed = &report["errors"][0];
    assert_eq!((&failed["call"], &failed["fault"]), (&Value::from("fdatasync"), &Value::from("eio")));
    assert_eq!(failed["poisoned"], failed["injected"], "{failed}");
    assert!(failed["injected"].as_u64().unwrap() > 0);
}

#[test]
fn a_write_that_lies_is_noticed_or_takes_what_came_after_it() {
    let dir = in_memory("torture-lies");
    let Some(report) = report(&dir, &["--tiny", "--complete", "--only", "lies"]) else { return };
    let lies = report["lies"].as_array().unwrap();
    assert_eq!(lies.len(), 2, "{report}");
    for lie in lies {
        // Each of the three comes of some write of a life: of those of a segment that is being made, of those of the
        // last frames, of those that later ones prove to have been durable.
        for outcome in ["harmless", "took", "refused"] {
            assert!(lie[outcome].as_u64().unwrap() > 0, "{lie}");
        }
        assert!(lie["commits_taken"].as_u64() >= lie["took"].as_u64(), "{lie}");
    }
}

#[test]
fn deaths_by_the_kernel_and_short_writes_lose_nothing() {
    let dir = in_memory("torture-kernel");
    let mut cases = vec!["written-1x9-4096@file-limit-signal:6".to_owned()];
    cases.extend((4..8).map(|nth| format!("written-1x9-4096@short-100:pwrite:{nth}")));
    for case in cases {
        if report(&dir, &["--replay", &case]).is_none() {
            return;
        }
    }
}

#[test]
fn a_database_in_use_is_locked_and_free_again_after_a_kill() {
    let dir = TempDir::new("torture-lock");
    let case = "mixed-2xever-4096@kill:2000,sync-1xever-4096@stop:1000,async-1xever-16384@kill:0";
    let output = torture(&dir, &["--untraced", "--replay", case]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!((&report["violations"], &report["locked"]), (&Value::from(0), &Value::from(3)), "{report}");
}

/// A recovery that ran out of file descriptors called a sound segment damaged, and told people to restore a copy.
#[test]
fn a_recovery_without_file_descriptors_does_not_call_the_log_damaged() {
    let dir = TempDir::new("torture-emfile");
    for nth in 1..=16 {
        let case = format!("written-1x9-4096@after:77+sync-1x0-4096@emfile:open:{nth}");
        if report(&dir, &["--replay", &case]).is_none() {
            return;
        }
    }
}

#[test]
fn a_case_that_is_none_is_refused_with_the_form_of_one() {
    let dir = TempDir::new("torture-case");
    let output = torture(&dir, &["--replay", "sync@before:1"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("MODE-CLIENTSxCOMMITS-SEGMENT"), "{told}");
}

#[test]
fn a_campaign_that_is_ended_by_a_signal_removes_its_directory() {
    let dir = in_memory("torture-signal");
    // The shell that runs these tests may ignore signals: the command must not inherit that.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,TERM,HUP", FORELOG, "--untraced", "--dir"]).arg(dir.path());
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let root = dir.join(format!("forelog-torture-{}-0", child.id()));
    while !std::fs::read_dir(&root).is_ok_and(|entries| entries.count() > 1) {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "something is left in the directory");
}
