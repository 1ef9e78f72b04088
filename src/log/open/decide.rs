//! Recovery, the deciding half: walks the frames, applies the decision table, changes nothing.

use std::time::Duration;

use super::directory::{Directory, Files, filled, next_segment};
use super::prior::Prior;
use crate::base::error::{DamageCause, Error, Result};
use crate::base::types::{Incarnation, Lsn};
use crate::disk::LockHeld;
use crate::format::frame::Header;
use crate::format::history::{self, Entry, History};
use crate::format::segment::file_name;
use crate::format::verdict::{FrameState, Verdict, verdict};
use crate::log::clean_up::CleanUp;
use crate::log::log_dir::LogDir;
use crate::log::mark::MarkFound;
use crate::log::read::reader::{Frame, SegmentInfo};
use crate::log::read::walk::{Frames, Piece, Records};

/// The account of opening a log: what was found, what was kept, what a crash took.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// The incarnation that a crash ended, if the log was not closed.
    pub crashed: Option<Incarnation>,
    /// Up to here the log itself proved that it was durable when the crash came; never above `recovered_to`. A log that
    /// was closed, or that a recovery has ended, is durable as a whole.
    pub proven_durable: Lsn,
    /// What MARK was found to say; it counts for `proven_durable`.
    pub mark: MarkFound,
    /// Everything up to here was recovered; what the crashed incarnation handed out above it is lost.
    pub recovered_to: Lsn,
    /// The tables of an engine hold the effect of the log up to here, and the log was read from there on. Zero if there are
    /// none.
    pub tables_up_to: Lsn,
    /// Frames seen above it and dropped: a lower bound for what was lost.
    pub dropped_frames: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Bytes that were accepted without proof that they were on the medium, and written again.
    pub rewritten_bytes: u64,
    /// Segments read.
    pub segments: u64,
    /// Frames read and accepted.
    pub frames: u64,
    /// Records (transactions) replayed.
    pub records: u64,
    /// How the directory was locked meanwhile: if not at all, this is what was read while it may have been written.
    pub lock: LockHeld,
    /// The time it took.
    pub duration: Duration,
    /// Set by `verify` only: the log is sound, and an open would fail now, with this error. Something stands where a
    /// file must be replaced, or may not be written.
    pub obstacle: Option<Error>,
    /// Set by `verify` only: an open would succeed, and the first commit after it would fail now, with this error. HISTORY
    /// cannot be replaced, or there is no room for a segment.
    pub commit_obstacle: Option<Error>,
}

/// The incarnation that was open, and what has to be made durable for it.
#[derive(Debug)]
pub(crate) struct Unfinished {
    /// Proven durable by the log itself.
    pub(crate) durable: u64,
    /// End of the last complete record.
    pub(crate) end: u64,
    /// End of its highest segment.
    pub(crate) prepared: u64,
}

/// The verdict on a directory.
#[derive(Debug)]
pub(crate) struct Verdicts {
    pub(crate) history: History,
    /// Everything at or below this is retired, or known from elsewhere.
    pub(crate) oldest: Lsn,
    /// Segments that hold log, in order, each with the end of its frames.
    pub(crate) catalogue: Vec<SegmentInfo>,
    pub(crate) unfinished: Option<Unfinished>,
    pub(crate) clean_up: CleanUp,
    pub(crate) temporary: Vec<std::path::PathBuf>,
    pub(crate) report: Recovery,
    /// What is wrong unless a writer has changed the files meanwhile ([`Files::MayChange`]).
    pub(crate) doubt: Option<Error>,
}

/// Is shown each complete record, in LSN order.
pub(crate) trait Replay {
    /// The record that ends at `lsn`. An error ends the open.
    fn record(&mut self, lsn: Lsn, payload: &[u8]) -> Result<()>;
}

impl<F: FnMut(Lsn, &[u8]) -> Result<()>> Replay for F {
    fn record(&mut self, lsn: Lsn, payload: &[u8]) -> Result<()> {
        self(lsn, payload)
    }
}

/// Replays nothing: the log is only checked.
#[derive(Debug)]
pub(crate) struct CheckOnly;

impl Replay for CheckOnly {
    fn record(&mut self, _: Lsn, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Walks the whole log and decides. Changes nothing.
pub(crate) fn decide(
    place: &LogDir,
    mut directory: Directory,
    files: Files,
    replay: &mut dyn Replay,
) -> Result<Verdicts> {
    let mut verdicts = Verdicts {
        history: directory.history.clone(),
        oldest: directory.oldest(),
        catalogue: Vec::new(),
        unfinished: None,
        clean_up: CleanUp::of(directory.leftovers, directory.retained, directory.has_unread),
        temporary: directory.temporary,
        report: Recovery::default(),
        doubt: None,
    };
    let (oldest, prior) = (verdicts.oldest, directory.prior);
    verdicts.report.recovered_to = oldest;
    verdicts.report.tables_up_to = prior.known;
    verdicts.report.mark = directory.mark.judge(&directory.history, place)?;
    for entry in &directory.history.entries {
        let mut found = directory.segments.remove(&entry.incarnation.number).unwrap_or_default();
        if files == Files::MayChange && entry.end.is_none() {
            found = filled(place, entry, found)?;
        }
        let chain = chain_of(place, entry, oldest.get(), found, &mut verdicts)?;
        let mut walk = Walk::new(place, files, entry, chain, oldest.get(), prior, replay, &mut verdicts.report);
        let unfinished = walk.run()?;
        let Walk { chain, doubt, .. } = walk;
        verdicts.doubt = verdicts.doubt.or(doubt);
        let end = match (&unfinished, entry.end) {
            (Some(open), _) => open.end,
            (None, Some(end)) => end.lsn.get(),
            (None, None) => entry.begin.get(),
        };
        if end > entry.begin.get() {
            verdicts.report.recovered_to = verdicts.report.recovered_to.max(Lsn::new(end));
        }
        // Now that it is known where its incarnation ends.
        let kept = |info| verdicts.clean_up.end_at(info, end, oldest.get(), prior.let_go.get());
        verdicts.catalogue.extend(chain.into_iter().filter_map(kept));
        verdicts.unfinished = unfinished;
    }
    if prior.proven > verdicts.report.recovered_to {
        // The log went on behind where this HISTORY says that it ended.
        return Err(Error::damaged(&place.path(history::FILE_NAME), prior.proven, DamageCause::BadHistory));
    }
    // An incarnation begins above the last record of the one before: its begin is durable, and no record is there.
    let report = &mut verdicts.report;
    let proven = if report.crashed.is_some() { report.proven_durable } else { report.recovered_to };
    report.proven_durable = proven.min(report.recovered_to);
    for info in directory.segments.into_values().flatten() {
        refuse_if_used(place, &info)?;
        verdicts.clean_up.remove(info.path);
    }
    Ok(verdicts)
}

fn damaged(info: &SegmentInfo, position: u64, cause: DamageCause) -> Error {
    Error::damaged(&info.path, Lsn::new(position), cause)
}

/// The segments of one incarnation, checked to be complete (specification, section 3).
fn chain_of(
    place: &LogDir,
    entry: &Entry,
    oldest: u64,
    found: Vec<SegmentInfo>,
    verdicts: &mut Verdicts,
) -> Result<Vec<SegmentInfo>> {
    let end = entry.end.map(|end| end.lsn.get());
    let needed_from = entry.begin.get().max(oldest);
    let mut chain: Vec<SegmentInfo> = Vec::new();
    let missing = |base: u64| {
        let path = place.path(&file_name(base));
        Err(Error::damaged(&path, Lsn::new(base), DamageCause::MissingSegment))
    };
    // The segment that holds `oldest` is known by its successor only; without one, the directory is all that is known.
    let missing_first = |next: Option<&SegmentInfo>| {
        let previous = next.map(|info| info.header.previous).filter(|&base| base <= needed_from);
        let base = if needed_from == entry.begin.get() { Some(needed_from) } else { previous };
        let path = base.map_or(place.dir().to_owned(), |base| place.path(&file_name(base)));
        Err(Error::damaged(&path, Lsn::new(needed_from), DamageCause::MissingSegment))
    };
    for mut info in found {
        if end.is_some_and(|end| info.base() >= end) {
            verdicts.clean_up.remove(info.path);
            continue;
        }
        let (expected, previous) = match chain.last() {
            Some(last) => (last.header.limit(), last.base()),
            None if info.base() > entry.begin.get() => (info.base(), info.header.previous),
            None => (entry.begin.get(), entry.begin.get()),
        };
        if chain.is_empty() && info.base() > needed_from {
            return missing_first(Some(&info));
        }
        if info.base() != expected {
            return missing(expected);
        }
        if info.header.previous != previous {
            return Err(damaged(&info, info.base(), DamageCause::BadHeader));
        }
        let limit = info.header.limit();
        info.end = end.map_or(limit, |end| end.min(limit));
        let complete = info.length == info.header.size;
        let cut = info.end < limit && info.length >= info.end - info.base();
        if !(complete || cut) {
            return Err(damaged(&info, info.end_in_file(), DamageCause::WrongLength));
        }
        chain.push(info);
    }
    let covered = chain.last().map(|last| last.header.limit());
    match end {
        Some(end) if end <= needed_from => Ok(chain),
        Some(end) if covered.is_some_and(|covered| covered >= end) => Ok(chain),
        None if covered.is_some() => Ok(chain),
        _ => covered.map_or_else(|| missing_first(None), missing),
    }
}

/// A segment of an incarnation that never began must be empty; else HISTORY is older than the log.
fn refuse_if_used(place: &LogDir, info: &SegmentInfo) -> Result<()> {
    let used = info.has_frames(place).map_err(|error| Error::unreadable(&info.path, Lsn::new(info.base()), error))?;
    if used { Err(damaged(info, info.base(), DamageCause::BadHistory)) } else { Ok(()) }
}

/// The walk over the frames of one incarnation.
struct Walk<'a> {
    place: &'a LogDir,
    files: Files,
    entry: &'a Entry,
    chain: Vec<SegmentInfo>,
    oldest: u64,
    prior: Prior,
    replay: &'a mut dyn Replay,
    report: &'a mut Recovery,
    /// Largest durable LSN proven so far.
    durable: u64,
    /// End of the last complete record.
    end: u64,
    records: Records,
    /// Up to here frames are waited for that a writer was just writing.
    followed_to: Option<u64>,
    doubt: Option<Error>,
}

/// What the headers at and above a position say.
#[derive(Debug, Default)]
struct Evidence {
    later: bool,
    highest: u64,
    durable: u64,
    frames: u64,
    bytes: u64,
}

impl<'a> Walk<'a> {
    #[expect(clippy::too_many_arguments, reason = "made once")]
    fn new(
        place: &'a LogDir,
        files: Files,
        entry: &'a Entry,
        chain: Vec<SegmentInfo>,
        oldest: u64,
        prior: Prior,
        replay: &'a mut dyn Replay,
        report: &'a mut Recovery,
    ) -> Self {
        let begin = entry.begin.get();
        // The walk begins in a segment whose begin is not the incarnation's, and not at the end of a record that is known.
        let first = chain.first().filter(|first| first.base() > begin);
        let begin_is_retired = first.is_some_and(|first| prior.known.get() <= first.first_frame());
        let records = if begin_is_retired { Records::after_retired() } else { Records::default() };
        // All records of a segment that was retired to its very end are above, and `oldest` is the last of them.
        let end = begin.max(oldest);
        // Only the last incarnation can be open, and the mark is judged to be of the last one.
        let durable = match report.mark {
            MarkFound::Proves(lsn) if entry.end.is_none() => end.max(lsn.get()),
            _ => end,
        };
        let durable = if entry.end.is_none() { durable.max(prior.proven.get()) } else { durable };
        Walk {
            place,
            files,
            entry,
            chain,
            oldest,
            prior,
            replay,
            report,
            durable,
            end,
            records,
            followed_to: None,
            doubt: None,
        }
    }

    /// Walks to the end; says what was unfinished if the incarnation was open.
    fn run(&mut self) -> Result<Option<Unfinished>> {
        let known = self.prior.known.get();
        let mut position = self.chain.first().map_or(0, |first| first.first_frame().max(known.min(first.end)));
        let ended = self.entry.end.map(|end| end.lsn.get());
        for index in 0..self.chain.len() {
            let info = self.chain[index].clone();
            let mut frames = Frames::open(self.place, &info)
                .map_err(|error| Error::unreadable(&info.path, Lsn::new(info.base()), error))?;
            frames.seek(position);
            self.report.segments += 1;
            while ended != Some(position)
                && let Some(mut frame) = frames.next(u64::MAX)
            {
                let header = match frame.whole() {
                    Some(header) if self.may_stand(&info, frame.start, header) => header,
                    whole => {
                        frame.state = whole.map_or(frame.state, |_| FrameState::Impossible);
                        match self.stop(index, frame, &mut frames)? {
                            Some(unfinished) => return Ok(Some(unfinished)),
                            None => continue,
                        }
                    }
                };
                self.accept(frame.start, header, &mut frames)?;
                position = header.lsn;
            }
        }
        let Some(last) = self.chain.last() else { return Ok(None) };
        if ended.is_some() && ended == Some(position) && !self.records.has_unended() {
            return Ok(None);
        }
        // Ended: a record is cut short at `end`. Open: the last segment is full, and by O2 another one must follow.
        let cause = if ended.is_some() { DamageCause::Impossible } else { DamageCause::MissingSegment };
        let missing = damaged(last, position, cause);
        self.expect_next(missing)?;
        Ok(Some(self.ends_above(&Evidence { durable: self.durable, ..Evidence::default() })))
    }

    /// Whether a frame of this kind may stand here.
    fn may_stand(&self, info: &SegmentInfo, start: u64, header: &Header) -> bool {
        let whole = header.kind.ends() || header.lsn == info.header.limit();
        let begins_segment = header.kind.begins() || start == info.first_frame();
        let skippable = !self.records.is_of_retired(header.kind) || header.lsn <= self.oldest;
        self.records.may_follow(header.kind) && whole && begins_segment && skippable
    }

    fn accept(&mut self, start: u64, header: &Header, frames: &mut Frames) -> Result<()> {
        self.report.frames += 1;
        self.durable = self.durable.max(header.durable);
        if self.records.skip(header.kind) {
            self.end = header.lsn;
            return Ok(());
        }
        if let Piece::Record { payload, .. } = self.records.add(start, header.kind, frames.payload(header)?) {
            let lsn = Lsn::new(header.lsn);
            self.replay.record(lsn, &payload)?;
            self.report.records += 1;
            self.end = header.lsn;
        }
        Ok(())
    }

    /// The segment behind the last one of the open incarnation is not known, and must be there. If a writer has made it since
    /// the names were listed, none of its frames was there when the reading began. If it has been removed since, a newer
    /// MANIFEST has what is in it.
    fn expect_next(&mut self, missing: Error) -> Result<()> {
        let last = self.chain.last().filter(|_| self.files == Files::MayChange && self.entry.end.is_none());
        let Some(last) = last else { return Err(missing) };
        if next_segment(self.place, self.entry, last)?.is_none() {
            self.doubt = Some(missing);
        }
        Ok(())
    }

    /// What the headers from `position` on say, which lies in the segment `index`, read through `here`.
    fn evidence(&self, index: usize, position: u64, here: &mut Frames) -> Result<Evidence> {
        let mut evidence = Evidence { highest: position, durable: self.durable, ..Evidence::default() };
        let mut note = |at: u64, header: &Header| {
            evidence.later |= at > position;
            evidence.highest = evidence.highest.max(header.lsn);
            evidence.durable = evidence.durable.max(header.durable);
            evidence.frames += 1;
            evidence.bytes += header.frame_len();
        };
        for (above, info) in self.chain.iter().enumerate().skip(index) {
            let searched = if above == index {
                here.search(position, &mut note)
            } else {
                Frames::open(self.place, info).and_then(|mut frames| frames.search(info.first_frame(), &mut note))
            };
            searched.map_err(|error| Error::unreadable(&info.path, Lsn::new(info.base()), error))?;
        }
        Ok(evidence)
    }

    /// The frame is not valid, or may not stand where it does: gathers the evidence above it and decides. `None` if it is
    /// whole by now, and the walk goes on.
    fn stop(&mut self, index: usize, mut frame: Frame, here: &mut Frames) -> Result<Option<Unfinished>> {
        let info = self.chain[index].clone();
        let position = frame.start;
        let is_open = self.entry.end.is_none();
        let mut evidence = Evidence { highest: position, durable: self.durable, ..Evidence::default() };
        let mut now = Now::Stands;
        if is_open && frame.state != FrameState::Unreadable {
            evidence = self.evidence(index, position, here)?;
            if self.files == Files::MayChange {
                now = self.look_again(&info, &mut frame, evidence.durable, here)?;
            }
        }
        let below = !is_open || position < evidence.durable;
        match now {
            // As far as the first evidence goes, so that no reader follows a writer for ever.
            Now::IsWhole if position < *self.followed_to.get_or_insert(evidence.durable) => return Ok(None),
            Now::IsWhole | Now::Changes => {}
            Now::Stands => match verdict(frame.state, below, evidence.later) {
                Verdict::Damage | Verdict::Unreadable => {
                    let cause = cause_of(frame.state);
                    return Err(frame.not_whole(&info, cause));
                }
                Verdict::EndOfLog | Verdict::TornTail | Verdict::Accept => {}
            },
        }
        let last = self.chain.last().expect("the frame is in one of them");
        if evidence.highest > last.header.midpoint() {
            let next = last.header.limit();
            let path = self.place.path(&file_name(next));
            self.expect_next(Error::damaged(&path, Lsn::new(next), DamageCause::MissingSegment))?;
        }
        Ok(Some(self.ends_above(&evidence)))
    }

    /// The log ends with the last complete record, whatever this evidence is of.
    fn ends_above(&mut self, evidence: &Evidence) -> Unfinished {
        let last = self.chain.last().expect("an open incarnation has a segment");
        self.report.crashed = Some(self.entry.incarnation);
        self.report.proven_durable = Lsn::new(evidence.durable.min(self.end).max(self.entry.begin.get()));
        self.report.dropped_frames = evidence.frames;
        self.report.dropped_bytes = evidence.bytes;
        Unfinished { durable: evidence.durable, end: self.end, prepared: last.header.limit() }
    }

    /// Looks at a frame again, now that it is known what lies above it (B5 and B6 of `disk/LOCK.md`). What ends at or below
    /// `durable` had come before that was known.
    fn look_again(&self, info: &SegmentInfo, frame: &mut Frame, durable: u64, here: &mut Frames) -> Result<Now> {
        let start = frame.start;
        let mut look = || -> Result<(bool, Option<u32>)> {
            let looked = here.look_again(start);
            let (again, sum) = looked.map_err(|error| Error::unreadable(&info.path, Lsn::new(start), error))?;
            let stands = again.whole().map(|header| self.may_stand(info, start, header));
            *frame = again;
            if stands == Some(false) {
                frame.state = FrameState::Impossible;
            }
            let is_damage = verdict(frame.state, start < durable, true) == Verdict::Damage;
            Ok((stands == Some(true), is_damage.then_some(sum)))
        };
        let (is_whole, before) = look()?;
        if is_whole {
            return Ok(Now::IsWhole);
        }
        if start < durable || before.is_none() {
            return Ok(Now::Stands);
        }
        let (is_whole, after) = look()?;
        Ok(if !is_whole && before == after { Now::Stands } else { Now::Changes })
    }
}

/// What a frame that was not whole is found to be by another look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Now {
    /// The same, or not whole either: the decision table says what that means.
    Stands,
    /// It was being written.
    IsWhole,
    /// It is being written.
    Changes,
}

pub(crate) fn cause_of(state: FrameState) -> DamageCause {
    match state {
        FrameState::Unwritten | FrameState::HeaderTorn | FrameState::PayloadTorn => DamageCause::Unlanded,
        FrameState::HeaderRotten | FrameState::PayloadRotten => DamageCause::Rotten,
        FrameState::Unreadable => DamageCause::Unreadable,
        FrameState::Missing => DamageCause::MissingSegment,
        FrameState::Impossible | FrameState::Valid => DamageCause::Impossible,
    }
}
