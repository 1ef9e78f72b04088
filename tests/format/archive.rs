//! Old lives leave HISTORY (DECISIONS.md, section 3): every state that two builds, kills, power losses and failed
//! fsyncs can reach, with archives of two lives that are joined by twos.

use std::collections::{HashSet, VecDeque};

use crate::names::{Names, must_be_caught, reach};

/// The rules of the page, each of which can be left out.
#[derive(Clone, Copy)]
struct Rules {
    /// L3: the archive's name is durable before HISTORY names it.
    durable_first: bool,
    /// L4: an archive that HISTORY does not name is written anew.
    written_anew: bool,
    /// L5: what HISTORY does not name is removed only after this open has replaced HISTORY.
    removed_after: bool,
    /// F1: bit 1 is set with the first archive.
    bit: bool,
}

const ALL: Rules = Rules { durable_first: true, written_anew: true, removed_after: true, bit: true };

/// Lives `first..=last`.
type Span = (u8, u8);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Name {
    History,
    Archive(Span),
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Content {
    History(History),
    Archive,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
struct History {
    bit: bool,
    archives: Vec<Span>,
    /// The lives listed; the last one may be open.
    first: u8,
    next: u8,
    open: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Step {
    Set(Name, Option<Content>),
    Sync,
    /// The life of this number has begun: its tokens are handed out.
    Begun(u8),
}

type Disk = Names<(), Name, Content>;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    disk: Disk,
    /// What the process that has the database open does next.
    steps: VecDeque<Step>,
    /// The largest number that was handed out: all up to it must be answered for.
    begun: u8,
    /// Kills, power losses and failed fsyncs so far.
    failures: u8,
}

/// Enough for two archives to be joined; and how much may go wrong on the way.
const LIVES: u8 = 8;
const FAILURES: u8 = 3;
const SPAN: u8 = 2;

fn history(disk: &Disk) -> History {
    match disk.get((), &Name::History) {
        Some(Content::History(history)) => history.clone(),
        _ => panic!("HISTORY is always there"),
    }
}

/// The steps that replace HISTORY.
fn replace(history: &History) -> [Step; 2] {
    [Step::Set(Name::History, Some(Content::History(history.clone()))), Step::Sync]
}

/// The steps that end an open life, begin one, and end it.
fn life(history: &mut History, steps: &mut VecDeque<Step>) {
    if history.open {
        history.open = false;
        steps.extend(replace(history));
    }
    history.next += 1;
    history.open = true;
    steps.extend(replace(history));
    steps.push_back(Step::Begun(history.next - 1));
    history.open = false;
    steps.extend(replace(history));
}

/// A session of the old build; `None` if it refuses by name.
fn old_build(state: &State) -> Result<Option<VecDeque<Step>>, String> {
    let mut history = history(&state.disk);
    if history.bit {
        return Ok(None);
    }
    if history.first != 1 || history.next <= state.begun {
        return Err(format!("the old build misses lives: {history:?}"));
    }
    let mut steps = VecDeque::new();
    life(&mut history, &mut steps);
    Ok(Some(steps))
}

/// A session of the new build.
fn new_build(state: &State, rules: Rules) -> Result<VecDeque<Step>, String> {
    let mut history = history(&state.disk);
    let mut answered = 1;
    for &(first, last) in &history.archives {
        if state.disk.get((), &Name::Archive((first, last))).is_none() {
            return Err(format!("a legal state is refused: archive {first}-{last} is missing"));
        }
        if first != answered {
            return Err("lives are answered for twice, or not at all".to_owned());
        }
        answered = last + 1;
    }
    if history.first != answered || history.next <= state.begun {
        return Err(format!("life {} is not answered for: {history:?}", state.begun));
    }
    let mut steps = VecDeque::new();
    let found = state.disk.list(());
    let unnamed = |history: &History| -> Vec<Name> {
        let is = |name: &Name| matches!(name, Name::Archive(span) if !history.archives.contains(span));
        found.iter().filter(|name| is(name)).cloned().collect()
    };
    if !rules.removed_after {
        steps.extend(unnamed(&history).into_iter().map(|name| Step::Set(name, None)));
    }
    if history.open {
        history.open = false;
        steps.extend(replace(&history));
    }
    if let Some(span) = archive_due(&mut history, rules) {
        let name = Name::Archive(span);
        if rules.written_anew || state.disk.get((), &name).is_none() {
            steps.push_back(Step::Set(name, Some(Content::Archive)));
        }
        if rules.durable_first {
            steps.push_back(Step::Sync);
        }
    }
    life(&mut history, &mut steps);
    // In this order only: HISTORY was replaced above, and fsynced.
    steps.extend(unnamed(&history).into_iter().map(|name| Step::Set(name, None)));
    Ok(steps)
}

/// Takes lives, or archives, out of `history` and puts the archive that is due in their place. Every life but the last
/// is taken as retired.
fn archive_due(history: &mut History, rules: Rules) -> Option<Span> {
    let count = |span: &Span| span.1 - span.0 + 1;
    let span = if let [.., a, b] = history.archives[..]
        && count(&a) == SPAN
        && count(&b) == SPAN
    {
        history.archives.truncate(history.archives.len() - 2);
        (a.0, b.1)
    } else if history.next - history.first > SPAN {
        history.first += SPAN;
        (history.first - SPAN, history.first - 1)
    } else {
        return None;
    };
    history.archives.push(span);
    history.bit |= rules.bit;
    Some(span)
}

/// All that can happen next.
fn successors(state: &State, rules: Rules) -> Result<Vec<State>, String> {
    let mut next = Vec::new();
    let idle = |disk: Disk| State { disk, steps: VecDeque::new(), failures: state.failures + 1, ..*state };
    let mut fail = Vec::new();
    if state.failures < FAILURES {
        // The process is killed, or the power is lost; between two opens as well, for the cache outlives a process.
        fail.push(idle(state.disk.clone()));
        fail.extend(state.disk.power_losses().into_iter().map(idle));
    }
    let Some(step) = state.steps.front() else {
        if history(&state.disk).next <= LIVES {
            next.push(State { steps: new_build(state, rules)?, ..state.clone() });
            next.extend(old_build(state)?.map(|steps| State { steps, ..state.clone() }));
        }
        next.extend(fail);
        return Ok(next);
    };
    let mut done = state.clone();
    done.steps.pop_front();
    match step {
        Step::Set(name, content) => done.disk.set((), name.clone(), content.clone()),
        Step::Sync => {
            if state.failures < FAILURES {
                let mut failed = idle(state.disk.clone());
                failed.disk.fail_to_sync(());
                next.push(failed);
            }
            done.disk.sync(());
        }
        Step::Begun(number) => done.begun = *number,
    }
    next.push(done);
    next.extend(fail);
    Ok(next)
}

/// Explores all states; their number, or what is wrong.
fn explore(rules: Rules) -> Result<HashSet<State>, String> {
    let mut disk = Disk::new();
    let empty = History { first: 1, next: 1, ..History::default() };
    disk.set((), Name::History, Some(Content::History(empty)));
    disk.sync(());
    let begin = State { disk, steps: VecDeque::new(), begun: 0, failures: 0 };
    reach(begin, |state| successors(state, rules))
}

#[test]
fn no_crash_takes_a_life_from_the_history() {
    let states = explore(ALL).unwrap();
    println!("{} states", states.len());
    let joined = |state: &&State| history(&state.disk).archives.contains(&(1, 2 * SPAN));
    let left = |state: &&State| state.disk.list(()).contains(&Name::Archive((1, SPAN)));
    assert!(
        states.iter().filter(joined).any(|state| left(&state)),
        "archives are joined, and a crash leaves the parts"
    );
    assert!(states.iter().any(|state| !history(&state.disk).bit && left(&state)), "the old build meets an archive");
}

#[test]
fn each_rule_of_the_archives_is_necessary() {
    let without = [
        ("L3", Rules { durable_first: false, ..ALL }),
        ("L4", Rules { written_anew: false, ..ALL }),
        ("L5", Rules { removed_after: false, ..ALL }),
        ("F1", Rules { bit: false, ..ALL }),
    ];
    for (rule, rules) in without {
        must_be_caught(rule, explore(rules));
    }
}

// ---- how many there are (L2)

const COUNTS: [u64; 3] = [512, 8_192, 131_072];
const LISTED: u64 = 512;
const JOINED: usize = 16;

/// What a begin does when `listed` lives may be archived: the counts of the archives, oldest first, and how many lives
/// stay listed. `limited` is the rule that a new archive is not larger than the newest one.
fn begin(archives: &mut Vec<u64>, listed: u64, limited: bool) -> u64 {
    let newest = archives.last().copied().unwrap_or(COUNTS[2]);
    let same = archives.iter().rev().take_while(|count| **count == newest).count();
    if newest < COUNTS[2] && same >= JOINED {
        archives.truncate(archives.len() - JOINED);
        archives.push(newest * JOINED as u64);
        return listed;
    }
    if listed < 2 * LISTED {
        return listed;
    }
    let fits = |count: &&u64| **count + LISTED <= listed && (!limited || **count <= newest);
    let Some(&count) = COUNTS.iter().rev().find(fits) else { return listed };
    archives.push(count);
    listed - count
}

/// The most archives at any begin, less one for each 131,072 lives in them, while two million lives become free to
/// archive in lots of the sizes given, in turn.
fn most_archives(lots: &[u64], limited: bool) -> u64 {
    let (mut archives, mut listed, mut lives, mut most) = (Vec::new(), 0, 0, 0);
    for lot in lots.iter().cycle() {
        listed = begin(&mut archives, listed + lot, limited);
        lives += lot;
        let whole = archives.iter().sum::<u64>() / COUNTS[2];
        most = most.max(archives.len() as u64 - whole);
        if lives > 2_000_000 {
            return most;
        }
    }
    unreachable!("lots go round")
}

#[test]
fn archives_stay_few_however_lives_become_free() {
    let lots: [&[u64]; 6] =
        [&[1], &[700], &[100_000, 1, 1, 1], &[1_024, 8_704], &[0, 9_000, 600], &[140_000, 1_100, 9_000, 1]];
    for lots in lots {
        let most = most_archives(lots, true);
        println!("{lots:?}: {most}");
        assert!(most <= 2 * JOINED as u64, "{lots:?}: {most}");
    }
    // What the limit is for: small archives between large ones are never joined.
    assert!(most_archives(&[1_024, 8_704], false) > 100);
}
