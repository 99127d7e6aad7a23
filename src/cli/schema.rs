//! `dmoci schema`.

use super::Report;
use crate::diagnostic::{Exit, Failure};
use crate::spec;

/// Print the JSON Schema of dmoci.toml (draft 2020-12).
///
/// Editors complete and check dmoci.toml with it: taplo and the TOML extensions that use it read it where the first
/// line of dmoci.toml is `#:schema FILE-OR-URL`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, report: &mut Report) -> Result<Exit, Failure> {
    report.json(&spec::json_schema());
    Ok(Exit::Done)
}
