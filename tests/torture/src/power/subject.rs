//! What is put on the file system and judged after the power cut: forelog, or a control.

use std::io;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use crashkit::ledger::Ending;
use crashkit::{journal, watched_work};

use super::reference::{self, Sin};
use super::sqlite;
use super::system::is_installed;
use super::traced::traced_disk;
use super::worker::{Marker, Verdict};
use crate::books::{Books, Event, Reporter};
use crate::check;
use crate::model::Action;
use crate::script::Script;
use crate::workload::{self, Work};
use crashkit::Random;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subject {
    Forelog,
    Reference(Sin),
    Sqlite,
    /// forelog, with its file operations told; not judged.
    Traced,
}

impl Subject {
    pub(super) fn name(self) -> String {
        match self {
            Subject::Forelog => "forelog".to_owned(),
            Subject::Sqlite => "sqlite".to_owned(),
            Subject::Traced => "traced".to_owned(),
            Subject::Reference(sin) => {
                sin.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
            }
        }
    }

    /// The program that it needs, if it is not installed.
    pub(super) fn missing(self) -> Option<String> {
        if self != Subject::Sqlite || is_installed(sqlite::PROGRAM) {
            return None;
        }
        Some(format!("{} is not installed", sqlite::PROGRAM))
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "forelog" => Some(Subject::Forelog),
            "sqlite" => Some(Subject::Sqlite),
            "traced" => Some(Subject::Traced),
            name => Sin::from_str(name, false).ok().map(Subject::Reference),
        }
    }

    /// Works in a directory that is empty, or is what a power cut left after these marks.
    pub(super) fn work(self, dir: &Path, seed: u64, marks: &[String], marker: &Arc<Marker>) -> io::Result<()> {
        let count = if marks.is_empty() { 20 + seed % 10 } else { seed % 3 };
        match self {
            Subject::Forelog => work(dir, seed, marks, marker),
            Subject::Reference(sin) => reference::work(dir, sin, count, marks, marker),
            Subject::Sqlite => sqlite::work(dir, count, marks, marker),
            Subject::Traced => watched_work(traced_disk(marker), dir).map_err(io::Error::other),
        }
    }

    /// Opens what a power cut left and judges it by what was told until then.
    pub(super) fn check(self, dir: &Path, marks: &[String]) -> Verdict {
        match self {
            Subject::Forelog => {
                books(marks).map_or_else(Verdict::Broken, |mut books| match check::check(dir, &mut books) {
                    Ok(_) => Verdict::Fine,
                    Err(violation) if violation.what().contains("REFUSED") => Verdict::Refused(violation.what().into()),
                    Err(violation) => Verdict::Broken(violation.what().into()),
                })
            }
            Subject::Reference(sin) => reference::check(dir, sin, marks),
            Subject::Sqlite => sqlite::check(dir, marks),
            Subject::Traced => Verdict::Fine,
        }
    }
}

/// The mark before the first line of each life: `begin SEED SCRIPT`.
const BEGIN: &str = "begin ";

/// The modes of a first life, by the remainder of its seed.
const FIRST_MODES: [&str; 6] = ["mixed", "sync", "written", "async", "within", "mixed"];

/// The seed of the first life in the n-th recording, near `seed`: each of the modes has its turn.
pub(super) fn seed_in_turn(seed: u64, nth: u64) -> u64 {
    let turns = FIRST_MODES.len() as u64;
    seed / turns / 2 * turns + nth % turns
}

/// A life of the database: small segments, because they are what there is most to go wrong between.
fn script(seed: u64, first: bool) -> Script {
    let mut random = Random::new(seed);
    let mut pick = |words: &[&str]| words[random.below(words.len())].to_owned();
    let text = if first {
        let turns = FIRST_MODES.len() as u64;
        format!(
            "{}-{}-{}",
            FIRST_MODES[usize::try_from(seed % turns).unwrap_or(0)],
            pick(&["1x20", "2x12", "3x10", "4x8"]),
            pick(&["4096", "4096", "8192", "16384", "65536"])
        )
    } else {
        pick(&["sync-1x0-4096", "sync-1x0-4096", "sync-1x2-4096", "mixed-2x3-4096", "written-1x4-8192"])
    };
    let script: Script = text.parse().expect("a script");
    let script = if random.below(2) == 0 { script.io_uring() } else { script };
    let script = match random.below(6) {
        0 | 1 => script.checkpoints(),
        2 => script.forgetful(),
        _ => script,
    };
    if random.below(6) == 0 { script.backups() } else { script }
}

impl Subject {
    /// The modes of the last life that committed, of those that `marks` tell of.
    pub(super) fn modes(self, marks: &[String]) -> Option<&'static str> {
        let lives = marks.iter().rev().filter_map(|mark| mark.strip_prefix(BEGIN)?.split_once(' ')?.1.parse().ok());
        lives.into_iter().find(Script::has_commits).map(|script: Script| script.modes.name())
    }
}

impl journal::Reporter<Action> for Marker {
    fn say(&self, event: Event) {
        // The recorder is gone: so is the reason to go on, and the next command will end this process.
        let _ = self.mark(&event.to_string());
    }
}

fn work(dir: &Path, seed: u64, marks: &[String], marker: &Arc<Marker>) -> io::Result<()> {
    let life = marks.iter().filter(|mark| mark.starts_with(BEGIN)).count();
    let script = script(seed, life == 0);
    marker.mark(&format!("{BEGIN}{seed} {script}"))?;
    // All lives of a database have the seed of the first.
    let seed = marks.iter().find_map(|mark| mark.strip_prefix(BEGIN)?.split(' ').next()?.parse().ok()).unwrap_or(seed);
    let life = u32::try_from(life + 1).unwrap_or(u32::MAX);
    let reporter: Arc<Reporter> = Arc::<Marker>::clone(marker);
    workload::run(dir, &Work { seed, life, script, death: None }, &reporter);
    Ok(())
}

/// The ledger as the marks tell it.
fn books(marks: &[String]) -> Result<Books, String> {
    let mut books: Option<Books> = None;
    for mark in marks {
        if let Some((seed, script)) = mark.strip_prefix(BEGIN).and_then(|rest| rest.split_once(' ')) {
            let seed = seed.parse().map_err(|_| format!("'{mark}' is no life"))?;
            books.get_or_insert_with(|| Books::new(seed)).begin(&script.parse()?, Ending::Power, false)?;
        } else {
            books.as_mut().ok_or("no life has begun")?.ledger.hear(mark.parse()?)?;
        }
    }
    books.ok_or_else(|| "no life has begun".to_owned())
}
