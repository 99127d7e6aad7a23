//! `dmoci export`: one archive from a layout or another archive.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dmoci_layers::{Digest, Hasher};
use rustix::fs::FlockOperation;

use super::content::{Content, Hashed, Wanted};
use super::remote::Remote;
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::engine::verify::{self, Options};
use crate::oci::platform::Platform;
use crate::oci::{Descriptor, Severity};
use crate::store::registry::Which;
use crate::store::{ImageStore, StoreError, Subject, Transport};

/// What to export, and where to.
#[derive(Clone, Debug)]
pub struct Request {
    /// The image.
    pub subject: Subject,
    /// `oci-archive:FILE` or `docker-archive:FILE`.
    pub output: Subject,
    /// Only this platform.
    pub platform: Option<Platform>,
    /// Threads that verify.
    pub threads: NonZeroUsize,
}

/// A finished archive.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The file.
    pub path: PathBuf,
    /// The digest of the whole file.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What its `index.json` names.
    pub images: Vec<Descriptor>,
    /// The images' names.
    pub names: Vec<String>,
    /// For a Docker archive the image ID.
    pub image_id: Option<Digest>,
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The output is not one of the two forms.
    #[error("{0} is no form of archive that can be written")]
    Form(String),
    /// The output names an image, which is named by the subject.
    #[error("{0} names an image; the archive holds the names that the subject has")]
    Name(String),
    /// What was read is not sound.
    #[error("{subject} is not sound: {message}")]
    NotSound {
        /// The subject.
        subject: String,
        /// The first finding.
        message: String,
        /// All findings, for the causes.
        code: &'static str,
    },
}

impl Diagnostic for ExportError {
    fn code(&self) -> &'static str {
        match self {
            ExportError::Form(_) => "E-EXPORT-FORM",
            ExportError::Name(_) => "E-EXPORT-NAME",
            ExportError::NotSound { code, .. } => code,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            ExportError::Form(_) | ExportError::Name(_) => Exit::Usage,
            _ => Exit::Mismatch,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            ExportError::Name(_) => {
                Some("name the file alone; `name` and `tags` of dmoci.toml name the image".into())
            }
            ExportError::Form(_) => Some("write -o oci-archive:FILE or -o docker-archive:FILE".into()),
            ExportError::NotSound { subject, .. } => {
                Some(format!("see everything with: dmoci verify {subject}"))
            }
        }
    }
}

/// Exports. The file appears under its name only when it is complete and has been verified; until then, and when
/// anything fails, what was there stays.
pub fn export(request: &Request, remote: &Remote<'_>) -> Result<Exported, Failure> {
    crate::sha256::provide();
    let docker = match request.output.transport() {
        Transport::OciArchive => false,
        Transport::DockerArchive => true,
        _ => return Err(ExportError::Form(request.output.to_string()).into()),
    };
    if request.output.tag().is_some() || request.output.digest().is_some() {
        return Err(ExportError::Name(request.output.to_string()).into());
    }
    let platform = request.platform.as_ref();
    let which = Which { platform, layers: true, referrers: !docker, signatures: !docker, ..Which::default() };
    let store = remote.open(&request.subject, which)?.sound()?;
    let subject = &request.subject;
    let wanted = Wanted { tag: subject.tag(), digest: subject.digest(), platform: request.platform.as_ref() };
    let content = match docker {
        false => Content::oci(&store, wanted, remote.watch)?,
        true => Content::docker(&store, wanted)?,
    };
    archive(&store, content, &subject.to_string(), &request.output, request.threads)
}

/// Writes an archive of this content, and verifies it before it gets its name.
pub(super) fn archive(
    store: &ImageStore,
    content: Content,
    subject: &str,
    output: &Subject,
    threads: NonZeroUsize,
) -> Result<Exported, Failure> {
    let path = output.path();
    let temporary = Temporary::create(path)?;
    let (digest, size) = write(store, &content, &temporary)?;
    check(&temporary, output, subject, threads)?;
    temporary.publish()?;
    let Content { images, names, image_id, .. } = content;
    Ok(Exported { path: path.to_owned(), digest, size, images, names, image_id })
}

fn write(store: &ImageStore, content: &Content, temporary: &Temporary) -> Result<(Digest, u64), StoreError> {
    let failed = |source| StoreError::Write { path: temporary.path.clone(), source };
    let mut out = Hashed {
        out: BufWriter::with_capacity(1 << 20, &temporary.file),
        hasher: Hasher::sha256(),
        count: 0,
    };
    content.plan().write(store, &temporary.path, &mut out)?;
    out.flush().map_err(failed)?;
    temporary.file.sync_all().map_err(failed)?;
    Ok((out.hasher.finish(), out.count))
}

/// Verifies what was written, from the disk: digests, diff_ids, both views, every byte of the archive.
fn check(
    temporary: &Temporary,
    output: &Subject,
    subject: &str,
    threads: NonZeroUsize,
) -> Result<(), Failure> {
    let written = ImageStore::open(&output.clone().at(&temporary.path))?;
    let options = Options {
        subject: subject.to_owned(),
        tag: None,
        digest: None,
        against: None,
        trust: None,
        expect_version: None,
        integrity_only: true,
        threads,
    };
    let report = verify::verify(&written, &options, &());
    match report.findings.iter().find(|finding| finding.severity == Severity::Error) {
        None => Ok(()),
        Some(finding) => Err(ExportError::NotSound {
            subject: subject.to_owned(),
            message: format!("{} in {}", finding.message, finding.place),
            code: finding.code,
        }
        .into()),
    }
}

/// The unfinished archive beside its final name. One process at a time has it; one that was killed leaves a file that
/// the next export to the same name takes over.
struct Temporary {
    file: File,
    path: PathBuf,
    target: PathBuf,
    kept: bool,
}

impl Temporary {
    fn create(target: &Path) -> Result<Temporary, StoreError> {
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = target.with_file_name(format!(".{name}.dmoci-export"));
        let failed = |source| StoreError::Write { path: target.to_owned(), source };
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
            let file = std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags)
                .open(&path)
                .map_err(failed)?;
            // A file that has another name too, or another owner, was put there by somebody: only its name goes away.
            let metadata = file.metadata().map_err(failed)?;
            if metadata.nlink() != 1 || metadata.uid() != rustix::process::geteuid().as_raw() {
                fs::remove_file(&path).map_err(failed)?;
                continue;
            }
            rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
            // Another export may have given the file its final name while this one waited.
            let same =
                fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino()));
            if same {
                file.set_len(0).map_err(failed)?;
                return Ok(Temporary { file, path, target: target.to_owned(), kept: false });
            }
        }
    }

    fn publish(mut self) -> Result<(), StoreError> {
        let failed = |source| StoreError::Write { path: self.target.clone(), source };
        fs::rename(&self.path, &self.target).map_err(failed)?;
        let directory = match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        crate::files::sync(directory).map_err(failed)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // The error that led here is the one to report.
            let _ = fs::remove_file(&self.path);
        }
    }
}
