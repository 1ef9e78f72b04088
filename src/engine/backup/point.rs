//! A backup that is brought up to a commit, by the log of the database that it is of (`engine/BACKUP.md`, "Restore to a commit").

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::source::{Source, ended};
use crate::base::error::{DamageCause, Error, ErrorKind, Result};
use crate::base::options::Settings;
use crate::base::types::{Incarnation, Lsn, Token};
use crate::disk::{Dir, DirHandle, Disk};
use crate::engine::install::run_bytes;
use crate::format::batch::Batch;
use crate::format::history::{History, Tables};
use crate::format::segment::base_of;
use crate::format::table::DIRECTORY;
use crate::format::table::data::Interval;
use crate::log::log_dir::LogDir;
use crate::log::mark::Slots;
use crate::log::open::decide::decide;
use crate::log::open::directory::{Directory, read_history, read_info};
use crate::log::open::unless_unlocked;
use crate::log::read::reader::SegmentInfo;
use crate::log::read::record_end::retired;
use crate::log::{Files, Prior, Replay};
use crate::table::checkpoint::Piece;
use crate::table::dir::TableDir;
use crate::table::gate::Gate;
use crate::table::keyspaces::KeyspaceList;
use crate::table::merge::Retain;
use crate::table::open::lies_in;
use crate::table::pace::Pacers;
use crate::table::sort::Sorter;
use crate::table::store::{NotInstalled, Stack, Store};
use crate::txn::due::Amount;

/// The commit that a restore ends with, and where the log is from that leads there.
#[derive(Clone, Debug)]
pub struct RestorePoint {
    token: Token,
    log: Option<PathBuf>,
}

impl RestorePoint {
    /// The state behind this commit. Without a log the backup must be of exactly that state.
    pub fn new(token: Token) -> Self {
        RestorePoint { token, log: None }
    }

    /// Takes what the backup has not from the log of the database in `dir`, of which it is a backup. That is read, and not
    /// changed; no program may have it open.
    #[must_use]
    pub fn with_log_of(mut self, dir: impl Into<PathBuf>) -> Self {
        self.log = Some(dir.into());
        self
    }
}

/// A piece of log, whose segments were found, and which nobody changes meanwhile.
#[derive(Debug)]
pub(super) struct Point {
    place: LogDir,
    /// As it was when the commit was the last one.
    history: History,
    segments: BTreeMap<u64, Vec<SegmentInfo>>,
    /// The first header that could not be read, of a segment that may be needed.
    unreadable: Option<Error>,
    from: Lsn,
    to: Lsn,
}

impl Point {
    /// What leads from the state of `source` to that of a commit; `None` if that is its state.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it does not lead there; [`ErrorKind::Retired`] if a part of it is gone; those of reading a
    /// database.
    pub(super) fn find(disk: &dyn Disk, source: &Source, point: &RestorePoint) -> Result<Option<Self>> {
        let RestorePoint { token, log } = point;
        let (from, branch) = source.end();
        if token.log_id != source.log_id() {
            return Err(Error::invalid_input(format!("{token} is a commit of another database than the backup is of")));
        }
        if token.lsn < from {
            return Err(Error::invalid_input(format!(
                "the backup goes up to LSN {from}, and {token} is below: a backup is not taken back. Take an earlier one"
            )));
        }
        if token.lsn == from && (token.incarnation == branch || from == Lsn::ZERO) {
            return Ok(None);
        }
        let Some(log) = log else {
            return Err(Error::invalid_input(format!(
                "the backup goes up to LSN {from}, and {token} is above: give the database that has the log from there on"
            )));
        };
        let handle = Arc::new(DirHandle::open(disk, log)?);
        handle.lock_for_reading()?;
        let found = Point::read(LogDir::new(Arc::clone(&handle)), (from, branch), token);
        found.map(Some).map_err(|error| unless_unlocked(&handle, error))
    }

    fn read(place: LogDir, (from, branch): (Lsn, Incarnation), token: &Token) -> Result<Self> {
        let mut history = read_history(&place)?;
        let path = place.dir().display();
        let refused = |why: String| Err(Error::invalid_input(why));
        if history.log_id != token.log_id {
            return refused(format!("{path} is another database than the backup is of"));
        }
        if from > Lsn::ZERO && !lies_in(&history.entries, branch, from) {
            return refused(format!("{path} does not go on from the backup: it is another copy, or older"));
        }
        if from == Lsn::ZERO && history.first_number > 1 {
            return Err(Error::new(
                ErrorKind::Retired,
                format!("{path} has forgotten the begin of its log: take a later backup"),
            ));
        }
        if !lies_in(&history.entries, token.incarnation, token.lsn) {
            return refused(format!("{token} is no commit that is left in {path}"));
        }
        if history.oldest > from {
            return Err(retired(history.oldest, from));
        }
        let mut segments: BTreeMap<u64, Vec<SegmentInfo>> = BTreeMap::new();
        let (mut unreadable, mut handed_out) = (None, Lsn::ZERO);
        let names = place.handle().list()?;
        let mut bases: Vec<_> = names.iter().filter_map(|name| base_of(name.to_str()?)).collect();
        bases.sort_unstable();
        for base in bases {
            let info = match read_info(&place, base) {
                Ok(info) => info,
                Err(error) if base < token.lsn.get() && unreadable.is_none() => {
                    unreadable = Some(error);
                    continue;
                }
                // Not needed.
                Err(_) => continue,
            };
            let identity = info.header.identity;
            let entry = history.entries.iter().find(|entry| entry.incarnation == identity.incarnation);
            let Some(entry) = entry.filter(|entry| identity.log_id == token.log_id && entry.key == identity.key) else {
                continue;
            };
            if identity.incarnation == token.incarnation {
                handed_out = handed_out.max(Lsn::new(info.header.limit()));
            }
            let end = entry.end.map_or(info.header.limit(), |end| end.lsn.get().min(info.header.limit()));
            if identity.base == base && base < token.lsn.get() && end > from.get() {
                segments.entry(identity.incarnation.number).or_default().push(info);
            }
        }
        // The commit is the last one: what came after it is not of this database.
        history.entries.retain(|entry| entry.incarnation.number <= token.incarnation.number);
        if let Some(last) = history.entries.last_mut() {
            let prepared = last.end.map_or(handed_out, |end| end.prepared);
            last.end = Some(ended(last, token.lsn, prepared)?);
        }
        Ok(Point { place, history, segments, unreadable, from, to: token.lsn })
    }

    pub(super) fn handle(&self) -> &DirHandle {
        self.place.handle()
    }

    pub(super) fn lsn(&self) -> Lsn {
        self.to
    }

    /// How much of the log it is, in bytes.
    pub(super) fn log_bytes(&self) -> u64 {
        self.to.get() - self.from.get()
    }

    /// Writes what it does as layers behind those of `stack`, in `table/`, durably. Returns HISTORY with them. `told` gets the bytes
    /// of log that each takes in.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] with the file of the log; those of new files.
    pub(super) fn write(
        self,
        (dir, path): (Arc<dyn Dir>, &Path),
        stack: Option<Stack>,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<History> {
        let Point { place, mut history, segments, unreadable, from, to } = self;
        let gate = Arc::new(Gate::new(|| Ok(())));
        let table = TableDir::new(dir, &path.join(OsStr::new(DIRECTORY)), gate);
        let store = Store::new(table, Pacers::default(), history.log_id, stack)?;
        let (leftovers, retained, temporary) = Default::default();
        let prior = Prior { proven: from, known: from, let_go: Lsn::ZERO };
        let of_log = history.clone();
        let mark = Slots::default();
        let directory =
            Directory { history: of_log, prior, mark, segments, leftovers, retained, has_unread: false, temporary };
        let mut layers = Layers::new(&store, &history, from, told);
        let replayed = decide(&place, directory, Files::Still, &mut layers).map(drop).and_then(|()| layers.finish(to));
        replayed.map_err(|error| match (error.damage().map(|damage| damage.cause), unreadable) {
            (Some(DamageCause::MissingSegment), Some(unreadable)) => unreadable,
            (Some(DamageCause::Impossible), _) => {
                error.adding(format_args!("If it is whole, no commit ends at LSN {to}: take the token of one"))
            }
            _ => error,
        })?;
        history.tables = Some(Tables { names: store.stack().map(|stack| stack.names()) });
        Ok(history)
    }
}

/// Records on their way into layers.
struct Layers<'s> {
    store: &'s Store,
    history: &'s History,
    full: Amount,
    sorter: Sorter,
    keyspaces: KeyspaceList,
    amount: Amount,
    from: Lsn,
    to: Lsn,
    told: &'s mut dyn FnMut(u64) -> Result<()>,
}

impl<'s> Layers<'s> {
    fn new(store: &'s Store, history: &'s History, from: Lsn, told: &'s mut dyn FnMut(u64) -> Result<()>) -> Self {
        let full = Amount::of_a_checkpoint(&Settings::default());
        let keyspaces = store.stack().map_or_else(KeyspaceList::default, |stack| KeyspaceList::clone(&stack.keyspaces));
        let (sorter, amount) = Default::default();
        Layers { store, history, full, sorter, keyspaces, amount, from, to: from, told }
    }

    /// Writes what came since the last layer, durably.
    fn write(&mut self) -> Result<()> {
        let (from, to) = (self.from, self.to);
        let branch = self.history.entries.iter().rev().find(|entry| entry.begin < to);
        let branch = branch.ok_or_else(|| Error::bug("a record of no incarnation"))?.incarnation;
        let mut sorter = std::mem::take(&mut self.sorter);
        let (ranges, writes) = (sorter.take_ranges(), sorter.finish());
        // Nobody reads it yet.
        let horizon = Retain { floor: to, held: Vec::new(), is_last: false };
        let log_bytes = std::mem::take(&mut self.amount).bytes;
        let keyspaces = self.keyspaces.clone();
        let piece = Piece { interval: Interval { from, to }, branch, writes, ranges, keyspaces, horizon, log_bytes };
        let run_bytes = run_bytes(&Settings::default(), self.store.stack().as_deref(), piece.log_bytes);
        let mut layer = self.store.write_layer(piece, run_bytes)?;
        layer.install(|_| to, |_| ()).map_err(NotInstalled::into_error)?;
        self.from = to;
        (self.told)(to.get() - from.get())
    }

    /// Writes the rest.
    fn finish(mut self, to: Lsn) -> Result<()> {
        if self.from < self.to {
            self.write()?;
        }
        if self.to == to { Ok(()) } else { Err(Error::bug("the log does not come to the commit")) }
    }
}

impl Replay for Layers<'_> {
    fn record(&mut self, lsn: Lsn, payload: &[u8]) -> Result<()> {
        let batch = Batch::parse(payload).map_err(|malformed| {
            Error::new(ErrorKind::NotADatabase, format!("the record at LSN {lsn} is no transaction: {malformed}"))
        })?;
        self.keyspaces.add(lsn, &batch);
        self.sorter.add(lsn, &batch);
        self.amount.add(payload.len(), batch.len());
        self.to = lsn;
        if self.amount.reaches(self.full) { self.write() } else { Ok(()) }
    }
}
