use std::path::{Path, PathBuf};

use super::*;
use crate::import::input::Input;
use crate::import::source::{Source, survey};

/// The first pair that is found in `keys`, with at most `most` hashes in memory.
fn first_of(keys: &[String], most: usize) -> Option<Twice> {
    let mut all = Keys::with_most(most);
    for (row, key) in (1..).zip(keys) {
        if let Some(twice) = all.add(key, row).unwrap() {
            return Some(twice);
        }
    }
    all.finish().unwrap()
}

#[test]
fn the_first_key_that_comes_twice_is_the_same_whatever_is_in_memory() {
    let distinct = |count: u64| (0..count).map(|row| format!("key {row}")).collect::<Vec<_>>();
    // Where a key comes again: row of the first, row of the second.
    let cases: [&[(usize, usize)]; 6] = [
        &[],
        &[(1, 2)],
        &[(1, 5000)],
        &[(4998, 5000)],
        &[(3000, 4000), (2, 4001), (7, 3999)],
        &[(10, 20), (20, 30), (10, 40)],
    ];
    for places in cases {
        let mut keys = distinct(5000);
        for (first, second) in places {
            keys[second - 1] = keys[first - 1].clone();
        }
        let expected = places.iter().min_by_key(|(_, second)| *second);
        let expected = expected.map(|&(first, second)| Twice { first: first as u64, second: second as u64 });
        for most in [1, 3, 100, 4999, 5000, 10_000] {
            assert_eq!(first_of(&keys, most), expected, "{places:?}, {most} in memory");
        }
    }
}

/// All of them come to one partition, which no number of passes makes smaller.
#[test]
fn a_key_that_most_rows_have_is_found_at_its_second_row() {
    let keys: Vec<_> = (0..20_000).map(|row| format!("key {}", row.min(50))).collect();
    assert_eq!(first_of(&keys, 10), Some(Twice { first: 51, second: 52 }));
}

#[test]
fn the_memory_of_the_engine_bounds_what_is_kept() {
    let most = |memory| Keys::new(memory).most;
    assert_eq!([most(None), most(Some(1 << 40)), most(Some(16 << 20))], [917_504, 917_504, 57_344]);
}

struct Csv(PathBuf);

impl Csv {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forelog-keys-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Csv(path)
    }

    /// The refusal, without the name of the file.
    fn refusal(&self, most: usize) -> String {
        let Failure::Told(told) = survey(self.source(&self.input()), Keys::with_most(most)).unwrap_err() else {
            panic!("no reader is gone")
        };
        told.replace(&self.0.display().to_string(), "FILE")
    }

    fn input(&self) -> Input {
        Input::open(Path::new(&self.0)).unwrap()
    }

    fn source<'a>(&self, input: &'a Input) -> Source<'a> {
        Source { input, key_column: "id", lenient: false }
    }
}

impl Drop for Csv {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A file whose rows take two lines each; `bad` stands in place of the key of its row.
fn text(rows: u64, bad: &[(u64, &str)]) -> String {
    (1..=rows).fold("name,id\n".to_owned(), |text, row| {
        let key = bad.iter().find(|(at, _)| *at == row).map_or(row.to_string(), |(_, key)| (*key).to_owned());
        text + &format!("\"a\nb\",{key}\n")
    })
}

#[test]
fn a_refusal_is_the_same_whatever_is_in_memory() {
    let twice = "FILE, row 900 (line 1800): the key '17' is in row 17 already: a key column must tell all rows apart";
    let cases = [
        ("twice", text(1000, &[(900, "17")]), twice),
        // A row without a key below it does not hide it, and one above it is told first.
        ("before", text(9000, &[(900, "17"), (8999, "")]), twice),
        ("behind", text(9000, &[(5, ""), (900, "17")]), "FILE, row 5 (line 10): no key: column 'id' is empty"),
    ];
    for (name, text, expected) in cases {
        let csv = Csv::new(name, &text);
        for most in [1, 100, 950, 100_000] {
            assert_eq!(csv.refusal(most), expected, "{most} in memory");
        }
    }
}

#[test]
fn what_a_file_has_does_not_depend_on_what_is_in_memory() {
    let csv = Csv::new("whole", &text(1000, &[]));
    for most in [1, 999, 1000, 1001] {
        assert_eq!(survey(csv.source(&csv.input()), Keys::with_most(most)).unwrap().rows, 1000);
    }
}
