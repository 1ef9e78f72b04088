//! Power cuts on real file systems: every one of the matrix, and the controls.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::Request;
use crate::builds::build_torture;
use forelog_sim::figures::{Figure, Wanted};

const PART: &str = "power cut";
/// Distinct states for each file system, at least.
const STATES: u64 = 3000;

pub(crate) fn run(request: &Request) -> Vec<Figure> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory to mount on");
    let output = Command::new(build_torture())
        .args(["--power", "--json", "--seed", &crate::seed().to_string(), "--dir"])
        .arg(&dir)
        .args(["--states", &STATES.to_string(), "--minutes", &request.minutes.to_string()])
        .output()
        .expect("the program runs");
    let _ = fs::remove_dir(&dir);
    let message = String::from_utf8_lossy(&output.stderr);
    let Ok(report) = serde_json::from_slice::<Value>(&output.stdout) else {
        println!("{message}");
        let skipped = message.contains("cannot cut power here");
        let wanted = if skipped { Wanted::Any } else { Wanted::Zero };
        return vec![Figure::new(PART, "not run", 1, wanted)];
    };
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    for skipped in list("skipped") {
        println!("skipped {}: {}", skipped["name"], skipped["why"]);
    }
    let (controls, systems): (Vec<Value>, Vec<Value>) =
        list("runs").into_iter().partition(|run| run["control"] == true);
    let (traces, systems): (Vec<Value>, Vec<Value>) = systems.into_iter().partition(|run| run["subject"] == "traced");
    let mut figures: Vec<Figure> = systems.iter().flat_map(of_file_system).collect();
    figures.extend(traces.iter().flat_map(of_trace));
    for (name, caught) in [("controls that must pass, passed", false), ("controls that must be caught, caught", true)] {
        let these: Vec<_> = controls.iter().filter(|run| run["must_be_caught"] == caught).collect();
        these.iter().filter(|run| run["met"] == false).for_each(|run| println!("{run:#}"));
        let met = these.iter().filter(|run| run["met"] == true).count();
        figures.push(Figure::new(PART, name, met as u64, Wanted::All(these.len() as u64)));
    }
    figures.push(Figure::new(PART, "runs skipped", list("skipped").len() as u64, Wanted::Any));
    figures
}

fn figure(run: &Value, name: &str, field: &str, wanted: Wanted) -> Figure {
    let value = run[field].as_u64().unwrap_or_else(|| panic!("{field} in {run}"));
    Figure::new(PART, format!("{}: {name}", run["name"].as_str().unwrap_or_default()), value, wanted)
}

fn of_trace(run: &Value) -> Vec<Figure> {
    vec![
        figure(run, "sectors covered by syncs", "synced_sectors", Wanted::AtLeast(1)),
        figure(run, "of these, not flushed when the sync returned", "unflushed_sectors", Wanted::Zero),
    ]
}

fn of_file_system(run: &Value) -> Vec<Figure> {
    for story in run["stories"].as_array().into_iter().flatten() {
        println!("{}: {story}", run["name"]);
    }
    let states_of = ["sync", "written", "async", "within", "mixed"].map(|modes| {
        let name =
            format!("{}: distinct crash states after commits of {modes}", run["name"].as_str().unwrap_or_default());
        Figure::new(PART, name, run["states_of"][modes].as_u64().unwrap_or(0), Wanted::AtLeast(1))
    });
    let figure = |name: &str, field: &str, wanted| figure(run, name, field, wanted);
    let figures = vec![
        figure("distinct crash states", "states", Wanted::AtLeast(STATES)),
        figure("of these, of a second cut", "second_cut_states", Wanted::AtLeast(1)),
        figure("opened and judged", "opened", Wanted::Any),
        figure("refused", "refused", Wanted::Zero),
        figure("violations", "violations", Wanted::Zero),
        figure("faults of the file system", "file_system_faults", Wanted::Any),
        figure("sectors of segments written", "log_sectors_written", Wanted::Any),
        figure("of these, with a frame written in part", "partly_written_frames", Wanted::Zero),
        figure("frames compared on the device", "frames_compared", Wanted::Any),
        figure("torn words on the device", "torn_words", Wanted::Zero),
        figure("recordings", "recordings", Wanted::Any),
        figure("flushes recorded", "flushes", Wanted::Any),
    ];
    figures.into_iter().chain(states_of).collect()
}
