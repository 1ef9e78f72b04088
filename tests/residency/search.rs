//! The two ways through the states: breadth first, and at random. And the shortening of a history that went wrong.

use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};

use crate::rules::Rules;
use crate::state::State;
use crate::steps::{KINDS, Scope, Step, possible, take};

/// A history and what went wrong at its end.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) history: Vec<Step>,
    pub(crate) fault: String,
}

/// What a search saw.
#[derive(Debug, Default)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// Walks up to the first that went wrong.
    pub(crate) walks: usize,
    /// Steps taken, between all states.
    pub(crate) steps: usize,
    /// Every state within the scope was seen.
    pub(crate) all: bool,
    pub(crate) wrong: Option<Wrong>,
}

/// Looks at all states in the order of their distance from the first one, at most at `bound` of them.
pub(crate) fn breadth_first(rules: Rules, scope: &Scope, bound: usize) -> Explored {
    let mut seen = HashSet::from([digest(&State::new())]);
    // The step that led to each state, and from which one.
    let mut came: Vec<(usize, Step)> = vec![(0, Step::Sync)];
    let mut queue = VecDeque::from([(0, State::new())]);
    let mut explored = Explored { states: 1, ..Explored::default() };
    let mut steps = Vec::new();
    while let Some((number, state)) = queue.pop_front() {
        possible(&state, rules, scope, &mut steps);
        for &step in &steps {
            let mut next = state.clone();
            explored.steps += 1;
            if let Err(fault) = take(&mut next, rules, scope, step) {
                let history = history_of(&came, number, step);
                explored.wrong = Some(Wrong { history, fault });
                return explored;
            }
            if seen.insert(digest(&next)) {
                if explored.states == bound {
                    return explored;
                }
                explored.states += 1;
                came.push((number, step));
                queue.push_back((came.len() - 1, next));
            }
        }
    }
    explored.all = true;
    explored
}

fn history_of(came: &[(usize, Step)], mut number: usize, last: Step) -> Vec<Step> {
    let mut history = vec![last];
    while number != 0 {
        let (before, step) = came[number];
        history.push(step);
        number = before;
    }
    history.reverse();
    history
}

/// The longest walk.
const LONGEST: usize = 80;

/// The number of histories that went wrong among which the shortest is looked for.
const WRONG: usize = 8;

/// Walks at random, at most `bound` times, through the scopes in turn. The walk `n` of a seed is always the same. Behind
/// the first history that goes wrong it walks on for a while and looks for shorter ones.
pub(crate) fn walk(rules: Rules, scopes: &[Scope], seed: u64, bound: usize) -> Explored {
    let mut explored = Explored::default();
    let mut steps = Vec::new();
    let (mut last, mut found) = (bound, 0);
    for number in 0..bound {
        if number >= last || found == WRONG {
            break;
        }
        let scope = &scopes[number % scopes.len()];
        if explored.wrong.is_none() {
            explored.walks += 1;
        }
        let mut random = Random::new(seed, number);
        // Some walks hardly take some kinds of steps, and so go far with others.
        let weights: [u64; KINDS] = std::array::from_fn(|_| [1, 4, 16, 16][random.below(4)]);
        let mut state = State::new();
        let mut history = Vec::new();
        while history.len() < LONGEST {
            possible(&state, rules, scope, &mut steps);
            let Some(step) = random.choose(&steps, &weights) else { break };
            history.push(step);
            explored.steps += 1;
            if let Err(fault) = take(&mut state, rules, scope, step) {
                let wrong = shorten(rules, scope, Wrong { history, fault });
                last = last.min(2 * number + 1_000);
                found += 1;
                if explored.wrong.as_ref().is_none_or(|best| wrong.history.len() < best.history.len()) {
                    explored.wrong = Some(wrong);
                }
                break;
            }
        }
    }
    explored
}

/// Leaves out steps, one or two at a time, and commits less, as long as what is left goes wrong.
fn shorten(rules: Rules, scope: &Scope, mut wrong: Wrong) -> Wrong {
    loop {
        wrong = simplify(rules, scope, wrong);
        let length = wrong.history.len();
        let pairs = (0..length).flat_map(|a| (a..length).map(move |b| (a, b)));
        let shorter = pairs.filter_map(|(a, b)| {
            let kept = wrong.history.iter().enumerate().filter(|&(index, _)| index != a && index != b);
            replay(rules, scope, kept.map(|(_, &step)| step))
        });
        match shorter.into_iter().next() {
            Some(found) => wrong = found,
            None => return wrong,
        }
    }
}

/// Replaces commits by simpler ones.
fn simplify(rules: Rules, scope: &Scope, mut wrong: Wrong) -> Wrong {
    let mut index = 0;
    while index < wrong.history.len() {
        let replaced = |commit| {
            let mut history = wrong.history.clone();
            history[index] = Step::Commit(commit);
            replay(rules, scope, history.into_iter())
        };
        let simpler = match wrong.history[index] {
            Step::Commit(commit) => commit.simpler().into_iter().find_map(replaced),
            _ => None,
        };
        match simpler {
            Some(found) => wrong = found,
            None => index += 1,
        }
    }
    wrong
}

/// Takes `steps`, but for those that are not possible, until something goes wrong.
fn replay(rules: Rules, scope: &Scope, steps: impl Iterator<Item = Step>) -> Option<Wrong> {
    let mut state = State::new();
    let (mut history, mut there) = (Vec::new(), Vec::new());
    for step in steps {
        possible(&state, rules, scope, &mut there);
        if there.contains(&step) {
            history.push(step);
            if let Err(fault) = take(&mut state, rules, scope, step) {
                return Some(Wrong { history, fault });
            }
        }
    }
    None
}

/// Splitmix64, seeded with a walk's number.
struct Random(u64);

impl Random {
    fn new(seed: u64, number: usize) -> Random {
        let mut random = Random(seed);
        random.0 ^= random.next() ^ u64::try_from(number).expect("64 bits");
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("64 bits");
        usize::try_from(self.next() % bound).expect("below a usize")
    }

    /// First a kind of step by its weight, then one of that kind.
    fn choose(&mut self, steps: &[Step], weights: &[u64; KINDS]) -> Option<Step> {
        let mut counts = [0; KINDS];
        for step in steps {
            counts[step.kind()] += 1;
        }
        let weight = |kind: usize| if counts[kind] > 0 { weights[kind] } else { 0 };
        let sum: u64 = (0..KINDS).map(weight).sum();
        let mut drawn = self.next() % sum.max(1);
        let kind = (0..KINDS).find(|&kind| {
            let is_it = drawn < weight(kind);
            drawn = drawn.saturating_sub(weight(kind));
            is_it
        })?;
        let number = self.below(counts[kind]);
        steps.iter().filter(|step| step.kind() == kind).nth(number).copied()
    }
}

/// A state as 64 bits. Two states with the same digest would be taken for one.
fn digest(state: &State) -> u64 {
    let mut hasher = Multiply(0);
    state.hash(&mut hasher);
    hasher.finish()
}

/// Multiplies and rotates, a word at a time.
struct Multiply(u64);

impl Multiply {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }
}

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.add(u64::from(byte)));
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    fn write_usize(&mut self, number: usize) {
        self.add(u64::try_from(number).expect("64 bits"));
    }

    fn write_isize(&mut self, number: isize) {
        self.add(number.unsigned_abs().try_into().expect("64 bits"));
    }
}
