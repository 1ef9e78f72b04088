//! The log of a salvage: every record that its checksums prove whole, whatever stands between.

use std::io;
use std::path::Path;

use super::inventory::IncarnationParts;
use super::{BadFile, Found, Gap, LossCause};
use crate::base::error::{DamageCause, Result};
use crate::base::types::Lsn;
use crate::format::WORD;
use crate::format::frame::Header;
use crate::format::history::FILE_NAME;
use crate::format::segment::file_name;
use crate::format::verdict::{Verdict, verdict};
use crate::log::log_dir::LogDir;
use crate::log::open::decide::cause_of;
use crate::log::read::reader::{Frame, SegmentInfo};
use crate::log::read::walk::{Frames, Piece, Records};

/// What is shown each whole record, in LSN order; it says whether it is one that can be used.
pub(super) type Taker<'a> = dyn FnMut(Lsn, &[u8]) -> Result<bool> + 'a;

/// The segments of one place: more than one if the directory holds copies.
struct Copies<'a> {
    info: &'a SegmentInfo,
    frames: Vec<Frames>,
    /// No copy holds bytes at or above this.
    end: u64,
}

impl<'a> Copies<'a> {
    fn open(place: &LogDir, copies: &'a [SegmentInfo]) -> io::Result<Self> {
        let frames = copies.iter().map(|info| Frames::open(place, &info.in_file())).collect::<io::Result<Vec<_>>>()?;
        let end = frames.iter().map(|frames| frames.info().end).max().unwrap_or(0);
        Ok(Copies { info: &copies[0], frames, end })
    }

    /// What stands at `start`, in the copy where it is best.
    fn at(&mut self, start: u64) -> (usize, Frame) {
        let mut found = self.frames.iter_mut().map(|frames| frames.at(start)).enumerate();
        let first = found.next().expect("there is one");
        if first.1.whole().is_some() {
            return first;
        }
        found.find(|(_, frame)| frame.whole().is_some()).unwrap_or(first)
    }

    /// Where the first whole frame at or above `from` begins.
    fn next_whole(&mut self, from: u64) -> Option<u64> {
        self.frames.iter_mut().filter_map(|frames| frames.next_whole(from)).map(|(start, _)| start).min()
    }
}

pub(super) struct Walk<'a, 'v> {
    place: &'a LogDir,
    /// What lies at or below this is not needed.
    oldest: u64,
    take: &'a mut Taker<'v>,
    pub(super) found: Found,
    records: Records,
    /// The last record shown.
    last: u64,
}

/// What is known of how far an incarnation came.
#[derive(Clone, Copy)]
struct Extent {
    /// Where it ended, if HISTORY says so.
    end: Option<u64>,
    /// Proven durable, where it did not.
    durable: u64,
    /// The end of the highest frame, where it did not: that of a record that goes on, too.
    highest: u64,
    /// The base of the last segment that holds a frame, where it did not.
    last_used: Option<u64>,
}

impl<'a, 'v> Walk<'a, 'v> {
    /// Shows `take` what lies above `oldest`.
    pub(super) fn new(place: &'a LogDir, oldest: Lsn, take: &'a mut Taker<'v>, found: Found) -> Self {
        Walk { place, oldest: oldest.get(), take, found, records: Records::default(), last: 0 }
    }

    /// Notes a part that is lost, with the record whose begin it cuts off from its end.
    fn lose(&mut self, path: &Path, from: u64, to: Option<u64>, cause: LossCause) {
        let from = self.records.give_up().map_or(from, |unended| unended.begin).max(self.oldest);
        if to.is_none_or(|to| to > from) {
            let (from, to) = (Lsn::new(from), to.map(Lsn::new));
            self.found.lost.push(Gap { file: path.to_owned(), from, to, cause });
        }
    }

    fn lose_segment(&mut self, base: u64, to: Option<u64>) {
        let path = self.place.path(&file_name(base));
        let known = self.found.bad_files.iter().find(|bad| bad.file == path).map(|bad| bad.cause);
        let unreadable = known.filter(|cause| matches!(cause, LossCause::Unreadable { .. }));
        self.lose(&path, base, to, unreadable.unwrap_or(LossCause::Damaged(DamageCause::MissingSegment)));
    }

    pub(super) fn incarnation(&mut self, parts: &IncarnationParts, marked: u64) -> Result<()> {
        let mut expected = parts.begin.map(|begin| begin.max(self.oldest));
        let extent = self.survey(parts, marked);
        if self.found.history && !parts.listed && extent.last_used.is_some() {
            self.found.history = false;
            let cause = LossCause::Damaged(DamageCause::BadHistory);
            self.found.bad_files.push(BadFile { file: self.place.path(FILE_NAME), cause });
        }
        for (base, copies) in &parts.segments {
            let info = &copies[0];
            if extent.end.is_some_and(|end| *base >= end) || info.header.limit() <= self.oldest {
                continue;
            }
            match expected {
                Some(expected) if expected < *base => self.lose_segment(expected, Some(*base)),
                // Without HISTORY the segment itself tells that it is not the first.
                None if info.header.previous < *base => {
                    // Nothing above what is shown was retired, so that more than the one before it may be missing.
                    let shown = self.last.max(self.oldest);
                    let previous = info.header.previous;
                    let from = if shown > 0 { shown.min(previous) } else { previous };
                    self.lose_segment(from, Some(*base));
                }
                _ => {}
            }
            self.note_longer(copies, &extent);
            self.segment(copies, &extent)?;
            expected = Some(info.header.limit());
        }
        let covered = expected.unwrap_or(0);
        match (extent.end, extent.last_used.and_then(|base| parts.segments.get(&base))) {
            (Some(end), _) if covered < end && end > self.oldest => self.lose_segment(covered, Some(end)),
            (None, Some(last)) if parts.listed || extent.durable > covered => {
                // No position past the midpoint is handed out before the next segment is there.
                let full = extent.highest > last[0].header.midpoint() && last[0].header.limit() == covered;
                let proven = (extent.durable > covered).then_some(extent.durable);
                if full || proven.is_some() {
                    self.lose_segment(covered, proven);
                }
            }
            (None, None) if parts.listed && parts.segments.is_empty() => self.lose_segment(covered, None),
            _ => {}
        }
        // Nothing goes on behind the end of an incarnation: a record that was not finished was dropped.
        self.records.give_up();
        Ok(())
    }

    /// Notes a file that is longer than its segment. Nothing is missing by that, and an open refuses it all the same,
    /// unless the segment was cut at the end of its incarnation, where only the least length is known.
    fn note_longer(&mut self, copies: &[SegmentInfo], extent: &Extent) {
        for info in copies {
            let may_be_cut = extent.end.is_some_and(|end| end < info.header.limit());
            let is_noted = self.found.bad_files.iter().any(|bad| bad.file == info.path);
            if info.length > info.header.size && !may_be_cut && !is_noted {
                let cause = LossCause::Damaged(DamageCause::WrongLength);
                self.found.bad_files.push(BadFile { file: info.path.clone(), cause });
            }
        }
    }

    /// How far the incarnation came, by its own frames and the mark.
    fn survey(&self, parts: &IncarnationParts, marked: u64) -> Extent {
        let durable = marked.max(parts.begin.unwrap_or(0));
        let mut extent = Extent { end: parts.end, durable, highest: 0, last_used: None };
        if parts.end.is_some() {
            return extent;
        }
        for (base, copies) in &parts.segments {
            let Ok(mut copies) = Copies::open(self.place, copies) else { continue };
            for frames in &mut copies.frames {
                let mut from = copies.info.first_frame();
                while let Some((_, header)) = frames.next_whole(from) {
                    extent.durable = extent.durable.max(header.durable);
                    extent.highest = extent.highest.max(header.lsn);
                    extent.last_used = Some(*base);
                    from = header.lsn;
                }
            }
        }
        extent
    }

    fn segment(&mut self, copies: &[SegmentInfo], extent: &Extent) -> Result<()> {
        let info = &copies[0];
        let until = extent.end.map_or(info.header.limit(), |end| end.min(info.header.limit()));
        let mut copies = match Copies::open(self.place, copies) {
            Ok(copies) => copies,
            Err(error) => {
                self.lose(&info.path, info.base(), Some(until), LossCause::of_io(&error));
                return Ok(());
            }
        };
        let mut position = info.first_frame();
        while position < until {
            let (copy, frame) = copies.at(position);
            if let Some(header) = frame.whole().filter(|header| header.lsn <= until) {
                self.accept(&mut copies, copy, position, header)?;
                position = header.lsn;
                continue;
            }
            // Too little is left for a frame; but the size of a segment whose header is gone is only a guess.
            if info.header.place(position).is_none() {
                break;
            }
            match copies.next_whole(position + WORD).filter(|at| *at < until) {
                Some(at) => {
                    self.lose(&info.path, position, Some(at), cause(&copies, &frame, extent));
                    position = at;
                }
                None => {
                    self.rest(&copies, &frame, until, extent);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Nothing whole is left in the segment from `frame` on: the end of the log, or a loss.
    fn rest(&mut self, copies: &Copies<'_>, frame: &Frame, until: u64, extent: &Extent) {
        let (info, start) = (copies.info, frame.start);
        let cause = cause(copies, frame, extent);
        if extent.end.is_some() || extent.last_used.is_some_and(|last| info.base() < last) {
            self.lose(&info.path, start, Some(until), cause);
            return;
        }
        // The segment may have been cut at the end of its incarnation; only HISTORY, which is gone, could tell.
        let may_be_cut = !self.found.history && start >= copies.end;
        let verdict = verdict(frame.state, start < extent.durable, false);
        if !may_be_cut && matches!(verdict, Verdict::Damage | Verdict::Unreadable) {
            let proven = (extent.durable > start).then_some(extent.durable);
            let to = frame.header.map(|header| header.lsn).max(proven);
            // How much was cut off is not known, whatever is proven of it.
            let to = to.filter(|_| cause != LossCause::Damaged(DamageCause::WrongLength));
            self.lose(&info.path, start, to, cause);
        }
    }

    fn accept(&mut self, copies: &mut Copies<'_>, copy: usize, start: u64, header: &Header) -> Result<()> {
        let path = &copies.info.path;
        if header.lsn <= self.oldest || header.lsn <= self.last {
            return Ok(());
        }
        if header.kind.begins() && self.records.has_unended() {
            self.lose(path, start, Some(start), LossCause::Damaged(DamageCause::Impossible));
        }
        let payload = match copies.frames[copy].payload(header) {
            Ok(payload) => payload,
            Err(error) => {
                self.lose(path, start, Some(header.lsn), LossCause::of(&error, DamageCause::WrongLength));
                return Ok(());
            }
        };
        match self.records.add(start, header.kind, payload) {
            Piece::GoesOn => {}
            Piece::Headless => self.lose_more(path, start, header.lsn),
            Piece::Record { begin, payload } => {
                if !(self.take)(Lsn::new(header.lsn), &payload)? {
                    self.lose(path, begin, Some(header.lsn), LossCause::NotATransaction);
                }
                self.last = header.lsn;
            }
        }
        Ok(())
    }

    /// A part of a record whose begin was lost goes with it.
    fn lose_more(&mut self, path: &Path, start: u64, end: u64) {
        match self.found.lost.last_mut() {
            Some(lost) if lost.to.is_some_and(|to| to.get() <= start) && lost.from.get() >= self.last => {
                lost.to = Some(Lsn::new(end));
            }
            _ => self.lose(path, start, Some(end), LossCause::Damaged(DamageCause::MissingSegment)),
        }
    }
}

/// Why the frame is lost.
fn cause(copies: &Copies<'_>, frame: &Frame, extent: &Extent) -> LossCause {
    let cut_through = frame.header.is_some_and(|header| header.lsn > copies.end);
    if frame.start >= copies.end || cut_through {
        return LossCause::Damaged(DamageCause::WrongLength);
    }
    if let Some(error) = &frame.error {
        return LossCause::of_io(error);
    }
    let below = extent.end.is_some() || frame.start < extent.durable;
    match verdict(frame.state, below, true) {
        Verdict::TornTail | Verdict::EndOfLog => LossCause::Torn,
        Verdict::Damage | Verdict::Unreadable | Verdict::Accept => LossCause::Damaged(cause_of(frame.state)),
    }
}
