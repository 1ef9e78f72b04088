//! Programs that the campaign builds: tests of a checkout with flags for the compiler, the copies of this one that have
//! planted bugs in them, and the program that kills and cuts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use forelog_plants::PlantedCopy;
use forelog_sim::root;

/// Writes the copies of this checkout that have all planted bugs in them.
pub(crate) fn planted_copies() -> Vec<PlantedCopy> {
    let root = root().canonicalize().expect("the checkout");
    forelog_plants::write_copies(&root, &target("plants")).unwrap_or_else(|error| panic!("{error}"))
}

/// Builds a test of `checkout` with `flags` for the compiler, in a target directory of its own; returns the program.
pub(crate) fn build_test(checkout: &Path, test: &str, flags: &str, directory: &str) -> PathBuf {
    let mut command = cargo(checkout, &["test", "-p", "forelog-sim", "--test", test, "--no-run"]);
    command.arg("--target-dir").arg(target(directory)).env("RUSTFLAGS", flags);
    // What is optimized across crates takes longer to build than it saves here.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    build(&mut command, test)
}

/// Builds the model of the rules of tables.
pub(crate) fn build_residency() -> PathBuf {
    let mut command = cargo(root(), &["test", "-p", "forelog", "--test", "residency", "--no-run"]);
    build(&mut command, "residency")
}

/// Builds the program that kills processes and cuts the power: as it ships, and so without the simulated disk.
pub(crate) fn build_torture() -> PathBuf {
    build(&mut cargo(root(), &["build", "-p", "forelog-torture"]), "forelog-torture")
}

/// A directory of the campaign's own below the target directory.
pub(crate) fn target(directory: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    std::path::absolute(target.join(directory)).expect("a path")
}

fn cargo(checkout: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(checkout).args(arguments).args(["--release", "--message-format=json-render-diagnostics"]);
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
