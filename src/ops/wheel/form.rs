//! From what a backend made to a distribution in its form.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write as _};
use std::path::Path;

use dmoci_layers::zip::ZipTime;
use dmoci_layers::{Algorithm, Digest};

use super::environment::Environment;
use super::error::WheelError;
use super::{Distribution, Made, Request};
use crate::diagnostic::Failure;
use crate::files;
use crate::inputs::python::dist::{DistKind, Examined, Sdist, examine, normalise};
use crate::oci::Severity;
use crate::ops::plan::Watch;

/// Builds one, looks at all of it, and gives it its form.
pub(super) fn one(
    request: &Request,
    environment: &Environment<'_>,
    (kind, hook): (DistKind, &str),
    target: &Path,
    (watch, warnings): (&dyn Watch, &mut Vec<String>),
) -> Result<Made, Failure> {
    let (name, said) = environment.make(hook)?;
    said.lines().for_each(|line| watch.detail("Said", line));
    let wrong = |what: &str, said: &str| environment.fault(format!("{what} in {hook}"), said.to_owned());
    let path = environment.work.join("out").join(&name);
    let mut file =
        files::open_regular(&path).map_err(|_| wrong("made no file of the name that it gave", &said))?;
    let io = |source| WheelError::Output { path: path.clone(), source };
    let (backend, _) = Digest::of_reader(Algorithm::Sha256, &mut file).map_err(io)?;
    file.rewind().map_err(io)?;
    if DistKind::of(&path) != Some(kind) {
        return Err(wrong(&format!("made {name}, which is no {}", kind.name()), &said).into());
    }
    let found = examine(kind, file.try_clone().map_err(io)?, Path::new(&name), backend.clone());
    if let Some(errors) = told(&found) {
        return Err(wrong(&format!("made {name}, which is not sound,"), &format!("{errors}\n{said}")).into());
    }
    let told = found.remarks.iter().filter(|remark| remark.problem.severity == Severity::Warning);
    for message in told.map(|remark| format!("{}: {}", remark.place, remark.problem.message)) {
        watch.warning(&message);
        warnings.push(message);
    }
    let target = target.join(&name);
    let failed = |source| WheelError::Output { path: target.clone(), source };
    let mut out = BufWriter::new(File::create_new(&target).map_err(failed)?);
    match (request.as_they_are, kind) {
        (true, _) => {
            // Looking at it has moved the place that it is read from.
            file.rewind().map_err(io)?;
            io::copy(&mut file, &mut out).map_err(failed)?;
        }
        (false, DistKind::Wheel) => {
            let time = ZipTime::of(environment.source.epoch);
            out = normalise(file, Path::new(&name), backend.clone(), time, out)?;
        }
        (false, DistKind::Sdist) => {
            let sdist = Sdist::read(file, Path::new(&name))?;
            out.write_all(&sdist.normal(Path::new(&name), environment.source.epoch)?).map_err(failed)?;
        }
    }
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    let mut file = File::open(&target).map_err(failed)?;
    let (digest, size) = Digest::of_reader(Algorithm::Sha256, &mut file).map_err(failed)?;
    Ok((Distribution { kind: kind.name(), name, digest, size, backend }, target))
}

/// What is wrong with a distribution, a line for each.
fn told(found: &Examined) -> Option<String> {
    let errors = found.remarks.iter().filter(|remark| remark.problem.severity == Severity::Error);
    let lines: Vec<String> = errors
        .take(20)
        .map(|remark| format!("[{}] {}: {}", remark.problem.code, remark.place, remark.problem.message))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
