//! Where the tests of this directory play: the simulated disk, or the operating system's, behind the same verbs.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use forelog::sim::SimDisk;
use forelog::unstable::disk::{DirCall, Disk, Layer, Layered, OsDisk};
use forelog::{CommitMode, Engine, Key, Options, Recovery, Result, Value};

/// A disk, and what someone else does to it meanwhile.
#[derive(Debug)]
pub(crate) enum Ground {
    Sim(SimDisk),
    Os(PathBuf),
}

impl Ground {
    pub(crate) fn both(name: &str) -> [Ground; 2] {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forelog-directory-{name}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        [Ground::Sim(SimDisk::new()), Ground::Os(path)]
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        match self {
            Ground::Sim(disk) => Arc::new(disk.clone()),
            Ground::Os(_) => Arc::new(OsDisk),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match self {
            Ground::Sim(_) => name.into(),
            Ground::Os(root) => root.join(name),
        }
    }

    pub(crate) fn options(&self) -> Options {
        Options::new().segment_bytes(4096)
    }

    pub(crate) fn open(&self, name: &str) -> Result<Engine> {
        self.options().open_on(self.disk(), self.path(name))
    }

    pub(crate) fn rename_dir(&self, from: &str, to: &str) {
        match self {
            Ground::Sim(disk) => disk.rename_dir(from, to).unwrap(),
            Ground::Os(_) => std::fs::rename(self.path(from), self.path(to)).unwrap(),
        }
    }

    pub(crate) fn remove_tree(&self, name: &str) {
        match self {
            Ground::Sim(disk) => disk.remove_tree(name).unwrap(),
            // An open log may make a segment meanwhile.
            Ground::Os(_) => {
                while let Err(error) = std::fs::remove_dir_all(self.path(name)) {
                    assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty, "{error}");
                }
            }
        }
    }

    /// Makes a symbolic link, or moves it.
    #[cfg(unix)]
    pub(crate) fn link(&self, link: &str, target: &str) {
        match self {
            Ground::Sim(disk) => disk.link_dir(link, target),
            Ground::Os(_) => {
                let _ = std::fs::remove_file(self.path(link));
                std::os::unix::fs::symlink(self.path(target), self.path(link)).unwrap();
            }
        }
    }

    pub(crate) fn remove(&self, name: &str) {
        match self {
            Ground::Sim(disk) => disk.delete(name).unwrap(),
            Ground::Os(_) => std::fs::remove_file(self.path(name)).unwrap(),
        }
    }

    /// Renames a file, over another one if need be.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        match self {
            Ground::Sim(disk) => disk.rename_file(from, to).unwrap(),
            Ground::Os(_) => std::fs::rename(self.path(from), self.path(to)).unwrap(),
        }
    }

    /// Gives a file a second name, in a directory that exists.
    pub(crate) fn link_file(&self, from: &str, to: &str) {
        match self {
            Ground::Sim(disk) => disk.link_file(from, to).unwrap(),
            Ground::Os(_) => std::fs::hard_link(self.path(from), self.path(to)).unwrap(),
        }
    }

    pub(crate) fn make_dir(&self, name: &str) {
        match self {
            Ground::Sim(disk) => disk.make_dir(name).unwrap(),
            Ground::Os(_) => std::fs::create_dir_all(self.path(name)).unwrap(),
        }
    }

    /// Cuts a file.
    pub(crate) fn truncate(&self, name: &str, length: u64) {
        match self {
            Ground::Sim(disk) => disk.truncate(name, length).unwrap(),
            Ground::Os(_) => {
                std::fs::OpenOptions::new().write(true).open(self.path(name)).unwrap().set_len(length).unwrap();
            }
        }
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        match self {
            Ground::Sim(disk) => disk.write_file(name, bytes).unwrap(),
            Ground::Os(_) => {
                std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
                std::fs::write(self.path(name), bytes).unwrap();
            }
        }
    }

    /// Flips the lowest bit of a byte, in place.
    #[cfg(unix)]
    pub(crate) fn flip(&self, name: &str, byte: u64) {
        use std::os::unix::fs::FileExt;
        match self {
            Ground::Sim(disk) => disk.flip_bit(name, byte * 8).unwrap(),
            Ground::Os(_) => {
                let file = std::fs::File::options().read(true).write(true).open(self.path(name)).unwrap();
                let mut bytes = [0];
                file.read_exact_at(&mut bytes, byte).unwrap();
                file.write_all_at(&[bytes[0] ^ 1], byte).unwrap();
            }
        }
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        match self {
            Ground::Sim(disk) => disk.read_file(name).unwrap(),
            Ground::Os(_) => std::fs::read(self.path(name)).unwrap(),
        }
    }

    /// The names in a directory; `None` if there is no such directory.
    pub(crate) fn names(&self, name: &str) -> Option<Vec<String>> {
        let dir = self.disk().open_dir(&self.path(name)).ok()?;
        let mut names: Vec<_> = dir.list().unwrap().iter().map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        Some(names)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Ground::Os(path) = self {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Puts `key` and waits until it is durable.
pub(crate) fn put(engine: &Engine, key: &str) -> Result<()> {
    let rows = engine.create_keyspace("rows")?;
    let mut batch = engine.batch()?;
    batch.put(&rows, key, [b'v'; 100])?;
    batch.commit_with(CommitMode::Sync).map(drop)
}

/// All keys, in order.
pub(crate) fn keys(engine: &Engine) -> Vec<String> {
    let snapshot = engine.snapshot().unwrap();
    let Some(rows) = snapshot.keyspace("rows").unwrap() else { return Vec::new() };
    let key = |entry: Result<(Key, Value)>| String::from_utf8_lossy(&entry.unwrap().0).into_owned();
    snapshot.iter(&rows).unwrap().map(key).collect()
}

/// Reads and checks the database in `path`.
pub(crate) fn verify(disk: Arc<dyn Disk>, path: impl AsRef<Path>) -> Result<Recovery> {
    forelog::unstable::inspect::verify_on(disk, path.as_ref(), &mut |_, _| Ok(()))
}

/// What is done before the calls of an opener: told the call, and fails it if it returns an error.
type Watch = dyn FnMut(DirCall<'_>) -> io::Result<()> + Send;

/// A layer that asks a closure before each call.
#[derive(Clone)]
pub(crate) struct Before(Arc<Mutex<Box<Watch>>>);

impl std::fmt::Debug for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Before")
    }
}

impl Layer for Before {
    fn before(&self, call: DirCall<'_>) -> io::Result<()> {
        (self.0.lock().unwrap())(call)
    }
}

/// `disk`, with `watch` asked before each call on a directory.
pub(crate) fn watched(
    disk: Arc<dyn Disk>,
    watch: impl FnMut(DirCall<'_>) -> io::Result<()> + Send + 'static,
) -> Arc<dyn Disk> {
    Arc::new(Layered::new(disk, Before(Arc::new(Mutex::new(Box::new(watch))))))
}

/// A layer that runs a closure before and after each call.
#[derive(Clone)]
struct Around(Arc<Mutex<Box<dyn FnMut() + Send>>>);

impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Around")
    }
}

impl Layer for Around {
    fn before(&self, _: DirCall<'_>) -> io::Result<()> {
        (self.0.lock().unwrap())();
        Ok(())
    }

    fn after(&self, _: DirCall<'_>, _: bool) {
        (self.0.lock().unwrap())();
    }
}

/// `disk`, with `act` run before and after each call on a directory.
pub(crate) fn around(disk: Arc<dyn Disk>, act: impl FnMut() + Send + 'static) -> Arc<dyn Disk> {
    Arc::new(Layered::new(disk, Around(Arc::new(Mutex::new(Box::new(act))))))
}

/// `disk`, whose directories cannot be locked.
pub(crate) fn without_directory_locks(disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
    watched(disk, |call| match call {
        DirCall::Lock(_) => Err(io::ErrorKind::Unsupported.into()),
        _ => Ok(()),
    })
}

pub(crate) fn is_lock(name: &OsStr) -> bool {
    name == "LOCK"
}
