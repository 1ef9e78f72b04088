//! What `benches/SCALE.md` computes, and what a load measures beside it.
//!
//! ```text
//! cargo bench --bench amplification                                   the table of the page
//! cargo bench --bench amplification -- DIR [keys=N] [value=BYTES] [memory=MIB] [seed=N]
//! ```
//!
//! The second loads N keys of 16 bytes in random order, in batches of 100 in `Async` mode, closes, and then overwrites N
//! of them in any order. Beside each formula stands what the device counted (`write_bytes` of `/proc/self/io`), what
//! `table_stats()` says, and the lengths of the files.
#![allow(clippy::cast_possible_truncation, reason = "figures that are printed, and none of them is near a limit")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use forelog::{CommitMode, Engine, Keyspace, Options, TableStats};

mod model;

use model::{Data, Merging, Writes, merging};

const KEY: f64 = 16.0;
const BATCH: usize = 100;
const MIB: f64 = (1 << 20) as f64;
/// What a checkpoint takes in if nobody says anything and the memory is a GiB or more (`base/options.rs`).
const CHECKPOINT: f64 = 64.0 * MIB;

struct Request {
    dir: Option<PathBuf>,
    keys: usize,
    value: usize,
    /// In MiB.
    memory: u64,
    seed: u64,
}

impl Request {
    fn parse() -> Result<Self, String> {
        let mut request = Request { dir: None, keys: 2_000_000, value: 100, memory: 1024, seed: 1 };
        for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
            let number = |text: &str| text.parse::<u64>().map_err(|_| format!("no number: {argument}"));
            match argument.split_once('=') {
                Some(("keys", text)) => request.keys = usize::try_from(number(text)?).map_err(|e| e.to_string())?,
                Some(("value", text)) => request.value = usize::try_from(number(text)?).map_err(|e| e.to_string())?,
                Some(("memory", text)) => request.memory = number(text)?,
                Some(("seed", text)) => request.seed = number(text)?,
                None if request.dir.is_none() => request.dir = Some(PathBuf::from(&argument)),
                _ => return Err(format!("{argument:?} is not known")),
            }
        }
        Ok(request)
    }
}

fn main() -> ExitCode {
    let result = Request::parse().and_then(|request| match &request.dir {
        None => {
            table();
            Ok(())
        }
        Some(dir) => measure(&dir.join(format!("amplification-{}", std::process::id())), &request),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("amplification: {error}; usage: [DIR] [keys=N] [value=BYTES] [memory=MIB] [seed=N]");
            ExitCode::FAILURE
        }
    }
}

fn data(bytes: f64, value: f64) -> Data {
    Data { keys: (bytes / (KEY + value)).floor(), key: KEY, value, batch: BATCH as f64, checkpoint: CHECKPOINT }
}

/// A figure as text: to three digits.
fn short(figure: f64) -> String {
    let (scaled, unit) = match figure {
        1e12.. => (figure / 1e12, " T"),
        1e9.. => (figure / 1e9, " G"),
        1e6.. => (figure / 1e6, " M"),
        1e4.. => (figure / 1e3, " k"),
        _ => (figure, ""),
    };
    let digits = 2_usize.saturating_sub(scaled.max(1.0).log10() as usize);
    format!("{scaled:.digits$}{unit}")
}

/// The worked figures: a load of all keys, then as many overwrites.
fn table() {
    let sizes = [1e10, 1e11, 1e12].into_iter().flat_map(|bytes| [100.0, 1024.0].map(|value| data(bytes, value)));
    let cases: Vec<_> = sizes.map(|data| (data, Worked::of(data))).collect();
    let row = |name: &str, figure: &dyn Fn(&Data, &Worked) -> f64| {
        let figures: Vec<_> = cases.iter().map(|(data, worked)| short(figure(data, worked))).collect();
        println!("| {name} | {} |", figures.join(" | "));
    };
    let of = |data: &Data| format!("{}B of {} B", short(data.bytes()), data.value);
    println!("| | {} |", cases.iter().map(|(data, _)| of(data)).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---:|".repeat(cases.len()));
    row("keys", &|data, _| data.keys);
    row("log and fill, for a byte of data", &|_, worked| worked.log);
    row("checkpoints", &|_, worked| worked.checkpoints);
    row("merges of a load, for a byte of checkpoints", &|_, worked| worked.load.written);
    row("merges of overwrites, for a byte of checkpoints", &|_, worked| worked.overwrites.written);
    row("**write amplification of the load**", &|_, worked| worked.all(worked.load));
    row("**of overwrites**", &|_, worked| worked.all(worked.overwrites));
    row("**space of layers**, of the data, at most", &|data, worked| worked.space(data));
    row("layers while overwriting, mean", &|_, worked| worked.overwrites.mean_layers);
    row("layers, at most", &|_, worked| worked.overwrites.most_layers);
    row("checkpoints of the load", &|data, _| data.keys / data.puts_of_a_checkpoint());
    row("bytes of a run", &|data, _| data.run());
    row("runs", &|data, _| data.runs());
    row("bytes of MANIFEST", &|data, _| data.manifest());
    row("bytes of a step of a merge", &|data, _| data.step());
    row("partitions, bytes", &|data, _| data.keys * data.partition());
    row("memory whose share holds all partitions", &|data, _| 4.0 * data.keys * data.partition());
    row("leaves of all data, bytes", &|data, _| data.keys * data.memory().1);
    row("bytes of leaves a key, filled", &|data, _| data.memory().1);
    row("bytes of leaves a key, written in any order", &|data, _| data.memory().0);
    println!("\nfalse positives of a filter, at least: {:.4}", Data::false_positives());
}

/// What the formulas say of some data.
struct Worked {
    log: f64,
    checkpoints: f64,
    load: Merging,
    overwrites: Merging,
}

impl Worked {
    fn of(data: Data) -> Self {
        let puts = data.puts_of_a_checkpoint();
        let (part, of) = (puts / data.keys, (data.keys / puts).ceil().max(1.0) as usize);
        let written = data.key + data.value;
        Worked {
            log: 2.0 * data.log() / written,
            checkpoints: data.entry(puts, puts * data.log()) / written,
            load: merging(of, part, data.layers(), Writes::New),
            overwrites: merging(of, part, data.layers(), Writes::Any),
        }
    }

    fn all(&self, merging: Merging) -> f64 {
        self.log + self.checkpoints * (1.0 + merging.written)
    }

    fn space(&self, data: &Data) -> f64 {
        self.overwrites.space * data.layers() / data.bytes()
    }
}

/// What the kernel has written for this process, and what it had not to, since the file was gone before.
fn device() -> Result<(f64, f64), String> {
    let text = fs::read_to_string("/proc/self/io").map_err(|error| format!("/proc/self/io: {error}"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().parse::<f64>().ok()).ok_or(format!("/proc/self/io has no {name}"))
    };
    Ok((field("write_bytes:")?, field("cancelled_write_bytes:")?))
}

/// The files below a directory: how many, and their bytes.
fn files(dir: &Path) -> Result<(usize, f64), String> {
    let (mut count, mut bytes) = (0, 0.0);
    for entry in fs::read_dir(dir).map_err(|error| error.to_string())? {
        let entry = entry.map_err(|error| error.to_string())?;
        let status = entry.metadata().map_err(|error| error.to_string())?;
        let (more, longer) = if status.is_dir() { files(&entry.path())? } else { (1, status.len() as f64) };
        (count, bytes) = (count + more, bytes + longer);
    }
    Ok((count, bytes))
}

fn measure(dir: &Path, request: &Request) -> Result<(), String> {
    let text = |error: forelog::Error| error.to_string();
    let data = Data {
        keys: request.keys as f64,
        key: KEY,
        value: request.value as f64,
        batch: BATCH as f64,
        checkpoint: CHECKPOINT.min((request.memory << 20) as f64 / 16.0),
    };
    let (worked, open) = (Worked::of(data), || {
        Options::new().memory_bytes(request.memory << 20).commit_mode(CommitMode::Async).open(dir).map_err(text)
    });
    println!("{} keys, values of {} B, {} MiB of memory", request.keys, request.value, request.memory);
    let engine = open()?;
    let keyspace = engine.create_keyspace("k").map_err(text)?;
    let loaded = write(&engine, &keyspace, request, 0)?;
    report("load", &data, &worked, worked.load, &loaded, dir)?;
    let stats = engine.memory_stats();
    println!(
        "  records {} B a key in memory, formula {} to {}; {stats:?}",
        short(stats.records as f64 / data.keys),
        short(data.memory().1),
        short(data.memory().0)
    );
    engine.close().map_err(text)?;
    drop((keyspace, engine));
    let started = Instant::now();
    let engine = open()?;
    let opened = started.elapsed();
    let keyspace = engine.open_keyspace("k").map_err(text)?;
    println!("  open after a close {opened:.1?}");
    let overwritten = write(&engine, &keyspace, request, 1)?;
    report("overwrites", &data, &worked, worked.overwrites, &overwritten, dir)?;
    engine.close().map_err(text)?;
    fs::remove_dir_all(dir).map_err(|error| error.to_string())
}

/// What a phase came to.
struct Phase {
    took: Duration,
    device: f64,
    cancelled: f64,
    before: TableStats,
    after: TableStats,
    most_layers: usize,
    most_bytes: u64,
}

/// A number of which each below `count` comes once, in any order: a step of a full-period generator.
fn shuffled(number: usize, count: usize) -> u64 {
    let (count, number) = (count as u64, number as u64);
    // Coprime to any count that is not a multiple of this prime.
    (u128::from(number) * 2_654_435_761 % u128::from(count)) as u64
}

fn write(engine: &Engine, keyspace: &Keyspace, request: &Request, round: u64) -> Result<Phase, String> {
    let text = |error: forelog::Error| error.to_string();
    let (started, (written, cancelled), before) = (Instant::now(), device()?, engine.table_stats());
    let (mut most_layers, mut most_bytes, mut random) = (0, 0, request.seed + round);
    let value: Vec<u8> = (0..request.value).map(|at| at as u8).collect();
    for first in (0..request.keys).step_by(BATCH) {
        let mut batch = engine.batch().map_err(text)?;
        for number in first..(first + BATCH).min(request.keys) {
            let key = if round == 0 { shuffled(number, request.keys) } else { mix(&mut random) % request.keys as u64 };
            let key = [scramble(key).to_be_bytes(), key.to_be_bytes()].concat();
            batch.put(keyspace, key, &value).map_err(text)?;
        }
        batch.commit().map_err(text)?;
        if first % 20_000 == 0 {
            let stats = engine.table_stats();
            (most_layers, most_bytes) = (most_layers.max(stats.layers), most_bytes.max(stats.bytes));
        }
    }
    engine.flush().map_err(text)?;
    let took = started.elapsed();
    // What is due is done, so that the formula's end is come to.
    engine.checkpoint().map_err(text)?;
    let mut steps = engine.table_stats().merge_steps;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = engine.table_stats().merge_steps;
        if std::mem::replace(&mut steps, now) == now {
            break;
        }
    }
    let (now, gone) = device()?;
    let after = engine.table_stats();
    Ok(Phase { took, device: now - written, cancelled: gone - cancelled, before, after, most_layers, most_bytes })
}

fn scramble(key: u64) -> u64 {
    mix(&mut key.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// splitmix64.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn report(name: &str, data: &Data, worked: &Worked, merging: Merging, phase: &Phase, dir: &Path) -> Result<(), String> {
    let Phase { took, device, cancelled, before, after, most_layers, most_bytes } = phase;
    let bytes = data.bytes();
    let per_byte = |after: u64, before: u64| after.saturating_sub(before) as f64 / bytes;
    let checkpoints = per_byte(after.bytes_by_checkpoints, before.bytes_by_checkpoints);
    let merges = per_byte(after.bytes_by_merges, before.bytes_by_merges);
    let lists = per_byte(after.bytes_of_lists, before.bytes_of_lists);
    println!("{name}: {took:.1?}, {} puts a second", short(data.keys / took.as_secs_f64()));
    let line = |what: &str, measured: f64, formula: f64| println!("  {what:42} {measured:9.2} {formula:9.2}");
    println!("  {:42} {:>9} {:>9}", "for each byte of keys and values", "measured", "formula");
    line("device (write_bytes)", device / bytes, worked.all(merging));
    println!("  {:42} {:9.2}", "  of it, not written since it went before", cancelled / bytes);
    line("checkpoints", checkpoints, worked.checkpoints);
    line("merges", merges, worked.checkpoints * merging.written);
    line("MANIFEST and keyspaces", lists, 0.0);
    line("what is left for log and fill", device / bytes - checkpoints - merges - lists, worked.log);
    line("layers, at most", *most_layers as f64, merging.most_layers);
    line("bytes of layers, at most", *most_bytes as f64 / bytes, merging.space * data.layers() / bytes);
    line("bytes of layers at the end", after.bytes as f64 / bytes, data.layers() / bytes);
    line("runs", after.runs as f64, data.runs());
    let manifest = fs::metadata(dir.join("table/MANIFEST")).map_err(|error| error.to_string())?.len();
    line("bytes of MANIFEST", manifest as f64, data.manifest());
    let (count, all) = files(dir)?;
    println!(
        "  {count} files, {} B for each byte of data; {} checkpoints, {} merges",
        short(all / bytes),
        after.checkpoints,
        after.merges
    );
    Ok(())
}
