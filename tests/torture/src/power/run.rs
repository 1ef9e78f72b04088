//! The command: which file systems and controls are explored, two at a time, and the report.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::arguments::PowerArguments;
use super::explore::{Explorer, Job, Tally};
use super::matrix::{FileSystem, MATRIX, WITHOUT_BARRIERS};
use super::reference::Sin;
use super::subject::Subject;
use super::system;
use crate::output::{Done, Failure, grouped, print};

/// What every message begins with that says why it does not work here.
const NOT_HERE: &str = "cannot cut power here";
const SLOTS: usize = 2;

/// A subject or a device with a known fault, or with none.
struct Control {
    name: &'static str,
    file_system: FileSystem,
    subject: Subject,
    lying: bool,
    /// What the suite must find, if anything.
    caught: Option<&'static str>,
}

const EXT4: FileSystem = MATRIX[0];

/// What was durable is lost.
const LOST: Option<&str> = Some("I2");
/// What is there is not what was submitted.
const WRONG: Option<&str> = Some("I1");
/// Controls that are to be caught are searched this much longer, and the others this much less.
const SEARCH: usize = 10;
const PASS: usize = 4;

const fn sinner(name: &'static str, sin: Sin, caught: Option<&'static str>) -> Control {
    Control { name, file_system: EXT4, subject: Subject::Reference(sin), lying: false, caught }
}

fn controls() -> Vec<Control> {
    let honest = |name, file_system| Control { file_system, ..sinner(name, Sin::None, None) };
    let find = |name| FileSystem::find(name).expect("in the matrix");
    let forelog =
        |name, file_system, lying| Control { name, file_system, subject: Subject::Forelog, lying, caught: LOST };
    vec![
        honest("append and fdatasync, on ext4", EXT4),
        honest("append and fdatasync, on xfs", find("xfs")),
        honest("append and fdatasync, on btrfs", find("btrfs")),
        Control { subject: Subject::Sqlite, ..honest("SQLite, synchronous=FULL, on ext4", EXT4) },
        Control { subject: Subject::Sqlite, ..honest("SQLite, synchronous=FULL, on xfs", find("xfs")) },
        sinner("no fsync", Sin::NoSync, LOST),
        sinner("no fsync of the directory", Sin::NoDirectorySync, LOST),
        sinner("no order between data and mark", Sin::NoOrder, WRONG),
        sinner("a recovery that is not safe", Sin::UnsafeRecovery, LOST),
        forelog("forelog on a device that ignores flushes", EXT4, true),
        forelog("forelog on ext4 with nobarrier", WITHOUT_BARRIERS, false),
    ]
}

/// File systems on which the operations of a workload are compared with what comes to the device.
const TRACED: [(&str, &str); 3] = [("trace on ext4", "ext4"), ("trace on xfs", "xfs"), ("trace on btrfs", "btrfs")];

/// A job with what it is called, and what must come out of it.
struct Task {
    name: &'static str,
    job: Job,
    control: bool,
}

/// What is to be done, and what cannot be done here, with the reason.
struct Plan {
    tasks: Vec<Task>,
    missing: Vec<(String, String)>,
}

pub(crate) fn run(common: &super::super::Arguments, arguments: &PowerArguments) -> Done {
    may_run(&common.dir)?;
    let Plan { tasks, missing } = Plan::new(common, arguments)?;
    let dir = private_dir(&common.dir, arguments.keep.as_deref())?;
    let results = run_all(&tasks, &dir);
    let mut done = Vec::new();
    for (task, result) in tasks.iter().zip(results) {
        let tally = result.map_err(|failure| failure.at(task.name))?;
        done.push((task, tally));
    }
    print(if common.json { json_report(&done, &missing).to_string() } else { text_report(&done, &missing) })?;
    let kept = done.iter().all(|(task, tally)| task.is_met(tally));
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn may_run(dir: &Path) -> Result<(), Failure> {
    let lacking = [
        (!system::is_root(), "it takes root, for mounts and loop devices"),
        (!Path::new("/dev/fuse").exists(), "there is no /dev/fuse"),
        (!Path::new("/dev/loop-control").exists(), "there is no /dev/loop-control"),
        (!dir.is_dir(), "there is no such directory"),
    ];
    match lacking.iter().find(|(lacks, _)| *lacks) {
        Some((_, what)) => Err(Failure::told(format!("{NOT_HERE}: {what}"))),
        None => Ok(()),
    }
}

/// A directory in memory in place of `dir`, which only this process and its children see: whatever is mounted in it is
/// gone when they are.
fn private_dir(dir: &Path, keep: Option<&Path>) -> Result<PathBuf, Failure> {
    let find = |dir: &Path| {
        dir.canonicalize().map_err(|error| Failure::io(format_args!("find the directory {}", dir.display()), &error))
    };
    let dir = find(dir)?;
    if keep.map(find).transpose()?.is_some_and(|keep| keep.starts_with(&dir)) {
        return Err(Failure::told("--keep must not lie in --dir: what is in there is gone at the end"));
    }
    let made = system::own_mounts().and_then(|()| system::mount("forelog-torture", &dir, "tmpfs", 0, "size=16m"));
    made.map_err(|error| Failure::told(format!("{NOT_HERE}: no mounts of its own: {error}")))?;
    Ok(dir)
}

impl Plan {
    fn new(common: &super::super::Arguments, arguments: &PowerArguments) -> Result<Self, Failure> {
        let wanted = |name: &str, system: &FileSystem| {
            let named = arguments.run.is_empty() || arguments.run.iter().any(|run| run == name);
            named && arguments.fs.iter().any(|kind| kind == system.kind)
        };
        let systems = MATRIX.into_iter().filter(|system| wanted(system.name, system));
        let time = Duration::from_secs(common.minutes * 60);
        let job = |file_system, states| Job {
            file_system,
            subject: Subject::Forelog,
            lying: false,
            seed: common.seed,
            states,
            time,
            until: None,
            keep: arguments.keep.clone(),
        };
        let mut tasks: Vec<Task> = systems
            .map(|system| Task { name: system.name, job: job(system, arguments.states), control: false })
            .collect();
        for Control { name, file_system, subject, lying, caught } in controls() {
            if wanted(name, &file_system) {
                let states = arguments.states;
                let states = if caught.is_some() { states * SEARCH } else { states.div_ceil(PASS) };
                let job = Job { subject, lying, until: caught, ..job(file_system, states) };
                tasks.push(Task { name, job, control: true });
            }
        }
        for (name, system) in TRACED {
            let system = FileSystem::find(system).expect("in the matrix");
            if wanted(name, &system) {
                let job = Job { subject: Subject::Traced, ..job(system, 0) };
                tasks.push(Task { name, job, control: false });
            }
        }
        let reason = |task: &Task| task.job.missing().map(|why| (task.name.to_owned(), why));
        let missing: Vec<_> = tasks.iter().filter_map(reason).collect();
        tasks.retain(|task| missing.iter().all(|(name, _)| name != task.name));
        match missing.first() {
            Some((_, why)) if tasks.is_empty() => Err(Failure::told(format!("{NOT_HERE}: {why}"))),
            None if tasks.is_empty() => Err(Failure::told("nothing of --fs has the name that --run gives")),
            _ => Ok(Plan { tasks, missing }),
        }
    }
}

/// Runs all tasks, two at a time; the results in the same order.
fn run_all(tasks: &[Task], dir: &Path) -> Vec<Result<Tally, Failure>> {
    let next = AtomicUsize::new(0);
    let results: Vec<_> = tasks.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..SLOTS.min(tasks.len()) {
            scope.spawn(|| {
                while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < tasks.len()) {
                    let dir = dir.join(at.to_string());
                    let result = Explorer::run(&tasks[at].job, &dir);
                    *results[at].lock().expect("only this thread has this place") = Some(result);
                }
            });
        }
    });
    let result = |result: Mutex<Option<Result<Tally, Failure>>>| result.into_inner().ok().flatten();
    results.into_iter().filter_map(result).collect()
}

impl Task {
    fn is_met(&self, tally: &Tally) -> bool {
        let wrong = tally.broken + tally.refused + tally.torn_words + tally.partly_written + tally.unflushed_sectors;
        let idle = tally.states + tally.synced_sectors == 0 || (self.job.file_system.wraps && tally.wrapped == 0);
        if self.job.until.is_some() { tally.caught } else { wrong == 0 && !idle }
    }
}

fn json_report(done: &[(&Task, Tally)], missing: &[(String, String)]) -> Value {
    let one = |(task, tally): &(&Task, Tally)| {
        json!({
            "name": task.name,
            "file_system": task.job.file_system.name,
            "subject": task.job.subject.name(),
            "control": task.control,
            "must_be_caught": task.job.until.is_some(),
            "met": task.is_met(tally),
            "recordings": tally.recordings,
            "writes": tally.writes,
            "flushes": tally.flushes,
            "epochs": tally.epochs,
            "epochs_exhausted": tally.exhausted,
            "states": tally.states,
            "states_of": tally.states_of,
            "second_cut_states": tally.second,
            "opened": tally.opened,
            "refused": tally.refused,
            "violations": tally.broken,
            "file_system_faults": tally.file_system,
            "log_sectors_written": tally.log_sectors,
            "partly_written_frames": tally.partly_written,
            "frames_compared": tally.frames,
            "torn_words": tally.torn_words,
            "recordings_that_wrapped": tally.wrapped,
            "synced_sectors": tally.synced_sectors,
            "unflushed_sectors": tally.unflushed_sectors,
            "operations": tally.operations,
            "seconds": tally.time.as_secs_f64(),
            "stories": tally.stories,
        })
    };
    let missing: Vec<Value> = missing.iter().map(|(name, why)| json!({ "name": name, "why": why })).collect();
    json!({ "runs": done.iter().map(one).collect::<Vec<_>>(), "skipped": missing })
}

fn text_report(done: &[(&Task, Tally)], missing: &[(String, String)]) -> String {
    let mut text = format!(
        "{:<42} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8}\n",
        "power cut", "states", "second", "opened", "refused", "broken", "fs", "partly", "states/s"
    );
    for (task, tally) in done {
        let per_second = tally.states as f64 / tally.time.as_secs_f64().max(0.001);
        let _ = writeln!(
            text,
            "{:<42} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8.0}{}",
            task.name,
            grouped(tally.states),
            grouped(tally.second),
            grouped(tally.opened),
            grouped(tally.refused),
            grouped(tally.broken),
            grouped(tally.file_system),
            grouped(tally.partly_written),
            per_second,
            if task.is_met(tally) { "" } else { "  NOT MET" },
        );
        for story in tally.stories.iter().filter(|_| task.job.until.is_none()).take(3) {
            let _ = writeln!(text, "    {story}");
        }
    }
    for (name, why) in missing {
        let _ = writeln!(text, "skipped {name}: {why}");
    }
    let _ = write!(text, "opened: judged by its ledger and whole. fs: did not mount, or lost what it had synced.");
    text
}
