//! Every interleaving of the openers and copies of `lock_machine`, each of which may die between any two calls. Each rule
//! can be left out, and must be missed.

use std::collections::HashSet;

use super::lock_machine::{
    ALL,
    At::{self, Closed, Dead, Failed, Refused, Unlock, WriteAgain},
    Before, Kind, Opener, Rules, Who, World, world,
};

/// Walks through every interleaving; returns how many states there are, or what is wrong in one of them.
fn explore(kinds: &[Kind], before: Before, rules: Rules, crashes: bool) -> Result<usize, String> {
    let mut seen = HashSet::new();
    let mut open = vec![world(kinds, before)];
    while let Some(state) = open.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        state.check(kinds, rules).map_err(|what| format!("{what}: {kinds:?}, {before:?}: {state:?}"))?;
        let running: Vec<Who> = (0..kinds.len()).filter(|who| !state.openers[*who].is_over()).collect();
        if running.is_empty() {
            check_end(&state, kinds, before, rules)
                .map_err(|what| format!("{what}: {kinds:?}, {before:?}: {state:?}"))?;
        }
        for who in running {
            let mut next = state.clone();
            match kinds[who] {
                kind if kind.is_new() => next.step_new(who, rules, kind),
                Kind::Old => next.step_old(who, false),
                Kind::OldCreator => next.step_old(who, true),
                Kind::Hand { any_time } => next.step_hand(who, any_time),
                _ => unreachable!(),
            }
            open.push(next);
            if crashes && !matches!(kinds[who], Kind::Hand { .. }) {
                let mut next = state.clone();
                next.end(who, Dead);
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

/// When all are over: one of them had it, unless one died or failed; and the next one gets it.
fn check_end(state: &World, kinds: &[Kind], before: Before, rules: Rules) -> Result<(), &'static str> {
    let some = |ends: &[At]| state.openers.iter().any(|opener| ends.contains(&opener.at));
    let calm = !some(&[Dead]) && kinds.iter().all(|kind| kind.is_new() || *kind == Kind::Old);
    let tried = kinds.iter().any(|kind| matches!(kind, Kind::New | Kind::Checkpoint | Kind::Old))
        || kinds.contains(&Kind::Copy) && matches!(before, Before::Nothing | Before::Empty);
    let failing = kinds.contains(&Kind::Failing);
    // One that fails may have refused the other one before; but none may fail because of it.
    let others_failed = (0..kinds.len())
        .any(|who| kinds[who].is_new() && kinds[who] != Kind::Failing && state.openers[who].at == Failed);
    if calm && tried && (others_failed || (!failing && !some(&[Closed]))) {
        return Err("no one had it");
    }
    let mut after = state.clone();
    after.openers.push(Opener::new());
    let last = kinds.len();
    while !after.openers[last].is_over() {
        after.step_new(last, Rules { compare: true, ..rules }, Kind::New);
    }
    // An unfinished copy is refused: of one that died, or found that LOCK was removed.
    let marked = after.openers[last].dir.is_some_and(|dir| after.dirs[dir].mark || after.dirs[dir].unfinished);
    let may_be_marked = some(&[Dead]) || state.lock_lost;
    match after.openers[last].at {
        Closed => Ok(()),
        Refused if marked && may_be_marked => Ok(()),
        _ => Err("what is left cannot be opened"),
    }
}

const CASTS: [&[Kind]; 22] = [
    &[Kind::New, Kind::New, Kind::New],
    &[Kind::New, Kind::New, Kind::Failing],
    &[Kind::New, Kind::Failing, Kind::Failing],
    &[Kind::New, Kind::New, Kind::Old],
    &[Kind::New, Kind::Failing, Kind::Old],
    &[Kind::New, Kind::New, Kind::Hand { any_time: false }],
    &[Kind::New, Kind::New, Kind::Hand { any_time: true }],
    &[Kind::New, Kind::OldCreator, Kind::OldCreator],
    &[Kind::New, Kind::New, Kind::OldCreator],
    &[Kind::Copy, Kind::Copy, Kind::Copy],
    &[Kind::Copy, Kind::Copy, Kind::New],
    &[Kind::Copy, Kind::New, Kind::New],
    &[Kind::Copy, Kind::New, Kind::Failing],
    &[Kind::Copy, Kind::New, Kind::Old],
    &[Kind::Copy, Kind::New, Kind::Hand { any_time: false }],
    &[Kind::Copy, Kind::New, Kind::Hand { any_time: true }],
    &[Kind::Copy, Kind::Copy, Kind::OldCreator],
    &[Kind::Checkpoint, Kind::Checkpoint, Kind::Checkpoint],
    &[Kind::Checkpoint, Kind::Checkpoint, Kind::New],
    &[Kind::Checkpoint, Kind::New, Kind::New],
    &[Kind::Checkpoint, Kind::New, Kind::Hand { any_time: false }],
    &[Kind::Checkpoint, Kind::Checkpoint, Kind::Hand { any_time: true }],
];

const BEFORE: [Before; 4] = [Before::Nothing, Before::Empty, Before::Killed, Before::WithoutLock];

/// All casts on all directories, with and without a lock for directories; returns how many states there are.
fn everything(rules: Rules) -> Result<usize, String> {
    let mut states = 0;
    for directory_lock in [true, false] {
        let rules = Rules { directory_lock, ..rules };
        for (kinds, before) in CASTS.iter().flat_map(|kinds| BEFORE.map(|before| (kinds, before))) {
            for crashes in [false, true] {
                states += explore(kinds, before, rules, crashes)?;
            }
        }
    }
    Ok(states)
}

#[test]
fn every_interleaving_keeps_the_rules() {
    let states = everything(ALL).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("the lock's life cycle: {states} states");
    assert!(states > 100_000, "{states} states");
}

#[test]
fn each_rule_is_needed() {
    let without: [(&str, Rules); 9] = [
        ("3, compare", Rules { compare: false, ..ALL }),
        ("4, look again", Rules { look_again: false, ..ALL }),
        ("4, at MANIFEST as well", Rules { look_at_tables: false, ..ALL }),
        ("5, LOCK stays", Rules { lock_stays: false, ..ALL }),
        ("6, only what is empty", Rules { only_empty: false, ..ALL }),
        ("7, begin again", Rules { begin_again: false, ..ALL }),
        ("8, check before HISTORY", Rules { check_history: false, ..ALL }),
        ("10, a copy marks under its locks", Rules { mark_under_lock: false, ..ALL }),
        ("11, a copy is locked to its end", Rules { lock_to_the_end: false, ..ALL }),
    ];
    for (rule, rules) in without {
        let wrong = everything(rules).err().unwrap_or_else(|| panic!("without rule {rule} nothing goes wrong"));
        println!("without rule {rule}: {wrong}");
    }
}

/// Rule 2: where directories can be locked, LOCK may be deleted at any time, and two of this version stay apart.
#[test]
fn the_lock_on_the_directory_is_needed() {
    let kinds: &[Kind] = &[Kind::New, Kind::New, Kind::Hand { any_time: true }];
    explore(kinds, Before::Killed, ALL, true).unwrap();
    let two =
        |state: &World| state.openers.iter().filter(|opener| matches!(opener.at, WriteAgain | Unlock)).count() == 2;
    let mut seen = HashSet::new();
    let mut open = vec![world(kinds, Before::Killed)];
    let mut found = false;
    while let Some(state) = open.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        found |= two(&state);
        for who in (0..3).filter(|who| !state.openers[*who].is_over()) {
            let mut next = state.clone();
            match kinds[who] {
                Kind::Hand { any_time } => next.step_hand(who, any_time),
                kind => next.step_new(who, Rules { directory_lock: false, ..ALL }, kind),
            }
            open.push(next);
        }
    }
    assert!(found, "without the lock on the directory nothing goes wrong");
}
