//! Temporary directories, and the programs of this package.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Removed with what is in it.
pub struct Temporary(pub PathBuf);

impl Temporary {
    pub fn new(parent: PathBuf, name: &str) -> Self {
        let dir = parent.join(format!("forelog-peers-smoke-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).expect("a directory");
        Temporary(dir)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().expect("the program runs")
}

/// Fails with exit status 2 and these words.
pub fn refuses(program: &str, arguments: &[&str], words: &[&str]) {
    let output = run(program, arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(words.iter().all(|word| told.contains(word)), "{told}");
}
