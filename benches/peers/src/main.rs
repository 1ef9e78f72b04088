//! forelog beside its peers and the raw limit of the same disk, in one run.

use std::process::ExitCode;

fn main() -> ExitCode {
    forelog_peers::main()
}
