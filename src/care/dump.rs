//! Looking at a log without opening it: `verify` and `dump`, through the same reader as recovery. Neither changes a
//! byte. `dump` takes no lock (rule 9 of `LOCK.md`).

use std::path::Path;
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::types::{Incarnation, Lsn};
use crate::disk::{DirHandle, Disk, OsDisk};
use crate::format::WORD;
use crate::format::mark::Mark;
use crate::format::verdict::FrameState;
use crate::log::log_dir::LogDir;
use crate::log::open;
use crate::log::open::beside::{Read, read_beside};
use crate::log::open::decide::Recovery;
use crate::log::open::directory::Directory;
use crate::log::open::prior::Prior;
use crate::log::read::reader::Frame;
use crate::log::read::walk::Frames;
use crate::log::{Files, no_tables};

/// Reads and checks everything in the log in `dir`, changing nothing, and shows each complete record; says what an open
/// would find.
///
/// # Errors
/// The first damage, by segment, LSN and cause; why there is nothing to check; and whatever `visit` returns.
#[expect(clippy::needless_pass_by_value, reason = "a disk is shared, and callers should not have to borrow it")]
pub fn verify_on(disk: Arc<dyn Disk>, dir: &Path, visit: &mut dyn FnMut(Lsn, &[u8]) -> Result<()>) -> Result<Recovery> {
    let mut replay = |lsn: Lsn, payload: &[u8]| visit(lsn, payload);
    open::verify(&*disk, dir, &mut no_tables, &mut replay)
}

/// One frame, as `dump` shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DumpedFrame {
    /// The segment's file name.
    pub segment: String,
    /// The incarnation that wrote it.
    pub incarnation: Incarnation,
    /// Where the frame begins.
    pub position: Lsn,
    /// Where it ends; equal to `position` if the header is not valid.
    pub lsn: Lsn,
    /// The durable LSN that it carries.
    pub durable: Lsn,
    /// Full, First, Middle or Last; empty if the header is not valid.
    pub kind: String,
    /// Length of the payload.
    pub length: u32,
    /// What the bytes are.
    pub state: FrameState,
}

/// One slot of a MARK, as `dump` shows it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DumpedMark {
    /// 0 or 1.
    pub slot: u64,
    /// Whose claim it is.
    pub incarnation: Incarnation,
    /// Counts the marks of the incarnation.
    pub count: u64,
    /// Everything up to here was durable.
    pub durable: Lsn,
}

/// The slots of the MARK in `dir` that check, in the order in which they stand in the file.
///
/// # Errors
/// If the directory holds no log.
pub fn marks(dir: impl AsRef<Path>) -> Result<Vec<DumpedMark>> {
    let (_, directory) = look(dir.as_ref())?;
    let dumped = |(slot, mark): &(u64, Mark)| DumpedMark {
        slot: *slot,
        incarnation: mark.incarnation,
        count: mark.count,
        durable: mark.durable,
    };
    Ok(directory.mark.iter().map(dumped).collect())
}

/// Whether the log in `dir` was not closed: a program has it open, or a crash has ended it.
///
/// # Errors
/// If the directory holds no log.
pub fn is_unclosed(dir: impl AsRef<Path>) -> Result<bool> {
    let (_, directory) = look(dir.as_ref())?;
    Ok(directory.history.entries.last().is_some_and(|last| last.end.is_none()))
}

/// What is in the directory of a log, which a writer may change meanwhile. The segments stay open.
fn look(dir: &Path) -> Result<(LogDir, Directory)> {
    read_beside(&Arc::new(DirHandle::open(&OsDisk, dir)?), |view| {
        let place = LogDir::new(Arc::clone(&view.handle));
        let directory = open::load_existing(&place, Files::MayChange, &mut |_, _| Ok(Prior::default()))?;
        let history = directory.history.clone();
        Ok(Read { answer: (place, directory), history, doubt: None })
    })
}

/// Shows every frame of the log in `dir`, one after another. Behind a frame that is not valid it goes on with the
/// next valid header, so that what lies above damage or a torn tail can be seen.
///
/// It takes no lock: what a writer is writing meanwhile may be shown as not valid.
///
/// # Errors
/// If the directory or a header cannot be read, and whatever `show` returns, which ends it.
pub fn dump<E: From<Error>>(
    dir: impl AsRef<Path>,
    mut show: impl FnMut(&DumpedFrame) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let (place, directory) = look(dir.as_ref())?;
    for info in directory.segments.values().flatten() {
        let unreadable = |error| Error::unreadable(&info.path, Lsn::new(info.base()), error);
        let info = info.in_file();
        let mut frames = Frames::open(&place, &info).map_err(unreadable)?;
        while let Some(Frame { start, state, header, error }) = frames.next(info.end) {
            let lsn = header.map_or(start, |header| header.lsn);
            show(&DumpedFrame {
                segment: info.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                incarnation: info.header.identity.incarnation,
                position: Lsn::new(start),
                lsn: Lsn::new(lsn),
                durable: Lsn::new(header.map_or(0, |header| header.durable)),
                kind: header.map_or(String::new(), |header| format!("{:?}", header.kind)),
                length: header.map_or(0, |header| header.length),
                state,
            })?;
            if let Some(error) = error {
                return Err(unreadable(error).into());
            }
            if state != FrameState::Valid {
                // Only as far as the next one: a segment with many bad frames is read once, not once for each.
                frames.seek_header(lsn.max(start + WORD)).map_err(unreadable)?;
            }
        }
    }
    Ok(())
}
