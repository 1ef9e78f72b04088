//! `torture`: ends processes and takes the disk away from under them, and checks that every promise is kept.

use std::path::PathBuf;

use clap::Args;

use crate::output::{Done, Failure};

mod check;
mod ledger;
mod model;
pub(crate) mod power;
mod script;
mod workload;


/// Kill processes that write to a database on this disk, and check what is left
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where: a temporary subdirectory is made there and removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    pub(crate) minutes: u64,
    /// The seed of everything that is random
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Cut the power of file systems, on a recorded device, instead of killing processes
    #[arg(long)]
    pub(crate) power: bool,
    #[command(flatten)]
    pub(crate) of_power: power::PowerArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    if arguments.power { power::run(arguments, &arguments.of_power) } else { Err(Failure::told("not merged")) }
}
