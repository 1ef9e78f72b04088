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

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.engine.close();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
