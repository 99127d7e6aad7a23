//! The parts of a run. Within each, all contenders build the same tree in turn, so that what else the machine does
//! hits all alike.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::contender::{Buildah, Contender, Dmoci, Docker, Pip, Pipe, Situation, Umoci, Uv};
use crate::corpus::{Tree, root_file_system};
use crate::machine::has_sha_ni;
use crate::options::{Options, Peer, Section};
use crate::python;
use crate::registry;
use crate::table::Row;

/// What came of one situation, or of one size.
pub(crate) struct Outcome {
    /// The part of the run.
    pub(crate) section: Section,
    /// What happened before.
    pub(crate) situation: Situation,
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
        let all = contenders(options, work, Section::Cold, |_| true)?;
        add(situation_outcomes(options, all, &name, &tree, &first)?);
        fs::remove_dir_all(&tree.project)?;
    }
    let last = situations(&[(Section::Unchanged, Situation::Unchanged)]);
    if !last.is_empty() {
        let tree = Tree::generated(work.join("tree"), if options.smoke { 200 } else { 10_000 })?;
        let all = contenders(options, work, Section::Unchanged, |_| true)?;
        add(situation_outcomes(options, all, "small files", &tree, &last)?);
        fs::remove_dir_all(&tree.project)?;
    }
    if options.wants(Section::Python) {
        add(python_outcomes(options, work)?);
    }
    if options.wants(Section::Registry) {
        let (here, left_out) = peers(options, Section::Registry, |_| true)?;
        // dmoci alone, where there is no registry, says nothing.
        if here.len() > 1 {
            add(registry::outcomes(options, work, &here, &left_out)?);
        }
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

/// The peers that are asked for and are here, dmoci first, and why others are not.
fn peers(
    options: &Options,
    section: Section,
    fits: impl Fn(Peer) -> bool,
) -> Result<(Vec<Peer>, Vec<String>)> {
    let (mut here, mut left_out) = (Vec::new(), Vec::new());
    for peer in options.peers().filter(|peer| peer.takes(section)) {
        if !fits(peer) {
            left_out.push(format!("{} (would take too long)", peer.name()));
            continue;
        }
        if let Some(missing) = peer.missing() {
            if nothing_may_lack() {
                return Err(format!("{} needs {missing}, which is not here", peer.name()).into());
            }
            left_out.push(format!("{} ({missing} is not here)", peer.name()));
            continue;
        }
        here.push(peer);
    }
    Ok((here, left_out))
}

/// Whether it is an error when something cannot be measured here.
fn nothing_may_lack() -> bool {
    std::env::var_os("DMOCI_REQUIRE_PEERS").is_some()
}

/// The contenders, and why others are not among them.
fn contenders(
    options: &Options,
    work: &Path,
    section: Section,
    fits: impl Fn(Peer) -> bool,
) -> Result<(Contenders, Vec<String>)> {
    let mut all = Contenders::new();
    let (here, mut left_out) = peers(options, section, fits)?;
    for peer in here {
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
            // For Python and registries alone.
            Peer::Uv | Peer::Skopeo | Peer::Crane => {}
        }
    }
    Ok((all, left_out))
}

/// An application of Python: cold, and changed alone. What it needs is fetched once, and where that cannot be it is told.
fn python_outcomes(options: &Options, work: &Path) -> Result<Vec<Outcome>> {
    let project = work.join("tree");
    let made = match options.smoke {
        true => python::generated(project.clone(), &work.join("wheels")),
        false => python::litellm(project.clone()),
    };
    let made = made.and_then(|(name, tree)| Ok((python_contenders(options, work, &tree)?, name, tree)));
    let (section, situation) = (Section::Python, Situation::Cold);
    match made {
        Ok((all, name, tree)) => {
            let situations = [(section, situation), (section, Situation::Changed)];
            let outcomes = situation_outcomes(options, all, &name, &tree, &situations)?;
            fs::remove_dir_all(project)?;
            Ok(outcomes)
        }
        Err(error) if nothing_may_lack() => Err(error),
        Err(error) => {
            let left_out = vec![format!("everything ({error})")];
            let _ = fs::remove_dir_all(project);
            Ok(vec![Outcome {
                section,
                situation,
                tree: String::new(),
                files: 0,
                bytes: 0,
                rows: vec![],
                left_out,
            }])
        }
    }
}

/// dmoci as it is and with everything compressed anew, and those who install by the same lock.
fn python_contenders(options: &Options, work: &Path, tree: &Tree) -> Result<(Contenders, Vec<String>)> {
    let mut all = Contenders::new();
    let (here, left_out) = peers(options, Section::Python, |_| true)?;
    for peer in here {
        let place = work.join(peer.name());
        match peer {
            Peer::Dmoci => {
                fs::create_dir_all(&place)?;
                let masked = options.without_sha_ni && has_sha_ni() && Dmoci::can_be_masked(&place)?;
                all.push(Box::new(Dmoci::new(place, masked).by(python::SPEC, "")));
                let plain = Dmoci::new(work.join("dmoci-plain"), masked);
                all.push(Box::new(plain.by(python::PLAIN_SPEC, ", splice = false")));
            }
            Peer::Uv => all.push(Box::new(Uv::new(place)?)),
            Peer::Docker => {
                let (pip, save) = Pip::new(place, tree)?;
                all.push(Box::new(pip));
                all.push(Box::new(save));
            }
            _ => {}
        }
    }
    Ok((all, left_out))
}

/// Round after round, each of the contenders in turn, in each of the situations.
fn situation_outcomes(
    options: &Options,
    (mut all, left_out): (Contenders, Vec<String>),
    name: &str,
    tree: &Tree,
    situations: &[(Section, Situation)],
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for &(section, situation) in situations {
        let mut left_out = left_out.clone();
        let unaware = all.iter().filter(|one| !one.knows(situation));
        left_out.extend(unaware.map(|one| format!("{} (cannot tell)", one.name())));
        if situation != Situation::Cold {
            settle(&mut all, tree)?;
        }
        let mut taking: Vec<_> = all.iter_mut().filter(|one| one.knows(situation)).collect();
        let rows = rounds(options.runs_at(section, tree.files), &mut taking, tree, situation)?;
        let (files, bytes) = (tree.files, tree.bytes);
        outcomes.push(Outcome { section, situation, tree: name.to_owned(), files, bytes, rows, left_out });
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
                row.size = one.size()?;
            }
        }
    }
    Ok(rows)
}

/// One size of the trees that grow.
fn growth(options: &Options, work: &Path, section: Section, tree: &Tree, size: u64) -> Result<Outcome> {
    let (mut all, left_out) = contenders(options, work, section, |peer| size <= peer.limit(section))?;
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
    let situation = Situation::Cold;
    Ok(Outcome { section, situation, tree: String::new(), files, bytes, rows, left_out })
}
