//! `dmoci doctor`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Report;
use crate::diagnostic::{Exit, Failure};
use crate::ops;

/// Show what this machine has, and how to get what is missing.
///
/// Looks at the processor, the output directory, the cache and what it takes, git, user namespaces, and the programs on the
/// PATH that load images. Changes nothing, except that it makes the cache directory. Ends with 6 when images could not be written here, else with 0.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The output directory, relative to the current directory [default: dist in the project directory]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The project directory, which the output directory is in unless -o says otherwise
    #[arg(
        short = 'C',
        long = "directory",
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    directory: PathBuf,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let beside = if args.directory == Path::new(".") { "dist".into() } else { args.directory.join("dist") };
    let output = args.output.unwrap_or(beside);
    let facts = ops::doctor::look(&output, super::network::cache_root().as_deref());
    if args.json {
        let mut all: Map<String, Value> = Map::new();
        for fact in &facts {
            all.insert(fact.name.to_owned(), fact.json.clone());
        }
        let fixes: Vec<Value> = facts
            .iter()
            .filter_map(|fact| {
                Some(json!({ "about": fact.name, "fix": fact.fix.as_ref()?, "needed": fact.broken }))
            })
            .collect();
        all.insert("fixes".to_owned(), json!(fixes));
        report.json(&Value::Object(all));
    } else {
        for fact in &facts {
            report.data(format!("{:>16}  {}", fact.name.replace('_', " "), fact.shown));
            if let Some(fix) = &fact.fix {
                report.data(format!("{:>16}  → {fix}", ""));
            }
        }
    }
    Ok(if facts.iter().any(|fact| fact.broken) { Exit::Undecided } else { Exit::Done })
}
