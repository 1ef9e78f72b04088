//! What the programs share: a database in a directory of their own, which is gone at their end.

use std::path::{Path, PathBuf};

use forelog::{Engine, Keyspace};

/// A database and one keyspace of it.
#[derive(Debug)]
pub struct Database {
    /// The engine.
    pub engine: Engine,
    /// The keyspace `events`.
    pub events: Keyspace,
    dir: PathBuf,
}

impl Database {
    /// Makes one for the program `name`, in the directory that the first argument names, or in the directory for temporary files.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn make(name: &str) -> forelog::Result<Self> {
        let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = parent.join(format!("forelog-{name}-{}", std::process::id()));
        let engine = Engine::open(&dir)?;
        let events = engine.create_keyspace("events")?;
        Ok(Database { engine, events, dir })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A descriptor that tokio waits for.
///
/// # Errors
/// If the runtime cannot wait for one.
#[cfg(unix)]
pub fn async_fd(durable: forelog::DurableFd) -> std::io::Result<tokio::io::unix::AsyncFd<forelog::DurableFd>> {
    // SAFETY: a `DurableFd` owns its descriptor, and gives out the same one for as long as it lives.
    #[expect(unsafe_code, reason = "tokio has no safe call for this")]
    unsafe {
        tokio::io::unix::AsyncFd::register(durable).map_err(Into::into)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.engine.close();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
