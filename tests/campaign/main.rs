//! The long crash campaign: every part of the crash suite, and its figures as one table.
//!
//! ```text
//! cargo test --release -p forelog-sim --test campaign -- [PART...] [--states N] [--operations N] [--minutes N]
//!     [--results FILE]
//! cargo test --release -p forelog-sim --test campaign -- --table FILE
//! cargo test --release -p forelog-sim --test campaign -- [models] plants --plant NAME...
//! ```
//!
//! Without a part all of them run. Each can be run apart: it appends a line to FILE, with the commit, whether the tree
//! was clean, the seed, and when it began and ended; a FILE with figures of another commit is refused. `--table` prints
//! what the parts wrote. `--plant` tries one planted bug alone. Planned for two cores that do nothing else, three and a half hours in all:
//!
//! | part | by itself does | minutes |
//! |---|---|---:|
//! | `tier1` | `--states` 10,000,000, at 1,000 to 25,000 a second: those of forgetting and backups take longest | 60 |
//! | `history` | `--operations` 10,000,000 | 10 |
//! | `faults` | everything, at 10,000,000 states or more | 20 |
//! | `tables` | every bit of tables, at 250,000 states or more | 20 |
//! | `models` | 20,000 schedules for each model, all races | 20 |
//! | `rules` | 2,000,000 states of each search, 1,000,000 walks, each clause removed | 5 |
//! | `kill` | `--minutes` 5, but every sweep to its end | 15 |
//! | `power` | 3,000 states, or `--minutes` 5, for each file system | 40 |
//! | `fuzz` | `--minutes` 5 | 5 |
//! | `plants` | every plant, until a part of the suite catches it | 40 |
//!
//! It ends with status 1 if a figure is not what it must be. Everything follows from `FORELOG_SEED`.

mod builds;
mod faults;
mod fuzz;
mod history;
mod kill;
mod models;
mod plants;
mod power;
mod rules;
mod tables;
mod tier1;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use forelog_sim::figures::{self, Figure};
use forelog_sim::results::{Results, Source, print_table};

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The parts named; empty for all.
    parts: Vec<String>,
    /// Distinct crash states on the simulated disk.
    pub(crate) states: u64,
    /// Random operations against their history.
    pub(crate) operations: u64,
    /// For each part that is bounded by time.
    pub(crate) minutes: u64,
    /// The planted bugs to try; empty for all.
    pub(crate) plants: Vec<String>,
    /// Where the figures go.
    results: Option<PathBuf>,
    /// The file whose table is to be printed; no part runs.
    table: Option<PathBuf>,
}

impl Request {
    fn from_arguments() -> Result<Self, String> {
        let mut request = Request {
            parts: Vec::new(),
            states: 10_000_000,
            operations: 10_000_000,
            minutes: 5,
            plants: Vec::new(),
            results: None,
            table: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("no number: {text}"));
            match argument.as_str() {
                "--states" => request.states = number(value()?)?,
                "--operations" => request.operations = number(value()?)?,
                "--minutes" => request.minutes = number(value()?)?,
                "--plant" => request.plants.push(value()?),
                "--results" => request.results = Some(value()?.into()),
                "--table" => request.table = Some(value()?.into()),
                flag if flag.starts_with("--") => return Err(format!("unknown option {flag}")),
                part if PARTS.iter().any(|(name, _)| *name == part) => request.parts.push(part.to_owned()),
                part => return Err(format!("unknown part {part}")),
            }
        }
        request.check_plants()?;
        Ok(request)
    }

    /// A name without a plant, or one that no part asked for would try, must not pass as caught.
    fn check_plants(&self) -> Result<(), String> {
        if !self.plants.is_empty() && self.results.is_some() {
            return Err("--plant tries some of the plants: no figures of a campaign".into());
        }
        let planted = forelog_plants::load(forelog_sim::root())?;
        for name in &self.plants {
            let part = if name.starts_with(models::RACE) { "models" } else { "plants" };
            if !planted.iter().any(|plant| plant.name == *name) {
                return Err(format!("no plant {name}"));
            }
            if !self.asks_for(part) {
                return Err(format!("{name} is tried by the part {part}"));
            }
        }
        Ok(())
    }

    /// Whether this planted bug is to be tried.
    pub(crate) fn asks_for_plant(&self, name: &str) -> bool {
        self.plants.is_empty() || self.plants.iter().any(|asked| asked == name)
    }

    fn asks_for(&self, name: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|asked| asked == name)
    }
}

/// The seed of everything.
pub(crate) fn seed() -> u64 {
    crashkit::seed(0x666F_7265)
}

/// A part of the campaign: runs it and returns its figures.
type Part = fn(&Request) -> Vec<Figure>;

/// The parts, in the order in which they run.
const PARTS: &[(&str, Part)] = &[
    ("tier1", tier1::run),
    ("history", history::run),
    ("faults", faults::run),
    ("tables", tables::run),
    ("models", models::run),
    ("rules", rules::run),
    ("kill", kill::run),
    ("power", power::run),
    ("fuzz", fuzz::run),
    ("plants", plants::run),
];

/// Ends the program: the command line, or what it names, is wrong.
fn refuse(error: &str) -> ! {
    eprintln!("{error}\nparts: {}", names().join(", "));
    std::process::exit(2);
}

fn names() -> Vec<&'static str> {
    PARTS.iter().map(|(name, _)| *name).collect()
}

fn main() {
    let request = Request::from_arguments().unwrap_or_else(|error| refuse(&error));
    let wrong = match &request.table {
        Some(file) => print_table(file, &names()).unwrap_or_else(|error| refuse(&error)),
        None => run(&request),
    };
    if !wrong.is_empty() {
        println!("\nnot what it must be:\n{}", wrong.join("\n"));
        std::process::exit(1);
    }
}

/// Runs the parts; returns what is wrong.
fn run(request: &Request) -> Vec<String> {
    let open = |file: &PathBuf| Results::open(Path::new(file), Source::now()?);
    let results = request.results.as_ref().map(open).transpose().unwrap_or_else(|error| refuse(&error));
    let mut all = Vec::new();
    for &(name, part) in PARTS.iter().filter(|(name, _)| request.asks_for(name)) {
        println!("== {name}");
        let started = SystemTime::now();
        let figures = part(request);
        if let Some(results) = &results {
            let append = |now| results.append(&now, started, name, seed(), &figures);
            Source::now().and_then(append).unwrap_or_else(|error| refuse(&error));
        }
        all.extend(figures);
    }
    let missed = figures::print(&all);
    if missed == 0 { Vec::new() } else { vec![format!("{missed} figures")] }
}
