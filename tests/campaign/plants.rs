//! Planted bugs: the crash suite is run against each, with the ordinary tests off, and must catch every one.
//!
//! The suite is built once with `--cfg forelog_plants`, in a target directory of its own. Each plant is a process with
//! `FORELOG_PLANT` set that runs one part of the campaign after the other, small, until one fails. The same parts
//! without a plant must pass first, or catching would mean nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Request;
use crate::builds::build_test;
use forelog_sim::figures::{Figure, Wanted};
use forelog_sim::root;

const PART: &str = "planted bugs";

/// What each plant has to get past, in this order: a test target of the crash suite, and what it is told.
const SUITE: [(&str, &str, &[&str]); 6] = [
    ("tier1", "campaign", &["tier1", "--states", "40000"]),
    ("faults", "campaign", &["faults", "--states", "20000"]),
    ("evidence", "faults", &["evidence::"]),
    ("salvage", "faults", &["salvage::"]),
    ("scrub", "faults", &["scrub::"]),
    ("directory", "directory", &[]),
];
/// Some plants make a program hang.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn run(_request: &Request) -> Vec<Figure> {
    let mut plants = plants_in(&root().join("src"));
    plants.retain(|plant| !plant.starts_with(super::models::RACE));
    let suite = SUITE.map(|(part, test, arguments)| {
        let program = build_test(test, "--cfg forelog_plants", "plants");
        assert!(!is_caught(&program, None, arguments), "{part} fails without any plant: it would catch nothing");
        println!("  no plant: {part} passes");
        (part, program, arguments)
    });
    let mut caught = 0;
    for plant in &plants {
        let started = Instant::now();
        let catches = |(_, program, arguments): &&(&str, PathBuf, &[&str])| is_caught(program, Some(plant), arguments);
        let by = suite.iter().find(catches).map(|(part, ..)| *part);
        println!(
            "  {plant}: {} ({:.1?})",
            by.map_or("NOT CAUGHT".to_owned(), |part| format!("caught by {part}")),
            started.elapsed()
        );
        caught += u64::from(by.is_some());
    }
    let all = plants.len() as u64;
    println!("planted bugs caught: {caught} of {all}");
    vec![
        Figure::new(PART, "planted", all, Wanted::AtLeast(24)),
        Figure::new(PART, "caught by the crash suite alone", caught, Wanted::All(all)),
    ]
}

/// The names of all plants, from the source: each is named where it is planted, and nowhere else.
pub(crate) fn plants_in(dir: &Path) -> BTreeSet<String> {
    let mut plants = BTreeSet::new();
    for entry in std::fs::read_dir(dir).expect("the source can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            plants.extend(plants_in(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("plant.rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let names = text.split("planted!(\"").skip(1).filter_map(|rest| rest.split('"').next());
            plants.extend(names.map(str::to_owned));
        }
    }
    plants
}

/// Whether the suite fails: with a status, by a signal, or by never ending.
pub(crate) fn is_caught(suite: &Path, plant: Option<&str>, arguments: &[&str]) -> bool {
    let mut command = Command::new(suite);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match plant {
        Some(plant) => command.env("FORELOG_PLANT", plant),
        None => command.env_remove("FORELOG_PLANT"),
    };
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
