//! Servers that are started for a measurement and ended with it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peer::Result;

/// A program of one of these folders, or of those where programs are looked for.
pub fn program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.iter().cloned().chain(std::env::split_paths(&path));
    all.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A running server. It is ended when this is dropped, or with this process.
pub struct Server {
    process: Child,
    /// What ends it without a trace of it left behind.
    end: i32,
}

impl Server {
    /// Starts it and waits until `ready`.
    pub fn start(mut command: Command, end: i32, ready: impl Fn() -> bool) -> Result<Server> {
        const MOST: Duration = Duration::from_secs(30);
        die_with_parent(&mut command, end);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
        let mut server = Server { process, end };
        let begin = Instant::now();
        while !ready() {
            if let Some(status) = server.process.try_wait()? {
                return Err(format!("the server ended with {status}").into());
            }
            if begin.elapsed() > MOST {
                return Err("the server does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for Server {
    #[expect(unsafe_code, reason = "the standard library sends no signal but SIGKILL")]
    fn drop(&mut self) {
        let Ok(id) = i32::try_from(self.process.id()) else { return };
        // SAFETY: a signal to a child that was not waited for, so its id is its own.
        unsafe { libc::kill(id, self.end) };
        let _ = self.process.wait();
    }
}

/// A server that outlived a measurement would measure itself into the next one.
#[expect(unsafe_code, reason = "the standard library does not set the signal")]
fn die_with_parent(command: &mut Command, end: i32) {
    // SAFETY: between fork and exec, one system call that allocates nothing.
    unsafe {
        command.pre_exec(move || match libc::prctl(libc::PR_SET_PDEATHSIG, end) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// The first line that a program prints about itself.
pub fn first_line(program: &Path, argument: &str) -> Result<String> {
    let output = Command::new(program).arg(argument).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
