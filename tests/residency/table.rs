//! The transitions of layers: rules 1, 7, 9 and 10, and what rule 6 reads from a stack.

use std::cmp::Ordering;

use crate::memory::Found;
use crate::rules::{Rule, Rules};
use crate::state::{
    ALL, Checkpoint, Fill, Heal, Horizon, KEYS, Keys, Layer, Leaf, Lsn, Memory, Merge, NEWEST, Operation,
};
use crate::state::{RangeTombstone, Record, Stack, State, Version, each, has, one};

impl Stack {
    /// The newest version of `key` at or below `at`, layer by layer. A range tombstone is a version of each of its keys.
    pub(crate) fn newest(&self, key: usize, at: Lsn) -> Option<Version> {
        self.layers.iter().find_map(|layer| {
            let version = layer.versions[key].iter().find(|version| version.lsn <= at).copied();
            let ranges = layer.ranges.iter().filter(|&&(keys, lsn)| has(keys, key) && lsn <= at);
            let range = ranges.map(|&(_, lsn)| lsn).max();
            match range {
                Some(lsn) if version.is_none_or(|version| version.lsn < lsn) => Some(Version { lsn, deleted: true }),
                _ => version,
            }
        })
    }

    /// The answer for `key` at `at`, which memory did not have. Rule 11: the reader saw the range tombstone `range` there.
    /// Above `to` it is the newest deletion, as memory has every version above `to`. Otherwise the layers have it, too.
    pub(crate) fn tell(&self, rules: Rules, key: usize, at: Lsn, range: Option<Lsn>) -> Option<Lsn> {
        let is_deleted = range.is_some_and(|lsn| match lsn.cmp(&self.to) {
            Ordering::Greater => rules.has(Rule::ListAboveStack),
            Ordering::Equal => !rules.has(Rule::ListAtTo) || !rules.has(Rule::ListAsksStack),
            Ordering::Less => !rules.has(Rule::ListAsksStack),
        });
        if is_deleted { None } else { self.newest(key, at).and_then(Version::value) }
    }
}

/// The effect of the log in `(after, to]`, sorted: one version of a key for each commit that wrote it, newest first.
fn sort(state: &State, rules: Rules, after: Lsn, to: Lsn) -> Layer {
    let mut layer = Layer::default();
    for lsn in (after + 1..=to).rev() {
        let mut written = [None; KEYS];
        for operation in state.log[usize::from(lsn) - 1].operations(rules) {
            match operation {
                Operation::Write { key, deleted } => written[key] = Some(Version { lsn, deleted }),
                Operation::DeleteRange(keys) => layer.ranges.push((keys, lsn)),
            }
        }
        for (versions, version) in layer.versions.iter_mut().zip(written) {
            versions.extend(version);
        }
    }
    layer
}

impl Layer {
    /// The entries of both layers, newest first.
    fn add(&mut self, other: &Layer, keys: Keys) {
        for key in each(keys) {
            self.versions[key].extend(&other.versions[key]);
            self.versions[key].sort_by_key(|version| NEWEST - version.lsn);
        }
        self.ranges
            .extend(other.ranges.iter().map(|&(range, lsn)| (range & keys, lsn)).filter(|&(range, _)| range != 0));
        self.ranges.sort_by_key(|&(keys, lsn)| (NEWEST - lsn, keys));
    }

    /// Removes the entries of `keys`. Without [`Rule::RangeCut`] a range tombstone goes as a whole.
    fn cut(&mut self, rules: Rules, keys: Keys) {
        for key in each(keys) {
            self.versions[key].clear();
        }
        for range in &mut self.ranges {
            range.0 &= if range.0 & keys != 0 && !rules.has(Rule::RangeCut) { 0 } else { !keys };
        }
        self.ranges.retain(|&(range, _)| range != 0);
    }

    /// Rules 1 and 9: an entry goes if its successor is at or below the floor and no held LSN lies between.
    fn thin(&self, rules: Rules, horizon: &Horizon) -> Layer {
        let may_go = |from: Lsn, until: Lsn| {
            let is_settled = until <= horizon.floor || !rules.has(Rule::StaysAboveFloor);
            is_settled && !horizon.has(from, until)
        };
        let mut thin = Layer::default();
        for key in each(ALL) {
            let ranges = self.ranges.iter().filter(|&&(keys, _)| has(keys, key)).map(|&(_, lsn)| lsn);
            let successors: Vec<Lsn> = self.versions[key].iter().map(|version| version.lsn).chain(ranges).collect();
            let successor = |lsn: Lsn| successors.iter().copied().filter(|&other| other > lsn).min();
            let stays = |version: &&Version| successor(version.lsn).is_none_or(|until| !may_go(version.lsn, until));
            thin.versions[key] = self.versions[key].iter().filter(stays).copied().collect();
        }
        let covers =
            |newer: Keys, range: Keys| newer & range == range || (newer & range != 0 && !rules.has(Rule::RangeCovered));
        let stays = |&&(range, lsn): &&(Keys, Lsn)| {
            let newer = self.ranges.iter().filter(|&&(keys, other)| other > lsn && covers(keys, range));
            newer.map(|&(_, other)| other).min().is_none_or(|until| !may_go(lsn, until))
        };
        thin.ranges = self.ranges.iter().filter(stays).copied().collect();
        thin
    }

    /// Rule 9: what a tombstone hides is nowhere, so it goes. In the last layer only.
    fn drop_tombstones(&mut self, rules: Rules, is_last: bool) {
        if is_last || !rules.has(Rule::TombstoneLast) {
            for versions in &mut self.versions {
                if rules.has(Rule::TombstoneOldest) {
                    while versions.last().is_some_and(|oldest| oldest.deleted) {
                        versions.pop();
                    }
                } else {
                    versions.retain(|version| !version.deleted);
                }
            }
        }
        if is_last || !rules.has(Rule::RangeLast) {
            let versions = &self.versions;
            self.ranges.retain(|&(keys, lsn)| {
                let hides = each(keys).any(|key| versions[key].iter().any(|version| version.lsn < lsn));
                hides && rules.has(Rule::RangeOldest)
            });
        }
    }
}

/// Rule 1: where a checkpoint that begins now ends.
pub(crate) fn checkpoint_end(state: &State, rules: Rules) -> Lsn {
    let durable = if rules.has(Rule::CheckpointDurable) { state.durable } else { state.end() };
    let visible = if rules.has(Rule::CheckpointVisible) { state.memory.visible } else { state.end() };
    durable.min(visible)
}

/// Rule 1: chooses the end and the horizon, in one look at the registry.
pub(crate) fn begin_checkpoint(state: &mut State, rules: Rules) {
    let to = checkpoint_end(state, rules);
    let before = state.memory.floor;
    let mut horizon = state.memory.raise(rules, to);
    if !rules.has(Rule::CheckpointRaises) {
        state.memory.floor = before;
    }
    if !rules.has(Rule::CheckpointHeld) {
        horizon = Horizon { floor: state.memory.floor, held: Vec::new() };
    }
    state.checkpoint = Some(Checkpoint { to, horizon, named: false });
}

/// Rule 1: the stack has the new layer.
pub(crate) fn install(state: &mut State, rules: Rules) {
    if let Some(Checkpoint { to, horizon, .. }) = state.checkpoint.take() {
        let layer = sort(state, rules, state.stack.to, to).thin(rules, &horizon);
        state.stack.layers.insert(0, layer);
        state.stack.to = to;
    }
}

/// Rule 1: begins a checkpoint whose piece of the log is rotten. Its end is held until it is installed.
pub(crate) fn begin_heal(state: &mut State, rules: Rules) {
    let (after, to) = (state.stack.to, checkpoint_end(state, rules));
    let memory = &mut state.memory;
    let owns = rules.has(Rule::HealHold) && !memory.held.contains(&to);
    if owns {
        memory.held.push(to);
        memory.held.sort_unstable();
    }
    if rules.has(Rule::HealRaises) {
        memory.raise(rules, to);
    }
    // All of them, however many a horizon tells apart.
    let below = |at: &Lsn| *at < to;
    let horizon = Horizon { floor: to, held: memory.held.iter().copied().filter(below).collect() };
    let held = horizon.held.iter().copied().filter(|&at| at > after).collect();
    state.heal = Some(Heal { to, held, horizon, owns, done: 0, layer: Layer::default() });
}

/// Rule 1: the next leaf. Memory has every version above `to` that anybody may read. Of deletions that complete leaves have
/// buried it has no trace, but there what is not found is deleted.
pub(crate) fn write_heal(state: &mut State, rules: Rules) {
    let Some(mut heal) = state.heal.take() else { return };
    let (after, to, memory) = (state.stack.to, heal.to, &state.memory);
    let leaf = memory.leaf_of(each(ALL & !heal.done).next().expect("a key is left"));
    let keys = memory.leaf_keys(leaf) & !heal.done;
    let is_new = |lsn: Lsn| after < lsn && lsn <= to;
    let mut piece = Layer::default();
    let held = |rule: Rule| heal.held.iter().copied().filter(move |_| rules.has(rule));
    for key in each(keys) {
        for version in held(Rule::HealVersions).chain([to]).filter_map(|at| memory.version(key, at)) {
            if is_new(version.lsn) && !piece.versions[key].contains(&version) {
                piece.versions[key].push(version);
            }
        }
    }
    if rules.has(Rule::HealRanges) {
        let ranges = memory.ranges.iter().filter(|range| is_new(range.lsn));
        piece.ranges.extend(ranges.map(|range| (range.keys & keys & !range.buried, range.lsn)));
    }
    if memory.leaves[leaf].buried > after && rules.has(Rule::HealGaps) {
        let readers: Vec<Lsn> = held(Rule::HealHeld).chain([to]).collect();
        let is_absent = |key: usize, at: Lsn| memory.look(rules, key, at) == Found::Answer(None);
        for key in each(keys) {
            // What hides it from an older reader, who finds nothing either, hides it from a newer one.
            let is_first = |&number: &usize| number == 0 || !is_absent(key, readers[number - 1]);
            let gaps = (0..readers.len()).filter(|&number| is_absent(key, readers[number])).filter(is_first);
            piece.ranges.extend(gaps.map(|number| (one(key), readers[number])));
        }
    }
    heal.layer.add(&piece, keys);
    heal.done |= keys;
    state.heal = Some(heal);
}

/// Rule 1: the stack has the layer from memory, and its end is not held any more.
pub(crate) fn install_heal(state: &mut State, rules: Rules) {
    let Some(Heal { to, horizon, owns, layer, .. }) = state.heal.take() else { return };
    state.stack.layers.insert(0, layer.thin(rules, &horizon));
    state.stack.to = to;
    state.memory.held.retain(|&at| at != to || !owns);
}

/// Rule 1: how far the log's segments may be removed.
pub(crate) fn removable(state: &State, rules: Rules) -> Lsn {
    let checkpoint = state.checkpoint.as_ref();
    let named = checkpoint.filter(|checkpoint| checkpoint.named || !rules.has(Rule::SegmentsAfterManifest));
    named.map_or(state.stack.to, |checkpoint| checkpoint.to)
}

/// Rule 9: begins a merge of `count` layers with `below` layers under them.
pub(crate) fn begin_merge(state: &mut State, rules: Rules, below: usize, count: usize) {
    let mut horizon = state.memory.horizon(state.memory.floor);
    if !rules.has(Rule::MergeHeld) {
        horizon.held.clear();
    }
    state.merge = Some(Merge { horizon, below, count, done: 0 });
}

/// Rule 9: merges the entries of `keys`. With the last keys the inputs are given up.
pub(crate) fn merge(state: &mut State, rules: Rules, keys: Keys) {
    let Some(Merge { horizon, below, count, done }) = state.merge.take() else { return };
    let layers = &mut state.stack.layers;
    let has_output = done != 0;
    let end = layers.len() - below;
    let begin = end - count - usize::from(has_output);
    let mut group: Vec<Layer> = layers.drain(begin..end).collect();
    let mut output = if has_output { group.remove(0) } else { Layer::default() };
    // Without the rule of contiguous layers: those at both ends, and what lies between stays.
    let takes = |index: usize| rules.has(Rule::MergeContiguous) || index == 0 || index + 1 == count;
    let mut piece = Layer::default();
    for (_, layer) in group.iter().enumerate().filter(|&(index, _)| takes(index)) {
        piece.add(layer, keys);
    }
    let mut piece = piece.thin(rules, &horizon);
    piece.drop_tombstones(rules, below == 0);
    output.add(&piece, keys);
    let done = done | keys;
    for (index, layer) in group.iter_mut().enumerate() {
        if takes(index) {
            layer.cut(rules, keys);
        }
    }
    if done == ALL {
        group.retain(|layer| *layer != Layer::default());
    } else {
        state.merge = Some(Merge { horizon, below, count, done });
    }
    group.insert(0, output);
    layers.splice(begin..begin, group);
}

/// Rule 7: reads what the stack has for a leaf. `at` is the newest LSN, unless [`Rule::FillNewest`] is removed.
pub(crate) fn read_for_fill(state: &mut State, leaf: usize, at: Lsn) {
    let keys = state.memory.leaf_keys(leaf);
    let mut found = [None; KEYS];
    for key in each(keys) {
        found[key] = state.stack.newest(key, at).filter(|version| !version.deleted);
    }
    state.fill = Some(Fill { keys, to: state.stack.to, found });
}

/// Rule 7: puts what was read into the leaves that are there now.
pub(crate) fn fill(state: &mut State, rules: Rules) {
    let Some(fill) = state.fill.take() else { return };
    for leaf in 0..state.memory.leaf_count() {
        fill_leaf(&mut state.memory, rules, leaf, &fill);
    }
}

fn fill_leaf(memory: &mut Memory, rules: Rules, leaf: usize, fill: &Fill) {
    let Leaf { complete_from, forgot, .. } = memory.leaves[leaf];
    let keys = memory.leaf_keys(leaf) & fill.keys;
    if complete_from.is_some() || keys == 0 || (forgot > fill.to && rules.has(Rule::FillForgot)) {
        return;
    }
    for key in each(keys) {
        let is_absent = !memory.has_record(key) || !rules.has(Rule::FillAbsent);
        let Some(version) = fill.found[key].filter(|_| is_absent) else { continue };
        let is_covered = memory.range(key, NEWEST).is_some_and(|lsn| lsn > version.lsn);
        if !is_covered || !rules.has(Rule::FillUncovered) {
            memory.records[key].newest = Some(version);
        }
    }
    let lsn = |rule: Rule, lsn: Lsn| if rules.has(rule) { lsn } else { 0 };
    let ranges = each(memory.leaf_keys(leaf)).filter_map(|key| memory.range(key, NEWEST)).max().unwrap_or(0);
    let records = lsn(Rule::FillRecords, memory.newest_in(leaf));
    let from = records.max(lsn(Rule::FillStackTo, fill.to)).max(lsn(Rule::FillRanges, ranges));
    let is_whole = memory.covers_leaf(leaf, fill.keys) || !rules.has(Rule::FillWhole);
    if is_whole {
        memory.leaves[leaf].complete_from = Some(from);
        if memory.may_settle(rules, leaf) {
            memory.settle(leaf);
        }
    }
}

/// Rule 10: the machine crashes. If `all_landed`, the log ends with what was written, otherwise with what was durable.
/// Then an open finds the layers that the durable MANIFEST names, and replays the log above them.
pub(crate) fn crash(state: &mut State, rules: Rules, all_landed: bool) {
    state.crashes += 1;
    let end = if all_landed { state.end() } else { state.durable };
    for commit in state.log.iter_mut().skip(usize::from(end)) {
        *commit = crate::state::Commit::Lost;
    }
    if state.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.named) {
        install(state, rules);
    }
    (state.checkpoint, state.heal, state.merge, state.read, state.fill) = Default::default();
    if rules.has(Rule::OpenDurable) {
        state.durable = state.end();
    }
    let complete_from = if rules.has(Rule::OpenAway) { None } else { Some(0) };
    let leaf = Leaf { complete_from, ..Leaf::default() };
    state.memory = Memory {
        applied: state.end(),
        visible: state.end(),
        records: Default::default(),
        joined: true,
        leaves: [leaf; KEYS],
        ranges: Vec::new(),
        held: Vec::new(),
        floor: state.durable,
    };
    replay(state, rules);
}

/// Rules 4 and 10: the newest version of each key that the log above `to` has, tombstones too, and its range deletions.
fn replay(state: &mut State, rules: Rules) {
    let after = state.stack.to.max(state.removed);
    for lsn in after + 1..=state.end() {
        for operation in state.log[usize::from(lsn) - 1].operations(rules) {
            match operation {
                Operation::Write { key, deleted } => {
                    let stays = !deleted || rules.has(Rule::ReplayTombstones);
                    let newest = stays.then_some(Version { lsn, deleted });
                    state.memory.records[key] = Record { newest, ..Record::default() };
                }
                Operation::DeleteRange(keys) => {
                    for key in each(keys) {
                        state.memory.records[key] = Record::default();
                    }
                    if rules.has(Rule::OpenRanges) {
                        state.memory.ranges.push(RangeTombstone { keys, lsn, buried: 0 });
                    }
                }
            }
        }
    }
}
