//! Backups of an open engine, and their restore. `BACKUP.md` beside this file has the rules, and each step.

mod point;
mod source;
mod target;

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::point::Point;
pub use self::point::RestorePoint;
use self::source::{Earlier, Source};
use self::target::Target;
use super::unfinished::{MayHold, refuse_if_used, refuse_inside};
use super::{Engine, scrubs};
#[cfg(doc)]
use crate::base::error::ErrorKind;
use crate::base::error::{Error, Result};
use crate::base::types::Lsn;
use crate::care::pace::{Paced, ScrubOptions};
use crate::disk::{Dir, DirHandle, Disk, Layered, OsDisk};

/// What [`Engine::backup`] or [`Engine::restore`] wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct BackupReport {
    /// The state is that of this position, in the engine and in the backup.
    pub lsn: Lsn,
    /// Files of the tables in the backup.
    pub files: u64,
    /// Their bytes that were copied...
    pub bytes_copied: u64,
    /// ...and that were there already: in an earlier backup, or from an attempt that was not finished.
    pub bytes_reused: u64,
}

/// How far a backup has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BackupProgress {
    /// Bytes that were copied, or were there already, and of the log that a restore to a commit has gone over.
    pub bytes: u64,
    /// Bytes of all files, and of that log.
    pub total_bytes: u64,
}

type OnProgress = Arc<dyn Fn(BackupProgress) + Send + Sync>;

/// How a backup is made.
#[derive(Clone, Default)]
pub struct BackupOptions {
    against: Option<PathBuf>,
    pace: Option<ScrubOptions>,
    on_progress: Option<OnProgress>,
}

impl fmt::Debug for BackupOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackupOptions { against, pace, .. } = self;
        f.debug_struct("BackupOptions").field("against", against).field("pace", pace).finish_non_exhaustive()
    }
}

impl BackupOptions {
    /// The defaults: everything is copied, as fast as it goes.
    pub fn new() -> Self {
        BackupOptions::default()
    }

    /// What an earlier backup has is not copied: the new one gets hard links to its files, where the file system has them. Each
    /// of the two is whole on its own, and either may be opened, written to or deleted; but a file that rots is lost to both.
    #[must_use]
    pub fn against(mut self, earlier: impl Into<PathBuf>) -> Self {
        self.against = Some(earlier.into());
        self
    }

    /// Reads no faster than this: for a disk that others need meanwhile. By default there is no limit.
    #[must_use]
    pub fn pace(mut self, pace: ScrubOptions) -> Self {
        self.pace = Some(pace);
        self
    }

    /// Calls `told` after each piece of up to 1 MiB, on the thread that makes the backup.
    #[must_use]
    pub fn on_progress(mut self, told: impl Fn(BackupProgress) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(told));
        self
    }
}

impl Engine {
    /// Copies the database into a new one in `to`, with all that is visible now. Commits go on meanwhile.
    ///
    /// It makes a [checkpoint](Engine::checkpoint), and copies the tables, each of them checked: so it costs I/O and no memory. The
    /// backup is a database of its own, which can be opened, read, verified and salvaged. It keeps the identity of this one: it
    /// answers for the tokens of its commits ([`Engine::outcome`]). Until all of it is durable its directory says that it is unfinished,
    /// and does not open. If the call fails, the same call goes on with what is there; if all
    /// that failed was the last sync, the backup is whole, and the error says so.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = std::env::temp_dir().join(format!("forelog-doc-backup-{}", std::process::id()));
    /// # let _ = std::fs::remove_dir_all(&dir);
    /// use forelog::{BackupOptions, Engine};
    /// let engine = Engine::open(dir.join("bank"))?;
    /// let accounts = engine.create_keyspace("accounts")?;
    /// let mut tx = engine.begin()?;
    /// tx.put(&accounts, "alice", "90")?;
    /// tx.commit()?;
    /// engine.backup(dir.join("monday"))?;
    ///
    /// // The next one copies only what is new.
    /// let report = engine.backup_with(dir.join("tuesday"), BackupOptions::new().against(dir.join("monday")))?;
    /// assert!(report.bytes_reused > 0);
    /// engine.close()?;
    ///
    /// std::fs::remove_dir_all(dir.join("bank"))?;
    /// Engine::restore(dir.join("tuesday"), dir.join("bank"))?;
    /// let seen = Engine::read_only(dir.join("bank"))?;
    /// assert_eq!(seen.get("accounts", "alice")?.unwrap(), b"90");
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is something in `to` but an unfinished backup, or `to` lies inside this engine's
    /// directory; [`ErrorKind::Locked`] while another one opens `to` or makes a copy there; [`ErrorKind::Damaged`] with the file of this
    /// database that is damaged; [`ErrorKind::DiskFull`] and [`ErrorKind::Io`] with the file; [`ErrorKind::Unsupported`] with
    /// [`Checkpoints::Never`](crate::Checkpoints::Never), and in memory; [`ErrorKind::Closed`] if the engine is closed meanwhile; those of
    /// [`Engine::flush`] and [`Engine::checkpoint`]. None of them does harm to this database.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport> {
        self.backup_with(to, BackupOptions::new())
    }

    /// [`Engine::backup`] in another way.
    ///
    /// # Errors
    /// As [`Engine::backup`]; those of reading an earlier backup; [`ErrorKind::InvalidInput`] if the pace is zero.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn backup_with(&self, to: impl AsRef<Path>, options: BackupOptions) -> Result<BackupReport> {
        backup(self, &OsDisk, to.as_ref(), &options)
    }

    /// [`Engine::backup_with`] to a disk of your own.
    ///
    /// # Errors
    /// As [`Engine::backup_with`].
    #[cfg(feature = "unstable")]
    #[expect(clippy::needless_pass_by_value, reason = "as of the calls on the operating system's disk")]
    pub fn backup_on(&self, disk: Arc<dyn Disk>, to: impl AsRef<Path>, options: BackupOptions) -> Result<BackupReport> {
        backup(self, &*disk, to.as_ref(), &options)
    }

    /// Copies the backup in `from` to `to`, and checks all of it on the way. The backup is locked for reading, and not changed. The
    /// copy has the same identity, and is opened as any database.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `from` was opened and written to since it was made, or if there is something in `to` but an
    /// unfinished backup; [`ErrorKind::Damaged`] with the file of the backup; [`ErrorKind::Locked`], [`ErrorKind::DiskFull`],
    /// [`ErrorKind::Io`].
    pub fn restore(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<BackupReport> {
        Engine::restore_with(from, to, BackupOptions::new())
    }

    /// [`Engine::restore`] in another way.
    ///
    /// # Errors
    /// As [`Engine::restore`]; [`ErrorKind::InvalidInput`] if the pace is zero.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn restore_with(from: impl AsRef<Path>, to: impl AsRef<Path>, options: BackupOptions) -> Result<BackupReport> {
        restore(&OsDisk, (from.as_ref(), to.as_ref()), None, &options)
    }

    /// [`Engine::restore_with`] on a disk of your own.
    ///
    /// # Errors
    /// As [`Engine::restore_with`].
    #[cfg(feature = "unstable")]
    #[expect(clippy::needless_pass_by_value, reason = "as of the calls on the operating system's disk")]
    pub fn restore_on(
        disk: Arc<dyn Disk>,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: BackupOptions,
    ) -> Result<BackupReport> {
        restore(&*disk, (from.as_ref(), to.as_ref()), None, &options)
    }

    /// Copies the backup in `from` to `to`, as [`Engine::restore`] does, and brings it up to a commit, by the log of the database
    /// that it is a backup of: the state of the new database is exactly the one behind that commit. It has a history of its
    /// own from there on. Tokens up to that commit are answered `Durable`, those above it `Lost`, or as those of another copy.
    ///
    /// The log is there from the backup's end on as far as it is retained: see
    /// [`Options::retain_log_bytes`](crate::Options::retain_log_bytes). What of it lies above the commit, and what the tables of
    /// that database hold, is not needed, and may be damaged.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = std::env::temp_dir().join(format!("forelog-doc-restore-{}", std::process::id()));
    /// # let _ = std::fs::remove_dir_all(&dir);
    /// use forelog::{Engine, Options, RestorePoint};
    /// let engine = Options::new().retain_log_bytes(1 << 30).open(dir.join("bank"))?;
    /// let accounts = engine.create_keyspace("accounts")?;
    /// engine.backup(dir.join("monday"))?;
    /// let commit = |value| -> forelog::Result<_> {
    ///     let mut batch = engine.batch()?;
    ///     batch.put(&accounts, "alice", value)?;
    ///     Ok(batch.commit()?.token())
    /// };
    /// let good = commit("90")?;
    /// commit("-10000")?;
    /// engine.close()?;
    ///
    /// let point = RestorePoint::new(good).with_log_of(dir.join("bank"));
    /// Engine::restore_to(dir.join("monday"), dir.join("again"), &point)?;
    /// assert_eq!(Engine::read_only(dir.join("again"))?.get("accounts", "alice")?.unwrap(), b"90");
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Engine::restore`]; [`ErrorKind::InvalidInput`] if the token is below the backup's end, if it is above that and no log
    /// is given, or if the database is not the one that the backup is of, or no longer has the commit;
    /// [`ErrorKind::Retired`], or [`ErrorKind::Damaged`] with the segment that is missing, if the log does not reach back to the backup;
    /// [`ErrorKind::Locked`] if a program has that database open.
    pub fn restore_to(from: impl AsRef<Path>, to: impl AsRef<Path>, point: &RestorePoint) -> Result<BackupReport> {
        Engine::restore_to_with(from, to, point, BackupOptions::new())
    }

    /// [`Engine::restore_to`] in another way.
    ///
    /// # Errors
    /// As [`Engine::restore_to`]; [`ErrorKind::InvalidInput`] if the pace is zero.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn restore_to_with(
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        point: &RestorePoint,
        options: BackupOptions,
    ) -> Result<BackupReport> {
        restore(&OsDisk, (from.as_ref(), to.as_ref()), Some(point), &options)
    }

    /// [`Engine::restore_to_with`] on a disk of your own.
    ///
    /// # Errors
    /// As [`Engine::restore_to_with`].
    #[cfg(feature = "unstable")]
    #[expect(clippy::needless_pass_by_value, reason = "as of the calls on the operating system's disk")]
    pub fn restore_to_on(
        disk: Arc<dyn Disk>,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        point: &RestorePoint,
        options: BackupOptions,
    ) -> Result<BackupReport> {
        restore(&*disk, (from.as_ref(), to.as_ref()), Some(point), &options)
    }
}

fn backup(engine: &Engine, disk: &dyn Disk, to: &Path, options: &BackupOptions) -> Result<BackupReport> {
    let (pipeline, tables) = (engine.pipeline(), &engine.inner.tables);
    pipeline.check_open()?;
    let target = target(disk, to, pipeline.log.handle(), options)?;
    let source = Source::of_engine(engine)?;
    let held = tables.names();
    let copied = copy(&target, source, options, &|| pipeline.check_open());
    scrubs::let_go(&pipeline.log, tables, held);
    copied.map_err(|error| match pipeline.check_open() {
        // Nobody has held the files since.
        Err(closed) if error.damage().is_some() => closed,
        _ => error,
    })
}

fn restore(
    disk: &dyn Disk,
    (from, to): (&Path, &Path),
    point: Option<&RestorePoint>,
    options: &BackupOptions,
) -> Result<BackupReport> {
    let handle = Arc::new(DirHandle::open(disk, from)?);
    let target = target(disk, to, &handle, options)?;
    let source = Source::in_directory(&handle)?;
    source.check_no_log(from)?;
    if let Some(point) = point
        && let Some(found) = Point::find(disk, &source, point)?
    {
        refuse_inside(disk, to, found.handle())?;
        target.point.set(Some(found));
    }
    copy(&target, source, options, &|| Ok(()))
}

/// Looks whether a backup of what is in `from` may go to `to`.
fn target<'a>(disk: &'a dyn Disk, to: &'a Path, from: &DirHandle, options: &BackupOptions) -> Result<Target<'a>> {
    refuse_inside(disk, to, from)?;
    refuse_if_used(disk, to, MayHold::Unfinished)?;
    let earlier = options.against.as_deref().map(|path| Earlier::open(disk, path)).transpose()?;
    if let Some(earlier) = &earlier {
        refuse_inside(disk, to, &earlier.handle)?;
        if earlier.handle.dir().id().ok() == from.dir().id().ok() {
            let path = earlier.handle.path().display();
            return Err(Error::invalid_input(format!(
                "{path} is what is to be copied: a backup shares files with an earlier backup only"
            )));
        }
    }
    Ok(Target { disk, path: to, earlier, point: Cell::new(None) })
}

/// `source` is let go of at the end.
fn copy(
    target: &Target<'_>,
    mut source: Source,
    options: &BackupOptions,
    check: &dyn Fn() -> Result<()>,
) -> Result<BackupReport> {
    if let Some(pace) = options.pace {
        let paced = Paced::new(pace)?;
        let view = |dir| -> Arc<dyn Dir> { Arc::new(Layered::new(dir, paced)) };
        source.layers = source.layers.map(|layers| layers.viewed(view));
    }
    target.write(&source, &mut |progress| {
        if let Some(told) = &options.on_progress {
            told(progress);
        }
        check()
    })
}
