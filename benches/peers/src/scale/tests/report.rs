use crate::place::Place;
use crate::report::Machine;
use crate::scale::event::{Data, Outcome, Phase, Second};
use crate::scale::histogram::Times;
use crate::scale::report::chart::{Together, thinned};
use crate::scale::report::{Configured, Kind, Recorded, Run, ScaleReport, markdown, plots};

const DATA: Data = Data { keys: 1000, value_bytes: 84, writes: 1000, seed: 1 };

fn run(peer: &str, seconds: f64, is_cut: bool) -> Run {
    let times = Times { p50: 1.0, p99: 2.0, p999: 3.0, max: 4000.0 };
    let outcome = |phase, operations, seconds, is_cut| Outcome {
        phase,
        operations,
        wanted: 1000,
        is_cut,
        seconds,
        times: Some(times),
        wrong: 0,
        resident: 5 << 20,
        read: 0,
        written: 150_000,
    };
    let mut run = Run::new(peer, DATA);
    let load = outcome(Phase::Load, if is_cut { 500 } else { 1000 }, seconds, is_cut);
    run.phases.push(Recorded { outcome: load, disk: 1 });
    run.phases.push(Recorded { outcome: outcome(Phase::Close, 1, 0.5, false), disk: 200_000 });
    run.seconds.push(Second { phase: Phase::Load, at: 1.0, length: 1.0, operations: 10, times: Some(times) });
    run
}

fn report(runs: Vec<Run>) -> ScaleReport {
    let place = Place { file_system: "ext4".to_owned(), device: "disk".to_owned(), memory: false };
    let configured = |run: &Run| Configured {
        name: run.peer.clone(),
        version: "1".to_owned(),
        missing: None,
        configuration: "all defaults".to_owned(),
    };
    let (kind, machine, peers) = (Kind::Phases, Machine::this(), runs.iter().map(configured).collect());
    ScaleReport {
        kind,
        machine,
        place,
        memory: 1 << 30,
        limited_by: None,
        seconds: 60.0,
        command: String::new(),
        peers,
        runs,
    }
}

#[test]
fn the_table_says_where_forelog_is_behind_and_what_was_cut() {
    let mut failed = run("redb", 1.0, false);
    failed.phases.clear();
    failed.failures.push("Load: it broke".to_owned());
    failed
        .phases
        .push(Recorded { outcome: Outcome { wrong: 3, ..run("redb", 1.0, false).phases[0].outcome }, disk: 0 });
    let told = markdown::render(&report(vec![run("forelog", 10.0, true), run("lmdb", 2.0, false), failed]));
    let lines = [
        "| load in random order, 100 keys a transaction | 50.0/s (cut at 500) | 500/s | 1000/s | **behind**: 0.0500 times redb |",
        "| puts loaded | 500 of 1000 | 1000 | 1000 |  |",
        "| close after it | 0.50 s | 0.50 s | failed | even: 1.00 times lmdb |",
        "| written to the device for each byte loaded, until closed | 6.00 (cut at 500) | 3.00 | failed | **behind**: 0.50 times lmdb |",
        "| directory for each byte of data, closed | 4.00 | 2.00 | failed | **behind**: 0.50 times lmdb |",
        "- redb: Load: it broke",
        "- redb: 3 wrong answers in Load",
        "| lmdb | 1 | all defaults |",
    ];
    for line in lines {
        assert!(told.contains(line), "{line}\n{told}");
    }
    assert!(told.contains("**Nothing held the engines to 1024 MiB"), "{told}");
}

#[test]
fn plots_have_a_line_for_each_engine() {
    let plots = plots::all(&report(vec![run("forelog", 1.0, false), run("lmdb", 1.0, false)]));
    let load = &plots.iter().find(|(name, _)| name == "max-load").expect("a plot").1;
    assert!(load.starts_with("<svg") && load.ends_with("</svg>\n"), "{load}");
    assert_eq!(load.matches("<circle").count(), 2, "a line of one point is seen");
    assert!(load.contains(">forelog</text>") && load.contains(">lmdb</text>"), "{load}");
}

#[test]
fn many_points_are_put_together() {
    let points: Vec<(f64, f64)> = (0..3000).map(|number| (f64::from(number), f64::from(number % 10))).collect();
    assert_eq!(thinned(&points[..100], Together::Mean), points[..100]);
    for (together, value) in [(Together::Mean, 4.5), (Together::Most, 9.0)] {
        let thin = thinned(&points, together);
        assert_eq!(thin.len(), 300);
        assert!(thin.iter().all(|point| point.1 == value));
    }
}
