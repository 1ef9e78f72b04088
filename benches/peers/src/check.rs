//! Whether a `Sync` mode really syncs: its system calls are watched, and the flushes of the device counted.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::child::{Job, MARKS, Request};
use crate::process::ask;

/// Calls that sync, and the opens after which each write does.
const SYNCS: &str = "open,openat,fsync,fdatasync,msync,sync,syncfs,pwritev2,io_uring_enter";
const WRITES: &str = "write,writev,pwrite64,pwritev";
/// A batch of many threads is a sync for all of them; fewer than this for a lone one means that some came without.
const LEAST_ALONE: f64 = 0.9;

/// How often a peer syncs.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Checked {
    /// Syncs per commit of a lone thread, and of 32.
    pub alone: Option<f64>,
    pub many: Option<f64>,
    /// How they were counted.
    pub by: String,
    pub error: Option<String>,
}

impl Checked {
    /// `None` where it could not be told.
    pub fn really_syncs(&self) -> Option<bool> {
        self.alone.map(|syncs| syncs >= LEAST_ALONE)
    }
}

/// Watches a peer commit. `dir` is empty, and made so again by `clear`.
pub fn check(peer: &str, dir: &Path, clear: impl Fn() -> Result<(), String>) -> Checked {
    const THREADS: usize = 32;
    let by_strace = watch(peer, dir, 1, 200, &format!("{SYNCS},{WRITES}")).and_then(|alone| {
        clear()?;
        let calls = if alone.writes_sync { format!("{SYNCS},{WRITES}") } else { SYNCS.to_owned() };
        Ok((alone, watch(peer, dir, THREADS, 100 * THREADS as u64, &calls)?))
    });
    match by_strace {
        Ok((alone, many)) if alone.rings == 0 => {
            Checked { alone: Some(alone.per_commit), many: Some(many.per_commit), by: "strace".to_owned(), error: None }
        }
        // What a ring is asked to do is not seen in system calls.
        seen => {
            let why = seen.err();
            let _ = clear();
            let alone = count_flushes(peer, dir, 1, 200);
            let _ = clear();
            let many = count_flushes(peer, dir, THREADS, 100 * THREADS as u64);
            let by = match &why {
                _ if alone.is_err() => String::new(),
                Some(why) => format!("the device's flush counter ({why})"),
                None => "the device's flush counter (it commits through io_uring)".to_owned(),
            };
            let error = alone.as_ref().err().cloned();
            Checked { alone: alone.unwrap_or(None), many: many.unwrap_or(None), by, error }
        }
    }
}

fn request(peer: &str, dir: &Path, threads: usize, commits: u64) -> Request {
    Request { peer: peer.to_owned(), dir: dir.to_owned(), job: Job::Watched { threads, commits }, transactions: 0 }
}

fn count_flushes(peer: &str, dir: &Path, threads: usize, commits: u64) -> Result<Option<f64>, String> {
    Ok(ask(&request(peer, dir, threads, commits), &[], MOST)?.flushes)
}

const MOST: Duration = Duration::from_secs(120);

struct Watched {
    per_commit: f64,
    writes_sync: bool,
    rings: u64,
}

fn watch(peer: &str, dir: &Path, threads: usize, commits: u64, calls: &str) -> Result<Watched, String> {
    let trace = dir.with_extension("strace");
    let strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", &format!("trace={calls}"), "-e", "signal=none", "-o"];
    let mut before: Vec<String> = strace.into_iter().map(str::to_owned).collect();
    before.push(trace.display().to_string());
    let measured = ask(&request(peer, dir, threads, commits), &before, MOST);
    let text = std::fs::read(&trace).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let _ = std::fs::remove_file(&trace);
    let measured = measured?;
    let seen = Seen::of(&text.map_err(|error| error.to_string())?);
    if !seen.over {
        return Err("the trace ends before the commits do".to_owned());
    }
    Ok(Watched {
        per_commit: seen.syncs as f64 / measured.operations.max(1) as f64,
        writes_sync: seen.writes_sync,
        rings: seen.rings,
    })
}

/// What a trace shows between the two marks.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Seen {
    pub syncs: u64,
    pub rings: u64,
    /// A file was open whose writes sync.
    pub writes_sync: bool,
    /// Both marks were passed.
    pub over: bool,
}

impl Seen {
    /// Reads the output of `strace -f -o`.
    pub fn of(trace: &str) -> Seen {
        let (mut seen, mut begun) = (Seen::default(), false);
        let mut syncing: HashSet<&str> = HashSet::new();
        let mut opening: HashMap<&str, bool> = HashMap::new();
        for line in trace.lines() {
            let Some((process, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            if call.starts_with("<... open") {
                if opening.remove(process) == Some(true) {
                    syncing.extend(returned(call));
                }
                continue;
            }
            let Some((name, arguments)) = call.split_once('(') else { continue };
            match name {
                "open" | "openat" => {
                    begun |= arguments.contains(MARKS[0]);
                    seen.over |= begun && arguments.contains(MARKS[1]);
                    let syncs = arguments.contains("O_DSYNC") || arguments.contains("O_SYNC");
                    seen.writes_sync |= syncs;
                    match returned(call) {
                        Some(file) if syncs => drop(syncing.insert(file)),
                        Some(file) => drop(syncing.remove(file)),
                        None => drop(opening.insert(process, syncs)),
                    }
                }
                _ if !begun || seen.over => {}
                "io_uring_enter" => seen.rings += 1,
                _ => {
                    let file = arguments.split([',', ')']).next().unwrap_or_default();
                    seen.syncs += u64::from(is_sync(name, arguments, syncing.contains(file)));
                }
            }
        }
        seen
    }
}

fn is_sync(name: &str, arguments: &str, file_syncs: bool) -> bool {
    match name {
        "fsync" | "fdatasync" | "sync" | "syncfs" => true,
        "msync" => arguments.contains("MS_SYNC"),
        "pwritev2" => file_syncs || arguments.contains("RWF_DSYNC") || arguments.contains("RWF_SYNC"),
        _ => file_syncs,
    }
}

/// The file that a finished call opened.
fn returned(call: &str) -> Option<&str> {
    let (_, result) = call.rsplit_once(" = ")?;
    result.split(' ').next()
}
