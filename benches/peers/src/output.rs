//! What both programs do alike: where a report comes from, where it goes, and how they end.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The part of the command line about reports.
#[derive(Args, Debug)]
pub struct Output {
    /// Writes everything measured as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes plots as SVG
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Writes the report as Markdown; otherwise it is printed
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Measures nothing and writes the report of an earlier run's JSON
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    from: Option<PathBuf>,
}

impl Output {
    /// The report of an earlier run, or that of `measure`, which may save it as it grows.
    pub fn report<R: Serialize + DeserializeOwned>(
        &self,
        measure: impl FnOnce(&dyn Fn(&R) -> Result<(), String>) -> Result<R, String>,
    ) -> Result<R, String> {
        if let Some(path) = &self.from {
            return read_json(path);
        }
        for path in [&self.json, &self.markdown].into_iter().flatten() {
            writable(path)?;
        }
        measure(&|report| self.json.as_deref().map_or(Ok(()), |path| write_json(path, report)))
    }

    /// Writes it as was asked for; the plots by their names.
    pub fn write(&self, report: &impl Serialize, markdown: &str, plots: &[(String, String)]) -> Result<(), String> {
        let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        match &self.markdown {
            Some(path) => std::fs::write(path, markdown).map_err(|error| failed(path, error))?,
            None => println!("{markdown}"),
        }
        if let Some(path) = &self.json {
            write_json(path, report)?;
        }
        let Some(dir) = self.svg.as_ref().filter(|_| !plots.is_empty()) else { return Ok(()) };
        std::fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
        for (name, plot) in plots {
            let path = dir.join(format!("{name}.svg"));
            std::fs::write(&path, plot).map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is no report of this program: {error}", path.display()))
}

fn write_json(path: &Path, report: &impl Serialize) -> Result<(), String> {
    let json = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
    std::fs::write(path, json + "\n").map_err(|error| format!("{}: {error}", path.display()))
}

/// Better to know before an hour of measuring than after it.
fn writable(path: &Path) -> Result<(), String> {
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).map_err(|error| format!("{} cannot be written ({error}); name another file", path.display()))
}

/// The end of a process that measures for another one.
pub fn child_ended(result: Result<(), impl Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The end of the program with this name: 2 if nothing could be measured.
pub fn ended(name: &str, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(told) => {
            eprintln!("{name}: {told}");
            ExitCode::from(2)
        }
    }
}
