//! One life of a database on a simulated disk: opened, worked with, closed; with a crash point before every operation
//! that changes the disk and within every sync.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use forelog::sim::{self, CrashPoint, Fault, FaultKind, OpEvent, OpKind, OpSelector, Phase, SimDisk};
use forelog::{Engine, ErrorKind, Incarnation, Lsn, Outcome, Poisoned};

use super::backups::is_in_backup;
use super::log::{Names, Segments, check_log, held, place_creations, read_log};
use super::notes::{Event, Notes, View};
use super::table_faults::TableFault;
use super::workload::{Plan, run_clients};
use crate::segments::{self, base_of};
use crashkit::Random;
use crashkit::event::Name;
use crashkit::judge::{Expected, ask};
use crashkit::ledger::Ending;
use crashkit::model::{History, Placed, State};

/// The directory of the database, one below the root, so that its creation is part of the runs.
pub const DIR: &str = "db";

/// What a life begins with, and what is known about it.
#[derive(Clone, Default)]
pub struct Past {
    /// What was told, and what a look at the disk has found. Its commits are those above the base: they are readable, and
    /// not yet proven durable until open has returned.
    pub ledger: View,
    /// What no crash can take any more, and its LSN.
    pub base: State,
    pub base_lsn: Lsn,
    /// The open of the life before had returned, and so answered for its tokens.
    pub answered: bool,
    /// It was closed, and nothing was lost since, so that opening it writes nothing.
    pub clean: bool,
    /// HISTORY names the MANIFEST that is there, if there is one: a life that began has replaced HISTORY at its close.
    pub is_named: bool,
    /// What the next open must say of the life before.
    pub crashed: Option<Option<Incarnation>>,
    /// Keyspaces by their number in the log.
    pub names: Names,
}

impl Past {
    /// The LSN up to which this life's open must recover.
    pub fn readable(&self) -> Lsn {
        self.ledger.floor(Ending::Process).max(self.base_lsn)
    }

    /// The commit order as far as the clients were told of it.
    fn history(&self, told: &View) -> History {
        let above = |commit: &Placed| commit.lsn > self.base_lsn;
        History::new(self.base.clone(), self.base_lsn, told.placed().into_iter().filter(above).collect())
    }

    /// Compares an engine that was just opened on the disk that this is about.
    fn check(&self, engine: &Engine) -> Result<(), String> {
        let history = self.history(&self.ledger);
        let (floor, ceiling, crashed) = (self.readable(), self.readable(), self.crashed);
        let expected = Expected { floor, ceiling, crashed, ..Expected::of(&history, &self.ledger.tokens) };
        expected.compare(engine).map(drop).map_err(|violation| violation.to_string())
    }
}

/// The part of a disk that an operation changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// What is not in `table/`.
    Log,
    Table,
    Backup,
}

/// A moment at which the machine or the process may die.
#[derive(Debug)]
pub struct Cut {
    pub crash: CrashPoint,
    /// The moment in the journal.
    pub moment: usize,
    /// What the disk was asked for.
    pub op: String,
    /// A flush was inside its fsync.
    pub flushing: bool,
    /// Where it was asked for that.
    pub place: Place,
    /// Log bytes were written and no fsync of them had begun.
    pub dirty: bool,
    /// A planned fault had struck.
    pub failed: bool,
    /// It took what was written, and not synced, from the kernel's cache.
    pub cache_lost: bool,
}

/// A life that is over.
pub struct Life {
    pub plan: Plan,
    pub cuts: Vec<Cut>,
    /// Places where it could have been cut, besides its ends.
    pub boundaries: usize,
    /// Snapshots that were compared with the commit order.
    pub snapshots: usize,
    /// Memory was forgotten.
    pub forgot: bool,
    /// The ledger before, every event with its time, and the ledger after all of them.
    before: View,
    events: Vec<(Duration, Event)>,
    pub told: View,
    pub history: History,
    pub poison: Option<Poisoned>,
    pub names: Names,
}

impl Life {
    /// What was known at a moment, and where the commits that had not returned have found their place.
    pub fn at(&self, moment: usize) -> View {
        let mut view = replay(self.before.clone(), &self.events[..moment]).expect("the whole was heard");
        view.learn_places(&self.told);
        view
    }

    /// When a commit was acknowledged, in simulated time.
    pub fn acknowledged(&self, commit: &Name) -> Duration {
        let of_it = |event: &Event| matches!(event, Event::Ack(name, ..) if name == commit);
        self.events.iter().find(|(_, event)| of_it(event)).map_or(Duration::ZERO, |(time, _)| *time)
    }
}

fn replay(mut ledger: View, events: &[(Duration, Event)]) -> Result<View, String> {
    events.iter().try_for_each(|(_, event)| ledger.hear(event.clone()))?;
    Ok(ledger)
}

/// Which fsyncs of a life fail.
#[derive(Clone, Copy, Debug)]
pub enum Faults {
    None,
    /// Whatever is injected beforehand, with this end of the pages.
    Injected(sim::Pages),
    /// One fsync of the log itself.
    Log {
        /// Of which segment, counted from the first of this life.
        segment: usize,
        /// After how many others of it.
        skip: u64,
        pages: sim::Pages,
    },
    /// One call in `table/`, or all from one on, after open has returned. The log is not harmed by it.
    Table(TableFault),
}

impl Faults {
    fn pages(&self) -> Option<sim::Pages> {
        match self {
            Faults::None | Faults::Table(_) => None,
            Faults::Injected(pages) | Faults::Log { pages, .. } => Some(*pages),
        }
    }
}

#[derive(Default)]
struct Recording {
    cuts: Vec<Cut>,
    /// Segments in use. They are known by the name they were created under.
    segments: HashSet<PathBuf>,
    flushing: bool,
    dirty: bool,
    /// Changes made before open returned, the lock excepted.
    changes_by_open: Vec<String>,
    /// Operations that change the disk, and syncs in flight.
    boundaries: usize,
    /// What was removed since open has returned.
    removed: Segments,
    /// The last generation of MANIFEST that was tried.
    generation: u64,
    /// The numbers that files in `table/` were given. A checkpoint and a merge beside it take theirs in any order.
    numbers: BTreeSet<u64>,
}

impl Recording {
    /// P7: no generation and no number is used twice.
    fn check_numbers(&mut self, disk: &SimDisk, op: &OpEvent<'_>) -> Result<(), String> {
        const GENERATION: usize = 48;
        let bytes = || disk.read_file(op.path).unwrap_or_default();
        let number = || u64::from_str_radix(op.path.file_stem()?.to_str()?, 16).ok();
        let (used, is_new) = if op.kind == OpKind::Rename {
            let generation = bytes().get(GENERATION..).and_then(|bytes| bytes.first_chunk()).copied();
            let Some(tried) = generation.map(u64::from_le_bytes) else { return Ok(()) };
            let last = std::mem::replace(&mut self.generation, tried);
            (tried, tried > last)
        } else {
            let Some(number) = number() else { return Ok(()) };
            (number, self.numbers.insert(number))
        };
        if is_new { Ok(()) } else { Err(format!("P7: {} is {used} once more", op.path.display())) }
    }
}

#[derive(Clone)]
struct Recorder {
    notes: Notes,
    recording: Arc<Mutex<Recording>>,
    faults: Faults,
    cut_every: u64,
}

impl Recorder {
    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.recording.lock().expect("nobody panics with the recording in hand")
    }

    fn cut(&self, disk: &SimDisk, op: String, place: Place) {
        let failed = !matches!(self.faults, Faults::None) && disk.fault_hits() > 0;
        let cache_lost = failed && self.faults.pages() == Some(sim::Pages::RevertOld);
        let (crash, moment) = (disk.crash_point(), self.notes.journal.now());
        let mut recording = self.recording();
        let Recording { flushing, dirty, .. } = *recording;
        recording.cuts.push(Cut { crash, moment, op, flushing, place, dirty, failed, cache_lost });
    }

    fn observe(&self, disk: &SimDisk, op: &OpEvent<'_>, opened: bool) {
        let when = if op.phase == Phase::InFlight { "within" } else { "before" };
        let name = format!("{when} op {} ({:?} of {})", op.number, op.kind, op.path.display());
        if is_in_backup(op.path) {
            self.recording().boundaries += 1;
            if op.number.is_multiple_of(self.cut_every) {
                self.cut(disk, name, Place::Backup);
            }
            return;
        }
        let of_the_log = self.recording().segments.contains(op.path);
        let in_table = op.path.iter().any(|part| part == "table");
        if in_table && matches!(op.kind, OpKind::Rename | OpKind::Create) {
            let checked = self.recording().check_numbers(disk, op);
            checked.unwrap_or_else(|error| self.notes.journal.wrong(error));
        }
        self.recording().boundaries += 1;
        if op.number.is_multiple_of(self.cut_every) {
            self.cut(disk, name, if in_table { Place::Table } else { Place::Log });
        }
        let mut recording = self.recording();
        match (op.kind, op.phase) {
            (OpKind::Write, _) if of_the_log => recording.dirty = true,
            (OpKind::Sync, Phase::Before) if of_the_log => (recording.flushing, recording.dirty) = (true, false),
            (OpKind::Sync, Phase::InFlight) if of_the_log => recording.flushing = false,
            (OpKind::Rename, _) if op.path.to_string_lossy().ends_with(".log.tmp") => {
                if let Faults::Log { segment, skip, pages } = self.faults
                    && segment == recording.segments.len()
                {
                    let which = OpSelector::of(OpKind::Sync).on(op.path.to_string_lossy()).skip(skip);
                    disk.inject(Fault::once(which, FaultKind::SyncFails { pages }));
                }
                recording.segments.insert(op.path.to_owned());
            }
            (OpKind::Remove, _) if opened => {
                if let Some((base, bytes)) = base_of(op.path).zip(disk.read_file(op.path).ok()) {
                    recording.removed.insert(base, bytes);
                }
            }
            _ => {}
        }
        if !opened && op.kind != OpKind::Lock {
            recording.changes_by_open.push(format!("{:?} of {}", op.kind, op.path.display()));
        }
    }
}

/// Lives one life on `disk`, which `past` tells about; what was seen in it that must not be is the error.
pub fn live(seed: u64, disk: &SimDisk, past: &Past, plan: Plan, faults: Faults) -> Result<Life, String> {
    let may_fail = !matches!(faults, Faults::None | Faults::Table(_));
    let mut before = past.ledger.clone();
    before.begin();
    let notes = Notes::new(before.clone(), may_fail);
    let recorder = Recorder { notes: notes.clone(), recording: Arc::default(), faults, cut_every: plan.cut_every };
    let mut random = Random::new(seed);
    disk.set_sync_latency(plan.sync_latency);
    for (skip, time) in &plan.stalls {
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync).skip(*skip), FaultKind::Stall(*time)));
    }
    let observer = recorder.clone();
    disk.on_op(move |disk, op| observer.observe(disk, op, observer.notes.journal.now() > 0));
    let mut forgot = false;
    let poison = sim::run(seed, || {
        let opened = plan.options().open_on(Arc::new(disk.clone()), DIR);
        let engine = opened.map_err(|error| notes.expect(&error, &[])).ok()?;
        let mut changes = std::mem::take(&mut recorder.recording().changes_by_open);
        // Otherwise it is written again (T4).
        changes.retain(|change| past.is_named || !change.contains("table"));
        if past.clean && !changes.is_empty() {
            notes.journal.wrong(format!("I14: open changed the disk after a clean close: {changes:?}"));
        }
        past.check(&engine).unwrap_or_else(|error| notes.journal.wrong(error));
        notes.note(Event::Opened(engine.recovery().recovered_to));
        if let Faults::Table(fault) = &faults {
            disk.inject(fault.fault());
        }
        run_clients(&engine, disk, &notes, &plan);
        let stays = matches!(faults, Faults::Table(fault) if fault.stays);
        if let Faults::Table(_) = faults
            && !stays
        {
            disk.clear_faults();
            // P5: once the error is gone, the next attempt succeeds.
            notes.note(Event::Checkpoint);
            engine.checkpoint().unwrap_or_else(|error| notes.journal.wrong(format!("P5: {error:?}")));
        }
        forgot = !engine.table_stats().all_in_memory;
        recorder.cut(disk, "at rest".to_owned(), Place::Log);
        notes.note(Event::Closing);
        let poison = engine.poisoned().cloned();
        if let Some(poison) = &poison {
            check_poisoned(&engine, poison, past, &notes.journal.ledger())
                .unwrap_or_else(|error| notes.journal.wrong(error));
        }
        if random.one_in(2) {
            match engine.close() {
                Ok(()) if poison.is_some() => notes.journal.wrong("I11: a poisoned engine closed as if nothing was"),
                Ok(()) => {}
                Err(error) => notes.expect(&error, &[]),
            }
        }
        drop(engine);
        if !may_fail {
            notes.note(Event::Closed);
            if !stays {
                check_files(disk).unwrap_or_else(|error| notes.journal.wrong(error));
            }
        }
        recorder.cut(disk, "after the close".to_owned(), Place::Log);
        poison
    });
    disk.clear_on_op();
    disk.clear_faults();
    let missing = notes.journal.missing_callbacks();
    if missing > 0 {
        notes.journal.wrong(format!("I18: {missing} callbacks never came"));
    }
    if let Some(wrong) = notes.journal.first_wrong() {
        return Err(wrong);
    }
    let mut events = notes.journal.events();
    let mut names = past.names.clone();
    let log = held(disk, std::mem::take(&mut recorder.recording().removed));
    let records = if may_fail { None } else { Some(read_log(&log, &mut names)?) };
    if let Some(records) = &records {
        place_creations(records, past, &mut events);
    }
    let told = replay(before.clone(), &events)?;
    let history = past.history(&told);
    if let Some(records) = records {
        check_log(&records, past, &history)?;
    }
    if let Some(index) = history.states.iter().position(|state| !state.bank_adds_up()) {
        return Err(format!("I6: the accounts do not add up after the commit at {}", history.lsns[index]));
    }
    let seen = notes.take_seen();
    for (lsn, state) in &seen {
        let index = history.index_of(*lsn);
        if history.lsns[index] != *lsn || history.states[index] != *state {
            return Err(format!("I15: a snapshot at {lsn} did not show the commits up to there"));
        }
    }
    let mut recording = recorder.recording();
    let (cuts, boundaries) = (std::mem::take(&mut recording.cuts), recording.boundaries);
    drop(recording);
    Ok(Life { plan, cuts, boundaries, snapshots: seen.len(), forgot, before, events, told, history, poison, names })
}

/// I13: after a clean close nothing is left over: no file under preparation, no segment without log. What nothing needs in
/// `table/` the next open would remove, which is not to change the disk (I14).
fn check_files(disk: &SimDisk) -> Result<(), String> {
    let files: Vec<_> = disk.files().into_iter().filter(|(path, _)| !is_in_backup(path)).collect();
    // A life without tables leaves what an attempt before it has left: the next attempt removes it.
    let has_tables = files.iter().any(|(path, _)| path.ends_with("table/MANIFEST"));
    for (path, bytes) in files {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let belongs = match name {
            "LOCK" | "HISTORY" | "MARK" => true,
            file if path.parent().is_some_and(|parent| parent.ends_with("table")) => {
                !file.ends_with(".tmp") || !has_tables
            }
            _ if path.parent().is_some_and(|parent| parent.ends_with("table.old")) => true,
            segment => segment.ends_with(".log") && bytes.len() > segments::HEADER,
        };
        if !belongs {
            return Err(format!("I13: {} of {} bytes is left after a clean close", path.display(), bytes.len()));
        }
    }
    Ok(())
}

/// I11, I18: after a failure nothing more is acknowledged as durable, nothing more gets a place, reads go on, and every
/// commit in doubt is said to be so.
fn check_poisoned(engine: &Engine, poison: &Poisoned, past: &Past, told: &View) -> Result<(), String> {
    let (floor, history) = (told.durable(), past.history(told));
    if floor > poison.durable || engine.durable_lsn() != poison.durable {
        let durable = engine.durable_lsn();
        return Err(format!("I11: {floor} was said to be durable, it is {durable} now: {poison:?}"));
    }
    if let Some(last) = history.lsns.last().filter(|last| **last > poison.appended) {
        return Err(format!("I11: {last} got its place after the failure: {poison:?}"));
    }
    let seen = history.index_of(engine.visible_lsn());
    history.states[seen].compare(engine).map_err(|error| format!("I11: reads do not go on: {error}"))?;
    for token in told.life().commits.values().filter_map(|commit| commit.token) {
        let right = if token.lsn <= poison.durable { Outcome::Durable } else { Outcome::Indeterminate };
        ask(|token| engine.outcome(token), &token, right).map_err(|violation| violation.to_string())?;
    }
    match engine.create_keyspace("too late") {
        Err(error) if error.kind() == ErrorKind::Poisoned => Ok(()),
        other => Err(format!("I11: a commit after the failure: {other:?}")),
    }
}
