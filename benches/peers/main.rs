//! dmoci against other builders: `cargo bench --bench peers`.
//!
//! `-- --help` lists the options. A whole run writes docs/benchmarks.md; it needs root, takes about half an hour and
//! 40 GB on the disk, and leaves nothing else behind.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]

mod contender;
mod corpus;
mod document;
mod launcher;
mod machine;
mod options;
mod python;
mod registry;
mod section;
mod table;
mod target;
#[allow(clippy::unwrap_used, unreachable_pub, reason = "what the tests use, from files that are made here")]
#[path = "../../tests/it/support/wheel.rs"]
mod wheel;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clap::Parser as _;
use rustix::fs::FlockOperation;

use options::Options;

/// Whatever went wrong is for people to read.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let outcome = match arguments.next_if(|first| first == launcher::FLAG) {
        Some(_) => launcher::main(arguments),
        None => run(&Options::parse()).map(|()| 0),
    };
    std::process::exit(outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        1
    }));
}

fn run(options: &Options) -> Result<()> {
    let work = Work::new(options.work.as_deref())?;
    let machine = machine::facts(&work.path);
    let programs = document::programs(options)?;
    for (what, value) in machine.iter().map(|(what, value)| (*what, value)) {
        println!("{what:>12}  {value}");
    }
    for (program, version) in &programs {
        println!("{program:>12}  {version}");
    }
    let outcomes =
        section::run(options, &work.path, &mut |outcome| println!("\n{}", document::part(outcome)))?;
    print!("{}", document::growth(&outcomes));
    let reached = target::targets(&outcomes);
    if options.smoke {
        println!("everything runs; the numbers of so small trees say nothing");
        return Ok(());
    }
    println!("{}", document::targets(&reached));
    if options.is_whole() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md");
        fs::write(&path, document::document(&machine, &programs, &outcomes, &reached))?;
        println!("written: {}", path.display());
    }
    Ok(())
}

/// The directory that everything is in, empty at first and gone at the end. One run at a time has it; what a killed one
/// left is removed by the next.
struct Work {
    path: PathBuf,
    _lock: File,
}

impl Work {
    fn new(parent: Option<&Path>) -> Result<Work> {
        let parent = parent.unwrap_or(Path::new(env!("CARGO_TARGET_TMPDIR"))).canonicalize()?;
        let lock = File::create(parent.join("peers.lock"))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| format!("another run works in {}", parent.display()))?;
        let path = parent.join("peers");
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(Work { path, _lock: lock })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}
