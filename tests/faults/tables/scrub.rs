//! What a scrub of tables finds, and how much of it it keeps.

use super::*;

#[test]
fn a_scrub_keeps_the_first_findings_and_counts_the_others() {
    let mut work = Work::new();
    work.create("a");
    (0..1200_u32).for_each(|number| work.write("a", number.to_be_bytes(), Some(vec![1; 3900])));
    work.engine.checkpoint().unwrap();
    let run = work.disk.files().into_iter().find(|(path, _)| path.extension().is_some_and(|end| end == "run"));
    let (path, bytes) = run.unwrap();
    for (at, _) in bytes.windows(64).enumerate().step_by(64).filter(|(_, window)| window.iter().all(|byte| *byte == 1))
    {
        work.disk.flip_bit(&path, at as u64 * 8).unwrap();
    }
    let scrub = work.engine.scrub(fast()).unwrap();
    let found = scrub.wait().findings;
    assert!(found >= 1200, "{found}");
    assert_eq!(scrub.findings().len(), 1000);
}

/// An open passes over rot that the tables stand for, and so does a scrub.
#[test]
fn rot_behind_the_tables_is_no_finding() {
    let mut work = Work::new();
    work.create("a");
    let mut ends = Vec::new();
    for number in 0..20_u32 {
        work.write("a", number.to_be_bytes(), Some(vec![1; 100]));
        ends.push(work.engine.durable_lsn().get());
        if number == 9 {
            work.engine.checkpoint().unwrap();
        }
    }
    let log = format!("{DB}/0000000000000000.log");
    for (number, findings) in [(3, 0), (9, 0), (10, 1), (15, 1)] {
        let place = (ends[number] - 20) * 8;
        work.disk.flip_bit(&log, place).unwrap();
        let scrub = work.engine.scrub(fast()).unwrap();
        assert_eq!(scrub.wait().findings, findings, "record {number}: {:?}", scrub.findings());
        assert_eq!(Engine::read_only_on(Arc::new(copy(&work.disk)), DB).is_ok(), findings == 0, "record {number}");
        work.disk.flip_bit(&log, place).unwrap();
    }
}

/// A merge was made under a scrub, and then nothing is committed any more.
#[test]
fn files_that_a_scrub_held_go_when_it_ends() {
    sim::run(1, || {
        let mut work = Work::new();
        work.create("a");
        let round = |work: &mut Work, value: u8| {
            (0..30_u32).for_each(|number| work.write("a", number.to_be_bytes(), Some(vec![value; 200])));
            work.engine.checkpoint().unwrap();
        };
        round(&mut work, 1);
        let scrub = work.engine.scrub(ScrubOptions::default().bytes_per_second(2000)).unwrap();
        (2..5).for_each(|value| round(&mut work, value));
        let runs = |work: &Work| {
            let is_run = |path: &PathBuf| path.extension().is_some_and(|end| end == "run");
            work.disk.files().into_iter().map(|(path, _)| path).filter(is_run).count()
        };
        assert!(!scrub.progress().ended && runs(&work) > work.engine.table_stats().runs, "it holds none");
        assert_eq!(scrub.wait().findings, 0);
        assert_eq!(runs(&work), work.engine.table_stats().runs);
    });
}
