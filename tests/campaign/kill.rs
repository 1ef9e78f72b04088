//! Real processes on a real file system, killed at every system call, with calls that fail, and at random: everything
//! that `forelog-torture` does, to the end.

use std::process::Command;

use serde_json::Value;

use crate::Request;
use crate::builds::build_torture;
use forelog_sim::figures::{Figure, Wanted};

const PART: &str = "process kill";

pub(crate) fn run(request: &Request) -> Vec<Figure> {
    let seed = std::env::var("FORELOG_SEED").unwrap_or_else(|_| "1".to_owned());
    println!("FORELOG_SEED={seed}");
    let output = Command::new(build_torture())
        .args(["--json", "--complete", "--seed", &seed, "--dir", env!("CARGO_TARGET_TMPDIR")])
        .args(["--minutes", &request.minutes.max(1).to_string()])
        .output()
        .expect("the command runs");
    let Ok(report) = serde_json::from_slice::<Value>(&output.stdout) else {
        println!("no report: {}", String::from_utf8_lossy(&output.stderr));
        return vec![Figure::new(PART, "reports", 0, Wanted::All(1))];
    };
    if let Some(why) = report["untraced"].as_str() {
        println!("skipped but for random kills: {why}");
    }
    if let (Some(what), Some(again)) = (report["violation"].as_str(), report["replay"].as_str()) {
        println!("{what}\n{again}");
    }
    figures(&report)
}

fn figures(report: &Value) -> Vec<Figure> {
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let mut figures = Vec::new();
    let mut add = |name: String, value: u64, wanted: Wanted| figures.push(Figure::new(PART, name, value, wanted));
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    for script in list("boundaries") {
        let name = script["script"].as_str().unwrap_or_default();
        // Threads are not in step, so runs differ by a call or two; a sweep without a total was cut short.
        let least = script["of"].as_u64().map_or(u64::MAX, |of| of.saturating_sub(3));
        for side in ["before", "after"] {
            add(
                format!("{name}: killed {side} a call, of {}", script["of"]),
                count(&script[side]),
                Wanted::AtLeast(least),
            );
        }
    }
    for (depth, recovery) in (1..).zip(list("recovery")) {
        let (killed, of) = (count(&recovery["before"]), count(&recovery["of"]));
        // Recovery is one thread: it makes the same calls each time.
        add(format!("recovery {depth}: killed before a call"), killed, Wanted::All(of));
    }
    for error in list("errors") {
        let (call, fault) = (&error["call"], &error["fault"]);
        for outcome in ["unnoticed", "went_on", "poisoned", "not_opened"] {
            if count(&error[outcome]) > 0 {
                add(format!("{call} {fault}: {outcome}").replace('"', ""), count(&error[outcome]), Wanted::Any);
            }
        }
    }
    for lie in list("lies") {
        let name = lie["lie"].as_str().unwrap_or_default();
        for outcome in ["harmless", "refused", "took", "commits_taken"] {
            add(format!("{name}: {}", outcome.replace('_', " ")), count(&lie[outcome]), Wanted::Any);
        }
    }
    if let Some(why) = report["no_cgroup"].as_str() {
        println!("skipped: no process was killed for want of memory: {why}");
    }
    for (death, times) in report["deaths"].as_object().into_iter().flatten() {
        add(death.clone(), count(times), Wanted::Any);
    }
    add("random kills".into(), count(&report["random_kills"]), Wanted::AtLeast(1));
    add("second process refused while the first runs".into(), count(&report["locked"]), Wanted::AtLeast(1));
    add("states opened and compared".into(), count(&report["states"]), Wanted::AtLeast(1));
    add("distinct states".into(), count(&report["distinct_states"]), Wanted::Any);
    for (modes, states) in report["distinct_states_of"].as_object().into_iter().flatten() {
        add(format!("distinct states after commits of {modes}"), count(states), Wanted::AtLeast(1));
    }
    add("backups opened and compared".into(), count(&report["backups"]), Wanted::AtLeast(1));
    add("tokens asked about".into(), count(&report["tokens"]), Wanted::AtLeast(1));
    for mode in list("modes") {
        let name = mode["mode"].as_str().unwrap_or_default();
        let survives = matches!(name, "sync" | "written");
        add(format!("{name}: commits acknowledged"), count(&mode["acknowledged"]), Wanted::AtLeast(1));
        add(format!("{name}: of them lost"), count(&mode["lost"]), if survives { Wanted::Zero } else { Wanted::Any });
    }
    add("largest loss in one crash, commits".into(), count(&report["largest_loss_commits"]), Wanted::AtMost(200));
    let refused = report["violation"].as_str().is_some_and(|what| what.contains("REFUSED"));
    add("legal states refused".into(), u64::from(refused), Wanted::Zero);
    add("violations".into(), count(&report["violations"]), Wanted::Zero);
    figures
}
