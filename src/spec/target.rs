//! The resolved specification: what is to be built for one platform, with nothing left open.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use dmoci_layers::{Digest, SafePath};

use crate::oci::platform::Platform;
use crate::oci::reference::{ImageName, Reference, Tag};
use crate::url::Url;

/// Bytes of the text of `dmoci.toml`.
pub type Span = Range<usize>;

/// All that one platform's image is made of: expanded, defaulted and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What the image runs on.
    pub platform: Platform,
    /// `${version}`, when it is known.
    pub version: Option<String>,
    /// The name of the image, without tag.
    pub name: Option<ImageName>,
    /// The tags, each once, in the order written.
    pub tags: Vec<Tag>,
    /// What the image stands on.
    pub base: Base,
    /// Where the base is named, or an empty span when it is not.
    pub base_span: Span,
    /// The configuration that containers start with.
    pub config: ConfigSpec,
    /// Annotations of the manifest, as written.
    pub annotations: BTreeMap<String, String>,
    /// How layers are compressed.
    pub compression: Compression,
    /// gzip layers take deflate streams of wheels as they are.
    pub splice: bool,
    /// Users to be added to the topmost `passwd` and `group`, in the order written.
    pub users: Vec<User>,
    /// The project's own wheel, when it is to be built.
    pub wheel: Option<OwnWheel>,
    /// Who must have signed the base.
    pub base_trust: Option<BaseTrust>,
    /// The layers that have something for this platform, from the bottom up.
    pub layers: Vec<Layer>,
}

/// The wheel and source distribution of the project itself, and how they are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnWheel {
    /// The directory of the Python project.
    pub source: SourcePath,
    /// A source distribution is built too.
    pub sdist: bool,
    /// Both get the normal form.
    pub normalize: bool,
    /// Everything is taken, not only what git tracks.
    pub all_files: bool,
    /// How long each call of the backend may take.
    pub timeout: Duration,
    /// Where it is written.
    pub span: Span,
}

/// Who must have signed the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseTrust {
    /// By what signers are known: each alone is enough. At least one.
    pub signers: Vec<Signer>,
    /// The file of the trusted root; nothing for that of the public Sigstore service.
    pub root: Option<SourcePath>,
    /// The predicate type that the statement must have; nothing for a signature.
    pub predicate: Option<String>,
    /// Where it is written.
    pub span: Span,
}

/// By what a signer is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The file of a public key.
    Key(SourcePath),
    /// A certificate.
    Identity {
        /// Its subject, or a regular expression for that.
        subject: String,
        /// It is a regular expression.
        is_pattern: bool,
        /// Who vouches for it.
        issuer: String,
    },
}

impl Target {
    /// The tags; of an image with a name and no tags, `latest`.
    pub fn tags(&self) -> Vec<String> {
        match self.tags.is_empty() && self.name.is_some() {
            true => vec!["latest".to_owned()],
            false => self.tags.iter().map(ToString::to_string).collect(),
        }
    }

    /// The full names, each with a tag; none without a name.
    pub fn names(&self) -> Vec<String> {
        let full = |name: &ImageName| self.tags().iter().map(|tag| format!("{name}:{tag}")).collect();
        self.name.as_ref().map(full).unwrap_or_default()
    }
}

/// What an image stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image in an OCI image layout.
    OciDir {
        /// The directory.
        dir: SourcePath,
        /// Which of its images.
        select: Select,
    },
    /// An image in a tar of an OCI image layout.
    OciArchive {
        /// The archive.
        file: SourcePath,
        /// Which of its images.
        select: Select,
    },
    /// An image in a tar as `docker save` writes it.
    DockerArchive {
        /// The archive.
        file: SourcePath,
        /// Which of its images: `name:tag` as its `manifest.json` has it.
        select: Select,
    },
    /// An image in a registry.
    Registry(Reference),
}

/// Which image of several is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// The only one there.
    Only,
    /// The one of this name or tag.
    Name(String),
    /// The one of this digest.
    Digest(Digest),
}

/// What containers start with. `None` keeps what the base has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigSpec {
    /// The program and its first arguments; an empty list takes the base's away.
    pub entrypoint: Option<Vec<String>>,
    /// Where the program of the entry point is written; empty when it is not.
    pub entrypoint_span: Span,
    /// Further arguments, or the program when there is no entry point; an empty list takes the base's away.
    pub cmd: Option<Vec<String>>,
    /// Where the first of these is written; empty when there is none.
    pub cmd_span: Span,
    /// `user`, `uid`, `user:group`, `uid:gid`, …
    pub user: Option<String>,
    /// Where that is written; empty when it is not.
    pub user_span: Span,
    /// The working directory, absolute and clean.
    pub workdir: Option<String>,
    /// Ports, `number/protocol`, sorted by number and protocol, each once; added to the base's.
    pub ports: Vec<String>,
    /// Volumes, absolute and clean, sorted, each once; added to the base's.
    pub volumes: Vec<String>,
    /// The signal that stops a container.
    pub stop_signal: Option<String>,
    /// Environment, sorted by name, each name once; replaces or is added to the base's.
    pub env: Vec<(String, EnvValue)>,
    /// Labels; replace or are added to the base's.
    pub labels: BTreeMap<String, String>,
    /// The health check.
    pub healthcheck: Option<Healthcheck>,
}

/// The value of an environment variable, in which only the base image's own values are still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvValue(pub Vec<Piece>);

/// A part of an [`EnvValue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(String),
    /// The base image's value of this variable.
    Base(String),
}

impl EnvValue {
    /// The value, when `base` says what the base image has; the name that it lacks otherwise.
    pub fn expand(&self, base: impl Fn(&str) -> Option<String>) -> Result<String, &str> {
        let mut value = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => value.push_str(text),
                Piece::Base(name) => value.push_str(&base(name).ok_or(name.as_str())?),
            }
        }
        Ok(value)
    }
}

/// The health check of Docker's image configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// `["CMD", program, …]`, `["CMD-SHELL", command]` or `["NONE"]`.
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: Option<Duration>,
    /// After which a check has failed.
    pub timeout: Option<Duration>,
    /// After the start, in which failures do not count.
    pub start_period: Option<Duration>,
    /// Between two checks of the start period.
    pub start_interval: Option<Duration>,
    /// Failures in a row that make the container unhealthy.
    pub retries: Option<u32>,
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// gzip, which everything reads.
    #[default]
    Gzip,
    /// zstd.
    Zstd,
    /// Plain tar.
    None,
}

/// A user with a group of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name of the user and of the group.
    pub name: String,
    /// The number of the user.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
    /// The home directory, absolute.
    pub home: String,
    /// The login shell, absolute.
    pub shell: String,
    /// Where it is written.
    pub span: Span,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name, each once in a target.
    pub name: String,
    /// What it takes away from the layers below.
    pub remove: Vec<Named>,
    /// What it changes of the mode and owner of things in the layers below, in the order written.
    pub adjust: Vec<Adjust>,
    /// What it is made of, in the order written.
    pub inputs: Vec<Input>,
    /// Where its name is written.
    pub span: Span,
}

/// Something in the layers below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// An absolute path, or a pattern of such.
    pub pattern: String,
    /// Where it is written.
    pub span: Span,
}

/// Another mode or owner of things in the layers below. `None` keeps what they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjust {
    /// The things.
    pub paths: Vec<Named>,
    /// All below the directories among them is meant too.
    pub recursive: bool,
    /// Permission bits of everything but symbolic links.
    pub mode: Option<u32>,
    /// Permission bits of what is no directory, instead of `mode`.
    pub file_mode: Option<u32>,
    /// Permission bits of directories, instead of `mode`.
    pub dir_mode: Option<u32>,
    /// Owner.
    pub owner: Option<Owner>,
    /// Where it is written.
    pub span: Span,
}

/// Something that a layer is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Files and directories of the project.
    Copy(Copy),
    /// One file whose content is in the spec.
    File(File),
    /// One directory.
    Directory(Directory),
    /// One symbolic link.
    Symlink(Symlink),
    /// The content of an archive.
    Archive(Archive),
    /// One file from elsewhere.
    Download(Download),
    /// The distributions of a Python lock file.
    Python(Python),
    /// A wheel of the project.
    Wheel(Wheel),
}

impl Input {
    /// Where it is written.
    pub fn span(&self) -> &Span {
        match self {
            Input::Copy(copy) => &copy.span,
            Input::File(file) => &file.span,
            Input::Directory(directory) => &directory.span,
            Input::Symlink(symlink) => &symlink.span,
            Input::Archive(archive) => &archive.span,
            Input::Download(download) => &download.span,
            Input::Python(python) => &python.span,
            Input::Wheel(wheel) => &wheel.span,
        }
    }

    /// Whether it takes the place of what earlier inputs of its layer give.
    pub fn replaces(&self) -> bool {
        match self {
            Input::Copy(copy) => copy.replace,
            Input::File(file) => file.replace,
            Input::Directory(directory) => directory.replace,
            Input::Symlink(symlink) => symlink.replace,
            Input::Archive(archive) => archive.replace,
            Input::Download(download) => download.replace,
            Input::Python(python) => python.replace,
            Input::Wheel(wheel) => wheel.replace,
        }
    }
}

/// Files and directories of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What is copied; at least one.
    pub from: Vec<Source>,
    /// Where to.
    pub to: SafePath,
    /// `to` was written with a `/` at its end: files go into it under their own names.
    pub into: bool,
    /// What of `from` is taken, as glob patterns; empty for all.
    pub include: Vec<String>,
    /// What of that is left out, as glob patterns.
    pub exclude: Vec<String>,
    /// Owner of everything copied.
    pub owner: Owner,
    /// Permission bits of every file; without it 0755 or 0644, by the owner's execute bit.
    pub file_mode: Option<u32>,
    /// Permission bits of every directory; without it 0755.
    pub dir_mode: Option<u32>,
    /// Only files that git tracks are taken.
    pub tracked: bool,
    /// Strings in text files, and what is put in their places; sorted, each once and none empty.
    pub substitute: Vec<Substitute>,
    /// It takes the place of what earlier inputs of its layer give, and of other kinds of file below.
    pub replace: bool,
    /// Where it is written.
    pub span: Span,
}

/// A string, and what is put in its places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substitute {
    /// The string.
    pub string: String,
    /// What is put in its places.
    pub value: String,
    /// Where the string is written.
    pub span: Span,
}

/// A file with the content given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it stands.
    pub path: SafePath,
    /// What is in it.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// It takes the place of what earlier inputs of its layer give, and of other kinds of file below.
    pub replace: bool,
    /// Where it is written.
    pub span: Span,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it stands.
    pub path: SafePath,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// It takes the place of what earlier inputs of its layer give, and of other kinds of file below.
    pub replace: bool,
    /// Where it is written.
    pub span: Span,
}

/// A symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symlink {
    /// Where it stands.
    pub path: SafePath,
    /// Where it points, as given.
    pub target: String,
    /// Owner.
    pub owner: Owner,
    /// It takes the place of what earlier inputs of its layer give, and of other kinds of file below.
    pub replace: bool,
    /// Where it is written.
    pub span: Span,
}

/// The content of an archive: tar (plain, gzip, xz, zstd) or zip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The archive.
    pub source: ArchiveSource,
    /// The directory that its content goes to.
    pub to: SafePath,
    /// So many leading components are cut off the path of every member; shorter paths are left out.
    pub strip_components: u32,
    /// Which members are taken, as glob patterns; empty for all.
    pub include: Vec<String>,
    /// Which of those are left out, as glob patterns.
    pub exclude: Vec<String>,
    /// Owner of everything; `None` keeps the archive's own numbers.
    pub owner: Option<Owner>,
    /// What is done with devices.
    pub devices: Devices,
    /// It takes the place of what earlier inputs of its layer give, and of other kinds of file below.
    pub replace: bool,
    /// Where it is written.
    pub span: Span,
}

/// The distributions that a Python lock file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// The lock file.
    pub lock: Source,
    /// Extras of the project, in the one form of such names.
    pub extras: Vec<String>,
    /// Dependency groups; without them those that the lock file takes by default.
    pub groups: Option<Vec<String>>,
    /// The member of a workspace.
    pub package: Option<String>,
    /// A folder with wheels: of what the lock file names, and of what has none there.
    pub wheels: Option<Source>,
    /// The index, and further ones; empty when the spec names none.
    pub index: Vec<Url>,
    /// How many wheels at most get a layer of their own.
    pub own_layers: usize,
    /// Where they are installed.
    pub environment: Environment,
    /// Owner of everything.
    pub owner: Owner,
    /// They take the place of what earlier inputs of the layer give, and of other kinds of file below.
    pub replace: bool,
    /// Where it is written.
    pub span: Span,
}

/// A wheel of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wheel {
    /// The file; nothing for the project's own one, which is built.
    pub source: Option<Source>,
    /// Where it is installed.
    pub environment: Environment,
    /// Owner of everything.
    pub owner: Owner,
    /// It takes the place of what earlier inputs of its layer give, and of other kinds of file below.
    pub replace: bool,
    /// Where it is written.
    pub span: Span,
}

/// Where Python's distributions are installed, as far as the spec says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The virtual environment; without it the interpreter's own folders.
    pub venv: Option<SafePath>,
    /// The interpreter in the image.
    pub interpreter: Option<SafePath>,
    /// Its whole version, such as `3.13.5`.
    pub version: Option<String>,
    /// Its C library and the version of that, such as `glibc-2.36`.
    pub libc: Option<String>,
}

/// Where an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveSource {
    /// In the project.
    Project(Source),
    /// Elsewhere.
    Remote(Remote),
}

impl ArchiveSource {
    /// Where it is written.
    pub fn span(&self) -> &Span {
        match self {
            ArchiveSource::Project(source) => &source.span,
            ArchiveSource::Remote(remote) => &remote.span,
        }
    }
}

/// One file from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// What is fetched.
    pub remote: Remote,
    /// Where it stands.
    pub path: SafePath,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// Whether it takes the place of what earlier entries give.
    pub replace: bool,
    /// Where it is written.
    pub span: Span,
}

/// A file on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where it is.
    pub url: Url,
    /// What it must be, when the spec says so; always a sha256.
    pub sha256: Option<Digest>,
    /// Where its address is written.
    pub span: Span,
}

/// What is done with the devices in an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    /// They are an error.
    #[default]
    Error,
    /// They are left out.
    Skip,
    /// They are kept.
    Keep,
}

/// Numeric owner and group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// A path in the project, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path.
    pub path: SourcePath,
    /// Where it is written.
    pub span: Span,
}

/// A path in the project directory: relative and without `..`; the project itself is `.`.
///
/// It cannot be made without that check, which does not follow symbolic links.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePath(PathBuf);

/// Why a text is no path in the project.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourcePathError {
    /// It is empty.
    #[error("the path is empty")]
    Empty,
    /// It begins at the root of the file system.
    #[error("the path is absolute")]
    Absolute,
    /// A component is `..`.
    #[error("the path holds a `..` component")]
    Parent,
    /// It holds a NUL character.
    #[error("the path holds a NUL character")]
    Nul,
}

impl SourcePath {
    /// Checks a path as written; `.` components and doubled or trailing slashes are dropped.
    pub fn parse(text: &str) -> Result<SourcePath, SourcePathError> {
        if text.is_empty() {
            return Err(SourcePathError::Empty);
        }
        if text.contains('\0') {
            return Err(SourcePathError::Nul);
        }
        let mut path = PathBuf::new();
        for component in Path::new(text).components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::CurDir => {}
                Component::ParentDir => return Err(SourcePathError::Parent),
                Component::RootDir | Component::Prefix(_) => return Err(SourcePathError::Absolute),
            }
        }
        if path.as_os_str().is_empty() {
            path.push(".");
        }
        Ok(SourcePath(path))
    }

    /// The project itself.
    pub fn project() -> SourcePath {
        SourcePath(PathBuf::from("."))
    }

    /// The path, relative to the project directory.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Debug for SourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_paths() {
        for (text, clean) in [("a/b", "a/b"), ("./a//b/./", "a/b"), (".", "."), ("./", "."), ("a b", "a b")] {
            assert_eq!(SourcePath::parse(text).unwrap().as_path(), Path::new(clean));
        }
        assert_eq!(SourcePath::parse(""), Err(SourcePathError::Empty));
        assert_eq!(SourcePath::parse("/etc"), Err(SourcePathError::Absolute));
        assert_eq!(SourcePath::parse("a/../b"), Err(SourcePathError::Parent));
        assert_eq!(SourcePath::parse("a\0"), Err(SourcePathError::Nul));
    }

    #[test]
    fn values_over_the_base() {
        let value = EnvValue(vec![Piece::Text("/opt:".into()), Piece::Base("PATH".into())]);
        assert_eq!(value.expand(|_| Some("/bin".into())), Ok("/opt:/bin".into()));
        assert_eq!(value.expand(|_| None), Err("PATH"));
    }
}
