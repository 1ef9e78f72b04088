//! What `benches/SCALE.md` computes, and what workloads measure beside it.
//!
//! ```text
//! cargo bench --bench amplification                                   the table of the page
//! cargo bench --bench amplification -- DIR [shape=NAME] [keys=N] [value=BYTES] [memory=MIB] [seed=N]
//! ```
//!
//! Each workload has keys of 16 bytes, in batches of 100 in `Async` mode: `shape` is one of those of `workloads.rs`, `uniform` if it
//! is not given. Beside each figure of that one stands what the formulas say.
#![allow(clippy::cast_possible_truncation, reason = "figures that are printed, and none of them is near a limit")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod measured;
mod memory;
mod model;
mod worked;
mod workloads;

use workloads::{SHAPES, Shape};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const KEY: f64 = 16.0;
const BATCH: usize = 100;
const MIB: f64 = (1 << 20) as f64;
/// What a checkpoint takes in if nobody says anything and the memory is a GiB or more (`base/options.rs`).
const CHECKPOINT: f64 = 64.0 * MIB;

struct Request {
    dir: Option<PathBuf>,
    shape: &'static Shape,
    keys: usize,
    value: usize,
    /// In MiB.
    memory: u64,
    seed: u64,
}

impl Request {
    fn parse() -> Result<Self> {
        let mut request = Request { dir: None, shape: &SHAPES[0], keys: 2_000_000, value: 100, memory: 1024, seed: 1 };
        for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
            let number = |text: &str| text.parse::<u64>().map_err(|_| format!("no number: {argument}"));
            match argument.split_once('=') {
                Some(("keys", text)) => request.keys = usize::try_from(number(text)?)?,
                Some(("value", text)) => request.value = usize::try_from(number(text)?)?,
                Some(("memory", text)) => request.memory = number(text)?,
                Some(("seed", text)) => request.seed = number(text)?,
                Some(("shape", text)) => {
                    let names: Vec<_> = SHAPES.iter().map(|shape| shape.name).collect();
                    let found = SHAPES.iter().find(|shape| shape.name == text);
                    request.shape = found.ok_or_else(|| format!("no shape {text:?}: choose one of {names:?}"))?;
                }
                None if request.dir.is_none() => request.dir = Some(PathBuf::from(&argument)),
                _ => return Err(format!("{argument:?} is not known").into()),
            }
        }
        Ok(request)
    }
}

fn main() -> ExitCode {
    let result = Request::parse().and_then(|request| match &request.dir {
        None => {
            worked::table();
            Ok(())
        }
        Some(dir) => measure(&dir.join(format!("amplification-{}", std::process::id())), &request),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("amplification: {error}; usage: [DIR] [shape=NAME] [keys=N] [value=BYTES] [memory=MIB] [seed=N]");
            ExitCode::FAILURE
        }
    }
}

fn measure(dir: &Path, request: &Request) -> Result<()> {
    let Request { shape, keys, value, memory, .. } = request;
    println!("{}: {}; {keys} keys, values of {value} B, {memory} MiB of memory", shape.name, shape.what);
    let result = (shape.run)(&workloads::Run::begin(dir, request)?);
    std::fs::remove_dir_all(dir)?;
    result
}
