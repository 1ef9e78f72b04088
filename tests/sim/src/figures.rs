//! The figures of the campaign: what is printed, as a table and as JSON.

use std::fmt;

/// What a figure must be for the campaign to pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Told, not judged.
    Any,
    Zero,
    AtLeast(u64),
    AtMost(u64),
    /// All of this many.
    All(u64),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Any => write!(f, ""),
            Wanted::Zero => write!(f, "0"),
            Wanted::AtLeast(least) => write!(f, ">= {least}"),
            Wanted::AtMost(most) => write!(f, "<= {most}"),
            Wanted::All(all) => write!(f, "{all} of {all}"),
        }
    }
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The part of the campaign: `simulated disk`, `process kill`, `power cut`, …
    pub part: &'static str,
    pub name: String,
    pub value: u64,
    pub wanted: Wanted,
}

impl Figure {
    pub fn new(part: &'static str, name: impl Into<String>, value: u64, wanted: Wanted) -> Self {
        Figure { part, name: name.into(), value, wanted }
    }

    pub fn is_met(&self) -> bool {
        match self.wanted {
            Wanted::Any => true,
            Wanted::Zero => self.value == 0,
            Wanted::AtLeast(least) => self.value >= least,
            Wanted::AtMost(most) => self.value <= most,
            Wanted::All(all) => self.value == all,
        }
    }
}

/// Prints the table; returns how many figures are not what they must be.
pub fn print(figures: &[Figure]) -> usize {
    println!("\n| part | figure | value | wanted | |");
    println!("|---|---|---:|---:|---|");
    for figure in figures {
        let Figure { part, name, value, wanted } = figure;
        let verdict = match (wanted, figure.is_met()) {
            (Wanted::Any, _) => "",
            (_, true) => "ok",
            (_, false) => "NOT MET",
        };
        println!("| {part} | {name} | {value} | {wanted} | {verdict} |");
    }
    figures.iter().filter(|figure| !figure.is_met()).count()
}

/// The same as JSON.
pub fn to_json(figures: &[Figure]) -> serde_json::Value {
    let one = |figure: &Figure| {
        serde_json::json!({
            "part": figure.part, "figure": figure.name, "value": figure.value,
            "wanted": figure.wanted.to_string(), "met": figure.is_met(),
        })
    };
    figures.iter().map(one).collect()
}
