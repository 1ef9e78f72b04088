//! Fault plans: one fault at the n-th operation of its kind, for every n until none is hit, over small workloads. After
//! each the process is killed or the power cut, and the disk, sound again, is opened. (There is no close among the
//! operations: the disk's files have none that could fail, and nothing relies on it.)

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forelog::sim::{self, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, SimDisk};
use forelog::{CommitMode, Error, ErrorKind, Lsn};

use super::matrix::Matrix;
use super::notes::Call;
use super::verdict::{Expected, Opened, Violation, guarded};
use super::workloads::{self, AFTER, Cut, SEED, Session, Start, Step, Workload};
use super::{in_parallel, log_plans};
use crate::crash::backups;
use crashkit::event::Event;
use crashkit::ledger::{Ending, Ledger};
use crashkit::model::{History, Write};
use crashkit::shrink::{leave_out, simplify};

pub const EINTR: i32 = 4;
pub const EIO: i32 = 5;
pub const EAGAIN: i32 = 11;
pub const EMFILE: i32 = 24;
pub const ENOSPC: i32 = 28;
const ETIMEDOUT: i32 = 110;

/// No run needs as many operations; one that does goes round in circles.
const MOST_OPERATIONS: u64 = 300_000;

/// How often a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeat {
    Once,
    Times(u32),
    Lasting,
    /// For a second of virtual time from when it first strikes.
    ForASecond,
}

/// What of the assumptions about the medium still holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// All of them.
    Full,
    /// What was written and not synced may be gone from the cache: `Written` promises no more than `Async` does.
    CacheLost,
    /// A sync says that it succeeded and did not (A2 does not hold): what is lost must be noticed, or lie above
    /// everything acknowledged before the lie (residue R1).
    Lies,
}

/// One kind of fault, for one kind of operation.
#[derive(Clone, Debug)]
pub struct Strike {
    pub name: String,
    pub op: OpKind,
    pub kind: FaultKind,
    pub repeat: Repeat,
    pub trust: Trust,
}

impl Strike {
    fn new(what: &str, op: OpKind, kind: FaultKind, repeat: Repeat) -> Self {
        let times = match repeat {
            Repeat::Once => "once".to_owned(),
            Repeat::Times(times) => format!("{times} times"),
            Repeat::Lasting => "from then on".to_owned(),
            Repeat::ForASecond => "for a second".to_owned(),
        };
        let trust = match kind {
            FaultKind::SyncFails { pages: Pages::RevertOld } => Trust::CacheLost,
            // The sync that follows tells of it: nothing was acknowledged in between.
            FaultKind::SyncFails { pages: Pages::ReportLate } if op == OpKind::StartWriteback => Trust::Full,
            FaultKind::SyncFails { pages: Pages::ReportLate } => Trust::Lies,
            _ => Trust::Full,
        };
        Strike { name: format!("{op:?}: {what}, {times}"), op, kind, repeat, trust }
    }

    pub fn inject(&self, disk: &SimDisk, n: u64) {
        let at = OpSelector::of(self.op).skip(n);
        match self.repeat {
            Repeat::Once => disk.inject(Fault::once(at, self.kind.clone())),
            Repeat::Times(times) => {
                (0..times).for_each(|_| disk.inject(Fault::once(at.clone(), self.kind.clone())));
            }
            Repeat::Lasting | Repeat::ForASecond => disk.inject(Fault::lasting(at, self.kind.clone())),
        }
    }

    fn is(&self, code: i32) -> bool {
        self.kind == FaultKind::Errno(code)
    }

    /// Whether a call may fail so.
    fn explains(&self, call: Call, error: &Error) -> bool {
        use ErrorKind::{Damaged, DiskFull, Indeterminate, Io, Poisoned};
        let reads = matches!(self.op, OpKind::Read | OpKind::Open);
        let kind = error.kind();
        match call {
            // What is too short or does not check is damaged; what the operating system refuses is an I/O error.
            _ if kind == DiskFull => self.is(ENOSPC),
            // Too many open files say nothing about the medium.
            _ if self.is(EMFILE) => matches!(kind, Io | Poisoned),
            _ if kind == Damaged && matches!(self.kind, FaultKind::Errno(_) | FaultKind::Error(_)) => false,
            _ if kind == Damaged => reads && error.damage().is_some_and(|damage| !damage.file.as_os_str().is_empty()),
            Call::Open => kind == Io,
            Call::Commit | Call::Retire => matches!(kind, Indeterminate | Poisoned | Io),
            Call::Flush | Call::Wait => kind == Indeterminate,
            Call::Close | Call::Checkpoint => matches!(kind, Poisoned | Io),
            // It makes durable what is visible.
            Call::Backup => matches!(kind, Indeterminate | Poisoned | Io),
        }
    }
}

/// Every fault on every kind of operation.
pub fn strikes() -> Vec<Strike> {
    let mut all = Vec::new();
    let mut add = |what: &str, op: OpKind, kind: FaultKind, repeats: &[Repeat]| {
        all.extend(repeats.iter().map(|repeat| Strike::new(what, op, kind.clone(), *repeat)));
    };
    use OpKind::{
        Create, CreateDir, List, Lock, Open, Read, Remove, Rename, SetLen, StartWriteback, Sync, SyncDir, Write,
    };
    let both = [Repeat::Once, Repeat::Lasting];
    for op in [Write, Read, StartWriteback, Sync, SyncDir, Open, Create, CreateDir, Rename, Remove, List, Lock, SetLen]
    {
        add("EIO", op, FaultKind::Errno(EIO), &both);
    }
    for op in [Write, StartWriteback, Sync, SyncDir, Create, CreateDir, Rename, Remove, Lock, SetLen] {
        add("ENOSPC", op, FaultKind::Errno(ENOSPC), &[Repeat::Once, Repeat::Lasting, Repeat::ForASecond]);
    }
    for op in [Open, Create, List, Lock] {
        add("EMFILE", op, FaultKind::Errno(EMFILE), &both);
    }
    for op in [Write, Read, Sync, Open, Create, Rename] {
        add("EINTR", op, FaultKind::Errno(EINTR), &[Repeat::Once, Repeat::Times(3)]);
    }
    add("EIO", Read, FaultKind::Errno(EIO), &[Repeat::Times(2), Repeat::Times(3)]);
    for op in [Write, Read, Sync] {
        add("EAGAIN", op, FaultKind::Errno(EAGAIN), &both);
    }
    for bytes in [0, 1, 8, 511, 512] {
        add(&format!("{bytes} bytes taken"), Write, FaultKind::ShortWrite(bytes), &both[..1]);
        add(&format!("EIO after {bytes} bytes"), Write, FaultKind::FailedWrite(bytes), &both[..1]);
    }
    add("512 bytes taken", Write, FaultKind::ShortWrite(512), &both[1..]);
    add("all bytes taken but 1", Write, FaultKind::ShortWriteBy(1), &both[..1]);
    for bytes in [0, 1, 511] {
        add(&format!("{bytes} bytes given"), Read, FaultKind::ShortRead(bytes), &both[..1]);
    }
    add("1 byte given", Read, FaultKind::ShortRead(1), &both[1..]);
    add("zeros given", Read, FaultKind::ZeroRead, &both);
    for bit in [0, 4096 + 5, 20_000] {
        add("one bit given wrong", Read, FaultKind::FlippedRead(bit), &both[..1]);
    }
    for (what, pages) in [
        ("EIO, new pages stay readable", Pages::KeepNew),
        ("EIO, old pages are back", Pages::RevertOld),
        ("EIO, told by the next sync", Pages::ReportLate),
    ] {
        add(what, Sync, FaultKind::SyncFails { pages }, &both);
        add(what, StartWriteback, FaultKind::SyncFails { pages }, &both);
        add(what, SyncDir, FaultKind::SyncFails { pages }, &both);
    }
    all
}

/// What became of one case; `None` if no operation was hit.
pub type Case = Result<Option<&'static str>, Violation>;

/// Runs `workload` with one fault at the n-th operation that it can hit.
pub fn run_case(workload: &Workload, strike: &Strike, n: u64) -> Case {
    guarded(|| {
        let session = Session::new(&workload.start, strike.repeat == Repeat::ForASecond);
        let session = Session { keeps_cache: strike.trust == Trust::Full, io_uring: workload.io_uring, ..session };
        let session = Session { forgetful: workload.forgetful, ..session };
        // First, so that it ends a loop that another fault keeps going.
        session.disk.inject(Fault::lasting(OpSelector::any().skip(MOST_OPERATIONS), FaultKind::Errno(ETIMEDOUT)));
        session.disk.on_op(|_, op| assert!(op.number <= MOST_OPERATIONS, "it goes round in circles"));
        strike.inject(&session.disk, n);
        sim::run(SEED, || {
            let over = Arc::new(AtomicBool::new(false));
            let longest = if session.patient { LONGEST_WAIT } else { LONGEST_RUN };
            end_a_hang(&over, longest, format!("{}/{}/{n}", workload.name, strike.name));
            if session.patient {
                make_room_after_a_second(&session.disk, &over);
            }
            workloads::run(&session, &workload.steps);
            over.store(true, Ordering::Relaxed);
            session.cut("at the end");
        });
        let struck = session.disk.fault_hits() > 0;
        if session.disk.ops() > MOST_OPERATIONS {
            return Err(Violation::Hang(format!("{} operations", session.disk.ops())));
        }
        session.disk.clear_faults();
        session.disk.clear_on_op();
        if let Some(wrong) = session.notes.journal.first_wrong() {
            return Err(Violation::Wrong(wrong));
        }
        let missing = session.notes.journal.missing_callbacks();
        if missing > 0 {
            return Err(Violation::Hang(format!("I18: {missing} callbacks never came")));
        }
        let told = session.notes.told();
        if let Some((call, error)) = told.errors.iter().find(|(call, error)| !strike.explains(*call, error)) {
            return Err(Violation::Wrong(format!("{call:?} failed with {error:?}")));
        }
        let silent_so_far = told.errors.is_empty();
        drop(told);
        if !struck {
            return Ok(None);
        }
        let mut outcome = if silent_so_far { "survived" } else { "typed error" };
        for cut in &*session.cuts.lock().expect("one thread") {
            if let Some(other) = check_cut(cut, strike)? {
                outcome = other;
            }
        }
        Ok(Some(outcome))
    })
}

/// No run takes as long, in virtual time. One that never comes to an end cannot be unwound: it says where it is, and
/// the process ends.
pub const LONGEST_RUN: Duration = Duration::from_secs(2);
/// Nor one that waits for room.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub fn end_a_hang(over: &Arc<AtomicBool>, longest: Duration, place: String) {
    let over = Arc::clone(over);
    drop(sim::start("watchdog", move || {
        let start = sim::now();
        while !over.load(Ordering::Relaxed) {
            sim::sleep(Duration::from_millis(100));
            if sim::now() > start.map(|start| start.after(longest)) && !over.load(Ordering::Relaxed) {
                // The test harness captures eprintln, and would lose it in the abort.
                let _ = writeln!(std::io::stderr(), "HANG: FORELOG_FAULT='{place}'");
                std::process::abort();
            }
        }
    }));
}

/// Somebody deletes files, one second after the disk was first found to be full.
fn make_room_after_a_second(disk: &SimDisk, over: &Arc<AtomicBool>) {
    let (disk, over) = (disk.clone(), Arc::clone(over));
    drop(sim::start("janitor", move || {
        while disk.fault_hits() == 0 {
            if over.load(Ordering::Relaxed) {
                return;
            }
            sim::sleep(Duration::from_millis(20));
        }
        sim::sleep(Duration::from_secs(1));
        disk.clear_faults();
    }));
}

/// The disks that a moment may leave, by what happens there.
fn images(cut: &Cut) -> [(&'static str, SimDisk, bool); 5] {
    let dropped = cut.crash.process_kill();
    dropped.drop_caches();
    [
        ("the process killed", cut.crash.process_kill(), true),
        ("the cache emptied", dropped, false),
        ("the power cut, everything lost", cut.crash.power_loss(&Loss::Everything, Granularity::Sector), false),
        ("the power cut, everything landed", cut.crash.power_loss(&Loss::Nothing, Granularity::Sector), false),
        ("the power cut", cut.crash.power_loss(&Loss::Seeded(SEED), Granularity::Word), false),
    ]
}

/// Opens what a crash at this moment leaves: everything promised is there. Says if it was refused or lost under a disk
/// that does not keep the assumptions.
fn check_cut(cut: &Cut, strike: &Strike) -> Result<Option<&'static str>, Violation> {
    let mut outcome = None;
    let (ledger, history) = (&cut.ledger, History::of(cut.ledger.placed()));
    for (name, disk, killed) in images(cut) {
        let place = format!("{}, {name}", cut.when);
        let lies = strike.trust == Trust::Lies && !killed;
        let ending = if killed && strike.trust == Trust::Full { Ending::Process } else { Ending::Power };
        let floor = if lies { ledger.floor_before_lies(ending) } else { ledger.floor(ending) };
        let expected = Expected {
            floor,
            ceiling: history.last(),
            exists: ledger.exists && (!lies || floor.get() > 0),
            may_be_foreign: lies,
            crashed: ledger.crashed().filter(|_| strike.trust == Trust::Full),
            ..Expected::of(&history, &ledger.tokens)
        };
        let before = disk.image_hash();
        match expected.open(&disk).map_err(|violation| violation.at(&place))? {
            Opened::Holds(engine, recovered) => {
                drop(engine);
                if strike.trust == Trust::Full {
                    backups::check_made(&disk, ledger, &history)
                        .map_err(|wrong| Violation::Wrong(format!("{place}: {wrong}")))?;
                }
                if recovered < history.newest_at(ledger.durable()) {
                    outcome = outcome.or(Some("lost above what was sure (lying disk)"));
                }
                // What a lying disk holds in its cache alone, no reopening can know of.
                if strike.trust != Trust::Lies && (killed || name.ends_with("lost")) {
                    go_on(&disk, &expected, recovered, ledger, ending).map_err(|violation| violation.at(&place))?;
                }
            }
            Opened::Refused(error) => {
                if !lies || error.kind() != ErrorKind::Damaged {
                    return Err(Violation::Wrong(format!("{place}: a legal state is refused: {error:?}")));
                }
                let lock_was_there = disk.read_file("db/LOCK").is_ok();
                if disk.image_hash() != before && !lock_was_there {
                    return Err(Violation::Wrong(format!("{place}: the refusal changed a byte")));
                }
                outcome = Some("noticed and refused (beyond the assumptions)");
            }
        }
    }
    Ok(outcome)
}

/// I20 and I8: what was reported is there after one more power cut; and the engine works.
fn go_on(
    disk: &SimDisk,
    expected: &Expected<'_>,
    recovered: Lsn,
    ledger: &Ledger<Arc<[Write]>>,
    ending: Ending,
) -> Result<(), Violation> {
    let again = Expected { floor: recovered, ceiling: recovered, crashed: None, exists: true, ..*expected };
    let cut = disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector);
    match again.open(&cut).map_err(|violation| violation.at("I20"))? {
        Opened::Holds(..) => {}
        Opened::Refused(error) => return Err(Violation::Wrong(format!("I20: refused after the reopen: {error:?}"))),
    }
    let mut ledger = ledger.clone();
    ledger.end(ending, false);
    ledger.begin();
    ledger.hear(Event::Opened(recovered))?;
    ledger.hear(Event::Closed)?;
    let session = Session::new(&Start { crash: disk.crash_point(), ledger }, false);
    sim::run(AFTER, || {
        for number in [900, 901] {
            let engine = session.open().ok_or("it opened before, and does not now".to_owned())?;
            let keys = session.keyspace(&engine, "keys").ok_or("no keyspace can be created".to_owned())?;
            if !session.put(&engine, &keys, number, 40, CommitMode::Sync) {
                return Err("no commit is possible".to_owned());
            }
            session.finish(&engine);
        }
        Ok(())
    })?;
    let is_left = |path: &Path| path.to_string_lossy().ends_with(".tmp") && !backups::is_in_backup(path);
    let leftover = session.disk.files().into_iter().find(|(path, _)| is_left(path));
    if let Some((path, _)) = leftover {
        return Err(Violation::Wrong(format!("I13: {} is left after a clean close", path.display())));
    }
    match session.notes.journal.first_wrong() {
        Some(wrong) => Err(Violation::Wrong(format!("afterwards: {wrong}"))),
        None => Ok(()),
    }
}

/// Something that a fault can be put into.
pub enum Run {
    Engine(Box<Workload>),
    /// See [`log_plans`].
    Log,
}

impl Run {
    pub fn name(&self) -> &'static str {
        match self {
            Run::Engine(workload) => workload.name,
            Run::Log => "the log alone",
        }
    }

    pub fn run_case(&self, strike: &Strike, n: u64) -> Case {
        match self {
            Run::Engine(workload) => run_case(workload, strike, n),
            Run::Log => log_plans::run_case(strike, n),
        }
    }
}

/// The first case that breaks a promise, wherever the fault strikes.
fn first_violation(workload: &Workload, strike: &Strike) -> Option<(u64, Violation)> {
    for n in 0.. {
        match run_case(workload, strike, n) {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(violation) => return Some((n, violation)),
        }
    }
    None
}

/// No more histories than this are tried to make one smaller.
const ATTEMPTS: usize = 100;

/// A workload that breaks a promise under this fault, made small: its steps, and what is broken where.
pub fn shrink(workload: &Workload, strike: &Strike) -> Option<String> {
    let fails = |steps: &[Step]| first_violation(&Workload { steps: steps.to_vec(), ..workload.clone() }, strike);
    let mut attempts = ATTEMPTS;
    let (mut steps, _) = leave_out(&workload.steps, &mut attempts, fails)?;
    let simpler = |(client, op): &Step| op.simpler().into_iter().map(|op| (*client, op)).collect();
    simplify(&mut steps, &mut attempts, simpler, |steps| fails(steps).is_some());
    let (n, violation) = fails(&steps)?;
    let steps: Vec<String> = steps.iter().map(|(client, op)| format!("  {client}: {op:?}")).collect();
    let (seed, name) = (SEED, &strike.name);
    Some(format!("seed {seed:#x}, {name}, at operation {n}: {violation}\n{}", steps.join("\n")))
}

/// Sweeps over n until nothing is hit, `stride` operations apart from `first` on.
fn sweep(run: &Run, strike: &Strike, first: u64, stride: u64) -> Matrix {
    let mut matrix = Matrix::default();
    for n in (first..).step_by(usize::try_from(stride).expect("small")) {
        let replay = format!("FORELOG_FAULT='{}/{}/{n}'", run.name(), strike.name);
        match run.run_case(strike, n) {
            Ok(None) => break,
            Ok(Some(outcome)) => matrix.judge(&strike.name, Ok(outcome)),
            Err(violation) => matrix.judge(&strike.name, Err::<&str, _>(violation.at(replay))),
        }
        // Two hundred in a row that fail tell no more than twenty.
        if matrix.bad() > 200 {
            break;
        }
    }
    matrix
}

/// All workloads.
pub fn runs() -> Vec<Run> {
    workloads::all().into_iter().map(|workload| Run::Engine(Box::new(workload))).chain([Run::Log]).collect()
}

/// Every fault in every workload, at every `stride`-th operation from the one on that `first` picks. The first that breaks
/// a promise is made small.
pub fn sweep_all(stride: u64, first: impl FnMut(usize) -> u64) -> Matrix {
    let (runs, strikes) = (runs(), strikes());
    let cases: Vec<_> = strikes.iter().flat_map(|strike| runs.iter().map(move |run| (strike, run))).collect();
    let firsts: Vec<u64> = (0..cases.len()).map(first).collect();
    let parts = in_parallel(cases.len(), |index| sweep(cases[index].1, cases[index].0, firsts[index], stride));
    let broken = parts.iter().zip(&cases).find_map(|(part, (strike, run))| match run {
        Run::Engine(workload) if part.bad() > 0 => Some((workload, strike)),
        _ => None,
    });
    if let Some(small) = broken.and_then(|(workload, strike)| shrink(workload, strike)) {
        println!("the smallest history that fails: {small}");
    }
    let mut matrix = Matrix::default();
    parts.into_iter().for_each(|part| matrix.merge(part));
    matrix
}
