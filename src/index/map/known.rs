//! What a range of keys in memory says of the keys of which it has no record (`table/RULES.md`, Terms).

use crate::base::types::Lsn;

/// What a leaf, or a node without a record, knows of its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Known {
    /// For a reader from here on, a key without a version is absent. For others layers may have it.
    pub(in super::super) complete_from: Lsn,
    /// The newest deletion of which there is no trace, because the absent record is the answer.
    pub(in super::super) buried: Lsn,
    /// The newest LSN that left memory here, and may be in layers alone.
    pub(in super::super) forgot: Lsn,
}

impl Known {
    const NEVER: Lsn = Lsn::new(u64::MAX);
    /// All there is, is in memory.
    pub(in super::super) const COMPLETE: Known =
        Known { complete_from: Lsn::ZERO, buried: Lsn::ZERO, forgot: Lsn::ZERO };
    /// All there is may be in layers.
    pub(in super::super) const AWAY: Known = Known { complete_from: Known::NEVER, ..Known::COMPLETE };

    /// Whether the newest reader is told that a key without a record is absent.
    pub(in super::super) fn is_complete(&self) -> bool {
        self.complete_from != Known::NEVER
    }

    /// Whether one range can take another one's keys (rule 5).
    pub(super) fn is_like(&self, other: &Known) -> bool {
        self.complete_from == other.complete_from
    }

    /// That of two ranges which are alike and become one.
    pub(super) fn join(self, other: Known) -> Known {
        Known { buried: self.buried.max(other.buried), forgot: self.forgot.max(other.forgot), ..self }
    }

    /// Lets the tombstone of `lsn` leave memory, if it may (rule 3): nobody needs it who is told "absent", and layers up to `to`,
    /// which all others ask, have it.
    pub(super) fn bury(&mut self, lsn: Lsn, to: Lsn) -> bool {
        if self.complete_from <= lsn {
            self.buried = self.buried.max(lsn);
        } else if lsn <= to {
            self.forgot = self.forgot.max(lsn);
        }
        self.may_bury(lsn, to)
    }

    /// Whether [`Known::bury`] lets it.
    pub(in super::super) fn may_bury(&self, lsn: Lsn, to: Lsn) -> bool {
        self.complete_from <= lsn || lsn <= to
    }

    /// What is left once all that layers have may have left memory (rule 2). What was buried is in layers.
    pub(super) fn forgotten(self) -> Known {
        Known { forgot: self.forgot.max(self.buried), ..Known::AWAY }
    }

    /// No reader asks below `settled`. If all that do ask are told "absent", there is no difference any more.
    pub(super) fn settle(&mut self, settled: Lsn) {
        if self.complete_from <= settled {
            self.complete_from = Lsn::ZERO;
        }
    }
}
