//! PostgreSQL, driven by pgbench over a socket of its own.

use std::fmt::Write;
use std::io::ErrorKind;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::{Server, first_line, program};
use crate::common::KEYS;
use crate::peer::{Abilities, Kind, Mode, Peer, Result, Run, Session, Setting, Store};
use crate::workload::Commits;

pub const PEER: Peer = Peer {
    name: "postgres",
    kind: Kind::Outside,
    package: None,
    sync: Some("synchronous_commit = on"),
    written: None,
    asynchronous: Some("synchronous_commit = off"),
    can: Abilities { mixed: false, awaited: false, replays: false },
    reads: None,
    advice: "defaults; pgbench -M prepared: one INSERT ... ON CONFLICT DO UPDATE over a Unix socket; a process of its own",
    limited: None,
    installed: || {
        let line = first_line(&Programs::found()?.postgres, "--version")?;
        Ok(line.split_whitespace().nth(2).unwrap_or("unknown").to_owned())
    },
    open: |setting: &Setting| Ok(Box::new(Opened::start(setting)?)),
};

struct Programs {
    initdb: PathBuf,
    postgres: PathBuf,
    pgbench: PathBuf,
}

impl Programs {
    fn found() -> Result<Self> {
        // Debian keeps them out of the way, a folder each version.
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
        folders.sort();
        folders.reverse();
        let found = |name| program(name, &folders).ok_or("it is not installed: apt-get install postgresql");
        Ok(Programs { initdb: found("initdb")?, postgres: found("postgres")?, pgbench: found("pgbench")? })
    }
}

/// The user that the server runs as: it refuses to be root.
fn user() -> Result<Option<(u32, u32)>> {
    // SAFETY: always succeeds.
    #[expect(unsafe_code, reason = "the standard library does not tell the user")]
    if unsafe { libc::geteuid() } != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let fields: Vec<&str> = line.ok_or("there is no user postgres, and it does not run as root")?.split(':').collect();
    match (fields.get(2).map(|id| id.parse()), fields.get(3).map(|id| id.parse())) {
        (Some(Ok(user)), Some(Ok(group))) => Ok(Some((user, group))),
        _ => Err("/etc/passwd does not tell the id of the user postgres".into()),
    }
}

struct Opened {
    _server: Server,
    pgbench: PathBuf,
    /// Of the socket and the script.
    dir: PathBuf,
}

impl Opened {
    fn start(setting: &Setting) -> Result<Self> {
        let (programs, user) = (Programs::found()?, user()?);
        // The path of a socket is short.
        let dir = std::env::temp_dir().join(format!("forelog-peers-{}", std::process::id()));
        std::fs::create_dir(&dir)?;
        if let Some((user, group)) = user {
            chown(setting.dir, Some(user), Some(group))?;
            chown(&dir, Some(user), Some(group))?;
        }
        let command = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(setting.dir);
            if let Some((user, group)) = user {
                command.uid(user).gid(group);
            }
            command
        };
        let data = setting.dir.join("data");
        let mut initdb = command(&programs.initdb);
        initdb.args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"]).arg(&data);
        let made = initdb.output().map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => {
                "the user postgres may not pass the folders above: chmod o+x them".to_owned()
            }
            _ => format!("initdb: {error}"),
        })?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr).replace('\n', " ")).into());
        }
        let synchronous = if setting.purpose.mode() == Some(Mode::Sync) { "on" } else { "off" };
        let mut server = command(&programs.postgres);
        server.arg("-D").arg(&data).arg("-k").arg(&dir);
        server.args(["-c", "listen_addresses=", "-c", &format!("synchronous_commit={synchronous}")]);
        // Its log goes to a file: the standard error output is for what fails.
        server.args(["-c", "logging_collector=on"]);
        // An immediate shutdown, which takes its other processes with it.
        let ready = || connects(&dir);
        let server = Server::start(server, libc::SIGQUIT, ready)?;
        let opened = Opened { _server: server, pgbench: programs.pgbench, dir };
        opened.bench("CREATE TABLE keys (key bytea PRIMARY KEY, value bytea NOT NULL);", &["-t", "1"])?;
        Ok(opened)
    }

    /// Runs a script and returns what pgbench prints.
    fn bench(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let path = self.dir.join("script.sql");
        std::fs::write(&path, script)?;
        let output = Command::new(&self.pgbench)
            .args(["-n", "-M", "prepared", "-U", "postgres", "-h"])
            .arg(&self.dir)
            .arg("-f")
            .arg(&path)
            .args(arguments)
            .arg("postgres")
            .output()?;
        if !output.status.success() {
            return Err(format!("pgbench: {}", String::from_utf8_lossy(&output.stderr).replace('\n', " ")).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Opened {
    /// Nanoseconds of each transaction, from the files that pgbench logged them to, which are removed.
    fn latencies(&self) -> Result<Vec<u64>> {
        let mut times = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with("latency") {
                continue;
            }
            let log = std::fs::read_to_string(entry.path())?;
            for line in log.lines() {
                let microseconds: u64 = line.split(' ').nth(2).ok_or("pgbench logged no time")?.parse()?;
                times.push(microseconds * 1000);
            }
            std::fs::remove_file(entry.path())?;
        }
        Ok(times)
    }
}

/// Whether the server answers: its socket is there before it does.
fn connects(dir: &Path) -> bool {
    program("pg_isready", &[])
        .map(|program| Command::new(program).arg("-q").arg("-h").arg(dir).status())
        .map_or_else(|| dir.join(".s.PGSQL.5432").exists(), |status| status.is_ok_and(|status| status.success()))
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Err("pgbench drives it".into())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn drive(&self, commits: &Commits, seconds: f64) -> Option<Result<Run>> {
        let mut script = String::new();
        // Writing to a string never fails.
        let _ = writeln!(script, "\\set number random(0, {})", KEYS - 1);
        let _ = writeln!(
            script,
            "INSERT INTO keys VALUES (decode(lpad(to_hex(:number::bigint), 32, '0'), 'hex'), decode(repeat('5a', {}), 'hex')) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value;",
            commits.value
        );
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (clients, threads) = (commits.threads.to_string(), commits.threads.min(processors).to_string());
        // Whole seconds are all that it takes.
        let time = format!("{:.0}", seconds.ceil());
        let log = self.dir.join("latency").display().to_string();
        let arguments = ["-c", &clients, "-j", &threads, "-T", &time, "--log", "--log-prefix", &log];
        Some(self.bench(&script, &arguments).and_then(|told| counted(&told, self.latencies()?)))
    }
}

fn counted(told: &str, times: Vec<u64>) -> Result<Run> {
    let number = |begin: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(begin))?;
        line.trim().split([' ', '/']).next()?.parse::<f64>().ok()
    };
    match (number("number of transactions actually processed:"), number("tps =")) {
        (Some(operations), Some(rate)) if rate > 0.0 => {
            Ok(Run { operations: operations as u64, seconds: operations / rate, times })
        }
        _ => Err("pgbench tells no rate".into()),
    }
}
