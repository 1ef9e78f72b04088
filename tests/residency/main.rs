//! The rules of `src/table/RULES.md` as a model: a log, the memory of two keys, layers, and every step between them.
//!
//! ```text
//! cargo test --test residency                                          the states and walks below
//! cargo test --test residency -- --nocapture each_clause               the shortest history found without each clause
//! FORELOG_SEED=7 cargo test --test residency                           other walks; the seed is printed
//! FORELOG_CLAUSE=Join cargo test --test residency each_clause          clauses whose name has this alone
//! FORELOG_WALKS=5000000 FORELOG_STATES=5000000 cargo test --release --test residency -- --nocapture
//! ```
//!
//! | file | what |
//! |---|---|
//! | `state.rs` | what the model has |
//! | `rules.rs` | the clauses of the page, as data; any of them can be removed |
//! | `memory.rs`, `table.rs` | the judged: the transitions of memory and of layers, by the page's numbers |
//! | `steps.rs` | which steps are possible in a state |
//! | `judge.rs` | the judge: it knows the log, and asks every question that a reader or a transaction may ask |
//! | `search.rs` | breadth first, walks, and the shortening of what went wrong |
//!
//! Behind each step the judge asks for both keys at every held LSN and at every LSN at which a snapshot may begin, and
//! whether a transaction with that snapshot would get its conflicts. All rules must hold in every state. Without any
//! necessary clause a walk must go wrong: a clause without which nothing goes wrong is no rule, or the model lacks what it
//! is for.

mod judge;
mod memory;
mod rules;
mod search;
mod state;
mod steps;
mod table;

use std::time::Instant;

use rules::{Rule, Rules};
use search::{Explored, Wrong};
use state::{ALL, one};
use steps::Scope;

/// What the breadth-first searches go through, and the number of states that each of them sees.
const SCOPES: [(Scope, usize); 5] = [
    (Scope { name: "one key, two commits", keys: one(0), commits: 2, held: 1, ..SMALL }, 500_000),
    (Scope { name: "one key, no delay", keys: one(0), commits: 3, held: 1, crashes: 0, ..SMALL }, 250_000),
    (Scope { name: "leaves of two keys", commits: 2, held: 1, shapes: true, crashes: 0, ..SMALL }, 250_000),
    (
        Scope { name: "range deletions", keys: one(0), commits: 2, range_deletions: true, shapes: true, ..SMALL },
        250_000,
    ),
    (Scope { name: "delays", commits: 2, lag: true, range_deletions: true, ..SMALL }, 250_000),
];

const SMALL: Scope =
    Scope { name: "", keys: ALL, commits: 2, range_deletions: false, lag: false, held: 1, crashes: 1, shapes: false };

/// What walks go through, in turn.
const WALKS: [Scope; 5] = [
    Scope { name: "all", commits: 6, range_deletions: true, lag: true, held: 2, crashes: 2, shapes: true, ..SMALL },
    Scope { name: "no delay", commits: 6, range_deletions: true, held: 2, crashes: 2, shapes: true, ..SMALL },
    Scope { name: "no range deletions", commits: 6, lag: true, held: 2, crashes: 2, shapes: true, ..SMALL },
    Scope { name: "neither", commits: 6, held: 2, crashes: 2, shapes: true, ..SMALL },
    Scope { name: "leaves", commits: 3, held: 0, crashes: 0, shapes: true, ..SMALL },
];

/// Walks with all rules. With the default seed each removal is caught within a fourth of them.
const NUMBER_OF_WALKS: usize = 120_000;

/// How many times as many walks another seed has for it.
const PATIENCE: usize = 4;

/// A number from the environment; hexadecimal after 0x.
fn number(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok()?;
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| usize::from_str_radix(digits, 16));
    Some(parsed.unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn seed() -> u64 {
    let seed = number("FORELOG_SEED").unwrap_or(1);
    println!("FORELOG_SEED={seed}");
    u64::try_from(seed).expect("64 bits")
}

fn walks() -> usize {
    number("FORELOG_WALKS").unwrap_or(NUMBER_OF_WALKS)
}

fn story(wrong: &Wrong) -> String {
    let steps: Vec<String> = wrong.history.iter().map(ToString::to_string).collect();
    format!("{}; {}", steps.join("; "), wrong.fault)
}

fn must_hold(name: &str, explored: &Explored) {
    if let Some(wrong) = &explored.wrong {
        panic!("{name}: {}", story(wrong));
    }
}

#[test]
fn the_rules_hold_in_every_state() {
    for (scope, bound) in &SCOPES {
        let begin = Instant::now();
        let explored = search::breadth_first(Rules::ALL, scope, number("FORELOG_STATES").unwrap_or(*bound));
        let extent = if explored.all { "all there are" } else { "up to the bound" };
        let Explored { states, steps, .. } = explored;
        println!("{}: {states} states, {extent}, {steps} steps, {:.1?}", scope.name, begin.elapsed());
        must_hold(scope.name, &explored);
    }
}

#[test]
fn the_rules_hold_in_random_walks() {
    let explored = search::walk(Rules::ALL, &WALKS, seed(), walks());
    println!("{} walks, {} steps", explored.walks, explored.steps);
    must_hold("all rules", &explored);
}

#[test]
fn each_clause_is_necessary() {
    let (seed, only) = (seed(), std::env::var("FORELOG_CLAUSE").unwrap_or_default());
    let (mut caught, mut missed) = (0, Vec::new());
    for &(rule, number, text) in Rule::EACH.iter().filter(|(rule, ..)| format!("{rule:?}").contains(&only)) {
        let explored = search::walk(Rules::without(rule), &WALKS, seed, PATIENCE * walks());
        match &explored.wrong {
            Some(wrong) => {
                caught += 1;
                let (walks, length) = (explored.walks, wrong.history.len());
                println!("{number} {rule:?} ({text}): walk {walks}, {length} steps: {}", story(wrong));
            }
            None => missed.push(format!("{number} {rule:?} ({text})")),
        }
    }
    println!("{caught} removals caught of {}", caught + missed.len());
    assert!(missed.is_empty(), "nothing goes wrong without\n{}", missed.join("\n"));
}

#[test]
fn the_page_has_each_clause() {
    let page = include_str!("../../src/table/RULES.md");
    let page: Vec<&str> = page.split_whitespace().collect();
    let page = page.join(" ");
    let missing: Vec<&str> = Rule::EACH.iter().map(|&(_, _, text)| text).filter(|text| !page.contains(*text)).collect();
    assert!(missing.is_empty(), "src/table/RULES.md does not have\n{}", missing.join("\n"));
}
