//! The judge: what is true according to the log alone, against what memory and layers say.

use crate::memory::Found;
use crate::rules::Rules;
use crate::state::{ALL, Commit, Lsn, Memory, Read, Stack, State, Version, each, has};

/// What a commit with the LSN `lsn` does to `key`: nothing, or it leaves this value.
fn effect(commit: Commit, lsn: Lsn, key: usize) -> Option<Option<Lsn>> {
    match commit {
        Commit::Put(other) => (other == key).then_some(Some(lsn)),
        Commit::Delete(other) | Commit::PutThenDelete(other) => (other == key).then_some(None),
        Commit::DeleteRangeThenPut(_, other) if other == key => Some(Some(lsn)),
        Commit::DeleteRange(keys) | Commit::DeleteRangeThenPut(keys, _) | Commit::PutThenDeleteRange(_, keys) => {
            has(keys, key).then_some(None)
        }
        Commit::Lost => None,
    }
}

fn commits(log: &[Commit]) -> impl Iterator<Item = (Lsn, Commit)> {
    (1..).zip(log.iter().copied())
}

/// The value of `key` at `at`: the LSN of its put.
pub(crate) fn value(log: &[Commit], key: usize, at: Lsn) -> Option<Lsn> {
    let below = commits(log).take_while(|&(lsn, _)| lsn <= at);
    below.filter_map(|(lsn, commit)| effect(commit, lsn, key)).last().flatten()
}

/// Whether a transaction that read `key` at `at` must conflict with what was applied since: a put, the deletion of a key
/// that was there, or a range deletion, of which every key of its range counts as written.
fn changed(state: &State, key: usize, at: Lsn) -> bool {
    let applied = state.memory.applied;
    commits(&state.log).filter(|&(lsn, _)| at < lsn && lsn <= applied).any(|(lsn, commit)| {
        let is_point = matches!(commit, Commit::Delete(_) | Commit::PutThenDelete(_));
        let was_there = value(&state.log, key, lsn - 1).is_some();
        effect(commit, lsn, key).is_some_and(|value| value.is_some() || was_there || !is_point)
    })
}

/// The LSNs at which someone reads now: those of held snapshots, and every one at which a snapshot may begin.
fn readers(memory: &Memory) -> impl Iterator<Item = Lsn> {
    memory.held.iter().copied().chain(memory.beginnings())
}

/// Whether every reader gets the truth and every transaction its conflict, whatever it asks now.
pub(crate) fn judge(state: &State, rules: Rules) -> Result<(), String> {
    let memory = &state.memory;
    for at in readers(memory) {
        for key in each(ALL) {
            let (told, by) = match memory.look(rules, key, at) {
                Found::Answer(value) => (value, "memory says"),
                Found::Ask(range) => (state.stack.tell(rules, key, at, range), "the layers say"),
            };
            compare(state, key, at, told, by)?;
            if changed(state, key, at) && !memory.conflicts(rules, key, at) {
                return Err(format!("a transaction read key {key} at {at}: its conflict is missed"));
            }
        }
    }
    Ok(())
}

/// Whether layers have exactly the effect of the log up to their end.
pub(crate) fn judge_stack(state: &State) -> Result<(), String> {
    let (stack, at) = (&state.stack, state.stack.to);
    each(ALL).try_for_each(|key| {
        let told = stack.newest(key, at).and_then(Version::value);
        compare(state, key, at, told, "layers up to there say")
    })
}

/// The end of a read that asked a stack: it may have looked at memory long before.
pub(crate) fn judge_read(state: &State, rules: Rules, read: &Read, stack: &Stack) -> Result<(), String> {
    compare(state, read.key, read.at, stack.tell(rules, read.key, read.at, read.range), "the layers say")
}

/// Compares an answer with the log.
pub(crate) fn compare(state: &State, key: usize, at: Lsn, told: Option<Lsn>, by: &str) -> Result<(), String> {
    let truth = value(&state.log, key, at);
    let name = |value: Option<Lsn>| value.map_or("absent".to_owned(), |lsn| format!("the put @{lsn}"));
    if told == truth {
        return Ok(());
    }
    Err(format!("a read of key {key} at {at}: {by} {}, truth is {}", name(told), name(truth)))
}
