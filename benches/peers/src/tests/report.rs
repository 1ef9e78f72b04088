//! What the report says of measurements that are made up.

use crate::check::Checked;
use crate::child::Measured;
use crate::peer::{Kind, Reads};
use crate::place::Place;
use crate::report::{Cell, Described, Line, Machine, Report, Row, Settings, Standing, figure, lines, markdown, svg};

fn described(name: &str, kind: Kind) -> Described {
    Described {
        name: name.to_owned(),
        kind,
        version: "1".to_owned(),
        missing: None,
        sync: Some("a sync".to_owned()),
        written: None,
        asynchronous: None,
        reads: Some(Reads::OneSnapshot),
        advice: "none".to_owned(),
        check: None,
    }
}

fn cell(peer: &str, values: &[f64]) -> Cell {
    let rounds = values.iter().map(|value| Measured { value: *value, operations: 1, ..Measured::default() });
    Cell { peer: peer.to_owned(), rounds: rounds.collect(), error: None }
}

fn report(id: &str, cells: Vec<Cell>) -> Report {
    let place = Place { file_system: "ext4".to_owned(), device: "/dev/sda".to_owned(), memory: false };
    let machine =
        Machine { processor: "a processor".to_owned(), processors: 2, memory_mib: 1024, kernel: "6.1".to_owned() };
    let settings = Settings { rounds: 5, seconds: 1.0, transactions: 1000, command: String::new() };
    let kinds = [("raw", Kind::Raw), ("forelog", Kind::Engine), ("forelog::Log", Kind::Log), ("a", Kind::Engine)];
    let mut peers: Vec<Described> = kinds.map(|(name, kind)| described(name, kind)).into();
    peers.push(described("b", Kind::Engine));
    let row = Row { id: id.to_owned(), title: "a workload".to_owned(), cells };
    Report { machine, place, settings, peers, rows: vec![row] }
}

fn first(report: &Report) -> Line {
    lines(report).swap_remove(0)
}

#[test]
fn ratios_are_taken_within_rounds() {
    // Half of raw in each round, though the rounds differ by a factor of ten.
    let report = report("sync-1", vec![cell("raw", &[10.0, 100.0, 20.0]), cell("forelog", &[5.0, 50.0, 10.0])]);
    let ratio = first(&report).beside_raw().expect("both were measured");
    assert_eq!((ratio.low, ratio.median, ratio.high), (0.5, 0.5, 0.5));
}

#[test]
fn the_best_peer_is_an_engine_by_its_median() {
    let cells = vec![
        cell("raw", &[90.0; 3]),
        cell("forelog", &[30.0; 3]),
        cell("forelog::Log", &[80.0; 3]),
        cell("a", &[10.0, 20.0, 99.0]),
        cell("b", &[25.0, 25.0, 1.0]),
    ];
    assert_eq!(first(&report("sync-1", cells)).best_peer().map(|best| best.peer.as_str()), Some("b"));
}

#[test]
fn a_row_that_is_lost_is_shown_as_such() {
    for (ours, standing, word) in [
        ([10.0, 11.0, 12.0], Standing::Behind, "| **behind** |"),
        ([30.0, 31.0, 32.0], Standing::Ahead, "| ahead |"),
        ([19.0, 20.0, 21.0], Standing::Even, "| even |"),
    ] {
        let report = report("async-1", vec![cell("forelog", &ours), cell("a", &[20.0; 3])]);
        assert_eq!(first(&report).beside_best().map(|(_, standing)| standing), Some(standing));
        assert!(markdown::render(&report).contains(word), "{standing:?}");
    }
}

#[test]
fn less_is_better_where_seconds_are_measured() {
    let report = report("reopen", vec![cell("forelog", &[0.5; 3]), cell("a", &[1.0; 3]), cell("b", &[2.0; 3])]);
    let line = first(&report);
    assert_eq!(line.best_peer().map(|best| best.peer.as_str()), Some("a"));
    let (ratio, standing) = line.beside_best().expect("both were measured");
    assert_eq!((ratio.median, standing), (2.0, Standing::Ahead));
}

#[test]
fn a_peer_that_does_not_sync_is_marked_and_not_compared() {
    let mut report = report("sync-1", vec![cell("forelog", &[10.0; 3]), cell("a", &[99.0; 3]), cell("b", &[5.0; 3])]);
    report.peers[3].check = Some(Checked { alone: Some(0.0), by: "strace".to_owned(), ..Checked::default() });
    assert_eq!(first(&report).best_peer().map(|best| best.peer.as_str()), Some("b"));
    let text = markdown::render(&report);
    assert!(text.contains("does not sync") && text.contains("it does not: its Sync rows are not compared"));
    // Where nothing is said of syncs, it is.
    report.rows[0].id = "async-1".to_owned();
    assert_eq!(first(&report).best_peer().map(|best| best.peer.as_str()), Some("a"));
}

#[test]
fn in_memory_nothing_is_said_of_sync() {
    let mut report = report("sync-1", vec![cell("raw", &[9.0; 3]), cell("forelog", &[9.0; 3]), cell("a", &[3.0; 3])]);
    report.place.memory = true;
    let line = first(&report);
    assert!(line.beside_raw().is_none() && line.beside_best().is_none());
    assert!(markdown::render(&report).contains("meaningless: memory"));
    assert!(svg::render(&line).contains("meaningless: memory"));
}

#[test]
fn a_peer_that_failed_says_why_and_the_rest_is_shown() {
    let failed = Cell { error: Some("no | luck".to_owned()), ..cell("a", &[]) };
    let text = markdown::render(&report("sync-1", vec![cell("forelog", &[10.0; 3]), failed]));
    assert!(text.contains("| a | failed |") && text.contains("no   luck") && text.contains("| **forelog** | 10.0/s |"));
}

#[test]
fn beside_each_rate_stand_its_median_and_99_9th_percentile() {
    let timed = |peer, p50, p999| {
        let mut cell = cell(peer, &[9.0; 3]);
        for (round, factor) in cell.rounds.iter_mut().zip([1.0, 2.0, 3.0]) {
            (round.p50, round.p999) = (Some(p50 * factor), Some(p999 * factor));
        }
        cell
    };
    let cells = vec![timed("raw", 1.0, 10.0), timed("forelog", 2.0, 20.0), timed("a", 3.0, 30.0)];
    let text = markdown::render(&report("sync-1", cells));
    let row = text.lines().find(|line| line.starts_with("| a workload |")).expect("the summary");
    for expected in ["| 9.00/s | 2.00; 20.0 | 9.00/s | 4.00; 40.0 |", "| a 9.00/s | 6.00; 60.0 |"] {
        assert!(row.contains(expected), "{row}");
    }
}

#[test]
fn each_row_of_reads_says_what_a_read_sees() {
    let of_a_thread = ["one snapshot for all reads of a thread", "no snapshot: the latest state"];
    let of_a_scan = ["one snapshot a scan", "no snapshot: the latest state"];
    for (workload, expected) in [("get-1", of_a_thread), ("scan", of_a_scan), ("sync-1", ["", ""])] {
        let mut report = report(workload, vec![cell("forelog", &[9.0; 3]), cell("a", &[3.0; 3])]);
        report.peers[3].reads = Some(Reads::Latest);
        let text = markdown::render(&report);
        for (peer, expected) in ["**forelog**", "a"].into_iter().zip(expected) {
            let row = text.lines().find(|line| line.starts_with(&format!("| {peer} |"))).expect("a row of the peer");
            assert!(row.ends_with(&format!("| {expected} |")), "{row}");
        }
    }
}

#[test]
fn a_report_of_before_is_read() {
    let report = report("sync-1", vec![cell("forelog", &[2.0])]);
    let json = serde_json::to_string(&report).expect("plain data").replace("\"reads\":\"OneSnapshot\",", "");
    let read: Report = serde_json::from_str(&json).expect("a report without what reads see");
    assert!(read.peers.iter().all(|peer| peer.reads.is_none()));
}

#[test]
fn every_line_of_a_table_has_as_many_columns_as_its_head() {
    let cells = vec![cell("raw", &[9.0; 5]), cell("forelog", &[9.0; 5]), cell("a", &[3.0; 5])];
    let text = markdown::render(&report("sync-64", cells));
    let mut columns = 0;
    for line in text.lines().map(|line| line.matches('|').count()) {
        assert!(line == 0 || columns == 0 || line == columns, "{text}");
        columns = line;
    }
}

#[test]
fn a_report_survives_its_json() {
    let report = report("sync-1", vec![cell("raw", &[0.1, 1e9]), cell("forelog", &[2.0, 3.0])]);
    let json = serde_json::to_string(&report).expect("plain data");
    assert_eq!(serde_json::from_str::<Report>(&json).expect("its own JSON"), report);
}

#[test]
fn a_plot_has_a_bar_for_each_and_escapes_names() {
    let mut line = first(&report("sync-1", vec![cell("raw", &[9.0; 3]), cell("forelog", &[3.0; 3])]));
    line.title = "a < b & c".to_owned();
    let text = svg::render(&line);
    assert_eq!(text.matches("fill=\"#0b6e4f\"").count(), 1);
    assert_eq!(text.matches("stroke=").count(), 2);
    assert!(text.contains("a &lt; b &amp; c") && text.ends_with("</svg>\n"));
}

#[test]
fn figures_have_three_digits() {
    let figures = [231_456.0, 10_612.0, 999.6, 54.32, 5.432, 0.0712, 4_012_345.0, 0.0].map(figure);
    assert_eq!(figures, ["231k", "10.6k", "1000", "54.3", "5.43", "0.0712", "4.01M", "0"]);
}
