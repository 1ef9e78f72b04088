//! The transitions of memory: rules 2 to 5, what rule 6 finds in memory, and rule 11.

use std::ops::RangeInclusive;

use crate::rules::{Rule, Rules};
use crate::state::{Commit, Horizon, Keys, Leaf, Lsn, MAX_HELD, Memory, NEWEST, Operation};
use crate::state::{RangeTombstone, State, Superseded, Version, each, has};

impl Commit {
    /// The operations that take effect, in order. Rule 11: a range deletion has the last word on what its batch wrote
    /// before it in its range, so those writes are not applied.
    pub(crate) fn operations(self, rules: Rules) -> Vec<Operation> {
        let put = |key| Operation::Write { key, deleted: false };
        let delete = |key| Operation::Write { key, deleted: true };
        match self {
            Commit::Put(key) => vec![put(key)],
            Commit::Delete(key) => vec![delete(key)],
            Commit::PutThenDelete(key) => vec![put(key), delete(key)],
            Commit::DeleteRange(keys) => vec![Operation::DeleteRange(keys)],
            Commit::DeleteRangeThenPut(keys, key) => vec![Operation::DeleteRange(keys), put(key)],
            Commit::PutThenDeleteRange(_, keys) if rules.has(Rule::ListBatch) => vec![Operation::DeleteRange(keys)],
            Commit::PutThenDeleteRange(key, keys) => vec![put(key), Operation::DeleteRange(keys)],
            Commit::Lost => Vec::new(),
        }
    }
}

/// Applies the next commit of the log to memory. A range deletion costs one entry of the list.
pub(crate) fn apply(state: &mut State, rules: Rules) {
    let commit = state.log[usize::from(state.memory.applied)];
    let memory = &mut state.memory;
    memory.applied += 1;
    let lsn = memory.applied;
    for operation in commit.operations(rules) {
        match operation {
            Operation::Write { key, deleted } => memory.write(rules, key, Version { lsn, deleted }),
            Operation::DeleteRange(keys) => memory.ranges.push(RangeTombstone { keys, lsn, buried: 0 }),
        }
    }
}

/// What memory says to a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Answer(Option<Lsn>),
    /// The stack must be asked. The newest range tombstone that the list has for the reader.
    Ask(Option<Lsn>),
}

impl Memory {
    /// Rule 4. A write to a covered record supersedes it at the tombstone first (rule 11).
    fn write(&mut self, rules: Rules, key: usize, version: Version) {
        self.close(rules, key);
        let complete = self.leaves[self.leaf_of(key)].is_complete();
        let Version { lsn, deleted } = version;
        let record = &mut self.records[key];
        match record.newest {
            Some(newest) if newest.lsn == lsn => {
                let was_there = record.undo.iter().any(|older| older.linked && older.by == lsn);
                let leaves_trace = was_there || (!complete && rules.has(Rule::PutThenDelete));
                record.newest = (!deleted || leaves_trace).then_some(version);
            }
            Some(newest) if deleted && newest.deleted => {}
            Some(newest) => {
                record.undo.push(Superseded { version: newest, by: lsn, linked: true });
                record.newest = Some(version);
            }
            None if deleted && (complete || !rules.has(Rule::DeleteUnknown)) => {}
            None => record.newest = Some(version),
        }
    }

    /// Rule 11: a record that the list covers is superseded at the range tombstone before anything else supersedes it.
    fn close(&mut self, rules: Rules, key: usize) {
        let Some(newest) = self.records[key].newest else { return };
        let closing = self.closed_at(rules, key, newest.lsn, Rule::WriteClosesFirst);
        if let (Some(lsn), false, true) = (closing, newest.deleted, rules.has(Rule::WriteCloses)) {
            let record = &mut self.records[key];
            record.undo.push(Superseded { version: newest, by: lsn, linked: true });
            record.newest = Some(Version { lsn, deleted: true });
        }
    }

    /// The LSN at which the list supersedes the version of `key` from `lsn`: that of the oldest tombstone above it.
    fn closed_at(&self, rules: Rules, key: usize, lsn: Lsn, oldest: Rule) -> Option<Lsn> {
        let above = self.ranges.iter().filter(|range| has(range.keys, key) && range.lsn > lsn);
        let lsns = above.map(|range| range.lsn);
        if rules.has(oldest) { lsns.min() } else { lsns.max() }
    }

    /// The newest version of `key` at or below `at` that memory has.
    pub(crate) fn version(&self, key: usize, at: Lsn) -> Option<Version> {
        let record = &self.records[key];
        if let Some(newest) = record.newest {
            if newest.lsn <= at {
                return Some(newest);
            }
            let older = record.undo.iter().filter(|older| older.linked && older.version.lsn <= at);
            if let Some(found) = older.max_by_key(|older| older.version.lsn) {
                return Some(found.version);
            }
        }
        record.kept.iter().find(|kept| kept.version.lsn <= at && at < kept.by).map(|kept| kept.version)
    }

    /// The newest range tombstone of the list at or below `at` that covers `key`.
    pub(crate) fn range(&self, key: usize, at: Lsn) -> Option<Lsn> {
        self.ranges.iter().filter(|range| has(range.keys, key) && range.lsn <= at).map(|range| range.lsn).max()
    }

    /// Rules 6 and 11: what memory says about `key` at `at`.
    pub(crate) fn look(&self, rules: Rules, key: usize, at: Lsn) -> Found {
        let range = if rules.has(Rule::ListRead) { self.range(key, at) } else { None };
        if let Some(version) = self.version(key, at) {
            let is_covered = if rules.has(Rule::ListPoint) {
                range.is_some_and(|lsn| lsn > version.lsn)
            } else {
                range.is_some_and(|lsn| lsn >= version.lsn)
            };
            return Found::Answer(if is_covered { None } else { version.value() });
        }
        let complete_from = self.leaves[self.leaf_of(key)].complete_from;
        if complete_from.is_some_and(|from| from <= at || !rules.has(Rule::FillBelow)) {
            return Found::Answer(None);
        }
        Found::Ask(range)
    }

    /// The registry's horizon. Readers begin at or above `floor` and end when they please, so it stays right.
    pub(crate) fn horizon(&self, floor: Lsn) -> Horizon {
        let mut held: Vec<Lsn> = self.held.iter().copied().filter(|&at| at < floor).collect();
        held.sort_unstable();
        held.dedup();
        let floor = held.get(MAX_HELD).copied().unwrap_or(floor);
        held.truncate(MAX_HELD);
        Horizon { floor, held }
    }

    /// Raises the registry's floor to `to`, at most to the visible LSN.
    pub(crate) fn raise(&mut self, rules: Rules, to: Lsn) -> Horizon {
        let bound = if rules.has(Rule::CheckpointVisible) { self.visible } else { NEWEST };
        self.floor = self.floor.max(to.min(bound));
        self.horizon(self.floor)
    }

    /// The LSNs at which a snapshot may begin.
    pub(crate) fn beginnings(&self) -> RangeInclusive<Lsn> {
        self.floor.min(self.visible)..=self.visible
    }

    /// Moves versions superseded at or below the floor out of `undo`, to `kept` where held snapshots read them.
    pub(crate) fn prune(&mut self, rules: Rules, durable: Lsn) {
        let horizon = self.raise(rules, durable);
        for key in 0..self.records.len() {
            let undo = std::mem::take(&mut self.records[key].undo);
            let (settled, readable): (Vec<_>, Vec<_>) = undo.into_iter().partition(|older| older.by <= horizon.floor);
            self.records[key].undo = readable;
            for older in settled {
                self.keep(rules, key, older);
            }
            let held = std::mem::take(&mut self.records[key].kept);
            let needed = held.into_iter().filter(|kept| self.is_held(kept.version.lsn, kept.by)).collect();
            self.records[key].kept = needed;
            let mut notes = std::mem::take(&mut self.records[key].notes);
            notes.retain(|&lsn| self.is_held(0, lsn));
            self.records[key].notes = notes;
        }
    }

    fn keep(&mut self, rules: Rules, key: usize, older: Superseded) {
        let is_kept = !older.version.deleted || rules.has(Rule::KeptTombstones);
        if is_kept && self.is_held(older.version.lsn, older.by) {
            self.records[key].kept.push(older);
        }
    }

    /// Whether versions superseded at `lsn` can be read by held snapshots only.
    fn is_settled(&self, rules: Rules, rule: Rule, lsn: Lsn) -> bool {
        lsn <= self.horizon(self.floor).floor || !rules.has(rule)
    }

    /// Rule 3: whether the tombstone of `key` may be buried.
    pub(crate) fn may_bury(&self, rules: Rules, key: usize, to: Lsn) -> bool {
        let record = &self.records[key];
        let Some(Version { lsn, deleted: true }) = record.newest else { return false };
        let in_place =
            self.leaves[self.leaf_of(key)].answers(rules, lsn) || lsn <= to || !rules.has(Rule::BuryInstalled);
        let is_pruned = !record.undo.iter().any(|older| older.linked) || !rules.has(Rule::BuryFloor);
        in_place && is_pruned && self.is_settled(rules, Rule::BuryFloor, lsn)
    }

    /// Rule 3. If a held snapshot is below the deletion, a note in `kept` stays for its transaction.
    pub(crate) fn bury(&mut self, rules: Rules, key: usize) {
        let leaf = self.leaf_of(key);
        if let Some(tombstone) = self.records[key].newest.take() {
            self.unlink(key);
            if self.is_held(0, tombstone.lsn) && rules.has(Rule::BuryNote) {
                self.records[key].notes.push(tombstone.lsn);
            }
            self.leaves[leaf].bury(tombstone.lsn, rules, Rule::BuryBuried, Rule::BuryForgot);
        }
    }

    /// The record of `key` is gone, and with it the way to its older versions.
    fn unlink(&mut self, key: usize) {
        self.records[key].undo.iter_mut().for_each(|older| older.linked = false);
    }

    /// Rule 2: whether the leaf has anything to forget, and may.
    pub(crate) fn may_forget(&self, rules: Rules, leaf: usize, to: Lsn) -> bool {
        let Leaf { complete_from, buried, .. } = self.leaves[leaf];
        let has_records = each(self.leaf_keys(leaf)).any(|key| self.records[key].newest.is_some_and(|v| v.lsn <= to));
        (complete_from.is_some() || has_records) && (buried <= to || !rules.has(Rule::ForgetBuried))
    }

    /// Rule 2.
    pub(crate) fn forget(&mut self, rules: Rules, leaf: usize, to: Lsn) {
        let mut forgot = self.leaves[leaf].forgot;
        if rules.has(Rule::ForgotBuried) {
            forgot = forgot.max(self.leaves[leaf].buried);
        }
        let mut is_empty = true;
        for key in each(self.leaf_keys(leaf)) {
            match self.records[key].newest {
                Some(version) if version.lsn <= to || !rules.has(Rule::ForgetKeepsNewer) => {
                    if rules.has(Rule::ForgotRecords) {
                        forgot = forgot.max(version.lsn);
                    }
                    self.records[key].newest = None;
                    self.unlink(key);
                }
                Some(_) => is_empty = false,
                None => {}
            }
        }
        if is_empty && !rules.has(Rule::ForgotAway) {
            forgot = 0;
        }
        let complete_from = self.leaves[leaf].complete_from.filter(|_| !rules.has(Rule::ForgetIncomplete));
        self.leaves[leaf] = Leaf { complete_from, buried: 0, forgot };
    }

    /// Rule 7: whether nobody asks below the LSN from which on a leaf is complete.
    pub(crate) fn may_settle(&self, rules: Rules, leaf: usize) -> bool {
        let Some(from) = self.leaves[leaf].complete_from.filter(|&from| from > 0) else { return false };
        let is_held = self.held.iter().any(|&at| at < from) && rules.has(Rule::SettleHeld);
        (from <= self.floor || !rules.has(Rule::SettleFloor)) && !is_held
    }

    /// Rule 7: there is no difference any more to a leaf that was always complete.
    pub(crate) fn settle(&mut self, leaf: usize) {
        self.leaves[leaf].complete_from = Some(0);
    }

    /// Rule 5: whether the two leaves may become one.
    pub(crate) fn may_join(&self, rules: Rules, to: Lsn) -> bool {
        let [left, right] = self.leaves;
        let kinds = if left.is_complete() && right.is_complete() {
            left.complete_from == right.complete_from || !rules.has(Rule::JoinFrom)
        } else {
            let guarded = |leaf: Leaf| !leaf.is_complete() || leaf.buried <= to;
            (guarded(left) && guarded(right)) || !rules.has(Rule::JoinGuard)
        };
        !self.joined && kinds
    }

    /// Rule 5.
    pub(crate) fn join(&mut self, rules: Rules) {
        let [left, right] = self.leaves;
        let larger = |a: Lsn, b: Lsn, rule| if rules.has(rule) { a.max(b) } else { a };
        let forgot = larger(left.forgot, right.forgot, Rule::JoinForgot);
        let complete_from = left.complete_from.max(right.complete_from);
        let joined = if left.is_complete() && right.is_complete() {
            Leaf { complete_from, buried: larger(left.buried, right.buried, Rule::JoinBuried), forgot }
        } else {
            let complete_from = complete_from.filter(|_| !rules.has(Rule::JoinIncomplete));
            let buried = if rules.has(Rule::JoinCountsBuried) { left.buried.max(right.buried) } else { 0 };
            Leaf { complete_from, buried: 0, forgot: forgot.max(buried) }
        };
        self.joined = true;
        self.leaves = [joined, joined];
    }

    /// Rule 5.
    pub(crate) fn split(&mut self, rules: Rules) {
        self.joined = false;
        self.leaves[1] = self.leaves[0];
        if !rules.has(Rule::SplitForgot) {
            self.leaves[1].forgot = 0;
        }
        if !rules.has(Rule::SplitBuried) {
            self.leaves[1].buried = 0;
        }
    }

    /// Rule 11: the keys of `leaf` that a sweep has still to do for the range tombstone `index`.
    pub(crate) fn unswept(&self, index: usize, leaf: usize) -> Keys {
        let range = self.ranges[index];
        range.keys & self.leaf_keys(leaf) & !range.buried
    }

    /// Rule 11: whether a sweep of `leaf` for the range tombstone `index` has anything to do, and may.
    pub(crate) fn may_sweep(&self, rules: Rules, index: usize, leaf: usize) -> bool {
        let keys = self.unswept(index, leaf);
        let lsn = self.ranges[index].lsn;
        let is_older = |older: &Superseded| older.linked && older.by <= lsn;
        let is_pruned = !each(keys).any(|key| self.records[key].undo.iter().any(is_older));
        let may = is_pruned || !rules.has(Rule::SweepPruned) || !rules.has(Rule::SweepFloor);
        may && self.is_settled(rules, Rule::SweepFloor, lsn) && each(keys).any(|key| self.is_covered(key, lsn))
    }

    fn is_covered(&self, key: usize, lsn: Lsn) -> bool {
        self.records[key].newest.is_some_and(|version| version.lsn < lsn)
    }

    /// Rule 11: takes out of one leaf what the tombstone covers.
    pub(crate) fn sweep(&mut self, rules: Rules, index: usize, leaf: usize) {
        let lsn = self.ranges[index].lsn;
        for key in each(self.unswept(index, leaf)) {
            let Some(version) = self.records[key].newest.take_if(|version| version.lsn < lsn) else { continue };
            let by = self.closed_at(rules, key, version.lsn, Rule::SweepClosesFirst).unwrap_or(lsn);
            if rules.has(Rule::SweepKept) {
                self.keep(rules, key, Superseded { version, by, linked: false });
            }
            self.unlink(key);
        }
    }

    /// Rule 11: whether `leaf` may bury the range tombstone `index`.
    pub(crate) fn may_bury_range(&self, rules: Rules, index: usize, leaf: usize, to: Lsn) -> bool {
        let keys = self.unswept(index, leaf);
        let lsn = self.ranges[index].lsn;
        let in_place = self.leaves[leaf].answers(rules, lsn) || lsn <= to || !rules.has(Rule::RangeBuryInstalled);
        let is_swept = !each(keys).any(|key| self.is_covered(key, lsn)) || !rules.has(Rule::RangeBurySwept);
        keys != 0 && in_place && is_swept && self.is_settled(rules, Rule::RangeBuryFloor, lsn)
    }

    /// Rule 11: the leaf answers for the deletion from now on, and so does `forgot` to transactions that began before it.
    pub(crate) fn bury_range(&mut self, rules: Rules, index: usize, leaf: usize) {
        let lsn = self.ranges[index].lsn;
        self.ranges[index].buried |= self.unswept(index, leaf);
        self.leaves[leaf].bury(lsn, rules, Rule::RangeBuryBuried, Rule::RangeBuryForgot);
        if self.leaves[leaf].is_complete() && self.is_held(0, lsn) && rules.has(Rule::RangeBuryNote) {
            self.leaves[leaf].forgot = self.leaves[leaf].forgot.max(lsn);
        }
        if self.ranges[index].buried == self.ranges[index].keys || !rules.has(Rule::RangeEveryLeaf) {
            self.ranges.remove(index);
        }
    }

    /// Rule 11: whether a newer tombstone has taken the place of the entry `index` of the list.
    pub(crate) fn may_give_way(&self, rules: Rules, index: usize) -> bool {
        let RangeTombstone { keys, lsn, .. } = self.ranges[index];
        let floor = self.horizon(self.floor).floor;
        self.ranges.iter().any(|newer| {
            let overlap = newer.keys & keys;
            let covers = overlap == keys || (overlap != 0 && !rules.has(Rule::ListCovered));
            let is_settled = newer.lsn <= floor || !rules.has(Rule::ListFloor);
            let is_held = rules.has(Rule::ListHeld) && self.is_held(lsn, newer.lsn);
            newer.lsn > lsn && covers && is_settled && !is_held
        })
    }

    /// Only without the rule that pruning alone takes versions away: those that runs have leave, too.
    pub(crate) fn move_out(&mut self, to: Lsn) {
        for record in &mut self.records {
            record.undo.retain(|older| older.by > to);
            record.kept.retain(|older| older.by > to);
        }
    }

    /// Rule 8: whether a transaction that read `key` at `at` must not commit.
    pub(crate) fn conflicts(&self, rules: Rules, key: usize, at: Lsn) -> bool {
        let record = &self.records[key];
        let listed = self.ranges.iter().any(|range| has(range.keys, key) && range.lsn > at);
        record.newest.is_some_and(|version| version.lsn > at)
            || record.notes.iter().any(|&lsn| lsn > at)
            || (listed && rules.has(Rule::ConflictRanges))
            || (self.leaves[self.leaf_of(key)].forgot > at && rules.has(Rule::ConflictForgot))
    }

    /// The newest LSN of the records of `leaf`.
    pub(crate) fn newest_in(&self, leaf: usize) -> Lsn {
        let newest = each(self.leaf_keys(leaf)).filter_map(|key| self.records[key].newest);
        newest.map(|version| version.lsn).max().unwrap_or(0)
    }

    pub(crate) fn covers_leaf(&self, leaf: usize, keys: Keys) -> bool {
        self.leaf_keys(leaf) & !keys == 0
    }

    pub(crate) fn has_record(&self, key: usize) -> bool {
        self.records[key].newest.is_some()
    }
}

impl Leaf {
    pub(crate) fn is_complete(self) -> bool {
        self.complete_from.is_some()
    }

    /// Whether all who may see a deletion with this LSN are told "absent" where there is no record.
    fn answers(self, rules: Rules, lsn: Lsn) -> bool {
        self.complete_from.is_some_and(|from| from <= lsn || !rules.has(Rule::BuryFrom))
    }

    /// Counts a deletion of which no trace stays.
    fn bury(&mut self, lsn: Lsn, rules: Rules, buried: Rule, forgot: Rule) {
        if self.is_complete() {
            if rules.has(buried) {
                self.buried = self.buried.max(lsn);
            }
        } else if rules.has(forgot) {
            self.forgot = self.forgot.max(lsn);
        }
    }
}
