//! `dmoci help`.

/// Print the help of dmoci or of a command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

impl Args {
    /// The arguments that ask for the same with `--help`.
    pub(crate) fn asked(self) -> impl Iterator<Item = String> {
        ["dmoci".to_owned()].into_iter().chain(self.command).chain(["--help".to_owned()])
    }
}
