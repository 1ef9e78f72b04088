//! Saving what the runs have: of each key the newest version that counts, and the keys of which some are missing.

use std::vec::IntoIter;

use super::cover::{self, Piece};
use super::tables::Tables;
use super::{LossCause, LostKeys, Save};
use crate::base::error::{DamageCause, Result};
use crate::base::types::Lsn;
use crate::format::table::data::Found;
use crate::format::table::{is_below, split_full_key};
use crate::table::fragments::fragment;
use crate::table::merge::{Gone, Merge, Retain, Source};
use crate::table::run::rescue::RemainsCursor;

/// Gives `to` the newest version of each key, by key, up to where the log begins, or the layers end if that is higher.
/// Returns what is missing.
///
/// # Errors
/// Those of `to`; and a file has become worse since it was read for the first time.
pub(super) fn save(tables: &Tables, begin_of_log: Lsn, to: &mut dyn Save) -> Result<Vec<LostKeys>> {
    let pieces = tables.pieces(begin_of_log);
    let chains = cover::chains(&tables.speakers);
    let sources = chains.into_iter().map(|chain| ChainCursor::new(tables, &pieces, chain)).collect();
    // The newest versions alone: what they supersede nobody asks for any more.
    let retain = Retain { floor: Lsn::new(u64::MAX), held: Vec::new(), is_last: true };
    // A deletion that any of them has was made.
    let deleted = fragment(tables.range_tombstones.clone());
    let mut merge = Merge::new(sources, retain, deleted, Gone::default())?;
    let mut give = |key: &[u8], version: Found<'_>| match (split_full_key(key), version.value) {
        (Some((id, key)), Some(value)) => to.entry(id, key, value),
        _ => Ok(()),
    };
    while merge.next_key(&mut give)? {}
    Ok(pieces.iter().flat_map(|piece| lost_in(tables, piece)).collect())
}

/// Whether MANIFEST, and all that it names, is there, so that nothing up to the end of the layers is missing.
pub(super) fn miss_nothing(tables: &Tables) -> bool {
    let are_whole = || tables.pieces(tables.to).iter().all(|piece| piece.missing.is_empty());
    tables.is_decided && tables.keyspaces.is_some() && are_whole()
}

/// What is missing of a piece.
fn lost_in<'t>(tables: &'t Tables, piece: &'t Piece) -> impl Iterator<Item = LostKeys> + 't {
    piece.missing.iter().map(|interval| {
        let bad = cover::reason(&tables.speakers, piece, *interval);
        let damage = bad.and_then(|bad| bad.error.damage());
        let cause = match bad {
            Some(bad) => LossCause::of(&bad.error, damage.map_or(DamageCause::BadTable, |damage| damage.cause)),
            None => LossCause::Damaged(DamageCause::MissingTable),
        };
        let file = damage.map_or_else(|| tables.files.path.clone(), |damage| damage.file.clone());
        LostKeys { range: piece.range.clone(), interval: *interval, file, cause }
    })
}

/// The entries that count of runs that follow one another, each of which is open while it is read. It stands before the
/// first one.
struct ChainCursor<'t> {
    tables: &'t Tables,
    pieces: &'t [Piece],
    /// The one that the cursor is in.
    piece: usize,
    next: IntoIter<usize>,
    present: Option<(usize, RemainsCursor)>,
}

impl<'t> ChainCursor<'t> {
    fn new(tables: &'t Tables, pieces: &'t [Piece], chain: Vec<usize>) -> Self {
        ChainCursor { tables, pieces, piece: 0, next: chain.into_iter(), present: None }
    }

    fn on_entry(&self) -> &RemainsCursor {
        &self.present.as_ref().expect("on an entry").1
    }
}

impl Source for ChainCursor<'_> {
    fn advance(&mut self) -> Result<bool> {
        loop {
            while let Some((speaker, run)) = &mut self.present {
                let reach = &self.tables.speakers[*speaker].reach;
                if !run.advance()? || !is_below(run.key(), &reach.high) {
                    break;
                }
                if run.key() < reach.low.as_slice() {
                    continue;
                }
                while !is_below(run.key(), &self.pieces[self.piece].range.high) {
                    self.piece += 1;
                }
                if self.pieces[self.piece].used.contains(speaker) {
                    return Ok(true);
                }
            }
            let Some(speaker) = self.next.next() else { return Ok(false) };
            self.present = self.tables.entries(speaker)?.map(|run| (speaker, run));
        }
    }

    fn key(&self) -> &[u8] {
        self.on_entry().key()
    }

    fn version(&self) -> Found<'_> {
        self.on_entry().version()
    }
}
