//! Data that outgrow memory, with so few that they do not.

mod support;

use serde_json::Value;

use support::Temporary;

const PROGRAM: &str = env!("CARGO_BIN_EXE_scale");
const SHORT: [&str; 5] = ["--no-cgroup", "--memory", "64MiB", "--minutes", "0.2"];

fn measured(dir: &Temporary, arguments: &[&str]) -> (Value, String) {
    let (json, markdown, plots, place) =
        (dir.path("report.json"), dir.path("report.md"), dir.path("plots"), dir.path(""));
    let files = ["--dir", &place, "--json", &json, "--markdown", &markdown, "--svg", &plots];
    let output = support::run(PROGRAM, &[&files, SHORT.as_slice(), arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("the JSON")).expect("JSON");
    for run in report["runs"].as_array().expect("runs") {
        assert_eq!(run["failures"].as_array().map(Vec::len), Some(0), "{run}");
        for phase in run["phases"].as_array().expect("phases") {
            assert_eq!(phase["wrong"], 0, "{phase}");
            let is_settling = phase["phase"].as_str().is_some_and(|name| name.starts_with("Settle"));
            assert!(is_settling || phase["operations"].as_u64() > Some(0), "{phase}");
        }
    }
    assert!(
        !std::fs::read_dir(&dir.0)
            .expect("the directory")
            .flatten()
            .any(|file| { file.file_name().to_string_lossy().starts_with("forelog-peers") })
    );
    (report, std::fs::read_to_string(&markdown).expect("the report"))
}

fn phases(run: &Value) -> usize {
    run["phases"].as_array().expect("phases").len()
}

#[test]
fn every_phase_runs_and_is_reported() {
    let dir = Temporary::new(std::env::temp_dir(), "scale-phases");
    let (report, markdown) = measured(&dir, &["--keys", "3000", "--peers", "forelog,redb,fjall"]);
    let runs = report["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 3);
    assert!(runs.iter().all(|run| phases(run) == 12), "{runs:?}");
    assert!(markdown.contains("Nothing held the engines to 64 MiB"), "{markdown}");
    assert!(markdown.contains("| scan of all keys |") && markdown.contains("memory_bytes 32 MiB"), "{markdown}");
    for plot in ["memory", "disk", "rate-load", "p99-overwrites", "max-load"] {
        let plot = std::fs::read_to_string(dir.path(&format!("plots/{plot}.svg"))).expect("a plot");
        assert!(plot.starts_with("<svg") && !plot.contains("NaN"), "{plot}");
    }

    // The same report again, from the JSON.
    let output = support::run(PROGRAM, &["--from", &dir.path("report.json")]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), markdown.trim_end());
}

#[test]
fn opens_of_each_size_are_reported() {
    let dir = Temporary::new(std::env::temp_dir(), "scale-opens");
    let sizes = ["--opens", "--open-keys", "100,1000", "--record-bytes", "20,1024", "--peers", "forelog,redb"];
    let (report, markdown) = measured(&dir, &sizes);
    let runs = report["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 8);
    assert!(runs.iter().all(|run| phases(run) == 5), "{runs:?}");
    assert!(markdown.contains("### 1000 keys of 20 bytes") && markdown.contains("| open after SIGKILL"), "{markdown}");
}

#[test]
fn overwrites_of_few_keys_are_reported() {
    let dir = Temporary::new(std::env::temp_dir(), "scale-few");
    let few = ["--overwrites-of-few", "--few-overwrites", "5000", "--peers", "forelog"];
    let (report, markdown) = measured(&dir, &few);
    assert_eq!(report["runs"][0]["phases"][0]["operations"], 5000);
    assert!(markdown.contains("| puts loaded | 5000 |"), "{markdown}");
}

#[test]
fn single_commits_are_timed_alone_and_beside_overwrites() {
    let dir = Temporary::new(std::env::temp_dir(), "scale-steady");
    let (report, markdown) = measured(&dir, &["--steady", "--keys", "500", "--peers", "forelog,redb"]);
    let runs = report["runs"].as_array().expect("runs");
    assert!(runs.len() == 2 && runs.iter().all(|run| phases(run) == 7), "{runs:?}");
    assert!(markdown.contains("| Sync beside overwrites, p99.9 |"), "{markdown}");
    assert!(markdown.contains("| Async alone | "), "{markdown}");
    for plot in ["sync-p99.9", "async-longest"] {
        let plot = std::fs::read_to_string(dir.path(&format!("plots/{plot}.svg"))).expect("a plot");
        // The two phases meet at a mark, once for each engine.
        assert!(plot.starts_with("<svg") && !plot.contains("NaN") && plot.matches("<circle").count() >= 2, "{plot}");
    }
}

#[test]
fn bad_input_is_told_what_to_do() {
    let dir = Temporary::new(std::env::temp_dir(), "scale-bad");
    let place = dir.path("");
    let refuses = |arguments: &[&str], words: &[&str]| support::refuses(PROGRAM, arguments, words);
    refuses(&["--dir", &place, "--keys", "1000000000000"], &["MiB free", "fewer or smaller records"]);
    refuses(&["--dir", &place, "--peers", "sqlite"], &["no peer of this build", "sqlite", "rocksdb"]);
    refuses(&["--dir", &place, "--memory", "1MiB"], &["--memory", "32MiB or more"]);
    refuses(&["--dir", &place, "--opens", "--overwrites-of-few"], &["--opens", "--overwrites-of-few"]);
    refuses(&["--dir", &place, "--steady", "--opens"], &["--steady", "--opens"]);
    refuses(&["--dir", &dir.path("missing")], &["make it, or name another with --dir"]);
    refuses(&[], &["--dir"]);
}
