//! One life of a database: a child is started on it, something befalls the child, and the ledger learns what it said.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crashkit::ledger::Ending;
use forelog::{ErrorKind, Options};

use super::backups;
use super::books::{Books, Event};
use super::cgroup;
use super::check::{self, AfterLie, Summary, Violation};
use super::fate::{Call, Case, Death, Fate, Step};
use super::script::Script;
use super::stopper::{self, Hit};
use super::sys;
use crate::output::Failure;

/// A child that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between SIGSTOP and SIGKILL.
const STANDSTILL: Duration = Duration::from_millis(3);

/// Why a case did not come to its end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The engine broke a promise.
    Broken(Violation),
    /// We could not do our own work.
    Ours(Failure),
}

impl From<Violation> for Trouble {
    fn from(violation: Violation) -> Self {
        Trouble::Broken(violation)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Trouble::Ours(failure)
    }
}

fn broken(what: impl Into<String>) -> Trouble {
    Trouble::Broken(Violation::Wrong(what.into()))
}

/// A database under torture.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) dir: PathBuf,
    pub(super) books: Books,
    /// What befell it so far.
    pub(super) case: Case,
}

/// How a life went.
#[derive(Debug)]
pub(super) struct Lived {
    /// Where the child was killed, or a call of it failed; `None` if it ended before it came so far.
    pub(super) hit: Option<Hit>,
    /// Calls of the kind that was aimed at.
    pub(super) calls: u64,
    pub(super) phase: Phase,
    /// The kinds of the errors that the child got.
    pub(super) errors: Vec<String>,
    pub(super) poisoned: bool,
    /// While it ran another process was refused with `Locked`.
    pub(super) locked: bool,
}

/// What the child was doing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Phase {
    Create,
    Recover,
    Commit,
    Roll,
    Retire,
    /// A call in `table/`.
    Checkpoint,
    Backup,
    Close,
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Phase::Create => "create",
            Phase::Recover => "recover",
            Phase::Commit => "commit",
            Phase::Roll => "roll",
            Phase::Retire => "retire",
            Phase::Checkpoint => "checkpoint",
            Phase::Backup => "backup",
            Phase::Close => "close",
        }
    }
}

/// How a child ended.
struct End {
    hit: Option<Hit>,
    calls: u64,
    exit_code: Option<i32>,
    signal: Option<i32>,
    locked: bool,
}

impl Subject {
    pub(super) fn new(dir: PathBuf, seed: u64) -> Self {
        Subject { dir, books: Books::new(seed), case: Case::default() }
    }

    /// The same database once more, in another directory, without its backups.
    pub(super) fn copy_to(&self, dir: PathBuf) -> Result<Subject, Failure> {
        copy(&self.dir, &dir)?;
        let mut books = self.books.clone();
        books.ledger.backups.clear();
        Ok(Subject { dir, books, case: self.case.clone() })
    }

    /// Its end, with all of its backups.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        remove(&backups::root(&self.dir))?;
        remove(&self.dir)
    }

    /// A life without a check at its end.
    pub(super) fn live(&mut self, script: &Script, fate: Fate) -> Result<Lived, Trouble> {
        self.case.0.push(Step { script: script.clone(), fate, checked: false });
        let existed = self.books.ledger.exists;
        let lies = matches!(fate, Fate::Lies(..));
        let life = self.books.begin(script, Ending::Process, lies).map_err(broken)?;
        self.books.failed = matches!(fate, Fate::Fails(..));
        let mut command = self.command(script, fate, life)?;
        let (said, end) =
            if fate.is_traced() { traced(&mut command, fate) } else { self.untraced(&mut command, fate) }?;
        let mut heard = Ok(());
        for line in &said.lines {
            let event: Event = line.parse().map_err(broken)?;
            heard = heard.and_then(|()| self.books.ledger.hear(event));
        }
        if said.late {
            return Err(broken("I12: the child hangs"));
        }
        heard.map_err(broken)?;
        let life = self.books.ledger.lives.last().ok_or_else(|| Failure::told("the life is not in the ledger"))?;
        expected_end(fate, &end)?;
        expected_errors(fate, &end, &life.errors)?;
        let rolling = |hit: &Hit| hit.target.as_ref().is_some_and(|path| path.to_string_lossy().contains(".log"));
        let preparing =
            |hit: &Hit| rolling(hit) && !matches!(hit.call, Call::StartWriteback | Call::Fdatasync | Call::Pwrite);
        let backups = backups::root(&self.dir);
        let in_backup = |hit: &Hit| hit.target.as_ref().is_some_and(|path| path.starts_with(&backups));
        let in_table = |hit: &Hit| hit.target.as_ref().is_some_and(|path| path.iter().any(|part| part == "table"));
        let phase = match life {
            life if life.closing => Phase::Close,
            life if life.retiring => Phase::Retire,
            life if life.opened.is_none() && existed => Phase::Recover,
            life if life.opened.is_none() => Phase::Create,
            _ if end.hit.as_ref().is_some_and(in_backup) => Phase::Backup,
            _ if end.hit.as_ref().is_some_and(preparing) => Phase::Roll,
            _ if end.hit.as_ref().is_some_and(in_table) => Phase::Checkpoint,
            _ => Phase::Commit,
        };
        Ok(Lived {
            hit: end.hit,
            calls: end.calls,
            phase,
            errors: life.errors.clone(),
            poisoned: life.poisoned,
            locked: end.locked,
        })
    }

    /// Opens what is left and compares; a copy of it stays in `kept` if a promise was broken.
    pub(super) fn check(&mut self, kept: &Path) -> Result<Summary, Trouble> {
        if let Some(last) = self.case.0.last_mut() {
            last.checked = true;
        }
        copy(&self.dir, kept)?;
        let summary = check::check(&self.dir, &mut self.books)?;
        remove(kept)?;
        Ok(summary)
    }

    /// The same after a lie, which may be noticed.
    pub(super) fn check_lie(&mut self, kept: &Path) -> Result<AfterLie, Trouble> {
        if let Some(last) = self.case.0.last_mut() {
            last.checked = true;
        }
        copy(&self.dir, kept)?;
        let after = check::check_lie(&self.dir, &mut self.books)?;
        remove(kept)?;
        Ok(after)
    }

    fn command(&self, script: &Script, fate: Fate, life: u32) -> Result<Command, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::io("find this program", &error))?;
        let mut command = Command::new(program);
        command.arg("torture-child").arg(&self.dir).args([
            format!("--seed={}", self.books.seed),
            format!("--life={life}"),
            format!("--script={script}"),
        ]);
        if fate.is_traced() {
            command.arg("--traced");
        } else {
            command.arg(format!("--fate={fate}"));
        }
        // What a dying child has to say is part of the plan; an end that is not, its exit code tells.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(command)
    }

    fn untraced(&self, command: &mut Command, fate: Fate) -> Result<(Said, End), Trouble> {
        let failed = |what: &str, error: &io::Error| Failure::io(format_args!("{what} a child"), error);
        let mut child = command.spawn().map_err(|error| failed("start", &error))?;
        let pipe = child.stdout.take().ok_or_else(|| Failure::told("the child has no pipe"))?;
        let listener = Listener::start(pipe, child.id());
        let locked = match fate {
            Fate::Kill(after) | Fate::Stop(after) => self.disturb(&mut child, fate, after, &listener),
            _ => Ok(false),
        };
        let said = listener.hear();
        let status = child.wait().map_err(|error| failed("wait for", &error))?;
        if matches!(fate, Fate::Dies(Death::OutOfMemory, _)) {
            cgroup::remove(child.id());
        }
        let end = End { hit: None, calls: 0, exit_code: status.code(), signal: status.signal(), locked: locked? };
        Ok((said?, end))
    }

    /// Waits for the database to be open, then tries to open it, too, and kills its owner.
    fn disturb(&self, child: &mut Child, fate: Fate, after: Duration, listener: &Listener) -> Result<bool, Trouble> {
        let opened = listener.opened.recv_timeout(PATIENCE).is_ok();
        std::thread::sleep(after);
        let pid = i32::try_from(child.id()).map_err(|_| Failure::told("a process id out of range"))?;
        if matches!(fate, Fate::Stop(_)) {
            let _ = sys::signal(pid, libc::SIGSTOP);
            std::thread::sleep(STANDSTILL);
        }
        let second = opened.then(|| Options::new().create(false).open(&self.dir).map(drop));
        child.kill().map_err(|error| Failure::io("kill a child", &error))?;
        match second {
            None => Ok(false),
            Some(Err(error)) if error.kind() == ErrorKind::Locked => Ok(true),
            Some(other) => {
                Err(broken(format!("a second process opened the database while the first had it: {other:?}")))
            }
        }
    }
}

fn traced(command: &mut Command, fate: Fate) -> Result<(Said, End), Trouble> {
    let mut listener = None;
    let seen = stopper::run(command, fate, |pipe, pid| listener = Some(Listener::start(pipe, pid)));
    let said = listener.map(Listener::hear).transpose()?;
    let seen = seen.map_err(|error| Failure::io("stop a child at its system calls", &error))?;
    let end = End { hit: seen.hit, calls: seen.calls, exit_code: seen.exit_code, signal: seen.signal, locked: false };
    Ok((said.unwrap_or_default(), end))
}

/// I12: a child ends as it was planned, and in no other way.
fn expected_end(fate: Fate, end: &End) -> Result<(), Trouble> {
    let killed = end.signal == Some(libc::SIGKILL);
    let finished = end.exit_code == Some(0);
    let as_planned = match fate {
        Fate::Before(_) | Fate::After(_) => {
            if end.hit.is_some() {
                killed
            } else {
                finished
            }
        }
        Fate::Kill(_) | Fate::Stop(_) | Fate::Lies(..) => killed || finished,
        Fate::Dies(Death::OutOfMemory, _) if finished => {
            return Err(Failure::told("the kernel let a process live whose memory cgroup was full").into());
        }
        Fate::Dies(Death::OutOfMemory, _) => killed,
        Fate::Dies(Death::FileLimitSignal, _) => end.signal == Some(libc::SIGXFSZ) || finished,
        Fate::Dies(Death::Abort | Death::MemoryLimit, _) => end.signal == Some(libc::SIGABRT) || finished,
        Fate::Finish | Fate::Fails(..) | Fate::Dies(..) => finished,
    };
    if as_planned {
        return Ok(());
    }
    Err(broken(format!("I12: the child ended with code {:?}, signal {:?}", end.exit_code, end.signal)))
}

/// An error has a cause: without a fault there is none, and with one it is of a kind that tells what to do.
fn expected_errors(fate: Fate, end: &End, errors: &[String]) -> Result<(), Trouble> {
    const OF_A_FAULT: [&str; 4] = ["Io", "DiskFull", "Poisoned", "Indeterminate"];
    let may_fail = match fate {
        Fate::Fails(call, fault, _) => end.hit.is_some() && !fault.is_harmless(call),
        Fate::Lies(..) => end.hit.is_some(),
        Fate::Dies(Death::FileLimit | Death::MemoryLimit | Death::OutOfMemory, _) => true,
        _ => false,
    };
    // What a lie left undone is noticed by a read of it, or by a look at the length of the file.
    let is_noticed = |kind: &str| matches!(kind, "Damaged" | "Removed") && matches!(fate, Fate::Lies(..));
    match errors.iter().find(|kind| !may_fail || !(OF_A_FAULT.contains(&kind.as_str()) || is_noticed(kind))) {
        Some(kind) => Err(broken(format!("I12: a call returned {kind}, and nothing was wrong that would explain it"))),
        None => Ok(()),
    }
}

/// What a child said, to the last whole line.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    /// It had to be killed to come to an end.
    late: bool,
}

/// Reads a child's pipe while somebody else watches the child.
struct Listener {
    reader: JoinHandle<io::Result<Vec<String>>>,
    opened: Receiver<()>,
    watchdog: JoinHandle<bool>,
    done: Sender<()>,
}

impl Listener {
    fn start(pipe: ChildStdout, pid: u32) -> Self {
        let (tell, opened) = mpsc::channel();
        let (done, over) = mpsc::channel();
        let watchdog = std::thread::spawn(move || {
            let hangs = over.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
            if hangs && let Ok(pid) = i32::try_from(pid) {
                let _ = sys::signal(pid, libc::SIGKILL);
            }
            hangs
        });
        Listener { reader: std::thread::spawn(move || read(pipe, &tell)), opened, watchdog, done }
    }

    /// Waits for the other end to be closed: what is in the pipe by then was said.
    fn hear(self) -> Result<Said, Failure> {
        let lines = self.reader.join().map_err(|_| Failure::told("the listener panicked"))?;
        // The watchdog may have lost patience at the same moment.
        let _ = self.done.send(());
        let late = self.watchdog.join().map_err(|_| Failure::told("the watchdog panicked"))?;
        Ok(Said { lines: lines.map_err(|error| Failure::io("read from a child", &error))?, late })
    }
}

fn read(pipe: ChildStdout, opened: &Sender<()>) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut pipe = BufReader::with_capacity(1 << 16, pipe);
    loop {
        let mut line = String::new();
        pipe.read_line(&mut line)?;
        let Some(line) = line.strip_suffix('\n') else { return Ok(lines) };
        if line.starts_with("opened") {
            // Nobody may be waiting for it.
            let _ = opened.send(());
        }
        lines.push(line.to_owned());
    }
}

/// Copies a directory with what is in it, replacing what is at `to`. One that is not there is copied as such.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::io(format_args!("copy {} to {}", from.display(), to.display()), error);
    remove(to)?;
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| failed(&error))?,
    };
    fs::create_dir(to).map_err(|error| failed(&error))?;
    for entry in entries {
        let entry = entry.map_err(|error| failed(&error))?;
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &copied)?;
        } else {
            fs::copy(&path, &copied).map_err(|error| failed(&error))?;
        }
    }
    Ok(())
}

pub(super) fn remove(dir: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::io(format_args!("remove {}", dir.display()), &error))
        }
        _ => Ok(()),
    }
}
