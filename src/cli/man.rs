//! `dmoci man`.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::{Cli, EXIT_CODES, Report};
use crate::diagnostic::{Diagnostic, Exit, Failure};

/// Print the manual page of dmoci, or write the pages of all commands.
///
/// The pages depend on nothing but the version. To read one: dmoci man | man -l -
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write dmoci.1 and one page for each command into this directory, which is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Why there are no pages.
#[derive(Debug, thiserror::Error)]
enum ManError {
    /// A page or its directory cannot be written.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Diagnostic for ManError {
    fn code(&self) -> &'static str {
        "E-WRITE"
    }

    fn exit(&self) -> Exit {
        Exit::Undecided
    }
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let mut command = Cli::command().mut_subcommand("help", |help| help.hide(true));
    command.build();
    let Some(dir) = args.out else {
        report.raw(&page(&command));
        return Ok(Exit::Done);
    };
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |source| ManError::Write { path, source }
    };
    fs::create_dir_all(&dir).map_err(failed(&dir))?;
    for page in pages(&command) {
        let path = dir.join(&page.0);
        fs::write(&path, page.1).map_err(failed(&path))?;
        report.status("Wrote", path.display());
    }
    Ok(Exit::Done)
}

/// File name and content of every page.
fn pages(command: &clap::Command) -> Vec<(String, Vec<u8>)> {
    let mut pages = vec![(Man::new(command.clone()).get_filename(), page(command))];
    let shown = |sub: &&clap::Command| !sub.is_hide_set() && sub.get_name() != "help";
    for sub in command.get_subcommands().filter(shown) {
        pages.extend(self::pages(sub));
    }
    pages
}

fn page(command: &clap::Command) -> Vec<u8> {
    let mut page = Vec::new();
    let source = format!("dmoci {}", env!("CARGO_PKG_VERSION"));
    // The exit codes have a section of their own.
    let command = command.clone().after_help(None::<&str>);
    // Writing to memory does not fail. There is no date: it would be that of the run.
    let _ = Man::new(command).source(source).manual("dmoci").render(&mut page);
    page.extend_from_slice(exit_status().as_bytes());
    page
}

/// The section EXIT STATUS, of the text that help ends with.
fn exit_status() -> String {
    let mut section = String::from(".SH \"EXIT STATUS\"\n");
    for (code, meaning) in EXIT_CODES.lines().filter_map(|line| line.trim().split_once("  ")) {
        section.push_str(&format!(".TP\n{code}\n{}\n", meaning.replace('-', "\\-")));
    }
    section
}
