//! What the range tombstones of a layer say of one key, to a reader at one LSN (`format/TABLES.md`, 2.3).

use crate::base::types::Lsn;
use crate::format::table::range_tombstones::{RangeTombstone, Says};

/// Of range tombstones that all cover one range: what a reader at an LSN learns from them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Over {
    /// The newest deletion at or below the reader's LSN.
    pub(super) deleted: Option<Lsn>,
    /// Up to where something could not be read that the reader may ask for.
    lost_to: Option<Lsn>,
}

impl Over {
    /// Takes in one more.
    pub(super) fn add(&mut self, tombstone: &RangeTombstone, at: Lsn) {
        match tombstone.says {
            Says::Deleted if tombstone.lsn <= at => self.deleted = self.deleted.max(Some(tombstone.lsn)),
            // A loss that goes on above the reader's LSN may have what it reads, too.
            Says::LostAbove(above) if above < at => self.lost_to = self.lost_to.max(Some(tombstone.lsn.min(at))),
            _ => {}
        }
    }

    /// Whether a version with this LSN is deleted. One with the LSN of the deletion is newer.
    pub(super) fn deletes(&self, lsn: Lsn) -> bool {
        self.deleted > Some(lsn)
    }

    /// Whether the answer may be in what could not be read: `newest` is the LSN of the newest version at or below the reader's,
    /// if there is one. A deletion does not answer for what was lost of its own LSN, which may be a put behind it.
    pub(super) fn has_lost(&self, newest: Option<Lsn>) -> bool {
        self.lost_to > newest && self.lost_to.is_some() && self.deleted <= self.lost_to
    }
}

/// What those in `tombstones`, which are fragmented and in order, say of a full key.
pub(super) fn over(tombstones: &[RangeTombstone], full_key: &[u8], at: Lsn) -> Over {
    let mut over = Over::default();
    let up_to = &tombstones[..tombstones.partition_point(|one| one.start.as_slice() <= full_key)];
    // Two ranges are equal or disjoint: if the last of these does not cover it, none does.
    let covering = up_to.iter().rev().take_while(|one| full_key < one.end.as_slice());
    covering.for_each(|one| over.add(one, at));
    over
}
