//! Where layer entries come from: folders of the project, archives, base images.
//!
//! Every source gives its entries in the order of a layer and can give them again: once for planning, which
//! looks at names and metadata, and once for writing, which reads contents.

pub mod ahead;
pub mod archive;
pub mod base;
mod beneath;
pub mod fetched;
pub mod files;
mod members;
pub mod mirror;
pub mod pattern;
pub mod python;
mod records;
mod sorter;
pub mod spool;
mod stored;
pub mod substitute;
pub mod supply;
pub mod telling;
pub mod tracked;
pub mod unpack;
mod zip;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmoci_layers::{Algorithm, Digest, Entry, PathError, SafePath};

use crate::cache::{Cache, Downloaded, KeyWriter};
use crate::diagnostic::{Diagnostic, Exit};
use crate::files::Moment;
use crate::limits;
use crate::vcs::VcsError;
use substitute::{Outcome, Replaced, Substitution};

/// An entry of a layer, and how to get at its content.
#[derive(Clone, Debug)]
pub struct Item {
    /// What goes into the tar header.
    pub entry: Entry,
    /// Where the content is.
    pub content: Content,
}

/// Where the content of a file is.
#[derive(Clone, Debug)]
pub enum Content {
    /// There is none: the entry is no file.
    None,
    /// Here.
    Bytes(Arc<[u8]>),
    /// In a file of the project.
    Project(files::Handle),
    /// In a file of the project, with strings in it substituted. The entry has the size before.
    Substituted(files::Handle, Arc<Substitution>),
    /// All of a file that was fetched.
    Fetched(Downloaded),
    /// In a file that nobody else changes.
    Spool {
        /// The file.
        spool: Arc<spool::Spooled>,
        /// Where the content begins.
        offset: u64,
        /// How long it is.
        size: u64,
        /// Whether the file may have further names among the entries of its source.
        shared: bool,
    },
    /// In a wheel.
    Wheel(python::Member),
}

/// Where inputs are read, and what is remembered of them.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The project directory.
    pub project: &'a files::Project,
    /// A directory for nameless files.
    pub scratch: &'a Path,
    /// What earlier runs learnt.
    pub cache: Option<&'a Cache>,
    /// A moment before anything was looked at.
    pub since: Moment,
    /// What comes from elsewhere.
    pub fetched: &'a fetched::Fetched,
    /// What a plan finds out to need.
    pub supply: &'a dyn supply::Supply,
    /// The project that this run builds.
    pub own: Option<&'a python::Own>,
}

/// Sources of entries in the order of a layer.
pub type Items<'a> = Box<dyn Iterator<Item = Result<Item, InputError>> + 'a>;

/// Why an input cannot be used. Paths are as the user wrote them, or inside an archive.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file of the project is not there.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// Reading failed.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was unpacked could not be kept until it is needed.
    #[error("cannot write to {}", path.display())]
    Scratch {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A path leads out of the project directory.
    #[error("{} leads out of the project directory", .0.display())]
    Outside(PathBuf),
    /// A socket, FIFO or device stands in a copied folder.
    #[error("{} is {what}, which an image cannot hold", path.display())]
    Special {
        /// The file.
        path: PathBuf,
        /// "a FIFO", "a socket", …
        what: &'static str,
    },
    /// A file was not the same at the end of reading as at the beginning, or not the same as when planning.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// The directory that the build writes is an input, or lies in one.
    #[error("{} is in the output of this build, which cannot be an input of it", .0.display())]
    Output(PathBuf),
    /// git's own data lies in a copied folder.
    #[error("{} is git's own data, which is different in every clone", .0.display())]
    Git(PathBuf),
    /// Only what git tracks is wanted, and git and the project do not fit together.
    #[error("{}: {why}", path.display())]
    Tracked {
        /// The file or folder.
        path: PathBuf,
        /// In what.
        why: tracked::TrackedError,
    },
    /// git failed.
    #[error(transparent)]
    Vcs(#[from] VcsError),
    /// A text grows too long when strings in it are substituted.
    #[error("{} has more than {limit} bytes when strings in it are substituted", path.display())]
    Substituted {
        /// The file.
        path: PathBuf,
        /// How many it may have.
        limit: u64,
    },
    /// Something in a base that no layer of ours can hold.
    #[error("{0} is a FIFO or of an unknown kind, which cannot be given again")]
    Odd(SafePath),
    /// A name begins with `.wh.`, which would delete files of lower layers.
    #[error("{} has a name that begins with .wh., which marks deletions in a layer", .0.display())]
    Whiteout(PathBuf),
    /// A path cannot stand in a layer.
    #[error("{}: {source}", path.display())]
    Path {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: PathError,
    },
    /// A pattern of `include` or `exclude` is malformed.
    #[error("{0:?} is not a pattern: {1}")]
    Pattern(String, String),
    /// An archive is damaged, hostile or of an unknown form.
    #[error("{}: {message}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// What is wrong with it.
        message: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The members of an archive lie in far more directories than there are members, and it does not hold these.
    #[error("{}: there are {what}", archive.display())]
    Implied {
        /// The archive.
        archive: PathBuf,
        /// What is too much.
        what: &'static str,
    },
    /// An archive holds a device and the spec does not say what to do with it.
    #[error("{}: {path} is a device", archive.display())]
    Device {
        /// The archive.
        archive: PathBuf,
        /// The member.
        path: SafePath,
    },
    /// A wheel is damaged, hostile or not what it says.
    #[error("{}: {message}", wheel.display())]
    Wheel {
        /// The wheel.
        wheel: PathBuf,
        /// What is wrong with it.
        message: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The base image cannot be used.
    #[error("the base image cannot be used: {message}")]
    Base {
        /// What is wrong.
        message: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Diagnostic for InputError {
    fn code(&self) -> &'static str {
        match self {
            InputError::Missing(_) => "E-SOURCE-MISSING",
            InputError::Io { .. } => "E-SOURCE-READ",
            InputError::Scratch { .. } => "E-OUTPUT",
            InputError::Outside(_) => "E-SOURCE-OUTSIDE",
            InputError::Special { .. } => "E-SOURCE-SPECIAL",
            InputError::Changed(_) => "E-SOURCE-CHANGED",
            InputError::Output(_) => "E-SOURCE-OUTPUT",
            InputError::Git(_) => "E-SOURCE-GIT",
            InputError::Tracked { .. } => "E-SOURCE-TRACKED",
            InputError::Vcs(error) => error.code(),
            InputError::Substituted { .. } => "E-SOURCE-LARGE",
            InputError::Odd(_) => "E-ADJUST",
            InputError::Whiteout(_) => "E-SOURCE-WHITEOUT",
            InputError::Path { .. } => "E-SOURCE-PATH",
            InputError::Pattern(..) => "E-SPEC-PATTERN",
            InputError::Archive { .. } | InputError::Implied { .. } => "E-ARCHIVE",
            InputError::Device { .. } => "E-ARCHIVE-DEVICE",
            InputError::Wheel { .. } => "E-WHEEL",
            InputError::Base { .. } => "E-BASE",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            InputError::Io { .. } | InputError::Scratch { .. } | InputError::Changed(_) => Exit::Undecided,
            InputError::Archive { .. }
            | InputError::Implied { .. }
            | InputError::Wheel { .. }
            | InputError::Base { .. } => Exit::Mismatch,
            InputError::Vcs(error) => error.exit(),
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            InputError::Missing(_) => {
                "paths are relative to the project directory, which -C names; check the spelling".into()
            }
            InputError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "let this user read it, or leave it out with `exclude`".into()
            }
            InputError::Scratch { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space, or name another output directory with -o; the last complete image is still there"
                    .into()
            }
            InputError::Outside(_) => {
                "copy the target into the project, or name a directory above both with -C".into()
            }
            InputError::Special { .. } => "leave it out with `exclude`".into(),
            InputError::Git(_) => "leave it out with `exclude = [\".git\"]`".into(),
            InputError::Output(_) => "leave it out with `exclude`, or write elsewhere with -o".into(),
            InputError::Changed(_) => "run the build again when nothing writes to the project".into(),
            InputError::Tracked { why, .. } => why.help().into(),
            InputError::Vcs(_) => "look at the work tree with git, or leave out `tracked`".into(),
            InputError::Substituted { .. } => {
                "leave it out with `exclude`, and copy it by an entry without `substitute`".into()
            }
            InputError::Odd(_) => {
                "list narrower paths or patterns that do not reach it: `adjust` has no `exclude`".into()
            }
            InputError::Whiteout(_) => "rename it, or leave it out with `exclude`".into(),
            InputError::Pattern(..) => {
                "patterns are `*.md` (a name at any depth), `docs/*.md` or `docs/**` (a path from the top)"
                    .into()
            }
            InputError::Implied { .. } => {
                "leave members out with `exclude`, or pack it again: an archive that a tar program makes of a folder \
                 holds its directories"
                    .into()
            }
            InputError::Device { .. } => {
                "say `devices = \"skip\"` to leave devices out, or `devices = \"keep\"` to keep them".into()
            }
            _ => return None,
        })
    }
}

impl InputError {
    /// The error of an input that a reader has given as one of reading.
    pub fn inside(error: io::Error) -> Result<InputError, io::Error> {
        error.downcast()
    }
}

impl Content {
    /// Opens the content for reading.
    pub fn open(&self) -> Result<Reader<'_>, InputError> {
        Ok(match self {
            Content::None => Reader::Bytes(&[]),
            Content::Bytes(bytes) => Reader::Bytes(bytes),
            Content::Project(handle) => Reader::Project(handle.open()?),
            Content::Substituted(handle, table) => substituted(handle, table)?,
            Content::Fetched(file) => {
                Reader::Spool { file: file.file().clone(), offset: 0, left: file.size() }
            }
            Content::Spool { spool, offset, size, .. } => {
                Reader::Spool { file: spool.file()?, offset: *offset, left: *size }
            }
            Content::Wheel(member) => Reader::Wheel(Box::new(member.open())),
        })
    }

    /// Whether other entries of its source may be further names of the file.
    pub fn may_have_names(&self) -> bool {
        match self {
            Content::Spool { shared, .. } => *shared,
            // Of an empty file of a base nothing is known.
            Content::None => true,
            _ => false,
        }
    }

    /// The content as a deflate stream that is worth a gzip member of its own, where it is one.
    pub fn deflated(&self) -> Option<&python::Member> {
        match self {
            Content::Wheel(member) => Some(member).filter(|member| member.is_deflated()),
            _ => None,
        }
    }

    /// Writes what decides the content into a key, without reading it.
    pub fn decide(&self, key: &mut KeyWriter) {
        match self {
            Content::None => key.number(0),
            Content::Bytes(bytes) => {
                key.number(1);
                key.bytes(bytes);
            }
            Content::Project(handle) => {
                key.number(2);
                key.stamp(handle.stamp());
            }
            Content::Fetched(file) => {
                key.number(6);
                key.bytes(file.digest().to_string().as_bytes());
            }
            Content::Spool { spool, offset, size, .. } => {
                key.number(3);
                spool.decide(key);
                key.number(*offset);
                key.number(*size);
            }
            Content::Substituted(handle, table) => {
                key.number(4);
                key.stamp(handle.stamp());
                table.decide(key);
            }
            Content::Wheel(member) => {
                key.number(5);
                member.decide(key);
            }
        }
    }

    /// Writes what decides the content into a key that other machines make too: its digest, for which it is read where no digest
    /// of it is known.
    pub fn decide_by_bytes(&self, key: &mut KeyWriter) -> Result<(), InputError> {
        match self {
            Content::None | Content::Bytes(_) | Content::Fetched(_) | Content::Wheel(_) => self.decide(key),
            Content::Spool { spool, .. } if !spool.is_local() => self.decide(key),
            Content::Project(_) | Content::Substituted(..) | Content::Spool { .. } => {
                let mut reader = self.open()?;
                let digest = Digest::of_reader(Algorithm::Sha256, &mut reader);
                let (digest, size) = digest.map_err(|error| match InputError::inside(error) {
                    Ok(error) => error,
                    Err(source) => InputError::Io { path: self.shown(), source },
                })?;
                reader.finish()?;
                key.number(7);
                key.bytes(digest.to_string().as_bytes());
                key.number(size);
            }
        }
        Ok(())
    }

    /// Where it comes from, for errors.
    fn shown(&self) -> PathBuf {
        match self {
            Content::Project(handle) | Content::Substituted(handle, _) => handle.shown().to_owned(),
            _ => PathBuf::new(),
        }
    }

    /// How long it is, where that is known without opening it and without its entry.
    pub fn size(&self) -> Option<u64> {
        match self {
            Content::Spool { size, .. } => Some(*size),
            _ => None,
        }
    }

    /// Whether the content, and so its size, is only known when it is opened.
    pub fn is_derived(&self) -> bool {
        matches!(self, Content::Substituted(..))
    }
}

/// Looks through a file, and opens what becomes of it.
fn substituted(handle: &files::Handle, table: &Arc<Substitution>) -> Result<Reader<'static>, InputError> {
    let path = || handle.shown().to_owned();
    let mut opened = handle.open()?;
    let most = limits::SUBSTITUTED_BYTES;
    let outcome = table.look(&mut opened, most).map_err(|source| InputError::Io { path: path(), source })?;
    opened.finish()?;
    match outcome {
        Outcome::Same => Ok(Reader::Project(handle.open()?)),
        Outcome::Text(size) if size > most => Err(InputError::Substituted { path: path(), limit: most }),
        Outcome::Text(size) => {
            let reader = Replaced::new(Arc::clone(table), handle.open()?);
            Ok(Reader::Substituted { reader: Box::new(reader), size })
        }
    }
}

/// Reads a content. A file of the project is checked for changes by [`Reader::finish`].
#[derive(Debug)]
pub enum Reader<'a> {
    /// From memory.
    Bytes(&'a [u8]),
    /// From a file of the project.
    Project(files::Opened),
    /// From a file of the project whose strings are substituted.
    Substituted {
        /// The file.
        reader: Box<Replaced<Arc<Substitution>, files::Opened>>,
        /// How long it becomes.
        size: u64,
    },
    /// From a spool.
    Spool {
        /// The file.
        file: Arc<File>,
        /// What comes next.
        offset: u64,
        /// Bytes of the content that are still to come.
        left: u64,
    },
    /// From a wheel.
    Wheel(Box<python::MemberReader>),
}

impl Reader<'_> {
    /// How many bytes it gives, when that is not what the entry says.
    pub fn size(&self) -> Option<u64> {
        match self {
            Reader::Substituted { size, .. } => Some(*size),
            _ => None,
        }
    }

    /// Says whether what was read is what was planned.
    pub fn finish(self) -> Result<(), InputError> {
        match self {
            Reader::Project(opened) => opened.finish(),
            Reader::Substituted { reader, .. } => reader.into_inner().finish(),
            _ => Ok(()),
        }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Reader::Bytes(bytes) => bytes.read(out),
            Reader::Project(opened) => opened.read(out),
            Reader::Substituted { reader, .. } => reader.read(out),
            Reader::Wheel(member) => member.read(out),
            Reader::Spool { file, offset, left } => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(out.len());
                let count = file.read_at(&mut out[..most], *offset)?;
                *offset += count as u64;
                *left -= count as u64;
                Ok(count)
            }
        }
    }
}
