//! Feature bits of the log (DECISIONS.md, section 1): HISTORY, and segments whose header carries the bit; every state
//! that two builds, kills, power losses and failed fsyncs can reach.

use std::collections::{HashSet, VecDeque};

use crate::names::{self, Names, must_be_caught, reach};

/// The rules of the page, each of which can be left out.
#[derive(Clone, Copy)]
struct Rules {
    /// F1: the bit is in HISTORY, durably, before the first record that needs it.
    bit_first: bool,
    /// F2: asked only of segments of a life that HISTORY lists. The first segment of a life is made before it (O1),
    /// by a HISTORY that may be in the cache alone.
    listed_only: bool,
    /// Registry: segments carry the bit from then on, not before.
    from_then_on: bool,
}

const ALL: Rules = Rules { bit_first: true, listed_only: true, from_then_on: true };

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Name {
    History,
    /// Of the life with this number: the first, and the one after it.
    Segment(u8, bool),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Content {
    History {
        bit: bool,
        lives: u8,
    },
    /// `used`: a record that needs the bit is in it.
    Segment {
        bit: bool,
        used: bool,
    },
}

type Disk = Names<(), Name, Content>;
type Step = names::Step<(), Name, Content>;
type State = names::State<(), Name, Content>;

const LIVES: u8 = 3;
const FAILURES: u8 = 3;

fn history(disk: &Disk) -> (bool, u8) {
    match disk.get((), &Name::History) {
        Some(&Content::History { bit, lives }) => (bit, lives),
        _ => panic!("HISTORY is always there"),
    }
}

/// Each segment: the number of its life, whether it carries the bit, whether it needs it.
fn segments(disk: &Disk) -> Vec<(u8, bool, bool)> {
    let found = disk.list(()).into_iter().filter_map(|name| {
        let Name::Segment(number, _) = name else { return None };
        let Some(&Content::Segment { bit, used }) = disk.get((), &name) else { return None };
        Some((number, bit, used))
    });
    found.collect()
}

fn set_history(bit: bool, lives: u8) -> [Step; 2] {
    [Step::Set((), Name::History, Some(Content::History { bit, lives })), Step::Sync(())]
}

fn set_segment(number: u8, second: bool, bit: bool) -> [Step; 2] {
    [Step::Set((), Name::Segment(number, second), Some(Content::Segment { bit, used: false })), Step::Sync(())]
}

/// Whether HISTORY is older than a segment (F2).
fn is_older(disk: &Disk, rules: Rules) -> bool {
    let (bit, lives) = history(disk);
    segments(disk).iter().any(|&(number, carries, _)| carries && !bit && (number <= lives || !rules.listed_only))
}

/// A session of the new build: begins a life and, if `uses`, appends a record that needs the bit, rolls, and appends
/// another.
fn new_build(disk: &Disk, uses: bool, rules: Rules) -> Result<VecDeque<Step>, String> {
    let (bit, lives) = history(disk);
    if is_older(disk, rules) {
        return Err(format!("a legal state is refused: {disk:?}"));
    }
    if segments(disk).iter().any(|&(number, _, used)| used && (number > lives || !bit)) {
        return Err(format!("a record without its bit: {disk:?}"));
    }
    let number = lives + 1;
    let stale = disk.list(()).into_iter().filter(|name| matches!(name, Name::Segment(n, _) if *n > lives));
    let mut steps: VecDeque<Step> = stale.map(|name| Step::Set((), name, None)).collect();
    steps.extend(set_segment(number, false, bit));
    steps.extend(set_history(bit, number));
    if !uses {
        return Ok(steps);
    }
    let mut carries = bit;
    if !rules.from_then_on {
        steps.extend(set_segment(number, true, true));
        carries = true;
    }
    if !bit && rules.bit_first {
        steps.extend(set_history(true, number));
        carries = true;
    }
    let append = |second, bit| Step::Set((), Name::Segment(number, second), Some(Content::Segment { bit, used: true }));
    steps.push_back(append(false, bit));
    if rules.from_then_on {
        steps.extend(set_segment(number, true, carries));
    }
    steps.push_back(append(true, carries));
    if !bit && !rules.bit_first {
        steps.extend(set_history(true, number));
    }
    Ok(steps)
}

/// A session of the old build; `None` if it refuses by name.
fn old_build(disk: &Disk) -> Result<Option<VecDeque<Step>>, String> {
    let (bit, lives) = history(disk);
    if bit || segments(disk).iter().any(|&(_, carries, _)| carries) {
        return Ok(None);
    }
    if segments(disk).iter().any(|&(_, _, used)| used) {
        return Err(format!("the old build misreads: {disk:?}"));
    }
    let number = lives + 1;
    Ok(Some(set_segment(number, false, false).into_iter().chain(set_history(false, number)).collect()))
}

fn successors(state: &State, rules: Rules) -> Result<Vec<State>, String> {
    let mut next = Vec::new();
    let idle = |disk: Disk| state.failed(disk);
    let may_fail = state.failures < FAILURES;
    if may_fail {
        next.push(idle(state.disk.clone()));
        next.extend(state.disk.power_losses().into_iter().map(idle));
    }
    let Some(step) = state.steps.front() else {
        let mut sessions = vec![new_build(&state.disk, false, rules)?, new_build(&state.disk, true, rules)?];
        sessions.extend(old_build(&state.disk)?);
        if history(&state.disk).1 < LIVES {
            next.extend(sessions.into_iter().map(|steps| State { steps, ..state.clone() }));
        }
        return Ok(next);
    };
    let mut done = state.clone();
    done.steps.pop_front();
    match step {
        Step::Set((), name, content) => done.disk.set((), name.clone(), *content),
        Step::Sync(()) => {
            if may_fail {
                let mut failed = idle(state.disk.clone());
                failed.disk.fail_to_sync(());
                next.push(failed);
            }
            done.disk.sync(());
        }
    }
    next.push(done);
    Ok(next)
}

fn explore(rules: Rules) -> Result<HashSet<State>, String> {
    let mut disk = Disk::new();
    disk.set((), Name::History, Some(Content::History { bit: false, lives: 0 }));
    disk.sync(());
    reach(State::new(disk), |state| successors(state, rules))
}

#[test]
fn no_crash_leaves_a_record_without_its_bit() {
    let states = explore(ALL).unwrap();
    println!("{} states", states.len());
    let early = |state: &State| {
        let (bit, lives) = history(&state.disk);
        segments(&state.disk).iter().any(|&(number, carries, _)| carries && !bit && number > lives)
    };
    assert!(states.iter().any(early), "a segment carries a bit that a power loss took from HISTORY");
    // What F2 is for: HISTORY alone goes back to before the bit.
    let gone_back = |state: &State| {
        let mut disk = state.disk.clone();
        disk.set((), Name::History, Some(Content::History { bit: false, lives: history(&disk).1 }));
        segments(&disk).iter().any(|&(number, carries, _)| carries && number <= history(&disk).1)
            && is_older(&disk, ALL)
    };
    assert!(states.iter().any(gone_back));
}

#[test]
fn each_rule_of_the_bits_is_necessary() {
    let without = [
        ("F1", Rules { bit_first: false, ..ALL }),
        ("F2, of listed lives", Rules { listed_only: false, ..ALL }),
        ("segments from then on", Rules { from_then_on: false, ..ALL }),
    ];
    for (rule, rules) in without {
        must_be_caught(rule, explore(rules));
    }
}
