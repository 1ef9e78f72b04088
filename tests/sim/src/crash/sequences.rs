//! Every short sequence of operations by one client, with crashes and reopenings among them.

use std::time::Duration;

use forelog::sim::SimDisk;
use forelog::{CommitMode, LossBudget};

use super::case::Case;
use super::check::Crash;
use super::explore::{Explorer, Known, crash_at};
use super::life::{Faults, Past, live};
use super::report::Tally;
use super::workload::Plan;
use crashkit::Random;
use crashkit::workload::Kind;

/// One operation of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Letter {
    Do(Kind, CommitMode),
    /// A clean close, and an open.
    Reopen,
    /// The death of the process, and an open.
    Kill,
}

const WITHIN: CommitMode = CommitMode::Within(Duration::from_micros(100));

/// The persistence points are the `Sync` commits, the flush, the close and the opens.
const ALPHABET: [Letter; 13] = [
    Letter::Do(Kind::PutOne, CommitMode::Async),
    Letter::Do(Kind::PutOne, CommitMode::Written),
    Letter::Do(Kind::PutMany, CommitMode::Sync),
    Letter::Do(Kind::PutMany, WITHIN),
    Letter::Do(Kind::PutBig, CommitMode::Async),
    Letter::Do(Kind::Delete, CommitMode::Written),
    Letter::Do(Kind::Clear, CommitMode::Async),
    Letter::Do(Kind::Transfer, CommitMode::Sync),
    Letter::Do(Kind::Churn, CommitMode::Async),
    Letter::Do(Kind::Flush, CommitMode::Sync),
    Letter::Do(Kind::Checkpoint, CommitMode::Sync),
    Letter::Reopen,
    Letter::Kill,
];

/// How many sequences of up to `length` operations there are.
pub fn count(length: u32) -> u64 {
    (1..=length).map(|length| (ALPHABET.len() as u64).pow(length)).sum()
}

/// The `number`-th sequence: the shortest come first.
fn sequence(mut number: u64) -> Vec<Letter> {
    let mut length = 1;
    let letters = ALPHABET.len() as u64;
    while number >= letters.pow(length) {
        number -= letters.pow(length);
        length += 1;
    }
    let letter = |place| ALPHABET[usize::try_from(number / letters.pow(place) % letters).expect("a letter")];
    (0..length).map(letter).collect()
}

fn plan(life: u64, script: Vec<(Kind, CommitMode)>) -> Plan {
    Plan {
        life,
        seed: 1,
        script: script.into(),
        clients: 1,
        steps: 0,
        modes: vec![CommitMode::Sync],
        default_mode: CommitMode::Async,
        segment_bytes: 4096,
        sync_latency: Duration::from_micros(50),
        flush_interval: Duration::from_micros(200),
        budget: LossBudget::default(),
        big_values: true,
        churn: true,
        stalls: Vec::new(),
        ..Plan::draw(&mut Random::new(1), life)
    }
}

/// Explores every crash state of one sequence on a database that has its keyspaces.
pub fn run_sequence(case: &Case, tally: &mut Tally) -> Result<(), String> {
    let letters = sequence(case.run);
    explore(&letters, case, tally).map_err(|error| format!("{letters:?}: {error}"))?;
    tally.runs += 1;
    Ok(())
}

fn explore(letters: &[Letter], case: &Case, tally: &mut Tally) -> Result<(), String> {
    let (mut disk, mut past) = (SimDisk::new(), Past::default());
    let mut known = Known::new();
    // Of the first life nothing is asked but to make the database.
    let mut scripts = vec![(Vec::new(), Letter::Reopen), (Vec::new(), Letter::Reopen)];
    for letter in letters {
        match *letter {
            Letter::Do(step, mode) => scripts.last_mut().expect("never empty").0.push((step, mode)),
            end => {
                scripts.last_mut().expect("never empty").1 = end;
                scripts.push((Vec::new(), Letter::Reopen));
            }
        }
    }
    for (number, (script, end)) in scripts.into_iter().enumerate() {
        let number = number as u64;
        let life = {
            let plan = Plan { keep: case.keep.clone(), ..plan(number, script) };
            live(case.seed.wrapping_add(number), &disk, &past, plan, Faults::None)?
        };
        // The first life makes the database; it is the same for all, and explored with the first sequence.
        if number > 0 || case.run == 0 {
            let crashed_again = if letters.len() <= 1 { 2 } else { 40 };
            Explorer { crashed_again, ..Explorer::of(&life, &past, case, tally) }.explore(&mut known)?;
        }
        let cuts = life.cuts.len();
        let cut = &life.cuts[if end == Letter::Kill { cuts - 2 } else { cuts - 1 }];
        (disk, past) = crash_at(&life, cut, &Crash::Kill)?;
    }
    Ok(())
}
