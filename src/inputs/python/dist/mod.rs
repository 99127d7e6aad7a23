//! Distributions as wholes, wheels and source distributions: everything that is wrong with one is found, not only the
//! first thing, and each has one normal form.
//!
//! ```text
//! wheel > normal > same
//! wheel, sdist > metadata, same
//! recognise, contents
//! ```

mod contents;
mod metadata;
mod normal;
mod recognise;
mod same;
mod sdist;
mod wheel;

use std::fs::File;
use std::path::Path;

use dmoci_layers::Digest;

pub use contents::Contents;
pub use normal::normalise;
pub use recognise::recognise;
pub use sdist::{Sdist, SdistFile, SdistName};

use crate::diagnostic::shown::Short;
use crate::limits;
use crate::oci::{Problem, Severity};

/// What kind of distribution a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistKind {
    /// A binary distribution: `.whl`.
    Wheel,
    /// A source distribution: `.tar.gz`.
    Sdist,
}

impl DistKind {
    /// By the end of a file name.
    pub fn of(path: &Path) -> Option<DistKind> {
        let name = path.file_name()?.to_str()?;
        match name {
            name if name.ends_with(".whl") => Some(DistKind::Wheel),
            name if name.ends_with(".tar.gz") => Some(DistKind::Sdist),
            _ => None,
        }
    }

    /// `wheel` or `sdist`.
    pub fn name(self) -> &'static str {
        match self {
            DistKind::Wheel => "wheel",
            DistKind::Sdist => "sdist",
        }
    }
}

/// What a remark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The archive: what everybody reads alike, and nothing dangerous.
    Container,
    /// RECORD against the members and their contents.
    Record,
    /// METADATA or PKG-INFO, WHEEL, `entry_points.txt`.
    Metadata,
    /// The file name against what is inside.
    Names,
}

/// Something that was found in a distribution.
#[derive(Clone, Debug)]
pub struct Remark {
    /// What it is about.
    pub part: Part,
    /// The file or member.
    pub place: String,
    /// What.
    pub problem: Problem,
}

/// What a look at all of a distribution found.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What kind it is.
    pub kind: DistKind,
    /// Project and version, as the file name says and nothing inside denies.
    pub project: Option<(String, String)>,
    /// The tags of a wheel.
    pub tags: Option<String>,
    /// What was found.
    pub remarks: Vec<Remark>,
    /// Why it is not in the normal form; empty when it is.
    pub reasons: Vec<String>,
    /// Number of files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Examined {
    fn new(kind: DistKind) -> Examined {
        let (remarks, reasons) = (Vec::new(), Vec::new());
        Examined { kind, project: None, tags: None, remarks, reasons, files: 0, bytes: 0 }
    }

    fn add(&mut self, part: Part, place: &str, problem: Problem) {
        let remark = Remark { part, place: Short(place).to_string(), problem };
        match self.remarks.len() {
            ..limits::DIST_REMARKS => self.remarks.push(remark),
            limits::DIST_REMARKS => {
                let problem = Problem::warning(remark.problem.code, "", "there is more, which is not listed");
                self.remarks.push(Remark { part, place: String::new(), problem });
                self.weigh(remark);
            }
            _ => self.weigh(remark),
        }
    }

    /// What is not listed weighs as much as what is.
    fn weigh(&mut self, remark: Remark) {
        if remark.problem.severity == Severity::Error && !self.has_errors() {
            self.remarks[0] = remark;
        }
    }

    fn error(&mut self, part: Part, place: &str, code: &'static str, message: impl Into<String>) {
        self.add(part, place, Problem::error(code, "", message));
    }

    fn warning(&mut self, part: Part, place: &str, code: &'static str, message: impl Into<String>) {
        self.add(part, place, Problem::warning(code, "", message));
    }

    /// Adds a reason against the normal form, each once.
    fn reason(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    fn has_errors(&self) -> bool {
        self.remarks.iter().any(|remark| remark.problem.severity == Severity::Error)
    }
}

/// Looks at all of a distribution. `path` is what messages call it, its last part the file name that it must have;
/// `digest` is that of the whole file and not checked here.
pub fn examine(kind: DistKind, file: File, path: &Path, digest: Digest) -> Examined {
    match kind {
        DistKind::Wheel => wheel::examine(file, path, digest),
        DistKind::Sdist => sdist::examine(file, path),
    }
}
