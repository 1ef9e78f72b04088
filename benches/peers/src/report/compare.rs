//! Who is how fast beside whom: medians, paired ratios, and what may be compared at all.

use super::{Cell, Measured, Report, Row};
use crate::common::stats::Spread;
use crate::peer::Kind;
use crate::peers::{OURS, RAW};
use crate::workload::Workload;

/// One line of the comparison: one figure of each peer.
#[derive(Clone, Debug)]
pub struct Line {
    pub id: String,
    pub title: String,
    pub unit: &'static str,
    pub less_is_better: bool,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub peer: String,
    pub kind: Kind,
    /// Why it is shown and not compared.
    pub excluded: Option<&'static str>,
    /// One value a round.
    pub values: Vec<f64>,
}

/// forelog beside the best of the peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// All quartiles of the paired ratios are on one side.
    Ahead,
    Behind,
    /// Within the spread.
    Even,
}

impl Entry {
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(self.values.iter().copied())
    }
}

impl Line {
    pub fn entry(&self, peer: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.peer == peer && !entry.values.is_empty())
    }

    /// How many times better the first is than the second: ratios within the rounds.
    pub fn ratio(&self, first: &Entry, second: &Entry) -> Option<Spread> {
        Spread::of(
            first
                .values
                .iter()
                .zip(&second.values)
                .map(|(first, second)| if self.less_is_better { second / first } else { first / second }),
        )
    }

    /// The best of the other engines that may be compared.
    pub fn best_peer(&self) -> Option<&Entry> {
        let rivals = self.entries.iter().filter(|entry| {
            entry.kind == Kind::Engine && entry.peer != OURS && entry.excluded.is_none() && !entry.values.is_empty()
        });
        let median = |entry: &Entry| entry.spread().map_or(0.0, |spread| spread.median);
        let order = |one: &&Entry, other: &&Entry| median(one).total_cmp(&median(other));
        if self.less_is_better { rivals.min_by(order) } else { rivals.max_by(order) }
    }

    /// forelog against raw, where that may be compared.
    pub fn beside_raw(&self) -> Option<Spread> {
        let (ours, raw) = (self.entry(OURS)?, self.entry(RAW)?);
        if ours.excluded.is_some() { None } else { self.ratio(ours, raw) }
    }

    /// forelog against the best peer.
    pub fn beside_best(&self) -> Option<(Spread, Standing)> {
        let ours = self.entry(OURS).filter(|ours| ours.excluded.is_none())?;
        let ratio = self.ratio(ours, self.best_peer()?)?;
        let standing = match ratio {
            ratio if ratio.low > 1.0 => Standing::Ahead,
            ratio if ratio.high < 1.0 => Standing::Behind,
            _ => Standing::Even,
        };
        Some((ratio, standing))
    }
}

/// All lines of a report: its workloads, and what follows from them.
pub fn lines(report: &Report) -> Vec<Line> {
    let mut lines: Vec<Line> = report.rows.iter().map(|row| workload_line(report, row)).collect();
    let (title, from) = ("device flushes per Sync commit, 32 threads", "sync-32");
    lines.extend(derived(report, from, "flushes", title, "", |measured| measured.flushes));
    for (id, title) in [("sync-64", "CPU per commit, Sync, 64 threads"), ("async-1", "CPU per commit, Async, 1 thread")]
    {
        lines.extend(derived(report, id, &format!("cpu-{id}"), title, "us", |measured| measured.cpu));
    }
    for (id, title) in [("async-1", "p99.9 of Async, 1 thread"), ("async-8", "p99.9 of Async, 8 threads")] {
        lines.extend(derived(report, id, &format!("p999-{id}"), title, "us", |measured| measured.p999));
    }
    lines
}

fn workload_line(report: &Report, row: &Row) -> Line {
    let in_seconds = Workload::named(&row.id).is_some_and(Workload::in_seconds);
    Line {
        id: row.id.clone(),
        title: row.title.clone(),
        unit: if in_seconds { "s" } else { "/s" },
        less_is_better: in_seconds,
        entries: entries(report, row, |measured| Some(measured.value)),
    }
}

fn derived(
    report: &Report,
    from: &str,
    id: &str,
    title: &str,
    unit: &'static str,
    value: fn(&Measured) -> Option<f64>,
) -> Option<Line> {
    let row = report.rows.iter().find(|row| row.id == from)?;
    let entries = entries(report, row, value);
    Some(Line { id: id.to_owned(), title: title.to_owned(), unit, less_is_better: true, entries })
}

fn entries(report: &Report, row: &Row, value: fn(&Measured) -> Option<f64>) -> Vec<Entry> {
    let entry = |cell: &Cell| Entry {
        peer: cell.peer.clone(),
        kind: kind(report, &cell.peer),
        excluded: excluded(report, &row.id, &cell.peer),
        values: cell.rounds.iter().filter_map(value).collect(),
    };
    row.cells.iter().map(entry).collect()
}

fn kind(report: &Report, name: &str) -> Kind {
    report.peers.iter().find(|peer| peer.name == name).map_or(Kind::Engine, |peer| peer.kind)
}

/// Why a peer's figure of a workload is not compared.
fn excluded(report: &Report, workload: &str, name: &str) -> Option<&'static str> {
    if !Workload::named(workload).is_some_and(Workload::syncs) {
        return None;
    }
    if report.place.memory {
        return Some("meaningless: memory");
    }
    let check = report.peers.iter().find(|peer| peer.name == name)?.check.as_ref()?;
    (check.really_syncs() == Some(false)).then_some("does not sync")
}
