//! A run against the entries that it was written from, and against every change of its bytes.

mod damage;
mod named;
mod rescue;
mod round_trip;

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use super::cursor::RunCursor;
use super::read::{Part, Run};
use super::write::RunWriter;
use crate::base::error::{Error, Result};
use crate::base::types::{Incarnation, LogId, Lsn};
use crate::disk::{Access, Dir, Disk, MemoryDisk, read_exact_at, write_all_at};
use crate::format::table::data::{Found, Interval};
use crate::format::table::manifest::NamedRun;
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::format::table::root::{Range, Witness};
use crate::format::table::run::RunHeader;
use crate::format::table::{FileIdentity, FileKind, file_name, is_below, write_full_key};
use crate::table::dir::TableFile;
use crate::table::gate::Gate;
use crate::table::merge::Source;

const INTERVAL: Interval = Interval { from: Lsn::new(4096), to: Lsn::new(1 << 20) };

fn header(number: u64) -> RunHeader {
    RunHeader {
        identity: FileIdentity { log_id: LogId([7; 16]), number, nonce: 0xABCD + number },
        interval: INTERVAL,
        branch: Incarnation { number: 3, nonce: 9 },
    }
}

fn full(id: u32, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::new();
    write_full_key(&mut full, id, key);
    full
}

/// Full key, LSN, value; in the order of a run.
type Entry = (Vec<u8>, u64, Option<Vec<u8>>);

fn dir() -> Arc<dyn Dir> {
    MemoryDisk::new().open_dir(Path::new("")).unwrap().child(OsStr::new("table"), Access::Create).unwrap()
}

/// The range of all keys of keyspaces 0 to 9.
fn range() -> Range {
    Range { low: full(0, b""), high: full(10, b"") }
}

fn write(dir: &dyn Dir, number: u64, entries: &[Entry], ranges: Vec<RangeTombstone>) -> NamedRun {
    let file = dir.open(OsStr::new(&name(number)), Access::Create).unwrap();
    let file = TableFile::new(file, Path::new("table").join(name(number)), Arc::new(Gate::new(|| Ok(()))));
    let mut writer = RunWriter::new(file, Arc::default(), header(number));
    for (key, lsn, value) in entries {
        writer.push(key, Found { lsn: Lsn::new(*lsn), value: value.as_deref() }).unwrap();
    }
    writer.push_ranges(ranges);
    let witness = Witness { number: 3, nonce: 4, range: Range { low: full(20, b""), high: full(21, b"") } };
    writer.finish(range(), Range::default(), vec![witness]).unwrap()
}

fn name(number: u64) -> String {
    file_name(number, FileKind::Run)
}

fn bytes(dir: &dyn Dir, number: u64) -> Vec<u8> {
    let file = dir.open(OsStr::new(&name(number)), Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

fn replace(dir: &dyn Dir, number: u64, bytes: &[u8]) {
    let _ = dir.remove(OsStr::new(&name(number)));
    let file = dir.open(OsStr::new(&name(number)), Access::Create).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
}

fn open(dir: &dyn Dir, number: u64) -> Result<Run> {
    Run::open(dir.open(OsStr::new(&name(number)), Access::Read).unwrap(), Path::new(&name(number)))
}

/// What a walk shows: the entries, and the number of bad parts.
fn walk(run: &Run) -> (Vec<Entry>, usize) {
    let (mut entries, mut bad) = (Vec::new(), 0);
    run.walk(|part| {
        match part {
            Part::Entry(key, version) => {
                entries.push((key.to_vec(), version.lsn.get(), version.value.map(<[u8]>::to_vec)));
            }
            Part::Bad(_) => bad += 1,
            Part::Partition(_) | Part::Block(_) => {}
        }
        Ok::<(), Error>(())
    })
    .unwrap();
    (entries, bad)
}

/// What a cursor reads.
fn read(run: Run) -> Result<Vec<Entry>> {
    let (mut cursor, mut entries) = (RunCursor::new(Arc::new(run), &[]), Vec::new());
    while cursor.advance()? {
        let version = cursor.version();
        entries.push((cursor.key().to_vec(), version.lsn.get(), version.value.map(<[u8]>::to_vec)));
    }
    Ok(entries)
}

fn deleted(start: Vec<u8>, end: Vec<u8>, lsn: u64) -> RangeTombstone {
    RangeTombstone { start, end, lsn: Lsn::new(lsn), says: Says::Deleted }
}
