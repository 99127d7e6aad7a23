//! The parts of a run. Within each, all contenders build the same tree in turn, so that what else the machine does
//! hits all alike.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::contender::{Buildah, Contender, Dmoci, Docker, Pipe, Situation, Umoci};
use crate::corpus::{Tree, root_file_system};
use crate::machine::has_sha_ni;
use crate::options::{Options, Peer, Section};
use crate::table::Row;

/// What came of one situation, or of one size.
pub(crate) struct Outcome {
    /// The part of the run.
    pub(crate) section: Section,
    /// What the tree is.
    pub(crate) tree: String,
    /// Files in the tree.
    pub(crate) files: u64,
    /// Bytes in the tree.
    pub(crate) bytes: u64,
    /// dmoci first.
    pub(crate) rows: Vec<Row>,
    /// Who was left out, and why.
    pub(crate) left_out: Vec<String>,
}

/// Everything that the options ask for; each outcome is told as soon as it is there.
pub(crate) fn run(options: &Options, work: &Path, told: &mut dyn FnMut(&Outcome)) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut add = |new: Vec<Outcome>| {
        new.iter().for_each(&mut *told);
        outcomes.extend(new);
    };
    let situations = |sections: &[(Section, Situation)]| -> Vec<(Section, Situation)> {
        sections.iter().copied().filter(|(section, _)| options.wants(*section)).collect()
    };
    let first = situations(&[(Section::Cold, Situation::Cold), (Section::Changed, Situation::Changed)]);
    if !first.is_empty() {
        let (name, tree) = match options.smoke {
            true => ("generated".to_owned(), Tree::generated(work.join("tree"), 200)?),
            false => {
                ("Debian with Python".to_owned(), Tree::debian(work.join("tree"), &root_file_system()?)?)
            }
        };
        add(situation_outcomes(options, work, &name, &tree, &first)?);
        fs::remove_dir_all(&tree.project)?;
    }
    let last = situations(&[(Section::Unchanged, Situation::Unchanged)]);
    if !last.is_empty() {
        let tree = Tree::generated(work.join("tree"), if options.smoke { 200 } else { 10_000 })?;
        add(situation_outcomes(options, work, "small files", &tree, &last)?);
        fs::remove_dir_all(&tree.project)?;
    }
    for (section, sizes) in options.growth() {
        for size in sizes {
            let tree = match section {
                Section::Files => Tree::small_files(work.join("tree"), size)?,
                _ => Tree::one_file(work.join("tree"), size)?,
            };
            add(vec![growth(options, work, section, &tree, size)?]);
            fs::remove_dir_all(&tree.project)?;
        }
    }
    Ok(outcomes)
}

type Contenders = Vec<Box<dyn Contender>>;

/// The contenders that are asked for and are here, dmoci first, and why others are not.
fn contenders(
    options: &Options,
    work: &Path,
    fits: impl Fn(Peer) -> bool,
) -> Result<(Contenders, Vec<String>)> {
    let mut all = Contenders::new();
    let mut left_out = Vec::new();
    for peer in options.peers() {
        if !fits(peer) {
            left_out.push(format!("{} (would take too long)", peer.name()));
            continue;
        }
        if let Some(missing) = peer.missing() {
            if std::env::var_os("DMOCI_REQUIRE_PEERS").is_some() {
                return Err(format!("{} needs {missing}, which is not here", peer.name()).into());
            }
            left_out.push(format!("{} ({missing} is not here)", peer.name()));
            continue;
        }
        let place = work.join(peer.name());
        match peer {
            Peer::Dmoci => {
                fs::create_dir_all(&place)?;
                let accelerated = has_sha_ni();
                let maskable = accelerated && Dmoci::can_be_masked(&place)?;
                if !options.without_sha_ni || !maskable {
                    all.push(Box::new(Dmoci::new(place, false)));
                }
                if maskable {
                    all.push(Box::new(Dmoci::new(work.join("dmoci-masked"), true)));
                } else if accelerated {
                    left_out.push("dmoci, SHA-NI masked (this build uses them all the same)".to_owned());
                }
            }
            Peer::Umoci => all.push(Box::new(Umoci::new(place))),
            Peer::Buildah => all.push(Box::new(Buildah::new(place)?)),
            Peer::Docker => all.push(Box::new(Docker::new(place)?)),
            Peer::Pipe => all.push(Box::new(Pipe::new(place))),
        }
    }
    Ok((all, left_out))
}

/// Round after round, each of the contenders in turn, in each of the situations.
fn situation_outcomes(
    options: &Options,
    work: &Path,
    name: &str,
    tree: &Tree,
    situations: &[(Section, Situation)],
) -> Result<Vec<Outcome>> {
    let (mut all, left_out) = contenders(options, work, |_| true)?;
    let mut outcomes = Vec::new();
    for &(section, situation) in situations {
        let mut left_out = left_out.clone();
        let unaware = all.iter().filter(|one| !one.knows(situation));
        left_out.extend(unaware.map(|one| format!("{} (cannot tell)", one.name())));
        if situation != Situation::Cold {
            settle(&mut all, tree)?;
        }
        let mut taking: Vec<_> = all.iter_mut().filter(|one| one.knows(situation)).collect();
        let rows = rounds(options.rounds(), &mut taking, tree, situation)?;
        let (files, bytes) = (tree.files, tree.bytes);
        outcomes.push(Outcome { section, tree: name.to_owned(), files, bytes, rows, left_out });
    }
    Ok(outcomes)
}

/// Builds that are not measured, so that each contender has all that it keeps. Files that are as new as a cache entry
/// are not trusted by it, so time passes first.
fn settle(all: &mut [Box<dyn Contender>], tree: &Tree) -> Result<()> {
    tree.change(0)?;
    thread::sleep(Duration::from_millis(1200));
    for one in all {
        one.build(tree, Situation::Cold)?;
        one.build(tree, Situation::Unchanged)?;
    }
    Ok(())
}

fn rounds(
    runs: usize,
    all: &mut [&mut Box<dyn Contender>],
    tree: &Tree,
    situation: Situation,
) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> =
        all.iter().map(|one| Row { who: one.name(), samples: Vec::new(), size: None }).collect();
    for round in 1..=runs {
        tree.warm()?;
        if situation == Situation::Changed {
            tree.change(round)?;
        }
        for (one, row) in all.iter_mut().zip(&mut rows) {
            // What another one left to be written is not to be this one's burden.
            rustix::fs::sync();
            eprintln!("  {round}/{runs} {}", row.who);
            row.samples.push(one.build(tree, situation)?);
            if situation == Situation::Cold {
                row.size = Some(one.size()?);
            }
        }
    }
    Ok(rows)
}

/// One size of the trees that grow.
fn growth(options: &Options, work: &Path, section: Section, tree: &Tree, size: u64) -> Result<Outcome> {
    let (mut all, left_out) = contenders(options, work, |peer| size <= peer.limit(section))?;
    let mut taking: Vec<_> = all.iter_mut().collect();
    let rows = rounds(options.runs_at(section, size), &mut taking, tree, Situation::Cold)?;
    drop(all);
    for peer in options.peers() {
        for place in [work.join(peer.name()), work.join("dmoci-masked")] {
            if place.exists() {
                fs::remove_dir_all(place)?;
            }
        }
    }
    let (files, bytes) = (tree.files, tree.bytes);
    Ok(Outcome { section, tree: String::new(), files, bytes, rows, left_out })
}
