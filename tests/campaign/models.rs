//! The models of the commit path (`tests/models/`), each checker in a build of its own; and the races planted for them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Request;
use crate::builds::{build_test, planted_copies};
use crate::plants::{FLAGS, Tally, passes_without_plant};
use forelog_sim::figures::{Figure, Wanted};
use forelog_sim::root;

const PART: &str = "models";
const RACES: &str = "planted races";

/// How the names of planted bugs begin that only a certain interleaving shows: the rest of the crash suite may miss them.
pub(crate) const RACE: &str = "race-";

/// Each checker with the models that it has, and what makes it look further than in a test.
const CHECKERS: [(&str, u64, (&str, &str)); 2] =
    [("shuttle", 13, ("FORELOG_EXECUTIONS", "20000")), ("loom", 13, ("LOOM_MAX_PREEMPTIONS", "3"))];

pub(crate) fn run(request: &Request) -> Vec<Figure> {
    let mut figures = Vec::new();
    if request.plants.is_empty() {
        for (checker, models, further) in CHECKERS {
            let flags = format!("--cfg {checker}");
            let program = build_test(root(), "models", &flags, &format!("models-{checker}"));
            figures.extend(explore(checker, &program, models, further));
        }
    }
    let mut tally = Tally::default();
    for copy in planted_copies() {
        let mut races = copy.names;
        races.retain(|name| name.starts_with(RACE) && request.asks_for_plant(name));
        if races.is_empty() {
            continue;
        }
        let programs = CHECKERS.map(|(checker, ..)| {
            let flags = format!("--cfg {checker} {FLAGS}");
            let program = build_test(&copy.root, "models", &flags, &format!("plants/{checker}"));
            passes_without_plant((checker, program, &[]))
        });
        for race in &races {
            tally.count(race, &programs);
        }
    }
    figures.extend(tally.figures(RACES, request, 17));
    figures
}

/// Runs all models of a checker; returns what they printed, as figures.
fn explore(checker: &str, program: &PathBuf, models: u64, (name, value): (&str, &str)) -> Vec<Figure> {
    let output = Command::new(program)
        .env(name, value)
        .env_remove("FORELOG_PLANT")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("the models run");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut figures = Vec::new();
    let (mut held, mut failed) = (0, u64::from(!output.status.success()));
    for line in text.lines().filter(|line| line.starts_with("model=")) {
        println!("  {line}");
        let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let executions = field("executions").and_then(|text| text.parse().ok()).unwrap_or(0);
        let model = field("model").unwrap_or_default();
        figures.push(Figure::new(PART, format!("{checker} {model}: executions"), executions, Wanted::AtLeast(100)));
        held += u64::from(line.ends_with(" held"));
        failed += u64::from(!line.ends_with(" held"));
    }
    figures.push(Figure::new(PART, format!("{checker}: models that held"), held, Wanted::All(models)));
    figures.push(Figure::new(PART, format!("{checker}: failures"), failed, Wanted::Zero));
    figures
}
