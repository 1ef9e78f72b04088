//! The steps that a history is made of: which of them are possible in a state, and what each does.

use std::fmt;

use crate::judge;
use crate::memory::{self, Found};
use crate::rules::{Rule, Rules};
use crate::state::{ALL, Commit, KEYS, Keys, Lsn, NEWEST, Read, Stack, State, each, has, one};
use crate::table;

/// How far histories go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) name: &'static str,
    /// The keys that single puts and deletions name.
    pub(crate) keys: Keys,
    pub(crate) commits: usize,
    pub(crate) range_deletions: bool,
    /// Commits wait to be applied, to be visible, and to be durable. Otherwise all this happens with the commit.
    pub(crate) lag: bool,
    pub(crate) held: usize,
    pub(crate) crashes: u8,
    /// Leaves join and split.
    pub(crate) shapes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Step {
    Commit(Commit),
    Apply,
    Publish,
    Sync,
    Hold(Lsn),
    Release(Lsn),
    Prune,
    Bury(usize),
    BeginCheckpoint,
    NameCheckpoint,
    Install,
    BeginHeal,
    WriteHeal,
    InstallHeal,
    RemoveSegments,
    BeginMerge { below: usize, count: usize },
    Merge(Keys),
    Forget(usize),
    Join,
    Split,
    Ask { key: usize, at: Lsn },
    TakeStack { key: usize, at: Lsn },
    EndRead,
    ReadForFill { leaf: usize, at: Lsn },
    Fill,
    Settle(usize),
    Sweep { index: usize, leaf: usize },
    BuryRange { index: usize, leaf: usize },
    GiveWay(usize),
    MoveOut,
    Crash { all_landed: bool },
}

/// How many kinds of steps there are.
pub(crate) const KINDS: usize = 31;

impl Step {
    /// Its number among the kinds.
    pub(crate) fn kind(self) -> usize {
        match self {
            Step::Commit(_) => 0,
            Step::Apply => 1,
            Step::Sync => 2,
            Step::Hold(_) => 3,
            Step::Release(_) => 4,
            Step::Prune => 5,
            Step::Bury(_) => 6,
            Step::BeginCheckpoint => 7,
            Step::NameCheckpoint => 8,
            Step::Install => 9,
            Step::RemoveSegments => 10,
            Step::BeginMerge { .. } => 11,
            Step::Merge(_) => 12,
            Step::Forget(_) => 13,
            Step::Join => 14,
            Step::Split => 15,
            Step::Ask { .. } => 16,
            Step::TakeStack { .. } => 17,
            Step::EndRead => 18,
            Step::ReadForFill { .. } => 19,
            Step::Fill => 20,
            Step::Sweep { .. } => 21,
            Step::GiveWay(_) => 22,
            Step::MoveOut => 23,
            Step::Crash { .. } => 24,
            Step::BeginHeal => 25,
            Step::BuryRange { .. } => 26,
            Step::Publish => 27,
            Step::Settle(_) => 28,
            Step::WriteHeal => 29,
            Step::InstallHeal => 30,
        }
    }
}

/// All steps that are possible in `state`.
pub(crate) fn possible(state: &State, rules: Rules, scope: &Scope, steps: &mut Vec<Step>) {
    steps.clear();
    commits(state, scope, steps);
    snapshots(state, rules, scope, steps);
    leaves(state, rules, scope, steps);
    ranges(state, rules, steps);
    jobs(state, rules, steps);
    reads(state, rules, steps);
    if state.crashes < scope.crashes {
        steps.push(Step::Crash { all_landed: true });
        if state.durable < state.end() {
            steps.push(Step::Crash { all_landed: false });
        }
    }
}

fn commits(state: &State, scope: &Scope, steps: &mut Vec<Step>) {
    let unapplied = state.end() - state.memory.applied;
    if state.log.len() < scope.commits && unapplied <= Lsn::from(scope.lag) {
        for key in each(scope.keys) {
            let batches = [Commit::Put(key), Commit::Delete(key), Commit::PutThenDelete(key)];
            steps.extend(batches.map(Step::Commit));
        }
        for keys in (1..=ALL).filter(|_| scope.range_deletions) {
            steps.push(Step::Commit(Commit::DeleteRange(keys)));
            for key in each(scope.keys & keys) {
                steps.push(Step::Commit(Commit::DeleteRangeThenPut(keys, key)));
                steps.push(Step::Commit(Commit::PutThenDeleteRange(key, keys)));
            }
        }
    }
    if unapplied > 0 {
        steps.push(Step::Apply);
    }
    if state.memory.visible < state.memory.applied {
        steps.push(Step::Publish);
    }
    if state.durable < state.end() {
        steps.push(Step::Sync);
    }
}

fn snapshots(state: &State, rules: Rules, scope: &Scope, steps: &mut Vec<Step>) {
    let memory = &state.memory;
    let owned = usize::from(state.heal.as_ref().is_some_and(|heal| heal.owns));
    if memory.held.len() < scope.held + owned {
        let new = memory.beginnings().filter(|at| !memory.held.contains(at));
        steps.extend(new.map(Step::Hold));
    }
    let heals = |at: Lsn| state.heal.as_ref().is_some_and(|heal| heal.to == at);
    let reads = |at: Lsn| state.read.as_ref().is_some_and(|read| read.at == at) || heals(at);
    steps.extend(memory.held.iter().filter(|&&at| !reads(at)).map(|&at| Step::Release(at)));
    let to = state.durable.min(memory.visible);
    let settled = |record: &crate::state::Record| {
        record.undo.iter().any(|older| older.by <= to)
            || record.kept.iter().any(|kept| !memory.is_held(kept.version.lsn, kept.by))
    };
    if memory.floor < to || memory.records.iter().any(settled) {
        steps.push(Step::Prune);
    }
    let may_move =
        |record: &crate::state::Record| record.undo.iter().chain(&record.kept).any(|older| older.by <= state.stack.to);
    if !rules.has(Rule::PruningAlone) && memory.records.iter().any(may_move) {
        steps.push(Step::MoveOut);
    }
}

fn leaves(state: &State, rules: Rules, scope: &Scope, steps: &mut Vec<Step>) {
    let memory = &state.memory;
    let to = state.stack.to;
    steps.extend((0..KEYS).filter(|&key| memory.may_bury(rules, key, to)).map(Step::Bury));
    let forget_to = forget_to(state, rules);
    let forgetful = (0..memory.leaf_count()).filter(|&leaf| memory.may_forget(rules, leaf, forget_to));
    steps.extend(forgetful.map(Step::Forget));
    steps.extend((0..memory.leaf_count()).filter(|&leaf| memory.may_settle(rules, leaf)).map(Step::Settle));
    if scope.shapes {
        if memory.joined {
            steps.push(Step::Split);
        } else if memory.may_join(rules, to) {
            steps.push(Step::Join);
        }
    }
}

/// Rule 1: up to where leaves may forget.
fn forget_to(state: &State, rules: Rules) -> Lsn {
    let begun = state.checkpoint.as_ref().filter(|_| !rules.has(Rule::ForgetInstalled));
    begun.map_or(state.stack.to, |checkpoint| checkpoint.to)
}

fn ranges(state: &State, rules: Rules, steps: &mut Vec<Step>) {
    let memory = &state.memory;
    for index in 0..memory.ranges.len() {
        for leaf in 0..memory.leaf_count() {
            if memory.may_sweep(rules, index, leaf) {
                steps.push(Step::Sweep { index, leaf });
            }
            if memory.may_bury_range(rules, index, leaf, state.stack.to) {
                steps.push(Step::BuryRange { index, leaf });
            }
        }
        if memory.may_give_way(rules, index) {
            steps.push(Step::GiveWay(index));
        }
    }
}

fn jobs(state: &State, rules: Rules, steps: &mut Vec<Step>) {
    match (&state.checkpoint, &state.heal) {
        (None, None) if table::checkpoint_end(state, rules) > state.stack.to => {
            steps.extend([Step::BeginCheckpoint, Step::BeginHeal]);
        }
        (Some(checkpoint), _) if !checkpoint.named => steps.push(Step::NameCheckpoint),
        (Some(_), _) => steps.push(Step::Install),
        (None, Some(heal)) => steps.push(if heal.done == ALL { Step::InstallHeal } else { Step::WriteHeal }),
        (None, None) => {}
    }
    if table::removable(state, rules) > state.removed {
        steps.push(Step::RemoveSegments);
    }
    let layers = state.stack.layers.len();
    match &state.merge {
        None => {
            for below in 0..layers {
                steps.extend((2..=layers - below).map(|count| Step::BeginMerge { below, count }));
            }
        }
        Some(merge) if merge.done == 0 => steps.extend([Step::Merge(ALL), Step::Merge(one(0))]),
        Some(merge) => steps.push(Step::Merge(ALL & !merge.done)),
    }
}

fn reads(state: &State, rules: Rules, steps: &mut Vec<Step>) {
    let memory = &state.memory;
    if state.read.is_some() {
        steps.push(Step::EndRead);
    } else {
        // A layer from memory holds its end for no reader.
        let owned = state.heal.as_ref().filter(|heal| heal.owns).map(|heal| heal.to);
        for &at in memory.held.iter().filter(|&&at| Some(at) != owned) {
            for key in 0..KEYS {
                if !rules.has(Rule::MemoryFirst) {
                    steps.push(Step::TakeStack { key, at });
                } else if matches!(memory.look(rules, key, at), Found::Ask(_)) {
                    steps.push(Step::Ask { key, at });
                }
            }
        }
    }
    if state.fill.is_some() {
        steps.push(Step::Fill);
    } else {
        for leaf in 0..memory.leaf_count() {
            steps.push(Step::ReadForFill { leaf, at: NEWEST });
            if !rules.has(Rule::FillNewest) {
                steps.extend(memory.held.iter().map(|&at| Step::ReadForFill { leaf, at }));
            }
        }
    }
}

/// Takes a step that is possible. The judge looks at the state behind it.
pub(crate) fn take(state: &mut State, rules: Rules, scope: &Scope, step: Step) -> Result<(), String> {
    let to = state.stack.to;
    match step {
        Step::Commit(commit) => {
            state.log.push(commit);
            if !scope.lag {
                memory::apply(state, rules);
                state.memory.visible = state.memory.applied;
                state.durable = state.end();
            }
        }
        Step::Apply => memory::apply(state, rules),
        Step::Publish => state.memory.visible = state.memory.applied,
        Step::Sync => state.durable = state.end(),
        Step::Hold(at) => {
            state.memory.held.push(at);
            state.memory.held.sort_unstable();
        }
        Step::Release(at) => state.memory.held.retain(|&held| held != at),
        Step::Prune => state.memory.prune(rules, state.durable),
        Step::Bury(key) => state.memory.bury(rules, key),
        Step::BeginCheckpoint => table::begin_checkpoint(state, rules),
        Step::NameCheckpoint => state.checkpoint.as_mut().expect("a checkpoint").named = true,
        Step::Install => {
            table::install(state, rules);
            judge::judge_stack(state)?;
        }
        Step::BeginHeal => table::begin_heal(state, rules),
        Step::WriteHeal => table::write_heal(state, rules),
        Step::InstallHeal => {
            table::install_heal(state, rules);
            judge::judge_stack(state)?;
        }
        Step::RemoveSegments => state.removed = table::removable(state, rules),
        Step::BeginMerge { below, count } => table::begin_merge(state, rules, below, count),
        Step::Merge(keys) => table::merge(state, rules, keys),
        Step::Forget(leaf) => state.memory.forget(rules, leaf, forget_to(state, rules)),
        Step::Join => state.memory.join(rules),
        Step::Split => state.memory.split(rules),
        Step::Ask { key, at } => {
            if let Found::Ask(range) = state.memory.look(rules, key, at) {
                state.read = Some(Read { key, at, range, stack: None });
            }
        }
        Step::TakeStack { key, at } => {
            state.read = Some(Read { key, at, range: None, stack: Some(state.stack.clone()) });
        }
        Step::EndRead => end_read(state, rules)?,
        Step::ReadForFill { leaf, at } => table::read_for_fill(state, leaf, at),
        Step::Fill => table::fill(state, rules),
        Step::Settle(leaf) => state.memory.settle(leaf),
        Step::Sweep { index, leaf } => state.memory.sweep(rules, index, leaf),
        Step::BuryRange { index, leaf } => state.memory.bury_range(rules, index, leaf),
        Step::GiveWay(index) => drop(state.memory.ranges.remove(index)),
        Step::MoveOut => state.memory.move_out(to),
        Step::Crash { all_landed } => table::crash(state, rules, all_landed),
    }
    judge::judge(state, rules)
}

/// Rule 6: the stack is taken now, unless the reader took one before it looked at memory.
fn end_read(state: &mut State, rules: Rules) -> Result<(), String> {
    let Some(mut read) = state.read.take() else { return Ok(()) };
    let stack: Stack = match read.stack.take() {
        None => state.stack.clone(),
        Some(taken) => match state.memory.look(rules, read.key, read.at) {
            Found::Answer(value) => return judge::compare(state, read.key, read.at, value, "memory says"),
            Found::Ask(range) => {
                read.range = range;
                taken
            }
        },
    };
    judge::judge_read(state, rules, &read, &stack)
}

fn keys(keys: Keys) -> &'static str {
    match keys {
        ALL => "both keys",
        _ if has(keys, 0) => "key 0",
        _ => "key 1",
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Commit::Put(key) => write!(f, "put key {key}"),
            Commit::Delete(key) => write!(f, "delete key {key}"),
            Commit::PutThenDelete(key) => write!(f, "put and delete key {key}"),
            Commit::DeleteRange(range) => write!(f, "delete the range of {}", keys(range)),
            Commit::DeleteRangeThenPut(range, key) => write!(f, "delete the range of {}, put key {key}", keys(range)),
            Commit::PutThenDeleteRange(key, range) => write!(f, "put key {key}, delete the range of {}", keys(range)),
            Commit::Lost => write!(f, "nothing"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Step::Commit(commit) => write!(f, "{commit}"),
            Step::Apply => write!(f, "apply it"),
            Step::Publish => write!(f, "publish"),
            Step::Sync => write!(f, "sync"),
            Step::Hold(at) => write!(f, "hold a snapshot at {at}"),
            Step::Release(at) => write!(f, "release the one at {at}"),
            Step::Prune => write!(f, "prune"),
            Step::Bury(key) => write!(f, "bury key {key}"),
            Step::BeginCheckpoint => write!(f, "begin a checkpoint"),
            Step::NameCheckpoint => write!(f, "write its MANIFEST"),
            Step::Install => write!(f, "install it"),
            Step::BeginHeal => write!(f, "begin a checkpoint from memory"),
            Step::WriteHeal => write!(f, "write its next leaf"),
            Step::InstallHeal => write!(f, "install the layer from memory"),
            Step::RemoveSegments => write!(f, "remove segments"),
            Step::BeginMerge { below, count } => write!(f, "begin a merge of {count} layers above {below}"),
            Step::Merge(range) => write!(f, "merge {}", keys(range)),
            Step::Forget(leaf) => write!(f, "forget in leaf {leaf}"),
            Step::Join => write!(f, "join the leaves"),
            Step::Split => write!(f, "split the leaf"),
            Step::Ask { key, at } => write!(f, "a read of key {key} at {at} looks at memory"),
            Step::TakeStack { key, at } => write!(f, "a read of key {key} at {at} takes the stack"),
            Step::EndRead => write!(f, "the read ends"),
            Step::ReadForFill { leaf, at: NEWEST } => write!(f, "read for a fill of leaf {leaf}"),
            Step::ReadForFill { leaf, at } => write!(f, "read at {at} for a fill of leaf {leaf}"),
            Step::Fill => write!(f, "fill"),
            Step::Settle(leaf) => write!(f, "settle leaf {leaf}"),
            Step::Sweep { index, leaf } => write!(f, "sweep leaf {leaf} for entry {index} of the list"),
            Step::BuryRange { index, leaf } => write!(f, "leaf {leaf} buries entry {index} of the list"),
            Step::GiveWay(index) => write!(f, "entry {index} of the list gives way"),
            Step::MoveOut => write!(f, "versions that are in runs leave memory"),
            Step::Crash { all_landed: true } => write!(f, "crash, open"),
            Step::Crash { all_landed: false } => write!(f, "crash that loses the tail, open"),
        }
    }
}
