//! The command line: one file per command, each from arguments to `ops` to `report`.
//!
//! Only this module and what is in it prints, reads the environment or the clock, and exits.

mod backend;
mod build;
mod check;
mod completions;
mod conformance;
mod copy;
mod delete;
mod diff;
mod differences;
mod docker;
mod doctor;
mod export;
mod help;
mod index;
mod inspect;
mod key;
mod lock;
mod man;
mod network;
mod password;
mod project;
mod pull;
mod push;
mod report;
mod schema;
mod sharing;
mod sign;
mod tags;
mod twice;
mod verify;
mod watcher;
mod wheel;

use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::diagnostic::{Exit, Failure};
pub(crate) use report::Report;

/// Builds OCI images without a daemon, the same bytes on every machine, and verifies them.
#[derive(Debug, Parser)]
#[command(after_help = EXIT_CODES)]
#[command(disable_help_subcommand = true)]
#[command(name = "dmoci", version, styles = STYLES, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Print no status lines and no progress, only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more of what is done
    #[arg(short, long, global = true)]
    verbose: bool,
    /// When to use colour; `auto` follows the terminal and NO_COLOR
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
}

// To add a command: a file `src/cli/NAME.rs` with `pub(crate) struct Args` (derive `clap::Args`, its doc
// comment is the help text) and `pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure>`;
// then `mod NAME;` above, one variant here and one arm in `run`. Help shows the variants in this order.
#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Lock(lock::Args),
    Build(build::Args),
    Wheel(wheel::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Key(key::Args),
    Sign(sign::Args),
    Diff(diff::Args),
    Export(export::Args),
    Pull(pull::Args),
    Push(push::Args),
    Copy(copy::Args),
    Index(index::Args),
    Tags(tags::Args),
    Delete(delete::Args),
    Doctor(doctor::Args),
    Schema(schema::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    Conformance(conformance::Args),
    Help(help::Args),
}

fn run(command: Command, report: &mut Report) -> Result<Exit, Failure> {
    match command {
        Command::Check(args) => check::run(args, report),
        Command::Lock(args) => lock::run(args, report),
        Command::Build(args) => build::run(args, report),
        Command::Wheel(args) => wheel::run(args, report),
        Command::Inspect(args) => inspect::run(args, report),
        Command::Verify(args) => verify::run(args, report),
        Command::Key(args) => key::run(args, report),
        Command::Sign(args) => sign::run(args, report),
        Command::Diff(args) => diff::run(args, report),
        Command::Export(args) => export::run(args, report),
        Command::Pull(args) => pull::run(args, report),
        Command::Push(args) => push::run(args, report),
        Command::Copy(args) => copy::run(args, report),
        Command::Index(args) => index::run(args, report),
        Command::Tags(args) => tags::run(args, report),
        Command::Delete(args) => delete::run(args, report),
        Command::Doctor(args) => doctor::run(args, report),
        Command::Schema(args) => schema::run(args, report),
        Command::Completions(args) => completions::run(args, report),
        Command::Man(args) => man::run(args, report),
        Command::Conformance(args) => conformance::run(args, report),
        // `main` has turned it into `--help`.
        Command::Help(_) => Ok(Exit::Done),
    }
}

/// Runs the program with the arguments of this process and returns what it must exit with.
pub fn main() -> i32 {
    if let Some(code) = wheel::enter() {
        return code;
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let color = early_color(&arguments);
    let parsed = parse(arguments, color).and_then(|cli| match cli.command {
        Command::Help(args) => parse(args.asked(), color),
        _ => Ok(cli),
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" too: these go to standard output with 0, true ones to
            // standard error with 2. Nothing can be done when that fails.
            let _ = error.print();
            return error.exit_code();
        }
    };
    let mut report = Report::new(cli.global.quiet, cli.global.verbose, cli.global.color);
    let outcome = guarded(|| run(cli.command, &mut report));
    report.end(outcome) as i32
}

fn parse<A: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = A>,
    color: ColorChoice,
) -> Result<Cli, clap::Error> {
    let matches = Cli::command().color(color).try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// What `--color` says, for errors in the very arguments that it stands among.
fn early_color(arguments: &[OsString]) -> ColorChoice {
    let mut texts = arguments.iter().skip(1).filter_map(|argument| argument.to_str());
    while let Some(text) = texts.next() {
        let value = match text.strip_prefix("--color=") {
            Some(value) => value,
            None if text == "--color" => texts.next().unwrap_or_default(),
            None if text == "--" => break,
            None => continue,
        };
        return value.parse().unwrap_or_default();
    }
    ColorChoice::Auto
}

/// Runs a command; when it panics, which is a fault of ours, that is an error that decides nothing.
fn guarded(command: impl FnOnce() -> Result<Exit, Failure>) -> Result<Exit, Failure> {
    panic::catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|_| {
        Err(Failure {
            code: "E-BUG",
            exit: Exit::Undecided,
            message: "dmoci met a fault of its own and stopped".to_owned(),
            causes: Vec::new(),
            places: Vec::new(),
            help: Some("please report it with the lines above and the command that you gave".to_owned()),
        })
    })
}

/// A number and what it counts.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Help ends with it, and manual pages have it as a section.
const EXIT_CODES: &str = "\
Exit codes:
  0  done, or verified
  1  mismatch, tampering or malformed input
  2  wrong usage or configuration
  3  evidence is missing
  4  refused by identity or policy
  5  a rebuild differs
  6  could not be decided: input and output, network, no way to rebuild";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::BrightGreen.on_default().bold())
    .usage(AnsiColor::BrightGreen.on_default().bold())
    .literal(AnsiColor::BrightCyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default())
    .error(AnsiColor::BrightRed.on_default().bold())
    .valid(AnsiColor::BrightCyan.on_default().bold())
    .invalid(AnsiColor::Yellow.on_default().bold());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_fault_of_ours_is_no_success() {
        let failure = guarded(|| panic!("on purpose")).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("E-BUG", Exit::Undecided));
        assert_eq!(guarded(|| Ok(Exit::Missing)).unwrap(), Exit::Missing);
    }

    #[test]
    fn colours_of_wrong_arguments() {
        let early = |line: &str| early_color(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(early("dmoci x --color never"), ColorChoice::Never);
        assert_eq!(early("dmoci --color=always"), ColorChoice::Always);
        assert_eq!(early("dmoci --color=x --color never"), ColorChoice::Auto);
        assert_eq!(early("dmoci -- --color never"), ColorChoice::Auto);
        assert_eq!(early("dmoci --color"), ColorChoice::Auto);
    }
}
