//! Operations, how to observe them, and how to make them fail.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kind of a call to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum OpKind {
    /// Opening a file that exists.
    Open,
    /// Creating a file.
    Create,
    /// Creating a directory.
    CreateDir,
    /// Listing a directory.
    List,
    /// Opening a directory.
    OpenDir,
    /// Locking a file or a directory.
    Lock,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Changing a file's length.
    SetLen,
    /// Syncing a file, by either call.
    Sync,
    /// Beginning the write-back that the next sync of a file will wait for. Crashes before and after it leave the same
    /// states.
    StartWriteback,
    /// Syncing a directory.
    SyncDir,
    /// Renaming a file or a directory.
    Rename,
    /// Removing a file or a directory.
    Remove,
}

impl OpKind {
    /// Whether it may change the contents of the disk, or what is durable.
    pub fn mutates(self) -> bool {
        !matches!(
            self,
            OpKind::Open | OpKind::OpenDir | OpKind::Lock | OpKind::List | OpKind::Read | OpKind::StartWriteback
        )
    }
}

/// The phase of an operation when its observer is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Phase {
    /// It takes effect next.
    Before,
    /// It is a sync that has begun and not ended: others may have written meanwhile.
    InFlight,
}

/// An operation, as an observer sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OpEvent<'a> {
    /// The operation's number on this disk, from 0. Operations that change nothing, such as reads, count too.
    pub number: u64,
    /// The kind of the operation.
    pub kind: OpKind,
    /// Its file or directory, under the name with which it was opened; for a rename, the old name.
    pub path: &'a Path,
    /// The offset of a read or write, or the new length for [`OpKind::SetLen`]; otherwise 0.
    pub offset: u64,
    /// How many bytes a read or write asks for; otherwise 0.
    pub length: u64,
    /// Where it stands.
    pub phase: Phase,
}

/// Selects the operation that a fault hits: the matching operation that comes after `skip` others.
#[derive(Clone, Debug, Default)]
pub struct OpSelector {
    kind: Option<OpKind>,
    suffix: String,
    bytes: Option<Range<u64>>,
    skip: u64,
}

impl OpSelector {
    /// The next operation of any kind.
    pub fn any() -> Self {
        OpSelector::default()
    }

    /// The next operation of this kind.
    pub fn of(kind: OpKind) -> Self {
        OpSelector { kind: Some(kind), ..OpSelector::default() }
    }

    /// Lets `count` matching operations pass first.
    #[must_use]
    pub fn skip(self, count: u64) -> Self {
        OpSelector { skip: count, ..self }
    }

    /// Only operations on paths with this ending.
    #[must_use]
    pub fn on(self, suffix: impl Into<String>) -> Self {
        OpSelector { suffix: suffix.into(), ..self }
    }

    /// Only reads and writes that touch some of these bytes: a bad sector, if the fault is persistent.
    #[must_use]
    pub fn touching(self, bytes: Range<u64>) -> Self {
        OpSelector { bytes: Some(bytes), ..self }
    }

    fn matches(&self, op: &OpEvent<'_>) -> bool {
        let touches = |bytes: &Range<u64>| op.offset < bytes.end && bytes.start < op.offset.saturating_add(op.length);
        self.kind.is_none_or(|kind| kind == op.kind)
            && op.path.as_os_str().as_encoded_bytes().ends_with(self.suffix.as_bytes())
            && self.bytes.as_ref().is_none_or(touches)
    }
}

/// What a failed sync leaves in the cache of the changes that it should have made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Pages {
    /// They stay readable and count as clean: later syncs succeed without writing them (ext4, XFS).
    KeepNew,
    /// Reads show the contents of the medium (Btrfs).
    RevertOld,
    /// As with `KeepNew`, but this sync reports success and the next one on the same path fails (ext4 with
    /// `data=journal`, where the write-back that fails comes after the sync). Such a disk lies: no program can save the
    /// commits acknowledged in between, it can only notice that they are gone.
    ReportLate,
}

/// The effect of a fault.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FaultKind {
    /// The call fails with this kind of error and does nothing. A sync that fails in this way loses nothing.
    Error(io::ErrorKind),
    /// The same, with an error code of the operating system: 5 is EIO, 28 is ENOSPC.
    Errno(i32),
    /// A write takes at most this number of bytes, and says so.
    ShortWrite(usize),
    /// A write leaves out this number of bytes at its end, and says so.
    ShortWriteBy(usize),
    /// A write takes at most this number of bytes, and fails with EIO.
    FailedWrite(usize),
    /// A read returns at most this number of bytes.
    ShortRead(usize),
    /// A read succeeds and returns zeros.
    ZeroRead,
    /// A read succeeds with one bit flipped: this one, modulo the number of bits read.
    FlippedRead(usize),
    /// A sync fails with EIO, and the changes that it covered do not become durable unless they are written again.
    SyncFails {
        /// What reads show after that.
        pages: Pages,
    },
    /// A rename fails with EIO, and the medium has it all the same; reads do not show it.
    RenameOnMedium,
    /// The operation takes this much simulated time longer. Outside a simulation it takes none.
    Stall(Duration),
}

impl FaultKind {
    fn can_hit(&self, kind: OpKind) -> bool {
        match self {
            FaultKind::Error(_) | FaultKind::Errno(_) | FaultKind::Stall(_) => true,
            FaultKind::ShortWrite(_) | FaultKind::ShortWriteBy(_) | FaultKind::FailedWrite(_) => kind == OpKind::Write,
            FaultKind::ShortRead(_) | FaultKind::ZeroRead | FaultKind::FlippedRead(_) => kind == OpKind::Read,
            FaultKind::RenameOnMedium => kind == OpKind::Rename,
            FaultKind::SyncFails { .. } => matches!(kind, OpKind::Sync | OpKind::StartWriteback | OpKind::SyncDir),
        }
    }

    /// How many of the `length` bytes of a write are taken.
    pub(super) fn taken(&self, length: usize) -> usize {
        match self {
            FaultKind::ShortWrite(most) | FaultKind::FailedWrite(most) => length.min(*most),
            FaultKind::ShortWriteBy(less) => length.saturating_sub(*less),
            _ => length,
        }
    }

    /// How many of the `length` bytes of a read are returned.
    pub(super) fn given(&self, length: usize) -> usize {
        if let FaultKind::ShortRead(most) = self { length.min(*most) } else { length }
    }

    /// Changes the bytes that a read returns.
    pub(super) fn garble(&self, bytes: &mut [u8]) {
        match self {
            FaultKind::ZeroRead => bytes.fill(0),
            FaultKind::FlippedRead(bit) if !bytes.is_empty() => {
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            _ => {}
        }
    }
}

/// An injected fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The operation that it hits. Operations that this kind of fault cannot hit are not counted.
    pub at: OpSelector,
    /// Its effect.
    pub kind: FaultKind,
    /// Whether it also hits every later matching operation.
    pub persistent: bool,
}

impl Fault {
    /// A fault that hits one operation.
    pub fn once(at: OpSelector, kind: FaultKind) -> Self {
        Fault { at, kind, persistent: false }
    }

    /// A fault that hits every matching operation from that one on.
    pub fn lasting(at: OpSelector, kind: FaultKind) -> Self {
        Fault { at, kind, persistent: true }
    }
}

pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

/// The effect of the faults on one operation.
#[derive(Default)]
pub(super) struct Harm {
    pub(super) stall: Duration,
    /// Never a stall.
    pub(super) kind: Option<FaultKind>,
}

impl Harm {
    /// The error of an operation that does nothing but fail.
    pub(super) fn error(&self) -> io::Result<()> {
        match self.kind {
            Some(FaultKind::Error(kind)) => Err(kind.into()),
            Some(FaultKind::Errno(code)) => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(()),
        }
    }
}

/// The injected faults, in the order of injection.
#[derive(Default)]
pub(super) struct Faults {
    armed: Vec<Fault>,
    /// Paths of syncs that failed and reported success: the next sync of the path must report the failure.
    unreported: Vec<PathBuf>,
    pub(super) hits: u64,
}

impl Faults {
    pub(super) fn inject(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.armed.clear();
        self.unreported.clear();
    }

    /// The error with which every operation like `op` fails from now on, if there is one.
    pub(super) fn outlook(&self, op: &OpEvent<'_>) -> io::Result<()> {
        let hits = |fault: &&Fault| fault.persistent && fault.at.skip == 0 && fault.at.matches(op);
        let errors =
            self.armed.iter().filter(hits).map(|fault| Harm { kind: Some(fault.kind.clone()), ..Harm::default() });
        errors.map(|harm| harm.error()).find(Result::is_err).unwrap_or(Ok(()))
    }

    /// Whether a sync that fails in this way reports it.
    pub(super) fn report(&mut self, pages: Pages, path: &Path) -> io::Result<()> {
        if pages != Pages::ReportLate {
            return Err(eio());
        }
        self.unreported.push(path.to_owned());
        Ok(())
    }

    /// The effect of the faults on `op`. Stalls add up. Of the other faults the first one hits, and the rest wait for
    /// the next operation.
    pub(super) fn strike(&mut self, op: &OpEvent<'_>) -> Harm {
        let mut harm = Harm::default();
        if matches!(op.kind, OpKind::Sync | OpKind::SyncDir)
            && let Some(late) = self.unreported.iter().position(|path| path == op.path)
        {
            self.unreported.swap_remove(late);
            harm.kind = Some(FaultKind::SyncFails { pages: Pages::KeepNew });
        }
        let hits = &mut self.hits;
        self.armed.retain_mut(|fault| {
            if !fault.kind.can_hit(op.kind) || !fault.at.matches(op) {
                return true;
            }
            if fault.at.skip > 0 {
                fault.at.skip -= 1;
                return true;
            }
            match fault.kind {
                FaultKind::Stall(duration) => harm.stall = harm.stall.saturating_add(duration),
                _ if harm.kind.is_some() => return true,
                _ => harm.kind = Some(fault.kind.clone()),
            }
            *hits += 1;
            fault.persistent
        });
        harm
    }
}
