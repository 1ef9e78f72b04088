//! What the tests of the command line share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A fresh directory for one test, removed at its end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn forelog() -> Command {
    Command::new(env!("CARGO_BIN_EXE_forelog"))
}

pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().expect("not killed"), text(stdout), text(stderr))
}

/// Runs it to success; returns what it printed.
pub(crate) fn printed(command: &mut Command) -> String {
    let (code, stdout, stderr) = run(command);
    assert_eq!((code, &*stderr), (0, ""), "{command:?}");
    stdout
}

/// Runs it into an error; returns its one line on stderr.
pub(crate) fn refused(command: &mut Command) -> String {
    let (code, stdout, stderr) = run(command);
    assert_eq!((code, &*stdout), (1, ""), "{command:?}: {stderr}");
    assert!(stderr.starts_with("forelog: ") && stderr.lines().count() == 1, "{stderr}");
    stderr
}

pub(crate) fn import(db: &Path, file: &Path, more: &[&str]) -> Command {
    let mut command = forelog();
    command.arg("import").arg("--db").arg(db).args(["--keyspace", "rows", "--key", "id"]).args(more).arg(file);
    command
}

pub(crate) fn on(subcommand: &str, db: &Path, more: &[&str]) -> Command {
    let mut command = forelog();
    command.arg(subcommand).arg("--db").arg(db).args(more);
    command
}

/// Every file of the database with its bytes. While a program has it open, a file may go between the listing and its
/// turn, such as MARK.tmp, which is renamed: then all are read again.
pub(crate) fn contents(db: &Path) -> Vec<(String, Vec<u8>)> {
    let read = || {
        let mut files = Vec::new();
        for entry in fs::read_dir(db)? {
            let entry = entry?;
            files.push((entry.file_name().into_string().unwrap(), fs::read(entry.path())?));
        }
        files.sort();
        Ok::<_, std::io::Error>(files)
    };
    loop {
        match read() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && db.exists() => {}
            files => return files.unwrap(),
        }
    }
}
