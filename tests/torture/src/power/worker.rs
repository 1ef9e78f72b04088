//! The process that mounts: it puts a loop device on a recorded device and does what it is told on its standard input,
//! line by line. The process that serves the device never touches it, so neither can wait for itself; and all that
//! this one mounts and attaches goes when it ends, however it ends.
//!
//! | it is told | it does | it answers |
//! |---|---|---|
//! | `make` | makes the file system and a file that is synced | `fine` |
//! | `ledger N` | reads the N marks that follow, a line each | `fine` |
//! | `work N SEED` | mounts, lets the subject go on after the first N marks, unmounts | `fine` |
//! | `check N` | mounts, lets the subject judge what is there by the first N marks, unmounts | a [`Verdict`] |
//!
//! Meanwhile it says `mark …` for each line of the subject's ledger, and goes on when it is told `ok`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Stdin, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;

use super::matrix::FileSystem;
use super::subject::Subject;
use super::system::{self, Loop};
use super::xfs_log;
use crate::output::{Done, Failure};

/// A file that was synced before anything else: if it is not there after a power cut, the file system lost it.
const CANARY: &str = "canary";
const CANARY_CONTENT: &[u8] = &[b'c'; 1500];

/// Mount, work and check on a recorded device (part of `--power`)
#[derive(Debug, Args)]
pub(crate) struct WorkerArguments {
    /// The file that the loop device stands on
    device: PathBuf,
    /// Where to mount
    mount: PathBuf,
    /// The name of the file system in the matrix
    file_system: String,
    /// What works and judges
    subject: String,
}

/// What became of a crash state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It opened, and everything that was promised is there.
    Fine,
    /// The subject did not open what a legal power cut left.
    Refused(String),
    /// A promise was broken.
    Broken(String),
    /// The file system did not mount, or lost what it had synced before the subject began.
    FileSystem(String),
}

impl Verdict {
    fn line(&self) -> String {
        let (word, text) = match self {
            Verdict::Fine => ("fine", ""),
            Verdict::Refused(text) => ("refused", text.as_str()),
            Verdict::Broken(text) => ("broken", text.as_str()),
            Verdict::FileSystem(text) => ("file-system", text.as_str()),
        };
        format!("{word} {}", text.replace('\n', " "))
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, text) = line.split_once(' ').unwrap_or((line, ""));
        Some(match word {
            "fine" => Verdict::Fine,
            "refused" => Verdict::Refused(text.to_owned()),
            "broken" => Verdict::Broken(text.to_owned()),
            "file-system" => Verdict::FileSystem(text.to_owned()),
            _ => return None,
        })
    }
}

/// The line to the recorder. Used by all threads of a subject.
#[derive(Debug)]
pub(super) struct Marker(Mutex<BufReader<Stdin>>);

impl Marker {
    /// Tells the recorder that something was submitted or promised; returns when it is on the record, so that
    /// everything that happens to the device later comes later there, too.
    pub(super) fn mark(&self, line: &str) -> io::Result<()> {
        let mut input = self.0.lock().expect("nobody panics with the line in hand");
        say(&format!("mark {line}"))?;
        match next_line(&mut input)?.as_deref() {
            Some("ok") => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn next(&self) -> io::Result<Option<String>> {
        next_line(&mut self.0.lock().expect("nobody panics with the line in hand"))
    }
}

fn next_line(input: &mut BufReader<Stdin>) -> io::Result<Option<String>> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(line.strip_suffix('\n').map(str::to_owned))
}

fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(format!("{line}\n").as_bytes())?;
    output.flush()
}

pub(crate) fn run_worker(arguments: &WorkerArguments) -> Done {
    let file_system = FileSystem::find(&arguments.file_system);
    let file_system = file_system.ok_or_else(|| Failure::told("no such file system"))?;
    let subject = Subject::parse(&arguments.subject).ok_or_else(|| Failure::told("no such subject"))?;
    let io = |error: io::Error| Failure::io(format_args!("work on {}", file_system.name), &error);
    system::die_with_parent().and_then(|()| system::own_mounts()).map_err(io)?;
    let file = arguments.device.clone();
    let device =
        Loop::attach(&file, file_system.sector).map_err(|error| Failure::io("attach a loop device", &error))?;
    let mount = arguments.mount.clone();
    let marker = Arc::new(Marker(Mutex::new(BufReader::new(io::stdin()))));
    let mut worker = Worker { file_system, subject, file, device, mount, marker, ledger: Vec::new() };
    while let Some(line) = worker.marker.next().map_err(io)? {
        worker.obey(&line).and_then(|verdict| say(&verdict.line())).map_err(io)?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Worker {
    file_system: FileSystem,
    subject: Subject,
    /// The file that the loop device stands on.
    file: PathBuf,
    device: Loop,
    mount: PathBuf,
    marker: Arc<Marker>,
    ledger: Vec<String>,
}

impl Worker {
    fn obey(&mut self, line: &str) -> io::Result<Verdict> {
        // Another content may have been put on the device.
        if !self.device.forget()? {
            self.device = Loop::attach(&self.file, self.file_system.sector)?;
        }
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or(io::ErrorKind::InvalidInput);
        match word {
            "make" => self.make()?,
            "ledger" => {
                let lines: io::Result<Option<Vec<String>>> = (0..number()?).map(|_| self.marker.next()).collect();
                self.ledger = lines?.ok_or(io::ErrorKind::UnexpectedEof)?;
            }
            "work" => {
                let (marks, seed) = (self.marks(number()?), number()?);
                self.mounted(|worker, dir| worker.subject.work(dir, seed, marks, &worker.marker))??;
            }
            "check" => return self.check(self.marks(number()?)),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(Verdict::Fine)
    }

    /// The first so many marks of the ledger.
    fn marks(&self, count: u64) -> &[String] {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        &self.ledger[..count.min(self.ledger.len())]
    }

    fn make(&self) -> io::Result<()> {
        let (program, arguments) = self.file_system.make.split_first().expect("a program");
        let made = Command::new(program).args(arguments).arg(&self.device.path).stdin(Stdio::null()).output()?;
        if !made.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
        }
        self.mounted(|worker, dir| {
            fs::create_dir(dir)?;
            let canary = File::create(worker.canary())?;
            canary.write_all_at(CANARY_CONTENT, 0)?;
            canary.sync_all()?;
            File::open(&worker.mount)?.sync_all()?;
            if worker.file_system.wraps { xfs_log::use_up(&worker.file, &worker.mount) } else { Ok(()) }
        })??;
        if self.file_system.wraps { xfs_log::check(&self.file) } else { Ok(()) }
    }

    /// Mounts, does something in the subject's directory, unmounts.
    fn mounted<T>(&self, act: impl FnOnce(&Self, &Path) -> T) -> io::Result<T> {
        let device = self.device.path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        system::mount(device, &self.mount, self.file_system.kind, libc::MS_NOATIME, self.file_system.options)?;
        let done = act(self, &self.mount.join("db"));
        // A thread of the subject that is just ending may have a file open for a moment.
        for _ in 0..200 {
            match system::unmount(&self.mount) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(Duration::from_millis(5)),
                unmounted => return unmounted.map(|()| done),
            }
        }
        Err(io::Error::other("the subject does not let go of its files"))
    }

    fn check(&self, marks: &[String]) -> io::Result<Verdict> {
        let judged = self.mounted(|worker, dir| {
            if fs::read(worker.canary()).ok().as_deref() != Some(CANARY_CONTENT) {
                return Verdict::FileSystem("a file that was synced is lost or damaged".to_owned());
            }
            worker.subject.check(dir, marks)
        });
        Ok(match judged {
            Ok(Verdict::Refused(text) | Verdict::Broken(text)) if self.is_broken() => {
                Verdict::FileSystem(format!("its own checker finds damage, and then: {text}"))
            }
            judged => judged.unwrap_or_else(|error| Verdict::FileSystem(error.to_string())),
        })
    }

    /// Whether the file system, which has recovered and was unmounted, is damaged by the word of its own checker. ext4 with `fast_commit` has left
    /// two entries of one name in a directory, and no program that makes and renames files can do that.
    fn is_broken(&self) -> bool {
        let Some((command, bit)) = self.file_system.checker else { return false };
        let (program, arguments) = command.split_first().expect("a program");
        let checked = Command::new(program).args(arguments).arg(&self.device.path).stdin(Stdio::null()).output();
        checked.is_ok_and(|checked| checked.status.code().is_some_and(|code| code & bit != 0))
    }

    fn canary(&self) -> PathBuf {
        self.mount.join(CANARY)
    }
}
