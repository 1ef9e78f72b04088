//! The report, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::fate::Lie;
use super::script::MODES;
use super::tally::{Lies, Outcomes, Tally};
use crate::output::{grouped, short};
use crate::workspace::Workspace;

pub(super) struct Report<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) seed: u64,
    pub(super) took: Duration,
    pub(super) tally: &'a Tally,
    /// Why no process could be stopped at its system calls.
    pub(super) untraced: Option<&'a str>,
    /// The broken promise and the case that broke it.
    pub(super) broken: Option<(&'a str, &'a str)>,
}

impl Report<'_> {
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text.trim_end().to_owned()
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let tally = self.tally;
        let file_system = self.workspace.file_system.as_deref().unwrap_or("unknown file system");
        let parent = self.workspace.root().parent().unwrap_or(self.workspace.root());
        writeln!(text, "{} ({file_system}), seed {}, {}", parent.display(), self.seed, short(self.took))?;
        if let Some(why) = self.untraced {
            writeln!(text, "\nno ptrace here, so kills come at random only: {why}")?;
        }
        self.write_boundaries(text)?;
        self.write_errors(text)?;
        self.write_lies(text)?;
        writeln!(text, "\nprocesses ended otherwise")?;
        for (death, count) in &tally.deaths {
            writeln!(text, "  {death:24} {:>9}", grouped(*count))?;
        }
        if let Some(why) = &tally.no_cgroup {
            writeln!(text, "  none for want of memory: {why}")?;
        }
        writeln!(text, "  {:24} {:>9}", "killed at random", grouped(tally.random_kills))?;
        writeln!(text, "  a second process was refused while the first ran: {} times", grouped(tally.locked))?;
        writeln!(text, "\nmode        acknowledged       lost")?;
        for (index, (mode, _)) in MODES.iter().enumerate() {
            let (acknowledged, lost) = (grouped(tally.acknowledged[index]), grouped(tally.lost[index]));
            writeln!(text, "{mode:10} {acknowledged:>13} {lost:>10}")?;
        }
        writeln!(text, "largest loss in one crash: {} commits", grouped(tally.largest_loss))?;
        writeln!(
            text,
            "\n{} processes, {} crashes checked ({} distinct), opened {} times, {} tokens asked about",
            grouped(tally.processes),
            grouped(tally.checks),
            grouped(tally.images.len() as u64),
            grouped(tally.opens),
            grouped(tally.tokens)
        )?;
        writeln!(text, "{} backups opened and compared", grouped(tally.backups))?;
        for (modes, images) in &tally.images_of {
            writeln!(text, "  distinct after commits of {modes:12} {:>9}", grouped(images.len() as u64))?;
        }
        match self.broken {
            None => writeln!(text, "violations: 0"),
            Some((what, _)) => writeln!(text, "violations: 1\n  {what}\n{}", self.how_to_replay()),
        }
    }

    fn write_boundaries(&self, text: &mut String) -> std::fmt::Result {
        let tally = self.tally;
        if tally.points.is_empty() {
            return Ok(());
        }
        writeln!(text, "\nkilled at system calls             before     after        of")?;
        for covered in &tally.boundaries {
            let of = covered.of.map_or("(time over)".to_owned(), grouped);
            let (before, after) = (grouped(covered.before), grouped(covered.after));
            writeln!(text, "  {:30} {before:>8} {after:>9} {of:>9}", covered.script)?;
        }
        for (depth, recovery) in tally.recovery.iter().enumerate().filter(|(_, recovery)| recovery.covered > 0) {
            let what = format!("recovery no. {} in a row", depth + 1);
            let of = if recovery.cut_short { "(time over)".to_owned() } else { grouped(recovery.of) };
            writeln!(text, "  {what:30} {:>8} {:>9} {of:>9}", grouped(recovery.covered), "")?;
        }
        for ((phase, call), [before, after]) in &tally.points {
            let place = format!("{} {}", phase.name(), call.name());
            writeln!(text, "    {place:28} {:>8} {:>9}", grouped(*before), grouped(*after))?;
        }
        Ok(())
    }

    fn write_errors(&self, text: &mut String) -> std::fmt::Result {
        if self.tally.errors.is_empty() {
            return Ok(());
        }
        writeln!(text, "\nfailed calls           unnoticed   went on  poisoned  not opened")?;
        for ((call, fault), outcomes) in &self.tally.errors {
            let Outcomes { unnoticed, went_on, poisoned, not_opened } = outcomes;
            let what = format!("{} {}", call.name(), fault.name());
            writeln!(text, "  {what:20} {unnoticed:>9} {went_on:>9} {poisoned:>9} {not_opened:>11}")?;
        }
        Ok(())
    }

    fn write_lies(&self, text: &mut String) -> std::fmt::Result {
        if self.tally.lies.is_empty() {
            return Ok(());
        }
        writeln!(text, "\nwrites that lied        harmless    refused   lost what they took (commits)")?;
        for (lie, Lies { harmless, took, taken, refused }) in &self.tally.lies {
            writeln!(text, "  {:20} {harmless:>9} {refused:>10} {took:>10} ({taken})", lie.name())?;
        }
        Ok(())
    }

    /// One line that does it again.
    fn how_to_replay(&self) -> String {
        let case = self.broken.map_or("", |(_, case)| case);
        let parent = self.workspace.root().parent().unwrap_or(self.workspace.root());
        format!("again: forelog-torture --dir {} --seed {} --replay '{case}'", parent.display(), self.seed)
    }

    fn lies_json(&self) -> Vec<Value> {
        let json = |(lie, outcomes): (&Lie, &Lies)| {
            let Lies { harmless, took, taken, refused } = outcomes;
            json!({ "lie": lie.name(), "harmless": harmless, "refused": refused, "took": took, "commits_taken": taken })
        };
        self.tally.lies.iter().map(json).collect()
    }

    pub(super) fn json(&self) -> String {
        let tally = self.tally;
        let boundaries: Vec<Value> = tally
            .boundaries
            .iter()
            .map(|c| json!({ "script": c.script, "before": c.before, "after": c.after, "of": c.of }))
            .collect();
        let points: Vec<Value> = tally
            .points
            .iter()
            .map(|((phase, call), [before, after])| {
                json!({ "phase": phase.name(), "call": call.name(), "before": before, "after": after })
            })
            .collect();
        let errors: Vec<Value> = tally
            .errors
            .iter()
            .map(|((call, fault), outcomes)| {
                json!({
                    "call": call.name(), "fault": fault.name(), "injected": outcomes.sum(),
                    "unnoticed": outcomes.unnoticed, "went_on": outcomes.went_on,
                    "poisoned": outcomes.poisoned, "not_opened": outcomes.not_opened,
                })
            })
            .collect();
        let modes: Vec<Value> = MODES
            .iter()
            .enumerate()
            .map(|(index, (mode, _))| {
                json!({ "mode": mode, "acknowledged": tally.acknowledged[index], "lost": tally.lost[index] })
            })
            .collect();
        let report = json!({
            "directory": self.workspace.root().parent().map(|parent| parent.to_string_lossy()),
            "file_system": self.workspace.file_system,
            "seed": self.seed,
            "seconds": self.took.as_secs_f64(),
            "untraced": self.untraced,
            "boundaries": boundaries,
            "points": points,
            "recovery": tally.recovery.map(|depth| {
                json!({ "before": depth.covered, "of": Some(depth.of).filter(|_| !depth.cut_short) })
            }),
            "errors": errors,
            "lies": self.lies_json(),
            "deaths": tally.deaths,
            "no_cgroup": tally.no_cgroup,
            "random_kills": tally.random_kills,
            "locked": tally.locked,
            "processes": tally.processes,
            "states": tally.checks,
            "distinct_states": tally.images.len(),
            "distinct_states_of": tally.images_of.iter().map(|(modes, images)| (*modes, images.len())).collect::<BTreeMap<_, _>>(),
            "opens": tally.opens,
            "backups": tally.backups,
            "tokens": tally.tokens,
            "modes": modes,
            "durable": tally.durable,
            "largest_loss_commits": tally.largest_loss,
            "violations": u64::from(self.broken.is_some()),
            "violation": self.broken.map(|(what, _)| what),
            "replay": self.broken.map(|_| self.how_to_replay()),
        });
        format!("{report:#}")
    }
}
