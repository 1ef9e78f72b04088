//! The results of the trial, for people and for programs.

use std::fmt::Write;

use forelog::LossBudget;
use serde_json::{Value, json};

use super::Plan;
use super::advice;
use super::kill::Kill;
use super::measure::{Bench, Figures, RawBench, median};
use super::raw::RECORD_BYTES;
use crate::output::{grouped, rate, short, size};
use crate::workspace::Workspace;

const NO_SYNC: &str = "this file system is in memory: Sync means nothing here, and no commit survives power loss";

/// The greatest ratio to the raw limit may be so many times the least one.
const STEADY: f64 = 3.0;

/// All results.
pub(super) struct Report<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) plan: &'a Plan,
    pub(super) raw: &'a RawBench,
    pub(super) benches: &'a [Bench],
    pub(super) kills: &'a [Kill],
}

impl Report<'_> {
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let file_system = self.workspace.file_system.as_deref().unwrap_or("unknown file system");
        let parent = self.workspace.root().parent().unwrap_or(self.workspace.root());
        text.push_str(&format!("forelog trial in {} ({file_system})\n", parent.display()));
        if self.workspace.is_in_memory() {
            text.push_str(&format!("note: {NO_SYNC}\n"));
        }
        text.push('\n');
        text.push_str(&table(&self.raw_rows()));
        text.push('\n');
        text.push_str(&table(&self.mode_rows()));
        let budget = LossBudget::default();
        let _ = write!(
            text,
            "\nThe most that a crash could have taken in each, at any moment. The loss budget\nis {} commits, {}, {}: beyond it commits wait.\n\n",
            grouped(budget.max_commits),
            size(budget.max_bytes),
            short(budget.max_age)
        );
        text.push_str(&table(&self.window_rows()));
        text.push_str("\nA process that writes in each mode is killed, and its database opened again.\n\n");
        text.push_str(&table(&self.kill_rows()));
        text.push_str(
            "\nLost are commits that were acknowledged and not durable yet. A promise is kept\n\
             if they are no more than may be lost, and each of their tokens says \"lost\".\n\
             A killed process is not a power cut: what survives that one is Sync, and what a\n\
             receipt calls durable.\n\n",
        );
        text.push_str(&advice::text(self));
        for kill in self.kills {
            for broken in &kill.broken {
                let _ = write!(text, "\nBROKEN: {}: {broken}", kill.name);
            }
        }
        text
    }

    fn raw_rows(&self) -> Vec<Vec<String>> {
        let row = |name: String, figures: &Figures| {
            let [rate, p50, p99] = rate_cells(figures);
            vec![name, rate, p50, p99]
        };
        vec![
            ["raw limit of this disk", "ops/s", "p50", "p99"].map(str::to_owned).to_vec(),
            row(format!("pwrite {RECORD_BYTES} B + fdatasync"), &self.raw.synced),
            row(format!("pwrite {RECORD_BYTES} B"), &self.raw.written),
        ]
    }

    fn mode_rows(&self) -> Vec<Vec<String>> {
        let head = ["mode", "threads", "commits/s", "p50", "p99", "commits/fsync", "of raw"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for bench in self.benches {
            let [rate, p50, p99] = rate_cells(&bench.figures);
            rows.push(vec![
                bench.contender.name.to_owned(),
                bench.contender.threads.to_string(),
                rate,
                p50,
                p99,
                format!("{:.1}", per_fsync(bench)),
                self.of_raw(bench),
            ]);
        }
        rows
    }

    /// How many times the raw limit it came to, where the disk was steady enough for that to say something.
    fn of_raw(&self, bench: &Bench) -> String {
        let ratios = bench.figures.ratios(self.raw.limit_of(bench.contender.mode));
        let is_steady = most(&ratios) <= STEADY * least(&ratios);
        if is_steady { format!("{:.2}x", median(&ratios)) } else { "unsteady".to_owned() }
    }

    fn window_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![["mode", "threads", "commits", "bytes", "age"].map(str::to_owned).to_vec()];
        for Bench { contender, largest, .. } in self.benches {
            rows.push(vec![
                contender.name.to_owned(),
                contender.threads.to_string(),
                grouped(largest.commits),
                size(largest.bytes),
                short(largest.age),
            ]);
        }
        rows
    }

    fn kill_rows(&self) -> Vec<Vec<String>> {
        let head = ["killed in", "acknowledged", "recovered", "lost", "may lose", "opened in", "promise"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for kill in self.kills {
            rows.push(vec![
                kill.name.to_owned(),
                grouped(kill.acknowledged),
                grouped(kill.recovered),
                grouped(kill.lost()),
                grouped(kill.allowed),
                short(kill.reopened_in),
                if kill.broken.is_empty() { "kept" } else { "BROKEN" }.to_owned(),
            ]);
        }
        rows
    }

    pub(super) fn json(&self) -> String {
        let budget = LossBudget::default();
        let notes: &[&str] = if self.workspace.is_in_memory() { &[NO_SYNC] } else { &[] };
        json!({
            "directory": self.workspace.root().parent().map(|parent| parent.to_string_lossy()),
            "file_system": self.workspace.file_system,
            "notes": notes,
            "rounds": self.plan.rounds,
            "slice_seconds": self.plan.slice.as_secs_f64(),
            "budget": {
                "commits": budget.max_commits,
                "bytes": budget.max_bytes,
                "seconds": budget.max_age.as_secs_f64(),
            },
            "raw": { "pwrite_fdatasync": figures_json(&self.raw.synced), "pwrite": figures_json(&self.raw.written) },
            "modes": self.benches.iter().map(|bench| self.bench_json(bench)).collect::<Vec<_>>(),
            "kills": self.kills.iter().map(kill_json).collect::<Vec<_>>(),
            "broken": self.kills.iter().any(|kill| !kill.broken.is_empty()),
        })
        .to_string()
    }

    fn bench_json(&self, bench: &Bench) -> Value {
        let ratios = bench.figures.ratios(self.raw.limit_of(bench.contender.mode));
        let mut value = figures_json(&bench.figures);
        value["mode"] = bench.contender.name.into();
        value["threads"] = bench.contender.threads.into();
        value["ratio_to_raw"] = json!({ "median": median(&ratios), "least": least(&ratios), "most": most(&ratios) });
        value["commits_per_fsync"] = per_fsync(bench).into();
        value["largest_window"] = json!({
            "commits": bench.largest.commits,
            "bytes": bench.largest.bytes,
            "seconds": bench.largest.age.as_secs_f64(),
        });
        value
    }
}

fn rate_cells(figures: &Figures) -> [String; 3] {
    let quantile = |of| short(figures.latencies.quantile(of));
    [rate(figures.rate()), quantile(0.5), quantile(0.99)]
}

fn least(ratios: &[f64]) -> f64 {
    ratios.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(ratios: &[f64]) -> f64 {
    ratios.iter().copied().fold(0.0, f64::max)
}

pub(super) fn per_fsync(bench: &Bench) -> f64 {
    bench.commits as f64 / bench.fsyncs.max(1) as f64
}

fn figures_json(figures: &Figures) -> Value {
    json!({
        "per_second": figures.rate(),
        "operations": figures.latencies.count(),
        "p50_seconds": figures.latencies.quantile(0.5).as_secs_f64(),
        "p99_seconds": figures.latencies.quantile(0.99).as_secs_f64(),
    })
}

fn kill_json(kill: &Kill) -> Value {
    json!({
        "mode": kill.name,
        "acknowledged": kill.acknowledged,
        "durable_receipts": kill.durable,
        "recovered": kill.recovered,
        "lost": kill.lost(),
        "lost_allowed": kill.allowed,
        "tokens_asked": kill.tokens,
        "reopen_seconds": kill.reopened_in.as_secs_f64(),
        "broken": kill.broken,
    })
}

/// Columns side by side, the first one left-aligned, figures right-aligned.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 { write!(text, "{cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The widest rows that there can be, by far.
    #[test]
    fn every_table_fits_eighty_columns() {
        let modes = ["Within(5 ms)", "4", "12,345,678", "1,234 us", "1,234 ms", "123,456.7", "1,234.56x"];
        let kills = ["Within(5 ms)", "123,456,789", "123,456,789", "123,456", "123,456", "1,234 ms", "BROKEN"];
        let heads = [
            ["mode", "threads", "commits/s", "p50", "p99", "commits/fsync", "of raw"],
            ["killed in", "acknowledged", "recovered", "lost", "may lose", "opened in", "promise"],
        ];
        for (head, row) in heads.into_iter().zip([modes, kills]) {
            let text = table(&[head, row].map(|row| row.map(str::to_owned).to_vec()));
            assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [["mode", "n"], ["Sync", "1,000"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "mode      n\nSync  1,000\n");
    }
}
