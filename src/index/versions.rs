//! The versions of one key.

use crate::words::types::Lsn;

use super::few::Few;
use super::snapshot::Horizon;
use super::value::Value;

/// All versions of one key that somebody may still ask for: the newest inline, since it mostly is the only one.
///
/// Invariant: if there is anything to be pruned later (older versions, or a tombstone), then either the key waits in
/// the garbage queue, or each such version is filed there under a snapshot that needs it.
#[derive(Debug)]
pub(super) struct Chain {
    newest: Lsn,
    /// `None` is a tombstone.
    value: Option<Value>,
    history: Option<Box<History>>,
}

/// What a key has besides one live version; absent when it has nothing to prune.
#[derive(Debug, Default)]
struct History {
    /// Superseded versions, oldest first; the first is no tombstone.
    older: Few<Older>,
    /// Whether the key waits in the garbage queue.
    waits: bool,
    /// Whether the newest version, a tombstone, is filed under a snapshot.
    tombstone_filed: bool,
}

#[derive(Debug)]
struct Older {
    lsn: Lsn,
    value: Option<Value>,
    /// Whether it is filed under a snapshot that needs it.
    filed: bool,
}

/// What a write did to a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Written {
    /// The versions that were added.
    pub(super) added: usize,
    /// The versions that were pruned or replaced.
    pub(super) pruned: usize,
    /// Whether the key must now be put into the garbage queue.
    pub(super) to_wait: bool,
}

/// Where an entry of the garbage queue comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// It waited until the LSN that superseded a version was settled.
    Superseded,
    /// It was filed for the version of this LSN under a snapshot, which is gone.
    Released(Lsn),
}

/// A version that must be looked at again when a snapshot is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Filing {
    /// The version's LSN.
    pub(super) version: Lsn,
    /// The snapshot that needs it.
    pub(super) held: Lsn,
}

/// What pruning did to a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Settled {
    /// The versions that were pruned.
    pub(super) pruned: usize,
    /// Whether the key must be put into the garbage queue.
    pub(super) to_wait: bool,
    /// Whether nobody can tell the key from one that never was: remove it.
    pub(super) is_gone: bool,
}

impl Chain {
    /// A key that was not there.
    pub(super) fn new(lsn: Lsn, value: Value) -> Self {
        Chain { newest: lsn, value: Some(value), history: None }
    }

    /// The LSN of the newest version, be it a tombstone.
    pub(super) fn newest(&self) -> Lsn {
        self.newest
    }

    /// Whether the newest version is a tombstone.
    pub(super) fn is_deleted(&self) -> bool {
        self.value.is_none()
    }

    /// How many versions there are, tombstones included.
    pub(super) fn len(&self) -> usize {
        1 + self.history.as_ref().map_or(0, |history| history.older.len())
    }

    /// The value at `at`.
    pub(super) fn get(&self, at: Lsn) -> Option<&Value> {
        if self.newest <= at {
            return self.value.as_ref();
        }
        let older = &self.history.as_ref()?.older;
        let newer = older.partition_point(|version| version.lsn <= at);
        older.get(newer.checked_sub(1)?)?.value.as_ref()
    }

    /// Makes `value` (`None`: a tombstone) the newest version, and prunes what nobody needs.
    pub(super) fn write(&mut self, lsn: Lsn, value: Option<Value>, horizon: &Horizon) -> Written {
        let mut written = Written::default();
        let history = self.history.get_or_insert_default();
        let before = std::mem::replace(&mut self.value, value);
        if self.newest == lsn {
            // A second write by one transaction: nobody saw the first.
            (written.added, written.pruned) = (1, 1);
        } else {
            // A tombstone is filed for those before it; as an older version it is read by others.
            history.tombstone_filed = false;
            // Before its oldest version a key is absent anyway.
            if before.is_some() || !history.older.is_empty() {
                history.older.push_back(Older { lsn: self.newest, value: before, filed: false });
            } else {
                written.pruned += 1;
            }
            self.newest = lsn;
            written.added = 1;
            written.pruned += history.prune(lsn, horizon);
        }
        if history.older.is_empty() && self.value.is_some() && !history.waits {
            self.history = None;
        } else {
            written.to_wait = !std::mem::replace(&mut history.waits, true);
        }
        written
    }

    /// Prunes what nobody needs, and says where what is left must be looked for again.
    pub(super) fn settle(&mut self, due: Due, horizon: &Horizon, filings: &mut Vec<Filing>) -> Settled {
        let Some(history) = &mut self.history else { return Settled::default() };
        match due {
            Due::Superseded => history.waits = false,
            Due::Released(version) if version == self.newest => history.tombstone_filed = false,
            Due::Released(version) => history.unfile(version),
        }
        let mut settled = Settled { pruned: history.prune(self.newest, horizon), ..Settled::default() };
        history.file(self.newest, horizon, filings);
        let is_deleted = self.value.is_none();
        if is_deleted && !history.tombstone_filed && horizon.is_settled(self.newest) {
            if let Some(held) = horizon.newest_held(Lsn::ZERO, self.newest) {
                history.tombstone_filed = true;
                filings.push(Filing { version: self.newest, held });
            } else {
                // Otherwise the entry that waits for the key would meet the next chain of the same name.
                settled.is_gone = history.older.is_empty() && !history.waits;
            }
        }
        if !horizon.is_settled(self.newest) && (is_deleted || !history.older.is_empty()) {
            settled.to_wait = !std::mem::replace(&mut history.waits, true);
        }
        if history.older.is_empty() && !is_deleted && !history.waits {
            self.history = None;
        }
        settled
    }
}

impl History {
    /// How many of the older versions were superseded at a settled LSN: the only ones that can be pruned.
    fn settled(&self, newest: Lsn, horizon: &Horizon) -> usize {
        if horizon.is_settled(newest) {
            return self.older.len();
        }
        self.older.partition_point(|version| horizon.is_settled(version.lsn)).saturating_sub(1)
    }

    /// Drops the settled versions that no snapshot reads; returns how many.
    ///
    /// Looks at those only, so that a key with a long unsettled history stays cheap to write.
    fn prune(&mut self, newest: Lsn, horizon: &Horizon) -> usize {
        let before = self.older.len();
        let settled = self.settled(newest, horizon);
        let mut until = self.older.get(settled).map_or(newest, |version| version.lsn);
        let mut keep = settled;
        for index in (0..settled).rev() {
            let from = self.older[index].lsn;
            if horizon.newest_held(from, until).is_some() {
                keep -= 1;
                self.older.swap(keep, index);
            }
            until = from;
        }
        self.older.drop_front(keep);
        // What reads a tombstone that is the oldest version finds nothing without it too.
        while self.older.get(0).is_some_and(|version| version.value.is_none()) {
            self.older.drop_front(1);
        }
        before - self.older.len()
    }

    /// Files each settled version that is left, and is not filed, under the newest snapshot that reads it.
    fn file(&mut self, newest: Lsn, horizon: &Horizon, filings: &mut Vec<Filing>) {
        for index in 0..self.settled(newest, horizon) {
            let until = self.older.get(index + 1).map_or(newest, |version| version.lsn);
            let version = &mut self.older[index];
            if !version.filed
                && let Some(held) = horizon.newest_held(version.lsn, until)
            {
                version.filed = true;
                filings.push(Filing { version: version.lsn, held });
            }
        }
    }

    fn unfile(&mut self, version: Lsn) {
        let index = self.older.partition_point(|older| older.lsn < version);
        if self.older.get(index).is_some_and(|older| older.lsn == version) {
            self.older[index].filed = false;
        }
    }
}
