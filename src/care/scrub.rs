//! Scrub: reads the log and the tables under an open engine in the background, and checks every frame and block. It
//! changes nothing.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::pace::{Pace, ScrubOptions};
use crate::base::error::{Damage, DamageCause, Error, ErrorKind, Result};
use crate::base::types::Lsn;
use crate::format::WORD;
use crate::format::history::FILE_NAME;
use crate::format::table::block::Indexed;
use crate::format::table::manifest::{self, Layer};
use crate::format::table::{FileKind, file_name};
use crate::format::verdict::FrameState;
use crate::log::Log;
use crate::log::inner::LogInner;
use crate::log::open::decide::cause_of;
use crate::log::open::directory::{read_history, read_info};
use crate::log::read::reader::SegmentInfo;
use crate::log::read::walk::Frames;
use crate::rt::background;
use crate::rt::clock;
use crate::rt::process;
use crate::rt::sync::{Condvar, Guard, Mutex};
use crate::table::held::HeldStack;
use crate::table::run::read::{self as table, Part};

/// How far a scrub has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ScrubProgress {
    /// Bytes of the log and of tables checked.
    pub bytes: u64,
    /// Bytes that there were to check when it began.
    pub total_bytes: u64,
    /// Frames of the log found whole.
    pub frames: u64,
    /// Blocks of tables read.
    pub blocks: u64,
    /// Places found damaged: see [`Scrub::findings`].
    pub findings: u64,
    /// It has ended...
    pub ended: bool,
    /// ...and before it had checked everything, because it was stopped or the log was closed.
    pub stopped: bool,
}

impl ScrubProgress {
    const OF_ANOTHER_PROCESS: ScrubProgress = ScrubProgress { ended: true, stopped: true, ..Self::NOTHING };
    const NOTHING: ScrubProgress =
        ScrubProgress { bytes: 0, total_bytes: 0, frames: 0, blocks: 0, findings: 0, ended: false, stopped: false };
}

/// A scrub that was begun. It goes on when this is dropped, until it is done or the log is closed.
///
/// Files of tables that it reads stay until it has ended, also those that a merge has made needless meanwhile. Then it
/// removes these.
#[derive(Clone)]
pub struct Scrub {
    task: Arc<Task>,
}

impl fmt::Debug for Scrub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrub").field("progress", &self.progress()).finish()
    }
}

impl Scrub {
    /// How far it has come. In a forked child it has ended.
    pub fn progress(&self) -> ScrubProgress {
        self.task.state().map_or(ScrubProgress::OF_ANOTHER_PROCESS, |state| state.progress)
    }

    /// The damage found so far, in the order in which it was found: the file with LSN or offset, and cause. The first 1,000
    /// places are kept; [`ScrubProgress::findings`] counts the others as well.
    pub fn findings(&self) -> Vec<Damage> {
        self.task.state().map_or_else(Vec::new, |state| state.findings.clone())
    }

    /// Waits until it has ended.
    pub fn wait(&self) -> ScrubProgress {
        let Some(mut state) = self.task.state() else { return ScrubProgress::OF_ANOTHER_PROCESS };
        while !state.progress.ended {
            self.task.changed.wait(&mut state);
        }
        state.progress
    }

    /// Ends it before it is done.
    pub fn stop(&self) {
        self.task.stop();
    }
}

/// What the thread that scrubs shares with whoever asks about it.
#[derive(Debug)]
struct Task {
    state: Mutex<State>,
    changed: Condvar,
    /// The process that began it.
    generation: u64,
}

#[derive(Debug, Default)]
struct State {
    progress: ScrubProgress,
    findings: Vec<Damage>,
    stop: bool,
}

impl Task {
    fn new() -> Self {
        Task { state: Mutex::default(), changed: Condvar::new(), generation: process::generation() }
    }

    /// The state, unless this is a forked child: there is no thread then, and the lock may be held for ever.
    fn state(&self) -> Option<Guard<'_, State>> {
        process::is_current(self.generation).then(|| self.state.lock())
    }

    fn stop(&self) {
        if let Some(mut state) = self.state() {
            state.stop = true;
            drop(state);
            self.changed.notify_all();
        }
    }
}

impl background::Task for Task {
    fn has_ended(&self) -> bool {
        self.state.lock().progress.ended
    }

    fn end(&self) {
        self.stop();
    }
}

/// Says that the scrub has ended, also when it did so by a panic of the disk.
struct Ending<'a> {
    task: &'a Task,
    complete: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.task.state.lock();
        state.progress.ended = true;
        state.progress.stopped = !self.complete;
        drop(state);
        self.task.changed.notify_all();
    }
}

/// It was told to stop.
struct Stop;

/// Findings beyond this are counted alone: a dead disk has one for each block.
const MAX_KEPT: usize = 1000;

impl Log {
    /// Begins to read and check, on a thread of its own, everything that is durable now.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a rate of zero, [`ErrorKind::Closed`], [`ErrorKind::Io`] if there is no thread.
    pub fn scrub(&self, options: ScrubOptions) -> Result<Scrub> {
        scrub(self.inner(), options, || None, || ())
    }
}

/// Begins to check everything that is durable now. `hold` gives the layers, once it is known which segments are read: what
/// left the log before is in them. `let_go` is called when they are no longer held.
pub(crate) fn scrub(
    log: &Arc<LogInner>,
    options: ScrubOptions,
    hold: impl FnOnce() -> Option<HeldStack>,
    let_go: impl FnOnce() + Send + 'static,
) -> Result<Scrub> {
    log.check_process()?;
    let pace = Pace::new(options)?;
    let segments = durable_segments(log);
    let layers = hold();
    let task = Arc::new(Task::new());
    let work = Arc::clone(&task);
    let read = Arc::clone(log);
    let run = move || {
        let mut ending = Ending { task: &work, complete: false };
        let layers = layers;
        let to = layers.as_ref().map_or(Lsn::ZERO, |layers| layers.stack.manifest.to);
        let mut run = Run { log: &read, task: &work, pace, to };
        ending.complete = run.everything(&segments, layers.as_ref()).is_ok();
        // Before it is told that the scrub has ended: then no file is held.
        drop(layers);
        let_go();
    };
    let failed = |error| Error::io("start a scrub of", log.dir(), error);
    let begun = log.start("forelog-scrub", task.clone(), run);
    begun.ok_or_else(|| log.refusal())?.map_err(failed)?;
    Ok(Scrub { task })
}

/// The segments that hold what is durable now, each as far as it does.
fn durable_segments(log: &LogInner) -> Vec<SegmentInfo> {
    let durable = log.positions().durable();
    let mut segments = log.incarnations().look(|known| known.segments.clone());
    segments.retain(|info| info.first_frame() < info.end.min(durable));
    segments.iter_mut().for_each(|info| info.end = info.end.min(durable));
    segments
}

/// Of all files of the layers.
fn bytes_of(layers: &HeldStack) -> u64 {
    let manifest = &layers.stack.manifest;
    let runs: u64 = manifest.layers.iter().map(Layer::bytes).sum();
    manifest.to_bytes().len() as u64 + manifest.keyspaces.length + runs
}

struct Run<'a> {
    log: &'a LogInner,
    task: &'a Task,
    pace: Pace,
    /// Up to here the layers have everything, so that nothing needs the log.
    to: Lsn,
}

impl Run<'_> {
    fn everything(&mut self, segments: &[SegmentInfo], layers: Option<&HeldStack>) -> std::result::Result<(), Stop> {
        let of_log: u64 = segments.iter().map(|info| info.end - info.base()).sum();
        self.task.state.lock().progress.total_bytes = of_log + layers.map_or(0, bytes_of);
        self.history();
        segments.iter().try_for_each(|info| self.segment(info))?;
        layers.map_or(Ok(()), |layers| self.tables(layers))
    }

    fn tables(&mut self, layers: &HeldStack) -> std::result::Result<(), Stop> {
        let manifest = &layers.stack.manifest;
        self.note_error(&layers.path_of(manifest::FILE_NAME), layers.check_manifest().err());
        let keyspaces = file_name(manifest.keyspaces.number, FileKind::Keyspaces);
        self.note_error(&layers.path_of(&keyspaces), layers.check_keyspaces().err());
        self.pace(manifest.to_bytes().len() as u64 + manifest.keyspaces.length, 0)?;
        layers.runs().try_for_each(|(path, named, run)| self.run(&path, named.file.length, run))
    }

    /// Reads all of a run that is `length` bytes long, block by block.
    fn run(&mut self, path: &Path, length: u64, run: Result<table::Run>) -> std::result::Result<(), Stop> {
        let mut checked = 0;
        match run {
            Err(error) => self.note_error(path, Some(error)),
            Ok(run) => {
                self.note_error(path, run.first_lost());
                run.walk(|part| match part {
                    Part::Partition(Indexed { block, .. }) | Part::Block(Indexed { block, .. }) => {
                        checked += u64::from(block.length);
                        self.task.state.lock().progress.blocks += 1;
                        self.pace(u64::from(block.length), 0)
                    }
                    Part::Entry(..) => Ok(()),
                    Part::Bad(error) => {
                        self.note_error(path, Some(error.clone()));
                        Ok(())
                    }
                })?;
            }
        }
        // Its two ends, and what could not be reached.
        self.pace(length.saturating_sub(checked), 0)
    }

    fn note_error(&self, path: &Path, error: Option<Error>) {
        let Some(error) = error else { return };
        let unreadable = || Damage {
            file: path.to_owned(),
            lsn: Lsn::ZERO,
            offset: None,
            cause: match error.kind() {
                ErrorKind::Io => DamageCause::Unreadable,
                _ => DamageCause::BadTable,
            },
        };
        self.note(error.damage().cloned().unwrap_or_else(unreadable));
    }

    fn find(&self, info: &SegmentInfo, lsn: u64, cause: DamageCause) {
        self.note(Damage { file: info.path.clone(), lsn: Lsn::new(lsn), offset: None, cause });
    }

    fn note(&self, damage: Damage) {
        let mut state = self.task.state.lock();
        if state.findings.len() < MAX_KEPT {
            state.findings.push(damage);
        }
        state.progress.findings += 1;
    }

    fn history(&self) {
        let file = self.log.place.path(FILE_NAME);
        // It is replaced by rename, so what is read is one of its versions as a whole.
        let cause = match read_history(&self.log.place) {
            Ok(history) if history.log_id == self.log.incarnations().log_id() => return,
            Err(error) if error.kind() == ErrorKind::Io => DamageCause::Unreadable,
            _ => DamageCause::BadHistory,
        };
        self.note(Damage { file, lsn: Lsn::ZERO, offset: None, cause });
    }

    fn segment(&mut self, info: &SegmentInfo) -> std::result::Result<(), Stop> {
        self.pace(info.first_frame() - info.base(), 0)?;
        let place = &self.log.place;
        let header = read_info(place, info.base());
        let frames = Frames::open(place, info);
        if self.log.incarnations().oldest().get() >= info.end {
            // Retired meanwhile: what could not be read of it is not missed.
            return self.pace(info.end - info.first_frame(), 0);
        }
        match header {
            Ok(found) if found.header == info.header => {}
            Ok(_) => self.find(info, info.base(), DamageCause::BadHeader),
            Err(error) => {
                let cause = error.damage().map_or(DamageCause::Unreadable, |damage| damage.cause);
                self.find(info, info.base(), cause);
            }
        }
        let Ok(mut frames) = frames else {
            self.find(info, info.base(), DamageCause::MissingSegment);
            return self.pace(info.end - info.first_frame(), 0);
        };
        while let Some(frame) = frames.next(info.end) {
            let (next, whole) = match (frame.state, frame.header) {
                (FrameState::Valid, Some(header)) => (header.lsn, 1),
                (state, _) => {
                    let next = frames.next_whole(frame.start + WORD).map_or(info.end, |(start, _)| start);
                    if next > self.to.get() {
                        self.find(info, frame.start, cause_of(state));
                    }
                    (next, 0)
                }
            };
            frames.seek(next);
            self.pace(next - frame.start, whole)?;
        }
        Ok(())
    }

    /// Notes what was checked, and waits as long as the rate demands.
    fn pace(&mut self, bytes: u64, frames: u64) -> std::result::Result<(), Stop> {
        let mut state = self.task.state.lock();
        state.progress.bytes += bytes;
        state.progress.frames += frames;
        if let Some(until) = self.pace.read(bytes) {
            while !state.stop && clock::now() < until {
                self.task.changed.wait_until(&mut state, Some(until));
            }
        }
        if state.stop { Err(Stop) } else { Ok(()) }
    }
}
