//! `dmoci completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Report};
use crate::diagnostic::{Exit, Failure};

/// Print a completion script for a shell.
///
/// For bash: dmoci completions bash > ~/.local/share/bash-completion/completions/dmoci
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dmoci", &mut script);
    report.raw(&script);
    Ok(Exit::Done)
}
