//! What is drawn over time: memory and disk of the whole run, rates and latencies of the phases that write.

use super::super::event::{Phase, Second};
use super::super::histogram::Times;
use super::chart::{Chart, Line, Together, render};
use super::{Kind, Run, Sample, ScaleReport};

const MIB: f64 = (1 << 20) as f64;

/// File names without an ending, and plots.
pub fn all(report: &ScaleReport) -> Vec<(String, String)> {
    let plots = if report.kind == Kind::Steady { steady(report) } else { of_a_course(report) };
    plots.into_iter().map(|(name, chart)| (name, render(&chart))).collect()
}

/// Of the whole run, and of its phases that write.
fn of_a_course(report: &ScaleReport) -> Vec<(String, Chart)> {
    let memory = Some(report.memory as f64 / MIB);
    let mib = |bytes: u64| Some(bytes as f64 / MIB);
    let mut plots = vec![
        ("memory", over_run(report, "memory of the process", memory, &|sample| mib(sample.resident))),
        ("memory-anonymous", over_run(report, "memory that no file backs", memory, &|sample| mib(sample.anonymous))),
        ("disk", over_run(report, "directory", None, &|sample| mib(sample.disk))),
        ("written", over_run(report, "written to the device since the begin", None, &|sample| mib(sample.written))),
    ];
    if report.limited_by.is_some() {
        let chart = over_run(report, "memory of the control group, page cache included", memory, &|sample| {
            sample.group.and_then(mib)
        });
        plots.push(("memory-group", chart));
    }
    let mut plots: Vec<(String, Chart)> = plots.into_iter().map(|(name, chart)| (name.to_owned(), chart)).collect();
    let phases: &[(Phase, &str)] = match report.kind {
        Kind::Phases => &[(Phase::Load, "load"), (Phase::Overwrite, "overwrites"), (Phase::Delete, "deletions")],
        Kind::Few => &[(Phase::Load, "load")],
        Kind::Opens | Kind::Steady => &[],
    };
    for (phase, name) in phases {
        plots.push((format!("rate-{name}"), rates(report, *phase, name)));
        plots.push((
            format!("p99-{name}"),
            latencies(report, *phase, &format!("{name}: p99 of each second"), |it| it.p99),
        ));
        plots.push((
            format!("max-{name}"),
            latencies(report, *phase, &format!("{name}: longest of each second"), |it| it.max),
        ));
    }
    plots
}

fn over_run(report: &ScaleReport, title: &str, limit: Option<f64>, value: &dyn Fn(&Sample) -> Option<f64>) -> Chart {
    let line = |run: &Run| Line {
        name: run.peer.clone(),
        points: run.samples.iter().filter_map(|sample| Some((sample.at, value(sample)?))).collect(),
        marks: run.samples.windows(2).filter(|two| two[0].phase != two[1].phase).map(|two| two[1].at).collect(),
    };
    Chart {
        title: format!("{title}; dots where a phase begins"),
        unit: "MiB",
        is_logarithmic: false,
        together: Together::Most,
        limit,
        lines: report.runs.iter().map(line).collect(),
    }
}

/// The seconds of a phase, from its begin on.
fn of_phase(run: &Run, phase: Phase, value: &dyn Fn(&Second) -> Option<f64>) -> Line {
    let seconds = run.seconds.iter().filter(|second| second.phase == phase);
    let points = seconds.scan(0.0, |end, second| {
        *end += second.length;
        Some((*end, value(second)))
    });
    let points = points.filter_map(|(end, value)| Some((end, value?)));
    Line { name: run.peer.clone(), points: points.collect(), marks: Vec::new() }
}

/// Single commits, alone and then beside overwrites, one plot for each mode and percentile.
fn steady(report: &ScaleReport) -> Vec<(String, Chart)> {
    const MODES: [(&str, [Phase; 2]); 2] =
        [("Sync", [Phase::SyncAlone, Phase::SyncBeside]), ("Async", [Phase::AsyncAlone, Phase::AsyncBeside])];
    const TIMES: [(&str, fn(&Times) -> f64); 4] =
        [("p50", |it| it.p50), ("p99", |it| it.p99), ("p99.9", |it| it.p999), ("longest", |it| it.max)];
    let chart = |mode: &str, phases: [Phase; 2], name: &str, of: fn(&Times) -> f64| Chart {
        title: format!("{mode} commits: {name} of each second, alone, and from the dot on beside overwrites"),
        unit: "microseconds",
        is_logarithmic: true,
        together: Together::Most,
        limit: None,
        lines: report
            .runs
            .iter()
            .map(|run| one_after_the_other(run, phases, &|second| second.times.as_ref().map(of)))
            .collect(),
    };
    let plots = MODES.iter().flat_map(|(mode, phases)| {
        let named = move |(name, of): &(&str, fn(&Times) -> f64)| {
            (format!("{}-{name}", mode.to_lowercase()), chart(mode, *phases, name, *of))
        };
        TIMES.iter().map(named)
    });
    plots.collect()
}

/// Two phases as one line, with a mark where the second one begins.
fn one_after_the_other(run: &Run, [first, second]: [Phase; 2], value: &dyn Fn(&Second) -> Option<f64>) -> Line {
    let (mut line, next) = (of_phase(run, first, value), of_phase(run, second, value));
    let end = line.points.last().map_or(0.0, |point| point.0);
    line.marks.extend(next.points.first().map(|point| end + point.0));
    line.points.extend(next.points.into_iter().map(|(at, value)| (end + at, value)));
    line
}

fn rates(report: &ScaleReport, phase: Phase, name: &str) -> Chart {
    let lines =
        report.runs.iter().map(|run| of_phase(run, phase, &|second| Some(second.operations as f64 / second.length)));
    Chart {
        title: format!("{name}: keys a second"),
        unit: "keys",
        is_logarithmic: false,
        together: Together::Mean,
        limit: None,
        lines: lines.collect(),
    }
}

fn latencies(report: &ScaleReport, phase: Phase, title: &str, of: fn(&Times) -> f64) -> Chart {
    let lines = report.runs.iter().map(|run| of_phase(run, phase, &|second| second.times.as_ref().map(of)));
    Chart {
        title: format!("{title}, of transactions"),
        unit: "microseconds",
        is_logarithmic: true,
        together: Together::Most,
        limit: None,
        lines: lines.collect(),
    }
}
