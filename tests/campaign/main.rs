//! The long crash campaign: every part of the crash suite, and its figures as one table.
//!
//! ```text
//! cargo test --release --test campaign                                   every part
//! cargo test --release --test campaign -- PART... [--states N] [--minutes N] [--json FILE]
//! ```
//!
//! It ends with status 1 if a figure is not what it must be. Everything follows from `FORELOG_SEED`.

#[path = "../crash/mod.rs"]
mod crash;
mod faults;
mod figures;
mod fuzz;
mod kill;
mod models;
mod plants;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, unreachable_pub, reason = "a package of its own, of which this uses a part")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;
mod tier1;

use figures::Figure;

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The parts named; empty for all.
    parts: Vec<String>,
    /// Distinct crash states on the simulated disk.
    pub(crate) states: u64,
    /// For each part that is bounded by time.
    pub(crate) minutes: u64,
    json: Option<String>,
}

impl Request {
    fn from_arguments() -> Result<Self, String> {
        let mut request = Request { parts: Vec::new(), states: 10_000_000, minutes: 5, json: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("no number: {text}"));
            match argument.as_str() {
                "--states" => request.states = number(value()?)?,
                "--minutes" => request.minutes = number(value()?)?,
                "--json" => request.json = Some(value()?),
                flag if flag.starts_with("--") => return Err(format!("unknown option {flag}")),
                part if PARTS.iter().any(|(name, _)| *name == part) => request.parts.push(part.to_owned()),
                part => return Err(format!("unknown part {part}")),
            }
        }
        Ok(request)
    }
}

/// The seed of everything.
pub(crate) fn seed() -> u64 {
    support::seed(0x666F_7265)
}

/// A part of the campaign: runs it and returns its figures.
type Part = fn(&Request) -> Vec<Figure>;

/// The parts, in the order in which they run.
const PARTS: &[(&str, Part)] = &[
    ("tier1", tier1::run),
    ("faults", faults::run),
    ("models", models::run),
    ("kill", kill::run),
    ("fuzz", fuzz::run),
    ("plants", plants::run),
];

fn main() {
    let request = Request::from_arguments().unwrap_or_else(|error| {
        let parts: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        eprintln!("{error}\nparts: {}", parts.join(", "));
        std::process::exit(2);
    });
    let mut all = Vec::new();
    for &(name, part) in PARTS {
        if request.parts.is_empty() || request.parts.iter().any(|asked| asked == name) {
            println!("== {name}");
            all.extend(part(&request));
        }
    }
    let missed = figures::print(&all);
    if let Some(path) = &request.json {
        let text = format!("{:#}\n", figures::to_json(&all));
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    if missed > 0 {
        println!("\n{missed} figures are not what they must be");
        std::process::exit(1);
    }
}
