//! Processes of one measurement each.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::child::{ANSWER, Job, Measured, Request};

/// Starts this program again as a child with this request, in `dir`; `before` is a command that runs it in turn, such as a
/// tracer.
pub fn start(request: &str, dir: &Path, before: &[String]) -> Result<Child, String> {
    // The program that runs, even if another was built in its place meanwhile.
    let itself = format!("/proc/{}/exe", std::process::id());
    let mut command = match before.split_first() {
        None => Command::new(itself),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(itself);
            command
        }
    };
    // Peers that read their settings from the environment find their directory there.
    command.arg("--child").arg(request).current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| format!("{:?} cannot be run: {error}", command.get_program()))
}

/// Runs this program with the request until it has answered; `before` as in [`start`].
pub fn ask(request: &Request, before: &[String], most: Duration) -> Result<Measured, String> {
    let request_text = serde_json::to_string(request).map_err(|error| error.to_string())?;
    let mut child = start(&request_text, &request.dir, before)?;
    let answer = child.stdout.take().map(|out| std::thread::spawn(move || answer_in(out)));
    let told = child.stderr.take().map(|out| std::thread::spawn(move || last_line_of(out)));
    let status = wait(&mut child, most)?;
    let answer = joined(answer).flatten();
    let died_as_asked =
        matches!(request.job, Job::FillAndDie { .. } | Job::LoadAndDie) && status.signal() == Some(libc::SIGKILL);
    match answer {
        Some(answer) if status.success() || died_as_asked => {
            serde_json::from_str(&answer).map_err(|error| error.to_string())
        }
        _ => Err(joined(told).flatten().unwrap_or_else(|| format!("the process ended with {status} and no word"))),
    }
}

pub fn joined<T>(thread: Option<JoinHandle<T>>) -> Option<T> {
    thread.and_then(|thread| thread.join().ok())
}

fn answer_in(out: impl Read) -> Option<String> {
    let lines = BufReader::new(out).split(b'\n').map_while(Result::ok);
    lines.fold(None, |found, line| String::from_utf8_lossy(&line).strip_prefix(ANSWER).map(str::to_owned).or(found))
}

/// The last line that says something; of a panic, the line that says why.
pub fn last_line_of(out: impl Read) -> Option<String> {
    let lines = BufReader::new(out).split(b'\n').map_while(Result::ok);
    let lines = lines.map(|line| String::from_utf8_lossy(&line).trim().chars().take(300).collect::<String>());
    lines.filter(|line| !line.is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE")).last()
}

fn wait(child: &mut Child, most: Duration) -> Result<ExitStatus, String> {
    let begin = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if begin.elapsed() < most => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("gave no answer within {} s and was ended", most.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
