//! Counts, in the order in which they are printed.

use std::collections::BTreeMap;
use std::fmt;

use super::verdict::Violation;

const VIOLATIONS: [&str; 4] = ["SILENT", "WRONG", "PANIC", "HANG"];

pub fn is_violation(outcome: &str) -> bool {
    VIOLATIONS.contains(&outcome)
}

/// Rows of what was done, columns of what became of it.
#[derive(Default)]
pub struct Matrix {
    rows: BTreeMap<String, BTreeMap<String, u64>>,
    pub silent: u64,
    pub wrong: u64,
    pub panic: u64,
    pub hang: u64,
    /// The first of them, in words.
    pub violations: Vec<String>,
}

const TOLD: usize = 20;

impl Matrix {
    pub fn count(&mut self, row: impl Into<String>, outcome: impl Into<String>) {
        *self.rows.entry(row.into()).or_default().entry(outcome.into()).or_default() += 1;
    }

    pub fn judge(&mut self, row: impl Into<String>, result: Result<impl Into<String>, Violation>) {
        let row = row.into();
        match result {
            Ok(outcome) => self.count(row, outcome),
            Err(violation) => {
                let (counter, column) = match &violation {
                    Violation::Silent(_) => (&mut self.silent, VIOLATIONS[0]),
                    Violation::Wrong(_) => (&mut self.wrong, VIOLATIONS[1]),
                    Violation::Panic(_) => (&mut self.panic, VIOLATIONS[2]),
                    Violation::Hang(_) => (&mut self.hang, VIOLATIONS[3]),
                };
                *counter += 1;
                if self.violations.len() < TOLD {
                    self.violations.push(format!("{row}: {violation}"));
                }
                self.count(row, column);
            }
        }
    }

    pub fn merge(&mut self, other: Matrix) {
        for (row, columns) in other.rows {
            let own = self.rows.entry(row).or_default();
            for (column, count) in columns {
                *own.entry(column).or_default() += count;
            }
        }
        self.silent += other.silent;
        self.wrong += other.wrong;
        self.panic += other.panic;
        self.hang += other.hang;
        self.violations.extend(other.violations);
        self.violations.truncate(TOLD);
    }

    /// All cases that ended so.
    pub fn total(&self, outcome: &str) -> u64 {
        self.rows.values().filter_map(|columns| columns.get(outcome)).sum()
    }

    pub fn cases(&self) -> u64 {
        self.rows.values().flat_map(BTreeMap::values).sum()
    }

    pub fn row_total(&self, row: &str) -> u64 {
        self.rows.get(row).map_or(0, |columns| columns.values().sum())
    }

    pub fn rows(&self) -> Vec<String> {
        self.rows.keys().cloned().collect()
    }

    pub fn count_of(&self, row: &str, outcome: &str) -> u64 {
        self.rows.get(row).and_then(|columns| columns.get(outcome)).copied().unwrap_or_default()
    }

    /// The ways in which cases ended, most frequent first.
    pub fn outcomes(&self) -> Vec<String> {
        let mut totals: BTreeMap<&String, u64> = BTreeMap::new();
        for (column, count) in self.rows.values().flatten() {
            *totals.entry(column).or_default() += count;
        }
        let mut columns: Vec<_> = totals.into_iter().collect();
        columns.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        columns.into_iter().map(|(column, _)| column.clone()).collect()
    }

    /// Prints the table, and panics if something was there that must not be.
    #[track_caller]
    pub fn assert_clean(&self, what: &str) {
        println!("{what}: {} cases\n{self}", self.cases());
        assert!(self.violations.is_empty(), "{what}: {} violations:\n{}", self.bad(), self.violations.join("\n"));
    }

    pub fn bad(&self) -> u64 {
        self.silent + self.wrong + self.panic + self.hang
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.outcomes();
        let width = self.rows.keys().map(String::len).max().unwrap_or_default();
        for (row, counts) in &self.rows {
            write!(f, "  {row:<width$}")?;
            for column in &columns {
                if let Some(count) = counts.get(column) {
                    write!(f, "  {column}: {count}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
