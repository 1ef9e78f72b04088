//! Writes the fixtures, once for each released format: `cargo test --test format write_the_fixtures -- --ignored`.
//! They are kept as they are: what a later build would write in their place proves nothing about the earlier one.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forelog::log::LogOptions;
use forelog::{CommitMode, Engine, Options, Token};

use crate::script::{Commit, Durable, End, FIXTURES, Fixture, Op, SEGMENT_BYTES, key, root, value};
use crashkit::{TempDir, contents_of, restore};

/// What the process that performs a life is told: fixture, life, directory.
const TASK: &str = "FORELOG_FIXTURE";
const READY: &str = "ready";

pub(crate) fn options() -> Options {
    Options::new().segment_bytes(SEGMENT_BYTES).flush_interval(Duration::from_secs(1))
}

pub(crate) fn perform(engine: &Engine, serial: u64, commit: &Commit) -> Token {
    if let Op::Drop = commit.op {
        return engine.drop_keyspace(commit.keyspace).unwrap().token();
    }
    let keyspace = engine.create_keyspace(commit.keyspace).unwrap();
    let mut batch = engine.batch().unwrap();
    match commit.op {
        Op::Put(from, to, length) => {
            (from..to).for_each(|n| batch.put(&keyspace, key(n), value(serial, n, length)).unwrap());
        }
        Op::Delete(from, to) => (from..to).for_each(|n| batch.delete(&keyspace, key(n)).unwrap()),
        Op::Drop => {}
    }
    let mode = if commit.durable == Durable::Sync { CommitMode::Sync } else { CommitMode::Written };
    batch.commit_with(mode).unwrap().token()
}

/// Where the directory's former content is kept, for a tear or a cut that was cut off.
fn former(dir: &Path) -> PathBuf {
    dir.with_extension("former")
}

#[test]
#[ignore = "writes the fixtures again"]
fn write_the_fixtures() {
    for fixture in &FIXTURES {
        let work = TempDir::new("fixture");
        let dir = work.join(fixture.name);
        let mut tokens = String::new();
        for (life, (_, end)) in fixture.lives.iter().enumerate() {
            let child = start(&format!("{} {life} {}", fixture.name, dir.display()));
            tokens += &finish(child, *end);
            after_the_end(&dir, *end);
        }
        keep(fixture.name, &dir, &tokens);
    }
    write_retired();
}

fn start(task: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "write::one_life", "--ignored", "--nocapture"]);
    command.env(TASK, task).stdout(Stdio::piped()).spawn().unwrap()
}

/// Waits until the life is over, and returns the tokens that it printed.
fn finish(mut child: Child, end: End) -> String {
    let mut tokens = String::new();
    // Kept open until the end: the child would fail to write to it.
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in output.by_ref() {
        let line = line.unwrap();
        if line == READY {
            break;
        }
        if let Some(token) = line.find("forelog-") {
            tokens += &format!("{}\n", &line[token..]);
        }
    }
    if matches!(end, End::Kill | End::Rest | End::Tear) {
        child.kill().unwrap();
        child.wait().unwrap();
    } else {
        output.for_each(drop);
        assert!(child.wait().unwrap().success());
    }
    tokens
}

#[test]
#[ignore = "a life of a fixture, in a process of its own"]
fn one_life() {
    let Ok(task) = std::env::var(TASK) else { return };
    let mut words = task.splitn(3, ' ');
    let name = words.next().unwrap();
    let life: usize = words.next().unwrap().parse().unwrap();
    let dir = Path::new(words.next().unwrap());
    let fixture = FIXTURES.iter().find(|fixture| fixture.name == name).unwrap();
    live(fixture, life, dir);
}

fn live(fixture: &Fixture, life: usize, dir: &Path) {
    let engine = options().open(dir).unwrap();
    let mut noted = false;
    for (serial, commit) in fixture.commits(life) {
        if commit.durable == Durable::Lost && !noted {
            note(dir);
            noted = true;
        }
        let token = perform(&engine, serial, commit);
        println!("{token} {}", if commit.durable == Durable::Lost { "Lost" } else { "Durable" });
    }
    match fixture.lives[life].1 {
        End::Close => engine.close().unwrap(),
        End::Uncut => {
            note(dir);
            engine.close().unwrap();
        }
        End::Rest => {
            while engine.stats().marks == 0 {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        End::Kill | End::Tear => {}
    }
    println!("{READY}");
    if !matches!(fixture.lives[life].1, End::Close | End::Uncut) {
        std::thread::sleep(Duration::from_secs(600));
    }
}

fn note(dir: &Path) {
    restore(&former(dir), &contents_of(dir));
}

fn after_the_end(dir: &Path, end: End) {
    let former = former(dir);
    if !former.is_dir() {
        return;
    }
    for (path, old) in contents_of(&former) {
        let name = path.file_name().unwrap();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let mut now = std::fs::read(dir.join(name)).unwrap_or_default();
        if end == End::Uncut {
            now = old;
        } else {
            let changed = |at: &usize| now[*at..at + 512] != old[*at..at + 512];
            let second = (0..old.len()).step_by(512).filter(changed).nth(1);
            let Some(at) = second else { continue };
            now[at..at + 512].copy_from_slice(&old[at..at + 512]);
        }
        std::fs::write(dir.join(name), now).unwrap();
    }
}

fn keep(name: &str, dir: &Path, tokens: &str) {
    restore(&root().join(name), &contents_of(dir));
    std::fs::write(root().join(name).with_extension("tokens"), tokens).unwrap();
}

/// A bare log of which the begin was retired, and the history of its first life pruned.
fn write_retired() {
    let work = TempDir::new("fixture");
    let dir = work.join("retired");
    let mut tokens = String::new();
    for life in 0..3_u64 {
        let log = LogOptions::new().segment_bytes(SEGMENT_BYTES).open(&dir).unwrap();
        for n in 0..20 {
            let receipt = log.append(&value(life, n, 200), CommitMode::Async).unwrap();
            let outcome = if life == 0 { "Pruned" } else { "Durable" };
            tokens += &format!("{} {outcome}\n", receipt.token());
            if (life, n) == (1, 12) {
                receipt.wait().unwrap();
                log.retire(receipt.lsn()).unwrap();
                log.prune_history(2).unwrap();
            }
        }
        log.close().unwrap();
    }
    keep("retired", &dir, &tokens);
}
