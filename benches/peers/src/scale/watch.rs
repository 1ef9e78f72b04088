//! The processes of one engine: what they tell is recorded, and each second what they use.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use super::cgroup::Group;
use super::event::{EVENT, Event, Outcome, Part, Phase, Request};
use super::report::{Recorded, Run, Sample};
use super::shares::most;
use super::usage::{Io, Resident, disk_bytes};
use crate::place::free_bytes;
use crate::process::{joined, last_line_of, start};
use crate::report::figure;

/// A disk that is full would end more than this run.
const LEAST_FREE: u64 = 1 << 30;

pub struct Watch<'a> {
    pub run: Run,
    dir: PathBuf,
    group: Option<&'a Group>,
    begin: SystemTime,
    /// What this process and those before it have read and written.
    io: Io,
    /// The number of the process that runs.
    process: String,
    phase: Phase,
    operations: u64,
}

impl<'a> Watch<'a> {
    pub fn new(run: Run, dir: &Path, group: Option<&'a Group>) -> Watch<'a> {
        let begin = SystemTime::now();
        let (dir, io, process) = (dir.to_owned(), Io::default(), String::new());
        Watch { run, dir, group, begin, io, process, phase: Phase::Load, operations: 0 }
    }

    /// Runs a process to its end. Its failure is recorded.
    pub fn process(&mut self, request: &Request) {
        if let Err(error) = self.run_process(request) {
            let failure = format!("{:?}: {error}", self.phase);
            eprintln!("  {failure}");
            self.run.failures.push(failure);
        }
        self.run.peak = self.group.and_then(Group::peak);
    }

    fn run_process(&mut self, request: &Request) -> Result<(), String> {
        let text = serde_json::to_string(request).map_err(|error| error.to_string())?;
        let kills = self.group.map(Group::kills);
        let mut child = start(&text, &self.dir, &[])?;
        let (sender, events) = channel();
        let reader = child.stdout.take().map(|out| std::thread::spawn(move || send_events(out, &sender)));
        let told = child.stderr.take().map(|out| std::thread::spawn(move || last_line_of(out)));
        let stopped = self.follow(&child, &events, most(request.part, request.seconds));
        if stopped.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        let _ = joined(reader);
        stopped?;
        if self.ended_well(request.part, status) {
            return Ok(());
        }
        if self.group.map(Group::kills) > kills {
            return Err("killed by the kernel: the control group was out of memory".to_owned());
        }
        Err(joined(told).flatten().unwrap_or_else(|| format!("the process ended with {status} and no word")))
    }

    fn ended_well(&self, part: Part, status: ExitStatus) -> bool {
        let was_ready = self.run.phase(Phase::BeforeKill).is_some();
        status.success() || (part == Part::OpenAndDie && was_ready && status.signal() == Some(libc::SIGKILL))
    }

    /// Records events until there are no more. The error is why the process is to be ended.
    fn follow(&mut self, child: &Child, events: &Receiver<Event>, most: Duration) -> Result<(), String> {
        const SECOND: Duration = Duration::from_secs(1);
        self.process = child.id().to_string();
        let (begin, before) = (Instant::now(), self.io);
        let mut next = begin + SECOND;
        loop {
            match events.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(event) => self.record(event, before),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + SECOND;
                    self.sample(before);
                    if begin.elapsed() > most {
                        return Err(format!("not ready after {} s, and ended", most.as_secs()));
                    }
                    let free = free_bytes(&self.dir).map_err(|error| error.to_string())?;
                    if free < LEAST_FREE {
                        return Err(format!("ended: the disk has only {} MiB free", free >> 20));
                    }
                }
            }
        }
    }

    /// `before` is what the processes before this one have read and written. One that has ended is not sampled.
    fn sample(&mut self, before: Io) {
        let (resident, group) = (Resident::of(&self.process), self.group.map(Group::usage));
        if resident.all == 0 {
            return;
        }
        let io = Io::of(&self.process);
        self.io = Io { read: before.read + io.read, written: before.written + io.written };
        let at = self.begin.elapsed().unwrap_or_default().as_secs_f64();
        self.run.samples.push(Sample {
            at,
            phase: self.phase,
            operations: self.operations,
            resident: resident.all,
            anonymous: resident.anonymous,
            group: group.map(|usage| usage.all),
            group_anonymous: group.map(|usage| usage.anonymous),
            group_cache: group.map(|usage| usage.cache),
            disk: disk_bytes(&self.dir),
            read: self.io.read,
            written: self.io.written,
        });
    }

    fn record(&mut self, event: Event, before: Io) {
        match event {
            Event::Begun(phase) => (self.phase, self.operations) = (phase, 0),
            Event::Second(mut second) => {
                self.operations += second.operations;
                let begin = self.begin.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                second.at -= begin.as_secs_f64();
                self.run.seconds.push(second);
            }
            Event::Ended(outcome) => {
                eprintln!("  {}", told(&outcome));
                self.sample(before);
                self.run.phases.push(Recorded { outcome, disk: disk_bytes(&self.dir) });
            }
        }
    }
}

fn told(outcome: &Outcome) -> String {
    let Outcome { phase, operations, seconds, times, is_cut, .. } = outcome;
    let rate = figure(*operations as f64 / seconds);
    let cut = if *is_cut { ", cut" } else { "" };
    let times = times.map_or(String::new(), |times| {
        format!(", p50 {} us, p99.9 {} us, max {} us", figure(times.p50), figure(times.p999), figure(times.max))
    });
    format!("{phase:?}: {operations} in {seconds:.2} s{cut}, {rate}/s{times}")
}

fn send_events(out: impl Read, events: &Sender<Event>) {
    let lines = BufReader::new(out).split(b'\n').map_while(Result::ok);
    for line in lines {
        let line = String::from_utf8_lossy(&line);
        let event = line.strip_prefix(EVENT).and_then(|text| serde_json::from_str(text).ok());
        if let Some(event) = event
            && events.send(event).is_err()
        {
            return;
        }
    }
}
