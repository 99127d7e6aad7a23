//! `dmoci wheel`

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Report;
use super::backend::BackendArgs;
use super::build::epoch;
use super::network::NetworkArgs;
use super::watcher::Watcher;
use crate::diagnostic::{Exit, Failure};
use crate::ops::own::Backend;
use crate::ops::wheel::{self, Request};
use crate::spec::target::OwnWheel;

/// Build the project's wheel and source distribution, the same bytes on every machine
///
/// Runs the project's own build backend (PEP 517) in an environment of its own. What that needs is found by uv, or else pip, pinned by sha256 in
/// dmoci.lock and fetched once. The backend has no network and can write nowhere else, where the system has namespaces for that; where it has not, this is said. The source is
/// what git tracks; outside of a work tree, everything. [wheel] of a dmoci.toml in DIR counts, but for what options say. Both files then get the one form that dmoci has for them (docs/python.md), and
/// are written to OUTPUT/python, and how they were built to OUTPUT/evidence/python.json. Prints one line for each: kind, name, digest. When the
/// backend fails, hangs or gives what is no distribution, what it said is shown, the exit code is 6, and OUTPUT is as it was.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The project directory
    #[arg(
        short = 'C',
        long = "directory",
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    directory: PathBuf,
    /// The output directory [default: dist in the project directory]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    backend: BackendArgs,
    /// Take all files of the project directory, not only what git tracks
    #[arg(long)]
    all_files: bool,
    /// Keep the bytes that the backend made
    #[arg(long)]
    no_normalize: bool,
    /// Pin the build requirements anew
    #[arg(long, conflicts_with = "locked")]
    update: bool,
    /// Refuse to add anything to dmoci.lock
    #[arg(long)]
    locked: bool,
    /// The time of all files, in seconds since 1970-01-01T00:00:00Z [default: the environment's SOURCE_DATE_EPOCH, else the
    /// commit's time, else 1980-01-02]
    #[arg(long, value_name = "SECONDS")]
    epoch: Option<u64>,
    /// How long each call of the backend may take [default: that of [wheel], else 1800]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Print the evidence instead of lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let Backend { dmoci, python, scratch } = args.backend.backend()?;
    let table = wheel::table(&args.directory)?;
    let says = |what: fn(&OwnWheel) -> bool| table.as_ref().is_some_and(what);
    let request = Request {
        output: args.output.unwrap_or_else(|| args.directory.join("dist")),
        lock: args.directory.join("dmoci.lock"),
        source: match table.as_ref().map(|table| table.source.as_path()) {
            Some(part) if part != Path::new(".") => args.directory.join(part),
            _ => args.directory,
        },
        scratch,
        dmoci,
        python,
        all_files: args.all_files || says(|table| table.all_files),
        as_they_are: args.no_normalize || says(|table| !table.normalize),
        sdist: !says(|table| !table.sdist),
        update: args.update,
        epoch: args.epoch.map_or_else(epoch, |epoch| Ok(Some(epoch)))?,
        limit: match (args.timeout, &table) {
            (Some(seconds), _) => Duration::from_secs(seconds),
            (None, Some(table)) => table.timeout,
            (None, None) => Duration::from_secs(1800),
        },
        versions: Vec::new(),
        pins: true,
    };
    let network = args.network.network(args.locked);
    let watch = Watcher::new(report);
    let built = wheel::build(&request, &network, &watch)?;
    drop(watch);
    report.status("Finished", built.folder.display());
    match args.json {
        true => report.json(&built.evidence),
        false => report.rows(
            &built
                .distributions
                .iter()
                .map(|made| (made.kind, made.name.clone(), made.digest.to_string()))
                .collect::<Vec<_>>(),
        ),
    }
    Ok(Exit::Done)
}

/// Runs a program in a cell, or watches over one, when the environment of this process says so; gives what to exit with. No option: it is nothing for people.
pub(super) fn enter() -> Option<i32> {
    use crate::sandbox;
    let task = sandbox::Task::of(&std::env::var_os(sandbox::ENTER)?)?;
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<_> = arguments.collect();
    let error = match sandbox::enter(task, &program, &arguments) {
        Ok(code) => return Some(code),
        Err(error) => error,
    };
    // Nothing can be done when that fails.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{error}\n").as_bytes());
    Some(sandbox::BROKEN)
}
