//! Many that open the same directory at once, each call a little late: threads and processes, on the real disk.
//!
//! A few rounds run with every test. `FORELOG_RACE_ROUNDS=10000` sets how many of threads, `FORELOG_RACE_PROCESS_ROUNDS`
//! how many of processes; `FORELOG_SEED` replays the delays.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use crashkit::{TempDir, copy_dir, mix};
use forelog::unstable::disk::{
    Access, DirCall, Disk, DiskFile, DiskLock, FileLayer, FileStatus, Layer, Layered, LayeredFile, LockMode, OsDisk,
};
use forelog::{Engine, ErrorKind, Options};

use super::ground::{keys, put};

const OPENERS: usize = 3;
const CHILD: &str = "FORELOG_RACE_CHILD";

/// Waits a little before and after each call, as its seed says.
#[derive(Clone, Debug)]
struct Late {
    state: Arc<AtomicU64>,
}

impl Late {
    fn disk(seed: u64) -> Arc<dyn Disk> {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        Arc::new(Layered::new(disk, Late { state: Arc::new(AtomicU64::new(seed)) }))
    }

    fn wait(&self) {
        let word = mix(self.state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed));
        match word % 8 {
            0..4 => {}
            4..7 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(word >> 8 & 0x1FF)),
        }
    }
}

impl Layer for Late {
    fn before(&self, _: DirCall<'_>) -> io::Result<()> {
        self.wait();
        Ok(())
    }

    fn after(&self, _: DirCall<'_>, _: bool) {
        self.wait();
    }

    fn file(&self, name: &OsStr, _: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if name == "LOCK" { Arc::new(LayeredFile::new(file, self.clone())) } else { file }
    }
}

/// Of LOCK nothing is asked but its lock and what it is.
impl FileLayer for Late {
    fn status(&self, file: &dyn DiskFile) -> io::Result<FileStatus> {
        self.wait();
        file.status()
    }

    fn lock(&self, file: &dyn DiskFile, mode: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.wait();
        let locked = file.lock(mode);
        self.wait();
        locked
    }
}

fn options() -> Options {
    Options::new().segment_bytes(4096)
}

/// What the openers find: nothing, a database whose process was killed, one that was closed, one that lost its LOCK.
struct Templates(PathBuf);

const KINDS: [&str; 4] = ["new", "killed", "closed", "without-lock"];

impl Templates {
    fn prepare(root: &Path) -> Self {
        let engine = options().open(root.join("closed")).unwrap();
        put(&engine, "old").unwrap();
        copy_dir(&root.join("closed"), &root.join("killed"));
        engine.close().unwrap();
        copy_dir(&root.join("closed"), &root.join("without-lock"));
        std::fs::remove_file(root.join("without-lock/LOCK")).unwrap();
        Templates(root.to_owned())
    }

    /// A directory for a round, and what is in it.
    fn place(&self, round: usize) -> (PathBuf, Vec<String>) {
        let dir = self.0.join(format!("round-{round}"));
        match KINDS[round % KINDS.len()] {
            "new" => (dir, Vec::new()),
            kind => {
                copy_dir(&self.0.join(kind), &dir);
                (dir, vec!["old".to_owned()])
            }
        }
    }
}

/// What must hold when one has it and the others were told so, and after it closed.
fn check_winner(dir: &Path, what: &str) {
    assert!(dir.join("LOCK").exists(), "{what}: LOCK is gone");
    assert_eq!(options().open(dir).unwrap_err().kind(), ErrorKind::Locked, "{what}: one more came in");
}

fn check_end(dir: &Path, expected: &[String], what: &str) {
    assert!(dir.join("LOCK").exists(), "{what}: LOCK is gone");
    let engine = options().open(dir).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_eq!(keys(&engine), expected, "{what}: an acknowledged commit is lost, or a refused one is there");
    engine.close().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn seed() -> u64 {
    let seed = number("FORELOG_SEED", 1) as u64;
    println!("FORELOG_SEED={seed}");
    seed
}

/// A round of threads; whether two of them were opening at the same time.
fn thread_round(dir: &Path, mut expected: Vec<String>, seed: u64, what: &str) -> bool {
    let (start, opening, most) = (Barrier::new(OPENERS), AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Vec<forelog::Result<Engine>> = std::thread::scope(|scope| {
        let open = |opener: usize| {
            let (start, opening, most) = (&start, &opening, &most);
            move || {
                let disk = Late::disk(mix(seed ^ (opener as u64) << 56));
                start.wait();
                most.fetch_max(opening.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let opened = options().open_on(disk, dir);
                if let Ok(engine) = &opened {
                    put(engine, &format!("by {opener}")).unwrap();
                }
                opening.fetch_sub(1, Ordering::Relaxed);
                opened
            }
        };
        let threads: Vec<_> = (0..OPENERS).map(|opener| scope.spawn(open(opener))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut winners = Vec::new();
    for (opener, result) in results.into_iter().enumerate() {
        match result {
            Ok(engine) => {
                expected.insert(0, format!("by {opener}"));
                winners.push(engine);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Locked, "{what}: {error:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "{what}: so many have it");
    check_winner(dir, what);
    winners.remove(0).close().unwrap_or_else(|error| panic!("{what}: {error:?}"));
    check_end(dir, &expected, what);
    most.into_inner() > 1
}

#[test]
fn of_many_threads_one_wins() {
    let (rounds, seed) = (number("FORELOG_RACE_ROUNDS", 60), seed());
    let scratch = TempDir::new("race-threads");
    let templates = Templates::prepare(scratch.path());
    let mut overlaps = 0;
    for round in 0..rounds {
        let (dir, expected) = templates.place(round);
        let what = format!("round {round} ({})", KINDS[round % KINDS.len()]);
        overlaps += usize::from(thread_round(&dir, expected, mix(seed.wrapping_add(round as u64)), &what));
    }
    println!("threads: {rounds} rounds, {overlaps} of them overlapped");
    assert!(overlaps > 0, "no two were opening at the same time");
}

/// A child: opens, says what came of it and when, holds what it has until it is told to close.
#[test]
fn race_child() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [opener, seed, dir] = told.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
    let disk = Late::disk(seed.parse().unwrap());
    let mut line = String::new();
    io::stdin().read_line(&mut line).unwrap();
    let begun = now();
    let opened = options().open_on(disk, dir);
    let said = match &opened {
        Ok(engine) => {
            put(engine, &format!("by {opener}")).unwrap();
            "won".to_owned()
        }
        Err(error) => format!("{:?} {error}", error.kind()),
    };
    println!("\nsaid {begun} {} {said}", now());
    io::stdout().flush().unwrap();
    io::stdin().read_line(&mut line).unwrap();
    if let Ok(engine) = opened {
        engine.close().unwrap();
    }
}

fn now() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros()
}

struct Opener {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Opener {
    fn start(dir: &Path, opener: usize, seed: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "race::race_child", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{opener} {seed} {}", dir.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Opener { child, lines }
    }

    fn tell(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }

    /// From when to when it was opening, and what came of it.
    fn said(&self) -> (u128, u128, String) {
        let line =
            self.lines.iter().find_map(|line| line.strip_prefix("said ").map(str::to_owned)).expect("it says so");
        let mut words = line.splitn(3, ' ');
        let mut time = || words.next().unwrap().parse().unwrap();
        (time(), time(), words.next().unwrap().to_owned())
    }
}

/// A round of processes; whether two of them were opening at the same time.
fn process_round(dir: &Path, mut expected: Vec<String>, seed: u64, what: &str) -> bool {
    let mut openers: Vec<Opener> =
        (0..OPENERS).map(|opener| Opener::start(dir, opener, mix(seed ^ (opener as u64) << 56))).collect();
    openers.iter_mut().for_each(Opener::tell);
    let said: Vec<_> = openers.iter().map(Opener::said).collect();
    for (opener, (.., said)) in said.iter().enumerate() {
        match said.as_str() {
            "won" => expected.insert(0, format!("by {opener}")),
            said => assert!(said.starts_with("Locked"), "{what}: {said}"),
        }
    }
    assert_eq!(said.iter().filter(|(.., said)| said == "won").count(), 1, "{what}: {said:?}");
    check_winner(dir, what);
    for opener in &mut openers {
        opener.tell();
        assert!(opener.child.wait().unwrap().success(), "{what}");
    }
    check_end(dir, &expected, what);
    let overlap = |one: &(u128, u128, String), other: &(u128, u128, String)| one.0 < other.1 && other.0 < one.1;
    (0..OPENERS).any(|one| (0..one).any(|other| overlap(&said[one], &said[other])))
}

#[test]
fn of_many_processes_one_wins() {
    let (rounds, seed) = (number("FORELOG_RACE_PROCESS_ROUNDS", 8), seed());
    let scratch = TempDir::new("race-processes");
    let templates = Templates::prepare(scratch.path());
    let mut overlaps = 0;
    for round in 0..rounds {
        let (dir, expected) = templates.place(round);
        let what = format!("round {round} ({})", KINDS[round % KINDS.len()]);
        overlaps += usize::from(process_round(&dir, expected, mix(seed.wrapping_add(round as u64)), &what));
    }
    println!("processes: {rounds} rounds, {overlaps} of them overlapped");
}
