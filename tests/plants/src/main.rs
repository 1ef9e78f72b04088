//! Applies all plants to copies of the checkout, below its target directory, and has the compiler check each copy.
//!
//! ```text
//! cargo run -p forelog-plants
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn check() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders below the checkout");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let directory = std::path::absolute(target.join("plants")).map_err(|error| error.to_string())?;
    for copy in forelog_plants::write_copies(root, &directory)? {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(&copy.root).args(["check", "--lib", "--features", "sim,io-uring"]);
        // What a plant leaves unused is not worth a word.
        cargo.arg("--target-dir").arg(directory.join("build")).env("RUSTFLAGS", "-A warnings");
        let status = cargo.status().map_err(|error| format!("cargo: {error}"))?;
        if !status.success() {
            return Err(format!("the plants in {} do not compile", copy.root.display()));
        }
        println!("{}: {} planted bugs compile", copy.root.display(), copy.names.len());
    }
    Ok(())
}

fn main() -> ExitCode {
    match check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
