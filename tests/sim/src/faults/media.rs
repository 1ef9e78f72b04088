//! Media faults: damage to the files of a reference log between opens, and what the next open makes of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use forelog::sim::{Fault, FaultKind, OpKind, OpSelector, SimDisk};
use forelog::{ErrorKind, Lsn, Recovery};

use super::allocation::peak_of;
use super::matrix::Matrix;
use super::plans::EIO;
use super::reference::{Files, Reference};
use super::verdict::{Expected, Violation, guarded};
use super::{DIR, copy, files, name_of, open_with, options};

pub const SECTOR: usize = 512;

/// What an open may take beyond twice the size of the files: their contents, and what is read ahead of them.
const MOST_MEMORY: u64 = 64 << 10;

/// What an account says of a log, but for what depends on how it was read.
fn told(account: &Recovery) -> impl PartialEq + use<> {
    (account.crashed, account.recovered_to, account.records, account.dropped_frames, account.dropped_bytes)
}

/// The judge of one reference log: knows what its open says without any damage.
pub struct Judge<'a> {
    pub reference: &'a Reference,
    account: Recovery,
    pub matrix: Matrix,
    /// The most memory that an open took beyond the size of the files.
    pub most_memory: u64,
}

impl<'a> Judge<'a> {
    pub fn new(reference: &'a Reference) -> Self {
        let disk = copy(&reference.disk);
        let engine = open_with(options().create(false), &disk).expect("the reference is sound");
        let expected = Expected::of(&reference.history, &reference.tokens);
        expected.compare(&engine).unwrap_or_else(|violation| panic!("{}: {violation}", reference.name));
        let account = engine.recovery().clone();
        Judge { reference, account, matrix: Matrix::default(), most_memory: 0 }
    }

    /// Opens the damaged disk, and counts what became of it. `residue` is the line of the closed residue that allows
    /// this damage to go unseen, as far as nothing is lost below what an intact header proves durable.
    pub fn judge(&mut self, row: &str, damaged: &SimDisk, what: impl Fn() -> String, residue: Option<&'static str>) {
        let result = guarded(|| self.verdict(damaged, residue));
        let result = result.map_err(|violation| violation.at(format!("{}: {}", self.reference.name, what())));
        self.matrix.judge(row, result);
    }

    pub fn verdict(&mut self, damaged: &SimDisk, residue: Option<&'static str>) -> Result<String, Violation> {
        let size: usize = damaged.files().iter().map(|(_, bytes)| bytes.len()).sum();
        let before = files(damaged);
        let (opened, peak) = peak_of(|| open_with(options().create(false), damaged));
        let beyond = peak.saturating_sub(2 * size as u64);
        self.most_memory = self.most_memory.max(peak.saturating_sub(size as u64));
        if beyond > MOST_MEMORY {
            return Err(Violation::Wrong(format!("open took {peak} bytes of memory for files of {size}")));
        }
        let engine = match opened {
            Ok(engine) => engine,
            Err(error) => {
                // What could not be replaced or removed was met after the verdict, whose changes are legal.
                if error.kind() != ErrorKind::Io && files(damaged) != before {
                    return Err(Violation::Wrong(format!("the refusal changed a byte: {error:?}")));
                }
                return refusal(damaged, &error);
            }
        };
        let reference = self.reference;
        let floor = match residue {
            None => reference.history.last(),
            // Everything, HISTORY too, is of another moment.
            Some("R3") => Lsn::ZERO,
            Some(_) => reference.proven(damaged),
        };
        let may_be_foreign = matches!(residue, Some("R2" | "R3" | "R5"));
        let expected = Expected { floor, may_be_foreign, ..Expected::of(&reference.history, &reference.tokens) };
        let recovered = expected.compare(&engine)?;
        let same = recovered == reference.history.last() && told(engine.recovery()) == told(&self.account);
        match residue {
            _ if same => Ok("harmless".to_owned()),
            Some(line) => Ok(line.to_owned()),
            None => Err(Violation::Wrong(format!("another account: {:?}", engine.recovery()))),
        }
    }
}

/// A refusal must be typed, say where, and be what `verify` says.
fn refusal(damaged: &SimDisk, error: &forelog::Error) -> Result<String, Violation> {
    let text = error.to_string();
    let outcome = match (error.kind(), error.damage()) {
        (ErrorKind::Damaged, Some(damage)) if text.contains(&name_of(&damage.file)) => "refused: damaged",
        (ErrorKind::Unsupported, None) if text.contains("newer") => "refused: newer version",
        (ErrorKind::Io, None) if text.contains(DIR) => "refused: I/O error",
        (ErrorKind::NotADatabase, None) if text.contains(DIR) => "refused: no database",
        _ => return Err(Violation::Wrong(format!("refused with {error:?}"))),
    };
    let verified = forelog::unstable::inspect::verify_on(Arc::new(damaged.clone()), DIR.as_ref(), &mut |_, _| Ok(()));
    match verified {
        Err(other) if other.kind() == error.kind() => Ok(outcome.to_owned()),
        // What is only found when something has to be replaced, or what can be read by now.
        Ok(_) if error.kind() == ErrorKind::Io => Ok(outcome.to_owned()),
        other => Err(Violation::Wrong(format!("open says {error:?}, and verify {other:?}"))),
    }
}

fn replaced(disk: &SimDisk, path: &Path, at: usize, bytes: &[u8]) -> SimDisk {
    let damaged = disk.crash_point().process_kill();
    damaged.overwrite(path, at as u64, bytes).expect("inside the file");
    damaged
}

fn garbage(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}

fn sector(bytes: &[u8], at: usize) -> &[u8] {
    &bytes[at..bytes.len().min(at + SECTOR)]
}

/// What happens to a sector. `other` is a log of another database of the same shape.
pub fn sectors(judge: &mut Judge<'_>, other: &Reference) {
    let reference = judge.reference;
    let all = files(&reference.disk);
    let strange = files(&other.disk);
    for (path, bytes) in &all {
        for at in (0..bytes.len()).step_by(SECTOR) {
            let own = sector(bytes, at);
            let place = |what: &str| format!("{what} at {at} of {}", name_of(path));
            let mut put = |row: &str, content: &[u8], residue| {
                let content = &content[..content.len().min(own.len())];
                if content != &own[..content.len()] {
                    let damaged = replaced(&reference.disk, path, at, content);
                    judge.judge(row, &damaged, || place(row), residue);
                }
            };
            put("sector of zeros", &[0; SECTOR], None);
            put("sector of ones", &[0xFF; SECTOR], None);
            put("sector of garbage", &garbage(SECTOR), None);
            for (from, content) in &all {
                let row = if from == path { "sector from another place" } else { "sector from another file" };
                content.chunks(SECTOR).for_each(|copied| put(row, copied, None));
            }
            strange.iter().for_each(|(_, content)| {
                content.chunks(SECTOR).for_each(|copied| put("sector of another log", copied, None));
            });
            for former in reference.former_contents(path, at, own.len()) {
                put("lost write: the sector keeps its former content", &former, Some("R1"));
            }
            two_sectors(judge, path, bytes, at);
            into_another_file(judge, path, bytes, at);
            bad_sector(judge, path, at);
        }
    }
}

/// Swaps, and writes that went to another place of the file.
fn two_sectors(judge: &mut Judge<'_>, path: &PathBuf, bytes: &[u8], at: usize) {
    let reference = judge.reference;
    let own = sector(bytes, at);
    let former = reference.former_contents(path, at, own.len());
    for to in (0..bytes.len()).step_by(SECTOR).filter(|to| *to != at) {
        let target = sector(bytes, to);
        if target.len() != own.len() || target == own {
            continue;
        }
        let place = |what: &str| format!("{what}: {at} to {to} of {}", name_of(path));
        if at < to {
            let damaged = replaced(&reference.disk, path, at, target);
            damaged.overwrite(path, to as u64, own).expect("inside the file");
            judge.judge("two sectors swapped", &damaged, || place("swapped"), None);
        }
        if let Some(old) = former.first() {
            let damaged = replaced(&reference.disk, path, at, old);
            damaged.overwrite(path, to as u64, own).expect("inside the file");
            judge.judge("misdirected write", &damaged, || place("misdirected"), Some("R1"));
        }
    }
}

/// The newest write of a sector went to the same place of another file.
fn into_another_file(judge: &mut Judge<'_>, path: &PathBuf, bytes: &[u8], at: usize) {
    let reference = judge.reference;
    let own = sector(bytes, at);
    let former = reference.former_contents(path, at, own.len());
    for (to, content) in files(&reference.disk).iter().filter(|(to, _)| to != path) {
        let Some(old) = former.first().filter(|_| content.len() >= at + own.len()) else { continue };
        let damaged = replaced(&reference.disk, path, at, old);
        damaged.overwrite(to, at as u64, own).expect("inside the file");
        let what = || format!("misdirected: {at} of {} to {}", name_of(path), name_of(to));
        judge.judge("misdirected write", &damaged, what, Some("R1"));
    }
}

/// A sector that cannot be read, once and for ever.
fn bad_sector(judge: &mut Judge<'_>, path: &Path, at: usize) {
    let place = OpSelector::of(OpKind::Read).on(name_of(path)).touching(at as u64..(at + SECTOR) as u64);
    let what = || format!("{at} of {} unreadable", name_of(path));
    let damaged = judge.reference.disk.crash_point().process_kill();
    damaged.inject(Fault::lasting(place.clone(), FaultKind::Errno(EIO)));
    judge.judge("sector that cannot be read", &damaged, what, None);
    for times in 1..5 {
        let damaged = judge.reference.disk.crash_point().process_kill();
        (0..times).for_each(|_| damaged.inject(Fault::once(place.clone(), FaultKind::Errno(EIO))));
        judge.judge("sector that can be read in the end", &damaged, what, None);
    }
}

/// Whole frames of a log of the same shape, each at its own place: only the identity in its checksum tells.
fn frames_of_another_log(judge: &mut Judge<'_>, other: &Reference) {
    let reference = judge.reference;
    let mut all = std::collections::BTreeMap::new();
    for frame in &reference.frames {
        let Ok(bytes) = other.disk.read_file(&frame.file) else { continue };
        let Some(strange) = bytes.get(frame.at..frame.end) else { continue };
        if reference.disk.read_file(&frame.file).is_ok_and(|own| own[frame.at..frame.end] == *strange) {
            continue;
        }
        let what = || format!("{} to {} of {}", frame.at, frame.end, name_of(&frame.file));
        let damaged = replaced(&reference.disk, &frame.file, frame.at, strange);
        judge.judge("frames of another log", &damaged, what, None);
        let whole = all.entry(&frame.file).or_insert_with(|| reference.disk.crash_point().process_kill());
        whole.overwrite(&frame.file, frame.at as u64, strange).expect("inside the file");
    }
    for (path, damaged) in all {
        judge.judge("frames of another log", &damaged, || format!("all of {}", name_of(path)), None);
    }
}

/// What happens to a whole file.
pub fn whole_files(judge: &mut Judge<'_>, other: &Reference) {
    let reference = judge.reference;
    let all = files(&reference.disk);
    let newest = all.iter().map(|(path, _)| path).filter(|path| name_of(path).ends_with(".log")).max();
    for (path, bytes) in &all {
        let name = name_of(path);
        let with = |content: &[u8]| {
            let damaged = reference.disk.crash_point().process_kill();
            damaged.write_file(path, content).expect("a name");
            damaged
        };
        let odd = [1, 8, bytes.len().saturating_sub(1)].into_iter().filter(|length| *length < bytes.len());
        for length in (0..bytes.len()).step_by(SECTOR).chain(odd) {
            judge.judge("file truncated", &with(&bytes[..length]), || format!("{name} cut to {length}"), None);
        }
        for added in [1, 8, 512, 4096] {
            for content in [vec![0; added], garbage(added)] {
                let longer = [&bytes[..], &content].concat();
                judge.judge("file extended", &with(&longer), || format!("{name} longer by {added}"), None);
            }
        }
        let gone = reference.disk.crash_point().process_kill();
        gone.delete(path).expect("it is there");
        let residue = (Some(path) == newest).then_some("R5");
        judge.judge("file missing", &gone, || format!("{name} missing"), residue);
        let blocked = reference.disk.crash_point().process_kill();
        blocked.delete(path).expect("it is there");
        blocked.make_dir(path).expect("nothing is in the way");
        judge.judge("directory in the place of a file", &blocked, || format!("{name} is a directory"), None);
        for former in reference.former.iter().rev() {
            let Some((_, content)) = former.iter().find(|(known, _)| known == path) else { continue };
            if content != bytes {
                let (row, residue) =
                    if name == "HISTORY" { ("former HISTORY", "R5") } else { ("former copy of a segment", "R2") };
                judge.judge(row, &with(content), || format!("a former {name}"), Some(residue));
            }
        }
        for (from, content) in all.iter().filter(|(from, _)| from != path) {
            judge.judge("file under another's name", &with(content), || format!("{name} is {}", name_of(from)), None);
        }
        for (from, content) in files(&other.disk) {
            judge.judge("file of another log", &with(&content), || format!("{name} is {}", name_of(&from)), None);
        }
    }
    extra_files(judge);
    directory_replaced(judge);
}

/// Files that do not belong there.
fn extra_files(judge: &mut Judge<'_>) {
    let reference = judge.reference;
    let all = files(&reference.disk);
    let last = all.iter().filter_map(|(path, bytes)| {
        let base = name_of(path).strip_suffix(".log").and_then(|base| u64::from_str_radix(base, 16).ok())?;
        Some((base, bytes))
    });
    let Some((base, bytes)) = last.max() else { return };
    for next in [base + bytes.len() as u64, base + 4096, base + (1 << 20), !511] {
        let path = Path::new(DIR).join(format!("{next:016x}.log"));
        if all.iter().any(|(known, _)| *known == path) {
            continue;
        }
        for content in [&bytes[..], &[], &[0; 4096], &garbage(4096)] {
            let damaged = reference.disk.crash_point().process_kill();
            damaged.write_file(&path, content).expect("a name");
            judge.judge("segment too many", &damaged, || format!("{next:016x}.log of {} bytes", content.len()), None);
        }
    }
    let names = ["notes.txt", "0.log", "HISTORY.old", "HISTORY.tmp", "0000000000000000.LOG", ".hidden", "LOCK.tmp"];
    let temporary = format!("{base:016x}.log.tmp");
    for name in names.into_iter().chain([temporary.as_str()]) {
        let path = Path::new(DIR).join(name);
        let damaged = reference.disk.crash_point().process_kill();
        damaged.write_file(&path, &garbage(700)).expect("a name");
        judge.judge("unknown file", &damaged, || format!("there is {name}"), None);
        let damaged = reference.disk.crash_point().process_kill();
        if damaged.read_file(&path).is_err() {
            damaged.make_dir(&path).expect("nothing is in the way");
            judge.judge("unknown directory", &damaged, || format!("there is a directory {name}"), None);
        }
    }
}

/// The whole directory is an older copy of itself (R3): a moment at which the process may have been killed.
fn directory_replaced(judge: &mut Judge<'_>) {
    for (number, former) in judge.reference.former.iter().enumerate() {
        let damaged = of(former);
        if damaged.read_file(Path::new(DIR).join("HISTORY")).is_ok() {
            judge.judge("directory replaced by a former copy", &damaged, || format!("copy {number}"), Some("R3"));
        }
    }
}

fn of(files: &Files) -> SimDisk {
    let disk = SimDisk::new();
    for (path, bytes) in files {
        disk.write_file(path, bytes).expect("a file");
    }
    disk
}

/// Versions and features of which this version knows nothing, with good checksums.
pub fn newer_versions(judge: &mut Judge<'_>) {
    let reference = judge.reference;
    let has_version = |path: &Path| name_of(path) == "HISTORY" || name_of(path).ends_with(".log");
    for (path, bytes) in files(&reference.disk).into_iter().filter(|(path, _)| has_version(path)) {
        let covered = if name_of(&path) == "HISTORY" { bytes.len() } else { SECTOR };
        let patches: [(usize, &[u8]); 5] = [(12, &[2]), (12, &[0]), (15, &[1]), (24, &[1]), (31, &[0x80])];
        for (offset, patch) in patches {
            let mut bytes = bytes.clone();
            bytes[offset..offset + patch.len()].copy_from_slice(patch);
            let crc = crc32fast::hash(&bytes[12..covered]);
            bytes[8..12].copy_from_slice(&crc.to_le_bytes());
            let damaged = reference.disk.crash_point().process_kill();
            damaged.write_file(&path, &bytes).expect("a name");
            let what = || format!("{} with {patch:?} at {offset}", name_of(&path));
            judge.judge("newer version or feature", &damaged, what, None);
        }
    }
}

/// Everything, on one reference log.
pub fn sweep(reference: &Reference, other: &Reference) -> (Matrix, u64) {
    let mut judge = Judge::new(reference);
    sectors(&mut judge, other);
    frames_of_another_log(&mut judge, other);
    whole_files(&mut judge, other);
    newer_versions(&mut judge);
    (judge.matrix, judge.most_memory)
}
