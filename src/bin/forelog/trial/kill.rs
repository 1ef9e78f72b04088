//! The kill test: a child writes and is killed with SIGKILL meanwhile. Then the parent compares the acknowledgements
//! that the child got with the reopened database.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use forelog::{CommitMode, Engine, ErrorKind, LossBudget, Options, Outcome, Token};

use super::WITHIN;
use super::child::{LAST, LAST_KEY, ROWS, row};
use crate::output::Failure;

/// A child that has acknowledged nothing after this time does not run.
const FIRST_ACK_LIMIT: Duration = Duration::from_secs(60);

/// A mode under test.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) argument: &'static str,
    pub(super) mode: CommitMode,
}

pub(super) const SUBJECTS: [Subject; 4] = [
    Subject { name: "Sync", argument: "sync", mode: CommitMode::Sync },
    Subject { name: "Written", argument: "written", mode: CommitMode::Written },
    Subject { name: "Async", argument: "async", mode: CommitMode::Async },
    Subject { name: "Within(5 ms)", argument: "within", mode: WITHIN },
];

impl Subject {
    /// Whether an acknowledged commit survives the death of the process.
    fn outlives_process(&self) -> bool {
        matches!(self.mode, CommitMode::Sync | CommitMode::Written)
    }
}

/// The lines of the child before it died.
#[derive(Default, Debug)]
struct Said {
    acknowledged: u64,
    durable: u64,
    tokens: Vec<(u64, Token)>,
}

/// The verdict on one mode.
#[derive(Debug)]
pub(super) struct Kill {
    pub(super) name: &'static str,
    pub(super) acknowledged: u64,
    /// Commits whose receipts reported that they are durable.
    pub(super) durable: u64,
    pub(super) recovered: u64,
    /// The number of acknowledged commits that the mode allows to be lost.
    pub(super) allowed: u64,
    pub(super) tokens: u64,
    pub(super) reopened_in: Duration,
    /// Every broken promise, as text. Empty if none was broken.
    pub(super) broken: Vec<String>,
}

impl Kill {
    pub(super) fn lost(&self) -> u64 {
        self.acknowledged.saturating_sub(self.recovered)
    }
}

/// Kills a child that writes to `dir`, and judges the database that is left.
pub(super) fn kill(subject: &'static Subject, dir: &Path, writing: Duration) -> Result<Kill, Failure> {
    let said = write_and_die(subject, dir, writing)?;
    judge(subject, dir, &said)
}

fn write_and_die(subject: &Subject, dir: &Path, writing: Duration) -> Result<Said, Failure> {
    let failed = |what: &str, error: &std::io::Error| Failure::io(format_args!("{what} the writing child"), error);
    let program = std::env::current_exe().map_err(|error| failed("find the program for", &error))?;
    let mut child = Command::new(program)
        .arg("trial-child")
        .arg(dir)
        .arg(subject.argument)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed("start", &error))?;
    let pipe = child.stdout.take().ok_or_else(|| Failure::told("the writing child has no pipe"))?;
    let (first_ack, acknowledged) = mpsc::channel();
    let (said, status) = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().spawn_scoped(scope, move || listen(pipe, &first_ack));
        // If there is no reader, its end of the channel is gone.
        if acknowledged.recv_timeout(FIRST_ACK_LIMIT).is_ok() {
            std::thread::sleep(writing);
        }
        // In every case: the child must end, or the reader never does.
        let status = end(&mut child);
        let said = reader.map(|reader| reader.join().expect("the listener does not panic"));
        (said.unwrap_or_else(|error| Err(Failure::no_thread(&error))), status)
    });
    let status = status.map_err(|error| failed("kill", &error))?;
    if status.signal() != Some(libc::SIGKILL) {
        return Err(Failure::told(format!("the child writing in mode {} ended by itself: {status}", subject.name)));
    }
    let said = said?;
    if said.acknowledged == 0 {
        return Err(Failure::told(format!("the child writing in mode {} acknowledged nothing", subject.name)));
    }
    Ok(said)
}

fn end(child: &mut Child) -> std::io::Result<ExitStatus> {
    child.kill()?;
    child.wait()
}

/// Reads the child's lines up to the last whole one. Reports the first acknowledgement to `first_ack`.
fn listen(pipe: impl Read, first_ack: &Sender<()>) -> Result<Said, Failure> {
    let mut said = Said::default();
    let mut pipe = BufReader::with_capacity(1 << 16, pipe);
    let mut line = String::new();
    loop {
        line.clear();
        pipe.read_line(&mut line).map_err(|error| Failure::io("read from the writing child", &error))?;
        if !line.ends_with('\n') {
            return Ok(said);
        }
        let mut words = line.split_whitespace();
        let (what, count) = (words.next(), words.next().and_then(|count| count.parse().ok()));
        match (what, count) {
            (Some("acked"), Some(count)) => {
                if said.acknowledged == 0 {
                    // The other side may have given up waiting; then the child's end is reported.
                    let _ = first_ack.send(());
                }
                said.acknowledged = count;
            }
            (Some("durable"), Some(count)) => said.durable = count,
            (Some("token"), Some(number)) => said.tokens.push((number, words.next().unwrap_or_default().parse()?)),
            _ => return Err(Failure::told(format!("the writing child said '{}'", line.trim_end()))),
        }
    }
}

fn judge(subject: &Subject, dir: &Path, said: &Said) -> Result<Kill, Failure> {
    let started = Instant::now();
    let engine = Options::new().create(false).open(dir)?;
    let reopened_in = started.elapsed();
    let mut broken = Vec::new();
    let recovered = recovered(&engine, &mut broken)?;
    let (must_keep, promise) = if subject.outlives_process() {
        (said.acknowledged.max(said.durable), "acknowledged commits")
    } else {
        (said.durable, "commits whose receipts said durable")
    };
    if recovered < must_keep {
        broken.push(format!("{must_keep} {promise}, only {recovered} recovered"));
    }
    let mut allowed = 0;
    if !subject.outlives_process() {
        allowed = said.acknowledged.saturating_sub(said.durable).min(LossBudget::default().max_commits);
        if said.acknowledged.saturating_sub(recovered) > allowed {
            broken.push(format!(
                "more than the loss budget is gone: {recovered} of {} commits are left",
                said.acknowledged
            ));
        }
    }
    for (number, token) in &said.tokens {
        let expected = if *number < recovered { Outcome::Durable } else { Outcome::Lost };
        let outcome = engine.outcome(token)?;
        if outcome != expected {
            broken.push(format!("the token of commit {number} is answered {outcome:?} where {expected:?} is true"));
        }
    }
    engine.close()?;
    Ok(Kill {
        name: subject.name,
        acknowledged: said.acknowledged,
        durable: said.durable,
        recovered,
        allowed,
        tokens: said.tokens.len() as u64,
        reopened_in,
        broken,
    })
}

/// The number of commits in the database. They must be the first ones, whole, and nothing else.
fn recovered(engine: &Engine, broken: &mut Vec<String>) -> Result<u64, Failure> {
    let open = |name| match engine.open_keyspace(name) {
        Ok(keyspace) => Ok(Some(keyspace)),
        // The child was killed before it created the keyspace.
        Err(error) if error.kind() == ErrorKind::NoSuchKeyspace => Ok(None),
        Err(error) => Err(error),
    };
    let snapshot = engine.snapshot()?;
    let mut count = 0;
    if let Some(rows) = open(ROWS)? {
        for entry in snapshot.iter(&rows)? {
            let (key, value) = entry?;
            let (expected_key, expected_value) = row(count);
            if *key != expected_key || *value != expected_value {
                broken.push(format!("not a prefix of the commits: row {count} is not what commit {count} wrote"));
                break;
            }
            count += 1;
        }
    }
    let last = open(LAST)?.map(|last| snapshot.get(&last, LAST_KEY)).transpose()?.flatten();
    let expected = count.checked_sub(1).map(u64::to_be_bytes);
    if last.as_deref() != expected.as_ref().map(|key| &key[..]) {
        broken.push(format!("not whole transactions: {count} rows, but the last commit's number says otherwise"));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A closed database in which a child committed `numbers`, and all tokens.
    fn database(test: &str, numbers: &[u64]) -> (PathBuf, Vec<(u64, Token)>) {
        let dir = std::env::temp_dir().join(format!("forelog-judge-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let engine = Engine::open(&dir).unwrap();
        let (rows, last) = (engine.create_keyspace(ROWS).unwrap(), engine.create_keyspace(LAST).unwrap());
        let mut tokens = Vec::new();
        for &number in numbers {
            let (key, value) = row(number);
            let mut transaction = engine.begin().unwrap();
            transaction.put(&rows, key, &value).unwrap();
            transaction.put(&last, LAST_KEY, key).unwrap();
            tokens.push((number, transaction.commit().unwrap().token()));
        }
        engine.close().unwrap();
        (dir, tokens)
    }

    fn verdict(test: &str, subject: &'static Subject, numbers: &[u64], change: impl FnOnce(&mut Said)) -> Vec<String> {
        let (dir, tokens) = database(test, numbers);
        let mut said = Said { acknowledged: 3, durable: 3, tokens };
        change(&mut said);
        let broken = judge(subject, &dir, &said).unwrap().broken;
        std::fs::remove_dir_all(&dir).unwrap();
        broken
    }

    #[test]
    fn a_kept_promise_is_not_called_broken() {
        for subject in &SUBJECTS {
            assert_eq!(verdict(&format!("kept-{}", subject.argument), subject, &[0, 1, 2], |_| ()), [""; 0]);
        }
        let tail_lost = |said: &mut Said| said.acknowledged = 9;
        assert_eq!(verdict("tail-lost", &SUBJECTS[2], &[0, 1, 2], tail_lost), [""; 0]);
    }

    #[test]
    fn every_broken_promise_is_noticed() {
        let noticed = |test, subject, numbers: &[u64], change: fn(&mut Said), what| {
            let broken = verdict(test, subject, numbers, change);
            assert!(broken.iter().any(|line| line.contains(what)), "{test}: {broken:?}");
        };
        noticed("sync", &SUBJECTS[0], &[0, 1, 2], |said| said.acknowledged = 4, "4 acknowledged commits, only 3");
        noticed("written", &SUBJECTS[1], &[0, 1, 2], |said| said.acknowledged = 4, "4 acknowledged commits, only 3");
        noticed("async", &SUBJECTS[2], &[0, 1, 2], |said| said.durable = 4, "only 3 recovered");
        noticed("budget", &SUBJECTS[2], &[0, 1, 2], |said| said.acknowledged = 2_000_000, "more than the loss budget");
        noticed("hole", &SUBJECTS[2], &[0, 2], |_| (), "not a prefix");
        noticed("halves", &SUBJECTS[2], &[0, 2, 1], |_| (), "not whole transactions");
        noticed("token", &SUBJECTS[0], &[0, 1, 2], |said| said.tokens[0].0 = 3, "answered Durable where Lost is true");
    }
}
