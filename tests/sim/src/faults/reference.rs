//! Small reference logs: written by the engine in known modes and ended in known ways, with everything that was on the
//! disk on the way, and where each frame is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use forelog::sim::{self, Granularity, Loss, SimDisk};
use forelog::{CommitMode, Lsn, Token};

use super::flips::{ABOVE_THE_END, NEVER_READ};
use super::workloads::{Session, Start};
use super::{DIR, MODES, copy, files, name_of};
use crate::segments::{self, FRAME, HEADER};
use crashkit::ledger::Fate;
use crashkit::mode_name;
use crashkit::model::History;
use crashkit::workload::Op;

pub type Files = Vec<(PathBuf, Vec<u8>)>;

/// How the last life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Closed,
    Killed,
    PowerCut,
}

pub const ENDINGS: [Ending; 3] = [Ending::Closed, Ending::Killed, Ending::PowerCut];

/// Where a frame is, and what its header says. Read by the specification, not by the engine.
#[derive(Clone, Debug)]
pub struct Frame {
    pub file: PathBuf,
    pub at: usize,
    pub end: usize,
    pub payload: usize,
    pub durable: Lsn,
}

/// A log with everything durable.
pub struct Reference {
    pub name: String,
    pub disk: SimDisk,
    pub history: History,
    pub tokens: Vec<(Token, Fate)>,
    /// All states of the files on the way, the oldest first.
    pub former: Vec<Files>,
    pub frames: Vec<Frame>,
    pub ending: Ending,
}

const LEFTOVER: &str = "HISTORY.tmp";

impl Reference {
    /// Eight commits over two or three segments, in these modes in turn; and again in each further life. What a cut-off
    /// replacement of HISTORY leaves is there, too.
    pub fn new(modes: &[CommitMode], ending: Ending, lives: u32, seed: u64) -> Self {
        let session = Session::new(&Start::nothing(), false);
        let former = Arc::new(Mutex::new(Vec::<Files>::new()));
        let seen = Arc::clone(&former);
        session.disk.on_op(move |disk, _| {
            let now = files(disk);
            let mut seen = seen.lock().expect("nobody panics with it in hand");
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        });
        let crash = Arc::new(Mutex::new(None));
        sim::run(seed, || {
            for life in 0..lives {
                let engine = session.open().expect("no fault");
                let keys = session.keyspace(&engine, "keys").expect("no fault");
                for (number, length) in [40, 700, 0, 1500, 8, 2900, 300, 90].into_iter().enumerate() {
                    // Other logs hold other values.
                    let key = seed * 1000 + u64::from(life) * 100 + number as u64;
                    session.put(&engine, &keys, key, length, modes[number % modes.len()]);
                }
                session.step(&engine, &Op::Flush);
                if life + 1 == lives {
                    *crash.lock().expect("one thread") = Some(session.disk.crash_point());
                }
                session.finish(&engine);
            }
        });
        session.disk.clear_on_op();
        let crash = crash.lock().expect("one thread").take().expect("the end was reached");
        let disk = match ending {
            Ending::Closed => copy(&session.disk),
            Ending::Killed => copy(&crash.process_kill()),
            Ending::PowerCut => copy(&crash.power_loss(&Loss::Everything, Granularity::Sector)),
        };
        disk.write_file(Path::new(DIR).join(LEFTOVER), &[0xC0; 100]).expect("a file");
        let modes: Vec<_> = modes.iter().map(|mode| mode_name(*mode)).collect();
        let name = format!("{}, {ending:?}, {lives} lives", modes.join("+"));
        let (history, tokens) = (session.notes.history(), session.notes.journal.ledger().tokens);
        let frames = files(&disk).iter().flat_map(|(path, bytes)| frames_of(path, bytes)).collect();
        let former = former.lock().expect("one thread").clone();
        Reference { name, disk, history, tokens, former, frames, ending }
    }

    /// Everything up to here is proven durable by HISTORY or by a header that is not damaged.
    pub fn proven(&self, damaged: &SimDisk) -> Lsn {
        if self.ending == Ending::Closed {
            return self.history.last();
        }
        let intact = |frame: &&Frame| {
            let header = |disk: &SimDisk| {
                let bytes = disk.read_file(&frame.file).ok()?;
                bytes.get(frame.at..frame.at + FRAME).map(<[u8]>::to_vec)
            };
            header(damaged) == header(&self.disk)
        };
        self.frames.iter().filter(intact).map(|frame| frame.durable).max().unwrap_or_default()
    }

    /// The other contents that these bytes of a file had before, each once, the newest first.
    pub fn former_contents(&self, path: &PathBuf, at: usize, length: usize) -> Vec<Vec<u8>> {
        let place = |files: &Files| {
            let (_, bytes) = files.iter().find(|(known, _)| known == path)?;
            bytes.get(at..at + length).map(<[u8]>::to_vec)
        };
        let now = self.disk.read_file(path).ok().and_then(|bytes| bytes.get(at..at + length).map(<[u8]>::to_vec));
        let mut contents: Vec<Vec<u8>> = Vec::new();
        for former in self.former.iter().rev().filter_map(place) {
            if Some(&former) != now.as_ref() && !contents.contains(&former) {
                contents.push(former);
            }
        }
        contents
    }

    /// What a byte of a file is.
    pub fn region(&self, path: &PathBuf, byte: usize) -> &'static str {
        if name_of(path) == "HISTORY" {
            return "HISTORY";
        }
        if name_of(path) == LEFTOVER {
            return NEVER_READ;
        }
        if byte < HEADER {
            return "segment header";
        }
        let frame = self.frames.iter().find(|frame| frame.file == *path && (frame.at..frame.end).contains(&byte));
        match frame.map(|frame| byte - frame.at) {
            None => ABOVE_THE_END,
            Some(offset) if offset < FRAME => "frame header",
            Some(offset) if offset < FRAME + frame.map_or(0, |frame| frame.payload) => "payload",
            Some(_) => "padding",
        }
    }
}

fn frames_of(path: &Path, bytes: &[u8]) -> Vec<Frame> {
    let frames = segments::base_of(path).map(|base| segments::frames(base, bytes)).unwrap_or_default();
    let of_file = |frame: segments::Frame| Frame {
        file: path.to_owned(),
        at: frame.at,
        end: frame.end,
        payload: frame.payload,
        durable: frame.durable,
    };
    frames.into_iter().map(of_file).collect()
}

/// Every mode and every mix of modes.
pub fn mixes() -> Vec<Vec<CommitMode>> {
    let chosen = |bits: u32| MODES.into_iter().enumerate().filter(move |(index, _)| bits >> index & 1 == 1);
    (1..1 << MODES.len()).map(|bits| chosen(bits).map(|(_, mode)| mode).collect()).collect()
}
