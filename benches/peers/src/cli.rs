//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::output::Output;
use crate::peer::Peer;
use crate::peers::{self, OURS, RAW};
use crate::workload::{WORKLOADS, Workload};

/// Measures forelog beside its peers and the raw limit of the same disk, in one run.
#[derive(Parser, Debug)]
#[command(name = "forelog-peers", version)]
pub struct Arguments {
    /// Where to measure: a directory on the disk in question
    #[arg(long, value_name = "DIR", required_unless_present_any = ["from", "list", "child"])]
    pub dir: Option<PathBuf>,
    /// Rounds; each takes every measurement once, in another order
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 0.8, value_parser = seconds)]
    pub seconds: f64,
    /// Only the workloads of these names, or whose title contains one of these (separated by commas)
    #[arg(long, value_name = "WORKLOAD", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Only these peers (separated by commas), beside forelog and raw
    #[arg(long, value_name = "PEERS", value_delimiter = ',')]
    pub peers: Vec<String>,
    /// Transactions in the log that is reopened
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub transactions: u64,
    /// Does not watch whether each Sync mode really syncs
    #[arg(long)]
    pub unchecked: bool,
    #[command(flatten)]
    pub output: Output,
    /// Lists the workloads and the peers
    #[arg(long)]
    pub list: bool,
    #[arg(long, hide = true)]
    pub child: Option<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.001 to 3600".to_owned()),
    }
}

impl Arguments {
    pub fn workloads(&self) -> Result<Vec<&'static Workload>, String> {
        let asked = |text: &String| {
            let named = Workload::named(text).map(|workload| vec![workload]);
            let found =
                named.unwrap_or_else(|| WORKLOADS.iter().filter(|workload| workload.title.contains(text)).collect());
            if found.is_empty() { Err(format!("no workload is called {text}; --list names them")) } else { Ok(found) }
        };
        let chosen = self.only.iter().map(asked).collect::<Result<Vec<_>, _>>()?.concat();
        let is_chosen = |workload: &&Workload| chosen.is_empty() || chosen.iter().any(|other| other.id == workload.id);
        Ok(WORKLOADS.iter().filter(is_chosen).collect())
    }

    pub fn peers(&self) -> Result<Vec<&'static Peer>, String> {
        if let Some(unknown) = self.peers.iter().find(|name| peers::named(name).is_none()) {
            return Err(format!("no peer of this build is called {unknown}; --list names them"));
        }
        let is_chosen = |peer: &&Peer| {
            self.peers.is_empty() || [RAW, OURS].contains(&peer.name) || self.peers.iter().any(|name| name == peer.name)
        };
        Ok(peers::ALL.iter().copied().filter(is_chosen).collect())
    }
}
