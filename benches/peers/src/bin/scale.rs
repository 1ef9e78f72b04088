//! forelog beside its peers with data that outgrow memory.

use std::process::ExitCode;

fn main() -> ExitCode {
    forelog_peers::scale::main()
}
