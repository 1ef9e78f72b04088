//! The file that the parts of the campaign write to.

use std::time::SystemTime;

use crashkit::TempDir;
use forelog_sim::figures::{Figure, Wanted};
use forelog_sim::results::{Results, Source, print_table};

const PARTS: [&str; 2] = ["tier1", "faults"];

fn source(commit: &str, clean: bool) -> Source {
    Source { commit: commit.to_owned(), clean }
}

/// A file with a line of each part, of a tree as `clean` says, with a figure that is `value` and has to be zero.
fn written(dir: &TempDir, clean: bool, value: u64) -> std::path::PathBuf {
    let file = dir.join("results");
    let now = source("a", clean);
    for part in PARTS {
        let results = Results::open(&file, now.clone()).unwrap();
        let figures = [Figure::new("simulated disk", "violations", value, Wanted::Zero)];
        results.append(&now, SystemTime::now(), part, 7, &figures).unwrap();
    }
    file
}

#[test]
fn a_file_with_figures_of_another_commit_is_refused() {
    let dir = TempDir::new("results");
    let file = written(&dir, true, 0);
    assert!(Results::open(&file, source("a", true)).is_ok());
    let error = Results::open(&file, source("b", true)).err().expect("two commits in one file");
    assert!(error.contains(" of a, this is b"), "{error}");
    // Nor is a file of two commits, however it came to be, made a table of.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen(r#""commit":"a""#, r#""commit":"b""#, 1)).unwrap();
    assert!(print_table(&file, &PARTS).is_err());
}

#[test]
fn figures_of_a_tree_that_changed_meanwhile_are_refused() {
    let dir = TempDir::new("results");
    let results = Results::open(&dir.join("results"), source("a", true)).unwrap();
    for now in [source("b", true), source("a", false)] {
        assert!(results.append(&now, SystemTime::now(), "tier1", 7, &[]).is_err());
    }
    assert!(!dir.join("results").exists());
}

#[test]
fn the_table_says_what_is_missing_and_what_is_not_met() {
    let dir = TempDir::new("results");
    assert_eq!(print_table(&written(&dir, true, 0), &PARTS).unwrap(), Vec::<String>::new());
    let with_more = print_table(&dir.join("results"), &["tier1", "faults", "kill"]).unwrap();
    assert_eq!(with_more, ["kill was not run"]);
    let dir = TempDir::new("results");
    let wrong = print_table(&written(&dir, false, 1), &PARTS).unwrap();
    assert_eq!(wrong.iter().filter(|what| what.contains("was not the commit's")).count(), 2, "{wrong:?}");
    assert_eq!(wrong.iter().filter(|what| what.contains("violations is 1")).count(), 2, "{wrong:?}");
}
