//! What the tests of the log share: logs written by the log, logs written by hand, and what opening them finds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::base::error::{DamageCause, Error, ErrorKind, Result};
use crate::base::options::LossBudget;
use crate::base::types::{CommitMode, Incarnation, LogId, Lsn, Outcome, Token};
use crate::disk::sim::{CrashPoint, Granularity, Loss, OpKind, Phase, SimDisk};
use crate::format::fill::Fill;
use crate::format::frame::{self, Header, Kind};
use crate::format::history::{End, Entry, History};
use crate::format::identity::Identity;
use crate::format::segment::{SEGMENT_HEADER, SegmentHeader, file_name};
use crate::log::{Handle, Log, LogOptions, Prior, open};
use crate::rt::schedule;

pub(crate) const DIR: &str = "log";
/// The size of every segment.
pub(crate) const SEGMENT: u64 = 4096;

/// An LSN and what was appended there.
pub(crate) type Records = Vec<(Lsn, Vec<u8>)>;
/// Files by path, with their bytes.
pub(crate) type Files = Vec<(PathBuf, Vec<u8>)>;

/// Small segments, and no flush that the test did not ask for.
pub(crate) fn options() -> LogOptions {
    let budget = LossBudget::default().max_age(Duration::from_secs(360_000));
    LogOptions::new()
        .segment_bytes(SEGMENT)
        .loss_budget(budget)
        .flush_interval(Duration::from_secs(360_000))
        .flush_bytes(budget.max_bytes)
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

pub(crate) fn segment_path(base: u64) -> PathBuf {
    path(&file_name(base))
}

/// An open log and what it showed while it was opened.
pub(crate) struct Opened {
    pub(crate) log: Log,
    pub(crate) records: Records,
}

pub(crate) fn open(disk: &SimDisk) -> Result<Opened> {
    open_knowing(disk, Prior::default())
}

/// Opens, with what is known of the log from elsewhere.
pub(crate) fn open_knowing(disk: &SimDisk, prior: Prior) -> Result<Opened> {
    let mut records = Records::new();
    let handle: Handle = crate::disk::claim(disk, DIR.as_ref(), true, |claim| {
        records.clear();
        let mut replay = |lsn: Lsn, payload: &[u8]| {
            records.push((lsn, payload.to_vec()));
            Ok(())
        };
        open::read(claim, true, &mut |_, _| Ok(prior))?.decide(&mut replay)?.settle(
            options().settings,
            |_| Ok(true),
            |_| Ok((true, None)),
        )
    })?;
    Ok(Opened { log: Log { handle: Arc::new(handle) }, records })
}

/// All files but the empty LOCK, which an open may leave.
pub(crate) fn files(disk: &SimDisk) -> Files {
    disk.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
}

/// A copy of the disk, with nothing pending.
pub(crate) fn copy(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::new();
    for (path, bytes) in disk.files() {
        copy.write_file(path, &bytes).unwrap();
    }
    copy
}

/// Opens, and asserts that this is refused as damage, by this cause at this position, and that no byte was changed.
pub(crate) fn assert_refused(disk: &SimDisk, cause: DamageCause, lsn: u64, what: &str) -> Error {
    let error = assert_damaged(disk, what);
    let damage = error.damage().unwrap();
    assert_eq!((damage.cause, damage.lsn), (cause, Lsn::new(lsn)), "{what}: {error}");
    error
}

/// Opens, and asserts that this is refused as damage, and that no byte was changed, then or by the refusal.
pub(crate) fn assert_damaged(disk: &SimDisk, what: &str) -> Error {
    let before = files(disk);
    let error = match open(disk) {
        Ok(opened) => panic!("{what}: opened with {} records", opened.records.len()),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error}");
    assert!(error.damage().is_some(), "{what}: {error}");
    assert!(files(disk) == before, "{what}: the refusal changed a byte");
    error
}

/// Opens, and asserts that this is refused because of an error of the operating system, and that no byte was changed.
pub(crate) fn assert_unreadable(disk: &SimDisk, what: &str) -> Error {
    let before = files(disk);
    let error = match open(disk) {
        Ok(opened) => panic!("{what}: opened with {} records", opened.records.len()),
        Err(error) => error,
    };
    assert_eq!((error.kind(), error.damage()), (ErrorKind::Io, None), "{what}: {error}");
    assert!(error.io_error().is_some(), "{what}: {error}");
    assert!(files(disk) == before, "{what}: the refusal changed a byte");
    error
}

/// Opens and closes, and asserts that it holds `expected`, also when it is scanned and when it is opened again, and
/// that the second time changes nothing.
pub(crate) fn assert_holds(disk: &SimDisk, expected: &Records, what: &str) {
    let opened = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_same(&opened.records, expected, what);
    let scanned: Result<Records> =
        opened.log.scan(Lsn::ZERO).unwrap().map(|record| record.map(|record| (record.lsn, record.payload))).collect();
    let oldest = opened.log.oldest_lsn();
    let retained: Records = expected.iter().filter(|(lsn, _)| *lsn > oldest).cloned().collect();
    assert_same(&scanned.unwrap(), &retained, what);
    let begun = opened.log.inner().incarnations().look(|known| !known.history.entries.is_empty());
    opened.log.close().unwrap();
    let settled = files(disk);
    let changes = count_changes(disk, || {
        assert_same(&open(disk).unwrap_or_else(|error| panic!("{what}, again: {error}")).records, expected, what);
    });
    // A HISTORY that lists nothing is written again: its creation may have been cut off.
    assert!(changes == 0 || !begun, "{what}: the second open made {changes} changes");
    assert!(files(disk) == settled, "{what}: the second open changed a byte");
}

pub(crate) fn assert_same(found: &Records, expected: &Records, what: &str) {
    let lsns = |records: &Records| records.iter().map(|(lsn, _)| *lsn).collect::<Vec<_>>();
    assert_eq!(lsns(found), lsns(expected), "{what}");
    assert!(found == expected, "{what}: a payload differs");
}

/// How many operations that change something `action` makes, locks apart.
pub(crate) fn count_changes(disk: &SimDisk, action: impl FnOnce()) -> u64 {
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    disk.on_op(move |_, op| {
        if op.kind != OpKind::Lock && op.phase == Phase::Before {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    action();
    disk.clear_on_op();
    count.load(Ordering::Relaxed)
}

/// Every moment of `action` at which the power may go, the first and the last included.
pub(crate) fn crash_points(disk: &SimDisk, action: impl FnOnce()) -> Vec<CrashPoint> {
    let points = Arc::new(Mutex::new(vec![disk.crash_point()]));
    let taken = Arc::clone(&points);
    disk.on_op(move |disk, _| taken.lock().unwrap().push(disk.crash_point()));
    action();
    disk.clear_on_op();
    let mut points = std::mem::take(&mut *points.lock().unwrap());
    points.push(disk.crash_point());
    points
}

/// A record as the client knows it.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) token: Token,
    pub(crate) payload: Vec<u8>,
}

/// What one client did to a log, and where that left the disk.
pub(crate) struct Session {
    /// The moment after the last append.
    pub(crate) crash: CrashPoint,
    pub(crate) issued: Vec<Issued>,
    /// Everything up to here was durable at that moment.
    pub(crate) durable: Lsn,
}

impl Session {
    pub(crate) fn records(&self) -> Records {
        self.issued.iter().map(|issued| (issued.token.lsn, issued.payload.clone())).collect()
    }

    /// How many records were durable.
    pub(crate) fn durable_records(&self) -> usize {
        self.issued.iter().filter(|issued| issued.token.lsn <= self.durable).count()
    }
}

/// A payload that tells which one it is.
pub(crate) fn payload(number: usize, length: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let step = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| step(&mut state)).collect()
}

/// Appends records of these lengths in these modes, to whatever is on the disk, and stops. Deterministic; everything
/// that was being prepared in the background is there.
pub(crate) fn session(disk: &SimDisk, seed: u64, steps: &[(usize, CommitMode)]) -> Session {
    schedule::run(seed, || {
        let opened = open(disk).expect("the log opens");
        let mut issued = Vec::new();
        for (number, (length, mode)) in steps.iter().enumerate() {
            let payload = payload(number, *length);
            let receipt = opened.log.append(&payload, *mode).expect("the append succeeds");
            issued.push(Issued { token: receipt.token(), payload });
            schedule::sleep(Duration::from_millis(1));
        }
        let session = Session { crash: disk.crash_point(), issued, durable: opened.log.durable_lsn() };
        // Closing writes to a disk that nobody looks at any more.
        drop(opened);
        session
    })
}

/// Like [`session`], and closes the log.
pub(crate) fn closed_session(disk: &SimDisk, seed: u64, steps: &[(usize, CommitMode)]) -> Session {
    let session = session(disk, seed, steps);
    Session { crash: disk.crash_point(), durable: session.issued.last().map_or(Lsn::ZERO, |i| i.token.lsn), ..session }
}

/// Asserts that `log`, which holds `records`, answers each token by whether its record is there.
pub(crate) fn assert_outcomes(log: &Log, records: &Records, issued: &[Issued], what: &str) {
    for Issued { token, .. } in issued {
        let there = records.binary_search_by_key(&token.lsn, |(lsn, _)| *lsn).is_ok();
        let expected = if there { Outcome::Durable } else { Outcome::Lost };
        assert_eq!(log.outcome(token).unwrap(), expected, "{what}: {token}");
    }
}

/// A log written by hand: one open incarnation, or what a test makes of it.
#[derive(Clone)]
pub(crate) struct Sketch {
    pub(crate) history: History,
    /// By base, each with its file's bytes.
    pub(crate) segments: BTreeMap<u64, (SegmentHeader, Vec<u8>)>,
}

pub(crate) const FIRST_FRAME: u64 = SEGMENT_HEADER;

impl Sketch {
    /// One open incarnation with its first segment, empty.
    pub(crate) fn new() -> Self {
        let mut history = History::new(LogId([7; 16]));
        let incarnation = Incarnation { number: 1, nonce: 0xABCD };
        history.entries.push(Entry { incarnation, key: 0x1234_5678, begin: Lsn::ZERO, end: None });
        let mut sketch = Sketch { history, segments: BTreeMap::new() };
        sketch.add_segment(0);
        sketch
    }

    pub(crate) fn identity(&self, base: u64) -> Identity {
        let entry = self.history.entries.iter().rev().find(|entry| entry.begin.get() <= base).unwrap();
        Identity { log_id: self.history.log_id, incarnation: entry.incarnation, key: entry.key, base }
    }

    /// Adds a segment, of the last incarnation that begins at or below it.
    pub(crate) fn add_segment(&mut self, base: u64) {
        let identity = self.identity(base);
        let before = base.checked_sub(SEGMENT).and_then(|before| self.segments.get(&before));
        let same_incarnation = before.filter(|(header, _)| header.identity.incarnation == identity.incarnation);
        let previous = same_incarnation.map_or(base, |(header, _)| header.identity.base);
        let header = SegmentHeader { identity, size: SEGMENT, previous, features: 0 };
        let mut bytes = vec![0; 4096];
        Fill::new(identity).write(&mut bytes, base);
        bytes[..512].copy_from_slice(&header.to_bytes());
        self.segments.insert(base, (header, bytes));
    }

    /// The bytes of the file at `position`.
    pub(crate) fn at(&mut self, position: u64, length: usize) -> &mut [u8] {
        let base = position / SEGMENT * SEGMENT;
        let offset = usize::try_from(position - base).unwrap();
        &mut self.segments.get_mut(&base).unwrap().1[offset..offset + length]
    }

    /// Writes a frame, and returns where it ends.
    pub(crate) fn frame(&mut self, position: u64, kind: Kind, payload: &[u8], durable: u64) -> u64 {
        let lsn = position + frame::frame_len(payload.len() as u64);
        let checksum = self.identity(position / SEGMENT * SEGMENT).checksum();
        let bytes = self.at(position, usize::try_from(lsn - position).unwrap());
        let length = u32::try_from(payload.len()).unwrap();
        let header = Header { payload_crc: frame::payload_crc(payload), lsn, durable: 0, length, kind };
        bytes.fill(0);
        header.write(bytes);
        bytes[32..32 + payload.len()].copy_from_slice(payload);
        frame::seal(bytes, &checksum, durable);
        lsn
    }

    /// Makes `length` bytes read as if nothing had landed there.
    pub(crate) fn unland(&mut self, position: u64, length: usize) {
        let fill = Fill::new(self.identity(position / SEGMENT * SEGMENT));
        fill.write(self.at(position, length), position);
    }

    /// Ends the last incarnation there.
    pub(crate) fn end(&mut self, lsn: u64, prepared: u64) {
        let entry = self.history.entries.last_mut().unwrap();
        entry.end = Some(End { lsn: Lsn::new(lsn), prepared: Lsn::new(prepared), clean: false });
    }

    pub(crate) fn disk(&self) -> SimDisk {
        let disk = SimDisk::new();
        disk.write_file(path("HISTORY"), &self.history.to_bytes()).unwrap();
        for (base, (_, bytes)) in &self.segments {
            disk.write_file(segment_path(*base), bytes).unwrap();
        }
        disk
    }
}

/// Twelve records over three segments, in mixed modes, the last of them synced.
pub(crate) fn twelve() -> Vec<(usize, CommitMode)> {
    use CommitMode::{Async, Sync, Written};
    let modes = [Sync, Async, Written, Async, Sync, Written, Async, Async, Written, Sync, Written, Sync];
    let lengths = [0, 8, 700, 1500, 1, 513, 3000, 40, 900, 512, 17, 200];
    lengths.into_iter().zip(modes).collect()
}

/// A disk that lost its power after those twelve: everything is durable, and the incarnation is open.
pub(crate) fn crashed_twelve() -> (SimDisk, Session) {
    let session = session(&SimDisk::new(), 12, &twelve());
    assert_eq!(session.durable_records(), 12);
    (session.crash.power_loss(&Loss::Everything, Granularity::Sector), session)
}
