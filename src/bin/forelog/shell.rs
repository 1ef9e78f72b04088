//! `completions` and `manual`: what a shell and a reader of manuals want to know of the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::output::{Done, Failure, print};

/// Print completions for a shell
///
/// For bash, for example: forelog completions bash > ~/.local/share/bash-completion/completions/forelog
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

/// Write the pages of the manual
///
/// One for each command: man -M DIR forelog-import, once DIR/man1 has them.
#[derive(Debug, Args)]
pub(crate) struct ManualArguments {
    /// The directory for them, which must be there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// The command line without what is none of a user's.
fn visible(command: &Command) -> Command {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let commands = command.get_subcommands().filter(|one| !one.is_hide_set()).cloned();
    Command::new("forelog").version(env!("CARGO_PKG_VERSION")).about(about).subcommands(commands)
}

pub(crate) fn completions(arguments: &CompletionsArguments, command: &Command) -> Done {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut visible(command), "forelog", &mut text);
    print(String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn manual(arguments: &ManualArguments, command: &Command) -> Done {
    let written = clap_mangen::generate_to(visible(command), &arguments.dir);
    written.map_err(|error| Failure::io(format_args!("write the manual to {}", arguments.dir.display()), &error))?;
    Ok(ExitCode::SUCCESS)
}
