//! Every bit of tables: refused at the open, or told by whoever reads what it is in. Never another answer.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crashkit::Random;
use forelog::scrub::ScrubOptions;
use forelog::sim::{self, CrashPoint, SimDisk};
use forelog::unstable::disk::{Access, Disk, DiskFile, FileLayer, Layer, Layered, LayeredFile};
use forelog::{BackupOptions, CompactOptions, DamageCause, Engine, ReadOnlyOptions};

use super::reads::{Open, Reads, read_through, told};
use super::reference::Reference;
use crate::faults::matrix::Matrix;
use crate::faults::verdict::{Violation, guarded};
use crate::faults::{DIR, files, in_parallel, name_of};

pub const REFUSED: &str = "refused at open";
/// What a reader met, and what a merge of everything came to, in the order of `Merged`.
pub const OUTCOMES: [[&str; 3]; 2] = [
    [
        "damaged on reading, a merge refused",
        "damaged on reading, nothing lost in a merge",
        "damaged on reading, keys lost in a merge",
    ],
    ["right answers, a merge refused", "right answers, nothing lost in a merge", "right answers, keys lost in a merge"],
];

/// What a merge of everything has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Merged {
    Refused,
    /// It had no need of what is damaged, or has read it otherwise.
    Whole,
    /// It went round what cannot be read.
    Lost,
}

const BACKUP: &str = "backup";

/// A bit of one of the files of a reference.
#[derive(Clone, Copy, Debug)]
pub struct Bit {
    pub file: usize,
    pub bit: u64,
}

/// The bits that `pick` takes: it says how far each is from the one before.
pub fn stepping(reference: &Reference, mut pick: impl FnMut() -> usize) -> Vec<Bit> {
    let mut bits = Vec::new();
    for (file, (_, bytes)) in reference.files.iter().enumerate() {
        let mut bit = pick() as u64 - 1;
        while bit < bytes.len() as u64 * 8 {
            bits.push(Bit { file, bit });
            bit += pick() as u64;
        }
    }
    bits
}

/// So many bits of each part of each file.
pub fn of_each_region(reference: &Reference, count: usize, random: &mut Random) -> Vec<Bit> {
    let mut bits = Vec::new();
    for region in &reference.regions {
        for _ in 0..count {
            let byte = region.bytes.start + random.below(region.bytes.len());
            bits.push(Bit { file: region.file, bit: byte as u64 * 8 + random.below(8) as u64 });
        }
    }
    bits
}

/// So many bits anywhere.
pub fn anywhere(reference: &Reference, count: usize, random: &mut Random) -> Vec<Bit> {
    let any = |_| {
        let mut bit = random.next() % reference.bits();
        let lengths = reference.files.iter().map(|(_, bytes)| bytes.len() as u64 * 8);
        for (file, length) in lengths.enumerate() {
            if bit < length {
                return Bit { file, bit };
            }
            bit -= length;
        }
        unreachable!("below the sum of the lengths")
    };
    (0..count).map(any).collect()
}

/// Flips these bits, one at a time.
pub fn sweep(reference: &Reference, bits: &[Bit]) -> Matrix {
    const TOGETHER: usize = 64;
    let pieces: Vec<&[Bit]> = bits.chunks(TOGETHER).collect();
    let whole = reference.disk.crash_point();
    let parts = in_parallel(pieces.len(), |piece| {
        let mut matrix = Matrix::default();
        for bit in pieces[piece] {
            let result = guarded(|| verdict(reference, &whole, *bit));
            // As FORELOG_FLIP takes it.
            let place = || format!("{}/{}/{}", reference.name, name_of(&reference.files[bit.file].0), bit.bit);
            matrix.judge(reference.region(bit.file, bit.bit), result.map_err(|violation| violation.at(place())));
        }
        matrix
    });
    let mut matrix = Matrix::default();
    parts.into_iter().for_each(|part| matrix.merge(part));
    matrix
}

/// Everything that can be done with a database, with one bit of its tables flipped.
pub fn verdict(reference: &Reference, whole: &CrashPoint, Bit { file, bit }: Bit) -> Result<&'static str, Violation> {
    let path = &reference.files[file].0;
    let damaged = whole.process_kill();
    damaged.flip_bit(path, bit).expect("inside the file");
    // A simulation that does not end says its seed: the number of the file in the upper half, that of the bit in the lower.
    let case = Case { reference, path, damaged, seed: ((file as u64) << 32) + bit, is_cold: bit.is_multiple_of(2) };
    match ReadOnlyOptions::new().verify_on(case.disk(), DIR) {
        Ok(_) => return Err(Violation::Silent("verify takes it for sound".to_owned())),
        Err(error) => told(&error, path)?,
    }
    let seen = match Engine::read_only_on(case.disk(), DIR) {
        Ok(seen) => seen,
        Err(error) => {
            told(&error, path)?;
            return sim::run(case.seed, || case.refused()).map(|()| REFUSED);
        }
    };
    let met = read_through(&seen, reference, path)?;
    drop(seen);
    let merged = sim::run(case.seed, || case.opened())?;
    Ok(OUTCOMES[usize::from(met == 0)][merged as usize])
}

/// A database with a flipped bit.
struct Case<'a> {
    reference: &'a Reference,
    /// The file that has it.
    path: &'a Path,
    damaged: SimDisk,
    seed: u64,
    /// Nothing comes into memory by itself. Otherwise it does, when the scheduler says so.
    is_cold: bool,
}

impl Case<'_> {
    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.damaged.clone())
    }

    /// What cannot be read without an open cannot be opened, and stays as it is.
    fn refused(&self) -> Result<(), Violation> {
        let before = files(&self.damaged);
        match self.reference.options().open_on(self.disk(), DIR) {
            Ok(_) => return Err(Violation::Wrong("it cannot be read, and opens".to_owned())),
            Err(error) => told(&error, self.path)?,
        }
        if files(&self.damaged) == before { Ok(()) } else { Err(Violation::Wrong("the refusal changed it".to_owned())) }
    }

    /// Opens it, does everything, and closes it; then reads what is left.
    fn opened(&self) -> Result<Merged, Violation> {
        let disk: Arc<dyn Disk> = if self.is_cold { Arc::new(Layered::new(self.disk(), Cold)) } else { self.disk() };
        let engine =
            guarded(|| self.reference.options().open_on(disk, DIR).map_err(|error| failed("the open", &error)))?;
        // A panic may not pass an engine that is open: its threads are waited for.
        let merged = guarded(|| self.everything(&engine));
        let closed = guarded(|| engine.close().map_err(|error| failed("the close", &error)));
        let merged = merged?;
        closed?;
        let seen = Engine::read_only_on(self.disk(), DIR).map_err(|error| failed("another reading", &error))?;
        self.read_behind_a_merge(&seen, merged)?;
        drop(seen);
        let verified = ReadOnlyOptions::new().verify_on(self.disk(), DIR);
        let is_lost = |error: &forelog::Error| error.damage().is_some_and(|damage| damage.cause == DamageCause::Lost);
        match (merged, verified) {
            (Merged::Whole, Ok(_)) => Ok(merged),
            // What was lost was deleted by others.
            (Merged::Lost, Ok(_)) => {
                let seen = Engine::read_only_on(self.disk(), DIR).map_err(|error| failed("a third reading", &error))?;
                self.read_behind_a_merge(&seen, Merged::Whole).map(|()| Merged::Whole)
            }
            (Merged::Refused, Err(error)) => told(&error, self.path).map(|()| merged),
            (Merged::Lost, Err(error)) if is_lost(&error) => Ok(merged),
            (_, other) => Err(Violation::Wrong(format!("verify, after a merge {merged:?}: {other:?}"))),
        }
    }

    fn everything(&self, engine: &Engine) -> Result<Merged, Violation> {
        read_through(&self.newest(engine)?, self.reference, self.path)?;
        self.scrubbed(engine)?;
        self.backed_up(engine)?;
        let merged = match engine.compact_with(CompactOptions::new().unpaced()) {
            Ok(_) if engine.table_stats().set_aside > 0 => Merged::Lost,
            Ok(_) => Merged::Whole,
            Err(error) => told(&error, self.path).map(|()| Merged::Refused)?,
        };
        self.read_behind_a_merge(&self.newest(engine)?, merged)?;
        Ok(merged)
    }

    fn newest<'e>(&self, engine: &'e Engine) -> Result<Open<'e>, Violation> {
        Ok(Open(engine, engine.snapshot().map_err(|error| failed("a snapshot", &error))?))
    }

    /// A merge of everything leaves nothing behind that is damaged, but for what was lost. One that failed has changed nothing.
    fn read_behind_a_merge(&self, reads: &impl Reads, merged: Merged) -> Result<(), Violation> {
        match read_through(reads, self.reference, self.path)? {
            0 => Ok(()),
            _ if merged != Merged::Whole => Ok(()),
            met => Err(Violation::Wrong(format!("{met} reads meet the damage behind a merge of everything"))),
        }
    }

    fn scrubbed(&self, engine: &Engine) -> Result<(), Violation> {
        let scrub = engine.scrub(ScrubOptions::default().bytes_per_second(u64::MAX));
        let scrub = scrub.map_err(|error| failed("a scrub", &error))?;
        let progress = scrub.wait();
        let found = scrub.findings();
        if progress.findings == 0 {
            return Err(Violation::Silent("a scrub finds nothing".to_owned()));
        }
        if progress.stopped || found.iter().any(|damage| damage.file != self.path) {
            return Err(Violation::Wrong(format!("a scrub finds {found:?}, {progress:?}")));
        }
        Ok(())
    }

    /// What is damaged is not copied.
    fn backed_up(&self, engine: &Engine) -> Result<(), Violation> {
        match engine.backup_on(self.disk(), BACKUP, BackupOptions::new()) {
            Ok(_) => return Err(Violation::Silent("a backup takes it for sound".to_owned())),
            Err(error) => told(&error, self.path)?,
        }
        match Engine::read_only_on(self.disk(), BACKUP) {
            Ok(_) => Err(Violation::Wrong("a backup that failed can be read".to_owned())),
            Err(_) => Ok(()),
        }
    }
}

fn failed(what: &str, error: &forelog::Error) -> Violation {
    Violation::Wrong(format!("{what} fails: {error:?}"))
}

/// Fails what the warmer reads, so that reads ask tables.
#[derive(Clone, Copy, Debug)]
struct Cold;

impl Layer for Cold {
    fn file(&self, _: &OsStr, _: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(LayeredFile::new(file, Cold))
    }
}

impl FileLayer for Cold {
    fn read_at(&self, file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if std::thread::current().name() == Some("forelog-warm") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        file.read_at(buffer, offset)
    }
}
