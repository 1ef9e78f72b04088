//! All measurements of a run: peers side by side within a round, in another order in each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check::{Checked, check};
use crate::child::{Job, Measured, Request};
use crate::cli::Arguments;
use crate::common::files::{copy_into, make_empty};
use crate::peer::{Kind, Mode, Peer};
use crate::place::Place;
use crate::process::ask;
use crate::report::{Cell, Described, Machine, Report, Row, Settings, figure};
use crate::workload::{Task, Workload};

/// Measures everything that is asked for. `save` is given what there is after each round.
pub fn run(arguments: &Arguments, save: impl Fn(&Report) -> Result<(), String>) -> Result<Report, String> {
    let dir = arguments.dir.as_deref().ok_or("name a directory with --dir")?;
    let (workloads, peers) = (arguments.workloads()?, arguments.peers()?);
    let place = Place::of(dir, room(arguments))?;
    let dir = dir.canonicalize().map_err(|error| format!("{}: {error}", dir.display()))?;
    let scratch = Scratch::new(&dir)?;
    if place.memory {
        eprintln!("{} lies in memory ({}): no Sync figure means anything there", dir.display(), place.file_system);
    }
    let peers: Vec<(&Peer, Described)> = peers.into_iter().map(|peer| (peer, described(peer))).collect();
    let rows = workloads.iter().map(|workload| row(workload, &peers)).collect();
    let settings = Settings {
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        transactions: arguments.transactions,
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
    };
    let run = Run { arguments, scratch, memory: place.memory };
    let peers = peers.into_iter().map(|(peer, described)| run.watched(peer, described)).collect();
    let mut report = Report { machine: Machine::this(), place, settings, peers, rows };
    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        for (number, row) in report.rows.iter_mut().enumerate() {
            run.round(row, round as usize + number)?;
        }
        save(&report)?;
    }
    Ok(report)
}

/// What the databases take at most, all that are kept for the next round and the one that is measured.
fn room(arguments: &Arguments) -> u64 {
    const GIB: u64 = 1 << 30;
    const BYTES_OF_A_TRANSACTION: u64 = 2048;
    2 * GIB + (arguments.seconds * GIB as f64) as u64 + arguments.transactions * BYTES_OF_A_TRANSACTION
}

fn described(peer: &Peer) -> Described {
    let version = peer.version();
    let configured = |mode| peer.configuration(mode).map(str::to_owned);
    if let Err(missing) = &version {
        eprintln!("{} is skipped: {missing}", peer.name);
    }
    Described {
        name: peer.name.to_owned(),
        kind: peer.kind,
        missing: version.as_ref().err().map(ToString::to_string),
        version: version.unwrap_or_default(),
        sync: configured(Mode::Sync),
        written: configured(Mode::Written),
        asynchronous: configured(Mode::Async),
        reads: peer.reads,
        advice: peer.advice.to_owned(),
        check: None,
    }
}

/// A row with a cell for each peer that has what the workload needs.
fn row(workload: &Workload, peers: &[(&Peer, Described)]) -> Row {
    let suited = peers.iter().filter(|(peer, _)| workload.suits(peer));
    let cells = suited.map(|(peer, described)| Cell {
        peer: peer.name.to_owned(),
        rounds: Vec::new(),
        error: described.missing.clone(),
    });
    Row { id: workload.id.to_owned(), title: workload.title.to_owned(), cells: cells.collect() }
}

struct Run<'a> {
    arguments: &'a Arguments,
    scratch: Scratch,
    memory: bool,
}

impl Run<'_> {
    /// With what its system calls tell, where they can.
    fn watched(&self, peer: &Peer, mut described: Described) -> Described {
        let watched = !self.arguments.unchecked && !self.memory && peer.sync.is_some() && peer.kind != Kind::Raw;
        if watched && described.missing.is_none() {
            described.check = Some(self.check(peer));
        }
        described
    }

    fn check(&self, peer: &Peer) -> Checked {
        eprint!("{}: does Sync sync? ", peer.name);
        let dir = self.scratch.0.join("watched");
        let made = fresh(&dir);
        let checked = match made {
            Ok(()) => check(peer.name, &dir, || fresh(&dir)),
            Err(error) => Checked { error: Some(error), ..Checked::default() },
        };
        let _ = std::fs::remove_dir_all(&dir);
        match (&checked.error, checked.alone) {
            (Some(error), _) => eprintln!("unknown: {error}"),
            (None, Some(alone)) => eprintln!("{alone:.2} syncs a commit, by {}", checked.by),
            (None, None) => eprintln!("unknown"),
        }
        checked
    }

    /// Measures each cell of a row once. A peer that failed is not asked again.
    fn round(&self, row: &mut Row, turn: usize) -> Result<(), String> {
        let workload = Workload::named(&row.id).ok_or("no such workload")?;
        for cell in order(row.cells.len(), turn) {
            let cell = &mut row.cells[cell];
            if cell.error.is_some() {
                continue;
            }
            match self.measure(&cell.peer, workload) {
                Ok(measured) => {
                    eprintln!("{}: {} {}", workload.id, cell.peer, told(workload, &measured));
                    cell.rounds.push(measured);
                }
                Err(error) => {
                    eprintln!("{}: {} failed: {error}", workload.id, cell.peer);
                    cell.error = Some(error);
                }
            }
        }
        Ok(())
    }

    fn measure(&self, peer: &str, workload: &Workload) -> Result<Measured, String> {
        let dir = self.scratch.0.join("measured");
        fresh(&dir)?;
        let transactions = self.arguments.transactions;
        let killed = match workload.task {
            Task::Commits(_) | Task::Awaited(_) => None,
            Task::Get { .. } | Task::Scan => Some(self.killed(peer, "loaded", Job::LoadAndDie)?),
            Task::Reopen => Some(self.killed(peer, "filled", Job::FillAndDie { transactions })?),
        };
        if let Some(killed) = killed {
            copy_into(&killed, &dir).map_err(|error| format!("the database cannot be copied: {error}"))?;
        }
        let job = Job::Measure { workload: workload.id.to_owned(), seconds: self.arguments.seconds };
        let most = Duration::from_secs_f64(180.0 + 10.0 * self.arguments.seconds);
        let measured = ask(&self.request(peer, &dir, job), &[], most);
        std::fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        // What was deleted is not left for the next one's fsyncs to pay.
        if !self.memory {
            sync_all();
        }
        measured
    }

    fn request(&self, peer: &str, dir: &Path, job: Job) -> Request {
        Request { peer: peer.to_owned(), dir: dir.to_owned(), job, transactions: self.arguments.transactions }
    }

    /// What a killed process left, once for all rounds.
    fn killed(&self, peer: &str, what: &str, job: Job) -> Result<PathBuf, String> {
        let dir = self.scratch.0.join(format!("{what}-{peer}"));
        if !dir.exists() {
            fresh(&dir)?;
            ask(&self.request(peer, &dir, job), &[], Duration::from_secs(600))
                .map_err(|error| format!("it could not be filled: {error}"))?;
        }
        Ok(dir)
    }
}

/// One measurement in words.
fn told(workload: &Workload, measured: &Measured) -> String {
    let value = figure(measured.value);
    if workload.in_seconds() {
        return format!("{value} s");
    }
    let time =
        |microseconds: Option<f64>| microseconds.map_or("not told".to_owned(), |time| format!("{} us", figure(time)));
    format!("{value}/s, p50 {}, p99.9 {}", time(measured.p50), time(measured.p999))
}

/// The numbers below `cells`, begun with another one each turn, and every second turn backwards: nobody follows the same
/// one always.
pub fn order(cells: usize, turn: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cells).collect();
    order.rotate_left(turn % cells.max(1));
    if turn % 2 == 1 {
        order.reverse();
    }
    order
}

/// The directory of this run; removed with all that is in it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(parent: &Path) -> Result<Self, String> {
        let dir = parent.join(format!("forelog-peers-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        eprintln!("measuring in {}: remove it should this be interrupted", dir.display());
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn fresh(dir: &Path) -> Result<(), String> {
    make_empty(dir).map_err(|error| format!("{}: {error}", dir.display()))
}

#[expect(unsafe_code, reason = "the standard library syncs single files alone")]
pub fn sync_all() {
    // SAFETY: takes no arguments.
    unsafe { libc::sync() };
}
