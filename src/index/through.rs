//! Scans of what memory does not know alone: what it has of each key, and for all other keys what layers have.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use super::beyond::{Beyond, Layers, LayersScan};
use super::key::Key;
use super::range_tombstones::Deleted;
use super::scan::Unknown;
use super::version::{Content, Direction, Look, content, share};
use crate::base::error::Result;
use crate::base::types::Lsn;

/// A range of the keys of a keyspace, at an LSN.
pub(super) struct Reads<'a> {
    pub(super) beyond: &'a Arc<dyn Beyond>,
    pub(super) keyspace: u32,
    /// What the scan has not read yet, in both directions.
    pub(super) rest: (Bound<Key>, Bound<Key>),
    pub(super) direction: Direction,
    pub(super) at: Lsn,
}

/// Layers, as one end of a cursor reads them. It goes on from piece to piece.
#[derive(Debug)]
pub(super) struct Through {
    layers: Arc<dyn Layers>,
    scan: Box<dyn LayersScan>,
    stands: Stands,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stands {
    BeforeNext,
    OnEntry,
    AtEnd,
}

/// Whether `key` was deleted with a range that layers up to `to` do not know.
fn is_deleted(deleted: &[Deleted], key: &[u8], to: Lsn) -> bool {
    let before = deleted.partition_point(|(from, ..)| from.as_slice() <= key).checked_sub(1);
    let over = before.map(|before| &deleted[before]);
    over.is_some_and(|(_, end, lsn)| *lsn > to && end.as_ref().is_none_or(|end| key < end.as_slice()))
}

impl Through {
    /// Goes on with the layers that are held, if nothing newer has left memory; else with those that are installed.
    pub(super) fn of(before: Option<Through>, reads: &Reads<'_>, forgot: Lsn) -> Self {
        if let Some(before) = before
            && forgot <= before.layers.to()
        {
            return before;
        }
        let layers = reads.beyond.installed();
        let scan = Arc::clone(&layers).scan(reads.keyspace, reads.rest.clone(), reads.direction, reads.at);
        Through { layers, scan, stands: Stands::BeforeNext }
    }

    /// Gives out up to `limit` entries of a piece in their order. Returns where the next piece begins.
    ///
    /// # Errors
    /// Those of a read of layers.
    pub(super) fn merge(
        &mut self,
        unknown: Unknown,
        reads: &Reads<'_>,
        limit: usize,
        mut out: impl FnMut(&[u8], Content<'_>),
    ) -> Result<Option<Bound<Key>>> {
        let Unknown { looks, next, deleted, .. } = unknown;
        let direction = reads.direction;
        let last = match (&next, direction) {
            (Some(Bound::Excluded(key)), _) => Bound::Included(key.clone()),
            (Some(Bound::Included(key)), _) => Bound::Excluded(key.clone()),
            // Layers that are held may have been asked for more: the other end has come closer since.
            (_, Direction::Forward) => reads.rest.1.clone(),
            (_, Direction::Backward) => reads.rest.0.clone(),
        };
        let mut looks = looks.into_iter().peekable();
        let mut taken = 0;
        while taken < limit {
            let of_layers = self.key_up_to(&last, direction)?;
            let order = match (looks.peek(), of_layers) {
                (None, None) => return Ok(next),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some(of_layers)) if direction == Direction::Forward => key.as_slice().cmp(of_layers),
                (Some((key, _)), Some(of_layers)) => of_layers.cmp(key.as_slice()),
            };
            let look = if order == Ordering::Greater { None } else { looks.next() };
            let key = match look {
                Some((key, Look::Found(value))) => {
                    self.pass(order == Ordering::Equal);
                    let Some(value) = value else { continue };
                    out(&key, Content::Shared(&value));
                    key
                }
                Some(_) if order == Ordering::Less => continue,
                _ if is_deleted(&deleted, self.scan.key(), self.layers.to()) => {
                    self.pass(true);
                    continue;
                }
                _ => {
                    let key = Key::from(self.scan.key());
                    let value = Some(self.scan.value());
                    let shared = share(value);
                    out(&key, content(value, shared.as_ref()));
                    self.pass(true);
                    key
                }
            };
            taken += 1;
            if taken == limit {
                return Ok(Some(Bound::Excluded(key)));
            }
        }
        Ok(next)
    }

    /// The next key of the layers, unless it comes behind `last`.
    fn key_up_to(&mut self, last: &Bound<Key>, direction: Direction) -> Result<Option<&[u8]>> {
        if self.stands == Stands::BeforeNext {
            self.stands = if self.scan.advance()? { Stands::OnEntry } else { Stands::AtEnd };
        }
        if self.stands == Stands::AtEnd {
            return Ok(None);
        }
        let key = self.scan.key();
        let is_there = match (last, direction) {
            (Bound::Unbounded, _) => true,
            (Bound::Included(last), Direction::Forward) => *key <= **last,
            (Bound::Excluded(last), Direction::Forward) => *key < **last,
            (Bound::Included(last), Direction::Backward) => *key >= **last,
            (Bound::Excluded(last), Direction::Backward) => *key > **last,
        };
        Ok(is_there.then_some(key))
    }

    /// Leaves the present entry, if `is_over`.
    fn pass(&mut self, is_over: bool) {
        if is_over {
            self.stands = Stands::BeforeNext;
        }
    }
}
