//! One database through a thousand crashes, each life on the disk that the crash before left.

use std::collections::HashMap;

use forelog::sim::SimDisk;
use forelog::{LossBudget, Outcome, Token};

use super::explore::crash_somewhere;
use super::life::{Faults, Past, live};
use super::workload::Plan;
use crashkit::Random;
use crashkit::ledger::Fate;

/// What happened on the way.
#[derive(Clone, Copy, Default, Debug)]
pub struct Journey {
    pub cycles: usize,
    /// Lives that were over before open had returned.
    pub cut_short: usize,
    pub commits: usize,
    pub durable: usize,
    pub lost: usize,
    /// Answers to tokens, over all opens.
    pub asked: usize,
}

/// Lives and crashes `cycles` times. All tokens ever handed out are asked at each open, and must be answered as before.
pub fn crash_and_reopen(seed: u64, cycles: u64) -> Result<Journey, String> {
    let mut random = Random::new(seed);
    let (mut disk, mut past) = (SimDisk::new(), Past::default());
    let mut answers: HashMap<Token, Outcome> = HashMap::new();
    let mut journey = Journey::default();
    for number in 0..cycles {
        let at_cycle = |error| format!("cycle {number}: {error}");
        let plan = Plan {
            clients: random.between(1, 4),
            steps: random.between(1, 2),
            segment_bytes: 4096,
            budget: LossBudget::default(),
            big_values: false,
            churn: random.one_in(8),
            cut_every: 4,
            ..Plan::draw(&mut random, number)
        };
        let life = live(seed.wrapping_add(number), &disk, &past, plan, Faults::None).map_err(at_cycle)?;
        // The life's open has compared the contents, and each answer with what it must be. The same as before?
        let answer = |fate| if fate == Fate::Gone { Outcome::Lost } else { Outcome::Durable };
        let given: Vec<_> = past.ledger.tokens.iter().map(|(token, fate)| (*token, answer(*fate))).collect();
        (disk, past) = crash_somewhere(&life, &mut random).map_err(at_cycle)?;
        journey.commits += life.told.life().commits.values().filter(|commit| commit.lsn.is_some()).count();
        journey.cycles += 1;
        if !past.answered {
            journey.cut_short += 1;
            continue;
        }
        for (token, answer) in given {
            journey.asked += 1;
            if answers.insert(token, answer).is_some_and(|before| before != answer) {
                return Err(at_cycle(format!("I16: {token} was told otherwise before it was told {answer:?}")));
            }
        }
    }
    journey.lost = past.ledger.tokens.iter().filter(|(_, fate)| *fate == Fate::Gone).count();
    journey.durable = past.ledger.tokens.len() - journey.lost;
    Ok(journey)
}
