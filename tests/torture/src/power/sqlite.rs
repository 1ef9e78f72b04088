//! A control that must pass: SQLite with a write-ahead log and `synchronous=FULL`, through its own shell.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::reference::{Told, payload};
use super::worker::{Marker, Verdict};

pub(super) const PROGRAM: &str = "sqlite3";
/// What the shell prints when everything before is done.
const DONE: &str = "done";

/// A shell with the database open.
struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn open(dir: &Path) -> io::Result<Self> {
        let mut process = Command::new(PROGRAM)
            .args(["-batch", "-bail"])
            .arg(dir.join("database"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().expect("a pipe was asked for");
        let output = BufReader::new(process.stdout.take().expect("a pipe was asked for"));
        let mut shell = Shell { process, input, output };
        shell.run("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")?;
        shell.run("CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, data BLOB);")?;
        Ok(shell)
    }

    /// The lines that the statements print.
    fn run(&mut self, statements: &str) -> io::Result<Vec<String>> {
        writeln!(self.input, "{statements}\nSELECT '{DONE}';")?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the SQLite shell ended: its message is on stderr"));
            }
            match line.trim_end() {
                DONE => return Ok(lines),
                line => lines.push(line.to_owned()),
            }
        }
    }

    fn records(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let lines = self.run("SELECT hex(data) FROM records ORDER BY number;")?;
        let byte = |digits: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(digits), 16).unwrap_or(0);
        Ok(lines.iter().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.input.write_all(b".quit\n");
        let _ = self.process.wait();
    }
}

/// Opens the database, which is empty or what a power cut left, and commits `count` records.
pub(super) fn work(dir: &Path, count: u64, marks: &[String], marker: &Marker) -> io::Result<()> {
    let life = Told::new(marks).lives + 1;
    let mut shell = Shell::open(dir)?;
    let found = shell.records()?.len() as u64;
    marker.mark(&format!("found {found}"))?;
    for number in found..found + count {
        let data: String = payload(life, number).iter().map(|byte| format!("{byte:02x}")).collect();
        marker.mark("submit")?;
        shell.run(&format!("INSERT INTO records VALUES ({number}, x'{data}');"))?;
        marker.mark("acknowledge")?;
    }
    Ok(())
}

/// Opens what a power cut left and compares it with what was told.
pub(super) fn check(dir: &Path, marks: &[String]) -> Verdict {
    let mut sound = Vec::new();
    let records = Shell::open(dir).and_then(|mut shell| {
        sound = shell.run("PRAGMA integrity_check;")?;
        shell.records()
    });
    match records {
        Err(error) => Verdict::Refused(error.to_string()),
        Ok(_) if sound != ["ok"] => Verdict::Broken(format!("I1: {}", sound.join("; "))),
        Ok(records) => Told::new(marks).judge(&records).map_or_else(Verdict::Broken, |()| Verdict::Fine),
    }
}
