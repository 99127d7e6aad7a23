//! `dmoci schema`.

use super::Report;
use crate::diagnostic::{Exit, Failure};
use crate::spec;

/// Print the JSON Schema of dmoci.toml or of a report (draft 2020-12).
///
/// Editors complete and check dmoci.toml with it: taplo and the TOML extensions that use it read it where the first
/// line of dmoci.toml is `#:schema FILE-OR-URL`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of what
    #[arg(long, value_enum, default_value_t = Of::Spec)]
    of: Of,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Of {
    /// dmoci.toml
    Spec,
    /// What `dmoci verify --json` prints
    Verify,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    match args.of {
        Of::Spec => report.json(&spec::json_schema()),
        Of::Verify => {
            include_str!("../../docs/verify.schema.json").lines().for_each(|line| report.data(line));
        }
    }
    Ok(Exit::Done)
}
