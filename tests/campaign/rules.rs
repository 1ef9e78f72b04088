//! The model of the rules of memory, log and layers (`tests/residency/`, `src/table/RULES.md`): more states and walks than in a test.

use std::process::{Command, Stdio};

use crate::Request;
use crate::builds::build_residency;
use forelog_sim::figures::{Figure, Wanted};

const PART: &str = "rules";
/// States of each search, and walks with all rules.
const STATES: u64 = 2_000_000;
const WALKS: u64 = 1_000_000;
/// Clauses of the page. One that is not found any more must not pass for one that is not needed.
const CLAUSES: u64 = 85;

pub(crate) fn run(_: &Request) -> Vec<Figure> {
    let output = Command::new(build_residency())
        .args(["--nocapture", "--test-threads=1"])
        .envs([("FORELOG_STATES", STATES.to_string()), ("FORELOG_WALKS", WALKS.to_string())])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("the model runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut states, mut walks, mut steps, mut removals, mut clauses) = (0, 0, 0, 0, 0);
    for line in text.lines() {
        // Of `12 states, 7 steps` or `12 removals caught of 13` a number by the word behind or before it.
        let words: Vec<&str> = line.split([' ', ',', ':']).filter(|word| !word.is_empty()).collect();
        let before = |what: &str| words.windows(2).find(|pair| pair[1] == what)?[0].parse::<u64>().ok();
        if let Some(found) = before("states") {
            println!("  {line}");
            (states, steps) = (states + found, steps + before("steps").unwrap_or(0));
        } else if let Some(found) = before("walks") {
            println!("  {line}");
            (walks, steps) = (found, steps + before("steps").unwrap_or(0));
        } else if let Some(found) = before("removals") {
            (removals, clauses) = (found, words.last().and_then(|last| last.parse().ok()).unwrap_or(0));
        }
    }
    let figure = |name, value, wanted| Figure::new(PART, name, value, wanted);
    vec![
        figure("states searched", states, Wanted::AtLeast(STATES)),
        figure("walks", walks, Wanted::AtLeast(WALKS)),
        figure("steps, each judged", steps, Wanted::Any),
        figure("clauses", clauses, Wanted::AtLeast(CLAUSES)),
        figure("without which something goes wrong", removals, Wanted::All(clauses)),
        figure("failures", u64::from(!output.status.success()), Wanted::Zero),
    ]
}
