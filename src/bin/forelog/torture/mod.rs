//! `torture`: ends processes and takes the disk away from under them, and checks that every promise is kept.

use std::path::PathBuf;

use clap::Args;

use crate::output::{Done, Failure};

mod check;
mod child;
mod ledger;
mod model;
mod script;
mod workload;

pub(crate) use child::{ChildArguments, run_child};

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
}
