//! What all handles, receipts and background threads of one open log share.
//!
//! Locks, in the order in which they may be taken together: the right to retire (`pins`) > the right to replace HISTORY
//! (`incarnations`) > `writer` > `core`. `sync`, `threads`, what is known of the segments (`incarnations`), the pins and the
//! queue of the callbacks are taken last. `writer` is held during a write call, which is what it is for; `mark` while the
//! mark is written, with no other; the first two during I/O that no commit of a begun incarnation waits for. No other is
//! held during I/O.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::budget::{AtRisk, Ledger};
use super::buffer::{Buffer, Tail};
use super::callbacks::Callbacks;
use super::flush::{SyncState, Writer};
use super::incarnations::Incarnations;
use super::life::Errand;
use super::mark::{Arming, MarkFile};
use super::pins::Retention;
use super::place::Place;
use super::poison::Poisoned;
use super::positions::Positions;
use super::recover::Recovery;
use super::scrub::Task;
use super::stats::{Counters, Stats};
use crate::disk::{Dir, IoBackend};
use crate::words::clock::{self, Moment};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::options::Settings;
use crate::words::plant::planted;
use crate::words::process;
use crate::words::sync::{AtomicU64, Condvar, Mutex, OnceLock, Sender, Thread};
use crate::words::types::{LogId, Lsn};

/// No LSN: the flusher has been asked.
const ASKED: u64 = u64::MAX;

/// What the append lock guards.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) buffer: Buffer,
    pub(crate) tail: Tail,
    pub(crate) ledger: Ledger,
    /// When the background flusher must issue a flush; `None` if nothing asks for one.
    pub(crate) due: Option<Moment>,
    /// Closed or poisoned: no append is taken any more.
    pub(crate) stopped: bool,
    /// A segment is being prepared.
    pub(crate) preparing: bool,
    /// The preparation failed; told to the append that needs the segment.
    pub(crate) prepare_error: Option<Error>,
    /// Whether MARK lags behind the durable LSN.
    pub(crate) arming: Arming,
    /// Segments prepared in this incarnation: their sizes double from the first on.
    pub(crate) prepared: u32,
}

/// The background threads.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    pub(crate) running: Vec<Thread>,
    /// Asks the preparer for the next segment, or for the mark; `None` until they run.
    pub(crate) requests: Option<Sender<Errand>>,
    /// The scrubs that may be running.
    pub(crate) scrubs: Vec<Arc<Task>>,
    /// The log was closed: none is begun any more.
    pub(crate) ended: bool,
}

/// How far closing has come.
#[derive(Clone, Debug, Default)]
pub(crate) enum Closing {
    #[default]
    Open,
    Underway,
    Closed(Result<()>),
}

/// One open log.
pub(crate) struct Shared {
    /// For the background threads, which share it too.
    pub(crate) me: Weak<Shared>,
    pub(crate) place: Place,
    pub(crate) settings: Settings,
    pub(crate) report: Recovery,
    pub(super) incarnations: Incarnations,
    pub(super) retention: Arc<Retention>,
    pub(crate) positions: Positions,
    pub(crate) core: Mutex<Core>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) sync: Mutex<SyncState>,
    pub(crate) threads: Mutex<Threads>,
    /// Held during I/O on it, by the one thread that does any.
    pub(crate) mark: Mutex<Option<MarkFile>>,
    /// With `core`: room in the loss budget, a prepared segment, or the end.
    pub(crate) room: Condvar,
    /// With `core`: a flush is due, or the end.
    pub(crate) background: Condvar,
    pub(crate) callbacks: Callbacks,
    pub(crate) poison: OnceLock<Poisoned>,
    pub(crate) stats: Counters,
    /// Everything up to here was asked to be flushed now; [`ASKED`] while the flusher has not heard it, who will flush
    /// whatever there is by then.
    pub(crate) asked: AtomicU64,
    pub(crate) closing: Mutex<Closing>,
    pub(crate) generation: u64,
}

/// A line, which takes no lock and shows nothing of the records: handles are printed by programs that log what they do.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show("Log", f)
    }
}

impl Shared {
    /// The line that a handle called `name` prints.
    pub(crate) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("dir", &self.place.dir())
            .field("log_id", &self.log_id())
            .field("appended", &Lsn::new(self.positions.appended()))
            .field("durable", &self.durable())
            .field("poisoned", &self.poisoned().is_some())
            .finish_non_exhaustive()
    }

    /// Refuses a handle that crossed `fork()`.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.generation == process::generation() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Forked,
            "this handle was opened before fork() and belongs to the parent: open the database in the child",
        ))
    }

    pub(crate) fn log_id(&self) -> LogId {
        self.incarnations.log_id()
    }

    /// Makes a flush of everything appended so far due now, if `lsn` is not durable yet.
    pub(crate) fn ask_for_flush(&self, lsn: u64) {
        if self.positions.durable() < lsn && self.asked.load(Ordering::Acquire) < lsn {
            let mut core = self.core.lock();
            self.asked.store(ASKED, Ordering::Release);
            self.make_due(&mut core, clock::now());
        }
    }

    /// Has the background flusher issue a flush at `moment` at the latest.
    pub(crate) fn make_due(&self, core: &mut Core, moment: Moment) {
        if core.due.is_none_or(|due| moment < due) {
            core.due = Some(moment);
            if !planted!("race-flusher-not-woken") {
                self.background.notify_one();
            }
        }
    }

    pub(crate) fn at_risk(&self) -> AtRisk {
        let mut core = self.core.lock();
        core.ledger.release(self.positions.durable());
        core.ledger.at_risk(clock::now())
    }

    pub(crate) fn io(&self) -> IoBackend {
        match self.place.disk().io() {
            IoBackend::Calls { why: None } if self.settings.io_uring => {
                IoBackend::Calls { why: Some("this disk does without it".into()) }
            }
            io => io,
        }
    }

    pub(crate) fn read_stats(&self) -> Stats {
        self.stats.read(self.core.lock().ledger.largest())
    }
}
