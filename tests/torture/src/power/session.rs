//! A worker process on a recorded device, from the side that records.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use super::fuse::Device;
use super::image::Image;
use super::matrix::FileSystem;
use super::recorder::Recorder;
use super::subject::Subject;
use super::worker::Verdict;
use crate::output::Failure;

/// A worker that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A device, and a worker that mounts it with one file system and one subject.
pub(super) struct Session {
    // Dropped in this order: the worker lets go of the device before it goes.
    worker: Worker,
    pub(super) recorder: Arc<Recorder>,
    _device: Device,
}

/// The worker died, or says nothing; in words.
#[derive(Debug)]
pub(super) struct Lost(pub(super) String);

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        Failure::told(lost.0)
    }
}

impl Session {
    /// Starts a worker below `dir` and makes its file system.
    pub(super) fn start(dir: &Path, file_system: &FileSystem, subject: Subject) -> Result<Self, Failure> {
        let (device, mount) = (dir.join("device"), dir.join("mount"));
        for dir in [&device, &mount] {
            fs::create_dir_all(dir).map_err(|error| Failure::io("create a directory to mount on", &error))?;
        }
        let recorder = Arc::new(Recorder::new(Image::new(file_system.bytes)));
        let device = Device::mount(&device, Arc::clone(&recorder))?;
        let worker = Worker::start(&device.path(), &mount, file_system, subject)?;
        let mut session = Session { worker, recorder, _device: device };
        match session.tell("make") {
            Ok(Verdict::Fine) => Ok(session),
            Ok(other) => Err(Failure::told(format!("cannot make {}: {other:?}", file_system.name))),
            Err(lost) => Err(lost.into()),
        }
    }

    /// What becomes of a command. Marks that arrive meanwhile go on the record.
    pub(super) fn tell(&mut self, command: &str) -> Result<Verdict, Lost> {
        self.worker.say(command)?;
        loop {
            let line = self.worker.hear()?;
            if let Some(mark) = line.strip_prefix("mark ") {
                self.recorder.mark(mark);
                self.worker.say("ok")?;
            } else {
                return Verdict::parse(&line).ok_or_else(|| Lost(format!("the worker said '{line}'")));
            }
        }
    }

    /// Gives the worker the ledger that the next commands count in.
    pub(super) fn give(&mut self, marks: &[String]) -> Result<(), Lost> {
        let mut command = format!("ledger {}", marks.len());
        for mark in marks {
            command.push('\n');
            command.push_str(mark);
        }
        self.tell(&command).map(drop)
    }
}

struct Worker {
    process: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Worker {
    fn start(device: &Path, mount: &Path, file_system: &FileSystem, subject: Subject) -> Result<Self, Failure> {
        let failed = |error: &std::io::Error| Failure::io("start a process that mounts", error);
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut process = Command::new(program)
            .arg("power-worker")
            .args([device, mount])
            .args([file_system.name, &subject.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&error))?;
        let input = process.stdin.take().expect("a pipe was asked for");
        let output = process.stdout.take().expect("a pipe was asked for");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Worker { process, input, lines })
    }

    fn say(&mut self, text: &str) -> Result<(), Lost> {
        self.input.write_all(format!("{text}\n").as_bytes()).map_err(|error| self.lost(&error.to_string()))
    }

    fn hear(&mut self) -> Result<String, Lost> {
        self.lines.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => self.lost("it hangs"),
            RecvTimeoutError::Disconnected => self.lost("it ended"),
        })
    }

    fn lost(&mut self, why: &str) -> Lost {
        let _ = self.process.kill();
        let status = self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        Lost(format!("I12: the process that opens the database is lost: {why} ({status})"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its mounts and its loop device go with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
