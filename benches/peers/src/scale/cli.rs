//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::output::Output;
use crate::peer::Peer;
use crate::peers;

/// Measures forelog beside its peers with data that outgrow the memory that each may use
#[derive(Parser, Debug)]
#[command(name = "scale", version)]
pub struct Arguments {
    /// Where to measure: a directory on the disk in question
    #[arg(long, value_name = "DIR", required_unless_present_any = ["from", "child"])]
    pub dir: Option<PathBuf>,
    /// Keys to load
    #[arg(long, default_value_t = 50_000_000, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub keys: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub value_bytes: u32,
    /// What an engine may use, page cache included, such as 1GiB [default: 1GiB, or 256MiB with --overwrites-of-few]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<u64>,
    /// Minutes of all phases of an engine; each phase has a fixed share
    #[arg(long, default_value_t = 20.0, value_parser = minutes)]
    pub minutes: f64,
    /// Only these peers (separated by commas) [default: all that can be told a limit of memory]
    #[arg(long, value_name = "PEERS", value_delimiter = ',')]
    pub peers: Vec<String>,
    /// Measures without a control group, so that the page cache has no limit; the report is marked
    #[arg(long)]
    pub no_cgroup: bool,
    /// From which the order of the keys follows
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Measures instead how long opens take, of databases of each number of keys and size of records
    #[arg(long)]
    pub opens: bool,
    /// Numbers of keys for --opens (separated by commas)
    #[arg(long, value_name = "KEYS", value_delimiter = ',', default_value = "1000000,10000000,50000000")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub open_keys: Vec<u64>,
    /// Bytes of a key with its value for --opens (separated by commas); a key has 16
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "20,116,1024")]
    #[arg(value_parser = clap::value_parser!(u32).range(17..=1 << 20))]
    pub record_bytes: Vec<u32>,
    /// Measures instead what many overwrites of ten keys leave behind
    #[arg(long, conflicts_with = "opens")]
    pub overwrites_of_few: bool,
    /// How many for --overwrites-of-few
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub few_overwrites: u64,
    /// Measures instead how long single Sync and Async commits take, alone and beside a thread that overwrites
    #[arg(long, conflicts_with_all = ["opens", "overwrites_of_few"])]
    pub steady: bool,
    #[command(flatten)]
    pub output: Output,
    #[arg(long, hide = true)]
    pub child: Option<String>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if (0.01..=10_000.0).contains(&minutes) => Ok(minutes),
        _ => Err("a number of minutes from 0.01 to 10000".to_owned()),
    }
}

/// So little that the smallest `memory_bytes` of forelog is half of it.
const LEAST_MEMORY: u64 = 32 << 20;

pub fn bytes(text: &str) -> Result<u64, String> {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("", 0)];
    let (number, shift) =
        units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim(), *shift))).unwrap_or((text, 0));
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if bytes >= LEAST_MEMORY => Ok(bytes),
        _ => Err("32MiB or more, such as 1GiB or 512MiB".to_owned()),
    }
}

impl Arguments {
    pub fn peers(&self) -> Result<Vec<&'static Peer>, String> {
        let can = || peers::ALL.iter().copied().filter(|peer| peer.limited.is_some());
        let Some(unknown) = self.peers.iter().find(|name| !can().any(|peer| peer.name == **name)) else {
            return Ok(can()
                .filter(|peer| self.peers.is_empty() || self.peers.iter().any(|name| name == peer.name))
                .collect());
        };
        let names: Vec<&str> = can().map(|peer| peer.name).collect();
        Err(format!(
            "no peer of this build that can be told a limit is called {unknown}; there are {}",
            names.join(", ")
        ))
    }
}
