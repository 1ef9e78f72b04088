//! The report as Markdown.

use std::fmt::Write;

use super::{Cell, Described, Line, Report, Standing, figure, lines};
use crate::common::stats::{Latency, Spread};
use crate::peer::Kind;
use crate::peers::{OURS, RAW};
use crate::workload::{Task, Workload};

pub fn render(report: &Report) -> String {
    let lines = lines(report);
    let mut text = String::new();
    head(&mut text, report);
    summary(&mut text, report, &lines);
    for line in &lines {
        detail(&mut text, report, line);
    }
    checks(&mut text, report);
    configurations(&mut text, report);
    text
}

fn head(text: &mut String, report: &Report) {
    let (machine, place, settings) = (&report.machine, &report.place, &report.settings);
    let rounds = report.rows.iter().flat_map(|row| &row.cells).map(|cell| cell.rounds.len()).max().unwrap_or(0);
    push!(
        text,
        "{} {rounds} rounds of {} s a measurement, each in a process of its own; medians with their quartiles; ratios within \
         rounds.",
        machine.with(place),
        settings.seconds
    );
    if place.memory {
        push!(text, "\n**Measured in memory: what is said of Sync is meaningless.**");
    }
    if rounds < 5 {
        push!(text, "\n**Fewer than five rounds: the spread says little.**");
    }
    push!(text, "");
}

/// One line a workload: raw, forelog, the best peer.
fn summary(text: &mut String, report: &Report, lines: &[Line]) {
    push!(
        text,
        "Beside each rate the median and the 99.9th percentile of single operations, in microseconds (of whole scans where \
         keys are scanned).\n"
    );
    let columns = "p50; p99.9 us";
    push!(
        text,
        "| workload | raw limit | {columns} | forelog | {columns} | beside raw | best peer | {columns} | forelog beside it | |"
    );
    push!(text, "|---|---|---|---|---|---|---|---|---|---|");
    for line in lines {
        let of = |peer: &str| match line.entry(peer).and_then(|entry| entry.spread()) {
            Some(spread) => with_unit(spread.median, line.unit),
            None => "".to_owned(),
        };
        let best = line
            .best_peer()
            .and_then(|best| Some(format!("{} {}", best.peer, with_unit(best.spread()?.median, line.unit))));
        let (ratio, standing) = match line.beside_best() {
            Some((ratio, standing)) => (times(ratio), word(standing)),
            None if report.place.memory => (String::new(), "meaningless: memory"),
            None => (String::new(), ""),
        };
        let beside_raw = line.beside_raw().map_or(String::new(), times);
        let [raw_times, our_times] = [RAW, OURS].map(|peer| latency(report.cell(&line.id, peer)));
        let best_times = latency(line.best_peer().and_then(|best| report.cell(&line.id, &best.peer)));
        let best = best.unwrap_or_default();
        push!(
            text,
            "| {} | {} | {raw_times} | {} | {our_times} | {beside_raw} | {best} | {best_times} | {ratio} | {standing} |",
            line.title,
            of(RAW),
            of(OURS)
        );
    }
    push!(text, "");
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Ahead => "ahead",
        Standing::Even => "even",
        Standing::Behind => "**behind**",
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "/s" => format!("{}/s", figure(value)),
        unit => format!("{} {unit}", figure(value)).trim_end().to_owned(),
    }
}

fn times(ratio: Spread) -> String {
    format!("{} ({} to {})", figure(ratio.median), figure(ratio.low), figure(ratio.high))
}

/// All peers of a line, the best first.
fn detail(text: &mut String, report: &Report, line: &Line) {
    push!(text, "### {}\n", line.title);
    let row = report.rows.iter().find(|row| row.id == line.id);
    let task = Workload::named(&line.id).map(|workload| workload.task);
    let (gets, scans) = (matches!(task, Some(Task::Get { .. })), task == Some(Task::Scan));
    push!(text, "| | median | quartiles | beside raw | p50 us | p99 us | p99.9 us | CPU us | flushes a commit | |");
    push!(text, "|---|---|---|---|---|---|---|---|---|---|");
    let mut entries: Vec<_> = line.entries.iter().filter_map(|entry| Some((entry, entry.spread()?))).collect();
    entries.sort_by(|(_, one), (_, other)| other.median.total_cmp(&one.median));
    if line.less_is_better {
        entries.reverse();
    }
    for (entry, spread) in entries {
        let cell = report.cell(&line.id, &entry.peer);
        let described = report.peers.iter().find(|peer| (gets || scans) && peer.name == entry.peer);
        let reads = described.and_then(|peer| peer.reads).map(|reads| reads.told(scans));
        let beside_raw = line
            .entry(RAW)
            .filter(|_| entry.kind != Kind::Raw && entry.excluded.is_none())
            .and_then(|raw| line.ratio(entry, raw));
        let name = if entry.peer == OURS { format!("**{OURS}**") } else { entry.peer.clone() };
        push!(
            text,
            "| {name} | {} | {} to {} | {} | {} | {} |",
            with_unit(spread.median, line.unit),
            figure(spread.low),
            figure(spread.high),
            beside_raw.map_or(String::new(), times),
            cell.map_or("| | | |".to_owned(), single),
            notes(entry.kind, entry.excluded, reads)
        );
    }
    for cell in row.into_iter().flat_map(|row| &row.cells) {
        if let Some(error) = &cell.error {
            push!(text, "| {} | failed | | | | | | | | {} |", cell.peer, error.replace(['|', '\n'], " "));
        }
    }
    push!(text, "");
}

/// The columns that are medians of a cell's rounds.
fn single(cell: &Cell) -> String {
    let Latency { p50, p99, p999 } = cell.latency();
    let columns = [p50, p99, p999, cell.median(|round| round.cpu), cell.median(|round| round.flushes)];
    columns.map(|median| median.map_or(String::new(), figure)).join(" | ")
}

/// The median and the 99.9th percentile of a cell; nothing for a peer that does not tell them, or where nothing was timed.
fn latency(cell: Option<&Cell>) -> String {
    match cell.map(Cell::latency) {
        Some(Latency { p50: Some(p50), p999: Some(p999), .. }) => format!("{}; {}", figure(p50), figure(p999)),
        _ => String::new(),
    }
}

fn notes(kind: Kind, excluded: Option<&str>, reads: Option<&str>) -> String {
    let kind = match kind {
        Kind::Raw | Kind::Engine => None,
        Kind::Log => Some("log only"),
        Kind::Outside => Some("outside reference"),
    };
    [kind, excluded, reads].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn checks(text: &mut String, report: &Report) {
    if report.peers.iter().all(|peer| peer.check.is_none()) {
        return;
    }
    push!(text, "### Does Sync sync?\n");
    push!(text, "| | syncs a commit, 1 thread | 32 threads | counted by | |");
    push!(text, "|---|---|---|---|---|");
    for (peer, check) in report.peers.iter().filter_map(|peer| Some((peer, peer.check.as_ref()?))) {
        let number = |syncs: Option<f64>| syncs.map_or(String::new(), |syncs| format!("{syncs:.3}"));
        let verdict = match check.really_syncs() {
            Some(true) => "it does",
            Some(false) => "**it does not: its Sync rows are not compared**",
            None => "could not be told",
        };
        let verdict = check.error.as_deref().unwrap_or(verdict);
        push!(
            text,
            "| {} | {} | {} | {} | {} |",
            peer.name,
            number(check.alone),
            number(check.many),
            check.by.replace('|', " "),
            verdict.replace(['|', '\n'], " ")
        );
    }
    push!(text, "");
}

fn configurations(text: &mut String, report: &Report) {
    push!(text, "### Configurations\n");
    push!(text, "| | version | Sync | Written | Async | else, and what its documentation advises |");
    push!(text, "|---|---|---|---|---|---|");
    for peer in &report.peers {
        let Described { name, version, sync, written, asynchronous, advice, .. } = peer;
        let none = |words: &Option<String>| words.clone().unwrap_or_else(|| "-".to_owned());
        let version = peer.missing.as_ref().map_or(version.clone(), |missing| format!("skipped: {missing}"));
        push!(text, "| {name} | {version} | {} | {} | {} | {advice} |", none(sync), none(written), none(asynchronous));
    }
}
