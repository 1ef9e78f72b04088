//! Recovery, the doing half: makes the verdict durable before anybody hears of it (promise 5).

use std::path::{Path, PathBuf};

use super::decide::{Unfinished, Verdicts, cause_of};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::options::FIRST_SEGMENT_BYTES;
use crate::base::types::Lsn;
use crate::disk::{Access, Dir, write_all_at};
use crate::format::history::{self, End, History};
use crate::format::segment::{TEMPORARY_SUFFIX, file_name};
use crate::log::log_dir::LogDir;
use crate::log::read::reader::SegmentInfo;
use crate::log::read::walk::Frames;

/// Bytes written again per call, at most.
const PIECE: usize = 1 << 20;

/// How an open ends the incarnation.
pub(crate) fn end_of(unfinished: &Unfinished) -> End {
    End { lsn: Lsn::new(unfinished.end), prepared: Lsn::new(unfinished.prepared), clean: false }
}

/// Makes the verdict durable: rewrite, HISTORY, cut, remove, in this order. Writes nothing after a clean close, which leaves
/// nothing to remove either.
///
/// A HISTORY that lists no incarnation is written, again too: the creation may have been cut off before its name was
/// durable, and nothing later has made it so. One that `names_another` MANIFEST than the one that was found is written as
/// well, or the next open would have to write that MANIFEST again; but that is no reason to refuse.
pub(crate) fn settle(place: &LogDir, verdicts: &mut Verdicts, names_another: bool) -> Result<()> {
    if let Some(unfinished) = verdicts.unfinished.take() {
        for info in &verdicts.catalogue {
            verdicts.report.rewritten_bytes += rewrite(place, info, &unfinished)?;
        }
        let entry = verdicts.history.entries.last_mut().expect("the open incarnation is listed");
        entry.end = Some(end_of(&unfinished));
    } else if !verdicts.history.entries.is_empty() && verdicts.clean_up.is_empty() {
        if names_another && let Err(error) = place.save(&verdicts.history) {
            // A refusal before the rename has no effect. After another failure nothing may be written any more.
            if place.disk().failure().is_some() || error.kind() == ErrorKind::Removed {
                return Err(error);
            }
        }
        return if remove_leftovers(place, &verdicts.temporary) { place.sync_dir() } else { Ok(()) };
    }
    place.save(&verdicts.history)?;
    remove_leftovers(place, &verdicts.temporary);
    verdicts.clean_up.run(place)
}

/// Whether [`settle`] could do its work, as far as that can be told without changing anything: why not, if not.
pub(crate) fn would_settle(place: &LogDir, verdicts: &Verdicts) -> Result<()> {
    let Verdicts { history, unfinished, clean_up, .. } = verdicts;
    if unfinished.is_none() && !history.entries.is_empty() && clean_up.is_empty() {
        return Ok(());
    }
    let rewritten = verdicts
        .catalogue
        .iter()
        .filter(|info| unfinished.as_ref().is_some_and(|unfinished| !unproven(info, unfinished).is_empty()));
    for info in rewritten.chain(clean_up.to_cut()) {
        place.open(&info.path, Access::Write).map_err(|error| Error::io("open", &info.path, error))?;
    }
    would_save(place, history, 0)?;
    let may_remove = |path: &PathBuf| may_replace(place, path).map_err(|error| Error::io("remove", path, error));
    clean_up.to_remove().try_for_each(may_remove)
}

/// Whether the first commit after an open could begin an incarnation, as far as that can be told without changing
/// anything: why not, if not.
pub(crate) fn would_begin(place: &LogDir, verdicts: &Verdicts) -> Result<()> {
    let Verdicts { history, unfinished, .. } = verdicts;
    let begin = unfinished.as_ref().map_or(history.next_begin().get(), |unfinished| unfinished.prepared);
    let segment = place.path(&file_name(begin));
    let temporary = place.path(&(file_name(begin) + TEMPORARY_SUFFIX));
    may_replace(place, &temporary).map_err(|error| Error::io("prepare segment", &segment, error))?;
    would_save(place, history, FIRST_SEGMENT_BYTES)
}

/// Whether HISTORY could be replaced, with room for so many bytes in other files.
fn would_save(place: &LogDir, history: &History, others: u64) -> Result<()> {
    let path = place.path(history::FILE_NAME);
    let failed = |error| Error::io("replace", &path, error);
    may_replace(place, &place.path(history::TEMPORARY_NAME)).map_err(failed)?;
    may_replace(place, &path).map_err(failed)?;
    let needed = others + history.encoded_len();
    match place.disk().room().map_err(failed)? {
        Some(room) if room < needed => Err(failed(std::io::ErrorKind::StorageFull.into())),
        _ => Ok(()),
    }
}

fn may_replace(place: &LogDir, path: &Path) -> std::io::Result<()> {
    place.disk().may_replace(path.file_name().unwrap_or_default())
}

/// The frames of a segment that are accepted without proof that they are on the medium.
fn unproven(info: &SegmentInfo, unfinished: &Unfinished) -> std::ops::Range<u64> {
    // Incarnations that ended before lie wholly below the open one's begin, and so below `durable`.
    unfinished.durable.max(info.first_frame())..unfinished.end.min(info.header.limit())
}

/// Removes what preparations that were cut off have left, for this open may end without one of its own; returns whether
/// there was any. It is never read, so what cannot be removed only costs space.
fn remove_leftovers(place: &LogDir, temporary: &[std::path::PathBuf]) -> bool {
    temporary.iter().filter(|path| place.try_remove(path).is_ok()).count() > 0
}

/// Writes the accepted frames of a segment again from the proven durable LSN on, and fsyncs them: what reads well may
/// be in the cache alone, after a write-back that failed, and an fsync by itself would not notice (A9).
fn rewrite(place: &LogDir, info: &SegmentInfo, unfinished: &Unfinished) -> Result<u64> {
    let std::ops::Range { start: from, end: to } = unproven(info, unfinished);
    if from >= to {
        return Ok(0);
    }
    let file = place.open(&info.path, Access::Write).map_err(|error| Error::io("open", &info.path, error))?;
    let mut frames = Frames::of_file(file.clone(), info);
    frames.seek(from);
    let mut written = from;
    let mut piece = Vec::new();
    while let Some(frame) = frames.next(to) {
        let Some(header) = frame.whole() else {
            let cause = cause_of(frame.state);
            return Err(frame.not_whole(info, cause));
        };
        piece.extend_from_slice(frames.bytes(header)?);
        if piece.len() >= PIECE || header.lsn >= to || info.header.place(header.lsn).is_none() {
            write_all_at(&*file, &piece, written - info.base())
                .map_err(|error| Error::io("write again to", &info.path, error))?;
            written = header.lsn;
            piece.clear();
        }
    }
    file.sync_data().map_err(|error| Error::io("fsync", &info.path, error))?;
    Ok(written - from)
}
