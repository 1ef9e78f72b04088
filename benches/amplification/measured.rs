//! What a phase of a workload came to, as the device, `table_stats()` and the files say.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use forelog::{Engine, TableStats};

use crate::Result;
use crate::worked::short;

/// Between two looks at the layers, in operations.
const LOOK: u64 = 20_000;

/// What a phase came to.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    took: Duration,
    /// Puts and deletions.
    operations: u64,
    /// Bytes of keys and values that were put.
    put: f64,
    /// Bytes of keys and values that are there at the end.
    live: f64,
    device: f64,
    cancelled: f64,
    before: TableStats,
    after: TableStats,
    most_layers: usize,
    most_bytes: u64,
    files: (usize, f64),
    manifest: f64,
}

/// Looks on while a phase writes.
pub(crate) struct Watch<'a> {
    engine: &'a Engine,
    operations: u64,
    pub(crate) put: f64,
    most_layers: usize,
    most_bytes: u64,
}

impl Watch<'_> {
    /// So many operations were committed, which put so many bytes of keys and values.
    pub(crate) fn committed(&mut self, operations: u64, put: f64) {
        let before = self.operations / LOOK;
        (self.operations, self.put) = (self.operations + operations, self.put + put);
        if self.operations / LOOK > before {
            let stats = self.engine.table_stats();
            (self.most_layers, self.most_bytes) =
                (self.most_layers.max(stats.layers), self.most_bytes.max(stats.bytes));
        }
    }
}

/// Runs `work`, which returns the bytes of keys and values that are there at its end, until nothing is due any more.
pub(crate) fn observe(
    engine: &Engine,
    dir: &Path,
    name: &'static str,
    work: impl FnOnce(&mut Watch<'_>) -> forelog::Result<f64>,
) -> Result<Phase> {
    let (started, (written, gone), before) = (Instant::now(), device()?, engine.table_stats());
    let mut watch = Watch { engine, operations: 0, put: 0.0, most_layers: 0, most_bytes: 0 };
    let live = work(&mut watch)?;
    engine.flush()?;
    let took = started.elapsed();
    // What is due is done, so that the formula's end is come to.
    engine.checkpoint()?;
    let mut steps = engine.table_stats().merge_steps;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = engine.table_stats().merge_steps;
        if std::mem::replace(&mut steps, now) == now {
            break;
        }
    }
    let (now, gone_now) = device()?;
    let Watch { operations, put, most_layers, most_bytes, .. } = watch;
    let (device, cancelled, after) = (now - written, gone_now - gone, engine.table_stats());
    let (files, manifest) = (files(dir)?, fs::metadata(dir.join("table/MANIFEST"))?.len() as f64);
    #[rustfmt::skip]
    let phase = Phase {
        name, took, operations, put, live, device, cancelled, before, after, most_layers, most_bytes, files, manifest,
    };
    Ok(phase)
}

/// What the formulas say of a phase, in the order in which it is printed.
pub(crate) struct Formulas {
    pub(crate) device: f64,
    pub(crate) checkpoints: f64,
    pub(crate) merges: f64,
    pub(crate) log: f64,
    pub(crate) most_layers: f64,
    pub(crate) most_bytes: f64,
    pub(crate) bytes: f64,
    pub(crate) runs: f64,
    pub(crate) manifest: f64,
}

impl Phase {
    pub(crate) fn print(&self, formulas: Option<&Formulas>) {
        let Phase { name, took, operations, before, after, .. } = self;
        println!("{name}: {took:.1?}, {} operations a second", short(*operations as f64 / took.as_secs_f64()));
        let line = |what: &str, measured: f64, formula: fn(&Formulas) -> f64| {
            let formula = formulas.map_or_else(String::new, |formulas| format!("{:9.2}", formula(formulas)));
            println!("  {what:42} {measured:9.2} {formula:>9}");
        };
        let per_byte = |after: u64, before: u64| after.saturating_sub(before) as f64 / self.put.max(1.0);
        let checkpoints = per_byte(after.bytes_by_checkpoints, before.bytes_by_checkpoints);
        let merges = per_byte(after.bytes_by_merges, before.bytes_by_merges);
        let lists = per_byte(after.bytes_of_lists, before.bytes_of_lists);
        let device = self.device / self.put.max(1.0);
        if self.put > 0.0 {
            println!("  {:42} {:>9} {:>9}", "for each byte that is put", "measured", "formula");
            line("device (write_bytes)", device, |of| of.device);
            line("  of it, not written since it went before", self.cancelled / self.put, |_| 0.0);
            line("checkpoints", checkpoints, |of| of.checkpoints);
            line("merges", merges, |of| of.merges);
            line("MANIFEST and keyspaces", lists, |_| 0.0);
            line("what is left for log and fill", device - checkpoints - merges - lists, |of| of.log);
        } else {
            println!("  {} MB written to the device", short(self.device / 1e6));
        }
        line("layers, at most", self.most_layers as f64, |of| of.most_layers);
        let live = self.live.max(1.0);
        if self.live > 0.0 {
            println!("  {:42} {:>9} {:>9}", "for each byte that is there at the end", "measured", "formula");
            line("bytes of layers, at most", self.most_bytes as f64 / live, |of| of.most_bytes);
            line("bytes of layers at the end", after.bytes as f64 / live, |of| of.bytes);
            line("bytes of all files at the end", self.files.1 / live, |of| of.bytes);
        } else {
            let mb = |bytes: f64| short(bytes / 1e6);
            let (most, layers) = (mb(self.most_bytes as f64), mb(after.bytes as f64));
            println!("  layers at most {most} MB, at the end {layers} MB; all files {} MB", mb(self.files.1));
        }
        line("runs", after.runs as f64, |of| of.runs);
        line("bytes of MANIFEST", self.manifest, |of| of.manifest);
        let (count, _) = self.files;
        println!("  {count} files; {} checkpoints, {} merges", after.checkpoints, after.merges);
    }
}

/// What the kernel has written for this process, and what it had not to, since the file was gone before.
fn device() -> Result<(f64, f64)> {
    let [written, cancelled] = of_this_process(["write_bytes:", "cancelled_write_bytes:"])?;
    Ok((written, cancelled))
}

/// What this process has read so far.
pub(crate) struct Reads {
    calls: f64,
    /// Bytes that it has got, from the page cache for the most part.
    bytes: f64,
    /// Bytes that came from the device.
    device: f64,
}

impl Reads {
    pub(crate) fn now() -> Result<Self> {
        let [calls, bytes, device] = of_this_process(["syscr:", "rchar:", "read_bytes:"])?;
        Ok(Reads { calls, bytes, device })
    }

    /// What has come since, for each of so many lookups.
    pub(crate) fn print_since(&self, what: &str, lookups: u64) -> Result<()> {
        let (now, lookups) = (Reads::now()?, lookups as f64);
        println!(
            "  {what}: {:.3} reads a lookup, {:.0} bytes; {:.0} bytes of the device",
            (now.calls - self.calls) / lookups,
            (now.bytes - self.bytes) / lookups,
            (now.device - self.device) / lookups
        );
        Ok(())
    }
}

fn of_this_process<const N: usize>(names: [&str; N]) -> Result<[f64; N]> {
    let text = fs::read_to_string("/proc/self/io")?;
    let mut values = [0.0; N];
    for (name, value) in names.iter().zip(&mut values) {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let parsed = line.and_then(|line| line.trim().parse::<f64>().ok());
        *value = parsed.ok_or_else(|| format!("/proc/self/io has no {name}"))?;
    }
    Ok(values)
}

/// The files below a directory: how many, and their bytes.
fn files(dir: &Path) -> Result<(usize, f64)> {
    let (mut count, mut bytes) = (0, 0.0);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let status = entry.metadata()?;
        let (more, longer) = if status.is_dir() { files(&entry.path())? } else { (1, status.len() as f64) };
        (count, bytes) = (count + more, bytes + longer);
    }
    Ok((count, bytes))
}
