//! How versions come into a keyspace: by commits, and by a load.

use super::key::Key;
use super::map::{Map, Slot};
use super::snapshot::Horizon;
use super::state::TreeState;
use super::tree::Tree;
use super::version::{Content, Seq, Version, content, large_len, long_key_len, outside_len, share};
use crate::base::types::Lsn;

impl Tree {
    /// Writes one version (`None`: a tombstone). Returns whether the caller must queue the keyspace as garbage.
    pub(super) fn write(&self, key: &[u8], value: Option<&[u8]>, lsn: Lsn) -> bool {
        let shared = share(value);
        let content = content(value, shared.as_ref());
        let mut state = self.change();
        if !state.ranges.is_empty() && state.bring_down(key, value.is_none()) {
            return false;
        }
        let TreeState { map, undo, stuck, is_stuck, keys, live, large, newest, waits, .. } = &mut *state;
        match map.slot(key) {
            Slot::Taken(slot) => {
                let (before, is_complete) = (slot.version(), slot.was_complete_before(lsn));
                let was_deleted = before.content.is_deleted();
                if content.is_deleted() && was_deleted {
                    return false;
                }
                *live -= usize::from(!was_deleted);
                *large -= large_len(before.content);
                // A second write by one transaction: no reader saw the first.
                let version = match before.lsn == lsn {
                    false => Some((lsn, undo.push(key, &before, lsn, content.is_deleted()))),
                    true if content.is_deleted() => undo.delete_again(before.older, lsn),
                    true => Some((lsn, before.older)),
                };
                match version {
                    Some((lsn, older)) => *large += slot.set(Version { lsn, older, content }),
                    None if is_complete => {
                        *keys -= usize::from(map.remove(key));
                        *large -= long_key_len(key);
                    }
                    None => {
                        *large += slot.set(Version { lsn, older: Seq::NONE, content });
                        stuck.push_back((lsn, Key::from(key)));
                    }
                }
            }
            Slot::Free(slot) => {
                if content.is_deleted() && slot.is_complete() {
                    return false;
                }
                slot.fill(Version { lsn, older: Seq::NONE, content });
                *keys += 1;
                *large += outside_len(key, content);
                if content.is_deleted() {
                    stuck.push_back((lsn, Key::from(key)));
                }
            }
        }
        *newest = lsn;
        *live += usize::from(!content.is_deleted());
        let is_due = undo.front().is_some() || (!stuck.is_empty() && !*is_stuck);
        is_due && !std::mem::replace(waits, true)
    }

    /// Applies the last write to each of some keys, while there are no readers: no other version is needed.
    pub(super) fn load<'a>(&self, writes: impl Iterator<Item = (&'a [u8], Lsn, Option<&'a [u8]>)>) {
        let mut state = self.change();
        let TreeState { map, newest, keys, live, large, stuck, buried, .. } = &mut *state;
        // Layers that do not have the deletion yet may have what it deletes: until then the range must not be forgotten.
        let mut bury = |map: &mut Map, key: &[u8], lsn: Lsn| {
            *buried = lsn.max(*buried);
            map.note_buried(key, lsn);
        };
        for (key, lsn, value) in writes {
            *newest = lsn.max(*newest);
            let shared = share(value);
            let version = Version { lsn, older: Seq::NONE, content: content(value, shared.as_ref()) };
            if value.is_none() {
                stuck.push_back((lsn, Key::from(key)));
            }
            match map.slot(key) {
                Slot::Taken(slot) => {
                    *live -= usize::from(!slot.version().content.is_deleted());
                    *large -= large_len(slot.version().content);
                    if value.is_some() || !slot.is_complete() {
                        *live += usize::from(value.is_some());
                        *large += slot.set(version);
                    } else {
                        *keys -= usize::from(map.remove(key));
                        *large -= long_key_len(key);
                        bury(map, key, lsn);
                    }
                }
                Slot::Free(slot) if value.is_some() || !slot.is_complete() => {
                    slot.fill(version);
                    *large += outside_len(key, version.content);
                    *live += usize::from(value.is_some());
                    *keys += 1;
                }
                Slot::Free(_) => bury(map, key, lsn),
            }
        }
    }

    /// Deletes the keys of a range, in memory and beyond, without a look at any: those that are there are swept later. Returns whether
    /// the caller must queue the keyspace for that.
    pub(super) fn delete_range(&self, range: (&[u8], Option<&[u8]>), lsn: Lsn, horizon: &Horizon) -> bool {
        self.add_range(range, lsn, |older, newer| {
            horizon.is_settled(newer) && horizon.newest_held(older, newer).is_none()
        })
    }

    /// The same while there are no readers.
    pub(super) fn load_range(&self, range: (&[u8], Option<&[u8]>), lsn: Lsn) {
        self.add_range(range, lsn, |_, _| true);
        // The load queues it.
        self.change().sweep.is_queued = false;
    }

    fn add_range(&self, (from, to): (&[u8], Option<&[u8]>), lsn: Lsn, gives_way: impl Fn(Lsn, Lsn) -> bool) -> bool {
        let mut state = self.change();
        state.ranges.insert(from, to, lsn, gives_way);
        state.newest = lsn.max(state.newest);
        !std::mem::replace(&mut state.sweep.is_queued, true)
    }
}

impl TreeState {
    /// If the value of `key` was deleted with a range, that deletion supersedes it here and now, the oldest one: so the intervals
    /// in `undo` are exact. If the write `is_deleted` itself, the range has done what it would. Returns whether nothing is left to
    /// be written.
    fn bring_down(&mut self, key: &[u8], is_deleted: bool) -> bool {
        let Slot::Taken(slot) = self.map.slot(key) else { return false };
        let before = slot.version();
        let Some(by) = self.ranges.oldest_above(key, before.lsn).filter(|_| !before.content.is_deleted()) else {
            return false;
        };
        if is_deleted {
            return true;
        }
        self.live -= 1;
        self.large -= large_len(before.content);
        let older = self.undo.push(key, &before, by, true);
        self.large += slot.set(Version { lsn: by, older, content: Content::Deleted });
        false
    }
}
