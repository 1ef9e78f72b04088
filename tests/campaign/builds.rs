//! Programs that the campaign builds: tests with flags for the compiler, and the one that kills and cuts.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use forelog_sim::root;

/// Builds a test with `flags` for the compiler, in a target directory of its own; returns the program.
pub(crate) fn build_test(test: &str, flags: &str, directory: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let mut command = cargo(&["test", "-p", "forelog-sim", "--test", test, "--no-run"]);
    command.arg("--target-dir").arg(target.join(directory)).env("RUSTFLAGS", flags);
    // What is optimized across crates takes longer to build than it saves here.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    build(&mut command, test)
}

/// Builds the program that kills processes and cuts the power: as it ships, and so without the simulated disk.
pub(crate) fn build_torture() -> PathBuf {
    build(&mut cargo(&["build", "-p", "forelog-torture"]), "forelog-torture")
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(root()).args(arguments).args(["--release", "--message-format=json"]);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// Runs cargo; returns the program that it made of the target of this name.
fn build(command: &mut Command, name: &str) -> PathBuf {
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{name} cannot be built: {command:?}");
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.expect("cargo names the program")
}
