//! The report as Markdown.

use std::fmt::Write;

use super::super::event::{Data, Phase};
use super::rows::{self, Row};
use super::{Kind, Recorded, Run, ScaleReport};
use crate::report::{figure, push};

pub fn render(report: &ScaleReport) -> String {
    let mut text = String::new();
    head(&mut text, report);
    let mut all_data: Vec<Data> = report.runs.iter().map(|run| run.data).collect();
    all_data.dedup();
    for data in all_data {
        let runs: Vec<&Run> = report.runs.iter().filter(|run| run.data == data).collect();
        summary(&mut text, report.kind, data, &runs);
        match report.kind {
            Kind::Phases => details(&mut text, &runs),
            Kind::Steady => timed(&mut text, &runs, &STEADY),
            Kind::Opens | Kind::Few => {}
        }
        failures(&mut text, &runs);
    }
    configurations(&mut text, report);
    text
}

fn head(text: &mut String, report: &ScaleReport) {
    let (machine, place) = (&report.machine, &report.place);
    push!(
        text,
        "{} One run; the phases of an engine had {} s at most together.\n",
        machine.with(place),
        report.seconds
    );
    let memory = report.memory >> 20;
    match &report.limited_by {
        Some(by) => push!(text, "Each engine ran within {memory} MiB, page cache included, held to it by {by}.\n"),
        None => push!(text, "**Nothing held the engines to {memory} MiB: the page cache had all of the machine.**\n"),
    }
    if place.memory {
        push!(text, "**Measured in memory: nothing outgrows it there.**\n");
    }
    push!(text, "`scale {}`\n", report.command);
}

/// A line of a table: its name, and a cell for each run.
fn line(text: &mut String, name: &str, cells: impl Iterator<Item = String>, last: &str) {
    push!(text, "| {name} | {} | {last} |", cells.collect::<Vec<_>>().join(" | "));
}

fn heads(text: &mut String, runs: &[&Run], last: &str) {
    line(text, "", runs.iter().map(|run| run.peer.clone()), last);
    push!(text, "|---|{}---|", "---|".repeat(runs.len()));
}

fn summary(text: &mut String, kind: Kind, data: Data, runs: &[&Run]) {
    push!(text, "### {} keys of {} bytes with their values\n", count(data.keys), data.record_bytes());
    heads(text, runs, "forelog beside the best other");
    line(text, "puts loaded", runs.iter().map(|run| loaded(run)), "");
    for row in rows::of(kind) {
        line(text, row.title, runs.iter().map(|run| cell(run, row)), &row.standing(runs));
    }
    if runs.iter().any(|run| run.peak.is_some()) {
        let peak = |run: &&Run| run.peak.map_or(String::new(), |peak| format!("{} MiB", peak >> 20));
        line(text, "most memory of the control group, page cache included", runs.iter().map(peak), "");
    }
    push!(text, "");
}

fn loaded(run: &Run) -> String {
    let loaded = count(run.loaded());
    if run.loaded() < run.data.writes {
        return format!("{loaded} of {}", count(run.data.writes));
    }
    loaded
}

/// A number of things, which has no decimals if it is small.
fn count(number: u64) -> String {
    if number < 10_000 { number.to_string() } else { figure(number as f64) }
}

fn cell(run: &Run, row: &Row) -> String {
    let Some(value) = (row.value)(run) else {
        return if run.failures.is_empty() { "-" } else { "failed" }.to_owned();
    };
    let value = row.told(value);
    match run.phase(row.phase).map(|recorded| recorded.outcome) {
        Some(outcome) if outcome.is_cut && outcome.operations > 0 => {
            format!("{value} (cut at {})", figure(outcome.operations as f64))
        }
        Some(outcome) if outcome.is_cut => format!("{value} (cut)"),
        _ => value,
    }
}

const TIMED: [(Phase, &str); 5] = [
    (Phase::Load, "transactions of the load"),
    (Phase::ReadPresent, "reads of present keys"),
    (Phase::ReadAbsent, "reads of absent keys"),
    (Phase::Overwrite, "transactions that overwrite"),
    (Phase::Delete, "transactions that delete"),
];

const STEADY: [(Phase, &str); 4] = [
    (Phase::SyncAlone, "Sync alone"),
    (Phase::SyncBeside, "Sync beside overwrites"),
    (Phase::AsyncAlone, "Async alone"),
    (Phase::AsyncBeside, "Async beside overwrites"),
];

const ALL: [(Phase, &str); 12] = [
    (Phase::Load, "load"),
    (Phase::Close, "close"),
    (Phase::OpenClosed, "open after a close"),
    (Phase::BeforeKill, "overwrites before SIGKILL"),
    (Phase::OpenKilled, "open after SIGKILL"),
    (Phase::ReadPresent, "reads of present keys"),
    (Phase::ReadAbsent, "reads of absent keys"),
    (Phase::Scan, "scan"),
    (Phase::Overwrite, "overwrites"),
    (Phase::SettleOverwritten, "settling after them"),
    (Phase::Delete, "deletions"),
    (Phase::SettleDeleted, "settling after them"),
];

fn of(run: &Run, phase: Phase, told: fn(&Recorded) -> String) -> String {
    run.phase(phase).map_or(String::new(), told)
}

fn timed(text: &mut String, runs: &[&Run], phases: &[(Phase, &str)]) {
    push!(text, "Microseconds of single operations: p50; p99; p99.9; longest.\n");
    heads(text, runs, "");
    for (phase, name) in phases {
        line(text, name, runs.iter().map(|run| of(run, *phase, times)), "");
    }
    push!(text, "");
}

fn details(text: &mut String, runs: &[&Run]) {
    timed(text, runs, &TIMED);
    push!(text, "Read and written by the process, its memory and the directory at the end of each phase, in MiB.\n");
    heads(text, runs, "");
    for (phase, name) in ALL {
        line(text, name, runs.iter().map(|run| of(run, phase, bytes)), "");
    }
    push!(text, "");
}

fn times(recorded: &Recorded) -> String {
    recorded
        .outcome
        .times
        .map_or(String::new(), |times| [times.p50, times.p99, times.p999, times.max].map(figure).join("; "))
}

fn bytes(recorded: &Recorded) -> String {
    let outcome = &recorded.outcome;
    let [read, written, resident, disk] =
        [outcome.read, outcome.written, outcome.resident, recorded.disk].map(|bytes| bytes >> 20);
    format!("read {read}, written {written}, memory {resident}, disk {disk}")
}

/// What failed, and what was read that should not be.
fn failures(text: &mut String, runs: &[&Run]) {
    let mut told = Vec::new();
    for run in runs {
        told.extend(run.failures.iter().map(|failure| format!("- {}: {}", run.peer, failure.replace('\n', " "))));
        let wrong = run.phases.iter().map(|recorded| recorded.outcome).filter(|outcome| outcome.wrong > 0);
        told.extend(
            wrong.map(|outcome| format!("- {}: {} wrong answers in {:?}", run.peer, outcome.wrong, outcome.phase)),
        );
    }
    if !told.is_empty() {
        push!(text, "What went wrong:\n\n{}\n", told.join("\n"));
    }
}

fn configurations(text: &mut String, report: &ScaleReport) {
    push!(text, "### Configurations\n");
    push!(text, "| | version | told |");
    push!(text, "|---|---|---|");
    for peer in &report.peers {
        let version = peer.missing.as_ref().map_or(peer.version.clone(), |missing| format!("skipped: {missing}"));
        push!(text, "| {} | {version} | {} |", peer.name, peer.configuration);
    }
}
