//! `forelog-torture`: ends processes that write to a database, at every system call and at random, or cuts the power of
//! the file system that it is on, and checks that every promise is kept.
//!
//! Exit codes: 0 done, 1 an error (one line on stderr) or a broken promise, 2 the command line is wrong.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};

use crate::output::{Done, Failure, print, print_json, progress_bar};
use crate::workspace::Workspace;
use fate::{Case, Fate};
use life::{Subject, Trouble};
use report::Report;
use script::Script;
use sweep::{Part, Torturer};
use tally::Tally;

mod backups;
mod books;
mod cgroup;
mod check;
mod child;
mod fate;
mod life;
mod model;
#[allow(dead_code, reason = "the `forelog` command prints more kinds of things")]
#[path = "../../../src/bin/forelog/output.rs"]
mod output;
#[cfg_attr(not(target_os = "linux"), path = "no_power.rs")]
mod power;
mod report;
mod retire;
mod script;
#[cfg_attr(
    not(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64"))),
    path = "no_stopper.rs"
)]
mod stopper;
mod sweep;
mod sys;
mod tally;
mod workload;
#[allow(dead_code, reason = "`forelog trial` asks for more")]
#[path = "../../../src/bin/forelog/workspace.rs"]
mod workspace;

#[derive(Debug, Parser)]
#[command(name = "forelog-torture", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    part: Option<Child>,
    #[command(flatten)]
    arguments: Arguments,
}

/// What this program starts itself as.
#[derive(Debug, Subcommand)]
enum Child {
    #[command(hide = true)]
    TortureChild(child::ChildArguments),
    #[command(hide = true)]
    PowerWorker(power::WorkerArguments),
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let done = match line.part {
        None => run(&line.arguments),
        Some(Child::TortureChild(arguments)) => child::run_child(&arguments),
        Some(Child::PowerWorker(arguments)) => power::run_worker(&arguments),
    };
    if workspace::is_interrupted() {
        return workspace::INTERRUPTED.into();
    }
    done.unwrap_or_else(|failure| failure.report().into())
}

/// Kill processes that write to a database on this disk, and check what is left
///
/// Child processes commit in every mode. They are killed before and after each system call that changes the disk, have
/// such calls fail or lie, are killed again while they recover, run out of memory, and are killed at random. Each time the database is reopened,
/// and all contents, all tokens and the account of the recovery are compared with what the child was promised. Exit
/// code 1 if a promise was broken: the damaged directory is kept, and one line tells how to do it again. Without
/// permission to trace processes, and elsewhere than on Linux, they are killed at random only.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where: a temporary subdirectory is made there and removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// For about how long
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    pub(crate) minutes: u64,
    /// The seed of everything that is random
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Finish every sweep, also if that takes longer
    #[arg(long)]
    complete: bool,
    /// Do again what a report tells of
    #[arg(long, value_name = "CASE")]
    replay: Option<Case>,
    /// Trace no process
    #[arg(long, hide = true)]
    untraced: bool,
    /// Only some parts (boundaries, recovery, errors, lies, deaths, random)
    #[arg(long, hide = true, value_delimiter = ',')]
    only: Vec<String>,
    /// The shortest scripts, a matter of seconds
    #[arg(long, hide = true)]
    tiny: bool,
    /// Cut the power of file systems on a recorded device instead; takes root
    #[arg(long)]
    power: bool,
    #[command(flatten)]
    of_power: power::PowerArguments,
}

impl Arguments {
    fn asks_for(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|asked| asked == name)
    }
}

fn run(arguments: &Arguments) -> Done {
    if arguments.power {
        // It has no work directory of its own: what it makes is in memory, and gone with its last process.
        if let Ok(own) = std::fs::metadata("/proc/self") {
            workspace::clear_left(&arguments.dir, own.uid());
        }
        return power::run(arguments, &arguments.of_power);
    }
    let started = Instant::now();
    let workspace = Workspace::create(&arguments.dir, "torture")?;
    let untraced = if arguments.untraced { Some("not asked for".to_owned()) } else { why_untraced(&workspace) };
    let bar = progress_bar(100, "{spinner} {elapsed} {msg}");
    let mut torturer = Torturer {
        workspace: &workspace,
        seed: arguments.seed,
        in_time: !arguments.complete,
        tiny: arguments.tiny,
        until: started,
        tally: Tally::default(),
        last: Case::default(),
        bar,
        serial: 0,
    };
    let outcome = match &arguments.replay {
        Some(case) => torturer.replay(case),
        None => all_parts(&mut torturer, arguments, untraced.is_some()),
    };
    torturer.bar.finish_and_clear();
    // Before a verdict: a process that was ended by the same signal has broken nothing.
    workspace::check()?;
    let (tally, case) = (torturer.tally, torturer.last.to_string());
    let broken = match outcome {
        Ok(()) => None,
        Err(Trouble::Ours(failure)) => return Err(failure),
        Err(Trouble::Broken(violation)) => Some(violation.what().to_owned()),
    };
    let report = Report {
        workspace: &workspace,
        seed: arguments.seed,
        took: started.elapsed(),
        tally: &tally,
        untraced: untraced.as_deref(),
        broken: broken.as_deref().map(|what| (what, &*case)),
    };
    if arguments.json {
        print_json(report.json())?;
    } else {
        print(report.text())?;
    }
    if broken.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let _ = std::fs::remove_file(workspace.path(workspace::OWN));
    let kept = workspace.root().display();
    let status = Failure::told(format!("a promise was broken; what the crash left is kept below {kept}")).report();
    // The workspace is not dropped: that would remove what is kept, as the next run would if it were still marked.
    std::process::exit(status.into());
}

fn all_parts(torturer: &mut Torturer<'_>, arguments: &Arguments, untraced: bool) -> Result<(), Trouble> {
    let parts =
        Part::ALL.into_iter().filter(|(part, name, _)| arguments.asks_for(name) && !(untraced && part.is_traced()));
    let parts: Vec<_> = parts.collect();
    let mut shares: u32 = parts.iter().map(|(_, _, share)| share).sum();
    let end = Instant::now() + Duration::from_secs(arguments.minutes * 60);
    for (part, name, share) in parts {
        // What one part leaves of its time goes to those that come after it.
        let left = end.saturating_duration_since(Instant::now());
        torturer.until = Instant::now() + left * share / shares;
        shares -= share;
        torturer.bar.set_message(name);
        torturer.run(part)?;
    }
    Ok(())
}

/// Whether processes can be stopped at their system calls; the reason if not.
fn why_untraced(workspace: &Workspace) -> Option<String> {
    let mut probe = Subject::new(workspace.path("probe"), 0);
    let probed = probe.live(&Script::recovery(), Fate::Before(1));
    let removed = life::remove(&probe.dir);
    match probed {
        Ok(lived) if lived.hit.is_some() => removed.err().map(|failure| format!("{failure:?}")),
        Ok(_) => Some("a traced process did not stop at its calls".to_owned()),
        Err(trouble) => Some(match trouble {
            Trouble::Ours(Failure::Told(why)) => why,
            Trouble::Ours(Failure::ReaderGone) => "a traced process could not be heard".to_owned(),
            Trouble::Broken(violation) => violation.what().to_owned(),
        }),
    }
}
