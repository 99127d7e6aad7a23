//! docs/benchmarks.md.

use std::fmt::Write as _;

use clap::ValueEnum as _;

use crate::Result;
use crate::contender::Situation;
use crate::machine::{go_sha256, path_of, version};
use crate::options::{Options, Peer, Section};
use crate::section::Outcome;
use crate::table::{compared, mebibytes, megabytes, ratio, seconds};
use crate::target::Target;

/// Programs in the order of their peers, with their versions and how they hash.
pub(crate) fn programs(options: &Options) -> Result<Vec<(String, String)>> {
    let dmoci = std::path::Path::new(env!("CARGO_BIN_EXE_dmoci"));
    let mut all = vec![("dmoci".to_owned(), format!("{}, {}", version(dmoci)?, compiler()?))];
    let takes =
        |peer: &Peer| Section::value_variants().iter().any(|part| options.wants(*part) && peer.takes(*part));
    for peer in options.peers().filter(|peer| takes(peer) && peer.missing().is_none()) {
        for program in peer.programs().iter().filter(|program| !matches!(**program, "setpriv" | "python3")) {
            if all.iter().any(|(name, _)| name == program) {
                continue;
            }
            let Some(path) = path_of(program) else { continue };
            let how = match *program {
                "pigz" | "tar" => "computes no SHA-256".to_owned(),
                "uv" => "written in Rust".to_owned(),
                _ => go_sha256(&path)?,
            };
            all.push(((*program).to_owned(), format!("{}; {how}", version(&path)?)));
        }
    }
    Ok(all)
}

fn compiler() -> Result<String> {
    let output = std::process::Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// One part, as a table with what is to be known of it.
pub(crate) fn part(outcome: &Outcome) -> String {
    let mut text = String::new();
    let size = format!("{} files, {} MB", grouped(outcome.files), megabytes(outcome.bytes));
    let of = |text: &str| format!("{text}: {}, {size}", outcome.tree);
    let heading = match outcome.section {
        Section::Cold => of("Cold"),
        Section::Changed => of("One file of the small layer changed"),
        Section::Unchanged => of("Nothing changed"),
        Section::Python if outcome.rows.is_empty() => "Python".to_owned(),
        Section::Python if outcome.situation == Situation::Cold => of("Python, cold"),
        Section::Python => of("Python, one file of the application changed"),
        Section::Registry => format!("{}, {} MB", outcome.tree, megabytes(outcome.bytes)),
        Section::Files => format!("{} small files, {} MB", grouped(outcome.files), megabytes(outcome.bytes)),
        Section::Bytes => format!("One file of {} MB", megabytes(outcome.bytes)),
    };
    let _ = writeln!(text, "### {heading}\n");
    if !outcome.rows.is_empty() {
        let _ = writeln!(text, "{}", compared(&outcome.rows));
    }
    if !outcome.left_out.is_empty() {
        let _ = writeln!(text, "Left out: {}.\n", outcome.left_out.join("; ").replace('|', "\\|"));
    }
    text
}

/// What one file or one byte costs, size after size.
pub(crate) fn growth(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for (section, head, unit) in
        [(Section::Files, "files", "µs for each file"), (Section::Bytes, "MB", "MB/s")]
    {
        let sizes: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.section == section).collect();
        let Some(first) = sizes.first() else { continue };
        let names: Vec<&str> = first.rows.iter().map(|row| row.who.as_str()).collect();
        let titles: Vec<String> = names.iter().map(|name| name.replace('|', "\\|")).collect();
        let _ = writeln!(text, "{unit}, and dmoci's peak memory:\n");
        let _ = writeln!(text, "| {head} | {} | peak MiB |", titles.join(" | "));
        let _ = writeln!(text, "|--:|{}--:|", "--:|".repeat(names.len()));
        for outcome in sizes {
            let cell = |name: &&str| {
                let row = outcome.rows.iter().find(|row| row.who == **name);
                row.map_or_else(|| "–".to_owned(), |row| cost(outcome, row.wall().as_secs_f64()))
            };
            let cells: Vec<String> = names.iter().map(cell).collect();
            let size = match section {
                Section::Files => grouped(outcome.files),
                _ => grouped(outcome.bytes / 1_000_000),
            };
            let peak = outcome.rows.first().map_or(0, |row| row.peak());
            let _ = writeln!(text, "| {size} | {} | {} |", cells.join(" | "), mebibytes(peak));
        }
        text.push('\n');
    }
    text
}

fn cost(outcome: &Outcome, seconds: f64) -> String {
    match outcome.section {
        Section::Files => format!("{:.1}", seconds * 1e6 / outcome.files as f64),
        _ => format!("{:.1}", outcome.bytes as f64 / 1e6 / seconds),
    }
}

/// The targets, and whether each is met.
pub(crate) fn targets(targets: &[Target]) -> String {
    let mut text = "| target | measured | met |\n|---|---|---|\n".to_owned();
    for target in targets {
        let met = if target.met { "yes" } else { "**no**" };
        let _ = writeln!(text, "| {} | {} | {met} |", target.wanted, target.measured);
    }
    text
}

/// The whole document.
pub(crate) fn document(
    machine: &[(&'static str, String)],
    programs: &[(String, String)],
    outcomes: &[Outcome],
    reached: &[Target],
) -> String {
    let mut text =
        format!("{INTRODUCTION}\n## Targets\n\n{}\n## Machine\n\n| | |\n|---|---|\n", targets(reached));
    for (what, value) in machine {
        let _ = writeln!(text, "| {what} | {value} |");
    }
    text += "\n## Programs\n\n| | |\n|---|---|\n";
    for (name, version) in programs {
        let _ = writeln!(text, "| {name} | {version} |");
    }
    text += "\n## Three situations\n\n";
    let grows = |outcome: &&Outcome| matches!(outcome.section, Section::Files | Section::Bytes);
    let python = |outcome: &&Outcome| outcome.section == Section::Python;
    let registry = |outcome: &&Outcome| outcome.section == Section::Registry;
    let others = outcomes.iter().filter(|outcome| !grows(outcome) && !python(outcome) && !registry(outcome));
    others.for_each(|outcome| text += &part(outcome));
    let _ = writeln!(text, "{}\n{PYTHON}", relations(outcomes));
    outcomes.iter().filter(python).for_each(|outcome| text += &part(outcome));
    text += REGISTRY;
    outcomes.iter().filter(registry).for_each(|outcome| text += &part(outcome));
    text += "## Growth\n\n";
    text += &growth(outcomes);
    outcomes.iter().filter(grows).for_each(|outcome| text += &part(outcome));
    format!("{}\n", text.trim_end())
}

/// What the later situations cost of the first.
fn relations(outcomes: &[Outcome]) -> String {
    let of = |section: Section| outcomes.iter().find(|outcome| outcome.section == section);
    let (Some(cold), Some(changed)) = (of(Section::Cold), of(Section::Changed)) else { return String::new() };
    let mut text =
        "One file changed, as a part of cold:\n\n| | cold s | changed s | % |\n|---|--:|--:|--:|\n"
            .to_owned();
    for row in &changed.rows {
        let Some(before) = cold.rows.iter().find(|other| other.who == row.who) else { continue };
        let percent = 100.0 * ratio(row.wall(), before.wall());
        let name = row.who.replace('|', "\\|");
        let (cold, changed) = (seconds(before.wall()), seconds(row.wall()));
        let _ = writeln!(text, "| {name} | {cold} | {changed} | {percent:.2} |");
    }
    text
}

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

const INTRODUCTION: &str = "\
# Benchmarks

Written by `cargo bench --bench peers`, as root, never by hand; `.ci/full` runs it. All contenders build the same trees in one run and in turn, round after round, so that
what else the machine does hits all alike. Times are medians. `× dmoci` is a contender's time as a multiple of dmoci's. CPU time is user and system time of all processes, memory the most that one
of them had resident in any round; for docker both are the daemon's too. `MB` is what was made: blobs, or docker's archive, which is not compressed.

Trees are in memory when a round begins, and everything is written to the disk before the next contender starts. Cold means that nothing is kept of an earlier build: no
cache, no storage, no output. In the other situations each keeps what it has. dmoci and docker find out themselves what has changed; umoci, buildah and tar are run by a script that is
told which layer to redo, and redoes that one alone; they cannot tell that nothing has changed.

dmoci hashes with the processor's SHA instructions where it has them. Where that would be an advantage that others do not have, the row `dmoci, SHA-NI masked` says what it takes without; the targets are judged by that row.
";

const REGISTRY: &str = "\
## Registries

Debian's docker-registry runs on the same machine, and its processor time is not counted; its storage is empty before each push. The image is an OCI layout whose layers lie in memory and cannot be made smaller. A pull makes a layout, with
nothing kept of an earlier one. dmoci hashes every blob before its end is sent, and what it pulled before it gets its name; crane hashes nothing that it pushes.

";

const PYTHON: &str = "\
## Python

A Python application with its dependencies in one layer or several, and files of its own in the last. All install the same wheels by the same hashes, from a local folder and without network; before each round
wheels and application are in memory.

* dmoci reads a `pylock.toml` whose entries have a `path`, on no base: the spec says which Python there will be. It checks the hash of every wheel, and of every file against RECORD. By default
  it takes over what the wheels have compressed already; `splice = false` compresses everything anew. When the application has changed, a build in which another layer's digest is not what it was before ends
  this program with an error.
* uv installs with `--target` and `--require-hashes`, its cache empty and on the same disk, so that it links files and does not copy them; then `tar` and `pigz -6` make a layer of that and one of the application. That is no image yet: nothing
  is hashed. When the application has changed, a script that is told so redoes the last step alone.
* docker runs `pip install` in a container on Debian bookworm with its Python and pip, with its classic builder. The wheels are in the base, so that nothing has to be sent; pip makes no byte code and keeps no
  cache, as the others do. Its layers stay in its storage and are not compressed. `docker save` comes in addition; the archive holds the operating system and the wheels too.

";
