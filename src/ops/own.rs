//! The project's own wheel within a build: from `[wheel]` to what layers take, and to the output directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use dmoci_layers::{Algorithm, Digest, MTIME};
use serde_json::{Value, json};

use super::build::DIGESTS;
use super::lock::Network;
use super::plan::Watch;
use super::wheel::publish::{FOLDER, are_ours, count, is_there, outdated, stage};
use super::wheel::{self, Distribution, Fresh};
use crate::cache::Cache;
use crate::diagnostic::Failure;
use crate::engine::diff::{Difference, document};
use crate::files;
use crate::inputs::InputError;
use crate::inputs::files::Project;
use crate::inputs::python::Own;
use crate::inputs::python::dist::{Contents, DistKind};
use crate::inputs::python::version::{self, Version};
use crate::inputs::python::wheel::Wheel;
use crate::limits;
use crate::lock::Pins;
use crate::oci::json::{canonical, parse};
use crate::oci::platform::Platform;
use crate::spec::target::{OwnWheel, SourcePath};
use crate::spec::{Problem, Problems, Spec, SpecError, Target};
use crate::vcs::WorkTree;

/// What of the machine runs the build backend of `[wheel]`.
#[derive(Clone, Debug)]
pub struct Backend {
    /// This program.
    pub dmoci: PathBuf,
    /// The interpreter.
    pub python: PathBuf,
    /// Where unfinished things lie, in no project.
    pub scratch: PathBuf,
}

/// Builds it where `[wheel]` asks for it, or takes it from the cache. It has the time of the image.
pub(super) fn built(
    ground: Ground<'_>,
    targets: &[Target],
    (network, cache): (&Network<'_>, Option<&Cache>),
    watch: &dyn Watch,
) -> Result<Option<OwnBuilt>, Failure> {
    let Some(wanted) = wanted(ground.spec, targets)? else { return Ok(None) };
    ground.within(wanted)?;
    let epoch = match ground.epoch {
        Some(epoch) => epoch,
        None => match WorkTree::around(ground.project)? {
            Some(tree) => tree.time()?.unwrap_or(MTIME),
            None => MTIME,
        },
    };
    let version = targets.first().and_then(|target| target.version.as_deref());
    Ground { epoch: Some(epoch), ..ground }.build(wanted, version, (network, cache), watch).map(Some)
}

/// Pins the build requirements that the lock file lacks, or all anew; nothing when it lacks none.
pub(super) fn requirements(
    ground: Ground<'_>,
    targets: &[Target],
    renew: bool,
    network: &Network<'_>,
    watch: &dyn Watch,
) -> Result<Option<(Platform, Pins)>, Failure> {
    let Some(wanted) = wanted(ground.spec, targets)? else { return Ok(None) };
    ground.within(wanted)?;
    let request = wheel::Request { update: renew, ..ground.request(wanted) };
    wheel::requirements(&request, network, watch)
}

/// Where it is built from, and where to.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) spec: &'a Spec,
    /// The project directory.
    pub(super) project: &'a Path,
    /// The directory that builds of the project write: nothing in it is source.
    pub(super) outputs: &'a Path,
    pub(super) backend: &'a Backend,
    /// `SOURCE_DATE_EPOCH`, instead of the commit's time.
    pub(super) epoch: Option<u64>,
    /// Build requirements that the lock file lacks are added to it, before the source is copied: it may be part of that.
    pub(super) pins: bool,
}

/// What `[wheel]` says, which it says for all platforms together.
pub(super) fn wanted<'a>(spec: &Spec, targets: &'a [Target]) -> Result<Option<&'a OwnWheel>, SpecError> {
    let Some(first) = targets.first().and_then(|target| target.wheel.as_ref()) else { return Ok(None) };
    match targets.iter().find(|target| target.wheel.as_ref() != Some(first)) {
        None => Ok(Some(first)),
        Some(other) => {
            let message = format!("[wheel] says something else for {}", other.platform);
            let problem = Problem::new("E-PLATFORM-NAMES", &first.span, message)
                .expected("expected the same for all platforms")
                .help("all platforms are built from one wheel: use no ${platform.…} in it");
            let (file, text) = (spec.file().to_owned(), spec.text().clone());
            Err(Problems { file, text, problems: vec![problem] }.into())
        }
    }
}

impl Ground<'_> {
    /// Refuses a source that a symbolic link leads out of the project to.
    fn within(&self, own: &OwnWheel) -> Result<(), Failure> {
        let source = own.source.as_path();
        Project::open(self.project)?.check_link(source, source).map_err(|error| {
            let mut failure = Failure::from(error);
            failure.places.push(self.spec.place(&own.span, ""));
            failure
        })
    }

    /// What is asked of the backend.
    pub(super) fn request(&self, own: &OwnWheel) -> wheel::Request {
        wheel::Request {
            source: self.project.join(own.source.as_path()),
            output: self.outputs.to_owned(),
            lock: self.spec.file().with_extension("lock"),
            scratch: self.backend.scratch.clone(),
            dmoci: self.backend.dmoci.clone(),
            python: self.backend.python.clone(),
            all_files: own.all_files,
            as_they_are: !own.normalize,
            sdist: own.sdist,
            update: false,
            epoch: self.epoch,
            limit: own.timeout,
            versions: Vec::new(),
            pins: self.pins,
        }
    }

    fn build(
        &self,
        own: &OwnWheel,
        version: Option<&str>,
        (network, cache): (&Network<'_>, Option<&Cache>),
        watch: &dyn Watch,
    ) -> Result<OwnBuilt, Failure> {
        let built = || {
            let fresh = wheel::fresh(&self.request(own), network, cache, watch)?;
            let mut distributions = fresh.made.distributions.iter();
            let (made, path) = distributions
                .find(|(made, _)| made.kind == DistKind::Wheel.name())
                .ok_or_else(|| InputError::Missing(own.source.as_path().to_owned()))?;
            let file = open(path)?;
            let wheel = Wheel::read(file, PathBuf::from(&made.name), made.digest.clone())?;
            let mut warnings = fresh.made.warnings.clone();
            if let Some(said) = version.filter(|said| !is_version(said, &wheel.name.version)) {
                let place = self.spec.place(&own.span, "");
                let message = format!(
                    "{}:{}: the wheel is {} {}, and ${{version}} is {said}",
                    place.file.display(),
                    place.line(),
                    wheel.name.name,
                    wheel.name.version
                );
                watch.warning(&message);
                warnings.push(message);
            }
            let own = Own { source: own.source.as_path().to_owned(), wheel: Some(wheel) };
            Ok(OwnBuilt { own, fresh, warnings })
        };
        built().map_err(|mut failure: Failure| {
            if failure.places.is_empty() {
                failure.places.push(self.spec.place(&own.span, ""));
            }
            failure
        })
    }
}

/// Whether a text is another spelling of a version.
fn is_version(text: &str, version: &Version) -> bool {
    version::version(text).as_ref() == Some(version)
}

fn open(path: &Path) -> Result<File, InputError> {
    File::open(path).map_err(|source| InputError::Io { path: path.to_owned(), source })
}

/// The project's own wheel, and what was built with it.
pub(super) struct OwnBuilt {
    /// What layers take.
    pub(super) own: Own,
    fresh: Fresh,
    warnings: Vec<String>,
}

impl OwnBuilt {
    /// The distributions, in the order in which they were built.
    pub(super) fn distributions(&self) -> impl Iterator<Item = &Distribution> {
        self.fresh.made.distributions.iter().map(|(made, _)| made)
    }

    /// What is not wrong with them but hardly meant.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether the source is not any more what they were built from.
    pub(super) fn has_moved(&self, ground: Ground<'_>, targets: &[Target]) -> Result<bool, Failure> {
        match wanted(ground.spec, targets)? {
            Some(wanted) => wheel::has_moved(&ground.request(wanted), &self.fresh.made),
            None => Ok(false),
        }
    }

    /// What is known of how they were built.
    pub(super) fn evidence(&self) -> &Value {
        &self.fresh.made.evidence
    }

    /// Build requirements that the lock file lacks.
    pub(super) fn pins(&self) -> Option<(Platform, Pins)> {
        self.fresh.made.pins.clone()
    }

    /// Copies them into the scratch directory of an output directory, unless that has them already; gives the folder that they are
    /// in. Refuses an output directory whose folder of distributions holds something else.
    pub(super) fn stage(&self, output: &Path, scratch: &Path) -> Result<Option<PathBuf>, Failure> {
        are_ours(output)?;
        match is_there(output, &self.fresh.made) {
            true => Ok(None),
            false => Ok(Some(stage(output, scratch, &self.fresh.made)?)),
        }
    }

    /// Signatures in an output directory of what is not there any more once these are.
    pub(super) fn outdated(&self, output: &Path) -> Vec<PathBuf> {
        outdated(output, &self.fresh.made)
    }

    /// In what they differ from those that another build made into this folder, file by file.
    pub(super) fn differences(&self, folder: &Path, limit: usize) -> Result<Vec<Difference>, Failure> {
        let mut all = Vec::new();
        for (made, path) in &self.fresh.made.distributions {
            let other = folder.join(&made.name);
            let (left, right) = (contents(path)?, contents(&other)?);
            if left.0 != right.0 {
                all.extend(document(&format!("python/{}", made.name), &left.1, &right.1, limit));
            }
        }
        Ok(all)
    }
}

/// The digest of a distribution, and those of all of its files as JSON; nothing of one that is not there.
fn contents(path: &Path) -> Result<(Option<Digest>, Vec<u8>), Failure> {
    let Some(kind) = DistKind::of(path).filter(|_| path.exists()) else {
        return Ok((None, canonical(&json!({"files": null}))));
    };
    let mut file = open(path)?;
    let io = |source| InputError::Io { path: path.to_owned(), source };
    let (digest, _) = Digest::of_reader(Algorithm::Sha256, &mut file).map_err(io)?;
    let contents = Contents::read(kind, &file, path, &digest)?;
    let files: BTreeMap<String, String> = contents
        .files
        .iter()
        .map(|(name, bytes)| (name.clone(), Digest::sha256(bytes).to_string()))
        .collect();
    Ok((Some(digest.clone()), canonical(&json!({"digest": digest.to_string(), "files": files}))))
}

/// Whether the distributions in an output directory are those of an earlier build, and none of these sources is one of them.
pub(super) fn is_left(output: &Path, project: &Path, sources: &BTreeSet<SourcePath>) -> bool {
    let mut bytes = Vec::new();
    let read = files::open_regular(&output.join(DIGESTS))
        .and_then(|file| file.take(limits::JSON_BYTES).read_to_end(&mut bytes));
    let listed = match read.is_ok().then(|| parse(&bytes)) {
        Some(Ok(value)) => value["python"].as_array().cloned().unwrap_or_default(),
        _ => return false,
    };
    let folder = output.join(FOLDER);
    let is_there = |listed: &Value| {
        let name = listed["name"].as_str().filter(|name| is_file_name(name))?;
        let found = files::open_regular(&folder.join(name)).ok()?;
        let digest = files::digest(&found, |_| ()).ok()?;
        (listed["digest"].as_str()? == digest.to_string()).then(|| name.to_owned())
    };
    let count = count(&folder);
    let there: Option<BTreeSet<String>> = listed.iter().map(is_there).collect();
    let same = count > 0 && there.is_some_and(|there| there.len() == count);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = real(&folder);
    same && !sources.iter().any(|source| real(&project.join(source.as_path())).starts_with(&folder))
}

/// Whether a text names a file in a folder, and leads nowhere else.
fn is_file_name(text: &str) -> bool {
    Path::new(text).file_name().is_some_and(|name| name == text)
}

/// The distributions as `digests.json` lists them.
pub(super) fn listed(own: Option<&OwnBuilt>) -> Value {
    let entry = |made: &Distribution| json!({"kind": made.kind, "name": made.name, "digest": made.digest.to_string(), "size": made.size});
    own.into_iter().flat_map(OwnBuilt::distributions).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_left_of_an_earlier_build() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("dist");
        let folder = output.join(FOLDER);
        fs::create_dir_all(&folder).unwrap();
        let write = |path: PathBuf| fs::write(path, "x").unwrap();
        [folder.join("a.whl"), dir.path().join("x"), output.join("y")].into_iter().for_each(write);
        let is = |names: &[&str]| {
            let entry = |name| json!({"name": name, "digest": Digest::sha256(b"x").to_string()});
            let listed: Vec<Value> = names.iter().map(entry).collect();
            fs::write(output.join(DIGESTS), canonical(&json!({"python": listed}))).unwrap();
            is_left(&output, dir.path(), &BTreeSet::new())
        };
        assert!(is(&["a.whl"]));
        for name in ["../../x", "../y", "./a.whl", "a.whl/", "../python/a.whl", "", ".", ".."] {
            assert!(!is(&[name]), "{name}");
        }
        let path = dir.path().join("x");
        assert!(!is(&[path.to_str().unwrap()]));
        // Somebody's file among them, for which something else is listed.
        write(folder.join("foreign.txt"));
        for names in [["a.whl", "../../x"], ["a.whl", "a.whl"], ["a.whl", "./a.whl"]] {
            assert!(!is(&names), "{names:?}");
        }
    }
}
