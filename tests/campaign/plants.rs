//! Planted bugs: the crash suite is run against each, with the ordinary tests off, and must catch every one.
//!
//! The bugs are text (`tests/plants`). The suite is built once in each copy of the checkout that has them applied; mostly
//! one copy has them all. Each plant is a process with `FORELOG_PLANT` set that runs one part of the campaign after the
//! other, small, until one fails. A failure counts only if the plant was reached in that process. The same parts without
//! a plant must pass first, or catching would mean nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Request;
use crate::builds::{build_test, planted_copies, target};
use forelog_sim::figures::{Figure, Wanted};

const PART: &str = "planted bugs";

/// A program of the crash suite: what the part is called, the program, and what it is told.
pub(crate) type Tester = (&'static str, PathBuf, &'static [&'static str]);

/// What each plant has to get past: a test target of the crash suite, and what it is told. The short ones come first.
const SUITE: [(&str, &str, &[&str]); 14] = [
    ("async", "api", &["async_commits::"]),
    ("evidence", "faults", &["evidence::"]),
    ("salvage", "faults", &["salvage::"]),
    ("scrub", "faults", &["scrub::"]),
    ("directory", "directory", &[]),
    ("positions", "unit", &["log::tests::retain::", "log::tests::lineage::", "log::tests::prior::"]),
    ("checkpoints", "api", &["checkpoints::", "model::"]),
    ("tables", "faults", &["tables::", "backup::"]),
    (
        "table units",
        "unit",
        &["table::tests::", "table::run::", "table::fences::", "format::table::", "table::open::", "table::merge::"],
    ),
    ("engine units", "unit", &["engine::tests::", "txn::tests::"]),
    ("history", "history", &[]),
    ("residency", "unit", &["index::tests::"]),
    ("tier1", "campaign", &["tier1", "--states", "40000"]),
    ("faults", "campaign", &["faults", "--states", "20000"]),
];
/// There are more plants than this. A file of them that is not found any more must not pass for none.
const LEAST: u64 = 164;
/// Some plants make a program hang.
const PATIENCE: Duration = Duration::from_secs(600);
/// What the compiler is told: what a plant leaves unused is not worth a word.
pub(crate) const FLAGS: &str = "-A warnings";

pub(crate) fn run(request: &Request) -> Vec<Figure> {
    let mut tally = Tally::default();
    for copy in planted_copies() {
        let mut names = copy.names;
        names.retain(|name| !name.starts_with(super::models::RACE) && request.asks_for_plant(name));
        if names.is_empty() {
            continue;
        }
        let suite = SUITE.map(|(part, test, arguments)| {
            passes_without_plant((part, build_test(&copy.root, test, FLAGS, "plants/build"), arguments))
        });
        for name in &names {
            tally.count(name, &suite);
        }
    }
    tally.figures(PART, request, LEAST)
}

pub(crate) fn passes_without_plant(tester: Tester) -> Tester {
    let (part, program, arguments) = &tester;
    let Tested { failed, reached } = Tested::run(program, None, arguments);
    assert!(!failed && !reached, "{part} fails without any plant: it would catch nothing");
    println!("  no plant: {part} passes");
    tester
}

/// What has become of the plants.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    planted: u64,
    caught: u64,
    never_reached: u64,
}

impl Tally {
    /// Runs the suite until a part of it catches the plant.
    pub(crate) fn count(&mut self, plant: &str, suite: &[Tester]) {
        let started = Instant::now();
        let mut reached = false;
        let catches = |(_, program, arguments): &&Tester| {
            let tested = Tested::run(program, Some(plant), arguments);
            reached |= tested.reached;
            tested.failed && tested.reached
        };
        let by = suite.iter().find(catches).map(|(part, ..)| *part);
        let outcome = match by {
            Some(part) => format!("caught by {part}"),
            None if reached => "MISSED".to_owned(),
            None => "NEVER REACHED".to_owned(),
        };
        println!("  {plant}: {outcome} ({:.1?})", started.elapsed());
        self.planted += 1;
        self.caught += u64::from(by.is_some());
        self.never_reached += u64::from(!reached);
    }

    /// The figures; of all plants there must be `least`.
    pub(crate) fn figures(&self, part: &'static str, request: &Request, least: u64) -> Vec<Figure> {
        let Tally { planted, caught, never_reached } = *self;
        let wanted = if request.plants.is_empty() { Wanted::AtLeast(least) } else { Wanted::Any };
        vec![
            Figure::new(part, "planted", planted, wanted),
            Figure::new(part, "caught by the crash suite alone", caught, Wanted::All(planted)),
            Figure::new(part, "never reached", never_reached, Wanted::Zero),
        ]
    }
}

/// How a program of the suite ended.
struct Tested {
    /// With a status, by a signal, or by never ending.
    failed: bool,
    /// The plant was asked for.
    reached: bool,
}

impl Tested {
    fn run(program: &Path, plant: Option<&str>, arguments: &[&str]) -> Self {
        let mark = target("plants/reached");
        let _ = std::fs::remove_file(&mark);
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("FORELOG_PLANT_REACHED", &mark);
        match plant {
            Some(plant) => command.env("FORELOG_PLANT", plant),
            None => command.env_remove("FORELOG_PLANT"),
        };
        let failed = fails(&mut command);
        Tested { failed, reached: mark.exists() }
    }
}

fn fails(command: &mut Command) -> bool {
    let mut child = command.spawn().expect("the suite starts");
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return !status.success();
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
