//! The command line of the power cuts.

use std::path::PathBuf;

use clap::Args;

/// What `--power` is told beyond the rest.
#[derive(Debug, Args)]
pub(crate) struct PowerArguments {
    /// File systems to cut the power of, with all their options
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "ext4,xfs,btrfs", requires = "power",
        value_parser = ["ext4", "xfs", "btrfs"])]
    pub(super) fs: Vec<String>,
    /// Distinct crash states for each file system with each set of options
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "power")]
    pub(super) states: usize,
    /// Only what has this name in the report; may be repeated
    #[arg(long, value_name = "NAME", requires = "power")]
    pub(super) run: Vec<String>,
    /// Keep the images that break a promise, as sparse files in this directory
    #[arg(long, value_name = "DIR", requires = "power")]
    pub(super) keep: Option<PathBuf>,
}
