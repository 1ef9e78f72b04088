//! The operations of one workload on its files, beside what they become on the device: what a sync covers must have
//! been written and flushed before the sync returns. The same workload on the simulated disk must do the same
//! operations; so the crash states of both follow from one sequence.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, Mutex};

use forelog::unstable::disk::{Access, DirCall, Disk, DiskFile, FileLayer, Layer, Layered, LayeredFile, OsDisk};

use super::image::{SECTOR, hash};
use super::recorder::{Event, Recording};
use super::worker::Marker;

/// The mark of an operation, before it is done: `op KIND FILE …`.
const OPERATION: &str = "op ";
/// The database's directory, and the one that it is in: see `subject.rs`.
const DIR: &str = "db";
const ABOVE: &str = "mount";
/// The mark of a sync that returned: `synced FILE HASH…`, a hash for each sector of the file.
const SYNCED: &str = "synced ";

type Shadows = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Marks every operation that changes the operating system's files.
#[derive(Clone, Debug)]
pub(super) struct Traced {
    marker: Arc<Marker>,
    /// Files as they should be, by the name under which they were created.
    shadows: Shadows,
}

/// The operating system's files, with a mark for every operation that changes them.
pub(super) fn traced_disk(marker: &Arc<Marker>) -> Arc<dyn Disk> {
    let traced = Traced { marker: Arc::clone(marker), shadows: Shadows::default() };
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    Arc::new(Layered::new(disk, traced))
}

fn name(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

impl Traced {
    fn mark(&self, kind: &str, of: &str) -> io::Result<()> {
        self.marker.mark(&format!("{OPERATION}{kind} {of}"))
    }
}

impl Layer for Traced {
    fn before(&self, call: DirCall<'_>) -> io::Result<()> {
        match call {
            DirCall::Rename(from, _) | DirCall::RenameChild(from, _) => self.mark("Rename", &name(from)),
            DirCall::Remove(file) => self.mark("Remove", &name(file)),
            DirCall::Sync => self.mark("SyncDir", DIR),
            DirCall::SyncName => self.mark("SyncDir", ABOVE),
            _ => Ok(()),
        }
    }

    fn after(&self, call: DirCall<'_>, succeeded: bool) {
        if let DirCall::Rename(from, to) = call
            && succeeded
        {
            let mut shadows = self.shadows.lock().expect("no panic");
            let shadow = shadows.remove(&name(from)).unwrap_or_default();
            shadows.insert(name(to), shadow);
        }
    }

    fn file(&self, file_name: &OsStr, access: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if access == Access::Create {
            self.mark("Create", &name(file_name)).expect("a mark");
            self.shadows.lock().expect("no panic").insert(name(file_name), Vec::new());
        }
        let (marker, shadows) = (Arc::clone(&self.marker), Arc::clone(&self.shadows));
        Arc::new(LayeredFile::new(file, TracedFile { name: name(file_name), marker, shadows }))
    }
}

#[derive(Debug)]
struct TracedFile {
    name: String,
    marker: Arc<Marker>,
    shadows: Shadows,
}

impl TracedFile {
    /// A file that was renamed while it was open has its content under its new name.
    fn with_shadow<T>(&self, act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut shadows = self.shadows.lock().expect("no panic");
        let renamed = self.name.trim_end_matches(".tmp");
        let name = if shadows.contains_key(&self.name) { &self.name } else { renamed };
        act(shadows.entry(name.to_owned()).or_default())
    }

    fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.marker.mark(&format!("{OPERATION}Sync {}", self.name))?;
        // Of what is written while the sync runs nothing is claimed.
        let hashes = self.with_shadow(|shadow| {
            let sector = |sector: &[u8]| {
                let mut whole = [0; SECTOR];
                whole[..sector.len()].copy_from_slice(sector);
                format!(" {:x}", hash(0, &whole))
            };
            shadow.chunks(SECTOR).map(sector).collect::<String>()
        });
        sync()?;
        self.marker.mark(&format!("{SYNCED}{}{hashes}", self.name))
    }
}

impl FileLayer for TracedFile {
    fn write_at(&self, file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.marker.mark(&format!("{OPERATION}Write {} {offset} {}", self.name, bytes.len()))?;
        let written = file.write_at(bytes, offset)?;
        self.with_shadow(|shadow| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            shadow.resize(shadow.len().max(start + written), 0);
            shadow[start..start + written].copy_from_slice(&bytes[..written]);
        });
        Ok(written)
    }

    fn set_len(&self, file: &dyn DiskFile, length: u64) -> io::Result<()> {
        self.marker.mark(&format!("{OPERATION}SetLen {} {length}", self.name))?;
        file.set_len(length)?;
        self.with_shadow(|shadow| shadow.resize(usize::try_from(length).unwrap_or(usize::MAX), 0));
        Ok(())
    }

    fn sync_data(&self, file: &dyn DiskFile) -> io::Result<()> {
        self.sync(|| file.sync_data())
    }

    fn sync_all(&self, file: &dyn DiskFile) -> io::Result<()> {
        self.sync(|| file.sync_all())
    }
}

/// What a traced recording shows.
#[derive(Default, Debug)]
pub(super) struct Trace {
    /// Every operation, in order.
    pub(super) operations: Vec<String>,
    /// Sectors that a sync covered.
    pub(super) synced: u64,
    /// Of these, those that no flush had covered when the sync returned, in words.
    pub(super) missing: Vec<String>,
}

/// Small files may have no sectors of their own: `least` is the shortest that has.
pub(super) fn trace(recording: &Recording, least: usize) -> Trace {
    let mut trace = Trace::default();
    let mut flushed = HashSet::new();
    let mut covered = 0;
    for event in &recording.events {
        match event {
            Event::Flush { covers } if *covers > covered => {
                flushed.extend(recording.events[covered..*covers].iter().flat_map(hashes));
                covered = *covers;
            }
            Event::Mark(mark) => {
                if let Some(operation) = mark.strip_prefix(OPERATION) {
                    trace.operations.push(operation.to_owned());
                } else if let Some(synced) = mark.strip_prefix(SYNCED) {
                    trace.look_for(synced, least, &flushed);
                }
            }
            _ => {}
        }
    }
    trace
}

/// The contents of the sectors that an event writes.
fn hashes(event: &Event) -> Vec<u64> {
    match event {
        Event::Write { data, .. } => data.chunks_exact(SECTOR).map(|sector| hash(0, sector)).collect(),
        _ => Vec::new(),
    }
}

impl Trace {
    fn look_for(&mut self, synced: &str, least: usize, flushed: &HashSet<u64>) {
        let mut words = synced.split(' ');
        let name = words.next().unwrap_or_default();
        let sectors: Vec<u64> = words.filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
        if sectors.len() * SECTOR < least {
            return;
        }
        self.synced += sectors.len() as u64;
        for (number, _) in sectors.iter().enumerate().filter(|(_, sector)| !flushed.contains(sector)) {
            self.missing.push(format!("the sync of {name} returned, and its sector {number} was not flushed"));
        }
    }
}
