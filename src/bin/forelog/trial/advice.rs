//! What the figures say, in words: which mode for what, on this disk.

use forelog::{CommitMode, LossBudget};

use super::measure::Bench;
use super::report::Report;
use crate::output::{grouped, rate, short, size};

/// Columns of a terminal.
const WIDTH: usize = 79;

/// The advice, a paragraph for each mode.
pub(super) fn text(report: &Report<'_>) -> String {
    let of = |mode: fn(CommitMode) -> bool| report.benches.iter().filter(move |bench| mode(bench.contender.mode));
    let alone = of(|mode| mode == CommitMode::Sync).next();
    let together = of(|mode| mode == CommitMode::Sync).next_back();
    let (written, async_) =
        (of(|mode| mode == CommitMode::Written).next(), of(|mode| mode == CommitMode::Async).next());
    let (Some(alone), Some(together), Some(written), Some(async_)) = (alone, together, written, async_) else {
        return String::new();
    };
    let [one, four] = [alone, together].map(|bench| rate(bench.figures.rate()));
    let budget = LossBudget::default();
    let mut paragraphs = vec![format!(
        "Sync if somebody acts on the answer: {one} a second here from one thread, {four} from {} threads, as commits at the same time share an fsync.",
        together.contender.threads
    )];
    if report.workspace.is_in_memory() {
        paragraphs[0] += " (This file system is in memory, so these figures say nothing of a disk.)";
    }
    paragraphs.push(format!(
        "Written if you fear the end of the program, and not of the machine: {} a second, {} as many as Sync alone.",
        rate(written.figures.rate()),
        times(written, alone)
    ));
    paragraphs.push(format!(
        "Async if it can be done again: {} a second, {} as many. A crash takes the newest, at most {} commits, {}, or {} of them. Within(d) bounds the time further.",
        rate(async_.figures.rate()),
        times(async_, alone),
        grouped(budget.max_commits),
        size(budget.max_bytes),
        short(budget.max_age)
    ));
    let head = "On this disk:\n".to_owned();
    paragraphs.iter().fold(head, |text, paragraph| text + &wrapped(paragraph))
}

fn times(bench: &Bench, other: &Bench) -> String {
    let ratio = bench.figures.rate() / other.figures.rate().max(f64::MIN_POSITIVE);
    match ratio {
        ratio if ratio < 10.0 => format!("{ratio:.1} times"),
        ratio => format!("{ratio:.0} times"),
    }
}

/// The text in lines that fit, the first with a mark, the others below it.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::from("-")];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one");
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("  {word}"));
        } else {
            *line += " ";
            *line += word;
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_lose_no_word() {
        let text = "word ".repeat(60) + "end";
        let wrapped = wrapped(&text);
        assert!(wrapped.lines().all(|line| line.chars().count() <= WIDTH));
        assert_eq!(wrapped.split_whitespace().skip(1).collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
    }
}
